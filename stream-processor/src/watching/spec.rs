//! A `detect:` line of a model's header: what is watched, and how.

use sluice_detectors::Direction;
use sluice_events::Severity;
use std::{collections::BTreeMap, fmt};

/// How a number is watched.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// Deviations from the mean of the last windows.
    ZScore {
        /// Windows learnt from.
        window: usize,
        /// Windows seen before the first judgement.
        warmup: usize,
    },
    /// Deviations from an exponentially weighted mean.
    Ewma {
        /// Windows after which a value has half of its weight.
        half_life: f64,
        /// Windows seen before the first judgement.
        warmup: usize,
    },
    /// Counts and rates against the season, the level and their own dispersion, over several horizons.
    Rate,
    /// Values unlike any seen before.
    Cover,
}

impl Method {
    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ZScore { .. } => "zscore",
            Self::Ewma { .. } => "ewma",
            Self::Rate => "rate",
            Self::Cover => "cover",
        }
    }

    /// The score from which on it fires, where the line says none.
    const fn threshold(self) -> f64 {
        match self {
            Self::ZScore { .. } | Self::Ewma { .. } | Self::Rate => 4.0,
            Self::Cover => 0.5,
        }
    }
}

/// Columns added up, and divided by others: `revenue`, `purchases / checkouts`, `abandons / (abandons + purchases)`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MeasureText {
    /// Columns above the line.
    pub numerator: Vec<String>,
    /// Columns below it; nothing when nothing is divided.
    pub denominator: Vec<String>,
}

impl fmt::Display for MeasureText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = |columns: &[String]| match columns {
            [one] => one.clone(),
            many => format!("({})", many.join(" + ")),
        };
        match self.denominator.is_empty() {
            true => f.write_str(&self.numerator.join(" + ")),
            false => write!(f, "{} / {}", side(&self.numerator), side(&self.denominator)),
        }
    }
}

impl MeasureText {
    /// Reads `a`, `a+b`, `a/b`, `a/(b+c)`.
    fn parse(text: &str) -> Result<Self, String> {
        let side = |text: &str| -> Result<Vec<String>, String> {
            let text = text.trim();
            let text = text.strip_prefix('(').and_then(|t| t.strip_suffix(')')).unwrap_or(text);
            let columns: Vec<String> = text.split('+').map(|c| c.trim().to_owned()).collect();
            let is_name = |c: &String| !c.is_empty() && c.chars().all(|c| c.is_alphanumeric() || c == '_');
            match columns.iter().all(is_name) {
                true => Ok(columns),
                false => Err(format!("detect: '{text}' is no column, and no sum of columns such as a+b")),
            }
        };
        match text.split_once('/') {
            None => Ok(Self { numerator: side(text)?, denominator: Vec::new() }),
            Some((numerator, denominator)) => Ok(Self { numerator: side(numerator)?, denominator: side(denominator)? }),
        }
    }

    /// All columns it reads.
    pub fn columns(&self) -> impl Iterator<Item = &String> {
        self.numerator.iter().chain(&self.denominator)
    }
}

/// One watched measure.
#[derive(Clone, Debug, PartialEq)]
pub struct DetectSpec {
    /// Its name in alerts: as given, or as the measure is written.
    pub name: String,
    /// What is watched.
    pub measure: MeasureText,
    /// How.
    pub method: Method,
    /// Which deviations count.
    pub direction: Direction,
    /// The score from which on an alert fires, in the method's own measure.
    pub threshold: f64,
    /// Severity of its alerts, before their score and the money at stake are looked at.
    pub severity: Severity,
    /// Whether sums over the group columns are watched too.
    pub rolls_up: bool,
    /// The column that says how much money a deviation is worth.
    pub money: Option<String>,
    /// Money at stake from which on an alert is one severity higher; below a tenth of it, one lower.
    pub stake: Option<f64>,
    /// Only series with these group values.
    pub only: BTreeMap<String, String>,
}

const KEYS: &str = "measure, name, method, direction, threshold, window, half_life, warmup, severity, rollups, money, \
                    stake, group.<column>";

impl DetectSpec {
    /// Reads what follows `detect:`. One line may name several measures, with spaces between them.
    ///
    /// # Errors
    /// With the key or value that is wrong, and what would be right.
    pub fn parse(text: &str) -> Result<Vec<Self>, String> {
        let mut values: BTreeMap<&str, &str> = BTreeMap::new();
        let mut only = BTreeMap::new();
        for pair in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(|| format!("'{pair}' in detect is not key=value"))?;
            let (key, value) = (key.trim(), value.trim());
            match key.strip_prefix("group.") {
                Some(column) => drop(only.insert(column.to_owned(), value.to_owned())),
                None if KEYS.split(", ").any(|known| known == key) => drop(values.insert(key, value)),
                None => return Err(format!("detect: unknown key '{key}'; known are {KEYS}")),
            }
        }
        let method = method(&values)?;
        let threshold = match values.get("threshold") {
            None => method.threshold(),
            Some(value) => positive("threshold", value)?,
        };
        let spec = Self {
            name: String::new(),
            measure: MeasureText { numerator: Vec::new(), denominator: Vec::new() },
            method,
            direction: choice(
                &values,
                "direction",
                &[("both", Direction::Both), ("up", Direction::Up), ("down", Direction::Down)],
            )?,
            threshold,
            severity: choice(
                &values,
                "severity",
                &[("warning", Severity::Warning), ("info", Severity::Info), ("critical", Severity::Critical)],
            )?,
            rolls_up: choice(&values, "rollups", &[("yes", true), ("no", false)])?,
            money: values.get("money").map(|column| (*column).to_owned()),
            stake: values.get("stake").map(|value| positive("stake", value)).transpose()?,
            only,
        };
        let measures = measures(values.get("measure").copied().unwrap_or_default());
        if measures.is_empty() {
            return Err("detect: measure=<column> is missing".to_owned());
        }
        if measures.len() > 1 && values.contains_key("name") {
            return Err("detect: a name is for one measure; write a line for each".to_owned());
        }
        let named = |text: String| {
            let measure = MeasureText::parse(&text)?;
            let name = values.get("name").map_or_else(|| measure.to_string().replace(' ', ""), |n| (*n).to_owned());
            Ok(Self { name, measure, ..spec.clone() })
        };
        measures.into_iter().map(named).collect()
    }
}

/// The measures of a list with spaces between them; spaces around an operator separate nothing.
fn measures(text: &str) -> Vec<String> {
    let mut tight = text.trim().to_owned();
    for operator in ['/', '+', '(', ')'] {
        tight = tight.split(operator).map(str::trim).collect::<Vec<_>>().join(&operator.to_string());
    }
    tight.split_whitespace().map(str::to_owned).collect()
}

fn method(values: &BTreeMap<&str, &str>) -> Result<Method, String> {
    let count = |key: &str, default: usize| {
        let value = values.get(key);
        value.map_or(Ok(default), |v| v.parse().map_err(|_| format!("detect: {key}={v} is no whole number")))
    };
    let method = values.get("method").copied().unwrap_or("rate");
    let fits: &[&str] = match method {
        "zscore" => &["window", "warmup"],
        "ewma" => &["half_life", "warmup"],
        "rate" | "cover" => &[],
        other => return Err(format!("detect: method '{other}' is not known; known are rate, zscore, ewma, cover")),
    };
    for key in ["window", "half_life", "warmup"] {
        if values.contains_key(key) && !fits.contains(&key) {
            let settings =
                if fits.is_empty() { "it learns them".to_owned() } else { format!("it has {}", fits.join(", ")) };
            return Err(format!("detect: {key} is no setting of method {method}: {settings}"));
        }
    }
    Ok(match method {
        "zscore" => {
            let window = count("window", 60)?.clamp(2, 100_000);
            Method::ZScore { window, warmup: count("warmup", 15)?.clamp(2, window) }
        }
        "ewma" => Method::Ewma {
            half_life: values.get("half_life").map_or(Ok(30.0), |v| positive("half_life", v))?,
            warmup: count("warmup", 15)?.max(2),
        },
        "rate" => Method::Rate,
        _ => Method::Cover,
    })
}

fn positive(key: &str, value: &str) -> Result<f64, String> {
    let number: Option<f64> = value.parse().ok();
    number.filter(|n| *n > 0.0 && n.is_finite()).ok_or_else(|| format!("detect: {key}={value} is no number above 0"))
}

/// The first choice is the default.
fn choice<T: Copy>(values: &BTreeMap<&str, &str>, key: &str, choices: &[(&str, T)]) -> Result<T, String> {
    let Some(value) = values.get(key) else { return Ok(choices[0].1) };
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    let chosen = choices.iter().find(|(name, _)| name == value);
    chosen.map(|(_, it)| *it).ok_or_else(|| format!("detect: {key} '{value}' is none of {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_may_watch_several_measures_rates_and_sums() {
        let specs = DetectSpec::parse(
            "measure=views carts / views abandons/(abandons + purchases), direction=down, group.country=FR, threshold=5",
        );
        let specs = specs.unwrap();
        let names: Vec<&str> = specs.iter().map(|s| &*s.name).collect();
        assert_eq!(names, ["views", "carts/views", "abandons/(abandons+purchases)"]);
        assert_eq!(specs[2].measure.to_string(), "abandons / (abandons + purchases)");
        assert_eq!(specs[1].measure.denominator, ["views"]);
        assert!(specs.iter().all(|s| s.method == Method::Rate && s.threshold == 5.0 && s.only["country"] == "FR"));
        let named =
            DetectSpec::parse("measure=revenue/orders, name=aov, method=zscore, window=30, severity=critical").unwrap();
        assert_eq!((&*named[0].name, named[0].method), ("aov", Method::ZScore { window: 30, warmup: 15 }));
    }

    #[test]
    fn mistakes_are_named() {
        let wrong = |text| DetectSpec::parse(text).unwrap_err();
        assert!(wrong("measure=a, method=magic").contains("magic"));
        assert!(wrong("direction=up").contains("measure"));
        assert!(wrong("measure=a, window=7").contains("window"));
        assert!(wrong("measure=a b, name=c").contains("name"));
        assert!(wrong("measure=a-b").contains("a-b"));
        assert!(wrong("measure=a, threshold=-1").contains("threshold"));
        assert!(wrong("measure=a, colour=red").contains("colour"));
        assert!(wrong("measure=a, severity=bad").contains("critical"));
    }
}
