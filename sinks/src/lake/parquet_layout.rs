//! How the Parquet files of the lake are laid out, by whoever writes them: a worker, a compaction, an erasure.

use super::LakeConfig;
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
/// In a table that has a row or a few for each of them, they do not repeat; among events they do. Ids of orders follow each other
/// and so begin alike; those of customers are read far more often than written.
const KEYS: [(&str, Encoding); 2] =
    [("order_id", Encoding::DELTA_BYTE_ARRAY), ("customer_id", Encoding::DELTA_LENGTH_BYTE_ARRAY)];
const OF_EVENTS: &str = ".events";
/// What queries ask for one value of, and statistics of a file's range cannot exclude.
const WITH_BLOOM_FILTER: [&str; 1] = ["customer_id"];

/// Compression, encodings, statistics and Bloom filters of a table, by its name in SQL. Events lie in the order of their arrival, which is nearly that of
/// their time: the statistics of files and row groups are what finds a span of time, the Bloom filters what finds a
/// customer.
pub fn writer_properties(config: &LakeConfig, table: &str) -> WriterProperties {
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
    for (column, encoding) in growing.chain(keys.iter().copied()) {
        let column = ColumnPath::from(column);
        properties = properties.set_column_dictionary_enabled(column.clone(), false);
        properties = properties.set_column_encoding(column, encoding);
    }
    for column in WITH_BLOOM_FILTER {
        properties = properties.set_column_bloom_filter_enabled(ColumnPath::from(column), true);
    }
    properties.build()
}
