//! Churn probability: a logistic regression and a random forest, each calibrated on a later snapshot than it learnt from
//! and judged on a later one still. The better by AUC is kept.
//!
//! Snapshots follow each other by a label window (90 days), so no label is known before the next snapshot starts: what is
//! learnt never saw what it is judged by. The forest averages regression trees over 0 and 1, which gives shares: a vote of
//! labels ranks worse where most customers churn (AUC 0.77 instead of 0.84 on CDNOW).

use crate::{
    features::{Features, Matrix, MlError, Scale, matrix},
    measure::Measures,
};
use serde::{Deserialize, Serialize};
use smartcore::{
    ensemble::random_forest_regressor::{RandomForestRegressor, RandomForestRegressorParameters},
    linalg::basic::arrays::Array,
    linear::logistic_regression::{LogisticRegression, LogisticRegressionParameters},
};
use std::collections::BTreeMap;

/// Rows of a part that is learnt from or judged by.
const ROWS_MIN: usize = 100;
/// Weight of the squared coefficients, as scikit-learn's `C = 1`.
const RIDGE: f64 = 1.0;
const TREES: usize = 100;
/// Features a node of the forest looks at.
const FEATURES_A_NODE: usize = 2;

/// Customers as they were known at a cutoff, and what became of them in the label window from it on.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// By orders before the cutoff only.
    pub features: Features,
    /// Not churned yet at the cutoff, by row.
    pub active: Vec<bool>,
    /// No order in the label window, by row.
    pub churned: Vec<bool>,
}

/// A way to learn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Linear in the log-odds, over logarithms of the features.
    LogisticRegression,
    /// Mean of a hundred trees.
    RandomForest,
}

impl Method {
    const ALL: [Self; 2] = [Self::LogisticRegression, Self::RandomForest];
}

/// What a method reached on the test snapshot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    /// Over all customers.
    pub all: Measures,
    /// Over those not churned yet at the cutoff: the harder and the useful question. None when all of them took one way.
    pub active: Option<Measures>,
}

/// Every method, judged, and the best.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// What each reached.
    pub candidates: BTreeMap<Method, Candidate>,
    /// Highest AUC over all customers; the logistic regression when equal.
    pub chosen: Method,
}

/// A fitted and calibrated model.
#[derive(Debug)]
pub struct ChurnModel {
    /// How it learnt.
    pub method: Method,
    /// Coefficients of the scaled logarithms (they raise or lower the log-odds), or importances (they add up to 1).
    pub weights: BTreeMap<String, f64>,
    names: Vec<String>,
    scale: Scale,
    learner: Learner,
    calibration: Line,
}

#[derive(Debug)]
enum Learner {
    Line(Line),
    Forest(RandomForestRegressor<f64, f64, Matrix, Vec<f64>>),
}

/// Log-odds as a weighted sum.
#[derive(Clone, Debug)]
struct Line {
    weights: Vec<f64>,
    intercept: f64,
}

/// Fits each method on `train`, calibrates it on `calibrate`, measures it on `test`. The cutoffs ascend by a label window.
///
/// # Errors
/// When a snapshot is too small, of one class, or has other features than `train`.
pub fn evaluate(train: &Snapshot, calibrate: &Snapshot, test: &Snapshot, seed: u64) -> Result<Evaluation, MlError> {
    check(test, "test")?;
    let mut candidates = BTreeMap::new();
    for method in Method::ALL {
        let probability = fit(method, train, calibrate, seed)?.probabilities(&test.features)?;
        let all = Measures::of(&test.churned, &probability).ok_or(MlError::OneClass { part: "test" })?;
        let (churned, of_active): (Vec<bool>, Vec<f64>) =
            (0..probability.len()).filter(|at| test.active[*at]).map(|at| (test.churned[at], probability[at])).unzip();
        candidates.insert(method, Candidate { all, active: Measures::of(&churned, &of_active) });
    }
    let better = candidates[&Method::RandomForest].all.auc > candidates[&Method::LogisticRegression].all.auc;
    let chosen = if better { Method::RandomForest } else { Method::LogisticRegression };
    Ok(Evaluation { candidates, chosen })
}

/// Fits `method` on `train` and calibrates it on the later `calibrate` (Platt scaling: a line over the log-odds).
///
/// # Errors
/// When a snapshot is too small, of one class, or they differ in features.
pub fn fit(method: Method, train: &Snapshot, calibrate: &Snapshot, seed: u64) -> Result<ChurnModel, MlError> {
    check(train, "train")?;
    check(calibrate, "calibrate")?;
    let names = train.features.names().to_vec();
    let scale = Scale::of(train.features.logs(), "train")?;
    let rows = scale.apply(train.features.logs());
    let (learner, weights) = match method {
        Method::LogisticRegression => {
            let line = Line::fit(&rows, &train.churned, RIDGE)?;
            let weights = line.weights.clone();
            (Learner::Line(line), weights)
        }
        Method::RandomForest => {
            let parameters = RandomForestRegressorParameters {
                n_trees: TREES,
                m: Some(FEATURES_A_NODE.min(names.len())),
                // Churn is noisy: smaller leaves learn the noise.
                min_samples_leaf: (rows.len() / 100).max(20),
                seed,
                ..Default::default()
            };
            let churned: Vec<f64> = train.churned.iter().map(|churned| f64::from(*churned)).collect();
            let forest = RandomForestRegressor::fit(&matrix(&rows)?, &churned, parameters)
                .map_err(|source| MlError::Fit { what: "random forest", source })?;
            let weights =
                forest.compute_feature_importances().map_err(|source| MlError::Fit { what: "importances", source })?;
            (Learner::Forest(forest), weights)
        }
    };
    let identity = Line { weights: vec![1.0], intercept: 0.0 };
    let weights = names.iter().cloned().zip(weights).collect();
    let mut model = ChurnModel { method, weights, names, scale, learner, calibration: identity };
    let log_odds: Vec<Vec<f64>> = model.log_odds(&calibrate.features)?.into_iter().map(|x| vec![x]).collect();
    model.calibration = Line::fit(&log_odds, &calibrate.churned, 0.0)?;
    Ok(model)
}

impl ChurnModel {
    /// What it goes by, in the order of the columns.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Churn probability in the label window after the cutoff of `features`, by row.
    ///
    /// # Errors
    /// When the features are not those it learnt.
    pub fn probabilities(&self, features: &Features) -> Result<Vec<f64>, MlError> {
        Ok(self.log_odds(features)?.into_iter().map(|x| sigmoid(self.calibration.at(&[x]))).collect())
    }

    fn log_odds(&self, features: &Features) -> Result<Vec<f64>, MlError> {
        if features.names() != self.names {
            return Err(MlError::Shape(format!("features {:?}, learnt {:?}", features.names(), self.names)));
        }
        if features.rows() == 0 {
            return Ok(Vec::new());
        }
        let rows = self.scale.apply(features.logs());
        match &self.learner {
            Learner::Line(line) => Ok(rows.iter().map(|row| line.at(row)).collect()),
            Learner::Forest(forest) => {
                let shares = forest
                    .predict(&matrix(&rows)?)
                    .map_err(|source| MlError::Fit { what: "scores of the forest", source })?;
                Ok(shares.into_iter().map(|p| p.clamp(1e-6, 1.0 - 1e-6)).map(|p| (p / (1.0 - p)).ln()).collect())
            }
        }
    }
}

impl Line {
    fn fit(rows: &[Vec<f64>], churned: &[bool], ridge: f64) -> Result<Self, MlError> {
        let labels: Vec<u32> = churned.iter().map(|churned| u32::from(*churned)).collect();
        let parameters = LogisticRegressionParameters::default().with_alpha(ridge);
        let fitted = LogisticRegression::fit(&matrix(rows)?, &labels, parameters)
            .map_err(|source| MlError::Fit { what: "logistic regression", source })?;
        let weights = (0..rows[0].len()).map(|j| *fitted.coefficients().get((0, j))).collect();
        Ok(Self { weights, intercept: *fitted.intercept().get((0, 0)) })
    }

    fn at(&self, row: &[f64]) -> f64 {
        self.intercept + self.weights.iter().zip(row).map(|(weight, x)| weight * x).sum::<f64>()
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn check(snapshot: &Snapshot, part: &'static str) -> Result<(), MlError> {
    let rows = snapshot.features.rows();
    if snapshot.churned.len() != rows || snapshot.active.len() != rows {
        return Err(MlError::Shape(format!("{part}: {rows} rows, {} labels", snapshot.churned.len())));
    }
    if rows < ROWS_MIN {
        return Err(MlError::TooFewRows { part, rows, needed: ROWS_MIN });
    }
    if snapshot.churned.iter().all(|churned| *churned == snapshot.churned[0]) {
        return Err(MlError::OneClass { part });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who came often stays, but for every seventh; `noise` tells nothing.
    fn snapshot(rows: usize, shift: usize) -> Snapshot {
        let visits = |at: usize| ((at * 37 + shift) % 20) as f64;
        let table: Vec<Vec<f64>> = (0..rows).map(|at| vec![visits(at), ((at * 53 + shift) % 11) as f64]).collect();
        Snapshot {
            features: Features::new(vec!["visits".into(), "noise".into()], &table).unwrap(),
            active: (0..rows).map(|at| at % 2 == 0).collect(),
            churned: (0..rows).map(|at| (visits(at) < 8.0) != (at % 7 == 0)).collect(),
        }
    }

    #[test]
    fn both_methods_find_what_decides_and_say_how_likely() {
        let (train, calibrate, test) = (snapshot(1000, 0), snapshot(1000, 3), snapshot(1000, 5));
        let evaluation = evaluate(&train, &calibrate, &test, 7).unwrap();
        for (method, candidate) in &evaluation.candidates {
            assert!(candidate.all.auc > 0.8, "{method:?}: {candidate:?}");
            assert!(candidate.all.brier < 0.16, "{method:?}: {candidate:?}");
            assert_eq!(candidate.active.unwrap().rows, 500);
            let model = fit(*method, &train, &calibrate, 7).unwrap();
            assert!(model.weights["visits"].abs() > 5.0 * model.weights["noise"].abs(), "{:?}", model.weights);
            let mean = model.probabilities(&calibrate.features).unwrap().iter().sum::<f64>() / 1000.0;
            let share = calibrate.churned.iter().filter(|churned| **churned).count() as f64 / 1000.0;
            assert!((mean - share).abs() < 0.01, "{method:?} is calibrated: {mean} for {share}");
        }
    }

    #[test]
    fn one_seed_gives_one_result() {
        let (train, calibrate, now) = (snapshot(500, 0), snapshot(500, 3), snapshot(500, 5));
        let scores =
            |seed| fit(Method::RandomForest, &train, &calibrate, seed).unwrap().probabilities(&now.features).unwrap();
        assert_eq!(scores(7), scores(7));
        assert_ne!(scores(7), scores(8));
    }

    #[test]
    fn what_cannot_be_learnt_is_said() {
        let good = snapshot(200, 0);
        let refused = |train: &Snapshot| fit(Method::LogisticRegression, train, &good, 7).unwrap_err();
        assert!(matches!(refused(&snapshot(99, 0)), MlError::TooFewRows { part: "train", rows: 99, needed: 100 }));
        let all_gone = Snapshot { churned: vec![true; 200], ..good.clone() };
        assert!(matches!(refused(&all_gone), MlError::OneClass { part: "train" }));
        let same = Features::new(vec!["visits".into(), "noise".into()], &vec![vec![1.0, 2.0]; 200]).unwrap();
        assert!(matches!(refused(&Snapshot { features: same, ..good.clone() }), MlError::ConstantFeatures { .. }));
    }

    #[test]
    fn other_features_than_learnt_are_refused() {
        let good = snapshot(200, 0);
        let model = fit(Method::LogisticRegression, &good, &good, 7).unwrap();
        let other = Features::new(vec!["visits".into(), "other".into()], &[vec![1.0, 2.0]]).unwrap();
        assert!(matches!(model.probabilities(&other), Err(MlError::Shape(_))));
    }
}
