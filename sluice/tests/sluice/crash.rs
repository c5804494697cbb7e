//! kill -9, and Ctrl-C.

use crate::support::{Sluice, interrupt};
use std::{
    fs::File,
    process::Stdio,
    thread::sleep,
    time::{Duration, Instant},
};

const EVENTS: u64 = 2_000_000;
const KILLS: u32 = 5;

/// What does not depend on when a run happened, nor on which partition was heard first.
pub(crate) const TABLES: [&str; 5] = [
    "SELECT _partition, _offset, _schema_id, event_id, event_type, event_time, customer_id, order_id, product_id,
     quantity, unit_price FROM bronze.events",
    "SELECT _partition, _offset, is_late, event_id, event_type, event_time, customer_id, order_id, product_id,
     quantity, unit_price FROM silver.events",
    "SELECT _partition, _offset, stage, reason FROM bronze.dead_letters",
    "SELECT window_start, event_type, country, events, customers, quantity, revenue FROM live.activity",
    "SELECT window_start, country, orders, revenue, aov, items FROM live.sales",
];

#[test]
fn a_replay_killed_at_five_moments_leaves_the_tables_of_an_undisturbed_one() {
    let source = Sluice::new();
    let events = format!("simulate.events={EVENTS}");
    source.run(&["produce", "simulate", "--speed", "0", "--set", &events, "--set", "simulate.rate=2000"]);
    source.run(&["up", "--no-producer", "--until-drained"]);
    let work = tempfile::tempdir().unwrap();
    let file = work.path().join("events.ndjson");
    let columns = "event_id, event_type, event_time, customer_id, session_id, order_id, product_id, category, country, \
                   device, channel, quantity, unit_price, currency";
    let dump = format!("SELECT {columns} FROM bronze.events ORDER BY _log_time, _partition, _offset");
    let written =
        source.command(&["query", &dump, "--format", "json"]).stdout(File::create(&file).unwrap()).status().unwrap();
    assert!(written.success());
    let file = file.to_str().unwrap();
    // Millions of events, three times over, are gigabytes: what was read is not kept.
    drop(source);

    let undisturbed = Sluice::new();
    let began = Instant::now();
    undisturbed.run(&["up", "--replay", file, "--until-drained"]);
    let took = began.elapsed();
    undisturbed.verify();
    let expected = TABLES.map(|table| undisturbed.digest(table));
    let events = undisturbed.number("SELECT count(*) FROM silver.events");
    assert!(events > EVENTS / 100 * 99, "{events} events are in silver");
    drop(undisturbed);

    // Commits and checkpoints come often, so that the kills fall before, between and after them.
    let disturbed = Sluice::with(&["lake.roll_age=700ms"]);
    for kill in 1..=KILLS {
        let mut child = disturbed
            .command(&["up", "--replay", file, "--until-drained"])
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // Different moments of different lengths: a tenth of the whole time, more or less.
        sleep(took.mul_f64(0.06 + 0.02 * f64::from(kill)));
        assert!(child.try_wait().unwrap().is_none(), "the run ended before kill {kill}");
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let committed = disturbed.number("SELECT count(*) FROM silver.events");
    assert!(committed > 0 && committed < EVENTS, "{committed} events were committed before the last start");
    disturbed.run(&["up", "--replay", file, "--until-drained"]);

    for (table, expected) in TABLES.into_iter().zip(expected) {
        assert_eq!(disturbed.digest(table), expected, "{table}");
    }
    disturbed.verify();
}

#[test]
fn ctrl_c_commits_what_was_taken_and_the_next_run_goes_on() {
    let sluice = Sluice::with(&["simulate.rate=500"]);
    let mut seen = 0;
    for _ in 0..2 {
        let child = sluice.start(&["up"]);
        sleep(Duration::from_secs(5));
        interrupt(&child);
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{text}");
        let report = sluice.verify();
        let of_all = |field: &str| -> u64 {
            report["partitions"].as_array().unwrap().iter().map(|p| p[field].as_u64().unwrap()).sum()
        };
        assert_eq!(of_all("waiting"), 0, "{text}");
        assert!(of_all("silver") > seen, "{text}");
        seen = of_all("silver");
    }
}
