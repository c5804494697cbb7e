//! Batch files: clients.csv and achats.csv into bronze and silver.

use crate::support::{Services, Sluice, data, interrupt, skipped, wait_for};
use object_store::{ObjectStoreExt as _, aws::AmazonS3Builder, path::Path as ObjectPath};
use serde_json::Value;
use std::{path::Path, process::Output};

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

fn load(sluice: &Sluice, files: &[&Path]) -> Value {
    let mut args = vec!["load", "--json"];
    args.extend(files.iter().map(|file| file.to_str().unwrap()));
    serde_json::from_slice(&sluice.run(&args).stdout).unwrap()
}

/// The version of each table.
fn versions(sluice: &Sluice) -> Vec<(String, u64)> {
    let shown: Value = serde_json::from_slice(&sluice.run(&["lake", "show", "--json"]).stdout).unwrap();
    let tables = shown.as_array().unwrap().iter();
    tables.map(|t| (t["table"].as_str().unwrap().to_owned(), t["version"].as_u64().unwrap())).collect()
}

#[test]
fn real_input_gives_the_reference_figures_and_changes_nothing_the_second_time() {
    let Some(data) = data().map(|data| data.join("cdnow")).filter(|data| data.is_dir()) else {
        return skipped("batch files of real input", "needs SLUICE_TEST_DATA");
    };
    let sluice = Sluice::new();
    let files = [data.join("achats.csv.gz"), data.join("clients.csv.gz")];
    let files = [files[0].as_path(), files[1].as_path()];
    let reports = load(&sluice, &files);
    assert_eq!(sluice.number("SELECT count(*) FROM silver.orders"), 69_579);
    assert_eq!(sluice.number("SELECT count(*) FROM silver.customers"), 23_570);
    assert_eq!(sluice.query("SELECT sum(amount) FROM silver.orders"), ["2500315.6300"]);
    let letters = "SELECT stage, reason, count(*), count(DISTINCT source) FROM bronze.dead_letters GROUP BY 1, 2";
    assert_eq!(sluice.query(letters), ["load,amount_not_positive,80,1"]);
    let of_all = "SELECT count(*) FROM bronze.achats WHERE _raw IS NOT NULL AND _line > 1";
    assert_eq!(sluice.number(of_all), 69_659);
    let expected = std::fs::read_to_string(data.join("expected/quality.csv")).unwrap();
    // Clients come first, whatever the order they are named in.
    let quality = reports[1]["quality"].as_array().unwrap();
    let found: Vec<String> = quality
        .iter()
        .map(|q| {
            format!(
                "{},{},{},{:.10}",
                q["check"].as_str().unwrap(),
                q["passed"],
                q["total"],
                q["ratio"].as_f64().unwrap()
            )
        })
        .collect();
    assert_eq!(found, expected.lines().skip(1).collect::<Vec<_>>());
    let kept =
        "SELECT count(*) FROM silver.quality WHERE _file = 'achats.csv.gz' AND ok AND table_name = 'bronze.achats'";
    assert_eq!(sluice.number(kept), 10);
    let shown = sluice.run(&["quality"]);
    assert!(text(&shown).contains("validity.montant_positive"), "{}", text(&shown));
    let before = versions(&sluice);
    let again = load(&sluice, &files);
    assert_eq!((&again[1]["added"], &again[1]["changed"], &again[1]["is_known"]), (&0.into(), &0.into(), &true.into()));
    assert_eq!(versions(&sluice), before);
}

const CLIENTS: &str = "\u{feff}pays;Nom;id_client;email;date_inscription;note\r\n\
    france;Ada;007;ADA@Example.com;01/02/2024;x\r\n\
    ;\"Bob\r\nthe second\";8;not an address;2024-02-30;\r\n\
    FR;Twice;007;t@example.com;2024-01-01;\r\n\
    ;;;;;\r\n";
const ACHATS: &str = "id_achat,id_client,date_achat,montant,produit\n\
    a1,007,2024-03-01,\"1 234,56 €\",tea\n\
    a2,7,2024-03-01,5,tea\n\
    a3,8,2024-03-01,\"1,234\",tea\n\
    a4,8,not a day,5,tea\n\
    a1,8,2024-03-02,7,again\n\
    \n\
    a5,8,2024-03-02,12.5,milk\n\
    a6,8,2024-03";

#[test]
fn untidy_files_are_read_and_what_is_refused_says_where_it_stands() {
    let sluice = Sluice::new();
    let (clients, achats) = (sluice.path("CLIENTS.csv"), sluice.path("achats.csv"));
    std::fs::write(&clients, CLIENTS).unwrap();
    std::fs::write(&achats, ACHATS).unwrap();
    // An order needs its customer.
    let refused = sluice.output(&["load", achats.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused).contains("load clients.csv first"), "{}", text(&refused));
    load(&sluice, &[&clients, &achats]);
    assert_eq!(
        sluice.query("SELECT customer_id, email, signup_date, country FROM silver.customers"),
        ["007,ada@example.com,2024-02-01,France", "8,,,unknown"]
    );
    assert_eq!(
        sluice.query("SELECT order_id, customer_id, order_time, amount, product, _line FROM silver.orders"),
        ["a1,007,2024-03-01T00:00:00Z,1234.5600,tea,2", "a5,8,2024-03-02T00:00:00Z,12.5000,milk,8"]
    );
    assert_eq!(
        sluice.query("SELECT source, _offset, reason FROM bronze.dead_letters"),
        [
            "CLIENTS.csv,6,missing_field",
            "achats.csv,3,unknown_customer",
            "achats.csv,4,ambiguous_amount",
            "achats.csv,5,bad_date",
            "achats.csv,9,bad_csv",
        ]
    );
    // A newer delivery: what it says otherwise replaces, what it lacks stays.
    std::fs::write(&clients, "id_client,nom,email,date_inscription,pays\n8,Bob,bob@example.com,2024-05-05,DE\n")
        .unwrap();
    let report = &load(&sluice, &[&clients])[0];
    assert_eq!((&report["added"], &report["changed"]), (&0.into(), &1.into()));
    assert_eq!(
        sluice.query("SELECT customer_id, email, signup_date, country FROM silver.customers"),
        ["007,ada@example.com,2024-02-01,France", "8,bob@example.com,2024-05-05,Germany"]
    );
    for (file, said) in [("clients.csv", "nom"), ("other.csv", "must tell what it holds"), ("achats.gz", "must tell")] {
        let path = sluice.path(file);
        std::fs::write(&path, "id_client\n1\n").unwrap();
        let output = sluice.output(&["load", path.to_str().unwrap()]);
        assert!(!output.status.success() && text(&output).contains(said), "{file}: {}", text(&output));
    }
}

#[test]
fn a_load_that_dies_at_any_step_is_begun_again_and_nothing_is_twice() {
    let points: Vec<String> = ["bronze.dead_letters", "bronze.achats", "bronze.clients", "silver.quality"]
        .iter()
        .flat_map(|table| ["before files", "before commit", "after commit"].map(|step| format!("{table}/{step}")))
        .chain(
            ["silver.customers", "silver.orders"]
                .iter()
                .flat_map(|table| ["before upsert", "after upsert"].map(|step| format!("{table}/{step}"))),
        )
        .collect();
    for point in points {
        let sluice = Sluice::new();
        let (clients, achats) = (sluice.path("clients.csv"), sluice.path("achats.csv"));
        std::fs::write(&clients, CLIENTS).unwrap();
        std::fs::write(&achats, ACHATS).unwrap();
        let args = ["load", clients.to_str().unwrap(), achats.to_str().unwrap()];
        let died = sluice.command(&args).env("SLUICE_FAULT_POINT", &point).output().unwrap();
        assert!(!died.status.success() && text(&died).contains("fault point"), "{point}: {}", text(&died));
        sluice.run(&args);
        let counts = ["bronze.clients", "bronze.achats", "bronze.dead_letters", "silver.customers", "silver.orders"]
            .map(|table| sluice.number(&format!("SELECT count(*) FROM {table}")));
        assert_eq!(counts, [4, 7, 5, 2, 2], "{point}");
    }
}

#[test]
fn files_that_are_delivered_to_a_folder_are_loaded_while_events_flow() {
    let sluice = Sluice::with(&["sources.url=inbox", "sources.interval=200ms", "simulate.rate=50"]);
    let inbox = sluice.path("shop/inbox");
    std::fs::create_dir_all(&inbox).unwrap();
    let child = sluice.start(&["up"]);
    std::fs::write(inbox.join("clients.csv"), CLIENTS).unwrap();
    let rows = |table: &str| {
        let output = sluice.output(&["query", &format!("SELECT count(*) FROM silver.{table}"), "--format", "csv"]);
        String::from_utf8(output.stdout).unwrap().lines().nth(1).map(str::to_owned)
    };
    wait_for("customers", || (rows("customers").as_deref() == Some("2")).then_some(()));
    std::fs::write(inbox.join("achats-2024.csv"), ACHATS).unwrap();
    wait_for("orders", || (rows("orders").as_deref() == Some("2")).then_some(()));
    interrupt(&child);
    assert!(child.wait_with_output().unwrap().status.success());
    // By hand it is the same place.
    sluice.run(&["load"]);
    assert_eq!(rows("orders").as_deref(), Some("2"));
    sluice.verify();
}

#[test]
fn files_in_an_s3_bucket_are_loaded_into_a_lake_of_buckets() {
    let Ok(s3) = std::env::var("SLUICE_TEST_S3") else { return skipped("batch files on S3", "needs SLUICE_TEST_S3") };
    let run = Services::run_name();
    let store = AmazonS3Builder::from_env()
        .with_bucket_name("bronze")
        .with_endpoint(&s3)
        .with_region("us-east-1")
        .with_allow_http(true)
        .build()
        .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (name, content) in [("clients.csv", CLIENTS), ("achats.csv", ACHATS)] {
        let path = ObjectPath::from(format!("{run}-sources/{name}"));
        runtime.block_on(store.put(&path, content.as_bytes().to_vec().into())).unwrap();
    }
    let mut settings = Services::lake_settings(&s3, &run);
    settings.push(format!("sources.url=s3://bronze/{run}-sources"));
    let sluice = Sluice::with(&settings.iter().map(String::as_str).collect::<Vec<_>>());
    for added in [2, 0] {
        let reports = load(&sluice, &[]);
        assert_eq!((&reports[0]["added"], &reports[1]["added"]), (&added.into(), &added.into()));
    }
    let named = format!("s3://bronze/{run}-sources/achats.csv");
    assert!(text(&sluice.run(&["load", &named])).contains("0 added"));
}

#[test]
fn a_person_of_the_files_is_forgotten_and_does_not_come_back() {
    let sluice = Sluice::new();
    let (clients, achats) = (sluice.path("clients.csv"), sluice.path("achats.csv"));
    std::fs::write(&clients, CLIENTS).unwrap();
    // Without the row that has an id of the person's order too.
    std::fs::write(&achats, ACHATS.replace("a1,8,2024-03-02,7,again\n", "")).unwrap();
    load(&sluice, &[&clients, &achats]);
    sluice.run(&["lake", "forget", "--customer", "007", "--now"]);
    let of_all = || {
        ["bronze.clients", "bronze.achats", "silver.customers", "silver.orders"]
            .map(|table| sluice.number(&format!("SELECT count(*) FROM {table}")))
    };
    let before = of_all();
    let sums = "SELECT count(*), sum(amount), count(DISTINCT customer_id) FROM silver.orders";
    // Loaded again, the files bring nobody back, and no order twice.
    for _ in 0..2 {
        assert_eq!(of_all(), before);
        assert_eq!(sluice.query(sums), ["2,1247.0600,2"]);
        let known = "SELECT count(*) FROM silver.customers WHERE customer_id = '007' OR email = 'ada@example.com'";
        assert_eq!(sluice.number(known), 0);
        let named = "SELECT count(*) FROM bronze.clients WHERE id_client = '007' OR nom = 'Ada' OR _raw LIKE '%Ada%'";
        assert_eq!(sluice.number(named), 0);
        let joined = "SELECT count(*) FROM silver.orders JOIN silver.customers USING (customer_id)";
        assert_eq!(sluice.number(joined), 2, "the orders are still those of a customer");
        load(&sluice, &[&clients, &achats]);
    }
}

#[test]
fn who_is_still_about_is_not_forgotten_yet() {
    let sluice = Sluice::with(&["simulate.rate=200"]);
    let child = sluice.start(&["up"]);
    std::thread::sleep(std::time::Duration::from_secs(5));
    interrupt(&child);
    assert!(child.wait_with_output().unwrap().status.success());
    let newest = "SELECT customer_id FROM silver.events WHERE customer_id IS NOT NULL ORDER BY event_time DESC LIMIT 1";
    let person = sluice.query(newest)[0].clone();
    let forget = ["lake", "forget", "--customer", &person];
    let refused = sluice.output(&forget);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused).contains("was active until"), "{}", text(&refused));
    assert!(sluice.number(&format!("SELECT count(*) FROM silver.events WHERE customer_id = '{person}'")) > 0);
    sluice.run(&["up", "--no-producer", "--until-drained"]);
    sluice.run(&forget);
    assert_eq!(sluice.number(&format!("SELECT count(*) FROM silver.events WHERE customer_id = '{person}'")), 0);
    sluice.verify();
}
