//! The processes of a cluster.

use crate::Shared;
use ballista::prelude::SessionConfigExt as _;
use ballista_core::{error::BallistaError, registry::BallistaFunctionRegistry, utils::default_session_builder};
use ballista_executor::executor_process::{ExecutorProcessConfig, start_executor_process};
use ballista_scheduler::{cluster::BallistaCluster, config::SchedulerConfig, scheduler_process::start_server};
use datafusion::{
    error::DataFusionError,
    execution::{
        SessionState, SessionStateBuilder,
        context::SessionContext,
        runtime_env::{RuntimeEnv, RuntimeEnvBuilder},
    },
    prelude::SessionConfig,
};
use std::{future::Future, net::SocketAddr, path::PathBuf, sync::Arc};

/// Why a process of a cluster ended.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// It could not start or go on.
    #[error("{0}")]
    Cluster(#[from] BallistaError),
    /// Its session could not be made.
    #[error("{0}")]
    Session(#[from] DataFusionError),
    /// Its folder could not be made.
    #[error("make folder {0}: {1}")]
    Folder(PathBuf, std::io::Error),
}

/// Runs a scheduler until `stop`.
///
/// # Errors
/// When the address is taken.
pub async fn run_scheduler(
    listen: SocketAddr,
    shared: Shared,
    stop: impl Future<Output = ()>,
) -> Result<(), NodeError> {
    let env = environment(&shared, RuntimeEnvBuilder::new())?;
    let builder = move |config| session(config, &shared, env.clone());
    let config = SchedulerConfig {
        bind_host: listen.ip().to_string(),
        bind_port: listen.port(),
        external_host: listen.ip().to_string(),
        override_session_builder: Some(Arc::new(builder)),
        ..SchedulerConfig::default()
    };
    let cluster = BallistaCluster::new_from_config(&config).await?;
    tokio::select! {
        ended = start_server(cluster, listen, Arc::new(config)) => Ok(ended?),
        () = stop => Ok(()),
    }
}

/// What an executor is.
#[derive(Clone, Debug)]
pub struct ExecutorSettings {
    /// Host and port of its scheduler.
    pub scheduler: (String, u16),
    /// Where other executors and who asks fetch rows; the scheduler calls it on the next higher port.
    pub listen: SocketAddr,
    /// How others reach it; none: at the address it listens on.
    pub external_host: Option<String>,
    /// So many tasks at a time.
    pub cores: usize,
    /// Of all tasks together.
    pub memory_bytes_max: u64,
    /// For rows between two stages; made when it is missing.
    pub dir: PathBuf,
}

/// Runs an executor until a signal: it ends when its tasks have.
///
/// # Errors
/// When its scheduler does not answer or an address is taken.
pub async fn run_executor(settings: ExecutorSettings, shared: Shared) -> Result<(), NodeError> {
    let dir = settings.dir;
    std::fs::create_dir_all(&dir).map_err(|e| NodeError::Folder(dir.clone(), e))?;
    let env = environment(&shared, RuntimeEnvBuilder::new().with_temp_file_path(&dir))?;
    let state = session(SessionConfig::new_with_ballista(), &shared, env.clone())?;
    let (scheduler_host, scheduler_port) = settings.scheduler;
    let config = ExecutorProcessConfig {
        bind_host: settings.listen.ip().to_string(),
        external_host: Some(settings.external_host.unwrap_or_else(|| settings.listen.ip().to_string())),
        port: settings.listen.port(),
        grpc_port: settings.listen.port() + 1,
        scheduler_host,
        scheduler_port,
        vcores: settings.cores,
        work_dir: Some(dir.display().to_string()),
        memory_pool_size: Some(settings.memory_bytes_max),
        override_function_registry: Some(Arc::new(BallistaFunctionRegistry::from(&state))),
        override_runtime_producer: Some(Arc::new(move |_| Ok(env.clone()))),
        ..ExecutorProcessConfig::default()
    };
    Ok(start_executor_process(Arc::new(config)).await?)
}

/// A session of a node: its functions are those of who asks.
fn session(config: SessionConfig, shared: &Shared, env: Arc<RuntimeEnv>) -> Result<SessionState, DataFusionError> {
    let state = default_session_builder(config)?;
    let context =
        SessionContext::new_with_state(SessionStateBuilder::new_from_existing(state).with_runtime_env(env).build());
    (shared.functions)(&context);
    Ok(context.state())
}

fn environment(shared: &Shared, builder: RuntimeEnvBuilder) -> Result<Arc<RuntimeEnv>, DataFusionError> {
    let env = builder.build_arc()?;
    for (url, store) in &shared.stores {
        env.register_object_store(url, store.clone());
    }
    Ok(env)
}
