//! Avro values in the Confluent wire format to the columns of events.

mod columns;
mod named_types;
mod source;
mod writer_schema;

use super::{DecodeError, IncompatibleSchema, NumberedValue, Rows};
use crate::{Reason, Refusal, RegistryError, Schemas, Subject, event_schema, structure::Fault};
use arrow::{
    array::{Int32Array, RecordBatch, UInt32Array},
    compute::{concat_batches, take_record_batch},
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
use writer_schema::WriterSchema;

/// Rows that one Arrow decoder takes before it must be flushed.
const ROWS_MAX: usize = 1 << 16;

/// An id that the registry did not know is asked for again after this long, not with every record.
const ASK_AGAIN: Duration = Duration::from_secs(10);
/// Unknown ids remembered, at most: garbage has many.
const UNKNOWN_MAX: usize = 1_024;

/// Keeps one Arrow decoder for each writer's schema it has met.
pub(super) struct AvroValues {
    schemas: Arc<Schemas>,
    writers: HashMap<u32, Result<Writer, Refusal>>,
    /// Ids that the registry did not know, and when it was asked.
    unknown: HashMap<u32, Instant>,
    /// Found since it was last asked for.
    incompatible: Vec<IncompatibleSchema>,
}

struct Writer {
    schema: WriterSchema,
    decoder: Decoder,
    /// The values of this batch without what is no column of ours; none when the writer has no such columns.
    kept: Option<Kept>,
}

/// Values one after the other.
#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    /// Where each value ends.
    ends: Vec<usize>,
}

impl AvroValues {
    pub fn new(schemas: Arc<Schemas>) -> Self {
        Self { schemas, writers: HashMap::new(), unknown: HashMap::new(), incompatible: Vec::new() }
    }

    pub fn take_incompatible(&mut self) -> Vec<IncompatibleSchema> {
        std::mem::take(&mut self.incompatible)
    }

    /// Decodes the values of records. What is refused is told with the record's number.
    pub fn decode(
        &mut self,
        values: &[NumberedValue<'_>],
        refused: &mut Vec<(u32, Refusal)>,
    ) -> Result<Rows, DecodeError> {
        // What a batch left that was given up because the registry was away.
        for kept in self.writers.values_mut().filter_map(|w| w.as_mut().ok()?.kept.as_mut()) {
            kept.bytes.clear();
            kept.ends.clear();
        }
        // By writer: nearly always there is one.
        let mut by_writer: Vec<(u32, Vec<NumberedValue<'_>>)> = Vec::new();
        for (record, value) in values {
            match self.admit(value)? {
                Ok(id) => match by_writer.iter_mut().find(|(known, _)| *known == id) {
                    Some((_, rows)) => rows.push((*record, *value)),
                    None => by_writer.push((id, vec![(*record, *value)])),
                },
                Err(refusal) => refused.push((*record, refusal)),
            }
        }
        let mut batches = Vec::new();
        let mut record_of_row = Vec::new();
        let mut ids = Vec::new();
        for (id, rows) in &by_writer {
            let Some(Ok(writer)) = self.writers.get_mut(id) else { continue };
            writer.decode(rows, &mut batches)?;
            record_of_row.extend(rows.iter().map(|(record, _)| *record));
            ids.extend(std::iter::repeat_n(*id as i32, rows.len()));
        }
        in_record_order(batches, record_of_row, ids, by_writer.len() > 1)
    }

    /// The schema id of a value that will decode, or why it will not.
    fn admit(&mut self, value: &[u8]) -> Result<Result<u32, Refusal>, DecodeError> {
        if value[0] != 0 {
            let message = match value[0] {
                b'{' => "the value begins as JSON does, and the topic is read as Avro",
                _ => "the first byte is not the Confluent magic byte 0",
            };
            return Ok(Err(Refusal::new(Reason::NoMagicByte, message)));
        }
        let Some((head, body)) = value.split_first_chunk::<5>() else {
            return Ok(Err(Refusal::new(Reason::Truncated, "the value ends inside the schema id")));
        };
        let id = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        if !self.writers.contains_key(&id) {
            let unknown = Ok(Err(Refusal::new(Reason::UnknownSchema, format!("no schema has the id {id}"))));
            if self.unknown.get(&id).is_some_and(|asked| asked.elapsed() < ASK_AGAIN) {
                return unknown;
            }
            let writer = self.writer(id)?;
            if matches!(&writer, Err(refusal) if refusal.reason == Reason::UnknownSchema) {
                if self.unknown.len() >= UNKNOWN_MAX {
                    self.unknown.clear();
                }
                self.unknown.insert(id, Instant::now());
                return unknown;
            }
            self.writers.insert(id, writer);
        }
        match self.writers.get_mut(&id) {
            Some(Ok(writer)) => Ok(writer.check(head, body).map(|()| id)),
            Some(Err(refused)) => Ok(Err(refused.clone())),
            None => Err(DecodeError::Arrow(format!("schema id {id} was forgotten"))),
        }
    }

    fn writer(&mut self, id: u32) -> Result<Result<Writer, Refusal>, DecodeError> {
        let text = match self.schemas.by_id(id) {
            Ok(text) => text,
            Err(RegistryError::UnknownId(_)) => return Ok(Err(Refusal::new(Reason::UnknownSchema, ""))),
            Err(error) => return Err(DecodeError::Registry(error)),
        };
        Ok(Writer::new(id, &text, &self.schemas).map_err(|reason| {
            let refusal = Refusal::new(Reason::IncompatibleSchema, format!("schema id {id}: {reason}"));
            if self.schemas.first_found_incompatible(id) {
                self.incompatible.push(IncompatibleSchema { id, reason });
            }
            refusal
        }))
    }
}

impl Writer {
    fn new(id: u32, text: &str, schemas: &Schemas) -> Result<Self, String> {
        let schema = WriterSchema::of_event(text, &schemas.subject(Subject::Events).schema)?;
        let mut store = SchemaStore::new_with_type(FingerprintAlgorithm::Id);
        store.set(Fingerprint::Id(id), AvroSchema::new(schema.kept.to_string())).map_err(|e| e.to_string())?;
        let decoder = ReaderBuilder::new()
            .with_writer_schema_store(store)
            .with_active_fingerprint(Fingerprint::Id(id))
            .with_batch_size(ROWS_MAX)
            .build_decoder()
            .map_err(|e| e.to_string())?;
        let kept = schema.has_unknown_columns().then(Kept::default);
        Ok(Self { schema, decoder, kept })
    }

    /// Whether the body will decode.
    fn check(&mut self, head: &[u8], body: &[u8]) -> Result<(), Refusal> {
        let Some(kept) = &mut self.kept else { return self.schema.structure.check(body, None).map_err(refusal) };
        let start = kept.bytes.len();
        kept.bytes.extend_from_slice(head);
        match self.schema.structure.check(body, Some(&mut kept.bytes)) {
            Ok(()) => {
                kept.ends.push(kept.bytes.len());
                Ok(())
            }
            Err(fault) => {
                kept.bytes.truncate(start);
                Err(refusal(fault))
            }
        }
    }

    /// Decodes values that were checked.
    fn decode(&mut self, rows: &[NumberedValue<'_>], batches: &mut Vec<RecordBatch>) -> Result<(), DecodeError> {
        for (i, chunk) in rows.chunks(ROWS_MAX).enumerate() {
            for (j, (_, value)) in chunk.iter().enumerate() {
                let value = self.kept.as_ref().map_or(*value, |kept| kept.value(i * ROWS_MAX + j));
                let taken = self.decoder.decode(value).map_err(|e| DecodeError::Arrow(e.to_string()))?;
                if taken != value.len() {
                    return Err(DecodeError::Arrow(format!("took {taken} of {} bytes", value.len())));
                }
            }
            let decoded = self
                .decoder
                .flush()
                .map_err(|e| DecodeError::Arrow(e.to_string()))?
                .ok_or_else(|| DecodeError::Arrow("no rows after decoding".to_owned()))?;
            batches.push(columns::ours(&decoded, &self.schema.columns)?);
        }
        Ok(())
    }
}

impl Kept {
    fn value(&self, i: usize) -> &[u8] {
        let start = i.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[i]]
    }
}

fn refusal(fault: Fault<'_>) -> Refusal {
    let what = match fault.reason {
        Reason::Truncated => "the body ends inside it",
        Reason::UnknownEventType => "the event type is none we know",
        Reason::BadTime => "the time is beyond the year 9999",
        Reason::PriceOutOfRange => "the amount does not fit decimal(18,4) exactly",
        Reason::MissingField => "it is null, and must not be",
        _ => "its bytes are not of its type",
    };
    match fault.field {
        Some(field) => Refusal::new(fault.reason, format!("column '{field}': {what}")),
        None => Refusal::new(fault.reason, "bytes are left after the last field"),
    }
}

fn in_record_order(
    mut batches: Vec<RecordBatch>,
    record_of_row: Vec<u32>,
    ids: Vec<i32>,
    several_writers: bool,
) -> Result<Rows, DecodeError> {
    let events = match batches.len() {
        0 => RecordBatch::new_empty(event_schema()),
        1 => batches.remove(0),
        _ => concat_batches(&event_schema(), &batches)?,
    };
    if !several_writers {
        return Ok(Rows { events, record_of_row, schema_ids: Int32Array::from(ids) });
    }
    let mut order: Vec<u32> = (0..record_of_row.len() as u32).collect();
    order.sort_unstable_by_key(|row| record_of_row[*row as usize]);
    let events = take_record_batch(&events, &UInt32Array::from(order.clone()))?;
    let row_of = |i: &u32| *i as usize;
    Ok(Rows {
        events,
        record_of_row: order.iter().map(row_of).map(|row| record_of_row[row]).collect(),
        schema_ids: order.iter().map(row_of).map(|row| ids[row]).collect(),
    })
}
