//! The store of live KPIs and alerts: one trait, two implementations.

mod embedded;
mod mongo;
#[cfg(test)]
mod tests;

pub use embedded::EmbeddedKpiStore;
pub use mongo::MongoKpiStore;

use serde::{Deserialize, Serialize};
use sluice_events::{Alert, AlertState, EventTime, Kpi, KpiKey};
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
    /// A MongoDB server: collections `kpis` and `alerts`.
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
    /// Only in this state.
    pub state: Option<AlertState>,
    /// Only of this model.
    pub model: Option<String>,
    /// At most this many.
    pub limit: usize,
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

    /// Stores each alert by its id, unless the store has one with a newer `last_window`. An acknowledged alert stays
    /// acknowledged until it resolves.
    ///
    /// # Errors
    /// When the store fails. Safe to retry.
    fn upsert_alerts(&self, alerts: &[Alert]) -> Result<(), KpiStoreError>;

    /// Alerts that match, newest first.
    ///
    /// # Errors
    /// When the store fails.
    fn alerts(&self, query: &AlertQuery) -> Result<Vec<Alert>, KpiStoreError>;

    /// Marks a firing alert as seen by a person; returns it, or none when there is no such alert.
    ///
    /// # Errors
    /// When the store fails.
    fn acknowledge(&self, alert_id: &str) -> Result<Option<Alert>, KpiStoreError>;

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
