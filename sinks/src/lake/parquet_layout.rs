//! How the Parquet files of the lake are laid out, by whoever writes them: a worker, a compaction, an erasure.

use super::LakeConfig;
use arrow::datatypes::{DataType, Schema};
use parquet::{
    basic::{Compression, Encoding, ZstdLevel},
    file::properties::{EnabledStatistics, WriterProperties},
    schema::types::ColumnPath,
};

/// Ids of events and sums of money seldom repeat: a dictionary of them is work for nothing.
const WITHOUT_DICTIONARY: [&str; 3] = ["event_id", "order_id", "amount"];
/// They grow by small steps, or are the same in many rows.
const GROWING: [&str; 7] =
    ["_offset", "event_time", "_log_time", "order_time", "last_line_time", "order_date", "lines"];
/// They repeat among events, not so where a row is of a customer or an order. Ids of orders follow each other and so begin
/// alike; those of customers are read far more often than written.
const KEYS: [(&str, Encoding); 2] =
    [("order_id", Encoding::DELTA_BYTE_ARRAY), ("customer_id", Encoding::DELTA_LENGTH_BYTE_ARRAY)];
const OF_EVENTS: &str = ".events";
/// What queries ask for one value of, and statistics of a file's range cannot exclude.
const WITH_BLOOM_FILTER: [&str; 1] = ["customer_id"];

/// Whether Parquet has values of a type as whole numbers.
fn is_whole_number(of: &DataType) -> bool {
    of.is_integer() || matches!(of, DataType::Date32 | DataType::Timestamp(..))
}

/// Compression, encodings, statistics and Bloom filters of a table, by its name in SQL and its columns. Events lie in the
/// order of their arrival, which is nearly that of their time: the statistics of files and row groups are what finds a span
/// of time, the Bloom filters what finds a customer.
pub fn writer_properties(config: &LakeConfig, table: &str, schema: &Schema) -> WriterProperties {
    let level = ZstdLevel::try_new(config.zstd_level).unwrap_or_default();
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_max_row_group_row_count(Some(config.row_group_rows.max(1)))
        .set_max_row_group_bytes(Some((config.maintain.memory_bytes_max / 2).max(1)));
    for column in WITHOUT_DICTIONARY {
        properties = properties.set_column_dictionary_enabled(ColumnPath::from(column), false);
    }
    let keys: &[(&str, Encoding)] = if table.ends_with(OF_EVENTS) { &[] } else { &KEYS };
    let growing = GROWING.iter().map(|column| (*column, Encoding::DELTA_BINARY_PACKED));
    // A user's table may have another type under such a name: an encoding that does not fit it cannot be written.
    let fits = |(column, encoding): &(&str, Encoding)| {
        schema.field_with_name(column).is_ok_and(|field| match encoding {
            Encoding::DELTA_BINARY_PACKED => is_whole_number(field.data_type()),
            _ => field.data_type().is_string(),
        })
    };
    for (column, encoding) in growing.chain(keys.iter().copied()).filter(fits) {
        let column = ColumnPath::from(column);
        properties = properties.set_column_dictionary_enabled(column.clone(), false);
        properties = properties.set_column_encoding(column, encoding);
    }
    for column in WITH_BLOOM_FILTER {
        properties = properties.set_column_bloom_filter_enabled(ColumnPath::from(column), true);
    }
    properties.build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lake::tests::shipped;
    use arrow::{
        array::{Int32Array, RecordBatch},
        compute::cast,
        datatypes::{Field, TimeUnit},
    };
    use parquet::arrow::ArrowWriter;
    use std::sync::Arc;

    /// The rows of all named columns, of one type, written and read again.
    fn there_and_back(table: &str, of: &DataType) {
        let numbers = Int32Array::from(vec![Some(7), None, Some(3)]);
        let names = GROWING.iter().chain(&WITHOUT_DICTIONARY).copied().chain(["customer_id"]);
        let fields: Vec<Field> = names.map(|name| Field::new(name, of.clone(), true)).collect();
        let columns = vec![cast(&numbers, of).unwrap(); fields.len()];
        let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
        let mut file = Vec::new();
        let properties = writer_properties(&shipped(), table, &rows.schema());
        let mut writer = ArrowWriter::try_new(&mut file, rows.schema(), Some(properties)).unwrap();
        writer.write(&rows).unwrap();
        writer.close().unwrap();
        let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(bytes::Bytes::from(file), 10);
        assert_eq!(reader.unwrap().next().unwrap().unwrap(), rows, "{table}: {of}");
    }

    #[test]
    fn columns_of_these_names_are_written_whatever_their_type() {
        let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let money = DataType::Decimal128(38, 4);
        let types =
            [DataType::Utf8, DataType::Int64, DataType::Int32, DataType::Date32, DataType::Float64, time, money];
        for of in types.iter().chain(&[DataType::Boolean, DataType::Utf8View]) {
            ["silver.events", "gold.fact_orders"].into_iter().for_each(|table| there_and_back(table, of));
        }
    }
}
