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
        let start = millis(minute);
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

/// Minutes since Monday midnight UTC to milliseconds since 1970, which began on a Thursday.
fn millis(minute: i64) -> i64 {
    (minute + 4 * DAY) * MINUTE
}

/// Watches a shop from an empty start; what was told, and when.
fn watch(
    suite: &mut RateSuite,
    shop: &mut Shop,
    minutes: std::ops::Range<i64>,
    wrong: Option<Wrong>,
) -> Vec<(i64, Finding)> {
    let (calendar, mut findings, mut all) = (Calendar::default(), Vec::new(), Vec::new());
    for minute in minutes {
        suite.observe(shop.window(minute, wrong), &calendar, &mut findings);
        all.extend(findings.drain(..).map(|finding| (minute, finding)));
    }
    all
}

fn node_of(suite: &RateSuite, name: &str) -> NodeId {
    let group = [Member::Value(Some(name.into()))];
    suite.nodes().iter().find(|node| suite.group(*node) == group).expect("a series")
}

fn roll_up(suite: &RateSuite) -> NodeId {
    suite.nodes().iter().find(|node| !suite.nodes().children(*node).is_empty()).expect("a roll-up")
}

#[test]
fn two_weeks_from_an_empty_start_are_quiet() {
    let (seed, from) = (1, 1_700);
    let (mut shop, mut suite) = (Shop::new(seed, &SIZES, 0.005), shop_suite());
    let told = watch(&mut suite, &mut shop, from..from + 14 * DAY, None);
    let told = told.iter().map(|(minute, finding)| (minute - from, suite.group(finding.node), finding));
    let told: Vec<_> = told.collect();
    assert!(told.is_empty(), "SEED={seed}: {told:#?}");
}

#[test]
fn pages_that_one_visitor_turns_are_no_flood() {
    // A visitor turns a page every half a minute, eight on average: by night ten of them are a crowd.
    const PAGES: f64 = 8.0;
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let shop = Shop::new(3, &[60.0, 25.0, 10.0, 4.0], 0.0);
    let (mut here, mut frame) = (vec![0u64; 4], Frame::new(1, 1));
    let mut suite = suite(1, 1, vec![metric("views", Formula::Sum(0))]);
    let (calendar, mut findings, mut told, mut flood) = (Calendar::default(), Vec::new(), Vec::new(), None);
    let (end, began) = (14 * DAY, 13 * DAY + 1_200);
    for minute in 0..end {
        frame.clear(millis(minute), millis(minute) + MINUTE);
        for (country, here) in here.iter_mut().enumerate() {
            let more = if country == 1 && minute >= began { 3.0 } else { 1.0 };
            let come = Poisson::new(shop.rate(country, minute) * more / PAGES).unwrap().sample(&mut random) as u64;
            *here += come;
            let mut views = come;
            for _ in 0..2 {
                *here = Binomial::new(*here, 1.0 - 1.0 / PAGES).unwrap().sample(&mut random);
                views += *here;
            }
            if views > 0 {
                frame.push(&[Some(shop.countries[country].0.clone())], &[views as f64]);
            }
        }
        suite.observe(&frame, &calendar, &mut findings);
        for finding in findings.drain(..) {
            match minute < began {
                true => told.push((minute, finding)),
                false => flood = flood.or(Some(minute - began)),
            }
        }
    }
    assert_eq!(told, []);
    assert!(flood.is_some_and(|after| after < 15), "three times the visitors: {flood:?}");
}

#[test]
fn what_is_plainly_wrong_is_told_within_two_windows_from_an_empty_start() {
    let mut tried = 0;
    for seed in 0..24 {
        let (from, country) = (seed as i64 * 397, seed as usize % 6);
        for (kind, wrong) in [(country, 0.0, 1.0), (country, 5.0, 1.0), (country, 1.0, 0.0)].into_iter().enumerate() {
            let history = [40, 60, 200, 900][(seed as usize + kind) % 4];
            let mut shop = Shop::new(seed, &SIZES[..6], [0.0, 0.005, 0.02][seed as usize % 3]);
            let rate = shop.rate(country, from + history) * if kind == 2 { PAY } else { 1.0 };
            if rate < 20.0 {
                continue;
            }
            let mut suite = shop_suite();
            let before = watch(&mut suite, &mut shop, from..from + history, None);
            assert!(before.is_empty(), "SEED={seed} {kind}: {before:?}");
            let told = watch(&mut suite, &mut shop, from + history..from + history + 2, Some(wrong));
            assert!(!told.is_empty(), "SEED={seed} kind {kind} after {history} windows, {rate:.1} a window");
            tried += 1;
        }
    }
    assert!(tried > 20, "{tried}");
}

#[test]
fn an_outage_is_told_once_worth_its_money_and_over_when_it_is_over() {
    let (mut shop, mut suite) = (Shop::new(5, &SIZES[..4], 0.005), shop_suite());
    let noon = 3 * DAY + 700;
    assert_eq!(watch(&mut suite, &mut shop, 0..noon, None), []);
    let told = watch(&mut suite, &mut shop, noon..noon + 20, Some((1, 0.02, 1.0)));
    let country = node_of(&suite, "C1");
    let (_, first) = &told[0];
    assert!(
        told[0].0 <= noon + 1 && first.reading.unusual && first.reading.observed < first.reading.lower,
        "{first:?}"
    );
    assert!(first.reading.tail_probability < 1e-7 && first.reading.false_alarms_per_year < 1.0);
    let standing = suite.standing(country, 0).unwrap();
    assert!(standing.unusual && standing.z_score < -5.0, "silent or not: {standing:?}");
    let stake = suite.money_at_stake(country, 0, &standing).unwrap();
    let each = PAY * (4.0f64 + 0.55 * 0.55 / 2.0).exp();
    let expected = (standing.expected - standing.observed) * each;
    assert!((stake / expected - 1.0).abs() < 0.15, "{stake} for {expected}");
    let parts = suite.contributions(roll_up(&suite), 0, standing.horizon);
    let worst = parts.iter().max_by(|a, b| (a.expected - a.observed).total_cmp(&(b.expected - b.observed))).unwrap();
    assert_eq!((parts.len(), worst.node), (4, country));
    watch(&mut suite, &mut shop, noon + 20..noon + 36, None);
    let standing = suite.standing(country, 0).unwrap();
    assert!(!standing.unusual, "a quarter of an hour after it: {standing:?}");
    // The rate of orders and the order value are shown as such.
    let rate = suite.standing(country, 2).unwrap();
    assert!((rate.expected - PAY).abs() < 0.02 && rate.lower < rate.expected && rate.upper > rate.expected, "{rate:?}");
    let value = suite.standing(country, 3).unwrap();
    assert!((value.expected / each * PAY - 1.0).abs() < 0.05, "{value:?}");
}

#[test]
fn a_suite_saved_and_restored_goes_on_as_if_it_had_not_been() {
    let (mut shop, mut suite) = (Shop::new(9, &SIZES[..5], 0.01), shop_suite());
    watch(&mut suite, &mut shop, 0..400, None);
    watch(&mut suite, &mut shop, 400..405, Some((1, 0.3, 0.5)));
    let mut restored: RateSuite = postcard::from_bytes(&postcard::to_stdvec(&suite).unwrap()).unwrap();
    let (calendar, mut one, mut other, mut told) = (Calendar::default(), Vec::new(), Vec::new(), 0);
    for minute in 405..1_100 {
        let wrong = (minute % 200 > 190).then_some((0, 4.0, 1.0));
        let frame = shop.window(minute, wrong).clone();
        suite.observe(&frame, &calendar, &mut one);
        restored.observe(&frame, &calendar, &mut other);
        assert_eq!(one, other, "at {minute}");
        told += one.len();
        one.clear();
        other.clear();
    }
    assert!(told > 0);
    assert_eq!(postcard::to_stdvec(&suite).unwrap(), postcard::to_stdvec(&restored).unwrap());
}

#[test]
fn a_roll_up_expects_what_its_series_expect() {
    let (mut shop, mut suite) = (Shop::new(2, &SIZES[..5], 0.0), shop_suite());
    watch(&mut suite, &mut shop, 0..2_000, None);
    let all = roll_up(&suite);
    for metric in [2, 3] {
        for horizon in [1, 5, 15, 240] {
            let parts = suite.contributions(all, metric, horizon);
            let at = suite.horizons.list.iter().position(|known| known.windows == horizon).unwrap();
            let Some((observed, expected)) = suite.sums(all, metric, at) else { continue };
            let sum = |of: fn(&Contribution) -> f64| parts.iter().map(of).sum::<f64>();
            // A mean of fewer than three amounts has no reading, and is in the roll-up's nevertheless.
            let off = if metric == 2 { 1e-4 } else { 0.05 };
            assert!((sum(|part| part.observed) / observed - 1.0).abs() < off, "{metric} over {horizon}");
            assert!((sum(|part| part.expected) / expected - 1.0).abs() < off, "{metric} over {horizon}");
        }
    }
}

/// Frames of one column by one value each, of a single series "A".
fn feed(
    suite: &mut RateSuite,
    calendar: &Calendar,
    values: impl IntoIterator<Item = (i64, Vec<f64>)>,
) -> Vec<(i64, Finding)> {
    let (mut findings, mut all) = (Vec::new(), Vec::new());
    for (minute, values) in values {
        let mut frame = Frame::new(1, values.len());
        frame.clear(millis(minute), millis(minute + 1));
        frame.push(&[Some("A".into())], &values);
        suite.observe(&frame, calendar, &mut findings);
        all.extend(findings.drain(..).map(|finding| (minute, finding)));
    }
    all
}

#[test]
fn sparse_silent_null_and_negative_numbers_are_no_trouble() {
    let metrics = || {
        vec![
            metric("events", Formula::Sum(0)),
            metric("rate", Formula::Ratio { numerator: 1, denominator: 0 }),
            metric("value", Formula::Mean { amount: 2, count: 1 }),
            metric("money", Formula::Sum(2)),
        ]
    };
    let nothing = feed(&mut suite(1, 3, metrics()), &Calendar::default(), (0..3_000).map(|at| (at, vec![0.0; 3])));
    assert_eq!(nothing, []);
    let mut random = ChaCha8Rng::seed_from_u64(4);
    let few = Poisson::new(0.01).unwrap();
    let sparse = (0..6_000).map(|at| {
        let seen: f64 = few.sample(&mut random);
        (at, vec![seen, seen, seen * 30.5])
    });
    assert_eq!(feed(&mut suite(1, 3, metrics()), &Calendar::default(), sparse), []);
    let mut wild = suite(1, 3, metrics());
    let odd = |at: i64| match at % 5 {
        0 => vec![f64::NAN; 3],
        1 => vec![-5.0, 3.0, -80.0],
        2 => vec![1e300, 0.0, f64::INFINITY],
        3 => vec![0.0, 7.0, 1e-300],
        _ => vec![20.0, 6.0, 300.0],
    };
    for (_, finding) in feed(&mut wild, &Calendar::default(), (0..3_000).map(|at| (at, odd(at)))) {
        let Reading { observed, expected, lower, upper, score, z_score, .. } = finding.reading;
        assert!([observed, expected, lower, upper, score, z_score].iter().all(|x| !x.is_nan()), "{finding:?}");
    }
    let nulls = feed(&mut suite(1, 3, metrics()), &Calendar::default(), (0..500).map(|at| (at, vec![f64::NAN; 3])));
    assert_eq!(nulls, []);
}

#[test]
fn series_come_and_go() {
    let (calendar, mut findings) = (Calendar::default(), Vec::new());
    let mut suite = suite(2, 1, vec![metric("events", Formula::Sum(0))]);
    let mut random = ChaCha8Rng::seed_from_u64(8);
    let mut peak = 0;
    for hour in 0..(24 * 45) {
        // A frame an hour: the gaps are longer than what is taken for silence, so that sums begin anew again and again.
        let mut frame = Frame::new(2, 1);
        frame.clear(hour * 70 * MINUTE, (hour * 70 + 1) * MINUTE);
        for at in 0..4 {
            let group = [Some(format!("{}", (hour / 100 + at) % 9).into()), (at > 0).then(|| "x".into())];
            frame.push(&group, &[Poisson::new(30.0).unwrap().sample(&mut random)]);
        }
        suite.observe(&frame, &calendar, &mut findings);
        peak = peak.max(suite.nodes().iter().count());
    }
    let health = suite.health();
    assert!(health.series < peak, "{} of {peak} are left", health.series);
    assert_eq!((health.dropped, suite.kept.iter().flatten().count()), (0, health.series));
}

#[test]
fn the_hours_follow_the_clock_when_it_changes() {
    let offsets = vec![(0, 3_600_000), (millis(20 * DAY + 60), 7_200_000)];
    let clock = Clock { value: "A".into(), offsets };
    let calendar = Calendar::new(1, vec![], Some(0), vec![clock]).unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let rate = |at: i64| {
        let local = (at + 60 + if at >= 20 * DAY + 60 { 60 } else { 0 }).rem_euclid(DAY) as f64 / 60.0;
        30.0 + 270.0 * (-0.5 * ((local - 19.0) / 1.5f64).powi(2)).exp()
    };
    let mut draw = |at: i64| (at, vec![Poisson::new(rate(at)).unwrap().sample(&mut random)]);
    let mut suite = suite(1, 1, vec![metric("events", Formula::Sum(0))]);
    assert_eq!(feed(&mut suite, &calendar, (0..20 * DAY + 1_050).map(&mut draw)), []);
    let node = node_of(&suite, "A");
    for at in 20 * DAY + 1_050..20 * DAY + 1_110 {
        assert_eq!(feed(&mut suite, &calendar, [draw(at)]), []);
        let (_, expected) = suite.sums(node, 0, 0).unwrap();
        assert!((expected / rate(at) - 1.0).abs() < 0.1, "{expected} for {} at {at}", rate(at));
    }
}

#[test]
fn a_promotion_may_bring_more_but_not_nothing_and_is_not_learnt() {
    let (start, end) = (9 * DAY, 9 * DAY + 400);
    let promotion = Promotion { start: millis(start), end: millis(end), group: vec![Member::Value(Some("A".into()))] };
    let calendar = Calendar::new(1, vec![promotion], None, vec![]).unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let mut draw = |at: i64, factor: f64| (at, vec![Poisson::new(40.0 * factor).unwrap().sample(&mut random)]);
    let mut suite = suite(1, 1, vec![metric("events", Formula::Sum(0))]);
    assert_eq!(feed(&mut suite, &calendar, (0..start).map(|at| draw(at, 1.0))), []);
    assert_eq!(feed(&mut suite, &calendar, (start..start + 200).map(|at| draw(at, 3.0))), []);
    let node = node_of(&suite, "A");
    assert!((suite.sums(node, 0, 0).unwrap().1 / 40.0 - 1.0).abs() < 0.1, "it is not learnt");
    let none = (start + 200..start + 202).map(|at| (at, vec![0.0]));
    assert!(!feed(&mut suite, &calendar, none).is_empty(), "nothing at all is too little in a promotion too");
    feed(&mut suite, &calendar, (start + 202..end).map(|at| draw(at, 3.0)));
    assert_eq!(feed(&mut suite, &calendar, (end..end + 2 * DAY).map(|at| draw(at, 1.0))), []);
}

#[test]
fn a_lag_is_learnt_and_waited_for() {
    let ratio = metric("paid", Formula::Ratio { numerator: 1, denominator: 0 });
    let mut suite = suite(1, 2, vec![ratio]);
    let mut random = ChaCha8Rng::seed_from_u64(6);
    let mut tried = vec![0.0; 2_000];
    let mut windows = Vec::new();
    for at in 0..2_000usize {
        // An outage of what comes before is none of the rate.
        let rate = if (1_800..1_820).contains(&at) { 0.5 } else { 60.0 };
        tried[at] = Poisson::new(rate).unwrap().sample(&mut random);
        let before: f64 = if at < 7 { 0.0 } else { tried[at - 7] };
        windows
            .push((at as i64, vec![tried[at], Binomial::new(before as u64, 0.6).unwrap().sample(&mut random) as f64]));
    }
    assert_eq!(feed(&mut suite, &Calendar::default(), windows), []);
    let history: Vec<f32> = (0..32).map(|window| window as f32).collect();
    assert_eq!(suite.lags[0].led_by(&history, 31), 24.0, "seven windows before");
}

#[test]
fn windows_of_any_length_and_any_number_of_group_columns_are_watched() {
    let mut random = ChaCha8Rng::seed_from_u64(6);
    for (columns, slide) in [(0, 10_000), (1, 300_000), (3, 3_600_000), (0, 86_400_000)] {
        let detector = DetectorConfig {
            group_columns: columns,
            value_columns: 1,
            slide_millis: slide,
            metrics: vec![metric("events", Formula::Sum(0))],
            rolls_up: true,
            series_max: 10,
        };
        let mut suite = RateSuite::new(RateConfig { detector, money: None }).unwrap();
        let (mut findings, mut frame) = (Vec::new(), Frame::new(columns, 1));
        for at in 0..200 {
            frame.clear(at * slide, (at + 1) * slide);
            let seen = if at == 199 { 0.0 } else { Poisson::new(200.0).unwrap().sample(&mut random) };
            frame.push(&vec![Some("A".into()); columns], &[seen]);
            suite.observe(&frame, &Calendar::default(), &mut findings);
            assert!(findings.is_empty() || at == 199, "{columns} {slide} {at}: {findings:?}");
        }
        if slide == 10_000 {
            // The shortest horizon is a minute: one window without is not enough.
            continue;
        }
        assert!(!findings.is_empty(), "{columns} {slide}");
    }
}

#[test]
fn what_cannot_be_watched_is_told() {
    let refused = |formula, value_columns, slide_millis, threshold| {
        let metrics = vec![Metric { threshold, ..metric("m", formula) }];
        let detector =
            DetectorConfig { group_columns: 1, value_columns, slide_millis, metrics, rolls_up: true, series_max: 10 };
        RateSuite::new(RateConfig { detector, money: None }).unwrap_err()
    };
    let metric = || "m".to_owned();
    assert_eq!(refused(Formula::Level(0), 1, MINUTE, 4.0), RateError::Level { metric: metric() });
    let ratio = Formula::Ratio { numerator: 0, denominator: 2 };
    assert_eq!(refused(ratio, 2, MINUTE, 4.0), RateError::Column { metric: metric(), column: 2 });
    assert_eq!(refused(Formula::Sum(0), 1, 0, 4.0), RateError::Slide { slide_millis: 0 });
    assert_eq!(refused(Formula::Sum(0), 1, MINUTE, f64::NAN), RateError::Threshold { metric: metric() });
}
