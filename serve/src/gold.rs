//! The tables of gold, for those who read their numbers: what they mean, when they were made, and their rows.

use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A table of gold, as its file says it, and how it was made last.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct GoldTableInfo {
    /// Its name in paths and in SQL (`gold.<name>`).
    #[schema(example = "kpi_overview")]
    pub name: String,
    /// `dimensions`, `facts`, `kpis` or `analytics`.
    #[schema(example = "kpis")]
    pub room: String,
    /// For people.
    pub title: String,
    /// What one row is about.
    pub grain: String,
    /// Columns that tell rows apart.
    pub key: Vec<String>,
    /// Units of its numbers.
    pub unit: String,
    /// How they come about, in words.
    pub definition: String,
    /// Where the definition comes from.
    pub source: String,
    /// The tables that it is made of.
    pub reads: Vec<String>,
    /// When it was made last; null when it never was.
    pub made: Option<RunInfo>,
    /// The run after that, when it failed: the rows are those of the last good one.
    pub failed: Option<RunInfo>,
}

/// A run of a model of gold.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct RunInfo {
    /// Of all models that ran together.
    #[schema(example = "1767225600000")]
    pub run_id: String,
    /// The model.
    #[schema(example = "kpi_overview")]
    pub model: String,
    /// `done` or `failed`.
    #[schema(example = "done")]
    pub outcome: String,
    /// RFC 3339.
    #[schema(example = "2026-01-01T00:00:00Z")]
    pub started_at: String,
    /// RFC 3339.
    #[schema(example = "2026-01-01T00:00:01Z")]
    pub ended_at: String,
    /// How long it took.
    pub seconds: f64,
    /// Rows of the table; null when it failed.
    pub rows: Option<i64>,
    /// So many parts of a table that is filed by dates were made anew; null: all of it.
    pub parts: Option<i64>,
    /// The Delta versions of the tables that it read.
    pub inputs: BTreeMap<String, i64>,
    /// Why it failed.
    pub error: Option<String>,
}

/// What a model has learnt: its card.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct LearnedInfo {
    /// The table of gold with what it gives.
    #[schema(example = "ml_churn_scores")]
    pub model: String,
    /// Of which orders: `files` or `events`.
    #[schema(example = "files")]
    pub source: String,
    /// The rows of the table name it.
    pub version: String,
    /// RFC 3339.
    #[schema(example = "2026-01-01T00:00:00Z")]
    pub made_at: String,
    /// From which data, by what, how good.
    #[schema(value_type = Object)]
    pub card: Value,
}

/// Which runs to tell of, newest first.
#[derive(Clone, Debug, Default)]
pub struct RunQuery {
    /// Only of this model.
    pub model: Option<String>,
    /// Only those that failed.
    pub failed: bool,
    /// So many at most.
    pub limit: usize,
}

/// Tells of gold. Asked on the pool for blocking work.
pub trait GoldSource: Send + Sync {
    /// All tables, by name.
    ///
    /// # Errors
    /// A text for people, when the lake does not answer.
    fn tables(&self) -> Result<Vec<GoldTableInfo>, String>;

    /// Rows of a table, ordered by its key; none when it was never made. Decimals and times are text.
    ///
    /// # Errors
    /// A text for people, when the lake does not answer.
    fn rows(&self, table: &GoldTableInfo, limit: usize) -> Result<Option<Vec<Map<String, Value>>>, String>;

    /// The newest card of each model and source.
    ///
    /// # Errors
    /// A text for people, when the lake does not answer.
    fn learned(&self) -> Result<Vec<LearnedInfo>, String>;

    /// What was made when.
    ///
    /// # Errors
    /// A text for people, when the lake does not answer.
    fn runs(&self, query: &RunQuery) -> Result<Vec<RunInfo>, String>;
}
