//! Reads a partition of the embedded log forward, block by block.

use super::block::records_of;
use super::partition::PartitionLog;
use crate::{LogError, PartitionReader};
use fjall::UserValue;
use sluice_events::{Offset, RecordBuffer, Records};
use std::sync::Arc;
use std::time::Duration;

/// One answer is cut at the block that takes it past this many bytes, however many records were asked for.
const ANSWER_BYTES: usize = 8 << 20;

pub(super) struct EmbeddedReader {
    log: Arc<PartitionLog>,
    position: Offset,
    /// A decoded block of which only the first records are handed out: it is larger than what is asked for.
    opened: Option<OpenedBlock>,
    /// A block that was fetched and did not fit the last answer; it starts at `position`.
    ahead: Option<UserValue>,
}

struct OpenedBlock {
    base: Offset,
    records: RecordBuffer,
}

impl EmbeddedReader {
    pub fn new(log: Arc<PartitionLog>, from: Offset) -> Self {
        Self { log, position: from, opened: None, ahead: None }
    }

    fn take_opened(&mut self, block: OpenedBlock, max_records: usize, answer: &mut Records) {
        let first = (self.position.get() - block.base.get()) as usize;
        let last = block.records.len().min(first.saturating_add(max_records));
        for i in first..last {
            answer.push(Offset::new(block.base.get() + i as i64), block.records.get(i));
        }
        self.position = Offset::new(block.base.get() + last as i64);
        self.opened = (last < block.records.len()).then_some(block);
    }

    fn fetch(&mut self) -> Result<Option<(Offset, UserValue)>, LogError> {
        if let Some(block) = self.ahead.take() {
            return Ok(Some((self.position, block)));
        }
        match self.log.block_at(self.position)? {
            Some(block) => Ok(Some((self.position, block))),
            None => self.log.block_with(self.position),
        }
    }

    fn fill(&mut self, max_records: usize, end: Offset) -> Result<Records, LogError> {
        let mut answer = Records::new();
        if let Some(block) = self.opened.take() {
            self.take_opened(block, max_records, &mut answer);
        }
        while self.position < end && answer.len() < max_records && answer.payload_bytes() < ANSWER_BYTES {
            let Some((base, block)) = self.fetch()? else {
                // Retention went past us since we looked.
                if answer.is_empty() {
                    return Err(self.log.out_of_range(self.position));
                }
                break;
            };
            let count = self.log.header_of(base, &block)?.count as usize;
            let skip = (self.position.get() - base.get()) as usize;
            if skip >= count {
                return Err(self.log.damaged(self.position));
            }
            let room = max_records - answer.len();
            if !answer.is_empty() && count - skip > room {
                self.ahead = Some(block);
                break;
            }
            let records = records_of(&block).ok_or_else(|| self.log.damaged(base))?;
            if answer.is_empty() && skip == 0 && count <= room {
                self.position = Offset::new(base.get() + count as i64);
                answer = Records::contiguous(base, records);
            } else {
                self.take_opened(OpenedBlock { base, records }, room, &mut answer);
            }
        }
        Ok(answer)
    }
}

impl PartitionReader for EmbeddedReader {
    fn next(&mut self, max_records: usize, wait: Duration) -> Result<Records, LogError> {
        let range = self.log.wait_for(self.position, wait);
        if self.position < range.start {
            return Err(self.log.out_of_range(self.position));
        }
        self.fill(max_records.max(1), range.end)
    }

    fn position(&self) -> Offset {
        self.position
    }
}
