//! What an event must keep to come into silver: the rules that all events have, then the hard expectations of the
//! settings. One place for the stream and for the rebuild from bronze, which must judge alike.

use arrow::array::RecordBatch;
use sluice_events::{LogTime, Reason, Validation, ValidationRules};
use sluice_quality::Quarantine;
use std::collections::BTreeMap;

pub(crate) struct Admission {
    rules: ValidationRules,
    quarantine: Quarantine,
}

/// What was found of a batch.
pub(crate) struct Checked<'a> {
    /// The rows that do not come into silver.
    pub validation: Validation,
    /// By hard expectation, how many of them broke it.
    pub quarantined: BTreeMap<&'a str, u64>,
}

impl Admission {
    pub fn new(rules: ValidationRules, quarantine: Quarantine) -> Self {
        Self { rules, quarantine }
    }

    /// Checks each row of `events`; a row that breaks a rule of all events is not asked for more.
    pub fn check(&self, events: &RecordBatch, log_time: impl Fn(usize) -> LogTime) -> Checked<'_> {
        let mut validation = self.rules.check(events, log_time);
        let mut quarantined = BTreeMap::new();
        let refused = validation.refused.len();
        for broken in self.quarantine.broken(events) {
            if validation.refused[..refused].binary_search_by_key(&broken.row, |(row, ..)| *row).is_err() {
                let name = broken.expectation.name.as_str();
                *quarantined.entry(name).or_default() += 1;
                let message = format!("expectation '{name}' is not met: {}", broken.expectation.rule);
                validation.refused.push((broken.row, Reason::Quarantined, message));
            }
        }
        if validation.refused.len() > refused {
            validation.refused.sort_unstable_by_key(|(row, ..)| *row);
        }
        Checked { validation, quarantined }
    }
}
