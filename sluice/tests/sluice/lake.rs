//! The lake: exactly once at every step, and looked after while it is written to and read.

use crate::{
    crash::TABLES,
    support::{Services, Sluice, interrupt, skipped},
};
use rand::{Rng, SeedableRng, distr::Alphanumeric};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use std::{
    fmt::Write as _,
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};
use wait4::Wait4;

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
                let event: Value = serde_json::from_str(line).unwrap();
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
fn die_at_each_step(events: u32, settings: impl Fn(usize) -> Vec<String>) {
    let (_source, file) = input(events);
    let undisturbed = Sluice::new();
    assert!(replay(&undisturbed, &file).output().unwrap().status.success());
    let all_rows = all_rows();
    let expected = undisturbed.digest(&all_rows);
    assert!(undisturbed.number("SELECT count(*) FROM bronze.dead_letters") > 40);
    for (number, point) in fault_points().into_iter().enumerate() {
        let die_at = |point: &str, place: usize| {
            let settings = settings(place);
            let disturbed = Sluice::with(&settings.iter().map(String::as_str).collect::<Vec<_>>());
            let died = replay(&disturbed, &file).env("SLUICE_FAULT_POINT", point).output().unwrap();
            let said = String::from_utf8_lossy(&died.stderr).into_owned();
            match !died.status.success() && said.contains("fault point") {
                true => Ok(disturbed),
                false => Err(said),
            }
        };
        // A machine may be so fast that all is committed at once.
        let died = die_at(&point, 2 * number).or_else(|_| die_at(point.trim_end_matches("#2"), 2 * number + 1));
        let disturbed = died.unwrap_or_else(|said| panic!("{point} was not reached:\n{said}"));
        let went_on = replay(&disturbed, &file).output().unwrap();
        assert!(went_on.status.success(), "{point}:\n{}", String::from_utf8_lossy(&went_on.stderr));
        assert_eq!(disturbed.digest(&all_rows), expected, "{point}");
        disturbed.verify();
    }
}

#[test]
fn a_process_that_dies_at_any_step_of_a_commit_leaves_the_tables_of_one_that_did_not() {
    die_at_each_step(6_000, |_| Vec::new());
}

#[test]
fn on_s3_too() {
    let Ok(s3) = std::env::var("SLUICE_TEST_S3") else { return skipped("crashes on S3", "needs SLUICE_TEST_S3") };
    let run = Services::run_name();
    die_at_each_step(3_000, |number| Services::lake_settings(&s3, &format!("{run}-{number}")));
}

/// The newest commit of a table that added files: its actions, and the number of the next one.
fn last_added(log: &Path) -> (Value, PathBuf) {
    let mut commits: Vec<PathBuf> = std::fs::read_dir(log).unwrap().map(|f| f.unwrap().path()).collect();
    commits.retain(|path| path.extension().is_some_and(|e| e == "json"));
    commits.sort();
    let next = log.join(format!("{:020}.json", commits.len()));
    let adds = commits.iter().rev().flat_map(|commit| {
        let text = std::fs::read_to_string(commit).unwrap();
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["add"].clone()).collect::<Vec<_>>()
    });
    let add = adds.into_iter().find(|add| add.is_object()).unwrap();
    (add, next)
}

#[test]
fn verify_names_the_offsets_that_are_missing_and_those_that_are_there_twice() {
    let (source, _file) = input(2_000);
    source.verify();
    for table in ["bronze", "silver"] {
        let folder = source.path(&format!("shop/lake/{table}/events"));
        let (add, next) = last_added(&folder.join("_delta_log"));
        let path = add["path"].as_str().unwrap();
        // A file that is listed twice, under another name.
        let mut twice = add.clone();
        twice["path"] = format!("{}-again.parquet", path.trim_end_matches(".parquet")).into();
        let to = folder.join(twice["path"].as_str().unwrap());
        std::fs::copy(folder.join(path), &to).unwrap();
        std::fs::write(&next, format!("{}\n", serde_json::json!({ "add": twice }))).unwrap();
        let said = problems(&source);
        assert!(said.contains(&format!("{table}.events, partition 0")) && said.contains("there twice: "), "{said}");
        // A file that is lost.
        let remove = |path: &Value| {
            let remove = serde_json::json!({ "remove": {
                "path": path, "deletionTimestamp": 0, "dataChange": true,
                "partitionValues": add["partitionValues"], "size": add["size"],
            }});
            format!("{remove}\n")
        };
        std::fs::write(&next, remove(&twice["path"])).unwrap();
        source.verify();
        std::fs::write(&next, remove(&add["path"])).unwrap();
        let said = problems(&source);
        match table {
            "bronze" => assert!(said.contains("in silver and not in bronze: "), "{said}"),
            _ => assert!(said.contains("the workers counted"), "{said}"),
        }
        let deep = source.output(&["verify", "--deep"]);
        assert_eq!(deep.status.code(), Some(1));
        std::fs::remove_file(&next).unwrap();
        source.verify();
    }
}

/// What `verify` says when it does not balance.
fn problems(sluice: &Sluice) -> String {
    let output = sluice.output(&["verify"]);
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stdout).unwrap()
}

/// All sums that must not change, whoever is looked after or forgotten.
fn sums(sluice: &Sluice) -> Vec<String> {
    sluice.query(
        "SELECT 'bronze', count(*), count(DISTINCT _partition * 1000000 + _offset), sum(quantity) FROM bronze.events
         UNION ALL SELECT 'silver', count(*), count(DISTINCT customer_id), sum(quantity) FROM silver.events
         UNION ALL SELECT 'sessions', count(*), count(DISTINCT customer_id), sum(events) FROM live.sessions
         UNION ALL SELECT 'letters', count(*), count(DISTINCT _offset), 0 FROM bronze.dead_letters",
    )
}

#[test]
fn whoever_dies_while_looking_after_the_tables_leaves_them_as_they_were_or_done() {
    let (mut shop, _file) = input(3_000);
    // Each run makes more, and leaves files of its own.
    for events in ["3500", "4000"] {
        shop.set(&format!("simulate.events={events}"));
        shop.run(&["up", "--speed", "0", "--until-drained"]);
    }
    let before = sums(&shop);
    for table in ["bronze.events", "silver.events"] {
        for step in ["before compaction", "after compaction"] {
            let args = ["lake", "compact", table];
            let died = shop.command(&args).env("SLUICE_FAULT_POINT", format!("{table}/{step}")).output().unwrap();
            assert!(!died.status.success());
            assert_eq!(sums(&shop), before, "{table}/{step}");
            shop.verify();
        }
        shop.run(&["lake", "compact", table]);
        assert_eq!(sums(&shop), before);
    }
    // Of those that all tables know: what the second and third run sold came too late for a session.
    let person = shop.query(
        "SELECT customer_id FROM silver.events WHERE customer_id IN (SELECT customer_id FROM live.sessions)
         GROUP BY 1 ORDER BY count(*) DESC LIMIT 1",
    )[0]
    .clone();
    for table in ["bronze.events", "silver.events", "live.sessions"] {
        for step in ["before erasure", "after erasure"] {
            let args = ["lake", "forget", "--customer", &person, "--reference", "T-1"];
            let died = shop.command(&args).env("SLUICE_FAULT_POINT", format!("{table}/{step}")).output().unwrap();
            assert!(!died.status.success(), "{table}/{step}");
            assert_eq!(sums(&shop), before, "{table}/{step}");
        }
    }
    shop.run(&["lake", "forget", "--customer", &person, "--reference", "T-1", "--now"]);
    assert_eq!(sums(&shop), before);
    for table in ["bronze.events", "silver.events", "live.sessions"] {
        let of = |id: &str| shop.number(&format!("SELECT count(*) FROM {table} WHERE customer_id LIKE '{id}'"));
        assert_eq!(of(&person), 0, "{table}");
        assert!(of("erased-%") > 0, "{table}");
    }
    // One name in all tables, though it took many runs; and none of its ids is left in a file or in a log.
    let names = "SELECT count(DISTINCT customer_id) FROM silver.events WHERE customer_id LIKE 'erased-%'";
    assert_eq!(shop.number(names), 1);
    assert!(shop.number("SELECT sum(rows) FROM bronze.erasures WHERE reference = 'T-1'") > 0);
    assert!(std::fs::read_dir(shop.path("shop/lake/bronze/_erasures")).unwrap().next().is_none());
    let deep: Value = serde_json::from_slice(&shop.output(&["verify", "--deep", "--json"]).stdout).unwrap();
    assert_eq!(deep["balanced"], true, "{deep:#}");
}

#[test]
fn tables_are_merged_under_a_reader_and_a_writer() {
    let shop = Sluice::with(&[
        "simulate.rate=400",
        "lake.roll_age=60ms",
        "lake.maintain.interval=200ms",
        "lake.maintain.compact_files=4",
        "lake.maintain.vacuum_interval=1s",
    ]);
    let child = shop.start(&["up"]);
    let began = Instant::now();
    let mut seen = 0;
    while began.elapsed() < Duration::from_secs(12) || (seen <= 1_000 && began.elapsed() < Duration::from_secs(90)) {
        let output =
            shop.output(&["query", "SELECT count(*), count(DISTINCT event_id) FROM silver.events", "--format", "csv"]);
        let text = String::from_utf8(output.stdout).unwrap();
        let Some((rows, ids)) = text.lines().nth(1).and_then(|line| line.split_once(',')) else { continue };
        assert_eq!(rows, ids, "a reader saw a merge half done");
        let rows: u64 = rows.parse().unwrap();
        assert!(rows >= seen, "{rows} rows after {seen}");
        seen = rows;
        // By hand at the same time: one of both wins.
        shop.run(&["lake", "compact", "--due"]);
    }
    // And then nobody is faster than the caretaker.
    sleep(Duration::from_secs(4));
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && seen > 1_000, "{seen} rows; {said}");
    assert!(said.contains("merged small files"), "{said}");
    let shown: Value = serde_json::from_slice(&shop.run(&["lake", "show", "--json"]).stdout).unwrap();
    let silver = shown.as_array().unwrap().iter().find(|t| t["table"] == "silver.events").unwrap();
    let (files, version) = (silver["files"].as_u64().unwrap(), silver["version"].as_u64().unwrap());
    assert!(files < 12 && version > 15, "{files} files after {version} commits");
    shop.verify();
}

#[test]
fn a_merge_of_large_rows_keeps_to_its_memory() {
    const LINES: usize = 1_500;
    const LINE_BYTES: usize = 100_000;
    // A row group is read as it was written: those that are merged keep to the budget too.
    let shop =
        Sluice::with(&["lake.roll_age=100ms", "lake.maintain.interval=0s", "lake.maintain.memory_bytes_max=16777216"]);
    // Lines that are no events, and that do not compress.
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut text = String::new();
    for _ in 0..LINES {
        text.extend((0..LINE_BYTES).map(|_| char::from(random.sample(Alphanumeric))));
        text.push('\n');
    }
    let file = shop.path("garbage.ndjson");
    std::fs::write(&file, text).unwrap();
    shop.run(&["up", "--replay", file.to_str().unwrap(), "--until-drained"]);
    let letters =
        "SELECT count(*), count(DISTINCT value), sum(octet_length(CAST(value AS VARCHAR))) FROM bronze.dead_letters";
    let before = shop.query(letters);
    assert_eq!(before, [format!("{LINES},{LINES},{}", LINES * LINE_BYTES)]);
    let mut merge = shop.command(&["lake", "compact", "bronze.dead_letters"]);
    let ended = merge.stdout(Stdio::piped()).spawn().unwrap().wait4().unwrap();
    assert!(ended.status.success());
    // The program itself, the budget, and what is on its way to the disk: far from the 150 MB of the rows, times their copies.
    let peak = ended.rusage.maxrss >> 20;
    assert!(peak < 320, "{peak} MiB");
    eprintln!("merging {} MB took {peak} MiB", LINES * LINE_BYTES / 1_000_000);
    assert_eq!(shop.query(letters), before);
}

#[test]
fn the_ledger_begins_after_what_bronze_has_dropped() {
    let (shop, _file) = input(2_000);
    let last: Vec<(String, String)> = shop
        .query(
            "SELECT _partition, max(_offset) FROM (SELECT _partition, _offset FROM bronze.events UNION ALL
                SELECT _partition, _offset FROM bronze.dead_letters WHERE stage = 'decode') GROUP BY 1",
        )
        .iter()
        .map(|line| line.split_once(',').map(|(p, o)| (p.to_owned(), o.to_owned())).unwrap())
        .collect();
    // As `retain` does it a month later: the files go, and the last offset of each partition stays.
    for table in ["events", "dead_letters"] {
        let log = shop.path(&format!("shop/lake/bronze/{table}/_delta_log"));
        let (add, next) = last_added(&log);
        let remove = serde_json::json!({ "remove": {
            "path": add["path"], "deletionTimestamp": 0, "dataChange": true,
            "partitionValues": add["partitionValues"], "size": add["size"],
        }});
        let mut commit = format!("{remove}\n");
        for (partition, offset) in &last {
            let mark = format!(r#"{{"txn":{{"appId":"retained/{partition}","version":{offset}}}}}"#);
            writeln!(commit, "{mark}").unwrap();
        }
        std::fs::write(next, commit).unwrap();
    }
    shop.run(&["up", "--speed", "0", "--until-drained"]);
    let report = shop.verify();
    for partition in report["partitions"].as_array().unwrap() {
        let (upto, first) = (&partition["retained_upto"], &partition["first_offset"]);
        assert_eq!(upto.as_i64().unwrap() + 1, first.as_i64().unwrap(), "{partition}");
        assert!(partition["bronze"].as_i64().unwrap() > 0 && partition["silver"].as_i64().unwrap() > 0, "{partition}");
    }
    let deep: Value = serde_json::from_slice(&shop.output(&["verify", "--deep", "--json"]).stdout).unwrap();
    assert_eq!(deep["balanced"], true, "{deep:#}");
}
