//! The command line.

use crate::{
    Config,
    alerts::{self, AlertsCommand},
    config::Overrides,
    detect_command::{self, DetectArgs},
    dlq::{self, DlqCommand},
    doctor,
    gold_command::{self, GoldCommand},
    lake_command::{self, LakeCommand},
    load, models,
    produce::Source,
    quality_report,
    query::{self, Format},
    roles,
    scratch::use_scratch,
    up, verify,
};
use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use sluice_producer::{ReplayConfig, ShopFilesConfig, write_shop_files};
use std::{path::PathBuf, process::ExitCode};

/// The command line asks for what is not possible. Exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct WrongUse(pub String);

/// Streaming event processing for e-commerce: lake, live KPIs, anomaly alerts and a dashboard, in one program.
#[derive(Debug, Parser)]
#[command(name = "sluice", version, after_help = "Start here: sluice up     then open http://127.0.0.1:8080/")]
pub struct CommandLine {
    #[command(subcommand)]
    command: Command,
    /// Data folder of every local store.
    #[arg(long, global = true, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Settings file [default: ./sluice.toml when there is one].
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Sets one key, such as --set time.allowed_lateness=5m. May be repeated.
    #[arg(long, global = true, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
    /// Log lines on stderr: text or json. RUST_LOG chooses what is logged.
    #[arg(long, global = true, default_value = "text", value_parser = ["text", "json"])]
    pub(crate) log_format: String,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run everything in one process: producer, processing, dashboard.
    Up(UpArgs),
    /// Write events into the log.
    #[command(subcommand)]
    Produce(Produce),
    /// Run the partition workers: log to lake and partial panes.
    Process(RoleArgs),
    /// Run the merge workers: partial panes to KPIs, alerts and live tables.
    Merge(RoleArgs),
    /// Run the dashboard and the API over the KPI store.
    Serve,
    /// Run SQL over the lake: bronze.*, silver.*, live.*, gold.*.
    Query {
        /// The query.
        sql: String,
        /// How rows are printed.
        #[arg(long, value_enum, default_value_t = Format::Table)]
        format: Format,
    },
    /// Check the ledger (no record lost, none twice) and that the stream equals a batch over silver. Exit 1 if not.
    Verify {
        /// Read every row: prove each duplicate by its id, and compare every window.
        #[arg(long)]
        deep: bool,
        /// For programs.
        #[arg(long)]
        json: bool,
    },
    /// Show what the checks of quality found last. Exit 1 when a hard expectation is not met.
    Quality {
        /// Write the report as one page that needs nothing else.
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
        /// For programs.
        #[arg(long)]
        json: bool,
        /// Exit 1 when any expectation is not met.
        #[arg(long)]
        strict: bool,
    },
    /// Say what there is, what is wrong and what a start would do: log, lake, checkpoints, stores. Changes nothing; exit 1
    /// when something needs a person.
    Doctor {
        /// For programs.
        #[arg(long)]
        json: bool,
    },
    /// Dead letters, what could not be taken: list, show, replay.
    #[command(subcommand)]
    Dlq(DlqCommand),
    /// Load clients.csv and achats.csv into bronze, silver.customers and silver.orders. A file loaded again changes nothing.
    Load {
        /// Files or s3://bucket/file, plain or .gz; the name says what is in it: clients… or achats… [default: those that
        /// are in the setting sources.url].
        files: Vec<String>,
        /// For programs.
        #[arg(long)]
        json: bool,
    },
    /// Gold: tables of business questions, as SQL files over the lake: list, show, run, graph.
    #[command(subcommand)]
    Gold(GoldCommand),
    /// Alerts: list, show, ack, snooze; simulate what would have fired.
    #[command(subcommand)]
    Alerts(AlertsCommand),
    /// Score the windows of a CSV file with a detector.
    Detect(DetectArgs),
    /// The tables of the lake: show, compact, retain, vacuum, history, forget.
    #[command(subcommand)]
    Lake(LakeCommand),
    /// The live models.
    #[command(subcommand)]
    Models(Models),
    /// The configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
}

impl Command {
    /// Whether it may need room for rows on disk. Who only reads makes no data folder for it where there is none.
    fn fills_memory(&self, config: &Config) -> bool {
        match self {
            Self::Up(_) | Self::Process(_) | Self::Merge(_) | Self::Serve | Self::Load { .. } | Self::Lake(_) => true,
            Self::Gold(command) => command.makes_tables(),
            Self::Produce(_) | Self::Detect(_) | Self::Models(_) | Self::Config(_) => false,
            Self::Query { .. }
            | Self::Verify { .. }
            | Self::Quality { .. }
            | Self::Doctor { .. }
            | Self::Dlq(_)
            | Self::Alerts(_) => config.dir.is_dir(),
        }
    }
}

#[derive(Debug, Args)]
struct UpArgs {
    /// Replay these NDJSON or CSV files (plain or .gz) instead of simulating a shop.
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "scenario")]
    replay: Vec<PathBuf>,
    /// Simulate a shop by this scenario file.
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// Produce nothing: other programs write the events topic.
    #[arg(long, conflicts_with_all = ["replay", "scenario"])]
    no_producer: bool,
    /// 1 = real time, 60 = an hour in a minute, 0 = as fast as possible [default: 0 for a replay, else the setting
    /// simulate.speed or the scenario's].
    #[arg(long)]
    speed: Option<f64>,
    /// Read all input to its end, close and seal every window, commit, print a summary and exit.
    #[arg(long)]
    until_drained: bool,
}

#[derive(Debug, Args)]
struct RoleArgs {
    /// Work off what is in the log now, commit and exit.
    #[arg(long)]
    until_drained: bool,
}

#[derive(Debug, Subcommand)]
enum Produce {
    /// Simulate a shop. Knobs: section [simulate] of the settings, or --set simulate.rate=500.
    Simulate {
        /// Simulate by this scenario file: knobs and injected anomalies; their labels are written beside the data.
        #[arg(long, value_name = "FILE")]
        scenario: Option<PathBuf>,
        /// 1 = real time, 60 = an hour in a minute, 0 = as fast as possible [default: the setting simulate.speed or the
        /// scenario's].
        #[arg(long)]
        speed: Option<f64>,
    },
    /// Stream NDJSON or CSV files (plain or .gz), keeping event times. Started again, it goes on where it stopped.
    Replay {
        /// The files, in order.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// 1 as recorded, 60 an hour in a minute, 0 as fast as possible.
        #[arg(long, default_value_t = 0.0)]
        speed: f64,
    },
    /// Ask the HTTP APIs of the settings' [[feed]]s by their schedules, and write the answers to the lake: bronze.feeds and
    /// silver.<feed>. `sluice up` does it too.
    Feed {
        /// Ask each once, write and exit: 1 when an item got no answer.
        #[arg(long)]
        once: bool,
    },
    /// Write clients.csv and achats.csv of the simulated shop.
    Files {
        /// Folder to write to.
        #[arg(default_value = ".")]
        out: PathBuf,
        /// Fixes every draw.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Customers.
        #[arg(long, default_value_t = 1_000)]
        clients: u32,
        /// Purchases.
        #[arg(long, default_value_t = 10_000)]
        purchases: u64,
        /// Products of the shop.
        #[arg(long, default_value_t = 2_000)]
        products: u32,
        /// Day of the first purchases.
        #[arg(long, default_value = "2025-01-01")]
        first_day: chrono::NaiveDate,
        /// Days with purchases.
        #[arg(long, default_value_t = 365)]
        days: u32,
    },
}

#[derive(Debug, Subcommand)]
enum Models {
    /// List the live models: shipped and yours.
    List,
    /// Show a model's text and columns.
    Show {
        /// Its name.
        name: String,
    },
    /// Compile every model; exit 1, and say file, line, column and reason, when one cannot run continuously.
    Check {
        /// These files besides the models there are; one of the same name replaces the other.
        files: Vec<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Read the settings from all places; exit 2 and name the key when one is wrong.
    Check,
}

/// Does what the command line says.
///
/// # Errors
/// With a text for people; [`WrongUse`] when the command line or the settings are at fault.
pub fn run(command_line: CommandLine) -> Result<ExitCode> {
    let CommandLine { command, dir, config, set, .. } = command_line;
    // A key without a section is a setting of a detector, which `alerts simulate` tries.
    let (set, tried): (Vec<_>, Vec<_>) = match &command {
        Command::Alerts(command) if command.is_simulation() => set.into_iter().partition(|s| is_of_section(s)),
        _ => (set, Vec::new()),
    };
    let config = Config::load(&Overrides { file: config, dir, set })?;
    let _scratch = if command.fills_memory(&config) { use_scratch(&config) } else { None };
    match command {
        Command::Up(args) => {
            let speed = checked(args.speed)?;
            let source = match args.replay {
                files if !files.is_empty() => Source::Replay(replay(files, speed)?),
                _ if args.no_producer => Source::None,
                _ => Source::Simulation { scenario: args.scenario.map(existing).transpose()?, speed },
            };
            up::up(config, source, args.until_drained)?;
        }
        Command::Produce(Produce::Simulate { scenario, speed }) => {
            let scenario = scenario.map(existing).transpose()?;
            roles::produce(config, &Source::Simulation { scenario, speed: checked(speed)? })?;
        }
        Command::Produce(Produce::Replay { files, speed }) => {
            roles::produce(config, &Source::Replay(replay(files, checked(Some(speed))?)?))?;
        }
        Command::Produce(Produce::Feed { once }) => {
            if !roles::feed(config, once)? {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Produce(Produce::Files { out, seed, clients, purchases, products, first_day, days }) => {
            let files = ShopFilesConfig { seed, clients, purchases, products, first_day, days };
            std::fs::create_dir_all(&out).with_context(|| format!("make the folder {}", out.display()))?;
            write_shop_files(&out, &files)?;
            eprintln!("wrote clients.csv and achats.csv to {}", out.display());
        }
        Command::Process(args) => roles::process(config, args.until_drained)?,
        Command::Merge(args) => roles::merge(config, args.until_drained)?,
        Command::Serve => roles::serve(&config)?,
        Command::Query { sql, format } => query::run(&config, &sql, format)?,
        Command::Verify { deep, json } => {
            return Ok(verdict(verify::run(&config, deep, json)?));
        }
        Command::Quality { html, json, strict } => {
            return Ok(verdict(quality_report::run(&config, html.as_deref(), json, strict)?));
        }
        Command::Doctor { json } => {
            return Ok(verdict(doctor::run(config, json)?));
        }
        Command::Dlq(command) => return dlq::run(&config, command),
        Command::Gold(command) => return gold_command::run(config, command),
        Command::Alerts(command) => return alerts::run(&config, command, &tried),
        Command::Detect(args) => detect_command::run(&args)?,
        Command::Load { files, json } => load::run(&config, &files, json)?,
        Command::Lake(command) => lake_command::run(&config, command)?,
        Command::Models(command) => return show_models(&config, command),
        Command::Config(ConfigCommand::Check) => println!("the settings are good"),
    }
    Ok(ExitCode::SUCCESS)
}

/// 0 when what was checked holds, else 1.
pub(crate) fn verdict(holds: bool) -> ExitCode {
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn is_of_section(set: &str) -> bool {
    set.split_once('=').is_some_and(|(key, _)| key.contains('.') && !key.starts_with("group."))
}

fn existing(file: PathBuf) -> Result<PathBuf> {
    if file.is_file() { Ok(file) } else { Err(WrongUse(format!("there is no file {}", file.display())).into()) }
}

fn checked(speed: Option<f64>) -> Result<Option<f64>> {
    match speed {
        Some(speed) if !(speed >= 0.0 && speed.is_finite()) => {
            Err(WrongUse(format!("--speed {speed}: give 0 or a number above")).into())
        }
        speed => Ok(speed),
    }
}

fn replay(files: Vec<PathBuf>, speed: Option<f64>) -> Result<ReplayConfig> {
    Ok(ReplayConfig { files: files.into_iter().map(existing).collect::<Result<_>>()?, speed: speed.unwrap_or(0.0) })
}

fn show_models(config: &Config, command: Models) -> Result<ExitCode> {
    match command {
        Models::Check { files } => {
            let mut texts = models::texts(config)?;
            for file in files {
                let text = models::read(&existing(file)?)?;
                texts.retain(|other| other.name != text.name);
                texts.push(text);
            }
            let wrong = models::check(&texts);
            for text in &texts {
                let place = text.place();
                match wrong.iter().find(|(name, _)| *name == text.name) {
                    None => println!("{:<16} runs continuously  ({place})", text.name),
                    Some((_, why)) => println!("{:<16} REFUSED  {place}{why}", text.name),
                }
            }
            return Ok(verdict(wrong.is_empty()));
        }
        Models::List => {
            let texts = models::texts(config)?;
            println!("{:<16} {:<52} {:<24} {:<10} TITLE", "NAME", "GRAIN", "READS", "FROM");
            for model in models::compile(config)?.iter() {
                let reads = model.upstream.as_ref().map_or("events".to_owned(), |up| format!("live.{up}"));
                let own = texts.iter().any(|text| text.name == model.name && text.file.is_some());
                let from = if own { "yours" } else { "shipped" };
                println!("{:<16} {:<52} {reads:<24} {from:<10} {}", model.name, model.header.grain, model.header.title);
            }
        }
        Models::Show { name } => {
            let models = models::compile(config)?;
            let Some(model) = models.iter().find(|m| m.name == name) else {
                let names: Vec<_> = models.iter().map(|m| &*m.name).collect();
                return Err(WrongUse(format!("there is no model '{name}'; there are {}", names.join(", "))).into());
            };
            println!("{}\n", model.sql.trim_end());
            println!("{:<20} {:<24} group", "window_start, window_end", "timestamp");
            for column in &model.columns {
                let role = if column.is_group { "group" } else { "measure" };
                println!("{:<20} {:<24} {role}", column.name, column.data_type.to_string());
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
