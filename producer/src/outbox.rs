//! Records gathered per partition, so that the log is asked once for thousands of them.

use crate::ProducerError;
use sluice_event_log::EventLog;
use sluice_events::{LogTime, Partition, RecordBuffer, partition_for_key};

/// A partition's records go out when there are this many of them …
const RECORDS_MAX: usize = 2_000;
/// … or this many bytes.
const BYTES_MAX: usize = 1 << 20;

/// One topic's records on their way to the log. Within a partition they keep their order.
pub(crate) struct Outbox<'a> {
    log: &'a dyn EventLog,
    topic: &'a str,
    buffers: Vec<RecordBuffer>,
}

impl<'a> Outbox<'a> {
    /// An empty outbox for an existing topic.
    pub(crate) fn new(log: &'a dyn EventLog, topic: &'a str) -> Result<Self, ProducerError> {
        let partitions = log.partition_count(topic)? as usize;
        Ok(Self { log, topic, buffers: vec![RecordBuffer::new(); partitions] })
    }

    /// The partition of a key.
    pub(crate) fn partition(&self, key: &[u8]) -> Partition {
        partition_for_key(key, self.buffers.len() as u32)
    }

    /// Takes a record; appends the partition's records to the log when there are enough of them.
    /// Log time 0: the log stamps it.
    pub(crate) fn push(
        &mut self,
        partition: Partition,
        key: Option<&[u8]>,
        value: &[u8],
        headers: &[(&str, &[u8])],
    ) -> Result<(), ProducerError> {
        let buffer = &mut self.buffers[partition.get() as usize];
        buffer.push(LogTime::new(0), key, Some(value), headers);
        if buffer.len() >= RECORDS_MAX || buffer.payload_bytes() >= BYTES_MAX {
            self.log.append(self.topic, partition, buffer)?;
            buffer.clear();
        }
        Ok(())
    }

    /// Appends whatever is gathered.
    pub(crate) fn send_all(&mut self) -> Result<(), ProducerError> {
        for (partition, buffer) in self.buffers.iter_mut().enumerate().filter(|(_, b)| !b.is_empty()) {
            self.log.append(self.topic, Partition::new(partition as u32), buffer)?;
            buffer.clear();
        }
        Ok(())
    }
}
