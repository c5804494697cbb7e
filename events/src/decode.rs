//! Records to Arrow batches, and what cannot be decoded to dead letters.
//!
//! `avro` and `json` turn values into rows or refusals; here stands what is the same for both.

mod avro;
mod json;

use crate::{DeadLetter, EventFormat, Reason, RecordView, Records, Refusal, RegistryError, Schemas, Stage};
use arrow::{
    array::{Int32Array, RecordBatch},
    error::ArrowError,
};
use avro::AvroValues;
use std::sync::Arc;

/// What became of a batch of records: each is a row or a dead letter.
#[derive(Debug)]
pub struct Decoded {
    /// The events, in the order of the records; columns as in [`crate::event_schema`].
    pub events: RecordBatch,
    /// For each row, the number of its record.
    pub record_of_row: Vec<u32>,
    /// For each row, the id of the schema it was written with; 0 for JSON, which has none.
    pub schema_ids: Int32Array,
    /// What could not be decoded, in the order of the records.
    pub dead_letters: Vec<DeadLetter>,
}

/// A writer's schema whose records cannot be read as events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncompatibleSchema {
    /// Its id in the registry.
    pub id: u32,
    /// What cannot be read; names the column, where it is one column's fault.
    pub reason: String,
}

/// A record's number in its batch, and its value.
type NumberedValue<'a> = (u32, &'a [u8]);

/// The rows of a batch of values, as in [`Decoded`].
struct Rows {
    events: RecordBatch,
    record_of_row: Vec<u32>,
    schema_ids: Int32Array,
}

/// Decodes the records of event topics.
pub struct EventDecoder {
    topic: String,
    value_bytes_max: usize,
    values: Values,
}

enum Values {
    Avro(AvroValues),
    Json,
}

impl EventDecoder {
    /// A decoder for records of `topic`, whose values are written in `format`; the writers' schemas of Avro are found in
    /// `schemas`. A value of more than `value_bytes_max` bytes is a dead letter.
    pub fn new(topic: &str, format: EventFormat, schemas: Arc<Schemas>, value_bytes_max: usize) -> Self {
        let values = match format {
            EventFormat::Avro => Values::Avro(AvroValues::new(schemas)),
            EventFormat::Json => Values::Json,
        };
        Self { topic: topic.to_owned(), value_bytes_max, values }
    }

    /// Decodes the records of one partition.
    ///
    /// # Errors
    /// Only when the registry cannot be reached (retry), or Arrow refuses what has been checked before
    /// (a mistake in this program).
    pub fn decode(&mut self, partition: i32, records: &Records) -> Result<Decoded, DecodeError> {
        let mut values = Vec::with_capacity(records.len());
        let mut refused = Vec::new();
        for (i, (_, record)) in records.iter().enumerate() {
            match self.value_of(record) {
                Ok(value) => values.push((i as u32, value)),
                Err(refusal) => refused.push((i as u32, refusal)),
            }
        }
        let Rows { events, record_of_row, schema_ids } = match &mut self.values {
            Values::Avro(avro) => avro.decode(&values, &mut refused)?,
            Values::Json => json::decode(&values, &mut refused)?,
        };
        refused.sort_by_key(|(record, _)| *record);
        let dead_letters = refused
            .into_iter()
            .map(|(i, Refusal { reason, message })| {
                let why = (Stage::Decode, reason, message);
                DeadLetter::of_record(why, (&self.topic, partition), records, i as usize)
            })
            .collect();
        Ok(Decoded { events, record_of_row, schema_ids, dead_letters })
    }

    /// The writers' schemas that were found incompatible since the last call. Of all decoders with the same [`Schemas`] only
    /// the first that meets such a schema tells it, and only once: somebody should be told, but not with every record.
    pub fn take_incompatible_schemas(&mut self) -> Vec<IncompatibleSchema> {
        match &mut self.values {
            Values::Avro(avro) => avro.take_incompatible(),
            Values::Json => Vec::new(),
        }
    }

    /// The value, which is there and not too large.
    fn value_of<'a>(&self, record: RecordView<'a>) -> Result<&'a [u8], Refusal> {
        let Some(value) = record.value.filter(|v| !v.is_empty()) else {
            return Err(Refusal::new(Reason::EmptyValue, "the record has no value"));
        };
        if value.len() > self.value_bytes_max {
            let message = format!("{} bytes; at most {} are taken", value.len(), self.value_bytes_max);
            return Err(Refusal::new(Reason::TooLarge, message));
        }
        Ok(value)
    }
}

/// Why a batch of records could not be decoded at all.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The registry cannot be reached. Safe to retry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// Arrow refused what had passed the check before it: a mistake in this program, and no record's fault.
    #[error("Arrow refuses a record that was checked before: {0}")]
    Arrow(String),
}

impl From<ArrowError> for DecodeError {
    fn from(error: ArrowError) -> Self {
        Self::Arrow(error.to_string())
    }
}

#[cfg(test)]
mod tests;
