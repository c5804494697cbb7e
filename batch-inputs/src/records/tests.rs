use super::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Gives few bytes at a time, as a network would.
struct Dribble<'a>(&'a [u8], usize);

impl Read for Dribble<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let take = self.0.len().min(out.len()).min(self.1);
        out[..take].copy_from_slice(&self.0[..take]);
        self.0 = &self.0[take..];
        Ok(take)
    }
}

type Seen = (u64, String, Option<Flaw>);

fn all(bytes: &[u8]) -> Vec<Seen> {
    let read = |step: usize| {
        let mut records = Records::new(Dribble(bytes, step)).unwrap();
        let mut seen = Vec::new();
        while let Some(record) = records.next().unwrap() {
            let text = String::from_utf8_lossy(record.bytes).into_owned();
            seen.push((record.line, text, record.flaw));
        }
        seen
    };
    let whole = read(usize::MAX);
    if bytes.len() < 10_000 {
        assert_eq!(read(1), whole, "a byte at a time");
    }
    assert_eq!(read(65_521), whole, "in blocks");
    whole
}

fn plain(line: u64, text: &str) -> Seen {
    (line, text.to_owned(), None)
}

#[test]
fn line_breaks_of_three_kinds_end_a_record_and_lines_are_counted_as_an_editor_does() {
    assert_eq!(
        all(b"\xef\xbb\xbfa,b\r\n\n\"c\nd\",e\r\"f\r\ng\",h\ri"),
        [plain(1, "a,b"), plain(2, ""), plain(3, "\"c\nd\",e"), plain(5, "\"f\r\ng\",h"), plain(7, "i"),]
    );
    assert!(all(b"").is_empty());
}

#[test]
fn a_stray_quote_costs_its_own_line() {
    assert_eq!(
        all(b"a\nb,\"c\nd\ne\n"),
        [plain(1, "a"), (2, "b,\"c".to_owned(), Some(Flaw::OpenQuote)), plain(3, "d"), plain(4, "e")]
    );
    let long = format!("b,\"c\n{}", "x,y\n".repeat(RECORD_BYTES_MAX / 2));
    let seen = all(long.as_bytes());
    assert_eq!(seen.len(), 1 + RECORD_BYTES_MAX / 2);
    assert_eq!(seen[0].2, Some(Flaw::OpenQuote));
    assert!(seen[1..].iter().all(|s| s.2.is_none()));
}

#[test]
fn a_record_beyond_the_limit_is_cut_and_the_next_one_is_whole() {
    for (over, quote, tail) in [
        (0, "", "\r\nnext\n"),
        (0, "", "\rnext\n"),
        (0, "", ""),
        (1, "", "\nnext\n"),
        (1, "", "\r\nnext\n"),
        (1, "", "\rnext\n"),
        (1, "\"", "\r\nnext\n"),
        (2, "", "\r\nnext\n"),
        (2, "", ""),
        (3 * RECORD_BYTES_MAX, "", "\r\nnext\n"),
        (3 * RECORD_BYTES_MAX, "\"", "\nnext\n"),
        (3 * RECORD_BYTES_MAX, "", ""),
    ] {
        let text = format!("first\n{quote}{}{tail}", "x".repeat(RECORD_BYTES_MAX + over - quote.len()));
        let seen = all(text.as_bytes());
        let flaw = (over > 0).then_some(Flaw::TooLong { passed_over: over as u64 });
        assert_eq!((seen[1].0, seen[1].2), (2, flaw), "{over} {tail:?} {quote}");
        assert_eq!(seen[1].1.len(), RECORD_BYTES_MAX);
        assert_eq!(seen.get(2), (!tail.is_empty()).then(|| plain(3, "next")).as_ref(), "{over} {tail:?}");
    }
}

#[test]
fn a_record_can_be_read_again_with_another_delimiter() {
    let mut records = Records::new(&b"a;b\nc;d\n"[..]).unwrap();
    assert_eq!(records.next().unwrap().unwrap().fields.ends.len(), 1);
    assert_eq!(records.again(b';').unwrap().unwrap().fields.ends.len(), 2);
    assert_eq!(records.next().unwrap().unwrap().bytes, b"c;d");
}

#[test]
fn any_fields_come_back_from_a_well_written_file() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    for round in 0..300 {
        let delimiter = [b',', b';', b'\t'][rng.random_range(0..3)];
        let line_break = ["\n", "\r\n", "\r"][rng.random_range(0..3)];
        let mut text = Vec::new();
        let mut written = Vec::new();
        for _ in 0..rng.random_range(1..8) {
            let fields: Vec<String> = (0..rng.random_range(2..5)).map(|_| field(&mut rng)).collect();
            for (at, field) in fields.iter().enumerate() {
                if at > 0 {
                    text.push(delimiter);
                }
                if field.contains(['"', '\n', '\r', char::from(delimiter)]) || rng.random_bool(0.2) {
                    text.extend_from_slice(format!("\"{}\"", field.replace('"', "\"\"")).as_bytes());
                } else {
                    text.extend_from_slice(field.as_bytes());
                }
            }
            text.extend_from_slice(line_break.as_bytes());
            written.push(fields);
        }
        let mut records = Records::new(Dribble(&text, rng.random_range(1..40))).unwrap();
        records.delimiter = delimiter;
        let mut read = Vec::new();
        while let Some(record) = records.next().unwrap() {
            assert_eq!(record.flaw, None, "round {round}");
            let starts = std::iter::once(0).chain(record.fields.ends.iter().copied());
            let field =
                |(from, upto): (usize, &usize)| String::from_utf8_lossy(&record.fields.text[from..*upto]).into_owned();
            read.push(starts.zip(&record.fields.ends).map(field).collect::<Vec<_>>());
        }
        assert_eq!(read, written, "round {round}");
    }
}

fn field(rng: &mut ChaCha8Rng) -> String {
    const PARTS: [&str; 10] = ["a", "é", " ", "\"", "\n", "\r\n", ",", ";", "\t", "12.5"];
    (0..rng.random_range(0..6)).map(|_| PARTS[rng.random_range(0..PARTS.len())]).collect()
}
