//! Says how good rows are: expectations from the settings, measured over batches.
//!
//! In: expectations as settings, the columns of the tables they are about, batches of rows, and the moment of a check.
//! Out: tallies that may be merged, figures with a verdict, rows that break a hard expectation, and a report over results.
//! Never: reads a clock, draws a random number, touches a network or a disk.

mod config;
mod distinct;
mod expectation;
mod figure;
mod keys;
mod quarantine;
mod report;
mod result;
mod rule;
mod tally;

pub use config::{ExpectationConfig, Kind, QualityConfig, Severity};
pub use distinct::{Distinct, EXACT_MAX};
pub use expectation::{CheckedTable, Expectation, QualityError, compile};
pub use figure::{Figure, Moment};
pub use keys::{KeySet, Reference};
pub use quarantine::{Quarantine, Quarantined};
pub use report::{ExpectationReport, HourReport, QualityReport, ReportBuilder};
pub use result::QualityResult;
pub use tally::Tally;
