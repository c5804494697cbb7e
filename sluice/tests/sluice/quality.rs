//! What is expected of rows: what breaks a hard expectation stays out of silver, and what was found is written once.

use crate::support::{Sluice, interrupt, wait_for};
use serde_json::Value;
use std::{
    fs,
    process::Stdio,
    thread::sleep,
    time::{Duration, Instant},
};

/// Cheap things are out of the question here; who is nobody, too, but softly.
const EXPECTATIONS: &str = "
    [quality.expectations.nothing_is_cheap]
    table = 'silver.events'
    kind = 'validity'
    rule = \"event_type <> 'page_view' OR unit_price IS NULL OR unit_price >= 20\"
    at_least = 0.5
    severity = 'hard'
    [quality.expectations.customers_are_known]
    table = 'bronze.events'
    kind = 'completeness'
    column = 'customer_id'
    [quality.expectations.customers_are_ours]
    table = 'silver.events'
    kind = 'integrity'
    column = 'customer_id'
    references = 'silver.events.customer_id'
    at_least = 0.5
    [quality.expectations.shop_is_open]
    table = 'silver.events'
    kind = 'volume'
    rows_at_most = 1000000";

const BREAKS: &str = "event_type = 'page_view' AND unit_price < 20";

fn with_expectations(settings: &[&str]) -> Sluice {
    let sluice = Sluice::with(settings);
    // The configuration of the working directory.
    fs::write(sluice.path("sluice.toml"), EXPECTATIONS).unwrap();
    sluice
}

fn quality(sluice: &Sluice, args: &[&str]) -> (Option<i32>, Value) {
    let output = sluice.output(&[&["quality", "--json"], args].concat());
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap())
}

/// Sums over all results are what SQL counts over the tables, however often the run was stopped.
fn results_equal_sql(sluice: &Sluice) {
    let numbers = |sql: &str| sluice.query(sql).remove(0);
    for (expectation, sql) in [
        (
            "nothing_is_cheap",
            format!("SELECT count(*), count(*) - count(*) FILTER (WHERE {BREAKS}) FROM bronze.events"),
        ),
        (
            "customers_are_known",
            "SELECT count(*), count(*) FILTER (WHERE customer_id <> '') FROM bronze.events".to_owned(),
        ),
        (
            "purchases_have_a_price",
            "SELECT count(*), count(*) FILTER (WHERE event_type <> 'purchase' OR unit_price IS NOT NULL) FROM silver.events"
                .to_owned(),
        ),
        ("events_are_on_time", "SELECT count(*), count(*) FILTER (WHERE NOT is_late) FROM silver.events".to_owned()),
    ] {
        let found = format!("SELECT sum(rows), sum(passed) FROM silver.quality WHERE expectation = '{expectation}'");
        assert_eq!(numbers(&found), numbers(&sql), "{expectation}");
    }
    // Ranges of offsets of one expectation and partition follow each other without an overlap.
    let overlaps = "SELECT count(*) FROM (SELECT first_offset, lag(last_offset) OVER (
        PARTITION BY expectation, _partition ORDER BY first_offset) AS before FROM silver.quality
        WHERE first_offset IS NOT NULL) WHERE before >= first_offset";
    assert_eq!(sluice.number(overlaps), 0);
}

fn quarantines_exactly_what_breaks(sluice: &Sluice) {
    // What breaks a rule of all events too is refused for that.
    let refused = "SELECT _partition, _offset FROM bronze.dead_letters WHERE stage = 'validate' AND reason";
    let broken = format!(
        "SELECT b._partition, b._offset FROM bronze.events b LEFT ANTI JOIN ({refused} <> 'quarantined') r
         ON b._partition = r._partition AND b._offset = r._offset WHERE {BREAKS}"
    );
    let letters = format!("{refused} = 'quarantined'");
    assert!(sluice.number(&format!("SELECT count(*) FROM ({letters})")) > 0);
    assert_eq!(sluice.digest(&letters), sluice.digest(&broken));
    assert_eq!(sluice.number(&format!("SELECT count(*) FROM silver.events WHERE {BREAKS}")), 0);
    let told = sluice.query("SELECT DISTINCT message FROM bronze.dead_letters WHERE reason = 'quarantined'");
    assert!(told.len() == 1 && told[0].contains("expectation 'nothing_is_cheap' is not met: event_type"), "{told:?}");
}

#[test]
fn a_hard_expectation_keeps_its_rows_out_of_silver_and_the_ledger_balances() {
    let sluice = with_expectations(&["simulate.rate=500"]);
    assert_eq!(quality(&sluice, &[]), (Some(0), serde_json::json!({ "as_of_ms": null, "expectations": [] })));
    sluice.run(&["up", "--until-drained", "--speed", "0", "--set", "simulate.events=40000"]);
    quarantines_exactly_what_breaks(&sluice);
    results_equal_sql(&sluice);
    let report = sluice.verify();
    let of_all = |field: &str| -> u64 {
        report["partitions"].as_array().unwrap().iter().map(|p| p[field].as_u64().unwrap()).sum()
    };
    assert!(of_all("invalid") > sluice.number(&format!("SELECT count(*) FROM bronze.events WHERE {BREAKS}")) - 1);

    let (code, report) = quality(&sluice, &[]);
    let of = |name: &str| {
        report["expectations"].as_array().unwrap().iter().find(|e| e["name"] == name).unwrap_or(&Value::Null).clone()
    };
    assert_eq!(code, Some(0), "{report:#}");
    let hard = of("nothing_is_cheap");
    assert_eq!((&hard["ok"], &hard["table"]), (&true.into(), &"bronze.events".into()), "half of the rows may break it");
    assert_eq!(of("customers_are_known")["ok"], false, "the shop has visitors without a name");
    // Each partition repeats what it repeats; no key is in two.
    let distinct = sluice.number("SELECT count(DISTINCT event_id) FROM bronze.events");
    assert_eq!(
        (of("events_do_not_repeat")["passed"].as_u64(), &of("events_do_not_repeat")["ok"]),
        (Some(distinct), &true.into())
    );
    assert!(of("fresh")["age_seconds"].as_f64().unwrap() < 120.0);
    for shipped in
        ["sessions_are_known", "countries_have_two_letters", "purchases_have_a_price", "events_are_on_time", "fresh"]
    {
        assert_eq!(of(shipped)["ok"], true, "{shipped}: {report:#}");
    }
    assert_eq!(quality(&sluice, &["--strict"]).0, Some(1));
    let stricter = "quality.expectations.nothing_is_cheap.at_least=1";
    let page = sluice.path("report.html");
    sluice.run(&["quality", "--html", page.to_str().unwrap()]);
    assert!(fs::read_to_string(&page).unwrap().contains("nothing_is_cheap"));

    // More rows, now all of which must do: the report fails.
    sluice.run(&[
        "up",
        "--until-drained",
        "--speed",
        "0",
        "--set",
        "simulate.events=2000",
        "--set",
        "simulate.seed=9",
        "--set",
        stricter,
    ]);
    assert_eq!(quality(&sluice, &[]).0, Some(1));
    quarantines_exactly_what_breaks(&sluice);
    results_equal_sql(&sluice);
    // What refers to a table of the lake is judged as soon as that is there.
    let (_, report) = quality(&sluice, &[]);
    let ours = report["expectations"].as_array().unwrap().iter().find(|e| e["name"] == "customers_are_ours").unwrap();
    assert!(ours["passed"].as_u64().unwrap() > 0, "{ours}");
    sluice.verify();
}

#[test]
fn a_run_killed_at_any_moment_writes_each_result_once_and_one_that_lost_its_state_judges_as_before() {
    // Commits come often, so that the kills fall before, between and after them.
    let sluice = with_expectations(&["lake.roll_age=300ms", "process.batch_records=512", "simulate.rate=2000"]);
    sluice.run(&["produce", "simulate", "--speed", "0", "--set", "simulate.events=200000"]);
    let commits = || fs::read_dir(sluice.path("shop/lake/silver/quality/_delta_log")).map_or(0, |files| files.count());
    let mut disturbed = 0;
    for kill in 1..=4 {
        let mut child =
            sluice.command(&["up", "--no-producer"]).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let (before, began) = (commits(), Instant::now());
        // One that has read everything commits no more.
        wait_for("two commits of results", || {
            (commits() >= before + 2 || began.elapsed() > Duration::from_secs(10)).then_some(())
        });
        disturbed += u32::from(commits() >= before + 2);
        sleep(Duration::from_millis(90 * kill));
        child.kill().unwrap();
        child.wait().unwrap();
        if kill == 2 {
            // All is read again; what was counted is not counted again.
            fs::remove_dir_all(sluice.path("shop/checkpoints")).unwrap();
        }
    }
    assert!(disturbed >= 2, "{disturbed} runs were killed in the middle");
    sluice.run(&["up", "--no-producer", "--until-drained"]);
    quarantines_exactly_what_breaks(&sluice);
    results_equal_sql(&sluice);
    sluice.verify();
}

#[test]
fn a_state_made_anew_from_bronze_leaves_out_what_is_in_quarantine() {
    let sluice = with_expectations(&[
        "lake.roll_age=400ms",
        "simulate.rate=200",
        "log.embedded.fsync_interval=10ms",
        "time.out_of_orderness=5m",
    ]);
    let shop = |seed: &str| {
        let seed = format!("simulate.seed={seed}");
        sluice.run(&["produce", "simulate", "--speed", "0", "--set", "simulate.events=20000", "--set", &seed]);
    };
    let run = |seconds: u64, more: &[&str]| {
        let child = sluice.start(&[&["up", "--no-producer"], more].concat());
        sleep(Duration::from_secs(seconds));
        interrupt(&child);
        assert!(child.wait_with_output().unwrap().status.success());
    };
    shop("1");
    run(6, &[]);
    assert!(sluice.number("SELECT count(*) FROM bronze.events") > 19_000);
    // The log forgets, and the checkpoints are lost: the windows that are open are counted anew.
    run(3, &["--set", "log.embedded.retention_age=1s"]);
    fs::remove_dir_all(sluice.path("shop/checkpoints")).unwrap();
    let doctor: Value = serde_json::from_slice(&sluice.output(&["doctor", "--json"]).stdout).unwrap();
    for partition in doctor["partitions"].as_array().unwrap() {
        assert_eq!(partition["at_start"]["action"], "rebuild_from_bronze", "{doctor:#}");
    }
    shop("2");
    sluice.run(&["up", "--no-producer", "--until-drained"]);
    quarantines_exactly_what_breaks(&sluice);
    results_equal_sql(&sluice);
    sluice.verify();
}

#[test]
fn wrong_expectations_stop_the_start_and_say_what_to_do() {
    let sluice = with_expectations(&[]);
    for (set, told) in [
        (
            "quality.expectations.nothing_is_cheap.rule=unit_price >> 2",
            "setting quality.expectations.nothing_is_cheap.rule: ",
        ),
        ("quality.expectations.nothing_is_cheap.rule=price > 2", "line 1, column 1: there is no column 'price'"),
        (
            "quality.expectations.shop_is_open.severity=hard",
            "shop_is_open.severity: volume cannot be judged row by row",
        ),
        ("quality.expectations.nothing_is_cheap.rule=NOT is_late", "there is no column 'is_late'; there are event_id"),
        ("quality.expectations.fresh.within=soon", "quality.expectations.fresh.within"),
    ] {
        for command in [&["config", "check"][..], &["up", "--no-producer"]] {
            let output = sluice.output(&[command, &["--set", set]].concat());
            let text = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.code() == Some(2) && text.contains(told), "{set}: {} {text}", output.status);
            assert!(text.contains("config file: sluice.toml"), "{text}");
        }
    }
    sluice.run(&["config", "check"]);
}
