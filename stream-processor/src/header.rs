//! The comment that opens a model's file: what the numbers mean, and what watches them.

use crate::DetectSpec;

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
        Self::parse_with(text, "")
    }

    /// The same, with these `key=value` after those of each `detect:` line: of two for one key the later counts.
    ///
    /// # Errors
    /// As [`Header::parse`].
    pub fn parse_with(text: &str, overrides: &str) -> Result<Self, HeaderError> {
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
                    header.detect.extend(DetectSpec::parse(&format!("{value}, {overrides}")).map_err(error)?);
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
        assert_eq!(header.detect[0].name, "orders");
        let wrong = |text| Header::parse(text).unwrap_err();
        assert_eq!(wrong("\n-- titel: x").line, 2);
        assert!(wrong("-- detect: measure=a, method=magic").message.contains("magic"));
    }
}
