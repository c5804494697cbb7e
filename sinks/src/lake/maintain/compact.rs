//! Merging small files.

use super::{DayShape, KeptTable, rewrite::Rewrite};
use crate::lake::{LakeConfig, LakeError};
use deltalake::protocol::DeltaOperation;
use std::{ops::Range, time::Duration};

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

/// Which files are merged with which: neighbours, up to the size; what is large enough stays alone.
fn bins(sizes: &[u64], full: u64) -> Vec<Range<usize>> {
    let mut bins = Vec::new();
    let (mut from, mut sum) = (0, 0_u64);
    for (at, size) in sizes.iter().copied().enumerate() {
        if size >= full || sum + size > full {
            bins.push(from..at);
            (from, sum) = (at, 0);
        }
        if size >= full {
            from = at + 1;
        } else {
            sum += size;
        }
    }
    bins.push(from..sizes.len());
    bins.retain(|bin| bin.len() > 1);
    bins
}

impl KeptTable {
    /// Merges the files of one day, each lot in one commit, in the order in which they were written. Rows do not change,
    /// nor does what the table covers. A lot of which another commit touched a file meanwhile is left for another time, and
    /// so is the rest when `goes_on` says no.
    ///
    /// # Errors
    /// When the store or Delta fails; the table is as before then.
    pub fn compact(&mut self, day: &str, merge: Merge, goes_on: impl Fn() -> bool) -> Result<Compacted, LakeError> {
        let mut done = Compacted::default();
        let files = self.files_of(day)?;
        let sizes: Vec<u64> = files.iter().map(|file| file.bytes).collect();
        for bin in bins(&sizes, merge.bytes()) {
            if !goes_on() {
                break;
            }
            let files = &files[bin];
            let operation = DeltaOperation::Optimize {
                predicate: Some(day.to_owned()).filter(|day| !day.is_empty()),
                target_size: i64::try_from(merge.bytes()).unwrap_or(i64::MAX),
            };
            let rewrite = Rewrite { files, day, changes_data: false, operation, deed: "compaction" };
            let Some(added) = self.rewrite(&rewrite, Ok)? else {
                tracing::info!(table = self.name, day, "another commit came first; merging another time");
                continue;
            };
            done.removed += files.len() as u64;
            done.added += added.len() as u64;
            done.bytes_before += files.iter().map(|file| file.bytes).sum::<u64>();
            done.bytes_after += added.iter().map(|add| u64::try_from(add.size).unwrap_or(0)).sum::<u64>();
        }
        Ok(done)
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

    #[test]
    fn neighbours_are_merged_up_to_the_size_and_what_is_large_stays() {
        assert_eq!(bins(&[10, 20, 30], 100), vec![0..3]);
        assert_eq!(bins(&[60, 50, 40, 10], 100), vec![1..4]);
        assert_eq!(bins(&[10, 10, 100, 10, 10, 200, 10], 100), vec![0..2, 3..5]);
        assert_eq!(bins(&[90, 90, 90], 100), Vec::<Range<usize>>::new());
        assert!(bins(&[], 100).is_empty());
    }
}
