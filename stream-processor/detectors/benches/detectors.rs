//! Metric-windows judged a second on one core, and what a series holds in memory.
//!
//! `cargo bench -p sluice-detectors` measures; `cargo test --benches` runs the same tiny.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Poisson};
use sluice_detectors::{
    Calendar, CoverConfig, Detector, DetectorConfig, Direction, EwmaConfig, Formula, Frame, Method, Metric, PerSeries,
    RateConfig, RateSuite, ZScoreConfig,
};
use std::{env, sync::Arc, time::Instant};
use xxhash_rust::xxh3::Xxh3;

const WINDOW_MILLIS: i64 = 300_000;

fn main() {
    // Windows of five minutes: the large run is three weeks, so that every hour of the week is known.
    let (groups, windows) = if env::args().any(|a| a == "--bench") { (100, 6_048) } else { (5, 50) };
    let frames = frames(groups, windows);
    for (name, method, threshold) in [
        ("zscore", Method::ZScore(ZScoreConfig::default()), 4.0),
        ("ewma", Method::Ewma(EwmaConfig::default()), 4.0),
        ("cover", Method::Cover(CoverConfig::default()), 0.5),
    ] {
        measure(name, PerSeries::new(config(groups, threshold), method), &frames);
    }
    let detector = config(groups, 4.0);
    measure("rate", RateSuite::new(RateConfig { detector, money: None }).expect("sums and ratios"), &frames);

    // A whole funnel of a shop by country and category, minute by minute: what `pulse` and `checkout` are of.
    let (days, shop, crowd) = if env::args().any(|a| a == "--bench") { (4, 200, 10_000) } else { (1, 4, 20) };
    let suite = |groups| RateSuite::new(RateConfig { detector: funnel(groups), money: Some(6) }).expect("a funnel");
    measure("rate, funnel of 14 metrics", suite(shop), &funnel_frames(shop, 1_440 * days));
    let before = resident_bytes();
    let frames = funnel_frames(crowd, 60);
    let own = resident_bytes() - before;
    measure(&format!("rate, funnel, {crowd} groups"), suite(crowd), &frames);
    println!(
        "resident at the most: {} MB with it, its {} MB of input aside",
        (peak_bytes() - before - own) >> 20,
        own >> 20
    );
}

/// Seven columns of a shop, each a share of the one before.
fn funnel_frames(groups: usize, windows: usize) -> Vec<Frame> {
    let mut random = ChaCha8Rng::seed_from_u64(2);
    let names: Vec<_> = (0..groups)
        .map(|group| [Some(Arc::from(format!("{}", group % 20))), Some(Arc::from(format!("{}", group / 20)))])
        .collect();
    let frame_of = |window: usize| {
        let mut frame = Frame::new(2, 7);
        let start = window as i64 * 60_000;
        frame.clear(start, start + 60_000);
        for (group, name) in names.iter().enumerate() {
            let views: f64 = Poisson::new((group % 100 + 1) as f64).expect("a mean above 0").sample(&mut random);
            let steps = [1.0, 0.4, 0.09, 0.045, 0.03, 0.015];
            let mut row = steps.map(|share| (views * share).round()).to_vec();
            row.push(row[4] * 49.9);
            frame.push(name, &row);
        }
        frame
    };
    (0..windows).map(frame_of).collect()
}

fn funnel(groups: usize) -> DetectorConfig {
    let metric =
        |name: &str, formula| Metric { name: name.to_owned(), formula, direction: Direction::Both, threshold: 4.0 };
    let ratio = |numerator, denominator| Formula::Ratio { numerator, denominator };
    let mut metrics: Vec<Metric> = (0..7).map(|column| metric("sum", Formula::Sum(column))).collect();
    metrics.extend([(1, 0), (2, 1), (3, 2), (4, 3), (4, 0), (5, 3)].map(|(a, b)| metric("ratio", ratio(a, b))));
    metrics.push(metric("mean", Formula::Mean { amount: 6, count: 4 }));
    DetectorConfig {
        group_columns: 2,
        value_columns: 7,
        slide_millis: 60_000,
        metrics,
        rolls_up: true,
        series_max: groups,
    }
}

fn resident_bytes() -> usize {
    memory("VmRSS:")
}

fn peak_bytes() -> usize {
    memory("VmHWM:")
}

/// A line of the kernel's account of this process; 0 where there is none.
fn memory(line: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kilobytes = status.lines().find_map(|l| l.strip_prefix(line)?.split_whitespace().next()?.parse::<usize>().ok());
    kilobytes.unwrap_or(0) << 10
}

fn measure(name: &str, mut detector: impl Detector, frames: &[Frame]) {
    let (mut findings, mut told, mut result) = (Vec::new(), 0, Xxh3::new());
    let began = Instant::now();
    for frame in frames {
        detector.observe(frame, &Calendar::default(), &mut findings);
        for finding in findings.drain(..) {
            told += 1;
            result.update(&finding.node.to_le_bytes());
            result.update(&finding.reading.score.to_le_bytes());
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    let health = detector.health();
    let judged = health.series * frames.len();
    println!(
        "{name}: {judged} metric-windows in {seconds:.2} s: {:.2} million/s, {} bytes a series, {told} findings, result {:016x}",
        judged as f64 / seconds / 1e6,
        health.bytes / health.series.max(1),
        result.digest()
    );
}

/// Groups by two columns, and so with roll-ups, that sell from 1 to 100 a window, by day twice as much as by night.
fn frames(groups: usize, windows: usize) -> Vec<Frame> {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let names: Vec<_> = (0..groups)
        .map(|group| [Some(Arc::from(format!("{}", group % 10))), Some(Arc::from(format!("{}", group / 10)))])
        .collect();
    let mut frame_of = |window: usize| {
        let mut frame = Frame::new(2, 2);
        let start = window as i64 * WINDOW_MILLIS;
        frame.clear(start, start + WINDOW_MILLIS);
        let season = 1.5 + 0.5 * (start as f64 / 86_400_000.0 * std::f64::consts::TAU).sin();
        for (group, name) in names.iter().enumerate() {
            let usual = (group % 100 + 1) as f64 * season;
            let orders: f64 = Poisson::new(usual).expect("a mean above 0").sample(&mut random);
            frame.push(name, &[orders, (orders * 0.8).round()]);
        }
        frame
    };
    (0..windows).map(&mut frame_of).collect()
}

fn config(groups: usize, threshold: f64) -> DetectorConfig {
    let metric = |name: &str, formula| Metric { name: name.to_owned(), formula, direction: Direction::Both, threshold };
    DetectorConfig {
        group_columns: 2,
        value_columns: 2,
        slide_millis: WINDOW_MILLIS,
        metrics: vec![
            metric("orders", Formula::Sum(0)),
            metric("payrate", Formula::Ratio { numerator: 1, denominator: 0 }),
        ],
        rolls_up: true,
        series_max: groups,
    }
}
