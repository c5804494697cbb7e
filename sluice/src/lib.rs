//! Wires the rooms: configuration, command line, roles, signals, telemetry.
//!
//! In: a command line, a configuration, signals. Out: running roles, answers on stdout, an exit code.
//! Never: decides what an event means; that is the business of the rooms.

mod admission;
mod alerts;
mod caretaker;
mod cluster_role;
mod commands;
mod config;
mod detect_command;
mod dlq;
mod doctor;
mod feed_role;
mod gold_command;
mod gold_reader;
mod gold_runs;
mod judged;
mod known_times;
mod lake_command;
mod lake_tables;
mod learning;
mod live_models;
mod load;
mod merge_role;
mod models;
mod offsets;
mod partition_loop;
mod pipeline;
mod process_role;
mod produce;
mod publishing;
mod quality_report;
mod quality_role;
mod query;
mod recovery;
mod reference_keys;
mod roles;
mod scratch;
mod serve_role;
mod sql_role;
pub mod telemetry;
mod up;
mod verify;

pub use commands::{CommandLine, WrongUse, run};
pub use config::Config;

/// Panes, texts and batches are many small things on many threads, which this one is quicker at than the system's.
/// Huge pages are off: they are cleared as a whole for the first byte, and stay when little is left in them. Version 2 gives back
/// what is free a hundred times sooner than version 3: its peak over many large questions is two thirds.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What was tried, then why it did not work; a cause that the text before it names already is not said again.
pub fn causes(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !text.contains(&cause) {
            let separator = if text.is_empty() { "" } else { ": " };
            text = format!("{text}{separator}{cause}");
        }
    }
    text
}
