//! Record batches to bytes (Arrow IPC stream) and back.

use arrow::{
    array::RecordBatch,
    datatypes::SchemaRef,
    error::ArrowError,
    ipc::{reader::StreamReader, writer::StreamWriter},
};

pub(crate) fn to_bytes(batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema())?;
    writer.write(batch)?;
    writer.into_inner()
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
    RecordBatch::try_new(schema.clone(), batch.columns().to_vec())
}
