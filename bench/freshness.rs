//! How fresh a row is when a query can see it, and how often the lake commits, at a steady rate.
//!
//! `cargo bench --workspace --bench freshness` runs `sluice up` on a simulated shop of 50,000 events a second of real time,
//! for each of several flush intervals (`lake.roll_age`), and asks `sluice query` again and again for the newest event of
//! `silver.events`. Of each commit's rows, which came evenly, it takes the time from the event to the end of the first
//! query that saw it: so the query's own time is in it. `SLUICE_BENCH_RATE` and `SLUICE_BENCH_SECONDS` set other numbers.
//! For scale, each line is also given in flush intervals: rows wait half of one on average, whatever the machine.

use std::{
    env,
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

const FLUSH_INTERVALS: [&str; 4] = ["1s", "2s", "5s", "30s"];
/// What is read before the shop and the tables have found their pace.
const WARM_UP: Duration = Duration::from_secs(8);

struct Measured {
    /// Seconds from event to query, in order.
    ages: Vec<f64>,
    rows_a_second: f64,
    commits_a_second: f64,
    files: u64,
    query_seconds: f64,
}

fn main() {
    let number = |name: &str, default: f64| match env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is a number")),
        Err(_) => default,
    };
    let (rate, seconds) = (number("SLUICE_BENCH_RATE", 50_000.0), number("SLUICE_BENCH_SECONDS", 60.0));
    // A shop has its hours: how many events the same setting makes depends on the time of day.
    let made = measure("1s", rate, Duration::from_secs(10)).rows_a_second;
    let setting = rate * rate / made.max(1.0);
    println!("{rate:.0} events a second; freshness of a row of silver.events in `sluice query`, seconds");
    println!(
        "{:>8} {:>8} {:>8} {:>8} {:>12} {:>12} {:>10} {:>8} {:>10}",
        "flush", "p50", "p99", "max", "p50/flush", "rows/s", "commits/s", "files", "query s"
    );
    for flush in FLUSH_INTERVALS {
        let interval = humantime::parse_duration(flush).expect("a duration").as_secs_f64();
        let measured = measure(flush, setting, Duration::from_secs_f64(seconds.max(interval * 4.0)));
        let at = |share: f64| measured.ages[((measured.ages.len() - 1) as f64 * share) as usize];
        println!(
            "{flush:>8} {:>8.2} {:>8.2} {:>8.2} {:>12.2} {:>12.0} {:>10.2} {:>8} {:>10.3}",
            at(0.5),
            at(0.99),
            at(1.0),
            at(0.5) / interval,
            measured.rows_a_second,
            measured.commits_a_second,
            measured.files,
            measured.query_seconds
        );
    }
}

/// A running shop; ended with the value.
struct Shop(Child);

impl Drop for Shop {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg("-INT").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

fn measure(flush: &str, rate: f64, length: Duration) -> Measured {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let settings = [
        format!("lake.roll_age={flush}"),
        format!("simulate.rate={rate}"),
        // An event is sent when it happens.
        "simulate.out_of_orderness=0s".to_owned(),
        "serve.listen=".to_owned(),
    ];
    let mut up = command(dir.path(), &["up"], &settings);
    let shop = Shop(up.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("sluice starts"));
    sleep(WARM_UP);
    let (mut seen, mut rows) = newest(dir.path(), &settings).unwrap_or((now_millis(), 0));
    let (began, first_rows, first_version) = (Instant::now(), rows, version(dir.path(), &settings).0);
    let (mut ages, mut queries, mut in_queries) = (Vec::new(), 0_u32, Duration::ZERO);
    while began.elapsed() < length {
        let asked = Instant::now();
        let Some((newest, count)) = newest(dir.path(), &settings) else { continue };
        let answered = now_millis();
        (queries, in_queries) = (queries + 1, in_queries + asked.elapsed());
        if newest > seen {
            // One sample for each millisecond of event time that has become visible.
            ages.extend((seen + 1..=newest).map(|time| (answered - time) as f64 / 1_000.0));
            (seen, rows) = (newest, count);
        }
        sleep(Duration::from_millis(100));
    }
    let took = began.elapsed().as_secs_f64();
    let (last_version, files) = version(dir.path(), &settings);
    drop(shop);
    ages.sort_by(f64::total_cmp);
    assert!(!ages.is_empty(), "no commit in {took:.0} s");
    Measured {
        ages,
        rows_a_second: (rows - first_rows) as f64 / took,
        commits_a_second: (last_version - first_version) as f64 / took,
        files,
        query_seconds: in_queries.as_secs_f64() / f64::from(queries.max(1)),
    }
}

fn command(dir: &Path, args: &[&str], settings: &[String]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.current_dir(dir).env("RUST_LOG", "error").args(args).arg("--dir").arg(dir.join("shop"));
    for setting in settings {
        command.arg("--set").arg(setting);
    }
    command
}

/// Event time of the newest row (milliseconds) and the number of rows, once there are any.
fn newest(dir: &Path, settings: &[String]) -> Option<(i64, u64)> {
    let sql = "SELECT CAST(max(event_time) AS BIGINT), count(*) FROM silver.events";
    let output = command(dir, &["query", sql, "--format", "csv"], settings).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (time, rows) = text.lines().nth(1)?.split_once(',')?;
    // The table has microseconds.
    Some((time.parse::<i64>().ok()? / 1_000, rows.parse().ok()?))
}

/// Version and files of `silver.events`.
fn version(dir: &Path, settings: &[String]) -> (u64, u64) {
    let output = command(dir, &["lake", "show", "--json"], settings).output().expect("sluice lake show");
    let tables: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let silver = tables.as_array().and_then(|all| all.iter().find(|t| t["table"] == "silver.events"));
    silver.map_or((0, 0), |t| (t["version"].as_u64().unwrap_or(0), t["files"].as_u64().unwrap_or(0)))
}

fn now_millis() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}
