//! How a run of records lies in the storage: under its first offset, behind a header of fixed size.
//!
//! Key: the first offset, big-endian, so that blocks sort as they were appended.
//! Value: version (1 byte), time the log took it (8), bytes that stand before it in the partition (8), count (4),
//! then the records as [`RecordBuffer::encode`] writes them. All little-endian. The storage keeps the checksum.

use sluice_events::{LogTime, Offset, RecordBuffer};

const VERSION: u8 = 1;
const HEADER_BYTES: usize = 1 + 8 + 8 + 4;

/// What a block says of itself. In a partition, all three only grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlockHeader {
    /// When the log took the block, by its own clock: what the records say of time does not count for retention.
    pub taken_at: LogTime,
    /// Stored bytes of all earlier blocks of the partition, dropped ones included.
    pub bytes_before: u64,
    /// How many records.
    pub count: u32,
}

impl BlockHeader {
    /// Replaces `out` by the whole block.
    pub fn write(self, records: &RecordBuffer, out: &mut Vec<u8>) {
        out.clear();
        out.push(VERSION);
        out.extend_from_slice(&self.taken_at.get().to_le_bytes());
        out.extend_from_slice(&self.bytes_before.to_le_bytes());
        out.extend_from_slice(&self.count.to_le_bytes());
        records.encode(out);
    }

    /// The header of a stored block; none when it is damaged or of another version.
    pub fn read(block: &[u8]) -> Option<Self> {
        let (version, rest) = block.split_first()?;
        let (taken_at, rest) = rest.split_first_chunk::<8>()?;
        let (bytes_before, rest) = rest.split_first_chunk::<8>()?;
        let (count, _) = rest.split_first_chunk::<4>()?;
        (*version == VERSION).then_some(Self {
            taken_at: LogTime::new(i64::from_le_bytes(*taken_at)),
            bytes_before: u64::from_le_bytes(*bytes_before),
            count: u32::from_le_bytes(*count),
        })
    }
}

/// The records of a stored block; none when it is damaged.
pub(super) fn records_of(block: &[u8]) -> Option<RecordBuffer> {
    let header = BlockHeader::read(block)?;
    let records = RecordBuffer::decode(block.get(HEADER_BYTES..)?)?;
    (records.len() == header.count as usize).then_some(records)
}

/// The key of the block that starts at `base`.
pub(super) fn key_of(base: Offset) -> [u8; 8] {
    base.get().to_be_bytes()
}

/// The first offset of the block under `key`.
pub(super) fn base_of(key: &[u8]) -> Option<Offset> {
    Some(Offset::new(i64::from_be_bytes(key.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_reads_back_and_a_damaged_or_newer_one_is_refused() {
        let mut records = RecordBuffer::new();
        records.push(LogTime::new(5), Some(b"k"), Some(b"v"), &[]);
        let header = BlockHeader { taken_at: LogTime::new(77), bytes_before: 1 << 40, count: 1 };
        let mut block = vec![9; 3];
        header.write(&records, &mut block);
        assert_eq!(BlockHeader::read(&block), Some(header));
        assert_eq!(records_of(&block), Some(records));
        for cut in 0..block.len() {
            assert_eq!(records_of(&block[..cut]), None, "cut at {cut}");
        }
        block[0] = VERSION + 1;
        assert_eq!(BlockHeader::read(&block), None);
    }

    #[test]
    fn keys_sort_as_offsets_do() {
        let keys: Vec<_> = [0, 1, 255, 256, i64::MAX].map(|o| key_of(Offset::new(o))).to_vec();
        assert!(keys.is_sorted());
        assert_eq!(base_of(&keys[3]), Some(Offset::new(256)));
        assert_eq!(base_of(b"short"), None);
    }
}
