//! Gold on a cluster: its processes, and the engine that asks them.

use crate::{Config, WrongUse, roles};
use anyhow::{Context, Result};
use arrow::datatypes::DataType;
use clap::Args;
use datafusion::prelude::{cast, ident};
use sluice_cluster::{ClusterEngine, Dated, ExecutorSettings, Shared, run_executor, run_scheduler};
use sluice_gold::{Engine, GoldModel, LakeSession};
use sluice_sinks::lake::{Location, date_column};
use sluice_stream_processor::register_batch_functions;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// The engine in this process.
pub(crate) const LOCAL: &str = "local";
const SCHEME: &str = "ballista://";
const TICK: Duration = Duration::from_millis(100);

/// The columns of dates by which tables of the stream are filed, and the times that they are the days of.
const FILED_BY: [(&str, &str); 6] = [
    ("event_date", "event_time"),
    ("window_date", "window_start"),
    ("observed_date", "observed_at"),
    ("ingest_date", "_log_time"),
    ("ingest_date", "log_time"),
    ("ingest_date", "fetched_at"),
];

/// How an executor runs.
#[derive(Debug, Args)]
pub(crate) struct ExecutorArgs {
    /// The scheduler's host and port.
    #[arg(long, default_value = "127.0.0.1:50050")]
    scheduler: String,
    /// Address for other executors and for who asks; the scheduler calls on the next higher port.
    #[arg(long, default_value = "127.0.0.1:50051")]
    listen: SocketAddr,
    /// How others reach this machine [default: the address it listens on].
    #[arg(long)]
    external_host: Option<String>,
    /// Tasks at a time [default: the machine's cores].
    #[arg(long)]
    cores: Option<usize>,
    /// Memory of all tasks together, in bytes.
    #[arg(long, default_value_t = 2 << 30)]
    memory_bytes_max: u64,
}

/// Whether an engine of this name can be asked for.
pub(crate) fn check_engine(engine: &str) -> Result<()> {
    match engine == LOCAL || engine.strip_prefix(SCHEME).is_some_and(|at| at.contains(':')) {
        true => Ok(()),
        false => Err(WrongUse(format!("'{engine}' is no engine for gold: it is {LOCAL} or {SCHEME}host:port")).into()),
    }
}

/// A session at a scheduler, over the tables of one in this process.
pub(crate) fn connect(
    url: &str,
    config: &Config,
    session: &LakeSession,
    models: &[GoldModel],
    runtime: &tokio::runtime::Handle,
) -> Result<Box<dyn Engine>> {
    let filed = |model: &GoldModel| {
        let by = model.header.partition.as_ref()?;
        Some((model.table(), Dated { column: by.column().to_owned(), date: by.date() }))
    };
    let mut dated: BTreeMap<String, Dated> = models.iter().filter_map(filed).collect();
    for (name, table) in &session.tables {
        let Some(column) = date_column(table) else { continue };
        let schema = table.snapshot()?.schema();
        let from = FILED_BY.iter().filter(|(by, _)| *by == column).find(|(_, from)| schema.field(*from).is_some());
        if let Some((_, from)) = from {
            dated.insert(name.clone(), Dated { column, date: cast(ident(*from), DataType::Date32) });
        }
    }
    let engine = ClusterEngine::connect(url, &session.tables, dated, &shared(config)?, runtime.clone());
    Ok(Box::new(engine.with_context(|| format!("connect to the scheduler {url}"))?))
}

fn shared(config: &Config) -> Result<Shared> {
    let mut stores = Vec::new();
    for root in [&config.lake.bronze, &config.lake.silver, &config.lake.gold] {
        if root.starts_with("s3://") {
            let place = Location::at(&config.lake, root, "").map_err(anyhow::Error::msg)?;
            stores.push((place.url.join("/").context("the bucket's address")?, place.store));
        }
    }
    Ok(Shared { stores, functions: register_batch_functions })
}

/// `sluice gold scheduler`.
pub(crate) fn scheduler(config: &Config, listen: SocketAddr) -> Result<()> {
    let runtime = roles::runtime()?;
    let stop = roles::stop_signal(&runtime);
    let shared = shared(config)?;
    eprintln!("scheduler of gold at {SCHEME}{listen}");
    Ok(runtime.block_on(run_scheduler(listen, shared, stopped(stop)))?)
}

async fn stopped(stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Acquire) {
        tokio::time::sleep(TICK).await;
    }
}

/// `sluice gold executor`.
pub(crate) fn executor(config: &Config, args: ExecutorArgs) -> Result<()> {
    let runtime = roles::runtime()?;
    let address = args.scheduler.rsplit_once(':').and_then(|(host, port)| Some((host.to_owned(), port.parse().ok()?)));
    let scheduler =
        address.ok_or_else(|| WrongUse(format!("--scheduler {}: give its host and port", args.scheduler)))?;
    let cores = args.cores.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let settings = ExecutorSettings {
        scheduler,
        listen: args.listen,
        external_host: args.external_host,
        cores,
        memory_bytes_max: args.memory_bytes_max,
        dir: config.dir.join(format!("executor-{}", args.listen.port())),
    };
    eprintln!("executor of gold at {}, for the scheduler {}", args.listen, args.scheduler);
    Ok(runtime.block_on(run_executor(settings, shared(config)?))?)
}
