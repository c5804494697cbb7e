//! An Alertmanager: what goes on is told again, what is over is not. With `SLUICE_TEST_ALERTMANAGER`, the path of the
//! program, the same is asked of a real one.

use crate::{
    server::{Reply, Server},
    support::{Clock, NOW, firing, notifier, raised, resolved, soon, statistics, until, with},
};
use serde_json::{Value, json};
use sluice_events::{Alert, AlertState};
use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

fn settings(url: &str, interval: &str) -> String {
    format!("[receivers.am]\nkind = 'alertmanager'\nurl = '{url}'\nbackoff = '5ms'\nresend_interval = '{interval}'")
}

#[test]
fn what_goes_on_is_told_again_until_it_is_over() {
    let server = Server::start(|_, _| Reply::Status(200));
    let clock = Clock::new();
    let notifier = with(&settings(&server.url(), "50ms"), &clock, ());
    notifier.tell(&firing("a"));
    notifier.tell(&raised("b"));
    let together = || server.received().iter().map(|r| r.json()).find(|body| body.as_array().unwrap().len() == 2);
    until("both are told again", || together().is_some());
    let again = together().unwrap();
    assert!(server.received().iter().all(|r| r.path == "/api/v2/alerts"));
    let severities: Vec<&Value> = again.as_array().unwrap().iter().map(|a| &a["labels"]["severity"]).collect();
    assert_eq!(severities, [&json!("warning"), &json!("critical")]);
    assert_eq!(again[0]["endsAt"], "2024-03-01T10:10:00.150Z", "three intervals from now");

    clock.set(NOW + 1000);
    notifier.tell(&Alert { state: AlertState::Acknowledged, ..raised("b") });
    notifier.tell(&resolved("a"));
    until("the end is told", || statistics(&notifier).sent == 3);
    let before = statistics(&notifier).resent;
    until("the other goes on", || statistics(&notifier).resent >= before + 2);
    let last = server.received().last().unwrap().json();
    assert_eq!((last.as_array().unwrap().len(), &last[0]["labels"]["severity"]), (1, &json!("critical")));

    notifier.tell(&resolved("b"));
    until("all is over", || statistics(&notifier).open == 0 && statistics(&notifier).queued == 0);
    let before = server.received().len();
    std::thread::sleep(Duration::from_millis(200));
    assert!(server.received().len() <= before + 1, "nothing goes on, and nothing is told again");
}

#[test]
fn one_that_was_away_is_told_what_goes_on() {
    let server = Server::start(|before, _| Reply::Status(if (1..4).contains(&before) { 500 } else { 200 }));
    let notifier = notifier(&settings(&server.url(), "20ms"));
    notifier.tell(&firing("a"));
    until("it is told, and told again, after all", || {
        statistics(&notifier).sent == 1 && statistics(&notifier).resent >= 1
    });
    assert_eq!(statistics(&notifier).failed_attempts, 3);
}

#[test]
fn what_was_given_up_is_told_with_what_goes_on() {
    let server = Server::start(|before, _| Reply::Status(if before == 0 { 500 } else { 200 }));
    let notifier = notifier(&format!("{}\nretries = 0", settings(&server.url(), "1s")));
    notifier.tell(&firing("a"));
    until("it is told again", || statistics(&notifier).resent >= 1);
    notifier.tell(&resolved("a"));
    until("its end is told", || statistics(&notifier).sent == 1);
    assert_eq!(statistics(&notifier).given_up, 1);
}

struct Alertmanager {
    process: Child,
    url: String,
    _dir: tempfile::TempDir,
}

impl Alertmanager {
    fn start() -> Option<Self> {
        let Some(program) = std::env::var_os("SLUICE_TEST_ALERTMANAGER").map(PathBuf::from) else {
            eprintln!(
                "NOT TESTED against a real Alertmanager: SLUICE_TEST_ALERTMANAGER is not the path of the program"
            );
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        let config = "route:\n  receiver: nowhere\nreceivers:\n  - name: nowhere\n";
        std::fs::write(dir.path().join("alertmanager.yml"), config).unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let process = Command::new(program)
            .arg(format!("--config.file={}", dir.path().join("alertmanager.yml").display()))
            .arg(format!("--storage.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--cluster.listen-address=")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("SLUICE_TEST_ALERTMANAGER is a program");
        let own = Self { process, url: format!("http://{address}"), _dir: dir };
        until("the Alertmanager is ready", || ureq::get(format!("{}/-/ready", own.url)).call().is_ok());
        Some(own)
    }

    fn alerts(&self) -> Vec<Value> {
        let text =
            ureq::get(format!("{}/api/v2/alerts", self.url)).call().unwrap().body_mut().read_to_string().unwrap();
        serde_json::from_str(&text).unwrap()
    }
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_real_alertmanager_takes_keeps_and_ends_them() {
    let Some(alertmanager) = Alertmanager::start() else { return };
    let config = toml::from_str::<sluice_alert_channels::AlertsConfig>(&format!(
        "external_url = 'https://sluice.example.com'\n{}",
        settings(&alertmanager.url, "1s")
    ));
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    let receivers = config.unwrap().open(|_| None).unwrap();
    let notifier = sluice_alert_channels::Notifier::start(receivers, now, ()).unwrap();
    let mut odd = firing("b");
    odd.group = [("pays-de é".to_owned(), Some("l'été <\"&>".to_owned()))].into();
    odd.fingerprint = "f2".to_owned();
    notifier.tell(&firing("a"));
    notifier.tell(&odd);
    until("both are there", || alertmanager.alerts().len() == 2);
    notifier.tell(&raised("a"));
    let severities = || -> Vec<(String, String)> {
        let text = |alert: &Value, name: &str| alert["labels"][name].as_str().unwrap().to_owned();
        let mut all: Vec<_> =
            alertmanager.alerts().iter().map(|a| (text(a, "fingerprint"), text(a, "severity"))).collect();
        all.sort();
        all
    };
    let pair = |fingerprint: &str, severity: &str| (fingerprint.to_owned(), severity.to_owned());
    until("the severity is the new one alone", || severities() == [pair("f1", "critical"), pair("f2", "warning")]);
    let resent = statistics(&notifier).resent;
    until("they were told again, for longer than they live", || statistics(&notifier).resent >= resent + 4);
    assert_eq!(severities(), [pair("f1", "critical"), pair("f2", "warning")]);
    let alerts = alertmanager.alerts();
    let odd = alerts.iter().find(|a| a["labels"]["fingerprint"] == "f2").unwrap();
    assert_eq!(odd["labels"]["group_pays_de__"], "l'été <\"&>");
    assert_eq!(odd["generatorURL"], "https://sluice.example.com/alerts/b");
    assert_eq!(odd["startsAt"], "2024-03-01T10:05:00.000Z");

    notifier.tell(&resolved("a"));
    until("the end is told", || statistics(&notifier).sent == 4);
    until("one is over", || severities() == [pair("f2", "warning")]);
    let statistics = statistics(&notifier);
    assert_eq!((statistics.refused, statistics.failed_attempts), (0, 0), "{statistics:?}");
    assert_eq!(notifier.finish(soon()), []);
    until("what nobody speaks for ends by itself", || alertmanager.alerts().is_empty());
}
