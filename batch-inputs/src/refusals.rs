//! Why a row is refused, in words that name the column and show its text.

use sluice_events::{Reason, Refusal};

const SHOWN_CHARS: usize = 80;

/// At most 80 characters of a text.
pub(crate) fn shortened(text: &str) -> &str {
    text.char_indices().nth(SHOWN_CHARS).map_or(text, |(at, _)| &text[..at])
}

/// A needed column is empty.
pub(crate) fn missing(column: &str) -> Refusal {
    Refusal::new(Reason::MissingField, format!("column '{column}' is empty"))
}

/// A column's text is refused, because it `is` something.
pub(crate) fn refused(reason: Reason, column: &str, text: &str, is: &str) -> Refusal {
    Refusal::new(reason, format!("column '{column}': '{}' {is}", shortened(text)))
}
