//! What the lake and the log know of letters and their events.

use super::{
    decide::{Facts, Noted, Place, Trial},
    letters::{Letter, Letters, quoted_list, texts},
    replays::INTENDED,
    tail::Tail,
    trial::Judge,
};
use crate::{Config, pipeline::now_millis};
use anyhow::Result;
use arrow::{
    array::{AsArray, RecordBatch},
    compute::cast,
    datatypes::{DataType, Int64Type},
};
use datafusion::execution::context::SessionContext;
use sluice_event_log::{EventLog, LogError, LogKind};
use sluice_events::{LogTime, Schemas};
use std::{collections::HashMap, sync::Arc};
use tokio::runtime::Runtime;

/// The log, where it can be looked at beside what may be running.
///
/// # Errors
/// [`LogError`] when it is in use, or is broken.
pub(crate) fn open_log(config: &Config) -> Result<Option<Arc<dyn EventLog>>, LogError> {
    if config.log.kind == LogKind::Embedded && !config.log.embedded.dir.is_dir() {
        return Ok(None);
    }
    sluice_event_log::open(&config.log).map(Some)
}

/// Gathers facts. Read what it holds after [`super::replays::Replays::open`].
pub(crate) struct Witness {
    pub letters: Letters,
    judge: Judge,
    tail: Tail,
}

impl Witness {
    /// Looks at the end of the log, if there is one to look at; of the rest the lake tells.
    pub fn new(
        config: &Config,
        runtime: &Runtime,
        letters: Letters,
        schemas: &Arc<Schemas>,
        log: Option<&dyn EventLog>,
    ) -> Result<Self> {
        let topic = &config.topics.events;
        let partitions = match log.map(|log| log.partition_count(topic)) {
            None | Some(Err(LogError::UnknownTopic { .. })) => config.topics.partitions,
            Some(count) => count?,
        };
        let mut judge = Judge::new(config, schemas, partitions)?;
        let tail = match log.filter(|log| log.partition_count(topic).is_ok()) {
            None => Tail::default(),
            Some(log) => Tail::read(log, topic, &runtime.block_on(covered(&letters.context))?, &mut judge)?,
        };
        Ok(Self { letters, judge, tail })
    }

    /// The facts of each letter.
    pub fn facts(&mut self, runtime: &Runtime, letters: &[Letter]) -> Result<Vec<Facts>> {
        let trials = self.judge.try_all(letters, LogTime::new(now_millis()))?;
        let context = &self.letters.context;
        let mut noted = runtime.block_on(noted(context, letters.iter().map(|l| &*l.name)))?;
        let mut ids: Vec<&str> = trials.iter().filter_map(Trial::event_id).collect();
        ids.extend(noted.values().filter_map(|n| match n {
            Noted::Intended { event_id, .. } => Some(&**event_id),
            Noted::Replayed { .. } => None,
        }));
        let known = runtime.block_on(Known::of(context, &ids))?;
        let facts = letters.iter().zip(trials).map(|(letter, trial)| {
            let noted = noted.remove(&letter.name);
            let arrived = match &noted {
                Some(Noted::Intended { event_id, from }) => {
                    self.tail.replayed(&letter.name).or_else(|| known.since(event_id, *from))
                }
                _ => None,
            };
            let holder = trial.event_id().and_then(|id| known.accepted(id).or_else(|| self.tail.accepted(id)));
            Facts { trial, noted, arrived, holder }
        });
        Ok(facts.collect())
    }
}

impl Trial {
    fn event_id(&self) -> Option<&str> {
        match self {
            Self::Good(candidate) => Some(&candidate.event_id),
            _ => None,
        }
    }
}

/// The last offset of each partition that the lake has.
async fn covered(context: &SessionContext) -> Result<HashMap<u32, i64>> {
    if context.table("bronze.events").await.is_err() {
        return Ok(HashMap::new());
    }
    let sql = "SELECT _partition, max(_offset) FROM (SELECT _partition, _offset FROM bronze.events
               UNION ALL SELECT _partition, _offset FROM bronze.dead_letters WHERE stage = 'decode') GROUP BY _partition";
    let mut covered = HashMap::new();
    for batch in context.sql(sql).await?.collect().await? {
        covered.extend(places(&batch, 0)?.into_iter().map(|place| (place.partition, place.offset)));
    }
    Ok(covered)
}

/// What earlier replays noted of these letters; that one was sent counts more than that it would be.
async fn noted<'a>(context: &SessionContext, letters: impl Iterator<Item = &'a str>) -> Result<HashMap<String, Noted>> {
    let sql = format!(
        "SELECT letter, event_id, outcome, _partition, _offset, CAST(at AS BIGINT) / 1000 FROM replays
         WHERE letter IN ({}) ORDER BY at, _offset",
        quoted_list(letters)
    );
    let mut noted = HashMap::new();
    for batch in context.sql(&sql).await?.collect().await? {
        let (names, ids, outcomes) = (texts(&batch, 0)?, texts(&batch, 1)?, texts(&batch, 2)?);
        let times = cast(batch.column(5), &DataType::Int64)?;
        for (row, place) in places(&batch, 3)?.into_iter().enumerate() {
            let name = names.as_string::<i32>().value(row).to_owned();
            let is_done = matches!(noted.get(&name), Some(Noted::Replayed { .. }));
            if outcomes.as_string::<i32>().value(row) != INTENDED {
                let at = times.as_primitive::<Int64Type>().value(row);
                noted.insert(name, Noted::Replayed { at, place });
            } else if !is_done {
                // The oldest: whatever was sent lies behind it.
                let event_id = ids.as_string::<i32>().value(row).to_owned();
                noted.entry(name).or_insert(Noted::Intended { event_id, from: place });
            }
        }
    }
    Ok(noted)
}

/// Where the lake has events of some ids.
#[derive(Default)]
struct Known {
    /// Everything in bronze.
    received: HashMap<String, Vec<Place>>,
    /// The first that was accepted, by silver; by bronze where silver does not have it yet.
    accepted: HashMap<String, Place>,
}

impl Known {
    async fn of(context: &SessionContext, ids: &[&str]) -> Result<Self> {
        let mut known = Self::default();
        if ids.is_empty() {
            return Ok(known);
        }
        let ids = quoted_list(ids.iter().copied());
        let received = format!("SELECT event_id, _partition, _offset FROM bronze.events WHERE event_id IN ({ids})");
        let valid = format!(
            "SELECT b.event_id, b._partition, b._offset FROM ({received}) b LEFT ANTI JOIN
             (SELECT _partition, _offset FROM bronze.dead_letters WHERE stage = 'validate') d
             ON b._partition = d._partition AND b._offset = d._offset"
        );
        let silver = format!("SELECT event_id, _partition, _offset FROM silver.events WHERE event_id IN ({ids})");
        for (table, sql) in [("bronze.events", &received), ("silver.events", &silver), ("bronze.events", &valid)] {
            if context.table(table).await.is_err() {
                continue;
            }
            for batch in context.sql(sql).await?.collect().await? {
                let names = texts(&batch, 0)?;
                for (row, place) in places(&batch, 1)?.into_iter().enumerate() {
                    let id = names.as_string::<i32>().value(row).to_owned();
                    match std::ptr::eq(sql, &received) {
                        true => known.received.entry(id).or_default().push(place),
                        false => drop(known.accepted.entry(id).or_insert(place)),
                    }
                }
            }
        }
        Ok(known)
    }

    fn accepted(&self, event_id: &str) -> Option<Place> {
        self.accepted.get(event_id).copied()
    }

    /// The first of an id that was received there or further on.
    fn since(&self, event_id: &str, from: Place) -> Option<Place> {
        let received = self.received.get(event_id)?.iter().copied();
        received.filter(|p| p.partition == from.partition && p.offset >= from.offset).min_by_key(|p| p.offset)
    }
}

/// Partition and offset, in this column and the next.
fn places(batch: &RecordBatch, column: usize) -> Result<Vec<Place>> {
    let [partitions, offsets] = [column, column + 1].map(|c| cast(batch.column(c), &DataType::Int64));
    let (partitions, offsets) = (partitions?, offsets?);
    let (partitions, offsets) = (partitions.as_primitive::<Int64Type>(), offsets.as_primitive::<Int64Type>());
    let place = |row| Place { partition: partitions.value(row) as u32, offset: offsets.value(row) };
    Ok((0..batch.num_rows()).map(place).collect())
}
