//! `sluice verify`: does the ledger balance, and does the stream say what a batch over silver says?

mod ledger;
mod models;

use crate::{Config, lake_tables::SILVER_EVENTS, query};
use anyhow::{Context, Result};
use datafusion::{
    common::ScalarValue,
    execution::context::SessionContext,
    prelude::{col, lit},
};
use ledger::Marks;
use models::SKETCH_ERROR;
use serde::Serialize;
use sluice_sinks::lake::Lake;
use std::time::Instant;

/// The newest events that models are compared over, about, unless all are asked for.
const QUICK_ROWS: u64 = 1_000_000;
/// How often the ledger is looked at while commits come in between.
const LOOKS: usize = 5;

#[derive(Debug, Default, Serialize)]
struct Report {
    balanced: bool,
    /// Every row was read and every window compared.
    deep: bool,
    /// Of each event that silver left out it is known that it is a duplicate: by the workers' count, or by its id.
    duplicates_proved: bool,
    /// Models were compared over the events from then on (milliseconds); none: over all.
    compared_from: Option<i64>,
    partitions: Vec<PartitionLedger>,
    models: Vec<ModelCheck>,
    problems: Vec<String>,
}

/// One input partition: end − start = bronze + dead letters; bronze = silver + duplicates + invalid.
#[derive(Debug, Default, Serialize)]
struct PartitionLedger {
    partition: i64,
    /// First offset the lake holds.
    first_offset: Option<i64>,
    /// End offset: of the log where it can be read, else of what the lake holds.
    end_offset: i64,
    /// Records of the log that are not committed yet.
    waiting: i64,
    /// Events that bronze has and silver does not cover yet: a commit of both is under way, or was cut off.
    not_in_silver_yet: i64,
    bronze: i64,
    undecodable: i64,
    silver: i64,
    late: i64,
    duplicates: i64,
    /// Duplicates as the workers counted them; none where bronze has dropped its beginning.
    duplicates_counted: Option<i64>,
    /// Up to here bronze has dropped what was kept long enough: the ledger begins after it.
    retained_upto: Option<i64>,
    invalid: i64,
}

#[derive(Debug, Serialize)]
struct ModelCheck {
    model: String,
    rows: usize,
    /// Rows of windows that are not sealed yet: not compared.
    open: usize,
    /// Windows with more groups than `process.groups_max`: not compared.
    counted_together: usize,
    different: usize,
    approximate_columns: Vec<String>,
}

/// Prints the report; says whether everything holds.
pub(crate) fn run(config: &Config, deep: bool, json: bool) -> Result<bool> {
    let runtime = crate::roles::runtime()?;
    let mut report = Report { deep, ..Report::default() };
    let lake = Lake::new(config.lake.clone(), runtime.handle().clone());
    // The marks first: see there.
    let mut marks = Marks::read(config, &lake)?;
    let mut context = query::session(config, runtime.handle())?;
    let has_bronze = runtime.block_on(context.table("bronze.events")).is_ok();
    if has_bronze {
        let began = Instant::now();
        for _ in 0..LOOKS {
            runtime.block_on(ledger::check(&context, &marks, &mut report))?;
            let now = Marks::read(config, &lake)?;
            // Beside a running sluice a commit may fall between two tables; what is really wrong stays wrong.
            if report.problems.is_empty() || now == marks {
                break;
            }
            marks = now;
            context = query::session(config, runtime.handle())?;
            report = Report { deep, ..Report::default() };
        }
        let ledgers = &report.partitions;
        let rows: i64 = ledgers.iter().map(|l| l.bronze + l.undecodable + l.silver).sum();
        tracing::info!(rows, seconds = began.elapsed().as_secs_f64(), "ledger read");
        let is_counted = ledgers.iter().all(|l| l.duplicates == 0 || l.duplicates_counted.is_some());
        // A lake from before the workers counted; where days were dropped, first ones may be among them.
        let is_whole =
            ledgers.iter().all(|l| l.retained_upto.is_none()) && !marks.kept_from.contains_key(SILVER_EVENTS);
        report.duplicates_proved = is_counted;
        if !marks.kept_from.contains_key(SILVER_EVENTS) && (deep || (!is_counted && is_whole)) {
            runtime.block_on(ledger::prove_duplicates(&context, &marks, &mut report))?;
            report.duplicates_proved = true;
        }
        ledger::compare_with_log(config, &mut report);
        if !deep {
            report.compared_from = newest_events_from(&lake)?;
        }
        report.compared_from = report.compared_from.max(marks.kept_from.get(SILVER_EVENTS).copied());
        if let Some(from) = report.compared_from {
            runtime.block_on(cut_events(&context, from))?;
        }
        let compiled = crate::models::compile(config)?;
        let counts_from = models::counts_from(config, &runtime, &compiled)?;
        for model in compiled.iter() {
            let counts_from = counts_from.get(&model.name).copied().max(marks.live_from(model));
            let from = report.compared_from;
            runtime
                .block_on(models::stream_equals_batch(&context, model, counts_from, from, &mut report))
                .with_context(|| format!("compare model '{}'", model.name))?;
        }
    } else {
        report.problems.push(format!("there is no lake in {}: nothing has been committed yet", config.dir.display()));
    }
    report.balanced = report.problems.is_empty();
    if json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print(&report);
    }
    Ok(report.balanced)
}

/// The event time from which on silver has about [`QUICK_ROWS`] rows; none when it has no more than that.
fn newest_events_from(lake: &Lake) -> Result<Option<i64>> {
    let Some(silver) = lake.kept_table(SILVER_EVENTS)? else { return Ok(None) };
    Ok(silver.newest_rows_from("event_time", QUICK_ROWS)?)
}

/// Makes `events` those from a time on.
async fn cut_events(context: &SessionContext, from: i64) -> Result<()> {
    let from = lit(ScalarValue::TimestampMillisecond(Some(from), Some("UTC".into())));
    let events = context.table("events").await?.filter(col("event_time").gt_eq(from))?.into_view();
    context.deregister_table("events")?;
    context.register_table("events", events)?;
    Ok(())
}

fn print(report: &Report) {
    println!("partition        end   bronze + undecodable   = silver + duplicates + invalid       late    waiting");
    for l in &report.partitions {
        println!(
            "{:>9} {:>10} {:>8} {:>13} {:>10} {:>12} {:>9} {:>10} {:>10}",
            l.partition, l.end_offset, l.bronze, l.undecodable, l.silver, l.duplicates, l.invalid, l.late, l.waiting
        );
    }
    if let Some(from) = report.compared_from {
        let from = chrono::DateTime::from_timestamp_millis(from).unwrap_or_default();
        println!("models are compared from {} on; --deep compares all", from.format("%Y-%m-%dT%H:%M:%SZ"));
    }
    for m in &report.models {
        let sketches = match m.approximate_columns.is_empty() {
            true => String::new(),
            false => format!(
                " (sketches, equal within {:.0} % of value or rank: {})",
                SKETCH_ERROR * 100.0,
                m.approximate_columns.join(", ")
            ),
        };
        let verdict = if m.different == 0 { "stream = batch" } else { "DIFFERENT" };
        let together = match m.counted_together {
            0 => String::new(),
            n => format!("; {n} windows not compared, with groups counted together"),
        };
        println!("live.{}: {} rows, {} open, {verdict}{sketches}{together}", m.model, m.rows, m.open);
    }
    let pending: i64 = report.partitions.iter().map(|l| l.not_in_silver_yet).sum();
    if pending > 0 {
        println!("{pending} events of bronze are on their way into silver");
    }
    if !report.duplicates_proved && !report.partitions.is_empty() {
        println!(
            "days were dropped: that what silver left out are duplicates is not proved; --deep reads all ids there are"
        );
    }
    for problem in &report.problems {
        println!("PROBLEM {problem}");
    }
    println!("{}", if report.balanced { "balanced" } else { "NOT balanced" });
}
