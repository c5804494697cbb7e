//! A log in memory that can be killed: after so many records it takes no more.

use sluice_event_log::{EventLog, LogError, Membership, OffsetRange, PartitionReader};
use sluice_events::{LogTime, Offset, Partition, RecordBuffer, RecordView, Records};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

type Topics = BTreeMap<String, Vec<RecordBuffer>>;

/// Topics in memory.
pub(crate) struct MemoryLog {
    topics: Arc<Mutex<Topics>>,
    /// Records it takes before it dies.
    life: Mutex<usize>,
    /// How many records came with each append.
    pub(crate) appends: Mutex<Vec<usize>>,
}

impl MemoryLog {
    /// With the two topics of a producer.
    pub(crate) fn new(partitions: u32) -> Self {
        let log = Self { topics: Arc::default(), life: Mutex::new(usize::MAX), appends: Mutex::default() };
        log.ensure_topic("events", partitions).unwrap();
        log.ensure_topic("dead-letters", 2).unwrap();
        log
    }

    /// Lets it take only so many records more; the append that goes beyond is cut in its middle, as by a crash.
    pub(crate) fn dies_after(&self, records: usize) {
        *self.life.lock().unwrap() = records;
    }

    /// Everything in a topic, partition by partition.
    pub(crate) fn partitions(&self, topic: &str) -> Vec<Records> {
        let topics = self.topics.lock().unwrap();
        topics[topic].iter().map(|buffer| Records::contiguous(Offset::new(0), buffer.clone())).collect()
    }

    /// Everything in a topic.
    pub(crate) fn all(&self, topic: &str) -> Records {
        let mut all = Records::new();
        for records in self.partitions(topic) {
            for (_, record) in records.iter() {
                all.push(Offset::new(all.len() as i64), record);
            }
        }
        all
    }
}

impl EventLog for MemoryLog {
    fn ensure_topic(&self, topic: &str, partitions: u32) -> Result<u32, LogError> {
        let mut topics = self.topics.lock().unwrap();
        let new = || vec![RecordBuffer::new(); partitions as usize];
        Ok(topics.entry(topic.to_owned()).or_insert_with(new).len() as u32)
    }

    fn partition_count(&self, topic: &str) -> Result<u32, LogError> {
        let topics = self.topics.lock().unwrap();
        topics.get(topic).map(|p| p.len() as u32).ok_or_else(|| LogError::UnknownTopic { topic: topic.to_owned() })
    }

    fn offsets(&self, topic: &str, partition: Partition) -> Result<OffsetRange, LogError> {
        let end = self.topics.lock().unwrap()[topic][partition.get() as usize].len() as i64;
        Ok(OffsetRange { start: Offset::new(0), end: Offset::new(end) })
    }

    fn append(&self, topic: &str, partition: Partition, records: &RecordBuffer) -> Result<(), LogError> {
        let mut life = self.life.lock().unwrap();
        let taken = records.len().min(*life);
        *life -= taken;
        let mut topics = self.topics.lock().unwrap();
        let buffer = &mut topics.get_mut(topic).unwrap()[partition.get() as usize];
        for record in records.iter().take(taken) {
            buffer.push_view(RecordView { time: LogTime::new(1), ..record });
        }
        self.appends.lock().unwrap().push(taken);
        if taken < records.len() {
            let message = "killed".to_owned();
            return Err(LogError::Storage { path: "memory".into(), message });
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), LogError> {
        Ok(())
    }

    fn reader(&self, topic: &str, partition: Partition, from: Offset) -> Result<Box<dyn PartitionReader>, LogError> {
        let topics = self.topics.clone();
        Ok(Box::new(MemoryReader { topics, topic: topic.to_owned(), partition, position: from }))
    }

    fn join(&self, _: &str, _: &str) -> Result<Box<dyn Membership>, LogError> {
        unreachable!("a producer shares its topics with nobody")
    }
}

struct MemoryReader {
    topics: Arc<Mutex<Topics>>,
    topic: String,
    partition: Partition,
    position: Offset,
}

impl PartitionReader for MemoryReader {
    fn next(&mut self, max_records: usize, _: Duration) -> Result<Records, LogError> {
        let topics = self.topics.lock().unwrap();
        let buffer = &topics[&self.topic][self.partition.get() as usize];
        let mut records = Records::new();
        while records.len() < max_records && (self.position.get() as usize) < buffer.len() {
            records.push(self.position, buffer.get(self.position.get() as usize));
            self.position = self.position.next();
        }
        Ok(records)
    }

    fn position(&self) -> Offset {
        self.position
    }
}
