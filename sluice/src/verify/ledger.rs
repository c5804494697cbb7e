//! The ledger: of every record of the log, where it went. It reads partition and offset of each row, and nothing else;
//! `--deep` also proves of each event that silver left out that silver has its id.

use super::{PartitionLedger, Report};
use crate::{
    Config,
    lake_tables::{BRONZE_EVENTS, SILVER_EVENTS},
    offsets::{OffsetReader, Offsets},
};
use anyhow::Result;
use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::{Int32Type, Int64Type},
};
use datafusion::{execution::context::SessionContext, physical_plan::execute_stream_partitioned};
use futures::TryStreamExt;
use sluice_events::Partition;
use sluice_sinks::lake::{KeptTable, Lake};
use sluice_stream_processor::{LiveModel, Window};
use std::collections::{BTreeMap, BTreeSet};

/// Ranges shown of one problem.
const SHOWN_MAX: usize = 5;

/// What is read of a table, by input partition.
#[derive(Default)]
struct Read {
    offsets: BTreeMap<i32, OffsetReader>,
    /// Rows with a flag, when there is a third column.
    flagged: BTreeMap<i32, i64>,
}

impl Read {
    /// Columns `_partition`, `_offset`, and perhaps a Boolean.
    fn take(&mut self, batch: &RecordBatch) {
        let partitions = batch.column(0).as_primitive::<Int32Type>();
        let offsets = batch.column(1).as_primitive::<Int64Type>().values();
        let flags = batch.columns().get(2).map(|column| column.as_boolean());
        let mut at = 0;
        // Rows of one partition lie together.
        while at < batch.num_rows() {
            let partition = partitions.value(at);
            let end = at + partitions.values()[at..].iter().take_while(|p| **p == partition).count();
            if partitions.is_valid(at) {
                let reader = self.offsets.entry(partition).or_default();
                offsets[at..end].iter().for_each(|offset| reader.push(*offset));
                if let Some(flags) = flags {
                    *self.flagged.entry(partition).or_default() += flags.slice(at, end - at).true_count() as i64;
                }
            }
            at = end;
        }
    }

    fn merge(&mut self, other: Self) {
        for (partition, reader) in other.offsets {
            self.offsets.entry(partition).or_default().extend(reader);
        }
        for (partition, count) in other.flagged {
            *self.flagged.entry(partition).or_default() += count;
        }
    }
}

/// Reads with as many threads as there are processors.
async fn read(context: &SessionContext, sql: &str) -> Result<Read> {
    let plan = context.sql(sql).await?.create_physical_plan().await?;
    let streams = execute_stream_partitioned(plan, context.task_ctx())?;
    let tasks: Vec<_> = streams
        .into_iter()
        .map(|mut stream| {
            tokio::spawn(async move {
                let mut read = Read::default();
                while let Some(batch) = stream.try_next().await? {
                    read.take(&batch);
                }
                anyhow::Ok(read)
            })
        })
        .collect();
    let mut all = Read::default();
    for task in tasks {
        all.merge(task.await??);
    }
    Ok(all)
}

/// One set of a table, with a problem for what is there twice.
fn checked(read: &mut Read, partition: i32, above: i64, table: &str, problems: &mut Vec<String>) -> Offsets {
    let (offsets, doubles) = read.offsets.remove(&partition).unwrap_or_default().finish();
    tell(&doubles.above(above), &format!("{table}, partition {partition}"), "there twice", problems);
    offsets.above(above)
}

fn tell(offsets: &Offsets, of: &str, what: &str, problems: &mut Vec<String>) {
    if offsets.is_empty() {
        return;
    }
    let shown = offsets.ranges().iter().take(SHOWN_MAX).map(|(first, last)| match first == last {
        true => format!("{first}"),
        false => format!("{first} to {last}"),
    });
    let more = if offsets.ranges().len() > SHOWN_MAX { " and more" } else { "" };
    let shown = shown.collect::<Vec<_>>().join(", ");
    problems.push(format!("{of}: {} offsets are {what}: {shown}{more}", offsets.len()));
}

/// Fills the report with the ledger of each partition.
pub(super) async fn check(context: &SessionContext, marks: &Marks, report: &mut Report) -> Result<()> {
    let mut bronze = read(context, "SELECT _partition, _offset FROM bronze.events").await?;
    let letters = |stage: &str| {
        format!(
            "SELECT _partition, _offset FROM bronze.dead_letters WHERE stage = '{stage}' AND _partition IS NOT NULL"
        )
    };
    let mut undecodable = read(context, &letters("decode")).await?;
    let mut invalid = read(context, &letters("validate")).await?;
    let mut silver = read(context, "SELECT _partition, _offset, is_late FROM silver.events").await?;
    // Of days that silver has dropped nothing can be said.
    let mut of_kept_days = match marks.kept_from.get(SILVER_EVENTS) {
        Some(from) => {
            let kept = format!("WHERE event_time >= to_timestamp_millis({from})");
            Some(read(context, &format!("SELECT _partition, _offset FROM bronze.events {kept}")).await?)
        }
        None => None,
    };
    let readers = [&bronze, &undecodable, &invalid, &silver];
    let partitions: BTreeSet<i32> = readers.iter().flat_map(|read| read.offsets.keys()).copied().collect();
    for partition in partitions {
        let problems = &mut report.problems;
        let retained = marks.retained.get(&partition).copied();
        let above = retained.unwrap_or(-1);
        let late = silver.flagged.get(&partition).copied().unwrap_or(0);
        let bronze = checked(&mut bronze, partition, above, "bronze.events", problems);
        let undecodable = checked(&mut undecodable, partition, above, "bronze.dead_letters", problems);
        let invalid = checked(&mut invalid, partition, above, "bronze.dead_letters", problems);
        let silver = checked(&mut silver, partition, above, "silver.events", problems);
        let of = format!("partition {partition}");
        let all = bronze.union(&undecodable);
        let (Some(first), Some(last)) = (all.first(), all.last()) else { continue };
        tell(&bronze.intersection(&undecodable), &of, "both in bronze and undecodable", problems);
        tell(&all.gaps_from(retained.map_or(first, |r| r + 1)), &of, "missing", problems);
        // The tables are committed one after the other: what one has above the other's mark is on its way.
        let in_bronze = marks.bronze.get(&partition).copied().unwrap_or(i64::MAX);
        let in_silver = marks.silver.get(&partition).copied().unwrap_or(-1);
        tell(&silver.minus(&bronze).upto(in_bronze), &of, "in silver and not in bronze", problems);
        tell(&invalid.minus(&bronze).upto(in_bronze), &of, "invalid and not in bronze", problems);
        tell(&silver.intersection(&invalid), &of, "both in silver and invalid", problems);
        let mut left_out = bronze.minus(&silver).minus(&invalid);
        if let Some(kept) = &mut of_kept_days {
            left_out = left_out.intersection(&kept.offsets.remove(&partition).unwrap_or_default().finish().0);
        }
        let (duplicates, pending) = (left_out.upto(in_silver), left_out.above(in_silver));
        let is_whole = retained.is_none() && !marks.kept_from.contains_key(SILVER_EVENTS);
        let counted = marks.duplicates.get(&partition).copied().filter(|_| is_whole);
        if counted.is_some_and(|counted| counted != duplicates.len()) {
            problems.push(format!(
                "partition {partition}: bronze has {} events that silver has not and that are not invalid; the workers \
                 counted {} duplicates; --deep says which",
                duplicates.len(),
                counted.unwrap_or(0)
            ));
        }
        report.partitions.push(PartitionLedger {
            partition: i64::from(partition),
            first_offset: Some(first),
            end_offset: last + 1,
            waiting: 0,
            not_in_silver_yet: pending.len(),
            bronze: bronze.len(),
            undecodable: undecodable.len(),
            silver: silver.len(),
            late,
            duplicates: duplicates.len(),
            duplicates_counted: counted,
            retained_upto: retained,
            invalid: invalid.len(),
        });
    }
    Ok(())
}

/// Proves of each event that silver left out, and that is not invalid, that silver has its id at an earlier offset.
pub(super) async fn prove_duplicates(context: &SessionContext, marks: &Marks, report: &mut Report) -> Result<()> {
    let left_out = "SELECT b._partition AS p, b._offset AS o, b.event_id AS id FROM bronze.events b
         LEFT ANTI JOIN silver.events s ON b._partition = s._partition AND b._offset = s._offset
         LEFT ANTI JOIN (SELECT _partition, _offset FROM bronze.dead_letters WHERE stage = 'validate') d
           ON b._partition = d._partition AND b._offset = d._offset";
    let sql = format!(
        "WITH l AS ({left_out}), n AS (
           SELECT l.p, l.o, min(s._offset) AS first FROM l LEFT JOIN silver.events s
           ON s._partition = l.p AND s.event_id = l.id GROUP BY l.p, l.o)
         SELECT CAST(p AS INT), o FROM n WHERE first IS NULL OR first >= o"
    );
    let unexplained = read(context, &sql).await?;
    for (partition, reader) in unexplained.offsets {
        let above = marks.retained.get(&partition).copied().unwrap_or(-1);
        let upto = marks.silver.get(&partition).copied().unwrap_or(-1);
        let what = "in bronze and not in silver, and are neither duplicates nor invalid";
        tell(&reader.finish().0.above(above).upto(upto), &format!("partition {partition}"), what, &mut report.problems);
    }
    Ok(())
}

/// What the tables say of themselves beside their rows, by input partition. Read it before the rows: then the rows have at
/// least what it says, and what they have more is still on its way into the other tables.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    /// The last offset that bronze has dropped because it was kept long enough.
    retained: BTreeMap<i32, i64>,
    /// Duplicates that workers have counted, up to what silver covers.
    duplicates: BTreeMap<i32, i64>,
    /// The last offset that bronze and silver cover.
    bronze: BTreeMap<i32, i64>,
    silver: BTreeMap<i32, i64>,
    /// From when on (milliseconds) silver and live tables have their rows, where older ones were dropped.
    pub kept_from: BTreeMap<String, i64>,
}

impl Marks {
    /// From when on (milliseconds) the windows of a model are whole in its table, where older days were dropped.
    pub fn live_from(&self, model: &LiveModel) -> Option<i64> {
        let kept = |name: &str| self.kept_from.get(&format!("live.{name}")).copied();
        let size = match &model.window {
            Window::Grid(grid) => grid.size(),
            Window::Session { gap } => *gap,
        };
        let of_upstream = model.upstream.as_deref().and_then(kept).map(|from| from.saturating_add(size));
        kept(&model.name).max(of_upstream)
    }

    /// Reads them of the logs of the tables.
    pub fn read(config: &Config, lake: &Lake) -> Result<Self> {
        let mut marks = Self::default();
        let tables = lake.kept_tables()?;
        let named = |name: &str| tables.iter().find(|table| table.name == name);
        let bronze: Vec<&KeptTable> =
            [BRONZE_EVENTS, "bronze.dead_letters"].iter().filter_map(|name| named(name)).collect();
        for table in &tables {
            if let Some(from) = table.retained_from()? {
                marks.kept_from.insert(table.name.clone(), from);
            }
        }
        // Each question reads a table's log: only of partitions that there are.
        let mut last = -1;
        for table in bronze.iter().copied().chain(named(SILVER_EVENTS)) {
            last = table.largest("_partition")?.map_or(last, |partition| partition.max(last));
        }
        for partition in 0..=last as i32 {
            for table in &bronze {
                if let Some(upto) = table.retained_upto(i64::from(partition))? {
                    let known = marks.retained.entry(partition).or_insert(upto);
                    *known = (*known).max(upto);
                }
            }
            let app = format!("{}/{}/{partition}", config.process.group, config.topics.events);
            if let Some(upto) = named(BRONZE_EVENTS).map(|table| table.covered(&app)).transpose()?.flatten() {
                marks.bronze.insert(partition, upto);
            }
            if let Some(silver) = named(SILVER_EVENTS) {
                if let Some(upto) = silver.covered(&app)? {
                    marks.silver.insert(partition, upto);
                }
                if let Some(count) = silver.counted(&app)? {
                    marks.duplicates.insert(partition, count);
                }
            }
        }
        Ok(marks)
    }
}

/// Compares with the log's end offsets, when the log can be read beside what may be running.
pub(super) fn compare_with_log(config: &Config, report: &mut Report) {
    let log = match sluice_event_log::open(&config.log) {
        Ok(log) => log,
        Err(error) => {
            tracing::info!(%error, "the event log cannot be read now: checking what is committed");
            return;
        }
    };
    let Ok(partitions) = log.partition_count(&config.topics.events) else { return };
    for partition in 0..partitions {
        let Ok(range) = log.offsets(&config.topics.events, Partition::new(partition)) else { continue };
        let (start, end) = (range.start.get(), range.end.get());
        let known = report.partitions.iter_mut().find(|l| l.partition == i64::from(partition));
        match known {
            Some(ledger) => {
                let committed = ledger.end_offset;
                ledger.end_offset = end;
                ledger.waiting = end - committed;
                if committed > end {
                    report.problems.push(format!(
                        "partition {partition}: the lake has offsets up to {committed}, the log ends at {end}"
                    ));
                }
                let first = ledger.first_offset.unwrap_or(0);
                if ledger.retained_upto.is_none() && first > 0 && start < first {
                    report
                        .problems
                        .push(format!("partition {partition}: the first {first} offsets are not in the lake"));
                }
            }
            None if end > start => report.partitions.push(PartitionLedger {
                partition: i64::from(partition),
                end_offset: end,
                waiting: end - start,
                ..PartitionLedger::default()
            }),
            None => {}
        }
    }
}
