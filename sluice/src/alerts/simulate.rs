//! `sluice alerts simulate`: what would have fired, had the detectors of a model been set so.

use crate::{Config, WrongUse, known_times::Calendars, models, query};
use anyhow::{Context, Result};
use arrow::{
    array::{AsArray, RecordBatch},
    compute::{cast, concat_batches},
    datatypes::TimestampMillisecondType,
};
use clap::Args;
use datafusion::{
    common::ScalarValue,
    prelude::{Expr, SessionContext, col, ident, lit},
};
use futures::StreamExt;
use sluice_events::{Alert, AlertState, EventTime, alert_text, parse_event_time, score_meaning, time_text};
use sluice_stream_processor::{AlertUpdate, Header, HistoryWatch, LiveModel, sealed_panes};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Charts of a simulation's picture, at most: the gravest alerts first.
const CHARTS_MAX: usize = 12;

/// `sluice alerts simulate`.
#[derive(Debug, Args)]
pub(crate) struct SimulateArgs {
    /// The live model.
    #[arg(long)]
    model: String,
    /// From this time on, such as 2026-11-01 or 2026-11-01T08:00:00Z; what comes before is still learnt [default: all].
    #[arg(long)]
    from: Option<String>,
    /// Up to this time [default: all].
    #[arg(long)]
    to: Option<String>,
    /// Another model file, with other `detect:` lines, for the same columns.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Write charts of the gravest alerts as one SVG picture.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// For programs: an alert a line.
    #[arg(long)]
    json: bool,
}

/// Prints the alerts that would have fired to stdout. `overrides` are settings of detectors, such as `threshold=5`.
pub(crate) fn run(config: &Config, args: &SimulateArgs, overrides: &[String]) -> Result<()> {
    let time = |text: &Option<String>, flag: &str| -> Result<Option<i64>> {
        let read =
            |text: &String| parse_event_time(text).map(EventTime::get).map_err(|e| WrongUse(format!("--{flag}: {e}")));
        Ok(text.as_ref().map(read).transpose()?)
    };
    let (from, to) = (time(&args.from, "from")?, time(&args.to, "to")?);
    let models = models::compile(config)?;
    let Some(model) = models.iter().find(|m| m.name == args.model) else {
        let names: Vec<_> = models.iter().filter(|m| !m.header.detect.is_empty()).map(|m| &*m.name).collect();
        return Err(WrongUse(format!("there is no model '{}'; watched are {}", args.model, names.join(", "))).into());
    };
    let text = match &args.file {
        Some(file) => models::read(file)?.text,
        None => model.sql.clone(),
    };
    let header = Header::parse_with(&text, &overrides.join(", ")).map_err(|e| WrongUse(e.to_string()))?;
    let times = Calendars::load(&Arc::new(config.clone()))?.get();
    let mut history = HistoryWatch::new(model, &header, &times).map_err(|e| WrongUse(e.to_string()))?;

    let runtime = crate::roles::runtime()?;
    let context = query::session(config, runtime.handle())?;
    let mut episodes = Episodes { from, alerts: BTreeMap::new(), windows: 0, first: None, last: None };
    runtime.block_on(async {
        let table = format!("live.{}", model.name);
        let rows = context.table(&table).await.map_err(|_| {
            WrongUse(format!("there is no table {table} in this lake: nothing has been sealed yet; is --dir right?"))
        })?;
        let rows = match to {
            Some(to) => rows.filter(col("window_start").lt(moment(to)))?,
            None => rows,
        };
        let mut stream = rows.sort(vec![col("window_start").sort(true, false)])?.execute_stream().await?;
        // A window may go on in the next batch.
        let mut open: Option<RecordBatch> = None;
        while let Some(batch) = stream.next().await {
            let batch = as_panes(model, &batch?)?;
            let all = match open.take() {
                Some(open) => concat_batches(model.pane_schema(), [&open, &batch])?,
                None => batch,
            };
            let windows = windows_of(&all);
            let (last, whole) = match windows.split_last() {
                Some((last, whole)) => (*last, whole),
                None => continue,
            };
            for (start, at, rows) in whole {
                episodes.take(*start, history.window(*start, &all.slice(*at, *rows))?);
            }
            open = Some(all.slice(last.1, last.2));
        }
        if let Some((open, (start, ..))) = open.as_ref().and_then(|open| Some((open, *windows_of(open).first()?))) {
            episodes.take(start, history.window(start, open)?);
        }
        anyhow::Ok(())
    })?;
    let told = episodes.show(args)?;
    match &args.svg {
        Some(file) => runtime.block_on(write_picture(file, told, model, &context)),
        None => Ok(()),
    }
}

/// The rows of a live table as the panes they were.
fn as_panes(model: &LiveModel, batch: &RecordBatch) -> Result<RecordBatch> {
    let column = |field: &arrow::datatypes::FieldRef| {
        let column =
            batch.column_by_name(field.name()).with_context(|| format!("column {} is missing", field.name()))?;
        Ok(cast(column, field.data_type())?)
    };
    let columns = model.pane_schema().fields().iter().map(column).collect::<Result<_>>()?;
    Ok(RecordBatch::try_new(model.pane_schema().clone(), columns)?)
}

/// Start, first row and rows of each window of a batch in order of time.
fn windows_of(rows: &RecordBatch) -> Vec<(i64, usize, usize)> {
    let starts = rows.column(0).as_primitive::<TimestampMillisecondType>().values();
    let mut windows: Vec<(i64, usize, usize)> = Vec::new();
    for (at, start) in starts.iter().enumerate() {
        match windows.last_mut() {
            Some((known, _, rows)) if known == start => *rows += 1,
            _ => windows.push((*start, at, 1)),
        }
    }
    windows
}

/// The alerts of a simulation.
struct Episodes {
    from: Option<i64>,
    alerts: BTreeMap<String, Alert>,
    windows: u64,
    first: Option<i64>,
    last: Option<i64>,
}

impl Episodes {
    fn take(&mut self, start: i64, updates: Vec<AlertUpdate>) {
        if self.from.is_some_and(|from| start < from) {
            return;
        }
        self.windows += 1;
        self.first = self.first.or(Some(start));
        self.last = Some(start);
        for update in updates {
            let raised_before = self.from.is_some_and(|from| update.alert.first_window.get() < from);
            if !raised_before {
                self.keep(update.alert);
            }
        }
    }

    /// Keeps what an alert said at its worst, and how it ended.
    fn keep(&mut self, alert: Alert) {
        match self.alerts.get_mut(&alert.id) {
            Some(known) if alert.state == AlertState::Resolved => {
                known.resolution = alert.resolution;
                known.last_window = alert.last_window;
                known.trace = alert.trace;
                if known.state != AlertState::Suppressed {
                    known.state = alert.state;
                }
            }
            Some(known) => {
                // What was told once has been heard of, also when something else explains it later.
                let was_told = known.state != AlertState::Suppressed;
                *known = alert;
                if was_told && known.state == AlertState::Suppressed {
                    known.state = AlertState::Firing;
                }
            }
            None => drop(self.alerts.insert(alert.id.clone(), alert)),
        }
    }

    /// Prints the alerts, and gives those that would have been told.
    fn show(self, args: &SimulateArgs) -> Result<Vec<Alert>> {
        let (told, explained): (Vec<_>, Vec<_>) =
            self.alerts.into_values().partition(|alert| alert.state != AlertState::Suppressed);
        let mut told = told;
        told.sort_by_key(|alert| (alert.first_window, alert.id.clone()));
        let mut out = std::io::stdout().lock();
        let printed = print(&mut out, &told, args.json);
        query::seen_enough(printed)?;
        let days = match (self.first, self.last) {
            (Some(first), Some(last)) => (last - first) as f64 / 86_400_000.0,
            _ => 0.0,
        };
        let a_day = if days > 0.0 { format!(", {:.2} a day", told.len() as f64 / days) } else { String::new() };
        eprintln!(
            "{} windows, {days:.1} days: {} alerts{a_day}; {} more are explained by these",
            self.windows,
            told.len(),
            explained.len()
        );
        Ok(told)
    }
}

fn print(out: &mut impl std::io::Write, alerts: &[Alert], json: bool) -> Result<()> {
    if json {
        for alert in alerts {
            writeln!(out, "{}", serde_json::to_string(alert)?)?;
        }
        return Ok(());
    }
    writeln!(out, "{:<20} {:>7} {:<8} {:>6}  WHAT", "RAISED", "MINUTES", "SEVERITY", "SCORE")?;
    for alert in alerts {
        let raised = EventTime::new(alert.first_window.get() + alert.window_millis);
        let minutes = (alert.last_window.get() - alert.first_window.get()) / 60_000;
        let firing = Alert { state: AlertState::Firing, ..alert.clone() };
        writeln!(
            out,
            "{:<20} {minutes:>7} {:<8} {:>6.1}  {}; {}",
            time_text(raised),
            alert.severity.name(),
            alert.score,
            alert_text(&firing),
            score_meaning(alert)
        )?;
    }
    Ok(())
}

async fn write_picture(file: &Path, mut alerts: Vec<Alert>, model: &LiveModel, context: &SessionContext) -> Result<()> {
    alerts.sort_by(|a, b| b.severity.cmp(&a.severity).then(b.score.total_cmp(&a.score)));
    alerts.truncate(CHARTS_MAX);
    let mut charts = Vec::new();
    for alert in alerts {
        let wanted = sluice_serve::panes_of(&alert);
        let mut rows = context.table(format!("live.{}", model.name)).await?;
        for (time, is_from) in [(wanted.from, true), (wanted.to, false)] {
            let Some(time) = time else { continue };
            let bound = if is_from {
                col("window_start").gt_eq(moment(time.get()))
            } else {
                col("window_start").lt(moment(time.get()))
            };
            rows = rows.filter(bound)?;
        }
        for (column, value) in &wanted.group {
            rows = rows.filter(ident(column).eq(lit(value.as_str())))?;
        }
        let mut panes = Vec::new();
        for batch in rows.collect().await? {
            panes.extend(sealed_panes(model, &as_panes(model, &batch)?)?);
        }
        charts.push((alert, panes));
    }
    std::fs::write(file, sluice_serve::alert_charts(&charts)).with_context(|| format!("write {}", file.display()))?;
    eprintln!("{} charts in {}", charts.len(), file.display());
    Ok(())
}

fn moment(millis: i64) -> Expr {
    lit(ScalarValue::TimestampMillisecond(Some(millis), Some("UTC".into())))
}
