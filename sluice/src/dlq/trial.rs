//! What the stream would say of a letter's record now: its own decoder, its own rules and expectations, the settings and schemas of now.

use super::{
    decide::{Candidate, Trial},
    letters::Letter,
};
use crate::{Config, admission::Admission, lake_tables::checked_tables};
use anyhow::Result;
use arrow::array::AsArray;
use sluice_events::{
    EventDecoder, EventEncoder, LogTime, Offset, Reason, Records, Refusal, Schemas, Stage, partition_for_key,
};
use sluice_producer::fields_of_line;
use sluice_quality::Quarantine;
use std::sync::Arc;

const LOADED: &str = "a row of a batch file is no event: mend the file and run `sluice load FILE` again";
const ANSWERED: &str = "an answer of a feed is no event: its API is asked again by itself";
const CSV: &str = "a CSV record means nothing without its header: put the header and the mended record into a file of \
                   their own, and run `sluice produce replay FILE`";
const CUT: &str = "only the head of the line was kept: put the mended line into a file of its own, and run \
                   `sluice produce replay FILE`";
const ERASED: &str = "its bytes were erased, because they were about a person who asked for it";

/// Tries records as the stream would.
pub(crate) struct Judge {
    topic: String,
    partitions: u32,
    admission: Admission,
    records: EventDecoder,
    /// Writes a line's event for the topic.
    encoder: EventEncoder,
    /// A line's event as the topic would hold it, by the schemas that sluice ships: those of the topic may not be
    /// registered yet.
    lines: EventDecoder,
    line_encoder: EventEncoder,
}

/// Records of letters, and whose they are.
#[derive(Default)]
struct Batch {
    records: Records,
    letter_of: Vec<usize>,
}

impl Batch {
    fn push(&mut self, letter: usize, now: LogTime, key: Option<&[u8]>, value: Option<&[u8]>) {
        self.records.push_with_headers(Offset::new(self.letter_of.len() as i64), now, key, value, &[]);
        self.letter_of.push(letter);
    }
}

impl Judge {
    /// For the topic of events, which has that many partitions.
    pub fn new(config: &Config, schemas: &Arc<Schemas>, partitions: u32) -> Result<Self> {
        let (topic, format) = (&config.topics.events, config.topics.events_format);
        let shipped = Arc::new(Schemas::shipped());
        let bytes_max = config.process.value_bytes_max;
        let expectations = sluice_quality::compile(&config.quality, &checked_tables())?;
        Ok(Self {
            topic: topic.clone(),
            partitions,
            admission: Admission::new(config.time.validation(), Quarantine::of(&expectations)),
            records: EventDecoder::new(topic, format, schemas.clone(), bytes_max),
            encoder: EventEncoder::new(format, schemas),
            line_encoder: EventEncoder::new(format, &shipped),
            lines: EventDecoder::new(topic, format, shipped, bytes_max),
        })
    }

    /// Whether a record of the log is an event that the stream accepts, were it no duplicate: their ids, and the numbers of
    /// the records.
    ///
    /// # Errors
    /// When the schema registry does not answer.
    pub fn accepted(&mut self, partition: u32, records: &Records) -> Result<Vec<(u32, String)>> {
        let decoded = self.records.decode(partition as i32, records)?;
        let time = |row: usize| records.get(decoded.record_of_row[row] as usize).time;
        let refused: Vec<usize> =
            self.admission.check(&decoded.events, time).validation.refused.into_iter().map(|(row, _, _)| row).collect();
        let ids = decoded.events.column(0).as_string_view();
        let rows = decoded.record_of_row.iter().enumerate().filter(|(row, _)| refused.binary_search(row).is_err());
        Ok(rows.map(|(row, record)| (*record, ids.value(row).to_owned())).collect())
    }

    /// Tries each letter, as if the log took it now.
    ///
    /// # Errors
    /// When the schema registry does not answer.
    pub fn try_all(&mut self, letters: &[Letter], now: LogTime) -> Result<Vec<Trial>> {
        let mut trials: Vec<Option<Trial>> = vec![None; letters.len()];
        let (mut of_topic, mut of_files) = (Batch::default(), Batch::default());
        // What would be sent: key and value of a line's event are made here, those of a record are its own.
        let mut sent: Vec<(Option<Vec<u8>>, Vec<u8>)> = vec![Default::default(); letters.len()];
        for (i, Letter { dead, .. }) in letters.iter().enumerate() {
            let value = dead.value.as_deref();
            match dead.stage {
                Stage::Load => trials[i] = Some(Trial::Cannot(LOADED)),
                Stage::Feed => trials[i] = Some(Trial::Cannot(ANSWERED)),
                _ if value.is_none() && dead.message == "erased" => trials[i] = Some(Trial::Cannot(ERASED)),
                Stage::Replay if dead.reason == Reason::TooLarge => trials[i] = Some(Trial::Cannot(CUT)),
                Stage::Replay => match fields_of_line(&dead.source, value.unwrap_or_default()) {
                    None => trials[i] = Some(Trial::Cannot(CSV)),
                    Some(fields) => match fields.and_then(|f| self.line(&f, &mut sent[i])) {
                        Err(refusal) => trials[i] = Some(Trial::Refused(refusal)),
                        Ok(checked) => of_files.push(i, now, sent[i].0.as_deref(), Some(&checked)),
                    },
                },
                Stage::Decode | Stage::Validate => {
                    of_topic.push(i, now, dead.key.as_deref(), value);
                    sent[i] = (dead.key.clone(), dead.value.clone().unwrap_or_default());
                }
            }
        }
        for (decoder, batch) in [(&mut self.records, &of_topic), (&mut self.lines, &of_files)] {
            let decoded = decoder.decode(0, &batch.records)?;
            for refused in decoded.dead_letters {
                let letter = batch.letter_of[refused.position as usize];
                trials[letter] = Some(Trial::Refused(Refusal::new(refused.reason, refused.message)));
            }
            for (row, reason, message) in self.admission.check(&decoded.events, |_| now).validation.refused {
                let letter = batch.letter_of[decoded.record_of_row[row] as usize];
                trials[letter] = Some(Trial::Refused(Refusal::new(reason, message)));
            }
            let ids = decoded.events.column(0).as_string_view();
            for (row, record) in decoded.record_of_row.iter().enumerate() {
                let letter = batch.letter_of[*record as usize];
                if trials[letter].is_none() {
                    let (key, value) = std::mem::take(&mut sent[letter]);
                    let partition = partition_of(&letters[letter], &self.topic, key.as_deref(), self.partitions);
                    let event_id = ids.value(row).to_owned();
                    trials[letter] = Some(Trial::Good(Candidate { event_id, partition, key, value }));
                }
            }
        }
        Ok(trials.into_iter().flatten().collect())
    }

    /// The event of a line: key and value to send, and the value to try.
    fn line(
        &self,
        fields: &sluice_events::EventFields<'_>,
        (key, value): &mut (Option<Vec<u8>>, Vec<u8>),
    ) -> Result<Vec<u8>, Refusal> {
        let event = fields.event()?;
        *key = Some(event.key().as_bytes().to_vec());
        self.encoder.encode(&event, value);
        let mut checked = Vec::new();
        self.line_encoder.encode(&event, &mut checked);
        Ok(checked)
    }
}

/// Where the record belongs: in the partition it came from, where its producer would put its twin and the stream looks
/// for one; else where its key belongs.
fn partition_of(letter: &Letter, topic: &str, key: Option<&[u8]>, partitions: u32) -> u32 {
    let from = letter.dead.partition.filter(|_| letter.dead.source == topic).and_then(|p| u32::try_from(p).ok());
    from.filter(|p| *p < partitions).unwrap_or_else(|| partition_for_key(key.unwrap_or_default(), partitions).get())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_events::DeadLetter;

    fn letter(source: &str, partition: Option<i32>) -> Letter {
        let dead = DeadLetter {
            stage: Stage::Decode,
            reason: Reason::Truncated,
            message: String::new(),
            key: None,
            value: None,
            headers: None,
            source: source.to_owned(),
            partition,
            position: 0,
            log_time: LogTime::new(0),
        };
        Letter { name: String::new(), dead }
    }

    #[test]
    fn a_record_goes_back_to_its_partition_and_else_to_that_of_its_key() {
        let by_key = partition_for_key(b"c1", 4).get();
        assert_eq!(partition_of(&letter("events", Some(3)), "events", Some(b"c1"), 4), 3);
        for (source, partition) in [("old-events", Some(3)), ("events", Some(9)), ("a.ndjson", None)] {
            assert_eq!(partition_of(&letter(source, partition), "events", Some(b"c1"), 4), by_key);
        }
    }
}
