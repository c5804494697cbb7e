//! Feeds: JSON of HTTP APIs, through the log into bronze and silver.
//!
//! A poller puts each answer into the topic `topics.feeds` as it came. A writer reads the topic: every answer is a row of
//! `bronze.feeds`; one that tells something new is a row of `silver.<feed>`, one that cannot be read is a dead letter. Bronze is
//! committed last, so its offset says where to go on; the others skip what they have.

use crate::{
    Config, WrongUse,
    lake_tables::{bronze_dead_letters, dead_letter_rows},
    pipeline::{Pipeline, now_millis, spawn, wait_until},
};
use anyhow::{Context, Result};
use arrow::{
    array::{
        ArrayRef, AsArray, BinaryArray, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
    },
    compute::{cast, filter_record_batch},
    datatypes::{DataType, Date32Type, Field, Schema, SchemaRef, TimeUnit},
};
use sluice_event_log::PartitionReader;
use sluice_events::{DeadLetter, LogTime, Offset, Partition, RecordBuffer, Records, Stage};
use sluice_feeds::{Api, FeedConfig, OBSERVED_AT, Round, Row, feed_schema, keys_of, round, row_of, rows_batch};
use sluice_sinks::{
    Metric,
    lake::{Bucket, DatePartition, Day, LakeError, LakeTable, TableSpec, is_transient, on_dates, read_rows},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

const TICK: Duration = Duration::from_millis(100);
/// Before going on after a failure of the store.
const PAUSE: Duration = Duration::from_secs(5);
const RECORDS_A_BATCH: usize = 500;
const OBSERVED_DATE: &str = "observed_date";
/// Headers of a record: which feed, and what was asked for.
const FEED: &str = "feed";
const ITEM: &str = "item";
const PARTITION: Partition = Partition::new(0);

/// The pollers and the writer of this process.
pub(crate) struct FeedRole {
    threads: Vec<JoinHandle<()>>,
}

impl FeedRole {
    /// Starts them, if there is any feed.
    ///
    /// # Errors
    /// When the key of a feed is not in the environment, or the topic or a table cannot be opened.
    pub fn start(pipeline: &Pipeline, runtime: &tokio::runtime::Handle, stop: &Arc<AtomicBool>) -> Result<Self> {
        let mut threads = Vec::new();
        if pipeline.config.feed.is_empty() {
            return Ok(Self { threads });
        }
        let mut writer = Writer::open(pipeline, runtime)?;
        let (again, on) = (pipeline.clone(), runtime.clone());
        for at in 0..pipeline.config.feed.len() {
            let mut poller = Poller::new(pipeline, at)?;
            let (name, stop) = (format!("feed {}", pipeline.config.feed[at].name), stop.clone());
            threads.push(spawn(name, &pipeline.failure, move || poller.follow_schedule(&stop))?);
        }
        let stop = stop.clone();
        let write = move || {
            while !stop.load(Ordering::Acquire) {
                let Err(error) = writer.step(TICK) else { continue };
                if !may_go_well(&error) {
                    return Err(error);
                }
                tracing::warn!(error = crate::causes(&error), "feeds: going on from the last commit");
                wait_until(now_millis() + PAUSE.as_millis() as i64, &stop);
                match Writer::open(&again, &on) {
                    Ok(reopened) => writer = reopened,
                    Err(error) if may_go_well(&error) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        };
        threads.push(spawn("feeds".to_owned(), &pipeline.failure, write)?);
        Ok(Self { threads })
    }

    /// Waits for their end.
    pub fn join(self) {
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

/// Asks every feed once and writes what is in the log. Says whether all items were answered.
pub(crate) fn once(pipeline: &Pipeline, runtime: &tokio::runtime::Handle, stop: &AtomicBool) -> Result<bool> {
    if pipeline.config.feed.is_empty() {
        return Err(
            WrongUse("there is no feed: a [[feed]] in the settings, as in feeds/openweather.toml".to_owned()).into()
        );
    }
    let mut writer = Writer::open(pipeline, runtime)?;
    let mut is_whole = true;
    for at in 0..pipeline.config.feed.len() {
        let round = Poller::new(pipeline, at)?.poll(stop)?;
        is_whole &= round.failed.is_empty() && !round.broken_off;
    }
    let end = pipeline.log.offsets(&pipeline.config.topics.feeds, PARTITION)?.end;
    while writer.position() < end && !stop.load(Ordering::Acquire) {
        writer.step(TICK)?;
    }
    Ok(is_whole)
}

/// Whether going on from the last commit may go well: the store failed, or another process writes these tables too.
fn may_go_well(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(LakeError::Fenced { .. })) || is_transient(error.as_ref())
}

/// Asks one feed.
struct Poller {
    pipeline: Pipeline,
    feed: usize,
    api: Api,
}

impl Poller {
    fn new(pipeline: &Pipeline, feed: usize) -> Result<Self> {
        let config = &pipeline.config.feed[feed];
        let key = match config.key_env.as_str() {
            "" => String::new(),
            name => std::env::var(name).ok().filter(|key| !key.is_empty()).ok_or_else(|| {
                WrongUse(format!("feed {}: the environment has no {name}, the key of its API", config.name))
            })?,
        };
        Ok(Self { pipeline: pipeline.clone(), feed, api: Api::new(config, key) })
    }

    /// At once, and then by its schedule.
    fn follow_schedule(&mut self, stop: &AtomicBool) -> Result<()> {
        let mut next = Some(now_millis());
        while let Some(at) = next
            && wait_until(at, stop)
        {
            let round = self.poll(stop)?;
            let left_alone = round.wait.map_or(0, |wait| now_millis() + wait.as_millis() as i64);
            next = self.config().schedule.next(now_millis().max(left_alone));
        }
        Ok(())
    }

    fn config(&self) -> &FeedConfig {
        &self.pipeline.config.feed[self.feed]
    }

    fn poll(&self, stop: &AtomicBool) -> Result<Round> {
        let (config, metrics) = (self.config(), &self.pipeline.metrics);
        let name = config.name.as_str();
        let pause = |pause: Duration| wait_until(now_millis() + pause.as_millis() as i64, stop);
        let round = round(config, |item| self.api.ask(item), pause, |item, body| self.send(item, &body))?;
        self.pipeline.log.flush()?;
        metrics.add(Metric::FeedAnswers, &[name, "answered"], round.answered as u64);
        metrics.add(Metric::FeedAnswers, &[name, "failed"], round.failed.len() as u64);
        metrics.set(Metric::FeedFailing, &[name], f64::from(u8::from(!round.failed.is_empty())));
        for (item, error) in &round.failed {
            tracing::error!(feed = name, item, %error, "no answer");
        }
        if let Some(wait) = round.wait {
            tracing::warn!(feed = name, "asked too often: leaving the API alone for {wait:?}");
        }
        tracing::info!(feed = name, answered = round.answered, failed = round.failed.len(), "feed: asked");
        Ok(round)
    }

    fn send(&self, item: &str, body: &[u8]) -> Result<()> {
        let name = &self.config().name;
        let mut records = RecordBuffer::new();
        let headers = [(FEED, name.as_bytes()), (ITEM, item.as_bytes())];
        records.push(LogTime::new(now_millis()), Some(format!("{name}|{item}").as_bytes()), Some(body), &headers);
        Ok(self.pipeline.log.append(&self.pipeline.config.topics.feeds, PARTITION, &records)?)
    }
}

/// Writes what is in the topic.
struct Writer {
    pipeline: Pipeline,
    runtime: tokio::runtime::Handle,
    reader: Box<dyn PartitionReader>,
    app: String,
    bronze: LakeTable,
    dead_letters: LakeTable,
    silver: BTreeMap<String, LakeTable>,
}

impl Writer {
    fn open(pipeline: &Pipeline, runtime: &tokio::runtime::Handle) -> Result<Self> {
        let Config { topics, process, feed, .. } = pipeline.config.as_ref();
        pipeline.log.ensure_topic(&topics.feeds, 1)?;
        let app = format!("{}/{}/0", process.group, topics.feeds);
        let mut bronze = pipeline.lake.table(bronze_feeds())?;
        let held = pipeline.log.offsets(&topics.feeds, PARTITION)?;
        let from = bronze.committed(&app)?.map_or(held.start.get(), |last| last + 1).max(held.start.get());
        let silver = feed.iter().map(|feed| Ok((feed.name.clone(), pipeline.lake.table(silver_feed(feed))?)));
        Ok(Self {
            reader: pipeline.log.reader(&topics.feeds, PARTITION, Offset::new(from))?,
            dead_letters: pipeline.lake.table(bronze_dead_letters())?,
            silver: silver.collect::<Result<_>>()?,
            pipeline: pipeline.clone(),
            runtime: runtime.clone(),
            bronze,
            app,
        })
    }

    fn position(&self) -> Offset {
        self.reader.position()
    }

    /// Writes what has come, or waits for it.
    fn step(&mut self, wait: Duration) -> Result<()> {
        let records = self.reader.next(RECORDS_A_BATCH, wait)?;
        if records.is_empty() {
            return Ok(());
        }
        let last = records.offset(records.len() - 1).get();
        let config = self.pipeline.config.clone();
        let committed = self.dead_letters.committed(&self.app)?.unwrap_or(-1);
        let mut letters = Vec::new();
        for feed in &config.feed {
            let (rows, refused) = read(feed, &records, &config.topics.feeds);
            for letter in refused.into_iter().filter(|letter| letter.position > committed) {
                let reason = letter.reason.code();
                self.pipeline.metrics.add(Metric::FeedRows, &[&feed.name, "refused"], 1);
                tracing::warn!(reason, message = letter.message, "an answer of a feed is a dead letter");
                letters.push(letter);
            }
            self.write_new(feed, rows, last)?;
        }
        if !letters.is_empty() {
            commit(&mut self.dead_letters, &dead_letter_rows(&letters)?, &self.app, last)?;
        }
        commit(&mut self.bronze, &bronze_rows(&records)?, &self.app, last)
    }

    /// Writes the rows that tell something new.
    fn write_new(&mut self, feed: &FeedConfig, rows: Vec<Row>, last: i64) -> Result<()> {
        let Some(table) = self.silver.get_mut(&feed.name) else { return Ok(()) };
        let committed = table.committed(&self.app)?.unwrap_or(-1);
        let rows: Vec<Row> = rows.into_iter().filter(|row| row.offset() > committed).collect();
        if rows.is_empty() {
            return Ok(());
        }
        let batch = rows_batch(feed, &rows)?;
        let mut known = self.known(feed, &batch)?;
        let is_new: BooleanArray = keys_of(feed, &batch)?.into_iter().map(|key| Some(known.insert(key))).collect();
        let new = filter_record_batch(&batch, &is_new)?;
        let metrics = &self.pipeline.metrics;
        metrics.add(Metric::FeedRows, &[&feed.name, "new"], new.num_rows() as u64);
        metrics.add(Metric::FeedRows, &[&feed.name, "known"], (batch.num_rows() - new.num_rows()) as u64);
        match new.num_rows() {
            0 => Ok(()),
            _ => {
                let table = self.silver.get_mut(&feed.name).context("the feed's table is open")?;
                commit(table, &new, &self.app, last)
            }
        }
    }

    /// The keys of what the feed's table has of these days.
    fn known(&self, feed: &FeedConfig, batch: &RecordBatch) -> Result<HashSet<String>> {
        let Some(table) = self.pipeline.lake.find(Bucket::Silver, &feed.name)? else { return Ok(HashSet::new()) };
        let observed = batch.column_by_name(OBSERVED_AT).context("rows say when they were observed")?;
        let days: BTreeSet<Day> =
            cast(observed, &DataType::Date32)?.as_primitive::<Date32Type>().values().iter().copied().collect();
        let there = self
            .runtime
            .block_on(async { read_rows(&table).await?.filter(on_dates(OBSERVED_DATE, &days))?.collect().await })?;
        let keys = there.iter().map(|batch| keys_of(feed, batch)).collect::<Result<Vec<_>, _>>()?;
        Ok(keys.into_iter().flatten().collect())
    }
}

fn commit(table: &mut LakeTable, rows: &RecordBatch, app: &str, last: i64) -> Result<()> {
    table.write(rows)?;
    table.cover(app, last);
    table.commit()?;
    Ok(())
}

/// The rows of a feed's answers, and the letters of those that are none.
fn read(feed: &FeedConfig, records: &Records, topic: &str) -> (Vec<Row>, Vec<DeadLetter>) {
    let (mut rows, mut letters) = (Vec::new(), Vec::new());
    for at in 0..records.len() {
        let record = records.get(at);
        if record.header(FEED) != Some(feed.name.as_bytes()) {
            continue;
        }
        let item = String::from_utf8_lossy(record.header(ITEM).unwrap_or_default());
        match row_of(feed, &item, record.time, records.offset(at), record.value.unwrap_or_default()) {
            Ok(row) => rows.push(row),
            Err(refused) => {
                let why = (Stage::Feed, refused.reason, format!("feed {}: {}", feed.name, refused.message));
                let letter = DeadLetter::of_record(why, (topic, PARTITION.get() as i32), records, at);
                // The partitions of the table are those of the events.
                letters.push(DeadLetter { partition: None, ..letter });
            }
        }
    }
    (rows, letters)
}

/// Answers as they came.
fn bronze_feeds() -> TableSpec {
    TableSpec {
        bucket: Bucket::Bronze,
        path: "feeds".to_owned(),
        name: "bronze.feeds".to_owned(),
        schema: bronze_schema(),
        partition: Some(DatePartition { column: "ingest_date", from: "fetched_at" }),
        follows: true,
    }
}

fn silver_feed(feed: &FeedConfig) -> TableSpec {
    TableSpec {
        bucket: Bucket::Silver,
        path: feed.name.clone(),
        name: format!("silver.{}", feed.name),
        schema: feed_schema(feed),
        partition: Some(DatePartition { column: OBSERVED_DATE, from: OBSERVED_AT }),
        follows: true,
    }
}

fn bronze_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("feed", DataType::Utf8, true),
        Field::new("item", DataType::Utf8, true),
        Field::new("fetched_at", DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), false),
        Field::new("body", DataType::Binary, true),
        Field::new("_offset", DataType::Int64, false),
    ]))
}

fn bronze_rows(records: &Records) -> Result<RecordBatch> {
    let all = || (0..records.len()).map(|at| records.get(at));
    let text = |name: &'static str| -> ArrayRef {
        let texts = all().map(|record| record.header(name).map(|text| String::from_utf8_lossy(text).into_owned()));
        Arc::new(texts.collect::<StringArray>())
    };
    let times = TimestampMillisecondArray::from_iter_values(all().map(|record| record.time.get())).with_timezone("UTC");
    let offsets = Int64Array::from_iter_values((0..records.len()).map(|at| records.offset(at).get()));
    let bodies = all().map(|record| record.value).collect::<BinaryArray>();
    let columns = vec![text(FEED), text(ITEM), Arc::new(times), Arc::new(bodies), Arc::new(offsets)];
    Ok(RecordBatch::try_new(bronze_schema(), columns)?)
}
