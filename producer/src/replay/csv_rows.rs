//! A CSV record to its fields, by the names of the header.

use csv_core::{ReadRecordResult, Reader};
use sluice_events::{EVENT_COLUMNS, EventFields, REQUIRED_COLUMNS, Reason, Refusal};
use std::borrow::Cow;

/// Which column of the file is which field.
pub(crate) struct CsvRows {
    /// For each column of the file the field it fills, if any.
    meaning: Vec<Option<usize>>,
    parser: Reader,
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl CsvRows {
    /// Reads the header: names in any order, others passed over.
    ///
    /// # Errors
    /// A message when a needed column is missing or one comes twice.
    pub(crate) fn new(header: &[u8]) -> Result<Self, String> {
        let mut rows = Self { meaning: Vec::new(), parser: Reader::new(), text: Vec::new(), ends: Vec::new() };
        let count = rows.split(header);
        let header = std::str::from_utf8(&rows.text[..rows.ends[..count].last().copied().unwrap_or(0)])
            .map_err(|_| "the header is not UTF-8".to_owned())?;
        let names: Vec<&str> = (0..count).map(|i| header[start(&rows.ends, i)..rows.ends[i]].trim()).collect();
        let meaning: Vec<_> = names.iter().map(|name| EVENT_COLUMNS.iter().position(|c| c == name)).collect();
        for (at, column) in meaning.iter().enumerate() {
            if let Some(column) = column.filter(|c| meaning[..at].contains(&Some(*c))) {
                return Err(format!("the header has column '{}' twice", EVENT_COLUMNS[column]));
            }
        }
        let missing: Vec<_> = REQUIRED_COLUMNS.iter().filter(|name| !names.contains(name)).copied().collect();
        if !missing.is_empty() {
            let missing = missing.join(", ");
            return Err(format!("the header has no column {missing}; the first line must name the columns"));
        }
        rows.meaning = meaning;
        Ok(rows)
    }

    /// The fields of a record.
    pub(crate) fn fields(&mut self, record: &[u8]) -> Result<EventFields<'_>, Refusal> {
        let count = self.split(record);
        if count != self.meaning.len() {
            let message = format!("the record has {count} columns, the header {}", self.meaning.len());
            return Err(Refusal::new(Reason::BadCsv, message));
        }
        let text = std::str::from_utf8(&self.text[..self.ends[..count].last().copied().unwrap_or(0)])
            .map_err(|e| Refusal::new(Reason::BadEncoding, format!("byte {} is not UTF-8", e.valid_up_to() + 1)))?;
        let mut fields = EventFields::default();
        for (i, column) in self.meaning.iter().enumerate() {
            if let Some(column) = column {
                // A broken character may span two columns and be whole only together.
                let field = text.get(start(&self.ends, i)..self.ends[i]).ok_or_else(|| {
                    Refusal::new(Reason::BadEncoding, format!("column '{}' is not UTF-8", EVENT_COLUMNS[*column]))
                })?;
                fields.set(*column, Cow::Borrowed(field));
            }
        }
        Ok(fields)
    }

    /// Splits a record into `text` and `ends`; returns how many fields it has.
    fn split(&mut self, record: &[u8]) -> usize {
        self.parser.reset();
        // Unquoting only shortens; one field more than there are separators.
        self.text.resize(self.text.len().max(record.len() + 1), 0);
        self.ends.resize(self.ends.len().max(record.len() + 2), 0);
        let (result, read, mut written, mut fields) = self.parser.read_record(record, &mut self.text, &mut self.ends);
        debug_assert_eq!((result, read), (ReadRecordResult::InputEmpty, record.len()));
        // The end of input closes the last field.
        let (_, _, more, last) = self.parser.read_record(&[], &mut self.text[written..], &mut self.ends[fields..]);
        written += more;
        fields += last;
        debug_assert!(written <= self.text.len());
        fields
    }
}

fn start(ends: &[usize], field: usize) -> usize {
    if field == 0 { 0 } else { ends[field - 1] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_found_by_name_and_quotes_are_undone() {
        let mut rows = CsvRows::new(b"color,event_time, event_type ,event_id,category").unwrap();
        let fields = rows.fields(br#"red,2024-03-01,page_view,e1,"a ""b"", c""#).unwrap();
        let event = fields.event().unwrap();
        assert_eq!((event.event_id, event.category), ("e1", Some("a \"b\", c")));
        let fields = rows.fields(b",2024-03-01,page_view,e2,").unwrap();
        assert_eq!(fields.event().unwrap().category, None);
    }

    #[test]
    fn a_header_that_cannot_serve_is_told() {
        assert!(CsvRows::new(b"event_id,event_type").err().unwrap().contains("event_time"));
        assert!(CsvRows::new(b"event_id,event_type,event_time,event_id").err().unwrap().contains("twice"));
    }

    #[test]
    fn a_record_of_another_width_or_encoding_is_refused() {
        let mut rows = CsvRows::new(b"event_id,event_type,event_time").unwrap();
        assert_eq!(rows.fields(b"e1,page_view").unwrap_err().reason, Reason::BadCsv);
        assert_eq!(rows.fields(b"e1,page_view,2024-03-01,more").unwrap_err().reason, Reason::BadCsv);
        assert_eq!(rows.fields(b"e\xff,page_view,2024-03-01").unwrap_err().reason, Reason::BadEncoding);
        assert_eq!(rows.fields(b"e\xc3,\xa9page_view,2024-03-01").unwrap_err().reason, Reason::BadEncoding);
    }
}
