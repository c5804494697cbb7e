//! The lake: Delta tables in three buckets, with the offsets they cover inside their commits.

mod causes;
mod changes;
mod checkpoints;
mod config;
mod fault_point;
mod location;
mod maintain;
mod parquet_layout;
mod read;
mod replace;
mod sources;
mod table;
mod table_schema;
#[cfg(test)]
mod tests;
mod upsert;

pub use causes::{is_out_of_memory, is_transient};
pub use changes::{Changes, Day, date_column};
pub use checkpoints::{CheckpointStore, CheckpointStoreError, StoredCheckpoint};
pub use config::{LakeConfig, MaintainConfig, Retention, S3Config};
pub use fault_point::fault_point;
pub use location::{Bucket, Location};
pub use maintain::{
    Commit, Compacted, DayShape, Erasure, Forgotten, KeptTable, Merge, Retained, Rules, SIZE_CLASSES, TableShape,
    erasures_schema, merge_for,
};
pub use parquet_layout::writer_properties;
pub use read::{read_rows, register};
pub use replace::{Replaced, on_dates};
pub use sources::SourceFile;
pub use table::{CommitStats, DatePartition, LakeError, LakeTable, TableSpec};
pub use upsert::{Again, Staging, Upserted};

pub use deltalake::DeltaTable;
use object_store::ObjectStoreExt as _;
use std::sync::Arc;

/// Where the tables of each schema of SQL are: its name, the bucket, and the folder in it (empty: the bucket itself).
pub const SCHEMAS: [(&str, Bucket, &str); 4] = [
    ("bronze", Bucket::Bronze, ""),
    ("silver", Bucket::Silver, ""),
    ("gold", Bucket::Gold, ""),
    ("live", Bucket::Gold, "live"),
];

/// The lake as a whole.
#[derive(Clone)]
pub struct Lake {
    config: Arc<LakeConfig>,
    runtime: tokio::runtime::Handle,
}

impl Lake {
    /// A lake at the places the configuration names. Writing blocks the caller; the runtime carries the I/O, so no
    /// method of the lake may be called from one of its own threads.
    pub fn new(config: LakeConfig, runtime: tokio::runtime::Handle) -> Self {
        location::register_s3();
        Self { config: Arc::new(config), runtime }
    }

    /// Opens a table; makes it when it is missing.
    ///
    /// # Errors
    /// When the place cannot be reached, or the table has other columns.
    pub fn table(&self, spec: TableSpec) -> Result<LakeTable, LakeError> {
        let place = self.location(spec.bucket, &spec.path)?;
        LakeTable::open(spec, place, self.config.clone(), self.runtime.clone())
    }

    fn location(&self, bucket: Bucket, path: &str) -> Result<Location, LakeError> {
        Location::of(&self.config, bucket, path)
            .map_err(|message| LakeError::Place { table: format!("{}.{path}", bucket.as_str()), message })
    }

    /// The Delta tables that exist right below a folder of a bucket (empty: the bucket itself): name and table, for
    /// reading.
    ///
    /// # Errors
    /// When the bucket cannot be listed or a table's log cannot be read.
    pub fn existing(&self, bucket: Bucket, below: &str) -> Result<Vec<(String, DeltaTable)>, LakeError> {
        let root = self.location(bucket, below)?;
        let fail = |message: String| LakeError::Place { table: bucket.as_str().to_owned(), message };
        self.runtime.block_on(async {
            let listing = root.store.list_with_delimiter(Some(&root.prefix)).await.map_err(|e| fail(e.to_string()))?;
            let mut tables = Vec::new();
            for folder in listing.common_prefixes {
                let Some(name) = folder.filename().filter(|name| !name.starts_with(['_', '.'])) else { continue };
                let path = format!("{below}/{name}");
                if let Some(table) = self.load(bucket, path.trim_start_matches('/')).await? {
                    tables.push((name.to_owned(), table));
                }
            }
            Ok(tables)
        })
    }

    /// The Delta table at a path of a bucket, for reading; none when there is none yet.
    ///
    /// # Errors
    /// When its log cannot be read.
    pub fn find(&self, bucket: Bucket, path: &str) -> Result<Option<DeltaTable>, LakeError> {
        self.runtime.block_on(self.load(bucket, path))
    }

    async fn load(&self, bucket: Bucket, path: &str) -> Result<Option<DeltaTable>, LakeError> {
        // The folder of a table that is not there is not made.
        let root = self.location(bucket, "")?;
        let log = path.split('/').fold(root.prefix.clone(), |at, part| at.join(part)).join("_delta_log");
        // The oldest commits go when a checkpoint stands for them.
        let marks = ["00000000000000000000.json", "_last_checkpoint"].map(|file| log.clone().join(file));
        let mut is_there = false;
        for mark in &marks {
            match root.store.head(mark).await {
                Ok(_) => {
                    is_there = true;
                    break;
                }
                Err(object_store::Error::NotFound { .. }) => {}
                // A store that does not answer is no table that is not there.
                Err(error) => {
                    let message = format!("{path}: {error}");
                    return Err(LakeError::Place { table: bucket.as_str().to_owned(), message });
                }
            }
        }
        if !is_there {
            return Ok(None);
        }
        let place = self.location(bucket, path)?;
        let fail = |e: deltalake::DeltaTableError| LakeError::Place {
            table: bucket.as_str().to_owned(),
            message: format!("{path}: {e}"),
        };
        Ok(Some(place.delta().map_err(fail)?.load().await.map_err(fail)?))
    }
}
