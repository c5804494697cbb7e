//! The comment that opens a model's file: what the numbers mean, and what watches them.

use crate::{Direction, Method};
use sluice_events::Severity;
use std::collections::BTreeMap;

/// What a model's file says about itself in its leading `-- key: value` lines.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Header {
    /// Name for people.
    pub title: String,
    /// What one row is.
    pub grain: String,
    /// Units of the measures.
    pub unit: String,
    /// How each measure is computed.
    pub definition: String,
    /// Where the definition comes from.
    pub source: String,
    /// Detectors.
    pub detect: Vec<DetectSpec>,
    /// Where its panes go.
    pub publish: Publish,
}

/// Where the panes of a model go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Publish {
    /// To the lake when they are sealed, and to the KPI store and the topic of KPIs at every stage.
    #[default]
    Store,
    /// To the lake only, and to the models that read them: for rows that are many, and no KPIs.
    Lake,
}

/// One `detect:` line.
#[derive(Clone, Debug, PartialEq)]
pub struct DetectSpec {
    /// The measure watched.
    pub measure: String,
    /// How.
    pub method: Method,
    /// Which deviations count.
    pub direction: Direction,
    /// Standard deviations from which an alert fires.
    pub threshold: f64,
    /// Windows learnt from.
    pub window: usize,
    /// Windows seen before the first alert.
    pub warmup: usize,
    /// Severity of its alerts.
    pub severity: Severity,
    /// Only series with these group values.
    pub only: BTreeMap<String, String>,
}

/// A header line that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct HeaderError {
    /// 1-based line of the file.
    pub line: usize,
    /// What is wrong and what would be right.
    pub message: String,
}

impl Header {
    /// Reads the leading comment lines of a model's file.
    ///
    /// # Errors
    /// With the line of the first key or value that is not known.
    pub fn parse(text: &str) -> Result<Self, HeaderError> {
        let mut header = Self::default();
        for (i, line) in text.lines().enumerate() {
            let Some(comment) = line.trim().strip_prefix("--") else {
                if line.trim().is_empty() {
                    continue;
                }
                break;
            };
            let error = |message: String| HeaderError { line: i + 1, message };
            let Some((key, value)) = comment.split_once(':') else { continue };
            let (key, value) = (key.trim(), value.trim());
            let field = match key {
                "title" => &mut header.title,
                "grain" => &mut header.grain,
                "unit" => &mut header.unit,
                "definition" => &mut header.definition,
                "source" => &mut header.source,
                "publish" => {
                    header.publish = match value {
                        "store" => Publish::Store,
                        "lake" => Publish::Lake,
                        _ => return Err(error(format!("publish: '{value}' is none of store, lake"))),
                    };
                    continue;
                }
                "detect" => {
                    header.detect.push(DetectSpec::parse(value).map_err(error)?);
                    continue;
                }
                // Prose that happens to have a colon.
                _ if key.contains(' ') => continue,
                _ => {
                    return Err(error(format!(
                        "unknown header key '{key}'; known are title, grain, unit, definition, source, publish, detect"
                    )));
                }
            };
            value.clone_into(field);
        }
        Ok(header)
    }
}

impl DetectSpec {
    fn parse(text: &str) -> Result<Self, String> {
        let mut spec = Self {
            measure: String::new(),
            method: Method::ZScore,
            direction: Direction::Both,
            threshold: 4.0,
            window: 60,
            warmup: 15,
            severity: Severity::Warning,
            only: BTreeMap::new(),
        };
        for pair in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(|| format!("'{pair}' in detect is not key=value"))?;
            let (key, value) = (key.trim(), value.trim());
            let number =
                |name: &str| value.parse::<usize>().map_err(|_| format!("detect: {name}={value} is no number"));
            match key {
                "measure" => value.clone_into(&mut spec.measure),
                "method" => {
                    spec.method = match value {
                        "zscore" => Method::ZScore,
                        _ => return Err(format!("detect: method '{value}' is not known; known is zscore")),
                    }
                }
                "direction" => {
                    spec.direction = match value {
                        "up" => Direction::Up,
                        "down" => Direction::Down,
                        "both" => Direction::Both,
                        _ => return Err(format!("detect: direction '{value}' is none of up, down, both")),
                    }
                }
                "severity" => {
                    spec.severity = match value {
                        "info" => Severity::Info,
                        "warning" => Severity::Warning,
                        "critical" => Severity::Critical,
                        _ => return Err(format!("detect: severity '{value}' is none of info, warning, critical")),
                    }
                }
                "threshold" => {
                    spec.threshold = value
                        .parse()
                        .ok()
                        .filter(|t: &f64| *t > 0.0)
                        .ok_or_else(|| format!("detect: threshold={value} is no number above 0"))?;
                }
                "window" => spec.window = number("window")?.clamp(2, 100_000),
                "warmup" => spec.warmup = number("warmup")?.max(2),
                _ => match key.strip_prefix("group.") {
                    Some(column) => drop(spec.only.insert(column.to_owned(), value.to_owned())),
                    None => {
                        return Err(format!(
                            "detect: unknown key '{key}'; known are measure, method, direction, threshold, window, \
                             warmup, severity, group.<column>"
                        ));
                    }
                },
            }
        }
        if spec.measure.is_empty() {
            return Err("detect: measure=<column> is missing".to_owned());
        }
        spec.warmup = spec.warmup.min(spec.window);
        Ok(spec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_and_its_mistakes_are_named() {
        let header = Header::parse(
            "-- title: Sales\n-- detect: measure=orders, direction=down, group.country=FR\nSELECT 1 -- unit: no",
        )
        .unwrap();
        assert_eq!(header.title, "Sales");
        assert_eq!(header.unit, "");
        assert_eq!(header.detect[0].direction, Direction::Down);
        assert_eq!(header.detect[0].only["country"], "FR");
        let wrong = |text| Header::parse(text).unwrap_err();
        assert_eq!(wrong("\n-- titel: x").line, 2);
        assert!(wrong("-- detect: measure=a, method=magic").message.contains("magic"));
        assert!(wrong("-- detect: direction=up").message.contains("measure"));
    }
}
