//! Gold, published to real databases.

use crate::support::{Services, Sluice, skipped};
use postgres::{Client, NoTls};
use std::env;

const ORDERS: &str = "id_achat,id_client,date_achat,montant,produit\n\
                      a,7,2024-03-01T10:00:00Z,10.50,tea\nb,8,2024-03-02T10:00:00Z,4.50,tea\nc,7,2024-04-02T10:00:00Z,2.00,cup\n";
const MORE: &str = "id_achat,id_client,date_achat,montant,produit\nd,8,2024-04-03T10:00:00Z,1.25,cup\n";

/// A shop with some orders, which publishes with these settings.
fn shop(settings: &[&str]) -> Sluice {
    let sluice = Sluice::with(settings);
    let clients = "id_client,nom,email,date_inscription,pays\n7,Ann,a@example.com,2024-01-01,FR\n8,Bo,b@example.com,2024-01-01,DE\n";
    load(&sluice, "clients.csv", clients);
    load(&sluice, "achats.csv", ORDERS);
    sluice
}

fn load(sluice: &Sluice, name: &str, text: &str) {
    let file = sluice.path(name);
    std::fs::write(&file, text).unwrap();
    sluice.run(&["load", file.to_str().unwrap()]);
}

fn run(sluice: &Sluice, args: &[&str]) -> String {
    String::from_utf8(sluice.run(args).stderr).unwrap()
}

#[test]
fn postgres_has_what_gold_has() {
    let Ok(url) = env::var("SLUICE_TEST_POSTGRES") else {
        return skipped("gold published to PostgreSQL", "needs SLUICE_TEST_POSTGRES");
    };
    let schema = Services::run_name().replace('-', "_");
    let sluice = shop(&[&format!("publish.postgres.url={url}"), &format!("publish.postgres.schema={schema}")]);
    let mut client = Client::connect(&url, NoTls).unwrap();
    let mut rows = |sql: &str| -> Vec<String> {
        let rows = client.query(&sql.replace("$", &format!("{schema}.")), &[]).unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    };
    let told = run(&sluice, &["gold", "run"]);
    assert!(told.contains("5 tables published, 0 there already, 0 failed"), "{told}");
    let months = "SELECT month || ' ' || revenue || ' ' || orders FROM $monthly_revenue ORDER BY 1";
    assert_eq!(rows(months), ["2024-03 15.0000 2", "2024-04 2.0000 1"]);
    let ledger = "SELECT name || ' ' || row_count || ' ' || changed || ' ' || (publish_lag_seconds BETWEEN 0 AND 300)::text \
                  FROM $published WHERE name = 'monthly_revenue'";
    assert_eq!(rows(ledger), ["monthly_revenue 2 2 true"]);

    // Again, nothing is touched: the rows are those of the same transaction.
    let touched = "SELECT DISTINCT xmin::text FROM $monthly_revenue";
    let before = rows(touched);
    assert!(run(&sluice, &["gold", "run"]).contains("0 tables published, 5 there already"));
    assert!(run(&sluice, &["gold", "publish"]).contains("5 tables published"));
    assert_eq!(rows(touched), before);

    load(&sluice, "achats-2.csv", MORE);
    run(&sluice, &["gold", "run"]);
    assert_eq!(rows(months), ["2024-03 15.0000 2", "2024-04 3.2500 2"]);
    assert_eq!(
        rows("SELECT changed::text FROM $published WHERE name = 'monthly_revenue'"),
        ["1"],
        "March stays as it was"
    );

    // Another text has other columns and another key; what the table has of the old ones goes.
    let folder = sluice.path("models/gold/facts");
    std::fs::create_dir_all(&folder).unwrap();
    let model = "-- title: Revenue by month\n-- key: month\nSELECT to_char(order_time, '%Y-%m') AS month, \
                 CAST(sum(amount) AS DOUBLE) AS revenue, max(order_time) AS last_order FROM orders GROUP BY 1";
    std::fs::write(folder.join("fact_revenue_month.sql"), model).unwrap();
    run(&sluice, &["gold", "run", "fact_revenue_month"]);
    let columns = "SELECT attname::text || ' ' || format_type(atttypid, atttypmod) FROM pg_attribute \
                   WHERE attrelid = '$monthly_revenue'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY 1";
    let expected = ["last_order timestamp with time zone", "month text", "revenue double precision"];
    assert_eq!(rows(columns), expected);
    assert_eq!(rows("SELECT month || ' ' || revenue FROM $monthly_revenue ORDER BY 1"), ["2024-03 15", "2024-04 3.25"]);

    // What somebody else has made is left alone, and told; the others are published all the same.
    rows("CREATE TABLE $mine (a int) ");
    let output = sluice.output(&["gold", "publish", "--set", "publish.postgres.tables.mine=kpi_growth"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(
        told.contains("sluice did not make it") && told.contains("5 tables published, 0 there already, 1 failed"),
        "{told}"
    );
    client.batch_execute(&format!("DROP SCHEMA {schema} CASCADE")).unwrap();
}

#[test]
fn mongodb_has_what_gold_has() {
    let Ok(uri) = env::var("SLUICE_TEST_MONGO_URI") else {
        return skipped("gold published to MongoDB", "needs SLUICE_TEST_MONGO_URI");
    };
    let database = Services::run_name();
    let sluice = shop(&[&format!("publish.mongodb.uri={uri}"), &format!("publish.mongodb.database={database}")]);
    let told = run(&sluice, &["gold", "run"]);
    assert!(told.contains("5 tables published, 0 there already, 0 failed"), "{told}");
    assert!(told.contains(r#"name="monthly_revenue" table="gold.fact_revenue_month" rows=2 changed=2"#), "{told}");
    let told = run(&sluice, &["gold", "publish"]);
    assert!(told.contains(r#"name="customer_metrics" table="gold.kpi_customers" rows=2 changed=0"#), "{told}");
    load(&sluice, "achats-2.csv", MORE);
    let told = run(&sluice, &["gold", "run"]);
    assert!(told.contains(r#"name="monthly_revenue" table="gold.fact_revenue_month" rows=2 changed=1"#), "{told}");
    assert!(run(&sluice, &["gold", "run"]).contains("0 tables published, 5 there already"));
}

#[test]
fn what_cannot_be_published_is_told() {
    let sluice = shop(&[]);
    let output = sluice.output(&["gold", "publish"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && told.contains("nowhere to publish to"), "{told}");
    let nobody = "publish.postgres.url=postgres://ann:secret@127.0.0.1:1/shop";
    let output = sluice.output(&["gold", "run", "--set", nobody]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("0 tables published, 0 there already, 5 failed") && !told.contains("secret"), "{told}");
    assert_eq!(sluice.number("SELECT count(*) FROM gold.kpi_overview"), 1, "the tables are made all the same");
    let output = sluice.output(&["gold", "run", "--set", nobody, "--set", "publish.postgres.tables.x=no_such"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.code() == Some(2) && told.contains("publish.postgres.tables.x: no model makes gold.no_such"),
        "{told}"
    );
}
