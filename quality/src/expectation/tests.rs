//! Settings that make sense and settings that do not; and counts, in any split, beside a plain twin.

use super::*;
use crate::Quarantine;
use arrow::{
    array::{Int32Array, StringViewArray, TimestampMillisecondArray},
    datatypes::{Field, Schema},
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

fn tables() -> Vec<CheckedTable> {
    let event = vec![
        Field::new("id", DataType::Utf8View, false),
        Field::new("customer", DataType::Utf8View, true),
        Field::new("n", DataType::Int32, true),
        Field::new("time", DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), false),
    ];
    let event_schema = Arc::new(Schema::new(event.clone()));
    let more = |name: &str| {
        Arc::new(Schema::new([event.clone(), vec![Field::new(name, DataType::Boolean, true)]].concat())) as SchemaRef
    };
    vec![
        CheckedTable { name: "bronze", schema: more("_offset"), hard: Some(("bronze", event_schema.clone())) },
        CheckedTable { name: "silver", schema: more("is_late"), hard: Some(("bronze", event_schema)) },
        CheckedTable { name: "files", schema: more("_file"), hard: None },
    ]
}

fn compiled(toml: &str) -> Result<Vec<Expectation>, String> {
    let config: QualityConfig = toml::from_str(toml).map_err(|error| error.to_string())?;
    compile(&config, &tables()).map_err(|error| error.to_string())
}

fn one(keys: &str) -> Expectation {
    compiled(&format!("[expectations.e]\n{keys}")).unwrap().remove(0)
}

#[test]
fn what_makes_no_sense_is_refused_with_its_key_and_a_way_out() {
    for (keys, told) in [
        ("kind='validity'", "missing field `table`"),
        ("table='bronze'\nkind='validty'", "unknown variant `validty`"),
        ("table='bronze'\nkind='validity'\nrules='n > 0'", "unknown field `rules`"),
        (
            "table='bronce'\nkind='validity'\nrule='n > 0'",
            "quality.expectations.e.table: 'bronce' is not checked; there are bronze, silver, files",
        ),
        ("table='bronze'\nkind='validity'", "quality.expectations.e.rule: validity needs one"),
        (
            "table='bronze'\nkind='validity'\nrule='m > 0'",
            "quality.expectations.e.rule: line 1, column 1: there is no column 'm'",
        ),
        (
            "table='bronze'\nkind='validity'\nrule='n > 0'\ncolumn='n'",
            "quality.expectations.e.column: validity does not take it; it takes rule, at_least",
        ),
        ("table='bronze'\nkind='completeness'", "e.column: completeness needs one"),
        (
            "table='bronze'\nkind='completeness'\ncolumn='x'",
            "e.column: there is no column 'x'; there are id, customer, n, time, _offset",
        ),
        ("table='bronze'\nkind='completeness'\ncolumn='n'\nat_least=1.5", "e.at_least: 1.5 is no share"),
        ("table='bronze'\nkind='completeness'\ncolumn='n'\nat_least=nan", "e.at_least: NaN is no share"),
        ("table='bronze'\nkind='freshness'\ncolumn='time'", "e.within: freshness needs one"),
        ("table='bronze'\nkind='freshness'\ncolumn='time'\nwithin='0s'", "e.within: freshness needs one"),
        ("table='bronze'\nkind='freshness'\ncolumn='n'\nwithin='5m'", "e.column: 'n' is no time"),
        ("table='bronze'\nkind='volume'", "e.rows_at_least: volume needs it"),
        ("table='bronze'\nkind='volume'\nrows_at_least=2\nrows_at_most=1", "e.rows_at_least: 2 is more than"),
        ("table='bronze'\nkind='integrity'\ncolumn='customer'", "e.references: integrity needs it"),
        ("table='bronze'\nkind='integrity'\ncolumn='customer'\nreferences='clients.id'", "give schema.table.column"),
        (
            "table='bronze'\nkind='uniqueness'\ncolumn='id'\nseverity='hard'",
            "e.severity: uniqueness cannot be judged row by row",
        ),
        (
            "table='files'\nkind='completeness'\ncolumn='id'\nseverity='hard'",
            "e.severity: hard is possible for bronze, silver, not for files",
        ),
        (
            "table='silver'\nkind='validity'\nrule='is_late'\nseverity='hard'",
            "e.rule: line 1, column 1: there is no column 'is_late'",
        ),
        ("table='silver'\nkind='validity'\nrule='is_late'\nseverity='harsh'", "unknown variant `harsh`"),
    ] {
        let error = compiled(&format!("[expectations.e]\n{keys}")).unwrap_err();
        assert!(error.contains(told), "{keys}: {error}");
    }
    let twice = "[expectations.e]\ntable='bronze'\nkind='volume'\nrows_at_least=1\n[expectations.e]\ntable='bronze'";
    assert!(compiled(twice).unwrap_err().contains("duplicate key"));
    assert!(compiled("[expectations.\"a b\"]\ntable='bronze'\nkind='volume'\nrows_at_least=1").is_err());
    assert!(
        compiled("[expectations.e]\ntable='bronze'\nkind='volume'\nrows_at_least=1\nseverity='off'")
            .unwrap()
            .is_empty()
    );
}

#[test]
fn a_hard_expectation_is_measured_where_its_rows_still_are() {
    let hard = one("table='silver'\nkind='validity'\nrule='n > 0'\nseverity='hard'");
    assert_eq!((hard.table.as_str(), hard.at_least), ("bronze", Some(1.0)));
}

fn batch(rows: usize, random: &mut ChaCha8Rng) -> RecordBatch {
    let text = |prefix: &str, n: u32| format!("{prefix}{n}");
    let ids: Vec<String> = (0..rows).map(|_| text("event-", random.random_range(0..rows as u32 * 4 + 1))).collect();
    let customers: Vec<Option<String>> = (0..rows)
        .map(|_| match random.random_range(0..10) {
            0 => None,
            1 => Some(String::new()),
            n => Some(text("c", n)),
        })
        .collect();
    let numbers: Vec<Option<i32>> =
        (0..rows).map(|_| (!random.random_bool(0.1)).then(|| random.random_range(-2..8))).collect();
    let times: Vec<i64> = (0..rows).map(|_| random.random_range(0..1_000_000)).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringViewArray::from_iter_values(ids)),
        Arc::new(StringViewArray::from_iter(customers)),
        Arc::new(Int32Array::from(numbers)),
        Arc::new(TimestampMillisecondArray::from(times).with_timezone("UTC")),
        Arc::new(arrow::array::BooleanArray::from(vec![None; rows])),
    ];
    RecordBatch::try_new(tables()[0].schema.clone(), columns).unwrap()
}

const ALL_KINDS: &str = "
    [expectations.a_there]
    table='bronze'\nkind='completeness'\ncolumn='customer'\nat_least=0.8
    [expectations.b_once]
    table='bronze'\nkind='uniqueness'\ncolumn='id'\nat_least=0.9
    [expectations.c_holds]
    table='bronze'\nkind='validity'\nrule='n > 0'\nat_least=0.5\nseverity='hard'
    [expectations.d_fresh]
    table='bronze'\nkind='freshness'\ncolumn='time'\nwithin='1m'
    [expectations.e_rows]
    table='bronze'\nkind='volume'\nrows_at_least=100\nrows_at_most=2000
    [expectations.f_known]
    table='bronze'\nkind='integrity'\ncolumn='customer'\nreferences='silver.customers.id'\nat_least=0.5";

/// The plain twin: row by row, with the standard library.
fn twin(batch: &RecordBatch, known: &HashSet<String>) -> Vec<u64> {
    let ids = batch.column(0).as_string_view();
    let customers: Vec<Option<&str>> = batch.column(1).as_string_view().iter().collect();
    let numbers: Vec<Option<i32>> = batch.column(2).as_primitive::<arrow::datatypes::Int32Type>().iter().collect();
    vec![
        customers.iter().filter(|c| c.is_some_and(|c| !c.is_empty())).count() as u64,
        ids.iter().flatten().collect::<BTreeSet<_>>().len() as u64,
        numbers.iter().filter(|n| n.is_some_and(|n| n > 0)).count() as u64,
        customers.iter().filter(|c| c.is_none_or(|c| known.contains(c))).count() as u64,
    ]
}

#[test]
fn any_split_counts_as_the_whole_does_and_as_a_plain_twin() {
    let expectations = compiled(ALL_KINDS).unwrap();
    let known: HashSet<String> = ["c2", "c3", "c5"].map(str::to_owned).into();
    let mut keys = KeySet::default();
    keys.add(&StringViewArray::from_iter_values(&known)).unwrap();
    assert_eq!((keys.len(), keys.is_empty()), (3, false));
    let moment = Moment { now: 1_000_000, is_whole: true };
    for seed in 0..60 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let rows = random.random_range(0..3_000);
        let batch = batch(rows, &mut random);
        let mut figures = Vec::new();
        for expectation in &expectations {
            let mut whole = Tally::default();
            expectation.add(&mut whole, &batch, Some(&keys)).unwrap();
            let mut merged = Tally::default();
            let mut from = 0;
            while from < rows {
                let length = random.random_range(1..=rows - from);
                let mut part = Tally::default();
                expectation.add(&mut part, &batch.slice(from, length), Some(&keys)).unwrap();
                merged.merge(&part);
                from += length;
            }
            let figure = expectation.judge(&whole, moment);
            assert_eq!(figure, expectation.judge(&merged, moment), "seed {seed}: {}", expectation.name);
            assert_eq!(figure.rows, rows as u64);
            figures.push(figure);
        }
        let passed: Vec<u64> = figures.iter().filter_map(|figure| figure.passed).collect();
        assert_eq!(passed, twin(&batch, &known), "seed {seed}");
        for (figure, at_least) in figures.iter().zip([0.8, 0.9, 0.5]) {
            let expected = (rows > 0).then(|| figure.passed.unwrap() as f64 / rows as f64 >= at_least);
            assert_eq!(figure.ok, expected, "seed {seed}");
        }
        let newest = batch.column(3).as_primitive::<TimestampMillisecondType>().values().iter().max();
        assert_eq!(figures[3].age_seconds, newest.map(|newest| (1_000_000 - newest) as f64 / 1000.0));
        assert_eq!(figures[4].ok, Some((100..=2000).contains(&rows)));
    }
}

#[test]
fn too_few_rows_are_told_of_whole_intervals_only_and_unknown_keys_not_at_all() {
    let expectations = compiled(ALL_KINDS).unwrap();
    let (volume, integrity) = (&expectations[4], &expectations[5]);
    let mut random = ChaCha8Rng::seed_from_u64(1);
    for (rows, is_whole, ok) in [
        (10, true, Some(false)),
        (10, false, None),
        (100, false, Some(true)),
        (2001, false, Some(false)),
        (0, true, Some(false)),
    ] {
        let tally = Tally { rows, ..Tally::default() };
        assert_eq!(volume.judge(&tally, Moment { now: 0, is_whole }).ok, ok, "{rows} {is_whole}");
    }
    let mut tally = Tally::default();
    integrity.add(&mut tally, &batch(5, &mut random), None).unwrap();
    let figure = integrity.judge(&tally, Moment { now: 0, is_whole: true });
    assert_eq!((figure.rows, figure.passed, figure.ok), (5, None, None));
    assert_eq!(integrity.reference().unwrap().to_string(), "silver.customers.id");
}

#[test]
fn rows_in_quarantine_are_those_that_break_the_rule_whatever_batch_they_come_in() {
    let two = format!(
        "{ALL_KINDS}\n[expectations.aa]\ntable='silver'\nkind='completeness'\ncolumn='customer'\nseverity='hard'"
    );
    let quarantine = Quarantine::of(&compiled(&two).unwrap());
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let batch = batch(1_000, &mut random);
    let broken = |batch: &RecordBatch, from: usize| -> Vec<(usize, String)> {
        quarantine.broken(batch).iter().map(|q| (q.row + from, q.expectation.name.clone())).collect()
    };
    let customers = batch.column(1).as_string_view();
    let numbers = batch.column(2).as_primitive::<arrow::datatypes::Int32Type>();
    let expected: Vec<(usize, String)> = (0..1_000)
        .filter_map(|row| {
            let name = match (
                customers.is_null(row) || customers.value(row).is_empty(),
                numbers.is_null(row) || numbers.value(row) <= 0,
            ) {
                (true, _) => "aa",
                (false, true) => "c_holds",
                _ => return None,
            };
            Some((row, name.to_owned()))
        })
        .collect();
    use arrow::array::Array;
    assert_eq!(broken(&batch, 0), expected);
    let parts = [(0, 1), (1, 511), (512, 488)].map(|(from, length)| broken(&batch.slice(from, length), from));
    assert_eq!(parts.concat(), expected);
    assert!(Quarantine::default().broken(&batch).is_empty());
}
