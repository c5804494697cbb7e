//! `sluice gold`: the models of gold, and running them.

use crate::{
    Config, WrongUse,
    gold_runs::{GoldModels, GoldRuns},
    query, roles,
};
use anyhow::{Context, Result};
use clap::Subcommand;
use sluice_gold::{GoldModel, Graph, Run};
use sluice_sinks::Metrics;
use std::{
    process::ExitCode,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

/// Exit code after a signal.
const STOPPED: u8 = 130;
/// How often a run looks whether another process has finished.
const WAIT: Duration = Duration::from_millis(500);

/// What to do with gold.
#[derive(Debug, Subcommand)]
pub(crate) enum GoldCommand {
    /// List the models: room, name, grain, title.
    List,
    /// Show all that a model says of itself, and its SQL.
    Show {
        /// Its name, as `list` shows it.
        name: String,
    },
    /// Make the tables anew whose inputs or text have changed since they were made last, and what they read.
    Run {
        /// Only these models and what they read [default: all].
        names: Vec<String>,
        /// Those too that have not changed.
        #[arg(long)]
        full: bool,
    },
    /// Run by the schedule of the setting gold.schedule until a signal, as `sluice up` does.
    Schedule,
    /// Show which model reads what, as a graph in the DOT language.
    Graph,
}

pub(crate) fn run(config: Config, command: GoldCommand) -> Result<ExitCode> {
    let models = GoldModels::load(&config)?;
    let (sound, names) = (models.sound, models.broken.keys().cloned().collect::<Vec<_>>());
    let graph = Graph::new(&sound, models.broken);
    match command {
        GoldCommand::List => query::seen_enough(list(&graph))?,
        GoldCommand::Show { name } => show(&graph, known(&sound, &graph, &name)?),
        GoldCommand::Graph => draw(&sound),
        GoldCommand::Schedule => return follow_schedule(config),
        GoldCommand::Run { names: asked, full } => {
            let asked: Vec<String> = asked.iter().map(|name| short(name).to_owned()).collect();
            for name in asked.iter().filter(|name| !names.contains(name)) {
                if !sound.iter().any(|model| model.name == *name) {
                    return Err(unknown(name));
                }
            }
            return make(config, &asked, full);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `gold.x` is called x here.
fn short(name: &str) -> &str {
    name.strip_prefix("gold.").unwrap_or(name)
}

fn unknown(name: &str) -> anyhow::Error {
    WrongUse(format!("there is no model '{name}'; sluice gold list shows them")).into()
}

fn known<'a>(models: &'a [GoldModel], graph: &Graph<'_>, name: &str) -> Result<&'a GoldModel> {
    let name = short(name);
    if let Some(model) = models.iter().find(|model| model.name == name) {
        return Ok(model);
    }
    let fault = graph.faults().get(name).map(|fault| WrongUse(fault.to_string()).into());
    Err(fault.unwrap_or_else(|| unknown(name)))
}

fn list(graph: &Graph<'_>) -> Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    for model in graph.in_order() {
        writeln!(out, "{:<10} {:<26} {} ({})", model.room, model.name, model.header.title, model.header.grain)?;
    }
    for (name, fault) in graph.faults() {
        writeln!(out, "{:<10} {name:<26} CANNOT RUN: {fault}", "")?;
    }
    Ok(())
}

fn show(graph: &Graph<'_>, model: &GoldModel) {
    let header = &model.header;
    let reads: Vec<&str> = model.reads.iter().map(String::as_str).collect();
    for (what, text) in [
        ("table", format!("gold.{}", model.name)),
        ("title", header.title.clone()),
        ("grain", header.grain.clone()),
        ("key", header.key.join(", ")),
        ("unit", header.unit.clone()),
        ("definition", header.definition.clone()),
        ("source", header.source.clone()),
        ("reads", reads.join(", ")),
        ("read by", graph.readers(&model.name).join(", ")),
        ("file", model.file.as_ref().map_or("shipped".to_owned(), |file| file.display().to_string())),
    ] {
        println!("{what:<11} {text}");
    }
    let sql: Vec<&str> = model.sql.lines().skip_while(|line| line.starts_with("--")).collect();
    println!("\n{}", sql.join("\n"));
}

fn draw(models: &[GoldModel]) {
    println!("digraph gold {{\n  rankdir = LR;");
    for model in models {
        for table in &model.reads {
            println!("  \"{table}\" -> \"gold.{}\";", model.name);
        }
    }
    println!("}}");
}

fn make(config: Config, names: &[String], full: bool) -> Result<ExitCode> {
    let runtime = roles::runtime()?;
    let stop = roles::stop_signal(&runtime);
    let runs = GoldRuns::new(Arc::new(config), runtime.handle().clone(), Arc::new(Metrics::new()));
    let (began, mut told) = (Instant::now(), false);
    let made = loop {
        if let Some(made) = runs.run(names, full, &stop, print)? {
            break made;
        }
        if stop.load(Ordering::Acquire) {
            return Ok(ExitCode::from(STOPPED));
        }
        if !std::mem::replace(&mut told, true) {
            eprintln!("another process is making the tables; waiting for it");
        }
        std::thread::sleep(WAIT);
    };
    let stopped = if made.stopped { "; stopped before the rest" } else { "" };
    let (done, current, failed) = (made.done, made.current, made.failed);
    eprintln!("{done} tables made, {current} unchanged, {failed} failed; {:.1?}{stopped}", began.elapsed());
    Ok(match (made.stopped, failed) {
        (true, _) => ExitCode::from(STOPPED),
        (false, 0) => ExitCode::SUCCESS,
        (false, _) => ExitCode::FAILURE,
    })
}

fn print(run: &Run) {
    let took = Duration::from_millis((run.ended_at - run.started_at).max(0) as u64);
    match &run.error {
        None => eprintln!("gold.{:<26} {:>10} rows  {took:.1?}", run.model, run.rows.unwrap_or_default()),
        Some(error) => eprintln!("gold.{:<26} failed: {error}", run.model),
    }
}

fn follow_schedule(config: Config) -> Result<ExitCode> {
    let runtime = roles::runtime()?;
    let stop = roles::stop_signal(&runtime);
    let next = config.gold.schedule.next(crate::pipeline::now_millis());
    next.context("gold.schedule is empty: nothing to wait for")?;
    let metrics = Arc::new(Metrics::new());
    let _server = crate::serve_role::start_metrics(&config.metrics.listen, &metrics, None, &runtime)?;
    GoldRuns::new(Arc::new(config), runtime.handle().clone(), metrics).follow_schedule(&stop);
    Ok(ExitCode::SUCCESS)
}
