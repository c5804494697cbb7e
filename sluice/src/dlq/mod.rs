//! `sluice dlq`: looking at dead letters, and sending them through the stream again.
//!
//! `letters` finds them, `trial` asks the stream's own decoder and rules what a record is now, `facts` looks what became of
//! it before, `decide` makes a decision of both, `replay` carries it out and `replays` remembers that.
//!
//! Invariant: an event whose letter is replayed is accepted once, however often and wherever a replay dies. What is meant
//! is committed before anything is sent, what arrived after it; a replay that finds the first without the second looks
//! in the lake and the log for the record before it sends one.

mod decide;
mod facts;
mod letters;
mod list;
mod outcome;
mod replay;
mod replays;
mod show;
mod tail;
mod trial;

use crate::{Config, commands::verdict, query::Format};
use anyhow::Result;
use clap::Subcommand;
use letters::Filters;
use std::process::ExitCode;

/// What `sluice dlq` can do.
#[derive(Debug, Subcommand)]
pub(crate) enum DlqCommand {
    /// List dead letters, newest first. A record of a topic is called TOPIC:PARTITION:OFFSET, a line of a file
    /// FILE:LINE@TIME, with the time at which it was refused; where FILE:LINE says enough, it is enough.
    List {
        #[command(flatten)]
        filters: Filters,
        /// How rows are printed.
        #[arg(long, value_enum, default_value_t = Format::Table)]
        format: Format,
        /// How many there are by stage and reason, and how many of them were replayed.
        #[arg(long)]
        summary: bool,
    },
    /// Show all there is of one letter: why it was refused, where it came from, its bytes and what can be read of them,
    /// whether it was replayed, and what a replay would do now.
    Show {
        /// Its name, as `sluice dlq list` says it.
        letter: String,
        /// For programs.
        #[arg(long)]
        json: bool,
    },
    /// Send dead letters through the stream again: the same record with the same event id, judged by the settings and
    /// schemas of now, each once. Exit 1 when one of them is still refused or cannot be replayed.
    Replay {
        /// Their names, as `sluice dlq list` says them.
        letters: Vec<String>,
        #[command(flatten)]
        filters: Filters,
        /// All letters there are; without names, filters or this, nothing is replayed.
        #[arg(long)]
        all: bool,
        /// Say what would become of each, and change nothing.
        #[arg(long)]
        dry_run: bool,
        /// For programs: a line for each letter, then one with the summary.
        #[arg(long)]
        json: bool,
    },
}

/// Does what `sluice dlq …` says.
pub(crate) fn run(config: &Config, command: DlqCommand) -> Result<ExitCode> {
    match command {
        DlqCommand::List { filters, format, summary } => list::run(config, &filters, format, summary)?,
        DlqCommand::Show { letter, json } => show::run(config, &letter, json)?,
        DlqCommand::Replay { letters, filters, all, dry_run, json } => {
            let which = replay::Which { names: letters, filters, all };
            let all_went = replay::run(config, &which, dry_run, json)?;
            return Ok(verdict(all_went));
        }
    }
    Ok(ExitCode::SUCCESS)
}
