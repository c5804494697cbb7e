//! Finds where a CSV record ends, and its fields, in one pass over its bytes.
//!
//! Quotes as in RFC 4180: one at the start of a field opens, a doubled one is a quote, a single one closes. A quote
//! anywhere else is text, as in `12" vinyl`. LF, CRLF and a lone CR end a record; within quotes they are text.
//! A quote that was opened on an earlier line and closes before more text was never meant to open: see [`Scan::OpenQuote`].

/// The fields of a record, quotes undone.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    /// All of them, one after another.
    pub(crate) text: Vec<u8>,
    /// Where each ends in `text`.
    pub(crate) ends: Vec<usize>,
}

/// What the bytes begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scan {
    /// A record of `length` bytes; the next one begins at `next`. It spans `lines` lines; `ended`: by a line break.
    Record { length: usize, next: usize, lines: u64, ended: bool },
    /// A quote that does not close. So that it does not swallow what follows, only its line counts.
    OpenQuote { length: usize, next: usize, ended: bool },
    /// The bytes end before the record does. `first_line`: length of its first line and start of the second, if it has one.
    More { first_line: Option<(usize, usize)> },
}

enum State {
    FieldStart,
    Plain,
    Quoted,
    /// After a quote within quotes: it closes, unless another follows.
    Closing,
}

/// Scans the record that `bytes` begin with; `whole` says that nothing comes after them.
pub(crate) fn scan(bytes: &[u8], delimiter: u8, whole: bool, fields: &mut Fields) -> Scan {
    fields.text.clear();
    fields.ends.clear();
    let mut state = State::FieldStart;
    let mut first_line = None;
    let mut lines = 1;
    let mut opened_on = 1;
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        let break_bytes = match byte {
            b'\n' => 1,
            b'\r' if bytes.get(at + 1) == Some(&b'\n') => 2,
            b'\r' if at + 1 == bytes.len() && !whole => return Scan::More { first_line },
            b'\r' => 1,
            _ => 0,
        };
        match state {
            State::Quoted => {
                if break_bytes > 0 {
                    first_line.get_or_insert((at, at + break_bytes));
                    lines += 1;
                    fields.text.extend_from_slice(&bytes[at..at + break_bytes]);
                    at += break_bytes;
                    continue;
                }
                if byte == b'"' {
                    state = State::Closing;
                } else {
                    fields.text.push(byte);
                }
            }
            State::Closing if byte == b'"' => {
                fields.text.push(byte);
                state = State::Quoted;
            }
            _ if break_bytes > 0 => {
                fields.ends.push(fields.text.len());
                return Scan::Record { length: at, next: at + break_bytes, lines, ended: true };
            }
            _ if byte == delimiter => {
                fields.ends.push(fields.text.len());
                state = State::FieldStart;
            }
            State::FieldStart if byte == b'"' => {
                opened_on = lines;
                state = State::Quoted;
            }
            State::Closing if opened_on < lines => {
                let (length, next) = first_line.expect("a record of several lines has a first one");
                return Scan::OpenQuote { length, next, ended: true };
            }
            State::FieldStart | State::Plain | State::Closing => {
                fields.text.push(byte);
                state = State::Plain;
            }
        }
        at += 1;
    }
    if !whole {
        return Scan::More { first_line };
    }
    if let State::Quoted = state {
        let (length, next) = first_line.unwrap_or((at, at));
        return Scan::OpenQuote { length, next, ended: first_line.is_some() };
    }
    fields.ends.push(fields.text.len());
    Scan::Record { length: at, next: at, lines, ended: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scanned(text: &str) -> (Scan, Vec<String>) {
        let mut fields = Fields::default();
        let scan = scan(text.as_bytes(), b',', true, &mut fields);
        let starts = std::iter::once(0).chain(fields.ends.iter().copied());
        let texts = starts.zip(&fields.ends).map(|(s, e)| String::from_utf8(fields.text[s..*e].to_vec()).unwrap());
        (scan, texts.collect())
    }

    #[test]
    fn fields_are_split_and_quotes_undone() {
        for (text, expected) in [
            ("a,b", vec!["a", "b"]),
            ("a,,", vec!["a", "", ""]),
            ("\"a,b\",c\nnext", vec!["a,b", "c"]),
            ("\"a \"\"b\"\"\",c\r\nnext", vec!["a \"b\"", "c"]),
            ("12\" vinyl,c\rnext", vec!["12\" vinyl", "c"]),
            ("\"a\" b,c", vec!["a b", "c"]),
            ("\"a\nb\",c\n", vec!["a\nb", "c"]),
            ("\"\",\"\"", vec!["", ""]),
        ] {
            let (scan, fields) = scanned(text);
            assert!(matches!(scan, Scan::Record { .. }), "{text}: {scan:?}");
            assert_eq!(fields, expected, "{text}");
        }
        assert_eq!(scanned("a\r\nb").0, Scan::Record { length: 1, next: 3, lines: 1, ended: true });
        assert_eq!(scanned("\"a\r\nb\rc\"\r").0, Scan::Record { length: 8, next: 9, lines: 3, ended: true });
        assert_eq!(scanned("a").0, Scan::Record { length: 1, next: 1, lines: 1, ended: false });
    }

    #[test]
    fn a_quote_that_never_closes_costs_its_line_only() {
        assert_eq!(scanned("a,\"b\nc,d\n").0, Scan::OpenQuote { length: 4, next: 5, ended: true });
        assert_eq!(scanned("a,\"b\nc,\"d\",e\n").0, Scan::OpenQuote { length: 4, next: 5, ended: true });
        assert_eq!(scanned("a,\"b").0, Scan::OpenQuote { length: 4, next: 4, ended: false });
    }

    #[test]
    fn what_is_not_all_there_asks_for_more() {
        let mut fields = Fields::default();
        for (text, first_line) in [("", None), ("a,b", None), ("a\r", None), ("a,\"b\nc\"", Some((4, 5)))] {
            let scan = scan(text.as_bytes(), b',', false, &mut fields);
            assert_eq!(scan, Scan::More { first_line }, "{text:?}");
        }
    }
}
