//! What of a source is in the log already.

use super::run::{POSITION_HEADER, SOURCE_HEADER};
use crate::ProducerError;
use sluice_event_log::EventLog;
use sluice_events::{Offset, Partition};
use std::{collections::HashMap, time::Duration};

/// Offsets read in the first step back from the end; each further step takes twice as many.
const FIRST_STEP: i64 = 4_096;
/// The largest step.
const LAST_STEP: i64 = 262_144;
/// How long a record that must be there may take.
const PATIENCE_SECONDS: u64 = 30;

/// For each source the last position in every partition of a topic; 0 where it has none.
pub(crate) type Positions = HashMap<String, Vec<u64>>;

/// Reads every partition of the topic backwards until each source is found or the partition begins.
pub(crate) fn last_positions(log: &dyn EventLog, topic: &str, sources: &[String]) -> Result<Positions, ProducerError> {
    let partitions = log.partition_count(topic)?;
    let mut positions: Positions = sources.iter().map(|s| (s.clone(), vec![0; partitions as usize])).collect();
    for number in 0..partitions {
        for (source, position) in search(log, topic, Partition::new(number), sources)? {
            if let Some(of_source) = positions.get_mut(source) {
                of_source[number as usize] = position;
            }
        }
    }
    Ok(positions)
}

/// The last position of each source in a partition, where it has one.
fn search<'s>(
    log: &dyn EventLog,
    topic: &str,
    partition: Partition,
    sources: &'s [String],
) -> Result<HashMap<&'s str, u64>, ProducerError> {
    let range = log.offsets(topic, partition)?;
    let mut found = HashMap::new();
    let (mut upto, mut step) = (range.end.get(), FIRST_STEP);
    while upto > range.start.get() && sources.iter().any(|s| !found.contains_key(s.as_str())) {
        let from = (upto - step).max(range.start.get());
        let here = read(log, topic, partition, from, upto)?;
        for source in sources {
            if let Some(position) = here.get(source) {
                // What stands further back is older.
                found.entry(source.as_str()).or_insert(*position);
            }
        }
        upto = from;
        step = (step * 2).min(LAST_STEP);
    }
    Ok(found)
}

/// The last position of each source among the offsets `from..upto`.
fn read(
    log: &dyn EventLog,
    topic: &str,
    partition: Partition,
    from: i64,
    upto: i64,
) -> Result<HashMap<String, u64>, ProducerError> {
    let mut last: HashMap<String, u64> = HashMap::new();
    let mut reader = log.reader(topic, partition, Offset::new(from))?;
    let mut waited = 0;
    while reader.position().get() < upto {
        let records = reader.next((upto - reader.position().get()) as usize, Duration::from_secs(1))?;
        if records.is_empty() {
            waited += 1;
            if waited >= PATIENCE_SECONDS {
                let seconds = PATIENCE_SECONDS;
                return Err(ProducerError::NoAnswer { topic: topic.to_owned(), partition, seconds });
            }
        }
        for (offset, record) in records.iter() {
            if offset.get() >= upto {
                break;
            }
            let (Some(source), Some(position)) = (record.header(SOURCE_HEADER), record.header(POSITION_HEADER)) else {
                continue;
            };
            let position = std::str::from_utf8(position).ok().and_then(|p| p.parse().ok());
            let (Ok(source), Some(position)) = (std::str::from_utf8(source), position) else { continue };
            match last.get_mut(source) {
                Some(known) => *known = position,
                None => drop(last.insert(source.to_owned(), position)),
            }
        }
    }
    Ok(last)
}
