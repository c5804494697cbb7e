//! The wire protocol of PostgreSQL over a session of DataFusion: read-only, one account, SCRAM-SHA-256 (RFC 7677), and over TLS
//! bound to the certificate (SCRAM-SHA-256-PLUS, `tls-server-end-point` of RFC 5929).

use crate::tls::Tls;
use async_trait::async_trait;
use datafusion::{
    common::ParamValues,
    error::DataFusionError,
    logical_expr::{LogicalPlan, LogicalPlanBuilder},
    prelude::{SQLOptions, SessionContext},
    sql::sqlparser::ast::{Set, Statement},
};
use datafusion_postgres::{
    DfSessionService, QueryHook,
    datafusion_pg_catalog::pg_catalog::{context::EmptyContextProvider, setup_pg_catalog},
    hooks::{HookClient, set_show::SetShowHook, transactions::TransactionStatementHook},
    pgwire::{
        api::{
            ClientInfo, ConnectionManager, PgWireServerHandlers,
            auth::{
                AuthSource, DefaultServerParameterProvider, LoginInfo, Password, StartupHandler,
                sasl::{
                    SASLAuthStartupHandler,
                    scram::{ScramAuth, gen_salted_password},
                },
            },
            cancel::{CancelHandler, DefaultCancelHandler},
            query::{ExtendedQueryHandler, SimpleQueryHandler},
            results::{Response, Tag},
        },
        error::{ErrorInfo, PgWireError, PgWireResult},
        messages::{PgWireBackendMessage, PgWireFrontendMessage},
        tokio::process_socket,
    },
};
use futures::{Sink, future::BoxFuture};
use std::{fmt, future::Future, sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::Semaphore};

/// As many as PostgreSQL takes by itself.
const CONNECTIONS_MAX: usize = 100;
/// Of the hash; what PostgreSQL uses.
const ITERATIONS: usize = 4096;
const SALT_BYTES: usize = 16;
const PAUSE: Duration = Duration::from_secs(1);
const NOBODY: &str = "28000";
const READ_ONLY: &str = "25006";
const NOT_SUPPORTED: &str = "0A000";

/// Who may ask.
#[derive(Clone)]
pub struct SqlAccount {
    /// Its name.
    pub user: String,
    /// Its password.
    pub password: String,
}

impl fmt::Debug for SqlAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlAccount").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Adds what clients of PostgreSQL look things up in: `pg_catalog` in this catalog of the session.
///
/// # Errors
/// When the session has no such catalog.
pub fn add_pg_catalog(context: &SessionContext, catalog: &str) -> Result<(), DataFusionError> {
    setup_pg_catalog(context, catalog, EmptyContextProvider).map_err(|error| *error)
}

/// Waited for before each statement: brings the session's tables up to date.
pub type Refresh = Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// Answers clients until `shutdown` is done. With `tls`, who comes without it is sent away.
pub async fn serve_postgres(
    listener: TcpListener,
    context: Arc<SessionContext>,
    account: SqlAccount,
    mut tls: Option<Tls>,
    refresh: Refresh,
    shutdown: impl Future<Output = ()> + Send,
) {
    let handlers = Handlers::new(context, account, refresh);
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    tokio::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => return,
            accepted = listener.accept() => accepted,
        };
        match (accepted, connections.clone().try_acquire_owned()) {
            (Ok((socket, from)), Ok(permit)) => {
                if let Some(tls) = &mut tls {
                    tls.renew();
                }
                let handlers = handlers.under(tls.as_ref());
                let acceptor = tls.as_ref().map(|tls| tls.acceptor.clone());
                tokio::spawn(async move {
                    if let Err(error) = process_socket(socket, acceptor, Arc::new(handlers)).await {
                        tracing::debug!(%error, %from, "a connection for SQL ended");
                    }
                    drop(permit);
                });
            }
            (Ok((_, from)), Err(_)) => tracing::warn!(%from, CONNECTIONS_MAX, "too many connections for SQL"),
            (Err(error), _) => {
                tracing::warn!(%error, "accept a connection for SQL");
                // As when there are no more file handles: it would fail again at once.
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

#[derive(Clone)]
struct Handlers {
    service: Arc<DfSessionService>,
    account: Arc<SqlAccount>,
    /// Of the server, when clients have to come with TLS.
    certificate: Option<Arc<[u8]>>,
    connections: Arc<ConnectionManager>,
    cancel: Arc<DefaultCancelHandler>,
}

impl Handlers {
    fn new(context: Arc<SessionContext>, account: SqlAccount, refresh: Refresh) -> Self {
        // What none of the first takes is a question, or refused.
        let hooks: Vec<Arc<dyn QueryHook>> = vec![
            Arc::new(Gate(refresh)),
            Arc::new(SetShowHook),
            Arc::new(TransactionStatementHook),
            Arc::new(Questions),
        ];
        let connections = Arc::new(ConnectionManager::new());
        Self {
            service: Arc::new(DfSessionService::new_with_hooks(context, hooks)),
            account: Arc::new(account),
            certificate: None,
            cancel: Arc::new(DefaultCancelHandler::new(connections.clone())),
            connections,
        }
    }

    /// For a connection.
    fn under(&self, tls: Option<&Tls>) -> Self {
        Self { certificate: tls.map(|tls| tls.certificate.clone()), ..self.clone() }
    }
}

/// Lets in who comes as it is asked for, and then knows the password.
struct Door {
    wants_tls: bool,
    password: SASLAuthStartupHandler<DefaultServerParameterProvider>,
}

#[async_trait]
impl StartupHandler for Door {
    async fn on_startup<C>(&self, client: &mut C, message: PgWireFrontendMessage) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: fmt::Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        if self.wants_tls && !client.is_secure() {
            return Err(sent_away("this server wants TLS: connect with sslmode=require"));
        }
        self.password.on_startup(client, message).await
    }
}

impl PgWireServerHandlers for Handlers {
    fn simple_query_handler(&self) -> Arc<impl SimpleQueryHandler> {
        self.service.clone()
    }

    fn extended_query_handler(&self) -> Arc<impl ExtendedQueryHandler> {
        self.service.clone()
    }

    fn startup_handler(&self) -> Arc<impl StartupHandler> {
        let mut scram = ScramAuth::new(self.account.clone());
        scram.set_iterations(ITERATIONS);
        let mut parameters = DefaultServerParameterProvider::default();
        (parameters.is_superuser, parameters.default_transaction_read_only) = (false, true);
        if let Some(Err(error)) = self.certificate.as_deref().map(|pem| scram.configure_certificate(pem)) {
            // Such as Ed25519, for which RFC 5929 knows no binding: the password alone has to do.
            tracing::debug!(%error, "passwords are not bound to the certificate");
        }
        let password = SASLAuthStartupHandler::new(Arc::new(parameters)).with_scram(scram);
        let password = password.with_connection_manager(self.connections.clone());
        Arc::new(Door { wants_tls: self.certificate.is_some(), password })
    }

    fn cancel_handler(&self) -> Arc<impl CancelHandler> {
        self.cancel.clone()
    }
}

#[async_trait]
impl AuthSource for SqlAccount {
    async fn get_password(&self, login: &LoginInfo) -> PgWireResult<Password> {
        let salt = rand::random::<[u8; SALT_BYTES]>().to_vec();
        let hash = match login.user() == Some(&self.user) {
            true => gen_salted_password(&self.password, &salt, ITERATIONS),
            // No password gives this: who guesses names learns nothing.
            false => rand::random::<[u8; 32]>().to_vec(),
        };
        Ok(Password::new(Some(salt), hash))
    }
}

/// An error after which the connection ends.
fn sent_away(message: &str) -> PgWireError {
    PgWireError::UserError(Box::new(ErrorInfo::new("FATAL".to_owned(), NOBODY.to_owned(), message.to_owned())))
}

fn refused(code: &str, message: String) -> PgWireError {
    PgWireError::UserError(Box::new(ErrorInfo::new("ERROR".to_owned(), code.to_owned(), message)))
}

/// Whether a plan only reads.
fn reads(plan: &LogicalPlan) -> PgWireResult<()> {
    let options = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    options.verify_plan(plan).map_err(|error| refused(READ_ONLY, format!("the lake is read-only here: {error}")))
}

async fn reads_text(text: &str, context: &SessionContext) -> PgWireResult<()> {
    let plan = context.state().create_logical_plan(text).await.map_err(|e| PgWireError::ApiError(Box::new(e)))?;
    reads(&plan)
}

fn only_questions(statement: &Statement) -> PgWireError {
    let first = statement.to_string();
    let verb = first.split_whitespace().next().unwrap_or_default().to_owned();
    refused(READ_ONLY, format!("the lake is read-only here: SELECT, SHOW and EXPLAIN, not {verb}"))
}

/// What a client may set, for itself alone.
const OF_THE_CLIENT: [&str; 7] = [
    "application_name",
    "bytea_output",
    "datestyle",
    "extra_float_digits",
    "intervalstyle",
    "search_path",
    "statement_timeout",
];

/// What becomes of a `SET`: the session is shared by all clients, and none changes it for the others.
#[derive(Debug, PartialEq)]
enum Setting {
    /// It is kept for the client.
    Kept,
    /// It says nothing here, and is taken for done, as clients expect.
    Ignored,
    Refused,
}

fn setting(set: &Set) -> Setting {
    match set {
        Set::SingleAssignment { scope: None, hivevar: false, variable, .. }
            if OF_THE_CLIENT.contains(&&*variable.to_string().to_lowercase()) =>
        {
            Setting::Kept
        }
        Set::SetTimeZone { local: false, .. } => Setting::Kept,
        other if other.to_string().to_lowercase().contains("datafusion.") => Setting::Refused,
        _ => Setting::Ignored,
    }
}

/// Who comes first: lets in who has logged in, has the lake looked at anew, and lets pass what touches nobody else.
struct Gate(Refresh);

impl Gate {
    /// Why a statement is not let through.
    async fn check(&self, statement: &Statement, client: &(dyn ClientInfo + Send + Sync)) -> PgWireResult<()> {
        // It gets one when its password was right, and is not asked again.
        if client.pid_and_secret_key().0 == 0 {
            return Err(sent_away("log in first"));
        }
        match statement {
            Statement::Set(set) if setting(set) == Setting::Refused => Err(only_questions(statement)),
            // A portal of the library's cursors does not say its columns, which crashes clients that ask.
            Statement::Declare { .. } | Statement::Fetch { .. } | Statement::Close { .. } => {
                let message = "there are no cursors here: ask without one, or for a part with LIMIT and OFFSET";
                Err(refused(NOT_SUPPORTED, message.to_owned()))
            }
            _ => {
                (self.0)().await;
                Ok(())
            }
        }
    }
}

fn is_ignored(statement: &Statement) -> bool {
    matches!(statement, Statement::Set(set) if setting(set) == Setting::Ignored)
}

fn done_set() -> PgWireResult<Response> {
    Ok(Response::Execution(Tag::new("SET")))
}

#[async_trait]
impl QueryHook for Gate {
    async fn handle_simple_query(
        &self,
        statement: &Statement,
        _: &SessionContext,
        client: &mut dyn HookClient,
    ) -> Option<PgWireResult<Response>> {
        if let Err(error) = self.check(statement, client).await {
            return Some(Err(error));
        }
        is_ignored(statement).then(done_set)
    }

    async fn handle_extended_parse_query(
        &self,
        statement: &Statement,
        _: &SessionContext,
        client: &(dyn ClientInfo + Send + Sync),
    ) -> Option<PgWireResult<LogicalPlan>> {
        if let Err(error) = self.check(statement, client).await {
            return Some(Err(error));
        }
        let nothing = || LogicalPlanBuilder::empty(false).build().map_err(|e| PgWireError::ApiError(Box::new(e)));
        is_ignored(statement).then(nothing)
    }

    async fn handle_extended_query(
        &self,
        statement: &Statement,
        _: &LogicalPlan,
        _: &ParamValues,
        _: &SessionContext,
        client: &mut dyn HookClient,
    ) -> Option<PgWireResult<Response>> {
        if let Err(error) = self.check(statement, client).await {
            return Some(Err(error));
        }
        is_ignored(statement).then(done_set)
    }
}

/// Refuses what is no question.
struct Questions;

fn may_be_question(statement: &Statement) -> bool {
    matches!(
        statement,
        Statement::Query(_)
            | Statement::Explain { .. }
            | Statement::ExplainTable { .. }
            | Statement::ShowTables { .. }
            | Statement::ShowColumns { .. }
            | Statement::ShowVariable { .. }
    )
}

#[async_trait]
impl QueryHook for Questions {
    async fn handle_simple_query(
        &self,
        statement: &Statement,
        context: &SessionContext,
        _: &mut dyn HookClient,
    ) -> Option<PgWireResult<Response>> {
        if !may_be_question(statement) {
            return Some(Err(only_questions(statement)));
        }
        reads_text(&statement.to_string(), context).await.err().map(Err)
    }

    async fn handle_extended_parse_query(
        &self,
        statement: &Statement,
        _: &SessionContext,
        _: &(dyn ClientInfo + Send + Sync),
    ) -> Option<PgWireResult<LogicalPlan>> {
        (!may_be_question(statement)).then(|| Err(only_questions(statement)))
    }

    async fn handle_extended_query(
        &self,
        _: &Statement,
        plan: &LogicalPlan,
        _: &ParamValues,
        _: &SessionContext,
        _: &mut dyn HookClient,
    ) -> Option<PgWireResult<Response>> {
        reads(plan).err().map(Err)
    }
}
