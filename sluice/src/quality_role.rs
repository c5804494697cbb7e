//! Measures the expectations of one table, beside the writer of its rows, and writes what it found to `silver.quality`.
//!
//! Invariants: each row counts once, whatever is killed and read again: results and the offset up to which rows are
//! counted are in one commit, and rows at or below that offset are not counted. A checkpoint is kept only after that
//! commit, so what is not counted yet comes again.

use crate::{
    lake_tables::silver_quality,
    pipeline::{Pipeline, now_millis},
    process_role::commit,
    reference_keys::ReferenceKeys,
};
use anyhow::{Context, Result};
use arrow::{
    array::{AsArray, BooleanArray, RecordBatch},
    compute::{filter_record_batch, max, min},
    datatypes::{Int64Type, TimestampMillisecondType},
};
use sluice_quality::{Expectation, Figure, Moment, QualityResult, Severity, Tally};
use sluice_sinks::{Metric, Metrics, lake::LakeTable};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

pub(crate) struct QualityWriter {
    // Settings.
    results: LakeTable,
    table: &'static str,
    expectations: Vec<Expectation>,
    /// What the application ids of input partitions begin with: `group/topic/`.
    apps: String,
    interval: Duration,
    metrics: Arc<Metrics>,
    // Live.
    keys: ReferenceKeys,
    partitions: BTreeMap<String, OfPartition>,
    /// By expectation, whether it was met when that was known last.
    met: Vec<Option<bool>>,
    checked: Instant,
}

/// What was counted of one partition since the last commit.
#[derive(Default)]
struct OfPartition {
    number: i32,
    tallies: Vec<Tally>,
    /// By expectation, what was written last.
    told: Vec<Option<bool>>,
    offsets: Option<(i64, i64)>,
    event_times: Option<(i64, i64)>,
    /// The last offset that is covered.
    upto: Option<i64>,
    /// Whether its rows up to this epoch's end have come.
    is_heard: bool,
}

impl QualityWriter {
    /// None when nothing is expected of the table.
    pub fn open(pipeline: &Pipeline, runtime: &tokio::runtime::Handle, table: &'static str) -> Result<Option<Self>> {
        let expectations: Vec<_> = pipeline.expectations.iter().filter(|e| e.table == table).cloned().collect();
        if expectations.is_empty() {
            return Ok(None);
        }
        let references = expectations.iter().filter_map(Expectation::reference).cloned();
        let mut keys = ReferenceKeys::new(pipeline.lake.clone(), runtime.clone(), references);
        keys.refresh();
        Ok(Some(Self {
            results: pipeline.lake.table(silver_quality())?,
            table,
            apps: format!("{}/{}/", pipeline.config.process.group, pipeline.config.topics.events),
            interval: pipeline.config.lake.roll_age,
            metrics: pipeline.metrics.clone(),
            keys,
            partitions: BTreeMap::new(),
            met: vec![None; expectations.len()],
            expectations,
            checked: Instant::now(),
        }))
    }

    /// The application id of a partition's results: bronze and silver are two.
    fn app(&self, app: &str) -> String {
        format!("{app}/{}", self.table)
    }

    /// None for what is no partition of the events topic, such as the producers' dead letters.
    fn partition(&mut self, app: &str) -> Option<&mut OfPartition> {
        let number = app.strip_prefix(&self.apps)?.parse().ok()?;
        let expectations = self.expectations.len();
        Some(self.partitions.entry(app.to_owned()).or_insert_with(|| OfPartition {
            number,
            tallies: vec![Tally::default(); expectations],
            told: vec![None; expectations],
            ..OfPartition::default()
        }))
    }

    /// Counts the rows that are not counted yet.
    pub fn rows(&mut self, app: &str, upto: i64, rows: &RecordBatch) -> Result<()> {
        if self.partition(app).is_none() {
            return Ok(());
        }
        let committed = self.results.committed(&self.app(app))?.unwrap_or(-1);
        if upto <= committed {
            return Ok(());
        }
        let offsets = rows.column(rows.schema().index_of("_offset")?).as_primitive::<Int64Type>();
        let new = match offsets.values().iter().any(|offset| *offset <= committed) {
            true => filter_record_batch(rows, &BooleanArray::from_unary(offsets, |offset| offset > committed))?,
            false => rows.clone(),
        };
        let Some(of) = self.partitions.get_mut(app) else { return Ok(()) };
        of.upto = Some(upto);
        let offsets = new.column(new.schema().index_of("_offset")?).as_primitive::<Int64Type>();
        of.offsets = widened(of.offsets, min(offsets).zip(max(offsets)));
        let times = new.column(new.schema().index_of("event_time")?).as_primitive::<TimestampMillisecondType>();
        of.event_times = widened(of.event_times, min(times).zip(max(times)));
        for (expectation, tally) in self.expectations.iter().zip(&mut of.tallies) {
            let keys = expectation.reference().and_then(|reference| self.keys.get(reference));
            expectation
                .add(tally, &new, keys)
                .with_context(|| format!("check expectation '{}' of {}", expectation.name, self.table))?;
        }
        Ok(())
    }

    /// A partition came, from another owner perhaps.
    pub fn taken(&mut self, app: &str) -> Result<()> {
        self.partitions.remove(app);
        Ok(self.results.reload(&self.app(app))?)
    }

    /// What is not committed never was.
    pub fn discard(&mut self) {
        self.partitions.clear();
        self.results.discard();
    }

    /// The rows of this partition up to the end of the epoch have come.
    pub fn heard(&mut self, app: &str) {
        if let Some(of) = self.partition(app) {
            of.is_heard = true;
        }
    }

    /// Judges the epoch and writes what it found.
    pub fn commit(&mut self) -> Result<()> {
        // Who did not speak is another's now.
        self.partitions.retain(|_, of| of.is_heard);
        let moment = Moment { now: now_millis(), is_whole: self.checked.elapsed() >= self.interval.mul_f64(0.9) };
        self.checked = Instant::now();
        let mut results = Vec::new();
        for (at, expectation) in self.expectations.iter().enumerate() {
            let mut figures = Vec::with_capacity(self.partitions.len());
            for of in self.partitions.values_mut() {
                let figure = expectation.judge(&of.tallies[at], moment);
                figures.push(figure);
                // A stream that is quiet says once that it became stale, not at every epoch.
                if figure.rows > 0 || (figure.ok.is_some() && figure.ok != of.told[at]) {
                    of.told[at] = figure.ok;
                    results.push(QualityResult {
                        partition: Some(of.number),
                        offsets: of.offsets,
                        event_times: of.event_times,
                        ..QualityResult::of(expectation, figure, moment.now)
                    });
                }
            }
            let all = Figure::of_all(expectation.kind, expectation.at_least, figures);
            tell(&self.metrics, expectation, &all, &mut self.met[at]);
        }
        self.results.write(&QualityResult::rows(&results)?)?;
        for (app, of) in &mut self.partitions {
            // What no commit follows is told to nobody: another may own the partition by the next one.
            if let Some(upto) = of.upto.take().filter(|_| !results.is_empty()) {
                self.results.cover(&format!("{app}/{}", self.table), upto);
            }
            (of.offsets, of.event_times, of.is_heard) = (None, None, false);
            of.tallies.iter_mut().for_each(Tally::begin_again);
        }
        commit(&mut self.results, &self.metrics)?;
        self.keys.refresh();
        Ok(())
    }
}

fn widened(range: Option<(i64, i64)>, by: Option<(i64, i64)>) -> Option<(i64, i64)> {
    match (range, by) {
        (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
        (range, by) => range.or(by),
    }
}

/// Measures the verdict, and says in the log when it changes.
fn tell(metrics: &Metrics, expectation: &Expectation, figure: &Figure, met: &mut Option<bool>) {
    let Some(ok) = figure.ok else { return };
    let (name, table) = (expectation.name.as_str(), expectation.table.as_str());
    let ratio = figure.ratio().filter(|_| expectation.kind.is_share()).unwrap_or(f64::from(u8::from(ok)));
    metrics.set(Metric::QualityRatio, &[name, table], ratio);
    let severity = expectation.severity.as_str();
    if !ok {
        metrics.add(Metric::QualityFailed, &[name, severity], 1);
    }
    if *met != Some(ok) {
        let (kind, rule, rows) = (expectation.kind.as_str(), expectation.rule.as_str(), figure.rows);
        match ok {
            false if expectation.severity == Severity::Hard => tracing::warn!(
                expectation = name,
                table,
                kind,
                rule,
                rows,
                ratio,
                "an expectation is not met; its rows stay out of silver"
            ),
            false => tracing::warn!(expectation = name, table, kind, rule, rows, ratio, "an expectation is not met"),
            true if met.is_some() => tracing::info!(expectation = name, table, ratio, "an expectation is met again"),
            true => {}
        }
        *met = Some(ok);
    }
}
