//! What a count's week looks like in civil time: hour of day, times day of week, times what an hour of the week has of its own.
//!
//! Multiplicative seasons as in Winters, Forecasting sales by exponentially weighted moving averages (Management Science
//! 1960), the two seasons nested as in Taylor, Short-term electricity demand forecasting using double seasonal
//! exponential smoothing (JORS 2003). A day of the week is learnt from 24 hours at once, so a weekend is known after one;
//! an hour of the week departs from hour and day only as far as its own events say so.

use serde::{Deserialize, Serialize};

/// Hours of a week.
const WEEK: usize = 168;
/// Visits of an hour of day after which the profile is trusted alone.
const TRUSTED: f32 = 3.0;
/// Windows' weight in an hour of day, in visits: the mean of about so many days.
const HOUR_VISITS: f32 = 12.0;
/// Events that an hour of day is usual by.
const FEW: f32 = 3.0;
/// Variance of what an hour of the week has of its own, and of the noise of one visit beyond Poisson: logarithms.
const OWN: f32 = 0.004;
const VISIT: f32 = 0.004;

/// A place in the week of civil time: hours since Monday midnight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Civil(pub(crate) f64);

impl Civil {
    /// Of the middle of a window.
    pub(crate) fn of(start: i64, end: i64, offset_millis: i64) -> Self {
        // 1970 began on a Thursday.
        let millis = start.midpoint(end) + offset_millis + 72 * 3_600_000;
        Self(millis.rem_euclid(WEEK as i64 * 3_600_000) as f64 / 3_600_000.0)
    }

    fn slot(self) -> usize {
        (self.0 as usize).min(WEEK - 1)
    }

    /// The two hours of day whose middles it lies between, and how far from the first to the second.
    pub(crate) fn between_hours(self) -> (usize, usize, f64) {
        let from_middle = (self.0 - 0.5).rem_euclid(24.0);
        let hour = from_middle as usize % 24;
        (hour, (hour + 1) % 24, from_middle - from_middle.floor())
    }
}

/// What a profile expects of a window.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Shape {
    /// Events.
    pub(crate) expected: f64,
    /// 0: this time of day is unknown; 1: it is well known.
    pub(crate) known: f64,
    /// Standard deviation of the logarithm by which the expectation may be off because the day of week is new.
    pub(crate) unsure: f64,
}

/// The learnt week of one count.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Profile {
    /// Events in a window by hour of day.
    hours: [f32; 24],
    hour_visits: [u8; 24],
    /// By day of week: events, and what the hours alone would have.
    days: [(f32, f32); 7],
    day_hours: [u8; 7],
    /// By hour of week: logarithm of what is its own, in 4096ths.
    own: Box<[i16]>,
    /// Events, and what the profile without a level would have, of the last days.
    level: (f32, f32),
    /// The hour that is being seen: its number in the week, windows, events.
    open: (u8, f32, f32),
    /// The curve between the middles of two hours, kept until the second is over.
    curve: Curve,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Curve {
    from: u8,
    cubic: [f32; 4],
    known: f32,
    unsure: f32,
}

const NOWHERE: u8 = u8::MAX;

impl Profile {
    pub(crate) fn new() -> Self {
        Self {
            hours: [0.0; 24],
            hour_visits: [0; 24],
            days: [(0.0, 0.0); 7],
            day_hours: [0; 7],
            own: vec![0; WEEK].into(),
            level: (0.0, 0.0),
            open: (NOWHERE, 0.0, 0.0),
            curve: Curve { from: NOWHERE, cubic: [0.0; 4], known: 0.0, unsure: 0.0 },
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>() + WEEK * size_of::<i16>()
    }

    /// The expectation of a window, of which an hour has so many. Where it has more than one there is something between
    /// hours.
    pub(crate) fn shape(&mut self, at: Civil, hour_windows: f32) -> Shape {
        let is_smooth = hour_windows > 1.0;
        let position = if is_smooth { (at.0 - 0.5).rem_euclid(WEEK as f64) } else { at.0 };
        let slot = (position as usize).min(WEEK - 1);
        if usize::from(self.curve.from) != slot {
            self.curve = self.curve_from(slot, hour_windows);
        }
        let (t, c) = ((position - slot as f64) as f32, self.curve.cubic);
        let shape = if is_smooth { ((c[3] * t + c[2]) * t + c[1]) * t + c[0] } else { c[0] };
        let (least, most) = (c[0].min(c[0] + c[1] + c[2] + c[3]), c[0].max(c[0] + c[1] + c[2] + c[3]));
        // A cubic through steep hours may swing below nothing.
        let shape = f64::from(shape.max(0.7 * least).min(1.4 * most).max(0.0));
        Shape { expected: shape * self.level(), known: self.curve.known.into(), unsure: self.curve.unsure.into() }
    }

    /// Learns a window. `kept` is the length of the level's memory: what a window keeps of it. `week`: how many have passed.
    pub(crate) fn learn(&mut self, at: Civil, x: f64, shape: Shape, settings: Learning) {
        let slot = at.slot() as u8;
        if self.open.0 != slot {
            self.close(settings);
            self.open = (slot, 0.0, 0.0);
        }
        self.open.1 += 1.0;
        self.open.2 += x as f32;
        // In a day of the week seen for the first time, what is more or less is the day's, not the level's.
        let is_day_known = self.day_hours[usize::from(slot) / 24] >= 23 || settings.hour_windows <= 1.0;
        if shape.known > 0.0 && is_day_known && settings.is_level_learnt {
            let (keep, without) = (settings.level_keep, shape.expected / self.level());
            self.level.0 = self.level.0 * keep + x as f32;
            self.level.1 = self.level.1 * keep + without as f32;
        }
        if settings.hour_windows <= 1.0 {
            self.close(settings);
            self.open = (NOWHERE, 0.0, 0.0);
        }
    }

    /// How much more there is than the profile says, these days.
    fn level(&self) -> f64 {
        let (seen, without) = (f64::from(self.level.0), f64::from(self.level.1));
        (seen + 50.0) / (without + 50.0)
    }

    /// Without the level. Where an hour has had few events in all, it is taken to be like the `usual` one.
    fn base(&self, slot: usize, usual: f32, hour_windows: f32) -> f32 {
        let seen = f32::from(self.hour_visits[slot % 24]).min(HOUR_VISITS) * hour_windows * usual;
        let hour = if seen > 0.0 { (self.hours[slot % 24] * seen + usual * FEW) / (seen + FEW) } else { usual };
        hour * self.day(slot / 24) * (f32::from(self.own[slot]) / 4096.0).exp()
    }

    /// What is more or less on a day of the week. Before a day was seen, and a little after, it is like the one before it.
    fn day(&self, day: usize) -> f32 {
        let (events, without) = self.days[day];
        let before = self.days[(day + 6) % 7];
        let before = (before.0 + 50.0) / (before.1 + 50.0);
        let prior = 50.0 + 2.0 * without / f32::from(self.day_hours[day].max(1));
        (events + prior * before) / (without + prior)
    }

    fn curve_from(&self, slot: usize, hour_windows: f32) -> Curve {
        let is_smooth = hour_windows > 1.0;
        let visited = || (0..24).filter(|hour| self.hour_visits[*hour] > 0);
        let usual = visited().map(|hour| self.hours[hour]).sum::<f32>() / (visited().count().max(1) as f32);
        let base = |slot: usize| self.base(slot, usual, hour_windows);
        let at = |ahead: usize| (slot + WEEK + ahead - 2) % WEEK;
        let known = |slot: usize| (f32::from(self.hour_visits[slot % 24]) / TRUSTED).min(1.0);
        let unsure = |slot: usize| DAY_UNSURE / (1.0 + (f32::from(self.day_hours[slot / 24]) / 24.0).powi(2));
        let from = slot as u8;
        if !is_smooth {
            return Curve { from, cubic: [base(slot), 0.0, 0.0, 0.0], known: known(slot), unsure: unsure(slot) };
        }
        let mut mean = [0.0; 6];
        for (ahead, mean) in mean.iter_mut().enumerate() {
            let known = self.hour_visits[at(ahead) % 24] > 0;
            *mean = if known { base(at(ahead)) } else { base(at(if ahead < 3 { 2 } else { 3 })) };
        }
        // What stands at an hour's middle is not its mean where the day bends.
        let mut middle = [0.0; 4];
        for (at, middle) in middle.iter_mut().enumerate() {
            let bend = mean[at] - 2.0 * mean[at + 1] + mean[at + 2];
            *middle = (mean[at + 1] - bend / 24.0).max(0.5 * mean[at + 1]);
        }
        let [before, first, second, after] = middle;
        // Catmull and Rom, A class of local interpolating splines (1974).
        let cubic = [
            first,
            (second - before) / 2.0,
            before - 2.5 * first + 2.0 * second - 0.5 * after,
            1.5 * (first - second) + 0.5 * (after - before),
        ];
        Curve { from, cubic, known: known(at(2)).min(known(at(3))), unsure: unsure(at(2)).max(unsure(at(3))) }
    }

    /// Takes what the open hour had into the profile, if most of it was seen.
    fn close(&mut self, settings: Learning) {
        let (slot, windows, sum) = self.open;
        if slot == NOWHERE || windows < 0.5 * settings.hour_windows {
            return;
        }
        let (slot, hour, day) = (usize::from(slot), usize::from(slot) % 24, usize::from(slot) / 24);
        let mean = sum / windows / self.level() as f32;
        let (day_factor, own) = (self.day(day), (f32::from(self.own[slot]) / 4096.0).exp());
        let visits = f32::from(self.hour_visits[hour]);
        // On the first of its days of the week it is not known early what is the hour's and what the day's.
        let sure = if visits > 0.0 { f32::from(self.day_hours[day].min(24)) / 24.0 } else { 1.0 };
        let gain = sure * (1.0 / (visits + 1.0)).max(1.0 / HOUR_VISITS);
        self.hours[hour] += (mean / (day_factor * own) - self.hours[hour]) * gain;
        if sure > 0.5 || visits < TRUSTED {
            self.hour_visits[hour] = self.hour_visits[hour].saturating_add(1);
        }
        let keep = (-1.0f32 / 72.0).exp();
        self.days[day].0 = self.days[day].0 * keep + mean * windows;
        self.days[day].1 = self.days[day].1 * keep + self.hours[hour] * windows;
        self.day_hours[day] = self.day_hours[day].saturating_add(1);
        let without_own = self.hours[hour] * self.day(day);
        let events = without_own * windows;
        let noise = 1.0 / (events + 1.0) + VISIT;
        let gain = sure * (OWN / ((settings.week + 1.0) * OWN + noise)).max(0.2 * OWN / (OWN + noise));
        let seen = ((mean * windows + 10.0) / (events + 10.0)).ln();
        let own = f32::from(self.own[slot]) / 4096.0;
        self.own[slot] = ((own + gain * (seen - own)) * 4096.0).round().clamp(-32_000.0, 32_000.0) as i16;
        self.curve.from = NOWHERE;
    }
}

/// How far off a day of the week may be that was never seen: logarithm.
const DAY_UNSURE: f32 = 0.12;

/// How windows are learnt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Learning {
    /// What a window leaves of the level's memory.
    pub(crate) level_keep: f32,
    /// Whether the level is learnt too.
    pub(crate) is_level_learnt: bool,
    /// Windows in an hour.
    pub(crate) hour_windows: f32,
    /// Whole weeks that the series has been seen.
    pub(crate) week: f32,
}
