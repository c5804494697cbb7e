//! What is known beforehand: promotions and holidays, and whose clock a series lives by.

use crate::Member;
use serde::{Deserialize, Serialize};

/// A time in which more than usual is expected of some series.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promotion {
    /// First millisecond, UTC.
    pub start: i64,
    /// First millisecond after it.
    pub end: i64,
    /// Which series, a member for each group column; [`Member::All`]: whatever its value.
    pub group: Vec<Member>,
}

/// Civil time of the series with one value of a group column: offsets from UTC and when they begin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// The value of [`Calendar::clock_column`].
    pub value: String,
    /// From this millisecond (UTC) on, so many milliseconds ahead of UTC; in order of time.
    pub offsets: Vec<(i64, i64)>,
}

/// What detectors are told beforehand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calendar {
    /// Promotions and holidays, in order of their start.
    pub promotions: Vec<Promotion>,
    /// Which group column decides whose civil time holds; none: UTC everywhere.
    pub clock_column: Option<usize>,
    /// The clocks by its values. A value without one, and a roll-up over several, lives by UTC.
    pub clocks: Vec<Clock>,
}
