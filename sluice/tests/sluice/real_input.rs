//! Real shop events through all rooms, with local stores and with real services.

use crate::engine::expected;
use crate::support::{NEEDED, Services, Sluice, data, keep_products_out_of_the_store, skipped};
use sluice_events::PaneState;
use sluice_sinks::kpi_store::{self, KpiQuery, KpiStoreConfig, KpiStoreKind};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const ACTIVITY: &str =
    "SELECT window_start, event_type, country, events, customers, quantity, revenue FROM live.activity";

fn unpacked(data: &Path, sluice: &Sluice) -> PathBuf {
    let file = sluice.path("e.ndjson");
    let output = Command::new("zcat").arg(data.join("rees46/events.ndjson.gz")).output().unwrap();
    assert!(output.status.success());
    fs::write(&file, output.stdout).unwrap();
    file
}

fn replay_and_check(sluice: &Sluice, data: &Path) {
    let file = unpacked(data, sluice);
    sluice.run(&["up", "--replay", file.to_str().unwrap(), "--until-drained"]);
    assert_eq!(sluice.query(ACTIVITY), expected(data, "tumbling_1m.csv"));
    assert_eq!(sluice.number("SELECT count(*) FROM bronze.events"), 17_435);
    assert_eq!(sluice.number("SELECT count(*) FROM silver.events"), 17_430);
    let report = sluice.verify();
    let duplicates: u64 =
        report["partitions"].as_array().unwrap().iter().map(|p| p["duplicates"].as_u64().unwrap()).sum();
    assert_eq!(duplicates, 5);
    assert_eq!(report["models"].as_array().unwrap().len(), 8, "all models were compared with the batch result");
}

/// A pane as what it says: the order in which partitions were heard may differ, and with it version and cause.
fn documents(store: &KpiStoreConfig) -> Vec<String> {
    let store = kpi_store::open(store).unwrap();
    let mut found = Vec::new();
    for model in ["activity", "sales"] {
        let query = KpiQuery { model: model.to_owned(), limit: 100_000, ..KpiQuery::default() };
        for kpi in store.kpis(&query).unwrap() {
            assert_eq!(kpi.state, PaneState::Sealed);
            found.push(format!("{} {:?} {:?} {:?}", kpi.id, kpi.window_start, kpi.group, kpi.measures));
        }
    }
    found.sort_unstable();
    found
}

fn embedded(sluice: &Sluice) -> KpiStoreConfig {
    KpiStoreConfig {
        kind: KpiStoreKind::Embedded,
        dir: sluice.path("shop/kpi"),
        uri: String::new(),
        database: String::new(),
    }
}

#[test]
fn a_shop_s_morning_gives_the_reference_answers() {
    let Some(data) = data() else { return skipped("real input", "no folder in SLUICE_TEST_DATA") };
    let sluice = Sluice::new();
    replay_and_check(&sluice, &data);
    // A second run has nothing to add: the replay knows what it sent.
    sluice.run(&["up", "--replay", sluice.path("e.ndjson").to_str().unwrap(), "--until-drained"]);
    assert_eq!(sluice.number("SELECT count(*) FROM bronze.events"), 17_435);
    assert_eq!(sluice.query(ACTIVITY), expected(&data, "tumbling_1m.csv"));
    sluice.verify();
}

#[test]
fn kafka_s3_and_mongodb_give_the_same_tables_and_documents() {
    let (Some(data), Some(services)) = (data(), Services::of_the_environment()) else {
        return skipped("real services", NEEDED);
    };
    let real = Sluice::with(&services.settings().iter().map(String::as_str).collect::<Vec<_>>());
    keep_products_out_of_the_store(&real);
    replay_and_check(&real, &data);
    let local = Sluice::new();
    replay_and_check(&local, &data);
    let (uri, database) = (services.mongo, services.run);
    let mongodb = KpiStoreConfig { kind: KpiStoreKind::Mongodb, dir: PathBuf::new(), uri, database };
    let (there, here) = (documents(&mongodb), documents(&embedded(&local)));
    assert!(here.len() > 257, "there are {} documents; zero panes come on top of 220 + 37", here.len());
    assert_eq!(there, here);
}
