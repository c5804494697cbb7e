//! What becomes of a dead letter, from what is known of it. Reads nothing itself.

use sluice_events::Refusal;

/// The offset of a record that is only about to be sent.
pub(crate) const NOT_YET: i64 = -1;

/// A record in the topic of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub partition: u32,
    pub offset: i64,
}

/// A record that the stream would take now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub event_id: String,
    pub partition: u32,
    pub key: Option<Vec<u8>>,
    pub value: Vec<u8>,
}

/// What the stream's decoder and rules say of a letter's record now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trial {
    Good(Candidate),
    Refused(Refusal),
    /// Its bytes do not suffice for a record; what to do instead.
    Cannot(&'static str),
}

/// What earlier replays noted of a letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Noted {
    /// That it would be sent, when the partition ended at that place; and the event's id.
    Intended { event_id: String, from: Place },
    /// That it was sent.
    Replayed { at: i64, place: Place },
}

/// All that is known of a letter.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub trial: Trial,
    pub noted: Option<Noted>,
    /// Where the record is that an unfinished replay sent.
    pub arrived: Option<Place>,
    /// An accepted event of the same id.
    pub holder: Option<Place>,
}

/// What becomes of a letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It is sent.
    Send(Candidate),
    /// An unfinished replay sent it: only the note is missing.
    Note { event_id: String, place: Place },
    /// It was replayed, and is not again.
    AlreadyReplayed { at: i64, place: Place },
    /// The event is there without it.
    AlreadyAccepted { event_id: String, place: Place },
    /// The stream would refuse it again.
    StillRefused(Refusal),
    /// What to do instead.
    Cannot(&'static str),
}

/// Decides. What was sent counts before what would be thought of it now.
pub(crate) fn decide(facts: Facts) -> Decision {
    match (facts.noted, facts.arrived) {
        (Some(Noted::Replayed { at, place }), _) => return Decision::AlreadyReplayed { at, place },
        (Some(Noted::Intended { event_id, .. }), Some(place)) => return Decision::Note { event_id, place },
        _ => {}
    }
    match (facts.trial, facts.holder) {
        (Trial::Cannot(instead), _) => Decision::Cannot(instead),
        (Trial::Refused(refusal), _) => Decision::StillRefused(refusal),
        (Trial::Good(candidate), Some(place)) => Decision::AlreadyAccepted { event_id: candidate.event_id, place },
        (Trial::Good(candidate), None) => Decision::Send(candidate),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_events::Reason;

    const THERE: Place = Place { partition: 1, offset: 40 };

    fn candidate() -> Candidate {
        Candidate { event_id: "e".to_owned(), partition: 1, key: None, value: vec![1] }
    }

    fn facts() -> Facts {
        Facts { trial: Trial::Good(candidate()), noted: None, arrived: None, holder: None }
    }

    fn intended() -> Option<Noted> {
        Some(Noted::Intended { event_id: "e".to_owned(), from: Place { partition: 1, offset: 30 } })
    }

    #[test]
    fn what_is_good_now_is_sent_once() {
        assert_eq!(decide(facts()), Decision::Send(candidate()));
        let replayed = Some(Noted::Replayed { at: 7, place: THERE });
        let again = Decision::AlreadyReplayed { at: 7, place: THERE };
        assert_eq!(decide(Facts { noted: replayed.clone(), ..facts() }), again);
        let refused = Trial::Refused(Refusal::new(Reason::Future, ""));
        assert_eq!(decide(Facts { noted: replayed, trial: refused, ..facts() }), again, "whatever it is now");
        let accepted = Decision::AlreadyAccepted { event_id: "e".to_owned(), place: THERE };
        assert_eq!(decide(Facts { holder: Some(THERE), ..facts() }), accepted);
    }

    #[test]
    fn an_unfinished_replay_is_finished_and_not_repeated() {
        assert_eq!(decide(Facts { noted: intended(), ..facts() }), Decision::Send(candidate()), "it never arrived");
        let note = Decision::Note { event_id: "e".to_owned(), place: THERE };
        assert_eq!(decide(Facts { noted: intended(), arrived: Some(THERE), ..facts() }), note);
        let accepted = Facts { noted: intended(), arrived: Some(THERE), holder: Some(THERE), ..facts() };
        assert_eq!(decide(accepted), note, "the event of that id is its own");
        let refused = Trial::Refused(Refusal::new(Reason::Future, ""));
        assert_eq!(decide(Facts { noted: intended(), arrived: Some(THERE), trial: refused, ..facts() }), note);
    }

    #[test]
    fn what_is_not_good_is_told_with_its_reason() {
        let refusal = Refusal::new(Reason::BadQuantity, "quantity is 0");
        let refused = Facts { trial: Trial::Refused(refusal.clone()), holder: Some(THERE), ..facts() };
        assert_eq!(decide(refused), Decision::StillRefused(refusal));
        assert_eq!(decide(Facts { trial: Trial::Cannot("load it"), ..facts() }), Decision::Cannot("load it"));
    }
}
