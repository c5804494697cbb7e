//! The KPI store in a local folder, inside this process.
//!
//! Keyspaces: `kpis` by model, then window start (newest first), then id, so that the newest panes of a model are one
//! short forward scan; `alerts` by id; `alerts_by_time` orders their ids, newest first; `snoozes` by series.
//! Values are BSON: it keeps every float to the last bit, and infinities, which JSON does not.

use super::{AlertQuery, KpiQuery, KpiStore, KpiStoreError, as_read, now, series_of};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use mongodb::bson;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sluice_events::{Alert, AlertState, EventTime, Kpi, KpiKey, PaneState};
use std::{
    collections::{BTreeMap, HashMap},
    fmt::Display,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};
use xxhash_rust::xxh3::xxh3_128;

/// Bytes of blocks kept in memory for reading.
const CACHE_BYTES: u64 = 16 << 20;
/// Bytes of new values kept in memory, per keyspace, before they become a file.
const MEMTABLE_BYTES: u64 = 16 << 20;
/// Longer ids are cut and hashed: the storage takes no key above 64 KiB.
const ID_BYTES_MAX: usize = 1024;

/// [`KpiStore`] in a local folder. One process at a time.
pub struct EmbeddedKpiStore {
    dir: String,
    db: Database,
    kpis: Keyspace,
    alerts: Keyspace,
    alerts_by_time: Keyspace,
    snoozes: Keyspace,
    /// Held from the revision check to the end of the write, so that no newer pane slips in between.
    writing: Mutex<()>,
}

impl EmbeddedKpiStore {
    /// Opens the store in this folder, and makes it when it is not there.
    ///
    /// # Errors
    /// When the folder cannot be read or written, or another process has it open.
    pub fn open(dir: &Path) -> Result<Self, KpiStoreError> {
        let fail = |error: fjall::Error| KpiStoreError {
            store: dir.display().to_string(),
            deed: "open",
            message: match error {
                fjall::Error::Locked => {
                    "another process has it open; stop that one, or give this one another folder".to_owned()
                }
                other => other.to_string(),
            },
        };
        let db = Database::builder(dir).cache_size(CACHE_BYTES).open().map_err(fail)?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
        Ok(Self {
            dir: dir.display().to_string(),
            kpis: db.keyspace("kpis", options).map_err(fail)?,
            alerts: db.keyspace("alerts", options).map_err(fail)?,
            alerts_by_time: db.keyspace("alerts_by_time", options).map_err(fail)?,
            snoozes: db.keyspace("snoozes", options).map_err(fail)?,
            db,
            writing: Mutex::new(()),
        })
    }

    fn error(&self, deed: &'static str, error: impl Display) -> KpiStoreError {
        KpiStoreError { store: self.dir.clone(), deed, message: error.to_string() }
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        // The lock guards no memory of ours: after a panic the storage still holds whole batches only.
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read<T: DeserializeOwned>(
        &self,
        deed: &'static str,
        keyspace: &Keyspace,
        key: &[u8],
    ) -> Result<Option<T>, KpiStoreError> {
        let bytes = keyspace.get(key).map_err(|e| self.error(deed, e))?;
        bytes.map(|bytes| self.decode(deed, &bytes)).transpose()
    }

    fn decode<T: DeserializeOwned>(&self, deed: &'static str, bytes: &[u8]) -> Result<T, KpiStoreError> {
        bson::deserialize_from_slice(bytes).map_err(|e| self.error(deed, e))
    }

    /// All snoozes, those that are over included.
    fn stored_snoozes(&self, deed: &'static str) -> Result<Vec<Snooze>, KpiStoreError> {
        let entries = self.snoozes.iter().map(|entry| entry.value().map_err(|e| self.error(deed, e)));
        entries.map(|value| self.decode(deed, &value?)).collect()
    }

    /// What a person did is not written again by a replay.
    fn keep(&self, deed: &'static str) -> Result<(), KpiStoreError> {
        self.db.persist(PersistMode::SyncAll).map_err(|e| self.error(deed, e))
    }

    /// Stores this document as the alert.
    #[cfg(test)]
    pub(super) fn put_alert(&self, alert: &Alert, document: &bson::Document) -> Result<(), KpiStoreError> {
        let key = bounded(&alert.id);
        let put =
            |keyspace: &Keyspace, key: Vec<u8>, value| keyspace.insert(key, value).map_err(|e| self.error("put", e));
        put(&self.alerts, key.clone(), self.encode("put", document)?)?;
        put(&self.alerts_by_time, alert_time_key(alert), key)
    }

    fn encode<T: Serialize>(&self, deed: &'static str, value: &T) -> Result<Vec<u8>, KpiStoreError> {
        bson::serialize_to_vec(value).map_err(|e| self.error(deed, e))
    }
}

/// The part of a stored pane that orders its updates.
#[derive(Deserialize)]
struct Revision {
    state: PaneState,
    version: i32,
    sequence: i64,
}

/// A series that nobody is told of.
#[derive(Deserialize, Serialize)]
struct Snooze {
    series: String,
    until: EventTime,
}

impl KpiStore for EmbeddedKpiStore {
    fn upsert_kpis(&self, kpis: &[Kpi]) -> Result<(), KpiStoreError> {
        const DEED: &str = "write KPIs";
        let _writing = self.lock();
        let mut newest: HashMap<Vec<u8>, &Kpi> = HashMap::with_capacity(kpis.len());
        for kpi in kpis {
            let key = kpi_key(&kpi.model, kpi.window_start, &kpi.id);
            match newest.get(&key) {
                Some(other) if other.rank() >= kpi.rank() => {}
                _ => {
                    newest.insert(key, kpi);
                }
            }
        }
        let mut batch = self.db.batch();
        for (key, kpi) in newest {
            let stored: Option<Revision> = self.read(DEED, &self.kpis, &key)?;
            if stored.is_none_or(|s| Kpi::rank_of(s.state, s.version, s.sequence) < kpi.rank()) {
                batch.insert(&self.kpis, key, self.encode(DEED, kpi)?);
            }
        }
        batch.commit().map_err(|e| self.error(DEED, e))
    }

    fn remove_kpis(&self, keys: &[KpiKey]) -> Result<(), KpiStoreError> {
        let _writing = self.lock();
        let mut batch = self.db.batch();
        for key in keys {
            batch.remove(&self.kpis, kpi_key(&key.model, key.window_start, &key.id));
        }
        batch.commit().map_err(|e| self.error("remove KPIs", e))
    }

    fn kpis(&self, query: &KpiQuery) -> Result<Vec<Kpi>, KpiStoreError> {
        const DEED: &str = "read KPIs";
        let Some((from, to)) = scan_bounds(query) else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for entry in self.kpis.range(from..to) {
            if found.len() >= query.limit {
                break;
            }
            let value = entry.value().map_err(|e| self.error(DEED, e))?;
            let kpi: Kpi = self.decode(DEED, &value)?;
            if query.group.iter().all(|(name, value)| kpi.group.get(name).is_some_and(|v| v.as_ref() == Some(value))) {
                found.push(kpi);
            }
        }
        Ok(found)
    }

    fn upsert_alerts(&self, alerts: &[Alert]) -> Result<(), KpiStoreError> {
        const DEED: &str = "write alerts";
        let _writing = self.lock();
        // One alert after the other: a later one in the list may build on an earlier one.
        for alert in alerts {
            let key = bounded(&alert.id);
            let stored: Option<Alert> = self.read(DEED, &self.alerts, &key)?;
            let mut alert =
                Alert { acknowledged_by: None, acknowledged_at: None, snoozed_until: None, ..alert.clone() };
            let mut batch = self.db.batch();
            if let Some(stored) = stored {
                if stored.last_window > alert.last_window {
                    continue;
                }
                if stored.first_window != alert.first_window {
                    batch.remove(&self.alerts_by_time, alert_time_key(&stored));
                }
                if stored.state == AlertState::Acknowledged && alert.state == AlertState::Firing {
                    alert.state = AlertState::Acknowledged;
                    (alert.acknowledged_by, alert.acknowledged_at) = (stored.acknowledged_by, stored.acknowledged_at);
                }
            }
            batch.insert(&self.alerts_by_time, alert_time_key(&alert), key.clone());
            batch.insert(&self.alerts, key, self.encode(DEED, &alert)?);
            batch.commit().map_err(|e| self.error(DEED, e))?;
        }
        Ok(())
    }

    fn alerts(&self, query: &AlertQuery) -> Result<Vec<Alert>, KpiStoreError> {
        const DEED: &str = "read alerts";
        let snoozes = self.snoozes()?;
        // Newest first: the bounds of time are bounds of the scan.
        let newest = query.to.map(|to| newest_first(EventTime::new(to.get().saturating_sub(1))).to_vec());
        let oldest = query.from.map(newest_first);
        let mut found = Vec::new();
        for entry in self.alerts_by_time.range(newest.unwrap_or_default()..) {
            if found.len() >= query.limit {
                break;
            }
            let (time, key) = entry.into_inner().map_err(|e| self.error(DEED, e))?;
            if oldest.is_some_and(|oldest| time.get(..oldest.len()).is_some_and(|time| *time > oldest[..])) {
                break;
            }
            let Some(alert) = self.read::<Alert>(DEED, &self.alerts, &key)? else { continue };
            if query.matches(&alert) {
                found.push(as_read(alert, &snoozes));
            }
        }
        Ok(found)
    }

    fn alert(&self, id: &str) -> Result<Option<Alert>, KpiStoreError> {
        let found: Option<Alert> = self.read("read an alert", &self.alerts, &bounded(id))?;
        let snoozes = self.snoozes()?;
        Ok(found.map(|alert| as_read(alert, &snoozes)))
    }

    fn acknowledge(&self, id: &str, by: Option<&str>, at: EventTime) -> Result<Option<Alert>, KpiStoreError> {
        const DEED: &str = "acknowledge an alert";
        let _writing = self.lock();
        let key = bounded(id);
        let Some(mut alert) = self.read::<Alert>(DEED, &self.alerts, &key)? else { return Ok(None) };
        if alert.state == AlertState::Firing {
            alert.state = AlertState::Acknowledged;
            (alert.acknowledged_by, alert.acknowledged_at) = (by.map(str::to_owned), Some(at));
            self.alerts.insert(key, self.encode(DEED, &alert)?).map_err(|e| self.error(DEED, e))?;
            self.keep(DEED)?;
        }
        Ok(Some(as_read(alert, &self.snoozes()?)))
    }

    fn snooze(&self, id: &str, until: Option<EventTime>) -> Result<Option<Alert>, KpiStoreError> {
        const DEED: &str = "snooze an alert";
        let _writing = self.lock();
        let Some(alert) = self.read::<Alert>(DEED, &self.alerts, &bounded(id))? else { return Ok(None) };
        let series = series_of(&alert).to_owned();
        let now = now();
        let mut batch = self.db.batch();
        for over in self.stored_snoozes(DEED)?.iter().filter(|snooze| snooze.until <= now) {
            batch.remove(&self.snoozes, bounded(&over.series));
        }
        match until.filter(|until| *until > now) {
            Some(until) => {
                batch.insert(&self.snoozes, bounded(&series), self.encode(DEED, &Snooze { series, until })?);
            }
            None => batch.remove(&self.snoozes, bounded(&series)),
        }
        batch.commit().map_err(|e| self.error(DEED, e))?;
        self.keep(DEED)?;
        Ok(Some(as_read(alert, &self.snoozes()?)))
    }

    fn snoozes(&self) -> Result<BTreeMap<String, EventTime>, KpiStoreError> {
        let now = now();
        let stored = self.stored_snoozes("read snoozes")?.into_iter().filter(|snooze| snooze.until > now);
        Ok(stored.map(|snooze| (snooze.series, snooze.until)).collect())
    }

    fn flush(&self) -> Result<(), KpiStoreError> {
        self.db.persist(PersistMode::SyncAll).map_err(|e| self.error("make durable", e))
    }

    fn ping(&self) -> Result<(), KpiStoreError> {
        self.alerts.contains_key([0]).map(drop).map_err(|e| self.error("read", e))
    }
}

/// Eight bytes whose byte order is that of time, newest first.
fn newest_first(time: EventTime) -> [u8; 8] {
    (!(time.get().cast_unsigned() ^ (1 << 63))).to_be_bytes()
}

/// The id itself, or its head and its hash when it is long.
fn bounded(id: &str) -> Vec<u8> {
    let bytes = id.as_bytes();
    match bytes.get(..ID_BYTES_MAX) {
        Some(head) => [head, &xxh3_128(bytes).to_be_bytes()].concat(),
        None => bytes.to_vec(),
    }
}

fn kpi_key(model: &str, start: EventTime, id: &str) -> Vec<u8> {
    [model.as_bytes(), &[0], &newest_first(start), &bounded(id)].concat()
}

fn alert_time_key(alert: &Alert) -> Vec<u8> {
    [&newest_first(alert.first_window)[..], &bounded(&alert.id)].concat()
}

/// First key, and first key after, of the panes in the query's time; none when no time fits.
fn scan_bounds(query: &KpiQuery) -> Option<(Vec<u8>, Vec<u8>)> {
    let key = |time: EventTime| [query.model.as_bytes(), &[0], &newest_first(time)].concat();
    let from = match query.to {
        Some(to) => key(EventTime::new(to.get().checked_sub(1)?)),
        None => [query.model.as_bytes(), &[0]].concat(),
    };
    let to = match query.from.map(|from| from.get().checked_sub(1)) {
        Some(Some(before)) => key(EventTime::new(before)),
        _ => [query.model.as_bytes(), &[1]].concat(),
    };
    (from < to).then_some((from, to))
}
