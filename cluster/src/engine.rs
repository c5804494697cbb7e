//! Asking a cluster.

use crate::{Dated, Shared, tables::register};
use arrow::{
    array::{RecordBatch, RecordBatchOptions},
    datatypes::SchemaRef,
};
use ballista::prelude::{SessionConfigExt as _, SessionContextExt as _};
use datafusion::{
    catalog::{MemorySchemaProvider, streaming::StreamingTable},
    dataframe::DataFrame,
    error::{DataFusionError, Result},
    execution::{SendableRecordBatchStream, SessionStateBuilder, TaskContext, context::SessionContext},
    physical_plan::{ExecutionPlan, stream::RecordBatchStreamAdapter, streaming::PartitionStream},
    prelude::SessionConfig,
};
use futures::StreamExt;
use sluice_gold::{Engine, register_views};
use sluice_sinks::lake::{DeltaTable, SCHEMAS};
use std::{collections::BTreeMap, fmt, sync::Arc};

/// A session of a cluster that knows the lake's tables and the views.
pub struct ClusterEngine {
    context: SessionContext,
    runtime: tokio::runtime::Handle,
    dated: BTreeMap<String, Dated>,
}

impl ClusterEngine {
    /// Opens a session at the scheduler `ballista://host:port`, over these tables as they are loaded. `dated` says of tables
    /// how the dates by which they are filed come about. Blocks: not for threads of the runtime.
    ///
    /// # Errors
    /// When the scheduler does not answer or a table cannot be read.
    pub fn connect(
        url: &str,
        tables: &BTreeMap<String, DeltaTable>,
        dated: BTreeMap<String, Dated>,
        shared: &Shared,
        runtime: tokio::runtime::Handle,
    ) -> Result<Self> {
        let context = runtime.block_on(async {
            let config = SessionConfig::new_with_ballista().with_ballista_job_name("sluice gold");
            let state = SessionStateBuilder::new().with_default_features().with_config(config).build();
            let context = SessionContext::remote_with_state(url, state).await?;
            (shared.functions)(&context);
            let catalog = context.catalog("datafusion").ok_or_else(|| missing("catalog"))?;
            for (schema, ..) in SCHEMAS {
                catalog.register_schema(schema, Arc::new(MemorySchemaProvider::new()))?;
            }
            for (name, table) in tables {
                register(&context, name, table, dated.get(name)).await?;
            }
            register_views(&context).await?;
            Ok::<_, DataFusionError>(context)
        })?;
        Ok(Self { context, runtime, dated })
    }
}

fn missing(what: &str) -> DataFusionError {
    DataFusionError::Internal(format!("the session has no {what}"))
}

impl Engine for ClusterEngine {
    fn ask(&self, sql: &str) -> Result<DataFrame> {
        self.runtime.block_on(async {
            let frame = self.context.sql(sql).await?;
            let schema = Arc::new(frame.schema().as_arrow().clone());
            let task = Arc::new(frame.task_ctx());
            let plan = frame.create_physical_plan().await?;
            let answer = Arc::new(Answer { plan, task, schema: schema.clone() });
            SessionContext::new().read_table(Arc::new(StreamingTable::try_new(schema, vec![answer])?))
        })
    }

    fn take_on(&self, name: &str, table: &DeltaTable) -> Result<()> {
        self.runtime.block_on(register(&self.context, name, table, self.dated.get(name)))
    }
}

/// The rows of a question as they come from the executors.
struct Answer {
    plan: Arc<dyn ExecutionPlan>,
    /// Of the cluster's session: who reads the rows has another one.
    task: Arc<TaskContext>,
    schema: SchemaRef,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl PartitionStream for Answer {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let schema = self.schema.clone();
        let rows = match self.plan.execute(0, self.task.clone()) {
            Ok(rows) => rows.map(move |batch| same_columns(&schema, batch?)).boxed(),
            Err(error) => futures::stream::iter([Err(error)]).boxed(),
        };
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), rows))
    }
}

/// The batch with the question's own names and metadata.
fn same_columns(schema: &SchemaRef, batch: RecordBatch) -> Result<RecordBatch> {
    let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(schema.clone(), batch.columns().to_vec(), &rows)?)
}
