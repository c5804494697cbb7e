//! `sluice gold`: the models of gold, and running them.

use crate::{Config, WrongUse, models::walk_texts, pipeline::now_millis, query};
use anyhow::{Context, Result};
use clap::Subcommand;
use include_dir::{Dir, include_dir};
use sluice_gold::{GoldModel, Graph, Outcome, ROOMS, Runner};
use sluice_sinks::lake::Lake;
use std::{
    collections::BTreeMap,
    process::ExitCode,
    time::{Duration, Instant},
};

static SHIPPED: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../models/gold");

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
    /// Show which model reads what, as a graph in the DOT language.
    Graph,
}

/// The models of gold: those shipped, and the user's; a file of the user replaces the shipped one of the same name.
fn models(config: &Config) -> Result<Vec<GoldModel>> {
    let state = datafusion::prelude::SessionContext::new().state();
    let mut models = BTreeMap::new();
    for room in ROOMS {
        for text in walk_texts(SHIPPED.get_dir(room), &config.models.dir.join("gold").join(room))? {
            let model = GoldModel::parse(&text.name, room, &text.text, text.file.clone(), &state);
            let model = model.map_err(|e| WrongUse(format!("{}: {e}", text.place())))?;
            if let Some(other) = models.get(&text.name).filter(|other: &&GoldModel| other.room != room) {
                return Err(
                    WrongUse(format!("two models are called {}: in {} and in {room}", text.name, other.room)).into()
                );
            }
            models.insert(text.name.clone(), model);
        }
    }
    Ok(models.into_values().collect())
}

pub(crate) fn run(config: &Config, command: GoldCommand) -> Result<ExitCode> {
    let models = models(config)?;
    let graph = Graph::new(&models).map_err(|e| WrongUse(e.to_string()))?;
    match command {
        GoldCommand::List => query::seen_enough(list(&graph))?,
        GoldCommand::Show { name } => show(&graph, known(&models, &name)?),
        GoldCommand::Graph => draw(&models),
        GoldCommand::Run { names, full } => {
            for name in &names {
                known(&models, name)?;
            }
            return make(config, &graph.needed(&names), full);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn known<'a>(models: &'a [GoldModel], name: &str) -> Result<&'a GoldModel> {
    let name = name.strip_prefix("gold.").unwrap_or(name);
    let found = models.iter().find(|model| model.name == name);
    found.ok_or_else(|| WrongUse(format!("there is no model '{name}'; sluice gold list shows them")).into())
}

fn list(graph: &Graph<'_>) -> Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    for model in graph.in_order() {
        writeln!(out, "{:<10} {:<26} {} ({})", model.room, model.name, model.header.title, model.header.grain)?;
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

fn make(config: &Config, models: &[&GoldModel], full: bool) -> Result<ExitCode> {
    let runtime = crate::roles::runtime()?;
    let lake = Lake::new(config.lake.clone(), runtime.handle().clone());
    let (context, versions) = query::session_with_versions(config, &runtime)?;
    let run_id = now_millis().to_string();
    let mut runner = Runner::new(lake, context, runtime.handle().clone(), versions, run_id)?;
    let (began, mut counts) = (Instant::now(), [0usize; 3]);
    for model in models {
        if !full && runner.is_current(model) {
            counts[2] += 1;
            continue;
        }
        let run = runner.run(model, now_millis).context("note the run")?;
        let took = Duration::from_millis((run.ended_at - run.started_at).max(0) as u64);
        match run.outcome {
            Outcome::Done => {
                counts[0] += 1;
                eprintln!("gold.{:<26} {:>10} rows  {took:.1?}", run.model, run.rows.unwrap_or_default());
            }
            Outcome::Failed => {
                counts[1] += 1;
                eprintln!("gold.{:<26} failed: {}", run.model, run.error.unwrap_or_default());
            }
        }
    }
    let [done, failed, current] = counts;
    eprintln!("{done} tables made, {current} unchanged, {failed} failed; {:.1?}", began.elapsed());
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
