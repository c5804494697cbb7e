//! How fast everything is learnt, by the length of windows.

use super::horizons::{Horizon, Horizons};
use super::profile::Learning;
use serde::{Deserialize, Serialize};

/// What a window leaves of each memory, and other spans in windows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pace {
    /// Of the level of the last hour; none where windows are too long for it.
    pub(crate) fast: Option<f32>,
    /// Of the level of the last minutes, for who has no profile yet.
    pub(crate) local: f32,
    /// Of the level of the last days.
    pub(crate) level: f32,
    /// Of an hour of day of a quotient, and of all of it.
    pub(crate) hourly: f32,
    pub(crate) quotient: f64,
    /// Of sizes and spreads of amounts.
    pub(crate) amounts: f32,
    /// Of what a long horizon is unsure of.
    pub(crate) unsure: f32,
    /// Of the dispersion of each horizon, for each sum learnt.
    pub(crate) dispersion: Vec<f32>,
    /// Windows in an hour, at least one, and without a least.
    pub(crate) hour: u32,
    pub(crate) hour_windows: f32,
    pub(crate) hours_in_window: f32,
}

impl Pace {
    pub(crate) fn new(slide_millis: i64, horizons: &Horizons) -> Self {
        let minutes = slide_millis as f64 / 60_000.0;
        // Half-lives, and the windows that they are at least.
        let keep = |half_life: f64, least: f64| (-std::f64::consts::LN_2 / (half_life / minutes).max(least)).exp();
        let dispersion = |horizon: &Horizon| {
            let sums = if horizon.is_short() { horizon.windows } else { horizons.step(horizon) };
            keep(4.0 * DAY, 20.0 * f64::from(horizon.windows)).powi(sums as i32) as f32
        };
        let hour_windows = (60.0 / minutes) as f32;
        Self {
            fast: (minutes <= 15.0).then(|| keep(FAST_MINUTES, 8.0) as f32),
            local: keep(8.0 * minutes, 8.0) as f32,
            level: keep(LEVEL_DAYS * DAY, 12.0) as f32,
            hourly: keep(7.0 * 60.0, 7.0) as f32,
            quotient: keep(QUOTIENT_DAYS * DAY, 20.0),
            amounts: keep(2.0 * DAY, 60.0) as f32,
            unsure: keep(180.0, 8.0) as f32,
            dispersion: horizons.list.iter().map(dispersion).collect(),
            hour: (hour_windows.round() as u32).max(1),
            hour_windows,
            hours_in_window: (minutes / 60.0) as f32,
        }
    }

    /// How a profile of a series of some age in windows learns.
    pub(crate) fn learning(&self, age: u32, is_level_learnt: bool) -> Learning {
        let week = (age as f32 * self.hours_in_window / 168.0).floor();
        Learning { level_keep: self.level, is_level_learnt, hour_windows: self.hour_windows, week }
    }
}

const DAY: f64 = 1440.0;
/// Half-lives.
const FAST_MINUTES: f64 = 40.0;
const LEVEL_DAYS: f64 = 4.0;
const QUOTIENT_DAYS: f64 = 5.0;
