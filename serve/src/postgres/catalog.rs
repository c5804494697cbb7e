//! `pg_catalog` and `information_schema`: where clients look up what tables and types there are.

use super::functions;
use async_trait::async_trait;
use datafusion::{
    catalog::{MemorySchemaProvider, SchemaProvider, TableProvider},
    common::internal_datafusion_err,
    error::{DataFusionError, Result},
    prelude::SessionContext,
};
use datafusion_postgres::datafusion_pg_catalog::pg_catalog::{context::EmptyContextProvider, setup_pg_catalog};
use std::sync::Arc;

/// The version of PostgreSQL that clients are told: from it they take what they may ask.
pub(super) const SERVER_VERSION: &str = "16.6";
/// Settings of a server as clients ask for them, beside those of a connection.
pub(super) const SETTINGS: [(&str, &str); 18] = [
    ("block_size", "8192"),
    ("client_encoding", "UTF8"),
    ("datestyle", "ISO, MDY"),
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_read_only", "on"),
    ("integer_datetimes", "on"),
    ("intervalstyle", "postgres"),
    ("is_superuser", "off"),
    ("lc_collate", "C"),
    ("lc_ctype", "C"),
    ("max_identifier_length", "63"),
    ("max_index_keys", "32"),
    ("server_encoding", "UTF8"),
    ("server_version", SERVER_VERSION),
    ("server_version_num", "160006"),
    ("standard_conforming_strings", "on"),
    ("transaction_isolation", "read committed"),
    ("transaction_read_only", "on"),
];
pub(super) const PG_CATALOG: &str = "pg_catalog";
const INFORMATION_SCHEMA: &str = "information_schema";
/// What the library lacks, as SQL over what it has.
const TABLES: &str = include_str!("catalog.sql");

/// Adds both to this catalog of the session, as the account `user` sees them, and the functions that clients call there.
///
/// # Errors
/// When the session has no such catalog.
pub async fn add_pg_catalog(context: &SessionContext, catalog: &str, user: &str) -> Result<()> {
    setup_pg_catalog(context, catalog, EmptyContextProvider).map_err(|error| *error)?;
    functions::register(context, user);
    let database = context.catalog(catalog).ok_or_else(|| internal_datafusion_err!("no catalog {catalog}"))?;
    let below = database.schema(PG_CATALOG).ok_or_else(|| internal_datafusion_err!("no {PG_CATALOG}"))?;
    database.register_schema(PG_CATALOG, Arc::new(Overlay { own: MemorySchemaProvider::new(), below }))?;
    database.register_schema(INFORMATION_SCHEMA, Arc::new(MemorySchemaProvider::new()))?;
    let settings: Vec<String> = SETTINGS.iter().map(|(name, value)| format!("('{name}', '{value}')")).collect();
    let settings = format!("(VALUES {})", settings.join(", "));
    let user = format!("'{}'", user.replace('\'', "''"));
    for statement in TABLES.replace("{settings}", &settings).replace("{user}", &user).split(";\n") {
        context.sql(statement).await?;
    }
    Ok(())
}

/// Tables over those of another schema, which they hide.
#[derive(Debug)]
struct Overlay {
    own: MemorySchemaProvider,
    below: Arc<dyn SchemaProvider>,
}

#[async_trait]
impl SchemaProvider for Overlay {
    fn table_names(&self) -> Vec<String> {
        let mut names = self.below.table_names();
        names.extend(self.own.table_names());
        names.sort();
        names.dedup();
        names
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        match self.own.table(name).await? {
            Some(table) => Ok(Some(table)),
            None => self.below.table(name).await,
        }
    }

    fn register_table(&self, name: String, table: Arc<dyn TableProvider>) -> Result<Option<Arc<dyn TableProvider>>> {
        self.own.register_table(name, table)
    }

    fn deregister_table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        self.own.deregister_table(name)
    }

    fn table_exist(&self, name: &str) -> bool {
        self.own.table_exist(name) || self.below.table_exist(name)
    }
}
