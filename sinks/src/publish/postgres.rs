//! Editions as tables of PostgreSQL.
//!
//! An edition comes in one transaction: the table is made, or brought to the edition's columns and key; the rows are copied
//! into a temporary table, those that differ are upserted, and those that are gone are removed. Readers see all of the old
//! edition or all of the new one, and rows that are the same stay untouched. Table `published` of the same schema tells
//! which edition each table has.

use super::{Edition, PublishError, Published, Publisher, Rows};
use arrow::{
    array::{ArrayRef, AsArray, RecordBatch, StringArray},
    compute::cast,
    csv::WriterBuilder,
    datatypes::{DataType, Field},
    error::ArrowError,
};
use datafusion::error::DataFusionError;
use postgres::{Client, Config, NoTls, Transaction, config::SslMode};
use std::{collections::BTreeMap, error::Error, io::Write, sync::Arc, time::Duration};
use tokio_postgres_rustls::MakeRustlsConnect;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// What stands for null between us and the server: no text of an event is this one character.
const NULL: &str = "\u{1}";
/// What PostgreSQL cannot have in a text, and what stands for it.
const NUL: char = '\0';
const REPLACEMENT: &str = "\u{FFFD}";
/// Which edition each table has.
const LEDGER: &str = "published";
/// Where the rows of the edition wait, of the session alone.
const STAGING: &str = "sluice_edition";

/// A schema of a PostgreSQL database.
pub struct PostgresPublisher {
    /// Hosts and database, without credentials.
    name: String,
    schema: String,
    client: Client,
}

impl PostgresPublisher {
    /// Connects, and makes the schema when it is missing. `url` is `postgres://user:password@host/database` or
    /// `host=… user=…`; with `sslmode=require` the server's certificate must be one that the system trusts.
    ///
    /// # Errors
    /// When the URL is wrong, the server does not answer, or the user may not make a schema.
    pub fn connect(url: &str, schema: &str) -> Result<Self, PublishError> {
        let refused = |target: &str, message: String| PublishError::Target {
            target: target.to_owned(),
            deed: "connect".to_owned(),
            message,
        };
        // What the parser says may quote the password.
        let mut config: Config = url.parse().map_err(|_| {
            let right = "postgres://user:password@host/database, or host=… user=… password=… dbname=…";
            refused("postgres", format!("the URL is none that can be read; it is {right}"))
        })?;
        let hosts: Vec<String> = config.get_hosts().iter().map(|host| format!("{host:?}")).collect();
        let name = format!("postgres {}/{}", hosts.join(","), config.get_dbname().unwrap_or_default());
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        if config.get_application_name().is_none() {
            config.application_name("sluice");
        }
        // Of the two that are linked in; who came first has chosen for the whole process.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = match MakeRustlsConnect::with_native_certs() {
            Ok((tls, _)) if config.get_ssl_mode() != SslMode::Disable => config.connect(tls),
            _ => config.connect(NoTls),
        };
        let client = client.map_err(|e| refused(&name, causes(&e)))?;
        let mut publisher = Self { name, schema: schema.to_owned(), client };
        let ledger = format!(
            "CREATE SCHEMA IF NOT EXISTS {}; CREATE TABLE IF NOT EXISTS {} (name text PRIMARY KEY, source text NOT NULL, \
             version bigint NOT NULL, committed_at bigint NOT NULL, published_at bigint NOT NULL, \
             publish_lag_seconds double precision NOT NULL, row_count bigint NOT NULL, changed bigint NOT NULL)",
            quoted(schema),
            publisher.table(LEDGER)
        );
        publisher.client.batch_execute(&ledger).map_err(|e| failed(&publisher.name, "make the schema", &e))?;
        Ok(publisher)
    }

    fn table(&self, name: &str) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(name))
    }
}

impl Publisher for PostgresPublisher {
    fn published(&mut self, name: &str) -> Result<Option<Published>, PublishError> {
        let ledger = self.table(LEDGER);
        let mut transaction = self.client.transaction().map_err(|e| failed(&self.name, "begin", &e))?;
        read_published(&mut transaction, &ledger, name).map_err(|e| failed(&self.name, "ask what is published", &e))
    }

    fn publish(&mut self, name: &str, edition: &Edition, rows: Rows<'_>) -> Result<Published, PublishError> {
        let (table, ledger, target) = (self.table(name), self.table(LEDGER), self.name.clone());
        let does = |deed: &'static str| {
            let target = target.clone();
            move |e: postgres::Error| failed(&target, deed, &e)
        };
        let refused = |message: String| PublishError::Edition { table: edition.table.clone(), message };
        let columns = columns(edition).map_err(refused)?;
        let mut transaction = self.client.transaction().map_err(does("begin"))?;
        // One at a time per table, also of those that publish to it for the first time.
        let lock = "SELECT pg_advisory_xact_lock(hashtext($1))";
        transaction.execute(lock, &[&table]).map_err(does("wait for another who publishes"))?;
        let there = read_published(&mut transaction, &ledger, name).map_err(does("ask what is published"))?;
        if let Some(there) = there.as_ref().filter(|there| there.is_newer_than(edition)) {
            return Ok(there.clone());
        }
        let found = found_columns(&mut transaction, &self.schema, name).map_err(does("look at the table"))?;
        if there.is_none() && !found.is_empty() {
            return Err(refused(format!(
                "table {table} is there and sluice did not make it; publish under another name"
            )));
        }
        for statement in migration(&table, &found, &columns, edition) {
            transaction.batch_execute(&statement).map_err(does("bring the table to the edition's columns"))?;
        }
        let staging = format!("CREATE TEMPORARY TABLE {STAGING} (LIKE {table}) ON COMMIT DROP");
        transaction.batch_execute(&staging).map_err(does("make room"))?;
        let count = copy_in(&mut transaction, &columns, rows, &target)?;
        let [upsert, delete] = exchange(&table, &columns, edition);
        let changed = transaction.execute(&*upsert, &[]).map_err(does("upsert rows"))?
            + transaction.execute(&*delete, &[]).map_err(does("remove rows"))?;
        let published = Published::now(edition, there.as_ref(), count, changed as i64);
        let note = format!(
            "INSERT INTO {ledger} VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (name) DO UPDATE SET \
             (source, version, committed_at, published_at, publish_lag_seconds, row_count, changed) = \
             (excluded.source, excluded.version, excluded.committed_at, excluded.published_at, \
             excluded.publish_lag_seconds, excluded.row_count, excluded.changed)"
        );
        let Published { table: source, version, committed_at, published_at, rows, changed } = &published;
        transaction
            .execute(
                &*note,
                &[&name, source, version, committed_at, published_at, &published.lag_seconds(), rows, changed],
            )
            .map_err(does("note what is published"))?;
        transaction.commit().map_err(does("commit"))?;
        Ok(published)
    }
}

/// A column as PostgreSQL has it: its name and its type.
type Column = (String, String);

/// The columns of an edition.
fn columns(edition: &Edition) -> Result<Vec<Column>, String> {
    let column = |field: &Arc<Field>| {
        let kind = match field.data_type() {
            DataType::Boolean => "boolean".to_owned(),
            DataType::Int8 | DataType::Int16 => "smallint".to_owned(),
            DataType::Int32 => "integer".to_owned(),
            DataType::Int64 => "bigint".to_owned(),
            DataType::Float32 => "real".to_owned(),
            DataType::Float64 => "double precision".to_owned(),
            DataType::Decimal128(precision, scale) => format!("numeric({precision},{scale})"),
            DataType::Date32 => "date".to_owned(),
            DataType::Timestamp(_, Some(_)) => "timestamp with time zone".to_owned(),
            DataType::Timestamp(_, None) => "timestamp without time zone".to_owned(),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text".to_owned(),
            other => return Err(format!("column {} is {other}, which cannot be published", field.name())),
        };
        Ok((field.name().clone(), kind))
    };
    edition.schema.fields().iter().map(column).collect()
}

/// The columns that a table has there, by name, and which of them are of its key, in the key's order.
#[derive(Default)]
struct Found {
    columns: BTreeMap<String, String>,
    key: Vec<String>,
    key_name: Option<String>,
}

impl Found {
    fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }
}

fn found_columns(transaction: &mut Transaction<'_>, schema: &str, name: &str) -> Result<Found, postgres::Error> {
    let columns = "SELECT a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_attribute a \
                   JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
                   WHERE n.nspname = $1 AND c.relname = $2 AND a.attnum > 0 AND NOT a.attisdropped";
    let key = "SELECT k.conname::text, a.attname FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid \
               JOIN pg_namespace n ON n.oid = c.relnamespace \
               CROSS JOIN LATERAL unnest(k.conkey) WITH ORDINALITY AS u(attnum, place) \
               JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = u.attnum \
               WHERE n.nspname = $1 AND c.relname = $2 AND k.contype = 'p' ORDER BY u.place";
    let mut found = Found::default();
    for row in transaction.query(columns, &[&schema, &name])? {
        found.columns.insert(row.get(0), row.get(1));
    }
    for row in transaction.query(key, &[&schema, &name])? {
        found.key_name = Some(row.get(0));
        found.key.push(row.get(1));
    }
    Ok(found)
}

/// What brings a table to the columns and the key of an edition.
fn migration(table: &str, found: &Found, columns: &[Column], edition: &Edition) -> Vec<String> {
    let key = list(&edition.key, |key| quoted(key));
    if found.is_empty() {
        let columns = list(columns, |(name, kind)| format!("{} {kind}", quoted(name)));
        return vec![format!("CREATE TABLE {table} ({columns}, PRIMARY KEY ({key}))")];
    }
    let mut statements = Vec::new();
    let is_wanted = |name: &&String| columns.iter().any(|(wanted, _)| wanted == *name);
    let is_other = |name: &String| {
        let wanted = columns.iter().find(|(column, _)| column == name).map(|(_, kind)| kind);
        wanted != found.columns.get(name)
    };
    let has_other_key = found.key != edition.key || edition.key.iter().any(is_other);
    if let Some(name) = found.key_name.as_ref().filter(|_| has_other_key) {
        statements.push(format!("ALTER TABLE {table} DROP CONSTRAINT {}", quoted(name)));
        // Rows of another grain cannot have the new key.
        statements.push(format!("DELETE FROM {table}"));
        for name in found.key.iter().filter(is_wanted) {
            statements.push(format!("ALTER TABLE {table} ALTER COLUMN {} DROP NOT NULL", quoted(name)));
        }
    }
    for name in found.columns.keys().filter(|name| !is_wanted(name)) {
        statements.push(format!("ALTER TABLE {table} DROP COLUMN {}", quoted(name)));
    }
    for (name, kind) in columns {
        let name_there = quoted(name);
        match found.columns.get(name) {
            None => statements.push(format!("ALTER TABLE {table} ADD COLUMN {name_there} {kind}")),
            // All its values come anew.
            Some(there) if there != kind => {
                statements.push(format!("ALTER TABLE {table} DROP COLUMN {name_there}"));
                statements.push(format!("ALTER TABLE {table} ADD COLUMN {name_there} {kind}"));
            }
            Some(_) => {}
        }
    }
    if has_other_key {
        statements.push(format!("ALTER TABLE {table} ADD PRIMARY KEY ({key})"));
    }
    statements
}

/// Copies rows into the staging table; gives how many.
fn copy_in(
    transaction: &mut Transaction<'_>,
    columns: &[Column],
    rows: Rows<'_>,
    target: &str,
) -> Result<i64, PublishError> {
    let names = list(columns, |(name, _)| quoted(name));
    let copy = format!("COPY {STAGING} ({names}) FROM STDIN (FORMAT csv, NULL '{NULL}')");
    let mut into = transaction.copy_in(&*copy).map_err(|e| failed(target, "copy rows", &e))?;
    let mut count = 0;
    for batch in rows {
        let batch = batch?;
        count += batch.num_rows() as i64;
        let text = csv(&batch).map_err(DataFusionError::from)?;
        into.write_all(&text).map_err(|e| failed(target, "copy rows", &e))?;
    }
    into.finish().map_err(|e| failed(target, "copy rows", &e))?;
    Ok(count)
}

fn csv(batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let columns = batch.columns().iter().map(without_nul).collect::<Result<Vec<_>, _>>()?;
    let schema = batch.schema();
    let named = schema.fields().iter().map(|field| field.name().as_str()).zip(columns);
    let batch = RecordBatch::try_from_iter_with_nullable(named.map(|(name, column)| (name, column, true)))?;
    let mut text = Vec::new();
    WriterBuilder::new().with_header(false).with_null(NULL.to_owned()).build(&mut text).write(&batch)?;
    Ok(text)
}

fn without_nul(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let column = match column.data_type() {
        DataType::Utf8View | DataType::LargeUtf8 => cast(column, &DataType::Utf8)?,
        _ => column.clone(),
    };
    let Some(texts) = column.as_string_opt::<i32>().filter(|texts| texts.value_data().contains(&(NUL as u8))) else {
        return Ok(column);
    };
    let texts = texts.iter().map(|text| text.map(|text| text.replace(NUL, REPLACEMENT)));
    Ok(Arc::new(texts.collect::<StringArray>()))
}

/// The statements that make the table have the rows of the staging table and no others.
fn exchange(table: &str, columns: &[Column], edition: &Edition) -> [String; 2] {
    let names = list(columns, |(name, _)| quoted(name));
    let others: Vec<&Column> = columns.iter().filter(|(name, _)| !edition.key.contains(name)).collect();
    let key = list(&edition.key, |key| quoted(key));
    let on_conflict = match others.is_empty() {
        true => "NOTHING".to_owned(),
        false => {
            let set = list(&others, |(name, _)| format!("{0} = excluded.{0}", quoted(name)));
            let old = list(&others, |(name, _)| format!("t.{}", quoted(name)));
            let new = list(&others, |(name, _)| format!("excluded.{}", quoted(name)));
            format!("UPDATE SET {set} WHERE ({old}) IS DISTINCT FROM ({new})")
        }
    };
    let same = edition.key.iter().map(|key| format!("s.{0} = t.{0}", quoted(key))).collect::<Vec<_>>().join(" AND ");
    [
        format!(
            "INSERT INTO {table} AS t ({names}) SELECT {names} FROM {STAGING} ON CONFLICT ({key}) DO {on_conflict}"
        ),
        format!("DELETE FROM {table} AS t WHERE NOT EXISTS (SELECT 1 FROM {STAGING} s WHERE {same})"),
    ]
}

fn read_published(
    transaction: &mut Transaction<'_>,
    ledger: &str,
    name: &str,
) -> Result<Option<Published>, postgres::Error> {
    let sql =
        format!("SELECT source, version, committed_at, published_at, row_count, changed FROM {ledger} WHERE name = $1");
    let row = transaction.query_opt(&*sql, &[&name])?;
    Ok(row.map(|row| Published {
        table: row.get(0),
        version: row.get(1),
        committed_at: row.get(2),
        published_at: row.get(3),
        rows: row.get(4),
        changed: row.get(5),
    }))
}

fn list<T>(items: &[T], text: impl Fn(&T) -> String) -> String {
    items.iter().map(text).collect::<Vec<_>>().join(", ")
}

fn quoted(name: impl AsRef<str>) -> String {
    format!("\"{}\"", name.as_ref().replace('"', "\"\""))
}

fn failed(target: &str, deed: &str, error: &dyn Error) -> PublishError {
    PublishError::Target { target: target.to_owned(), deed: deed.to_owned(), message: causes(error) }
}

/// What the server says stands in the cause.
fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::{
        array::{Int64Array, StringViewArray},
        datatypes::Schema,
    };

    fn edition(fields: Vec<Field>, key: &[&str]) -> Edition {
        Edition {
            table: "gold.t".to_owned(),
            key: key.iter().map(|key| (*key).to_owned()).collect(),
            schema: Arc::new(Schema::new(fields)),
            version: 1,
            committed_at: 0,
        }
    }

    #[test]
    fn a_table_is_brought_to_new_columns_and_another_key() {
        let edition =
            edition(vec![Field::new("a", DataType::Utf8, true), Field::new("n", DataType::Int64, true)], &["a"]);
        let columns = columns(&edition).unwrap();
        let made = migration("t", &Found::default(), &columns, &edition);
        assert_eq!(made, [r#"CREATE TABLE t ("a" text, "n" bigint, PRIMARY KEY ("a"))"#]);
        let same = Found {
            columns: [("a", "text"), ("n", "bigint")].map(|(a, b)| (a.to_owned(), b.to_owned())).into(),
            key: vec!["a".to_owned()],
            key_name: Some("t_pkey".to_owned()),
        };
        assert!(migration("t", &same, &columns, &edition).is_empty());
        let other = Found {
            columns: [("b", "text"), ("n", "integer")].map(|(a, b)| (a.to_owned(), b.to_owned())).into(),
            key: vec!["b".to_owned()],
            key_name: Some("t_pkey".to_owned()),
        };
        assert_eq!(
            migration("t", &other, &columns, &edition),
            [
                r#"ALTER TABLE t DROP CONSTRAINT "t_pkey""#,
                "DELETE FROM t",
                r#"ALTER TABLE t DROP COLUMN "b""#,
                r#"ALTER TABLE t ADD COLUMN "a" text"#,
                r#"ALTER TABLE t DROP COLUMN "n""#,
                r#"ALTER TABLE t ADD COLUMN "n" bigint"#,
                r#"ALTER TABLE t ADD PRIMARY KEY ("a")"#,
            ]
        );
    }

    #[test]
    fn null_and_an_empty_text_are_two_things() {
        // As the lake gives them.
        let texts: ArrayRef = Arc::new(StringViewArray::from(vec![Some(""), None, Some("a,\"b\"\0")]));
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(3)]));
        let batch = RecordBatch::try_from_iter([("t", texts), ("n", numbers)]).unwrap();
        let text = String::from_utf8(csv(&batch).unwrap()).unwrap();
        assert_eq!(text, "\"\",1\n\u{1},\u{1}\n\"a,\"\"b\"\"\u{FFFD}\",3\n".replace("\"\",1", ",1"));
    }

    #[test]
    fn what_postgres_has_no_type_for_is_named() {
        let list = Field::new("l", DataType::new_list(DataType::Int64, true), true);
        assert!(columns(&edition(vec![list], &["l"])).unwrap_err().contains("column l is"));
    }
}
