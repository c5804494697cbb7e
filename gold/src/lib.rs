//! Turns silver into the answers of business questions: SQL files, each of which is a table of gold.
//!
//! In: the tables of silver and live. Out: the tables of gold, and `gold.runs`, the history of what was made when of what.
//! Never: reads the stream.

mod graph;
mod history;
mod model;
mod runner;
mod views;

pub use graph::Graph;
pub use history::{Outcome, Run, RunHistory, runs_schema};
pub use model::{GoldHeader, GoldModel, ModelError, ROOMS};
pub use runner::{RunError, Runner};
pub use views::{VIEWS, register_views};
