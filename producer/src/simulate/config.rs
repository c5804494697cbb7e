//! The knobs of the simulator.

use crate::ProducerError;
use chrono::{DateTime, SecondsFormat};
use serde::{Deserialize, Serialize};
use sluice_events::EventTime;
use std::time::Duration;

/// Section `[simulate]`. The same knobs and the same seed give the same bytes.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SimulateConfig {
    /// Fixes every draw.
    pub seed: u64,
    /// Event time of the stream's start, such as `"2024-11-29T00:00:00Z"`. Not set: now; with `speed = 0` and a known
    /// length so long ago that the stream ends about now.
    #[serde(default, with = "start_text", skip_serializing_if = "Option::is_none")]
    pub start: Option<EventTime>,
    /// Mean events a second of event time, over a week: nights are quieter, evenings busier.
    pub rate: f64,
    /// Event time from first to last event, such as `"2h"`. Not set: no end.
    #[serde(default, with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub duration: Option<Duration>,
    /// Stop after this many events (duplicates not counted). Not set: no end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<u64>,
    /// Seconds of event time that pass in one second: 1 is real time, 0 as fast as possible.
    pub speed: f64,
    /// Registered customers. About 15 % of all sessions are anonymous.
    pub customers: u32,
    /// Products; the n-th is seen about 1/n as often as the first.
    pub products: u32,
    /// An event arrives up to this much after it happened, most of them soon.
    #[serde(with = "humantime_serde")]
    pub out_of_orderness: Duration,
    /// Share of events that arrive twice, within `out_of_orderness` or a second.
    pub duplicates: f64,
    /// Share of events whose bytes are damaged: cut, wrong magic byte, garbage, bytes after the end.
    pub malformed: f64,
    /// Share of events stamped 2 to 30 days ahead (with `start` set: in 2100, so that the same bytes stay in the future).
    pub future: f64,
}

impl Default for SimulateConfig {
    fn default() -> Self {
        Self {
            seed: 1,
            start: None,
            rate: 100.0,
            duration: None,
            events: None,
            speed: 1.0,
            customers: 200_000,
            products: 2_000,
            out_of_orderness: Duration::from_secs(2),
            duplicates: 0.001,
            malformed: 0.0001,
            future: 0.0,
        }
    }
}

impl SimulateConfig {
    /// Whether every knob makes sense.
    ///
    /// # Errors
    /// [`ProducerError::Knob`] for the first that does not.
    pub fn check(&self) -> Result<(), ProducerError> {
        let knob = |key, problem: String| Err(ProducerError::Knob { key, problem });
        if !(self.rate > 0.0 && self.rate <= 1e9) {
            return knob("rate", format!("{} events a second; give a number above 0", self.rate));
        }
        if !(self.speed >= 0.0 && self.speed.is_finite()) {
            return knob("speed", format!("{}; give 1 for real time, 0 for as fast as possible", self.speed));
        }
        if self.products == 0 {
            return knob("products", "a shop needs at least 1 product".into());
        }
        if self.duration.is_some_and(|d| d.is_zero()) {
            return knob("duration", "is zero; leave it out for a stream without end".into());
        }
        if self.out_of_orderness > Duration::from_secs(86_400) {
            return knob("out_of_orderness", "is above a day".into());
        }
        for (key, share) in [("duplicates", self.duplicates), ("malformed", self.malformed), ("future", self.future)] {
            if !(0.0..=1.0).contains(&share) {
                return knob(key, format!("{share} is no share; give a number from 0 to 1"));
            }
        }
        Ok(())
    }
}

/// An event time as people write it.
pub(crate) fn time_text(time: EventTime) -> String {
    DateTime::from_timestamp_millis(time.get())
        .map_or_else(|| time.to_string(), |t| t.to_rfc3339_opts(SecondsFormat::Millis, true))
}

/// `start` as text.
pub(crate) mod start_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use sluice_events::{EventTime, parse_event_time};

    pub(crate) fn serialize<S: Serializer>(start: &Option<EventTime>, to: S) -> Result<S::Ok, S::Error> {
        match start {
            Some(time) => to.serialize_str(&super::time_text(*time)),
            None => to.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<EventTime>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        let time =
            text.map(|t| parse_event_time(&t).map_err(|e| D::Error::custom(format!("start: {e}")))).transpose()?;
        if time.is_some_and(|t| t < EventTime::EARLIEST) {
            return Err(D::Error::custom("start: before 1980"));
        }
        Ok(time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_knobs_read_back_as_written_and_a_wrong_one_is_named() {
        let config = SimulateConfig {
            start: Some(EventTime::new(1_732_838_400_000)),
            duration: Some(Duration::from_secs(7_200)),
            ..SimulateConfig::default()
        };
        let text = toml::to_string(&config).unwrap();
        assert!(text.contains("start = \"2024-11-29T00:00:00.000Z\""), "{text}");
        assert_eq!(toml::from_str::<SimulateConfig>(&text).unwrap(), config);
        assert!(config.check().is_ok());
        let wrong = SimulateConfig { malformed: 2.0, ..config };
        assert!(wrong.check().unwrap_err().to_string().starts_with("malformed: 2 is no share"));
    }
}
