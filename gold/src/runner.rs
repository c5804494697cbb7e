//! Runs models, one after the other: each replaces its table as a whole, or leaves it as it is.

use crate::{GoldModel, Lease, ModelError, Outcome, Run, RunHistory, runs_schema};
use arrow::datatypes::{DataType, TimeUnit};
use datafusion::{
    dataframe::DataFrame,
    error::DataFusionError,
    prelude::{Expr, SessionContext, cast, ident},
};
use sluice_sinks::lake::{Bucket, DeltaTable, Lake, LakeError, TableSpec, is_transient};
use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

/// A pause is so many times the one before, at most [`PAUSE_MAX`].
const LONGER: u32 = 2;
const PAUSE_MAX: Duration = Duration::from_secs(300);

/// Why a model's table was not made.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Its SQL does not fit the tables, or fails on their rows.
    #[error("{0}")]
    Query(#[from] DataFusionError),
    /// The lake could not be read or written.
    #[error("{0}")]
    Lake(#[from] LakeError),
    /// The model before it failed.
    #[error("it reads gold.{0}, which failed")]
    Upstream(String),
}

impl RunError {
    /// Whether another try may go well: the store or the network failed, or another writer was first.
    pub fn is_transient(&self) -> bool {
        is_transient(self)
    }
}

/// How often a model is tried whose store fails, and the pause before the second try.
#[derive(Clone, Copy, Debug)]
pub struct Tries {
    /// At least 1.
    pub count: u32,
    /// Longer before each further one.
    pub pause: Duration,
}

/// Runs models in a session that knows the lake's tables and the views.
pub struct Runner {
    lake: Lake,
    context: SessionContext,
    runtime: tokio::runtime::Handle,
    history: RunHistory,
    /// Under which runs are noted.
    lease: Lease,
    tries: Tries,
    /// Delta versions of the tables that are there.
    versions: BTreeMap<String, i64>,
    run_id: String,
    failed: BTreeSet<String>,
}

impl Runner {
    /// A run over the tables of these versions. Blocks: not for threads of the runtime.
    ///
    /// # Errors
    /// When the history of runs cannot be read.
    pub fn new(
        lake: Lake,
        context: SessionContext,
        runtime: tokio::runtime::Handle,
        versions: BTreeMap<String, i64>,
        lease: Lease,
        tries: Tries,
        run_id: String,
    ) -> Result<Self, RunError> {
        let history = runtime.block_on(RunHistory::read(&context))?;
        Ok(Self { lake, context, runtime, history, lease, tries, versions, run_id, failed: BTreeSet::new() })
    }

    /// The versions of what a model reads; a table that is not there is left out.
    fn inputs(&self, model: &GoldModel) -> BTreeMap<String, i64> {
        let version = |table: &String| Some((table.clone(), *self.versions.get(table)?));
        model.reads.iter().filter_map(version).collect()
    }

    /// Whether the model's table is what a run would make of it.
    pub fn is_current(&self, model: &GoldModel) -> bool {
        let is_there = self.versions.contains_key(&table_of(model));
        is_there && self.history.is_current(&model.name, &model.fingerprint, &self.inputs(model))
    }

    /// Makes a model's table anew and notes how that went; `clock` gives milliseconds since 1970.
    ///
    /// # Errors
    /// When the note itself cannot be written. A model that fails is a note, not an error.
    pub fn run(&mut self, model: &GoldModel, clock: impl Fn() -> i64) -> Result<Run, RunError> {
        let (started_at, inputs) = (clock(), self.inputs(model));
        let made = match model.needs().find(|need| self.failed.contains(*need)) {
            Some(need) => Err(RunError::Upstream(need.to_owned())),
            None => self.tried(&model.name, || self.replace(model)).and_then(|made| self.take_on(model, made)),
        };
        let (outcome, rows, error) = match made {
            Ok(rows) => (Outcome::Done, Some(rows), None),
            Err(error) => {
                self.failed.insert(model.name.clone());
                (Outcome::Failed, None, Some(error.to_string()))
            }
        };
        let run = Run {
            run_id: self.run_id.clone(),
            model: model.name.clone(),
            fingerprint: model.fingerprint.clone(),
            started_at,
            ended_at: clock(),
            outcome,
            rows,
            inputs,
            error,
        };
        self.note(run)
    }

    /// Notes that a model cannot be run.
    ///
    /// # Errors
    /// When the note cannot be written.
    pub fn refuse(&mut self, name: &str, why: &ModelError, clock: impl Fn() -> i64) -> Result<Run, RunError> {
        self.failed.insert(name.to_owned());
        let run = Run {
            run_id: self.run_id.clone(),
            model: name.to_owned(),
            fingerprint: String::new(),
            started_at: clock(),
            ended_at: clock(),
            outcome: Outcome::Failed,
            rows: None,
            inputs: BTreeMap::new(),
            error: Some(why.to_string()),
        };
        self.note(run)
    }

    fn note(&self, run: Run) -> Result<Run, RunError> {
        let row = run.row().map_err(|e| DataFusionError::ArrowError(Box::new(e), None))?;
        self.tried(&run.model, || Ok(self.lease.note(&row)?))?;
        Ok(run)
    }

    /// Tries again while the store fails.
    fn tried<T>(&self, model: &str, attempt: impl Fn() -> Result<T, RunError>) -> Result<T, RunError> {
        let mut pause = self.tries.pause;
        for _ in 1..self.tries.count {
            match attempt() {
                Err(error) if error.is_transient() => {
                    tracing::warn!(model, %error, "trying again in {pause:?}");
                    std::thread::sleep(pause);
                    pause = (pause * LONGER).min(PAUSE_MAX);
                }
                ended => return ended,
            }
        }
        attempt()
    }

    fn replace(&self, model: &GoldModel) -> Result<(DeltaTable, i64), RunError> {
        // A fault of the engine is one of this model, not of the process.
        let made = catch_unwind(AssertUnwindSafe(|| {
            let frame = self.runtime.block_on(async { storable(self.context.sql(&model.sql).await?) })?;
            Ok(self.lake.replace(Bucket::Gold, &model.name, &table_of(model), frame)?)
        }));
        made.unwrap_or_else(|_| Err(DataFusionError::Internal("the engine panicked; see the log".to_owned()).into()))
    }

    /// Lets the models after it read the table as it is now.
    fn take_on(&mut self, model: &GoldModel, (table, rows): (DeltaTable, i64)) -> Result<i64, RunError> {
        let session = table.update_datafusion_session(&self.context.state());
        session.map_err(|e| DataFusionError::External(Box::new(e)))?;
        let provider = self.runtime.block_on(table.table_provider().build());
        let provider = provider.map_err(|e| DataFusionError::External(Box::new(e)))?;
        let name = table_of(model);
        self.context.deregister_table(&*name)?;
        self.context.register_table(&*name, Arc::new(provider))?;
        self.versions.insert(name, table.version().unwrap_or_default() as i64);
        Ok(rows)
    }
}

/// The name in SQL of a model's table.
fn table_of(model: &GoldModel) -> String {
    format!("gold.{}", model.name)
}

/// The history of runs: a row for each model that ran.
pub fn runs_table() -> TableSpec {
    TableSpec {
        bucket: Bucket::Gold,
        path: "runs".to_owned(),
        name: "gold.runs".to_owned(),
        schema: runs_schema(),
        partition: None,
        follows: true,
    }
}

/// The same with columns of types that Delta has.
fn storable(frame: DataFrame) -> Result<DataFrame, DataFusionError> {
    let columns: Vec<Expr> = frame
        .schema()
        .fields()
        .iter()
        .map(|field| {
            let column = ident(field.name());
            let to = match field.data_type() {
                DataType::UInt64 | DataType::UInt32 => DataType::Int64,
                DataType::UInt16 | DataType::UInt8 => DataType::Int32,
                DataType::Utf8View | DataType::LargeUtf8 | DataType::Null => DataType::Utf8,
                DataType::Timestamp(unit, zone) if *unit != TimeUnit::Microsecond => {
                    DataType::Timestamp(TimeUnit::Microsecond, zone.clone())
                }
                DataType::Date64 => DataType::Date32,
                _ => return column,
            };
            cast(column, to).alias(field.name())
        })
        .collect();
    frame.select(columns)
}
