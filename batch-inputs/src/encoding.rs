//! Text of any of the encodings that such files come in, as bytes in which ASCII means ASCII.
//!
//! UTF-16 is told by its byte order mark, or by the zero beside the first letter, and becomes UTF-8. Everything else
//! passes as it is, without a UTF-8 mark; [`Decoded`] then reads each record as UTF-8, and one that is not as
//! Windows-1252. So a file of Windows-1252 is read as such, and in a UTF-8 file one broken byte spoils one record's
//! accents and not the whole file's.

use crate::content::Content;
use encoding_rs::{CoderResult, Decoder, UTF_16BE, UTF_16LE, WINDOWS_1252};
use std::io::{self, Read};

const BUFFER_BYTES: usize = 16 * 1024;
/// The least room that [`Encoded::read`] needs: a decoder writes whole characters.
pub(crate) const ROOM_BYTES: usize = 64;

/// The content of a file, its bytes read as UTF-16 where they are.
pub(crate) struct Encoded<R> {
    content: Content<R>,
    /// The first bytes, looked at and not yet passed on.
    head: Vec<u8>,
    utf16: Option<Utf16>,
}

struct Utf16 {
    decoder: Decoder,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    at_end: bool,
    finished: bool,
}

impl<R: Read> Encoded<R> {
    pub(crate) fn new(mut content: Content<R>) -> io::Result<Self> {
        let mut head = Vec::new();
        content.by_ref().take(3).read_to_end(&mut head)?;
        let encoding = match head[..] {
            [0xff, 0xfe, ..] => Some(UTF_16LE),
            [0xfe, 0xff, ..] => Some(UTF_16BE),
            [letter, 0, ..] if letter != 0 => Some(UTF_16LE),
            [0, letter, ..] if letter != 0 => Some(UTF_16BE),
            _ => None,
        };
        let utf16 = encoding.map(|encoding| Utf16 {
            decoder: encoding.new_decoder_with_bom_removal(),
            buffer: vec![0; BUFFER_BYTES],
            start: 0,
            end: 0,
            at_end: false,
            finished: false,
        });
        if head == b"\xef\xbb\xbf" {
            head.clear();
        }
        Ok(Self { content, head, utf16 })
    }

    pub(crate) fn content(&self) -> &Content<R> {
        &self.content
    }

    fn pass(head: &mut Vec<u8>, content: &mut Content<R>, out: &mut [u8]) -> io::Result<usize> {
        if head.is_empty() {
            return content.read(out);
        }
        let taken = head.len().min(out.len());
        out[..taken].copy_from_slice(&head[..taken]);
        head.drain(..taken);
        Ok(taken)
    }
}

impl<R: Read> Read for Encoded<R> {
    /// `out` has room for at least [`ROOM_BYTES`].
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        debug_assert!(out.len() >= ROOM_BYTES);
        let Some(utf16) = &mut self.utf16 else { return Self::pass(&mut self.head, &mut self.content, out) };
        while !utf16.finished {
            let input = &utf16.buffer[utf16.start..utf16.end];
            let (result, taken, written, _) = utf16.decoder.decode_to_utf8(input, out, utf16.at_end);
            utf16.start += taken;
            utf16.finished = utf16.at_end && result == CoderResult::InputEmpty;
            if written > 0 {
                return Ok(written);
            }
            if !utf16.at_end {
                let read = Self::pass(&mut self.head, &mut self.content, &mut utf16.buffer)?;
                (utf16.start, utf16.end, utf16.at_end) = (0, read, read == 0);
            }
        }
        Ok(0)
    }
}

/// A record's text and where its fields end in it.
#[derive(Default)]
pub(crate) struct Decoded {
    text: String,
    ends: Vec<usize>,
}

impl Decoded {
    /// Reads a record's unquoted bytes, whose fields end at `ends`; says whether they had to be read as Windows-1252.
    pub(crate) fn read(&mut self, bytes: &[u8], ends: &[usize]) -> bool {
        self.text.clear();
        self.ends.clear();
        if let Ok(text) = std::str::from_utf8(bytes) {
            self.text.push_str(text);
            self.ends.extend_from_slice(ends);
            // A broken character may span two fields and be whole only together.
            if ends.iter().all(|end| text.is_char_boundary(*end)) {
                return false;
            }
            self.text.clear();
            self.ends.clear();
        }
        let mut start = 0;
        for end in ends {
            self.text.push_str(&WINDOWS_1252.decode_without_bom_handling(&bytes[start..*end]).0);
            self.ends.push(self.text.len());
            start = *end;
        }
        true
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn field(&self, at: usize) -> &str {
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.text[start..self.ends[at]]
    }

    pub(crate) fn fields(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).map(|at| self.field(at))
    }
}

/// A whole record, as it came, as text.
pub(crate) fn record_text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => WINDOWS_1252.decode_without_bom_handling(bytes).0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8]) -> Vec<u8> {
        let mut encoded = Encoded::new(Content::new(bytes).unwrap()).unwrap();
        let (mut text, mut buffer) = (Vec::new(), [0; ROOM_BYTES]);
        loop {
            match encoded.read(&mut buffer).unwrap() {
                0 => return text,
                read => text.extend_from_slice(&buffer[..read]),
            }
        }
    }

    #[test]
    fn marks_are_taken_off_and_utf_16_becomes_utf_8() {
        let text = "nom,prix\nZoé,12 €\n😀\n".repeat(2000);
        let le: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let be: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        for bytes in [
            text.clone().into_bytes(),
            format!("\u{feff}{text}").into_bytes(),
            le.clone(),
            be.clone(),
            [&b"\xff\xfe"[..], &le].concat(),
            [&b"\xfe\xff"[..], &be].concat(),
        ] {
            assert!(all(&bytes) == text.as_bytes(), "{:?}", &bytes[..4]);
        }
        assert_eq!(all(b""), b"");
        assert_eq!(all(b"a"), b"a");
        assert_eq!(all(b"\xef\xbb"), b"\xef\xbb");
        assert_eq!(all(b"\xff\xfea\0b"), "a\u{fffd}".as_bytes());
    }

    #[test]
    fn a_record_that_is_not_utf_8_is_read_as_windows_1252() {
        let mut decoded = Decoded::default();
        assert!(!decoded.read("Zoéx".as_bytes(), &[4, 5]));
        assert_eq!(decoded.fields().collect::<Vec<_>>(), ["Zoé", "x"]);
        assert!(decoded.read(b"Zo\xe9\x80", &[3, 4]));
        assert_eq!(decoded.fields().collect::<Vec<_>>(), ["Zoé", "€"]);
        // Both bytes make one letter, but a delimiter stood between them.
        assert!(decoded.read(b"\xc3\xa9", &[1, 2]));
        assert_eq!(decoded.fields().collect::<Vec<_>>(), ["Ã", "©"]);
    }
}
