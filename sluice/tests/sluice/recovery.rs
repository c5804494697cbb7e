//! Checkpoints that are damaged or lost, and a log that has begun to forget.

use crate::{
    engine::{lines, shuffled},
    support::{Sluice, data, interrupt, skipped},
};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

const TABLES: [&str; 6] = [
    "SELECT _partition, _offset, event_id FROM bronze.events",
    "SELECT _partition, _offset, event_id, is_late FROM silver.events",
    "SELECT window_start, event_type, country, events, customers, quantity, revenue FROM live.activity",
    "SELECT window_start, country, orders, revenue, items FROM live.sales_rolling",
    "SELECT customer_id, window_start, window_end, events, revenue FROM live.sessions",
    "SELECT window_start, sessions, view_cart, abandoned FROM live.funnel",
];

const SETTINGS: [&str; 3] = ["time.out_of_orderness=10m", "topics.partitions=3", "lake.roll_age=400ms"];

fn halves(data: &Path, sluice: &Sluice) -> [PathBuf; 2] {
    let lines = shuffled(&lines(data), 3);
    let (first, second) = lines.split_at(lines.len() / 2);
    [("first", first), ("second", second)].map(|(name, lines)| {
        let file = sluice.path(&format!("{name}.ndjson"));
        fs::write(&file, lines.join("\n") + "\n").unwrap();
        file
    })
}

/// Works off the file and stops as a Ctrl-C does, with windows open.
fn replay_and_interrupt(sluice: &Sluice, file: &Path, more: &[&str]) {
    let before = fs::read_to_string(file).unwrap().lines().count() as u64;
    sluice.run(&["produce", "replay", file.to_str().unwrap()]);
    let child = sluice.start(&[&["up", "--no-producer"], more].concat());
    let began = Instant::now();
    // The lake is committed every 400 ms.
    sleep(Duration::from_secs(3));
    interrupt(&child);
    assert!(child.wait_with_output().unwrap().status.success());
    let bronze = sluice.number("SELECT count(*) FROM bronze.events");
    assert!(bronze >= before, "{bronze} of {before} after {:?}", began.elapsed());
}

fn finish(sluice: &Sluice, file: &Path) {
    sluice.run(&["up", "--replay", file.to_str().unwrap(), "--until-drained"]);
    sluice.verify();
}

fn checkpoints(sluice: &Sluice, topic: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    for partition in fs::read_dir(sluice.path("shop/checkpoints/sluice").join(topic)).unwrap() {
        for file in fs::read_dir(partition.unwrap().path()).unwrap() {
            found.push(file.unwrap().path());
        }
    }
    found.sort();
    found
}

fn doctor(sluice: &Sluice) -> (bool, Value) {
    let output = sluice.output(&["doctor", "--json"]);
    (output.status.success(), serde_json::from_slice(&output.stdout).unwrap())
}

fn actions(report: &Value) -> Vec<&str> {
    report["partitions"].as_array().unwrap().iter().map(|p| p["at_start"]["action"].as_str().unwrap()).collect()
}

#[test]
fn damaged_and_lost_checkpoints_change_nothing_but_the_time_it_takes() {
    let Some(data) = data() else { return skipped("recovery", "no folder in SLUICE_TEST_DATA") };
    let undisturbed = Sluice::with(&SETTINGS);
    let [first, second] = halves(&data, &undisturbed);
    replay_and_interrupt(&undisturbed, &first, &[]);
    assert_eq!(actions(&doctor(&undisturbed).1), ["resume"; 3]);
    finish(&undisturbed, &second);
    let expected: Vec<_> = TABLES.iter().map(|table| undisturbed.query(table)).collect();
    assert!(expected.iter().all(|rows| !rows.is_empty()));

    // The newest checkpoint of each worker is damaged: the one before is taken.
    let damaged = Sluice::with(&SETTINGS);
    let [first, second] = halves(&data, &damaged);
    replay_and_interrupt(&damaged, &first, &[]);
    for topic in ["events", "partials"] {
        let files = checkpoints(&damaged, topic);
        let newest: Vec<&PathBuf> =
            files.iter().filter(|f| !files.iter().any(|o| o.parent() == f.parent() && *o > **f)).collect();
        for file in newest {
            let mut bytes = fs::read(file).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(file, bytes).unwrap();
        }
    }
    let (healthy, report) = doctor(&damaged);
    assert!(healthy && report["odd"][0].as_str().unwrap().contains("damaged"), "{report:#}");
    finish(&damaged, &second);

    // All checkpoints are lost, and the log has everything: it is read again.
    let lost = Sluice::with(&SETTINGS);
    let [first, second] = halves(&data, &lost);
    replay_and_interrupt(&lost, &first, &[]);
    fs::remove_dir_all(lost.path("shop/checkpoints")).unwrap();
    assert_eq!(actions(&doctor(&lost).1), ["replay_log"; 3]);
    finish(&lost, &second);

    // All checkpoints are lost, and the log has begun to forget: the state is made anew from bronze.
    let forgotten = Sluice::with(&SETTINGS);
    let [first, second] = halves(&data, &forgotten);
    replay_and_interrupt(&forgotten, &first, &[]);
    let child = forgotten.start(&["up", "--no-producer", "--set", "log.embedded.retention_age=1s"]);
    sleep(Duration::from_secs(2));
    interrupt(&child);
    assert!(child.wait_with_output().unwrap().status.success());
    fs::remove_dir_all(forgotten.path("shop/checkpoints")).unwrap();
    let report = doctor(&forgotten).1;
    assert_eq!(actions(&report), ["rebuild_from_bronze"; 3], "{report:#}");
    finish(&forgotten, &second);

    for (what, sluice) in [("damaged", damaged), ("lost", lost), ("forgotten", forgotten)] {
        for (table, expected) in TABLES.iter().zip(&expected) {
            assert_eq!(sluice.query(table), *expected, "{what}: {table}");
        }
    }
}
