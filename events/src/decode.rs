//! Records to Arrow batches, and what cannot be decoded to dead letters.

use crate::{
    DeadLetter, Reason, RecordView, Records, RegistryError, Schemas, Stage, Subject, event_schema, structure::Structure,
};
use apache_avro::Schema;
use arrow::{
    array::{ArrayRef, Int32Array, RecordBatch, UInt32Array},
    compute::{cast, concat_batches, take_record_batch},
    error::ArrowError,
};
use arrow_avro::{
    reader::{Decoder, ReaderBuilder},
    schema::{AvroSchema, Fingerprint, FingerprintAlgorithm, SchemaStore},
};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// Rows that one Arrow decoder takes before it must be flushed.
const ROWS_MAX: usize = 1 << 16;

/// An id that the registry did not know is asked for again after this long, not with every record.
const ASK_AGAIN: Duration = Duration::from_secs(10);
/// Unknown ids remembered, at most: garbage has many.
const UNKNOWN_MAX: usize = 1_024;

/// What became of a batch of records: each is a row or a dead letter.
#[derive(Debug)]
pub struct Decoded {
    /// The events, in the order of the records; columns as in [`event_schema`].
    pub events: RecordBatch,
    /// For each row, the number of its record.
    pub record_of_row: Vec<u32>,
    /// For each row, the id of the schema it was written with.
    pub schema_ids: Int32Array,
    /// What could not be decoded, in the order of the records.
    pub dead_letters: Vec<DeadLetter>,
}

/// Decodes the records of event topics. Keeps one Arrow decoder for each writer's schema it has met.
pub struct EventDecoder {
    topic: String,
    schemas: Arc<Schemas>,
    value_bytes_max: usize,
    writers: HashMap<u32, Result<Writer, (Reason, String)>>,
    /// Ids that the registry did not know, and when it was asked.
    unknown: HashMap<u32, Instant>,
}

struct Writer {
    structure: Structure,
    decoder: Decoder,
}

impl EventDecoder {
    /// A decoder for records of `topic`. A value of more than `value_bytes_max` bytes is a dead letter.
    pub fn new(topic: &str, schemas: Arc<Schemas>, value_bytes_max: usize) -> Self {
        Self { topic: topic.to_owned(), schemas, value_bytes_max, writers: HashMap::new(), unknown: HashMap::new() }
    }

    /// Decodes the records of one partition.
    ///
    /// # Errors
    /// Only when the registry cannot be reached (retry), or Arrow refuses what the structure check has passed
    /// (a mistake in this program).
    pub fn decode(&mut self, partition: i32, records: &Records) -> Result<Decoded, DecodeError> {
        let mut dead_letters = Vec::new();
        // Rows by writer: nearly always there is one writer.
        let mut rows: Vec<(u32, Vec<u32>)> = Vec::new();
        for (i, (offset, record)) in records.iter().enumerate() {
            match self.admit(record)? {
                Ok(id) => match rows.iter_mut().find(|(known, _)| *known == id) {
                    Some((_, rows)) => rows.push(i as u32),
                    None => rows.push((id, vec![i as u32])),
                },
                Err((reason, message)) => dead_letters.push(DeadLetter {
                    stage: Stage::Decode,
                    reason,
                    message,
                    key: record.key.map(<[u8]>::to_vec),
                    value: record.value.map(<[u8]>::to_vec),
                    headers: (!record.headers.is_empty()).then(|| record.headers.to_vec()),
                    source: self.topic.clone(),
                    partition: Some(partition),
                    position: offset.get(),
                    log_time: record.time,
                }),
            }
        }
        let mut batches = Vec::new();
        let mut record_of_row = Vec::new();
        let mut ids = Vec::new();
        for (id, rows) in &rows {
            let Some(Ok(writer)) = self.writers.get_mut(id) else { continue };
            for chunk in rows.chunks(ROWS_MAX) {
                for row in chunk {
                    let value = records.get(*row as usize).value.unwrap_or_default();
                    let taken = writer.decoder.decode(value).map_err(|e| DecodeError::Arrow(e.to_string()))?;
                    if taken != value.len() {
                        return Err(DecodeError::Arrow(format!("took {taken} of {} bytes", value.len())));
                    }
                }
                batches.push(flush(&mut writer.decoder)?);
            }
            record_of_row.extend_from_slice(rows);
            ids.extend(std::iter::repeat_n(*id as i32, rows.len()));
        }
        let (events, record_of_row, ids) = in_record_order(batches, record_of_row, ids, rows.len() > 1)?;
        Ok(Decoded { events, record_of_row, schema_ids: Int32Array::from(ids), dead_letters })
    }

    /// The schema id of a value that will decode, or why it will not.
    fn admit(&mut self, record: RecordView<'_>) -> Result<Result<u32, (Reason, String)>, DecodeError> {
        let refuse = |reason, message: &str| Ok(Err((reason, message.to_owned())));
        let Some(value) = record.value.filter(|v| !v.is_empty()) else {
            return refuse(Reason::EmptyValue, "the record has no value");
        };
        if value.len() > self.value_bytes_max {
            let message = format!("{} bytes; at most {} are taken", value.len(), self.value_bytes_max);
            return Ok(Err((Reason::TooLarge, message)));
        }
        if value[0] != 0 {
            return refuse(Reason::NoMagicByte, "the first byte is not the Confluent magic byte 0");
        }
        let Some((head, body)) = value.split_first_chunk::<5>() else {
            return refuse(Reason::Truncated, "the value ends inside the schema id");
        };
        let id = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        if !self.writers.contains_key(&id) {
            let unknown = Ok(Err((Reason::UnknownSchema, format!("no schema has the id {id}"))));
            if self.unknown.get(&id).is_some_and(|asked| asked.elapsed() < ASK_AGAIN) {
                return unknown;
            }
            let writer = self.writer(id)?;
            if matches!(writer, Err((Reason::UnknownSchema, _))) {
                if self.unknown.len() >= UNKNOWN_MAX {
                    self.unknown.clear();
                }
                self.unknown.insert(id, Instant::now());
                return unknown;
            }
            self.writers.insert(id, writer);
        }
        match &self.writers[&id] {
            Err(refused) => Ok(Err(refused.clone())),
            Ok(writer) => Ok(writer.structure.check(body).map(|()| id).map_err(|reason| {
                let message = match reason {
                    Reason::Truncated => "the body ends inside a field",
                    Reason::TrailingBytes => "bytes are left after the last field",
                    Reason::UnknownEventType => "the event type's symbol is none we know",
                    Reason::BadTime => "event_time is beyond the year 9999",
                    Reason::PriceOutOfRange => "unit_price does not fit decimal(18,4)",
                    _ => "a field's bytes are not of its type",
                };
                (reason, message.to_owned())
            })),
        }
    }

    fn writer(&self, id: u32) -> Result<Result<Writer, (Reason, String)>, DecodeError> {
        let text = match self.schemas.by_id(id) {
            Ok(text) => text,
            Err(RegistryError::UnknownId(_)) => return Ok(Err((Reason::UnknownSchema, String::new()))),
            Err(error) => return Err(DecodeError::Registry(error)),
        };
        let build = || -> Result<Writer, String> {
            let schema = Schema::parse_str(&text).map_err(|e| e.to_string())?;
            self.schemas.readable_as_event(&schema)?;
            let structure = Structure::of_event(&schema)?;
            let mut store = SchemaStore::new_with_type(FingerprintAlgorithm::Id);
            let writer = AvroSchema::new(text.to_string());
            store.set(Fingerprint::Id(id), writer).map_err(|e| e.to_string())?;
            let decoder = ReaderBuilder::new()
                .with_reader_schema(AvroSchema::new(self.schemas.subject(Subject::Events).text.to_string()))
                .with_writer_schema_store(store)
                .with_active_fingerprint(Fingerprint::Id(id))
                .with_batch_size(ROWS_MAX)
                .build_decoder()
                .map_err(|e| e.to_string())?;
            Ok(Writer { structure, decoder })
        };
        Ok(build().map_err(|message| (Reason::IncompatibleSchema, format!("schema {id}: {message}"))))
    }
}

/// Why a batch of records could not be decoded at all.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The registry cannot be reached. Safe to retry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// Arrow refused what had passed the structure check: a mistake in this program, and no record's fault.
    #[error("Arrow refuses a record that passed the structure check: {0}")]
    Arrow(String),
}

impl From<ArrowError> for DecodeError {
    fn from(error: ArrowError) -> Self {
        Self::Arrow(error.to_string())
    }
}

/// Takes the decoder's rows and gives them the columns of [`event_schema`]. Texts are decoded as Utf8 and cast, which
/// copies no bytes: when arrow-avro 59 makes views itself, it makes empty texts of nulls.
fn flush(decoder: &mut Decoder) -> Result<RecordBatch, DecodeError> {
    let batch = decoder
        .flush()
        .map_err(|e| DecodeError::Arrow(e.to_string()))?
        .ok_or_else(|| DecodeError::Arrow("no rows after decoding".to_owned()))?;
    let schema = event_schema();
    let columns = schema
        .fields()
        .iter()
        .zip(batch.columns())
        .map(|(field, column)| match column.data_type() == field.data_type() {
            true => Ok(column.clone()),
            false => cast(column, field.data_type()),
        })
        .collect::<Result<Vec<ArrayRef>, _>>()?;
    Ok(RecordBatch::try_new(schema, columns)?)
}

fn in_record_order(
    mut batches: Vec<RecordBatch>,
    record_of_row: Vec<u32>,
    ids: Vec<i32>,
    several_writers: bool,
) -> Result<(RecordBatch, Vec<u32>, Vec<i32>), DecodeError> {
    let events = match batches.len() {
        0 => RecordBatch::new_empty(event_schema()),
        1 => batches.remove(0),
        _ => concat_batches(&event_schema(), &batches)?,
    };
    if !several_writers {
        return Ok((events, record_of_row, ids));
    }
    let mut order: Vec<u32> = (0..record_of_row.len() as u32).collect();
    order.sort_unstable_by_key(|row| record_of_row[*row as usize]);
    let events = take_record_batch(&events, &UInt32Array::from(order.clone()))?;
    let reorder = |i: &u32| *i as usize;
    Ok((
        events,
        order.iter().map(reorder).map(|i| record_of_row[i]).collect(),
        order.iter().map(reorder).map(|i| ids[i]).collect(),
    ))
}

#[cfg(test)]
mod tests;
