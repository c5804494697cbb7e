//! Merging small files.

use super::{DayShape, KeptTable};
use crate::lake::{
    LakeConfig, LakeError, fault_point::fault_point, parquet_layout::writer_properties, table::conflict,
};
use deltalake::{FilterOp, FilterValue, kernel::transaction::CommitProperties};
use std::{num::NonZeroU64, sync::Arc, time::Duration};

/// When files are merged, and how far.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// The size that a file should have.
    pub full_bytes: u64,
    /// What is small on a day that is still written to.
    pub open_bytes: u64,
    /// So many small files are merged on such a day.
    pub open_files: usize,
    /// A day without a new file for this long is not written to any more.
    pub settled_after: Duration,
}

impl From<&LakeConfig> for Rules {
    fn from(config: &LakeConfig) -> Self {
        Self {
            full_bytes: config.roll_bytes,
            open_bytes: config.maintain.compact_bytes.min(config.roll_bytes),
            open_files: config.maintain.compact_files.max(2),
            settled_after: config.maintain.settled_after,
        }
    }
}

/// Up to which size the files of a day are merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// The day is not written to any more.
    Full(u64),
    /// It is: only what is small, so that a row is not written again and again.
    Small(u64),
}

impl Merge {
    fn bytes(self) -> u64 {
        match self {
            Self::Full(bytes) | Self::Small(bytes) => bytes,
        }
    }
}

/// A settled day gets stragglers: it is merged again when there are this many small files ...
const STRAGGLERS: usize = 4;
/// ... or more than one, for this long.
const LONG_SETTLED: Duration = Duration::from_secs(86_400);

/// Whether the files of a day should be merged at `now` (milliseconds), and up to which size.
pub fn merge_for(day: &DayShape, rules: &Rules, now: i64) -> Option<Merge> {
    let quiet = Duration::from_millis(u64::try_from(now - day.newest).unwrap_or(0));
    let below = |bytes: u64| day.sizes.iter().filter(|size| **size < bytes).count();
    if quiet >= rules.settled_after {
        let small = below(rules.full_bytes / 2);
        let is_worth = small >= STRAGGLERS || (small > 1 && (quiet >= LONG_SETTLED || small == day.sizes.len()));
        return is_worth.then_some(Merge::Full(rules.full_bytes));
    }
    (below(rules.open_bytes) >= rules.open_files).then_some(Merge::Small(rules.open_bytes))
}

/// What a compaction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Files that were merged.
    pub removed: u64,
    /// Files that they were merged into.
    pub added: u64,
    /// Bytes of the former.
    pub bytes_before: u64,
    /// Bytes of the latter.
    pub bytes_after: u64,
}

impl KeptTable {
    /// Merges the files of one day in one commit, in their order. Rows do not change, nor does what the table covers.
    /// Nothing when another commit touched the same files meanwhile.
    ///
    /// # Errors
    /// When the store or Delta fails; the table is as before then.
    pub fn compact(&mut self, day: &str, merge: Merge) -> Result<Compacted, LakeError> {
        let column = self.partition_column()?;
        let filter = column.as_deref().map(|column| (column, FilterOp::Eq, FilterValue::Scalar(day)));
        let filters: Vec<_> = filter.into_iter().collect();
        let session = self.session()?;
        fault_point(&self.name, "before compaction");
        let optimize = self
            .table
            .clone()
            .optimize()
            .with_filters(&filters)
            .with_target_size(NonZeroU64::new(merge.bytes()).unwrap_or(NonZeroU64::MAX))
            .with_max_concurrent_tasks(1)
            .with_writer_properties(writer_properties(&self.config))
            .with_commit_properties(CommitProperties::default().with_cleanup_expired_logs(Some(false)))
            .with_session_state(Arc::new(session.state()));
        let (table, metrics) = match self.runtime.block_on(async { optimize.await }) {
            Ok(done) => done,
            Err(error) if conflict(&error).is_some() => {
                tracing::info!(table = self.name, day, %error, "another commit came first; merging another time");
                self.refresh()?;
                return Ok(Compacted::default());
            }
            Err(error) => return Err(self.error("compact")(error)),
        };
        fault_point(&self.name, "after compaction");
        self.table = table;
        Ok(Compacted {
            removed: metrics.num_files_removed,
            added: metrics.num_files_added,
            bytes_before: u64::try_from(metrics.files_removed.total_size).unwrap_or(0),
            bytes_after: u64::try_from(metrics.files_added.total_size).unwrap_or(0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules =
        Rules { full_bytes: 1_000, open_bytes: 100, open_files: 4, settled_after: Duration::from_secs(600) };

    fn decided(sizes: &[u64], quiet_seconds: i64) -> Option<Merge> {
        merge_for(&DayShape { sizes: sizes.to_vec(), newest: 0 }, &RULES, quiet_seconds * 1_000)
    }

    #[test]
    fn a_day_that_is_written_to_merges_many_small_files_only() {
        assert_eq!(decided(&[10, 10, 10], 1), None);
        assert_eq!(decided(&[10, 10, 10, 10], 1), Some(Merge::Small(100)));
        assert_eq!(decided(&[100, 200, 300, 400, 10], 1), None);
    }

    #[test]
    fn a_settled_day_becomes_full_files_and_is_then_left_alone() {
        assert_eq!(decided(&[10], 700), None);
        assert_eq!(decided(&[10, 20], 700), Some(Merge::Full(1_000)));
        assert_eq!(decided(&[600, 700], 700), None);
        // Two stragglers wait for more, or for a day.
        assert_eq!(decided(&[900, 10, 20], 700), None);
        assert_eq!(decided(&[900, 10, 20], 90_000), Some(Merge::Full(1_000)));
        assert_eq!(decided(&[900, 10, 20, 30, 40], 700), Some(Merge::Full(1_000)));
    }
}
