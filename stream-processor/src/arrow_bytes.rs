//! Record batches to bytes (Arrow IPC stream) and back.

use arrow::{
    array::{ArrayRef, AsArray, RecordBatch},
    datatypes::{DataType, SchemaRef},
    error::ArrowError,
    ipc::{reader::StreamReader, writer::StreamWriter},
};
use std::sync::Arc;

/// A message of the log should not hold much more than this: brokers refuse large ones.
const PART_BYTES: usize = 512 << 10;

pub(crate) fn to_bytes(batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema())?;
    writer.write(batch)?;
    writer.into_inner()
}

/// The rows in pieces of about half a mebibyte; one piece at least, and of one row at least.
pub(crate) fn to_parts(batch: &RecordBatch) -> Result<Vec<Vec<u8>>, ArrowError> {
    let rows = batch.num_rows();
    let parts = batch.get_array_memory_size().div_ceil(PART_BYTES).clamp(1, rows.max(1));
    if parts == 1 {
        return Ok(vec![to_bytes(batch)?]);
    }
    let rows_a_part = rows.div_ceil(parts);
    let piece = |from: usize| {
        let piece = batch.slice(from, rows_a_part.min(rows - from));
        let columns: Vec<ArrayRef> = piece.columns().iter().map(own_bytes).collect();
        to_bytes(&RecordBatch::try_new(piece.schema(), columns)?)
    };
    (0..rows).step_by(rows_a_part).map(piece).collect()
}

/// A piece of a column of views holds on to the bytes of the whole: this one has its own.
fn own_bytes(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Utf8View => Arc::new(column.as_string_view().gc()),
        DataType::BinaryView => Arc::new(column.as_binary_view().gc()),
        _ => column.clone(),
    }
}

/// Reads one batch; one of other columns than `schema` is an error.
pub(crate) fn from_bytes(bytes: &[u8], schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let mut reader = StreamReader::try_new(bytes, None)?;
    let batch = reader.next().unwrap_or_else(|| Ok(RecordBatch::new_empty(schema.clone())))?;
    let same = |(a, b): (&arrow::datatypes::FieldRef, &arrow::datatypes::FieldRef)| a.data_type() == b.data_type();
    let fields = batch.schema();
    if fields.fields().len() != schema.fields().len() || !fields.fields().iter().zip(schema.fields()).all(same) {
        return Err(ArrowError::SchemaError(format!("expected the columns {schema}, found {fields}")));
    }
    RecordBatch::try_new_with_options(
        schema.clone(),
        batch.columns().to_vec(),
        &arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows())),
    )
}
