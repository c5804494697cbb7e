//! How many events come together: a shopper looks at page after page, so that page views scatter like visits, not like
//! themselves.
//!
//! Learnt of all series of one kind (the same columns rolled up) together, horizon by horizon: a visit that is cut by the
//! end of a window is smaller in it.

use super::node::Layout;
use serde::{Deserialize, Serialize};

/// Sums of windows, in weight, that the assumption of events that come alone counts as.
const ALONE: f64 = 30.0;
/// Of that weight on, one sum alone does not say what all are.
const KNOWN: f64 = 50.0;

/// Variance by mean of a count where little of it is expected: the intercept of `(x-m)²/m` over `m`, weighted least
/// squares. What grows with the square of the mean is the dispersion's.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Clump {
    /// Weight, and weighted: mean, its square, quotient, quotient times mean.
    sums: [f64; 5],
}

impl Clump {
    /// Events that come together; 1 at least.
    fn size(&self) -> f64 {
        let [n, m, mm, q, qm] = self.sums;
        if n <= 0.0 {
            return 1.0;
        }
        let (mean, spread) = (q / n, n * mm - m * m);
        let own = if spread > 0.05 * n * mm { (mm * q - m * qm) / spread } else { mean };
        let own = own.clamp(1.0, mean.max(1.0));
        (own * n + ALONE) / (n + ALONE)
    }

    fn learn(&mut self, x: f64, m: f64, size: f64, share: f64) {
        let mut square = (x - m) * (x - m);
        if self.sums[0] > KNOWN {
            square = square.min(100.0 * (m + size) * size);
        }
        // A quotient scatters the more the less is expected, m / (m + size), and the more of it is of other reasons.
        let most = 50.0 * size;
        let by_mean = share * most * most / ((m + size) * (m + most) * (m + most));
        let (weight, weighted) = (by_mean * m, by_mean * square);
        let add = [weight, weight * m, weight * m * m, weighted, weighted * m];
        self.sums.iter_mut().zip(add).for_each(|(sum, add)| *sum += add);
    }
}

/// The kind of a node, a metric and a horizon, in a layout.
pub(crate) type Which<'a> = (&'a Layout, u16, usize, usize);

/// The clumps of a suite's kinds, metrics and horizons.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Clumps {
    list: Vec<Clump>,
    sizes: Vec<f64>,
    /// Of each metric and horizon, the largest size of any kind.
    most: Vec<f64>,
}

impl Clumps {
    fn at((layout, kind, metric, horizon): Which<'_>) -> usize {
        (usize::from(kind) * layout.place.len() + metric) * layout.horizons + horizon
    }

    /// Makes room for a kind.
    pub(crate) fn welcome(&mut self, layout: &Layout, kind: u16) {
        let needed = Self::at((layout, kind + 1, 0, 0));
        if self.list.len() < needed {
            self.list.resize(needed, Clump::default());
            self.sizes.resize(needed, 1.0);
            self.most.resize(Self::at((layout, 1, 0, 0)), 1.0);
        }
    }

    /// Events that come together in a sum over a horizon.
    #[inline]
    pub(crate) fn size(&self, which: Which<'_>) -> f64 {
        self.sizes[Self::at(which)]
    }

    /// Events that come together at the most: a visit that many series share as a rule may fall into one of them whole.
    #[inline]
    pub(crate) fn most(&self, layout: &Layout, metric: usize, horizon: usize) -> f64 {
        self.most[Self::at((layout, 0, metric, horizon))]
    }

    /// Learns a sum `x` where `m` was expected; `share` of an independent sum it is.
    #[inline]
    pub(crate) fn learn(&mut self, which: Which<'_>, x: f64, m: f64, share: f64) {
        let at = Self::at(which);
        self.list[at].learn(x, m, self.sizes[at], share);
    }

    /// A window is over: what was learnt is used from now on, and `keep` of it stays in memory.
    pub(crate) fn settle(&mut self, keep: f64) {
        for (clump, size) in self.list.iter_mut().zip(&mut self.sizes) {
            clump.sums.iter_mut().for_each(|sum| *sum *= keep);
            *size = clump.size();
        }
        self.most.fill(1.0);
        for kind in self.sizes.chunks(self.most.len().max(1)) {
            self.most.iter_mut().zip(kind).for_each(|(most, size)| *most = most.max(*size));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use rand_distr::{Distribution, Gamma, Geometric, Poisson};

    /// The size learnt of sums of which `m` is expected, of clumps of `size` and a level that scatters by `a`.
    fn learnt(size: f64, a: f64) -> f64 {
        let (mut clump, mut random) = (Clump::default(), ChaCha8Rng::seed_from_u64(7));
        for at in 0..20_000 {
            let m = 0.5 * 1.6f64.powi(at % 13);
            let level = if a > 0.0 { Gamma::new(1.0 / a, a).unwrap().sample(&mut random) } else { 1.0 };
            let clumps = Poisson::new(m * level / size).unwrap().sample(&mut random) as usize;
            let mut events = || 1.0 + Geometric::new(1.0 / size).unwrap().sample(&mut random) as f64;
            let x = (0..clumps).map(|_| events()).sum();
            let known = clump.size();
            clump.learn(x, m, known, 1.0);
        }
        clump.size()
    }

    #[test]
    fn what_comes_together_is_told_from_a_level_that_scatters() {
        for a in [0.0, 0.05] {
            let alone = learnt(1.0, a);
            assert!((1.0..1.15).contains(&alone), "{a}: {alone}");
            // Variance by mean of a sum of geometric clumps is twice their mean size less one.
            let many = learnt(6.0, a);
            assert!((9.0..12.5).contains(&many), "{a}: {many}");
        }
        assert_eq!(Clump::default().size(), 1.0);
    }
}
