//! A MongoDB server: the connection, commands, and what its documents are made of.

use futures::TryStreamExt;
use mongodb::{
    Client, Collection, Database,
    bson::{self, Bson, Decimal128, Document, doc},
    error::Error,
    options::ClientOptions,
};
use std::{
    fmt::Display,
    future::{Future, IntoFuture},
    sync::mpsc,
    time::Duration,
};
use tokio::runtime::{Builder, Runtime};

/// How long the server may take for one command before we say that it does not answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long we look for a server, unless the connection string says.
const SELECTION_TIMEOUT: Duration = Duration::from_secs(5);
/// Updates in one command.
pub(crate) const UPDATES_PER_COMMAND: usize = 500;
/// About how many bytes of updates in one command; the server refuses a command above 16 MiB.
const COMMAND_BYTES: usize = 8 << 20;
/// The server's code for a second document with the same `_id`.
const DUPLICATE_KEY: i32 = 11000;

/// Why the server did not do it.
#[derive(Debug, thiserror::Error)]
#[error("{server}: {deed}: {message}")]
pub(crate) struct MongoError {
    /// Hosts and database, without credentials.
    pub server: String,
    /// What was tried.
    pub deed: &'static str,
    /// What the server said.
    pub message: String,
}

/// A database of a server. Its methods block and may be called from any thread: the driver runs on a thread of its own.
pub(crate) struct MongoServer {
    /// Hosts and database, without credentials.
    name: String,
    secrets: Vec<String>,
    database: Database,
    write_concern: Document,
    /// Some until the drop.
    runtime: Option<Runtime>,
}

impl MongoServer {
    /// Connects to a database; `thread` names the driver's thread.
    ///
    /// # Errors
    /// When the connection string is wrong.
    pub fn connect(uri: &str, database: &str, thread: &str) -> Result<Self, MongoError> {
        let secrets = secrets_of(uri);
        let fail = |server: &str, e: &dyn Display| MongoError {
            server: server.to_owned(),
            deed: "connect",
            message: without(&secrets, e.to_string()),
        };
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name(thread)
            .enable_all()
            .build()
            .map_err(|e| fail("mongodb", &e))?;
        let parse = ClientOptions::parse(uri.to_owned()).into_future();
        let mut options = wait_for(&runtime, parse).map_err(|e| fail("mongodb", &e))?;
        let hosts: Vec<String> = options.hosts.iter().map(ToString::to_string).collect();
        let name = format!("mongodb://{}/{database}", hosts.join(","));
        options.app_name.get_or_insert_with(|| "sluice".to_owned());
        options.server_selection_timeout.get_or_insert(SELECTION_TIMEOUT);
        // `run_command` ignores the client's write concern, so each command carries it.
        let write_concern = match &options.write_concern {
            Some(concern) => bson::serialize_to_document(concern).map_err(|e| fail(&name, &e))?,
            None => doc! {"w": "majority", "j": true},
        };
        let client = {
            let _inside = runtime.enter();
            Client::with_options(options).map_err(|e| fail(&name, &e))?
        };
        Ok(Self { name, secrets, database: client.database(database), write_concern, runtime: Some(runtime) })
    }

    /// Hosts and database, without credentials.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A collection of the database.
    pub fn collection(&self, name: &str) -> Collection<Document> {
        self.database.collection(name)
    }

    pub fn error(&self, deed: &'static str, error: impl Display) -> MongoError {
        MongoError { server: self.name.clone(), deed, message: without(&self.secrets, error.to_string()) }
    }

    fn wait<T, F>(&self, deed: &'static str, work: F) -> Result<T, MongoError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let runtime = self.runtime.as_ref().ok_or_else(|| self.error(deed, "the connection is closed"))?;
        wait_for(runtime, work).map_err(|e| self.error(deed, e))
    }

    pub fn command(&self, deed: &'static str, command: Document) -> Result<Document, MongoError> {
        let database = self.database.clone();
        self.wait(deed, async move { database.run_command(command).await })
    }

    /// Runs the updates, in commands of a size that the server takes. Gives how many documents are new or other than before.
    pub fn update(&self, deed: &'static str, collection: &str, updates: Vec<Update>) -> Result<i64, MongoError> {
        let mut batch = Vec::new();
        let (mut bytes, mut changed) = (0, 0);
        for update in updates {
            bytes += update.bytes;
            batch.push(update.statement);
            if batch.len() >= UPDATES_PER_COMMAND || bytes >= COMMAND_BYTES {
                changed += self.update_once(deed, collection, std::mem::take(&mut batch))?;
                bytes = 0;
            }
        }
        Ok(changed + self.update_once(deed, collection, batch)?)
    }

    fn update_once(&self, deed: &'static str, collection: &str, batch: Vec<Document>) -> Result<i64, MongoError> {
        let (changed, mut refused) = self.send_updates(deed, collection, &batch)?;
        if refused.is_empty() {
            return Ok(changed);
        }
        // The `_id` is there. Mostly because the store has a newer revision; but another writer may have inserted an
        // older one between our filter and our insert. Without the upsert the filter alone decides.
        let mut again = Vec::with_capacity(refused.len());
        for index in refused.drain(..) {
            let Some(statement) = batch.get(index) else { continue };
            let mut statement = statement.clone();
            statement.insert("upsert", false);
            again.push(statement);
        }
        match self.send_updates(deed, collection, &again)? {
            (more, refused) if refused.is_empty() => Ok(changed + more),
            _ => Err(self.error(deed, "an update without upsert ran into a duplicate key")),
        }
    }

    /// Sends one `update` command; hands back how many documents it changed, and which statements ran into a duplicate key.
    fn send_updates(
        &self,
        deed: &'static str,
        collection: &str,
        batch: &[Document],
    ) -> Result<(i64, Vec<usize>), MongoError> {
        if batch.is_empty() {
            return Ok((0, Vec::new()));
        }
        let answer = self.command(
            deed,
            doc! {"update": collection, "updates": batch, "ordered": false, "writeConcern": self.write_concern.clone()},
        )?;
        let upserted = answer.get_array("upserted").map_or(0, |upserted| upserted.len() as i64);
        let changed = upserted + answer.get("nModified").and_then(whole_number).unwrap_or_default();
        let mut duplicates = Vec::new();
        for error in answer.get_array("writeErrors").into_iter().flatten() {
            let error = error.as_document();
            let number = |name: &str| error.and_then(|e| whole_number(e.get(name)?));
            match (number("code"), number("index")) {
                (Some(code), Some(index)) if code == i64::from(DUPLICATE_KEY) => {
                    duplicates.push(usize::try_from(index).unwrap_or(usize::MAX));
                }
                _ => {
                    let message = error.and_then(|e| e.get_str("errmsg").ok()).unwrap_or("write refused");
                    return Err(self.error(deed, message));
                }
            }
        }
        if let Ok(error) = answer.get_document("writeConcernError") {
            return Err(self.error(deed, error.get_str("errmsg").unwrap_or("write concern not met")));
        }
        Ok((changed, duplicates))
    }

    /// Removes all that match.
    pub fn delete(&self, deed: &'static str, collection: &str, filter: Document) -> Result<(), MongoError> {
        let deletes = [doc! {"q": filter, "limit": 0}].to_vec();
        self.command(deed, doc! {"delete": collection, "deletes": deletes, "writeConcern": {"w": "majority"}}).map(drop)
    }

    /// The first documents that match, in an order, with all fields or some; at most `limit`.
    pub fn find(
        &self,
        deed: &'static str,
        collection: &Collection<Document>,
        Find { filter, sort, fields, limit }: Find,
    ) -> Result<Vec<Document>, MongoError> {
        let collection = collection.clone();
        self.wait(deed, async move {
            let mut find = collection.find(filter).sort(sort).projection(fields).batch_size(5000);
            if let Some(limit) = limit.and_then(|limit| i64::try_from(limit).ok()) {
                find = find.limit(limit);
            }
            find.await?.try_collect().await
        })
    }

    #[cfg(test)]
    pub fn drop_database(&self) -> Result<(), MongoError> {
        let database = self.database.clone();
        self.wait("drop the database", async move { database.drop().await })
    }
}

/// Which documents are looked for. No limit: all; no fields: all.
#[derive(Default)]
pub(crate) struct Find {
    pub filter: Document,
    pub sort: Document,
    pub fields: Document,
    pub limit: Option<usize>,
}

impl Drop for MongoServer {
    fn drop(&mut self) {
        // Dropping a runtime waits, which an async caller must not do.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// One statement of an `update` command, and about how many bytes it takes.
pub(crate) struct Update {
    statement: Document,
    bytes: usize,
}

impl Update {
    pub fn new(filter: Document, update: Document, upsert: bool) -> Self {
        let statement = doc! {"q": filter, "u": update, "upsert": upsert};
        let bytes = statement.to_vec().map_or(0, |bytes| bytes.len());
        Self { statement, bytes }
    }
}

/// Runs the work on the connection's own runtime and blocks the calling thread, whatever that one runs.
fn wait_for<T, F>(runtime: &Runtime, work: F) -> Result<T, String>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Error>> + Send + 'static,
{
    let (answer, answered) = mpsc::sync_channel(1);
    runtime.spawn(async move {
        let result = match tokio::time::timeout(ANSWER_TIMEOUT, work).await {
            Ok(result) => result.map_err(|e| e.kind.to_string()),
            Err(_) => Err(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs())),
        };
        // The receiver waits below for as long as this task lives.
        let _ = answer.send(result);
    });
    answered.recv().unwrap_or_else(|_| Err("the driver stopped".to_owned()))
}

/// What must not be printed: user, password and authentication properties of a connection string, as they stand in it.
fn secrets_of(uri: &str) -> Vec<String> {
    let mut secrets = Vec::new();
    let rest = uri.split_once("://").map_or(uri, |(_, rest)| rest);
    let (authority, query) = rest.split_once('?').unwrap_or((rest, ""));
    if let Some((user_info, _)) = authority.rsplit_once('@') {
        secrets.push(user_info.to_owned());
        if let Some((_, password)) = user_info.split_once(':') {
            secrets.push(password.to_owned());
        }
    }
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        if name.eq_ignore_ascii_case("authMechanismProperties") || name.to_ascii_lowercase().contains("password") {
            secrets.push(value.to_owned());
        }
    }
    // Errors may quote the decoded form.
    for at in 0..secrets.len() {
        let decoded = percent_decoded(&secrets[at]);
        secrets.push(decoded);
    }
    secrets.retain(|secret| !secret.is_empty());
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets
}

fn percent_decoded(text: &str) -> String {
    // A form decoder would also turn `+` into a space, so pluses are protected first.
    let protected = format!("x={}", text.replace('+', "%2B").replace('&', "%26"));
    url::form_urlencoded::parse(protected.as_bytes()).next().map(|(_, value)| value.into_owned()).unwrap_or_default()
}

fn without(secrets: &[String], message: String) -> String {
    secrets.iter().fold(message, |message, secret| message.replace(secret.as_str(), "***"))
}

/// A decimal as the server's, when that gives it back letter by letter, so that the server can sum it; else a text.
pub(crate) fn decimal_value(text: &str) -> Bson {
    match text.parse::<Decimal128>() {
        Ok(decimal) if plain_text(decimal) == text => Bson::Decimal128(decimal),
        _ => Bson::String(text.to_owned()),
    }
}

/// A decimal without exponent and with all its decimal places: `0E-8` is `0.00000000`.
pub(crate) fn plain_text(decimal: Decimal128) -> String {
    let text = decimal.to_string();
    let Some((mantissa, exponent)) = text.split_once('E') else { return text };
    let Ok(exponent) = exponent.parse::<i64>() else { return text };
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    // The value is the digits, taken as a whole number, times ten to this power.
    let power = exponent - fraction.len() as i64;
    match usize::try_from(-power) {
        Ok(places) => {
            let digits = format!("{:0>width$}", [whole, fraction].concat(), width = places + 1);
            let (whole, fraction) = digits.split_at(digits.len() - places);
            format!("{sign}{whole}.{fraction}").trim_end_matches('.').to_owned()
        }
        Err(_) => text,
    }
}

/// A number without fraction, of whatever kind.
pub(crate) fn whole_number(value: &Bson) -> Option<i64> {
    match value {
        Bson::Int32(n) => Some(i64::from(*n)),
        Bson::Int64(n) => Some(*n),
        Bson::Double(x) if x.fract() == 0.0 && x.abs() < 9e15 => Some(*x as i64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_not_in_any_message() {
        let uri = "mongodb://ann:p%40ss+1@db.example:1/?tls=true&authMechanismProperties=AWS_SESSION_TOKEN:abc";
        let secrets = secrets_of(uri);
        for quoted in [uri, "user ann:p@ss+1 refused", "password p@ss+1 refused", "token AWS_SESSION_TOKEN:abc"] {
            let message = without(&secrets, quoted.to_owned());
            assert!(message.contains("***"), "{message}");
            for secret in ["p%40ss", "p@ss", "abc"] {
                assert!(!message.contains(secret), "{message}");
            }
        }
        assert!(secrets_of("mongodb://db.example:1/shop").is_empty());
    }
}
