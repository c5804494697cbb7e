//! The whole server over a real socket, with a store that holds one hour of a small shop.

use serde_json::Value;
use sluice_events::{
    Alert, AlertPart, AlertPoint, AlertState, EventTime, Kpi, KpiKey, Measure, OffsetSpan, PaneState, Severity,
};
use sluice_quality::{Figure, Kind, QualityReport, QualityResult, ReportBuilder, Severity as OnFailure};
use sluice_serve::{
    AlertEvidence, ColumnInfo, ColumnRole, ExampleEvent, GoldSource, GoldTableInfo, LearnedInfo, ModelInfo, NoEvidence,
    PartitionStatus, QualitySource, RunInfo, RunQuery, ServeState, Status, StatusSource, serve,
};
use sluice_sinks::{
    Metric, Metrics,
    kpi_store::{AlertQuery, EmbeddedKpiStore, KpiQuery, KpiStore, KpiStoreError},
};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, mpsc},
};
use tokio::{runtime::Runtime, sync::oneshot};

/// 2024-03-01T10:00:00Z.
const START: i64 = 1_709_287_200_000;
const MINUTE: i64 = 60_000;

struct FixedStatus(Mutex<Status>);

impl StatusSource for FixedStatus {
    fn status(&self) -> Status {
        self.0.lock().unwrap().clone()
    }
}

/// Results of checks; none: the lake is away.
struct FixedQuality(Mutex<Option<Vec<QualityResult>>>);

impl Default for FixedQuality {
    fn default() -> Self {
        Self(Mutex::new(Some(Vec::new())))
    }
}

impl QualitySource for FixedQuality {
    fn quality(&self, _hours: usize) -> Result<Arc<QualityReport>, String> {
        let mut report = ReportBuilder::default();
        let results = self.0.lock().unwrap().clone();
        results.ok_or("s3://silver is away")?.into_iter().for_each(|result| report.add(result));
        Ok(Arc::new(report.finish()))
    }
}

/// Two tables, of which one was made once, and failed since.
struct FixedGold;

fn gold_run(outcome: &str, ended_at: &str) -> RunInfo {
    RunInfo {
        run_id: "1".to_owned(),
        model: "kpi_overview".to_owned(),
        outcome: outcome.to_owned(),
        started_at: "2024-03-01T10:00:00Z".to_owned(),
        ended_at: ended_at.to_owned(),
        seconds: 2.0,
        rows: (outcome == "done").then_some(3),
        parts: None,
        inputs: [("silver.orders".to_owned(), 7)].into(),
        error: (outcome == "failed").then(|| "division by zero".to_owned()),
    }
}

impl GoldSource for FixedGold {
    fn learned(&self) -> Result<Vec<LearnedInfo>, String> {
        let card = serde_json::json!({"model": "segments", "customers": 3, "segments": [], "silhouettes": {"3": 0.5}});
        let (model, source) = ("ml_customer_segments".to_owned(), "files".to_owned());
        Ok(vec![LearnedInfo {
            model,
            source,
            version: "7".to_owned(),
            made_at: "2024-03-01T10:00:00Z".to_owned(),
            card,
        }])
    }

    fn tables(&self) -> Result<Vec<GoldTableInfo>, String> {
        let table = |name: &str| GoldTableInfo {
            name: name.to_owned(),
            room: "kpis".to_owned(),
            title: "Overview".to_owned(),
            grain: "one source".to_owned(),
            key: vec!["source".to_owned()],
            unit: "orders".to_owned(),
            definition: "orders = distinct orders".to_owned(),
            source: "a book".to_owned(),
            reads: vec!["silver.orders".to_owned()],
            made: None,
            failed: None,
        };
        let [made, failed] = [("done", "2024-03-01T10:00:02Z"), ("failed", "2024-03-01T11:00:02Z")]
            .map(|(outcome, at)| Some(gold_run(outcome, at)));
        Ok(vec![GoldTableInfo { made, failed, ..table("kpi_overview") }, table("kpi_new")])
    }

    fn rows(&self, table: &GoldTableInfo, limit: usize) -> Result<Option<Vec<serde_json::Map<String, Value>>>, String> {
        let row = |n: usize| [("source".to_owned(), n.into())].into_iter().collect();
        Ok(table.made.is_some().then(|| (0..3).take(limit).map(row).collect()))
    }

    fn runs(&self, query: &RunQuery) -> Result<Vec<RunInfo>, String> {
        if query.model.as_deref() == Some("away") {
            return Err("s3://gold is away".to_owned());
        }
        let runs = [gold_run("failed", "2024-03-01T11:00:02Z"), gold_run("done", "2024-03-01T10:00:02Z")];
        Ok(runs.into_iter().filter(|run| !query.failed || run.error.is_some()).take(query.limit).collect())
    }
}

/// A server on a free port. It stops when it is dropped.
struct Server {
    address: SocketAddr,
    agent: ureq::Agent,
    status: Arc<FixedStatus>,
    quality: Arc<FixedQuality>,
    stop: Option<oneshot::Sender<()>>,
    runtime: Option<Runtime>,
    _dir: tempfile::TempDir,
}

struct Answer {
    status: u16,
    headers: ureq::http::HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Server {
    fn start(store: (tempfile::TempDir, Arc<dyn KpiStore>)) -> Self {
        Self::start_with(store, Arc::new(NoEvidence))
    }

    fn start_with((dir, store): (tempfile::TempDir, Arc<dyn KpiStore>), evidence: Arc<dyn AlertEvidence>) -> Self {
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let status = Arc::new(FixedStatus(Mutex::new(Status {
            ready: true,
            live: true,
            roles: vec!["process".to_owned(), "serve".to_owned()],
            partitions: vec![PartitionStatus {
                partition: 2,
                position: 40,
                end_offset: 42,
                lag: 2,
                watermark_ms: Some(START),
                idle: false,
            }],
            events_received: 42,
            started_at_ms: START,
            ..Status::default()
        })));
        let quality = Arc::new(FixedQuality::default());
        let metrics = Metrics::new();
        metrics.add(Metric::EventsProcessed, &[], 41);
        let state = ServeState {
            store,
            metrics: Arc::new(metrics),
            status: status.clone(),
            models: Arc::new(models()),
            quality: quality.clone(),
            gold: Arc::new(FixedGold),
            evidence,
        };
        let (stop, stopped) = oneshot::channel();
        runtime.spawn(async move {
            let shutdown = async move {
                let _ = stopped.await;
            };
            serve(listener, state, shutdown).await.unwrap();
        });
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
        Self { address, agent, status, quality, stop: Some(stop), runtime: Some(runtime), _dir: dir }
    }

    /// With the hour of data.
    fn with_data() -> Self {
        let (dir, store) = embedded();
        fill(store.as_ref());
        Self::start((dir, store))
    }

    fn get(&self, path: &str) -> Answer {
        self.get_with(path, &[])
    }

    fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = self.agent.get(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(request.call().unwrap())
    }

    fn post_json(&self, path: &str, body: &str) -> Answer {
        answer(self.agent.post(format!("http://{}{path}", self.address)).send(body).unwrap())
    }

    fn delete(&self, path: &str) -> Answer {
        answer(self.agent.delete(format!("http://{}{path}", self.address)).call().unwrap())
    }

    fn post(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = self.agent.post(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(request.send_empty().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn answer(mut response: ureq::http::Response<ureq::Body>) -> Answer {
    let text = response.body_mut().with_config().limit(64 << 20).read_to_string().unwrap();
    Answer { status: response.status().as_u16(), headers: response.headers().clone(), text }
}

fn embedded() -> (tempfile::TempDir, Arc<dyn KpiStore>) {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedKpiStore::open(dir.path()).unwrap();
    (dir, Arc::new(store))
}

fn models() -> Vec<ModelInfo> {
    let model = |name: &str, groups: &[&str], measures: &[&str]| {
        let column =
            |role| move |name: &&str| ColumnInfo { name: (*name).to_owned(), role, data_type: "Utf8".to_owned() };
        ModelInfo {
            name: name.to_owned(),
            title: format!("The model {name}"),
            grain: "1 minute".to_owned(),
            unit: String::new(),
            definition: "As it says.".to_owned(),
            source: String::new(),
            sql: format!("SELECT 1 AS {name}"),
            columns: groups
                .iter()
                .map(column(ColumnRole::Group))
                .chain(measures.iter().map(column(ColumnRole::Measure)))
                .collect(),
        }
    };
    vec![
        model("activity", &["event_type", "country"], &["events", "revenue"]),
        model("sales", &["country"], &["orders", "revenue", "items"]),
    ]
}

fn pane(model: &str, minute: i64, group: &[(&str, Option<&str>)], measures: &[(&str, Measure)]) -> Kpi {
    let (start, end) = (EventTime::new(START + minute * MINUTE), EventTime::new(START + (minute + 1) * MINUTE));
    let group = group.iter().map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned))).collect();
    let open = minute == 59;
    Kpi {
        id: Kpi::id_of(model, start, end, &group),
        model: model.to_owned(),
        window_start: start,
        window_end: end,
        group,
        measures: measures.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
        state: if open { PaneState::Provisional } else { PaneState::Sealed },
        version: i32::from(!open),
        sequence: 7,
        closed_by: (!open).then(|| "watermark".to_owned()),
        completeness: if open { 0.5 } else { 1.0 },
    }
}

fn alert(id: &str, minute: i64, severity: Severity) -> Alert {
    Alert {
        id: id.to_owned(),
        model: "sales".to_owned(),
        measure: "revenue".to_owned(),
        group: [("country".to_owned(), Some("FR".to_owned()))].into(),
        detector: "zscore".to_owned(),
        state: AlertState::Firing,
        severity,
        observed: 0.0,
        expected: 100.5,
        lower: 60.0,
        upper: f64::INFINITY,
        score: 9.5,
        tail_probability: 1e-20,
        first_window: EventTime::new(START + minute * MINUTE),
        last_window: EventTime::new(START + minute * MINUTE),
        window_millis: MINUTE,
        origin: vec![OffsetSpan { partition: 2, from: 7, upto: 12 }],
        z_score: -9.5,
        threshold: 4.0,
        false_alarms_per_year: 0.01,
        formula: String::new(),
        since: EventTime::new(START + minute * MINUTE),
        horizon_millis: MINUTE,
        resolution: None,
        parent: None,
        money_at_stake: None,
        parts: Vec::new(),
        trace: vec![AlertPoint {
            window: EventTime::new(START + minute * MINUTE),
            observed: 0.0,
            expected: 100.5,
            lower: 60.0,
            upper: f64::INFINITY,
        }],
        fingerprint: "revenue of France".to_owned(),
        episodes: 1,
        acknowledged_by: None,
        acknowledged_at: None,
        snoozed_until: None,
    }
}

/// The payment rate of everywhere, and that of France, which it explains.
fn roll_up(id: &str, minute: i64) -> [Alert; 2] {
    let france = BTreeMap::from([("country".to_owned(), Some("FR".to_owned()))]);
    let whole = Alert {
        measure: "pay_rate".to_owned(),
        formula: "purchases / checkouts".to_owned(),
        group: BTreeMap::new(),
        observed: 0.1,
        expected: 0.6,
        lower: 0.4,
        money_at_stake: Some("1203.5000".to_owned()),
        parts: vec![AlertPart { group: france.clone(), observed: 0.0, expected: 0.6, share: 0.9 }],
        fingerprint: "payment rate".to_owned(),
        ..alert(id, minute, Severity::Critical)
    };
    let part = Alert {
        id: format!("{id} FR"),
        group: france,
        state: AlertState::Suppressed,
        severity: Severity::Warning,
        parent: Some(id.to_owned()),
        parts: Vec::new(),
        money_at_stake: None,
        fingerprint: "payment rate of France".to_owned(),
        ..whole.clone()
    };
    [whole, part]
}

fn fill(store: &dyn KpiStore) {
    let mut kpis = Vec::new();
    for minute in 0..60 {
        for country in [Some("FR"), Some("DE"), None] {
            for (kind, n) in [("page_view", 100), ("purchase", 3), ("cart_abandon", 1)] {
                let group = [("event_type", Some(kind)), ("country", country)];
                kpis.push(pane("activity", minute, &group, &[("events", Measure::Long(n))]));
            }
            let measures = [
                ("orders", Measure::Long(3)),
                ("items", Measure::Long(4)),
                ("revenue", Measure::Text("0.1000".to_owned())),
                ("aov", Measure::Double(f64::NAN)),
            ];
            kpis.push(pane("sales", minute, &[("country", country)], &measures));
        }
    }
    store.upsert_kpis(&kpis).unwrap();
    store.upsert_alerts(&[alert("old|1", 10, Severity::Warning), alert("new|2/3", 20, Severity::Critical)]).unwrap();
}

#[test]
fn kpis_are_found_by_time_group_and_limit() {
    let server = Server::with_data();
    let body = server.get("/api/v1/kpis/sales").json();
    assert_eq!((body["kpis"].as_array().unwrap().len(), &body["more"]), (180, &Value::Bool(false)));
    let path = "/api/v1/kpis/sales?from=2024-03-01T10:10:00Z&to=2024-03-01T11:12:00%2B01:00&group.country=FR";
    let body = server.get(path).json();
    assert_eq!(body["model"], "sales");
    let kpis = body["kpis"].as_array().unwrap();
    let starts: Vec<&str> = kpis.iter().map(|kpi| kpi["window_start"].as_str().unwrap()).collect();
    assert_eq!(starts, ["2024-03-01T10:11:00Z", "2024-03-01T10:10:00Z"]);
    let expected = serde_json::json!({
        "id": format!("sales|{}|60000|FR", START + 11 * MINUTE),
        "window_start": "2024-03-01T10:11:00Z",
        "window_end": "2024-03-01T10:12:00Z",
        "group": {"country": "FR"},
        "measures": {"orders": 3, "items": 4, "revenue": "0.1000", "aov": null},
        "state": "sealed",
        "version": 1,
        "closed_by": "watermark",
        "completeness": 1.0,
    });
    assert_eq!(kpis[0], expected);
    let body = server.get(&format!("/api/v1/kpis/sales?to={}&limit=2", START + 5 * MINUTE)).json();
    assert_eq!((body["kpis"].as_array().unwrap().len(), &body["more"]), (2, &Value::Bool(true)));
    assert_eq!(body["kpis"][0]["window_start"], "2024-03-01T10:04:00Z", "epoch milliseconds are times too");
}

#[test]
fn latest_is_the_newest_window_with_all_its_groups() {
    let server = Server::with_data();
    let body = server.get("/api/v1/kpis/sales?latest=1").json();
    let kpis = body["kpis"].as_array().unwrap();
    assert_eq!(kpis.len(), 3);
    assert!(kpis.iter().all(|kpi| kpi["window_start"] == "2024-03-01T10:59:00Z" && kpi["state"] == "provisional"));
    assert!(kpis.iter().any(|kpi| kpi["group"]["country"].is_null()), "a missing group value is null");
    assert!(kpis.iter().all(|kpi| kpi["closed_by"].is_null()));
    let body = server.get("/api/v1/kpis/activity?latest=1&group.event_type=purchase&group.country=DE").json();
    assert_eq!(body["kpis"][0]["measures"]["events"], 3);
    let body = server.get("/api/v1/kpis/sales?latest=1&to=2020-01-01T00:00:00Z").json();
    assert_eq!(body["kpis"], serde_json::json!([]));
}

#[test]
fn a_wrong_request_is_told_what_is_wrong_and_what_would_be_right() {
    let server = Server::with_data();
    for (path, status, error, hint) in [
        ("/api/v1/kpis/sales?from=yesterday", 400, "parameter 'from': 'yesterday' is not a time", "RFC 3339"),
        ("/api/v1/kpis/sales?to=2024-03-01", 400, "parameter 'to'", "2024-03-01T10:00:00Z"),
        ("/api/v1/kpis/sales?limit=0", 400, "parameter 'limit'", "1 to 10000"),
        ("/api/v1/kpis/sales?limit=many", 400, "parameter 'limit': 'many'", "whole number"),
        ("/api/v1/kpis/sales?latest=perhaps", 400, "parameter 'latest'", "1 or 0"),
        ("/api/v1/kpis/sales?country=FR", 400, "parameter 'country' is not known", "group.<column>"),
        ("/api/v1/kpis/sales?group.device=tv", 400, "parameter 'group.device'", "country"),
        ("/api/v1/kpis/sales?from=1&from=2", 400, "parameter 'from': is there more than once", "once"),
        ("/api/v1/kpis/nothing", 404, "no model is named 'nothing'", "activity, sales"),
        ("/api/v1/alerts?state=loud", 400, "parameter 'state': 'loud'", "acknowledged"),
        ("/api/v1/alerts?limit=1001", 400, "parameter 'limit'", "1 to 1000"),
        ("/api/v1/summary?minutes=0", 400, "parameter 'minutes'", "1 to 240"),
        ("/api/v1/nowhere", 404, "no page is named '/api/v1/nowhere'", "/docs"),
        ("/api/v1/alerts/x/ack", 405, "does not take GET", "/docs"),
    ] {
        let answer = server.get(path);
        assert_eq!(answer.status, status, "{path}");
        let body = answer.json();
        let text = |name: &str| body[name].as_str().unwrap().replace("': is not known", "' is not known");
        assert!(text("error").contains(error), "{path}: {body}");
        assert!(text("hint").contains(hint), "{path}: {body}");
    }
}

#[test]
fn models_say_what_their_numbers_mean() {
    let server = Server::with_data();
    let body = server.get("/api/v1/models").json();
    assert_eq!(body["models"][1]["name"], "sales");
    assert_eq!(body["models"][1]["sql"], "SELECT 1 AS sales");
    let column = serde_json::json!({"name": "country", "role": "group", "data_type": "Utf8"});
    assert_eq!(body["models"][1]["columns"][0], column);
}

#[test]
fn alerts_are_listed_newest_first_and_a_person_acknowledges_one() {
    let server = Server::with_data();
    let body = server.get("/api/v1/alerts").json();
    let alerts = body["alerts"].as_array().unwrap();
    assert_eq!((alerts.len(), &alerts[0]["id"], &alerts[0]["severity"]), (2, &"new|2/3".into(), &"critical".into()));
    assert_eq!(
        alerts[0]["text"],
        "revenue of sales (country FR) is too low: 0 in 1 minute, expected 100.5 (at least 60), since 2024-03-01T10:20:00Z"
    );
    assert_eq!(alerts[0]["upper"], Value::Null, "JSON has no infinity");
    assert_eq!(alerts[0]["last_window_end"], "2024-03-01T10:21:00Z");

    let acknowledged = server.post("/api/v1/alerts/new%7C2%2F3/ack", &[]);
    assert_eq!((acknowledged.status, &acknowledged.json()["state"]), (200, &"acknowledged".into()));
    let firing = server.get("/api/v1/alerts?state=firing&model=sales&limit=5").json();
    assert_eq!(firing["alerts"].as_array().unwrap().len(), 1);
    assert_eq!(server.get("/api/v1/alerts?state=acknowledged").json()["alerts"][0]["id"], "new|2/3");
    let unknown = server.post("/api/v1/alerts/none/ack", &[]);
    assert_eq!((unknown.status, unknown.json()["error"].as_str()), (404, Some("no alert is named 'none'")));
}

#[test]
fn alerts_are_found_by_state_severity_and_time() {
    let (dir, store) = embedded();
    fill(store.as_ref());
    store.upsert_alerts(&roll_up("roll-up", 30)).unwrap();
    let server = Server::start((dir, store));
    let found = |query: &str| -> Vec<String> {
        let body = server.get(&format!("/api/v1/alerts?{query}")).json();
        body["alerts"].as_array().unwrap().iter().map(|alert| alert["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(found("state=firing,suppressed"), ["roll-up", "roll-up FR", "new|2/3", "old|1"]);
    assert_eq!(found("state=suppressed&state=acknowledged"), ["roll-up FR"]);
    assert_eq!(found("severity=critical"), ["roll-up", "new|2/3"], "or a higher one");
    assert_eq!(found("from=2024-03-01T10:20:00Z&to=2024-03-01T10:30:00Z"), ["new|2/3"]);
    for (wrong, hint) in
        [("state=firing,loud", "acknowledged"), ("severity=high", "critical"), ("from=noon", "RFC 3339")]
    {
        let answer = server.get(&format!("/api/v1/alerts?{wrong}"));
        assert_eq!(answer.status, 400, "{wrong}");
        assert!(answer.text.contains(hint), "{}", answer.text);
    }
}

/// Events behind alerts, or that the lake is away; and it may take long.
struct FixedEvidence(Mutex<Result<usize, String>>, Mutex<Option<mpsc::Receiver<()>>>);

impl AlertEvidence for FixedEvidence {
    fn events(&self, alert: &Alert, limit: usize) -> Result<Vec<ExampleEvent>, String> {
        if let Some(wait) = self.1.lock().unwrap().take() {
            let _ = wait.recv();
        }
        assert_eq!((alert.measure.as_str(), limit), ("pay_rate", 20));
        let event = |n: usize| ExampleEvent {
            event_id: format!("<e{n}>"),
            event_time: EventTime::new(START + 30 * MINUTE),
            partition: 2,
            offset: 7 + n as i64,
            customer_id: Some("c1".to_owned()),
            order_id: None,
            product_id: Some("p1".to_owned()),
            event_type: "checkout_started".to_owned(),
        };
        Ok((0..self.0.lock().unwrap().clone()?).map(event).collect())
    }
}

#[test]
fn an_alert_is_told_with_what_it_explains_where_it_was_before_and_its_events() {
    let (dir, store) = embedded();
    store.upsert_alerts(&roll_up("before", 10)).unwrap();
    store.upsert_alerts(&roll_up("roll-up", 30)).unwrap();
    let evidence = Arc::new(FixedEvidence(Mutex::new(Ok(1)), Mutex::new(None)));
    let server = Server::start_with((dir, store), evidence.clone());
    let body = server.get("/api/v1/alerts/roll-up").json();
    assert_eq!(
        body["text"],
        "pay_rate of sales is too low: 0.1 in 1 minute, expected 0.6 (at least 0.4), since 2024-03-01T10:30:00Z; \
         mostly country FR (90 %); about 1203.5 at stake so far"
    );
    assert_eq!(body["score_meaning"], "by chance about once in 100 years");
    assert_eq!(
        (&body["formula"], &body["funnel_step"]),
        (&"purchases / checkouts".into(), &"checkout to purchase".into())
    );
    assert_eq!((&body["threshold"], &body["horizon_seconds"]), (&4.0.into(), &60.0.into()));
    assert_eq!((&body["money_at_stake"], &body["since"]), (&"1203.5000".into(), &"2024-03-01T10:30:00Z".into()));
    let part = serde_json::json!({"group": {"country": "FR"}, "observed": 0.0, "expected": 0.6, "share": 0.9});
    assert_eq!(body["parts"], serde_json::json!([part]));
    assert_eq!(body["origin"], serde_json::json!([{"partition": 2, "from": 7, "upto": 12}]));
    let point = serde_json::json!({
        "window": "2024-03-01T10:30:00Z", "observed": 0.0, "expected": 100.5, "lower": 60.0, "upper": null
    });
    assert_eq!(body["trace"], serde_json::json!([point]));
    let ids = |name: &str| -> Vec<&str> {
        body[name].as_array().unwrap().iter().map(|alert| alert["id"].as_str().unwrap()).collect()
    };
    assert_eq!(
        (ids("children"), &body["more_children"], &body["parent_alert"]),
        (vec!["roll-up FR"], &false.into(), &Value::Null)
    );
    assert_eq!(ids("history"), ["before"]);
    let event = serde_json::json!({
        "event_id": "<e0>", "event_time": "2024-03-01T10:30:00Z", "event_type": "checkout_started", "customer_id": "c1",
        "order_id": null, "product_id": "p1", "partition": 2, "offset": 7
    });
    assert_eq!((&body["events"], &body["events_note"]), (&serde_json::json!([event]), &Value::Null));
    assert!(body["events_sql"].as_str().unwrap().contains("_partition = 2 AND _offset >= 7 AND _offset < 12"));
    assert!(body["next_steps"][0].as_str().unwrap().starts_with("Country FR makes up 90 % of it"), "{body}");
    *evidence.0.lock().unwrap() = Ok(100);
    assert_eq!(server.get("/api/v1/alerts/roll-up").json()["events"].as_array().unwrap().len(), 20);
    let unknown = server.get("/api/v1/alerts/none");
    assert_eq!((unknown.status, unknown.json()["error"].as_str()), (404, Some("no alert is named 'none'")));
}

#[test]
fn events_that_are_not_found_are_a_note_and_a_slow_lake_is_not_waited_for() {
    let (dir, store) = embedded();
    store.upsert_alerts(&roll_up("roll-up", 30)).unwrap();
    let (go_on, waiting) = mpsc::channel();
    let away = Err("s3://silver is away".to_owned());
    let evidence = Arc::new(FixedEvidence(Mutex::new(away), Mutex::new(Some(waiting))));
    let server = Server::start_with((dir, store), evidence);
    let note = || {
        let answer = server.get("/api/v1/alerts/roll-up");
        assert!(answer.status == 200 && !answer.text.contains("s3://"), "{}", answer.text);
        answer.json()["events_note"].as_str().unwrap().to_owned()
    };
    assert!(note().contains("takes too long"));
    go_on.send(()).unwrap();
    assert!(note().contains("does not answer"));
}

#[test]
fn the_chart_of_an_alert_shows_the_panes_of_its_group() {
    let server = Server::with_data();
    let chart = server.get("/api/v1/alerts/old%7C1/chart.svg");
    assert_eq!((chart.status, chart.header("content-type")), (200, "image/svg+xml"));
    assert!(chart.text.starts_with("<svg ") && chart.text.contains("revenue of sales (country FR) is too low"));
    assert!(chart.text.contains("0.1 at the lowest, 0.1 at the highest"), "{}", chart.text);
    for asset in ["<script", "href=", "@import", "url("] {
        assert!(!chart.text.contains(asset), "{asset}");
    }
    assert_eq!(server.get("/api/v1/alerts/none/chart.svg").status, 404);
}

#[test]
fn a_person_says_who_and_snoozes_a_series() {
    let server = Server::with_data();
    let path = |rest: &str| format!("/api/v1/alerts/old%7C1/{rest}");
    assert_eq!(server.post_json(&path("ack"), "by ann").status, 400);
    let seen = server.post_json(&path("ack"), r#"{"by": "ann"}"#).json();
    assert_eq!((&seen["state"], &seen["acknowledged_by"]), (&"acknowledged".into(), &"ann".into()));
    assert!(seen["acknowledged_at"].as_str().unwrap() > "2025");
    for wrong in ["snooze", "snooze?for=soon", "snooze?for=0s", "snooze?until=2024-03-01T10:00:00Z", "snooze?days=1"] {
        assert_eq!(server.post(&path(wrong), &[]).status, 400, "{wrong}");
    }
    let snoozed = server.post(&path("snooze?for=2h"), &[]);
    assert_eq!(snoozed.status, 200, "{}", snoozed.text);
    let until = snoozed.json()["snoozed_until"].as_str().unwrap().to_owned();
    assert_eq!(server.get("/api/v1/alerts/new%7C2%2F3").json()["snoozed_until"], *until, "all episodes of the series");
    assert_eq!(server.delete(&path("snooze")).json()["snoozed_until"], Value::Null);
    assert_eq!(server.get("/api/v1/alerts/new%7C2%2F3").json()["snoozed_until"], Value::Null);
    assert_eq!(server.post("/api/v1/alerts/none/snooze?for=1h", &[]).status, 404);
    assert_eq!(server.delete("/api/v1/alerts/none/snooze").status, 404);
}

#[test]
fn a_page_of_another_site_cannot_acknowledge() {
    let server = Server::with_data();
    assert_eq!(server.post("/api/v1/alerts/old%7C1/snooze?for=1h", &[("sec-fetch-site", "cross-site")]).status, 403);
    let path = "/api/v1/alerts/old%7C1/ack";
    for site in ["cross-site", "same-site"] {
        assert_eq!(server.post(path, &[("sec-fetch-site", site)]).status, 403);
    }
    assert_eq!(server.get_with("/api/v1/alerts", &[("sec-fetch-site", "cross-site")]).status, 200);
    assert_eq!(server.post(path, &[("sec-fetch-site", "same-origin")]).status, 200);
}

#[test]
fn the_summary_adds_up_all_groups_exactly() {
    let server = Server::with_data();
    let body = server.get("/api/v1/summary?minutes=60").json();
    let points = body["points"].as_array().unwrap();
    assert_eq!((points.len(), &body["as_of"]), (60, &"2024-03-01T11:00:00Z".into()));
    assert_eq!(points[0]["events_by_type"], serde_json::json!({"page_view": 300, "purchase": 9, "cart_abandon": 3}));
    assert_eq!((&points[0]["revenue"], &points[0]["orders"]), (&"0.3000".into(), &9.into()));
    assert_eq!((&points[0]["abandonment_rate"], &points[0]["events_per_second"]), (&0.25.into(), &5.2.into()));
    assert_eq!((&points[58]["provisional"], &points[59]["provisional"]), (&false.into(), &true.into()));
    let totals = serde_json::json!({
        "events": 60 * 312, "revenue": "18.0000", "orders": 540, "items": 720, "aov": "0.0333", "abandonment_rate": 0.25
    });
    assert_eq!(body["totals"], totals);
    let body = server.get("/api/v1/summary?minutes=5").json();
    assert_eq!(body["points"][0]["window_start"], "2024-03-01T10:55:00Z");
}

#[test]
fn an_empty_store_answers_with_nothing() {
    let server = Server::start(embedded());
    let body = server.get("/api/v1/summary").json();
    assert_eq!((&body["as_of"], &body["points"]), (&Value::Null, &serde_json::json!([])));
    assert_eq!(server.get("/api/v1/alerts").json()["alerts"], serde_json::json!([]));
    assert_eq!(server.get("/api/v1/kpis/sales?latest=1").json()["kpis"], serde_json::json!([]));
}

#[test]
fn status_health_and_metrics_tell_how_it_is_doing() {
    let server = Server::with_data();
    let body = server.get("/api/v1/status").json();
    assert_eq!((&body["events_received"], &body["roles"][1]), (&42.into(), &"serve".into()));
    assert_eq!((&body["partitions"][0]["lag"], &body["started_at"]), (&2.into(), &"2024-03-01T10:00:00Z".into()));
    assert!(body["server_time_ms"].as_i64().unwrap() > START);
    assert_eq!((server.get("/healthz").status, server.get("/readyz").status), (200, 200));
    let metrics = server.get("/metrics");
    assert_eq!(metrics.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    assert!(metrics.text.contains("sluice_events_processed_total 41"), "{}", metrics.text);

    *server.status.0.lock().unwrap() =
        Status { not_ready_because: Some("the log is not reached".to_owned()), ..Status::default() };
    let (alive, ready) = (server.get("/healthz"), server.get("/readyz"));
    assert_eq!((alive.status, ready.status), (503, 503));
    assert_eq!(ready.json()["reason"], "the log is not reached");
}

/// A store that is down.
struct Down;

impl Down {
    fn error<T>() -> Result<T, KpiStoreError> {
        Err(KpiStoreError { store: "nowhere".to_owned(), deed: "ask", message: "a secret detail".to_owned() })
    }
}

impl KpiStore for Down {
    fn upsert_kpis(&self, _: &[Kpi]) -> Result<(), KpiStoreError> {
        Self::error()
    }
    fn remove_kpis(&self, _: &[KpiKey]) -> Result<(), KpiStoreError> {
        Self::error()
    }

    fn kpis(&self, _: &KpiQuery) -> Result<Vec<Kpi>, KpiStoreError> {
        Self::error()
    }
    fn upsert_alerts(&self, _: &[Alert]) -> Result<(), KpiStoreError> {
        Self::error()
    }
    fn alerts(&self, _: &AlertQuery) -> Result<Vec<Alert>, KpiStoreError> {
        Self::error()
    }
    fn alert(&self, _: &str) -> Result<Option<Alert>, KpiStoreError> {
        Self::error()
    }
    fn acknowledge(&self, _: &str, _: Option<&str>, _: EventTime) -> Result<Option<Alert>, KpiStoreError> {
        Self::error()
    }
    fn snooze(&self, _: &str, _: Option<EventTime>) -> Result<Option<Alert>, KpiStoreError> {
        Self::error()
    }
    fn snoozes(&self) -> Result<BTreeMap<String, EventTime>, KpiStoreError> {
        Self::error()
    }
    fn flush(&self) -> Result<(), KpiStoreError> {
        Self::error()
    }
    fn ping(&self) -> Result<(), KpiStoreError> {
        Self::error()
    }
}

#[test]
fn a_store_that_is_down_is_said_so_without_its_details() {
    let server = Server::start((tempfile::tempdir().unwrap(), Arc::new(Down)));
    for path in ["/api/v1/kpis/sales", "/api/v1/alerts", "/api/v1/alerts/x", "/api/v1/summary", "/readyz"] {
        let answer = server.get(path);
        assert_eq!(answer.status, 503, "{path}");
        assert!(answer.text.contains("the KPI store does not answer"), "{path}: {}", answer.text);
        assert!(!answer.text.contains("secret"), "{path}: {}", answer.text);
    }
    assert_eq!((server.get("/healthz").status, server.get("/metrics").status, server.get("/").status), (200, 200, 200));
}

#[test]
fn the_description_lists_every_route_and_its_page_works() {
    let server = Server::with_data();
    let description = server.get("/api/v1/openapi.json").json();
    let mut paths: Vec<&String> = description["paths"].as_object().unwrap().keys().collect();
    paths.sort();
    assert_eq!(
        paths,
        [
            "/api/v1/alerts",
            "/api/v1/alerts/{id}",
            "/api/v1/alerts/{id}/ack",
            "/api/v1/alerts/{id}/chart.svg",
            "/api/v1/alerts/{id}/snooze",
            "/api/v1/gold",
            "/api/v1/gold/{table}",
            "/api/v1/kpis/{model}",
            "/api/v1/models",
            "/api/v1/quality",
            "/api/v1/runs",
            "/api/v1/status",
            "/api/v1/summary",
            "/healthz",
            "/metrics",
            "/readyz",
        ]
    );
    for (path, methods) in description["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            assert!(operation["responses"]["200"].is_object(), "{method} {path}");
            let url = path.replace("{model}", "sales").replace("{id}", "old%7C1").replace("{table}", "kpi_overview");
            let answer = match method.as_str() {
                "post" if url.ends_with("/snooze") => server.post(&format!("{url}?for=1h"), &[]),
                "post" => server.post(&url, &[]),
                "delete" => server.delete(&url),
                _ => server.get(&url),
            };
            assert_eq!(answer.status, 200, "{method} {path}");
        }
    }
    let references = description.to_string();
    for part in references.split("\"#/components/schemas/").skip(1) {
        let name = part.split('"').next().unwrap();
        assert!(description["components"]["schemas"][name].is_object(), "{name} is used and not described");
    }
    let docs = server.get("/docs/");
    assert_eq!((docs.status, docs.text.contains("swagger-ui")), (200, true));
}

#[test]
fn the_page_loads_all_it_needs_from_here_and_browsers_keep_the_large_part() {
    let server = Server::with_data();
    let page = server.get("/");
    assert!(page.header("content-type").starts_with("text/html"));
    for name in ["content-security-policy", "x-content-type-options", "x-frame-options", "referrer-policy"] {
        assert!(!page.header(name).is_empty(), "{name}");
    }
    let mut loaded = 0;
    for attribute in ["src=\"", "href=\"/assets"] {
        for part in page.text.split(attribute).skip(1) {
            let path = part.split('"').next().unwrap();
            let path = if attribute.starts_with("href") { format!("/assets{path}") } else { path.to_owned() };
            assert_eq!(server.get(&path).status, 200, "{path}");
            loaded += 1;
        }
    }
    assert_eq!(loaded, 3);
    for path in ["/", "/assets/app.js", "/assets/style.css"] {
        let text = server.get(path).text.replace("http://www.w3.org/2000/svg", "");
        assert!(!text.contains("http://") && !text.contains("https://"), "{path} names another site");
    }
    let charts = server.get("/assets/plotly.min.js");
    assert!(charts.text.contains("plotly.js v") && charts.text.trim_end().ends_with("}));"));
    assert!(charts.header("cache-control").contains("max-age"));
    let again = server.get_with("/assets/plotly.min.js", &[("if-none-match", charts.header("etag"))]);
    assert_eq!((again.status, again.text.len()), (304, 0));
    assert_eq!(server.get("/api/v1/status").header("cache-control"), "no-store");
}

/// Two hours of checks of two partitions: a rule with signs that HTML gives a meaning to, hard and broken in the last
/// hour; a freshness that is met; and an expectation without rows.
fn checks() -> Vec<QualityResult> {
    let result = |name: &str, kind, severity, hour: i64, partition, figure| QualityResult {
        checked_at: START + hour * 60 * MINUTE,
        table: "bronze.events".to_owned(),
        expectation: name.to_owned(),
        kind,
        severity,
        rule: "unit_price < 1000 AND device <> '<script>alert(1)</script>' AND country <> 'a & \"b\"'".to_owned(),
        at_least: Some(0.99),
        partition: Some(partition),
        offsets: Some((0, 9)),
        file: None,
        figure,
        event_times: None,
    };
    let share = |passed: u64, rows: u64| Figure {
        rows,
        passed: Some(passed),
        age_seconds: None,
        ok: Some(passed as f64 >= 0.99 * rows as f64),
    };
    let fresh = Figure { rows: 10, passed: None, age_seconds: Some(1.25), ok: Some(true) };
    vec![
        result("prices_are_sane", Kind::Validity, OnFailure::Hard, 0, 0, share(1_000, 1_000)),
        result("prices_are_sane", Kind::Validity, OnFailure::Hard, 1, 0, share(1_234_000, 1_234_567)),
        result("prices_are_sane", Kind::Validity, OnFailure::Hard, 1, 1, share(0, 0)),
        result("prices_are_sane", Kind::Validity, OnFailure::Hard, 1, 2, share(10_000, 100_000)),
        QualityResult { at_least: None, ..result("fresh", Kind::Freshness, OnFailure::Soft, 1, 0, fresh) },
        result("devices_are_known", Kind::Completeness, OnFailure::Soft, 1, 0, Figure::default()),
        result("sessions_are_known", Kind::Completeness, OnFailure::Soft, 1, 0, share(9, 10)),
    ]
}

#[test]
fn what_is_expected_of_rows_is_told_with_its_history() {
    let server = Server::with_data();
    let nothing = server.get("/api/v1/quality").json();
    assert_eq!((&nothing["as_of"], nothing["expectations"].as_array().unwrap().len()), (&Value::Null, 0));
    *server.quality.0.lock().unwrap() = Some(checks());
    let body = server.get("/api/v1/quality?hours=48").json();
    assert_eq!((&body["as_of"], &body["hours"]), (&"2024-03-01T11:00:00Z".into(), &48.into()));
    assert_eq!((&body["failed_hard"], &body["failed_soft"]), (&1.into(), &1.into()));
    let names: Vec<&str> =
        body["expectations"].as_array().unwrap().iter().map(|e| e["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["devices_are_known", "fresh", "prices_are_sane", "sessions_are_known"]);
    let hard = &body["expectations"][2];
    assert_eq!(
        (&hard["kind"], &hard["severity"], &hard["table"]),
        (&"validity".into(), &"hard".into(), &"bronze.events".into())
    );
    let latest = &hard["latest"];
    assert_eq!(
        (&latest["rows"], &latest["passed"], &latest["ok"]),
        (&1_334_567.into(), &1_244_000.into(), &false.into())
    );
    assert!((latest["ratio"].as_f64().unwrap() - 1_244_000.0 / 1_334_567.0).abs() < 1e-12);
    let hours: Vec<_> = hard["history"]
        .as_array()
        .unwrap()
        .iter()
        .map(|h| (h["hour"].as_str().unwrap(), h["checks"].as_i64()))
        .collect();
    assert_eq!(hours, [("2024-03-01T10:00:00Z", Some(1)), ("2024-03-01T11:00:00Z", Some(1))]);
    assert_eq!(body["expectations"][0]["latest"]["ok"], Value::Null);
    assert_eq!(body["expectations"][1]["latest"]["age_seconds"], 1.25);
    for wrong in ["hours=0", "hours=337", "hours=day", "days=1"] {
        assert_eq!(server.get(&format!("/api/v1/quality?{wrong}")).status, 400, "{wrong}");
    }
    assert!(server.get("/api/v1/openapi.json").json()["paths"]["/api/v1/quality"]["get"].is_object());
    *server.quality.0.lock().unwrap() = None;
    let away = server.get("/api/v1/quality");
    assert_eq!((away.status, away.json()["error"].as_str().unwrap()), (503, "the lake does not answer"));
    assert!(!away.text.contains("s3://"));
}

#[test]
fn gold_is_told_with_its_meaning_and_its_runs() {
    let server = Server::with_data();
    let tables = server.get("/api/v1/gold").json();
    let names: Vec<&str> = tables["tables"].as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["kpi_overview", "kpi_new"]);

    let table = server.get("/api/v1/gold/kpi_overview?limit=2").json();
    assert_eq!((&table["definition"], &table["key"][0]), (&"orders = distinct orders".into(), &"source".into()));
    assert_eq!((&table["made"]["rows"], &table["failed"]["error"]), (&3.into(), &"division by zero".into()));
    assert_eq!(table["rows"].as_array().unwrap().len(), 2);
    assert_eq!(server.get("/api/v1/gold/kpi_new").json()["rows"], Value::Null, "it was never made");
    assert_eq!(server.get("/api/v1/gold/kpi_none").status, 404);
    assert_eq!(server.get("/api/v1/gold/kpi_overview?limit=0").status, 400);

    let runs = |query: &str| server.get(&format!("/api/v1/runs{query}")).json()["runs"].as_array().unwrap().len();
    assert_eq!([runs(""), runs("?failed=1"), runs("?limit=1")], [2, 1, 1]);
    let away = server.get("/api/v1/runs?model=away");
    assert_eq!(away.status, 503);
    assert!(!away.text.contains("s3://"), "{}", away.text);
}

#[test]
fn the_report_is_one_page_that_needs_nothing_else_and_escapes_what_it_shows() {
    let server = Server::with_data();
    assert!(server.get("/quality").text.contains("Nothing has been checked yet"));
    *server.quality.0.lock().unwrap() = Some(checks());
    let page = server.get("/quality");
    assert!(page.status == 200 && page.header("content-type").starts_with("text/html"));
    let text = &page.text;
    assert!(text.contains("2 of 4 expectations not met, 1 of them hard"), "{text}");
    assert!(text.contains("&lt;script&gt;alert(1)&lt;/script&gt;") && text.contains("a &amp; &quot;b&quot;"), "{text}");
    assert!(text.contains("93.213\u{a0}%") && text.contains("of 1\u{202f}334\u{202f}567 rows"), "{text}");
    for asset in ["<script", "src=", "http://", "https://", "<link rel=\"stylesheet", "@import", "url("] {
        assert!(!text.contains(asset), "{asset}");
    }
    // What needs a person stands first.
    let place = |name: &str| text.find(&format!("<h2>{name}</h2>")).unwrap();
    assert!(place("prices_are_sane") < place("sessions_are_known") && place("sessions_are_known") < place("fresh"));
    assert!(server.get("/").text.contains("href=\"/quality\""));
}

#[test]
fn the_page_of_alerts_has_what_fires_first_and_parts_under_their_whole() {
    let server = Server::start(embedded());
    let empty = server.get("/alerts");
    assert!(empty.status == 200 && empty.header("content-type").starts_with("text/html"));
    assert!(empty.text.contains("No alert so far") && empty.text.contains("Nothing is off"));

    let (dir, store) = embedded();
    fill(store.as_ref());
    store.upsert_alerts(&roll_up("roll-up", 30)).unwrap();
    let over = Alert { state: AlertState::Resolved, ..alert("over", 50, Severity::Critical) };
    store.upsert_alerts(&[over]).unwrap();
    store.acknowledge("old|1", Some("<ann>"), EventTime::new(START)).unwrap();
    let server = Server::start((dir, store));
    let text = server.get("/alerts").text;
    assert!(text.contains("2 firing, 2 critical"), "{text}");
    let place = |what: &str| text.find(what).unwrap_or_else(|| panic!("{what}: {text}"));
    let places = [
        "href=\"/alerts/roll-up\"",
        "href=\"/alerts/new%7C2%2F3\"",
        "href=\"/alerts/old%7C1\"",
        "href=\"/alerts/over\"",
    ];
    assert!(places.map(place).is_sorted(), "{text}");
    let child = place("href=\"/alerts/roll-up%20FR\"");
    assert!(place("<details id=\"of-roll-up\">") < child && child < place("href=\"/alerts/new%7C2%2F3\""));
    assert!(text.contains("acknowledged by &lt;ann&gt;, <time"), "{text}");
    assert_eq!(text.matches(">Acknowledge</button>").count(), 2, "only what fires is acknowledged");
    assert!(text.contains("data-path=\"/api/v1/alerts/new%7C2%2F3/ack\""));
    let dashboard = server.get("/").text;
    assert!(dashboard.contains("href=\"/alerts\""));
    // The same for all, and nothing that the security policy would stop.
    for page in [text, server.get("/alerts/roll-up").text] {
        for part in page.split("=\"/assets/").skip(1) {
            let path = format!("/assets/{}", part.split('"').next().unwrap());
            assert_eq!(server.get(&path).status, 200, "{path}");
        }
        let inline = page.replace("<script src=\"/assets/alerts.js\" defer></script>", "");
        for forbidden in ["<script", " onclick", "javascript:", "https://", "@import", "url("] {
            assert!(!inline.contains(forbidden), "{forbidden}");
        }
    }
}

#[test]
fn the_page_of_an_alert_says_what_it_is_and_what_to_look_at() {
    let (dir, store) = embedded();
    fill(store.as_ref());
    store.upsert_alerts(&roll_up("before", 10)).unwrap();
    store.upsert_alerts(&roll_up("roll-up", 30)).unwrap();
    let evidence = Arc::new(FixedEvidence(Mutex::new(Ok(3)), Mutex::new(None)));
    let server = Server::start_with((dir, store), evidence.clone());
    let page = server.get("/alerts/roll-up");
    assert!(page.status == 200 && page.header("content-type").starts_with("text/html"));
    for part in [
        ">pay_rate of sales is too low</h1>",
        "0.1 in 1 minute, expected 0.6 (at least 0.4); mostly country FR (90 %)",
        "by chance about once in 100 years",
        "checkout → purchase",
        "<svg xmlns",
        "Country FR makes up 90 % of it",
        "style=\"width:90%\"",
        "1 alert explained by it",
        "&lt;e2&gt;",
        "_partition = 2 AND _offset &gt;= 7",
        "href=\"/alerts/before\"",
        "href=\"/api/v1/alerts/roll-up\"",
    ] {
        assert!(page.text.contains(part), "{part}: {}", page.text);
    }
    assert!(server.get("/alerts/roll-up%20FR").text.contains("Part of <a href=\"/alerts/roll-up\">"));
    *evidence.0.lock().unwrap() = Err("s3://silver is away".to_owned());
    let away = server.get("/alerts/roll-up");
    assert!(away.status == 200 && away.text.contains("The lake does not answer") && !away.text.contains("s3://"));
    let gone = server.get("/alerts/none");
    assert!(gone.status == 404 && gone.text.contains("<h1>There is no such alert</h1>"));
}

#[test]
fn nothing_of_an_alert_is_taken_for_html() {
    let (dir, store) = embedded();
    let signs = "<script>alert(1)</script>\"'&".to_owned();
    let odd = Alert {
        measure: signs.clone(),
        model: signs.clone(),
        detector: signs.clone(),
        formula: signs.clone(),
        fingerprint: signs.clone(),
        group: [(signs.clone(), Some(signs.clone()))].into(),
        money_at_stake: Some(signs.clone()),
        parts: vec![AlertPart {
            group: [("part".to_owned(), Some(signs.clone()))].into(),
            observed: 1.0,
            expected: 2.0,
            share: f64::NAN,
        }],
        ..alert(&signs, 40, Severity::Info)
    };
    let child =
        Alert { parent: Some(signs.clone()), state: AlertState::Suppressed, ..alert("child", 41, Severity::Info) };
    store.upsert_alerts(&[odd, child]).unwrap();
    store.acknowledge(&signs, Some(&signs), EventTime::new(START)).unwrap();
    let server = Server::start((dir, store));
    let id = "%3Cscript%3Ealert%281%29%3C%2Fscript%3E%22%27%26";
    for path in [
        "/alerts".to_owned(),
        format!("/alerts/{id}"),
        "/alerts/child".to_owned(),
        format!("/api/v1/alerts/{id}/chart.svg"),
    ] {
        let answer = server.get(&path);
        assert_eq!(answer.status, 200, "{path}");
        assert!(!answer.text.contains("<script>") && !answer.text.contains("alert(1)</"), "{path}: {}", answer.text);
        assert!(path.contains("child") || answer.text.contains("&lt;script&gt;"), "{path}");
        assert!(!answer.text.contains("NaN"), "{path}");
    }
}

#[test]
fn a_page_without_a_store_says_so() {
    let server = Server::start((tempfile::tempdir().unwrap(), Arc::new(Down)));
    for path in ["/alerts", "/alerts/x"] {
        let page = server.get(path);
        assert!(page.status == 503 && page.text.contains("the KPI store does not answer"), "{}", page.text);
        assert!(!page.text.contains("secret"));
    }
}

#[test]
fn a_stopped_server_ends_by_itself() {
    let mut server = Server::start(embedded());
    assert_eq!(server.get("/healthz").status, 200);
    server.stop.take().unwrap().send(()).unwrap();
    let runtime = server.runtime.take().unwrap();
    // Kept connections without a request are closed, so nothing holds the server.
    runtime.block_on(async {
        while tokio::net::TcpStream::connect(server.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    });
}
