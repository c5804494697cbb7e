//! One partition of the embedded log: where it starts and ends, how it grows and shrinks.
//!
//! Invariants: offsets are dense; a block below the visible end is never changed; the last block is never dropped,
//! because the next offset is read from it at the next open; blocks are dropped from the front only.

use super::block::{BlockHeader, base_of, key_of};
use super::retention::{Retention, first_to_keep};
use crate::{LogError, OffsetRange};
use fjall::{Database, Keyspace, PersistMode, UserValue};
use sluice_events::{LogTime, Offset, Partition, RecordBuffer};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A block is cut when it would hold more than this.
const BLOCK_BYTES: usize = 1 << 20;
/// What a record costs in a block beside its payload.
const RECORD_OVERHEAD_BYTES: usize = 21;
/// How many blocks one write drops.
const DROPS_A_BATCH: usize = 1_024;

pub(super) struct PartitionLog {
    topic: String,
    partition: Partition,
    dir: PathBuf,
    blocks: Keyspace,
    /// Held through an append: one writer at a time, so offsets are dense.
    tail: Mutex<Tail>,
    /// Held for moments only.
    span: Mutex<Span>,
    appended: Condvar,
}

struct Tail {
    next: Offset,
    bytes: u64,
    taken_at: LogTime,
    scratch: Vec<u8>,
}

/// What readers see.
#[derive(Clone, Copy)]
struct Span {
    range: OffsetRange,
    /// Where the last visible block starts.
    newest: Offset,
    bytes_end: u64,
    /// Header of the first block, once it was looked at.
    oldest: Option<BlockHeader>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic of another thread cannot leave these half changed: every change is a plain store after the last call
    // that may fail.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn storage_error(dir: &Path, source: fjall::Error) -> LogError {
    let message = match source {
        fjall::Error::Locked => return LogError::InUse { path: dir.to_owned() },
        fjall::Error::Io(source) => source.to_string(),
        other => other.to_string(),
    };
    LogError::Storage { path: dir.to_owned(), message }
}

impl PartitionLog {
    pub fn open(dir: &Path, topic: &str, partition: Partition, blocks: Keyspace) -> Result<Self, LogError> {
        let mut log = Self {
            topic: topic.to_owned(),
            partition,
            dir: dir.to_owned(),
            tail: Mutex::new(Tail { next: Offset::new(0), bytes: 0, taken_at: LogTime::new(0), scratch: Vec::new() }),
            span: Mutex::new(Span {
                range: OffsetRange::default(),
                newest: Offset::new(0),
                bytes_end: 0,
                oldest: None,
            }),
            appended: Condvar::new(),
            blocks,
        };
        if let (Some(first), Some(last)) = (log.blocks.first_key_value(), log.blocks.last_key_value()) {
            let first = first.key().map_err(|e| storage_error(dir, e))?;
            let (newest, block) = log.read_guard(last)?;
            let header = log.header_of(newest, &block)?;
            let start = base_of(&first).ok_or_else(|| log.damaged(newest))?;
            let next = Offset::new(newest.get() + i64::from(header.count));
            let bytes = header.bytes_before + block.len() as u64;
            log.tail = Mutex::new(Tail { next, bytes, taken_at: header.taken_at, scratch: Vec::new() });
            let range = OffsetRange { start, end: next };
            log.span = Mutex::new(Span { range, newest, bytes_end: bytes, oldest: None });
        }
        Ok(log)
    }

    pub fn offsets(&self) -> OffsetRange {
        locked(&self.span).range
    }

    /// Appends the records as one or more blocks; readers see all of them or none of them before this returns.
    pub fn append(
        &self,
        database: &Database,
        records: &RecordBuffer,
        now: LogTime,
        sync: bool,
    ) -> Result<(), LogError> {
        if records.is_empty() {
            return Ok(());
        }
        let mut tail = locked(&self.tail);
        let stamped = stamp_unset(records, now);
        let records = stamped.as_ref().unwrap_or(records);
        let mut newest = tail.next;
        if stored_bytes(records) <= BLOCK_BYTES {
            self.append_block(&mut tail, records, now)?;
        } else {
            let mut piece = RecordBuffer::new();
            for record in records.iter() {
                let size = RECORD_OVERHEAD_BYTES
                    + record.key.map_or(0, <[u8]>::len)
                    + record.value.map_or(0, <[u8]>::len)
                    + record.headers.len();
                if !piece.is_empty() && stored_bytes(&piece) + size > BLOCK_BYTES {
                    self.append_block(&mut tail, &piece, now)?;
                    piece.clear();
                }
                piece.push_view(record);
            }
            newest = tail.next;
            self.append_block(&mut tail, &piece, now)?;
        }
        if sync {
            database.persist(PersistMode::SyncData).map_err(|e| storage_error(&self.dir, e))?;
        }
        let mut span = locked(&self.span);
        span.range.end = tail.next;
        span.newest = newest;
        span.bytes_end = tail.bytes;
        drop(span);
        self.appended.notify_all();
        Ok(())
    }

    fn append_block(&self, tail: &mut Tail, records: &RecordBuffer, now: LogTime) -> Result<(), LogError> {
        let taken_at = now.max(tail.taken_at);
        let header = BlockHeader { taken_at, bytes_before: tail.bytes, count: records.len() as u32 };
        header.write(records, &mut tail.scratch);
        self.blocks
            .insert(key_of(tail.next), UserValue::from(&tail.scratch[..]))
            .map_err(|e| storage_error(&self.dir, e))?;
        tail.next = Offset::new(tail.next.get() + records.len() as i64);
        tail.bytes += tail.scratch.len() as u64;
        tail.taken_at = taken_at;
        if tail.scratch.capacity() > 2 * BLOCK_BYTES {
            tail.scratch = Vec::new();
        }
        Ok(())
    }

    /// Waits until there is a record at `position`, at most for `wait`; returns what the partition then holds.
    pub fn wait_for(&self, position: Offset, wait: Duration) -> OffsetRange {
        let mut span = locked(&self.span);
        if span.range.end > position || wait.is_zero() {
            return span.range;
        }
        let deadline = Instant::now().checked_add(wait);
        while span.range.end <= position {
            let Some(left) = deadline.map_or(Some(wait), |d| d.checked_duration_since(Instant::now())) else { break };
            span = self.appended.wait_timeout(span, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        span.range
    }

    /// The block that starts at `base`, if one does.
    pub fn block_at(&self, base: Offset) -> Result<Option<UserValue>, LogError> {
        self.blocks.get(key_of(base)).map_err(|e| storage_error(&self.dir, e))
    }

    /// The block that holds `offset`, which lies in what the partition holds.
    pub fn block_with(&self, offset: Offset) -> Result<Option<(Offset, UserValue)>, LogError> {
        match self.blocks.range(..=key_of(offset)).next_back() {
            Some(guard) => self.read_guard(guard).map(Some),
            None => Ok(None),
        }
    }

    fn read_guard(&self, guard: fjall::Guard) -> Result<(Offset, UserValue), LogError> {
        let (key, block) = guard.into_inner().map_err(|e| storage_error(&self.dir, e))?;
        let base = base_of(&key).ok_or_else(|| self.damaged(Offset::new(-1)))?;
        Ok((base, block))
    }

    pub fn header_of(&self, base: Offset, block: &[u8]) -> Result<BlockHeader, LogError> {
        BlockHeader::read(block).ok_or_else(|| self.damaged(base))
    }

    pub fn damaged(&self, base: Offset) -> LogError {
        let message = format!("the block at offset {base} of {}/{} cannot be read", self.topic, self.partition);
        LogError::Storage { path: self.dir.clone(), message }
    }

    pub fn out_of_range(&self, offset: Offset) -> LogError {
        let OffsetRange { start, end } = self.offsets();
        LogError::OutOfRange { topic: self.topic.clone(), partition: self.partition, offset, start, end }
    }

    /// Drops the blocks that may go; returns whether there were any.
    pub fn drop_old(&self, database: &Database, retention: Retention, now: LogTime) -> Result<bool, LogError> {
        let span = *locked(&self.span);
        let OffsetRange { start, end } = span.range;
        if start == end || start == span.newest {
            return Ok(false);
        }
        let may_drop = |header| retention.may_drop(header, span.bytes_end, now);
        let oldest = match span.oldest {
            Some(header) => header,
            None => self.header_with(start)?.1,
        };
        if !may_drop(oldest) {
            locked(&self.span).oldest = Some(oldest);
            return Ok(false);
        }
        let keep_from = first_to_keep(start, span.newest, |offset| self.header_with(offset), may_drop)?;
        // Readers first: who asks below the new start is told so, and never finds a hole.
        let mut visible = locked(&self.span);
        visible.range.start = keep_from;
        visible.oldest = None;
        drop(visible);
        let mut going = self.blocks.range(key_of(start)..key_of(keep_from)).peekable();
        while going.peek().is_some() {
            let mut batch = database.batch();
            for guard in going.by_ref().take(DROPS_A_BATCH) {
                batch.remove(&self.blocks, guard.key().map_err(|e| storage_error(&self.dir, e))?);
            }
            batch.commit().map_err(|e| storage_error(&self.dir, e))?;
        }
        tracing::debug!(topic = self.topic, partition = %self.partition, from = %start, to = %keep_from, "old blocks dropped");
        Ok(true)
    }

    fn header_with(&self, offset: Offset) -> Result<(Offset, BlockHeader), LogError> {
        let (base, block) = self.block_with(offset)?.ok_or_else(|| self.damaged(offset))?;
        Ok((base, self.header_of(base, &block)?))
    }
}

fn stored_bytes(records: &RecordBuffer) -> usize {
    records.payload_bytes() + RECORD_OVERHEAD_BYTES * records.len()
}

/// A copy in which every record has a time, when some had none.
fn stamp_unset(records: &RecordBuffer, now: LogTime) -> Option<RecordBuffer> {
    let unset = LogTime::new(0);
    let count = records.iter().filter(|r| r.time == unset).count();
    if count == 0 {
        return None;
    }
    if count == records.len() {
        let mut stamped = records.clone();
        stamped.stamp(now);
        return Some(stamped);
    }
    let mut stamped = RecordBuffer::new();
    for mut record in records.iter() {
        if record.time == unset {
            record.time = now;
        }
        stamped.push_view(record);
    }
    Some(stamped)
}
