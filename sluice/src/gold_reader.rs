//! Gold for the API: meanings from the models' texts, rows and runs from the lake.

use crate::{Config, gold_runs::GoldModels};
use anyhow::{Context, Result};
use arrow::{
    array::AsArray,
    datatypes::{DataType, TimeUnit, TimestampMillisecondType},
};
use datafusion::{
    dataframe::DataFrame,
    execution::context::SessionContext,
    prelude::{cast, ident},
};
use serde_json::{Map, Value};
use sluice_events::{EventTime, time_text};
use sluice_gold::{CARDS, Outcome, Run, newest_cards, newest_runs};
use sluice_serve::{GoldSource, GoldTableInfo, LearnedInfo, RunInfo, RunQuery};
use sluice_sinks::lake::{Bucket, Lake, register};

/// Reads gold. Blocks: not for threads of the runtime.
pub(crate) struct GoldReader {
    config: Config,
    lake: Lake,
    runtime: tokio::runtime::Handle,
}

impl GoldReader {
    pub fn new(config: &Config, runtime: tokio::runtime::Handle) -> Self {
        Self { config: config.clone(), lake: Lake::new(config.lake.clone(), runtime.clone()), runtime }
    }

    /// A session that knows a table of gold as `t`; none when there is no such table.
    fn session(&self, table: &str) -> Result<Option<SessionContext>> {
        let found = self.lake.find(Bucket::Gold, table).with_context(|| format!("look for gold.{table}"))?;
        let Some(found) = found else { return Ok(None) };
        let context = SessionContext::new();
        self.runtime.block_on(register(&context, "t", &found))?;
        Ok(Some(context))
    }

    fn read_runs(&self, sql: &str) -> Result<Vec<Run>> {
        let Some(context) = self.session("runs")? else { return Ok(Vec::new()) };
        let batches = self.runtime.block_on(async { context.sql(sql).await?.collect().await })?;
        let runs = batches.iter().map(Run::read).collect::<Result<Vec<_>, _>>()?;
        Ok(runs.into_iter().flatten().collect())
    }

    fn all_tables(&self) -> Result<Vec<GoldTableInfo>> {
        let newest = self.read_runs(&newest_runs("t"))?;
        let last = |name: &str, outcome| newest.iter().find(|run| run.model == name && run.outcome == outcome);
        let models = GoldModels::load(&self.config)?;
        let info = |model: &sluice_gold::GoldModel| {
            let (made, failed) = (last(&model.name, Outcome::Done), last(&model.name, Outcome::Failed));
            let is_last = |failed: &&Run| made.is_none_or(|made| failed.ended_at > made.ended_at);
            let header = model.header.clone();
            GoldTableInfo {
                name: model.name.clone(),
                room: model.room.clone(),
                title: header.title,
                grain: header.grain,
                key: header.key,
                unit: header.unit,
                definition: header.definition,
                source: header.source,
                reads: model.reads.iter().cloned().collect(),
                made: made.map(run_info),
                failed: failed.filter(is_last).map(run_info),
            }
        };
        let mut tables: Vec<GoldTableInfo> = models.sound.iter().map(info).collect();
        // Its last good table is there all the same.
        tables.extend(models.broken.keys().map(|name| GoldTableInfo {
            name: name.clone(),
            made: last(name, Outcome::Done).map(run_info),
            failed: last(name, Outcome::Failed).map(run_info),
            ..GoldTableInfo::default()
        }));
        tables.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(tables)
    }

    fn first_rows(&self, table: &GoldTableInfo, limit: usize) -> Result<Option<Vec<Map<String, Value>>>> {
        let Some(context) = self.session(&table.name)? else { return Ok(None) };
        let batches = self.runtime.block_on(async {
            let frame = context.table("t").await?;
            let known = |column: &&String| frame.schema().has_column_with_unqualified_name(column);
            let order = table.key.iter().filter(known).map(|column| ident(column).sort(true, false)).collect();
            exact(frame)?.sort(order)?.limit(0, Some(limit))?.collect().await
        })?;
        let builder = arrow::json::WriterBuilder::new().with_explicit_nulls(true);
        let mut writer = builder.build::<_, arrow::json::writer::JsonArray>(Vec::new());
        writer.write_batches(&batches.iter().collect::<Vec<_>>())?;
        writer.finish()?;
        match writer.into_inner() {
            text if text.is_empty() => Ok(Some(Vec::new())),
            text => Ok(Some(serde_json::from_slice(&text)?)),
        }
    }

    fn newest_cards(&self) -> Result<Vec<LearnedInfo>> {
        let Some(context) = self.session(CARDS)? else { return Ok(Vec::new()) };
        let batches = self.runtime.block_on(async {
            let names =
                ["model", "source", "version", "card"].map(|name| cast(ident(name), DataType::Utf8).alias(name));
            let time = cast(ident("made_at"), DataType::Timestamp(TimeUnit::Millisecond, None)).alias("made_at");
            let cards = context.sql(&newest_cards("t")).await?;
            cards.select(names.into_iter().chain([time]).collect::<Vec<_>>())?.collect().await
        })?;
        let mut learned = Vec::new();
        for batch in &batches {
            let text = |at: usize, row| batch.column(at).as_string::<i32>().value(row).to_owned();
            let times = batch.column(4).as_primitive::<TimestampMillisecondType>();
            learned.extend((0..batch.num_rows()).map(|row| LearnedInfo {
                model: text(0, row),
                source: text(1, row),
                version: text(2, row),
                made_at: time_text(EventTime::new(times.value(row))),
                card: serde_json::from_str(&text(3, row)).unwrap_or_default(),
            }));
        }
        Ok(learned)
    }

    fn some_runs(&self, query: &RunQuery) -> Result<Vec<RunInfo>> {
        let mut wanted = vec!["true".to_owned()];
        wanted.extend(query.model.as_ref().map(|model| format!("model = '{}'", model.replace('\'', "''"))));
        wanted.extend(query.failed.then(|| format!("outcome = '{}'", Outcome::Failed.name())));
        let (wanted, limit) = (wanted.join(" AND "), query.limit);
        let sql = format!("SELECT * FROM t WHERE {wanted} ORDER BY ended_at DESC, model LIMIT {limit}");
        Ok(self.read_runs(&sql)?.iter().map(run_info).collect())
    }
}

/// With decimals as text: JSON's numbers are floats to most who read them.
fn exact(frame: DataFrame) -> datafusion::error::Result<DataFrame> {
    let columns = frame.schema().fields().iter().map(|field| match field.data_type() {
        DataType::Decimal128(..) => cast(ident(field.name()), DataType::Utf8).alias(field.name()),
        _ => ident(field.name()),
    });
    let columns: Vec<_> = columns.collect();
    frame.select(columns)
}

fn run_info(run: &Run) -> RunInfo {
    RunInfo {
        run_id: run.run_id.clone(),
        model: run.model.clone(),
        outcome: run.outcome.name().to_owned(),
        started_at: time_text(EventTime::new(run.started_at)),
        ended_at: time_text(EventTime::new(run.ended_at)),
        seconds: (run.ended_at - run.started_at) as f64 / 1000.0,
        rows: run.rows,
        parts: run.parts,
        inputs: run.inputs.clone(),
        error: run.error.clone(),
    }
}

impl GoldSource for GoldReader {
    fn tables(&self) -> Result<Vec<GoldTableInfo>, String> {
        self.all_tables().map_err(|error| crate::causes(&error))
    }

    fn rows(&self, table: &GoldTableInfo, limit: usize) -> Result<Option<Vec<Map<String, Value>>>, String> {
        self.first_rows(table, limit).map_err(|error| crate::causes(&error))
    }

    fn learned(&self) -> Result<Vec<LearnedInfo>, String> {
        self.newest_cards().map_err(|error| crate::causes(&error))
    }

    fn runs(&self, query: &RunQuery) -> Result<Vec<RunInfo>, String> {
        self.some_runs(query).map_err(|error| crate::causes(&error))
    }
}
