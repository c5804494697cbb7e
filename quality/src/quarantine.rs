//! Which rows stay out of silver.

use crate::{Expectation, Severity};
use arrow::array::RecordBatch;

/// The hard expectations. What they say of a row depends on that row alone, so a row read again is judged as before,
/// whatever batch it comes in.
#[derive(Clone, Debug, Default)]
pub struct Quarantine {
    hard: Vec<Expectation>,
}

/// A row that breaks a hard expectation.
#[derive(Clone, Copy, Debug)]
pub struct Quarantined<'a> {
    /// Its place in the batch.
    pub row: usize,
    /// The first that it breaks, in the order of names.
    pub expectation: &'a Expectation,
}

impl Quarantine {
    /// The hard ones among these.
    pub fn of(expectations: &[Expectation]) -> Self {
        Self { hard: expectations.iter().filter(|e| e.severity == Severity::Hard).cloned().collect() }
    }

    /// The rows that break one, in order. The batch begins with the columns that hard expectations may name.
    pub fn broken<'a>(&'a self, events: &RecordBatch) -> Vec<Quarantined<'a>> {
        let mut found: Vec<Quarantined<'a>> = Vec::new();
        for expectation in &self.hard {
            let Some(met) = expectation.met(events) else { continue };
            if met.count_set_bits() < met.len() {
                let broken = (!&met).set_indices().map(|row| Quarantined { row, expectation }).collect::<Vec<_>>();
                found.extend(broken);
            }
        }
        // Stable: of several expectations that a row breaks, the first stays first.
        found.sort_by_key(|quarantined| quarantined.row);
        found.dedup_by_key(|quarantined| quarantined.row);
        found
    }
}
