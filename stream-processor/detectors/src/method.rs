//! Which way one series is watched.

use crate::{
    CoverConfig, EwmaConfig, Reading, ZScoreConfig,
    cover::Cover,
    limits::Limits,
    zscore::{Ewma, ZScore},
};
use serde::{Deserialize, Serialize};

/// How the numbers of one series are judged.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Deviation from the mean of the last windows. The score counts standard deviations, of which a sum's is never below
    /// that of a Poisson count. Tail probability (two-sided) and false alarms a year hold for normal numbers that do not
    /// depend on each other; real ones have longer tails, so count on more false alarms.
    ZScore(ZScoreConfig),
    /// Deviation from an exponentially weighted mean, otherwise alike.
    Ewma(EwmaConfig),
    /// Distance to all that was seen, also at this hour of the day and week. The score is in [0, 1]: 0 is nothing new, a
    /// half usually worth telling. Tail probability and false alarms a year are no theory but how often this series came
    /// to such a score before, real anomalies included; what it never came to counts as if it had come to it once.
    Cover(CoverConfig),
}

impl Method {
    /// The threshold to begin with.
    pub fn usual_threshold(&self) -> f64 {
        match self {
            Self::ZScore(_) | Self::Ewma(_) => 3.0,
            Self::Cover(_) => 0.5,
        }
    }
}

/// One series as its method knows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Series {
    ZScore(ZScore),
    Ewma(Ewma),
    Cover(Box<Cover>),
}

/// No number of a shop is larger, and the square of one such still is a number. What lies beyond is taken for it.
const LARGEST: f64 = 1e30;

impl Series {
    pub(crate) fn new(method: &Method) -> Self {
        match method {
            Method::ZScore(_) => Self::ZScore(ZScore::default()),
            Method::Ewma(_) => Self::Ewma(Ewma::default()),
            Method::Cover(_) => Self::Cover(Box::default()),
        }
    }

    /// Judges the next number by those before it, then learns it. None during warm-up, and for what is no number.
    pub(crate) fn judge(&mut self, start: i64, value: f64, method: &Method, limits: &Limits) -> Option<Reading> {
        if !value.is_finite() {
            return None;
        }
        let value = value.clamp(-LARGEST, LARGEST);
        match (self, method) {
            (Self::ZScore(series), Method::ZScore(config)) => series.judge(value, config, limits),
            (Self::Ewma(series), Method::Ewma(config)) => series.judge(value, config, limits),
            (Self::Cover(series), Method::Cover(config)) => series.judge(start, value, config, limits),
            _ => unreachable!("a series is made by the method that judges it"),
        }
    }

    pub(crate) fn is_warming_up(&self, method: &Method) -> bool {
        match (self, method) {
            (Self::ZScore(series), Method::ZScore(config)) => series.is_warming_up(config),
            (Self::Ewma(series), Method::Ewma(config)) => series.is_warming_up(config),
            (Self::Cover(series), Method::Cover(config)) => series.is_warming_up(config),
            _ => unreachable!("a series is made by the method that judges it"),
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        match self {
            Self::ZScore(series) => series.heap_bytes(),
            Self::Ewma(_) => 0,
            Self::Cover(series) => size_of::<Cover>() + series.heap_bytes(),
        }
    }
}
