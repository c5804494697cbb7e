//! Cuts a byte stream into lines, without a copy.

use memchr::memchr;
use std::io::{self, Read};

/// Room for a line to begin with; grows up to the limit.
const BUFFER_BYTES: usize = 256 * 1024;
/// A longer line is handed out cut: a Kafka record would not hold it.
pub(crate) const LINE_BYTES_MAX: usize = 1_000_000;
/// A quoted CSV field may hold line breaks, but a record is not followed further than this.
const RECORD_LINES_MAX: u64 = 64;

/// A line, or a record of several lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    /// Number of its first line, from 1.
    pub(crate) number: u64,
    /// Without the line break at its end.
    pub(crate) bytes: &'a [u8],
    /// How many bytes of the line were passed over beyond the limit.
    pub(crate) cut_bytes: u64,
}

/// Reads lines ended by LF or CRLF; the last one may have no end. A byte order mark at the start is passed over.
pub(crate) struct Lines<R> {
    input: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    at_end: bool,
    number: u64,
    began: bool,
}

impl<R: Read> Lines<R> {
    pub(crate) fn new(input: R) -> Self {
        Self { input, buffer: vec![0; BUFFER_BYTES], start: 0, end: 0, at_end: false, number: 0, began: false }
    }

    /// The next line; none at the end.
    pub(crate) fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        self.skip_mark()?;
        let Some((length, ended)) = self.find_end(0)? else { return Ok(None) };
        self.number += 1;
        let from = self.start;
        self.start += length + usize::from(ended);
        if !ended && !self.at_end {
            return self.cut(from, length).map(Some);
        }
        let kept = length.min(LINE_BYTES_MAX);
        let bytes = trimmed(&self.buffer[from..from + kept]);
        Ok(Some(Line { number: self.number, bytes, cut_bytes: (length - kept) as u64 }))
    }

    /// The next CSV record: a line, and those after it while a quote is open. When the quote does not close
    /// soon, the first line is handed out alone, so that one stray quote does not swallow a file.
    pub(crate) fn next_record(&mut self) -> io::Result<Option<Line<'_>>> {
        self.skip_mark()?;
        let (mut length, mut lines, mut open) = (0, 0, false);
        while lines < RECORD_LINES_MAX {
            let Some((upto, ended)) = self.find_end(length)? else { break };
            let whole = ended || self.at_end;
            if !whole || upto > LINE_BYTES_MAX {
                break;
            }
            let quotes = self.buffer[self.start + length..self.start + upto].iter().filter(|b| **b == b'"').count();
            open ^= quotes % 2 == 1;
            lines += 1;
            if !open {
                let (from, number) = (self.start, self.number + 1);
                self.start += upto + usize::from(ended);
                self.number += lines;
                return Ok(Some(Line { number, bytes: trimmed(&self.buffer[from..from + upto]), cut_bytes: 0 }));
            }
            if !ended {
                break;
            }
            length = upto + 1;
        }
        self.next()
    }

    /// Where the line ends that goes on at `after` bytes from the start; whether a line break ends it. None when there is no byte.
    fn find_end(&mut self, after: usize) -> io::Result<Option<(usize, bool)>> {
        let mut seen = after;
        loop {
            if let Some(at) = memchr(b'\n', &self.buffer[self.start + seen..self.end]) {
                return Ok(Some((seen + at, true)));
            }
            seen = self.end - self.start;
            if self.at_end {
                return Ok((seen > after).then_some((seen, false)));
            }
            if seen >= LINE_BYTES_MAX {
                return Ok(Some((seen, false)));
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buffer.len() {
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

    /// Passes over the rest of a line that is too long, and hands out its head.
    fn cut(&mut self, from: usize, length: usize) -> io::Result<Line<'_>> {
        let head = self.buffer[from..from + length.min(LINE_BYTES_MAX)].to_vec();
        let mut cut_bytes = (length - head.len()) as u64;
        while let Some((more, ended)) = self.find_end(0)? {
            cut_bytes += more as u64;
            self.start += more + usize::from(ended);
            if ended {
                break;
            }
        }
        // The buffer before `start` is free: the head goes back there, or to its front when the line ended the input.
        if self.start < head.len() {
            let rest = self.buffer[self.start..self.end].to_vec();
            self.buffer.resize(self.buffer.len().max(head.len() + rest.len()), 0);
            self.buffer[head.len()..head.len() + rest.len()].copy_from_slice(&rest);
            (self.start, self.end) = (head.len(), head.len() + rest.len());
        }
        self.buffer[..head.len()].copy_from_slice(&head);
        Ok(Line { number: self.number, bytes: &self.buffer[..head.len()], cut_bytes })
    }

    fn skip_mark(&mut self) -> io::Result<()> {
        if !self.began {
            while self.end < 3 && !self.at_end {
                self.fill()?;
            }
            self.began = true;
            if self.buffer[..self.end].starts_with(b"\xef\xbb\xbf") {
                self.start = 3;
            }
        }
        Ok(())
    }
}

fn trimmed(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives few bytes at a time, as a network would.
    struct Dribble<'a>(&'a [u8]);
    impl Read for Dribble<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let take = self.0.len().min(out.len()).min(7);
            out[..take].copy_from_slice(&self.0[..take]);
            self.0 = &self.0[take..];
            Ok(take)
        }
    }

    fn all(text: &[u8], records: bool) -> Vec<(u64, Vec<u8>)> {
        let mut lines = Lines::new(Dribble(text));
        let mut found = Vec::new();
        loop {
            let line = if records { lines.next_record() } else { lines.next() };
            let Some(line) = line.unwrap() else { return found };
            found.push((line.number, line.bytes.to_vec()));
        }
    }

    fn texts(found: &[(u64, Vec<u8>)]) -> Vec<(u64, &str)> {
        found.iter().map(|(n, b)| (*n, std::str::from_utf8(b).unwrap())).collect()
    }

    #[test]
    fn line_breaks_of_both_kinds_end_a_line_and_the_mark_is_passed_over() {
        let found = all(b"\xef\xbb\xbfone\r\n\ntwo, longer than a dribble\nlast", false);
        assert_eq!(texts(&found), [(1, "one"), (2, ""), (3, "two, longer than a dribble"), (4, "last")]);
        assert!(all(b"", false).is_empty());
        assert!(all(b"\xef\xbb\xbf", true).is_empty());
    }

    #[test]
    fn an_open_quote_joins_lines_and_a_stray_one_swallows_only_its_own() {
        let found = all(b"a,\"b\nc\",d\ne\n", true);
        assert_eq!(texts(&found), [(1, "a,\"b\nc\",d"), (3, "e")]);
        let stray = format!("a,\"b\n{}", "x,y\n".repeat(100));
        let found = all(stray.as_bytes(), true);
        assert_eq!(found.len(), 101);
        assert_eq!(found[0], (1, b"a,\"b".to_vec()));
        assert_eq!(found[100], (101, b"x,y".to_vec()));
        assert_eq!(texts(&all(b"a\n\"open at the end", true)), [(1, "a"), (2, "\"open at the end")]);
    }

    #[test]
    fn a_line_beyond_the_limit_is_cut_and_the_next_one_is_whole() {
        for long in [LINE_BYTES_MAX, LINE_BYTES_MAX + 10, 4 * LINE_BYTES_MAX] {
            for tail in ["\nnext\nand one more", "\nnext\n", ""] {
                let text = format!("first\n{}{tail}", "x".repeat(long));
                let mut lines = Lines::new(text.as_bytes());
                assert_eq!(lines.next().unwrap().unwrap().bytes, b"first");
                let line = lines.next().unwrap().unwrap();
                assert!(line.bytes.len() == LINE_BYTES_MAX && line.bytes.iter().all(|b| *b == b'x'));
                assert_eq!(line.bytes.len() as u64 + line.cut_bytes, long as u64);
                assert_eq!(line.number, 2);
                let next = lines.next().unwrap().map(|l| (l.number, l.bytes.to_vec()));
                assert_eq!(next, (!tail.is_empty()).then(|| (3, b"next".to_vec())));
            }
        }
    }
}
