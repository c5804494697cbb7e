//! What compiles, what is refused and where; and that every aggregate may be split.

use super::*;
use crate::{panes::Panes, register_batch_functions};
use arrow::array::{Array, ArrayRef, Decimal128Array, Int32Array, StringViewArray, TimestampMillisecondArray};
use arrow::util::display::array_value_to_string;
use datafusion::{datasource::MemTable, functions_aggregate::all_default_aggregate_functions, prelude::SessionContext};
use rand::{Rng, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use sluice_events::event_schema;

fn refused(text: &str) -> (Option<Place>, String) {
    match LiveModel::compile("m", text, &[]) {
        Err(ModelError::NotContinuous { place, reason, .. }) => (place, reason),
        Err(ModelError::Sql { place, message, .. }) => (place, message),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("this was to be refused: {text}"),
    }
}

const GROUP: &str = "GROUP BY tumble(event_time, INTERVAL '1 minute')";

#[test]
fn what_cannot_run_continuously_is_refused_with_its_place_and_reason() {
    for (text, place, said) in [
        (format!("SELECT count(*) AS n\nFROM events\n{GROUP}\nORDER BY n"), (4, 10), "ORDER BY"),
        (format!("SELECT count(*) AS n FROM events {GROUP}\nLIMIT 5"), (2, 7), "LIMIT"),
        (format!("SELECT count(*) AS n\nFROM events JOIN live.x ON true {GROUP}"), (2, 18), "JOIN"),
        (format!("WITH e AS (SELECT 1) SELECT count(*) FROM events {GROUP}"), (1, 1), "WITH"),
        (format!("SELECT count(*) AS n\nFROM (SELECT * FROM events) {GROUP}"), (2, 7), "events"),
        (format!("SELECT count(*) AS n FROM events\nWHERE country IN (SELECT 'FR') {GROUP}"), (2, 19), "subquery"),
        (format!("SELECT\n  array_agg(country) AS c\nFROM events {GROUP}"), (2, 3), "array_agg"),
        (format!("SELECT\n  sum(count(*)) OVER () AS c\nFROM events {GROUP}"), (2, 3), "OVER"),
        ("SELECT count(*) AS n\nFROM events".to_owned(), (1, 1), "GROUP BY"),
        ("SELECT count(*) AS n FROM events GROUP BY\n country".to_owned(), (2, 2), "must name one window"),
        (
            "SELECT count(*) AS n FROM events GROUP BY\n  tumble(event_time, INTERVAL '1 month')".to_owned(),
            (2, 3),
            "INTERVAL",
        ),
        (
            "SELECT count(*) AS n FROM events GROUP BY\n  tumble(event_time, INTERVAL '1 hour', 'Europe/Paris')"
                .to_owned(),
            (2, 3),
            "whole days",
        ),
        (
            "SELECT count(*) AS n FROM events GROUP BY hop(event_time, INTERVAL '1 hour', INTERVAL '1 minute')"
                .to_owned(),
            (1, 43),
            "slide",
        ),
        (format!("SELECT country,\n  count(*) AS window_start\nFROM events {GROUP}, country"), (2, 3), "window_start"),
        (
            "SELECT count(*) AS n\nFROM live.nothing GROUP BY tumble(window_end, INTERVAL '1 hour')".to_owned(),
            (2, 6),
            "nothing",
        ),
        (format!("SELECT count(*) AS n,\n  sum(prise) AS p FROM events {GROUP}"), (2, 7), "prise"),
        (format!("SELECT count(*) AS n FROM events\n{GROUP} HAVING )"), (2, 57), "Expected"),
        (format!("SELECT count(*) AS n\nFROM events {GROUP}, country"), (2, 22), "country must be a column of SELECT"),
        (
            "SELECT count(*) AS n FROM events GROUP BY hop(event_time, INTERVAL '1 second', INTERVAL '30 days')"
                .to_owned(),
            (1, 43),
            "windows",
        ),
        (format!("SELECT DISTINCT country FROM events {GROUP}, country"), (1, 1), "DISTINCT"),
        (format!("SELECT count(*) AS n FROM events {GROUP}\nUNION ALL SELECT 1"), (1, 1), "one SELECT"),
        (format!("SELECT count(*) AS n FROM events {GROUP};\nSELECT 1"), (2, 1), "one SELECT"),
    ] {
        let (found, reason) = refused(&text);
        assert!(reason.contains(said), "{text}\n{reason}");
        let (line, column) = place;
        assert_eq!(found, Some(Place { line, column }), "{text}\n{reason}");
    }
}

#[test]
fn a_sessions_model_cannot_be_watched_and_a_chain_can() {
    let sessions = "-- publish: lake\nSELECT customer_id, count(*) AS n FROM events GROUP BY session(event_time, INTERVAL '30 minutes'), customer_id";
    let watched = format!("-- detect: measure=n\n{sessions}");
    assert!(refused(&watched).1.contains("sessions are no series"));
    let hourly =
        "-- detect: measure=s\nSELECT count(*) AS s FROM live.sessions GROUP BY tumble(window_end, INTERVAL '1 hour')";
    let models = LiveModel::compile_all([("hourly", hourly), ("sessions", sessions)]).unwrap();
    let names: Vec<&str> = models.iter().map(|m| &*m.name).collect();
    assert_eq!(names, ["sessions", "hourly"], "each after the one it reads from");
    let other = LiveModel::compile_all([("hourly", hourly), ("sessions", &sessions.replace("30", "20"))]).unwrap();
    assert_ne!(models[1].fingerprint, other[1].fingerprint, "what it reads from is another");
    let circle = LiveModel::compile_all([
        ("a", "SELECT count(*) AS s FROM live.b GROUP BY tumble(window_end, INTERVAL '1 hour')"),
        ("b", "SELECT count(*) AS s FROM live.a GROUP BY tumble(window_end, INTERVAL '1 hour')"),
    ]);
    assert!(circle.err().unwrap().to_string().contains("circle"));
}

const START: i64 = 1_700_000_000_000;

fn events(random: &mut ChaCha8Rng, rows: usize) -> RecordBatch {
    let mut some = |values: &[Option<&str>]| -> ArrayRef {
        Arc::new((0..rows).map(|_| *values.choose(random).unwrap()).collect::<StringViewArray>())
    };
    let texts: Vec<ArrayRef> = (0..9).map(|_| some(&[Some("a"), Some("bb"), Some("ccc"), None])).collect();
    let types = some(&[Some("page_view"), Some("add_to_cart"), Some("purchase")]);
    let ids: ArrayRef = Arc::new((0..rows).map(|i| Some(format!("e{i}"))).collect::<StringViewArray>());
    let times: TimestampMillisecondArray = (0..rows).map(|_| Some(START + random.random_range(0..600_000))).collect();
    let quantity: Int32Array = (0..rows).map(|_| Some(random.random_range(1..9))).collect();
    let price: Decimal128Array =
        (0..rows).map(|_| random.random_bool(0.8).then(|| random.random_range(0..9_000_000))).collect();
    let schema = event_schema();
    let columns = schema
        .fields()
        .iter()
        .enumerate()
        .map(|(i, field)| -> ArrayRef {
            match &**field.name() {
                "event_id" => ids.clone(),
                "event_type" => types.clone(),
                "event_time" => Arc::new(times.clone().with_timezone("UTC")),
                "quantity" => Arc::new(quantity.clone()),
                "unit_price" => Arc::new(price.clone().with_precision_and_scale(18, 4).unwrap()),
                _ => texts[i % 9].clone(),
            }
        })
        .collect();
    RecordBatch::try_new(schema, columns).unwrap()
}

fn text_rows(batches: &[RecordBatch]) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let shown =
                |c: &ArrayRef| if c.is_null(row) { "null".to_owned() } else { array_value_to_string(c, row).unwrap() };
            rows.push(batch.columns().iter().map(shown).collect());
        }
    }
    rows.sort();
    rows
}

/// The panes of the model over these events: counted in pieces, serialised, merged.
fn split(model: &LiveModel, random: &mut ChaCha8Rng, events: &RecordBatch) -> Vec<Vec<String>> {
    let Window::Grid(grid) = &model.window else { panic!("no sessions here") };
    let mut slices: BTreeMap<i64, Vec<RecordBatch>> = BTreeMap::new();
    let mut from = 0;
    while from < events.num_rows() {
        let rows = random.random_range(1..200).min(events.num_rows() - from);
        for (slice, rows) in model.evaluate_slices(&events.slice(from, rows)).unwrap() {
            let mut panes = Panes::new(model).unwrap();
            panes.update(&rows, usize::MAX).unwrap();
            let states = panes.states(model).unwrap();
            let bytes = crate::arrow_bytes::to_bytes(&states).unwrap();
            let states = crate::arrow_bytes::from_bytes(&bytes, &model.state_schema).unwrap();
            assert_eq!(panes.states(model).unwrap().num_rows(), states.num_rows(), "the panes go on as they were");
            slices.entry(slice).or_default().push(states);
        }
        from += rows;
    }
    let starts: std::collections::BTreeSet<i64> = slices.keys().flat_map(|slice| grid.windows(*slice)).collect();
    let panes: Vec<RecordBatch> = starts
        .into_iter()
        .map(|start| {
            let mut merged = Panes::new(model).unwrap();
            for states in slices.range(start..grid.end(start)).flat_map(|(_, states)| states) {
                merged.merge(states, model).unwrap();
            }
            let rows = merged.len();
            let time = |millis| -> ArrayRef {
                Arc::new(TimestampMillisecondArray::from_value(millis, rows).with_timezone("UTC"))
            };
            model.finish(merged.evaluate().unwrap(), time(start), time(grid.end(start))).unwrap().0
        })
        .collect();
    text_rows(&panes)
}

fn batch_result(text: &str, events: &RecordBatch) -> Vec<Vec<String>> {
    let context = SessionContext::new();
    register_batch_functions(&context);
    let pieces: Vec<RecordBatch> =
        (0..events.num_rows()).step_by(97).map(|from| events.slice(from, 97.min(events.num_rows() - from))).collect();
    context.register_table("events", Arc::new(MemTable::try_new(events.schema(), vec![pieces]).unwrap())).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let plan = context.state().create_logical_plan(text).await.unwrap();
        let plan = LiveModel::with_window_columns(plan).unwrap();
        let frame = datafusion::dataframe::DataFrame::new(context.state(), plan);
        text_rows(&frame.collect().await.unwrap())
    })
}

fn same(text: &str, column: &OutputColumn, stream: &str, batch: &str) -> bool {
    if stream == batch {
        return true;
    }
    let (Ok(a), Ok(b)) = (stream.parse::<f64>(), batch.parse::<f64>()) else { return false };
    let tolerance = match (column.is_approximate, column.is_rounded) {
        (true, _) => 0.05,
        (false, true) => 1e-9,
        _ => panic!("{text}: {} is {stream} in the stream and {batch} in batch", column.name),
    };
    (a - b).abs() <= tolerance * a.abs().max(b.abs())
}

/// A call of each aggregate function that DataFusion has, with {} where a FILTER goes if that is not the end; none: it is
/// refused.
const AGGREGATES: [(&str, Option<&str>); 39] = [
    ("any_value", None),
    ("array_agg", None),
    ("first_value", None),
    ("last_value", None),
    ("string_agg", None),
    ("nth_value", None),
    ("grouping", None),
    ("covar_samp", Some("covar_samp(quantity, unit_price)")),
    ("covar_pop", Some("covar_pop(quantity, unit_price)")),
    ("corr", Some("corr(quantity, unit_price)")),
    ("sum", Some("sum(quantity * unit_price)")),
    ("max", Some("max(named_struct('t', event_time, 'v', country)){}['v']")),
    ("min", Some("min(unit_price)")),
    ("median", Some("median(unit_price)")),
    ("count", Some("count(DISTINCT customer_id)")),
    ("regr_slope", Some("regr_slope(quantity, unit_price)")),
    ("regr_intercept", Some("regr_intercept(quantity, unit_price)")),
    ("regr_count", Some("regr_count(quantity, unit_price)")),
    ("regr_r2", Some("regr_r2(quantity, unit_price)")),
    ("regr_avgx", Some("regr_avgx(quantity, unit_price)")),
    ("regr_avgy", Some("regr_avgy(quantity, unit_price)")),
    ("regr_sxx", Some("regr_sxx(quantity, unit_price)")),
    ("regr_syy", Some("regr_syy(quantity, unit_price)")),
    ("regr_sxy", Some("regr_sxy(quantity, unit_price)")),
    ("var", Some("var(unit_price)")),
    ("var_pop", Some("var_pop(unit_price)")),
    ("stddev", Some("stddev(unit_price)")),
    ("stddev_pop", Some("stddev_pop(unit_price)")),
    ("approx_median", Some("approx_median(CAST(unit_price AS DOUBLE))")),
    ("approx_distinct", Some("approx_distinct(customer_id)")),
    ("approx_percentile_cont", Some("approx_percentile_cont(CAST(unit_price AS DOUBLE), 0.9)")),
    (
        "approx_percentile_cont_with_weight",
        Some("approx_percentile_cont_with_weight(CAST(unit_price AS DOUBLE), quantity, 0.5)"),
    ),
    ("percentile_cont", Some("percentile_cont(CAST(unit_price AS DOUBLE), 0.25)")),
    ("bit_and", Some("bit_and(quantity)")),
    ("bit_or", Some("bit_or(quantity)")),
    ("bit_xor", Some("bit_xor(quantity)")),
    ("bool_and", Some("bool_and(quantity > 1)")),
    ("bool_or", Some("bool_or(quantity > 8)")),
    ("avg", Some("avg(unit_price)")),
];

#[test]
fn every_aggregate_of_datafusion_is_split_and_merged_to_the_batch_result_or_refused() {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let events = events(&mut random, 3_000);
    for function in all_default_aggregate_functions() {
        let known = AGGREGATES
            .iter()
            .find(|(name, _)| *name == function.name() || function.aliases().iter().any(|a| a == name));
        let Some((name, call)) = known else { panic!("DataFusion has a new aggregate: {}", function.name()) };
        let Some(call) = call else {
            let argument = if *name == "string_agg" {
                "country, ','"
            } else if *name == "nth_value" {
                "country, 2"
            } else {
                "country"
            };
            let text = format!(
                "SELECT {name}({argument}) AS x FROM events GROUP BY tumble(event_time, INTERVAL '1 minute'), country"
            );
            assert!(refused(&text).1.contains(name), "{name}");
            continue;
        };
        let call = if call.contains("{}") { (*call).to_owned() } else { format!("{call}{{}}") };
        let (all, some) = (call.replace("{}", ""), call.replace("{}", " FILTER (WHERE quantity > 3)"));
        let text = format!(
            "SELECT device, {all} AS x, {some} AS y FROM events GROUP BY tumble(event_time, INTERVAL '1 minute'), device"
        );
        compare(&text, &mut random, &events);
    }
    assert_eq!(all_default_aggregate_functions().len(), AGGREGATES.len());
}

fn compare(text: &str, random: &mut ChaCha8Rng, events: &RecordBatch) {
    let model = LiveModel::compile("m", text, &[]).unwrap_or_else(|e| panic!("{text}: {e}"));
    let stream = split(&model, random, events);
    let batch = batch_result(text, events);
    assert_eq!(stream.len(), batch.len(), "{text}");
    for (stream, batch) in stream.iter().zip(&batch) {
        assert_eq!(stream[..2], batch[..2], "{text}");
        for ((column, stream), batch) in model.columns.iter().zip(&stream[2..]).zip(&batch[2..]) {
            assert!(
                same(text, column, stream, batch),
                "{text}: {} is {stream} in the stream and {batch} in batch",
                column.name
            );
        }
    }
}

#[test]
fn every_part_of_a_query_means_in_the_stream_what_it_means_in_batch() {
    let mut random = ChaCha8Rng::seed_from_u64(2);
    let events = events(&mut random, 3_000);
    for text in [
        "SELECT upper(country) AS land, count(*) AS n FROM events WHERE quantity BETWEEN 2 AND 6 GROUP BY tumble(event_time, INTERVAL '1 minute'), upper(country) HAVING count(*) > 3",
        "SELECT count(*) AS n, sum(quantity) / nullif(count(DISTINCT device), 0) AS ratio FROM events GROUP BY hop(event_time, INTERVAL '1 minute', INTERVAL '5 minutes')",
        "SELECT device, count(*) AS n FROM events GROUP BY device, hop(event_time, INTERVAL '40 seconds', INTERVAL '100 seconds')",
        "SELECT country, 2 * count(*) + 1 AS n FROM events GROUP BY tumble(event_time, INTERVAL '1 day', 'America/New_York'), country",
        "SELECT country, sum(quantity) AS n FROM events GROUP BY hop(event_time, INTERVAL '1 day', INTERVAL '7 days', 'Europe/Paris'), country",
        "SELECT CASE WHEN quantity > 4 THEN 'many' ELSE 'few' END AS size, date_part('hour', event_time AT TIME ZONE 'Asia/Kolkata') AS h, count(*) AS n FROM events e WHERE e.device IS NOT NULL GROUP BY 1, 2, tumble(event_time, INTERVAL '2 minutes')",
        "SELECT country, min_by(device, event_time) AS first_device, max_by(quantity, unit_price) FILTER (WHERE quantity > 2) AS dearest, min_by(event_id, quantity) AS a FROM events GROUP BY tumble(event_time, INTERVAL '1 minute'), country",
        "SELECT max_by(country, event_time) AS last_country, count(*) AS n FROM events GROUP BY hop(event_time, INTERVAL '1 minute', INTERVAL '3 minutes')",
        "SELECT funnel_depth(event_time, event_type = 'page_view', event_type = 'purchase') AS depth, distinct_count(customer_id) AS c FROM events GROUP BY tumble(event_time, INTERVAL '10 seconds')",
    ] {
        compare(text, &mut random, &events);
    }
}
