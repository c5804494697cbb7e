//! One Delta table that is appended to, with the offsets it covers as `txn` actions of the same commits.
//!
//! Invariants: rows and the offsets that cover them become visible together or not at all. Rows at or below a
//! committed offset are never written again by whoever asks [`LakeTable::committed`] first. Of two owners of one
//! partition only one commits: the other learns that it was taken over.

use super::{Bucket, LakeConfig, Location};
use arrow::{
    array::{ArrayRef, AsArray, BooleanArray, Date32Array, RecordBatch},
    compute::{cast, filter_record_batch},
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit, TimestampMillisecondType},
};
use delta_kernel::expressions::Scalar;
use delta_kernel::table_properties::DataSkippingNumIndexedCols;
use deltalake::{
    DeltaTable, DeltaTableBuilder, DeltaTableError,
    datafile::writer::{DeltaWriter, WriterConfig},
    kernel::{
        Action, StructType, Transaction,
        engine::arrow_conversion::TryIntoKernel,
        transaction::{CommitBuilder, CommitConflictError, CommitProperties, TransactionError},
    },
    operations::create::CreateBuilder,
    protocol::{DeltaOperation, SaveMode},
};
use indexmap::IndexMap;
use parquet::{
    basic::{Compression, Encoding, ZstdLevel},
    file::properties::{EnabledStatistics, WriterProperties},
    schema::types::ColumnPath,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    num::NonZeroU64,
    sync::Arc,
    time::{Duration, Instant},
};

/// Rows of one row group: large enough for good encoding, small enough to skip.
const ROW_GROUP_ROWS: usize = 1 << 20;
const MILLIS_A_DAY: i64 = 86_400_000;

/// Rows of a table are filed by the UTC day of a time column.
#[derive(Clone, Debug)]
pub struct DatePartition {
    /// Name of the partition column.
    pub column: &'static str,
    /// The time column.
    pub from: &'static str,
}

/// What a table is.
#[derive(Clone, Debug)]
pub struct TableSpec {
    /// Its bucket.
    pub bucket: Bucket,
    /// Its folder there.
    pub path: String,
    /// Its name in SQL and in metrics.
    pub name: String,
    /// Its columns, without the partition column.
    pub schema: SchemaRef,
    /// How it is partitioned.
    pub partition: Option<DatePartition>,
}

/// What a commit wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommitStats {
    /// Rows.
    pub rows: u64,
    /// Parquet files.
    pub files: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Time of closing the files and committing.
    pub took: Duration,
}

/// Why a table could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    /// Its place is wrong or cannot be reached.
    #[error("lake table {table}: {message}")]
    Place {
        /// The table.
        table: String,
        /// What is wrong.
        message: String,
    },
    /// Another worker has committed this partition further. Stop: retrying cannot help.
    #[error(
        "{app} of table {table} was taken over: it stands at {found:?}, expected {expected:?}; stopping this worker"
    )]
    Fenced {
        /// The table.
        table: String,
        /// Group, topic and partition.
        app: String,
        /// What this worker committed last.
        expected: Option<i64>,
        /// What the table says.
        found: Option<i64>,
    },
    /// The store or Delta failed. Safe to retry from the committed offsets.
    #[error("lake table {table}: {deed}: {source}")]
    Delta {
        /// The table.
        table: String,
        /// What was tried.
        deed: &'static str,
        /// What Delta said.
        source: Box<DeltaTableError>,
    },
    /// A batch does not fit the table.
    #[error("lake table {table}: {source}")]
    Arrow {
        /// The table.
        table: String,
        /// What Arrow said.
        source: arrow::error::ArrowError,
    },
}

/// A table that is appended to.
pub struct LakeTable {
    spec: TableSpec,
    /// Columns as written: the spec's with microseconds, then the partition column.
    schema: SchemaRef,
    config: Arc<LakeConfig>,
    runtime: tokio::runtime::Handle,
    table: DeltaTable,
    committed: HashMap<String, Option<i64>>,
    writer: Option<DeltaWriter>,
    covered: BTreeMap<String, i64>,
    rows: u64,
}

impl LakeTable {
    pub(super) fn open(
        spec: TableSpec,
        place: Location,
        config: Arc<LakeConfig>,
        runtime: tokio::runtime::Handle,
    ) -> Result<Self, LakeError> {
        let schema = written_schema(&spec);
        let name = spec.name.clone();
        let delta = |deed| {
            let table = name.clone();
            move |source| LakeError::Delta { table, deed, source: Box::new(source) }
        };
        let table = runtime.block_on(async {
            let mut table = DeltaTableBuilder::from_url(place.url.clone())
                .and_then(|b| b.with_storage_backend(place.store.clone(), place.url.clone()).build())
                .map_err(delta("open"))?;
            match table.load().await {
                Ok(()) => {
                    same_columns(&spec, &schema, &table)?;
                    Ok(table)
                }
                Err(DeltaTableError::NotATable(_)) => create(&spec, &schema, &table).await.map_err(delta("create")),
                Err(error) => Err(delta("read log")(error)),
            }
        })?;
        Ok(Self {
            spec,
            schema,
            config,
            runtime,
            table,
            committed: HashMap::new(),
            writer: None,
            covered: BTreeMap::new(),
            rows: 0,
        })
    }

    /// Its name in SQL.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// The last version committed for this application id (`group/topic/partition`); none when there is none.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn committed(&mut self, app: &str) -> Result<Option<i64>, LakeError> {
        if let Some(known) = self.committed.get(app) {
            return Ok(*known);
        }
        let found = self.transaction_version(app)?;
        self.committed.insert(app.to_owned(), found);
        Ok(found)
    }

    fn error(&self, deed: &'static str) -> impl FnOnce(DeltaTableError) -> LakeError + use<> {
        let table = self.spec.name.clone();
        move |source| LakeError::Delta { table, deed, source: Box::new(source) }
    }

    fn transaction_version(&self, app: &str) -> Result<Option<i64>, LakeError> {
        let log = self.table.log_store();
        let state = self.table.snapshot().map_err(self.error("read log"))?;
        self.runtime.block_on(state.transaction_version(log.as_ref(), app)).map_err(self.error("read txn"))
    }

    /// Asks the table again what is committed of `app`, which another worker may have owned in between.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn reload(&mut self, app: &str) -> Result<(), LakeError> {
        self.runtime.block_on(self.table.update_state()).map_err(self.error("refresh"))?;
        self.committed.remove(app);
        self.covered.remove(app);
        Ok(())
    }

    /// Forgets what was written since the last commit: nobody will ever see it.
    pub fn discard(&mut self) {
        self.writer = None;
        self.covered.clear();
        self.committed.clear();
        self.rows = 0;
    }

    /// Rows written since the last commit.
    pub fn pending_rows(&self) -> u64 {
        self.rows
    }

    /// Writes rows; nobody sees them before [`LakeTable::commit`]. Full files are uploaded at once.
    ///
    /// # Errors
    /// When the batch does not fit or the store fails.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), LakeError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let arrow = |source| LakeError::Arrow { table: self.spec.name.clone(), source };
        let parts = self.partitions(batch).map_err(arrow)?;
        let writer = match &mut self.writer {
            Some(writer) => writer,
            None => {
                let store = self.table.object_store();
                self.writer.insert(DeltaWriter::new(store, writer_config(&self.spec, &self.schema, &self.config)))
            }
        };
        let written = self.runtime.block_on(async {
            for (values, rows) in parts {
                writer.write_partition(rows, &values).await?;
            }
            Ok(())
        });
        self.rows += batch.num_rows() as u64;
        written.map_err(self.error("write"))
    }

    /// The batch in written columns, cut by day.
    #[allow(clippy::type_complexity, reason = "what the Delta writer takes")]
    fn partitions(
        &self,
        batch: &RecordBatch,
    ) -> Result<Vec<(IndexMap<String, Scalar>, RecordBatch)>, arrow::error::ArrowError> {
        let mut columns = Vec::with_capacity(self.schema.fields().len());
        for (field, column) in self.schema.fields().iter().zip(batch.columns()) {
            columns.push(if column.data_type() == field.data_type() {
                column.clone()
            } else {
                cast(column, field.data_type())?
            });
        }
        let Some(partition) = &self.spec.partition else {
            return Ok(vec![(IndexMap::new(), RecordBatch::try_new(self.schema.clone(), columns)?)]);
        };
        let times = batch.column(batch.schema().index_of(partition.from)?);
        let times = times.as_primitive::<TimestampMillisecondType>().values();
        let days: Date32Array = times.iter().map(|t| Some(t.div_euclid(MILLIS_A_DAY) as i32)).collect();
        columns.push(Arc::new(days.clone()) as ArrayRef);
        let whole = RecordBatch::try_new(self.schema.clone(), columns)?;
        let values = |day: i32| IndexMap::from([(partition.column.to_owned(), Scalar::Date(day))]);
        let mut found: Vec<i32> = Vec::new();
        for day in days.values() {
            if !found.contains(day) {
                found.push(*day);
            }
        }
        if let [day] = found[..] {
            return Ok(vec![(values(day), whole)]);
        }
        found
            .into_iter()
            .map(|day| {
                let mine = BooleanArray::from_unary(&days, |d| d == day);
                Ok((values(day), filter_record_batch(&whole, &mine)?))
            })
            .collect()
    }

    /// Says that everything of `app` up to and with `version` is written; told with the next commit that has rows.
    pub fn cover(&mut self, app: &str, version: i64) {
        self.covered.insert(app.to_owned(), version);
    }

    /// Commits the rows written and the offsets covered, atomically. Does nothing when there are no rows.
    ///
    /// # Errors
    /// [`LakeError::Fenced`] when another worker owns one of the offsets now; else when the store fails.
    pub fn commit(&mut self) -> Result<CommitStats, LakeError> {
        let Some(writer) = self.writer.take() else { return Ok(CommitStats::default()) };
        let started = Instant::now();
        let rows = std::mem::take(&mut self.rows);
        let adds = self.runtime.block_on(writer.close()).map_err(self.error("close files"))?;
        let stats = CommitStats {
            rows,
            files: adds.len() as u64,
            bytes: adds.iter().map(|a| a.size as u64).sum(),
            took: Duration::ZERO,
        };
        self.runtime.block_on(self.table.update_state()).map_err(self.error("refresh"))?;
        let covered = std::mem::take(&mut self.covered);
        let mut transactions = Vec::new();
        for (app, version) in &covered {
            let expected = self.committed(app)?;
            let found = self.transaction_version(app)?;
            if expected != found {
                return Err(LakeError::Fenced { table: self.spec.name.clone(), app: app.clone(), expected, found });
            }
            if expected != Some(*version) {
                transactions.push(Transaction::new(app, *version));
            }
        }
        let operation = DeltaOperation::Write {
            mode: SaveMode::Append,
            partition_by: self.spec.partition.as_ref().map(|p| vec![p.column.to_owned()]),
            predicate: None,
        };
        let log = self.table.log_store();
        let actions = adds.into_iter().map(Action::Add).collect();
        let properties = CommitProperties::default().with_application_transactions(transactions);
        let state = self.table.snapshot().map_err(self.error("read log"))?;
        let commit = CommitBuilder::from(properties).with_actions(actions).build(Some(state), log, operation);
        if let Err(source) = self.runtime.block_on(async { commit.await }) {
            if let DeltaTableError::Transaction {
                source: TransactionError::CommitConflict(CommitConflictError::ConcurrentTransaction),
            } = &source
            {
                let app = covered.keys().cloned().collect::<Vec<_>>().join(", ");
                return Err(LakeError::Fenced { table: self.spec.name.clone(), app, expected: None, found: None });
            }
            return Err(self.error("commit")(source));
        }
        for (app, version) in covered {
            self.committed.insert(app, Some(version));
        }
        Ok(CommitStats { took: started.elapsed(), ..stats })
    }
}

fn written_schema(spec: &TableSpec) -> SchemaRef {
    let mut fields: Vec<Field> = spec
        .schema
        .fields()
        .iter()
        .map(|field| match field.data_type() {
            // Delta knows microseconds only.
            DataType::Timestamp(_, zone) => {
                field.as_ref().clone().with_data_type(DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))
            }
            DataType::UInt64 | DataType::UInt32 => field.as_ref().clone().with_data_type(DataType::Int64),
            DataType::UInt16 => field.as_ref().clone().with_data_type(DataType::Int32),
            _ => field.as_ref().clone(),
        })
        .collect();
    if let Some(partition) = &spec.partition {
        fields.push(Field::new(partition.column, DataType::Date32, false));
    }
    Arc::new(Schema::new(fields))
}

/// The columns in Delta's own types.
fn delta_columns(schema: &SchemaRef) -> Result<StructType, DeltaTableError> {
    // Kernel conversion knows plain strings; views are a matter of memory, not of the table.
    let plain: Vec<Field> = schema
        .fields()
        .iter()
        .map(|f| match f.data_type() {
            DataType::Utf8View => f.as_ref().clone().with_data_type(DataType::Utf8),
            _ => f.as_ref().clone(),
        })
        .collect();
    (&Schema::new(plain)).try_into_kernel().map_err(DeltaTableError::from)
}

/// Refuses to write into a table that was made with other columns, as by an older text of a model.
fn same_columns(spec: &TableSpec, schema: &SchemaRef, table: &DeltaTable) -> Result<(), LakeError> {
    let delta = |source| LakeError::Delta { table: spec.name.clone(), deed: "read columns", source: Box::new(source) };
    let wanted = delta_columns(schema).map_err(delta)?;
    let there = table.snapshot().map_err(delta)?.schema();
    let types = |columns: &StructType| -> BTreeMap<String, String> {
        columns.fields().map(|f| (f.name().clone(), f.data_type().to_string())).collect()
    };
    let (wanted, there) = (types(&wanted), types(&there));
    let names: BTreeSet<_> = wanted.keys().chain(there.keys()).collect();
    for name in names {
        let (now, before) = (wanted.get(name), there.get(name));
        if now != before {
            let said = |column: Option<&String>| column.map_or("missing".to_owned(), |t| format!("a {t}"));
            return Err(LakeError::Place {
                table: spec.name.clone(),
                message: format!(
                    "column {name} is {} in the table and {} now; give the changed model another name, or move the table's \
                     folder away",
                    said(before),
                    said(now)
                ),
            });
        }
    }
    Ok(())
}

async fn create(spec: &TableSpec, schema: &SchemaRef, table: &DeltaTable) -> Result<DeltaTable, DeltaTableError> {
    let columns = delta_columns(schema)?;
    let created = CreateBuilder::new()
        .with_log_store(table.log_store())
        .with_table_name(&spec.name)
        .with_columns(columns.fields().cloned())
        .with_partition_columns(spec.partition.iter().map(|p| p.column))
        .with_save_mode(SaveMode::ErrorIfExists)
        .await;
    match created {
        Ok(table) => Ok(table),
        Err(error) => {
            // Another worker may have made it at the same moment; Delta says so in more than one way.
            let mut table = table.clone();
            match table.load().await {
                Ok(()) => Ok(table),
                Err(_) => Err(error),
            }
        }
    }
}

fn writer_config(spec: &TableSpec, schema: &SchemaRef, config: &LakeConfig) -> WriterConfig {
    let level = ZstdLevel::try_new(config.zstd_level).unwrap_or_default();
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS));
    // Ids do not repeat: a dictionary of them is work for nothing.
    for column in ["event_id", "_offset", "event_time", "_log_time"] {
        properties = properties.set_column_dictionary_enabled(ColumnPath::from(column), false);
    }
    for column in ["_offset", "event_time", "_log_time"] {
        properties = properties.set_column_encoding(ColumnPath::from(column), Encoding::DELTA_BINARY_PACKED);
    }
    WriterConfig::new(
        schema.clone(),
        spec.partition.iter().map(|p| p.column.to_owned()).collect(),
        Some(properties.build()),
        NonZeroU64::new(config.roll_bytes),
        Some(1 << 16),
        DataSkippingNumIndexedCols::NumColumns(32),
        None,
    )
}
