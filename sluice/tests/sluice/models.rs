//! Models as files: checked, and changed while the shop is open.

use crate::support::{Sluice, interrupt, wait_for};
use serde_json::Value;
use std::{
    fs,
    io::{BufRead, BufReader},
    sync::{Arc, Mutex},
    thread,
};

const CARTS: &str = "-- title: Carts\n-- grain: 2 seconds by device\nSELECT device, sum(quantity) AS added FROM events
WHERE event_type = 'add_to_cart' GROUP BY tumble(event_time, INTERVAL '2 seconds'), device";

#[test]
fn models_that_cannot_run_are_refused_with_file_line_column_and_reason() {
    let sluice = Sluice::new();
    fs::create_dir_all(sluice.path("models/live")).unwrap();
    fs::write(sluice.path("models/live/carts.sql"), CARTS).unwrap();
    let good = sluice.run(&["models", "check"]);
    let text = String::from_utf8(good.stdout).unwrap();
    for model in ["activity", "sales", "sales_rolling", "products", "sessions", "funnel", "carts"] {
        let line = text.lines().find(|line| line.starts_with(&format!("{model} "))).expect(model);
        assert!(line.contains("runs continuously"), "{line}");
    }
    fs::write(sluice.path("ranked.sql"), CARTS.to_owned() + "\nORDER BY added").unwrap();
    let bad = sluice.output(&["models", "check", "ranked.sql"]);
    assert_eq!(bad.status.code(), Some(1));
    let text = String::from_utf8(bad.stdout).unwrap();
    assert!(text.contains("ranked.sql:5:10: ORDER BY"), "{text}");
    // At a start it is an error of the user's, and nothing runs.
    fs::write(sluice.path("models/live/ranked.sql"), CARTS.to_owned() + "\nORDER BY added").unwrap();
    let refused = sluice.output(&["up", "--until-drained"]);
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && text.contains("line 5, column 10"), "{text}");
}

#[test]
fn a_model_added_changed_and_removed_while_the_shop_is_open_leaves_the_others_alone() {
    let settings = [
        "serve.listen=127.0.0.1:0",
        "models.reload_interval=200ms",
        "time.late_grain=1s",
        "time.allowed_lateness=1s",
        "time.out_of_orderness=500ms",
        "simulate.out_of_orderness=100ms",
        "simulate.rate=400",
        "lake.roll_age=500ms",
    ];
    let sluice = Sluice::with(&settings);
    fs::create_dir_all(sluice.path("models/live")).unwrap();
    let mut child = sluice.start(&["up"]);
    let lines = Arc::new(Mutex::new(Vec::<String>::new()));
    let stderr = child.stderr.take().unwrap();
    let reader = {
        let lines = lines.clone();
        thread::spawn(move || {
            BufReader::new(stderr).lines().map_while(Result::ok).for_each(|line| lines.lock().unwrap().push(line));
        })
    };
    let said = |text: &str| lines.lock().unwrap().iter().find(|line| line.contains(text)).cloned();
    let address = wait_for("the address", || {
        said("dashboard  ")?.strip_prefix("dashboard  ")?.split_whitespace().next().map(str::to_owned)
    });
    let get = |path: &str| -> Value {
        let body = ureq::get(format!("{address}{path}")).call().unwrap().body_mut().read_to_string().unwrap();
        serde_json::from_str(&body).unwrap()
    };
    let sealed = |model: &str| -> usize {
        let names: Vec<Value> = get("api/v1/models")["models"].as_array().unwrap().clone();
        if !names.iter().any(|m| m["name"] == model) {
            return 0;
        }
        let kpis = get(&format!("api/v1/kpis/{model}?limit=1000"));
        kpis["kpis"].as_array().unwrap().iter().filter(|k| k["state"] == "sealed").count()
    };
    wait_for("events", || (get("api/v1/status")["events_processed"].as_u64()? > 500).then_some(()));
    fs::write(sluice.path("models/live/carts.sql"), CARTS).unwrap();
    wait_for("the new model's panes", || (sealed("carts") > 2).then_some(()));
    // A mistake changes nothing, and is told.
    fs::write(sluice.path("models/live/carts.sql"), CARTS.replace("sum(quantity)", "sum(qantity)")).unwrap();
    let told = wait_for("the refusal", || said("the changed models are not taken"));
    assert!(told.contains("qantity") && told.contains("line 3"), "{told}");
    let before = sealed("carts");
    wait_for("panes of the old text", || (sealed("carts") > before).then_some(()));
    // Another text of the same columns goes on in the same table, from its first whole window.
    fs::write(sluice.path("models/live/carts.sql"), CARTS.replace("sum(quantity)", "2 * sum(quantity)")).unwrap();
    wait_for("the change", || {
        (lines.lock().unwrap().iter().filter(|l| l.contains("models reloaded")).count() > 1).then_some(())
    });
    let before = sealed("carts");
    wait_for("panes of the new text", || (sealed("carts") > before + 2).then_some(()));
    interrupt(&child);
    assert!(child.wait().unwrap().success());
    reader.join().unwrap();
    assert!(sluice.number("SELECT count(*) FROM live.carts") > 3);
    let report = sluice.verify();
    let compared: Vec<&str> =
        report["models"].as_array().unwrap().iter().map(|m| m["model"].as_str().unwrap()).collect();
    assert!(compared.contains(&"carts") && compared.contains(&"activity"), "{report:#}");
    // A restart goes on with what was there, and a file that is gone is a model that is gone.
    fs::remove_file(sluice.path("models/live/carts.sql")).unwrap();
    sluice.run(&["up", "--no-producer", "--until-drained"]);
    sluice.verify();
}

#[test]
fn groups_past_the_bound_are_counted_together_and_told() {
    let sluice = Sluice::with(&["process.groups_max=20", "topics.partitions=2"]);
    sluice.run(&["up", "--until-drained", "--speed", "0", "--set", "simulate.events=20000"]);
    let most = sluice
        .number("SELECT max(n) FROM (SELECT count(DISTINCT product_id) AS n FROM live.products GROUP BY window_start)");
    assert!(most <= 41, "{most} products: two partitions have twenty each, and the others together");
    assert!(sluice.number("SELECT count(*) FROM live.products WHERE product_id = '__other__'") > 0);
    // Nothing is lost: what was counted together is in the sums.
    assert_eq!(
        sluice.query("SELECT sum(views), sum(items), sum(revenue) FROM live.products"),
        sluice.query(
            "SELECT count(*) FILTER (WHERE event_type = 'page_view'), sum(quantity) FILTER (WHERE event_type = 'purchase'),
               sum(CASE WHEN event_type = 'purchase' THEN coalesce(quantity * unit_price, 0) ELSE 0 END)
             FROM events WHERE product_id IS NOT NULL"
        )
    );
    let report = sluice.verify();
    let products = report["models"].as_array().unwrap().iter().find(|m| m["model"] == "products").unwrap();
    assert!(products["counted_together"].as_u64() > Some(0), "{products}");
}
