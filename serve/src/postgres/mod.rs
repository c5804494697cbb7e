//! The wire protocol of PostgreSQL over a session of DataFusion: read-only, one account, SCRAM-SHA-256 (RFC 7677); over TLS, for
//! clients that want it, with the certificate in the proof (SCRAM-SHA-256-PLUS, `tls-server-end-point` of RFC 5929).

mod catalog;
mod codes;
mod functions;
mod gate;
mod rewrite;
mod service;
mod tls;

pub use catalog::add_pg_catalog;
pub use tls::{Tls, TlsError, TlsFiles};

use async_trait::async_trait;
use catalog::SERVER_VERSION;
use codes::{Codes, fatal};
use datafusion::prelude::SessionContext;
use datafusion_postgres::{
    DfSessionService, QueryHook,
    hooks::{set_show::SetShowHook, transactions::TransactionStatementHook},
    pgwire::{
        api::{
            ClientInfo, ConnectionManager, ErrorHandler, METADATA_DATABASE, PgWireServerHandlers,
            RandomPidSecretKeyGenerator,
            auth::{
                AuthSource, DefaultServerParameterProvider, LoginInfo, Password, StartupHandler,
                sasl::{
                    SASLAuthStartupHandler,
                    scram::{ScramAuth, gen_salted_password},
                },
            },
            cancel::{CancelHandler, DefaultCancelHandler},
            query::{ExtendedQueryHandler, SimpleQueryHandler},
        },
        error::{PgWireError, PgWireResult},
        messages::{PgWireBackendMessage, PgWireFrontendMessage},
        tokio::process_socket,
    },
};
use futures::{Sink, future::BoxFuture};
use gate::{Gate, Questions};
use service::{AtLogin, SEARCH_PATH, Service};
use socket2::{SockRef, TcpKeepalive};
use std::{
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{net::TcpListener, sync::Semaphore};

/// As many as PostgreSQL takes by itself.
const CONNECTIONS_MAX: usize = 100;
/// Of those who only cancel a question, or have not said yet what they want.
const CANCELS_MAX: usize = 20;
/// Of the hash; what PostgreSQL uses.
const ITERATIONS: usize = 4096;
const SALT_BYTES: usize = 16;
/// Who has not logged in by then is sent away; one that has may be silent for as long before it is asked whether it is still there.
const LOGIN_WITHIN: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_secs(1);
const NOBODY: &str = "28000";
const NO_DATABASE: &str = "3D000";
const NO_PLACE: &str = "53300";
/// What tools connect to before they know which there are.
const MAINTENANCE: &str = "postgres";

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
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX + CANCELS_MAX));
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
                let alive = TcpKeepalive::new().with_time(LOGIN_WITHIN);
                if let Err(error) = SockRef::from(&socket).set_tcp_keepalive(&alive) {
                    tracing::debug!(%error, %from, "a client for SQL that is gone will not be noticed");
                }
                tokio::spawn(async move {
                    let logged_in = handlers.logged_in.clone();
                    let session = process_socket(socket, acceptor, Arc::new(handlers));
                    tokio::pin!(session);
                    let ended = match tokio::time::timeout(LOGIN_WITHIN, &mut session).await {
                        Ok(ended) => ended,
                        Err(_) if logged_in.load(Ordering::Acquire) => session.await,
                        // It would hold a place that others wait for.
                        Err(_) => Err(std::io::Error::other("nobody has logged in")),
                    };
                    if let Err(error) = ended {
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
    service: Arc<Service>,
    account: Arc<SqlAccount>,
    /// Of the server, when clients have to come with TLS.
    certificate: Option<Arc<[u8]>>,
    connections: Arc<ConnectionManager>,
    cancel: Arc<DefaultCancelHandler>,
    /// Numbers connections: cancelling finds them by it.
    numbers: Arc<RandomPidSecretKeyGenerator>,
    logged_in: Arc<AtomicBool>,
    /// The only one, by name.
    database: String,
    places: Arc<Semaphore>,
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
        let service = DfSessionService::new_with_hooks(context.clone(), hooks);
        let database = context.copied_config().options().catalog.default_catalog.clone();
        Self {
            service: Arc::new(Service::new(service, context)),
            account: Arc::new(account),
            certificate: None,
            cancel: Arc::new(DefaultCancelHandler::new(connections.clone())),
            numbers: Arc::default(),
            logged_in: Arc::default(),
            database,
            places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            connections,
        }
    }

    /// For a connection.
    fn under(&self, tls: Option<&Tls>) -> Self {
        Self { certificate: tls.map(|tls| tls.certificate.clone()), logged_in: Arc::default(), ..self.clone() }
    }
}

/// Lets in who comes as it is asked for, and then knows the password.
struct Door {
    wants_tls: bool,
    password: SASLAuthStartupHandler<DefaultServerParameterProvider>,
    logged_in: Arc<AtomicBool>,
    database: String,
    /// For those who ask; who cancels a question needs none.
    places: Arc<Semaphore>,
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
        if let PgWireFrontendMessage::Startup(startup) = &message {
            if let Some(database) = startup.parameters.get(METADATA_DATABASE)
                && *database != self.database
                && database != MAINTENANCE
            {
                return Err(fatal(NO_DATABASE, format!("database \"{database}\" does not exist")));
            }
            match self.places.clone().try_acquire_owned() {
                Ok(place) => drop(client.session_extensions().get_or_insert_with(|| place)),
                Err(_) => return Err(fatal(NO_PLACE, "sorry, too many clients already")),
            }
        }
        self.password.on_startup(client, message).await?;
        if is_logged_in(client) {
            let path = client.metadata().get(SEARCH_PATH).cloned();
            client.session_extensions().get_or_insert_with(|| AtLogin { path });
            self.logged_in.store(true, Ordering::Release);
        }
        Ok(())
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
        SERVER_VERSION.clone_into(&mut parameters.server_version);
        if let Some(Err(error)) = self.certificate.as_deref().map(|pem| scram.configure_certificate(pem)) {
            // Such as Ed25519, for which RFC 5929 knows no binding: the password alone has to do.
            tracing::debug!(%error, "passwords are not bound to the certificate");
        }
        let password = SASLAuthStartupHandler::new(Arc::new(parameters)).with_scram(scram);
        let password = password.with_connection_manager(self.connections.clone());
        let password = password.with_pid_secret_key_generator(self.numbers.clone());
        Arc::new(Door {
            wants_tls: self.certificate.is_some(),
            password,
            logged_in: self.logged_in.clone(),
            database: self.database.clone(),
            places: self.places.clone(),
        })
    }

    fn cancel_handler(&self) -> Arc<impl CancelHandler> {
        self.cancel.clone()
    }

    fn error_handler(&self) -> Arc<impl ErrorHandler> {
        Arc::new(Codes)
    }
}

#[async_trait]
impl AuthSource for SqlAccount {
    async fn get_password(&self, login: &LoginInfo) -> PgWireResult<Password> {
        let salt = rand::random::<[u8; SALT_BYTES]>().to_vec();
        // Of an unknown name, too, and no password gives what it then gets: who guesses names learns nothing, nor by the clock.
        let mut hash = gen_salted_password(&self.password, &salt, ITERATIONS);
        if login.user() != Some(&self.user) {
            hash = rand::random::<[u8; 32]>().to_vec();
        }
        Ok(Password::new(Some(salt), hash))
    }
}

/// A connection gets a number when its password was right, and is not asked again.
fn is_logged_in(client: &(impl ClientInfo + ?Sized)) -> bool {
    client.pid_and_secret_key().0 != 0
}

/// What is said to who asks before.
fn log_in_first() -> PgWireError {
    sent_away("log in first")
}

fn sent_away(message: &str) -> PgWireError {
    fatal(NOBODY, message)
}
