//! The tables that the stream writes.

use arrow::{
    array::{
        ArrayRef, BinaryArray, Decimal128Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
        TimestampMillisecondArray,
    },
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit},
    error::ArrowError,
};
use sluice_batch_inputs::{ACHAT_COLUMNS, CLIENT_COLUMNS, bronze_schema, customers_schema, orders_schema};
use sluice_events::{Alert, DeadLetter, EventTime, Money, event_schema};
use sluice_quality::{CheckedTable, QualityResult};
use sluice_sinks::lake::{Bucket, DatePartition, TableSpec, erasures_schema};
use sluice_stream_processor::{LiveModel, Merger, PartitionWorker};
use std::sync::{Arc, LazyLock};

pub(crate) const BRONZE_EVENTS: &str = "bronze.events";
pub(crate) const SILVER_EVENTS: &str = "silver.events";

pub(crate) fn bronze_events() -> TableSpec {
    TableSpec {
        bucket: Bucket::Bronze,
        path: "events".to_owned(),
        name: BRONZE_EVENTS.to_owned(),
        schema: PartitionWorker::bronze_schema(),
        partition: Some(DatePartition { column: "ingest_date", from: "_log_time" }),
        follows: true,
    }
}

pub(crate) fn silver_events() -> TableSpec {
    TableSpec {
        bucket: Bucket::Silver,
        path: "events".to_owned(),
        name: SILVER_EVENTS.to_owned(),
        schema: PartitionWorker::silver_schema(),
        partition: Some(DatePartition { column: "event_date", from: "event_time" }),
        follows: true,
    }
}

pub(crate) fn bronze_dead_letters() -> TableSpec {
    TableSpec {
        bucket: Bucket::Bronze,
        path: "dead_letters".to_owned(),
        name: "bronze.dead_letters".to_owned(),
        schema: dead_letter_schema(),
        partition: Some(DatePartition { column: "ingest_date", from: "log_time" }),
        follows: true,
    }
}

/// What `sluice dlq replay` meant to send, and what it sent.
pub(crate) fn dead_letter_replays() -> TableSpec {
    TableSpec {
        bucket: Bucket::Bronze,
        path: "dead_letter_replays".to_owned(),
        name: "bronze.dead_letter_replays".to_owned(),
        schema: replay_schema(),
        partition: None,
        follows: true,
    }
}

/// The rows of batch files as received: `bronze.clients`, `bronze.achats`.
pub(crate) fn bronze_file(name: &str) -> TableSpec {
    let columns = if name == "clients" { &CLIENT_COLUMNS } else { &ACHAT_COLUMNS };
    TableSpec {
        bucket: Bucket::Bronze,
        path: name.to_owned(),
        name: format!("bronze.{name}"),
        schema: bronze_schema(columns),
        partition: None,
        follows: true,
    }
}

pub(crate) fn silver_customers() -> TableSpec {
    silver("customers", customers_schema())
}

pub(crate) fn silver_orders() -> TableSpec {
    silver("orders", orders_schema())
}

fn silver(name: &str, schema: SchemaRef) -> TableSpec {
    let name = name.to_owned();
    TableSpec {
        bucket: Bucket::Silver,
        name: format!("silver.{name}"),
        path: name,
        schema,
        partition: None,
        follows: true,
    }
}

/// That a person was made unknown; see `sluice lake forget`.
pub(crate) fn erasures() -> TableSpec {
    TableSpec {
        bucket: Bucket::Bronze,
        path: "erasures".to_owned(),
        name: "bronze.erasures".to_owned(),
        schema: erasures_schema(),
        partition: None,
        follows: true,
    }
}

/// What checks of quality found. For the rows of a stream, each commit has the `txn` action of its partition, under
/// `<group>/<topic>/<partition>/<table>`.
pub(crate) fn silver_quality() -> TableSpec {
    TableSpec {
        bucket: Bucket::Silver,
        path: "quality".to_owned(),
        name: "silver.quality".to_owned(),
        schema: QualityResult::schema(),
        partition: Some(DatePartition { column: "check_date", from: "checked_at" }),
        follows: true,
    }
}

/// The tables that expectations may be about, as their batches come. What is hard is judged of an event alone, before it
/// is late or not, and measured in bronze.
pub(crate) fn checked_tables() -> Vec<CheckedTable> {
    let hard = || Some((BRONZE_EVENTS, event_schema()));
    vec![
        CheckedTable { name: BRONZE_EVENTS, schema: PartitionWorker::bronze_schema(), hard: hard() },
        CheckedTable { name: SILVER_EVENTS, schema: PartitionWorker::silver_schema(), hard: hard() },
    ]
}

pub(crate) fn live(model: &LiveModel) -> TableSpec {
    TableSpec {
        bucket: Bucket::Gold,
        path: format!("live/{}", model.name),
        name: format!("live.{}", model.name),
        schema: Merger::sealed_schema(model),
        partition: Some(DatePartition { column: "window_date", from: "window_start" }),
        follows: false,
    }
}

/// What became of alerts: a row whenever the state or the severity of one changes. Each commit has the `txn` action of the
/// merger's partition.
pub(crate) fn gold_alerts() -> TableSpec {
    TableSpec {
        bucket: Bucket::Gold,
        path: "alerts".to_owned(),
        name: "gold.alerts".to_owned(),
        schema: alert_schema(),
        partition: Some(DatePartition { column: "alert_date", from: "first_window" }),
        follows: true,
    }
}

fn alert_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let time = || DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
        let texts = |names: &[&str], nullable| -> Vec<Field> {
            names.iter().map(|name| Field::new(*name, DataType::Utf8, nullable)).collect()
        };
        let mut fields =
            texts(&["id", "fingerprint", "model", "measure", "group", "detector", "state", "severity"], false);
        fields.extend(["first_window", "last_window", "since"].map(|name| Field::new(name, time(), false)));
        fields.extend(ALERT_NUMBERS.iter().map(|(name, _)| Field::new(*name, DataType::Float64, false)));
        fields.push(Field::new("horizon_millis", DataType::Int64, false));
        fields.push(Field::new("window_millis", DataType::Int64, false));
        fields.push(Field::new("episodes", DataType::Int32, false));
        fields.push(Field::new("money_at_stake", DataType::Decimal128(Money::PRECISION, Money::SCALE as i8), true));
        fields.extend(texts(&["formula", "resolution", "parent", "parts", "origin"], true));
        Arc::new(Schema::new(fields))
    });
    SCHEMA.clone()
}

type AlertNumber = (&'static str, fn(&Alert) -> f64);

const ALERT_NUMBERS: [AlertNumber; 9] = [
    ("observed", |a| a.observed),
    ("expected", |a| a.expected),
    ("lower", |a| a.lower),
    ("upper", |a| a.upper),
    ("score", |a| a.score),
    ("z_score", |a| a.z_score),
    ("threshold", |a| a.threshold),
    ("tail_probability", |a| a.tail_probability),
    ("false_alarms_per_year", |a| a.false_alarms_per_year),
];

/// Alerts as rows of `gold.alerts`. Group, parts and origin are JSON.
pub(crate) fn alert_rows(alerts: &[Alert]) -> Result<RecordBatch, ArrowError> {
    let json = |value: serde_json::Result<String>| value.map_err(|e| ArrowError::JsonError(e.to_string()));
    let texts =
        |part: fn(&Alert) -> &str| -> ArrayRef { Arc::new(alerts.iter().map(part).map(Some).collect::<StringArray>()) };
    let times = |part: fn(&Alert) -> EventTime| -> ArrayRef {
        let times: TimestampMillisecondArray = alerts.iter().map(|a| Some(part(a).get())).collect();
        Arc::new(times.with_timezone("UTC"))
    };
    let groups: StringArray =
        alerts.iter().map(|a| json(serde_json::to_string(&a.group)).map(Some)).collect::<Result<_, _>>()?;
    let mut columns: Vec<ArrayRef> =
        vec![texts(|a| &a.id), texts(|a| &a.fingerprint), texts(|a| &a.model), texts(|a| &a.measure), Arc::new(groups)];
    columns.extend([texts(|a| &a.detector), texts(|a| a.state.name()), texts(|a| a.severity.name())]);
    columns.extend([times(|a| a.first_window), times(|a| a.last_window), times(|a| a.since)]);
    for (_, number) in ALERT_NUMBERS {
        columns.push(Arc::new(Float64Array::from_iter_values(alerts.iter().map(number))));
    }
    columns.push(Arc::new(Int64Array::from_iter_values(alerts.iter().map(|a| a.horizon_millis))));
    columns.push(Arc::new(Int64Array::from_iter_values(alerts.iter().map(|a| a.window_millis))));
    columns.push(Arc::new(Int32Array::from_iter_values(alerts.iter().map(|a| a.episodes))));
    let money = |a: &Alert| Money::parse(a.money_at_stake.as_deref()?).ok().map(|m| i128::from(m.units()));
    let money: Decimal128Array = alerts.iter().map(money).collect();
    columns.push(Arc::new(money.with_precision_and_scale(Money::PRECISION, Money::SCALE as i8)?));
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let optional = |part: &dyn Fn(&Alert) -> Option<String>| -> ArrayRef {
        Arc::new(alerts.iter().map(part).collect::<StringArray>())
    };
    columns.push(optional(&|a| some(&a.formula)));
    columns.push(optional(&|a| a.resolution.map(|r| r.name().to_owned())));
    columns.push(optional(&|a| a.parent.clone()));
    columns.push(optional(&|a| serde_json::to_string(&a.parts).ok().filter(|_| !a.parts.is_empty())));
    columns.push(optional(&|a| serde_json::to_string(&a.origin).ok()));
    RecordBatch::try_new(alert_schema(), columns)
}

fn replay_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let field = |name: &str, data_type, nullable| Field::new(name, data_type, nullable);
        Arc::new(Schema::new(vec![
            field("letter", DataType::Utf8, false),
            field("event_id", DataType::Utf8, false),
            field("outcome", DataType::Utf8, false),
            field("at", DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), false),
            field("topic", DataType::Utf8, false),
            field("_partition", DataType::Int32, false),
            field("_offset", DataType::Int64, false),
        ]))
    });
    SCHEMA.clone()
}

fn dead_letter_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let field = |name: &str, data_type, nullable| Field::new(name, data_type, nullable);
        Arc::new(Schema::new(vec![
            field("stage", DataType::Utf8, false),
            field("reason", DataType::Utf8, false),
            field("message", DataType::Utf8, false),
            field("key", DataType::Binary, true),
            field("value", DataType::Binary, true),
            field("headers", DataType::Binary, true),
            field("source", DataType::Utf8, false),
            field("_partition", DataType::Int32, true),
            field("_offset", DataType::Int64, false),
            field("log_time", DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), false),
            field("_schema_id", DataType::Int32, true),
        ]))
    });
    SCHEMA.clone()
}

/// Dead letters as rows of `bronze.dead_letters`.
pub(crate) fn dead_letter_rows(letters: &[DeadLetter]) -> Result<RecordBatch, ArrowError> {
    let bytes = |part: fn(&DeadLetter) -> Option<&[u8]>| -> ArrayRef {
        Arc::new(letters.iter().map(part).collect::<BinaryArray>())
    };
    let texts = |part: fn(&DeadLetter) -> &str| -> ArrayRef {
        Arc::new(letters.iter().map(part).map(Some).collect::<StringArray>())
    };
    let times: TimestampMillisecondArray = letters.iter().map(|l| Some(l.log_time.get())).collect();
    RecordBatch::try_new(
        dead_letter_schema(),
        vec![
            texts(|l| l.stage.as_str()),
            texts(|l| l.reason.code()),
            texts(|l| &l.message),
            bytes(|l| l.key.as_deref()),
            bytes(|l| l.value.as_deref()),
            bytes(|l| l.headers.as_deref()),
            texts(|l| &l.source),
            Arc::new(letters.iter().map(|l| l.partition).collect::<Int32Array>()),
            Arc::new(letters.iter().map(|l| Some(l.position)).collect::<Int64Array>()),
            Arc::new(times.with_timezone("UTC")),
            Arc::new(letters.iter().map(|l| l.schema_id().map(|id| id as i32)).collect::<Int32Array>()),
        ],
    )
}
