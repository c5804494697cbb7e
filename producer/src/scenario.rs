//! A scenario file: knobs and anomalies in TOML.

use crate::{Anomaly, ProducerError, SimulateConfig};
use serde::Deserialize;
use sluice_events::EventTime;
use std::{fs, path::Path, time::Duration};
use toml::Spanned;

/// What a scenario asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// All knobs: those of the scenario over the base.
    pub config: SimulateConfig,
    /// What goes wrong, in the file's order.
    pub anomalies: Vec<Anomaly>,
}

/// `[simulate]` of a scenario: any of the knobs of [`SimulateConfig`], which says what they mean.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "the knobs are documented once, in SimulateConfig")]
pub struct SimulateOverrides {
    pub seed: Option<u64>,
    #[serde(with = "crate::simulate::start_text")]
    pub start: Option<EventTime>,
    pub rate: Option<f64>,
    #[serde(with = "humantime_serde")]
    pub duration: Option<Duration>,
    pub events: Option<u64>,
    pub speed: Option<f64>,
    pub customers: Option<u32>,
    pub products: Option<u32>,
    #[serde(with = "humantime_serde")]
    pub out_of_orderness: Option<Duration>,
    pub duplicates: Option<f64>,
    pub malformed: Option<f64>,
    pub future: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    simulate: SimulateOverrides,
    #[serde(default)]
    anomaly: Vec<Spanned<Anomaly>>,
}

impl SimulateOverrides {
    /// The base with these knobs turned.
    pub fn over(self, base: &SimulateConfig) -> SimulateConfig {
        SimulateConfig {
            seed: self.seed.unwrap_or(base.seed),
            start: self.start.or(base.start),
            rate: self.rate.unwrap_or(base.rate),
            duration: self.duration.or(base.duration),
            events: self.events.or(base.events),
            speed: self.speed.unwrap_or(base.speed),
            customers: self.customers.unwrap_or(base.customers),
            products: self.products.unwrap_or(base.products),
            out_of_orderness: self.out_of_orderness.unwrap_or(base.out_of_orderness),
            duplicates: self.duplicates.unwrap_or(base.duplicates),
            malformed: self.malformed.unwrap_or(base.malformed),
            future: self.future.unwrap_or(base.future),
        }
    }
}

impl Scenario {
    /// Reads a scenario; knobs it does not set come from `base`.
    ///
    /// # Errors
    /// When the file cannot be read, or a key or value makes no sense: names file, line and key.
    pub fn read(path: &Path, base: &SimulateConfig) -> Result<Self, ProducerError> {
        let text = fs::read_to_string(path).map_err(|source| ProducerError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path, base)
    }

    fn parse(text: &str, path: &Path, base: &SimulateConfig) -> Result<Self, ProducerError> {
        let at = |offset: usize, message: String| {
            let line = 1 + text.as_bytes()[..offset.min(text.len())].iter().filter(|b| **b == b'\n').count();
            ProducerError::Scenario { path: path.to_owned(), line, message }
        };
        let file: File = toml::from_str(text).map_err(|e| {
            let span = e.span().unwrap_or_default();
            let written = text.get(span.clone()).filter(|t| !t.is_empty() && t.len() < 40 && !t.contains('\n'));
            let message = written.map_or_else(|| e.message().to_owned(), |t| format!("{} (at `{t}`)", e.message()));
            at(span.start, message)
        })?;
        let mut anomalies = Vec::with_capacity(file.anomaly.len());
        for anomaly in file.anomaly {
            if let Some(problem) = anomaly.get_ref().problem() {
                return Err(at(anomaly.span().start, format!("anomaly: {problem}")));
            }
            anomalies.push(anomaly.into_inner());
        }
        let config = file.simulate.over(base);
        config.check().map_err(|e| {
            let ProducerError::Knob { key, .. } = &e else { return e };
            let line = text.lines().position(|l| l.trim_start().starts_with(key)).map_or(1, |i| i + 1);
            ProducerError::Scenario { path: path.to_owned(), line, message: e.to_string() }
        })?;
        Ok(Self { config, anomalies })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AnomalyKind;

    fn parse(text: &str) -> Result<Scenario, String> {
        Scenario::parse(text, Path::new("shop.toml"), &SimulateConfig::default()).map_err(|e| e.to_string())
    }

    #[test]
    fn a_scenario_turns_some_knobs_and_keeps_the_rest() {
        let scenario = parse(
            "[simulate]\nrate = 250.0\nduration = \"2h\"\n\n[[anomaly]]\nkind = \"price_bug\"\nstart = \"40m\"\nduration = \"5m\"\ncategory = \"books\"\n",
        )
        .unwrap();
        assert_eq!(scenario.config.rate, 250.0);
        assert_eq!(scenario.config.duration, Some(Duration::from_secs(7_200)));
        assert_eq!(scenario.config.customers, SimulateConfig::default().customers);
        assert_eq!(scenario.anomalies[0].kind, AnomalyKind::PriceBug);
        assert_eq!(scenario.anomalies[0].strength(), 0.01);
    }

    #[test]
    fn a_mistake_is_told_with_file_line_and_key() {
        let anomaly = "[[anomaly]]\nkind = \"payment_outage\"\nstart = \"1m\"\nduration = \"5m\"\n";
        for (text, line, words) in [
            ("[simulate]\nseed = 1\nrats = 3\n".to_owned(), 3, "rats"),
            ("[simulate]\nrate = -1.0\n".to_owned(), 2, "rate"),
            ("[simulate]\nduration = \"soon\"\n".to_owned(), 2, "soon"),
            ("\n[simulation]\n".to_owned(), 2, "simulation"),
            (format!("{anomaly}strenght = 1.0\n"), 5, "strenght"),
            (format!("\n{anomaly}country = \"XX\"\n"), 2, "country"),
            (format!("{anomaly}category = \"books\"\n"), 1, "category"),
            (format!("{anomaly}strength = 2.0\n"), 1, "strength"),
            (anomaly.replace("payment_outage", "meteor"), 2, "meteor"),
            ("rate = \n".to_owned(), 1, "shop.toml"),
        ] {
            let message = parse(&text).unwrap_err();
            assert!(message.contains("shop.toml") && message.contains(&format!("line {line}:")), "{text}\n{message}");
            assert!(message.contains(words), "{words}: {message}");
        }
    }
}
