//! Looking after the tables: merging small files, dropping old days, removing files that no version needs, and people.
//!
//! Every deed is one Delta commit, or none: a reader sees all of it or nothing. Workers go on appending meanwhile; what
//! loses against them is tried again, or left for the next time.

mod compact;
mod erasure;
mod forget;
mod history;
mod retain;
mod rewrite;
mod shape;
mod vacuum;

pub use compact::{Compacted, Merge, Rules, merge_for};
pub use erasure::Erasure;
pub use forget::{Forgotten, erasures_schema};
pub use history::Commit;
pub use retain::Retained;
pub(super) use rewrite::came_second;
pub use shape::{DayShape, SIZE_CLASSES, TableShape};

use super::{Lake, LakeConfig, LakeError, SCHEMAS};
use datafusion::{execution::SessionStateBuilder, prelude::SessionContext};
use deltalake::{
    DeltaTable, DeltaTableError,
    delta_datafusion::{DeltaRuntimeEnvBuilder, DeltaSessionContext},
};
use std::{collections::HashMap, sync::Arc};

/// How often a deed is tried that lost against another one.
const TRIES: usize = 5;

/// A table of the lake that exists, to be looked after.
pub struct KeptTable {
    /// As in SQL: `bronze.events`.
    pub name: String,
    pub(super) table: DeltaTable,
    pub(super) config: Arc<LakeConfig>,
    pub(super) runtime: tokio::runtime::Handle,
}

impl Lake {
    /// All tables there are.
    ///
    /// # Errors
    /// When a bucket cannot be listed or a table's log cannot be read.
    pub fn kept_tables(&self) -> Result<Vec<KeptTable>, LakeError> {
        let mut tables = Vec::new();
        for (schema, bucket, below) in SCHEMAS {
            let found = self.existing(bucket, below)?.into_iter();
            tables.extend(found.map(|(name, table)| self.kept(format!("{schema}.{name}"), table)));
        }
        Ok(tables)
    }

    /// The table of this name; none when there is none yet.
    ///
    /// # Errors
    /// When its log cannot be read.
    pub fn kept_table(&self, name: &str) -> Result<Option<KeptTable>, LakeError> {
        let place = |(schema, bucket, below): (&str, _, &str)| {
            let path = format!("{below}/{}", name.strip_prefix(schema)?.strip_prefix('.')?);
            Some((bucket, path.trim_start_matches('/').to_owned()))
        };
        let Some((bucket, path)) = SCHEMAS.into_iter().find_map(place) else { return Ok(None) };
        Ok(self.find(bucket, &path)?.map(|table| self.kept(name.to_owned(), table)))
    }

    pub(super) fn kept(&self, name: String, table: DeltaTable) -> KeptTable {
        KeptTable { name, table, config: self.config.clone(), runtime: self.runtime.clone() }
    }
}

impl KeptTable {
    fn error(&self, deed: &'static str) -> impl Fn(DeltaTableError) -> LakeError + use<> {
        let table = self.name.clone();
        move |source| LakeError::Delta { table: table.clone(), deed, source: Box::new(source) }
    }

    /// Reads what others have committed since.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn refresh(&mut self) -> Result<(), LakeError> {
        self.runtime.block_on(self.table.update_state()).map_err(self.error("refresh"))
    }

    /// A session in which rows take no more than `maintain.memory_bytes_max`, about, and one file is read at a time.
    pub(super) fn session(&self) -> Result<SessionContext, LakeError> {
        let memory = self.config.maintain.memory_bytes_max;
        let environment = DeltaRuntimeEnvBuilder::new().with_max_spill_size(memory).build();
        // With Delta's own planner, which updates need.
        let settings = HashMap::from([("datafusion.execution.target_partitions".to_owned(), "1".to_owned())]);
        let delta = DeltaSessionContext::new_with_session_overrides(&settings).map_err(self.error("prepare"))?;
        let state = SessionStateBuilder::new_from_existing(delta.state()).with_runtime_env(environment).build();
        let context = SessionContext::new_with_state(state);
        self.table.update_datafusion_session(&context.state()).map_err(self.error("prepare"))?;
        Ok(context)
    }

    /// Does a deed again that only lost against somebody else's commit, on what the table is then.
    pub(super) fn insist<T>(
        &mut self,
        name: &'static str,
        mut deed: impl FnMut(&mut Self) -> Result<T, DeltaTableError>,
    ) -> Result<T, LakeError> {
        let mut tries = 1;
        loop {
            match deed(self) {
                Ok(done) => return Ok(done),
                Err(error) if came_second(&error) && tries < TRIES => {
                    tracing::info!(table = self.name, deed = name, %error, "lost against another commit; trying again");
                    tries += 1;
                    self.refresh()?;
                }
                Err(error) => return Err(self.error(name)(error)),
            }
        }
    }
}
