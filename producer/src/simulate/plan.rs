//! A simulation with its place in event time.

use super::{Anomaly, SimulateConfig};
use crate::ProducerError;
use sluice_events::{EventTime, LogTime};

/// Checked knobs and anomalies, and when the stream starts.
#[derive(Clone, Debug)]
pub struct SimulationPlan {
    pub(crate) config: SimulateConfig,
    pub(crate) anomalies: Vec<Anomaly>,
    start: EventTime,
    resume_at: Option<EventTime>,
}

impl SimulationPlan {
    /// Fixes the start: `config.start`; else `now`; else, for a stream of known length made as fast as possible, so long
    /// before `now` that it ends about now.
    ///
    /// # Errors
    /// [`ProducerError::Knob`] when a knob or an anomaly makes no sense.
    pub fn new(config: SimulateConfig, anomalies: Vec<Anomaly>, now: LogTime) -> Result<Self, ProducerError> {
        config.check()?;
        for (i, anomaly) in anomalies.iter().enumerate() {
            if let Some(problem) = anomaly.problem() {
                return Err(ProducerError::Knob { key: "anomaly", problem: format!("number {}: {problem}", i + 1) });
            }
        }
        let length_millis = match (config.duration, config.events) {
            (Some(duration), _) => duration.as_millis() as i64,
            (None, Some(events)) => (events as f64 / config.rate * 1_000.0) as i64,
            (None, None) => 0,
        };
        let back = if config.speed == 0.0 { length_millis } else { 0 };
        let start = config.start.unwrap_or(EventTime::new(now.get().saturating_sub(back)));
        Ok(Self { config, anomalies, start, resume_at: None })
    }

    /// Goes on at `time` after an earlier run: the same world and the same place in the scenario, but visits, ids and
    /// orders that no run with another resume time has. Visits that were going on at the stop are not finished.
    /// `duration` and the anomalies still count from the first start; `events` counts anew.
    #[must_use]
    pub fn resumed_at(mut self, time: EventTime) -> Self {
        self.resume_at = Some(time);
        self
    }

    /// When the stream starts, or started at first. Keep it with the data for a restart.
    pub fn start(&self) -> EventTime {
        self.start
    }

    /// Event time of this run's first event, at the earliest.
    pub(crate) fn from(&self) -> EventTime {
        self.resume_at.map_or(self.start, |t| t.max(self.start))
    }

    /// Event time that this run does not reach.
    pub(crate) fn end(&self) -> i64 {
        self.config.duration.map_or(i64::MAX, |d| self.start.get().saturating_add(d.as_millis() as i64))
    }

    /// What draws the visits: the seed alone at first, the seed and the resume time later.
    pub(crate) fn run_seed(&self) -> u64 {
        let mut bytes = self.config.seed.to_le_bytes().to_vec();
        if let Some(time) = self.resume_at {
            bytes.extend_from_slice(&time.get().to_le_bytes());
        }
        xxhash_rust::xxh3::xxh3_64(&bytes)
    }
}
