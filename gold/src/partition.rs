//! Tables that are filed by dates: which of their parts a change asks for.
//!
//! What a row of such a table says hangs on the rows of its inputs that are of its part or, when it says until when, on those
//! from its time until then, and on no others.

use crate::functions::date_trunc;
use arrow::datatypes::{DataType, Date32Type};
use chrono::{Datelike, Months, NaiveDate};
use datafusion::prelude::{Expr, cast, ident, lit};
use sluice_sinks::lake::Day;
use std::{collections::BTreeSet, ops::Range};

/// A change this near to what a row is made of may become part of it, as an event of its session.
pub(crate) const NEAR: Day = 1;
/// What is read on both sides of what is made, so that nothing there is cut.
pub(crate) const MARGIN: Day = 2 * NEAR;

/// How long a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A UTC day.
    Day,
    /// A calendar month; its date is its first day.
    Month,
}

/// How a table is filed: `-- partition: month of order_time until last_line_time` in its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// How long a part is.
    pub unit: Unit,
    /// The column with the time or date of a row, and so of the first row that it is made of.
    pub of: String,
    /// The column with the time of the last row that it is made of; none: all are of its part.
    pub until: Option<String>,
}

impl Partition {
    /// Reads the header's value.
    pub(crate) fn parse(value: &str) -> Option<Self> {
        let (unit, of) = value.split_once(" of ")?;
        let (of, until) = match of.split_once(" until ") {
            Some((of, until)) => (of, Some(until.trim().to_owned())),
            None => (of, None),
        };
        let unit = match unit.trim() {
            "day" => Unit::Day,
            "month" => Unit::Month,
            _ => return None,
        };
        Some(Self { unit, of: of.trim().to_owned(), until })
    }

    /// The column that the table gets for it: the first day of a row's part.
    pub fn column(&self) -> &'static str {
        match self.unit {
            Unit::Day => "_day",
            Unit::Month => "_month",
        }
    }

    /// What is in that column.
    pub fn date(&self) -> Expr {
        let unit = match self.unit {
            Unit::Day => "day",
            Unit::Month => "month",
        };
        cast(date_trunc().call(vec![lit(unit), ident(&self.of)]), DataType::Date32)
    }
}

impl Unit {
    /// The part of a day: its first day.
    pub(crate) fn part_of(self, day: Day) -> Day {
        match self {
            Self::Day => day,
            Self::Month => day - date(day).day0() as Day,
        }
    }

    /// The days of a part.
    pub(crate) fn days_of(self, part: Day) -> Range<Day> {
        match self {
            Self::Day => part..part + 1,
            Self::Month => part..Date32Type::from_naive_date(date(part) + Months::new(1)),
        }
    }
}

fn date(day: Day) -> NaiveDate {
    Date32Type::to_naive_date_opt(day).unwrap_or(NaiveDate::MAX)
}

/// Days without those that follow each other, as ranges.
pub(crate) fn ranges(days: &BTreeSet<Day>) -> Vec<Range<Day>> {
    let mut ranges: Vec<Range<Day>> = Vec::new();
    for day in days {
        match ranges.last_mut() {
            Some(range) if range.end == *day => range.end += 1,
            _ => ranges.push(*day..day + 1),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> Day {
        Date32Type::from_naive_date(text.parse().unwrap())
    }

    #[test]
    fn a_day_is_of_its_month() {
        let month = Unit::Month.part_of(day("2024-02-29"));
        assert_eq!(month, day("2024-02-01"));
        assert_eq!(Unit::Month.days_of(month), month..day("2024-03-01"));
        assert_eq!(Unit::Month.part_of(day("1969-12-31")), day("1969-12-01"));
        assert_eq!((Unit::Day.part_of(7), Unit::Day.days_of(7)), (7, 7..8));
    }

    #[test]
    fn a_header_says_how_a_table_is_filed() {
        let until = Some("last".to_owned());
        let of = "first".to_owned();
        assert_eq!(Partition::parse("month of first until last"), Some(Partition { unit: Unit::Month, of, until }));
        assert_eq!(Partition::parse("day of d").map(|by| (by.unit, by.until)), Some((Unit::Day, None)));
        assert_eq!((Partition::parse("week of d"), Partition::parse("d by day")), (None, None));
    }

    #[test]
    fn neighbours_are_one_range() {
        assert_eq!(ranges(&[1, 2, 3, 7, 9, 10].into()), [1..4, 7..8, 9..11]);
        assert_eq!(ranges(&BTreeSet::new()), []);
    }
}
