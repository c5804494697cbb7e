//! What has changed in a table between two of its versions.

use super::LakeError;
use arrow::datatypes::Date32Type;
use chrono::NaiveDate;
use deltalake::{DeltaTable, kernel::Action, logstore::get_actions};
use std::collections::{BTreeSet, HashMap};

/// Days since 1970.
pub type Day = i32;

/// What has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changes {
    /// Rows of these dates of the partition column; of none, when files were only written anew as by compaction.
    Dates(BTreeSet<Day>),
    /// Any row may have: the table is not filed by dates, it has other columns, or the log of that time is gone.
    Any,
}

impl Changes {
    /// What has changed in a table since its version `since`. Changes that only move rows between files are none.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn since(name: &str, table: &DeltaTable, since: i64) -> Result<Self, LakeError> {
        let failed = |source| LakeError::Delta { table: name.to_owned(), deed: "read log", source: Box::new(source) };
        let version = table.version().unwrap_or_default() as i64;
        if since > version {
            // Another table stands there by now.
            return Ok(Self::Any);
        }
        let column = date_column(table);
        let mut dates = BTreeSet::new();
        for version in (since + 1)..=version {
            let log = table.log_store();
            let Some(commit) = log.read_commit_entry(version as u64).await.map_err(failed)? else {
                return Ok(Self::Any);
            };
            for action in get_actions(version as u64, &commit).map_err(failed)? {
                let partition = match action {
                    Action::Add(add) if add.data_change => Some(add.partition_values),
                    Action::Remove(remove) if remove.data_change => remove.partition_values,
                    Action::Metadata(_) | Action::Protocol(_) => None,
                    _ => continue,
                };
                match column.as_deref().and_then(|column| day_of(partition.as_ref()?, column)) {
                    Some(day) => drop(dates.insert(day)),
                    None => return Ok(Self::Any),
                }
            }
        }
        Ok(Self::Dates(dates))
    }
}

fn day_of(partition: &HashMap<String, Option<String>>, column: &str) -> Option<Day> {
    let date: NaiveDate = partition.get(column)?.as_ref()?.parse().ok()?;
    Some(Date32Type::from_naive_date(date))
}

/// The column of dates by which a table is filed; none when it is filed otherwise, or not at all.
pub fn date_column(table: &DeltaTable) -> Option<String> {
    let state = table.snapshot().ok()?;
    let [column] = state.metadata().partition_columns() else { return None };
    let is_date = state.schema().field(column)?.data_type() == &deltalake::kernel::DataType::DATE;
    is_date.then(|| column.clone())
}
