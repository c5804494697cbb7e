//! Removing files that no version needs any more, and the oldest part of the log.

use super::KeptTable;
use crate::lake::LakeError;
use deltalake::{checkpoints, operations::vacuum::VacuumMode};
use std::time::Duration;

/// A file of this age without a commit is nobody's: an epoch is over in minutes.
const ORPHAN_AGE_MIN: Duration = Duration::from_secs(6 * 3_600);

impl KeptTable {
    /// Removes the data files that no version of the last `after` needs; when that is a while, those too that a crash left
    /// without a commit. A file that a worker has just written has no commit yet either, and looks the same. Gives the paths
    /// of those that were removed, or would be.
    ///
    /// # Errors
    /// When the store or Delta fails.
    pub fn vacuum(&mut self, after: Duration, dry_run: bool) -> Result<Vec<String>, LakeError> {
        // What others have committed since must not look like nobody's.
        self.refresh()?;
        let vacuum = self
            .table
            .clone()
            .vacuum()
            .with_mode(if after >= ORPHAN_AGE_MIN { VacuumMode::Full } else { VacuumMode::Lite })
            .with_retention_period(chrono::Duration::from_std(after).unwrap_or(chrono::Duration::MAX))
            // The table's own minimum of a week is a default for those who cannot know; here the setting says it.
            .with_enforce_retention_duration(false)
            .with_dry_run(dry_run);
        let (table, metrics) = self.runtime.block_on(async { vacuum.await }).map_err(self.error("vacuum"))?;
        self.table = table;
        Ok(metrics.files_deleted)
    }

    /// Writes a checkpoint of the log when there are `tail` commits since the last one or more, or one that is older than
    /// `kept`, and removes the part of the log that is older than that and that no checkpoint needs: what a commit says of
    /// the values in its files goes with it. Says how many files were removed.
    ///
    /// # Errors
    /// When the store or Delta fails.
    pub fn trim_log(&mut self, tail: usize, kept: Duration) -> Result<usize, LakeError> {
        let failed = self.error("trim log");
        self.refresh()?;
        let now = chrono::Utc::now().timestamp_millis();
        let before = now.saturating_sub(i64::try_from(kept.as_millis()).unwrap_or(i64::MAX));
        let log = self.log_length().map_err(&failed)?;
        if log.tail >= tail.max(1) || (log.tail > 0 && log.oldest_in_tail < before) {
            self.runtime.block_on(checkpoints::create_checkpoint(&self.table, None)).map_err(&failed)?;
        }
        let Some(version) = self.table.version() else { return Ok(0) };
        let log = self.table.log_store();
        let trimmed = checkpoints::cleanup_expired_logs_for(version, log.as_ref(), before, None);
        self.runtime.block_on(trimmed).map_err(&failed)
    }
}
