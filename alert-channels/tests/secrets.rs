//! Secrets are in no log line at any level, in no error and in no `Debug`. Alone in its file: the log is the process's.

#[path = "../src/sample.rs"]
mod sample;

use sluice_alert_channels::{AlertsConfig, Notifier};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tracing_subscriber::{filter::LevelFilter, fmt::MakeWriter};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Answers each request with this status, and quotes what was asked, as many servers do.
fn quoting_server(status: u16) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(&stream);
            let (mut asked, mut length) = (String::new(), 0);
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|length| length > 0) && !line.trim().is_empty() {
                if let Some(text) = line.to_lowercase().strip_prefix("content-length:") {
                    length = text.trim().parse().unwrap();
                }
                asked.push_str(&line);
                line.clear();
            }
            let _ = reader.read_exact(&mut vec![0; length]);
            let body = format!("cannot {asked}");
            let length = body.len();
            let head =
                format!("HTTP/1.1 {status} x\r\nlocation: /moved\r\ncontent-length: {length}\r\nconnection: close");
            let _ = (&stream).write_all(format!("{head}\r\n\r\n{body}").as_bytes());
        }
    });
    address.to_string()
}

#[test]
fn no_secret_is_in_a_log_an_error_or_a_debug() {
    let log = Log::default();
    tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE).with_writer(log.clone()).init();
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut settings = String::new();
    let hosts = [quoting_server(404), quoting_server(500), quoting_server(200), quoting_server(301), dead];
    for (n, host) in hosts.iter().enumerate() {
        settings += &format!(
            "[receivers.hook{n}]\nkind = 'webhook'\nurl = 'http://user:s3cr3t-pass@{host}/s3cr3t-path?key=s3cr3t-query'\n\
             secret = 's3cr3t-key'\nretries = 1\nbackoff = '1ms'\n\
             [receivers.slack{n}]\nkind = 'slack'\nurl = 'http://{host}/services/s3cr3t-hook'\nretries = 0\n"
        );
    }
    let config: AlertsConfig = toml::from_str(&settings).unwrap();
    let receivers = config.open(|_| None).unwrap();
    let shown = format!("{config:?} {config:#?} {receivers:?} {receivers:#?}");
    assert!(!shown.contains("s3cr3t"), "{shown}");

    let now = || 1_709_287_800_000;
    let notifier = Notifier::start(receivers, now, ()).unwrap();
    notifier.tell(&sample::alert("a"));
    let began = Instant::now();
    while notifier.statistics().iter().any(|s| s.queued > 0) {
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", notifier.statistics());
        std::thread::sleep(Duration::from_millis(5));
    }
    let statistics = notifier.statistics();
    let count = |of: fn(&sluice_alert_channels::ReceiverStatistics) -> u64| statistics.iter().map(of).sum::<u64>();
    assert_eq!((count(|s| s.sent), count(|s| s.refused), count(|s| s.given_up)), (2, 4, 4));
    assert_eq!(notifier.finish(Instant::now() + Duration::from_secs(30)), []);

    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    for (said, by) in [
        ("a receiver refuses an alert", "ours"),
        ("a receiver does not take an alert now", "ours"),
        ("the connection is refused", "ours"),
        ("gave up telling a receiver", "ours"),
        ("ureq", "the library's, at debug level: the log is complete"),
    ] {
        assert!(log.contains(said), "'{said}' ({by}) is not in the log:\n{log}");
    }
    let telling: Vec<&str> = log.lines().filter(|line| line.contains("s3cr3t")).collect();
    assert!(telling.is_empty(), "{telling:#?}");
}
