//! What the parts do together.

use crate::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Binomial, Distribution, Gamma, LogNormal, Poisson};
use std::sync::Arc;

const MINUTE: i64 = 60_000;
const DAY: i64 = 1_440;

/// A shop by country: visits, orders, revenue. Its day is steep: fourteen times as much in the evening as at night.
struct Shop {
    random: ChaCha8Rng,
    /// Visits a minute in the evening, and minutes ahead of UTC.
    countries: Vec<(Arc<str>, f64, i64)>,
    dispersion: f64,
    /// Slow noise of each country: logarithm.
    drift: Vec<f64>,
    frame: Frame,
}

/// What is wrong with a country: factors on visits and on the share that orders.
type Wrong = (usize, f64, f64);

const PAY: f64 = 0.3;

impl Shop {
    fn new(seed: u64, sizes: &[f64], dispersion: f64) -> Self {
        let country = |(at, size): (usize, &f64)| (format!("C{at}").into(), *size, at as i64 * 150 - 600);
        Self {
            random: ChaCha8Rng::seed_from_u64(seed),
            countries: sizes.iter().enumerate().map(country).collect(),
            dispersion,
            drift: vec![0.0; sizes.len()],
            frame: Frame::new(1, 3),
        }
    }

    /// Visits expected of a country in a minute since Monday midnight UTC.
    fn rate(&self, country: usize, minute: i64) -> f64 {
        let (_, size, ahead) = self.countries[country];
        let local = (minute + ahead) as f64 / 60.0;
        let (hour, day) = (local.rem_euclid(24.0), (local / 24.0).floor().rem_euclid(7.0));
        let bump = |at: f64, wide: f64| (-0.5 * (((hour - at + 12.0).rem_euclid(24.0) - 12.0) / wide).powi(2)).exp();
        let week = if day >= 5.0 { 1.25 } else { 1.0 };
        size * week * (0.07 + 0.5 * bump(12.5, 2.6) + 0.93 * bump(20.3, 2.3))
    }

    fn window(&mut self, minute: i64, wrong: Option<Wrong>) -> &Frame {
        // 1970-01-05 was a Monday.
        let start = (minute + 4 * DAY) * MINUTE;
        self.frame.clear(start, start + MINUTE);
        for country in 0..self.countries.len() {
            let step = rand_distr::Normal::new(0.0, 0.04 * (2.0f64 / 180.0).sqrt()).unwrap().sample(&mut self.random);
            self.drift[country] = self.drift[country] * (1.0 - 1.0 / 180.0) + step;
            let (more, pay) = match wrong {
                Some((which, more, pay)) if which == country => (more, pay),
                _ => (1.0, 1.0),
            };
            let mut rate = self.rate(country, minute) * self.drift[country].exp() * more;
            if self.dispersion > 0.0 {
                rate *= Gamma::new(1.0 / self.dispersion, self.dispersion).unwrap().sample(&mut self.random);
            }
            let visits = if rate > 1e-9 { Poisson::new(rate).unwrap().sample(&mut self.random) } else { 0.0 };
            let orders = Binomial::new(visits as u64, PAY * pay).unwrap().sample(&mut self.random);
            let amount = LogNormal::new(4.0, 0.55).unwrap();
            let revenue = (0..orders).map(|_| f64::round(amount.sample(&mut self.random) * 100.0) / 100.0).sum();
            if visits > 0.0 {
                self.frame.push(&[Some(self.countries[country].0.clone())], &[visits, orders as f64, revenue]);
            }
        }
        &self.frame
    }
}

fn metric(name: &str, formula: Formula) -> Metric {
    Metric { name: name.into(), formula, direction: Direction::Both, threshold: 4.0 }
}

fn suite(group_columns: usize, value_columns: usize, metrics: Vec<Metric>) -> RateSuite {
    let detector = DetectorConfig {
        group_columns,
        value_columns,
        slide_millis: MINUTE,
        metrics,
        rolls_up: true,
        series_max: 1_000,
    };
    RateSuite::new(RateConfig { detector, money: (value_columns > 2).then_some(2) }).unwrap()
}

fn shop_suite() -> RateSuite {
    let metrics = vec![
        metric("visits", Formula::Sum(0)),
        metric("orders", Formula::Sum(1)),
        metric("conversion", Formula::Ratio { numerator: 1, denominator: 0 }),
        metric("order value", Formula::Mean { amount: 2, count: 1 }),
        metric("revenue", Formula::Sum(2)),
    ];
    suite(1, 3, metrics)
}

const SIZES: [f64; 10] = [400.0, 250.0, 150.0, 100.0, 60.0, 30.0, 15.0, 6.0, 2.5, 1.0];

fn told(suite: &RateSuite, findings: &[Finding], minute: i64) {
    for finding in findings {
        let Reading { score, horizon, observed, expected, z_score, .. } = finding.reading;
        println!(
            "minute {minute} ({:.2} d) {:?} {} W {horizon} score {score:.2} z {z_score:.2}: {observed:.3} for {expected:.3}",
            minute as f64 / 1440.0,
            suite.group(finding.node),
            suite.config().detector.metrics[finding.metric].name,
        );
    }
}

fn quiet(seed: u64, dispersion: f64, from: i64, days: i64) -> usize {
    let (mut shop, mut suite, calendar) = (Shop::new(seed, &SIZES, dispersion), shop_suite(), Calendar::default());
    let mut findings = Vec::new();
    let mut all = 0;
    for minute in from..from + days * DAY {
        suite.observe(shop.window(minute, None), &calendar, &mut findings);
        if !findings.is_empty() {
            println!(
                "minute: seed {seed} country mean local {:?}",
                (0..10)
                    .map(|c| ((minute + shop.countries[c].2) as f64 / 1440.0, shop.rate(c, minute) as i32))
                    .collect::<Vec<_>>()
            );
        }
        told(&suite, &findings, minute - from);
        all += findings.len();
        findings.clear();
    }
    all
}

#[test]
#[ignore]
fn dev_quiet() {
    let mut total = vec![];
    for seed in 0..6 {
        let n = quiet(seed, [0.0, 0.005, 0.02][seed as usize % 3], (seed as i64) * 1700, 14);
        println!("seed {seed}: {n}");
        total.push(n);
    }
    println!("{total:?}");
}

#[test]
#[ignore]
fn dev_anomalies() {
    let mut missed = 0;
    let mut n = 0;
    for seed in 0..40u64 {
        let from = (seed as i64) * 397;
        for kind in 0..3 {
            for history in [40, 90, 200, 500, 1000, 1500, 2500] {
                let country = (seed as usize + kind) % 6;
                let mut shop = Shop::new(seed, &SIZES[..6], [0.0, 0.005, 0.02][seed as usize % 3]);
                let rate = shop.rate(country, from + history);
                if rate < 20.0 || (kind == 2 && rate * PAY < 20.0) {
                    continue;
                }
                let (mut suite, calendar) = (shop_suite(), Calendar::default());
                let mut findings = vec![];
                let wrong = [(country, 0.0, 1.0), (country, 5.0, 1.0), (country, 1.0, 0.0)][kind];
                for minute in from..from + history {
                    suite.observe(shop.window(minute, None), &calendar, &mut findings);
                }
                findings.clear();
                let mut at = None;
                for back in 0..5 {
                    suite.observe(shop.window(from + history + back, Some(wrong)), &calendar, &mut findings);
                    if !findings.is_empty() {
                        at = Some(back);
                        break;
                    }
                }
                n += 1;
                if at.is_none_or(|a| a > 1) {
                    missed += 1;
                    println!("seed {seed} kind {kind} history {history} rate {rate:.1}: {at:?}");
                }
            }
        }
    }
    println!("{missed} late of {n}");
}
