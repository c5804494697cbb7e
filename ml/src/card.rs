//! The model card: what a model learnt from, how good it is, and what it goes by.

use crate::{
    churn::{Candidate, ChurnModel, Evaluation, Method, Snapshot},
    features::MlError,
    segments::{Segment, Segmentation},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use xxhash_rust::xxh3::xxh3_64;

/// First and last day of the data, as `2024-03-01`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataWindow {
    /// Day of the first order.
    pub first_day: String,
    /// Day of the last order.
    pub last_day: String,
}

/// One snapshot: its cutoff, as `2024-03-01` (midnight, orders before it are known), and who was in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotCard {
    /// The cutoff.
    pub cutoff: String,
    /// Customers known at it.
    pub rows: usize,
    /// Share of them without an order in the label window.
    pub churn_share: f64,
}

impl SnapshotCard {
    /// Describes a snapshot.
    pub fn of(cutoff: String, snapshot: &Snapshot) -> Self {
        let rows = snapshot.churned.len();
        let churned = snapshot.churned.iter().filter(|churned| **churned).count();
        Self { cutoff, rows, churn_share: churned as f64 / rows.max(1) as f64 }
    }
}

/// What a reader has to know before trusting the scores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelCard {
    /// `churn`.
    pub model: String,
    /// Last day of the data and a hash of all the rest: another number, another version.
    pub version: String,
    /// Days of the data.
    pub data: DataWindow,
    /// `train`, `calibrate` and `test` of the evaluation. The model that scores has learnt from `calibrate` and is calibrated on
    /// `test`.
    pub snapshots: BTreeMap<String, SnapshotCard>,
    /// What it goes by, in the order of the columns.
    pub features: Vec<String>,
    /// What each method reached on `test`.
    pub candidates: BTreeMap<Method, Candidate>,
    /// The method that scores.
    pub chosen: Method,
    /// Coefficients of a logistic regression (a deviation more of ln(1 + feature) moves the log-odds of churn by so much), or
    /// importances in a forest (shares, adding up to 1), of the model that scores.
    pub weights: BTreeMap<String, f64>,
}

impl ModelCard {
    /// The card of a churn model that scores, by the evaluation that chose its method.
    ///
    /// # Errors
    /// When the model is not of the chosen method.
    pub fn churn(
        data: DataWindow,
        snapshots: BTreeMap<String, SnapshotCard>,
        evaluation: &Evaluation,
        model: &ChurnModel,
    ) -> Result<Self, MlError> {
        if model.method != evaluation.chosen {
            return Err(MlError::Shape(format!("{:?} scores, {:?} was chosen", model.method, evaluation.chosen)));
        }
        let mut card = Self {
            model: "churn".into(),
            version: String::new(),
            data,
            snapshots,
            features: model.names().to_vec(),
            candidates: evaluation.candidates.clone(),
            chosen: evaluation.chosen,
            weights: model.weights.clone(),
        };
        card.version = format!("{}-{:016x}", card.data.last_day, fingerprint(&card));
        Ok(card)
    }
}

/// What a reader has to know of segments, and the next run to give them the same ids.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SegmentsCard {
    /// `segments`.
    pub model: String,
    /// A hash of all the rest: another number, another version.
    pub version: String,
    /// Who was grouped.
    pub customers: usize,
    /// By id.
    pub segments: Vec<Segment>,
    /// Mean silhouette, -1 to 1, by number of segments; the best was taken.
    pub silhouettes: BTreeMap<usize, f64>,
    /// Above every id that was ever used.
    pub next_id: u32,
}

impl SegmentsCard {
    /// The card of segments; `next_id` was above every id before them.
    pub fn new(found: &Segmentation, next_id: u32) -> Self {
        let above = found.segments.iter().map(|segment| segment.id + 1).max().unwrap_or_default();
        let mut card = Self {
            model: "segments".into(),
            version: String::new(),
            customers: found.assigned.len(),
            segments: found.segments.clone(),
            silhouettes: found.silhouettes.clone(),
            next_id: next_id.max(above),
        };
        card.version = format!("{:016x}", fingerprint(&card));
        card
    }
}

fn fingerprint(card: &impl Serialize) -> u64 {
    xxh3_64(&serde_json::to_vec(card).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Features, evaluate, fit};

    fn snapshot(shift: usize) -> Snapshot {
        let rows: Vec<Vec<f64>> = (0..200).map(|at| vec![((at * 37 + shift) % 20) as f64]).collect();
        let churned = rows.iter().enumerate().map(|(at, row)| (row[0] < 8.0) != (at % 7 == 0)).collect();
        let features = Features::new(vec!["visits".into()], &rows).unwrap();
        Snapshot { features, active: vec![true; 200], churned }
    }

    #[test]
    fn a_card_reads_back_and_its_version_follows_its_numbers() {
        let (train, calibrate, test) = (snapshot(0), snapshot(3), snapshot(5));
        let evaluation = evaluate(&train, &calibrate, &test, 7).unwrap();
        let model = fit(evaluation.chosen, &train, &calibrate, 7).unwrap();
        let card = |cutoff: &str| {
            let data = DataWindow { first_day: "2024-01-01".into(), last_day: "2024-12-31".into() };
            let snapshots = BTreeMap::from([("test".into(), SnapshotCard::of(cutoff.into(), &test))]);
            ModelCard::churn(data, snapshots, &evaluation, &model).unwrap()
        };
        let one = card("2024-10-02");
        assert!(one.version.starts_with("2024-12-31-"));
        assert_eq!(one.version, card("2024-10-02").version);
        assert_ne!(one.version, card("2024-10-03").version);
        let text = serde_json::to_string(&one).unwrap();
        let back: ModelCard = serde_json::from_str(&text).unwrap();
        assert_eq!((&back.version, &back.features, back.chosen), (&one.version, &one.features, one.chosen));
        let auc = |card: &ModelCard| card.candidates[&Method::RandomForest].all.auc;
        // JSON numbers may read back a last digit off.
        assert!((auc(&back) - auc(&one)).abs() < 1e-12);
    }
}
