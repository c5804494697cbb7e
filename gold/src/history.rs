//! What was made when, of what: rows of `gold.runs`.

use arrow::{
    array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray},
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit},
    error::ArrowError,
};
use datafusion::{error::DataFusionError, prelude::SessionContext};
use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The table was replaced.
    Done,
    /// It failed; the table is as it was.
    Failed,
}

impl Outcome {
    /// Its stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

/// One run of one model.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// Of all models that ran together.
    pub run_id: String,
    /// The model.
    pub model: String,
    /// Of its text.
    pub fingerprint: String,
    /// Milliseconds since 1970.
    pub started_at: i64,
    /// Milliseconds since 1970.
    pub ended_at: i64,
    /// How it ended.
    pub outcome: Outcome,
    /// Rows of the table; none when it failed.
    pub rows: Option<i64>,
    /// The Delta versions of the tables that it read.
    pub inputs: BTreeMap<String, i64>,
    /// Why it failed.
    pub error: Option<String>,
}

/// Columns of `gold.runs`. `inputs` is JSON.
pub fn runs_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let text = |name: &str, nullable| Field::new(name, DataType::Utf8, nullable);
        let time = |name: &str| Field::new(name, DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), false);
        Arc::new(Schema::new(vec![
            text("run_id", false),
            text("model", false),
            text("fingerprint", false),
            time("started_at"),
            time("ended_at"),
            text("outcome", false),
            Field::new("rows", DataType::Int64, true),
            text("inputs", false),
            text("error", true),
        ]))
    });
    SCHEMA.clone()
}

impl Run {
    /// It as a row of [`runs_schema`].
    ///
    /// # Errors
    /// Never, but for a mistake in here.
    pub fn row(&self) -> Result<RecordBatch, ArrowError> {
        let text = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text])) };
        let time =
            |millis| -> ArrayRef { Arc::new(TimestampMillisecondArray::from(vec![millis]).with_timezone("UTC")) };
        let inputs = serde_json::to_string(&self.inputs).map_err(|e| ArrowError::JsonError(e.to_string()))?;
        RecordBatch::try_new(
            runs_schema(),
            vec![
                text(&self.run_id),
                text(&self.model),
                text(&self.fingerprint),
                time(self.started_at),
                time(self.ended_at),
                text(self.outcome.name()),
                Arc::new(Int64Array::from(vec![self.rows])),
                text(&inputs),
                Arc::new(StringArray::from(vec![self.error.as_deref()])),
            ],
        )
    }
}

/// Of each model, what its table was made of last.
#[derive(Clone, Debug, Default)]
pub struct RunHistory {
    last: BTreeMap<String, (String, BTreeMap<String, i64>)>,
}

impl RunHistory {
    /// Reads it from `gold.runs`; empty when there is no such table.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub async fn read(context: &SessionContext) -> Result<Self, DataFusionError> {
        let mut history = Self::default();
        if !context.table_exist("gold.runs")? {
            return Ok(history);
        }
        let last = "SELECT model, \
                    CAST(last_value(fingerprint ORDER BY ended_at) AS VARCHAR) AS fingerprint, \
                    CAST(last_value(inputs ORDER BY ended_at) AS VARCHAR) AS inputs \
                    FROM gold.runs WHERE outcome = 'done' GROUP BY model";
        for batch in context.sql(last).await?.collect().await? {
            let column = |at: usize| arrow::compute::cast(batch.column(at), &DataType::Utf8);
            let (models, prints, inputs) = (column(0)?, column(1)?, column(2)?);
            for row in 0..batch.num_rows() {
                let text = |column: &ArrayRef| column.as_string::<i32>().value(row).to_owned();
                let inputs = serde_json::from_str(&text(&inputs)).unwrap_or_default();
                history.last.insert(text(&models), (text(&prints), inputs));
            }
        }
        Ok(history)
    }

    /// Whether a model's table was made of this text and these versions of its inputs.
    pub fn is_current(&self, model: &str, fingerprint: &str, inputs: &BTreeMap<String, i64>) -> bool {
        self.last.get(model).is_some_and(|(print, last)| print == fingerprint && last == inputs)
    }
}
