//! One test: what a number should be over a horizon, and how unusual a value of it is.

use super::tail::{deviance, log10_chance, normal_of_t};

/// How a number scatters about its expectation.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Law {
    /// A sum of amounts of about `size` (1 for a count): variance `size m + a m²`; above the mean of `size_up`.
    Sum { size: f64, size_up: f64, a: f64 },
    /// Events out of others: variance `part m + a m²`; `part` is below 1 when those out of whom they come are counted.
    Share { part: f64, a: f64 },
    /// A sum of amounts whose number is known: variance of its logarithm `own + more`, `own` that of the amounts.
    Amount { own: f64, more: f64, degrees: f64 },
}

/// What is tolerated, as factors of the expectation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Tolerance {
    pub(crate) down: f64,
    pub(crate) up: f64,
}

impl Tolerance {
    pub(crate) const NONE: Self = Self { down: 1.0, up: 1.0 };
}

/// A test prepared.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) law: Law,
    /// The expectation.
    pub(crate) expected: f64,
    /// Another expectation by which it must be unusual too.
    pub(crate) or_expected: Option<f64>,
    /// What is tolerated.
    pub(crate) tolerance: Tolerance,
    /// Less than this is never too much.
    pub(crate) up_from: f64,
}

impl Span {
    /// Standard deviations that `x` is off, signed; 0 within what is tolerated.
    #[inline]
    pub(crate) fn z(&self, x: f64) -> f64 {
        let z = self.z_from(x, self.expected);
        let Some(or) = self.or_expected else { return z };
        if z == 0.0 {
            return 0.0;
        }
        let other = self.z_from(x, or);
        if z * other <= 0.0 {
            0.0
        } else if z.abs() < other.abs() {
            z
        } else {
            other
        }
    }

    #[inline]
    fn z_from(&self, x: f64, expected: f64) -> f64 {
        let (down, up) = (expected * self.tolerance.down, expected * self.tolerance.up);
        let m = if x < down {
            down
        } else if x > up && x >= self.up_from {
            up
        } else {
            return 0.0;
        };
        match self.law {
            Law::Sum { size, size_up, a } => {
                let size = if x > m { size_up } else { size };
                deviance(x / size, (m / size).max(LEAST), a)
            }
            Law::Share { part, a } => {
                let m = m.max(LEAST);
                deviance(x, m, (part - 1.0) / m + a)
            }
            Law::Amount { own, more, degrees } => {
                normal_of_t(((x / m).max(1e-3).ln() + own / 2.0) / (own + more).sqrt(), degrees)
            }
        }
    }

    /// Whether `x` is so near that its z is below `limit` for sure: no logarithm is needed for nearly all windows.
    #[inline]
    pub(crate) fn is_near(&self, x: f64, limit: f64) -> bool {
        let (size, part, a) = match self.law {
            Law::Sum { size, a, .. } => (size, 1.0, a),
            Law::Share { part, a } => (1.0, part, a),
            Law::Amount { .. } => return false,
        };
        let (off, m) = ((x - self.expected) / size, (self.expected / size).max(LEAST));
        // Far below its mean a negative binomial's deviance is more than its squared distance by the variance, at most
        // 2 ln(1+am) (1+am) / am as much; a binomial's and a Poisson's is at most twice.
        a * m <= 2.0 && off * off * 3.4 < limit * limit * (part * m + a * m * m)
    }

    /// The values nearest the expectation whose z reaches `z`, below and above; infinite where none does, or none that says
    /// anything: of few amounts the mean may be [`BOUNDLESS`] times the usual.
    pub(crate) fn bounds(&self, z: f64) -> (f64, f64) {
        let m = self.expected;
        let lower = if self.z(0.0) > -z { f64::NEG_INFINITY } else { search(0.0, m, |x| self.z(x) <= -z) };
        let mut far = m.max(self.up_from).max(1e-9) * 2.0;
        if !far.is_finite() {
            return (lower, f64::INFINITY);
        }
        let farthest = far * BOUNDLESS;
        while self.z(far) < z {
            far *= 4.0;
            if far > farthest {
                return (lower, f64::INFINITY);
            }
        }
        (lower, search(far, m, |x| self.z(x) >= z))
    }
}

/// The score of a deviation when so many tests (log10) are made in a day: `-log10` of the false alarms a day.
pub(crate) fn score(z: f64, log10_tests: f64) -> f64 {
    (-log10_chance(z) - log10_tests).max(0.0)
}

/// A bound that is so many times what is expected is none.
const BOUNDLESS: f64 = 1000.0;

/// Fewer events are never expected: a quotient whose lower part is missing has to come from somewhere.
const LEAST: f64 = 0.05;

/// Where between `is` and `is_not` something ceases to be so.
fn search(mut is: f64, mut is_not: f64, so: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..50 {
        let middle = (is + is_not) / 2.0;
        if so(middle) { is = middle } else { is_not = middle }
    }
    is
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_its_bounds_a_value_is_as_unusual_as_asked() {
        let laws = [
            Law::Sum { size: 1.0, size_up: 1.0, a: 0.01 },
            Law::Sum { size: 70.0, size_up: 90.0, a: 0.1 },
            Law::Share { part: 0.4, a: 0.0 },
        ];
        for law in laws.into_iter().chain([Law::Amount { own: 0.01, more: 0.002, degrees: 60.0 }]) {
            let span = Span { law, expected: 900.0, or_expected: None, tolerance: Tolerance::NONE, up_from: 0.0 };
            let (lower, upper) = span.bounds(3.0);
            assert!((span.z(lower) + 3.0).abs() < 1e-6 && (span.z(upper) - 3.0).abs() < 1e-6, "{law:?}");
            let doubted = Span { or_expected: Some(2000.0), ..span };
            assert!(doubted.z(1500.0) == 0.0 && doubted.bounds(3.0).1 > upper);
        }
        for law in laws {
            let span = Span { law, expected: 40.0, or_expected: None, tolerance: Tolerance::NONE, up_from: 0.0 };
            for (x, limit) in (0..200).flat_map(|x| [(f64::from(x), 2.5), (f64::from(x), 5.4)]) {
                assert!(!span.is_near(x, limit) || span.z(x).abs() < limit, "{law:?} {x}");
            }
        }
        let promoted = Tolerance { down: 0.7, up: f64::INFINITY };
        let span = Span { law: laws[0], expected: 100.0, or_expected: None, tolerance: promoted, up_from: 4.0 };
        assert_eq!((span.z(1e6), span.z(75.0), span.bounds(4.0).1), (0.0, 0.0, f64::INFINITY));
        assert!(span.z(10.0) < -4.0);
        let of_few = Law::Amount { own: 3.0, more: 0.5, degrees: 60.0 };
        let span = Span { law: of_few, tolerance: Tolerance::NONE, ..span };
        assert_eq!(span.bounds(6.0).1, f64::INFINITY, "a bound that nobody can read is none");
    }
}
