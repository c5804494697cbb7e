//! How the Parquet files of the lake are laid out, by whoever writes them: a worker, a compaction, an erasure.

use super::LakeConfig;
use parquet::{
    basic::{Compression, Encoding, ZstdLevel},
    file::properties::{EnabledStatistics, WriterProperties},
    schema::types::ColumnPath,
};

/// Ids do not repeat and times seldom do: a dictionary of them is work for nothing.
const WITHOUT_DICTIONARY: [&str; 7] =
    ["event_id", "_offset", "event_time", "_log_time", "order_id", "order_time", "last_line_time"];
/// They grow by small steps.
const GROWING: [&str; 5] = ["_offset", "event_time", "_log_time", "order_time", "last_line_time"];
/// What queries ask for one value of, and statistics of a file's range cannot exclude.
const WITH_BLOOM_FILTER: [&str; 1] = ["customer_id"];

/// Compression, encodings, statistics and Bloom filters. Events lie in the order of their arrival, which is nearly that of
/// their time: the statistics of files and row groups are what finds a span of time, the Bloom filters what finds a
/// customer.
pub fn writer_properties(config: &LakeConfig) -> WriterProperties {
    let level = ZstdLevel::try_new(config.zstd_level).unwrap_or_default();
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_max_row_group_row_count(Some(config.row_group_rows.max(1)))
        .set_max_row_group_bytes(Some((config.maintain.memory_bytes_max / 2).max(1)));
    for column in WITHOUT_DICTIONARY {
        properties = properties.set_column_dictionary_enabled(ColumnPath::from(column), false);
    }
    for column in GROWING {
        properties = properties.set_column_encoding(ColumnPath::from(column), Encoding::DELTA_BINARY_PACKED);
    }
    for column in WITH_BLOOM_FILTER {
        properties = properties.set_column_bloom_filter_enabled(ColumnPath::from(column), true);
    }
    properties.build()
}
