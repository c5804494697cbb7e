//! Writing files of a table anew: read one after the other, changed or not, written together, exchanged in one commit.
//!
//! Invariant: the exchange is committed only on top of a version in which all the files that it replaces are still there.
//! Delta's own check of conflicts takes two exchanges of the same files for compatible when neither changes data, and the
//! table would have the rows twice; so each try is for one version and no other, and looks itself first.

use super::KeptTable;
use crate::lake::{LakeError, fault_point::fault_point, parquet_layout::writer_properties};
use arrow::{
    array::{RecordBatch, new_null_array},
    compute::cast,
    datatypes::{Schema, SchemaRef},
    error::ArrowError,
};
use bytes::Bytes;
use delta_kernel::{expressions::Scalar, table_properties::DataSkippingNumIndexedCols};
use deltalake::{
    DeltaTableError,
    datafile::writer::{DeltaWriter, WriterConfig},
    kernel::{
        Action, Add, Remove,
        transaction::{CommitBuilder, CommitProperties, TransactionError},
    },
    protocol::DeltaOperation,
};
use futures::{FutureExt, StreamExt, future::BoxFuture};
use indexmap::IndexMap;
use object_store::{ObjectStore, ObjectStoreExt as _, path::Path};
use parquet::{
    arrow::{ParquetRecordBatchStreamBuilder, arrow_reader::ArrowReaderOptions, async_reader::AsyncFileReader},
    errors::ParquetError,
    file::metadata::{ParquetMetaData, ParquetMetaDataReader},
};
use std::{collections::HashSet, ops::Range, sync::Arc};

/// Rows read at once, unless they are large.
const BATCH_ROWS: usize = 8_192;
/// The part of the memory that rows on their way may take; the rest is for the row group that is being written.
const BATCH_SHARE: usize = 8;
/// Versions that may come between before an exchange is given up.
const TRIES: usize = 50;
const MILLIS_A_DAY: i64 = 86_400_000;

/// A file of a table.
#[derive(Clone, Debug)]
pub(super) struct DataFile {
    pub remove: Remove,
    pub path: Path,
    pub bytes: u64,
    /// When it was written: milliseconds since 1970.
    pub written: i64,
}

/// What is to be written anew.
pub(super) struct Rewrite<'a> {
    /// The files, of one day, in the order in which their rows are to follow.
    pub files: &'a [DataFile],
    /// Value of the partition column of all of them.
    pub day: &'a str,
    /// Whether rows are another than before.
    pub changes_data: bool,
    pub operation: DeltaOperation,
    /// For fault points.
    pub deed: &'static str,
}

impl KeptTable {
    /// The files of each day, oldest first.
    pub(super) fn files_of(&self, day: &str) -> Result<Vec<DataFile>, LakeError> {
        let state = self.table.snapshot().map_err(self.error("read log"))?;
        let column = self.partition_column()?;
        let mut files: Vec<DataFile> = state
            .log_data()
            .iter()
            .filter(|file| {
                let values = file.partition_values_map();
                column.as_ref().and_then(|c| values.get(c)?.clone()).unwrap_or_default() == day
            })
            .map(|file| DataFile {
                remove: file.remove_action(false),
                path: file.object_store_path(),
                bytes: u64::try_from(file.size()).unwrap_or(0),
                written: file.modification_time(),
            })
            .collect();
        files.sort_by(|a, b| (a.written, &a.path).cmp(&(b.written, &b.path)));
        Ok(files)
    }

    /// Columns of the files, without the partition column.
    fn file_columns(&self) -> Result<(SchemaRef, Option<String>), LakeError> {
        let partition = self.partition_column()?;
        let all = self.table.snapshot().map_err(self.error("read log"))?.snapshot().arrow_schema();
        let fields: Vec<_> =
            all.fields().iter().filter(|field| Some(field.name()) != partition.as_ref()).cloned().collect();
        Ok((Arc::new(Schema::new(fields)), partition))
    }

    /// Reads files in their order, in batches of all columns that the table has now.
    pub(super) async fn read(
        &self,
        files: &[DataFile],
        mut take: impl AsyncFnMut(RecordBatch) -> Result<(), DeltaTableError>,
    ) -> Result<(), LakeError> {
        let (columns, _) = self.file_columns()?;
        let failed = self.error("read a file");
        let store = self.table.object_store();
        for file in files {
            let reader = ObjectReader { store: store.clone(), path: file.path.clone(), bytes: file.bytes };
            let builder = ParquetRecordBatchStreamBuilder::new(reader).await.map_err(|e| failed(e.into()))?;
            let rows = batch_rows(builder.metadata(), self.config.maintain.memory_bytes_max / BATCH_SHARE);
            let mut batches = builder.with_batch_size(rows).build().map_err(|e| failed(e.into()))?;
            while let Some(batch) = batches.next().await {
                let batch = batch.map_err(|e| failed(e.into()))?;
                take(fitted(&batch, &columns).map_err(|e| failed(e.into()))?).await.map_err(&failed)?;
            }
        }
        Ok(())
    }

    /// Writes files anew, each batch as `change` makes it, and exchanges them. Gives the new ones; none when another commit
    /// has removed one of the old ones meanwhile, and nothing was changed then.
    pub(super) fn rewrite(
        &mut self,
        what: &Rewrite<'_>,
        mut change: impl FnMut(RecordBatch) -> Result<RecordBatch, ArrowError>,
    ) -> Result<Option<Vec<Add>>, LakeError> {
        fault_point(&self.name, &format!("before {}", what.deed));
        let (columns, partition) = self.file_columns()?;
        let mut values = IndexMap::new();
        if let Some(column) = &partition {
            values.insert(column.clone(), partition_value(what.day));
        }
        let config = WriterConfig::new(
            columns.clone(),
            Vec::new(),
            Some(writer_properties(&self.config, &self.name, &columns)),
            None,
            Some(BATCH_ROWS),
            DataSkippingNumIndexedCols::NumColumns(32),
            None,
        );
        let mut writer = DeltaWriter::new(self.table.object_store(), config);
        let runtime = self.runtime.clone();
        runtime.block_on(self.read(what.files, async |batch| {
            let batch = change(batch)?;
            writer.write_partition(batch, &values).await
        }))?;
        let mut added = runtime.block_on(writer.close()).map_err(self.error("write files anew"))?;
        added.iter_mut().for_each(|add| add.data_change = what.changes_data);
        let exchanged = self.exchange(what, &added)?;
        fault_point(&self.name, &format!("after {}", what.deed));
        Ok(exchanged.then_some(added))
    }

    /// Commits new files in place of old ones; false when an old one is gone.
    fn exchange(&mut self, what: &Rewrite<'_>, added: &[Add]) -> Result<bool, LakeError> {
        let runtime = self.runtime.clone();
        let old: HashSet<&Path> = what.files.iter().map(|file| &file.path).collect();
        for _ in 0..TRIES {
            self.refresh()?;
            let there = self.files_of(what.day)?;
            if there.iter().filter(|file| old.contains(&file.path)).count() < old.len() {
                return Ok(false);
            }
            let now = chrono::Utc::now().timestamp_millis();
            let removed = what.files.iter().map(|file| {
                let remove = file.remove.clone();
                Action::Remove(Remove { deletion_timestamp: Some(now), data_change: what.changes_data, ..remove })
            });
            let actions = removed.chain(added.iter().cloned().map(Action::Add)).collect();
            let properties = CommitProperties::default().with_max_retries(0).with_cleanup_expired_logs(Some(false));
            let state = self.table.snapshot().map_err(self.error("read log"))?;
            let commit = CommitBuilder::from(properties).with_actions(actions).build(
                Some(state),
                self.table.log_store(),
                what.operation.clone(),
            );
            match runtime.block_on(async { commit.await }) {
                Ok(_) => {
                    self.refresh()?;
                    return Ok(true);
                }
                Err(error) if came_second(&error) => {}
                Err(error) => return Err(self.error("exchange files")(error)),
            }
        }
        let message = format!("{TRIES} commits came in between, one after the other; trying again later");
        Err(LakeError::Place { table: self.name.clone(), message })
    }
}

/// How many rows of a file take so many bytes, about.
fn batch_rows(file: &ParquetMetaData, bytes: usize) -> usize {
    let of = |value: i64| usize::try_from(value).unwrap_or(0);
    let all: usize = file.row_groups().iter().map(|group| of(group.total_byte_size())).sum();
    let rows = of(file.file_metadata().num_rows());
    // Encoded rows are smaller than rows in memory; of texts that repeat, much.
    (bytes / (all / rows.max(1)).max(1) / 2).clamp(1, BATCH_ROWS)
}

/// A Parquet file in an object store.
struct ObjectReader {
    store: Arc<dyn ObjectStore>,
    path: Path,
    bytes: u64,
}

impl AsyncFileReader for ObjectReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        async move { self.store.get_range(&self.path, range).await.map_err(|e| ParquetError::External(e.into())) }
            .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        async move {
            let bytes = self.bytes;
            Ok(Arc::new(ParquetMetaDataReader::new().load_and_finish(self, bytes).await?))
        }
        .boxed()
    }
}

/// Whether another commit was first, whatever it did.
pub(in crate::lake) fn came_second(error: &DeltaTableError) -> bool {
    matches!(
        error,
        DeltaTableError::VersionAlreadyExists(_)
            | DeltaTableError::Transaction {
                source: TransactionError::MaxCommitAttempts(_)
                    | TransactionError::VersionAlreadyExists(_)
                    | TransactionError::CommitConflict(_)
            }
    )
}

/// The batch with the columns that the table has now: what an old file lacks is null, what is wider now is cast.
fn fitted(batch: &RecordBatch, columns: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let of = |field: &arrow::datatypes::FieldRef| match batch.column_by_name(field.name()) {
        Some(column) => cast(column, field.data_type()),
        None => Ok(new_null_array(field.data_type(), batch.num_rows())),
    };
    let arrays = columns.fields().iter().map(of).collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_new(columns.clone(), arrays)
}

/// An ISO day as Delta has it; of no day, null.
fn partition_value(day: &str) -> Scalar {
    let date = chrono::NaiveDate::parse_from_str(day, "%Y-%m-%d").ok().and_then(|d| d.and_hms_opt(0, 0, 0));
    match date {
        Some(date) => Scalar::Date((date.and_utc().timestamp_millis().div_euclid(MILLIS_A_DAY)) as i32),
        None => Scalar::Null(delta_kernel::schema::DataType::DATE),
    }
}
