//! Puts questions to the library in its words, and lets their rows come only as long as the client wants them.

use super::{
    codes::{NOT_SUPPORTED, failed},
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
            query::{ExtendedQueryHandler, SimpleQueryHandler, send_execution_response, send_partial_query_response},
            results::{FieldInfo, QueryResponse, Response, SendableRowStream},
            stmt::QueryParser,
            store::{Entry, PortalStore},
        },
        error::{PgWireError, PgWireResult},
        messages::{PgWireBackendMessage, extendedquery::Execute, response::EmptyQueryResponse},
    },
};
use futures::{
    FutureExt as _, Sink, SinkExt as _, StreamExt as _,
    future::{self, BoxFuture, Shared},
    stream,
};
use std::{borrow::Cow, fmt, future::Future, mem, pin::Pin, sync::Arc, time::Duration};
use tokio::{
    sync::mpsc,
    task::{JoinSet, unconstrained},
};

const CANCELED: &str = "57014";
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

/// A new wish of the client, for what begins now: one before it is no longer heard.
async fn canceled_by(client: &(impl ClientInfo + Sync)) -> Canceled {
    let Some(connection) = client.session_extensions().get::<Arc<ConnectionHandle>>() else {
        return future::pending().boxed().shared();
    };
    let wish = connection.start_query().await;
    let canceled = async move {
        // An error: something else has begun.
        if wish.await.is_err() {
            future::pending().await
        }
    };
    canceled.boxed().shared()
}

/// The same once a question is planned, for its rows. The wish that planning had ends here; when it was told meanwhile, nobody
/// has heard it.
async fn canceled_after_planning(client: &(impl ClientInfo + Sync)) -> PgWireResult<Canceled> {
    if let Some(connection) = client.session_extensions().get::<Arc<ConnectionHandle>>()
        && !connection.cancel().await
    {
        return Err(PgWireError::QueryCanceled);
    }
    Ok(canceled_by(client).await)
}

type Stop = Pin<Box<dyn Future<Output = PgWireError> + Send>>;

fn canceled(why: &str) -> PgWireError {
    failed(CANCELED, why)
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

/// Why an answer ends, when its client interrupts it or its time is over.
fn stop(wish: Canceled, client: &impl ClientInfo) -> Stop {
    let timeout = client.metadata().get(TIMEOUT).and_then(|millis| millis.parse().ok()).map(Duration::from_millis);
    Box::pin(async move {
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
    })
}

/// Lets the rows of an answer come until then.
fn bounded(mut answer: QueryResponse, stop: Stop) -> QueryResponse {
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
        // One after the other: a path that one sets is in force for the next.
        for query in one_by_one(query).map_err(|why| failed(NOT_SUPPORTED, why))? {
            let query = self.parser.rewritten(client, &query, &[])?;
            answers.extend(SimpleQueryHandler::do_query(&*self.inner, client, &query).await?);
        }
        let wish = unconstrained(canceled_after_planning(client)).await?;
        let bounded = |answer| match answer {
            Response::Query(rows) => Response::Query(bounded(rows, stop(wish.clone(), client))),
            other => other,
        };
        Ok(answers.into_iter().map(bounded).collect())
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
        ExtendedQueryHandler::do_query(&*self.inner, client, portal, max_rows).await
    }

    /// Rows are sent as they come; the library would keep those that are wanted at once until it has the last of them.
    async fn on_execute<C>(&self, client: &mut C, message: Execute) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Self::Statement>,
        C::Error: fmt::Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let portal = client.portal_store().get_portal(message.name.as_deref().unwrap_or(DEFAULT_NAME));
        // An empty one, or none.
        let Some(Entry::Value(portal)) = portal else { return self._on_execute(client, message).await };
        if !matches!(client.state(), PgWireConnectionState::ReadyForQuery) {
            return Err(PgWireError::NotReadyForQuery);
        }
        client.set_state(PgWireConnectionState::QueryInProgress);
        let mut stop = stop(canceled_by(client).await, client);
        let state = portal.state();
        // When something goes wrong, it has no more rows.
        let begun = mem::replace(&mut *state.lock().await, PortalExecutionState::Finished);
        let answer = match begun {
            PortalExecutionState::Suspended(rows) => Response::Query(rows),
            PortalExecutionState::Finished => Response::Query(QueryResponse::new(Arc::default(), stream::empty())),
            PortalExecutionState::Initial => tokio::select! {
                biased;
                why = &mut stop => return Err(why),
                answer = ExtendedQueryHandler::do_query(self, client, &portal, 0) => match answer? {
                    Response::Query(mut rows) => {
                        rows.data_rows = elsewhere(rows.data_rows);
                        Response::Query(rows)
                    }
                    other => {
                        *state.lock().await = PortalExecutionState::Initial;
                        other
                    }
                },
            },
        };
        let mut status = client.transaction_status();
        match answer {
            Response::Query(mut rows) => {
                let wanted = usize::try_from(message.max_rows).unwrap_or(0);
                let is_suspended = tokio::select! {
                    biased;
                    why = &mut stop => return Err(why),
                    sent = send_partial_query_response(client, &mut rows, wanted) => sent?,
                };
                if is_suspended {
                    *state.lock().await = PortalExecutionState::Suspended(rows);
                }
            }
            Response::EmptyQuery => {
                client.feed(PgWireBackendMessage::EmptyQueryResponse(EmptyQueryResponse::new())).await?;
            }
            Response::TransactionStart(tag) => {
                send_execution_response(client, tag).await?;
                status = status.to_in_transaction_state();
            }
            Response::TransactionEnd(tag) => {
                send_execution_response(client, tag).await?;
                client.portal_store().rm_portal(DEFAULT_NAME);
                status = status.to_idle_state();
            }
            Response::Execution(tag) => send_execution_response(client, tag).await?,
            Response::Error(error) => return Err(PgWireError::UserError(error)),
            Response::CopyIn(_) | Response::CopyOut(_) | Response::CopyBoth(_) => {
                return Err(failed(NOT_SUPPORTED, "there is no COPY here"));
            }
        }
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
        rewrite(sql, &Asked { declared, schema_of: &schema_of }).map_err(|unknown| failed(NOT_SUPPORTED, unknown))
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
