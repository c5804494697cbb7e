//! Reading tables with SQL.

use datafusion::{catalog::TableProvider, dataframe::DataFrame, error::DataFusionError, prelude::SessionContext};
use deltalake::DeltaTable;
use std::sync::Arc;

/// Lets a session read a table, as it is loaded, by a name.
///
/// # Errors
/// When the name is taken or the table cannot be read.
pub async fn register(context: &SessionContext, name: &str, table: &DeltaTable) -> Result<(), DataFusionError> {
    context.register_table(name, provider(context, table).await?)?;
    Ok(())
}

/// The rows of a table, as it is loaded.
///
/// # Errors
/// When the table cannot be read.
pub async fn read_rows(table: &DeltaTable) -> Result<DataFrame, DataFusionError> {
    let context = SessionContext::new();
    context.read_table(provider(&context, table).await?)
}

async fn provider(context: &SessionContext, table: &DeltaTable) -> Result<Arc<dyn TableProvider>, DataFusionError> {
    table.update_datafusion_session(&context.state())?;
    Ok(Arc::new(table.table_provider().build().await?))
}
