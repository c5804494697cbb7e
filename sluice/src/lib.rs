//! Wires the rooms: configuration, command line, roles, signals, telemetry.
//!
//! In: a command line, a configuration, signals. Out: running roles, answers on stdout, an exit code.
//! Never: decides what an event means; that is the business of the rooms.

mod commands;
mod config;
mod lake_tables;
mod merge_role;
mod models;
mod partition_loop;
mod pipeline;
mod process_role;
mod produce;
mod query;
mod roles;
mod serve_role;
pub mod telemetry;
mod up;
mod verify;

pub use commands::{CommandLine, WrongUse, run};
pub use config::Config;
