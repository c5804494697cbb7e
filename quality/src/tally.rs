//! What was counted of one expectation.

use crate::Distinct;

/// Counts over rows, for one expectation. Tallies over parts of the rows, merged, are the tally over all of them.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Rows looked at.
    pub(crate) rows: u64,
    /// Rows that meet it; of uniqueness, rows with a value.
    pub(crate) met: u64,
    /// Of uniqueness: the values.
    pub(crate) distinct: Distinct,
    /// Of freshness: the newest time, milliseconds since 1970.
    pub(crate) newest: Option<i64>,
    /// Rows that could not be judged: what they refer to is not there.
    pub(crate) unjudged: u64,
}

impl Tally {
    /// Counts from nothing, and still knows the newest time: how old it is does not begin anew.
    pub fn begin_again(&mut self) {
        *self = Self { newest: self.newest, ..Self::default() };
    }

    /// Adds what another one counted.
    pub fn merge(&mut self, other: &Self) {
        self.rows += other.rows;
        self.met += other.met;
        self.distinct.merge(&other.distinct);
        self.newest = self.newest.max(other.newest);
        self.unjudged += other.unjudged;
    }
}
