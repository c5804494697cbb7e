//! A line that was taken out of its file.

use super::source::{Format, format_of};
use sluice_events::{EventFields, Refusal};

/// The fields of a line of the file called `file_name`, as a replay of the file would find them; none when it is a CSV
/// record, which means nothing without the header of its file.
pub fn fields_of_line<'a>(file_name: &str, line: &'a [u8]) -> Option<Result<EventFields<'a>, Refusal>> {
    let base = file_name.strip_suffix(".gz").unwrap_or(file_name);
    match format_of(base, line) {
        Format::Ndjson => Some(EventFields::from_json(line)),
        Format::Csv => None,
    }
}
