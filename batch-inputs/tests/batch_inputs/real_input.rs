//! The CDNOW purchases against answers computed elsewhere.

use crate::support::{Whole, input, whole};
use arrow::{array::AsArray, datatypes::Decimal128Type};
use sluice_batch_inputs::{AchatsReader, ClientsReader, IdSet};
use std::{
    collections::HashSet,
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

fn total(whole: &Whole) -> i128 {
    let orders = whole.silver_batch.as_ref().unwrap();
    orders.column_by_name("amount").unwrap().as_primitive::<Decimal128Type>().values().iter().sum()
}

#[test]
fn real_purchases_give_the_reference_figures() {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let data = std::env::var_os("SLUICE_TEST_DATA").map_or_else(beside, PathBuf::from);
    if !data.is_dir() {
        // Not by the macro: what passes is not shown.
        let _ = writeln!(std::io::stderr(), "SKIPPED real purchases: no folder in SLUICE_TEST_DATA");
        return;
    }
    let folder = data.join("cdnow");
    let clients_csv = fs::read(folder.join("clients.csv.gz")).unwrap();
    let reader = ClientsReader::new(&clients_csv[..], input("clients.csv.gz", &clients_csv)).unwrap();
    let clients = whole(reader, 10_000).unwrap();
    assert_eq!((clients.summary.accepted, clients.summary.records), (23_570, 23_570));
    assert!(clients.quality.iter().all(|c| c.name == "uniqueness.row" || c.passed == c.total), "{:?}", clients.quality);

    let customers = clients.silver_batch.unwrap();
    let ids = customers.column_by_name("customer_id").unwrap().as_string::<i32>();
    let known: IdSet = ids.iter().flatten().collect();
    let achats_csv = fs::read(folder.join("achats.csv.gz")).unwrap();
    let reader = AchatsReader::new(&achats_csv[..], input("achats.csv.gz", &achats_csv), Arc::new(known)).unwrap();
    let achats = whole(reader, 65_536).unwrap();
    assert_eq!((achats.summary.accepted, achats.summary.dead_letters, achats.summary.duplicates), (69_579, 80, 0));
    assert!(achats.refused().iter().all(|(_, reason)| *reason == "amount_not_positive"));
    assert_eq!(total(&achats), 25_003_156_300, "revenue in ten-thousandths");

    let found: Vec<String> = achats
        .quality
        .iter()
        .map(|c| format!("{},{},{},{:.10}", c.name, c.passed, c.total, c.ratio().unwrap()))
        .collect();
    let expected = fs::read_to_string(folder.join("expected/quality.csv")).unwrap();
    assert_eq!(found, expected.lines().skip(1).collect::<Vec<_>>());

    let countries = customers.column_by_name("country").unwrap().as_string::<i32>();
    let expected = fs::read_to_string(folder.join("expected/revenue_by_country.csv")).unwrap();
    let expected: HashSet<&str> = expected.lines().skip(1).filter_map(|line| line.split(',').next()).collect();
    assert_eq!(countries.iter().flatten().collect::<HashSet<_>>(), expected);
}
