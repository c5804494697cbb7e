//! Events of an alert's windows, to look at.

use crate::{Config, live_models::LiveModels};
use anyhow::{Context, Result};
use arrow::{
    array::{Array, AsArray, RecordBatch},
    compute::cast,
    datatypes::{Int32Type, Int64Type, TimestampMillisecondType},
};
use datafusion::{
    common::ScalarValue,
    prelude::{Expr, col, lit},
};
use futures::StreamExt;
use sluice_events::{Alert, EventTime, event_schema};
use sluice_serve::{AlertEvidence, ExampleEvent};
use sluice_sinks::lake::{Bucket, Lake, read_rows};
use sluice_stream_processor::LiveModel;
use std::sync::Arc;

/// Looks them up in `silver.events`. Blocks: not for threads of the runtime.
pub(crate) struct SilverEvents {
    lake: Lake,
    runtime: tokio::runtime::Handle,
    models: Arc<LiveModels>,
}

impl SilverEvents {
    pub fn new(config: &Config, runtime: tokio::runtime::Handle, models: &Arc<LiveModels>) -> Self {
        Self { lake: Lake::new(config.lake.clone(), runtime.clone()), runtime, models: models.clone() }
    }

    fn look(&self, alert: &Alert, limit: usize) -> Result<Vec<ExampleEvent>> {
        let models = self.models.get();
        let model = models.iter().find(|m| m.name == alert.model).context("the model is not there any more")?;
        if let Some(upstream) = &model.upstream {
            anyhow::bail!("it counts rows of live.{upstream}, not events");
        }
        let measures = measures(model, alert);
        let Some(table) = self.lake.find(Bucket::Silver, "events")? else { return Ok(Vec::new()) };
        self.runtime.block_on(async {
            let mut found = Vec::new();
            let mut stream = read_rows(&table).await?.filter(near(alert))?.execute_stream().await?;
            while let Some(batch) = stream.next().await {
                let batch = batch?;
                let events = model.rows_of(&as_events(&batch)?, &alert.group, &measures)?;
                found.extend(examples(&events, limit - found.len())?);
                if found.len() >= limit {
                    break;
                }
            }
            Ok(found)
        })
    }
}

impl AlertEvidence for SilverEvents {
    fn events(&self, alert: &Alert, limit: usize) -> Result<Vec<ExampleEvent>, String> {
        self.look(alert, limit).map_err(|error| format!("{error:#}"))
    }
}

/// The columns of a model that the alert is about.
fn measures(model: &LiveModel, alert: &Alert) -> Vec<String> {
    let spec = model.header.detect.iter().find(|spec| spec.name == alert.measure);
    spec.map_or_else(|| vec![alert.measure.clone()], |spec| spec.measure.columns().cloned().collect())
}

/// The rows in its windows and in its offsets.
fn near(alert: &Alert) -> Expr {
    let time = |millis: i64| lit(ScalarValue::TimestampMillisecond(Some(millis), Some("UTC".into())));
    let until = alert.first_window.get().saturating_add(alert.window_millis);
    let in_windows =
        col("event_time").gt_eq(time(alert.since.get())).and(col("event_time").lt(time(until))).and(!col("is_late"));
    let in_offsets = alert.origin.iter().map(|span| {
        let partition = col("_partition").eq(lit(span.partition));
        partition.and(col("_offset").gt_eq(lit(span.from))).and(col("_offset").lt(lit(span.upto)))
    });
    match in_offsets.reduce(Expr::or) {
        Some(in_offsets) => in_windows.and(in_offsets),
        None => in_windows,
    }
}

/// Rows of silver as events, with where they stand.
fn as_events(rows: &RecordBatch) -> Result<RecordBatch> {
    let schema = event_schema();
    let mut fields = schema.fields().to_vec();
    let mut columns = Vec::with_capacity(fields.len() + 2);
    for field in &fields {
        let column =
            rows.column_by_name(field.name()).with_context(|| format!("silver.events has no {}", field.name()))?;
        columns.push(cast(column, field.data_type())?);
    }
    for name in ["_partition", "_offset"] {
        fields.push(Arc::new(rows.schema().field_with_name(name)?.clone()));
        columns.push(rows.column_by_name(name).context(name)?.clone());
    }
    Ok(RecordBatch::try_new(Arc::new(arrow::datatypes::Schema::new(fields)), columns)?)
}

fn examples(events: &RecordBatch, limit: usize) -> Result<Vec<ExampleEvent>> {
    let column = |name: &str| events.column_by_name(name).with_context(|| format!("a column {name}"));
    let text = |name: &str| anyhow::Ok(cast(column(name)?, &arrow::datatypes::DataType::Utf8)?);
    let texts = ["event_id", "event_type", "customer_id", "order_id", "product_id"].map(text);
    let [ids, types, customers, orders, products] = texts;
    let (ids, types, customers, orders, products) = (ids?, types?, customers?, orders?, products?);
    let value = |texts: &arrow::array::ArrayRef, row: usize| {
        let texts = texts.as_string::<i32>();
        texts.is_valid(row).then(|| texts.value(row).to_owned())
    };
    let times = column("event_time")?.as_primitive::<TimestampMillisecondType>();
    let partitions = column("_partition")?.as_primitive::<Int32Type>();
    let offsets = column("_offset")?.as_primitive::<Int64Type>();
    let example = |row: usize| ExampleEvent {
        event_id: value(&ids, row).unwrap_or_default(),
        event_time: EventTime::new(times.value(row)),
        partition: partitions.value(row),
        offset: offsets.value(row),
        customer_id: value(&customers, row),
        order_id: value(&orders, row),
        product_id: value(&products, row),
        event_type: value(&types, row).unwrap_or_default(),
    };
    Ok((0..events.num_rows().min(limit)).map(example).collect())
}
