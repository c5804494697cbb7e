//! Recorded events, sent again as they were.
//!
//! `source` opens a file, `lines` cuts it, `csv_rows` finds the fields of a CSV record (those of a JSON line are found in
//! `events`, where they become an event or the reason why not), `resume` finds what the log has already, `run` does the
//! sending. `single_line` reads one line by itself, when somebody asks again what it is.
//!
//! Invariant: whether and where a line goes depends on its bytes and the number of partitions alone, and every partition
//! gets its lines in file order. So the last position found in a partition says exactly which of its lines are there.

mod csv_rows;
mod lines;
mod resume;
mod run;
mod single_line;
mod source;

pub use run::{POSITION_HEADER, ReplayConfig, ReplaySummary, SOURCE_HEADER, replay, replay_bytes};
pub use single_line::fields_of_line;
