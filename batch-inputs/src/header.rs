//! The first line of a file: which delimiter it uses and which column is which.

use crate::{
    encoding::Decoded,
    error::LoadError,
    records::{Flaw, Records},
};
use std::{collections::HashSet, io::Read};

/// What separates columns. The header decides; of equals, the first here.
const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];
/// How much of a header is shown in an error.
const SHOWN_CHARS: usize = 300;

/// What the header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Place in the file of each needed column.
    pub(crate) columns: [usize; 5],
    /// Columns of the file, others included.
    pub(crate) width: usize,
    /// Blank lines before it.
    pub(crate) blank_lines: u64,
}

/// Reads the header and leaves `records` at the first row, with the right delimiter. Names are matched without regard to
/// case and blanks around them; columns may come in any order, and others may stand between them.
///
/// # Errors
/// When there is no header, a needed column is missing, or a name comes twice.
pub(crate) fn read_header<R: Read>(
    records: &mut Records<R>,
    file: &str,
    needed: &[&str; 5],
) -> Result<Header, LoadError> {
    let read = |source| LoadError::Read { file: file.to_owned(), source };
    let mut blank_lines = 0;
    let line = loop {
        let Some(record) = records.next().map_err(read)? else { return Err(nothing(records, file, needed)) };
        let (line, flaw, is_blank, is_cut) = (record.line, record.flaw, is_blank(record.bytes), record.is_cut);
        if let Some(Flaw::TooLong { .. }) = flaw {
            let problem = "it is longer than 1 MiB".to_owned();
            return Err(LoadError::BadHeader { file: file.to_owned(), line, problem });
        }
        // A header that is not whole may lack its last columns.
        if is_cut {
            return Err(nothing(records, file, needed));
        }
        if !is_blank {
            break line;
        }
        blank_lines += 1;
    };

    let (mut delimiter, mut most) = (DELIMITERS[0], (0, 0));
    for candidate in DELIMITERS {
        let names = names(records, candidate, file, line)?;
        // A header without any known name is told as the delimiter shows it that cuts it most.
        let score = (needed.iter().filter(|n| names.iter().any(|name| name == *n)).count(), names.len());
        if score > most {
            (delimiter, most) = (candidate, score);
        }
    }
    let names = names(records, delimiter, file, line)?;
    columns(&names, file, needed).map(|columns| Header { columns, width: names.len(), blank_lines })
}

/// Whether a record is a blank line.
pub(crate) fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(|b| b.is_ascii_whitespace() || *b == b'\x0b')
}

fn names<R: Read>(records: &mut Records<R>, delimiter: u8, file: &str, line: u64) -> Result<Vec<String>, LoadError> {
    let bad = |problem: &str| LoadError::BadHeader { file: file.to_owned(), line, problem: problem.to_owned() };
    let record = records
        .again(delimiter)
        .map_err(|source| LoadError::Read { file: file.to_owned(), source })?
        .ok_or_else(|| bad("it is gone"))?;
    if record.flaw.is_some() {
        return Err(bad("a quote in it does not close"));
    }
    let mut decoded = Decoded::default();
    decoded.read(&record.fields.text, &record.fields.ends);
    // A mark may stand in the middle of a file that was put together of several.
    let name = |field: &str| field.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}').to_lowercase();
    Ok(decoded.fields().map(name).collect())
}

fn columns(names: &[String], file: &str, needed: &[&str; 5]) -> Result<[usize; 5], LoadError> {
    let mut seen = HashSet::new();
    if let Some(twice) = names.iter().find(|name| !name.is_empty() && !seen.insert(*name)) {
        return Err(LoadError::DuplicateColumn { file: file.to_owned(), column: twice.clone() });
    }
    let places = needed.map(|n| names.iter().position(|name| name == n));
    let missing: Vec<_> = needed.iter().zip(places).filter(|(_, place)| place.is_none()).map(|(n, _)| *n).collect();
    if !missing.is_empty() {
        let found: String = names.join(", ").chars().take(SHOWN_CHARS).collect();
        return Err(LoadError::MissingColumns { file: file.to_owned(), missing: missing.join(", "), found });
    }
    Ok(places.map(|place| place.expect("none is missing")))
}

fn nothing<R: Read>(records: &Records<R>, file: &str, needed: &[&str; 5]) -> LoadError {
    match records.content().cut() {
        Some(problem) => LoadError::Unpack { file: file.to_owned(), problem: problem.to_owned() },
        None => LoadError::Empty { file: file.to_owned(), needed: needed.join(", ") },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDED: [&str; 5] = ["id_achat", "id_client", "date_achat", "montant", "produit"];

    fn header(text: &[u8]) -> Result<Header, LoadError> {
        read_header(&mut Records::new(text).unwrap(), "achats.csv", &NEEDED)
    }

    #[test]
    fn columns_are_found_by_name_behind_any_delimiter() {
        for text in [
            "id_achat,id_client,date_achat,montant,produit\n",
            "id_achat;id_client;date_achat;montant;produit",
            " ID_Achat\t\"id_client\"\tDATE_ACHAT\tmontant \tproduit\r\n",
            "id_achat|id_client|date_achat|montant|produit\r",
        ] {
            assert_eq!(header(text.as_bytes()).unwrap().columns, [0, 1, 2, 3, 4], "{text}");
        }
        let found = header(b" \n\nproduit;\"a, b, c, d, e\";montant;;id_client;date_achat;id_achat;\n").unwrap();
        assert_eq!(found, Header { columns: [6, 4, 5, 2, 0], width: 8, blank_lines: 2 });
    }

    #[test]
    fn a_header_that_cannot_serve_is_told_with_what_was_found() {
        let told = |text: &[u8]| header(text).unwrap_err().to_string();
        assert_eq!(
            told(b"ID_ACHAT;date_achat;prix;produit\n"),
            "achats.csv has no column id_client, montant; its columns are id_achat, date_achat, prix, produit"
        );
        assert_eq!(
            told(b"id_achat,id_client,date_achat,montant,produit, Montant\n"),
            "achats.csv has column 'montant' twice"
        );
        assert!(told(b"1;2;3\n").contains("its columns are 1, 2, 3"));
        assert!(told(b"").contains("achats.csv is empty"));
        assert!(told(b"\xef\xbb\xbf\r\n \n").contains("achats.csv is empty"));
        assert!(told(b"id_achat,\"id_client\nx\n").contains("a quote in it does not close"));
        assert!(told(&b"x".repeat(3_000_000)).contains("longer than 1 MiB"));
    }
}
