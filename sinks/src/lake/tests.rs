//! Tables on disk, and in S3 when `SLUICE_TEST_S3` names one.

use super::*;
use arrow::{
    array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray},
    datatypes::{DataType, Field, Schema, TimeUnit},
    util::display::array_value_to_string,
};
use datafusion::prelude::SessionContext;
use std::{
    io::Write,
    time::{SystemTime, UNIX_EPOCH},
};

const DAY: i64 = 86_400_000;

struct Place {
    lake: Lake,
    runtime: tokio::runtime::Runtime,
    _dir: tempfile::TempDir,
}

pub(super) fn shipped() -> LakeConfig {
    let mut settings: toml::Table = toml::from_str(include_str!("../../../sluice.toml")).unwrap();
    settings.remove("lake").unwrap().try_into().unwrap()
}

fn place(change: impl FnOnce(&mut LakeConfig)) -> Place {
    let dir = tempfile::tempdir().unwrap();
    let mut config = shipped();
    for (bucket, place) in [("b", &mut config.bronze), ("s", &mut config.silver), ("g", &mut config.gold)] {
        *place = dir.path().join(bucket).display().to_string();
    }
    change(&mut config);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    Place { lake: Lake::new(config, runtime.handle().clone()), runtime, _dir: dir }
}

/// On disk, and on S3 when there is one.
fn places() -> Vec<Place> {
    let mut places = vec![place(|_| {})];
    match std::env::var("SLUICE_TEST_S3") {
        Ok(endpoint) => {
            let moment = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
            places.push(place(|config| {
                config.s3.endpoint = endpoint;
                config.s3.allow_http = true;
                for (bucket, place) in
                    [("bronze", &mut config.bronze), ("silver", &mut config.silver), ("gold", &mut config.gold)]
                {
                    *place = format!("s3://{bucket}/lake-test-{moment}");
                }
            }));
        }
        Err(_) => {
            let _ = writeln!(std::io::stderr(), "SKIPPED lake tables on S3: needs SLUICE_TEST_S3");
        }
    }
    places
}

fn spec(fields: &[(&str, DataType, bool)]) -> TableSpec {
    let mut all: Vec<Field> = fields.iter().map(|(name, t, null)| Field::new(*name, t.clone(), *null)).collect();
    all.push(Field::new("time", DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), false));
    TableSpec {
        bucket: Bucket::Silver,
        path: "things".to_owned(),
        name: "silver.things".to_owned(),
        schema: Arc::new(Schema::new(all)),
        partition: Some(DatePartition { column: "day", from: "time" }),
        follows: true,
    }
}

fn things() -> TableSpec {
    spec(&[("_partition", DataType::Int32, true), ("_offset", DataType::Int64, false)])
}

fn rows(spec: &TableSpec, columns: Vec<ArrayRef>, times: Vec<i64>) -> RecordBatch {
    let mut all = columns;
    all.push(Arc::new(TimestampMillisecondArray::from(times).with_timezone("UTC")));
    RecordBatch::try_new(spec.schema.clone(), all).unwrap()
}

fn offsets(partition: i32, range: std::ops::Range<i64>, day: i64) -> RecordBatch {
    let count = usize::try_from(range.end - range.start).unwrap();
    let columns: Vec<ArrayRef> =
        vec![Arc::new(Int32Array::from(vec![partition; count])), Arc::new(Int64Array::from_iter_values(range))];
    rows(&things(), columns, vec![day * DAY; count])
}

fn read(place: &Place, sql: &str) -> Vec<String> {
    let (_, table) = place.lake.existing(Bucket::Silver, "").unwrap().remove(0);
    let context = SessionContext::new();
    table.update_datafusion_session(&context.state()).unwrap();
    let mut lines = Vec::new();
    place.runtime.block_on(async {
        context.register_table("things", Arc::new(table.table_provider().build().await.unwrap())).unwrap();
        for batch in context.sql(sql).await.unwrap().collect().await.unwrap() {
            for row in 0..batch.num_rows() {
                let values: Vec<String> =
                    batch.columns().iter().map(|c| array_value_to_string(c, row).unwrap()).collect();
                lines.push(values.join(","));
            }
        }
    });
    lines
}

fn kept(place: &Place) -> KeptTable {
    place.lake.kept_tables().unwrap().remove(0)
}

#[test]
fn two_writers_of_different_partitions_both_commit_and_of_one_partition_only_the_first() {
    for place in places() {
        let (mut a, mut b) = (place.lake.table(things()).unwrap(), place.lake.table(things()).unwrap());
        // Both have looked at the table before either commits, again and again.
        for round in 0..5 {
            for (partition, writer) in [(0, &mut a), (1, &mut b)] {
                assert_eq!(writer.committed(&format!("g/t/{partition}")).unwrap(), (round > 0).then(|| round * 10 - 1));
                writer.write(&offsets(partition, round * 10..round * 10 + 10, 1)).unwrap();
                writer.cover(&format!("g/t/{partition}"), round * 10 + 9);
            }
            a.commit().unwrap();
            b.commit().unwrap();
        }
        let sums =
            "SELECT _partition, count(*), count(DISTINCT _offset), max(_offset) FROM things GROUP BY 1 ORDER BY 1";
        assert_eq!(read(&place, sums), ["0,50,50,49", "1,50,50,49"]);
        // Another owner of partition 0, which `a` has not heard of.
        let mut zombie = place.lake.table(things()).unwrap();
        assert_eq!(zombie.committed("g/t/0").unwrap(), Some(49));
        for writer in [&mut a, &mut zombie] {
            writer.write(&offsets(0, 50..60, 1)).unwrap();
            writer.cover("g/t/0", 59);
        }
        a.commit().unwrap();
        let refused = zombie.commit().unwrap_err();
        assert!(matches!(refused, LakeError::Fenced { .. }), "{refused}");
        assert_eq!(read(&place, sums), ["0,60,60,59", "1,50,50,49"]);
    }
}

#[test]
fn two_owners_that_commit_at_the_same_moment_are_one_in_the_end() {
    for place in places() {
        drop(place.lake.table(things()).unwrap());
        let outcomes: Vec<Result<CommitStats, LakeError>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..6)
                .map(|_| {
                    let lake = place.lake.clone();
                    scope.spawn(move || {
                        let mut table = lake.table(things())?;
                        table.committed("g/t/0")?;
                        table.write(&offsets(0, 0..10, 1))?;
                        table.cover("g/t/0", 9);
                        table.commit()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        // Who opened it after the first commit fences itself as well: it expected nothing and found something.
        let won = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        for lost in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
            assert!(matches!(lost, LakeError::Fenced { .. }), "{lost}");
        }
        // One who came later, and saw the first commit, wrote the rows again: nobody told it not to.
        let late = read(&place, "SELECT count(*) FROM things")[0].parse::<usize>().unwrap() / 10;
        assert_eq!(won, late.max(1));
    }
}

#[test]
fn a_table_follows_the_columns_of_another_version_and_old_files_stay_readable() {
    let place = place(|_| {});
    let first = spec(&[("name", DataType::Utf8, false), ("count", DataType::Int64, true)]);
    let mut table = place.lake.table(first.clone()).unwrap();
    let name = || -> ArrayRef { Arc::new(StringArray::from(vec!["a"])) };
    table.write(&rows(&first, vec![name(), Arc::new(Int64Array::from(vec![1]))], vec![0])).unwrap();
    table.commit().unwrap();
    // Added, reordered, narrower than the table's, and one removed that may be null.
    let second =
        spec(&[("added", DataType::Utf8, true), ("name", DataType::Utf8, false), ("count", DataType::Int32, true)]);
    let mut newer = place.lake.table(second.clone()).unwrap();
    let columns = || -> Vec<ArrayRef> { vec![name(), name(), Arc::new(Int32Array::from(vec![2]))] };
    newer.write(&rows(&second, columns(), vec![DAY])).unwrap();
    newer.commit().unwrap();
    // The older one goes on beside it, as in an upgrade one worker at a time.
    table.write(&rows(&first, vec![name(), Arc::new(Int64Array::from(vec![3]))], vec![DAY])).unwrap();
    table.commit().unwrap();
    let third = spec(&[("name", DataType::Utf8, false)]);
    let mut last = place.lake.table(third.clone()).unwrap();
    last.write(&rows(&third, vec![name()], vec![2 * DAY])).unwrap();
    last.commit().unwrap();
    let all = "SELECT name, count, added, day FROM things ORDER BY day, count";
    let expected = ["a,1,,1970-01-01", "a,2,a,1970-01-02", "a,3,,1970-01-02", "a,,,1970-01-03"];
    assert_eq!(read(&place, all), expected);
    // Files of all ages are merged into one.
    assert_eq!(kept(&place).shape().unwrap().days["1970-01-02"].sizes.len(), 2);
    for day in ["1970-01-01", "1970-01-02", "1970-01-03"] {
        kept(&place).compact(day, Merge::Full(1 << 30), || true).unwrap();
    }
    assert_eq!(read(&place, all), expected);
    // Columns that are those of a text: another text is another table.
    let mut fixed = spec(&[("name", DataType::Utf8, false), ("more", DataType::Utf8, true)]);
    fixed.follows = false;
    let refused = place.lake.table(fixed).err().unwrap().to_string();
    assert!(refused.contains("column added is a string in the table and missing now"), "{refused}");
    // What would change old rows is refused, and named.
    let wrong = spec(&[("name", DataType::Int64, false)]);
    let refused = place.lake.table(wrong).err().unwrap().to_string();
    assert!(refused.contains("column name is a string in the table and a long now"), "{refused}");
}

#[test]
fn merging_dropping_and_removing_keep_what_is_committed() {
    for place in places() {
        let spec = things();
        let mut table = place.lake.table(spec).unwrap();
        for commit in 0..12 {
            let day = 20_000 + commit / 4;
            table.committed("g/t/0").unwrap();
            table.write(&offsets(0, commit * 10..commit * 10 + 10, day)).unwrap();
            table.cover("g/t/0", commit * 10 + 9);
            table.count("g/t/0", 1);
            table.commit().unwrap();
        }
        let sums = "SELECT count(*), count(DISTINCT _offset), min(_offset), max(_offset) FROM things";
        assert_eq!(read(&place, sums), ["120,120,0,119"]);
        let mut table = kept(&place);
        assert_eq!(table.shape().unwrap().files(), 12);
        for day in table.shape().unwrap().days.keys() {
            let done = table.compact(day, Merge::Full(1 << 30), || true).unwrap();
            assert_eq!((done.removed, done.added), (4, 1));
        }
        assert_eq!(read(&place, sums), ["120,120,0,119"]);
        let shape = table.shape().unwrap();
        assert_eq!((shape.files(), shape.rows), (3, 120));
        assert_eq!(table.counted("g/t/0").unwrap(), Some(12));
        // Nothing to do is no commit.
        let version = shape.version;
        table.compact("2024-10-04", Merge::Full(1 << 30), || true).unwrap();
        assert_eq!(table.shape().unwrap().version, version);
        let removed = table.vacuum(std::time::Duration::ZERO, true).unwrap();
        assert_eq!(removed.len(), 12);
        assert_eq!(table.vacuum(std::time::Duration::ZERO, false).unwrap().len(), 12);
        let week = std::time::Duration::from_secs(7 * 86_400);
        assert_eq!(table.trim_log(1, week).unwrap(), 0, "the log is young");
        assert_eq!(table.shape().unwrap().log_tail, 0);
        assert_eq!(read(&place, sums), ["120,120,0,119"]);
        // The mark of the offsets outlives all of it.
        let mut writer = place.lake.table(things()).unwrap();
        assert_eq!(writer.committed("g/t/0").unwrap(), Some(119));
        let operations: Vec<String> = kept(&place).history(100).unwrap().into_iter().map(|c| c.operation).collect();
        assert_eq!(operations.iter().filter(|o| *o == "OPTIMIZE").count(), 3, "{operations:?}");
    }
}

#[test]
fn days_that_are_old_enough_are_dropped_and_the_last_offset_of_them_is_told() {
    let days = "20d";
    let retain = |config: &mut LakeConfig| {
        let kept = Retention(humantime::parse_duration(days).unwrap());
        config.retain = [("silver.things".to_owned(), kept)].into();
    };
    let place = place(retain);
    let mut table = place.lake.table(things()).unwrap();
    for day in 0..40 {
        table.write(&offsets(3, day * 10..day * 10 + 10, 20_000 + day)).unwrap();
        table.cover("g/t/3", day * 10 + 9);
        table.commit().unwrap();
    }
    let now = 20_039 * DAY + DAY / 2;
    let mut table = kept(&place);
    let would = table.retain(now, true).unwrap();
    assert_eq!((would.days.len(), would.rows, table.shape().unwrap().rows), (19, 190, 400));
    assert_eq!(table.retain(now, false).unwrap(), would);
    assert_eq!(read(&place, "SELECT count(*), min(_offset) FROM things"), ["210,190"]);
    assert_eq!((table.retained_upto(3).unwrap(), table.retained_upto(0).unwrap()), (Some(189), None));
    assert!(table.retain(now, false).unwrap().days.is_empty());
    assert_eq!(place.lake.table(things()).unwrap().committed("g/t/3").unwrap(), Some(399));
}

#[test]
fn an_upsert_adds_replaces_and_repeats_itself_without_a_commit() {
    let place = place(|_| {});
    let mut spec = spec(&[("id", DataType::Utf8, false), ("value", DataType::Utf8, true)]);
    spec.partition = None;
    let staged = |rows_of: &[(&str, Option<&str>)]| {
        let mut staged = Staging::new(&spec).unwrap();
        let ids: ArrayRef = Arc::new(rows_of.iter().map(|(id, _)| Some(*id)).collect::<StringArray>());
        let values: ArrayRef = Arc::new(rows_of.iter().map(|(_, value)| *value).collect::<StringArray>());
        staged.write(&rows(&spec, vec![ids, values], vec![0; rows_of.len()])).unwrap();
        staged
    };
    let upsert = |rows: &[(&str, Option<&str>)], app: &str, again: Again| {
        let done = place.lake.upsert(spec.clone(), "id", &["value"], staged(rows), app, again).unwrap();
        (done.added, done.changed)
    };
    assert_eq!(upsert(&[("a", Some("1")), ("b", None)], "first", Again::Nothing), (2, 0));
    let more = [("a", Some("1")), ("b", Some("2")), ("c", Some("3"))];
    assert_eq!(upsert(&more, "second", Again::Nothing), (1, 1));
    // The first ones again: what came since stands.
    let version = kept(&place).shape().unwrap().version;
    let first = [("a", Some("1")), ("b", None), ("d", Some("4"))];
    assert_eq!(upsert(&first, "first", Again::Nothing), (0, 0));
    assert_eq!(upsert(&more, "second", Again::NewKeys), (0, 0));
    assert_eq!(kept(&place).shape().unwrap().version, version);
    // Rows that change nothing are known to have come.
    assert_eq!(upsert(&more, "third", Again::Nothing), (0, 0));
    assert_eq!(upsert(&[("c", Some("9"))], "third", Again::Nothing), (0, 0));
    assert_eq!(read(&place, "SELECT id, value FROM things ORDER BY id"), ["a,1", "b,2", "c,3"]);
    assert_eq!(upsert(&first, "first", Again::NewKeys), (1, 0));
    assert_eq!(read(&place, "SELECT id, value FROM things ORDER BY id"), ["a,1", "b,2", "c,3", "d,4"]);
}

#[test]
fn of_two_that_write_the_same_files_anew_one_does_and_no_row_is_twice() {
    for place in places() {
        let mut table = place.lake.table(things()).unwrap();
        for commit in 0..6 {
            table.write(&offsets(0, commit * 10..commit * 10 + 10, 20_000)).unwrap();
            table.commit().unwrap();
        }
        // Both see six files; a writer adds one more in between.
        let (mut one, mut two) = (kept(&place), kept(&place));
        assert_eq!(one.compact("2024-10-04", Merge::Full(1 << 30), || true).unwrap().removed, 6);
        table.write(&offsets(0, 60..70, 20_000)).unwrap();
        table.commit().unwrap();
        assert_eq!(two.compact("2024-10-04", Merge::Full(1 << 30), || true).unwrap(), Compacted::default());
        assert_eq!(read(&place, "SELECT count(*), count(DISTINCT _offset) FROM things"), ["70,70"]);
        two.refresh().unwrap();
        assert_eq!(two.compact("2024-10-04", Merge::Full(1 << 30), || true).unwrap().removed, 2);
        assert_eq!(read(&place, "SELECT count(*), count(DISTINCT _offset) FROM things"), ["70,70"]);
    }
}
