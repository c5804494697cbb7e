//! `sluice doctor`: what there is, what is wrong, and what a start would do. It changes nothing.

use crate::{
    Config, merge_role, models,
    pipeline::Pipeline,
    recovery::{self, Facts, Recovery},
};
use anyhow::Result;
use serde::Serialize;
use sluice_event_log::LogError;
use sluice_events::Partition;
use sluice_sinks::{kpi_store, lake::Bucket};
use sluice_stream_processor::MergerState;

#[derive(Debug, Default, Serialize)]
struct Report {
    healthy: bool,
    /// What is good, in a line each.
    good: Vec<String>,
    /// What is odd, and heals by itself.
    odd: Vec<String>,
    /// What needs a person, and what to do.
    wrong: Vec<String>,
    partitions: Vec<PartitionReport>,
    merge_partitions: Vec<MergeReport>,
}

#[derive(Debug, Serialize)]
struct PartitionReport {
    partition: u32,
    #[serde(flatten)]
    facts: Facts,
    at_start: Recovery,
}

#[derive(Debug, Serialize)]
struct MergeReport {
    partition: u32,
    log_start: i64,
    log_end: i64,
    checkpoints: Vec<recovery::CheckpointFact>,
    at_start: String,
}

/// Prints the report; says whether nothing needs a person.
pub(crate) fn run(config: Config, json: bool) -> Result<bool> {
    let runtime = crate::roles::runtime()?;
    let mut report = Report::default();
    match models::compile(&config) {
        Ok(models) => report.good.push(format!("models: {} run continuously", models.len())),
        Err(error) => report.wrong.push(format!("models: {}", crate::causes(&error))),
    }
    match kpi_store::open(&config.kpi_store).and_then(|store| store.ping()) {
        Ok(()) => report.good.push("KPI store: answers".to_owned()),
        Err(error) if error.to_string().contains("another process") => {
            report.good.push("KPI store: in use by a running sluice".to_owned());
        }
        Err(error) => report.wrong.push(error.to_string()),
    }
    match Pipeline::look(config, &runtime) {
        Ok(pipeline) => look(&pipeline, &mut report)?,
        Err(error) => match error.downcast_ref::<LogError>() {
            Some(LogError::InUse { .. }) => {
                report
                    .good
                    .push("event log: in use by a running sluice; its partitions are at /api/v1/status".to_owned());
            }
            _ => report.wrong.push(crate::causes(&error)),
        },
    }
    report.healthy = report.wrong.is_empty();
    match json {
        true => println!("{}", serde_json::to_string_pretty(&report)?),
        false => print(&report),
    }
    Ok(report.healthy)
}

fn look(pipeline: &Pipeline, report: &mut Report) -> Result<()> {
    let mut has_lake = false;
    for (bucket, name) in [(Bucket::Bronze, "bronze"), (Bucket::Silver, "silver"), (Bucket::Gold, "gold")] {
        match pipeline.lake.existing(bucket, "") {
            Ok(tables) => {
                let names: Vec<String> = tables.into_iter().map(|(name, _)| name).collect();
                has_lake |= bucket == Bucket::Bronze && names.iter().any(|name| name == "events");
                report
                    .good
                    .push(format!("{name}: {}", if names.is_empty() { "empty".to_owned() } else { names.join(", ") }));
            }
            Err(error) => report.wrong.push(error.to_string()),
        }
    }
    for partition in 0..pipeline.event_partitions {
        if !has_lake {
            report.good.push("events: nothing has been committed yet".to_owned());
            break;
        }
        let (facts, _) = recovery::observe(pipeline, partition)?;
        let at_start = recovery::decide(&facts);
        let damaged = facts.checkpoints.iter().filter(|c| c.damage.is_some()).count();
        if damaged > 0 {
            report.odd.push(format!(
                "partition {partition}: {damaged} of {} checkpoints are damaged",
                facts.checkpoints.len()
            ));
        }
        match &at_start {
            Recovery::Refuse { reason } => report.wrong.push(format!(
                "partition {partition}: {reason}: this is not the log that was read before; point log.* at the right one, or \
                 give this one another process.group"
            )),
            Recovery::RebuildFromBronze { upto } if upto + 1 < facts.log_start => report.wrong.push(format!(
                "partition {partition}: offsets {} to {} are gone from the log, and the lake never had them",
                upto + 1,
                facts.log_start - 1
            )),
            _ => {}
        }
        report.partitions.push(PartitionReport { partition, facts, at_start });
    }
    let topic = &pipeline.config.topics.partials;
    for partition in 0..pipeline.merge_partitions {
        let range = pipeline.log.offsets(topic, Partition::new(partition))?;
        let stored = pipeline.checkpoints.newest_first(&merge_role::worker_name(&pipeline.config, partition))?;
        let checkpoints: Vec<recovery::CheckpointFact> =
            stored.iter().map(recovery::CheckpointFact::of::<MergerState>).collect();
        let usable = checkpoints.iter().find(|c| c.damage.is_none() && c.position >= range.start.get());
        let at_start = match usable {
            Some(c) if c.position > range.end.get() => {
                report.wrong.push(format!(
                    "partials {partition}: a checkpoint covers offset {}, but the log ends at {}",
                    c.position, range.end
                ));
                "refuse".to_owned()
            }
            Some(c) => format!("resume at {}", c.position),
            None if range.end.get() == 0 => "start fresh".to_owned(),
            None => "merge the log again from its start; what is sealed in the tables is not sealed again".to_owned(),
        };
        report.merge_partitions.push(MergeReport {
            partition,
            log_start: range.start.get(),
            log_end: range.end.get(),
            checkpoints,
            at_start,
        });
    }
    Ok(())
}

fn print(report: &Report) {
    let shown = |offset: Option<i64>| offset.map_or("-".to_owned(), |o| o.to_string());
    for line in &report.good {
        println!("ok     {line}");
    }
    if !report.partitions.is_empty() {
        println!("\npartition  log start    log end     bronze     silver  checkpoints            at a start it would");
    }
    for p in &report.partitions {
        let at_start = match &p.at_start {
            Recovery::StartFresh => "start fresh".to_owned(),
            Recovery::Resume { position, damaged: 0 } => format!("resume at {position}"),
            Recovery::Resume { position, damaged } => {
                format!("resume at {position}, the newest of them that is whole ({damaged} newer are damaged)")
            }
            Recovery::ReplayLog => "read the log from its start, and skip what the lake has".to_owned(),
            Recovery::RebuildFromBronze { upto } => format!("rebuild its state from bronze up to {upto}"),
            Recovery::Refuse { .. } => "refuse".to_owned(),
        };
        println!(
            "{:>9} {:>10} {:>10} {:>10} {:>10}  {:<22} {at_start}",
            p.partition,
            p.facts.log_start,
            p.facts.log_end,
            shown(p.facts.bronze),
            shown(p.facts.silver),
            positions(&p.facts.checkpoints)
        );
    }
    if !report.merge_partitions.is_empty() {
        println!("\npartials   log start    log end  checkpoints            at a start it would");
    }
    for p in &report.merge_partitions {
        let checkpoints = positions(&p.checkpoints);
        println!("{:>9} {:>10} {:>10}  {checkpoints:<22} {}", p.partition, p.log_start, p.log_end, p.at_start);
    }
    println!();
    for line in &report.odd {
        println!("odd    {line}");
    }
    for line in &report.wrong {
        println!("WRONG  {line}");
    }
    println!("{}", if report.healthy { "nothing needs you" } else { "something needs you" });
}

fn positions(checkpoints: &[recovery::CheckpointFact]) -> String {
    let shown = |c: &recovery::CheckpointFact| format!("{}{}", c.position, if c.damage.is_some() { "!" } else { "" });
    match checkpoints {
        [] => "none".to_owned(),
        some => some.iter().map(shown).collect::<Vec<_>>().join(" "),
    }
}
