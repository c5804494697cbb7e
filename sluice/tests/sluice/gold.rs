//! Gold: business questions over the lake.

use crate::support::{Sluice, data, interrupt, skipped, wait_for};
use serde_json::Value;
use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::Child,
    thread,
};

/// Expected tables, and the questions that give them. The last one, of quality, is of loading.
const TABLES: [(&str, &str); 16] = [
    (
        "clv",
        "SELECT customer_id, historic, orders, first_month, months_observed, monthly_value, predictive FROM gold.kpi_clv",
    ),
    (
        "concentration",
        "SELECT customers, gini, top20_customers, top20_revenue_share, top1_revenue_share, customers_for_80_percent FROM gold.analytics_concentration",
    ),
    ("growth_month", "SELECT month, revenue, previous, growth FROM gold.kpi_growth"),
    ("products", "SELECT product, revenue, orders, customers, revenue_share, rank FROM gold.kpi_products"),
    ("retention", "SELECT cohort, period, cohort_size, active, retention FROM gold.analytics_cohorts"),
    ("retention_monthly", "SELECT month, active, retained_next, rate FROM gold.kpi_retention"),
    ("revenue_by_country", "SELECT country, revenue, orders, customers, aov FROM gold.fact_revenue_country"),
    ("revenue_by_day", "SELECT day, revenue, orders, customers, aov FROM gold.fact_revenue_day"),
    (
        "revenue_by_hour",
        "SELECT to_char(hour, '%Y-%m-%dT%H:%M:%SZ'), revenue, orders, customers, aov FROM gold.fact_revenue_hour",
    ),
    (
        "revenue_by_hour_of_day",
        "SELECT hour_of_day, revenue, orders, customers, aov FROM gold.fact_revenue_hour_of_day",
    ),
    ("revenue_by_month", "SELECT month, revenue, orders, customers, aov FROM gold.fact_revenue_month"),
    ("revenue_by_week", "SELECT week, revenue, orders, customers, aov FROM gold.fact_revenue_week"),
    ("rfm", "SELECT customer_id, recency_days, frequency, monetary, r, f, m FROM gold.kpi_rfm"),
    (
        "seasonality_month",
        "SELECT part, days, revenue, mean_daily, seasonal_index FROM gold.analytics_seasonality WHERE season = 'month'",
    ),
    (
        "seasonality_weekday",
        "SELECT part, days, revenue, mean_daily, seasonal_index FROM gold.analytics_seasonality WHERE season = 'weekday'",
    ),
    (
        "summary",
        "SELECT revenue, orders, customers, products, countries, aov, arpu, \
         to_char(first_order, '%Y-%m-%dT%H:%M:%SZ'), to_char(last_order, '%Y-%m-%dT%H:%M:%SZ'), \
         repeat_customers, repeat_rate, churned, churn_rate, monthly_retention FROM gold.kpi_overview",
    ),
];
/// What the summary has of loading, not of gold.
const OF_LOADING: [&str; 3] = ["rows_in", "clients_in", "accepted"];

/// Whether a value is the expected one to the last digit that is given.
fn is_same(found: &str, expected: &str) -> bool {
    let digits = expected.split_once('.').map_or(0, |(_, digits)| digits.len());
    found == expected || found.parse::<f64>().is_ok_and(|found| format!("{found:.digits$}") == expected)
}

fn rows(folder: &Path, table: &str) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(folder.join(format!("{table}.csv"))).unwrap();
    let rows = text.lines().skip(1).map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>());
    if !["summary", "concentration"].contains(&table) {
        return rows.collect();
    }
    // A metric a line: here they are the columns of one row.
    vec![rows.filter(|row| !OF_LOADING.contains(&&*row[0])).map(|mut row| row.remove(1)).collect()]
}

#[test]
fn real_orders_give_the_reference_tables_to_the_last_digit() {
    let Some(data) = data().map(|data| data.join("cdnow")).filter(|data| data.is_dir()) else {
        return skipped("gold over real orders", "no folder in SLUICE_TEST_DATA");
    };
    let sluice = Sluice::new();
    for file in ["clients.csv.gz", "achats.csv.gz"] {
        sluice.run(&["load", data.join(file).to_str().unwrap()]);
    }
    sluice.run(&["gold", "run"]);
    for (table, sql) in TABLES {
        // Whatever the order: the key stands first in every row.
        let (mut expected, mut found) = (rows(&data.join("expected"), table), sluice.query(sql));
        expected.sort_by_key(|row| row.join(","));
        found.sort();
        assert_eq!(found.len(), expected.len(), "{table}");
        for (found, expected) in found.iter().zip(&expected) {
            let cells: Vec<&str> = found.split(',').collect();
            let same = cells.len() == expected.len() && cells.iter().zip(expected).all(|(f, e)| is_same(f, e));
            assert!(same, "{table}: {found}, expected {}", expected.join(","));
        }
    }
    let again = String::from_utf8(sluice.run(&["gold", "run"]).stderr).unwrap();
    assert!(again.contains("0 tables made"), "nothing has changed: {again}");
    learnt_of_real_orders(&sluice);
    a_cluster_gives_the_same(&sluice);
}

/// What scikit-learn reaches on the same snapshots: `bench/ml`.
const SCIKIT_AUC: f64 = 0.8387;

fn learnt_of_real_orders(sluice: &Sluice) {
    let card = |model: &str| -> Value {
        let sql = format!("SELECT card FROM gold.ml_models WHERE model = '{model}'");
        let output = sluice.run(&["query", &sql, "--format", "json"]);
        let row: Value = serde_json::from_slice(&output.stdout).unwrap();
        serde_json::from_str(row["card"].as_str().unwrap()).unwrap()
    };
    let churn = card("ml_churn_scores");
    let best = &churn["candidates"][churn["chosen"].as_str().unwrap()];
    let auc = best["all"]["auc"].as_f64().unwrap();
    assert!(auc > SCIKIT_AUC - 0.01 && auc < SCIKIT_AUC + 0.05, "{churn:#}");
    assert_eq!(
        (&churn["data"]["last_day"], &churn["snapshots"]["test"]["rows"]),
        (&"1998-06-30".into(), &23502.into())
    );
    let scores = "SELECT count(*), count(DISTINCT model_version), min(churn_probability) > 0, max(churn_probability) < 1 \
                  FROM gold.ml_churn_scores";
    assert_eq!(sluice.query(scores), ["23502,1,true,true"]);
    // Those who bought not long ago stay more often.
    let order = "SELECT avg(churn_probability) FILTER (WHERE is_active) + 0.2 < avg(churn_probability) FILTER (WHERE NOT is_active) \
                 FROM gold.ml_churn_scores";
    assert_eq!(sluice.query(order), ["true"]);
    let segments = "SELECT segment_id, segment, count(*) FROM gold.ml_customer_segments GROUP BY segment_id, segment";
    let found = sluice.query(segments);
    assert_eq!(found.len(), 3, "{found:?}");
    sluice.run(&["gold", "run", "--full", "ml_customer_segments", "ml_churn_scores"]);
    assert_eq!(sluice.query(segments), found, "the same rows, the same segments");
    assert_eq!(sluice.number("SELECT count(*) FROM gold.ml_models"), 2, "nothing new was learnt");
}

/// A process that ends when it is dropped.
struct Node(Child);

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One scheduler and two executors make every table with the rows that this process makes.
fn a_cluster_gives_the_same(sluice: &Sluice) {
    let tables = sluice.query("SELECT table_name FROM information_schema.tables WHERE table_schema = 'gold'");
    let made_here: Vec<&String> =
        tables.iter().filter(|table| !["runs", "ml_models"].contains(&table.as_str())).collect();
    let digest = |table: &str| {
        // Sums of floats hang on the order of their rows.
        let floats = format!(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = 'gold' AND table_name = '{table}' \
             AND data_type IN ('Float64', 'Double')"
        );
        let except = match sluice.query(&floats) {
            floats if floats.is_empty() => String::new(),
            floats => format!(" EXCEPT ({})", floats.join(", ")),
        };
        sluice.digest(&format!("SELECT *{except} FROM gold.{table}"))
    };
    let here: Vec<_> = made_here.iter().map(|table| digest(table)).collect();
    let [scheduler, first, second] = free_ports();
    let url = format!("127.0.0.1:{scheduler}");
    let _scheduler = Node(sluice.command(&["gold", "scheduler", "--listen", &url]).spawn().unwrap());
    wait_for("the scheduler", || std::net::TcpStream::connect(&url).ok());
    let executor = |port: u16| {
        let listen = format!("127.0.0.1:{port}");
        let node =
            sluice.command(&["gold", "executor", "--scheduler", &url, "--listen", &listen, "--cores", "1"]).spawn();
        wait_for("an executor", || std::net::TcpStream::connect(&listen).ok());
        Node(node.unwrap())
    };
    let _executors = [executor(first), executor(second)];
    let output = sluice.run(&["gold", "run", "--full", "--engine", &format!("ballista://{url}")]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains(" 0 failed"), "{told}");
    for (table, here) in made_here.iter().zip(here) {
        assert_eq!(digest(table), here, "gold.{table}");
    }
}

/// Ports that nobody listens on, each with the next higher one.
fn free_ports<const N: usize>() -> [u16; N] {
    let mut taken = Vec::new();
    std::array::from_fn(|_| {
        loop {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            if let Some(next) =
                port.checked_add(1).and_then(|next| std::net::TcpListener::bind(("127.0.0.1", next)).ok())
            {
                taken.push((listener, next));
                return port;
            }
        }
    })
}

#[test]
fn real_events_give_the_reference_sessions_and_funnel() {
    let Some(data) = data().map(|data| data.join("rees46")).filter(|data| data.is_dir()) else {
        return skipped("gold over real events", "no folder in SLUICE_TEST_DATA");
    };
    let sluice = Sluice::new();
    sluice.run(&["up", "--replay", data.join("events.ndjson.gz").to_str().unwrap(), "--until-drained"]);
    sluice.run(&["gold", "run", "fact_funnel", "kpi_abandonment"]);
    let expected = data.join("expected/sessions_30m.parquet");
    let unlike = format!(
        "SELECT count(*), count(s.customer_id), count(e.customer_id) FROM gold.fact_sessions s \
         FULL JOIN '{}' e ON s.customer_id = CAST(e.customer_id AS VARCHAR) \
         AND to_char(s.first_event, '%Y-%m-%dT%H:%M:%S.000Z') = e.session_start \
         AND to_char(s.last_event, '%Y-%m-%dT%H:%M:%S.000Z') = e.session_end \
         AND s.events = e.events AND s.views = e.views AND s.carts = e.carts AND s.purchases = e.purchases",
        expected.display()
    );
    assert_eq!(sluice.query(&unlike), ["4519,4519,4519"], "each session has its like");
    let funnel = "SELECT f.sessions, f.viewed, f.carted, f.purchased, f.view_cart, f.view_cart_purchase, f.rate_view_cart, \
                  f.rate_cart_purchase, f.rate_overall, a.abandoned, a.abandonment_rate \
                  FROM gold.fact_funnel f JOIN gold.kpi_abandonment a ON f.day = a.day";
    let found = sluice.query(funnel);
    let expected: Vec<Vec<String>> = rows(&data.join("expected"), "funnel");
    let cells: Vec<&str> = found[0].split(',').collect();
    assert_eq!((found.len(), cells.len(), &*expected[0][0]), (1, expected[0].len() - 1, "session_30m"));
    assert!(cells.iter().zip(&expected[0][1..]).all(|(f, e)| is_same(f, e)), "{found:?}, expected {:?}", expected[0]);
}

#[test]
fn a_table_is_a_file_and_one_that_fails_fails_alone() {
    let mut sluice = Sluice::new();
    let folder = sluice.path("models/gold/kpis");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::create_dir_all(sluice.path("models/live")).unwrap();
    let models = format!("models.dir={}", sluice.path("models").display());
    sluice.set(&models);
    let clients = sluice.path("clients.csv");
    std::fs::write(&clients, "id_client,nom,email,date_inscription,pays\n7,Ann,a@example.com,2024-01-01,FR\n").unwrap();
    let orders = sluice.path("achats.csv");
    let order = |id: &str, amount: &str| format!("{id},7,2024-03-01T10:00:00Z,{amount},tea\n");
    let header = "id_achat,id_client,date_achat,montant,produit\n";
    std::fs::write(&orders, format!("{header}{}{}", order("a", "10.50"), order("b", "4.50"))).unwrap();
    sluice.run(&["load", clients.to_str().unwrap(), orders.to_str().unwrap()]);

    let write = |name: &str, sql: &str| {
        std::fs::write(folder.join(format!("{name}.sql")), format!("-- title: {name}\n-- grain: all\n{sql}\n"))
            .unwrap();
    };
    write("biggest", "SELECT max(amount) AS amount FROM orders");
    write("twice", "SELECT amount * 2 AS amount FROM gold.biggest");
    sluice.run(&["gold", "run", "twice"]);
    assert_eq!(sluice.query("SELECT amount FROM gold.twice"), ["21.0000"]);

    write("biggest", "SELECT max(amount) / (count(*) - count(*)) AS amount FROM orders");
    write("twice", "SELECT amount * 3 AS amount FROM gold.biggest");
    let output = sluice.output(&["gold", "run", "twice"]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("gold.biggest") && told.to_lowercase().contains("divide by zero"), "{told}");
    assert!(told.contains("gold.twice") && told.contains("it reads gold.biggest, which failed"), "{told}");
    assert_eq!(sluice.query("SELECT amount FROM gold.biggest"), ["10.5000"], "the last good one stays");
    assert_eq!(sluice.query("SELECT amount FROM gold.twice"), ["21.0000"], "and what was made of it");
    assert_eq!(sluice.number("SELECT count(*) FROM gold.runs WHERE outcome = 'failed' AND error IS NOT NULL"), 2);

    write("biggest", "SELECT max(no_such_column) AS amount FROM orders");
    let told = String::from_utf8(sluice.output(&["gold", "run", "biggest"]).stderr).unwrap();
    assert!(told.contains("no_such_column"), "{told}");
    write("biggest", "SELECT amount FROM gold.twice");
    write("torn", "SELECT amount FRM orders");
    write("smallest", "SELECT min(amount) AS amount FROM orders");
    let output = sluice.output(&["gold", "run"]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("in a circle: biggest, twice") && told.contains("torn.sql"), "{told}");
    assert_eq!(sluice.query("SELECT amount FROM gold.smallest"), ["4.5000"], "what is sound was made");
    assert_eq!(sluice.number("SELECT count(*) FROM gold.kpi_overview"), 1);
    let listed = String::from_utf8(sluice.run(&["gold", "list"]).stdout).unwrap();
    assert!(listed.contains("torn") && listed.contains("CANNOT RUN"), "{listed}");
}

#[test]
fn what_wants_more_memory_than_there_is_says_which_setting_bounds_it() {
    let mut sluice = Sluice::with(&["simulate.events=20000", "gold.memory_bytes_max=5000"]);
    sluice.run(&["up", "--speed", "0", "--until-drained"]);
    let output = sluice.output(&["gold", "run", "fact_orders"]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("gold.fact_orders") && told.contains("gold.memory_bytes_max"), "{told}");
    // The same rows, with enough.
    sluice.set("gold.memory_bytes_max=100000000");
    sluice.run(&["gold", "run", "fact_orders"]);
}

#[test]
fn runs_of_two_processes_follow_each_other() {
    let sluice = Sluice::new();
    let orders = sluice.path("achats.csv");
    std::fs::write(&orders, "id_achat,id_client,date_achat,montant,produit\na,7,2024-03-01T10:00:00Z,10.50,tea\n")
        .unwrap();
    let clients = sluice.path("clients.csv");
    std::fs::write(&clients, "id_client,nom,email,date_inscription,pays\n7,Ann,a@example.com,2024-01-01,FR\n").unwrap();
    sluice.run(&["load", clients.to_str().unwrap(), orders.to_str().unwrap()]);
    let both = [sluice.start(&["gold", "run"]), sluice.start(&["gold", "run"])];
    let told: Vec<String> = both
        .into_iter()
        .map(|child| {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stderr).unwrap()
        })
        .collect();
    let idle = told.iter().filter(|told| told.contains("0 tables made")).count();
    assert_eq!(idle, 1, "one makes all, the other waits and finds nothing to do: {told:#?}");
    assert_eq!(sluice.number("SELECT count(*) - count(DISTINCT model) FROM gold.runs"), 0, "each table was made once");
}

#[test]
fn the_history_of_many_runs_stays_a_few_files() {
    let sluice = Sluice::with(&["lake.maintain.compact_files=1"]);
    for _ in 0..6 {
        sluice.run(&["gold", "run", "dim_rfm", "--full"]);
    }
    assert_eq!(sluice.number("SELECT count(*) FROM gold.runs"), 6);
    let tables: Value = serde_json::from_slice(&sluice.run(&["lake", "show", "--json"]).stdout).unwrap();
    let runs = tables.as_array().unwrap().iter().find(|table| table["table"] == "gold.runs").unwrap();
    assert!(runs["files"].as_u64().unwrap() < 4, "{runs:#}");
}

#[test]
fn the_schedule_makes_tables_and_the_api_tells_of_them() {
    let settings =
        ["serve.listen=127.0.0.1:0", "gold.schedule=*/5 * * * * *", "lake.roll_age=500ms", "simulate.rate=2000"];
    let sluice = Sluice::with(&settings);
    let mut child = sluice.start(&["up"]);
    let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut lines = stderr.by_ref().map_while(Result::ok);
    let address = lines.find_map(|line| line.strip_prefix("dashboard  ")?.split_whitespace().next().map(str::to_owned));
    let address = address.unwrap();
    let reader = thread::spawn(move || stderr.map_while(Result::ok).for_each(drop));
    let get = |path: &str| -> Value {
        let body = ureq::get(format!("{address}api/v1/{path}")).call().unwrap().body_mut().read_to_string().unwrap();
        serde_json::from_str(&body).unwrap()
    };
    let overview = wait_for("orders in the overview", || {
        let overview = get("gold/kpi_overview");
        (overview["rows"][0]["orders"].as_u64()? > 0).then_some(overview)
    });
    assert!(overview["definition"].as_str().unwrap().contains("repeat_rate"), "{overview:#}");
    let revenue = overview["rows"][0]["revenue"].as_str().expect("money is text");
    assert_eq!(revenue.split_once('.').map(|(_, cents)| cents.len()), Some(4), "{revenue}");
    // It is noted after its table is there.
    let runs = wait_for("its run in the history", || {
        let runs = get("runs?model=kpi_overview");
        runs["runs"][0].is_object().then_some(runs)
    });
    assert_eq!(runs["runs"][0]["outcome"], "done", "{runs:#}");
    assert!(runs["runs"][0]["inputs"]["gold.dim_sources"].is_u64(), "{runs:#}");
    let runs = get("runs?model=fact_orders");
    assert!(runs["runs"][0]["inputs"]["silver.events"].as_u64() > Some(0), "{runs:#}");
    let names = get("gold")["tables"].as_array().unwrap().len();
    assert!(names >= 24, "{names}");
    interrupt(&child);
    assert!(child.wait().unwrap().success());
    reader.join().unwrap();
}
