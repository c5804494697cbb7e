//! Records of one partition, column by column: no allocation per record.

use crate::{LogTime, Offset};

/// Records on their way into or out of a log: keys, values and headers in three contiguous buffers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RecordBuffer {
    times: Vec<i64>,
    flags: Vec<u8>,
    key_ends: Vec<u32>,
    value_ends: Vec<u32>,
    header_ends: Vec<u32>,
    keys: Vec<u8>,
    values: Vec<u8>,
    headers: Vec<u8>,
}

const NO_KEY: u8 = 1;
const NO_VALUE: u8 = 2;

/// One record, borrowed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RecordView<'a> {
    /// When the log took it (for a record not yet appended: when it was made).
    pub time: LogTime,
    /// Message key.
    pub key: Option<&'a [u8]>,
    /// Message value; none is a tombstone.
    pub value: Option<&'a [u8]>,
    /// All headers, encoded; read them with [`RecordView::header_pairs`].
    pub headers: &'a [u8],
}

impl<'a> RecordView<'a> {
    /// The headers, in order.
    pub fn header_pairs(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        let mut rest = self.headers;
        std::iter::from_fn(move || {
            let name = take_chunk(&mut rest)?;
            let value = take_chunk(&mut rest)?;
            Some((std::str::from_utf8(name).unwrap_or("?"), value))
        })
    }

    /// The value of the first header of this name.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.header_pairs().find(|(n, _)| *n == name).map(|(_, v)| v)
    }
}

fn take_chunk<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, tail) = rest.split_first_chunk::<4>()?;
    let (chunk, tail) = tail.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    *rest = tail;
    Some(chunk)
}

impl RecordBuffer {
    /// An empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a record.
    pub fn push(&mut self, time: LogTime, key: Option<&[u8]>, value: Option<&[u8]>, headers: &[(&str, &[u8])]) {
        for (name, value) in headers {
            for chunk in [name.as_bytes(), value] {
                self.headers.extend_from_slice(&(chunk.len() as u32).to_le_bytes());
                self.headers.extend_from_slice(chunk);
            }
        }
        self.push_encoded(time, key, value);
    }

    /// Appends a copy of a record as another buffer holds it.
    pub fn push_view(&mut self, record: RecordView<'_>) {
        self.headers.extend_from_slice(record.headers);
        self.push_encoded(record.time, record.key, record.value);
    }

    fn push_encoded(&mut self, time: LogTime, key: Option<&[u8]>, value: Option<&[u8]>) {
        self.times.push(time.get());
        self.flags.push(if key.is_none() { NO_KEY } else { 0 } | if value.is_none() { NO_VALUE } else { 0 });
        self.keys.extend_from_slice(key.unwrap_or_default());
        self.values.extend_from_slice(value.unwrap_or_default());
        self.key_ends.push(self.keys.len() as u32);
        self.value_ends.push(self.values.len() as u32);
        self.header_ends.push(self.headers.len() as u32);
    }

    /// How many records.
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// Bytes of keys, values and headers together.
    pub fn payload_bytes(&self) -> usize {
        self.keys.len() + self.values.len() + self.headers.len()
    }

    /// Empties the buffer and keeps its memory.
    pub fn clear(&mut self) {
        self.times.clear();
        self.flags.clear();
        self.key_ends.clear();
        self.value_ends.clear();
        self.header_ends.clear();
        self.keys.clear();
        self.values.clear();
        self.headers.clear();
    }

    /// Stamps every record with the time the log took it.
    pub fn stamp(&mut self, time: LogTime) {
        self.times.fill(time.get());
    }

    /// Record number `i`.
    ///
    /// # Panics
    /// When `i` is not below [`RecordBuffer::len`].
    pub fn get(&self, i: usize) -> RecordView<'_> {
        let part = |ends: &[u32]| if i == 0 { 0 } else { ends[i - 1] as usize }..ends[i] as usize;
        let flags = self.flags[i];
        RecordView {
            time: LogTime::new(self.times[i]),
            key: (flags & NO_KEY == 0).then(|| &self.keys[part(&self.key_ends)]),
            value: (flags & NO_VALUE == 0).then(|| &self.values[part(&self.value_ends)]),
            headers: &self.headers[part(&self.header_ends)],
        }
    }

    /// All records, in order.
    pub fn iter(&self) -> impl Iterator<Item = RecordView<'_>> {
        (0..self.len()).map(|i| self.get(i))
    }

    /// Writes the buffer as one block of bytes: count, fixed columns, then the three payloads.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.reserve(24 + self.len() * 21 + self.payload_bytes());
        for size in [self.len(), self.keys.len(), self.values.len(), self.headers.len()] {
            out.extend_from_slice(&(size as u32).to_le_bytes());
        }
        for time in &self.times {
            out.extend_from_slice(&time.to_le_bytes());
        }
        out.extend_from_slice(&self.flags);
        for ends in [&self.key_ends, &self.value_ends, &self.header_ends] {
            for end in ends {
                out.extend_from_slice(&end.to_le_bytes());
            }
        }
        for payload in [&self.keys, &self.values, &self.headers] {
            out.extend_from_slice(payload);
        }
    }

    /// Reads what [`RecordBuffer::encode`] wrote; none when the bytes are not such a block.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let mut sizes = [0usize; 4];
        for size in &mut sizes {
            let (head, tail) = rest.split_first_chunk::<4>()?;
            *size = u32::from_le_bytes(*head) as usize;
            rest = tail;
        }
        let [count, keys, values, headers] = sizes;
        let mut take = |n: usize| -> Option<&[u8]> {
            let (head, tail) = rest.split_at_checked(n)?;
            rest = tail;
            Some(head)
        };
        let times = take(count * 8)?.as_chunks::<8>().0.iter().map(|c| i64::from_le_bytes(*c)).collect();
        let flags = take(count)?.to_vec();
        let mut ends = |total: usize| -> Option<Vec<u32>> {
            let ends: Vec<u32> = take(count * 4)?.as_chunks::<4>().0.iter().map(|c| u32::from_le_bytes(*c)).collect();
            (ends.is_sorted() && ends.last().is_none_or(|e| *e as usize == total)).then_some(ends)
        };
        let (key_ends, value_ends, header_ends) = (ends(keys)?, ends(values)?, ends(headers)?);
        Some(Self {
            times,
            flags,
            key_ends,
            value_ends,
            header_ends,
            keys: take(keys)?.to_vec(),
            values: take(values)?.to_vec(),
            headers: take(headers)?.to_vec(),
        })
    }
}

/// Records as read from a partition: each with its offset, ascending, gaps allowed.
#[derive(Clone, Debug, Default)]
pub struct Records {
    offsets: Vec<i64>,
    buffer: RecordBuffer,
}

impl Records {
    /// No records.
    pub fn new() -> Self {
        Self::default()
    }

    /// A block whose first record is at `base` and whose offsets have no gap.
    pub fn contiguous(base: Offset, buffer: RecordBuffer) -> Self {
        let offsets = (base.get()..base.get() + buffer.len() as i64).collect();
        Self { offsets, buffer }
    }

    /// Appends one record read from a log.
    pub fn push(&mut self, offset: Offset, record: RecordView<'_>) {
        self.offsets.push(offset.get());
        self.buffer.push_view(record);
    }

    /// Appends one record whose headers are not encoded yet.
    pub fn push_with_headers(
        &mut self,
        offset: Offset,
        time: LogTime,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, &[u8])],
    ) {
        self.offsets.push(offset.get());
        self.buffer.push(time, key, value, headers);
    }

    /// How many records.
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// Offset of record number `i`.
    pub fn offset(&self, i: usize) -> Offset {
        Offset::new(self.offsets[i])
    }

    /// Offset of the last record, if any.
    pub fn last_offset(&self) -> Option<Offset> {
        self.offsets.last().map(|o| Offset::new(*o))
    }

    /// Record number `i`.
    pub fn get(&self, i: usize) -> RecordView<'_> {
        self.buffer.get(i)
    }

    /// All records with their offsets, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Offset, RecordView<'_>)> {
        (0..self.len()).map(|i| (self.offset(i), self.get(i)))
    }

    /// Bytes of keys, values and headers together.
    pub fn payload_bytes(&self) -> usize {
        self.buffer.payload_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_reads_back_as_written_and_damage_is_seen() {
        let mut buffer = RecordBuffer::new();
        buffer.push(LogTime::new(7), Some(b"k"), Some(b"value"), &[("source", b"f"), ("position", b"12")]);
        buffer.push(LogTime::new(-8), None, None, &[]);
        buffer.push(LogTime::new(9), Some(b""), Some(b""), &[]);
        let mut bytes = Vec::new();
        buffer.encode(&mut bytes);
        let back = RecordBuffer::decode(&bytes).unwrap();
        assert_eq!(back, buffer);
        assert_eq!(back.get(0).header("position"), Some(&b"12"[..]));
        assert_eq!(back.get(1).key, None);
        assert_eq!(back.get(2).key, Some(&b""[..]));
        for cut in 0..bytes.len() {
            assert_eq!(RecordBuffer::decode(&bytes[..cut]), None, "cut at {cut}");
        }
    }
}
