//! Tables of gold where others read them: in MongoDB and in PostgreSQL.
//!
//! What is published of a table is one version of it, an edition: afterwards the target has its rows, by key, and no others.
//! Publishing the same edition again changes nothing, and an older one never replaces a newer one. Each target keeps, beside
//! the rows, which edition it has and how long after its commit in the lake that could be read.

mod mongo;
mod postgres;

pub use mongo::MongoPublisher;
pub use postgres::PostgresPublisher;

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use datafusion::error::DataFusionError;
use std::time::{SystemTime, UNIX_EPOCH};

/// A version of a table of gold.
#[derive(Clone, Debug)]
pub struct Edition {
    /// The table, such as `gold.kpi_overview`.
    pub table: String,
    /// Columns that tell its rows apart; at least one.
    pub key: Vec<String>,
    /// Its columns.
    pub schema: SchemaRef,
    /// Its Delta version.
    pub version: i64,
    /// When that was committed, milliseconds since 1970.
    pub committed_at: i64,
}

/// Which edition a target has.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// The table of gold.
    pub table: String,
    /// Its Delta version.
    pub version: i64,
    /// When that was committed, milliseconds since 1970.
    pub committed_at: i64,
    /// When it could be read at the target, milliseconds since 1970.
    pub published_at: i64,
    /// Rows.
    pub rows: i64,
    /// Rows that were other than before, or new, or are gone; 0 when it was there already.
    pub changed: i64,
}

impl Published {
    /// Seconds from the commit in the lake until it could be read at the target.
    pub fn lag_seconds(&self) -> f64 {
        (self.published_at - self.committed_at) as f64 / 1000.0
    }

    /// Whether it is this edition.
    pub fn is(&self, edition: &Edition) -> bool {
        self.version == edition.version && self.committed_at == edition.committed_at
    }

    /// Whether it is a later edition, by its version and by the clock of who committed it: one alone may mislead, when the
    /// table was made afresh or clocks differ.
    fn is_newer_than(&self, edition: &Edition) -> bool {
        self.version > edition.version && self.committed_at > edition.committed_at
    }

    /// What is there after writing these rows: since now, or since before when the edition was there already.
    fn now(edition: &Edition, before: Option<&Self>, rows: i64, changed: i64) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as i64);
        let published_at = before.filter(|before| before.is(edition)).map_or(now, |before| before.published_at);
        Self {
            table: edition.table.clone(),
            version: edition.version,
            committed_at: edition.committed_at,
            published_at,
            rows,
            changed,
        }
    }
}

/// Why a table was not published. The target is as it was, or has a part of the rows: trying again is safe.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The target did not do it.
    #[error("{target}: {deed}: {message}")]
    Target {
        /// The server, without credentials.
        target: String,
        /// What was tried.
        deed: String,
        /// What it said.
        message: String,
    },
    /// The edition does not fit there.
    #[error("{table}: {message}")]
    Edition {
        /// The table of gold.
        table: String,
        /// What is wrong, and what would be right.
        message: String,
    },
    /// Its rows cannot be read.
    #[error("{0}")]
    Rows(#[from] DataFusionError),
}

/// The rows of an edition, as they come.
pub type Rows<'a> = &'a mut dyn Iterator<Item = Result<RecordBatch, DataFusionError>>;

/// Where editions are published. Blocks: not for threads of a runtime.
pub trait Publisher {
    /// Which edition is under a name there; none when there is none.
    ///
    /// # Errors
    /// When the target does not answer.
    fn published(&mut self, name: &str) -> Result<Option<Published>, PublishError>;

    /// Makes an edition what is read under a name there, unless a newer one is there already. Gives what is there then.
    ///
    /// # Errors
    /// When the target fails, has under this name what was not published by sluice, or cannot take a column.
    fn publish(&mut self, name: &str, edition: &Edition, rows: Rows<'_>) -> Result<Published, PublishError>;
}
