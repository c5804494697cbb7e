//! The store of live KPIs and alerts: one trait, two implementations.

mod embedded;
mod mongo;
#[cfg(test)]
mod tests;

pub use embedded::EmbeddedKpiStore;
pub use mongo::MongoKpiStore;

use serde::{Deserialize, Serialize};
use sluice_events::{Alert, AlertState, EventTime, Kpi, KpiKey, Severity};
use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

/// Settings of the KPI store; defaults stand in `sluice.toml`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct KpiStoreConfig {
    /// `embedded` or `mongodb`.
    pub kind: KpiStoreKind,
    /// Folder of the embedded store.
    pub dir: PathBuf,
    /// MongoDB connection string. Never printed: it may hold a password.
    pub uri: String,
    /// MongoDB database.
    pub database: String,
}

/// Which KPI store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KpiStoreKind {
    /// In a local folder, inside this process.
    Embedded,
    /// A MongoDB server: collections `kpis`, `alerts` and `snoozes`.
    Mongodb,
}

/// Which KPIs are asked for. They come newest window first.
#[derive(Clone, Debug, Default)]
pub struct KpiQuery {
    /// The live model.
    pub model: String,
    /// Only panes with these group values.
    pub group: BTreeMap<String, String>,
    /// Only windows that start at or after this.
    pub from: Option<EventTime>,
    /// Only windows that start before this.
    pub to: Option<EventTime>,
    /// At most this many.
    pub limit: usize,
}

/// Which alerts are asked for. They come newest first window first.
#[derive(Clone, Debug, Default)]
pub struct AlertQuery {
    /// Only in one of these states; in any, when there is none.
    pub states: Vec<AlertState>,
    /// Only of this model.
    pub model: Option<String>,
    /// Only of this severity or a higher one.
    pub severity: Option<Severity>,
    /// Only those whose first window starts at or after this.
    pub from: Option<EventTime>,
    /// Only those whose first window starts before this.
    pub to: Option<EventTime>,
    /// Only what this alert explains.
    pub parent: Option<String>,
    /// Only episodes of this series.
    pub fingerprint: Option<String>,
    /// At most this many.
    pub limit: usize,
}

impl AlertQuery {
    /// Whether this alert is asked for.
    pub fn matches(&self, alert: &Alert) -> bool {
        (self.states.is_empty() || self.states.contains(&alert.state))
            && self.model.as_ref().is_none_or(|model| *model == alert.model)
            && self.severity.is_none_or(|severity| severity <= alert.severity)
            && self.from.is_none_or(|from| from <= alert.first_window)
            && self.to.is_none_or(|to| alert.first_window < to)
            && self.parent.as_ref().is_none_or(|parent| Some(parent) == alert.parent.as_ref())
            && self.fingerprint.as_ref().is_none_or(|fingerprint| *fingerprint == alert.fingerprint)
    }
}

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
#[error("KPI store {store}: {deed}: {message}")]
pub struct KpiStoreError {
    /// Folder or database, without credentials.
    pub store: String,
    /// What was tried.
    pub deed: &'static str,
    /// What the store said.
    pub message: String,
}

/// Keeps the newest version of each pane and alert. Writing is idempotent; an older revision never replaces a newer one.
pub trait KpiStore: Send + Sync {
    /// Stores each pane unless the store has one of the same or a newer [`Kpi::revision`].
    ///
    /// # Errors
    /// When the store fails. Safe to retry.
    fn upsert_kpis(&self, kpis: &[Kpi]) -> Result<(), KpiStoreError>;

    /// Removes panes that turned out to be none. One that is not there is no error.
    ///
    /// # Errors
    /// When the store fails. Safe to retry.
    fn remove_kpis(&self, keys: &[KpiKey]) -> Result<(), KpiStoreError>;

    /// Panes that match, newest window first.
    ///
    /// # Errors
    /// When the store fails.
    fn kpis(&self, query: &KpiQuery) -> Result<Vec<Kpi>, KpiStoreError>;

    /// Stores each alert by its id, unless the store has one with a newer `last_window`. One that fires and is
    /// acknowledged stays so, with who and when, until it comes in another state; then that is forgotten.
    ///
    /// # Errors
    /// When the store fails. Safe to retry.
    fn upsert_alerts(&self, alerts: &[Alert]) -> Result<(), KpiStoreError>;

    /// Alerts that match, newest first.
    ///
    /// # Errors
    /// When the store fails.
    fn alerts(&self, query: &AlertQuery) -> Result<Vec<Alert>, KpiStoreError>;

    /// The alert of this id.
    ///
    /// # Errors
    /// When the store fails.
    fn alert(&self, id: &str) -> Result<Option<Alert>, KpiStoreError>;

    /// Marks a firing alert as seen by a person; returns it, or none when there is no such alert. One that is
    /// acknowledged keeps its first `by` and `at`. `at` is processing time.
    ///
    /// # Errors
    /// When the store fails. Safe to retry.
    fn acknowledge(&self, id: &str, by: Option<&str>, at: EventTime) -> Result<Option<Alert>, KpiStoreError>;

    /// Until then (processing time) nobody is to be told of the alert's series, in later episodes either; none, or a time
    /// that is over, ends it. Returns the alert, or none when there is no such alert.
    ///
    /// # Errors
    /// When the store fails. Safe to retry.
    fn snooze(&self, id: &str, until: Option<EventTime>) -> Result<Option<Alert>, KpiStoreError>;

    /// Until when each series that is snoozed is so, by `fingerprint`; of an alert without one, by its id.
    ///
    /// # Errors
    /// When the store fails.
    fn snoozes(&self) -> Result<BTreeMap<String, EventTime>, KpiStoreError>;

    /// Makes everything written so far durable.
    ///
    /// # Errors
    /// When the store fails.
    fn flush(&self) -> Result<(), KpiStoreError>;

    /// Whether the store answers.
    ///
    /// # Errors
    /// When it does not.
    fn ping(&self) -> Result<(), KpiStoreError>;
}

/// Processing time.
fn now() -> EventTime {
    EventTime::new(chrono::Utc::now().timestamp_millis())
}

/// What a snooze is about.
fn series_of(alert: &Alert) -> &str {
    if alert.fingerprint.is_empty() { &alert.id } else { &alert.fingerprint }
}

/// An alert as it is read: with its series' snooze. One that was stored before alerts had `since` and `episodes` began with
/// its first window, once.
fn as_read(mut alert: Alert, snoozes: &BTreeMap<String, EventTime>) -> Alert {
    alert.snoozed_until = snoozes.get(series_of(&alert)).copied();
    alert.episodes = alert.episodes.max(1);
    if alert.since == EventTime::default() {
        alert.since = alert.first_window;
    }
    alert
}

/// Opens the store that the configuration names and makes its indexes.
///
/// # Errors
/// When the folder cannot be opened or the server does not answer.
pub fn open(config: &KpiStoreConfig) -> Result<Arc<dyn KpiStore>, KpiStoreError> {
    Ok(match config.kind {
        KpiStoreKind::Embedded => Arc::new(EmbeddedKpiStore::open(&config.dir)?),
        KpiStoreKind::Mongodb => Arc::new(MongoKpiStore::connect(&config.uri, &config.database)?),
    })
}
