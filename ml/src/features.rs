//! The table that models learn from: named columns of numbers, checked once, scaled by what training saw.

use smartcore::linalg::basic::matrix::DenseMatrix;

pub(crate) type Matrix = DenseMatrix<f64>;

/// Why nothing could be learnt. Retrying helps only with other data.
#[derive(Debug, thiserror::Error)]
pub enum MlError {
    /// Fewer rows than a model needs.
    #[error("{rows} rows in {part}, at least {needed} are needed")]
    TooFewRows {
        /// Which rows.
        part: &'static str,
        /// How many there are.
        rows: usize,
        /// How many there have to be.
        needed: usize,
    },
    /// Everyone churned, or nobody did.
    #[error("only one class in {part}")]
    OneClass {
        /// Which rows.
        part: &'static str,
    },
    /// No column tells two rows apart.
    #[error("every feature is constant in {part}")]
    ConstantFeatures {
        /// Which rows.
        part: &'static str,
    },
    /// A number is negative, infinite or none.
    #[error("{value} in row {row} of column {column}: a feature is a finite number of at least 0")]
    NotANumber {
        /// Name of the column.
        column: String,
        /// From 0.
        row: usize,
        /// What stands there.
        value: f64,
    },
    /// Rows, columns or labels do not belong together.
    #[error("{0}")]
    Shape(String),
    /// The learner gave up.
    #[error("fit {what}")]
    Fit {
        /// What was fitted.
        what: &'static str,
        /// Why it gave up.
        source: smartcore::error::Failed,
    },
}

/// Rows of features, all finite and at least 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    names: Vec<String>,
    /// `ln(1 + x)` of every number: amounts and counts are skewed.
    logs: Vec<Vec<f64>>,
}

impl Features {
    /// Takes rows of one number per name.
    ///
    /// # Errors
    /// When a row has another length, or a number is negative or not finite.
    pub fn new(names: Vec<String>, rows: &[Vec<f64>]) -> Result<Self, MlError> {
        for (at, row) in rows.iter().enumerate() {
            if row.len() != names.len() {
                return Err(MlError::Shape(format!("row {at} has {} numbers for {} names", row.len(), names.len())));
            }
            if let Some(column) = row.iter().position(|x| !x.is_finite() || *x < 0.0) {
                return Err(MlError::NotANumber { column: names[column].clone(), row: at, value: row[column] });
            }
        }
        Ok(Self { logs: rows.iter().map(|row| row.iter().map(|x| x.ln_1p()).collect()).collect(), names })
    }

    /// Names of the columns.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// How many rows.
    pub fn rows(&self) -> usize {
        self.logs.len()
    }

    pub(crate) fn logs(&self) -> &[Vec<f64>] {
        &self.logs
    }
}

/// Mean and deviation of each column as training saw it. A column that was constant there is 0 everywhere.
#[derive(Clone, Debug)]
pub(crate) struct Scale {
    mean: Vec<f64>,
    deviation: Vec<f64>,
}

impl Scale {
    pub(crate) fn of(rows: &[Vec<f64>], part: &'static str) -> Result<Self, MlError> {
        let (n, columns) = (rows.len() as f64, rows.first().map_or(0, Vec::len));
        let mean: Vec<f64> = (0..columns).map(|j| rows.iter().map(|row| row[j]).sum::<f64>() / n).collect();
        let deviation: Vec<f64> = (0..columns)
            .map(|j| (rows.iter().map(|row| (row[j] - mean[j]).powi(2)).sum::<f64>() / n).sqrt())
            // The mean of equal numbers is off by some rounding, and so is their deviation.
            .map(|deviation| if deviation > 1e-9 { deviation } else { 0.0 })
            .collect();
        if deviation.iter().all(|deviation| *deviation == 0.0) {
            return Err(MlError::ConstantFeatures { part });
        }
        Ok(Self { mean, deviation })
    }

    pub(crate) fn apply(&self, rows: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let one = |j: usize, x: f64| if self.deviation[j] > 0.0 { (x - self.mean[j]) / self.deviation[j] } else { 0.0 };
        rows.iter().map(|row| row.iter().enumerate().map(|(j, x)| one(j, *x)).collect()).collect()
    }
}

/// Rows of one length as the learner's matrix.
pub(crate) fn matrix(rows: &[Vec<f64>]) -> Result<Matrix, MlError> {
    let columns = rows.first().map_or(0, Vec::len);
    let by_column = (0..columns).flat_map(|j| rows.iter().map(move |row| row[j])).collect();
    Matrix::new(rows.len(), columns, by_column, true).map_err(|source| MlError::Fit { what: "matrix", source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_none_is_refused_by_name() {
        let error = Features::new(vec!["a".into(), "b".into()], &[vec![1.0, 0.0], vec![1.0, f64::NAN]]).unwrap_err();
        assert!(matches!(error, MlError::NotANumber { column, row: 1, .. } if column == "b"));
    }

    #[test]
    fn a_constant_column_becomes_zero_even_where_it_changes_later() {
        let scale = Scale::of(&[vec![1.0, 0.1], vec![3.0, 0.1]], "train").unwrap();
        assert_eq!(scale.apply(&[vec![3.0, 7.0]]), [[1.0, 0.0]]);
        assert!(matches!(
            Scale::of(&[vec![0.1], vec![0.1]], "train"),
            Err(MlError::ConstantFeatures { part: "train" })
        ));
    }
}
