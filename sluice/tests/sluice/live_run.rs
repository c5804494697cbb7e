//! A running sluice, watched from outside.

use crate::support::{Sluice, interrupt, wait_for};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

/// Whether an alert is what an anomaly must raise.
type OfKind = fn(&Value) -> bool;

const WINDOW: i64 = 60_000;
const PATIENCE: Duration = Duration::from_secs(120);

const SCENARIO: &str = r#"
[simulate]
seed = 5
start = "2024-06-04T17:00:00Z"
rate = 150.0
duration = "1h40m"
speed = 0.0

[[anomaly]]
kind = "payment_outage"
start = "45m"
duration = "8m"

[[anomaly]]
kind = "abandoned_cart_spike"
start = "1h15m"
duration = "8m"
"#;

fn millis(time: &Value) -> i64 {
    chrono::DateTime::parse_from_rfc3339(time.as_str().unwrap()).unwrap().timestamp_millis()
}

#[test]
fn an_outage_and_a_wave_of_left_carts_are_told_everywhere_within_two_windows() {
    let (hook, requests) = webhook();
    let receiver = format!("alerts.receivers.hook={{kind='webhook', url='{hook}', secret='between us'}}");
    let sluice = Sluice::with(&["serve.listen=127.0.0.1:0", &receiver]);
    std::fs::write(sluice.path("bad-day.toml"), SCENARIO).unwrap();
    let mut child = sluice.start(&["up", "--scenario", "bad-day.toml"]);
    let lines = Arc::new(Mutex::new(Vec::new()));
    let reader = {
        let (lines, stderr) = (lines.clone(), child.stderr.take().unwrap());
        thread::spawn(move || {
            BufReader::new(stderr).lines().map_while(Result::ok).for_each(|line| lines.lock().unwrap().push(line));
        })
    };
    let said = |wanted: &dyn Fn(&str) -> Option<String>| -> String {
        let began = Instant::now();
        loop {
            if let Some(found) = lines.lock().unwrap().iter().find_map(|line| wanted(line)) {
                return found;
            }
            assert!(began.elapsed() < PATIENCE, "not said in {PATIENCE:?}: {:#?}", lines.lock().unwrap());
            thread::sleep(Duration::from_millis(50));
        }
    };
    let address = said(&|line| line.strip_prefix("dashboard  ")?.split_whitespace().next().map(str::to_owned));
    let get = |path: &str| ureq::get(format!("{address}{path}")).call().unwrap().body_mut().read_to_string().unwrap();
    let alerts = || -> Vec<Value> {
        let body: Value = serde_json::from_str(&get("api/v1/alerts?limit=1000")).unwrap();
        body["alerts"].as_array().unwrap().clone()
    };
    said(&|line| line.contains("simulation ended").then(String::new));
    let labels: Vec<Value> =
        serde_json::from_str(&std::fs::read_to_string(sluice.path("shop/bad-day.labels.json")).unwrap()).unwrap();
    assert_eq!(labels.len(), 2);

    // What each anomaly must raise: a series, and where its number goes.
    let raised: [(&str, OfKind); 2] = [
        ("payment_outage", |a| a["measure"] == "pay_rate" && a["z_score"].as_f64() < Some(0.0)),
        ("abandoned_cart_spike", |a| a["measure"] == "abandonment" || a["measure"] == "checkout_rate"),
    ];
    for (kind, of_kind) in raised {
        let label = labels.iter().find(|l| l["kind"] == kind).unwrap();
        let start = label["start_millis"].as_i64().unwrap();
        let in_time = |alert: &Value| {
            let first = millis(&alert["first_window"]);
            of_kind(alert) && first + WINDOW > start && first <= start + 2 * WINDOW && alert["state"] != "suppressed"
        };
        let began = Instant::now();
        let alert = loop {
            if let Some(alert) = alerts().into_iter().find(in_time) {
                break alert;
            }
            assert!(began.elapsed() < PATIENCE, "{kind} at {start}: {:#?}", alerts());
            thread::sleep(Duration::from_millis(200));
        };
        let id = alert["id"].as_str().unwrap();
        let line = said(&|line| (line.contains("ALERT") && line.contains(id)).then(|| line.to_owned()));
        assert!(line.contains("is too") && line.contains("by chance"), "{line}");
        let explained: Value = serde_json::from_str(&get(&format!("api/v1/alerts/{id}"))).unwrap();
        assert!(!explained["origin"].as_array().unwrap().is_empty(), "{explained:#}");
        assert!(get(&format!("api/v1/alerts/{id}/chart.svg")).starts_with("<svg"));
        let (model, severity) = (alert["model"].as_str().unwrap(), alert["severity"].as_str().unwrap());
        let series = format!("sluice_alerts_total{{model=\"{model}\",severity=\"{severity}\"}} ");
        let metrics = get("metrics");
        let count = metrics.lines().find_map(|line| line.strip_prefix(&series)).expect("the series is there");
        assert!(count.parse::<f64>().unwrap() >= 1.0, "{count}");
        wait_for("the webhook to be told", || {
            let requests = requests.lock().unwrap();
            requests.iter().any(|r| r.to_lowercase().contains("x-sluice-signature") && r.contains(id)).then_some(())
        });
    }

    let kpis: Value = serde_json::from_str(&get("api/v1/kpis/sales?limit=5")).unwrap();
    assert_eq!(kpis["kpis"].as_array().unwrap().len(), 5);
    assert!(get("").contains("<title>"));
    assert!(!get("healthz").is_empty());
    interrupt(&child);
    let status = child.wait().unwrap();
    reader.join().unwrap();
    assert_eq!(status.code(), Some(0), "{:#?}", lines.lock().unwrap());
    let raised = sluice.number("SELECT count(DISTINCT id) FROM gold.alerts WHERE state = 'firing'");
    assert!(raised >= 2, "{raised} alerts are in the lake");
    // The command line says the same, and so does history: the sealed windows, judged again.
    let lines = |args: &[&str]| -> Vec<Value> {
        let output = sluice.run(args);
        String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let ids = |alerts: Vec<Value>| -> BTreeSet<String> {
        alerts.iter().map(|alert| alert["id"].as_str().unwrap().to_owned()).collect()
    };
    let told = ids(lines(&["alerts", "list", "--all", "--model", "checkout", "--json"]));
    assert!(told.len() >= 2, "{told:?}");
    let svg = sluice.path("history.svg");
    let simulate = ["alerts", "simulate", "--model", "checkout", "--json", "--svg", svg.to_str().unwrap()];
    let simulated = ids(lines(&simulate));
    let main = sluice.query("SELECT DISTINCT id FROM gold.alerts WHERE model = 'checkout' AND state = 'firing'");
    assert!(main.iter().all(|id| simulated.contains(id)), "{main:?} of {simulated:?}");
    assert!(std::fs::read_to_string(svg).unwrap().starts_with("<svg"));
    let none = lines(&["alerts", "simulate", "--model", "checkout", "--json", "--set", "threshold=100000"]);
    assert!(none.is_empty(), "{none:?}");
}

/// A server that takes what it is sent; its address, and the requests.
fn webhook() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/", listener.local_addr().unwrap());
    let requests = Arc::new(Mutex::new(Vec::new()));
    let taken = requests.clone();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(stream);
            let (mut request, mut length) = (String::new(), 0);
            while reader.read_line(&mut request).is_ok_and(|read| read > 2) {
                let line = request.lines().last().unwrap_or_default().to_lowercase();
                length = line.strip_prefix("content-length:").map_or(length, |l| l.trim().parse().unwrap());
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            request.push_str(&String::from_utf8_lossy(&body));
            taken.lock().unwrap().push(request);
            let _ = reader.into_inner().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
    });
    (address, requests)
}

#[test]
fn on_a_quiet_stream_every_window_closes_those_over_sessions_too() {
    let sluice = Sluice::with(&["serve.listen=127.0.0.1:0", "time.idle_timeout=1s", "topics.partitions=2"]);
    // Twenty minutes of a shop, and nothing more.
    sluice.run(&["produce", "simulate", "--speed", "0", "--set", "simulate.events=6000", "--set", "simulate.rate=5"]);
    let mut child = sluice.start(&["up", "--no-producer"]);
    let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines();
    let address = stderr
        .by_ref()
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("dashboard  ")?.split_whitespace().next().map(str::to_owned))
        .unwrap();
    let reader = thread::spawn(move || stderr.map_while(Result::ok).for_each(drop));
    let panes = |model: &str| -> Vec<Value> {
        let url = format!("{address}api/v1/kpis/{model}?limit=1000");
        let body = ureq::get(url).call().unwrap().body_mut().read_to_string().unwrap();
        serde_json::from_str::<Value>(&body).unwrap()["kpis"].as_array().unwrap().clone()
    };
    for model in ["activity", "sales_rolling", "products", "funnel"] {
        wait_for(&format!("the closed windows of {model}"), || {
            let panes = panes(model);
            (!panes.is_empty() && panes.iter().all(|pane| pane["state"] != "provisional")).then_some(())
        });
    }
    let closed = panes("funnel")[0].clone();
    assert_eq!(closed["closed_by"], "idle", "{closed}");
    interrupt(&child);
    assert!(child.wait().unwrap().success());
    reader.join().unwrap();
    // What is sealed at the end says the same.
    sluice.run(&["up", "--no-producer", "--until-drained"]);
    let sealed = sluice.number("SELECT sum(sessions) FROM live.funnel");
    assert!(sealed > 100, "{sealed} sessions");
    sluice.verify();
}
