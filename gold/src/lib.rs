//! Turns silver into the answers of business questions: SQL files, each of which is a table of gold.
//!
//! In: the tables of silver and live. Out: the tables of gold, and `gold.runs`, the history of what was made when of what.
//! Never: reads the stream.

mod config;
mod engine;
mod functions;
mod graph;
mod history;
mod in_turn;
mod learner;
mod lease;
mod model;
mod partition;
mod parts;
mod runner;
#[cfg(test)]
mod tests;
mod views;

pub use config::GoldConfig;
pub use engine::Engine;
pub use functions::register_functions;
pub use graph::Graph;
pub use history::{Outcome, Run, RunHistory, newest_runs, runs_schema};
pub use in_turn::{STACK_BYTES, in_turn};
pub use learner::{CARDS, Card, LearnError, Learned, Learner, Learners, newest_cards};
pub use lease::Lease;
pub use model::{GoldHeader, GoldModel, ModelError, ROOMS};
pub use partition::{Partition, Unit};
pub use runner::{LakeSession, RunError, Runner, runs_table};
pub use views::{VIEWS, register_views};
