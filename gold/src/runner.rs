//! Runs a model: it replaces its table, or those parts of it that a change of its inputs asks for, or leaves it as it is.

use crate::{
    CARDS, Card, Engine, GoldConfig, GoldModel, LearnError, Learners, Lease, ModelError, Outcome, Partition, Run,
    RunHistory, Unit,
    learner::{card_rows, cards_table, newest_cards},
    parts::{Inputs, Scope},
    runs_schema,
};
use arrow::{
    array::AsArray,
    compute::{cast as cast_array, concat_batches},
    datatypes::{DataType, TimeUnit},
};
use datafusion::{
    catalog::MemorySchemaProvider,
    dataframe::DataFrame,
    error::DataFusionError,
    execution::{SessionStateBuilder, runtime_env::RuntimeEnvBuilder},
    prelude::{Expr, SessionContext, cast, ident, lit},
};
use sluice_sinks::lake::{
    Bucket, Day, DeltaTable, Lake, LakeError, Replaced, SCHEMAS, TableSpec, is_out_of_memory, is_transient, register,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
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
    /// Nothing can be learnt from its rows.
    #[error("{0}")]
    Learn(#[from] LearnError),
    /// The model before it failed.
    #[error("it reads gold.{0}, which failed")]
    Upstream(String),
}

/// A session that knows the lake's tables and the views, and the tables as it sees them.
pub struct LakeSession {
    /// The session.
    pub context: SessionContext,
    /// By name in SQL.
    pub tables: BTreeMap<String, DeltaTable>,
}

impl LakeSession {
    /// Lets a session read every table of a lake: `bronze.*`, `silver.*`, `gold.*`, `live.*`; without the views. Blocks: not for
    /// threads of the runtime.
    ///
    /// # Errors
    /// When a bucket cannot be listed or a table not be read.
    pub fn read(lake: &Lake, context: SessionContext, runtime: &tokio::runtime::Handle) -> Result<Self, RunError> {
        let mut tables = BTreeMap::new();
        if let Some(catalog) = context.catalog("datafusion") {
            for (schema, bucket, below) in SCHEMAS {
                catalog.register_schema(schema, Arc::new(MemorySchemaProvider::new()))?;
                for (name, table) in lake.existing(bucket, below)? {
                    let name = format!("{schema}.{name}");
                    runtime.block_on(register(&context, &name, &table))?;
                    tables.insert(name, table);
                }
            }
        }
        Ok(Self { context, tables })
    }
}

/// A table that was made.
struct Made {
    /// None when nothing had to be written.
    table: Option<DeltaTable>,
    rows: i64,
    /// So many of its parts; none: all.
    parts: Option<i64>,
}

/// What runs leave to those after them.
#[derive(Default)]
struct Seen {
    /// The lake's tables as they are now.
    tables: BTreeMap<String, DeltaTable>,
    failed: BTreeSet<String>,
    waiting: BTreeSet<String>,
}

impl Seen {
    /// The versions of what a model reads; a table that is not there is left out.
    fn inputs(&self, model: &GoldModel) -> BTreeMap<String, i64> {
        let version = |name: &String| Some((name.clone(), self.version(name)?));
        model.reads.iter().filter_map(version).collect()
    }

    fn version(&self, table: &str) -> Option<i64> {
        Some(self.tables.get(table)?.version()? as i64)
    }
}

/// Runs models in a session, from several threads when they do not read each other's tables.
pub struct Runner {
    lake: Lake,
    context: SessionContext,
    /// What runs the SQL of whole tables; none: the session.
    engine: Option<Box<dyn Engine>>,
    runtime: tokio::runtime::Handle,
    history: RunHistory,
    /// Under which runs are noted.
    lease: Lease,
    config: GoldConfig,
    learners: Learners,
    /// How tables of gold are filed.
    units: BTreeMap<String, Unit>,
    run_id: String,
    /// Milliseconds since 1970.
    clock: fn() -> i64,
    seen: Mutex<Seen>,
    /// Held while cards are written: who learns at the same time waits.
    cards: Mutex<()>,
}

impl Runner {
    /// A run over the tables of a session, whose questions have the memory of the settings from now on; it notes each model
    /// under `lease`. `clock` gives milliseconds since 1970. Blocks: not for threads of the runtime.
    ///
    /// # Errors
    /// When the history of runs cannot be read.
    pub fn new(
        lake: Lake,
        session: LakeSession,
        runtime: tokio::runtime::Handle,
        lease: Lease,
        config: GoldConfig,
        clock: fn() -> i64,
    ) -> Result<Self, RunError> {
        let LakeSession { context, tables } = session;
        let history = runtime.block_on(RunHistory::read(&context))?;
        let bounds = RuntimeEnvBuilder::from_runtime_env(&context.runtime_env());
        let bounds = bounds.with_memory_limit(config.memory_bytes_max, 1.0).build_arc()?;
        let bounded = SessionStateBuilder::new_from_existing(context.state()).with_runtime_env(bounds).build();
        *context.state_ref().write() = bounded;
        Ok(Self {
            lake,
            context,
            engine: None,
            runtime,
            history,
            lease,
            config,
            learners: Learners::new(),
            units: BTreeMap::new(),
            run_id: clock().to_string(),
            clock,
            seen: Mutex::new(Seen { tables, ..Seen::default() }),
            cards: Mutex::new(()),
        })
    }

    /// Tells how the tables of models are filed, and what learns.
    pub fn knowing(self, models: &[GoldModel], learners: Learners) -> Self {
        let unit = |model: &GoldModel| Some((model.table(), model.header.partition.as_ref()?.unit));
        Self { units: models.iter().filter_map(unit).collect(), learners, ..self }
    }

    /// Lets an engine run the SQL of tables that are made anew as a whole; parts of tables are made in this process.
    pub fn on(self, engine: Box<dyn Engine>) -> Self {
        Self { engine: Some(engine), ..self }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The table that has to be there before the model can be run: one that it names, or that of a model that waits itself.
    pub fn waits_for(&self, model: &GoldModel) -> Option<String> {
        let mut seen = self.seen();
        let missing = model.names.iter().find(|name| !seen.tables.contains_key(*name)).cloned();
        let waiting = || model.needs().find(|need| seen.waiting.contains(*need)).map(|need| format!("gold.{need}"));
        let missing = missing.or_else(waiting)?;
        seen.waiting.insert(model.name.clone());
        Some(missing)
    }

    /// Whether the model's table is what a run would make of it.
    pub fn is_current(&self, model: &GoldModel) -> bool {
        let (last, seen) = (self.history.made_of(&model.name, &model.fingerprint), self.seen());
        last.is_some_and(|last| {
            // Another version may still have the same rows: then a run finds nothing to do.
            last.version.is_some() && last.version == seen.version(&model.table()) && last.inputs == seen.inputs(model)
        })
    }

    /// Makes of a model's table anew what has to be, or all of it when `full`, and notes how that went. What it reads has been
    /// run before.
    ///
    /// # Errors
    /// When the note itself cannot be written. A model that fails is a note, not an error.
    pub fn run(&self, model: &GoldModel, full: bool) -> Result<Run, RunError> {
        let started_at = (self.clock)();
        let (inputs, failed) = {
            let seen = self.seen();
            let failed = model.needs().find(|need| seen.failed.contains(*need));
            (seen.inputs(model), failed)
        };
        let made = match failed {
            Some(need) => Err(RunError::Upstream(need.to_owned())),
            None => self.tried(&model.name, || self.make(model, full)).and_then(|made| self.take_on(model, made)),
        };
        let (rows, parts, error) = match made {
            Ok(made) => (Some(made.rows), made.parts, None),
            Err(error) => (None, None, Some(self.told(&error))),
        };
        let version = rows.and_then(|_| self.seen().version(&model.table()));
        self.note(Run {
            run_id: self.run_id.clone(),
            model: model.name.clone(),
            fingerprint: model.fingerprint.clone(),
            started_at,
            ended_at: (self.clock)(),
            outcome: if error.is_none() { Outcome::Done } else { Outcome::Failed },
            rows,
            parts,
            version,
            inputs,
            error,
        })
    }

    /// Notes that a model cannot be run.
    ///
    /// # Errors
    /// When the note cannot be written.
    pub fn refuse(&self, name: &str, why: &ModelError) -> Result<Run, RunError> {
        let now = (self.clock)();
        self.note(Run {
            run_id: self.run_id.clone(),
            model: name.to_owned(),
            fingerprint: String::new(),
            started_at: now,
            ended_at: now,
            outcome: Outcome::Failed,
            rows: None,
            parts: None,
            version: None,
            inputs: BTreeMap::new(),
            error: Some(why.to_string()),
        })
    }

    fn note(&self, run: Run) -> Result<Run, RunError> {
        if run.outcome == Outcome::Failed {
            self.seen().failed.insert(run.model.clone());
        }
        let row = run.row().map_err(|e| DataFusionError::ArrowError(Box::new(e), None))?;
        self.tried(&run.model, || Ok(self.lease.note(&row)?))?;
        Ok(run)
    }

    /// What is noted of a failure.
    fn told(&self, error: &RunError) -> String {
        match self.engine.is_none() && is_out_of_memory(error) {
            true => format!(
                "{error}; gold.memory_bytes_max says how much there is, for as many tables at a time as gold.models_at_once says"
            ),
            false => error.to_string(),
        }
    }

    /// Tries again while the store fails, or while models beside this one have the memory that it wants.
    fn tried<T>(&self, model: &str, attempt: impl Fn() -> Result<T, RunError>) -> Result<T, RunError> {
        let is_worth_it =
            |error: &RunError| is_transient(error) || (self.config.models_at_once > 1 && is_out_of_memory(error));
        let mut pause = self.config.pause;
        for _ in 1..self.config.tries {
            match attempt() {
                Err(error) if is_worth_it(&error) => {
                    tracing::warn!(model, %error, "trying again in {pause:?}");
                    std::thread::sleep(pause);
                    pause = (pause * LONGER).min(PAUSE_MAX);
                }
                ended => return ended,
            }
        }
        attempt()
    }

    fn make(&self, model: &GoldModel, full: bool) -> Result<Made, RunError> {
        // A fault of the engine is one of this model, not of the process.
        let made = catch_unwind(AssertUnwindSafe(|| match full {
            true => self.replace(model, None),
            false => self.make_changed(model),
        }));
        made.unwrap_or_else(|_| Err(DataFusionError::Internal("the engine panicked; see the log".to_owned()).into()))
    }

    fn make_changed(&self, model: &GoldModel) -> Result<Made, RunError> {
        let tables = self.seen().tables.clone();
        let inputs = Inputs { context: &self.context, tables: &tables, units: &self.units };
        let last = self.history.made_of(&model.name, &model.fingerprint);
        let Some(last) = last.filter(|_| tables.contains_key(&model.table())) else {
            return self.replace(model, None);
        };
        let parts = match (self.runtime.block_on(inputs.scope(model, last))?, &model.header.partition) {
            (Scope::Nothing, _) => {
                return Ok(Made { table: None, rows: last.rows.unwrap_or_default(), parts: Some(0) });
            }
            (Scope::Days(days), Some(partition)) => self.runtime.block_on(inputs.parts(model, partition, &days))?,
            _ => None,
        };
        self.replace(model, parts)
    }

    /// Replaces these rows of these parts, or the whole table.
    fn replace(&self, model: &GoldModel, parts: Option<(DataFrame, BTreeSet<Day>)>) -> Result<Made, RunError> {
        let partition = model.header.partition.as_ref();
        let (frame, dates) = match parts {
            Some((frame, dates)) => (frame, Some(dates)),
            None => {
                let mut frame = match &self.engine {
                    Some(engine) => engine.ask(&model.sql)?,
                    None => self.runtime.block_on(self.context.sql(&model.sql))?,
                };
                if let Some(learner) = &model.header.learn {
                    frame = self.learn(model, learner, frame)?;
                }
                let filed = |by: &Partition| frame.clone().with_column(by.column(), by.date());
                (partition.map_or(Ok(frame.clone()), filed)?, None)
            }
        };
        let name = model.table();
        let what = Replaced {
            bucket: Bucket::Gold,
            path: &model.name,
            name: &name,
            partition: partition.map(Partition::column),
            dates: dates.as_ref(),
        };
        let (table, rows) = self.lake.replace(what, storable(frame)?)?;
        Ok(Made { table: Some(table), rows, parts: dates.map(|dates| dates.len() as i64) })
    }

    /// The rows that a learner gives for those of a model's SQL. Its cards are kept first: a card without its scores is of no
    /// harm, scores without their card would be.
    fn learn(&self, model: &GoldModel, learner: &str, frame: DataFrame) -> Result<DataFrame, RunError> {
        let learner = self.learners.get(learner).ok_or_else(|| {
            let known: Vec<&str> = self.learners.keys().copied().collect();
            LearnError(format!("nothing learns '{learner}'; '-- learn:' names one of {}", known.join(", ")))
        })?;
        let schema = Arc::new(frame.schema().as_arrow().clone());
        let (rows, before) = self.runtime.block_on(async {
            let rows = concat_batches(&schema, &frame.collect().await?)?;
            Ok::<_, DataFusionError>((rows, self.cards_before(&model.name).await?))
        })?;
        let learned = learner.learn(&rows, &before)?;
        let is_new = |card: &&Card| before.get(&card.source) != Some(&card.card);
        let cards: Vec<&Card> = learned.cards.iter().filter(is_new).collect();
        if !cards.is_empty() {
            let rows = card_rows(&model.name, &cards, (self.clock)()).map_err(DataFusionError::from)?;
            let _writing = self.cards.lock().unwrap_or_else(PoisonError::into_inner);
            let mut table = self.lake.table(cards_table())?;
            table.write(&rows)?;
            table.commit()?;
        }
        Ok(self.context.read_batch(learned.rows)?)
    }

    /// What was learnt last, by source.
    async fn cards_before(&self, model: &str) -> Result<BTreeMap<String, String>, DataFusionError> {
        let mut cards = BTreeMap::new();
        let table = format!("gold.{CARDS}");
        if self.context.table_exist(&*table)? {
            let newest = self.context.sql(&newest_cards(&table)).await?;
            let mine = newest.filter(ident("model").eq(lit(model)))?.select_columns(&["source", "card"])?;
            for batch in mine.collect().await? {
                let texts = |at: usize| cast_array(batch.column(at), &DataType::Utf8);
                let (sources, texts) = (texts(0)?, texts(1)?);
                let (sources, texts) = (sources.as_string::<i32>(), texts.as_string::<i32>());
                cards
                    .extend((0..batch.num_rows()).map(|at| (sources.value(at).to_owned(), texts.value(at).to_owned())));
            }
        }
        Ok(cards)
    }

    /// Lets the models after it read the table as it is now.
    fn take_on(&self, model: &GoldModel, mut made: Made) -> Result<Made, RunError> {
        if let Some(table) = made.table.take() {
            let name = model.table();
            self.context.deregister_table(&*name)?;
            self.runtime.block_on(register(&self.context, &name, &table))?;
            if let Some(engine) = &self.engine {
                engine.take_on(&name, &table)?;
            }
            self.seen().tables.insert(name, table);
        }
        Ok(made)
    }
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
