//! The content of a file: gzip undone, hashed as it passes.

use flate2::bufread::MultiGzDecoder;
use std::{
    fmt,
    io::{self, BufReader, Chain, Cursor, Read},
};
use xxhash_rust::xxh3::Xxh3;

const BUFFER_BYTES: usize = 64 * 1024;

/// The hash (xxh3, 128 bits) of a file's content, after gzip is undone: the same content, packed or not, is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ContentHash(u128);

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Reads a file to its end for its hash. A damaged gzip file is hashed as far as it can be unpacked.
///
/// # Errors
/// When the input fails.
pub fn content_hash(input: impl Read) -> io::Result<ContentHash> {
    let mut content = Content::new(input)?;
    let mut buffer = vec![0; BUFFER_BYTES];
    while content.read(&mut buffer)? > 0 {}
    Ok(content.hash())
}

/// A file's content. A gzip stream that breaks off ends the content instead of failing it, and [`Content::cut`] says why.
pub(crate) struct Content<R> {
    packing: Packing<R>,
    hash: Xxh3,
    cut: Option<String>,
}

type Whole<R> = Chain<Cursor<Vec<u8>>, R>;

enum Packing<R> {
    Plain(Whole<R>),
    Gzip(Box<MultiGzDecoder<BufReader<Watched<Whole<R>>>>>),
}

impl<R: Read> Content<R> {
    /// Tells gzip by its magic bytes, whatever the name.
    pub(crate) fn new(mut input: R) -> io::Result<Self> {
        let mut magic = Vec::new();
        input.by_ref().take(2).read_to_end(&mut magic)?;
        let is_packed = magic == [0x1f, 0x8b];
        let whole = Cursor::new(magic).chain(input);
        let packing = if is_packed {
            let watched = Watched { input: whole, failed: false };
            Packing::Gzip(Box::new(MultiGzDecoder::new(BufReader::with_capacity(BUFFER_BYTES, watched))))
        } else {
            Packing::Plain(whole)
        };
        Ok(Self { packing, hash: Xxh3::new(), cut: None })
    }

    /// Why the content ended before its end, once it has.
    pub(crate) fn cut(&self) -> Option<&str> {
        self.cut.as_deref()
    }

    /// The hash of what was read.
    pub(crate) fn hash(&self) -> ContentHash {
        ContentHash(self.hash.digest128())
    }
}

impl<R: Read> Read for Content<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.cut.is_some() {
            return Ok(0);
        }
        let read = match &mut self.packing {
            Packing::Plain(input) => input.read(out)?,
            Packing::Gzip(decoder) => match decoder.read(out) {
                Ok(read) => read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted || decoder.get_ref().get_ref().failed => {
                    return Err(e);
                }
                Err(e) => {
                    self.cut = Some(format!("the gzip stream is cut or damaged: {e}"));
                    0
                }
            },
        };
        self.hash.update(&out[..read]);
        Ok(read)
    }
}

/// Remembers whether an error is the input's own, and not the decoder's.
struct Watched<R> {
    input: R,
    failed: bool,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(out);
        self.failed = matches!(&read, Err(e) if e.kind() != io::ErrorKind::Interrupted);
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    fn packed(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn all(bytes: &[u8]) -> (Vec<u8>, Option<String>) {
        let mut content = Content::new(bytes).unwrap();
        let mut text = Vec::new();
        content.read_to_end(&mut text).unwrap();
        (text, content.cut().map(str::to_owned))
    }

    #[test]
    fn gzip_is_told_by_its_first_bytes_and_hashes_as_what_is_in_it() {
        let text = b"id_client,nom\n1,a\n".repeat(1000);
        assert_eq!(all(&text), (text.clone(), None));
        assert_eq!(all(&packed(&text)), (text.clone(), None));
        let twice = [packed(&text), packed(&text)].concat();
        assert_eq!(all(&twice), (text.repeat(2), None));
        assert_eq!(content_hash(&text[..]).unwrap(), content_hash(&packed(&text)[..]).unwrap());
        assert_ne!(content_hash(&text[..]).unwrap(), content_hash(&text[1..]).unwrap());
        assert_eq!(content_hash(&b""[..]).unwrap().to_string().len(), 32);
    }

    #[test]
    fn a_cut_gzip_gives_what_came_wherever_it_is_cut() {
        let text: Vec<u8> =
            (0..20_000u32).flat_map(|n| format!("{},{n}\n", n.wrapping_mul(2_654_435_761)).into_bytes()).collect();
        let whole = packed(&text);
        for length in (2..whole.len()).step_by(997).chain([whole.len() - 1, whole.len() - 8]) {
            let (came, cut) = all(&whole[..length]);
            assert!(text.starts_with(&came), "cut at {length}");
            assert!(cut.is_some(), "cut at {length}");
            assert!(
                came.len() + 64 * 1024 + 64 > text.len() * length / whole.len() || length < 1000,
                "cut at {length}: {}",
                came.len()
            );
        }
    }

    #[test]
    fn an_error_of_the_input_is_no_cut() {
        struct Fails;
        impl Read for Fails {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("gone"))
            }
        }
        let whole = packed(b"some text");
        let mut content = Content::new(whole[..whole.len() / 2].chain(Fails)).unwrap();
        assert_eq!(content.read_to_end(&mut Vec::new()).unwrap_err().to_string(), "gone");
        assert_eq!(content.cut(), None);
    }
}
