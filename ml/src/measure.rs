//! How good probabilities are: ranking (AUC), exactness (Brier), use for a campaign (lift at 10 %).

use serde::{Deserialize, Serialize};

/// Measures of one model over one set of customers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measures {
    /// Customers measured.
    pub rows: usize,
    /// Share of them that churned.
    pub churn_share: f64,
    /// Chance that a churner has the higher score of a random churner and a random other. 0.5 is a coin.
    pub auc: f64,
    /// Mean squared difference of probability and outcome. 0 is best.
    pub brier: f64,
    /// Churn share of the tenth with the highest scores, over that of all. 1 is a coin.
    pub lift_10: f64,
}

impl Measures {
    /// None when there is one class only: nothing to rank.
    pub fn of(churned: &[bool], probability: &[f64]) -> Option<Self> {
        Some(Self {
            rows: churned.len(),
            churn_share: share(churned.iter().copied()),
            auc: auc(churned, probability)?,
            brier: brier(churned, probability),
            lift_10: lift_10(churned, probability)?,
        })
    }
}

/// Area under the ROC curve, by ranks; equal scores share the mean of their ranks. None with one class only.
///
/// # Panics
/// When the lengths differ.
pub fn auc(churned: &[bool], score: &[f64]) -> Option<f64> {
    assert_eq!(churned.len(), score.len(), "a score for every customer");
    let mut order: Vec<usize> = (0..score.len()).collect();
    order.sort_by(|a, b| score[*a].total_cmp(&score[*b]));
    let (mut rank_sum, mut before) = (0.0, 0);
    for tied in order.chunk_by(|a, b| score[*a] == score[*b]) {
        let rank = before as f64 + (tied.len() as f64 + 1.0) / 2.0;
        rank_sum += rank * tied.iter().filter(|at| churned[**at]).count() as f64;
        before += tied.len();
    }
    let positive = churned.iter().filter(|churned| **churned).count() as f64;
    let negative = churned.len() as f64 - positive;
    (positive > 0.0 && negative > 0.0).then(|| (rank_sum - positive * (positive + 1.0) / 2.0) / (positive * negative))
}

/// Mean squared difference of probability and outcome; 0 of nothing.
pub fn brier(churned: &[bool], probability: &[f64]) -> f64 {
    let squares = churned.iter().zip(probability).map(|(churned, p)| (p - f64::from(*churned)).powi(2));
    squares.sum::<f64>() / churned.len().max(1) as f64
}

/// Churn share of the ⌈n / 10⌉ highest scores (ties in the order given) over the churn share of all. None when nobody churned.
pub fn lift_10(churned: &[bool], score: &[f64]) -> Option<f64> {
    let mut order: Vec<usize> = (0..score.len()).collect();
    order.sort_by(|a, b| score[*b].total_cmp(&score[*a]));
    let top = &order[..score.len().div_ceil(10)];
    let base = share(churned.iter().copied());
    (base > 0.0).then(|| share(top.iter().map(|at| churned[*at])) / base)
}

fn share(churned: impl ExactSizeIterator<Item = bool>) -> f64 {
    let rows = churned.len().max(1) as f64;
    churned.filter(|churned| *churned).count() as f64 / rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auc_counts_pairs_and_halves_of_ties() {
        // Pairs (churner, other): .9>.4, .9>.1, .4=.4 (half), .4>.1: 3.5 of 4.
        assert_eq!(auc(&[true, true, false, false], &[0.9, 0.4, 0.4, 0.1]), Some(0.875));
        assert_eq!(auc(&[true, false], &[0.5, 0.5]), Some(0.5));
        assert_eq!(auc(&[false, true], &[0.8, 0.2]), Some(0.0));
        assert_eq!(auc(&[true, true], &[0.8, 0.2]), None);
    }

    #[test]
    fn brier_is_the_mean_square() {
        // .1² + .4² + .2² = .21, over three.
        assert!((brier(&[true, true, false], &[0.9, 0.6, 0.2]) - 0.07).abs() < 1e-12);
    }

    #[test]
    fn lift_takes_a_tenth_rounded_up_and_ties_as_they_come() {
        let mut churned = [false; 11];
        (churned[0], churned[4], churned[10]) = (true, true, true);
        let mut score = [0.1; 11];
        (score[4], score[10]) = (0.9, 0.5);
        // ⌈11 / 10⌉ = 2 customers, 4 and 10, both churned: 1 / (3 / 11).
        assert!((lift_10(&churned, &score).unwrap() - 11.0 / 3.0).abs() < 1e-12);
        // All equal: the first two, one of them churned.
        assert!((lift_10(&churned, &[0.5; 11]).unwrap() - 0.5 * 11.0 / 3.0).abs() < 1e-12);
    }
}
