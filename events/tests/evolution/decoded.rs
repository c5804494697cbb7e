//! What became of records, as text.

use arrow::{
    array::Array,
    compute::cast,
    datatypes::DataType,
    util::display::{ArrayFormatter, FormatOptions},
};
use serde_json::{Map, Value, json};
use sluice_events::{Decoded, LogTime, Offset, RecordBuffer, Records};

/// The values as records of a partition.
pub fn records(values: &[Vec<u8>]) -> Records {
    let mut buffer = RecordBuffer::new();
    for value in values {
        buffer.push(LogTime::new(1_732_881_600_000), None, Some(value), &[]);
    }
    Records::contiguous(Offset::new(0), buffer)
}

/// For each record: the texts of its event without what is null, the time in milliseconds; or its dead letter.
pub fn fates(decoded: &Decoded, records: usize) -> Vec<Value> {
    let mut fates = vec![Value::Null; records];
    for record in &decoded.record_of_row {
        fates[*record as usize] = Value::Object(Map::new());
    }
    let options = FormatOptions::default();
    for (field, column) in decoded.events.schema_ref().fields().iter().zip(decoded.events.columns()) {
        let column = match field.data_type() {
            DataType::Timestamp(..) => cast(column, &DataType::Int64).unwrap(),
            _ => column.clone(),
        };
        let texts = ArrayFormatter::try_new(&column, &options).unwrap();
        for (row, record) in decoded.record_of_row.iter().enumerate().filter(|(row, _)| column.is_valid(*row)) {
            fates[*record as usize][field.name()] = texts.value(row).to_string().into();
        }
    }
    for letter in &decoded.dead_letters {
        let fate = json!({ "dead_letter": letter.reason.code(), "message": letter.message });
        let of_record = &mut fates[usize::try_from(letter.position).unwrap()];
        assert!(of_record.is_null(), "record {} is an event and a dead letter", letter.position);
        *of_record = fate;
    }
    assert!(fates.iter().all(|fate| !fate.is_null()), "a record is nothing: {fates:?}");
    fates
}
