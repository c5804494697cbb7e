//! `clients.csv` and `achats.csv`.

use chrono::NaiveDate;
use sluice_producer::{ShopFilesConfig, write_shop_files};
use std::{collections::BTreeSet, fs};

#[test]
fn customers_and_purchases_belong_together_and_come_out_the_same_again() {
    let config = ShopFilesConfig {
        seed: 3,
        clients: 200,
        purchases: 1_000,
        products: 50,
        first_day: NaiveDate::from_ymd_opt(2024, 1, 1).unwrap(),
        days: 90,
    };
    let dir = tempfile::tempdir().unwrap();
    write_shop_files(dir.path(), &config).unwrap();
    let clients = fs::read_to_string(dir.path().join("clients.csv")).unwrap();
    let purchases = fs::read_to_string(dir.path().join("achats.csv")).unwrap();
    assert!(clients.starts_with("id_client,nom,email,date_inscription,pays\nC0000001,Client 0000001,client.0000001@"));
    assert!(purchases.starts_with("id_achat,id_client,date_achat,montant,produit\nA000000001,C"));
    assert_eq!((clients.lines().count(), purchases.lines().count()), (201, 1_001));
    let known: BTreeSet<_> = clients.lines().skip(1).filter_map(|l| l.split(',').next()).collect();
    let mut days = BTreeSet::new();
    for row in purchases.lines().skip(1) {
        let fields: Vec<_> = row.split(',').collect();
        assert!(known.contains(fields[1]), "{row}");
        assert!(fields[3].split_once('.').unwrap().1.len() == 2 && !fields[3].starts_with('-'), "{row}");
        days.insert(fields[2][..10].to_owned());
    }
    assert_eq!(days.len(), 90);
    assert_eq!((days.first().unwrap().as_str(), days.last().unwrap().as_str()), ("2024-01-01", "2024-03-30"));
    let again = tempfile::tempdir().unwrap();
    write_shop_files(again.path(), &config).unwrap();
    assert_eq!(fs::read_to_string(again.path().join("achats.csv")).unwrap(), purchases);
    assert_eq!(fs::read_dir(again.path()).unwrap().count(), 2, "no half-written file is left");
}
