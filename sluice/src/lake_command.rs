//! `sluice lake`: looking at the tables, and looking after them by hand.

use crate::{
    Config, WrongUse,
    lake_tables::{SILVER_EVENTS, erasures},
    pipeline::now_millis,
};
use anyhow::{Context, Result, bail};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use clap::{Args, Subcommand};
use indicatif::HumanBytes;
use rand::Rng;
use serde_json::json;
use sluice_sinks::lake::{Compacted, Forgotten, KeptTable, Lake, Merge, Rules, merge_for};
use std::{sync::Arc, time::Duration};

/// What `sluice lake` can do.
#[derive(Debug, Subcommand)]
pub(crate) enum LakeCommand {
    /// List the tables: rows, files by size, length of the log.
    Show {
        /// For programs.
        #[arg(long)]
        json: bool,
    },
    /// Merge small files, day by day, each in one commit. Rows do not change; readers see a day before or after.
    Compact {
        #[command(flatten)]
        tables: Tables,
        /// Merge only what a running sluice would merge by itself now.
        #[arg(long)]
        due: bool,
    },
    /// Drop the days that are older than the setting lake.retain says.
    Retain {
        #[command(flatten)]
        tables: Tables,
        /// Say what would be dropped.
        #[arg(long)]
        dry_run: bool,
    },
    /// Remove files that no version of a table needs any more, and the oldest part of its log.
    Vacuum {
        #[command(flatten)]
        tables: Tables,
        /// Keep what versions younger than this need [default: the setting lake.maintain.vacuum_after].
        #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
        after: Option<Duration>,
        /// Say what would be removed.
        #[arg(long)]
        dry_run: bool,
    },
    /// Show what was done to a table, newest first.
    History {
        /// Such as silver.events.
        table: String,
        /// Commits shown.
        #[arg(long, default_value_t = 20)]
        limit: usize,
        /// For programs.
        #[arg(long)]
        json: bool,
    },
    /// Make a customer unknown in all tables, and note that it was done. Rows and sums stay; names and ids do not.
    Forget {
        /// The customer's id.
        #[arg(long)]
        customer: String,
        /// Noted with it, such as a ticket; nothing personal.
        #[arg(long, value_name = "TEXT")]
        reference: Option<String>,
        /// Remove the old files at once, also those that a query under way may be reading [default: they go after
        /// lake.maintain.vacuum_after].
        #[arg(long)]
        now: bool,
    },
}

/// Which tables.
#[derive(Debug, Args)]
pub(crate) struct Tables {
    /// Such as silver.events [default: all].
    tables: Vec<String>,
}

/// Does what `sluice lake …` says.
pub(crate) fn run(config: &Config, command: LakeCommand) -> Result<()> {
    let runtime = crate::roles::runtime()?;
    let lake = Lake::new(config.lake.clone(), runtime.handle().clone());
    match command {
        LakeCommand::Show { json } => show(&lake, json),
        LakeCommand::Compact { tables, due } => compact(config, chosen(&lake, &tables.tables)?, due),
        LakeCommand::Retain { tables, dry_run } => retain(chosen(&lake, &tables.tables)?, dry_run),
        LakeCommand::Vacuum { tables, after, dry_run } => {
            let after = after.unwrap_or(config.lake.maintain.vacuum_after);
            vacuum(chosen(&lake, &tables.tables)?, after, config.lake.maintain.log_retention, dry_run)
        }
        LakeCommand::History { table, limit, json } => history(&chosen(&lake, &[table])?[0], limit, json),
        LakeCommand::Forget { customer, reference, now } => forget(config, &lake, &runtime, &customer, reference, now),
    }
}

fn chosen(lake: &Lake, names: &[String]) -> Result<Vec<KeptTable>> {
    let mut tables = lake.kept_tables()?;
    let there: Vec<String> = tables.iter().map(|t| t.name.clone()).collect();
    if let Some(wrong) = names.iter().find(|name| !there.contains(name)) {
        let there = if there.is_empty() { "none yet; is --dir right?".to_owned() } else { there.join(", ") };
        return Err(WrongUse(format!("there is no table '{wrong}'; tables in this lake: {there}")).into());
    }
    tables.retain(|table| names.is_empty() || names.contains(&table.name));
    Ok(tables)
}

fn show(lake: &Lake, json: bool) -> Result<()> {
    let mut all = Vec::new();
    if !json {
        println!(
            "{:<24} {:>12} {:>7} {:>11} {:>6} {:>6} {:>7} {:>7} {:>8} {:>5}",
            "TABLE", "ROWS", "FILES", "SIZE", "<1MiB", "<16MiB", "<128MiB", "LARGER", "VERSION", "LOG"
        );
    }
    for table in lake.kept_tables()? {
        let shape = table.shape()?;
        let [tiny, small, middle, large] = shape.by_size();
        match json {
            true => all.push(json!({
                "table": table.name, "rows": shape.rows, "files": shape.files(), "bytes": shape.bytes(),
                "files_below_1mib": tiny, "files_below_16mib": small, "files_below_128mib": middle,
                "files_larger": large, "version": shape.version, "log_tail": shape.log_tail,
                "log_files": shape.log_files,
            })),
            false => println!(
                "{:<24} {:>12} {:>7} {:>11} {tiny:>6} {small:>6} {middle:>7} {large:>7} {:>8} {:>5}",
                table.name,
                shape.rows,
                shape.files(),
                HumanBytes(shape.bytes()).to_string(),
                shape.version,
                shape.log_tail
            ),
        }
    }
    if json {
        println!("{}", serde_json::to_string_pretty(&all)?);
    }
    Ok(())
}

fn compact(config: &Config, tables: Vec<KeptTable>, due: bool) -> Result<()> {
    let rules = Rules::from(&config.lake);
    for mut table in tables {
        let mut sum = Compacted::default();
        for (day, shape) in table.days()? {
            let merge = if due { merge_for(&shape, &rules, now_millis()) } else { Some(Merge::Full(rules.full_bytes)) };
            let Some(merge) = merge.filter(|_| shape.sizes.len() > 1) else { continue };
            let done = table.compact(&day, merge, || true)?;
            if done.removed > 0 {
                eprintln!("{} {day}: {} files merged into {}", table.name, done.removed, done.added);
            }
            sum.removed += done.removed;
            sum.added += done.added;
            sum.bytes_before += done.bytes_before;
            sum.bytes_after += done.bytes_after;
        }
        println!(
            "{:<24} {} files ({}) became {} ({})",
            table.name,
            sum.removed,
            HumanBytes(sum.bytes_before),
            sum.added,
            HumanBytes(sum.bytes_after)
        );
    }
    Ok(())
}

fn retain(tables: Vec<KeptTable>, dry_run: bool) -> Result<()> {
    for mut table in tables {
        let Some(kept) = table.retention() else {
            println!("{:<24} keeps everything", table.name);
            continue;
        };
        let retained = table.retain(now_millis(), dry_run)?;
        let deed = if dry_run { "would drop" } else { "dropped" };
        println!(
            "{:<24} keeps {}, from {} on; {deed} {} rows of {} days",
            table.name,
            humantime::format_duration(kept.0),
            retained.from,
            retained.rows,
            retained.days.len()
        );
    }
    Ok(())
}

fn vacuum(tables: Vec<KeptTable>, after: Duration, log_kept: Duration, dry_run: bool) -> Result<()> {
    for mut table in tables {
        let vacuumed = table.vacuum(after, dry_run)?;
        let log_files = if dry_run { 0 } else { table.trim_log(1, log_kept)? };
        let deed = if dry_run { "would remove" } else { "removed" };
        println!("{:<24} {deed} {} files, and {log_files} of its log", table.name, vacuumed.len());
    }
    Ok(())
}

fn history(table: &KeptTable, limit: usize, json: bool) -> Result<()> {
    let commits = table.history(limit)?;
    if json {
        println!("{}", serde_json::to_string_pretty(&commits)?);
        return Ok(());
    }
    println!("{:>8}  {:<24} {:<14} WHAT", "VERSION", "TIME", "OPERATION");
    for commit in commits {
        let time = chrono::DateTime::from_timestamp_millis(commit.time).unwrap_or_default();
        let what = if commit.metrics.is_null() { commit.parameters } else { commit.metrics };
        let time = time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
        println!("{:>8}  {time:<24} {:<14} {what}", commit.version, commit.operation);
    }
    Ok(())
}

fn forget(
    config: &Config,
    lake: &Lake,
    runtime: &tokio::runtime::Runtime,
    customer: &str,
    reference: Option<String>,
    now: bool,
) -> Result<()> {
    if customer.is_empty() {
        return Err(WrongUse("--customer is empty".to_owned()).into());
    }
    if let Some(until) = open_until(config, lake, runtime, customer)? {
        bail!(
            "this customer was active until {}: sessions and windows that are not sealed yet still hold the id, and would \
             write it after this. Try again when all windows up to then are sealed (sluice lake show and the dashboard show \
             the watermark), or stop sluice and end the stream with `sluice up --no-producer --until-drained`",
            until.format("%Y-%m-%dT%H:%M:%SZ")
        );
    }
    let erasure = lake.begin_erasure(customer, || rand::rng().random())?;
    if erasure.is_resumed {
        eprintln!("going on with an erasure that was not finished");
    }
    let pseudonym = erasure.pseudonym.clone();
    let mut done: Vec<Forgotten> = Vec::new();
    for mut table in lake.kept_tables()? {
        let forgotten = table.forget(customer, &pseudonym)?;
        if forgotten.rows > 0 {
            println!("{:<24} {} rows in {} files", forgotten.table, forgotten.rows, forgotten.files);
            done.push(forgotten);
        }
        if now {
            table.vacuum(Duration::ZERO, false)?;
            // Commits say the least and the largest value in each file.
            table.trim_log(1, Duration::ZERO)?;
        }
    }
    if done.is_empty() {
        println!("no table knows this customer");
    }
    note(lake, &pseudonym, reference, &done).context("note the erasure")?;
    lake.finish_erasure(erasure)?;
    eprintln!(
        "noted in bronze.erasures. {} The event log still has what its retention keeps, and input files what is in them.",
        if now { "The old files are gone." } else { "The old files go with the next vacuum that is due." }
    );
    Ok(())
}

/// The time of the customer's newest event, when there are windows with it that are not sealed.
fn open_until(
    config: &Config,
    lake: &Lake,
    runtime: &tokio::runtime::Runtime,
    customer: &str,
) -> Result<Option<chrono::DateTime<chrono::Utc>>> {
    let Some(silver) = lake.kept_table(SILVER_EVENTS)? else { return Ok(None) };
    let Some(newest) = silver.newest_of(customer, "event_time")? else { return Ok(None) };
    let models = crate::models::compile(config)?;
    let over = models.iter().filter(|model| model.upstream.is_none()).map(|model| model.open_until(newest)).max();
    let mergers = crate::merge_role::newest_states(config, runtime, &models)?;
    let sealed = mergers.iter().map(|merger| merger.sealed_reach().unwrap_or(i64::MIN)).min().unwrap_or(i64::MIN);
    let is_open = over.is_some_and(|over| over > sealed);
    Ok(is_open.then(|| chrono::DateTime::from_timestamp_millis(newest)).flatten())
}

/// That it was done, not to whom; also when nobody was found, because somebody asked.
fn note(lake: &Lake, pseudonym: &str, reference: Option<String>, done: &[Forgotten]) -> Result<()> {
    let spec = erasures();
    let mut rows: Vec<(&str, i64)> = done.iter().map(|f| (&*f.table, f.rows as i64)).collect();
    if rows.is_empty() {
        rows.push(("none", 0));
    }
    let times = TimestampMillisecondArray::from(vec![now_millis(); rows.len()]).with_timezone("UTC");
    let columns: Vec<ArrayRef> = vec![
        Arc::new(times),
        Arc::new(StringArray::from(vec![reference.as_deref(); rows.len()])),
        Arc::new(StringArray::from(vec![pseudonym; rows.len()])),
        Arc::new(rows.iter().map(|(table, _)| Some(*table)).collect::<StringArray>()),
        Arc::new(rows.iter().map(|(_, count)| Some(*count)).collect::<Int64Array>()),
    ];
    let batch = RecordBatch::try_new(spec.schema.clone(), columns)?;
    let mut table = lake.table(spec)?;
    table.write(&batch)?;
    table.commit()?;
    Ok(())
}
