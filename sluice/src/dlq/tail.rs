//! The end of the log that the lake does not cover yet.

use super::{decide::Place, trial::Judge};
use anyhow::{Context, Result, bail};
use sluice_event_log::EventLog;
use sluice_events::{Offset, Partition, Records};
use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    time::Duration,
};

/// Header of a replayed record: the name of its letter.
pub(crate) const REPLAYED_FROM: &str = "sluice.replayed-from";

const RECORDS_A_READ: usize = 10_000;
/// So many records take a while.
const TOLD_FROM: i64 = 100_000;
/// How often nothing may come where there must be a record; a second each.
const PATIENCE: u32 = 30;

/// What is in there.
#[derive(Default)]
pub(crate) struct Tail {
    /// Replayed records, by the names of their letters.
    replayed: HashMap<String, Place>,
    /// Events that the stream accepts, by a hash of their ids.
    accepted: HashMap<u64, Place>,
    hashes: RandomState,
}

impl Tail {
    /// Reads what follows the offsets that the lake has of each partition.
    pub fn read(log: &dyn EventLog, topic: &str, covered: &HashMap<u32, i64>, judge: &mut Judge) -> Result<Self> {
        let mut tail = Self::default();
        for partition in 0..log.partition_count(topic)? {
            let range = log.offsets(topic, Partition::new(partition))?;
            let from = covered.get(&partition).map_or(range.start.get(), |upto| (upto + 1).max(range.start.get()));
            read(log, topic, partition, from, |records| {
                for (record, id) in judge.accepted(partition, records)? {
                    let place = Place { partition, offset: records.offset(record as usize).get() };
                    tail.accepted.entry(tail.hashes.hash_one(&id)).or_insert(place);
                }
                note_replayed(partition, records, &mut tail.replayed);
                Ok(())
            })?;
        }
        Ok(tail)
    }

    /// Where the record of this letter is, if it is here.
    pub fn replayed(&self, letter: &str) -> Option<Place> {
        self.replayed.get(letter).copied()
    }

    /// Where an event of this id is, if one is here.
    pub fn accepted(&self, event_id: &str) -> Option<Place> {
        self.accepted.get(&self.hashes.hash_one(event_id)).copied()
    }
}

/// The replayed records of a partition from an offset on, by the names of their letters.
pub(crate) fn replayed_since(log: &dyn EventLog, topic: &str, from: Place) -> Result<HashMap<String, Place>> {
    let mut found = HashMap::new();
    read(log, topic, from.partition, from.offset, |records| {
        note_replayed(from.partition, records, &mut found);
        Ok(())
    })?;
    Ok(found)
}

fn note_replayed(partition: u32, records: &Records, found: &mut HashMap<String, Place>) {
    for (offset, record) in records.iter() {
        if let Some(letter) = record.header(REPLAYED_FROM).and_then(|h| std::str::from_utf8(h).ok()) {
            found.entry(letter.to_owned()).or_insert(Place { partition, offset: offset.get() });
        }
    }
}

/// Reads a partition from an offset to its end of now.
fn read(
    log: &dyn EventLog,
    topic: &str,
    partition: u32,
    from: i64,
    mut see: impl FnMut(&Records) -> Result<()>,
) -> Result<()> {
    let number = Partition::new(partition);
    let end = log.offsets(topic, number)?.end.get();
    if from >= end {
        return Ok(());
    }
    if end - from > TOLD_FROM {
        tracing::info!(topic, partition, records = end - from, "reading the end of the log");
    }
    let mut reader = log.reader(topic, number, Offset::new(from)).context("read the end of the log")?;
    let mut waited = 0;
    while reader.position().get() < end {
        let records = reader.next(RECORDS_A_READ, Duration::from_secs(1))?;
        waited = if records.is_empty() { waited + 1 } else { 0 };
        if waited == PATIENCE {
            bail!("{topic}/{partition} ends at {end}, and nothing comes from {} on", reader.position());
        }
        see(&records)?;
    }
    Ok(())
}
