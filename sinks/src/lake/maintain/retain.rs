//! Dropping what is older than it is kept for, whole days at a time.

use super::KeptTable;
use crate::lake::{LakeError, Retention, fault_point::fault_point};
use arrow::{array::AsArray, datatypes::Int64Type};
use deltalake::{
    DeltaTableError,
    kernel::{Transaction, transaction::CommitProperties},
};
use std::collections::BTreeMap;

const MILLIS_A_DAY: i64 = 86_400_000;

/// The application id whose version is the last offset of an input partition that a table has dropped.
fn retained_app(partition: i64) -> String {
    format!("retained/{partition}")
}

/// The application id whose version is the first day that a table keeps, in days since 1970.
const RETAINED_DAY: &str = "retained/day";

/// What was dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retained {
    /// The first day that is kept, as an ISO date.
    pub from: String,
    /// Days dropped.
    pub days: Vec<String>,
    /// Rows in them.
    pub rows: u64,
    /// The last offset dropped of each input partition.
    pub upto: BTreeMap<i64, i64>,
}

impl KeptTable {
    /// How long its rows are kept; none: for ever.
    pub fn retention(&self) -> Option<Retention> {
        self.config.retain.get(&self.name).copied().filter(|kept| !kept.0.is_zero())
    }

    /// Drops the days that ended more than the table's retention before `now` (milliseconds). Of a table of events the
    /// last offset dropped of each partition is told in the same commit, so that the ledger knows where it begins.
    ///
    /// # Errors
    /// When the store or Delta fails; the table is as before then.
    pub fn retain(&mut self, now: i64, dry_run: bool) -> Result<Retained, LakeError> {
        let (Some(kept), Some(column)) = (self.retention(), self.partition_column()?) else {
            return Ok(Retained::default());
        };
        let first = (now - i64::try_from(kept.0.as_millis()).unwrap_or(i64::MAX)).div_euclid(MILLIS_A_DAY);
        let Some(first) = chrono::DateTime::from_timestamp_millis(first.saturating_mul(MILLIS_A_DAY)) else {
            return Ok(Retained::default());
        };
        // A month is kept until all of it has ended so long ago.
        let from = first.format(if column == "_month" { "%Y-%m-01" } else { "%Y-%m-%d" }).to_string();
        let days: Vec<String> = self.days()?.into_keys().filter(|day| *day < from).collect();
        if days.is_empty() {
            return Ok(Retained { from, ..Retained::default() });
        }
        let predicate = format!("{column} < '{from}'");
        if dry_run {
            let (rows, upto) = self.last_offsets(&predicate)?;
            return Ok(Retained { from, days, rows, upto });
        }
        let first_day = first.timestamp_millis().div_euclid(MILLIS_A_DAY);
        let (rows, upto) = self.insist("drop old days", |this| {
            // Of this very version; and a mark never goes back, though offsets and days need not go together.
            let other = |e: LakeError| DeltaTableError::Generic(e.to_string());
            let (rows, mut upto) = this.last_offsets(&predicate).map_err(other)?;
            for (partition, offset) in &mut upto {
                *offset = this.retained_upto(*partition).map_err(other)?.map_or(*offset, |known| known.max(*offset));
            }
            let marks = upto.iter().map(|(partition, offset)| Transaction::new(retained_app(*partition), *offset));
            let day = Transaction::new(RETAINED_DAY, first_day);
            let properties = CommitProperties::default()
                .with_application_transactions(marks.chain([day]).collect())
                .with_cleanup_expired_logs(Some(false));
            let delete = this.table.clone().delete().with_predicate(predicate.as_str());
            fault_point(&this.name, "before retention");
            let (table, _) = this.runtime.block_on(async { delete.with_commit_properties(properties).await })?;
            fault_point(&this.name, "after retention");
            this.table = table;
            Ok::<_, DeltaTableError>((rows, upto))
        })?;
        Ok(Retained { from, days, rows, upto })
    }

    /// Rows that a predicate says, and the last offset of each input partition among them.
    fn last_offsets(&self, predicate: &str) -> Result<(u64, BTreeMap<i64, i64>), LakeError> {
        let failed = |e: datafusion::error::DataFusionError| self.error("read offsets")(e.into());
        let state = self.table.snapshot().map_err(self.error("read log"))?;
        let has_offsets = ["_partition", "_offset"].iter().all(|name| state.schema().field(name).is_some());
        let select = if has_offsets {
            "SELECT count(*), CAST(_partition AS BIGINT), max(_offset) FROM t WHERE {} GROUP BY 2"
        } else {
            "SELECT count(*), CAST(NULL AS BIGINT), CAST(NULL AS BIGINT) FROM t WHERE {}"
        };
        let session = self.session()?;
        self.runtime.block_on(async {
            let provider = self.table.table_provider().build().await.map_err(failed)?;
            session.register_table("t", std::sync::Arc::new(provider)).map_err(failed)?;
            let batches = session.sql(&select.replace("{}", predicate)).await.map_err(failed)?;
            let (mut rows, mut upto) = (0, BTreeMap::new());
            for batch in batches.collect().await.map_err(failed)? {
                let numbers = |column: usize| batch.column(column).as_primitive::<Int64Type>().clone();
                let (counts, partitions, offsets) = (numbers(0), numbers(1), numbers(2));
                for (row, count) in counts.values().iter().enumerate() {
                    rows += u64::try_from(*count).unwrap_or(0);
                    // A producer's dead letters are of no partition.
                    if arrow::array::Array::is_valid(&partitions, row) {
                        upto.insert(partitions.value(row), offsets.value(row));
                    }
                }
            }
            Ok((rows, upto))
        })
    }

    /// When the first day begins that the table keeps (milliseconds); none: nothing was dropped.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn retained_from(&self) -> Result<Option<i64>, LakeError> {
        Ok(self.mark(RETAINED_DAY)?.map(|day| day.saturating_mul(MILLIS_A_DAY)))
    }

    /// The version of an application id.
    pub(in crate::lake) fn mark(&self, app: &str) -> Result<Option<i64>, LakeError> {
        let log = self.table.log_store();
        let state = self.table.snapshot().map_err(self.error("read log"))?;
        self.runtime.block_on(state.transaction_version(log.as_ref(), app)).map_err(self.error("read txn"))
    }

    /// The last offset that an input partition's rows cover, by its application id (`group/topic/partition`).
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn covered(&self, app: &str) -> Result<Option<i64>, LakeError> {
        self.mark(app)
    }

    /// The last offset dropped of an input partition; none: nothing was.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn retained_upto(&self, partition: i64) -> Result<Option<i64>, LakeError> {
        self.mark(&retained_app(partition))
    }
}
