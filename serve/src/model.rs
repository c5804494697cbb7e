//! What a live model is, for those who read its numbers.

use serde::Serialize;
use utoipa::ToSchema;

/// A live model, as its file says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ModelInfo {
    /// Its name in paths and in SQL (`live.<name>`).
    #[schema(example = "sales")]
    pub name: String,
    /// For people.
    pub title: String,
    /// What one row stands for.
    #[schema(example = "1 minute by country")]
    pub grain: String,
    /// The unit of its measures.
    pub unit: String,
    /// Each measure's formula, in words.
    pub definition: String,
    /// Where the definition comes from.
    pub source: String,
    /// The text that runs over the stream.
    pub sql: String,
    /// Group and measure columns; every row also has `window_start` and `window_end`.
    pub columns: Vec<ColumnInfo>,
}

/// A column of a live model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ColumnInfo {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub role: ColumnRole,
    /// Its SQL or Arrow type, as text.
    #[schema(example = "Int64")]
    pub data_type: String,
}

/// What a column is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ColumnRole {
    /// Tells the rows of one window apart.
    Group,
    /// A number of the row.
    Measure,
}
