//! One Delta table that is appended to, with the offsets it covers as `txn` actions of the same commits.
//!
//! Invariants: rows and the offsets that cover them become visible together or not at all. Rows at or below a
//! committed offset are never written again by whoever asks [`LakeTable::committed`] first. Of two owners of one
//! partition only one commits: the other learns that it was taken over.

use super::{
    Bucket, LakeConfig, Location,
    fault_point::fault_point,
    parquet_layout::writer_properties,
    table_schema::{delta_columns, fit, same, written_schema},
};
use arrow::{
    array::{ArrayRef, AsArray, BooleanArray, Date32Array, RecordBatch},
    compute::{cast, filter_record_batch},
    datatypes::{SchemaRef, TimestampMillisecondType},
};
use delta_kernel::expressions::Scalar;
use delta_kernel::table_properties::DataSkippingNumIndexedCols;
use deltalake::{
    DeltaTable, DeltaTableError,
    datafile::writer::{DeltaWriter, WriterConfig},
    kernel::{
        Action, Transaction,
        transaction::{CommitBuilder, CommitConflictError, CommitProperties, TransactionError},
    },
    operations::create::CreateBuilder,
    protocol::{DeltaOperation, SaveMode},
};
use indexmap::IndexMap;
use std::{
    collections::{BTreeMap, HashMap},
    num::NonZeroU64,
    sync::Arc,
    time::{Duration, Instant},
};

/// How often a commit is tried that only lost against one that changed what the table is.
const COMMIT_TRIES: usize = 5;
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
    /// Whether it takes on the columns that a newer version has. One whose columns are those of a model's text does not:
    /// another text is another table.
    pub follows: bool,
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
    /// What is added to the counters of application ids with the next commit.
    counted: BTreeMap<String, i64>,
    rows: u64,
}

/// The application id whose version is a counter beside `app`.
pub(super) fn counter_app(app: &str) -> String {
    format!("counted/{app}")
}

impl LakeTable {
    pub(super) fn open(
        spec: TableSpec,
        place: Location,
        config: Arc<LakeConfig>,
        runtime: tokio::runtime::Handle,
    ) -> Result<Self, LakeError> {
        let wanted = written_schema(&spec);
        let name = spec.name.clone();
        let delta = |deed| {
            let table = name.clone();
            move |source| LakeError::Delta { table, deed, source: Box::new(source) }
        };
        let (table, schema) = runtime.block_on(async {
            let mut table = place.delta().and_then(|delta| delta.build()).map_err(delta("open"))?;
            match table.load().await {
                Ok(()) => follow(&spec, &wanted, table).await,
                Err(DeltaTableError::NotATable(_)) => {
                    let made = create(&spec, &wanted, &table).await.map_err(delta("create"))?;
                    follow(&spec, &wanted, made).await
                }
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
            counted: BTreeMap::new(),
            rows: 0,
        })
    }

    /// The table as Delta knows it.
    pub(super) fn into_delta(self) -> DeltaTable {
        self.table
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
        self.counted.remove(app);
        Ok(())
    }

    /// Forgets what was written since the last commit: nobody will ever see it.
    pub fn discard(&mut self) {
        self.writer = None;
        self.covered.clear();
        self.counted.clear();
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
        // The partition column is the last one, and not in the batch.
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

    /// Adds to a number that is kept beside what is committed of `app`, and committed with it: of records that are covered
    /// and have no row here.
    pub fn count(&mut self, app: &str, more: i64) {
        *self.counted.entry(app.to_owned()).or_default() += more;
    }

    /// Commits the rows written, the offsets covered and what was counted, atomically. Does nothing when there are no rows
    /// and nothing was counted.
    ///
    /// # Errors
    /// [`LakeError::Fenced`] when another worker owns one of the offsets now; else when the store fails.
    pub fn commit(&mut self) -> Result<CommitStats, LakeError> {
        let writer = self.writer.take();
        if writer.is_none() && self.counted.values().all(|more| *more == 0) {
            return Ok(CommitStats::default());
        }
        let started = Instant::now();
        let rows = std::mem::take(&mut self.rows);
        fault_point(&self.spec.name, "before files");
        let adds = match writer {
            Some(writer) => self.runtime.block_on(writer.close()).map_err(self.error("close files"))?,
            None => Vec::new(),
        };
        fault_point(&self.spec.name, "before commit");
        let stats = CommitStats {
            rows,
            files: adds.len() as u64,
            bytes: adds.iter().map(|a| a.size as u64).sum(),
            took: Duration::ZERO,
        };
        let covered = std::mem::take(&mut self.covered);
        let counted = std::mem::take(&mut self.counted);
        let actions: Vec<Action> = adds.into_iter().map(Action::Add).collect();
        let mut tries = 1;
        while let Err(error) = self.commit_once(&covered, &counted, &actions) {
            // Only what the table is was changed, as by a column that came: what we add is as good as before.
            let conflict = match &error {
                LakeError::Delta { source, .. } => conflict(source),
                _ => None,
            };
            if !matches!(conflict, Some(CommitConflictError::MetadataChanged)) || tries == COMMIT_TRIES {
                return Err(error);
            }
            tries += 1;
        }
        fault_point(&self.spec.name, "after commit");
        for (app, version) in covered {
            self.committed.insert(app, Some(version));
        }
        Ok(CommitStats { took: started.elapsed(), ..stats })
    }

    fn commit_once(
        &mut self,
        covered: &BTreeMap<String, i64>,
        counted: &BTreeMap<String, i64>,
        actions: &[Action],
    ) -> Result<(), LakeError> {
        self.runtime.block_on(self.table.update_state()).map_err(self.error("refresh"))?;
        let mut transactions = Vec::new();
        for (app, version) in covered {
            let expected = self.committed(app)?;
            let found = self.transaction_version(app)?;
            if expected != found {
                return Err(LakeError::Fenced { table: self.spec.name.clone(), app: app.clone(), expected, found });
            }
            if expected != Some(*version) {
                transactions.push(Transaction::new(app, *version));
            }
        }
        for (app, more) in counted {
            let app = counter_app(app);
            let before = self.transaction_version(&app)?;
            // From the first commit on, or a lake that began without counting would seem to have counted all.
            if before.is_some() || covered.keys().any(|c| counter_app(c) == app && self.committed.get(c) == Some(&None))
            {
                transactions.push(Transaction::new(&app, before.unwrap_or(0) + more));
            }
        }
        let operation = DeltaOperation::Write {
            mode: SaveMode::Append,
            partition_by: self.spec.partition.as_ref().map(|p| vec![p.column.to_owned()]),
            predicate: None,
        };
        let log = self.table.log_store();
        let properties = CommitProperties::default()
            .with_application_transactions(transactions)
            // It lists the whole log, and so is done apart and seldom: see `maintain`.
            .with_cleanup_expired_logs(Some(false));
        let state = self.table.snapshot().map_err(self.error("read log"))?;
        let commit = CommitBuilder::from(properties).with_actions(actions.to_vec()).build(Some(state), log, operation);
        let Err(source) = self.runtime.block_on(async { commit.await }) else { return Ok(()) };
        if matches!(conflict(&source), Some(CommitConflictError::ConcurrentTransaction)) {
            let app = covered.keys().cloned().collect::<Vec<_>>().join(", ");
            return Err(LakeError::Fenced { table: self.spec.name.clone(), app, expected: None, found: None });
        }
        Err(self.error("commit")(source))
    }
}

/// What another commit did that this one cannot live with.
pub(super) fn conflict(error: &DeltaTableError) -> Option<&CommitConflictError> {
    match error {
        DeltaTableError::Transaction { source: TransactionError::CommitConflict(conflict) } => Some(conflict),
        _ => None,
    }
}

/// Brings a table that another version of sluice made to the columns of this one.
async fn follow(
    spec: &TableSpec,
    wanted: &SchemaRef,
    mut table: DeltaTable,
) -> Result<(DeltaTable, SchemaRef), LakeError> {
    let failed = |deed| {
        let table = spec.name.clone();
        move |source| LakeError::Delta { table, deed, source: Box::new(source) }
    };
    for _ in 0..COMMIT_TRIES {
        let state = table.snapshot().map_err(failed("read columns"))?;
        let fitted = match spec.follows {
            true => fit(wanted, &state.schema(), &state.snapshot().arrow_schema()),
            false => same(wanted, &state.schema()),
        };
        let fitted = fitted.map_err(|why| LakeError::Place {
            table: spec.name.clone(),
            message: format!("{why}; give the changed model another name, or move the table's folder away"),
        })?;
        if fitted.add.is_empty() {
            return Ok((table, fitted.schema));
        }
        let names: Vec<_> = fitted.add.iter().map(|field| field.name().clone()).collect();
        match table.clone().add_columns().with_fields(fitted.add).await {
            Ok(_) => tracing::info!(table = spec.name, columns = names.join(", "), "added to the table"),
            // Another worker may be adding them too.
            Err(error) if conflict(&error).is_some() => {}
            Err(error) => return Err(failed("add columns")(error)),
        }
        table.update_state().await.map_err(failed("refresh"))?;
    }
    let message = "the table's columns change all the time: is another version of sluice at work?".to_owned();
    Err(LakeError::Place { table: spec.name.clone(), message })
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
    WriterConfig::new(
        schema.clone(),
        spec.partition.iter().map(|p| p.column.to_owned()).collect(),
        Some(writer_properties(config, &spec.name, schema)),
        NonZeroU64::new(config.roll_bytes),
        Some(1 << 16),
        DataSkippingNumIndexedCols::NumColumns(32),
        None,
    )
}
