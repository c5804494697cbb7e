//! `sluice gold`: the models of gold, and running them.

use crate::{
    Config, WrongUse,
    cluster_role::{self, ExecutorArgs},
    gold_runs::{GoldModels, GoldRuns},
    publishing::Told,
    query, roles,
};
use anyhow::{Context, Result};
use clap::Subcommand;
use sluice_gold::{GoldModel, Graph, Run};
use sluice_sinks::Metrics;
use std::{
    net::SocketAddr,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
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
    /// Make the tables anew whose inputs or text have changed since they were made last, and what they read. Of a table
    /// that is filed by dates, those parts that have changed.
    Run {
        /// Only these models and what they read [default: all].
        names: Vec<String>,
        /// All of each table, changed or not.
        #[arg(long)]
        full: bool,
        /// Where: local, or ballista://host:port of a scheduler [default: the setting gold.engine].
        #[arg(long)]
        engine: Option<String>,
    },
    /// Run the scheduler of a cluster that makes tables, until a signal.
    Scheduler {
        /// Address for executors and for who asks.
        #[arg(long, default_value = "127.0.0.1:50050")]
        listen: SocketAddr,
    },
    /// Run an executor of a cluster, until a signal. All of a cluster have the lake at the same places.
    Executor(ExecutorArgs),
    /// Publish the tables that section [publish] chooses to MongoDB and PostgreSQL, whether or not they are there; runs do
    /// it by themselves for what they have made anew.
    Publish,
    /// Run by the schedule of the setting gold.schedule until a signal, as `sluice up` does.
    Schedule,
    /// Show which model reads what, as a graph in the DOT language.
    Graph,
}

impl GoldCommand {
    pub(crate) fn makes_tables(&self) -> bool {
        matches!(self, Self::Run { .. } | Self::Schedule)
    }
}

pub(crate) fn run(mut config: Config, command: GoldCommand) -> Result<ExitCode> {
    let models = GoldModels::load(&config)?;
    let (sound, names) = (models.sound, models.broken.keys().cloned().collect::<Vec<_>>());
    let graph = Graph::new(&sound, models.broken);
    match command {
        GoldCommand::List => query::seen_enough(list(&graph))?,
        GoldCommand::Show { name } => show(&graph, known(&sound, &graph, &name)?),
        GoldCommand::Graph => draw(&sound),
        GoldCommand::Publish => return publish(config),
        GoldCommand::Schedule => return follow_schedule(config),
        GoldCommand::Scheduler { listen } => cluster_role::scheduler(&config, listen)?,
        GoldCommand::Executor(args) => cluster_role::executor(&config, args)?,
        GoldCommand::Run { names: asked, full, engine } => {
            if let Some(engine) = engine {
                cluster_role::check_engine(&engine)?;
                config.gold.engine = engine;
            }
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
    let filed = header.partition.as_ref().map_or(String::new(), |by| {
        let until = by.until.as_ref().map_or(String::new(), |until| format!(" until {until}"));
        format!("{} of {}{until}", format!("{:?}", by.unit).to_lowercase(), by.of)
    });
    for (what, text) in [
        ("table", format!("gold.{}", model.name)),
        ("title", header.title.clone()),
        ("grain", header.grain.clone()),
        ("key", header.key.join(", ")),
        ("unit", header.unit.clone()),
        ("definition", header.definition.clone()),
        ("source", header.source.clone()),
        ("filed by", filed),
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
    let began = Instant::now();
    let Some(made) = when_free(&stop, || runs.run(names, full, &stop, print))? else {
        return Ok(ExitCode::from(STOPPED));
    };
    let stopped = if made.stopped { "; stopped before the rest" } else { "" };
    let (done, current, failed) = (made.done, made.current, made.failed);
    let waiting = match made.waiting {
        0 => String::new(),
        waiting => format!(", {waiting} waiting for tables that are not there yet"),
    };
    eprintln!("{done} tables made, {current} unchanged, {failed} failed{waiting}; {:.1?}{stopped}", began.elapsed());
    say(made.published);
    Ok(match (made.stopped, failed + made.published.failed) {
        (true, _) => ExitCode::from(STOPPED),
        (false, 0) => ExitCode::SUCCESS,
        (false, _) => ExitCode::FAILURE,
    })
}

/// What `attempt` gives once no other process makes tables; none when a signal came before.
fn when_free<T>(stop: &AtomicBool, mut attempt: impl FnMut() -> Result<Option<T>>) -> Result<Option<T>> {
    let mut told = false;
    while !stop.load(Ordering::Acquire) {
        if let Some(done) = attempt()? {
            return Ok(Some(done));
        }
        if !std::mem::replace(&mut told, true) {
            eprintln!("another process is making the tables; waiting for it");
        }
        std::thread::sleep(WAIT);
    }
    Ok(None)
}

fn publish(config: Config) -> Result<ExitCode> {
    if !config.publish.is_on()? {
        let keys = "publish.mongodb.uri (SLUICE__PUBLISH__MONGODB__URI) and publish.postgres.url (SLUICE__PUBLISH__POSTGRES__URL)";
        return Err(WrongUse(format!("there is nowhere to publish to: {keys} are empty")).into());
    }
    let runtime = roles::runtime()?;
    let stop = roles::stop_signal(&runtime);
    let runs = GoldRuns::new(Arc::new(config), runtime.handle().clone(), Arc::new(Metrics::new()));
    let Some(told) = when_free(&stop, || runs.publish_again(&stop))? else { return Ok(ExitCode::from(STOPPED)) };
    say(told);
    Ok(if told.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn say(Told { published, current, failed }: Told) {
    if published + current + failed > 0 {
        eprintln!("{published} tables published, {current} there already, {failed} failed");
    }
}

fn print(run: &Run) {
    let took = Duration::from_millis((run.ended_at - run.started_at).max(0) as u64);
    match &run.error {
        None => {
            let parts = run.parts.map_or(String::new(), |parts| format!("  ({parts} parts anew)"));
            eprintln!("gold.{:<26} {:>10} rows  {took:.1?}{parts}", run.model, run.rows.unwrap_or_default());
        }
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
