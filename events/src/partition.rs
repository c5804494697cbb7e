//! Which partition a key belongs to.

use crate::Partition;

/// The partition of `key` among `partitions`: murmur2, as Apache Kafka's Java producer does it,
/// so that our records and those of other producers of the same topic meet.
///
/// # Panics
/// When `partitions` is 0.
pub fn partition_for_key(key: &[u8], partitions: u32) -> Partition {
    let positive = murmur2::murmur2(key, murmur2::KAFKA_SEED) & 0x7fff_ffff;
    Partition::new(positive % partitions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_land_where_the_java_client_puts_them() {
        // Hashes published in Apache Kafka's own UtilsTest for murmur2.
        for (key, hash) in
            [("21", -973_932_308_i32), ("foobar", -790_332_482), ("a-little-bit-long-string", -985_981_536)]
        {
            let expected = (hash & 0x7fff_ffff) as u32 % 7;
            assert_eq!(partition_for_key(key.as_bytes(), 7), Partition::new(expected), "{key}");
        }
    }
}
