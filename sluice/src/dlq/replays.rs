//! The table `bronze.dead_letter_replays`: what was meant to be sent, and what was.
//!
//! Columns: `letter`, its name; `event_id`; `outcome`; `at`; `topic`, `_partition` and `_offset`, the place of the record. Of
//! an `intended` row the offset is the partition's end at that moment: the record is there or further on, or was never
//! sent. `replayed` is the record's own place; so is `found`, of a record that an unfinished replay had sent.

use super::decide::Place;
use crate::{lake_tables::dead_letter_replays, pipeline::now_millis};
use anyhow::{Result, bail};
use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use sluice_sinks::lake::{Lake, LakeError, LakeTable};
use std::sync::Arc;

/// The application id of replays in the table's commits: each is numbered, and of two that began with the same number
/// one learns that it is not alone.
const APP: &str = "dlq/replay";

pub(crate) const INTENDED: &str = "intended";
pub(crate) const REPLAYED: &str = "replayed";
pub(crate) const FOUND: &str = "found";

/// A row of the table.
pub(crate) struct Note<'a> {
    pub letter: &'a str,
    pub event_id: &'a str,
    pub outcome: &'static str,
    pub place: Place,
}

/// The table, for who replays.
pub(crate) struct Replays {
    table: LakeTable,
    topic: String,
    commits: i64,
}

impl Replays {
    /// Open it before anything is read that decisions are made of: whoever commits later is noticed.
    pub fn open(lake: &Lake, topic: &str) -> Result<Self> {
        let mut table = lake.table(dead_letter_replays())?;
        let commits = table.committed(APP)?.unwrap_or(0);
        Ok(Self { table, topic: topic.to_owned(), commits })
    }

    /// Commits rows.
    ///
    /// # Errors
    /// When another replay has committed since this one began; nothing is written then.
    pub fn note(&mut self, notes: &[Note<'_>]) -> Result<()> {
        if notes.is_empty() {
            return Ok(());
        }
        let texts = |part: for<'n> fn(&Note<'n>) -> &'n str| -> ArrayRef {
            Arc::new(notes.iter().map(|n| Some(part(n).to_owned())).collect::<StringArray>())
        };
        let columns: Vec<ArrayRef> = vec![
            texts(|n| n.letter),
            texts(|n| n.event_id),
            texts(|n| n.outcome),
            Arc::new(TimestampMillisecondArray::from(vec![now_millis(); notes.len()]).with_timezone("UTC")),
            Arc::new(StringArray::from(vec![&*self.topic; notes.len()])),
            Arc::new(notes.iter().map(|n| Some(n.place.partition as i32)).collect::<Int32Array>()),
            Arc::new(notes.iter().map(|n| Some(n.place.offset)).collect::<Int64Array>()),
        ];
        self.table.write(&RecordBatch::try_new(dead_letter_replays().schema, columns)?)?;
        self.table.cover(APP, self.commits + 1);
        match self.table.commit() {
            Ok(_) => self.commits += 1,
            Err(LakeError::Fenced { .. }) => {
                bail!("another `sluice dlq replay` is at work; when it has ended, run this one again")
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Overrides};

    #[test]
    fn of_two_that_began_at_once_one_learns_that_it_is_not_alone() {
        let dir = tempfile::tempdir().unwrap();
        let overrides = Overrides { dir: Some(dir.path().to_owned()), ..Overrides::default() };
        let config = Config::load(&overrides).unwrap();
        let runtime = crate::roles::runtime().unwrap();
        let lake = Lake::new(config.lake, runtime.handle().clone());
        let place = Place { partition: 0, offset: 7 };
        let note = || [Note { letter: "events:0:1", event_id: "e", outcome: INTENDED, place }];
        let [mut one, mut other] = [(), ()].map(|()| Replays::open(&lake, "events").unwrap());
        one.note(&note()).unwrap();
        let refused = other.note(&note()).unwrap_err().to_string();
        assert!(refused.contains("is at work"), "{refused}");
        one.note(&note()).unwrap();
        Replays::open(&lake, "events").unwrap().note(&note()).unwrap();
    }
}
