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

impl Promotion {
    /// Whether a series is of those it is for. A roll-up is when all its series are.
    pub fn covers(&self, group: &[Member]) -> bool {
        self.group.len() == group.len()
            && self.group.iter().zip(group).all(|(of, member)| *of == Member::All || of == member)
    }
}

/// Civil time of the series with one value of a group column: offsets from UTC and when they begin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// The value of [`Calendar::clock_column`].
    pub value: String,
    /// From this millisecond (UTC) on, so many milliseconds ahead of UTC; in order of time. The first holds before it too.
    pub offsets: Vec<(i64, i64)>,
}

/// Why a calendar is none. All of these are mistakes in what was configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CalendarError {
    /// A promotion ends before it starts, or when.
    EmptyPromotion {
        /// Its place in what was given.
        at: usize,
    },
    /// A promotion names other than one member for each group column.
    PromotionColumns {
        /// Its place in what was given.
        at: usize,
    },
    /// The column of clocks is none of the group columns.
    ClockColumn {
        /// The column.
        column: usize,
    },
    /// Clocks without a column that says whose they are.
    ClocksOfNobody,
    /// A clock without offsets, or with offsets out of order of time, or a day and more from UTC.
    Offsets {
        /// The clock's value.
        value: String,
    },
    /// Two clocks for one value.
    TwoClocks {
        /// The value.
        value: String,
    },
}

impl std::fmt::Display for CalendarError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::EmptyPromotion { at } => write!(f, "promotion {at} ends before it starts"),
            Self::PromotionColumns { at } => write!(f, "promotion {at} has not one member for each group column"),
            Self::ClockColumn { column } => write!(f, "clocks by group column {column}, which there is not"),
            Self::ClocksOfNobody => write!(f, "clocks without the group column that they go by"),
            Self::Offsets { value } => write!(f, "the offsets of the clock of {value} are not in order of time"),
            Self::TwoClocks { value } => write!(f, "{value} has two clocks"),
        }
    }
}

impl std::error::Error for CalendarError {}

/// What detectors are told beforehand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calendar {
    /// In order of their start.
    promotions: Vec<Promotion>,
    /// For each promotion the last end of it and of all before it: where a search backwards may stop.
    ended_by: Vec<i64>,
    clock_column: Option<usize>,
    /// In order of their values.
    clocks: Vec<Clock>,
}

impl Calendar {
    /// Of promotions in any order, and clocks by the values of a group column; a value without one, and no column: UTC.
    ///
    /// # Errors
    /// When a promotion is empty or has other columns than the groups, or a clock has no offsets in order of time.
    pub fn new(
        group_columns: usize,
        mut promotions: Vec<Promotion>,
        clock_column: Option<usize>,
        mut clocks: Vec<Clock>,
    ) -> Result<Self, CalendarError> {
        for (at, promotion) in promotions.iter().enumerate() {
            if promotion.end <= promotion.start {
                return Err(CalendarError::EmptyPromotion { at });
            }
            if promotion.group.len() != group_columns {
                return Err(CalendarError::PromotionColumns { at });
            }
        }
        match clock_column {
            Some(column) if column >= group_columns => return Err(CalendarError::ClockColumn { column }),
            None if !clocks.is_empty() => return Err(CalendarError::ClocksOfNobody),
            _ => {}
        }
        for Clock { value, offsets } in &clocks {
            let in_order = offsets.windows(2).all(|pair| pair[0].0 < pair[1].0);
            if offsets.is_empty() || !in_order || offsets.iter().any(|(_, ahead)| ahead.abs() >= DAY) {
                return Err(CalendarError::Offsets { value: value.clone() });
            }
        }
        promotions.sort_by_key(|promotion| promotion.start);
        clocks.sort_by(|a, b| a.value.cmp(&b.value));
        if let Some(twice) = clocks.windows(2).find(|pair| pair[0].value == pair[1].value) {
            return Err(CalendarError::TwoClocks { value: twice[0].value.clone() });
        }
        let mut last = i64::MIN;
        let ended_by = promotions.iter().map(|promotion| {
            last = last.max(promotion.end);
            last
        });
        let ended_by = ended_by.collect();
        Ok(Self { promotions, ended_by, clock_column, clocks })
    }

    /// The promotions, in order of their start.
    pub fn promotions(&self) -> &[Promotion] {
        &self.promotions
    }

    /// The clocks, in order of their values.
    pub fn clocks(&self) -> &[Clock] {
        &self.clocks
    }

    /// Which group column decides whose civil time holds.
    pub fn clock_column(&self) -> Option<usize> {
        self.clock_column
    }

    /// The promotions with any time in `[start, end)`, newest start first. Looks at those that started before and at no
    /// more of them than since the oldest that is still on.
    pub fn promotions_in(&self, start: i64, end: i64) -> impl Iterator<Item = &Promotion> {
        let begun = self.promotions.partition_point(|promotion| promotion.start < end);
        let before = self.promotions[..begun].iter().zip(&self.ended_by[..begun]).rev();
        before.take_while(move |(_, ended_by)| **ended_by > start).map(|(p, _)| p).filter(move |p| p.end > start)
    }

    /// The clock that a group lives by; none: UTC.
    pub fn clock_of(&self, group: &[Member]) -> Option<&Clock> {
        let Member::Value(Some(value)) = group.get(self.clock_column?)? else { return None };
        let at = self.clocks.binary_search_by(|clock| clock.value.as_str().cmp(value)).ok()?;
        Some(&self.clocks[at])
    }

    /// Milliseconds that a group's civil time is ahead of UTC at a time.
    pub fn offset_at(&self, group: &[Member], time: i64) -> i64 {
        self.clock_of(group).map_or(0, |clock| clock.offset_at(time))
    }
}

impl Clock {
    /// Milliseconds ahead of UTC at a time.
    pub fn offset_at(&self, time: i64) -> i64 {
        let begun = self.offsets.partition_point(|(from, _)| *from <= time);
        self.offsets.get(begun.saturating_sub(1)).map_or(0, |(_, ahead)| *ahead)
    }
}

const DAY: i64 = 86_400_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn value(value: &str) -> Member {
        Member::Value(Some(value.into()))
    }

    fn promotion(start: i64, end: i64, country: Member) -> Promotion {
        Promotion { start, end, group: vec![country, Member::All] }
    }

    #[test]
    fn promotions_are_found_as_by_looking_at_all_of_them() {
        let mut promotions = vec![promotion(5, 900, Member::All)];
        for at in 0..60 {
            promotions.push(promotion(
                at * 13 % 700,
                at * 13 % 700 + 1 + at * 7 % 40,
                value(["FR", "DE"][at as usize % 2]),
            ));
        }
        let calendar = Calendar::new(2, promotions, None, vec![]).unwrap();
        for start in -5..950 {
            let mut found: Vec<_> = calendar.promotions_in(start, start + 3).collect();
            found.reverse();
            let all = calendar.promotions().iter().filter(|p| p.start < start + 3 && p.end > start);
            assert_eq!(found, all.collect::<Vec<_>>(), "at {start}");
        }
        assert!(promotion(0, 1, value("FR")).covers(&[value("FR"), value("shoes")]));
        assert!(!promotion(0, 1, value("FR")).covers(&[Member::All, value("shoes")]));
    }

    #[test]
    fn offsets_step_where_the_clocks_change() {
        let clock = Clock { value: "FR".into(), offsets: vec![(1_000, 3_600_000), (2_000, 7_200_000)] };
        let calendar = Calendar::new(2, vec![], Some(0), vec![clock]).unwrap();
        let offset = |country: &str, time| calendar.offset_at(&[value(country), value("shoes")], time);
        assert_eq!(offset("FR", 0), 3_600_000, "the first holds before it too");
        assert_eq!((offset("FR", 1_999), offset("FR", 2_000)), (3_600_000, 7_200_000));
        assert_eq!(offset("DE", 2_000), 0);
        assert_eq!(calendar.offset_at(&[Member::All, value("shoes")], 2_000), 0);
    }

    #[test]
    fn what_is_no_calendar_is_told() {
        let clock = |offsets| Clock { value: "FR".into(), offsets };
        let refused = |promotions, column, clocks| Calendar::new(2, promotions, column, clocks).unwrap_err();
        assert_eq!(refused(vec![promotion(4, 4, Member::All)], None, vec![]), CalendarError::EmptyPromotion { at: 0 });
        let one = Promotion { start: 0, end: 1, group: vec![Member::All] };
        assert_eq!(refused(vec![one], None, vec![]), CalendarError::PromotionColumns { at: 0 });
        assert_eq!(refused(vec![], Some(2), vec![]), CalendarError::ClockColumn { column: 2 });
        assert_eq!(refused(vec![], None, vec![clock(vec![(0, 0)])]), CalendarError::ClocksOfNobody);
        let value = "FR".to_owned();
        assert_eq!(refused(vec![], Some(0), vec![clock(vec![])]), CalendarError::Offsets { value: value.clone() });
        let two = vec![clock(vec![(0, 0)]), clock(vec![(0, 0)])];
        assert_eq!(refused(vec![], Some(0), two), CalendarError::TwoClocks { value });
    }
}
