//! What gold learns: rows of a model's SQL to the room `ml`, and what it finds back as rows and cards.

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int32Array, RecordBatch, StringArray},
    compute::{cast, concat_batches},
    datatypes::{DataType, Date32Type, Field, Float64Type, Schema},
    error::ArrowError,
};
use sluice_gold::{Card, LearnError, Learned, Learner, Learners};
use sluice_ml::{
    DataWindow, Features, MlError, ModelCard, Rfm, SegmentsCard, Snapshot, SnapshotCard, evaluate, fit, segment,
};
use std::{collections::BTreeMap, ops::Range, sync::Arc};

/// Of all that is drawn: the same rows give the same segments and scores.
const SEED: u64 = 1;
/// Two segments say little more than active and not.
const SEGMENTS: std::ops::RangeInclusive<usize> = 3..=8;
/// Customers of a snapshot that are learnt from: more make it slow, not better.
const LEARNT_FROM: usize = 50_000;
/// Who has ordered within so many days has not churned.
const CHURNED_AFTER_DAYS: f64 = 90.0;

/// All learners, by the name that a model gives.
pub(crate) fn learners() -> Learners {
    let segments: Box<dyn Learner> = Box::new(Segments);
    let churn: Box<dyn Learner> = Box::new(Churn);
    Learners::from([("segments", segments), ("churn", churn)])
}

struct Segments;
struct Churn;

impl Learner for Segments {
    fn learn(&self, rows: &RecordBatch, before: &BTreeMap<String, String>) -> Result<Learned, LearnError> {
        let fields = [Field::new("segment_id", DataType::Int32, false), Field::new("segment", DataType::Utf8, true)];
        each_source(rows, fields, |source, rows| {
            let [recency, frequency, monetary] =
                ["recency_days", "frequency", "monetary"].map(|name| numbers(rows, name));
            let (recency, frequency, monetary) = (recency?, frequency?, monetary?);
            let customer = |at| Rfm {
                recency_days: recency.value(at),
                frequency: frequency.value(at),
                monetary: monetary.value(at),
            };
            let customers: Vec<Rfm> = (0..rows.num_rows()).map(customer).collect();
            let last: Option<SegmentsCard> = before.get(source).and_then(|card| serde_json::from_str(card).ok());
            let (earlier, next_id) = last.map_or((Vec::new(), 1), |last| (last.segments, last.next_id));
            let found = segment(&customers, SEGMENTS, &earlier, next_id, SEED)?;
            let card = SegmentsCard::new(&found, next_id);
            let name = |id: &u32| found.segments.iter().find(|segment| segment.id == *id).map(|s| s.name.as_str());
            let columns: Vec<ArrayRef> = vec![
                Arc::new(found.assigned.iter().map(|id| Some(*id as i32)).collect::<Int32Array>()),
                Arc::new(found.assigned.iter().map(name).collect::<StringArray>()),
            ];
            let text = serde_json::to_string(&card).unwrap_or_default();
            Ok(Found { customers: texts(rows, "customer_id")?, columns, version: card.version, card: text })
        })
    }
}

impl Learner for Churn {
    fn learn(&self, rows: &RecordBatch, _: &BTreeMap<String, String>) -> Result<Learned, LearnError> {
        let fields = [
            Field::new("churn_probability", DataType::Float64, false),
            Field::new("is_active", DataType::Boolean, false),
        ];
        each_source(rows, fields, |_, rows| {
            let snapshots = texts(rows, "snapshot")?;
            let of =
                |name: &str| -> Vec<usize> { (0..rows.num_rows()).filter(|at| snapshots.value(*at) == name).collect() };
            let known = Known::read(rows)?;
            let parts = ["train", "calibrate", "test"].map(|name| thinned(of(name)));
            let [train, calibrate, test] = [0, 1, 2].map(|at| known.snapshot(&parts[at]));
            let (train, calibrate, test) = (train?, calibrate?, test?);
            let evaluation = evaluate(&train, &calibrate, &test, SEED)?;
            // What scores has learnt from the newest there is; the evaluation is of the same a quarter earlier.
            let model = fit(evaluation.chosen, &calibrate, &test, SEED)?;
            let scored = of("score");
            let probabilities = model.probabilities(&known.features(&scored)?)?;
            let cutoff = |part: &[usize]| part.first().map_or(String::new(), |at| known.cutoff(*at));
            let cards = [("train", &train, 0), ("calibrate", &calibrate, 1), ("test", &test, 2)];
            let cards =
                cards.map(|(name, snapshot, at)| (name.to_owned(), SnapshotCard::of(cutoff(&parts[at]), snapshot)));
            let data = DataWindow { first_day: known.first_day(&scored), last_day: known.last_day(&scored) };
            let card = ModelCard::churn(data, cards.into(), &evaluation, &model)?;
            let ids = texts(rows, "customer_id")?;
            let columns: Vec<ArrayRef> = vec![
                Arc::new(Float64Array::from(probabilities)),
                Arc::new(scored.iter().map(|at| Some(known.is_active(*at))).collect::<BooleanArray>()),
            ];
            let customers = scored.iter().map(|at| Some(ids.value(*at))).collect();
            let text = serde_json::to_string(&card).unwrap_or_default();
            Ok(Found { customers, columns, version: card.version, card: text })
        })
    }
}

/// Why a source gives nothing.
enum Nothing {
    /// There is too little to learn from, as in a young shop.
    TooLittle(MlError),
    Wrong(LearnError),
}

impl From<MlError> for Nothing {
    fn from(error: MlError) -> Self {
        match error {
            MlError::TooFewRows { .. } | MlError::OneClass { .. } | MlError::ConstantFeatures { .. } => {
                Self::TooLittle(error)
            }
            other => Self::Wrong(LearnError(other.to_string())),
        }
    }
}

impl From<LearnError> for Nothing {
    fn from(error: LearnError) -> Self {
        Self::Wrong(error)
    }
}

/// What was found of a source: a row for each of these customers.
struct Found {
    customers: StringArray,
    /// What the table has of them beside their ids and the version.
    columns: Vec<ArrayRef>,
    version: String,
    card: String,
}

/// Learns from each source by itself. The rows are in the order of their sources.
fn each_source<const N: usize>(
    rows: &RecordBatch,
    fields: [Field; N],
    learn: impl Fn(&str, &RecordBatch) -> Result<Found, Nothing>,
) -> Result<Learned, LearnError> {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let fields = [text("source"), text("customer_id")].into_iter().chain(fields).chain([text("model_version")]);
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let (mut batches, mut cards) = (Vec::new(), Vec::new());
    let sources = runs_of(&texts(rows, "source")?);
    if let Some(at) = (1..sources.len()).find(|at| sources[..*at].iter().any(|(source, _)| *source == sources[*at].0)) {
        return Err(LearnError(format!(
            "its rows are not in the order of their source: {} comes twice",
            sources[at].0
        )));
    }
    for (source, range) in sources {
        match learn(&source, &rows.slice(range.start, range.len())) {
            Ok(Found { customers, columns, version, card }) => {
                let same = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text; customers.len()])) };
                let (of, by) = (same(&source), same(&version));
                let columns = [of, Arc::new(customers)].into_iter().chain(columns).chain([by]).collect();
                batches.push(RecordBatch::try_new(schema.clone(), columns).map_err(as_learn_error)?);
                cards.push(Card { source, version, card });
            }
            Err(Nothing::TooLittle(why)) => tracing::info!(source, %why, "too little to learn from yet"),
            Err(Nothing::Wrong(error)) => return Err(error),
        }
    }
    Ok(Learned { rows: concat_batches(&schema, &batches).map_err(as_learn_error)?, cards })
}

/// Values that follow each other, and where.
fn runs_of(values: &StringArray) -> Vec<(String, Range<usize>)> {
    let mut runs: Vec<(String, Range<usize>)> = Vec::new();
    for at in 0..values.len() {
        match runs.last_mut() {
            Some((value, range)) if value == values.value(at) => range.end = at + 1,
            _ => runs.push((values.value(at).to_owned(), at..at + 1)),
        }
    }
    runs
}

/// Evenly through the rows, as they come.
fn thinned(rows: Vec<usize>) -> Vec<usize> {
    match rows.len() {
        all if all <= LEARNT_FROM => rows,
        all => (0..LEARNT_FROM).map(|at| rows[at * all / LEARNT_FROM]).collect(),
    }
}

/// Customers as they were known at cutoffs.
struct Known {
    names: Vec<String>,
    columns: Vec<Float64Array>,
    recency: Float64Array,
    tenure: Float64Array,
    cutoffs: ArrayRef,
    churned: BooleanArray,
}

/// Columns that are none of the features.
const NO_FEATURES: [&str; 5] = ["source", "customer_id", "snapshot", "cutoff", "churned"];

impl Known {
    fn read(rows: &RecordBatch) -> Result<Self, LearnError> {
        let schema = rows.schema();
        let names = schema.fields().iter().map(|field| field.name().clone());
        let names: Vec<String> = names.filter(|name| !NO_FEATURES.contains(&name.as_str())).collect();
        let columns = names.iter().map(|name| numbers(rows, name)).collect::<Result<_, _>>()?;
        Ok(Self {
            columns,
            recency: numbers(rows, "recency_days")?,
            tenure: numbers(rows, "tenure_days")?,
            cutoffs: column(rows, "cutoff", &DataType::Date32)?,
            churned: column(rows, "churned", &DataType::Boolean)?.as_boolean().clone(),
            names,
        })
    }

    fn features(&self, part: &[usize]) -> Result<Features, MlError> {
        let row = |at: &usize| self.columns.iter().map(|column| column.value(*at)).collect();
        Features::new(self.names.clone(), &part.iter().map(row).collect::<Vec<Vec<f64>>>())
    }

    fn snapshot(&self, part: &[usize]) -> Result<Snapshot, MlError> {
        Ok(Snapshot {
            features: self.features(part)?,
            active: part.iter().map(|at| self.is_active(*at)).collect(),
            churned: part.iter().map(|at| self.churned.value(*at)).collect(),
        })
    }

    fn is_active(&self, at: usize) -> bool {
        self.recency.value(at) <= CHURNED_AFTER_DAYS
    }

    fn day(&self, at: usize, days_before: f64) -> String {
        let day = self.cutoffs.as_primitive::<Date32Type>().value(at) - days_before as i32;
        Date32Type::to_naive_date_opt(day).map_or(String::new(), |date| date.to_string())
    }

    fn cutoff(&self, at: usize) -> String {
        self.day(at, 0.0)
    }

    fn first_day(&self, part: &[usize]) -> String {
        let earliest = part.iter().max_by(|a, b| self.tenure.value(**a).total_cmp(&self.tenure.value(**b)));
        earliest.map_or(String::new(), |at| self.day(*at, self.tenure.value(*at)))
    }

    fn last_day(&self, part: &[usize]) -> String {
        part.first().map_or(String::new(), |at| self.day(*at, 1.0))
    }
}

fn column(rows: &RecordBatch, name: &str, to: &DataType) -> Result<ArrayRef, LearnError> {
    let found = rows.column_by_name(name);
    cast(found.ok_or_else(|| LearnError(format!("its SQL gives no column {name}")))?, to).map_err(as_learn_error)
}

fn texts(rows: &RecordBatch, name: &str) -> Result<StringArray, LearnError> {
    Ok(column(rows, name, &DataType::Utf8)?.as_string::<i32>().clone())
}

fn numbers(rows: &RecordBatch, name: &str) -> Result<Float64Array, LearnError> {
    Ok(column(rows, name, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
}

fn as_learn_error(error: ArrowError) -> LearnError {
    LearnError(error.to_string())
}
