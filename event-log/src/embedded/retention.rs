//! Which blocks of a partition may go. Pure: what was seen goes in, a decision comes out.
//!
//! fjall's own first-in-first-out compaction was not taken: it freezes its limits when a keyspace is made, it looks
//! only when a memtable is flushed, so a quiet partition never ages, and it drops 64 MB tables, not blocks.

use super::block::BlockHeader;
use sluice_events::{LogTime, Offset};
use std::time::Duration;

/// How long and how much a partition keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Retention {
    /// Blocks taken longer ago than this may go.
    pub age: Option<Duration>,
    /// The oldest blocks may go while the partition holds more than this.
    pub bytes: Option<u64>,
}

impl Retention {
    /// Whether anything ever goes.
    pub fn drops_anything(&self) -> bool {
        self.age.is_some() || self.bytes.is_some()
    }

    /// Whether the block may go, in a partition whose blocks all in all took `bytes_end` bytes.
    ///
    /// When a block may go, so may all before it: both of its numbers only grow along a partition.
    pub fn may_drop(&self, block: BlockHeader, bytes_end: u64, now: LogTime) -> bool {
        let too_old = self.age.is_some_and(|age| {
            let kept_for = now.get().saturating_sub(block.taken_at.get());
            u128::try_from(kept_for).is_ok_and(|ms| ms > age.as_millis())
        });
        let too_much = self.bytes.is_some_and(|limit| bytes_end.saturating_sub(block.bytes_before) > limit);
        too_old || too_much
    }
}

/// The first block to keep, between the `oldest` and the `newest`, which is always kept: it carries the end offset.
///
/// `look` returns the block that holds an offset; it is asked about as many times as the range has binary digits.
pub(super) fn first_to_keep<E>(
    oldest: Offset,
    newest: Offset,
    mut look: impl FnMut(Offset) -> Result<(Offset, BlockHeader), E>,
    may_drop: impl Fn(BlockHeader) -> bool,
) -> Result<Offset, E> {
    // Invariant: every block that starts below `low` may go; `high` starts a block that is kept.
    let (mut low, mut high) = (oldest, newest);
    while low < high {
        let middle = Offset::new(low.get() + (high.get() - low.get()) / 2);
        let (base, header) = look(middle)?;
        if may_drop(header) {
            low = Offset::new(base.get() + i64::from(header.count));
        } else if base > low {
            high = base;
        } else {
            return Ok(low);
        }
    }
    Ok(high)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks() -> Vec<(Offset, BlockHeader)> {
        let mut bytes_before = 0;
        let mut base = 0;
        (0..100)
            .map(|i| {
                let header = BlockHeader { taken_at: LogTime::new(1_000 * i), bytes_before, count: 1 + i as u32 % 7 };
                let block = (Offset::new(base), header);
                bytes_before += 10;
                base += i64::from(header.count);
                block
            })
            .collect()
    }

    fn kept_from(retention: Retention, now: i64) -> usize {
        let blocks = blocks();
        let look = |offset: Offset| {
            let i = blocks.partition_point(|(base, _)| *base <= offset) - 1;
            Ok::<_, ()>(blocks[i])
        };
        let may_drop = |header| retention.may_drop(header, 1_000, LogTime::new(now));
        let first = first_to_keep(blocks[0].0, blocks[99].0, look, may_drop).unwrap();
        let found = blocks.iter().position(|(base, _)| *base == first).unwrap();
        let slow = blocks.iter().position(|(_, header)| !may_drop(*header)).unwrap_or(99);
        assert_eq!(found, slow, "the search agrees with a plain walk");
        found
    }

    #[test]
    fn every_age_and_size_keeps_exactly_the_blocks_inside_it() {
        for seconds in 0..110 {
            let age = Retention { age: Some(Duration::from_secs(seconds)), bytes: None };
            assert_eq!(kept_from(age, 99_000), 99_usize.saturating_sub(seconds as usize));
        }
        for bytes in 0..1_100 {
            kept_from(Retention { age: None, bytes: Some(bytes) }, 0);
        }
    }

    #[test]
    fn without_limits_nothing_goes_and_a_clock_that_ran_backwards_drops_nothing() {
        assert_eq!(kept_from(Retention { age: None, bytes: None }, i64::MAX), 0);
        assert_eq!(kept_from(Retention { age: Some(Duration::ZERO), bytes: None }, i64::MIN), 0);
    }
}
