//! SQL over the lake, by the tables' names.

use crate::{Config, WrongUse};
use anyhow::Result;
use arrow::{array::RecordBatch, util::pretty::pretty_format_batches};
use clap::ValueEnum;
use datafusion::{
    execution::context::SessionContext,
    logical_expr::not,
    prelude::{SessionConfig, col},
};
use sluice_gold::LakeSession;
use sluice_sinks::lake::Lake;
use sluice_stream_processor::register_batch_functions;
use std::{io::Write, sync::Arc};

/// The smaller side of a join is kept once, for all threads, when it is not more: then the rows of the larger one, such as
/// orders beside customers, need not be sorted by thread, and stay in their order.
const JOIN_BYTES: usize = 64 << 20;
/// The same of a side whose bytes are not known.
const JOIN_ROWS: usize = 1 << 20;

/// How rows are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// With a header line.
    Csv,
    /// One object a line.
    Json,
}

/// A session that knows every table of the lake: `bronze.*`, `silver.*`, `live.*`, `gold.*`.
pub(crate) fn session(config: &Config, runtime: &tokio::runtime::Handle) -> Result<SessionContext> {
    Ok(lake_session(config, runtime)?.context)
}

/// The same, and the tables as the session sees them.
pub(crate) fn lake_session(config: &Config, runtime: &tokio::runtime::Handle) -> Result<LakeSession> {
    let lake = Lake::new(config.lake.clone(), runtime.clone());
    let mut settings = SessionConfig::new().with_information_schema(true);
    let joins = &mut settings.options_mut().optimizer;
    (joins.hash_join_single_partition_threshold, joins.hash_join_single_partition_threshold_rows) =
        (JOIN_BYTES, JOIN_ROWS);
    // `FROM 'file.parquet'` reads a file.
    let context = SessionContext::new_with_config(settings).enable_url_table();
    register_batch_functions(&context);
    sluice_gold::register_functions(&context)?;
    let session = LakeSession::read(&lake, context, runtime)?;
    let context = &session.context;
    if let Ok(silver) = runtime.block_on(context.table("silver.events")) {
        // What a live model's text names, and what came too late for it.
        context.register_table("events", silver.clone().filter(not(col("is_late")))?.into_view())?;
        context.register_table("late_events", silver.filter(col("is_late"))?.into_view())?;
    }
    // What models of gold name.
    runtime.block_on(sluice_gold::register_views(context))?;
    Ok(session)
}

/// `sluice query`.
pub(crate) fn run(config: &Config, sql: &str, format: Format) -> Result<()> {
    let runtime = crate::roles::runtime()?;
    let context = session(config, runtime.handle())?;
    let batches = runtime.block_on(async {
        let options = datafusion::execution::context::SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false)
            .with_allow_statements(false);
        let frame =
            context.sql_with_options(sql, options).await.map_err(|e| WrongUse(explain(&e.to_string(), &context)))?;
        let schema = Arc::new(frame.schema().as_arrow().clone());
        let mut batches = frame.collect().await?;
        if batches.is_empty() {
            batches.push(RecordBatch::new_empty(schema));
        }
        anyhow::Ok(batches)
    })?;
    show(&batches, format)
}

/// Prints rows to stdout.
pub(crate) fn show(batches: &[RecordBatch], format: Format) -> Result<()> {
    let mut out = std::io::stdout().lock();
    seen_enough(print(batches, format, &mut out))
}

/// That the reader of our output has gone, as in `| head`, is no failure.
pub(crate) fn seen_enough(printed: Result<()>) -> Result<()> {
    match printed {
        Err(error) if error.to_string().contains("Broken pipe") => Ok(()),
        other => other,
    }
}

fn print(batches: &[RecordBatch], format: Format, out: &mut impl Write) -> Result<()> {
    match format {
        Format::Table => writeln!(out, "{}", pretty_format_batches(batches)?)?,
        Format::Csv => {
            let mut writer = arrow::csv::WriterBuilder::new().with_header(true).build(out);
            batches.iter().try_for_each(|batch| writer.write(batch))?;
        }
        Format::Json => {
            let mut writer = arrow::json::LineDelimitedWriter::new(out);
            batches.iter().try_for_each(|batch| writer.write(batch))?;
            writer.finish()?;
        }
    }
    Ok(())
}

/// Adds the tables there are when one is not found.
fn explain(message: &str, context: &SessionContext) -> String {
    if !message.contains("not found") {
        return message.to_owned();
    }
    let mut names = Vec::new();
    if let Some(catalog) = context.catalog("datafusion") {
        for schema in ["bronze", "silver", "live", "gold"] {
            let tables = catalog.schema(schema).map(|s| s.table_names()).unwrap_or_default();
            names.extend(tables.into_iter().map(|t| format!("{schema}.{t}")));
        }
    }
    names.sort();
    let known = if names.is_empty() { "none yet; is --dir right?".to_owned() } else { names.join(", ") };
    format!("{message}. Tables in this lake: {known}")
}
