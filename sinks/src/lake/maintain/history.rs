//! What was done to a table.

use super::KeptTable;
use crate::lake::LakeError;
use futures::TryStreamExt;
use serde::Serialize;
use serde_json::Value;

/// One commit.
#[derive(Clone, Debug, Serialize)]
pub struct Commit {
    /// The table's version after it.
    pub version: u64,
    /// Milliseconds since 1970.
    pub time: i64,
    /// What was done: `WRITE`, `OPTIMIZE`, `DELETE`, …
    pub operation: String,
    /// How it was done, as Delta notes it.
    pub parameters: Value,
    /// What it changed, as Delta notes it: files and rows.
    pub metrics: Value,
}

impl KeptTable {
    /// The newest commits, newest first.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn history(&self, limit: usize) -> Result<Vec<Commit>, LakeError> {
        let newest = self.table.snapshot().map_err(self.error("read log"))?.version();
        let infos: Vec<_> =
            self.runtime.block_on(self.table.history(Some(limit)).try_collect()).map_err(self.error("read history"))?;
        Ok(infos
            .into_iter()
            .enumerate()
            .map(|(back, info): (usize, deltalake::kernel::CommitInfo)| Commit {
                version: newest.saturating_sub(back as u64),
                time: info.timestamp.unwrap_or(0),
                operation: info.operation.unwrap_or_default(),
                parameters: serde_json::to_value(&info.operation_parameters).unwrap_or(Value::Null),
                metrics: info.info.get("operationMetrics").cloned().unwrap_or(Value::Null),
            })
            .collect())
    }
}
