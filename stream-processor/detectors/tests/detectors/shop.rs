//! A steady shop: every minute each of its groups sells at random around the same level.

use rand::{Rng, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Binomial, Distribution, Poisson};
use sluice_detectors::{DetectorConfig, Direction, Formula, Frame, Metric};
use std::sync::Arc;

pub const MINUTE_MILLIS: i64 = 60_000;
/// A Monday.
pub const OPENING: i64 = 1_704_067_200_000;
/// Orders of a group in a minute, on average.
pub const ORDERS: f64 = 200.0;

pub type Row = (Vec<Option<Arc<str>>>, Vec<f64>);

/// Rows with the columns orders, paid and amount; a day's noise is one seed's.
#[derive(Clone)]
pub struct Shop {
    random: ChaCha8Rng,
    groups: Vec<Vec<Option<Arc<str>>>>,
    minute: i64,
}

impl Shop {
    pub fn new(seed: u64, groups: &[&[&str]]) -> Self {
        let groups = groups.iter().map(|group| group.iter().map(|value| Some(Arc::from(*value))).collect()).collect();
        Self { random: ChaCha8Rng::seed_from_u64(seed), groups, minute: 0 }
    }

    /// Start and rows of the next minute.
    pub fn next_minute(&mut self) -> (i64, Vec<Row>) {
        let start = OPENING + self.minute * MINUTE_MILLIS;
        self.minute += 1;
        let orders = Poisson::new(ORDERS).expect("a mean above 0");
        let rows = self.groups.iter().map(|group| {
            let orders: f64 = orders.sample(&mut self.random);
            let paid = Binomial::new(orders as u64, 0.8).expect("a share").sample(&mut self.random) as f64;
            // Whole numbers add up the same in any order.
            let amount = (paid * self.random.random_range(45.0..55.0)).round();
            (group.clone(), vec![orders, paid, amount])
        });
        (start, rows.collect())
    }
}

/// What the suite watches: a count, a rate and a mean.
pub fn config(group_columns: usize) -> DetectorConfig {
    let metric = |name: &str, formula| Metric {
        name: name.to_owned(),
        formula,
        direction: Direction::Both,
        threshold: f64::NAN,
    };
    DetectorConfig {
        group_columns,
        value_columns: 3,
        slide_millis: MINUTE_MILLIS,
        metrics: vec![
            metric("orders", Formula::Sum(0)),
            metric("payrate", Formula::Ratio { numerator: 1, denominator: 0 }),
            metric("basket", Formula::Mean { amount: 2, count: 1 }),
        ],
        rolls_up: true,
        series_max: 100,
    }
}

/// The rows of a minute as a frame.
pub fn frame((start, rows): &(i64, Vec<Row>)) -> Frame {
    let (groups, values) = rows.first().map_or((1, 3), |(group, values)| (group.len(), values.len()));
    let mut frame = Frame::new(groups, values);
    frame.clear(*start, start + MINUTE_MILLIS);
    rows.iter().for_each(|(group, values)| frame.push(group, values));
    frame
}

/// The same rows in another order.
pub fn shuffled((start, rows): &(i64, Vec<Row>), random: &mut ChaCha8Rng) -> (i64, Vec<Row>) {
    let mut rows = rows.clone();
    rows.shuffle(random);
    (*start, rows)
}
