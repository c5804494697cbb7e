//! The KPI store on a MongoDB server.
//!
//! A write is one `update` command that names, per pane, which revisions it may replace; no transaction is needed, and
//! repeating it changes nothing. Two layers make that hold: the filter matches only an older document, and when a newer
//! one is there the upsert runs into the unique `_id`, which is how the server says "I have a newer one".

use super::{AlertQuery, KpiQuery, KpiStore, KpiStoreError, as_read, now, series_of};
use crate::mongo::{
    Find, MongoError, MongoServer, UPDATES_PER_COMMAND, Update, decimal_value, plain_text, whole_number,
};
use mongodb::{
    Collection,
    bson::{self, Bson, DateTime, Document, doc},
};
use serde::{Serialize, de::DeserializeOwned};
use sluice_events::{Alert, AlertPart, AlertPoint, AlertState, EventTime, Kpi, KpiKey, Measure, OffsetSpan, Severity};
use std::collections::BTreeMap;

/// [`KpiStore`] on a MongoDB server: collections `kpis`, `alerts` and `snoozes`. Its methods block and may be called from any
/// thread: the driver runs on a thread of its own.
pub struct MongoKpiStore {
    server: MongoServer,
    kpis: Collection<Document>,
    alerts: Collection<Document>,
    snoozes: Collection<Document>,
}

impl From<MongoError> for KpiStoreError {
    fn from(MongoError { server, deed, message }: MongoError) -> Self {
        Self { store: server, deed, message }
    }
}

impl MongoKpiStore {
    /// Connects, and makes the indexes that are missing.
    ///
    /// # Errors
    /// When the connection string is wrong or the server does not answer.
    pub fn connect(uri: &str, database: &str) -> Result<Self, KpiStoreError> {
        let server = MongoServer::connect(uri, database, "kpi-store-mongo")?;
        let store = Self {
            kpis: server.collection("kpis"),
            alerts: server.collection("alerts"),
            snoozes: server.collection("snoozes"),
            server,
        };
        store.make_indexes()?;
        Ok(store)
    }

    fn make_indexes(&self) -> Result<(), KpiStoreError> {
        for (collection, indexes) in [
            ("kpis", vec![("model_newest", doc! {"model": 1, "window_start": -1, "_id": 1})]),
            (
                "alerts",
                vec![
                    ("newest", doc! {"first_window": -1, "_id": 1}),
                    ("state_newest", doc! {"state": 1, "first_window": -1, "_id": 1}),
                    ("model_newest", doc! {"model": 1, "first_window": -1, "_id": 1}),
                    ("series_newest", doc! {"fingerprint": 1, "first_window": -1, "_id": 1}),
                    ("parent_newest", doc! {"parent": 1, "first_window": -1, "_id": 1}),
                ],
            ),
        ] {
            let indexes: Vec<Document> =
                indexes.into_iter().map(|(name, key)| doc! {"name": name, "key": key}).collect();
            self.server.command("make indexes", doc! {"createIndexes": collection, "indexes": indexes})?;
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn put_alert(&self, document: Document) -> Result<(), KpiStoreError> {
        self.server.command("put an alert", doc! {"insert": "alerts", "documents": [document]})?;
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn drop_database(&self) -> Result<(), KpiStoreError> {
        Ok(self.server.drop_database()?)
    }

    fn find<T>(
        &self,
        deed: &'static str,
        collection: &Collection<Document>,
        (filter, sort, limit): (Document, Document, usize),
        read: impl Fn(&Document) -> Option<T>,
    ) -> Result<Vec<T>, KpiStoreError> {
        // The server reads a limit of 0 as "all".
        if limit == 0 {
            return Ok(Vec::new());
        }
        let find = Find { filter, sort, limit: Some(limit), ..Find::default() };
        let documents = self.server.find(deed, collection, find)?;
        documents
            .iter()
            .map(|document| {
                read(document).ok_or_else(|| {
                    let id = document.get("_id").map(ToString::to_string).unwrap_or_default();
                    self.server.error(deed, format!("document {id} does not have the fields that sluice writes")).into()
                })
            })
            .collect()
    }
}

impl KpiStore for MongoKpiStore {
    fn upsert_kpis(&self, kpis: &[Kpi]) -> Result<(), KpiStoreError> {
        let updates = kpis
            .iter()
            .map(|kpi| {
                // Nothing but the id and one comparison: every server finds that by its index.
                let older = doc! {"_id": &kpi.id, "rank": {"$lt": kpi.rank()}};
                Update::new(older, kpi_document(kpi), true)
            })
            .collect();
        self.server.update("write KPIs", "kpis", updates)?;
        Ok(())
    }

    fn remove_kpis(&self, keys: &[KpiKey]) -> Result<(), KpiStoreError> {
        for chunk in keys.chunks(UPDATES_PER_COMMAND) {
            let ids: Vec<&str> = chunk.iter().map(|key| &*key.id).collect();
            self.server.delete("remove KPIs", "kpis", doc! {"_id": {"$in": ids}})?;
        }
        Ok(())
    }

    fn kpis(&self, query: &KpiQuery) -> Result<Vec<Kpi>, KpiStoreError> {
        let mut filter = doc! {"model": &query.model};
        let mut start = Document::new();
        if let Some(from) = query.from {
            start.insert("$gte", date(from));
        }
        if let Some(to) = query.to {
            start.insert("$lt", date(to));
        }
        if !start.is_empty() {
            filter.insert("window_start", start);
        }
        for (name, value) in &query.group {
            filter.insert(format!("group.{name}"), value);
        }
        self.find("read KPIs", &self.kpis, (filter, doc! {"window_start": -1, "_id": 1}, query.limit), read_kpi)
    }

    fn upsert_alerts(&self, alerts: &[Alert]) -> Result<(), KpiStoreError> {
        // A later alert of the list may build on an earlier one, and the statements of one command have no order: so one
        // command each. Alerts are few.
        for alert in alerts {
            let mut updates = Vec::with_capacity(2);
            let mut fields = alert_document(alert);
            let not_newer = doc! {"_id": &alert.id, "last_window": {"$lte": date(alert.last_window)}};
            if alert.state == AlertState::Firing {
                // One statement per case, since only the server knows whether a person has acknowledged it.
                let mut unseen = not_newer.clone();
                unseen.insert("state", doc! {"$ne": "acknowledged"});
                updates.push(Update::new(unseen, doc! {"$set": fields.clone()}, true));
                let mut seen = not_newer;
                seen.insert("state", "acknowledged");
                for kept in ["state", "acknowledged_by", "acknowledged_at"] {
                    fields.remove(kept);
                }
                updates.push(Update::new(seen, doc! {"$set": fields}, false));
            } else {
                updates.push(Update::new(not_newer, doc! {"$set": fields}, true));
            }
            self.server.update("write alerts", "alerts", updates)?;
        }
        Ok(())
    }

    fn alerts(&self, query: &AlertQuery) -> Result<Vec<Alert>, KpiStoreError> {
        let mut filter = Document::new();
        if !query.states.is_empty() {
            filter.insert("state", doc! {"$in": query.states.iter().map(name_of).collect::<Vec<_>>()});
        }
        if let Some(severity) = query.severity {
            let enough = [Severity::Info, Severity::Warning, Severity::Critical].into_iter().filter(|s| *s >= severity);
            filter.insert("severity", doc! {"$in": enough.map(|s| name_of(&s)).collect::<Vec<_>>()});
        }
        let mut first = Document::new();
        if let Some(from) = query.from {
            first.insert("$gte", date(from));
        }
        if let Some(to) = query.to {
            first.insert("$lt", date(to));
        }
        if !first.is_empty() {
            filter.insert("first_window", first);
        }
        let texts = [("model", &query.model), ("parent", &query.parent), ("fingerprint", &query.fingerprint)];
        for (name, value) in texts {
            if let Some(value) = value {
                filter.insert(name, value);
            }
        }
        let order = doc! {"first_window": -1, "_id": 1};
        let found = self.find("read alerts", &self.alerts, (filter, order, query.limit), read_alert)?;
        let snoozes = if found.is_empty() { BTreeMap::new() } else { self.snoozes()? };
        Ok(found.into_iter().map(|alert| as_read(alert, &snoozes)).collect())
    }

    fn alert(&self, id: &str) -> Result<Option<Alert>, KpiStoreError> {
        let found = self.find("read an alert", &self.alerts, (doc! {"_id": id}, doc! {"_id": 1}, 1), read_alert)?;
        let Some(alert) = found.into_iter().next() else { return Ok(None) };
        Ok(Some(as_read(alert, &self.snoozes()?)))
    }

    fn acknowledge(&self, id: &str, by: Option<&str>, at: EventTime) -> Result<Option<Alert>, KpiStoreError> {
        let firing = doc! {"_id": id, "state": name_of(&AlertState::Firing)};
        let seen = doc! {
            "state": name_of(&AlertState::Acknowledged),
            "acknowledged_by": by,
            "acknowledged_at": date(at),
        };
        let seen = Update::new(firing, doc! {"$set": seen}, false);
        self.server.update("acknowledge an alert", "alerts", vec![seen])?;
        self.alert(id)
    }

    fn snooze(&self, id: &str, until: Option<EventTime>) -> Result<Option<Alert>, KpiStoreError> {
        const DEED: &str = "snooze an alert";
        let Some(alert) = self.alert(id)? else { return Ok(None) };
        let now = now();
        self.server.delete(DEED, "snoozes", doc! {"until": {"$lte": date(now)}})?;
        let series = doc! {"_id": series_of(&alert)};
        match until.filter(|until| *until > now) {
            Some(until) => {
                let set = doc! {"$set": {"until": date(until)}};
                self.server.update(DEED, "snoozes", vec![Update::new(series, set, true)])?;
            }
            None => self.server.delete(DEED, "snoozes", series)?,
        }
        self.alert(id)
    }

    fn snoozes(&self) -> Result<BTreeMap<String, EventTime>, KpiStoreError> {
        let read =
            |document: &Document| Some((document.get_str("_id").ok()?.to_owned(), read_time(document, "until")?));
        let running = doc! {"until": {"$gt": date(now())}};
        let found = self.find("read snoozes", &self.snoozes, (running, doc! {"_id": 1}, usize::MAX), read)?;
        Ok(found.into_iter().collect())
    }

    /// Nothing is left to do: a write returns when its write concern is met (by default: a majority, journaled).
    fn flush(&self) -> Result<(), KpiStoreError> {
        Ok(())
    }

    fn ping(&self) -> Result<(), KpiStoreError> {
        self.server.command("ping", doc! {"ping": 1})?;
        Ok(())
    }
}

fn date(time: EventTime) -> DateTime {
    DateTime::from_millis(time.get())
}

/// The text that serde gives a unit variant.
fn name_of<T: Serialize>(value: &T) -> Bson {
    bson::serialize_to_bson(value).unwrap_or(Bson::Null)
}

fn value_of<T: DeserializeOwned>(document: &Document, name: &str) -> Option<T> {
    bson::deserialize_from_bson(document.get(name)?.clone()).ok()
}

/// Names and values; null is a missing value.
fn group_document(group: &BTreeMap<String, Option<String>>) -> Document {
    group.iter().map(|(name, value)| (name.clone(), value.clone().map_or(Bson::Null, Bson::String))).collect()
}

/// Field `group` of a document.
fn read_group(document: &Document) -> Option<BTreeMap<String, Option<String>>> {
    let read = |(name, value): (&String, &Bson)| match value {
        Bson::Null => Some((name.clone(), None)),
        Bson::String(text) => Some((name.clone(), Some(text.clone()))),
        _ => None,
    };
    document.get_document("group").ok()?.iter().map(read).collect()
}

fn kpi_document(kpi: &Kpi) -> Document {
    let measures: Document = kpi.measures.iter().map(|(name, value)| (name.clone(), measure_value(value))).collect();
    doc! {
        "_id": &kpi.id,
        "model": &kpi.model,
        "window_start": date(kpi.window_start),
        "window_end": date(kpi.window_end),
        "group": group_document(&kpi.group),
        "measures": measures,
        "state": name_of(&kpi.state),
        "version": kpi.version,
        "sequence": kpi.sequence,
        "rank": kpi.rank(),
        "closed_by": kpi.closed_by.clone(),
        "completeness": kpi.completeness,
    }
}

fn read_kpi(document: &Document) -> Option<Kpi> {
    let measures = document.get_document("measures").ok()?.iter();
    Some(Kpi {
        id: document.get_str("_id").ok()?.to_owned(),
        model: document.get_str("model").ok()?.to_owned(),
        window_start: read_time(document, "window_start")?,
        window_end: read_time(document, "window_end")?,
        group: read_group(document)?,
        measures: measures.map(|(name, value)| Some((name.clone(), read_measure(value)?))).collect::<Option<_>>()?,
        state: value_of(document, "state")?,
        version: i32::try_from(whole_number(document.get("version")?)?).ok()?,
        sequence: whole_number(document.get("sequence")?)?,
        closed_by: value_of(document, "closed_by")?,
        completeness: number(document.get("completeness")?)?,
    })
}

/// A measure as BSON. A text that a `Decimal128` gives back letter by letter becomes one, so that the server can sum it;
/// any other text stays text.
fn measure_value(measure: &Measure) -> Bson {
    match measure {
        Measure::Null => Bson::Null,
        Measure::Long(n) => Bson::Int64(*n),
        Measure::Double(x) => Bson::Double(*x),
        Measure::Text(text) => decimal_value(text),
    }
}

fn read_measure(value: &Bson) -> Option<Measure> {
    Some(match value {
        Bson::Null => Measure::Null,
        Bson::Int64(n) => Measure::Long(*n),
        Bson::Int32(n) => Measure::Long(i64::from(*n)),
        Bson::Double(x) => Measure::Double(*x),
        Bson::Decimal128(decimal) => Measure::Text(plain_text(*decimal)),
        Bson::String(text) => Measure::Text(text.clone()),
        _ => return None,
    })
}

/// All but the id and what the collection `snoozes` knows.
fn alert_document(alert: &Alert) -> Document {
    let origin: Vec<Document> = alert
        .origin
        .iter()
        .map(|span| doc! {"partition": span.partition, "from": span.from, "upto": span.upto})
        .collect();
    let parts: Vec<Document> = alert
        .parts
        .iter()
        .map(|part| {
            doc! {
                "group": group_document(&part.group),
                "observed": part.observed,
                "expected": part.expected,
                "share": part.share,
            }
        })
        .collect();
    let trace: Vec<Document> = alert
        .trace
        .iter()
        .map(|point| {
            doc! {
                "window": date(point.window),
                "observed": point.observed,
                "expected": point.expected,
                "lower": point.lower,
                "upper": point.upper,
            }
        })
        .collect();
    doc! {
        "model": &alert.model,
        "measure": &alert.measure,
        "formula": &alert.formula,
        "group": group_document(&alert.group),
        "detector": &alert.detector,
        "fingerprint": &alert.fingerprint,
        "state": name_of(&alert.state),
        "resolution": alert.resolution.map_or(Bson::Null, |resolution| name_of(&resolution)),
        "severity": name_of(&alert.severity),
        "observed": alert.observed,
        "expected": alert.expected,
        "lower": alert.lower,
        "upper": alert.upper,
        "score": alert.score,
        "z_score": alert.z_score,
        "threshold": alert.threshold,
        "tail_probability": alert.tail_probability,
        "false_alarms_per_year": alert.false_alarms_per_year,
        "since": date(alert.since),
        "first_window": date(alert.first_window),
        "last_window": date(alert.last_window),
        "window_millis": alert.window_millis,
        "horizon_millis": alert.horizon_millis,
        "episodes": alert.episodes,
        "parent": alert.parent.clone(),
        "money_at_stake": alert.money_at_stake.as_deref().map_or(Bson::Null, decimal_value),
        "parts": parts,
        "trace": trace,
        "origin": origin,
        "acknowledged_by": Bson::Null,
        "acknowledged_at": Bson::Null,
    }
}

/// A document of an older sluice has fewer fields: those have the values that the Avro schema gives them.
fn read_alert(document: &Document) -> Option<Alert> {
    let float = |name: &str| number(document.get(name)?);
    let text = |name: &str| document.get_str(name).ok().map(str::to_owned);
    let documents = |name: &str| document.get_array(name).into_iter().flatten().map(Bson::as_document);
    Some(Alert {
        id: text("_id")?,
        model: text("model")?,
        measure: text("measure")?,
        group: read_group(document)?,
        detector: text("detector")?,
        state: value_of(document, "state")?,
        severity: value_of(document, "severity")?,
        observed: float("observed")?,
        expected: float("expected")?,
        lower: float("lower")?,
        upper: float("upper")?,
        score: float("score")?,
        tail_probability: float("tail_probability")?,
        first_window: read_time(document, "first_window")?,
        last_window: read_time(document, "last_window")?,
        window_millis: whole_number(document.get("window_millis")?)?,
        origin: documents("origin").map(|span| read_span(span?)).collect::<Option<_>>()?,
        z_score: float("z_score").unwrap_or_default(),
        threshold: float("threshold").unwrap_or_default(),
        false_alarms_per_year: float("false_alarms_per_year").unwrap_or_default(),
        formula: text("formula").unwrap_or_default(),
        since: read_time(document, "since").unwrap_or_default(),
        horizon_millis: document.get("horizon_millis").and_then(whole_number).unwrap_or_default(),
        resolution: value_of(document, "resolution"),
        parent: text("parent"),
        money_at_stake: document.get("money_at_stake").and_then(read_decimal),
        parts: documents("parts").map(|part| read_part(part?)).collect::<Option<_>>()?,
        trace: documents("trace").map(|point| read_point(point?)).collect::<Option<_>>()?,
        fingerprint: text("fingerprint").unwrap_or_default(),
        episodes: document.get("episodes").and_then(whole_number).map_or(1, |n| i32::try_from(n).unwrap_or(i32::MAX)),
        acknowledged_by: text("acknowledged_by"),
        acknowledged_at: read_time(document, "acknowledged_at"),
        snoozed_until: None,
    })
}

fn read_span(document: &Document) -> Option<OffsetSpan> {
    Some(OffsetSpan {
        partition: i32::try_from(whole_number(document.get("partition")?)?).ok()?,
        from: document.get("from").and_then(whole_number).unwrap_or_default(),
        upto: whole_number(document.get("upto")?)?,
    })
}

fn read_part(document: &Document) -> Option<AlertPart> {
    let float = |name: &str| number(document.get(name)?);
    Some(AlertPart {
        group: read_group(document)?,
        observed: float("observed")?,
        expected: float("expected")?,
        share: float("share")?,
    })
}

fn read_point(document: &Document) -> Option<AlertPoint> {
    let float = |name: &str| number(document.get(name)?);
    Some(AlertPoint {
        window: read_time(document, "window")?,
        observed: float("observed")?,
        expected: float("expected")?,
        lower: float("lower")?,
        upper: float("upper")?,
    })
}

/// A decimal, or a text that none could hold.
fn read_decimal(value: &Bson) -> Option<String> {
    match read_measure(value)? {
        Measure::Text(text) => Some(text),
        _ => None,
    }
}

fn read_time(document: &Document, name: &str) -> Option<EventTime> {
    document.get_datetime(name).ok().map(|date| EventTime::new(date.timestamp_millis()))
}

fn number(value: &Bson) -> Option<f64> {
    match value {
        Bson::Double(x) => Some(*x),
        other => whole_number(other).map(|n| n as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_connection_string_is_an_error_without_the_password() {
        let error = MongoKpiStore::connect("mongodb://ann:very:secret@db.example:1/?tls=maybe", "shop").err().unwrap();
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    #[test]
    fn decimals_come_back_letter_by_letter_and_other_texts_stay_texts() {
        for text in ["0.0000", "-12.5000", "0.00000000", "-0.000000010", "123456789012345678901234567.1234", "7"] {
            let value = measure_value(&Measure::Text(text.to_owned()));
            assert!(matches!(value, Bson::Decimal128(_)), "{text} became {value:?}");
            assert_eq!(read_measure(&value), Some(Measure::Text(text.to_owned())));
        }
        let too_long = "12345678901234567890123456789012345678.5";
        for text in ["007", "1e3", "+1", "blue", "", "1 000", too_long] {
            let value = measure_value(&Measure::Text(text.to_owned()));
            assert_eq!(value, Bson::String(text.to_owned()));
        }
    }
}
