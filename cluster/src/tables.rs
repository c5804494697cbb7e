//! Delta tables as lists of Parquet files, which every process of a cluster can read without knowing Delta.

use arrow::datatypes::{Field, Schema};
use datafusion::{
    catalog::TableProvider,
    datasource::{
        empty::EmptyTable,
        file_format::parquet::ParquetFormat,
        listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl},
    },
    error::{DataFusionError, Result},
    execution::context::SessionContext,
    prelude::Expr,
};
use sluice_sinks::lake::DeltaTable;
use std::sync::Arc;

/// How the date by which a table is filed comes of its other columns: files do not have it.
#[derive(Clone, Debug)]
pub struct Dated {
    /// The column of dates.
    pub column: String,
    /// Its value.
    pub date: Expr,
}

/// Lets a session read a table, as it is loaded, by a name. A column by which it is filed is there when `dated` says how it
/// comes about.
pub(crate) async fn register(
    context: &SessionContext,
    name: &str,
    table: &DeltaTable,
    dated: Option<&Dated>,
) -> Result<()> {
    let external = |error: Box<dyn std::error::Error + Send + Sync>| DataFusionError::External(error);
    let state = table.snapshot()?;
    let filed_by = state.metadata().partition_columns();
    let schema = state.snapshot().arrow_schema();
    let fields = schema.fields().iter().filter(|field| !filed_by.contains(field.name())).cloned();
    let schema = Arc::new(Schema::new(fields.collect::<Vec<Arc<Field>>>()));
    let log = table.log_store();
    let root = log.root_url();
    let mut files = Vec::new();
    for file in state.log_data().iter() {
        let url = root.join(&file.path()).map_err(|e| external(Box::new(e)))?;
        files.push(ListingTableUrl::try_new(url, None)?);
    }
    context.deregister_table(name)?;
    let provider: Arc<dyn TableProvider> = match files.is_empty() {
        true => Arc::new(EmptyTable::new(schema)),
        false => {
            let options = ListingOptions::new(Arc::new(ParquetFormat::default())).with_file_extension(".parquet");
            let config = ListingTableConfig::new_with_multi_paths(files).with_listing_options(options);
            Arc::new(ListingTable::try_new(config.with_schema(schema))?)
        }
    };
    let provider = match dated.filter(|dated| filed_by.contains(&dated.column)) {
        None => provider,
        Some(Dated { column, date }) => context.read_table(provider)?.with_column(column, date.clone())?.into_view(),
    };
    context.register_table(name, provider)?;
    Ok(())
}
