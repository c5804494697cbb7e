//! Cuts a byte stream into CSV records, holding no more than one of them and a buffer.

use crate::{
    content::Content,
    encoding::{Encoded, ROOM_BYTES},
    scan::{Fields, Scan, scan},
};
use memchr::memchr2;
use std::io::{self, Read};

/// Room to begin with; grows up to twice the limit of a record.
const BUFFER_BYTES: usize = 256 * 1024;
/// A longer record is no row of a shop: it is handed out cut.
pub(crate) const RECORD_BYTES_MAX: usize = 1024 * 1024;

/// What keeps a record from having fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// A quote opens in it and does not close.
    OpenQuote,
    /// It is longer than the limit, by this many bytes that were passed over.
    TooLong { passed_over: u64 },
}

/// A record as it came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    /// Number of its first line, from 1.
    pub(crate) line: u64,
    /// Without the line break at its end.
    pub(crate) bytes: &'a [u8],
    /// Its fields; of no meaning when there is a flaw.
    pub(crate) fields: &'a Fields,
    /// Why it has no fields.
    pub(crate) flaw: Option<Flaw>,
    /// Whether the file was cut off in the middle of it.
    pub(crate) is_cut: bool,
}

/// Reads records one after another.
pub(crate) struct Records<R> {
    input: Encoded<R>,
    delimiter: u8,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    at_end: bool,
    /// Number of the line at `start`.
    line: u64,
    /// Bytes and lines of the record that was handed out, to be passed over by the next call.
    handed_out: (usize, u64),
    fields: Fields,
    /// The head of a record that is too long.
    head: Vec<u8>,
}

impl<R: Read> Records<R> {
    pub(crate) fn new(input: R) -> io::Result<Self> {
        Ok(Self {
            input: Encoded::new(Content::new(input)?)?,
            delimiter: b',',
            buffer: vec![0; BUFFER_BYTES],
            start: 0,
            end: 0,
            at_end: false,
            line: 1,
            handed_out: (0, 0),
            fields: Fields::default(),
            head: Vec::new(),
        })
    }

    pub(crate) fn content(&self) -> &Content<R> {
        self.input.content()
    }

    /// Reads the record that was handed out last once more, with another delimiter. One that is too long is gone.
    pub(crate) fn again(&mut self, delimiter: u8) -> io::Result<Option<Record<'_>>> {
        self.delimiter = delimiter;
        self.handed_out = (0, 0);
        self.next()
    }

    /// The next record; none at the end.
    pub(crate) fn next(&mut self) -> io::Result<Option<Record<'_>>> {
        let (bytes, lines) = std::mem::take(&mut self.handed_out);
        self.start += bytes;
        self.line += lines;
        loop {
            if self.start == self.end && self.at_end {
                return Ok(None);
            }
            // Never looks further than the limit, so that what is a record does not depend on what the buffer holds.
            let window = (self.end - self.start).min(RECORD_BYTES_MAX + 2);
            let whole = self.at_end && self.start + window == self.end;
            let bytes = &self.buffer[self.start..self.start + window];
            let found = match scan(bytes, self.delimiter, whole, &mut self.fields) {
                Scan::More { .. } if window < RECORD_BYTES_MAX + 2 => None,
                Scan::More { first_line: Some((length, next)) } => Some((length, next, 1, true, true)),
                Scan::OpenQuote { length, next, ended } => Some((length, next, 1, ended, true)),
                Scan::Record { length, next, lines, ended } => Some((length, next, lines, ended, false)),
                Scan::More { first_line: None } => return self.cut().map(Some),
            };
            match found {
                Some((length, ..)) if length > RECORD_BYTES_MAX => return self.cut().map(Some),
                Some((length, next, lines, ended, open)) => {
                    self.handed_out = (next, lines);
                    let is_cut = !ended && self.content().cut().is_some();
                    return Ok(Some(Record {
                        line: self.line,
                        bytes: &self.buffer[self.start..self.start + length],
                        fields: &self.fields,
                        flaw: open.then_some(Flaw::OpenQuote),
                        is_cut,
                    }));
                }
                None => self.fill()?,
            }
        }
    }

    /// Hands out the head of a record that is too long, and passes over its first line.
    fn cut(&mut self) -> io::Result<Record<'_>> {
        self.head.clear();
        let mut passed_over = 0;
        let ended = loop {
            let bytes = &self.buffer[self.start..self.end];
            let at = memchr2(b'\n', b'\r', bytes);
            let upto = at.unwrap_or(bytes.len());
            let kept = upto.min(RECORD_BYTES_MAX - self.head.len());
            self.head.extend_from_slice(&bytes[..kept]);
            passed_over += (upto - kept) as u64;
            self.start += upto;
            if at.is_some() {
                if self.start + 1 == self.end && !self.at_end {
                    self.fill()?;
                }
                let is_pair = self.buffer[self.start..self.end].starts_with(b"\r\n");
                self.start += if is_pair { 2 } else { 1 };
                break true;
            }
            if self.at_end {
                break false;
            }
            self.fill()?;
        };
        self.line += 1;
        let flaw = Some(Flaw::TooLong { passed_over });
        let is_cut = !ended && self.content().cut().is_some();
        Ok(Record { line: self.line - 1, bytes: &self.head, fields: &self.fields, flaw, is_cut })
    }

    fn fill(&mut self) -> io::Result<()> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.buffer.len() - self.end < ROOM_BYTES {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        loop {
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(0) => self.at_end = true,
                Ok(read) => self.end += read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            }
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests;
