//! What is let through to the library, and what is answered for it.

use super::{
    Refresh,
    catalog::SETTINGS,
    codes::{NOT_SUPPORTED, failed},
    is_logged_in, log_in_first,
    service::{AtLogin, PUBLIC, SEARCH_PATH, TIMEOUT},
};
use async_trait::async_trait;
use datafusion::{
    common::ParamValues,
    logical_expr::{LogicalPlan, LogicalPlanBuilder},
    prelude::{SQLOptions, SessionContext},
    sql::sqlparser::ast::{CloseCursor, Ident, Reset, ResetStatement, Set, Statement},
};
use datafusion_postgres::{
    QueryHook,
    hooks::HookClient,
    pgwire::{
        api::{
            ClientInfo, Type,
            results::{DataRowEncoder, FieldFormat, FieldInfo, QueryResponse, Response, Tag},
            store::PortalStore as _,
        },
        error::{PgWireError, PgWireResult},
    },
};
use futures::stream;
use std::sync::Arc;

const READ_ONLY: &str = "25006";
const NO_SUCH_SETTING: &str = "42704";

/// Whether a plan only reads.
fn reads(plan: &LogicalPlan) -> PgWireResult<()> {
    let options = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    options.verify_plan(plan).map_err(|error| failed(READ_ONLY, format!("the lake is read-only here: {error}")))
}

async fn reads_text(text: &str, context: &SessionContext) -> PgWireResult<()> {
    let plan = context.state().create_logical_plan(text).await.map_err(|e| PgWireError::ApiError(Box::new(e)))?;
    reads(&plan)
}

fn only_questions(statement: &Statement) -> PgWireError {
    let first = statement.to_string();
    let verb = first.split_whitespace().next().unwrap_or_default().to_owned();
    failed(READ_ONLY, format!("the lake is read-only here: SELECT, SHOW and EXPLAIN, not {verb}"))
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

/// What is kept of that, by the names the library has for it.
const OF_A_SESSION: [&str; 7] =
    ["bytea_output", "datestyle", "extra_float_digits", "intervalstyle", SEARCH_PATH, TIMEOUT, "timezone"];

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
pub(super) struct Gate(pub Refresh);

impl Gate {
    /// Why a statement is not let through.
    async fn check<C: ClientInfo + Sync + ?Sized>(&self, statement: &Statement, client: &C) -> PgWireResult<()> {
        if !is_logged_in(client) {
            return Err(log_in_first());
        }
        match statement {
            Statement::Set(set) if setting(set) == Setting::Refused => Err(only_questions(statement)),
            // A portal of the library's cursors does not say its columns, which crashes clients that ask.
            Statement::Declare { .. }
            | Statement::Fetch { .. }
            | Statement::Close { cursor: CloseCursor::Specific { .. } } => {
                let message = "there are no cursors here: ask without one, or for a part with LIMIT and OFFSET";
                Err(failed(NOT_SUPPORTED, message))
            }
            _ => {
                (self.0)().await;
                Ok(())
            }
        }
    }
}

/// The tag of a statement that is taken for done: it says nothing here, or is about what there is not.
fn done(statement: &Statement) -> Option<&'static str> {
    Some(match statement {
        Statement::Set(set) => match setting(set) {
            Setting::Ignored => "SET",
            Setting::Kept if path_of(set).is_some() => "SET",
            _ => return None,
        },
        Statement::Discard { .. } => "DISCARD ALL",
        Statement::Reset(_) => "RESET",
        Statement::UNLISTEN { .. } => "UNLISTEN",
        Statement::Close { cursor: CloseCursor::All } => "CLOSE CURSOR ALL",
        Statement::Deallocate { .. } => "DEALLOCATE",
        Statement::Savepoint { .. } => "SAVEPOINT",
        Statement::ReleaseSavepoint { .. } => "RELEASE",
        Statement::Rollback { savepoint: Some(_), .. } => "ROLLBACK",
        _ => return None,
    })
}

/// The schemas that a client wants tables to be looked for in: the library takes texts alone for them, not names.
fn path_of(set: &Set) -> Option<String> {
    match set {
        Set::SingleAssignment { scope: None, variable, values, .. }
            if variable.to_string().eq_ignore_ascii_case(SEARCH_PATH) =>
        {
            let names: Vec<String> = values.iter().map(ToString::to_string).collect();
            Some(names.join(","))
        }
        _ => None,
    }
}

/// What a statement that is taken for done leaves behind.
fn leave(statement: &Statement, client: &mut dyn HookClient) {
    match statement {
        Statement::Set(set) => {
            if let Some(path) = path_of(set) {
                client.metadata_mut().insert(SEARCH_PATH.to_owned(), path);
            }
        }
        Statement::Discard { .. } | Statement::Reset(ResetStatement { reset: Reset::ALL }) => {
            client.portal_store().clear_portals();
            OF_A_SESSION.iter().for_each(|name| reset(name, client));
        }
        Statement::Reset(ResetStatement { reset: Reset::ConfigurationParameter(name) }) => {
            match name.to_string().to_lowercase().as_str() {
                "statement_timeout" => reset(TIMEOUT, client),
                name if OF_A_SESSION.contains(&name) => reset(name, client),
                _ => {}
            }
        }
        Statement::Close { cursor: CloseCursor::All } => client.portal_store().clear_portals(),
        Statement::Deallocate { name, .. } => client.portal_store().rm_statement(&name.value),
        _ => {}
    }
}

/// What a client has set is as it was when it came.
fn reset(name: &str, client: &mut dyn HookClient) {
    let path = client.session_extensions().get::<AtLogin>().and_then(|login| login.path.clone());
    match path.filter(|_| name == SEARCH_PATH) {
        Some(path) => client.metadata_mut().insert(name.to_owned(), path),
        None => client.metadata_mut().remove(name),
    };
}

/// What a client has set, or a server is asked for.
fn shown(variable: &[Ident], client: &dyn HookClient) -> PgWireResult<String> {
    let words: Vec<String> = variable.iter().map(|word| word.value.to_lowercase()).collect();
    let name = match words.join(" ").as_str() {
        "time zone" => "timezone".to_owned(),
        "transaction isolation level" => "transaction_isolation".to_owned(),
        "session authorization" => "session_authorization".to_owned(),
        other => other.to_owned(),
    };
    let set = client.metadata();
    let known = SETTINGS.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    let value = match name.as_str() {
        "timezone" => Some(set.get("timezone").cloned().unwrap_or_else(|| "UTC".to_owned())),
        SEARCH_PATH => Some(set.get(SEARCH_PATH).cloned().unwrap_or_else(|| PUBLIC.to_owned())),
        "statement_timeout" => Some(set.get(TIMEOUT).map_or_else(|| "0".to_owned(), |millis| format!("{millis}ms"))),
        "session_authorization" => set.get("user").cloned(),
        _ => set.get(&name).cloned().or(known),
    };
    value.ok_or_else(|| failed(NO_SUCH_SETTING, format!("unrecognized configuration parameter \"{name}\"")))
}

/// An answer of one text.
fn one_text(name: &str, text: &str) -> PgWireResult<Response> {
    let fields = Arc::new(vec![FieldInfo::new(name.to_owned(), None, None, Type::VARCHAR, FieldFormat::Text)]);
    let mut row = DataRowEncoder::new(fields.clone());
    row.encode_field(&Some(text))?;
    let row = row.take_row();
    Ok(Response::Query(QueryResponse::new(fields, stream::once(async { Ok(row) }))))
}

impl Gate {
    /// What is answered for the library, if it is not to be asked.
    async fn answer(&self, statement: &Statement, client: &mut dyn HookClient) -> Option<PgWireResult<Response>> {
        if let Err(error) = self.check(statement, client).await {
            return Some(Err(error));
        }
        if let Statement::ShowVariable { variable } = statement {
            let name = variable.iter().map(|word| word.value.as_str()).collect::<Vec<_>>().join("_");
            return Some(shown(variable, client).and_then(|value| one_text(&name, &value)));
        }
        let tag = done(statement)?;
        leave(statement, client);
        Some(Ok(Response::Execution(Tag::new(tag))))
    }
}

#[async_trait]
impl QueryHook for Gate {
    async fn handle_simple_query(
        &self,
        statement: &Statement,
        _: &SessionContext,
        client: &mut dyn HookClient,
    ) -> Option<PgWireResult<Response>> {
        self.answer(statement, client).await
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
        done(statement).map(|_| nothing())
    }

    async fn handle_extended_query(
        &self,
        statement: &Statement,
        _: &LogicalPlan,
        _: &ParamValues,
        _: &SessionContext,
        client: &mut dyn HookClient,
    ) -> Option<PgWireResult<Response>> {
        self.answer(statement, client).await
    }
}

/// Refuses what is no question.
pub(super) struct Questions;

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
