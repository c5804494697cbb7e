//! What every event log must do, asked of the embedded log and of Kafka; then what only the embedded log promises.
//!
//! The Kafka half runs when `SLUICE_TEST_KAFKA` names bootstrap servers.

use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::mocking::MockCluster;
use rdkafka::{ClientConfig, TopicPartitionList};
use sluice_event_log::{
    AssignmentChange, EmbeddedConfig, EmbeddedLog, EventLog, FsyncPolicy, KafkaConfig, KafkaLog, LogError, Membership,
    OffsetRange, PartitionReader,
};
use sluice_events::{LogTime, Offset, Partition, RecordBuffer, Records};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A log to be tested, with what is needed to tell the two kinds apart.
struct Bed {
    log: Arc<dyn EventLog>,
    /// Offsets have no gap. Kafka's have some where a transaction ended.
    dense: bool,
    /// Topics of one run of one test, apart from all others on the same broker.
    prefix: String,
    _dir: Option<tempfile::TempDir>,
}

impl Bed {
    fn embedded() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let log = Arc::new(EmbeddedLog::open(&embedded_config(dir.path())).unwrap());
        Some(Self { log, dense: true, prefix: "t".into(), _dir: Some(dir) })
    }

    fn kafka() -> Option<Self> {
        Self::kafka_with(&[])
    }

    fn kafka_with(properties: &[(&str, &str)]) -> Option<Self> {
        let Ok(bootstrap) = std::env::var("SLUICE_TEST_KAFKA") else {
            static TOLD: Once = Once::new();
            // Past the test harness, which would keep what a passing test prints.
            let tell =
                || writeln!(std::io::stderr(), "SKIPPED: set SLUICE_TEST_KAFKA to run the suite against Kafka too");
            TOLD.call_once(|| tell().unwrap());
            return None;
        };
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("conformance-{}-{}-{number}", std::process::id(), wall_clock());
        let properties = properties.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let config = KafkaConfig { bootstrap, replication: 1, properties };
        let log = Arc::new(KafkaLog::connect(&config).unwrap());
        Some(Self { log, dense: false, prefix, _dir: None })
    }

    fn name(&self, topic: &str) -> String {
        format!("{}-{topic}", self.prefix)
    }

    fn topic(&self, topic: &str, partitions: u32) -> String {
        let name = self.name(topic);
        assert_eq!(self.log.ensure_topic(&name, partitions).unwrap(), partitions);
        name
    }
}

fn embedded_config(dir: &Path) -> EmbeddedConfig {
    EmbeddedConfig {
        dir: dir.to_owned(),
        fsync: FsyncPolicy::Interval,
        fsync_interval: Duration::from_millis(20),
        retention_age: Duration::ZERO,
        retention_bytes: 0,
    }
}

fn wall_clock() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

const P0: Partition = Partition::new(0);
const SOON: Duration = Duration::from_secs(20);

fn values(range: std::ops::Range<usize>) -> RecordBuffer {
    let mut records = RecordBuffer::new();
    for i in range {
        records.push(LogTime::new(1_000 + i as i64), Some(b"key"), Some(format!("value {i}").as_bytes()), &[]);
    }
    records
}

fn append_now(bed: &Bed, topic: &str, partition: Partition, records: &RecordBuffer) {
    bed.log.append(topic, partition, records).unwrap();
    bed.log.flush().unwrap();
}

/// Reads `count` records in steps of about `step`, or fails when they do not come.
fn read(reader: &mut dyn PartitionReader, count: usize, step: usize) -> Records {
    let deadline = Instant::now() + SOON;
    let mut all = Records::new();
    while all.len() < count {
        assert!(Instant::now() < deadline, "{} of {count} records came", all.len());
        let some = reader.next(step, Duration::from_millis(500)).unwrap();
        for (offset, record) in some.iter() {
            all.push(offset, record);
        }
        if let Some(last) = some.last_offset() {
            assert_eq!(reader.position(), last.next());
        }
    }
    assert_eq!(all.len(), count);
    all
}

fn value_texts(records: &Records) -> Vec<String> {
    records.iter().map(|(_, r)| String::from_utf8(r.value.unwrap().to_vec()).unwrap()).collect()
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

macro_rules! conformance {
    ($($behaviour:ident),* $(,)?) => {
        mod embedded {
            $(#[test] fn $behaviour() { super::Bed::embedded().iter().for_each(super::$behaviour); })*
        }
        mod kafka {
            $(#[test] fn $behaviour() { super::Bed::kafka().iter().for_each(super::$behaviour); })*
        }
    };
}

conformance! {
    a_topic_is_made_once_and_keeps_its_partitions,
    offsets_start_at_zero_and_end_after_the_last_record,
    records_come_back_in_order_with_their_times,
    a_reader_may_start_anywhere_the_partition_holds,
    small_appends_come_joined_and_large_ones_in_pieces,
    a_reader_at_the_end_waits_and_wakes_when_something_is_appended,
    a_reader_at_the_end_returns_empty_when_nothing_comes,
    null_and_empty_keys_and_values_stay_apart,
    headers_come_back_in_order_with_repeated_names_and_any_bytes,
    partitions_are_apart_and_may_be_written_at_once,
    an_offset_outside_the_partition_is_refused_with_what_it_holds,
    what_does_not_exist_is_named,
    large_values_pass_whole,
    a_record_without_a_time_gets_the_time_it_was_taken,
    an_empty_append_changes_nothing,
    the_only_member_of_a_group_is_given_every_partition_once,
}

fn a_topic_is_made_once_and_keeps_its_partitions(bed: &Bed) {
    let topic = bed.topic("once", 3);
    assert_eq!(bed.log.ensure_topic(&topic, 5).unwrap(), 3);
    assert_eq!(bed.log.partition_count(&topic).unwrap(), 3);
}

fn offsets_start_at_zero_and_end_after_the_last_record(bed: &Bed) {
    let topic = bed.topic("offsets", 2);
    let range = |start, end| OffsetRange { start: Offset::new(start), end: Offset::new(end) };
    assert_eq!(bed.log.offsets(&topic, P0).unwrap(), range(0, 0));
    append_now(bed, &topic, P0, &values(0..7));
    append_now(bed, &topic, P0, &values(7..10));
    assert_eq!(bed.log.offsets(&topic, P0).unwrap(), range(0, 10));
    assert_eq!(bed.log.offsets(&topic, Partition::new(1)).unwrap(), range(0, 0));
}

fn records_come_back_in_order_with_their_times(bed: &Bed) {
    let topic = bed.topic("order", 1);
    for i in 0..50 {
        bed.log.append(&topic, P0, &values(i * 20..(i + 1) * 20)).unwrap();
    }
    bed.log.flush().unwrap();
    let mut reader = bed.log.reader(&topic, P0, Offset::new(0)).unwrap();
    let all = read(&mut *reader, 1_000, 300);
    for (i, (offset, record)) in all.iter().enumerate() {
        if bed.dense {
            assert_eq!(offset, Offset::new(i as i64));
        }
        assert_eq!(record.time, LogTime::new(1_000 + i as i64));
        assert_eq!(record.key, Some(&b"key"[..]));
        assert_eq!(record.value, Some(format!("value {i}").as_bytes()));
    }
    assert!(all.iter().map(|(offset, _)| offset).is_sorted());
}

fn a_reader_may_start_anywhere_the_partition_holds(bed: &Bed) {
    let topic = bed.topic("anywhere", 1);
    for block in [0..10, 10..11, 11..40] {
        append_now(bed, &topic, P0, &values(block));
    }
    for from in [0, 1, 9, 10, 11, 12, 39] {
        let mut reader = bed.log.reader(&topic, P0, Offset::new(from as i64)).unwrap();
        let rest = read(&mut *reader, 40 - from, 7);
        assert_eq!(rest.offset(0), Offset::new(from as i64));
        assert_eq!(value_texts(&rest), (from..40).map(|i| format!("value {i}")).collect::<Vec<_>>());
    }
    let reader = bed.log.reader(&topic, P0, Offset::new(40)).unwrap();
    assert_eq!(reader.position(), Offset::new(40));
}

fn small_appends_come_joined_and_large_ones_in_pieces(bed: &Bed) {
    let topic = bed.topic("joined", 1);
    for i in 0..100 {
        bed.log.append(&topic, P0, &values(i..i + 1)).unwrap();
    }
    bed.log.append(&topic, P0, &values(100..5_000)).unwrap();
    bed.log.flush().unwrap();
    for step in [1, 64, 999, 100_000] {
        let mut reader = bed.log.reader(&topic, P0, Offset::new(0)).unwrap();
        let mut seen = 0;
        let deadline = Instant::now() + SOON;
        while seen < 5_000 {
            assert!(Instant::now() < deadline);
            let some = reader.next(step, Duration::from_millis(500)).unwrap();
            assert!(some.len() <= step, "{} records for {step}", some.len());
            if bed.dense && seen == 0 {
                assert_eq!(some.len(), step.min(5_000).min(if step >= 999 { some.len() } else { step }));
                assert!(some.len() >= step.min(100), "small blocks are joined");
            }
            for (_, record) in some.iter() {
                assert_eq!(record.value, Some(format!("value {seen}").as_bytes()));
                seen += 1;
            }
        }
    }
}

fn a_reader_at_the_end_waits_and_wakes_when_something_is_appended(bed: &Bed) {
    let topic = bed.topic("waits", 1);
    append_now(bed, &topic, P0, &values(0..3));
    let mut reader = bed.log.reader(&topic, P0, Offset::new(3)).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let asked = Instant::now();
            (read(&mut *reader, 1, 10), asked.elapsed())
        });
        std::thread::sleep(Duration::from_millis(100));
        append_now(bed, &topic, P0, &values(3..4));
        let (records, waited) = waiting.join().unwrap();
        assert_eq!(value_texts(&records), ["value 3"]);
        assert!(waited < SOON);
    });
}

fn a_reader_at_the_end_returns_empty_when_nothing_comes(bed: &Bed) {
    let topic = bed.topic("empty", 1);
    append_now(bed, &topic, P0, &values(0..3));
    let mut reader = bed.log.reader(&topic, P0, Offset::new(3)).unwrap();
    assert!(reader.next(10, Duration::ZERO).unwrap().is_empty());
    assert!(reader.next(10, Duration::from_millis(50)).unwrap().is_empty());
    assert_eq!(reader.position(), Offset::new(3));
}

fn null_and_empty_keys_and_values_stay_apart(bed: &Bed) {
    let topic = bed.topic("nulls", 1);
    let cases: [Option<&[u8]>; 3] = [None, Some(b""), Some(b"x")];
    let mut records = RecordBuffer::new();
    for key in cases {
        for value in cases {
            records.push(LogTime::new(1), key, value, &[]);
        }
    }
    append_now(bed, &topic, P0, &records);
    let mut reader = bed.log.reader(&topic, P0, Offset::new(0)).unwrap();
    let back = read(&mut *reader, 9, 100);
    for (i, (_, record)) in back.iter().enumerate() {
        assert_eq!((record.key, record.value), (cases[i / 3], cases[i % 3]));
    }
}

fn headers_come_back_in_order_with_repeated_names_and_any_bytes(bed: &Bed) {
    let topic = bed.topic("headers", 1);
    let headers: [(&str, &[u8]); 4] = [("source", b"file.csv"), ("", b""), ("source", b"again"), ("bytes", &[0, 255])];
    let mut records = RecordBuffer::new();
    records.push(LogTime::new(1), None, Some(b"plain"), &[]);
    records.push(LogTime::new(1), None, Some(b"headed"), &headers);
    records.push(LogTime::new(1), None, Some(b"plain"), &[]);
    append_now(bed, &topic, P0, &records);
    let mut reader = bed.log.reader(&topic, P0, Offset::new(0)).unwrap();
    let back = read(&mut *reader, 3, 100);
    assert_eq!(back.get(0).header_pairs().count(), 0);
    assert_eq!(back.get(1).header_pairs().collect::<Vec<_>>(), headers);
    assert_eq!(back.get(1).header("source"), Some(&b"file.csv"[..]));
    assert_eq!(back.get(2).header_pairs().count(), 0);
}

fn partitions_are_apart_and_may_be_written_at_once(bed: &Bed) {
    const PARTITIONS: u32 = 12;
    let topic = bed.topic("many", PARTITIONS);
    let text = |partition: u32, i: usize| format!("partition {partition} record {i}");
    std::thread::scope(|scope| {
        for partition in 0..PARTITIONS {
            let topic = &topic;
            scope.spawn(move || {
                for i in 0..100 {
                    let mut one = RecordBuffer::new();
                    one.push(LogTime::new(1), None, Some(text(partition, i).as_bytes()), &[]);
                    bed.log.append(topic, Partition::new(partition), &one).unwrap();
                }
            });
        }
    });
    bed.log.flush().unwrap();
    for partition in 0..PARTITIONS {
        let mut reader = bed.log.reader(&topic, Partition::new(partition), Offset::new(0)).unwrap();
        let expected: Vec<_> = (0..100).map(|i| text(partition, i)).collect();
        assert_eq!(value_texts(&read(&mut *reader, 100, 1_000)), expected);
    }
}

fn an_offset_outside_the_partition_is_refused_with_what_it_holds(bed: &Bed) {
    let topic = bed.topic("outside", 1);
    append_now(bed, &topic, P0, &values(0..5));
    for wrong in [-1, 6, 1_000] {
        match bed.log.reader(&topic, P0, Offset::new(wrong)).map(|_| ()) {
            Err(LogError::OutOfRange { topic: named, partition, offset, start, end }) => {
                assert_eq!((named, partition), (topic.clone(), P0));
                assert_eq!((offset, start, end), (Offset::new(wrong), Offset::new(0), Offset::new(5)));
            }
            other => panic!("offset {wrong}: {other:?}"),
        }
    }
}

fn what_does_not_exist_is_named(bed: &Bed) {
    let topic = bed.topic("exists", 2);
    let missing = bed.name("missing");
    let beyond = Partition::new(2);
    let unknown_topic = |result: Result<(), LogError>| match result {
        Err(LogError::UnknownTopic { topic }) => assert_eq!(topic, missing),
        other => panic!("{other:?}"),
    };
    unknown_topic(bed.log.partition_count(&missing).map(|_| ()));
    unknown_topic(bed.log.offsets(&missing, P0).map(|_| ()));
    unknown_topic(bed.log.append(&missing, P0, &values(0..1)));
    unknown_topic(bed.log.reader(&missing, P0, Offset::new(0)).map(|_| ()));
    let unknown_partition = |result: Result<(), LogError>| match result {
        Err(LogError::UnknownPartition { topic: named, partition }) => {
            assert_eq!((named, partition), (topic.clone(), beyond))
        }
        other => panic!("{other:?}"),
    };
    unknown_partition(bed.log.offsets(&topic, beyond).map(|_| ()));
    unknown_partition(bed.log.append(&topic, beyond, &values(0..1)));
    unknown_partition(bed.log.reader(&topic, beyond, Offset::new(0)).map(|_| ()));
}

fn large_values_pass_whole(bed: &Bed) {
    let topic = bed.topic("large", 1);
    let value = |i: u32| {
        (0..900 * 1024_u32).map(|n| (n.wrapping_mul(2_654_435_761).wrapping_add(i) >> 13) as u8).collect::<Vec<_>>()
    };
    let mut records = RecordBuffer::new();
    for i in 0..12 {
        records.push(LogTime::new(1), None, Some(&value(i)), &[]);
        records.push(LogTime::new(1), None, Some(b"small"), &[]);
    }
    append_now(bed, &topic, P0, &records);
    let mut huge = RecordBuffer::new();
    huge.push(LogTime::new(1), None, Some(&value(99).repeat(11)), &[]);
    append_now(bed, &topic, P0, &huge);
    let mut reader = bed.log.reader(&topic, P0, Offset::new(0)).unwrap();
    let back = read(&mut *reader, 25, 1_000);
    for i in 0..12 {
        assert!(back.get(2 * i).value == Some(&value(i as u32)[..]), "large value {i}");
        assert_eq!(back.get(2 * i + 1).value, Some(&b"small"[..]));
    }
    assert_eq!(back.get(24).value.map(<[u8]>::len), Some(11 * 900 * 1024));
}

fn a_record_without_a_time_gets_the_time_it_was_taken(bed: &Bed) {
    let topic = bed.topic("stamped", 1);
    let before = wall_clock();
    let mut mixed = RecordBuffer::new();
    mixed.push(LogTime::new(0), Some(b"k"), Some(b"unset"), &[("h", b"1")]);
    mixed.push(LogTime::new(42), Some(b"k"), Some(b"set"), &[]);
    append_now(bed, &topic, P0, &mixed);
    let mut unset = RecordBuffer::new();
    unset.push(LogTime::new(0), None, Some(b"unset"), &[]);
    append_now(bed, &topic, P0, &unset);
    let after = wall_clock();
    let mut reader = bed.log.reader(&topic, P0, Offset::new(0)).unwrap();
    let back = read(&mut *reader, 3, 10);
    let taken = before..=after;
    assert!(taken.contains(&back.get(0).time.get()));
    assert_eq!(back.get(0).header("h"), Some(&b"1"[..]));
    assert_eq!(back.get(1).time, LogTime::new(42));
    assert!(taken.contains(&back.get(2).time.get()));
}

fn an_empty_append_changes_nothing(bed: &Bed) {
    let topic = bed.topic("nothing", 1);
    append_now(bed, &topic, P0, &RecordBuffer::new());
    assert_eq!(bed.log.offsets(&topic, P0).unwrap(), OffsetRange::default());
}

fn the_only_member_of_a_group_is_given_every_partition_once(bed: &Bed) {
    let topic = bed.topic("only", 5);
    append_now(bed, &topic, P0, &values(0..10));
    assert!(matches!(bed.log.join(&topic, &bed.name("no-such")), Err(LogError::UnknownTopic { .. })));
    let mut member = bed.log.join(&topic, &topic).unwrap();
    let deadline = Instant::now() + SOON;
    let first = loop {
        assert!(Instant::now() < deadline, "no partition was assigned");
        if let Some(change) = member.next_change(Duration::from_millis(100)).unwrap() {
            break change;
        }
    };
    let AssignmentChange::Assigned(mut partitions) = first else { panic!("{first:?}") };
    partitions.sort_unstable();
    assert_eq!(partitions, (0..5).map(Partition::new).collect::<Vec<_>>());
    let asked = Instant::now();
    assert_eq!(member.next_change(Duration::from_millis(300)).unwrap(), None);
    assert!(asked.elapsed() >= Duration::from_millis(300), "it waits before it says that nothing changed");
}

// ---- What only Kafka does.

/// Rebalances within seconds, not within the patience that a busy cluster deserves.
const LIVELY: [(&str, &str); 2] = [("heartbeat.interval.ms", "500"), ("session.timeout.ms", "6000")];

/// What each member of a group believes to have. Two believing to have the same partition end the test.
#[derive(Default)]
struct Beliefs(Mutex<HashMap<Partition, &'static str>>);

impl Beliefs {
    fn take(&self, name: &'static str, partitions: &[Partition]) {
        let mut owners = self.0.lock().unwrap();
        for partition in partitions {
            let owner = owners.insert(*partition, name);
            assert_eq!(owner, None, "{name} was given partition {partition} while another had it");
        }
    }

    fn give(&self, name: &'static str, partitions: &[Partition]) {
        let mut owners = self.0.lock().unwrap();
        partitions.iter().for_each(|partition| assert_eq!(owners.remove(partition), Some(name)));
    }

    fn give_all(&self, name: &'static str) {
        self.0.lock().unwrap().retain(|_, owner| *owner != name);
    }

    fn count(&self, name: &str) -> usize {
        self.0.lock().unwrap().values().filter(|owner| **owner == name).count()
    }
}

/// A member that takes its time to let go, until it is told to stop.
fn work(log: &dyn EventLog, topic: &str, name: &'static str, beliefs: &Beliefs, stop: &AtomicBool) {
    let mut member = log.join(topic, topic).unwrap();
    while !stop.load(Ordering::Relaxed) {
        match member.next_change(Duration::from_millis(20)).unwrap() {
            Some(AssignmentChange::Assigned(partitions)) => beliefs.take(name, &partitions),
            Some(AssignmentChange::Revoked(partitions)) => {
                std::thread::sleep(Duration::from_millis(700));
                beliefs.give(name, &partitions);
                member.released();
            }
            Some(AssignmentChange::Lost(partitions)) => panic!("{name} lost {partitions:?}"),
            None => {}
        }
    }
    beliefs.give_all(name);
}

#[test]
fn members_share_the_partitions_and_no_two_ever_have_the_same_one() {
    Bed::kafka_with(&LIVELY).iter().for_each(members_come_and_go);
}

#[test]
fn members_share_the_partitions_by_the_newer_protocol_too() {
    Bed::kafka_with(&[("group.protocol", "consumer")]).iter().for_each(members_come_and_go);
}

fn members_come_and_go(bed: &Bed) {
    let topic = bed.topic("shared", 8);
    (0..8).for_each(|partition| append_now(bed, &topic, Partition::new(partition), &values(0..100)));
    let beliefs = Beliefs::default();
    let [stop_a, stop_b, stop_c] = [const { AtomicBool::new(false) }; 3];
    let stop = |flag: &AtomicBool| flag.store(true, Ordering::Relaxed);
    let counts = || ["a", "b", "c"].map(|name| beliefs.count(name));
    std::thread::scope(|scope| {
        // A failure must not leave the members working for ever.
        let all = StopAll([&stop_a, &stop_b, &stop_c]);
        scope.spawn(|| work(&*bed.log, &topic, "a", &beliefs, &stop_a));
        eventually("the first member has all partitions", || counts() == [8, 0, 0]);
        scope.spawn(|| work(&*bed.log, &topic, "b", &beliefs, &stop_b));
        eventually("two members have the half each", || counts() == [4, 4, 0]);
        scope.spawn(|| work(&*bed.log, &topic, "c", &beliefs, &stop_c));
        eventually("three members share", || {
            let mut counts = counts();
            counts.sort_unstable();
            counts == [2, 3, 3]
        });
        stop(&stop_b);
        eventually("two of three go on", || counts() == [4, 0, 4]);
        stop(&stop_c);
        eventually("the last has all again", || counts() == [8, 0, 0]);
        drop(all);
    });
}

struct StopAll<'a>([&'a AtomicBool; 3]);

impl Drop for StopAll<'_> {
    fn drop(&mut self) {
        self.0.iter().for_each(|flag| flag.store(true, Ordering::Relaxed));
    }
}

/// The next change, which must come.
fn change(member: &mut dyn Membership, within: Duration) -> AssignmentChange {
    member.next_change(within).unwrap().expect("a change comes in time")
}

#[test]
fn a_member_that_leaves_while_it_is_asked_to_release_is_not_waited_for() {
    let Some(bed) = Bed::kafka_with(&LIVELY) else { return };
    let topic = bed.topic("leaves", 4);
    let mut first = bed.log.join(&topic, &topic).unwrap();
    assert!(matches!(change(&mut *first, SOON), AssignmentChange::Assigned(p) if p.len() == 4));
    let mut second = bed.log.join(&topic, &topic).unwrap();
    assert!(matches!(change(&mut *first, SOON), AssignmentChange::Revoked(p) if p.len() == 2));
    assert_eq!(second.next_change(Duration::from_secs(2)).unwrap(), None, "what is not released is not given");
    let left = Instant::now();
    drop(first);
    assert!(left.elapsed() < Duration::from_secs(5), "leaving took {:?}", left.elapsed());
    let mut given = 0;
    while given < 4 {
        match change(&mut *second, SOON) {
            AssignmentChange::Assigned(partitions) => given += partitions.len(),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_member_cut_off_from_its_group_is_told_that_it_lost_all() {
    // librdkafka's own broker in this process: a real one would have to be stopped.
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("cut", 4, 1).unwrap();
    // The broker takes 3 s to make a group: a session must be longer.
    let impatient =
        [("heartbeat.interval.ms", "300"), ("session.timeout.ms", "5000"), ("reconnect.backoff.max.ms", "500")];
    let properties = impatient.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let config = KafkaConfig { bootstrap: cluster.bootstrap_servers(), replication: 1, properties };
    let log = KafkaLog::connect(&config).unwrap();
    let mut member = log.join("group", "cut").unwrap();
    let all = |change| match change {
        AssignmentChange::Assigned(partitions) | AssignmentChange::Lost(partitions) => partitions.len() == 4,
        AssignmentChange::Revoked(_) => false,
    };
    assert!(all(change(&mut *member, SOON)));
    cluster.broker_down(1).unwrap();
    let lost = change(&mut *member, SOON);
    assert!(matches!(lost, AssignmentChange::Lost(_)) && all(lost));
    cluster.broker_up(1).unwrap();
    let again = change(&mut *member, SOON);
    assert!(matches!(again, AssignmentChange::Assigned(_)) && all(again));
    cluster.broker_down(1).unwrap();
    let left = Instant::now();
    drop(member);
    assert!(left.elapsed() < SOON, "leaving took {:?}", left.elapsed());
}

#[test]
fn partitions_that_are_never_released_are_lost_before_the_group_loses_patience() {
    let Some(bed) = Bed::kafka_with(&[("session.timeout.ms", "6000"), ("max.poll.interval.ms", "6000")]) else {
        return;
    };
    let topic = bed.topic("never", 2);
    let mut first = bed.log.join(&topic, &topic).unwrap();
    assert!(matches!(change(&mut *first, SOON), AssignmentChange::Assigned(p) if p.len() == 2));
    let mut second = bed.log.join(&topic, &topic).unwrap();
    let AssignmentChange::Revoked(wanted) = change(&mut *first, SOON) else { panic!("nothing is revoked") };
    assert_eq!(change(&mut *first, Duration::from_secs(6)), AssignmentChange::Lost(wanted.clone()));
    assert_eq!(change(&mut *second, SOON), AssignmentChange::Assigned(wanted));
    // Too late, and of no meaning for a revocation to come.
    first.released();
    drop(second);
    assert!(matches!(change(&mut *first, SOON), AssignmentChange::Assigned(p) if p.len() == 1));
}

#[test]
fn a_kafka_group_shows_how_far_its_members_hint_they_are() {
    let Some(bed) = Bed::kafka_with(&[]) else { return };
    let topic = bed.topic("hinted", 2);
    let mut member = bed.log.join(&topic, &topic).unwrap();
    assert!(matches!(change(&mut *member, SOON), AssignmentChange::Assigned(p) if p.len() == 2));
    let p1 = Partition::new(1);
    // The last word counts; what is not ours (there is no partition 7) is not said.
    member.hint(&[(P0, Offset::new(5)), (p1, Offset::new(6))]);
    member.hint(&[(P0, Offset::new(7)), (Partition::new(7), Offset::new(1))]);
    let watcher: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", std::env::var("SLUICE_TEST_KAFKA").unwrap())
        .set("group.id", &topic)
        .create()
        .unwrap();
    let mut asked = TopicPartitionList::new();
    asked.add_partition_range(&topic, 0, 1);
    eventually("the group knows the offsets", || {
        let known = watcher.committed_offsets(asked.clone(), SOON).unwrap();
        let offsets: Vec<_> = known.elements().iter().map(|e| e.offset()).collect();
        offsets == [rdkafka::Offset::Offset(7), rdkafka::Offset::Offset(6)]
    });
}

#[test]
fn a_kafka_reader_whose_records_were_deleted_is_told_what_is_left() {
    // A reader that fetches one append at a time, so that it has not all of them before they are deleted.
    let one_by_one = [("queued.min.messages", "1"), ("fetch.message.max.bytes", "100")];
    let Some(bed) = Bed::kafka_with(&one_by_one) else { return };
    let topic = bed.topic("deleted", 1);
    for i in 0..10 {
        append_now(&bed, &topic, P0, &values(i * 10..(i + 1) * 10));
    }
    let mut slow = bed.log.reader(&topic, P0, Offset::new(0)).unwrap();
    let mut upto = TopicPartitionList::new();
    upto.add_partition_offset(&topic, 0, rdkafka::Offset::Offset(60)).unwrap();
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", std::env::var("SLUICE_TEST_KAFKA").unwrap()).create().unwrap();
    futures::executor::block_on(admin.delete_records(&upto, &AdminOptions::new())).unwrap();
    let left = OffsetRange { start: Offset::new(60), end: Offset::new(100) };
    eventually("the start moves", || bed.log.offsets(&topic, P0).unwrap() == left);

    // Records that the client had fetched before may still come; then the gap is told, again and again.
    let told = loop {
        match slow.next(1_000, Duration::from_millis(200)) {
            Ok(records) => assert!(records.last_offset() < Some(Offset::new(60))),
            Err(error) => break error,
        }
    };
    for error in [told, slow.next(1, Duration::ZERO).unwrap_err()] {
        assert!(
            matches!(error, LogError::OutOfRange { start, end, .. } if (start, end) == (left.start, left.end)),
            "{error}"
        );
    }
    assert!(matches!(bed.log.reader(&topic, P0, Offset::new(59)), Err(LogError::OutOfRange { .. })));
}

#[test]
fn a_record_that_kafka_cannot_take_is_an_error_that_names_broker_and_deed() {
    let Some(bed) = Bed::kafka() else { return };
    let topic = bed.topic("refused", 1);
    let mut monster = RecordBuffer::new();
    monster.push(LogTime::new(1), None, Some(&vec![1; 20 << 20]), &[]);
    let error = bed.log.append(&topic, P0, &monster).and_then(|()| bed.log.flush()).unwrap_err().to_string();
    assert!(error.starts_with("Kafka at ") && error.contains(&format!("{topic}/0")), "{error}");
    append_now(&bed, &topic, P0, &values(0..3));
    assert_eq!(bed.log.offsets(&topic, P0).unwrap().end, Offset::new(3), "the log goes on");
}

// ---- What only the embedded log promises.

#[test]
fn an_embedded_log_goes_on_where_it_was_when_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    for (round, fsync) in [FsyncPolicy::Always, FsyncPolicy::Interval, FsyncPolicy::Never].into_iter().enumerate() {
        let log = EmbeddedLog::open(&EmbeddedConfig { fsync, ..embedded_config(dir.path()) }).unwrap();
        assert_eq!(log.ensure_topic("events", 2).unwrap(), 2);
        let start = round * 30;
        assert_eq!(log.offsets("events", P0).unwrap().end, Offset::new(start as i64));
        assert_eq!(log.offsets("events", Partition::new(1)).unwrap(), OffsetRange::default());
        log.append("events", P0, &values(start..start + 10)).unwrap();
        log.append("events", P0, &values(start + 10..start + 30)).unwrap();
        log.flush().unwrap();
        let mut reader = log.reader("events", P0, Offset::new(0)).unwrap();
        let all = read(&mut *reader, start + 30, 1_000);
        assert_eq!(value_texts(&all), (0..start + 30).map(|i| format!("value {i}")).collect::<Vec<_>>());
    }
}

#[test]
fn a_second_opening_of_the_same_folder_is_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let first = EmbeddedLog::open(&embedded_config(dir.path())).unwrap();
    let error = EmbeddedLog::open(&embedded_config(dir.path())).map(|_| ()).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("another sluice process has it open"), "{text}");
    assert!(text.contains(&dir.path().display().to_string()), "{text}");
    drop(first);
    EmbeddedLog::open(&embedded_config(dir.path())).unwrap();
}

#[test]
fn a_topic_name_that_kafka_would_refuse_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(&embedded_config(dir.path())).unwrap();
    for name in ["", "a/b", "a#b", "é", &"x".repeat(201)] {
        assert!(log.ensure_topic(name, 1).is_err(), "{name}");
    }
    assert!(log.ensure_topic("fine", 0).is_err());
    assert_eq!(log.ensure_topic("fine._-9", 1).unwrap(), 1);
}

#[test]
fn a_partition_larger_than_its_limit_loses_its_oldest_blocks_and_says_so() {
    const LIMIT: u64 = 1_000_000;
    let dir = tempfile::tempdir().unwrap();
    let config = EmbeddedConfig { retention_bytes: LIMIT, ..embedded_config(dir.path()) };
    let log = EmbeddedLog::open(&config).unwrap();
    log.ensure_topic("events", 1).unwrap();
    let mut ten = RecordBuffer::new();
    for _ in 0..10 {
        ten.push(LogTime::new(1), None, Some(&[7; 10_000]), &[]);
    }
    log.append("events", P0, &ten).unwrap();
    let mut slow = log.reader("events", P0, Offset::new(0)).unwrap();
    assert_eq!(slow.next(5, Duration::ZERO).unwrap().len(), 5);
    for _ in 0..39 {
        log.append("events", P0, &ten).unwrap();
    }
    // Ten records are 100 kB and a little: nine such blocks stay below the limit.
    eventually("the start moves", || log.offsets("events", P0).unwrap().start == Offset::new(310));
    assert!(matches!(slow.next(5, Duration::ZERO), Err(LogError::OutOfRange { offset, start, .. })
        if offset == Offset::new(5) && start == Offset::new(310)));
    assert!(matches!(log.reader("events", P0, Offset::new(309)), Err(LogError::OutOfRange { .. })));
    let mut reader = log.reader("events", P0, Offset::new(310)).unwrap();
    assert_eq!(read(&mut *reader, 90, 1_000).offset(0), Offset::new(310));
    drop((reader, slow, log));

    let log = EmbeddedLog::open(&config).unwrap();
    let expected = OffsetRange { start: Offset::new(310), end: Offset::new(400) };
    assert_eq!(log.offsets("events", P0).unwrap(), expected);
}

#[test]
fn old_blocks_go_by_the_time_they_were_taken_not_by_what_their_records_say() {
    let dir = tempfile::tempdir().unwrap();
    let keep_all = EmbeddedLog::open(&embedded_config(dir.path())).unwrap();
    keep_all.ensure_topic("events", 1).unwrap();
    keep_all.append("events", P0, &values(0..10)).unwrap();
    keep_all.append("events", P0, &values(10..20)).unwrap();
    drop(keep_all);

    let hour = EmbeddedConfig { retention_age: Duration::from_secs(3_600), ..embedded_config(dir.path()) };
    let log = EmbeddedLog::open(&hour).unwrap();
    std::thread::sleep(Duration::from_millis(1_200));
    assert_eq!(log.offsets("events", P0).unwrap().start, Offset::new(0), "records of 1970, taken just now, stay");
    drop(log);

    let moment = EmbeddedConfig { retention_age: Duration::from_millis(100), ..embedded_config(dir.path()) };
    let log = EmbeddedLog::open(&moment).unwrap();
    eventually("the first block goes", || log.offsets("events", P0).unwrap().start == Offset::new(10));
    std::thread::sleep(Duration::from_millis(200));
    let kept = OffsetRange { start: Offset::new(10), end: Offset::new(20) };
    assert_eq!(log.offsets("events", P0).unwrap(), kept, "the last block stays: it knows the end");
    log.append("events", P0, &values(20..30)).unwrap();
    eventually("the second goes too", || log.offsets("events", P0).unwrap().start == Offset::new(20));
    assert_eq!(log.offsets("events", P0).unwrap().end, Offset::new(30));
}

#[test]
fn a_reader_that_follows_never_sees_a_hole_while_old_blocks_go() {
    const APPENDS: i64 = 600;
    let dir = tempfile::tempdir().unwrap();
    let config = EmbeddedConfig {
        retention_bytes: 2_000_000,
        retention_age: Duration::from_millis(40),
        ..embedded_config(dir.path())
    };
    let log = EmbeddedLog::open(&config).unwrap();
    log.ensure_topic("events", 1).unwrap();
    let log = &log;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for append in 0..APPENDS {
                let mut ten = RecordBuffer::new();
                for offset in append * 10..append * 10 + 10 {
                    ten.push(LogTime::new(1), None, Some(&offset.to_le_bytes().repeat(2_000)), &[]);
                }
                log.append("events", P0, &ten).unwrap();
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let mut reader = log.reader("events", P0, Offset::new(0)).unwrap();
        let mut jumps = 0;
        while reader.position() < Offset::new(APPENDS * 10) {
            let expected = reader.position();
            match reader.next(17, Duration::from_secs(1)) {
                Ok(records) => {
                    assert_eq!(records.offset(0), expected);
                    for (i, (offset, record)) in (0..).zip(records.iter()) {
                        assert_eq!(offset, Offset::new(expected.get() + i));
                        assert_eq!(record.value.unwrap().first_chunk(), Some(&offset.get().to_le_bytes()));
                    }
                }
                Err(LogError::OutOfRange { start, .. }) => {
                    assert!(start > expected);
                    // The start may move on between the question and the new reader.
                    reader = loop {
                        let start = log.offsets("events", P0).unwrap().start;
                        if let Ok(reader) = log.reader("events", P0, start) {
                            break reader;
                        }
                    };
                    jumps += 1;
                }
                Err(other) => panic!("{other}"),
            }
            if expected.get() % 3 == 0 {
                std::thread::sleep(Duration::from_millis(30));
            }
        }
        assert!(jumps > 0, "the reader was too quick to prove anything");
    });
}

const KILLED_DIR: &str = "SLUICE_TEST_KILLED_DIR";
const KILLED_PARTITIONS: u32 = 3;

/// The value of every record says where it must be; its length varies from 20 bytes to 200 kB.
fn placed_value(partition: u32, offset: i64) -> Vec<u8> {
    let mut value = format!("{partition}:{offset}:").into_bytes();
    let length = if offset % 500 == 0 { 200_000 } else { 20 + (offset * 37 % 400) as usize };
    value.resize(length.max(value.len()), b'.');
    value
}

/// Not a test of its own: the child of the next one. Appends until it is killed; tells what was acknowledged.
#[test]
fn the_appender_that_will_be_killed() {
    let Ok(dir) = std::env::var(KILLED_DIR) else { return };
    let log = EmbeddedLog::open(&embedded_config(Path::new(&dir))).unwrap();
    log.ensure_topic("events", KILLED_PARTITIONS).unwrap();
    let log = &log;
    std::thread::scope(|scope| {
        for partition in 0..KILLED_PARTITIONS {
            scope.spawn(move || {
                let mut next = log.offsets("events", Partition::new(partition)).unwrap().end.get();
                for size in (1..=200).cycle() {
                    let mut records = RecordBuffer::new();
                    for offset in next..next + size {
                        records.push(LogTime::new(0), None, Some(&placed_value(partition, offset)), &[]);
                    }
                    log.append("events", Partition::new(partition), &records).unwrap();
                    next += size;
                    println!("\nacknowledged {partition} {next}");
                }
            });
        }
    });
}

#[test]
fn every_acknowledged_append_survives_kill_9_without_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = vec![0; KILLED_PARTITIONS as usize];
    for appends in [1, 10, 150, 400, 800] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_appender_that_will_be_killed", "--nocapture", "--test-threads=1"])
            .env(KILLED_DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seen = 0;
        for line in lines {
            let line = line.unwrap();
            let Some(rest) = line.strip_prefix("acknowledged ") else { continue };
            // The last line may be cut by the kill: then it was not told in full, and does not count.
            let Some((partition, next)) = rest.split_once(' ') else { continue };
            let (Ok(partition), Ok(next)) = (partition.parse::<usize>(), next.parse::<i64>()) else { continue };
            acknowledged[partition] = acknowledged[partition].max(next);
            seen += 1;
            if seen == appends {
                child.kill().unwrap();
            }
        }
        assert!(seen >= appends, "the child ended by itself");
        child.wait().unwrap();

        let log = EmbeddedLog::open(&embedded_config(dir.path())).unwrap();
        for (partition, acknowledged) in (0..).zip(&acknowledged) {
            let OffsetRange { start, end } = log.offsets("events", Partition::new(partition)).unwrap();
            assert_eq!(start, Offset::new(0));
            assert!(
                end.get() >= *acknowledged,
                "partition {partition} ends at {end}, {acknowledged} were acknowledged"
            );
            let mut reader = log.reader("events", Partition::new(partition), start).unwrap();
            let mut next = 0;
            while next < end.get() {
                let some = reader.next(1_000, Duration::ZERO).unwrap();
                assert!(!some.is_empty(), "partition {partition} stops at {next} of {end}");
                for (offset, record) in some.iter() {
                    assert_eq!(offset, Offset::new(next));
                    assert!(record.value == Some(&placed_value(partition, next)[..]), "record {partition}/{next}");
                    next += 1;
                }
            }
        }
    }
}
