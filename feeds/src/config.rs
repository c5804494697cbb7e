//! Settings of a feed.

use serde::Deserialize;
use sluice_events::Schedule;
use std::{collections::BTreeMap, time::Duration};

/// A feed: a `[[feed]]` of the settings.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeedConfig {
    /// Its table is `silver.<name>`: small letters, digits and `_`.
    pub name: String,
    /// What to ask; `{item}` stands for each of `items`, `{key}` for the key.
    pub url: String,
    /// What is asked for, one request each.
    pub items: Vec<String>,
    /// The variable of the environment that has the key of the API; empty: it needs none.
    #[serde(default)]
    pub key_env: String,
    /// When it is asked.
    pub schedule: Schedule,
    /// Of one request.
    #[serde(default = "timeout", with = "humantime_serde")]
    pub timeout: Duration,
    /// Attempts after the first one that got no answer.
    #[serde(default = "retries")]
    pub retries: u32,
    /// Before the first of them, and doubled for each further one.
    #[serde(default = "backoff", with = "humantime_serde")]
    pub backoff: Duration,
    /// When an observation was made: the table is filed by its UTC day.
    pub observed_at: Column,
    /// Columns that, with `observed_at`, tell observations apart.
    pub key: Vec<String>,
    /// The columns of its table, beside `observed_at`.
    pub columns: BTreeMap<String, Column>,
}

/// Where a value stands in an answer, and what it is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// A JSON pointer (RFC 6901), such as `/main/temp`.
    pub path: String,
    /// What it is.
    pub kind: ColumnKind,
    /// An answer without it is refused, as it is without a column of the key.
    #[serde(default)]
    pub required: bool,
}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnKind {
    /// Text; a number is taken as its text.
    Text,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// true or false.
    Boolean,
    /// Seconds since 1970.
    UnixSeconds,
    /// Milliseconds since 1970.
    UnixMillis,
    /// A text as in RFC 3339.
    Time,
}

fn timeout() -> Duration {
    Duration::from_secs(10)
}

fn retries() -> u32 {
    2
}

fn backoff() -> Duration {
    Duration::from_secs(2)
}

impl FeedConfig {
    /// Whether it can be used.
    ///
    /// # Errors
    /// With the key that is wrong and what would be right.
    pub fn check(&self) -> Result<(), String> {
        let name = &self.name;
        let is_plain = |name: &str| {
            name.starts_with(|c: char| c.is_ascii_lowercase())
                && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        };
        if !is_plain(name) {
            return Err(format!("feed '{name}': a name has small letters, digits and _"));
        }
        let wrong = |what: String| Err(format!("feed {name}: {what}"));
        if ["events", "orders", "customers", "quality"].contains(&&**name) {
            return wrong(format!("silver.{name} is another table; choose another name"));
        }
        if !self.url.starts_with("http://") && !self.url.starts_with("https://") {
            return wrong("url begins with http:// or https://".to_owned());
        }
        if self.items.is_empty() {
            return wrong("items is empty: there is nothing to ask for".to_owned());
        }
        if self.url.contains("{key}") && self.key_env.is_empty() {
            return wrong("its url has {key}: key_env names the variable that has it".to_owned());
        }
        let is_there = |column: &&String| *column == "item" || self.columns.contains_key(*column);
        if let Some(column) = self.key.iter().find(|column| !is_there(column)) {
            return wrong(format!("key: '{column}' is none of its columns, nor item"));
        }
        if self.key.is_empty() && self.items.len() > 1 {
            return wrong("key is empty: what tells the items apart? \"item\" would".to_owned());
        }
        let reserved = |name: &&String| {
            !is_plain(name) || ["item", "fetched_at", "observed_at", "observed_date"].contains(&name.as_str())
        };
        if let Some(column) = self.columns.keys().find(reserved) {
            return wrong(format!("columns: '{column}' cannot be a name"));
        }
        let is_number = |column: &&String| self.columns.get(*column).is_some_and(|c| c.kind == ColumnKind::Number);
        if let Some(column) = self.key.iter().find(is_number) {
            return wrong(format!("key: '{column}' is a number with fractions, which tells nothing apart"));
        }
        let mut columns = self.columns.values().chain([&self.observed_at]);
        match columns.find(|column| !column.path.starts_with('/')) {
            Some(column) => wrong(format!("'{}' is no JSON pointer such as /main/temp", column.path)),
            None if !self.observed_at.kind.is_time() => {
                wrong("observed_at is a time: unix_seconds, unix_millis or time".to_owned())
            }
            None => Ok(()),
        }
    }
}

impl ColumnKind {
    pub(crate) fn is_time(self) -> bool {
        matches!(self, Self::UnixSeconds | Self::UnixMillis | Self::Time)
    }
}
