//! What the command line answers, to wrong use too.

use crate::support::{Sluice, interrupt};
use std::fs;

#[test]
fn a_new_kpi_is_one_sql_file() {
    let sluice = Sluice::new();
    fs::create_dir_all(sluice.path("shop-models/live")).unwrap();
    fs::write(
        sluice.path("shop-models/live/carts.sql"),
        "-- title: Carts\n-- unit: items added to carts\n\
         SELECT device, sum(quantity) AS added, count(*) FILTER (WHERE quantity > 1) AS several FROM events\n\
         WHERE event_type = 'add_to_cart' GROUP BY tumble(event_time, INTERVAL '5 minutes'), device",
    )
    .unwrap();
    let models = ["--set", "models.dir=shop-models"];
    let with = |args: &[&str]| sluice.run(&[args, &models].concat());
    let listed = String::from_utf8(with(&["models", "list"]).stdout).unwrap();
    assert!(listed.contains("carts") && listed.contains("activity"), "{listed}");
    with(&["up", "--until-drained", "--speed", "0", "--set", "simulate.events=20000"]);
    let live = sluice.query("SELECT window_start, device, added, several FROM live.carts");
    let batch = sluice.query(
        "SELECT date_bin(INTERVAL '5 minutes', event_time), device, sum(quantity), sum(CASE WHEN quantity > 1 THEN 1 ELSE 0 END)
         FROM silver.events WHERE event_type = 'add_to_cart' AND NOT is_late GROUP BY 1, 2",
    );
    assert!(!live.is_empty());
    assert_eq!(live, batch);
    with(&["verify"]);
}

#[test]
fn a_kpi_added_to_a_running_shop_counts_whole_windows_only() {
    let sluice = Sluice::with(&["simulate.rate=300"]);
    // Until something has come: a busy machine takes its time to start.
    while sluice.output(&["query", "SELECT 1 / count(*) FROM silver.events"]).status.code() != Some(0) {
        let child = sluice.start(&["up"]);
        std::thread::sleep(std::time::Duration::from_secs(3));
        interrupt(&child);
        assert!(child.wait_with_output().unwrap().status.success());
    }
    fs::create_dir_all(sluice.path("models/live")).unwrap();
    let file = sluice.path("models/live/traffic.sql");
    fs::write(&file, "SELECT count(*) AS events FROM events GROUP BY tumble(event_time, INTERVAL '1 minute')").unwrap();
    let before = sluice.number("SELECT CAST(max(event_time) AS BIGINT) / 60000000 FROM silver.events");
    // Ten minutes ahead at once, so that windows close.
    let ahead = ["up", "--until-drained", "--speed", "0", "--set", "simulate.duration=10m"];
    sluice.run(&ahead);
    let first = sluice.number("SELECT CAST(min(window_start) AS BIGINT) / 60000000 FROM live.traffic");
    assert!(first > before, "the window {before} was begun before the model came, {first} is sealed");
    sluice.verify();
    // Other columns under the old name are refused, and the table stays readable.
    fs::write(
        &file,
        "SELECT max(quantity) AS events, device FROM events GROUP BY tumble(event_time, INTERVAL '1 minute'), device",
    )
    .unwrap();
    let output = sluice.output(&["up", "--no-producer", "--until-drained"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("live.traffic: column device"), "{text}");
}

#[test]
fn a_model_that_cannot_run_continuously_is_refused_with_the_reason() {
    let sluice = Sluice::new();
    fs::create_dir_all(sluice.path("models/live")).unwrap();
    let file = sluice.path("models/live/rank.sql");
    for (sql, reason) in [
        ("SELECT count(*) AS n FROM events", "tumble"),
        (
            "SELECT country, count(*) AS n FROM events GROUP BY tumble(event_time, INTERVAL '1 minute'), country ORDER BY n",
            "ORDER BY",
        ),
        ("SELECT nothing FROM events GROUP BY tumble(event_time, INTERVAL '1 minute')", "nothing"),
    ] {
        fs::write(&file, sql).unwrap();
        let output = sluice.output(&["models", "check"]);
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().find(|line| line.starts_with("rank ")).unwrap_or_default();
        assert!(output.status.code() == Some(1) && line.contains("REFUSED") && line.contains(reason), "{sql}: {text}");
    }
}

#[test]
fn wrong_use_ends_with_2_and_says_what_would_be_right() {
    let sluice = Sluice::new();
    for (args, told) in [
        (&["up", "--set", "time.allowed_latenes=5m"][..], "allowed_latenes"),
        (&["up", "--set", "time.allowed_lateness=soon"], "allowed_lateness"),
        (&["up", "--replay", "missing.ndjson"], "missing.ndjson"),
        (&["up", "--speed=-1"], "--speed"),
        (&["query", "SELECT * FROM silver.event"], "Tables in this lake"),
        (&["query", "DROP TABLE silver.events"], "DDL"),
        (&["models", "show", "nothing"], "activity, checkout, products"),
        (&["models", "list", "--set", "models.dir=elsewhere"], "elsewhere"),
        (&["config", "check", "--config", "none.toml"], "none.toml"),
    ] {
        let output = sluice.output(args);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && text.contains(told), "{args:?}: {} {text}", output.status);
    }
}

#[test]
fn settings_come_from_file_environment_and_command_line_in_this_order() {
    let sluice = Sluice::new();
    fs::write(sluice.path("mine.toml"), "[topics]\npartitions = 3\n[simulate]\nevents = 50\n").unwrap();
    let mut command =
        sluice.command(&["produce", "simulate", "--speed", "0", "--config", "mine.toml", "--set", "simulate.seed=9"]);
    command.env("SLUICE__SIMULATE__EVENTS", "70").env("SLUICE__SIMULATE__SEED", "8");
    assert!(command.status().unwrap().success());
    sluice.run(&["up", "--no-producer", "--until-drained"]);
    let records = sluice.number(
        "SELECT (SELECT count(*) FROM bronze.events) + (SELECT count(*) FROM bronze.dead_letters WHERE stage = 'decode')",
    );
    assert!((70..80).contains(&records), "{records} records; duplicates come on top of the events");
    assert_eq!(sluice.verify()["partitions"].as_array().unwrap().len(), 3);
}

#[test]
fn the_shop_s_files_have_customers_and_purchases() {
    let sluice = Sluice::new();
    let out = sluice.path("files");
    let to = out.to_str().unwrap();
    sluice.run(&["produce", "files", to, "--clients", "20", "--purchases", "100"]);
    assert_eq!(fs::read_to_string(out.join("clients.csv")).unwrap().lines().count(), 21);
    assert_eq!(fs::read_to_string(out.join("achats.csv")).unwrap().lines().count(), 101);
}
