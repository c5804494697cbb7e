//! One expectation, compiled against the table it is about.

use crate::{
    ExpectationConfig, Figure, KeySet, Kind, Moment, QualityConfig, Reference, Severity, Tally,
    rule::{Rule, filled, hash_texts, no_column},
};
use arrow::{
    array::{ArrayRef, AsArray, RecordBatch},
    compute::{cast, max},
    datatypes::{DataType, SchemaRef, TimeUnit, TimestampMillisecondType},
    error::ArrowError,
};
use std::time::Duration;

/// A table that expectations may be about.
#[derive(Clone, Debug)]
pub struct CheckedTable {
    /// Its name in SQL.
    pub name: &'static str,
    /// Its columns.
    pub schema: SchemaRef,
    /// Where hard expectations of it are judged, and by which columns: a row that breaks one never comes into the table,
    /// so it is measured where it still is. None: a hard expectation is not possible.
    pub hard: Option<(&'static str, SchemaRef)>,
}

/// A setting that makes no sense: which, why, and what would.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("quality.expectations.{name}{key}: {reason}")]
pub struct QualityError {
    /// The expectation.
    pub name: String,
    /// `.column` and the like; empty: all of it.
    pub key: String,
    /// What is wrong and what to do.
    pub reason: String,
}

#[derive(Clone, Debug)]
enum Check {
    Filled { column: usize },
    Distinct { column: usize },
    Holds(Rule),
    Fresh { column: usize, within: Duration },
    Rows { at_least: u64, at_most: u64 },
    Known { column: usize, key: Reference },
}

/// An expectation that can be measured.
#[derive(Clone, Debug)]
pub struct Expectation {
    /// Its name.
    pub name: String,
    /// The table over whose rows it is measured; of a hard one, that of the rows as received.
    pub table: String,
    /// What it is about.
    pub kind: Kind,
    /// What follows when it is not met.
    pub severity: Severity,
    /// It in a few words, or its SQL.
    pub rule: String,
    /// Of kinds that are a share of rows: the least share.
    pub at_least: Option<f64>,
    check: Check,
}

/// Compiles all expectations that are on, in the order of their names.
///
/// # Errors
/// The first setting that makes no sense.
pub fn compile(config: &QualityConfig, tables: &[CheckedTable]) -> Result<Vec<Expectation>, QualityError> {
    let all = config.expectations.iter().map(|(name, settings)| Expectation::compile(name, settings, tables));
    let is_on = |e: &Result<Expectation, QualityError>| e.as_ref().map_or(true, |e| e.severity != Severity::Off);
    all.filter(is_on).collect()
}

impl Expectation {
    fn compile(name: &str, settings: &ExpectationConfig, tables: &[CheckedTable]) -> Result<Self, QualityError> {
        let wrong = |key: &str, reason: String| {
            let key = if key.is_empty() { String::new() } else { format!(".{key}") };
            QualityError { name: name.to_owned(), key, reason }
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if name.is_empty() || !name.chars().all(is_name) {
            return Err(wrong("", "a name has letters, digits, _ and - only: it is a label of metrics".to_owned()));
        }
        let Some(table) = tables.iter().find(|table| table.name == settings.table) else {
            let known: Vec<&str> = tables.iter().map(|table| table.name).collect();
            let reason = format!("'{}' is not checked; there are {}", settings.table, known.join(", "));
            return Err(wrong("table", reason));
        };
        only_its_keys(settings).map_err(|(key, reason)| wrong(key, reason))?;
        let (measured, schema) = match (settings.severity, &table.hard) {
            (Severity::Hard, _) if !settings.kind.is_by_row() => {
                let kind = settings.kind.as_str();
                let reason = format!("{kind} cannot be judged row by row: hard is for completeness and validity");
                return Err(wrong("severity", reason));
            }
            (Severity::Hard, None) => {
                let able: Vec<&str> = tables.iter().filter(|t| t.hard.is_some()).map(|t| t.name).collect();
                let reason = format!("hard is possible for {}, not for {}", able.join(", "), table.name);
                return Err(wrong("severity", reason));
            }
            (Severity::Hard, Some((measured, schema))) => (*measured, schema),
            _ => (table.name, &table.schema),
        };
        let at_least = match settings.at_least {
            _ if !settings.kind.is_share() => None,
            None => Some(1.0),
            Some(share) if (0.0..=1.0).contains(&share) => Some(share),
            Some(share) => {
                return Err(wrong("at_least", format!("{share} is no share: give a number from 0 to 1, such as 0.99")));
            }
        };
        let column = || match &settings.column {
            None => Err(wrong("column", format!("{} needs one", settings.kind.as_str()))),
            Some(column) => {
                let found = schema.column_with_name(column).map(|(at, _)| (at, column.clone()));
                found.ok_or_else(|| wrong("column", no_column(column, schema)))
            }
        };
        let (check, rule) = match settings.kind {
            Kind::Completeness => {
                let (column, name) = column()?;
                (Check::Filled { column }, format!("{name} is there"))
            }
            Kind::Uniqueness => {
                let (column, name) = column()?;
                (Check::Distinct { column }, format!("{name} does not repeat"))
            }
            Kind::Validity => {
                let text = settings.rule.as_deref().ok_or_else(|| wrong("rule", "validity needs one".to_owned()))?;
                (Check::Holds(Rule::compile(text, schema).map_err(|reason| wrong("rule", reason))?), text.to_owned())
            }
            Kind::Freshness => {
                let (column, name) = column()?;
                let within = settings.within.filter(|within| !within.is_zero());
                let within = within.ok_or_else(|| wrong("within", "freshness needs one, such as 5m".to_owned()))?;
                if !matches!(schema.field(column).data_type(), DataType::Timestamp(..)) {
                    return Err(wrong("column", format!("'{name}' is no time")));
                }
                let rule = format!("{name} within {}", humantime::format_duration(within));
                (Check::Fresh { column, within }, rule)
            }
            Kind::Volume => {
                let (least, most) = (settings.rows_at_least, settings.rows_at_most);
                let rule = match (least, most) {
                    (None, None) => {
                        return Err(wrong("rows_at_least", "volume needs it, or rows_at_most, or both".to_owned()));
                    }
                    (Some(least), Some(most)) if least > most => {
                        return Err(wrong("rows_at_least", format!("{least} is more than rows_at_most, {most}")));
                    }
                    (Some(least), Some(most)) => format!("{least} to {most} rows"),
                    (Some(least), None) => format!("at least {least} rows"),
                    (None, Some(most)) => format!("at most {most} rows"),
                };
                (Check::Rows { at_least: least.unwrap_or(0), at_most: most.unwrap_or(u64::MAX) }, rule)
            }
            Kind::Integrity => {
                let (column, name) = column()?;
                let key = settings.references.as_deref();
                let key = key.ok_or_else(|| wrong("references", "integrity needs it".to_owned()))?;
                let key: Reference = key.parse().map_err(|reason| wrong("references", reason))?;
                let rule = format!("{name} is in {key}");
                (Check::Known { column, key }, rule)
            }
        };
        Ok(Self {
            name: name.to_owned(),
            table: measured.to_owned(),
            kind: settings.kind,
            severity: settings.severity,
            rule,
            at_least,
            check,
        })
    }

    /// The column whose keys it needs.
    pub fn reference(&self) -> Option<&Reference> {
        match &self.check {
            Check::Known { key, .. } => Some(key),
            _ => None,
        }
    }

    /// Which rows meet it, of kinds that are judged row by row.
    pub(crate) fn met(&self, batch: &RecordBatch) -> Option<arrow::buffer::BooleanBuffer> {
        match &self.check {
            Check::Filled { column } => Some(filled(batch.column(*column))),
            Check::Holds(rule) => Some(rule.met(batch)),
            _ => None,
        }
    }

    /// Counts a batch with the columns of its table; `keys` are those of [`Expectation::reference`], none when that table
    /// is not there.
    ///
    /// # Errors
    /// When the batch has other columns.
    pub fn add(&self, tally: &mut Tally, batch: &RecordBatch, keys: Option<&KeySet>) -> Result<(), ArrowError> {
        let rows = batch.num_rows() as u64;
        tally.rows += rows;
        match &self.check {
            Check::Filled { .. } | Check::Holds(_) => {
                tally.met += self.met(batch).map_or(0, |met| met.count_set_bits() as u64);
            }
            Check::Distinct { column } => hash_texts(batch.column(*column), |hash| {
                if let Some(hash) = hash {
                    tally.met += 1;
                    tally.distinct.add(hash);
                }
            })?,
            Check::Fresh { column, .. } => tally.newest = tally.newest.max(newest(batch.column(*column))?),
            Check::Rows { .. } => {}
            Check::Known { column, .. } => match keys {
                Some(keys) => hash_texts(batch.column(*column), |hash| {
                    tally.met += u64::from(hash.is_none_or(|hash| keys.contains(hash)));
                })?,
                None => tally.unjudged += rows,
            },
        }
        Ok(())
    }

    /// What a tally says.
    pub fn judge(&self, tally: &Tally, moment: Moment) -> Figure {
        let rows = tally.rows;
        let passed = match self.check {
            Check::Filled { .. } | Check::Holds(_) => Some(tally.met),
            Check::Distinct { .. } => Some(tally.distinct.count(tally.met)),
            Check::Known { .. } => Some(tally.met).filter(|_| tally.unjudged == 0),
            Check::Fresh { within, .. } => {
                let age = tally.newest.map(|newest| moment.now.saturating_sub(newest).max(0) as f64 / 1000.0);
                let ok = age.map(|age| age <= within.as_secs_f64());
                return Figure { rows, age_seconds: age, ok, passed: None };
            }
            Check::Rows { at_least, at_most } => {
                let ok = match rows {
                    _ if rows > at_most => Some(false),
                    _ if rows >= at_least => Some(true),
                    _ => moment.is_whole.then_some(false),
                };
                return Figure { rows, ok, ..Figure::default() };
            }
        };
        Figure::of_all(self.kind, self.at_least, [Figure { rows, passed, ..Figure::default() }])
    }
}

fn newest(column: &ArrayRef) -> Result<Option<i64>, ArrowError> {
    let millis = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    match column.data_type() == &millis {
        true => Ok(max(column.as_primitive::<TimestampMillisecondType>())),
        false => Ok(max(cast(column, &millis)?.as_primitive::<TimestampMillisecondType>())),
    }
}

/// A key of another kind would look as if it did something.
fn only_its_keys(settings: &ExpectationConfig) -> Result<(), (&'static str, String)> {
    let takes: &[&str] = match settings.kind {
        Kind::Completeness | Kind::Uniqueness => &["column", "at_least"],
        Kind::Validity => &["rule", "at_least"],
        Kind::Freshness => &["column", "within"],
        Kind::Volume => &["rows_at_least", "rows_at_most"],
        Kind::Integrity => &["column", "references", "at_least"],
    };
    let given = [
        ("column", settings.column.is_some()),
        ("rule", settings.rule.is_some()),
        ("references", settings.references.is_some()),
        ("at_least", settings.at_least.is_some()),
        ("within", settings.within.is_some()),
        ("rows_at_least", settings.rows_at_least.is_some()),
        ("rows_at_most", settings.rows_at_most.is_some()),
    ];
    match given.into_iter().find(|(key, is_given)| *is_given && !takes.contains(key)) {
        None => Ok(()),
        Some((key, _)) => {
            let kind = settings.kind.as_str();
            Err((key, format!("{kind} does not take it; it takes {}", takes.join(", "))))
        }
    }
}

#[cfg(test)]
mod tests;
