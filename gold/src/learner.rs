//! Tables that are learnt: a model's SQL gives what is learnt from, a learner gives the rows.

use arrow::{
    array::{ArrayRef, RecordBatch, StringArray, TimestampMillisecondArray},
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit},
    error::ArrowError,
};
use sluice_sinks::lake::{Bucket, TableSpec};
use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

/// What was learnt of a source, as it is told to people and to the next run: a row of `gold.ml_models`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// `files` or `events`.
    pub source: String,
    /// Another one when something else was learnt; the rows name it.
    pub version: String,
    /// All there is to tell, as JSON.
    pub card: String,
}

/// What a learner gives.
pub struct Learned {
    /// The rows of the table.
    pub rows: RecordBatch,
    /// A card for each source that had enough to learn from.
    pub cards: Vec<Card>,
}

/// Why nothing was learnt.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct LearnError(pub String);

/// Makes rows of what it learns. The same rows and cards give the same.
pub trait Learner: Send + Sync {
    /// Learns from the rows of a model's SQL; `before` has the newest card of each source.
    ///
    /// # Errors
    /// When the rows lack a column or have a value that cannot be learnt from. Too few rows are no error: there is less to tell.
    fn learn(&self, rows: &RecordBatch, before: &BTreeMap<String, String>) -> Result<Learned, LearnError>;
}

/// By the name that the header key `learn` gives.
pub type Learners = BTreeMap<&'static str, Box<dyn Learner>>;

/// The cards of all that was ever learnt.
pub(crate) fn cards_table() -> TableSpec {
    TableSpec {
        bucket: Bucket::Gold,
        path: CARDS.to_owned(),
        name: format!("gold.{CARDS}"),
        schema: cards_schema(),
        partition: None,
        follows: true,
    }
}

/// The table's name in gold.
pub const CARDS: &str = "ml_models";

fn cards_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let text = |name: &str| Field::new(name, DataType::Utf8, false);
        let time = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
        let made_at = Field::new("made_at", time, false);
        Arc::new(Schema::new(vec![text("model"), text("source"), text("version"), made_at, text("card")]))
    });
    SCHEMA.clone()
}

pub(crate) fn card_rows(model: &str, cards: &[&Card], made_at: i64) -> Result<RecordBatch, ArrowError> {
    let texts = |text: fn(&Card) -> &str| -> ArrayRef {
        Arc::new(cards.iter().map(|card| Some(text(card))).collect::<StringArray>())
    };
    let times = TimestampMillisecondArray::from(vec![made_at; cards.len()]).with_timezone("UTC");
    let model: ArrayRef = Arc::new(StringArray::from(vec![model; cards.len()]));
    let columns =
        vec![model, texts(|card| &card.source), texts(|card| &card.version), Arc::new(times), texts(|card| &card.card)];
    RecordBatch::try_new(cards_schema(), columns)
}

/// The newest card of each model and source; of the table `cards`, a name in SQL.
pub fn newest_cards(cards: &str) -> String {
    format!(
        "SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY model, source ORDER BY made_at DESC, version) AS place \
         FROM {cards}) WHERE place = 1 ORDER BY model, source"
    )
}
