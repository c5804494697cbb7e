//! A second kind of input: an HTTP API that answers with JSON, asked by the clock for each of a list of items.
//!
//! In: the settings of a feed, answers of its API. Out: what to put into the log, and rows with the columns that the
//! settings name. The rounds and the rows are pure; [`Api`] is the only part that touches a network.
//! Never: knows what the numbers mean; that is the business of the SQL over its table.

mod api;
mod config;
mod round;
mod rows;

pub use api::{Api, ApiError};
pub use config::{Column, ColumnKind, FeedConfig};
pub use round::{Round, round};
pub use rows::{OBSERVED_AT, Refused, Row, feed_schema, keys_of, row_of, rows_batch};
