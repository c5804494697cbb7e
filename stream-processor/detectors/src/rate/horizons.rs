//! Over which spans a number is judged, and its sums over each of them in little room.
//!
//! Sums over up to 16 windows come from single windows; those over more from ten cells or fewer of a level of their own,
//! and are there when a cell of it is full. A lane is what one sum needs: the cells of all levels in a row.

use serde::{Deserialize, Serialize};

/// Windows that are kept one by one.
pub(crate) const SINGLE: usize = 16;

/// A span.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Horizon {
    pub(crate) windows: u32,
    pub(crate) level: usize,
    pub(crate) minutes: f64,
    /// log10 of how many independent tests a day brings: as many as fit into it, more where they overlap.
    pub(crate) log10_tests: f64,
}

impl Horizon {
    /// A short one is judged in every window, by the level of the last hour.
    pub(crate) fn is_short(&self) -> bool {
        self.level == 0
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Level {
    /// Windows in a cell.
    cell: u32,
    cells: u32,
    offset: usize,
}

/// Where a window's numbers go in every lane, and which sums it completes: the same for all, so found once.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Place {
    single: usize,
    /// Of each level: the cell, and whether it begins.
    cells: [(usize, bool); LEVELS],
    due: u32,
    whole: u32,
}

impl Place {
    /// Whether the sum over the horizon at a place in the list is there in this window.
    #[inline]
    pub(crate) fn is_due(&self, at: usize) -> bool {
        self.due >> at & 1 == 1
    }

    /// Whether horizons laid side by side end here.
    #[inline]
    pub(crate) fn is_whole(&self, at: usize) -> bool {
        self.whole >> at & 1 == 1
    }
}

/// The spans of a model's windows, and the layout of a lane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Horizons {
    pub(crate) list: Vec<Horizon>,
    levels: Vec<Level>,
    lane: usize,
}

impl Horizons {
    pub(crate) fn new(slide_millis: i64) -> Self {
        let slide = slide_millis as f64 / 60_000.0;
        let mut list: Vec<Horizon> = Vec::new();
        let mut levels = vec![Level { cell: 1, cells: SINGLE as u32, offset: 0 }];
        let mut lane = SINGLE;
        for minutes in MINUTES {
            let windows = ((minutes / slide).round() as u32).max(1);
            if list.last().is_some_and(|last| last.windows >= windows) {
                continue;
            }
            let cells_max = CELLS[(levels.len() - 1).min(CELLS.len() - 1)];
            let level = if windows <= SINGLE as u32 {
                0
            } else {
                let cell = (1..=windows)
                    .find(|cell| windows.is_multiple_of(*cell) && windows / cell <= cells_max)
                    .expect("itself");
                levels.push(Level { cell, cells: windows / cell, offset: lane });
                lane += (windows / cell) as usize;
                levels.len() - 1
            };
            let minutes = f64::from(windows) * slide;
            let overlapping = if level == 0 && windows > 1 { OVERLAPPING } else { 1.0 };
            let log10_tests = (overlapping * 1440.0 / minutes).log10();
            list.push(Horizon { windows, level, minutes, log10_tests });
        }
        Self { list, levels, lane }
    }

    /// Which of them is about an hour long.
    pub(crate) fn about_an_hour(&self) -> usize {
        let hour = self.list.iter().position(|horizon| horizon.minutes >= 60.0);
        hour.unwrap_or(self.list.len() - 1)
    }

    /// Cells of a lane.
    pub(crate) fn lane(&self) -> usize {
        self.lane
    }

    /// Where a window's numbers go. Windows count up.
    pub(crate) fn place(&self, window: u32) -> Place {
        let mut place = Place { single: window as usize % SINGLE, cells: [(0, false); LEVELS], due: 0, whole: 0 };
        for (level, cell) in self.levels[1..].iter().zip(&mut place.cells) {
            *cell = (level.offset + (window / level.cell % level.cells) as usize, window.is_multiple_of(level.cell));
        }
        for (at, horizon) in self.list.iter().enumerate() {
            place.due |= u32::from((window + 1).is_multiple_of(self.levels[horizon.level].cell)) << at;
            place.whole |= u32::from((window + 1).is_multiple_of(horizon.windows)) << at;
        }
        place
    }

    /// Adds a window's number; where a cell begins, what was in it is gone. `is_kept`: whether it goes into the long sums
    /// too.
    #[inline]
    pub(crate) fn push(&self, lane: &mut [f32], place: &Place, x: f32, is_kept: bool) {
        lane[place.single] = x;
        for (cell, is_new) in &place.cells[..self.levels.len() - 1] {
            let cell = &mut lane[*cell];
            if *is_new {
                *cell = 0.0;
            }
            if is_kept {
                *cell += x;
            }
        }
    }

    /// Windows between two sums over a horizon.
    pub(crate) fn step(&self, horizon: &Horizon) -> u32 {
        self.levels[horizon.level].cell
    }

    /// Sum over a horizon up to the window pushed last; for a long one between two cells, what is in its cells.
    pub(crate) fn sum(&self, lane: &[f32], horizon: &Horizon, window: u32) -> f64 {
        if horizon.is_short() {
            return (0..horizon.windows).map(|back| f64::from(lane[window.wrapping_sub(back) as usize % SINGLE])).sum();
        }
        let level = &self.levels[horizon.level];
        lane[level.offset..level.offset + level.cells as usize].iter().map(|x| f64::from(*x)).sum()
    }

    /// Adds up a lane backwards and gives the sum over each short horizon, in order.
    #[inline]
    pub(crate) fn short_sums(&self, lane: &[f32], window: u32) -> [f64; LEVELS] {
        let (mut sums, mut sum, mut back) = ([0.0; LEVELS], 0.0, 0);
        for (at, horizon) in self.list.iter().enumerate().take_while(|(_, horizon)| horizon.is_short()) {
            while back < horizon.windows {
                sum += f64::from(lane[window.wrapping_sub(back) as usize % SINGLE]);
                back += 1;
            }
            sums[at] = sum;
        }
        sums
    }

    /// Empties the long sums.
    pub(crate) fn restart(&self, lane: &mut [f32]) {
        lane[SINGLE..].fill(0.0);
    }
}

/// Cells of long sums at most, shorter ones first: the longer a sum, the less haste has it.
const CELLS: [u32; 3] = [10, 8, 6];

/// How many times the false alarms of spans side by side those that begin in every window have, about.
const OVERLAPPING: f64 = 2.5;

/// Levels of long sums at most: one for each span.
const LEVELS: usize = MINUTES.len();

const MINUTES: [f64; 7] = [1.0, 2.0, 5.0, 15.0, 60.0, 240.0, 1440.0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_follow_the_length_of_windows() {
        let windows = |slide| Horizons::new(slide).list.iter().map(|h| h.windows).collect::<Vec<_>>();
        assert_eq!(windows(60_000), [1, 2, 5, 15, 60, 240, 1440]);
        assert_eq!(windows(300_000), [1, 3, 12, 48, 288]);
        assert_eq!(windows(3_600_000), [1, 4, 24]);
        assert_eq!(windows(86_400_000), [1]);
        assert_eq!(windows(10_000), [6, 12, 30, 90, 360, 1440, 8640]);
    }

    #[test]
    fn sums_are_those_of_all_windows() {
        for slide in [10_000, 60_000, 300_000, 3_600_000] {
            let horizons = Horizons::new(slide);
            let mut lane = vec![0.0; horizons.lane()];
            let numbers: Vec<f32> = (0..5_000u32).map(|at| (at * 7_919 % 101) as f32).collect();
            for (at, x) in numbers.iter().enumerate() {
                let place = horizons.place(at as u32);
                horizons.push(&mut lane, &place, *x, true);
                for (_, horizon) in horizons.list.iter().enumerate().filter(|(which, _)| place.is_due(*which)) {
                    let from = (at + 1).saturating_sub(horizon.windows as usize);
                    let naive: f32 = numbers[from..=at].iter().sum();
                    assert_eq!(horizons.sum(&lane, horizon, at as u32), f64::from(naive), "{horizon:?} at {at}");
                }
                let short = horizons.short_sums(&lane, at as u32);
                for (horizon, sum) in horizons.list.iter().zip(short).filter(|(horizon, _)| horizon.is_short()) {
                    assert_eq!(sum, horizons.sum(&lane, horizon, at as u32));
                }
            }
        }
    }
}
