//! SQL for BI: the tables of the lake as a PostgreSQL server shows its own.

use crate::{Config, WrongUse, config::text_or_file, query, roles, serve_role};
use anyhow::{Context, Result};
use async_trait::async_trait;
use datafusion::{
    catalog::{CatalogProvider, MemoryCatalogProvider, SchemaProvider, TableProvider},
    config::Dialect,
    error::{DataFusionError, Result as DataFusionResult},
    execution::runtime_env::RuntimeEnvBuilder,
    prelude::{SessionConfig, SessionContext},
};
use futures::FutureExt as _;
use serde::Deserialize;
use sluice_serve::{Refresh, SqlAccount, Tls, TlsFiles, add_pg_catalog, serve_postgres};
use sluice_stream_processor::register_batch_functions;
use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    ops::Deref,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// Questions see the lake as it was this long ago at most.
const FRESH: Duration = Duration::from_secs(2);
const CATALOG: &str = "sluice";
/// Where the views are, and what is looked for without a schema.
const VIEWS: &str = "public";
const SCHEMAS: [&str; 5] = ["bronze", "silver", "gold", "live", VIEWS];

/// Section `[sql]`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "every key is documented once, in sluice.toml")]
pub struct SqlConfig {
    pub listen: String,
    pub user: String,
    password: String,
    password_file: String,
    tls_certificate_file: PathBuf,
    tls_key_file: PathBuf,
    pub memory_bytes_max: usize,
}

impl fmt::Debug for SqlConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlConfig").field("listen", &self.listen).field("user", &self.user).finish_non_exhaustive()
    }
}

impl SqlConfig {
    /// Who may ask.
    fn account(&self) -> Result<SqlAccount> {
        let password = text_or_file(&self.password, &self.password_file, "sql.password_file")?;
        anyhow::ensure!(
            !password.is_empty(),
            "sql.listen needs sql.password (SLUICE__SQL__PASSWORD) or sql.password_file"
        );
        Ok(SqlAccount { user: self.user.clone(), password })
    }

    fn tls(&self) -> Result<Option<Tls>> {
        let (certificate, key) = (self.tls_certificate_file.clone(), self.tls_key_file.clone());
        match (certificate.as_os_str().is_empty(), key.as_os_str().is_empty()) {
            (true, true) => Ok(None),
            (false, false) => Ok(Some(Tls::read(TlsFiles { certificate, key }).context("TLS for SQL")?)),
            _ => Err(WrongUse("sql.tls_certificate_file and sql.tls_key_file: give both, or none".to_owned()).into()),
        }
    }
}

type Tables = BTreeMap<String, Arc<dyn TableProvider>>;

/// The tables of all schemas, as the lake has them.
struct LakeTables {
    config: Config,
    runtime: tokio::runtime::Handle,
    known: RwLock<BTreeMap<&'static str, Tables>>,
    read_at: tokio::sync::Mutex<Option<Instant>>,
}

impl LakeTables {
    fn read(&self) -> Result<BTreeMap<&'static str, Tables>> {
        let session = query::session(&self.config, &self.runtime)?;
        let catalog = session.catalog("datafusion").context("the session has a catalog")?;
        let mut all = BTreeMap::new();
        for schema in SCHEMAS {
            let Some(provider) = catalog.schema(schema) else { continue };
            let tables: &mut Tables = all.entry(schema).or_default();
            for name in provider.table_names() {
                if let Some(table) = self.runtime.block_on(provider.table(&name))? {
                    tables.insert(name, table);
                }
            }
        }
        Ok(all)
    }

    /// Reads what has changed, unless that was done a moment ago. When the lake is away, what was known stays.
    async fn refresh(self: &Arc<Self>) {
        let mut read_at = self.read_at.lock().await;
        if read_at.is_some_and(|at| at.elapsed() < FRESH) {
            return;
        }
        // Before reading: what is written meanwhile is read the next time.
        let asked_at = Instant::now();
        let lake = self.clone();
        match tokio::task::spawn_blocking(move || lake.read()).await {
            Ok(Ok(all)) => *self.known.write().unwrap_or_else(PoisonError::into_inner) = all,
            Ok(Err(error)) => tracing::warn!(error = crate::causes(&error), "SQL: the lake does not answer"),
            Err(error) => tracing::error!(%error, "SQL: read the lake"),
        }
        *read_at = Some(asked_at);
    }

    fn of<T>(&self, schema: &str, look: impl FnOnce(&Tables) -> T) -> T {
        look(self.known.read().unwrap_or_else(PoisonError::into_inner).get(schema).unwrap_or(&Tables::new()))
    }
}

/// A schema of the lake, as it was read last. Nothing can be put into it.
struct LakeSchema {
    name: &'static str,
    lake: Arc<LakeTables>,
}

impl fmt::Debug for LakeSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LakeSchema").field(&self.name).finish()
    }
}

#[async_trait]
impl SchemaProvider for LakeSchema {
    fn table_names(&self) -> Vec<String> {
        self.lake.of(self.name, |tables| tables.keys().cloned().collect())
    }

    async fn table(&self, name: &str) -> DataFusionResult<Option<Arc<dyn TableProvider>>, DataFusionError> {
        Ok(self.lake.of(self.name, |tables| tables.get(name).cloned()))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.lake.of(self.name, |tables| tables.contains_key(name))
    }
}

/// Threads for the questions of clients alone: one that computes for long keeps nothing else of the process from its work.
struct OwnRuntime(Option<tokio::runtime::Runtime>);

impl Deref for OwnRuntime {
    type Target = tokio::runtime::Runtime;

    fn deref(&self) -> &Self::Target {
        self.0.as_ref().expect("it is there until it is dropped")
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        // A question that is under way is not waited for.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Ends when it is dropped.
pub(crate) struct SqlServer {
    address: SocketAddr,
    _stop: oneshot::Sender<()>,
    _runtime: OwnRuntime,
}

/// Starts it, unless `sql.listen` is empty.
pub(crate) fn start(config: &Config, runtime: &tokio::runtime::Runtime) -> Result<Option<SqlServer>> {
    if config.sql.listen.is_empty() {
        return Ok(None);
    }
    let (account, tls) = (config.sql.account()?, config.sql.tls()?);
    let lake = Arc::new(LakeTables {
        config: config.clone(),
        runtime: runtime.handle().clone(),
        known: RwLock::default(),
        read_at: tokio::sync::Mutex::default(),
    });
    runtime.block_on(lake.refresh());
    let mut settings = SessionConfig::new().with_default_catalog_and_schema(CATALOG, VIEWS);
    // Times with a zone have one, as now() has: else AT TIME ZONE takes them for local ones.
    settings.options_mut().execution.time_zone = Some("UTC".to_owned());
    let memory = RuntimeEnvBuilder::new().with_memory_limit(config.sql.memory_bytes_max, 1.0).build_arc()?;
    let context = SessionContext::new_with_config_rt(settings.with_create_default_catalog_and_schema(false), memory);
    let catalog = MemoryCatalogProvider::new();
    for name in SCHEMAS {
        catalog.register_schema(name, Arc::new(LakeSchema { name, lake: lake.clone() }))?;
    }
    context.register_catalog(CATALOG, Arc::new(catalog));
    register_batch_functions(&context);
    sluice_gold::register_functions(&context)?;
    runtime.block_on(add_pg_catalog(&context, CATALOG, &account.user))?;
    // After that, whose SQL has a word of DataFusion's own.
    context.state_ref().write().config_mut().options_mut().sql_parser.dialect = Dialect::PostgreSQL;
    let own = OwnRuntime(Some(roles::runtime()?));
    let listener = own.block_on(serve_role::bind("sql.listen", &config.sql.listen))?;
    let address = listener.local_addr().context("listen")?;
    if tls.is_none() && !address.ip().is_loopback() {
        tracing::warn!(%address, "SQL without TLS: who is between it and its clients can read the answers; see [sql] of sluice.toml");
    }
    let (stop, stopped) = oneshot::channel::<()>();
    let refresh: Refresh = Arc::new(move || {
        let lake = lake.clone();
        async move { lake.refresh().await }.boxed()
    });
    own.spawn(serve_postgres(listener, Arc::new(context), account, tls, refresh, async move {
        let _ = stopped.await;
    }));
    Ok(Some(SqlServer { address, _stop: stop, _runtime: own }))
}

/// Tells where it is.
pub(crate) fn say(server: Option<&SqlServer>, config: &Config) {
    if let Some(server) = server {
        eprintln!(
            "SQL        psql -h {} -p {} -U {} {CATALOG}",
            server.address.ip(),
            server.address.port(),
            config.sql.user
        );
    }
}
