//! Quality figures over all rows as received, each check on its own.

use crate::{encoding::Decoded, ids::IdSet};
use xxhash_rust::xxh3::{xxh3_128, xxh3_128_with_seed};

/// One figure: of `total` rows, so many passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Dimension and what it is about, as in `completeness.montant`.
    pub name: String,
    /// Rows that meet it; of a uniqueness, the distinct values.
    pub passed: u64,
    /// All rows.
    pub total: u64,
}

impl Check {
    /// The share that passed; none of no rows.
    pub fn ratio(&self) -> Option<f64> {
        (self.total > 0).then(|| self.passed as f64 / self.total as f64)
    }
}

/// Counts while rows go by. A row that cannot be split into columns is a row of which no check holds but that it is unique.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    rows: u64,
    complete: [u64; 5],
    rules: [u64; 3],
    distinct_rows: IdSet,
    /// The row at hand, as it is hashed.
    row: Vec<u8>,
}

impl Figures {
    /// Counts a row: all its fields, of which the five of the table are `columns`, trimmed, and which rules it meets.
    pub(crate) fn count(&mut self, all: &Decoded, columns: &[&str; 5], rules: [bool; 3]) {
        self.row.clear();
        for field in all.fields() {
            // Lengths first, so that no two rows read the same.
            self.row.extend_from_slice(&(field.len() as u64).to_le_bytes());
            self.row.extend_from_slice(field.as_bytes());
        }
        self.distinct_rows.insert_hash(xxh3_128(&self.row));
        self.rows += 1;
        for (count, column) in self.complete.iter_mut().zip(columns) {
            *count += u64::from(!column.is_empty());
        }
        for (count, holds) in self.rules.iter_mut().zip(rules) {
            *count += u64::from(holds);
        }
    }

    /// Counts a record without columns.
    pub(crate) fn count_unreadable(&mut self, record: &[u8]) {
        self.distinct_rows.insert_hash(xxh3_128_with_seed(record, 1));
        self.rows += 1;
    }

    /// The figures of a table with these columns, the first of which is its key, and these rules.
    pub(crate) fn checks(&self, columns: &[&str; 5], rules: &[&str; 3], distinct_ids: u64) -> Vec<Check> {
        let check = |name: String, passed| Check { name, passed, total: self.rows };
        let complete = columns.iter().zip(self.complete).map(|(c, passed)| check(format!("completeness.{c}"), passed));
        let unique = [
            check(format!("uniqueness.{}", columns[0]), distinct_ids),
            check("uniqueness.row".to_owned(), self.distinct_rows.len() as u64),
        ];
        let rules = rules.iter().zip(self.rules).map(|(r, passed)| check((*r).to_owned(), passed));
        complete.chain(unique).chain(rules).collect()
    }
}
