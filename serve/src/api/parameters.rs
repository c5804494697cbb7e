//! Query parameters, read strictly: a name we do not know is an error, not silence.

use super::ApiError;
use chrono::DateTime;
use sluice_events::EventTime;
use std::collections::BTreeMap;

/// The query parameters that are not read yet.
pub(super) struct Parameters {
    unread: BTreeMap<String, String>,
    known: Vec<&'static str>,
}

impl Parameters {
    /// The same, but this one may be there several times: then it is a list with commas.
    pub(super) fn with_list(pairs: Vec<(String, String)>, list: &str) -> Result<Self, ApiError> {
        let (listed, mut others): (Vec<_>, Vec<_>) = pairs.into_iter().partition(|(name, _)| name == list);
        if !listed.is_empty() {
            let values: Vec<String> = listed.into_iter().map(|(_, value)| value).collect();
            others.push((list.to_owned(), values.join(",")));
        }
        Self::new(others)
    }

    /// # Errors
    /// When a parameter is there twice.
    pub(super) fn new(pairs: Vec<(String, String)>) -> Result<Self, ApiError> {
        let mut unread = BTreeMap::new();
        for (name, value) in pairs {
            if unread.insert(name.clone(), value).is_some() {
                return Err(bad(&name, "is there more than once", "give it once"));
            }
        }
        Ok(Self { unread, known: Vec::new() })
    }

    /// Takes a text.
    pub(super) fn text(&mut self, name: &'static str) -> Option<String> {
        self.known.push(name);
        self.unread.remove(name)
    }

    /// Takes a time.
    pub(super) fn time(&mut self, name: &'static str) -> Result<Option<EventTime>, ApiError> {
        const HINT: &str = "use RFC 3339, such as 2024-03-01T10:00:00Z, or milliseconds since 1970";
        let Some(text) = self.text(name) else { return Ok(None) };
        read_time(&text).map(Some).ok_or_else(|| bad(name, &format!("'{text}' is not a time"), HINT))
    }

    /// Takes a whole number in this range.
    pub(super) fn number(&mut self, name: &'static str, default: usize, max: usize) -> Result<usize, ApiError> {
        let Some(text) = self.text(name) else { return Ok(default) };
        match text.parse() {
            Ok(n) if (1..=max).contains(&n) => Ok(n),
            _ => Err(bad(name, &format!("'{text}' is out of range"), &format!("use a whole number from 1 to {max}"))),
        }
    }

    /// Takes a yes or no; no when it is not there.
    pub(super) fn flag(&mut self, name: &'static str) -> Result<bool, ApiError> {
        match self.text(name).as_deref() {
            None | Some("0" | "false") => Ok(false),
            Some("1" | "true") => Ok(true),
            Some(other) => Err(bad(name, &format!("'{other}' is neither yes nor no"), "use 1 or 0")),
        }
    }

    /// Takes every `group.<column>`; the column must be one of these.
    pub(super) fn groups(&mut self, columns: &[&str]) -> Result<BTreeMap<String, String>, ApiError> {
        self.known.push("group.<column>");
        let mut groups = BTreeMap::new();
        for (name, value) in std::mem::take(&mut self.unread) {
            match name.strip_prefix("group.") {
                Some(column) if columns.contains(&column) => {
                    groups.insert(column.to_owned(), value);
                }
                Some(column) => {
                    let reason = format!("the model has no group column '{column}'");
                    return Err(bad(&name, &reason, &listing("its group columns are", columns)));
                }
                None => {
                    self.unread.insert(name, value);
                }
            }
        }
        Ok(groups)
    }

    /// # Errors
    /// When a parameter was not read by anyone.
    pub(super) fn finish(self) -> Result<(), ApiError> {
        match self.unread.keys().next() {
            Some(name) => Err(bad(name, "is not known here", &listing("the parameters are", &self.known))),
            None => Ok(()),
        }
    }
}

/// The error for one parameter.
pub(super) fn bad(name: &str, reason: &str, hint: &str) -> ApiError {
    ApiError::BadParameter { name: name.to_owned(), reason: reason.to_owned(), hint: hint.to_owned() }
}

/// `the words: a, b, c`, or that there are none.
pub(super) fn listing(words: &str, names: &[&str]) -> String {
    if names.is_empty() { format!("{words}: none") } else { format!("{words}: {}", names.join(", ")) }
}

fn read_time(text: &str) -> Option<EventTime> {
    if let Ok(millis) = text.parse() {
        return Some(EventTime::new(millis));
    }
    let mut text = text.to_owned();
    // A bare `+` in a query means a space; people forget that in `+01:00`.
    if let Some(at) = text.len().checked_sub(6).filter(|at| text.as_bytes()[*at] == b' ') {
        text.replace_range(at..=at, "+");
    }
    DateTime::parse_from_rfc3339(&text).ok().map(|date| EventTime::new(date.timestamp_millis()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_rfc_3339_or_milliseconds() {
        let at = |ms| Some(EventTime::new(ms));
        for (text, expected) in [
            ("1709287500000", at(1_709_287_500_000)),
            ("-1", at(-1)),
            ("2024-03-01T10:05:00Z", at(1_709_287_500_000)),
            ("2024-03-01T11:05:00+01:00", at(1_709_287_500_000)),
            ("2024-03-01T11:05:00 01:00", at(1_709_287_500_000)),
            ("1970-01-01T00:00:00.250Z", at(250)),
            ("2024-03-01", None),
            ("2024-03-01T10:05:00", None),
            ("yesterday", None),
            ("é12345", None),
            ("", None),
        ] {
            assert_eq!(read_time(text), expected, "{text}");
        }
    }
}
