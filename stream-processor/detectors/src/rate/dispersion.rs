//! How much more a number scatters than counting alone explains, learnt horizon by horizon.

use serde::{Deserialize, Serialize};

/// The excess to start from, and as how many independent sums it counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Assumed {
    pub(crate) excess: f32,
    pub(crate) sums: f32,
}

impl Assumed {
    /// Of ten sums.
    pub(crate) fn lightly(excess: f32) -> Self {
        Self { excess, sums: 10.0 }
    }

    /// Of a day of sums over so many minutes: what goes astray slowly is not to be taken for scatter in a new shop.
    pub(crate) fn for_a_day(excess: f32, minutes: f64) -> Self {
        Self { excess, sums: (1440.0 / minutes).max(10.0) as f32 }
    }
}

/// The excess `a` of a variance `p m + a m²` of sums over one horizon, by moments: mean of `(x-m)² - p m` by mean of `m²`.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Dispersion {
    excess: f32,
    square: f32,
    /// Independent sums in memory.
    count: f32,
}

impl Dispersion {
    /// The excess, and more of it the less is known. `assumed` is where it starts.
    #[inline]
    pub(crate) fn excess(&self, assumed: Assumed) -> f64 {
        let learnt = if self.square > 0.0 { (self.excess / self.square).max(0.0) } else { 0.0 };
        let all = self.count + assumed.sums;
        let mean = (learnt * self.count + assumed.excess * assumed.sums) / all;
        f64::from(mean * (1.0 + 1.0 / all.sqrt()))
    }

    /// Learns a sum: `square` of its error and `explained` by counting. `share` of an independent sum it is, `keep` what
    /// it leaves of the memory. A larger error than 4 standard deviations counts as one of that.
    #[inline]
    pub(crate) fn learn(
        &mut self,
        square: f64,
        explained: f64,
        m_square: f64,
        assumed: Assumed,
        share: f32,
        keep: f32,
    ) {
        let most = 16.0 * (explained + self.excess(assumed) * m_square);
        self.excess = self.excess * keep + (square.min(most) - explained) as f32 * share;
        self.square = self.square * keep + m_square as f32 * share;
        self.count = self.count * keep + share;
    }
}

/// How much larger a unit of money counts than its variance by its mean.
const HEAVY: f64 = 1.5;

/// Whole numbers whose unit is smaller are counts: those of money in its smallest coin are far larger, and what many
/// events scatter more than they would alone looks like a small one.
const SURELY_MONEY: f64 = 30.0;
/// Windows with amounts, of one series, that count as much as all others: how amounts grow is seen best of series of all
/// sizes.
const FEW: f64 = 2000.0;

/// Variance by mean of a sum that is no count, such as money: the intercept of `(x-m)²/m` over `m`, so that what comes
/// from the size of single amounts is told from what grows with the square.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Unit {
    sums: [f32; 5],
}

impl Unit {
    /// What a count of 1 is worth of one series; 1 where nothing speaks against a count. `others`: what it is worth of all,
    /// which counts the more the less was seen of this one.
    /// Of amounts it is more than their variance says, because they have a heavier tail than a count.
    pub(crate) fn size(&self, is_count: bool, others: f64) -> f64 {
        let n = f64::from(self.sums[0]);
        let size = (self.own_size() * n + others * FEW) / (n + FEW);
        if !size.is_finite() || (is_count && size < SURELY_MONEY) {
            1.0
        } else {
            (HEAVY * size).max(f64::from(f32::MIN_POSITIVE))
        }
    }

    /// What it is worth by what was seen alone; 1 before anything was.
    pub(crate) fn own_size(&self) -> f64 {
        let [n, m, mm, q, qm] = self.sums.map(f64::from);
        if n <= 0.0 {
            return 1.0;
        }
        let (mean, spread) = (q / n, n * mm - m * m);
        let intercept = if spread > 0.05 * n * mm { (mm * q - m * qm) / spread } else { mean };
        intercept.max(0.1 * mean).min(mean)
    }

    /// Whether enough was seen to tell an amount from many.
    pub(crate) fn is_known(&self) -> bool {
        self.sums[0] >= 5.0
    }

    #[inline]
    pub(crate) fn learn(&mut self, x: f64, m: f64, size: f64, keep: f32) {
        // Where less than one amount is expected the quotient is wild.
        let weight = m / (m + size);
        if weight.is_nan() || weight < 0.0 {
            return;
        }
        let mut square = (x - m) * (x - m);
        if self.sums[0] > 50.0 {
            // One amount alone does not say what all are.
            square = square.min(100.0 * (m + size) * size);
        }
        let weighted = square / (m + size);
        let add = [weight, weight * m, weight * m * m, weighted, weighted * m];
        for (sum, add) in self.sums.iter_mut().zip(add) {
            *sum = *sum * keep + add as f32;
        }
    }
}
