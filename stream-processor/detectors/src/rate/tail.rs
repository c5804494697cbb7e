//! From a deviation to a score: deviance residuals and the tail of the normal distribution.

use std::f64::consts::{LN_10, PI};

/// Signed square root of the deviance of a count `x` from its mean `m` when its variance is `m + a m²`, `x` moved half a
/// count towards `m`: about standard normal, also far out and for small means.
///
/// For `a > 0` that is the negative binomial (McCullagh and Nelder, Generalized Linear Models, 1989, table 2.1 and
/// section 11.2; Pierce and Schafer, Residuals in generalized linear models, JASA 1986, on how near to normal it is and
/// on the half count), for 0 the Poisson, and the same formula with `a < 0` is the binomial of `-1/a` trials.
pub(crate) fn deviance(x: f64, m: f64, a: f64) -> f64 {
    let x = if x > m { (x - 0.5).max(m) } else { (x.max(0.0) + 0.5).min(m) };
    let own = if x > 0.0 { x * (x / m).ln() } else { 0.0 };
    let other = if a.abs() * m < 1e-7 {
        x - m
    } else {
        let k = 1.0 / a;
        // With trials: those that did not come. More than all cannot come; what is left of the formula is its limit.
        if a < 0.0 && x + k >= 0.0 { 0.0 } else { (x + k) * ((x - m) / (m + k)).ln_1p() }
    };
    (2.0 * (own - other)).max(0.0).sqrt().copysign(x - m)
}

/// The standard normal value that is as unusual as `t` of a t distribution (D. Wallace, Bounds on normal approximations to
/// Student's and the chi-square distributions, Annals of Mathematical Statistics 30, 1959).
pub(crate) fn normal_of_t(t: f64, degrees: f64) -> f64 {
    let scale = (8.0 * degrees + 1.0) / (8.0 * degrees + 3.0);
    (scale * (degrees * (t * t / degrees).ln_1p()).sqrt()).copysign(t)
}

/// log10 of the chance that a standard normal is further from 0 than `z`.
pub(crate) fn log10_chance(z: f64) -> f64 {
    let z = z.abs();
    if z < 5.0 {
        return statrs::function::erf::erfc(z / std::f64::consts::SQRT_2).log10();
    }
    // Mills' ratio as a continued fraction (Abramowitz and Stegun 26.2.14); erfc itself ends at 38.
    let fraction = (1..=12).rev().fold(z, |below, k| z + f64::from(k) / below);
    -z * z / 2.0 / LN_10 + ((2.0 / PI).sqrt() / fraction).log10()
}

/// The `z` of [`log10_chance`].
pub(crate) fn z_of(log10_chance_wanted: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1000.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if log10_chance(middle) > log10_chance_wanted { low = middle } else { high = middle }
    }
    (low + high) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use statrs::distribution::{Binomial, ContinuousCDF, DiscreteCDF, NegativeBinomial, Poisson, StudentsT};

    /// z of the exact chance of `x` or further out, half of `x` itself counted.
    fn exact(law: &impl DiscreteCDF<u64, f64>, x: u64, m: f64) -> f64 {
        let below = |x: u64| if x == 0 { 0.0 } else { law.cdf(x - 1) };
        let chance = if (x as f64) > m {
            law.sf(x) + 0.5 * (law.cdf(x) - below(x)).max(0.0)
        } else {
            below(x) + 0.5 * (law.cdf(x) - below(x))
        };
        z_of((2.0 * chance).log10()).copysign(x as f64 - m)
    }

    #[test]
    fn deviances_are_near_the_exact_tails() {
        for m in [4.0, 20.0, 150.0] {
            for factor in [0.0, 0.3, 0.6, 1.5, 2.0] {
                let x = (m * factor) as u64;
                let poisson = exact(&Poisson::new(m).unwrap(), x, m);
                if poisson.abs() < 7.5 {
                    assert!((deviance(x as f64, m, 0.0) - poisson).abs() < 0.45, "Poisson {m} {x}: {poisson}");
                }
                for a in [0.02, 0.2] {
                    let law = NegativeBinomial::new(1.0 / a, 1.0 / (1.0 + a * m)).unwrap();
                    let (z, exact) = (deviance(x as f64, m, a), exact(&law, x, m));
                    if exact.abs() < 7.5 {
                        assert!((z - exact).abs() < 0.45, "NB {m} {a} {x}: {z} for {exact}");
                    }
                }
            }
        }
        let binomial = Binomial::new(0.66, 60).unwrap();
        for x in [20, 30, 40, 48, 55] {
            let z = deviance(x as f64, 39.6, -1.0 / 60.0);
            let exact = exact(&binomial, x, 39.6);
            assert!((z - exact).abs() < 0.45, "binomial {x}: {z} for {exact}");
        }
    }

    #[test]
    fn a_t_value_is_as_unusual_as_its_normal_one() {
        for degrees in [3.0, 8.0, 40.0] {
            let law = StudentsT::new(0.0, 1.0, degrees).unwrap();
            for t in [-6.0, -1.0, 0.5, 3.0, 9.0] {
                let exact = z_of((2.0 * law.sf(f64::abs(t))).log10()).copysign(t);
                let near = normal_of_t(t, degrees);
                assert!((near - exact).abs() < 0.02 + 0.02 * exact.abs(), "{t} of {degrees}: {near} for {exact}");
            }
        }
    }

    #[test]
    fn chances_go_on_where_floats_end() {
        for z in [0.1, 1.0, 4.9] {
            assert!((z_of(log10_chance(z)) - z).abs() < 1e-9);
        }
        assert!((log10_chance(5.0 - 1e-9) - log10_chance(5.0)).abs() < 1e-6, "the two ways meet");
        assert!((log10_chance(40.0) + 349.136).abs() < 0.01, "{}", log10_chance(40.0));
    }
}
