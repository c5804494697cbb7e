//! Puts questions to the library in its words, and lets their rows come only as long as the client wants them.

use super::{
    is_logged_in, log_in_first,
    rewrite::{Asked, one_by_one, rewrite},
};
use async_trait::async_trait;
use datafusion::prelude::SessionContext;
use datafusion_postgres::{
    DfSessionService, Parser,
    pgwire::{
        api::{
            ClientInfo, ClientPortalStore, ConnectionHandle, DEFAULT_NAME, PgWireConnectionState, Type,
            portal::{Format, Portal, PortalExecutionState},
            query::{ExtendedQueryHandler, SimpleQueryHandler, send_execution_response, send_query_response},
            results::{FieldInfo, QueryResponse, Response, SendableRowStream},
            stmt::QueryParser,
            store::{Entry, PortalStore},
        },
        error::{ErrorInfo, PgWireError, PgWireResult},
        messages::{PgWireBackendMessage, extendedquery::Execute, response::EmptyQueryResponse},
    },
};
use futures::{
    FutureExt as _, Sink, SinkExt as _, StreamExt as _,
    future::{self, BoxFuture, Shared},
    stream,
};
use std::{borrow::Cow, fmt, future::Future, mem, pin::Pin, sync::Arc, time::Duration};
use tokio::{sync::mpsc, task::JoinSet};

const CANCELED: &str = "57014";
const NOT_SUPPORTED: &str = "0A000";
/// The library makes room for so many rows before it has one.
const ROWS_AT_ONCE_MAX: i32 = 1_000_000;
/// Rows that are taken over at a time, and how often before they are wanted.
const CHUNK_ROWS: usize = 1024;
const CHUNKS_AHEAD: usize = 2;
/// Where the library keeps what a client has set, in milliseconds.
pub(super) const TIMEOUT: &str = "statement_timeout_ms";
pub(super) const SEARCH_PATH: &str = "search_path";
/// Where a table without a schema is looked for by itself.
pub(super) const PUBLIC: &str = "public";

/// What a client had set when it came: what it sets later is taken back to that.
pub(super) struct AtLogin {
    pub path: Option<String>,
}

/// Done when the client wants the question that it asks now to end.
type Canceled = Shared<BoxFuture<'static, ()>>;

/// To be asked for when a question is planned: planning has such a wish of its own, which ends here.
async fn canceled_by(client: &(impl ClientInfo + Sync)) -> Canceled {
    let Some(connection) = client.session_extensions().get::<Arc<ConnectionHandle>>() else {
        return future::pending().boxed().shared();
    };
    let wish = connection.start_query().await;
    let canceled = async move {
        // An error: the next question has begun.
        if wish.await.is_err() {
            future::pending().await
        }
    };
    canceled.boxed().shared()
}

type Stop = Pin<Box<dyn Future<Output = PgWireError> + Send>>;

fn canceled(why: &str) -> PgWireError {
    PgWireError::UserError(Box::new(ErrorInfo::new("ERROR".to_owned(), CANCELED.to_owned(), why.to_owned())))
}

/// Has rows computed by a task of their own, which some joins keep busy for seconds at a time: who waits for them still hears
/// what else happens. They are no longer computed when the answer is dropped.
fn elsewhere(rows: SendableRowStream) -> SendableRowStream {
    let (send, receive) = mpsc::channel(CHUNKS_AHEAD);
    let mut task = JoinSet::new();
    task.spawn(async move {
        let mut chunks = rows.ready_chunks(CHUNK_ROWS);
        while let Some(chunk) = chunks.next().await {
            if send.send(chunk).await.is_err() {
                return;
            }
        }
    });
    let chunks = stream::unfold((receive, task), |(mut receive, mut task)| async {
        let chunk = match receive.recv().await {
            Some(chunk) => chunk,
            // Whoever has seen no error takes an answer for complete.
            None => match task.join_next().await {
                Some(Err(error)) => vec![Err(PgWireError::ApiError(Box::new(error)))],
                _ => return None,
            },
        };
        Some((chunk, (receive, task)))
    });
    Box::pin(chunks.flat_map(stream::iter))
}

/// Lets the rows of an answer come until the client interrupts them, or its time is over.
fn bounded(mut answer: QueryResponse, wish: Canceled, timeout: Option<Duration>) -> QueryResponse {
    let stop: Stop = Box::pin(async move {
        let over = async {
            match timeout {
                Some(timeout) => tokio::time::sleep(timeout).await,
                None => future::pending().await,
            }
        };
        tokio::select! {
            () = wish => canceled("canceling statement due to user request"),
            () = over => canceled("canceling statement due to statement timeout"),
        }
    });
    let rows = elsewhere(mem::replace(&mut answer.data_rows, Box::pin(stream::empty())));
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
}

impl Service {
    pub fn new(inner: DfSessionService, context: Arc<SessionContext>) -> Self {
        let inner = Arc::new(inner);
        let parser = Arc::new(RewritingParser { inner: ExtendedQueryHandler::query_parser(&*inner), context });
        Self { inner, parser }
    }
}

fn bounded_answer(answer: Response, client: &impl ClientInfo, wish: &Canceled) -> Response {
    let timeout = client.metadata().get(TIMEOUT).and_then(|millis| millis.parse().ok()).map(Duration::from_millis);
    match answer {
        Response::Query(rows) => Response::Query(bounded(rows, wish.clone(), timeout)),
        other => other,
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
        let mut answers = Vec::new();
        // One after the other: what one sets is in force for the next.
        for query in one_by_one(query) {
            let query = self.parser.rewritten(client, &query, &[])?;
            answers.extend(SimpleQueryHandler::do_query(&*self.inner, client, &query).await?);
        }
        let wish = canceled_by(client).await;
        Ok(answers.into_iter().map(|answer| bounded_answer(answer, client, &wish)).collect())
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
        let wish = canceled_by(client).await;
        Ok(bounded_answer(answer, client, &wish))
    }

    /// All rows that are wanted at once are sent as they come; the library would keep them until it has the last.
    async fn on_execute<C>(&self, client: &mut C, message: Execute) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Self::Statement>,
        C::Error: fmt::Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let all = !(1..=ROWS_AT_ONCE_MAX).contains(&message.max_rows);
        let portal = client.portal_store().get_portal(message.name.as_deref().unwrap_or(DEFAULT_NAME));
        let portal = match portal {
            Some(Entry::Value(portal)) if all => portal,
            _ => return self._on_execute(client, message).await,
        };
        if !matches!(*portal.state().lock().await, PortalExecutionState::Initial) {
            return self._on_execute(client, Execute::new(message.name, 0)).await;
        }
        if !matches!(client.state(), PgWireConnectionState::ReadyForQuery) {
            return Err(PgWireError::NotReadyForQuery);
        }
        client.set_state(PgWireConnectionState::QueryInProgress);
        let wish = canceled_by(client).await;
        let answer = tokio::select! {
            biased;
            answer = ExtendedQueryHandler::do_query(self, client, &portal, 0) => answer?,
            () = wish => return Err(PgWireError::QueryCanceled),
        };
        let status = client.transaction_status();
        let status = match answer {
            Response::Query(rows) => {
                send_query_response(client, rows, false).await?;
                status
            }
            Response::EmptyQuery => {
                client.feed(PgWireBackendMessage::EmptyQueryResponse(EmptyQueryResponse::new())).await?;
                status
            }
            Response::TransactionStart(tag) => {
                send_execution_response(client, tag).await?;
                status.to_in_transaction_state()
            }
            Response::TransactionEnd(tag) => {
                send_execution_response(client, tag).await?;
                client.portal_store().rm_portal(DEFAULT_NAME);
                status.to_idle_state()
            }
            Response::Execution(tag) => {
                send_execution_response(client, tag).await?;
                status
            }
            Response::Error(error) => return Err(PgWireError::UserError(error)),
            Response::CopyIn(_) | Response::CopyOut(_) | Response::CopyBoth(_) => {
                return Err(canceled("there is no COPY here"));
            }
        };
        client.set_state(PgWireConnectionState::ReadyForQuery);
        client.set_transaction_status(status);
        Ok(())
    }
}

/// The library's parser, after [`rewrite`].
pub(super) struct RewritingParser {
    inner: Arc<Parser>,
    context: Arc<SessionContext>,
}

impl RewritingParser {
    fn rewritten<'a>(
        &self,
        client: &impl ClientInfo,
        sql: &'a str,
        declared: &[Option<Type>],
    ) -> PgWireResult<Cow<'a, str>> {
        if !is_logged_in(client) {
            return Err(log_in_first());
        }
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
        rewrite(sql, &Asked { declared, schema_of: &schema_of }).map_err(|unknown| {
            PgWireError::UserError(Box::new(ErrorInfo::new("ERROR".to_owned(), NOT_SUPPORTED.to_owned(), unknown)))
        })
    }
}

#[async_trait]
impl QueryParser for RewritingParser {
    type Statement = <DfSessionService as ExtendedQueryHandler>::Statement;

    async fn parse_sql<C>(&self, client: &C, sql: &str, types: &[Option<Type>]) -> PgWireResult<Option<Self::Statement>>
    where
        C: ClientInfo + Unpin + Send + Sync,
    {
        let sql = self.rewritten(client, sql, types)?;
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
