//! How it is told what became of a letter, to people and to programs.

use super::decide::{Decision, NOT_YET, Place};
use chrono::{DateTime, SecondsFormat};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A time as people read it.
pub(crate) fn shown_time(millis: i64) -> String {
    DateTime::from_timestamp_millis(millis)
        .map_or(millis.to_string(), |t| t.to_rfc3339_opts(SecondsFormat::Millis, true))
}

/// What became of a letter, or would.
#[derive(Clone, Copy)]
pub(crate) struct Outcome<'a> {
    pub letter: &'a str,
    pub decision: &'a Decision,
    /// Where its record went; none: it was not sent, or not yet.
    pub sent: Option<Place>,
}

impl Outcome<'_> {
    /// The stable name of the outcome.
    pub fn code(&self) -> &'static str {
        match (self.decision, self.sent) {
            (Decision::Send(_), Some(_)) => "replayed",
            (Decision::Send(_), None) => "would_be_replayed",
            (Decision::Note { .. }, _) => "found",
            (Decision::AlreadyReplayed { .. }, _) => "already_replayed",
            (Decision::AlreadyAccepted { .. }, _) => "already_accepted",
            (Decision::StillRefused(_), _) => "refused",
            (Decision::Cannot(_), _) => "cannot",
        }
    }

    /// Whether somebody has to do something about it.
    pub fn is_bad(&self) -> bool {
        matches!(self.decision, Decision::StillRefused(_) | Decision::Cannot(_))
    }

    /// A sentence.
    pub fn text(&self) -> String {
        let at = |place: &Place| match place.offset {
            NOT_YET => format!("partition {}, by another letter of this replay", place.partition),
            offset => format!("partition {}, offset {offset}", place.partition),
        };
        match (self.decision, self.sent) {
            (Decision::Send(event), Some(place)) => format!("replayed: event {} is at {}", event.event_id, at(&place)),
            (Decision::Send(event), None) => {
                format!("would be replayed: event {} to partition {}", event.event_id, event.partition)
            }
            (Decision::Note { event_id, place }, _) => {
                format!("found: a replay that did not end had sent event {event_id} to {}", at(place))
            }
            (Decision::AlreadyReplayed { at: time, place }, _) => {
                format!("already replayed at {} to {}", shown_time(*time), at(place))
            }
            (Decision::AlreadyAccepted { event_id, place }, _) => {
                format!("not needed: event {event_id} is accepted already, at {}", at(place))
            }
            (Decision::StillRefused(refusal), _) => format!("refused: {}: {}", refusal.reason.code(), refusal.message),
            (Decision::Cannot(instead), _) => format!("cannot be replayed: {instead}"),
        }
    }

    /// The same for programs.
    pub fn json(&self) -> Value {
        let place = match (self.decision, self.sent) {
            (_, Some(place)) => Some(place),
            (
                Decision::Note { place, .. }
                | Decision::AlreadyReplayed { place, .. }
                | Decision::AlreadyAccepted { place, .. },
                _,
            ) => Some(*place),
            _ => None,
        };
        let event_id = match self.decision {
            Decision::Send(event) => Some(&event.event_id),
            Decision::Note { event_id, .. } | Decision::AlreadyAccepted { event_id, .. } => Some(event_id),
            _ => None,
        };
        let (reason, message) = match self.decision {
            Decision::StillRefused(refusal) => (Some(refusal.reason.code()), Some(refusal.message.as_str())),
            Decision::Cannot(instead) => (None, Some(*instead)),
            _ => (None, None),
        };
        json!({
            "letter": self.letter, "outcome": self.code(), "event_id": event_id, "reason": reason, "message": message,
            "partition": place.map(|p| p.partition), "offset": place.map(|p| p.offset).filter(|offset| *offset != NOT_YET),
        })
    }
}

/// How many letters had which outcome.
#[derive(Default)]
pub(crate) struct Summary {
    counts: BTreeMap<&'static str, u64>,
    /// Whether no letter needs anybody.
    pub bad: u64,
}

impl Summary {
    /// Counts one.
    pub fn add(&mut self, outcome: &Outcome<'_>) {
        *self.counts.entry(outcome.code()).or_default() += 1;
        self.bad += u64::from(outcome.is_bad());
    }

    /// How many of this code.
    pub fn count(&self, code: &str) -> u64 {
        self.counts.get(code).copied().unwrap_or(0)
    }

    /// A line.
    pub fn text(&self) -> String {
        let total: u64 = self.counts.values().sum();
        let parts: Vec<String> =
            self.counts.iter().map(|(code, n)| format!("{n} {}", code.replace('_', " "))).collect();
        match total {
            0 => "no dead letters".to_owned(),
            _ => format!("{total} letters: {}", parts.join(", ")),
        }
    }

    /// The same for programs.
    pub fn json(&self) -> Value {
        json!({ "summary": self.counts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dlq::decide::Candidate;
    use sluice_events::{Reason, Refusal};

    #[test]
    fn every_outcome_has_its_name_and_only_what_did_not_go_is_bad() {
        let place = Place { partition: 2, offset: 9 };
        let candidate = Candidate { event_id: "e".to_owned(), partition: 2, key: None, value: Vec::new() };
        let send = Decision::Send(candidate);
        let refused = Decision::StillRefused(Refusal::new(Reason::BadQuantity, "quantity is 0"));
        let again = Decision::AlreadyReplayed { at: 0, place };
        let mut summary = Summary::default();
        for (decision, sent, code, text) in [
            (&send, Some(place), "replayed", "replayed: event e is at partition 2, offset 9"),
            (&send, None, "would_be_replayed", "would be replayed: event e to partition 2"),
            (&refused, None, "refused", "refused: bad_quantity: quantity is 0"),
            (&again, None, "already_replayed", "already replayed at 1970-01-01T00:00:00.000Z to partition 2, offset 9"),
        ] {
            let outcome = Outcome { letter: "events:2:1", decision, sent };
            assert_eq!((outcome.code(), &*outcome.text()), (code, text));
            assert_eq!(outcome.json()["outcome"], code);
            summary.add(&outcome);
        }
        assert_eq!(summary.bad, 1);
        assert_eq!(summary.text(), "4 letters: 1 already replayed, 1 refused, 1 replayed, 1 would be replayed");
    }
}
