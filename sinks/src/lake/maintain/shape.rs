//! What a table is made of: files by day and size, and how long its log is.

use super::KeptTable;
use crate::lake::{LakeError, table::counter_app};
use arrow::{
    array::{ArrayRef, AsArray, Int64Array},
    compute::{cast, max},
    datatypes::{DataType, Int64Type, TimeUnit},
};
use futures::TryStreamExt;
use std::collections::BTreeMap;

/// Upper bounds of the classes of file sizes, in bytes; the last class is open.
pub const SIZE_CLASSES: [(u64, &str); 4] =
    [(1 << 20, "1MiB"), (1 << 24, "16MiB"), (1 << 27, "128MiB"), (u64::MAX, "larger")];

/// The files of one partition of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DayShape {
    /// Sizes in bytes, in no order.
    pub sizes: Vec<u64>,
    /// When the newest file came, milliseconds since 1970.
    pub newest: i64,
}

/// What a table is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableShape {
    /// Its version.
    pub version: u64,
    /// Rows, by the statistics of the files.
    pub rows: u64,
    /// The files, by the value of the partition column (an ISO day); of a table without one, under an empty name.
    pub days: BTreeMap<String, DayShape>,
    /// Commits since the last checkpoint of the log: what a reader must go through.
    pub log_tail: usize,
    /// All files of the log.
    pub log_files: usize,
}

/// How long the log of a table is.
pub(super) struct LogLength {
    /// Commits since the last checkpoint.
    pub tail: usize,
    /// All its files.
    pub files: usize,
    /// When the oldest of those commits was made: milliseconds since 1970.
    pub oldest_in_tail: i64,
}

impl TableShape {
    /// Files of the table.
    pub fn files(&self) -> usize {
        self.days.values().map(|day| day.sizes.len()).sum()
    }

    /// Bytes of them.
    pub fn bytes(&self) -> u64 {
        self.days.values().flat_map(|day| &day.sizes).sum()
    }

    /// How many files are of each class of [`SIZE_CLASSES`].
    pub fn by_size(&self) -> [usize; SIZE_CLASSES.len()] {
        let mut counts = [0; SIZE_CLASSES.len()];
        for size in self.days.values().flat_map(|day| &day.sizes) {
            let class = SIZE_CLASSES.iter().position(|(bound, _)| size < bound).unwrap_or(SIZE_CLASSES.len() - 1);
            counts[class] += 1;
        }
        counts
    }
}

impl KeptTable {
    /// The column it is partitioned by.
    pub(super) fn partition_column(&self) -> Result<Option<String>, LakeError> {
        let state = self.table.snapshot().map_err(self.error("read log"))?;
        Ok(state.metadata().partition_columns().first().cloned())
    }

    /// The files, as [`TableShape::days`].
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn days(&self) -> Result<BTreeMap<String, DayShape>, LakeError> {
        let state = self.table.snapshot().map_err(self.error("read log"))?;
        let column = self.partition_column()?;
        let mut days: BTreeMap<String, DayShape> = BTreeMap::new();
        for file in state.log_data().iter() {
            let values = file.partition_values_map();
            let day = column.as_ref().and_then(|c| values.get(c)?.clone()).unwrap_or_default();
            let day = days.entry(day).or_default();
            day.sizes.push(u64::try_from(file.size()).unwrap_or(0));
            day.newest = day.newest.max(file.modification_time());
        }
        Ok(days)
    }

    /// Looks at the files and the log, which it lists.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn shape(&self) -> Result<TableShape, LakeError> {
        let state = self.table.snapshot().map_err(self.error("read log"))?;
        let log = self.log_length().map_err(self.error("list log"))?;
        Ok(TableShape {
            version: state.version(),
            rows: state.log_data().iter().map(|file| file.num_records().unwrap_or(0) as u64).sum(),
            days: self.days()?,
            log_tail: log.tail,
            log_files: log.files,
        })
    }

    pub(super) fn log_length(&self) -> Result<LogLength, deltalake::DeltaTableError> {
        let log = self.table.log_store();
        let store = log.object_store(None);
        let files: Vec<_> = self.runtime.block_on(store.list(Some(log.log_path())).try_collect())?;
        let (mut commits, mut checkpoint, mut count) = (Vec::new(), None, 0);
        for file in files {
            let Some(name) = file.location.filename() else { continue };
            count += 1;
            let Some((version, rest)) = name.split_once('.') else { continue };
            let Ok(version) = version.parse::<u64>() else { continue };
            match rest {
                "json" => commits.push((version, file.last_modified.timestamp_millis())),
                _ if rest.starts_with("checkpoint") => checkpoint = checkpoint.max(Some(version)),
                _ => {}
            }
        }
        commits.retain(|(version, _)| checkpoint.is_none_or(|c| *version > c));
        let oldest_in_tail = commits.iter().map(|(_, written)| *written).min().unwrap_or(i64::MAX);
        Ok(LogLength { tail: commits.len(), files: count, oldest_in_tail })
    }
}

impl KeptTable {
    /// The value of a time column (milliseconds) from which on the table has about `rows` rows, by the statistics of its
    /// files; none when it has no more than that.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn newest_rows_from(&self, column: &str, rows: u64) -> Result<Option<i64>, LakeError> {
        let time = DataType::Timestamp(TimeUnit::Millisecond, None);
        let of_column = |what: &str| self.statistics(&format!("{what}.{column}"), &time);
        let counts = self.statistics("num_records", &DataType::Int64)?;
        let (Some(counts), Some(oldest), Some(newest)) = (counts, of_column("min")?, of_column("max")?) else {
            return Ok(None);
        };
        let mut by_time: Vec<(i64, i64, u64)> = newest
            .values()
            .iter()
            .zip(oldest.values())
            .zip(counts.values())
            .map(|((newest, oldest), n)| (*newest, *oldest, u64::try_from(*n).unwrap_or(0)))
            .collect();
        by_time.sort_unstable_by(|a, b| b.cmp(a));
        let mut sum = 0;
        for (newest, oldest, count) in by_time {
            if sum + count > rows {
                // Rows lie evenly in a file, more or less.
                let share = (rows - sum) as f64 / count as f64;
                return Ok(Some(newest - ((newest - oldest) as f64 * share) as i64));
            }
            sum += count;
        }
        Ok(None)
    }

    /// The largest value of a column of whole numbers, by the statistics of the files; none when there are none.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn largest(&self, column: &str) -> Result<Option<i64>, LakeError> {
        Ok(self.statistics(&format!("max.{column}"), &DataType::Int64)?.and_then(|values| max(&values)))
    }

    /// A statistic of each file, read as a type and then as whole numbers.
    fn statistics(&self, name: &str, data_type: &DataType) -> Result<Option<Int64Array>, LakeError> {
        let failed = self.error("read statistics");
        let files = self.table.snapshot().and_then(|state| state.add_actions_table(true)).map_err(&failed)?;
        let Some(array) = files.column_by_name(name) else { return Ok(None) };
        let cast = |array: &ArrayRef, to: &DataType| cast(array, to).map_err(|e| failed(e.into()));
        Ok(Some(cast(&cast(array, data_type)?, &DataType::Int64)?.as_primitive::<Int64Type>().clone()))
    }

    /// What workers have counted under this application id; see `LakeTable::count`.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn counted(&self, app: &str) -> Result<Option<i64>, LakeError> {
        self.mark(&counter_app(app))
    }
}
