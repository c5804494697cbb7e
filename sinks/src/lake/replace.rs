//! Tables that are made anew, as a whole or by parts.

use super::{Bucket, Day, Lake, LakeError, parquet_layout::writer_properties};
use datafusion::{
    dataframe::DataFrame,
    execution::SessionStateBuilder,
    prelude::{Expr, ident, lit},
    scalar::ScalarValue,
};
use deltalake::{
    DeltaTable, DeltaTableError, delta_datafusion::planner::DeltaPlanner, kernel::transaction::CommitProperties,
    operations::write::SchemaMode, protocol::SaveMode,
};
use std::{collections::BTreeSet, sync::Arc};

/// A table that is made anew.
#[derive(Clone, Copy, Debug)]
pub struct Replaced<'a> {
    /// Its bucket.
    pub bucket: Bucket,
    /// Its folder there.
    pub path: &'a str,
    /// Its name in SQL.
    pub name: &'a str,
    /// The column of dates by which its rows are filed; none: they are not.
    pub partition: Option<&'a str>,
    /// The dates of that column whose rows are made anew; none: all rows, and the columns.
    pub dates: Option<&'a BTreeSet<Day>>,
}

/// Rows of a column with one of these dates.
pub fn on_dates(column: &str, dates: &BTreeSet<Day>) -> Expr {
    ident(column).in_list(dates.iter().map(|day| lit(ScalarValue::Date32(Some(*day)))).collect(), false)
}

impl Lake {
    /// Replaces rows of a table by those of a question, in one commit: readers see all of the old or all of the new. Makes
    /// the table when it is missing. Gives the table and how many rows it has now.
    ///
    /// # Errors
    /// When the question fails or gives rows of other dates, or the store or Delta does; the table is as before then.
    pub fn replace(&self, what: Replaced<'_>, rows: DataFrame) -> Result<(DeltaTable, i64), LakeError> {
        let place = self.location(what.bucket, what.path)?;
        let delta =
            |deed| move |source| LakeError::Delta { table: what.name.to_owned(), deed, source: Box::new(source) };
        self.runtime.block_on(async {
            let mut table = place.delta().and_then(|delta| delta.build()).map_err(delta("open"))?;
            match table.load().await {
                Ok(()) | Err(DeltaTableError::NotATable(_)) => {}
                Err(error) => return Err(delta("read log")(error)),
            }
            let properties = writer_properties(&self.config, what.name, rows.schema().as_arrow());
            let (state, plan) = rows.into_parts();
            let state = SessionStateBuilder::new_from_existing(state).with_query_planner(DeltaPlanner::new()).build();
            let write = table
                .write(Vec::new())
                .with_input_plan(plan)
                .with_session_state(Arc::new(state))
                .with_save_mode(SaveMode::Overwrite)
                .with_partition_columns(what.partition)
                .with_writer_properties(properties)
                .with_commit_properties(CommitProperties::default().with_cleanup_expired_logs(Some(false)));
            let write = match (what.partition, what.dates) {
                (Some(column), Some(dates)) => write.with_replace_where(on_dates(column, dates)),
                _ => write.with_schema_mode(SchemaMode::Overwrite),
            };
            let table = write.await.map_err(delta("replace"))?;
            let state = table.snapshot().map_err(delta("count"))?;
            let count = state.log_data().iter().map(|file| file.num_records().unwrap_or(0) as i64).sum();
            Ok((table, count))
        })
    }
}
