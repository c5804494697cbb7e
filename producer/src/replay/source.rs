//! A file to replay: what it is called, how it is packed and written.

use crate::ProducerError;
use flate2::bufread::MultiGzDecoder;
use std::{
    cell::Cell,
    fs::File,
    io::{self, BufReader, Cursor, Read},
    path::{Path, PathBuf},
    rc::Rc,
};
use xxhash_rust::xxh3::xxh3_64;

/// A file is told apart from another of the same name by this much of its content.
const FINGERPRINT_BYTES: u64 = 64 * 1024;

/// How events are written in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// A JSON object a line.
    Ndjson,
    /// Comma-separated, the first line names the columns.
    Csv,
}

/// An opened file.
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    /// `basename#fingerprint`: the same content under the same name, packed or not, is the same source.
    pub(crate) name: String,
    pub(crate) format: Format,
    pub(crate) content: Box<dyn Read>,
    /// Bytes read from the disk so far.
    pub(crate) read_bytes: Rc<Cell<u64>>,
}

impl Source {
    pub(crate) fn open(path: &Path) -> Result<Self, ProducerError> {
        let failed = |source| ProducerError::Read { path: path.to_owned(), source };
        let read_bytes = Rc::new(Cell::new(0));
        let file = Counted { file: File::open(path).map_err(failed)?, read_bytes: read_bytes.clone() };
        let mut content = unpacked(BufReader::with_capacity(256 * 1024, file)).map_err(failed)?;
        let mut head = Vec::new();
        content.by_ref().take(FINGERPRINT_BYTES).read_to_end(&mut head).map_err(failed)?;
        let base = path.file_name().unwrap_or_default().to_string_lossy();
        let base = base.strip_suffix(".gz").unwrap_or(&base);
        Ok(Self {
            path: path.to_owned(),
            name: format!("{base}#{:016x}", xxh3_64(&head)),
            format: format_of(base, &head),
            content: Box::new(Cursor::new(head).chain(content)),
            read_bytes,
        })
    }

    /// The file's own name.
    pub(crate) fn file_name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// Undoes gzip, told by its magic bytes.
fn unpacked(mut file: BufReader<Counted>) -> io::Result<Box<dyn Read>> {
    let mut magic = Vec::new();
    file.by_ref().take(2).read_to_end(&mut magic)?;
    let is_packed = magic == [0x1f, 0x8b];
    let whole = Cursor::new(magic).chain(file);
    Ok(if is_packed {
        Box::new(MultiGzDecoder::new(BufReader::with_capacity(64 * 1024, whole)))
    } else {
        Box::new(whole)
    })
}

/// By the name's ending, else by the first byte of the content.
pub(super) fn format_of(base: &str, head: &[u8]) -> Format {
    match Path::new(base).extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase).as_deref() {
        Some("ndjson" | "jsonl" | "json") => Format::Ndjson,
        Some("csv") => Format::Csv,
        _ => {
            let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
            if head.trim_ascii_start().first() == Some(&b'{') { Format::Ndjson } else { Format::Csv }
        }
    }
}

struct Counted {
    file: File,
    read_bytes: Rc<Cell<u64>>,
}

impl Read for Counted {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(out)?;
        self.read_bytes.set(self.read_bytes.get() + read as u64);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_tells_the_format_and_else_the_first_byte_does() {
        for (base, head, format) in [
            ("e.ndjson", "a,b", Format::Ndjson),
            ("e.JSONL", "", Format::Ndjson),
            ("e.csv", "{", Format::Csv),
            ("events", " \n{\"a\":1}", Format::Ndjson),
            ("events.txt", "\u{feff}event_id", Format::Csv),
            ("events.txt", "\u{feff}{", Format::Ndjson),
        ] {
            assert_eq!(format_of(base, head.as_bytes()), format, "{base}");
        }
    }
}
