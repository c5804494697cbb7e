//! Tables that are made anew as a whole.

use super::{Bucket, Lake, LakeError, parquet_layout::writer_properties};
use datafusion::{dataframe::DataFrame, execution::SessionStateBuilder};
use deltalake::{
    DeltaTable, DeltaTableError, delta_datafusion::planner::DeltaPlanner, kernel::transaction::CommitProperties,
    operations::write::SchemaMode, protocol::SaveMode,
};
use std::sync::Arc;

impl Lake {
    /// Replaces all rows of a table, and its columns, by those of a question, in one commit: readers see all of the old or
    /// all of the new. Makes the table when it is missing. Gives the table and how many rows it has now.
    ///
    /// # Errors
    /// When the question fails, or the store or Delta does; the table is as before then.
    pub fn replace(
        &self,
        bucket: Bucket,
        path: &str,
        name: &str,
        rows: DataFrame,
    ) -> Result<(DeltaTable, i64), LakeError> {
        let place = self.location(bucket, path)?;
        let delta = |deed| move |source| LakeError::Delta { table: name.to_owned(), deed, source: Box::new(source) };
        self.runtime.block_on(async {
            let mut table = place.delta().and_then(|delta| delta.build()).map_err(delta("open"))?;
            match table.load().await {
                Ok(()) | Err(DeltaTableError::NotATable(_)) => {}
                Err(error) => return Err(delta("read log")(error)),
            }
            let (state, plan) = rows.into_parts();
            let state = SessionStateBuilder::new_from_existing(state).with_query_planner(DeltaPlanner::new()).build();
            let table = table
                .write(Vec::new())
                .with_input_plan(plan)
                .with_session_state(Arc::new(state))
                .with_save_mode(SaveMode::Overwrite)
                .with_schema_mode(SchemaMode::Overwrite)
                .with_writer_properties(writer_properties(&self.config))
                .with_commit_properties(CommitProperties::default().with_cleanup_expired_logs(Some(false)))
                .await
                .map_err(delta("replace"))?;
            let state = table.snapshot().map_err(delta("count"))?;
            let count = state.log_data().iter().map(|file| file.num_records().unwrap_or(0) as i64).sum();
            Ok((table, count))
        })
    }
}
