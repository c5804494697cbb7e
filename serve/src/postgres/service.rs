//! Puts questions to the library in its words, and lets their rows come only as long as the client wants them.

use super::rewrite::{Asked, rewrite};
use async_trait::async_trait;
use datafusion::prelude::SessionContext;
use datafusion_postgres::{
    DfSessionService, Parser,
    pgwire::{
        api::{
            ClientInfo, ClientPortalStore, ConnectionManager, Type,
            cancel::CancelHandler,
            portal::{Format, Portal},
            query::{ExtendedQueryHandler, SimpleQueryHandler},
            results::{FieldInfo, QueryResponse, Response, SendableRowStream},
            stmt::QueryParser,
            store::PortalStore,
        },
        error::{ErrorInfo, PgWireError, PgWireResult},
        messages::{PgWireBackendMessage, cancel::CancelRequest},
    },
};
use futures::{Sink, StreamExt as _, stream};
use std::{
    borrow::Cow,
    collections::HashMap,
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};
use tokio::sync::Notify;

const CANCELED: &str = "57014";
/// Where the library keeps what a client has set, in milliseconds.
pub(super) const TIMEOUT: &str = "statement_timeout_ms";
pub(super) const SEARCH_PATH: &str = "search_path";
/// Where a table without a schema is looked for by itself.
pub(super) const PUBLIC: &str = "public";

/// A client's wish that its question should end.
#[derive(Default)]
struct Interrupt(Arc<Notify>);

/// Those of all clients, by the number of their connection.
#[derive(Default)]
pub(super) struct Interrupts(Mutex<HashMap<i32, Weak<Notify>>>);

impl Interrupts {
    fn of(&self, client: &(impl ClientInfo + ?Sized)) -> Arc<Notify> {
        let interrupt = client.session_extensions().get_or_insert_with(Interrupt::default);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = client.pid_and_secret_key().0;
        if !all.contains_key(&connection) {
            all.retain(|_, interrupt| interrupt.strong_count() > 0);
            all.insert(connection, Arc::downgrade(&interrupt.0));
        }
        interrupt.0.clone()
    }

    fn send(&self, connection: i32) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(interrupt) = all.get(&connection).and_then(Weak::upgrade) {
            interrupt.notify_waiters();
        }
    }
}

/// Ends questions on request: while they are planned, as the library does, and while their rows come.
pub(super) struct Cancels {
    pub manager: Arc<ConnectionManager>,
    pub interrupts: Arc<Interrupts>,
}

#[async_trait]
impl CancelHandler for Cancels {
    async fn on_cancel_request(&self, request: CancelRequest) {
        // The secret is right when the manager knows the two.
        if self.manager.cancel(request.pid, &request.secret_key).await {
            self.interrupts.send(request.pid);
        }
    }
}

type Stop = Pin<Box<dyn Future<Output = PgWireError> + Send>>;

fn canceled(why: &str) -> PgWireError {
    PgWireError::UserError(Box::new(ErrorInfo::new("ERROR".to_owned(), CANCELED.to_owned(), why.to_owned())))
}

/// Lets the rows of an answer come until the client interrupts them, or its time is over.
fn bounded(mut answer: QueryResponse, interrupted: Arc<Notify>, timeout: Option<Duration>) -> QueryResponse {
    let stop: Stop = Box::pin(async move {
        let over = async {
            match timeout {
                Some(timeout) => tokio::time::sleep(timeout).await,
                None => futures::future::pending().await,
            }
        };
        tokio::select! {
            () = interrupted.notified() => canceled("canceling statement due to user request"),
            () = over => canceled("canceling statement due to statement timeout"),
        }
    });
    let rows = mem::replace(&mut answer.data_rows, Box::pin(stream::empty()));
    let next = |state: Option<(SendableRowStream, Stop)>| async move {
        let (mut rows, mut stop) = state?;
        tokio::select! {
            biased;
            why = &mut stop => Some((Err(why), None)),
            row = rows.next() => row.map(|row| (row, Some((rows, stop)))),
        }
    };
    answer.data_rows = Box::pin(stream::unfold(Some((rows, stop)), next));
    answer
}

/// The library's service, asked in its words.
pub(super) struct Service {
    inner: Arc<DfSessionService>,
    parser: Arc<RewritingParser>,
    interrupts: Arc<Interrupts>,
}

impl Service {
    pub fn new(inner: DfSessionService, context: Arc<SessionContext>, interrupts: Arc<Interrupts>) -> Self {
        let inner = Arc::new(inner);
        let parser = Arc::new(RewritingParser { inner: ExtendedQueryHandler::query_parser(&*inner), context });
        Self { inner, parser, interrupts }
    }

    fn bounded(&self, answer: Response, client: &(impl ClientInfo + ?Sized)) -> Response {
        let timeout = client.metadata().get(TIMEOUT).and_then(|millis| millis.parse().ok()).map(Duration::from_millis);
        match answer {
            Response::Query(rows) => Response::Query(bounded(rows, self.interrupts.of(client), timeout)),
            other => other,
        }
    }
}

#[async_trait]
impl SimpleQueryHandler for Service {
    async fn do_query<C>(&self, client: &mut C, query: &str) -> PgWireResult<Vec<Response>>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: fmt::Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let query = self.parser.rewritten(client, query, &[]);
        let answers = SimpleQueryHandler::do_query(&*self.inner, client, &query).await?;
        Ok(answers.into_iter().map(|answer| self.bounded(answer, client)).collect())
    }
}

#[async_trait]
impl ExtendedQueryHandler for Service {
    type Statement = <DfSessionService as ExtendedQueryHandler>::Statement;
    type QueryParser = RewritingParser;

    fn query_parser(&self) -> Arc<Self::QueryParser> {
        self.parser.clone()
    }

    async fn do_query<C>(
        &self,
        client: &mut C,
        portal: &Portal<Self::Statement>,
        max_rows: usize,
    ) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Self::Statement>,
        C::Error: fmt::Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let answer = ExtendedQueryHandler::do_query(&*self.inner, client, portal, max_rows).await?;
        Ok(self.bounded(answer, client))
    }
}

/// The library's parser, after [`rewrite`].
pub(super) struct RewritingParser {
    inner: Arc<Parser>,
    context: Arc<SessionContext>,
}

impl RewritingParser {
    fn rewritten<'a>(&self, client: &impl ClientInfo, sql: &'a str, declared: &[Option<Type>]) -> Cow<'a, str> {
        let path = client.metadata().get(SEARCH_PATH).map_or("", String::as_str);
        let schemas: Vec<&str> = path.split(',').map(|name| name.trim().trim_matches(['"', '\''])).collect();
        let catalog = self.context.copied_config().options().catalog.default_catalog.clone();
        let catalog = self.context.catalog(&catalog);
        // What is in the default schema needs no other.
        let has = |schema: &str, table: &str| {
            catalog.as_ref().and_then(|catalog| catalog.schema(schema)).is_some_and(|schema| schema.table_exist(table))
        };
        let schema_of = |table: &str| {
            let found = schemas.iter().find(|schema| has(schema, table))?;
            (*found != PUBLIC).then(|| (*found).to_owned())
        };
        rewrite(sql, &Asked { declared, schema_of: &schema_of })
    }
}

#[async_trait]
impl QueryParser for RewritingParser {
    type Statement = <DfSessionService as ExtendedQueryHandler>::Statement;

    async fn parse_sql<C>(&self, client: &C, sql: &str, types: &[Option<Type>]) -> PgWireResult<Option<Self::Statement>>
    where
        C: ClientInfo + Unpin + Send + Sync,
    {
        let sql = self.rewritten(client, sql, types);
        self.inner.parse_sql(client, &sql, types).await
    }

    fn get_parameter_types(&self, statement: &Self::Statement) -> PgWireResult<Vec<Type>> {
        self.inner.get_parameter_types(statement)
    }

    fn get_result_schema(
        &self,
        statement: &Self::Statement,
        column_format: Option<&Format>,
    ) -> PgWireResult<Vec<FieldInfo>> {
        self.inner.get_result_schema(statement, column_format)
    }
}
