//! Where the SQL of models is run, when not in this process.

use datafusion::{dataframe::DataFrame, error::DataFusionError};
use sluice_sinks::lake::DeltaTable;

/// Runs questions over the lake's tables and the views, several at a time. Blocks: not for threads of a runtime.
pub trait Engine: Send + Sync {
    /// The rows of a question.
    ///
    /// # Errors
    /// When it does not fit the tables, or the engine does not answer.
    fn ask(&self, sql: &str) -> Result<DataFrame, DataFusionError>;

    /// Lets later questions read a table as it is loaded.
    ///
    /// # Errors
    /// When the table cannot be read.
    fn take_on(&self, name: &str, table: &DeltaTable) -> Result<(), DataFusionError>;
}
