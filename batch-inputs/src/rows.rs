//! Sends each record of a file its one way: silver, duplicate, dead letter or blank line.

use crate::{
    bronze::BronzeRows,
    encoding::Decoded,
    header::{Header, is_blank},
    ids::IdSet,
    quality::{Check, Figures},
    reader::{InputFile, Loaded, Summary},
    records::{Flaw, Record},
    silver::{Judged, Table},
};
use sluice_events::{DeadLetter, Reason, Refusal, Stage};
use std::sync::Arc;

/// The rows of a file. Settings: `file`, `header`; the batch being built: `table`, `bronze`, `dead_letters`; of the whole
/// file so far: the rest.
pub(crate) struct Rows<T> {
    pub(crate) file: InputFile,
    header: Header,
    table: T,
    bronze: BronzeRows,
    dead_letters: Vec<DeadLetter>,
    /// Ids of accepted rows.
    accepted: IdSet,
    /// Ids that no accepted row has. With `accepted`: all ids of the file, each once.
    others: IdSet,
    /// Ids that other files brought before this one. A setting.
    pub(crate) earlier: Arc<IdSet>,
    figures: Figures,
    pub(crate) summary: Summary,
    /// The fields of the record at hand.
    decoded: Decoded,
}

impl<T: Table> Rows<T> {
    pub(crate) fn new(table: T, file: InputFile, header: Header) -> Self {
        let blank_lines = header.blank_lines;
        Self {
            file,
            header,
            table,
            bronze: BronzeRows::new(&T::COLUMNS),
            dead_letters: Vec::new(),
            accepted: IdSet::new(),
            others: IdSet::new(),
            earlier: Arc::default(),
            figures: Figures::default(),
            summary: Summary { records: blank_lines, blank_lines, ..Summary::default() },
            decoded: Decoded::default(),
        }
    }

    /// Rows of the batch being built.
    pub(crate) fn waiting(&self) -> usize {
        self.bronze.rows()
    }

    /// Bytes of their records.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.bronze.bytes()
    }

    /// Takes a record.
    pub(crate) fn take(&mut self, record: &Record<'_>) {
        self.summary.records += 1;
        if is_blank(record.bytes) {
            self.summary.blank_lines += 1;
            return;
        }
        let line = i64::try_from(record.line).unwrap_or(i64::MAX);
        if let Some(refusal) = unreadable(record, self.header.width) {
            self.figures.count_unreadable(record.bytes);
            self.bronze.append(None, record.bytes, line);
            self.summary.dead_letters += 1;
            self.dead_letters.push(dead_letter(&self.file, refusal, record, line));
            return;
        }
        if self.decoded.read(&record.fields.text, &record.fields.ends) {
            let (count, _) = self.summary.windows_1252.get_or_insert((0, record.line));
            *count += 1;
        }
        let received = self.header.columns.map(|at| self.decoded.field(at));
        let fields = received.map(str::trim);
        let Judged { rules, row } = self.table.judge(&fields, self.file.now);
        self.figures.count(&self.decoded, &fields, rules);
        self.bronze.append(Some(&received), record.bytes, line);
        let id = fields[0];
        match row {
            Ok(_) if self.earlier.contains(id) => {
                self.others.insert(id);
                self.summary.duplicates += 1;
            }
            Ok(row) if self.accepted.insert(id) => {
                self.others.remove(id);
                self.table.append(row, line);
                self.summary.accepted += 1;
            }
            Ok(_) => self.summary.duplicates += 1,
            Err(refusal) => {
                if !id.is_empty() && !self.accepted.contains(id) {
                    self.others.insert(id);
                }
                self.summary.dead_letters += 1;
                self.dead_letters.push(dead_letter(&self.file, refusal, record, line));
            }
        }
    }

    /// The batch built since `told`.
    pub(crate) fn finish(&mut self, told: &Summary) -> Loaded {
        Loaded {
            bronze: self.bronze.finish(&self.file.name, self.file.hash, self.file.now),
            silver: self.table.finish(&self.file.name),
            dead_letters: std::mem::take(&mut self.dead_letters),
            duplicates: self.summary.duplicates - told.duplicates,
            blank_lines: self.summary.blank_lines - told.blank_lines,
        }
    }

    pub(crate) fn quality(&self) -> Vec<Check> {
        let ids = (self.accepted.len() + self.others.len()) as u64;
        self.figures.checks(&T::COLUMNS, &T::RULES, ids)
    }
}

fn dead_letter(file: &InputFile, refusal: Refusal, record: &Record<'_>, line: i64) -> DeadLetter {
    DeadLetter {
        stage: Stage::Load,
        reason: refusal.reason,
        message: refusal.message,
        key: None,
        value: Some(record.bytes.to_vec()),
        headers: None,
        source: file.name.clone(),
        partition: None,
        position: line,
        log_time: file.now,
    }
}

/// Why a record has not the columns of the header.
fn unreadable(record: &Record<'_>, width: usize) -> Option<Refusal> {
    let found = record.fields.ends.len();
    let (reason, message) = match record.flaw {
        Some(Flaw::TooLong { passed_over }) => {
            (Reason::TooLarge, format!("the record is longer than 1 MiB; {passed_over} bytes of it were passed over"))
        }
        _ if record.is_cut => (Reason::TruncatedFile, "the file was cut off in the middle of this record".to_owned()),
        Some(Flaw::OpenQuote) => {
            (Reason::BadCsv, "a quote that opens in this line does not close within 1 MiB".to_owned())
        }
        None if found != width => (Reason::BadCsv, format!("the record has {found} columns, the header {width}")),
        None => return None,
    };
    Some(Refusal::new(reason, message))
}
