//! What was made when, of what: rows of `gold.runs`.

use arrow::{
    array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray},
    compute::cast,
    datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMillisecondType},
    error::ArrowError,
};
use datafusion::{error::DataFusionError, prelude::SessionContext};
use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The table is what its text makes of its inputs.
    Done,
    /// It failed; the table is as it was.
    Failed,
}

impl Outcome {
    /// The outcome of this name.
    fn named(name: &str) -> Self {
        if name == Self::Done.name() { Self::Done } else { Self::Failed }
    }

    /// Its stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

/// One run of one model.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// Of all models that ran together.
    pub run_id: String,
    /// The model.
    pub model: String,
    /// Of its text.
    pub fingerprint: String,
    /// Milliseconds since 1970.
    pub started_at: i64,
    /// Milliseconds since 1970.
    pub ended_at: i64,
    /// How it ended.
    pub outcome: Outcome,
    /// Rows of the table; none when it failed.
    pub rows: Option<i64>,
    /// The Delta version of the table then; none when it failed.
    pub version: Option<i64>,
    /// So many parts of the table were made anew; none: all of it, or it failed.
    pub parts: Option<i64>,
    /// The Delta versions of the tables that it read.
    pub inputs: BTreeMap<String, i64>,
    /// Why it failed.
    pub error: Option<String>,
}

/// Columns of `gold.runs`. `inputs` is JSON.
pub fn runs_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let text = |name: &str, nullable| Field::new(name, DataType::Utf8, nullable);
        let time = |name: &str| Field::new(name, DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), false);
        Arc::new(Schema::new(vec![
            text("run_id", false),
            text("model", false),
            text("fingerprint", false),
            time("started_at"),
            time("ended_at"),
            text("outcome", false),
            Field::new("rows", DataType::Int64, true),
            text("inputs", false),
            text("error", true),
            Field::new("parts", DataType::Int64, true),
            Field::new("version", DataType::Int64, true),
        ]))
    });
    SCHEMA.clone()
}

impl Run {
    /// It as a row of [`runs_schema`].
    ///
    /// # Errors
    /// Never, but for a mistake in here.
    pub fn row(&self) -> Result<RecordBatch, ArrowError> {
        let text = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text])) };
        let time =
            |millis| -> ArrayRef { Arc::new(TimestampMillisecondArray::from(vec![millis]).with_timezone("UTC")) };
        let inputs = serde_json::to_string(&self.inputs).map_err(|e| ArrowError::JsonError(e.to_string()))?;
        RecordBatch::try_new(
            runs_schema(),
            vec![
                text(&self.run_id),
                text(&self.model),
                text(&self.fingerprint),
                time(self.started_at),
                time(self.ended_at),
                text(self.outcome.name()),
                Arc::new(Int64Array::from(vec![self.rows])),
                text(&inputs),
                Arc::new(StringArray::from(vec![self.error.as_deref()])),
                Arc::new(Int64Array::from(vec![self.parts])),
                Arc::new(Int64Array::from(vec![self.version])),
            ],
        )
    }

    /// The runs in rows with the columns of [`runs_schema`], of whatever types of text and time.
    ///
    /// # Errors
    /// When a column is missing or of another kind.
    pub fn read(rows: &RecordBatch) -> Result<Vec<Self>, ArrowError> {
        let column = |name: &str, to: &DataType| -> Result<ArrayRef, ArrowError> {
            let column = rows.column_by_name(name);
            cast(column.ok_or_else(|| ArrowError::SchemaError(format!("there is no column {name}")))?, to)
        };
        let text = |name| Ok::<_, ArrowError>(column(name, &DataType::Utf8)?.as_string::<i32>().clone());
        let time = |name| {
            let millis = column(name, &DataType::Timestamp(TimeUnit::Millisecond, None))?;
            Ok::<_, ArrowError>(millis.as_primitive::<TimestampMillisecondType>().clone())
        };
        let (ids, models, prints) = (text("run_id")?, text("model")?, text("fingerprint")?);
        let (outcomes, inputs, errors) = (text("outcome")?, text("inputs")?, text("error")?);
        let (started, ended) = (time("started_at")?, time("ended_at")?);
        let number = |name| Ok::<_, ArrowError>(column(name, &DataType::Int64)?.as_primitive::<Int64Type>().clone());
        // A table of an older sluice does not have all.
        let maybe = |name| rows.column_by_name(name).map(|_| number(name)).transpose();
        let (parts, versions) = (maybe("parts")?, maybe("version")?);
        let at_row =
            |numbers: &Option<Int64Array>, at| numbers.as_ref().filter(|n| n.is_valid(at)).map(|n| n.value(at));
        let counts = number("rows")?;
        let run = |at: usize| Self {
            run_id: ids.value(at).to_owned(),
            model: models.value(at).to_owned(),
            fingerprint: prints.value(at).to_owned(),
            started_at: started.value(at),
            ended_at: ended.value(at),
            outcome: Outcome::named(outcomes.value(at)),
            rows: counts.is_valid(at).then(|| counts.value(at)),
            parts: at_row(&parts, at),
            version: at_row(&versions, at),
            inputs: serde_json::from_str(inputs.value(at)).unwrap_or_default(),
            error: errors.is_valid(at).then(|| errors.value(at).to_owned()),
        };
        Ok((0..rows.num_rows()).map(run).collect())
    }
}

/// The newest good run of each model, and the newest that failed; of the table `runs`, a name in SQL.
pub fn newest_runs(runs: &str) -> String {
    format!(
        "SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY model, outcome ORDER BY ended_at DESC) AS place \
         FROM {runs}) WHERE place = 1"
    )
}

/// Of each model, the last good run.
#[derive(Clone, Debug, Default)]
pub struct RunHistory {
    last: BTreeMap<String, Run>,
}

impl RunHistory {
    /// Reads it from `gold.runs`; empty when there is no such table.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub async fn read(context: &SessionContext) -> Result<Self, DataFusionError> {
        let mut history = Self::default();
        if !context.table_exist("gold.runs")? {
            return Ok(history);
        }
        for batch in context.sql(&newest_runs("gold.runs")).await?.collect().await? {
            for run in Run::read(&batch)?.into_iter().filter(|run| run.outcome == Outcome::Done) {
                history.last.insert(run.model.clone(), run);
            }
        }
        Ok(history)
    }

    /// The run that made a model's table, if it made it of this text.
    pub fn made_of(&self, model: &str, fingerprint: &str) -> Option<&Run> {
        self.last.get(model).filter(|run| run.fingerprint == fingerprint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_read_as_it_was_written() {
        let done = Run {
            run_id: "7".to_owned(),
            model: "kpi".to_owned(),
            fingerprint: "ab".to_owned(),
            started_at: 1_700_000_000_123,
            ended_at: 1_700_000_000_456,
            outcome: Outcome::Done,
            rows: Some(3),
            parts: Some(1),
            version: Some(4),
            inputs: [("silver.orders".to_owned(), 5)].into(),
            error: None,
        };
        let failed = Run {
            outcome: Outcome::Failed,
            rows: None,
            parts: None,
            version: None,
            error: Some("no".to_owned()),
            ..done.clone()
        };
        for run in [done, failed] {
            assert_eq!(Run::read(&run.row().unwrap()).unwrap(), [run]);
        }
    }
}
