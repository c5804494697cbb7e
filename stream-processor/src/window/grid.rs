//! Tumbling and hopping windows in numbers: slices, the windows that a slice is in, and where they end.
//!
//! Events are counted in slices, which lie side by side and are as long as the greatest common divisor of the windows'
//! size and slide; a hopping window is put together of its slices (J. Li, D. Maier, K. Tufte, V. Papadimos,
//! P. Tucker, No pane, no gain: efficient evaluation of sliding-window aggregates over data streams, SIGMOD Record
//! 34(1), 2005). So an event is counted once, however many windows it is in.

use chrono::{DateTime, MappedLocalTime, NaiveDateTime, Offset, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

/// Windows of one size, a new one every slide. All times are milliseconds since 1970 UTC.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Grid {
    size: i64,
    slide: i64,
    slice: i64,
    /// Windows begin at midnights there; none: aligned to 1970-01-01 UTC.
    zone: Option<Tz>,
}

const DAY: i64 = 86_400_000;
/// The longest window and the longest gap: ten years.
pub(super) const LONGEST: i64 = 3_653 * DAY;
/// The most windows that one event may be in.
const WINDOWS_MAX: i64 = 1_500;

impl Grid {
    /// Windows of `size` that begin every `slide`, which are both in milliseconds.
    ///
    /// # Errors
    /// When the sizes are not positive, the slide is longer than the size, or a zone is given and they are not whole days.
    pub fn new(size: i64, slide: i64, zone: Option<Tz>) -> Result<Self, String> {
        if size <= 0 || slide <= 0 {
            return Err("a window's size and slide must be above 0".to_owned());
        }
        if slide > size {
            return Err("the slide must not be longer than the window: events in between would be in none".to_owned());
        }
        if zone.is_some() && (size % DAY != 0 || slide % DAY != 0) {
            return Err("a time zone goes with windows of whole days; shorter ones are the same everywhere".to_owned());
        }
        if size > LONGEST {
            return Err("a window must not be longer than ten years".to_owned());
        }
        if size / slide > WINDOWS_MAX {
            return Err(format!("an event would be in {} windows; {WINDOWS_MAX} is the most", size / slide));
        }
        let zone = zone.filter(|zone| *zone != Tz::UTC);
        let (mut a, mut b) = (size, slide);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        Ok(Self { size, slide, slice: a, zone })
    }

    /// Length of a window; of a day with a time zone, the usual one.
    pub fn size(&self) -> i64 {
        self.size
    }

    /// From one window's start to the next.
    pub fn slide(&self) -> i64 {
        self.slide
    }

    /// Whether windows overlap.
    pub fn is_hopping(&self) -> bool {
        self.slide != self.size
    }

    /// Milliseconds on the clock of the zone, as if it were UTC.
    fn local(&self, time: i64) -> i64 {
        let Some(zone) = self.zone else { return time };
        match DateTime::<Utc>::from_timestamp_millis(time) {
            Some(utc) => {
                time + i64::from(zone.offset_from_utc_datetime(&utc.naive_utc()).fix().local_minus_utc()) * 1000
            }
            None => time,
        }
    }

    /// The first instant at which the zone's clock shows this or, where that is left out, something later.
    fn instant(&self, local: i64) -> i64 {
        let Some(zone) = self.zone else { return local };
        let Some(mut shown) = DateTime::<Utc>::from_timestamp_millis(local).map(|t| t.naive_utc()) else {
            return local;
        };
        // Clocks skip an hour or two; Samoa once skipped a day.
        for _ in 0..=26 * 4 {
            match found(zone, &shown) {
                Some(instant) => return instant,
                None => shown += TimeDelta::minutes(15),
            }
        }
        local
    }

    fn floor(&self, time: i64, step: i64) -> i64 {
        match self.zone {
            None => time.div_euclid(step).saturating_mul(step),
            Some(_) => self.instant(self.local(time).div_euclid(step).saturating_mul(step)),
        }
    }

    /// The start that is `by` after this start on the clock of the zone.
    fn shifted(&self, start: i64, by: i64) -> i64 {
        match self.zone {
            None => start.saturating_add(by),
            // A start whose midnight was left out is later than midnight: go by the day it begins.
            Some(_) => self.instant(self.local(start).div_euclid(DAY).saturating_mul(DAY).saturating_add(by)),
        }
    }

    /// Start of the slice that the instant is in.
    pub fn slice_of(&self, time: i64) -> i64 {
        self.floor(time, self.slice)
    }

    /// Where a slice ends.
    pub fn slice_end(&self, slice: i64) -> i64 {
        self.shifted(slice, self.slice)
    }

    /// Start of the last window that the instant is in.
    pub fn last_window(&self, time: i64) -> i64 {
        self.floor(time, self.slide)
    }

    /// Where a window ends.
    pub fn end(&self, start: i64) -> i64 {
        self.shifted(start, self.size)
    }

    /// Start of the window after this one.
    pub fn next(&self, start: i64) -> i64 {
        self.shifted(start, self.slide)
    }

    /// Starts of the windows that the instant is in, latest first.
    pub fn windows(&self, time: i64) -> Vec<i64> {
        let last = self.last_window(time);
        let mut starts: Vec<i64> = (0..)
            .map(|k: i64| self.shifted(last, -k.saturating_mul(self.slide)))
            .take_while(|start| self.end(*start) > time)
            .collect();
        // Of a day that a zone's calendar left out, the midnight is the next day's.
        starts.dedup();
        starts
    }
}

fn found(zone: Tz, shown: &NaiveDateTime) -> Option<i64> {
    match zone.from_local_datetime(shown) {
        MappedLocalTime::Single(time) => Some(time.timestamp_millis()),
        MappedLocalTime::Ambiguous(earlier, later) => Some(earlier.timestamp_millis().min(later.timestamp_millis())),
        MappedLocalTime::None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    #[test]
    fn a_slice_is_in_the_windows_that_hold_all_of_it() {
        for (size, slide) in [(60, 60), (900, 60), (90, 60), (100, 40), (7, 3)] {
            let grid = Grid::new(size, slide, None).unwrap();
            for time in -500..500 {
                let plain: Vec<i64> = (-2_000..=time)
                    .rev()
                    .filter(|start: &i64| start.rem_euclid(slide) == 0 && start + size > time)
                    .collect();
                assert_eq!(grid.windows(time), plain, "size {size} slide {slide} time {time}");
                let slice = grid.slice_of(time);
                assert!(slice <= time && time < grid.slice_end(slice));
                assert_eq!(grid.windows(slice), plain, "all of a slice is in the same windows");
            }
        }
    }

    #[test]
    fn days_of_a_zone_follow_one_another_without_gap_through_every_change_of_clocks() {
        for zone in
            [Tz::Europe__Paris, Tz::America__Havana, Tz::America__Sao_Paulo, Tz::Pacific__Apia, Tz::Asia__Kolkata]
        {
            let grid = Grid::new(DAY, DAY, Some(zone)).unwrap();
            let mut start = grid.slice_of(1_300_000_000_000);
            for _ in 0..3_000 {
                let end = grid.end(start);
                let hours = (end - start) / HOUR;
                assert!((23..=25).contains(&hours) || zone == Tz::Pacific__Apia, "{zone}: a day of {hours} hours");
                for inside in [start, start + HOUR, (start + end) / 2, end - 1] {
                    assert_eq!(grid.slice_of(inside), start, "{zone} {inside}");
                }
                assert_eq!(grid.next(start), end);
                start = end;
            }
        }
    }

    #[test]
    fn a_week_of_a_zone_slides_by_days() {
        let grid = Grid::new(7 * DAY, DAY, Some(Tz::Europe__Paris)).unwrap();
        // 2024-03-31 12:00 UTC, the day on which the hour was lost.
        let windows = grid.windows(1_711_886_400_000);
        assert_eq!(windows.len(), 7);
        assert!(windows.iter().all(|w| grid.local(*w) % DAY == 0));
        assert_eq!(grid.end(windows[6]) - windows[6], 7 * DAY - HOUR);
    }

    #[test]
    fn what_cannot_be_a_grid_is_refused() {
        assert!(Grid::new(0, 0, None).is_err());
        assert!(Grid::new(DAY, 1, None).unwrap_err().contains("windows"));
        assert!(Grid::new(DAY * 10_000, DAY * 10_000, None).unwrap_err().contains("ten years"));
        assert!(Grid::new(60, 90, None).unwrap_err().contains("slide"));
        assert!(Grid::new(HOUR, HOUR, Some(Tz::Europe__Paris)).unwrap_err().contains("days"));
    }
}
