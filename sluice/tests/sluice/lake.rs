//! The lake: exactly once at every step, and looked after while it is written to and read.

use crate::{
    crash::TABLES,
    support::{Services, Sluice, skipped},
};
use std::{
    fmt::Write as _,
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The tables, and the steps of a commit.
const COMMITTED: [&str; 5] = ["bronze.events", "bronze.dead_letters", "silver.events", "live.activity", "live.sales"];
const STEPS: [&str; 3] = ["before files", "before commit", "after commit"];

/// Every step at which a process may die, the second or third time it comes there.
fn fault_points() -> Vec<String> {
    let mut points: Vec<String> =
        COMMITTED.iter().flat_map(|table| STEPS.iter().map(move |step| format!("{table}/{step}"))).collect();
    points.extend(["checkpoint/before", "checkpoint/after", "offsets/before", "offsets/after"].map(str::to_owned));
    // A run has several commits of the stream's tables; what is sealed is committed at its end.
    points.iter_mut().filter(|p| !p.starts_with("live")).for_each(|p| p.push_str("#2"));
    points
}

/// Some shop events with everything that may be wrong with them, as a file.
fn input(events: u32) -> (Sluice, PathBuf) {
    let source = Sluice::with(&[
        &format!("simulate.events={events}"),
        "simulate.rate=200",
        "simulate.malformed=0.02",
        "simulate.duplicates=0.02",
    ]);
    source.run(&["up", "--speed", "0", "--until-drained"]);
    let file = source.path("events.ndjson");
    let columns = "event_id, event_type, event_time, customer_id, session_id, order_id, product_id, category, country, \
                   device, channel, quantity, unit_price, currency";
    let dump = format!("SELECT {columns} FROM bronze.events ORDER BY _log_time, _partition, _offset");
    let out = File::create(&file).unwrap();
    assert!(source.command(&["query", &dump, "--format", "json"]).stdout(out).status().unwrap().success());
    // Lines that are no events, and events that break a rule, all along.
    let mut text = String::new();
    for (number, line) in std::fs::read_to_string(&file).unwrap().lines().enumerate() {
        writeln!(text, "{line}").unwrap();
        match number % 60 {
            0 => writeln!(text, "{{\"event_id\": {number}").unwrap(),
            30 => {
                let event: serde_json::Value = serde_json::from_str(line).unwrap();
                let time = event["event_time"].as_str().unwrap();
                writeln!(
                    text,
                    r#"{{"event_id":"bad-{number}","event_type":"purchase","event_time":"{time}","product_id":"p","quantity":0}}"#
                )
                .unwrap();
            }
            _ => {}
        }
    }
    std::fs::write(&file, text).unwrap();
    (source, file)
}

fn replay(sluice: &Sluice, file: &Path) -> Command {
    let mut command = sluice.command(&["up", "--replay", file.to_str().unwrap(), "--until-drained"]);
    // Small batches, and a commit as soon as the one before is done.
    command.args(["--set", "lake.roll_age=1ms", "--set", "process.batch_records=50"]);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Every row of every table that does not depend on when a run happened, in one query.
fn all_rows() -> String {
    let tables = TABLES.iter().enumerate().map(|(number, table)| {
        let (columns, from) = table.trim_start_matches("SELECT").split_once(" FROM ").unwrap();
        let columns: Vec<String> = columns.split(',').map(|c| format!("coalesce(CAST({c} AS STRING), '-')")).collect();
        format!("SELECT concat_ws('|', '{number}', {}) AS line FROM {from}", columns.join(", "))
    });
    tables.collect::<Vec<_>>().join(" UNION ALL ")
}

/// Dies at each step, goes on, and has the tables of a run that nothing happened to.
fn die_at_each_step(settings: impl Fn(usize) -> Vec<String>) {
    let (_source, file) = input(6_000);
    let undisturbed = Sluice::new();
    assert!(replay(&undisturbed, &file).output().unwrap().status.success());
    let all_rows = all_rows();
    let expected = undisturbed.digest(&all_rows);
    assert!(undisturbed.number("SELECT count(*) FROM bronze.dead_letters") > 40);
    for (number, point) in fault_points().into_iter().enumerate() {
        let settings = settings(number);
        let disturbed = Sluice::with(&settings.iter().map(String::as_str).collect::<Vec<_>>());
        let died = replay(&disturbed, &file).env("SLUICE_FAULT_POINT", &point).output().unwrap();
        let said = String::from_utf8_lossy(&died.stderr).into_owned();
        assert!(!died.status.success() && said.contains("fault point"), "{point} was not reached:\n{said}");
        let went_on = replay(&disturbed, &file).output().unwrap();
        assert!(went_on.status.success(), "{point}:\n{}", String::from_utf8_lossy(&went_on.stderr));
        assert_eq!(disturbed.digest(&all_rows), expected, "{point}");
        disturbed.verify();
    }
}

#[test]
fn a_process_that_dies_at_any_step_of_a_commit_leaves_the_tables_of_one_that_did_not() {
    die_at_each_step(|_| Vec::new());
}

#[test]
fn on_s3_too() {
    let Ok(s3) = std::env::var("SLUICE_TEST_S3") else { return skipped("crashes on S3", "needs SLUICE_TEST_S3") };
    let run = Services::run_name();
    die_at_each_step(|number| Services::lake_settings(&s3, &format!("{run}-{number}")));
}
