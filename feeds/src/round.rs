//! One round: all items of a feed, once.

use crate::{ApiError, FeedConfig};
use std::time::Duration;

/// How long an API is left alone that was asked too often and does not say.
const LEAVE_ALONE: Duration = Duration::from_secs(60);
/// And at most, whatever it says.
const LEAVE_ALONE_MAX: Duration = Duration::from_secs(3600);
/// A pause is so many times the one before.
const LONGER: u32 = 2;

/// How a round went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// Items with an answer.
    pub answered: usize,
    /// Items without one, and why.
    pub failed: Vec<(String, ApiError)>,
    /// The rest was left out: the key is refused, the API wants to be left alone, or it was to stop.
    pub broken_off: bool,
    /// The API wants to be left alone for so long.
    pub wait: Option<Duration>,
}

/// Asks for each item, and again while the API is away; hands on the answers. `pause` waits, and says whether to go on.
///
/// A refused key or too many questions concern all items: the round ends there. A wrong item concerns itself alone.
pub fn round<E>(
    config: &FeedConfig,
    mut ask: impl FnMut(&str) -> Result<Vec<u8>, ApiError>,
    mut pause: impl FnMut(Duration) -> bool,
    mut take: impl FnMut(&str, Vec<u8>) -> Result<(), E>,
) -> Result<Round, E> {
    let mut round = Round::default();
    for item in &config.items {
        if !pause(Duration::ZERO) {
            round.broken_off = true;
            return Ok(round);
        }
        let mut wait = config.backoff;
        let mut answer = ask(item);
        for _ in 0..config.retries {
            if !matches!(answer, Err(ApiError::Away(_))) {
                break;
            }
            if !pause(wait) {
                round.broken_off = true;
                return Ok(round);
            }
            wait *= LONGER;
            answer = ask(item);
        }
        match answer {
            Ok(body) => {
                take(item, body)?;
                round.answered += 1;
            }
            Err(error) => {
                round.broken_off = matches!(error, ApiError::Key { .. } | ApiError::TooOften { .. });
                if let ApiError::TooOften { wait, .. } = &error {
                    round.wait = Some(wait.unwrap_or(LEAVE_ALONE).min(LEAVE_ALONE_MAX));
                }
                round.failed.push((item.clone(), error));
                if round.broken_off {
                    break;
                }
            }
        }
    }
    Ok(round)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{cell::RefCell, collections::VecDeque, convert::Infallible};

    fn config() -> FeedConfig {
        toml::from_str(
            "name = 'w'\nurl = 'http://h/{item}'\nitems = ['a', 'b', 'c']\nschedule = '* * * * *'\nretries = 2\nbackoff = '1s'\n\
             observed_at = { path = '/dt', kind = 'unix_seconds' }\nkey = []\ncolumns = {}",
        )
        .unwrap()
    }

    /// A round over these answers; what was taken, and the pauses in seconds.
    fn run(answers: Vec<Result<&str, ApiError>>) -> (Round, Vec<String>, Vec<u64>) {
        let answers = RefCell::new(VecDeque::from(answers));
        let (mut taken, mut pauses) = (Vec::new(), Vec::new());
        let round = round(
            &config(),
            |item| answers.borrow_mut().pop_front().unwrap().map(|body| format!("{item}{body}").into_bytes()),
            |pause| {
                pauses.extend(Some(pause.as_secs()).filter(|seconds| *seconds > 0));
                true
            },
            |_, body| {
                taken.push(String::from_utf8(body).unwrap());
                Ok::<_, Infallible>(())
            },
        );
        (round.unwrap(), taken, pauses)
    }

    fn away() -> Result<&'static str, ApiError> {
        Err(ApiError::Away("no answer in time".to_owned()))
    }

    #[test]
    fn who_is_away_is_asked_again_and_a_wrong_item_stops_no_other() {
        let missing = ApiError::Item { status: 404, words: "city not found".to_owned() };
        let (round, taken, pauses) = run(vec![away(), away(), Ok("1"), Err(missing.clone()), Ok("3")]);
        assert_eq!((taken, pauses), (vec!["a1".to_owned(), "c3".to_owned()], vec![1, 2]));
        assert_eq!((round.answered, round.broken_off), (2, false));
        assert_eq!(round.failed, [("b".to_owned(), missing)]);
        let (round, _, pauses) = run(vec![away(), away(), away(), Ok("2"), Ok("3")]);
        assert_eq!((round.answered, round.failed.len(), pauses.len()), (2, 1, 2), "given up after two retries");
    }

    #[test]
    fn a_refused_key_and_too_many_questions_end_the_round() {
        let words = String::new();
        let (round, ..) = run(vec![Ok("1"), Err(ApiError::Key { status: 401, words: words.clone() })]);
        assert_eq!((round.answered, round.broken_off, round.wait), (1, true, None));
        let wait = Some(Duration::from_secs(7));
        let (round, ..) = run(vec![Err(ApiError::TooOften { wait, words: words.clone() })]);
        assert_eq!((round.answered, round.broken_off, round.wait), (0, true, wait));
        let (round, ..) = run(vec![Err(ApiError::TooOften { wait: None, words })]);
        assert_eq!(round.wait, Some(LEAVE_ALONE));
        let wait = Some(Duration::MAX);
        let (round, ..) = run(vec![Err(ApiError::TooOften { wait, words: String::new() })]);
        assert_eq!(round.wait, Some(LEAVE_ALONE_MAX));
    }
}
