//! Avro values in the Confluent wire format to the columns of events.

use super::{DecodeError, NumberedValue, Rows};
use crate::{Reason, Refusal, RegistryError, Schemas, Subject, event_schema, structure::Structure};
use apache_avro::Schema;
use arrow::{
    array::{ArrayRef, Int32Array, RecordBatch, UInt32Array},
    compute::{cast, concat_batches, take_record_batch},
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

/// Keeps one Arrow decoder for each writer's schema it has met.
pub(super) struct AvroValues {
    schemas: Arc<Schemas>,
    writers: HashMap<u32, Result<Writer, Refusal>>,
    /// Ids that the registry did not know, and when it was asked.
    unknown: HashMap<u32, Instant>,
}

struct Writer {
    structure: Structure,
    decoder: Decoder,
}

impl AvroValues {
    pub fn new(schemas: Arc<Schemas>) -> Self {
        Self { schemas, writers: HashMap::new(), unknown: HashMap::new() }
    }

    /// Decodes the values of records. What is refused is told with the record's number.
    pub fn decode(
        &mut self,
        values: &[NumberedValue<'_>],
        refused: &mut Vec<(u32, Refusal)>,
    ) -> Result<Rows, DecodeError> {
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
            for chunk in rows.chunks(ROWS_MAX) {
                for (_, value) in chunk {
                    let taken = writer.decoder.decode(value).map_err(|e| DecodeError::Arrow(e.to_string()))?;
                    if taken != value.len() {
                        return Err(DecodeError::Arrow(format!("took {taken} of {} bytes", value.len())));
                    }
                }
                batches.push(flush(&mut writer.decoder)?);
            }
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
                Refusal::new(reason, message)
            })),
        }
    }

    fn writer(&self, id: u32) -> Result<Result<Writer, Refusal>, DecodeError> {
        let text = match self.schemas.by_id(id) {
            Ok(text) => text,
            Err(RegistryError::UnknownId(_)) => return Ok(Err(Refusal::new(Reason::UnknownSchema, ""))),
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
        Ok(build().map_err(|message| Refusal::new(Reason::IncompatibleSchema, format!("schema {id}: {message}"))))
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
