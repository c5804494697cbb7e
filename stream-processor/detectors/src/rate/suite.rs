//! A window's way: expected of every series, added up in roll-ups, judged, told, learnt.

use super::clumps::Clumps;
use super::dispersion::{Assumed, Unit};
use super::horizons::{Horizon, Horizons, Place};
use super::lag::{LAG_MAX, Lag};
use super::node::{Layout, Node, Stream};
use super::pace::Pace;
use super::profile::Civil;
use super::span::{Law, Span, Tolerance, score};
use super::suppression::{Candidate, Stamp};
use super::tail::{log10_chance, z_of};
use crate::{
    Calendar, Contribution, Detector, DetectorConfig, Direction, Finding, Formula, Frame, Health, Member, NodeId,
    Nodes, Reading,
};
use serde::{Deserialize, Serialize};

/// What the rate suite watches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RateConfig {
    /// The model and its metrics: sums, ratios and means. A threshold of 4 means one false alarm in 10^4 days of one test.
    pub detector: DetectorConfig,
    /// The value column that is money, for what a deviation is worth; none: nothing is.
    pub money: Option<usize>,
}

/// Why a configuration cannot be watched. All of these are mistakes in what was configured.
#[derive(Clone, Debug, PartialEq)]
pub enum RateError {
    /// A level adds up to nothing and has no rate: another detector is for it.
    Level {
        /// The metric's name.
        metric: String,
    },
    /// A metric, or the money, names a value column that there is not.
    Column {
        /// The metric's name, or `money`.
        metric: String,
        /// The column.
        column: usize,
    },
    /// Windows without length.
    Slide {
        /// What was given.
        slide_millis: i64,
    },
    /// A threshold that is no number of at least 0.
    Threshold {
        /// The metric's name.
        metric: String,
    },
}

impl std::fmt::Display for RateError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Level { metric } => write!(f, "{metric} is a level: the rate suite watches sums, ratios and means"),
            Self::Column { metric, column } => write!(f, "{metric} is of value column {column}, which there is not"),
            Self::Slide { slide_millis } => write!(f, "windows that begin every {slide_millis} ms"),
            Self::Threshold { metric } => write!(f, "the threshold of {metric} is no number of at least 0"),
        }
    }
}

impl std::error::Error for RateError {}

/// Watches sums, ratios and means of all series of a model and their roll-ups.
///
/// A series is judged from its 30th window on. Until its hours of day are known, it is measured by its own last minutes,
/// and given room for a steep day; until its days of the week are known, for how they differ. A null is 0; a group that
/// is not in a frame had nothing. Frames that are missing between two are windows in which nobody had anything, when they
/// are 60 at most; after a longer gap all sums begin anew. A frame that is not later than the last is left aside.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RateSuite {
    // Settings.
    config: RateConfig,
    horizons: Horizons,
    layout: Layout,
    pace: Pace,
    /// For each metric and horizon the z at which its threshold is reached.
    limits: Vec<f64>,
    // Saved.
    nodes: Nodes,
    kept: Vec<Option<Box<Node>>>,
    lags: Vec<Lag>,
    /// Of each metric, of all series: above and below the line.
    pooled: Vec<(f64, f64)>,
    /// Of each metric and horizon: squares of errors by expectation, and of how many.
    parts: Vec<(f32, f32)>,
    /// Of each metric, what a unit of money is for all series together.
    units: Vec<Unit>,
    /// Kinds of nodes, as which group columns they roll up, and how their events come together.
    kinds: Vec<Vec<bool>>,
    clumps: Clumps,
    /// Whether all of a column were whole numbers so far.
    is_count: Vec<bool>,
    /// Whether among them were single events of a column.
    are_single: Vec<bool>,
    /// Windows seen.
    window: u32,
    last_start: Option<i64>,
    dropped: usize,
    // Live: of one window only.
    #[serde(skip)]
    live: Live,
}

#[derive(Clone, Debug, Default)]
struct Live {
    is_indexed: bool,
    /// By node and value column.
    columns: Vec<f64>,
    /// By node and metric.
    now: Vec<Now>,
    candidates: Vec<Candidate>,
    place: Place,
}

/// A number in the newest window.
#[derive(Clone, Copy, Debug, Default)]
struct Now {
    observed: f64,
    expected: f64,
    /// Expected times what it is unsure by.
    unsure: f64,
    /// Below the line.
    below: f64,
    /// Sum of the squares of what is expected of the series; of a mean, by the squares of the single amounts.
    square: f64,
    /// Expected times what a unit of it is.
    sized: f64,
}

impl Now {
    fn add(&mut self, other: &Self) {
        self.observed += other.observed;
        self.expected += other.expected;
        self.unsure += other.unsure;
        self.below += other.below;
        self.square += other.square;
        self.sized += other.sized;
    }
}

/// How far off, as a logarithm, the last minutes may be as the next one's expectation: a day that rises tenfold in six
/// hours rises by a third in one.
const COLD: f64 = 0.17;
/// By how much a rate may change with the hour of day, before it is known; logarithm.
const COLD_RATE: f64 = 0.06;
/// How fast a day may run away from what is not learnt meanwhile: logarithm in an hour.
const STALE_IN_HOUR: f32 = 0.45;
/// Dispersion to start from, by horizon: of sums, and of rates and means.
const ASSUMED: [f32; 7] = [0.02, 0.015, 0.012, 0.01, 0.008, 0.006, 0.004];
const ASSUMED_RATE: f32 = 0.002;
/// Events that are too few to be too many.
const UP_FROM: f64 = 6.0;
/// Amounts, about, that are too few to be too much: a single one may be large.
const UP_FROM_AMOUNTS: f64 = 12.0;
/// What is too little of a count in a promotion, and how far off a quotient may be.
const PROMOTED_LEAST: f64 = 0.7;
const PROMOTED_RATE: f64 = 1.4;
/// Minutes for which a promotion has an effect after it.
const PROMOTION_AFTER: i64 = 45;
/// Events of evidence that the level of the last hour has to have against none.
const FAST_PRIOR: f64 = 150.0;
/// Share of a roll-up's expectation from which on a series' deviation is the roll-up's too.
const FELT: f64 = 0.05;
/// How far series scatter together rather than each alone, as a share: what the excess of a roll-up does not lose when
/// it is spread over many.
const TOGETHER: f64 = 0.05;
/// Degrees of freedom that an amount is worth: single ones are far larger than usual now and then.
const AMOUNT_DEGREES: f64 = 1.0;
/// Amounts that a mean is of at least.
const AMOUNTS_LEAST: f64 = 3.0;
/// Variance of the logarithm of an amount to start from, and in how many windows' weight.
const SPREAD: (f64, f64) = (0.5, 20.0);
/// How far off, as a share, a number is learnt for the time of day while something is wrong: an hour that is expected
/// wrongly and therefore unusual day after day could not be learnt otherwise.
const FAR_IN_FREEZE: f64 = 0.15;
/// No number is taken for larger: its squares have to be added up.
const LARGEST: f64 = 1e12;
/// How unsure a mean may be of itself to be judged: of some two dozen orders or more.
const MEAN_UNSURE_MOST: f64 = 0.15;
/// Orders that the first guess at a mean value is worth: it may be several times too high or too low.
const FIRST_AMOUNTS: f64 = 0.25;
/// Windows that may be missing between two.
const GAP_MAX: i64 = 60;
/// Hours in which a series is young: each hour of day was seen three times.
const YOUNG_HOURS: f32 = 72.0;
/// Days after which a group that is not seen is forgotten.
const FORGET_DAYS: i64 = 35;

impl RateSuite {
    /// Has seen nothing yet.
    ///
    /// # Errors
    /// When a metric is a level or names a column that there is not, or windows have no length.
    pub fn new(config: RateConfig) -> Result<Self, RateError> {
        let DetectorConfig { group_columns, value_columns, slide_millis, ref metrics, rolls_up, series_max } =
            config.detector;
        if slide_millis <= 0 {
            return Err(RateError::Slide { slide_millis });
        }
        let known = |metric: &str, column: usize| match column < value_columns {
            true => Ok(()),
            false => Err(RateError::Column { metric: metric.to_owned(), column }),
        };
        for metric in metrics {
            let [first, second] = metric.formula.columns();
            match metric.formula {
                Formula::Level(_) => return Err(RateError::Level { metric: metric.name.clone() }),
                _ => [first, second].into_iter().try_for_each(|column| known(&metric.name, column))?,
            }
            if !(metric.threshold >= 0.0 && metric.threshold.is_finite()) {
                return Err(RateError::Threshold { metric: metric.name.clone() });
            }
        }
        if let Some(column) = config.money {
            known("money", column)?;
        }
        let horizons = Horizons::new(slide_millis);
        let limit = |threshold: f64, horizon: &Horizon| z_of(-threshold - horizon.log10_tests);
        let all = metrics.iter().flat_map(|m| horizons.list.iter().map(move |h| limit(m.threshold, h)));
        let limits = all.collect();
        Ok(Self {
            layout: Layout::new(metrics, value_columns, &horizons),
            pace: Pace::new(slide_millis, &horizons),
            limits,
            nodes: Nodes::new(group_columns, series_max, rolls_up),
            kept: Vec::new(),
            lags: metrics.iter().map(|_| Lag::new()).collect(),
            pooled: vec![(0.0, 0.0); metrics.len()],
            parts: vec![(0.0, 0.0); metrics.len() * horizons.list.len()],
            units: vec![Unit::default(); metrics.len()],
            kinds: Vec::new(),
            clumps: Clumps::default(),
            is_count: vec![true; value_columns],
            are_single: vec![false; value_columns],
            window: 0,
            last_start: None,
            dropped: 0,
            live: Live::default(),
            horizons,
            config,
        })
    }

    /// What it watches.
    pub fn config(&self) -> &RateConfig {
        &self.config
    }

    /// The series and roll-ups.
    pub fn nodes(&self) -> &Nodes {
        &self.nodes
    }

    /// Money that a deviation in the newest window is about: by how much observed and expected differ over the reading's
    /// horizon, in units of the metric's numerator, times what such a unit comes with in money these days. Of a mean: the
    /// difference of the amounts. None without a money column, or before any unit was seen.
    pub fn money_at_stake(&self, node: NodeId, metric: usize, reading: &Reading) -> Option<f64> {
        let money = self.config.money?;
        let horizon = self.horizons.list.iter().position(|horizon| horizon.windows == reading.horizon)?;
        let (observed, expected) = self.sums(node, metric, horizon)?;
        let off = (observed - expected).abs();
        let [numerator, _] = self.config.detector.metrics[metric].formula.columns();
        if numerator == money || matches!(self.config.detector.metrics[metric].formula, Formula::Mean { .. }) {
            return Some(off);
        }
        let sums = &self.kept[node as usize].as_ref()?.money;
        (sums[numerator] > 0.0).then(|| off * f64::from(sums[money] / sums[numerator]).max(0.0))
    }

    fn metrics(&self) -> usize {
        self.config.detector.metrics.len()
    }

    fn node(&self, node: NodeId) -> Option<&Node> {
        self.kept.get(node as usize)?.as_deref()
    }

    /// Number of the newest window.
    fn newest(&self) -> Option<u32> {
        self.window.checked_sub(1)
    }

    /// Observed and expected of a node over a horizon up to the newest window, above the line.
    fn sums(&self, node: NodeId, metric: usize, horizon: usize) -> Option<(f64, f64)> {
        let (kept, window) = (self.node(node)?, self.newest()?);
        let span = self.span(kept, metric, &self.horizons.list[horizon], horizon, window)?;
        Some((span.1, span.0.expected))
    }

    /// The test of a number over a horizon, and its value; none where there is nothing to judge.
    #[inline]
    fn span(&self, node: &Node, metric: usize, horizon: &Horizon, at: usize, window: u32) -> Option<(Span, f64)> {
        let sum = |which| self.horizons.sum(&node.cells[self.layout.lane(metric, which)], horizon, window);
        let observed = sum(0);
        Some((self.span_of(node, metric, horizon, at, window, sum(1))?, observed))
    }

    /// The same, when it is known what is expected before the level of the last hour.
    #[inline]
    fn span_of(
        &self,
        node: &Node,
        metric: usize,
        horizon: &Horizon,
        at: usize,
        window: u32,
        expected: f64,
    ) -> Option<Span> {
        let stream = &node.streams[metric];
        let unsure = f64::from(if horizon.is_short() { stream.unsure } else { 2.0 * stream.unsure_long });
        let count = self.horizons.list.len();
        let formula = self.config.detector.metrics[metric].formula;
        let assumed = assumed(formula, horizon, at);
        let spread_out = f64::from(stream.concentration);
        let mut a = node.dispersions[metric * count + at].excess(assumed) * spread_out + unsure * unsure;
        let mut span = Span {
            law: Law::Sum { size: 1.0, size_up: 1.0, a },
            expected,
            or_expected: None,
            tolerance: Tolerance::NONE,
            up_from: UP_FROM,
        };
        let promotions = if window < node.promoted_until { i32::from(node.promotions) } else { 0 };
        match formula {
            Formula::Sum(column) => {
                let size = self.size(node.kind, stream, metric, column, at);
                if let Some(hour) = self.horizons.list.iter().position(|h| !h.is_short()).filter(|_| horizon.is_short())
                {
                    // The level of the last hour is not what it was when it was learnt last.
                    let without = node.dispersions[metric * count + hour].excess(Assumed::lightly(ASSUMED[hour]));
                    a += f64::from(node.unlearnt * node.unlearnt) * without * spread_out;
                }
                let size_up = match self.is_count(stream, column) {
                    true => self.clumps.most(&self.layout, metric, at),
                    false => size,
                };
                span.law = Law::Sum { size, size_up, a };
                if !self.is_count[column] && !self.units[metric].is_known() {
                    return None;
                }
                let few = if self.is_count(stream, column) { UP_FROM } else { UP_FROM_AMOUNTS };
                span.up_from = few * f64::from(stream.lump);
                if horizon.is_short() {
                    let back = (horizon.windows - 1).min(window - node.born);
                    span.expected *= self.level_before(node, metric, window - back);
                } else if horizon.minutes <= 60.0 && self.pace.fast.is_some() {
                    span.or_expected = Some(expected * fast(stream));
                }
                if promotions > 0 {
                    span.tolerance = Tolerance { down: PROMOTED_LEAST, up: f64::INFINITY };
                }
            }
            Formula::Ratio { .. } => {
                let (squares, of) = self.parts[metric * count + at];
                let part = f64::from((squares + 200.0) / (of + 200.0)).clamp(0.15, 1.5);
                span.law = Law::Share { part, a };
                if promotions > 0 {
                    span.tolerance = tolerated(f64::from(stream.shown.0 / stream.shown.1), promotions);
                }
            }
            Formula::Mean { .. } => {
                // A mean of a few orders says little of the next one.
                if f64::from(stream.unsure) > MEAN_UNSURE_MOST {
                    return None;
                }
                let lane = &node.cells[self.layout.lane(metric, 2)];
                let squares = self.horizons.sum(lane, horizon, window);
                let own = spread(stream) * squares / (expected * expected);
                let size = self.clumps.size((&self.layout, node.kind, metric, at));
                if squares <= 0.0 || expected * expected < AMOUNTS_LEAST * size * squares {
                    return None;
                }
                let degrees = AMOUNT_DEGREES * expected * expected / (squares * size);
                span.law = Law::Amount { own: own * size, more: a, degrees };
                span.up_from = 0.0;
                if promotions > 0 {
                    let factor = PROMOTED_RATE.powi(promotions);
                    span.tolerance = Tolerance { down: 1.0 / factor, up: factor };
                }
            }
            Formula::Level(_) => return None,
        }
        Some(span)
    }

    /// Whether a sum counts events.
    fn is_count(&self, stream: &Stream, column: usize) -> bool {
        self.is_count[column] && stream.size <= 1.0
    }

    /// What comes at once in a sum over a horizon: an amount of money, or events that come together.
    #[inline]
    fn size(&self, kind: u16, stream: &Stream, metric: usize, column: usize, at: usize) -> f64 {
        match self.is_count(stream, column) {
            true => self.clumps.size((&self.layout, kind, metric, at)),
            false => f64::from(stream.size),
        }
    }

    /// The level of the last hour before a window.
    #[inline]
    fn level_before(&self, node: &Node, metric: usize, window: u32) -> f64 {
        let from = self.layout.lane(metric, 2).start;
        node.cells[from + window as usize % super::horizons::SINGLE].into()
    }

    /// The reading of a test.
    fn reading(&self, node: &Node, metric: usize, at: usize, span: &Span, observed: f64) -> Reading {
        let horizon = &self.horizons.list[at];
        let z = span.z(observed);
        let score = score(z, horizon.log10_tests);
        let watched = &self.config.detector.metrics[metric];
        let (mut lower, mut upper) = span.bounds(self.limits[metric * self.horizons.list.len() + at]);
        match watched.direction {
            Direction::Up => lower = f64::NEG_INFINITY,
            Direction::Down => upper = f64::INFINITY,
            Direction::Both => {}
        }
        // A quotient is shown as such: what is above the line by what it is expected of.
        let shown = node.streams[metric].shown;
        let one = match watched.formula {
            Formula::Sum(_) | Formula::Level(_) => 1.0,
            _ if shown.1 > 0.0 && span.expected > 0.0 => f64::from(shown.0 / shown.1) / span.expected,
            _ => 0.0,
        };
        let show = |x: f64| if x.is_finite() { x * one } else { x };
        Reading {
            observed: show(observed),
            expected: show(span.expected),
            lower: show(lower),
            upper: show(upper),
            score,
            z_score: z,
            tail_probability: 10f64.powf(log10_chance(z)),
            false_alarms_per_year: 365.0 * 10f64.powf(-score) * self.horizons.list.len() as f64,
            weight: if one > 0.0 { 1.0 / one } else { 1.0 },
            horizon: horizon.windows,
            unusual: counts(watched.direction, z) && score >= watched.threshold,
        }
    }

    /// Takes a window; `frame` is none for one that is missing.
    fn window(
        &mut self,
        start: i64,
        end: i64,
        frame: Option<&Frame>,
        calendar: &Calendar,
        findings: &mut Vec<Finding>,
    ) {
        let mut live = std::mem::take(&mut self.live);
        if !live.is_indexed {
            self.nodes.reindex();
            live.is_indexed = true;
        }
        let window = self.window;
        let day = |millis: i64| millis.div_euclid(86_400_000);
        if self.last_start.is_some_and(|last| day(last) < day(start)) {
            for node in self.nodes.forget_before(start - FORGET_DAYS * 86_400_000) {
                self.kept[node as usize] = None;
            }
        }
        self.fill(frame, start, &mut live);
        self.expect_series(start, end, calendar, &mut live);
        self.roll_up(&mut live);
        live.candidates.clear();
        live.place = self.horizons.place(window);
        for node in 0..self.kept.len() {
            if let Some(mut kept) = self.kept[node].take() {
                self.pass(node as NodeId, &mut kept, &mut live, start, end, calendar);
                self.kept[node] = Some(kept);
            }
        }
        self.window += 1;
        if window % 16 == 15 && (window < 2_000 || window % 256 == 255) {
            self.lags.iter_mut().for_each(Lag::settle);
        }
        self.tell(&mut live, findings);
        self.live = live;
    }

    /// Puts the rows of a frame where their nodes' are.
    fn fill(&mut self, frame: Option<&Frame>, start: i64, live: &mut Live) {
        let columns = self.config.detector.value_columns;
        live.columns.clear();
        live.columns.resize(self.nodes.len() * columns, 0.0);
        self.dropped = 0;
        for (group, values) in frame.into_iter().flat_map(Frame::rows) {
            let Some(node) = self.nodes.of(group, start) else {
                self.dropped += 1;
                continue;
            };
            if self.nodes.len() > self.kept.len() || self.kept[node as usize].is_none() {
                self.welcome(node);
                live.columns.resize(self.nodes.len() * columns, 0.0);
            }
            let into = &mut live.columns[node as usize * columns..][..columns];
            let kinds = self.is_count.iter_mut().zip(&mut self.are_single);
            for ((into, value), (is_count, is_single)) in into.iter_mut().zip(values).zip(kinds) {
                if value.is_finite() {
                    *into = (*into + value).clamp(-LARGEST, LARGEST);
                    *is_count &= value.fract() == 0.0;
                    *is_single |= *value == 1.0;
                }
            }
        }
    }

    /// Makes what is kept of a new series and of roll-ups that are new with it.
    fn welcome(&mut self, series: NodeId) {
        self.kept.resize_with(self.nodes.len(), || None);
        let money = self.config.money.map_or(0, |_| self.config.detector.value_columns);
        let (layout, window, kinds) = (&self.layout, self.window, &mut self.kinds);
        let mut new = |node: NodeId, is_leaf| {
            let rolled_up: Vec<bool> = self.nodes.group(node).iter().map(|member| *member == Member::All).collect();
            let kind = kinds.iter().position(|kind| *kind == rolled_up).unwrap_or_else(|| {
                kinds.push(rolled_up);
                kinds.len() - 1
            });
            self.clumps.welcome(layout, kind as u16);
            Some(Box::new(Node::new(layout, window, kind as u16, is_leaf, money)))
        };
        self.kept[series as usize] = new(series, true);
        for parent in self.nodes.parents(series) {
            if self.kept[*parent as usize].is_none() {
                self.kept[*parent as usize] = new(*parent, false);
            }
        }
    }

    /// What every series should have had in this window.
    fn expect_series(&mut self, start: i64, end: i64, calendar: &Calendar, live: &mut Live) {
        let (metrics, columns, window) = (self.metrics(), self.config.detector.value_columns, self.window);
        live.now.clear();
        live.now.resize(self.kept.len() * metrics, Now::default());
        let after = PROMOTION_AFTER * 60_000;
        let active: Vec<_> = calendar.promotions_in(start - after, end).collect();
        for (id, kept) in self.kept.iter_mut().enumerate() {
            let Some(node) = kept else { continue };
            let Some(leaf) = node.leaf.as_deref_mut() else { continue };
            let group = self.nodes.group(id as NodeId);
            node.promotions = active.iter().filter(|promotion| promotion.covers(group)).count().min(9) as u8;
            if node.promotions > 0 {
                node.promoted_until = window + 1;
            }
            let at = Civil::of(start, end, calendar.offset_at(group, start));
            let values = &live.columns[id * columns..][..columns];
            for (column, place) in self.layout.histories.iter().enumerate() {
                if let Some(place) = place {
                    leaf.histories[place * (LAG_MAX + 1) + window as usize % (LAG_MAX + 1)] = values[column] as f32;
                }
            }
            let is_new_day = (window - node.born) as f32 * self.pace.hours_in_window < 24.0;
            let local_weight = f64::from(leaf.local[columns]).max(1.0);
            let place = &self.layout.place;
            let now = &mut live.now[id * metrics..][..metrics];
            for (metric, now) in now.iter_mut().enumerate() {
                match self.config.detector.metrics[metric].formula {
                    Formula::Sum(column) => {
                        let shape = leaf.profiles[place[metric]].shape(at, self.pace.hour_windows);
                        let local = f64::from(leaf.local[column]).max(0.0);
                        let Stream { size, lump, .. } = node.streams[metric];
                        let (size, lump) = (f64::from(size), f64::from(lump));
                        let unknown = 1.0 - shape.known;
                        let last = COLD * COLD + lump / (local + lump) + f64::from(leaf.stale * leaf.stale);
                        let week = shape.known * shape.unsure;
                        now.observed = values[column];
                        now.expected = shape.known * shape.expected + unknown * local / local_weight;
                        now.square = now.expected * now.expected;
                        now.sized = now.expected * size;
                        now.unsure = now.expected * (unknown * unknown * last + week * week).sqrt();
                    }
                    Formula::Ratio { numerator, denominator } => {
                        let history = self.layout.histories[denominator].expect("kept for whatever is below a line");
                        let history = &leaf.histories[history * (LAG_MAX + 1)..][..LAG_MAX + 1];
                        let (above, below) = self.pooled[metric];
                        let others = if below > 0.0 { above / below } else { 0.0 };
                        let quotient = &leaf.quotients[place[metric]];
                        let lag = &self.lags[metric];
                        now.observed = values[numerator];
                        now.below = lag.led_by(history, window).max(0.0);
                        let rate = quotient.expected(at, quotient.rate(others), 1.0);
                        now.expected = now.below * rate;
                        let cold =
                            if is_new_day { COLD_RATE } else { 0.0 } + if lag.is_known() { 0.0 } else { COLD_RATE };
                        // A share that is nearly all moves less than one that is nearly none.
                        let cold = cold * (1.0 - rate).max(0.3);
                        now.unsure = now.expected * (cold * cold + 1.0 / (quotient.seen().0 + 5.0)).sqrt();
                    }
                    Formula::Mean { amount, count } => {
                        let quotient = &leaf.quotients[place[metric]];
                        let (above, below) = self.pooled[metric];
                        let others = if below > 0.0 { above / below } else { 0.0 };
                        let overall = quotient.mean(others);
                        let mean = quotient.expected(at, overall, overall).max(0.0);
                        now.observed = values[amount];
                        now.below = values[count].max(0.0);
                        now.expected = now.below * mean;
                        now.square = now.below * mean * mean;
                        let cold = if is_new_day { COLD_RATE } else { 0.0 };
                        now.unsure =
                            now.expected * (cold * cold + SPREAD.0 / (quotient.seen().1 + FIRST_AMOUNTS)).sqrt();
                    }
                    Formula::Level(_) => {}
                }
            }
        }
    }

    /// Adds up series in their roll-ups: those that are known and in no promotion.
    fn roll_up(&self, live: &mut Live) {
        let (metrics, columns) = (self.metrics(), self.config.detector.value_columns);
        for (id, kept) in self.kept.iter().enumerate() {
            let Some(node) = kept.as_deref().filter(|node| node.leaf.is_some()) else { continue };
            if self.window < node.promoted_until || !node.is_warm(self.window) {
                continue;
            }
            for parent in self.nodes.parents(id as NodeId) {
                let parent = *parent as usize;
                let [into, from] = live
                    .now
                    .get_disjoint_mut([parent * metrics..(parent + 1) * metrics, id * metrics..(id + 1) * metrics])
                    .expect("a roll-up is not its own series");
                into.iter_mut().zip(from).for_each(|(into, from)| into.add(from));
                if self.config.money.is_some() {
                    for column in 0..columns {
                        live.columns[parent * columns + column] += live.columns[id * columns + column];
                    }
                }
            }
        }
    }

    /// Puts the window into a node's sums, judges them, and learns.
    fn pass(&mut self, id: NodeId, node: &mut Node, live: &mut Live, start: i64, end: i64, calendar: &Calendar) {
        let (metrics, columns, window) = (self.metrics(), self.config.detector.value_columns, self.window);
        let now = &live.now[id as usize * metrics..][..metrics];
        let place = live.place;
        let is_promoted = window < node.promoted_until;
        for (metric, now) in now.iter().enumerate() {
            self.push(node, metric, now, &place, !is_promoted);
        }
        let first = live.candidates.len();
        if node.is_warm(window) {
            for metric in 0..metrics {
                live.candidates.extend(self.judge(id, node, metric, &place));
            }
        }
        for at in first..live.candidates.len() {
            self.freeze(node, live.candidates[at].metric, window);
        }
        let is_frozen = node.freeze.holds(window);
        let keep = self.pace.fast.unwrap_or(0.0);
        node.unlearnt =
            if is_frozen || is_promoted { 1.0 - (1.0 - node.unlearnt) * keep } else { node.unlearnt * keep };
        if !is_frozen && !is_promoted {
            for (metric, now) in now.iter().enumerate() {
                self.learn_scatter(node, metric, now, &place);
            }
        } else if let Some(keep) = self.pace.fast.filter(|_| is_promoted) {
            for stream in &mut node.streams {
                stream.fast = (stream.fast.0 * keep, stream.fast.1 * keep);
            }
        }
        let values = &live.columns[id as usize * columns..][..columns];
        if !is_frozen && !is_promoted {
            for (sum, value) in node.money.iter_mut().zip(values) {
                *sum = *sum * self.pace.amounts + *value as f32;
            }
        }
        let at = Civil::of(start, end, calendar.offset_at(self.nodes.group(id), start));
        self.learn_series(node, now, values, at, is_frozen, is_promoted);
    }

    fn push(&self, node: &mut Node, metric: usize, now: &Now, place: &Place, is_kept: bool) {
        let window = self.window;
        let stream = &mut node.streams[metric];
        let whole = now.expected * now.expected;
        let is_sum = matches!(self.config.detector.metrics[metric].formula, Formula::Sum(_));
        if is_sum && node.leaf.is_none() && now.expected > 0.0 {
            stream.size = (now.sized / now.expected) as f32;
        }
        let one = if is_sum && whole > 0.0 { now.square / whole } else { 1.0 };
        stream.concentration = ((one + TOGETHER) / (1.0 + TOGETHER)) as f32;
        // Where nothing is expected nothing is known of how sure it is.
        let unsure = if now.expected > 0.0 { (now.unsure / now.expected) as f32 } else { stream.unsure };
        stream.unsure = unsure;
        stream.unsure_long = unsure.max(stream.unsure_long * self.pace.unsure);
        let lane = |which| self.layout.lane(metric, which);
        self.horizons.push(&mut node.cells[lane(0)], place, now.observed as f32, is_kept);
        self.horizons.push(&mut node.cells[lane(1)], place, now.expected as f32, is_kept);
        match self.config.detector.metrics[metric].formula {
            Formula::Sum(column) => {
                stream.lump = self.size(node.kind, stream, metric, column, self.horizons.about_an_hour()) as f32;
                let level = match self.pace.fast {
                    Some(_) => fast(stream),
                    None => 1.0,
                };
                node.cells[lane(2).start + window as usize % super::horizons::SINGLE] = level as f32;
            }
            Formula::Mean { .. } => self.horizons.push(&mut node.cells[lane(2)], place, now.square as f32, is_kept),
            _ => {}
        }
        if !matches!(self.config.detector.metrics[metric].formula, Formula::Sum(_)) {
            let keep = self.pace.local;
            stream.shown.0 = stream.shown.0 * keep + now.expected as f32;
            stream.shown.1 = stream.shown.1 * keep + now.below as f32;
        }
    }

    /// The most unusual horizon of a number, when it is unusual.
    fn judge(&self, id: NodeId, node: &Node, metric: usize, place: &Place) -> Option<Candidate> {
        let window = self.window;
        let watched = &self.config.detector.metrics[metric];
        let count = self.horizons.list.len();
        let mut worst: Option<Candidate> = None;
        let short_sums = |which| self.horizons.short_sums(&node.cells[self.layout.lane(metric, which)], window);
        let (observed, expected) = (short_sums(0), short_sums(1));
        for (at, horizon) in self.horizons.list.iter().enumerate() {
            let is_there =
                horizon.is_short() || place.is_due(at) && window - node.restarted.max(node.born) >= horizon.windows / 2;
            if !is_there {
                continue;
            }
            let (span, observed) = if horizon.is_short() {
                let Some(span) = self.span_of(node, metric, horizon, at, window, expected[at]) else { continue };
                (span, observed[at])
            } else {
                let Some(both) = self.span(node, metric, horizon, at, window) else { continue };
                both
            };
            let limit = self.limits[metric * count + at];
            if span.is_near(observed, limit) {
                continue;
            }
            let z = span.z(observed);
            if z.abs() < limit || !counts(watched.direction, z) {
                continue;
            }
            let score = score(z, horizon.log10_tests);
            if worst.is_none_or(|worst| score > worst.score) {
                worst = Some(Candidate { node: id, metric, horizon: at, score, span, observed });
            }
        }
        worst
    }

    /// Learns how a number scatters about what was expected, and its level of the last hour.
    fn learn_scatter(&mut self, node: &mut Node, metric: usize, now: &Now, place: &Place) {
        let window = self.window;
        let count = self.horizons.list.len();
        let formula = self.config.detector.metrics[metric].formula;
        if window - node.born < 5 {
            return;
        }
        for (at, horizon) in self.horizons.list.iter().enumerate() {
            let is_whole = if horizon.is_short() {
                place.is_whole(at)
            } else {
                place.is_due(at) && window - node.restarted.max(node.born) >= horizon.windows
            };
            if !is_whole {
                continue;
            }
            let Some((span, observed)) = self.span(node, metric, horizon, at, window) else { continue };
            let share =
                if horizon.is_short() { 1.0 } else { self.horizons.step(horizon) as f32 / horizon.windows as f32 };
            let (keep, assumed) = (self.pace.dispersion[at], assumed(formula, horizon, at));
            let m = span.expected;
            let off = (observed - m) * (observed - m);
            let dispersion = &mut node.dispersions[metric * count + at];
            match span.law {
                Law::Sum { size, .. } => {
                    let stream = &node.streams[metric];
                    let m_square = m * m * f64::from(stream.concentration);
                    dispersion.learn(off, size * m, m_square, assumed, share, keep);
                    if matches!(formula, Formula::Sum(column) if self.is_count(stream, column)) && m > 0.0 {
                        self.clumps.learn((&self.layout, node.kind, metric, at), observed, m, share.into());
                    }
                }
                Law::Share { part, .. } => {
                    dispersion.learn(off, part * m, m * m, assumed, share, keep);
                    if node.leaf.is_some() && m >= 0.5 {
                        // Of small expectations: in large ones other reasons for scatter are larger.
                        let weight = (1.0 / (1.0 + m / 50.0)) as f32;
                        let part = &mut self.parts[metric * count + at];
                        part.0 += weight * (off / m).min(25.0) as f32;
                        part.1 += weight;
                        if part.1 > 20_000.0 {
                            *part = (part.0 / 2.0, part.1 / 2.0);
                        }
                    }
                }
                Law::Amount { own, .. } => {
                    let off = (observed / m).max(1e-3).ln() + own / 2.0;
                    dispersion.learn(off * off, own, 1.0, assumed, share, keep);
                    // So many amounts there were, each of variance 1, had they come alone.
                    let which = (&self.layout, node.kind, metric, at);
                    let amounts = self.clumps.size(which) / own;
                    self.clumps.learn(which, amounts + off * amounts, amounts, share.into());
                }
            }
        }
        let stream = &mut node.streams[metric];
        match formula {
            Formula::Sum(column) => {
                let size = f64::from(stream.lump);
                if node.leaf.is_some() {
                    let m = now.expected * fast(stream);
                    stream.unit.learn(now.observed, m, size, self.pace.amounts);
                    let unit = &mut self.units[metric];
                    unit.learn(now.observed, m, size, 1.0 - 1e-5);
                    let is_count = self.is_count[column];
                    let is_sure = is_count && self.are_single[column];
                    stream.size = if is_sure { 1.0 } else { stream.unit.size(is_count, unit.own_size()) as f32 };
                }
                if let Some(keep) = self.pace.fast {
                    let m = now.expected * fast(stream);
                    let far = far_of(m, size, 0.03) + 2.0 * size;
                    let x = now.observed.max(m - far).min(m + far);
                    stream.fast = (stream.fast.0 * keep + x as f32, stream.fast.1 * keep + now.expected as f32);
                }
            }
            Formula::Mean { .. } if now.square > 0.0 => {
                let off = (now.observed - now.expected) * (now.observed - now.expected) / now.square;
                let most = 25.0 * spread(stream);
                let keep = self.pace.amounts;
                stream.spread = (stream.spread.0 * keep + off.min(most) as f32, stream.spread.1 * keep + 1.0);
            }
            _ => {}
        }
    }

    /// Learns what a series' next windows will be measured by.
    fn learn_series(
        &mut self,
        node: &mut Node,
        now: &[Now],
        values: &[f64],
        at: Civil,
        is_frozen: bool,
        is_promoted: bool,
    ) {
        let window = self.window;
        let is_warm = node.is_warm(window);
        let are_sums_frozen = node.sums_freeze.holds(window);
        let Some(leaf) = node.leaf.as_deref_mut() else { return };
        let place = &self.layout.place;
        for (metric, now) in now.iter().enumerate() {
            let Formula::Ratio { numerator, denominator } = self.config.detector.metrics[metric].formula else {
                continue;
            };
            if is_frozen || is_promoted || leaf.local[values.len()] < 8.0 {
                continue;
            }
            let usual = |column: usize| f64::from(leaf.local[column] / leaf.local[values.len()]);
            let history = self.layout.histories[denominator].expect("kept for whatever is below a line");
            let history = &leaf.histories[history * (LAG_MAX + 1)..][..LAG_MAX + 1];
            self.lags[metric].learn(now.observed, usual(numerator), history, usual(denominator), window);
        }
        if are_sums_frozen {
            leaf.stale += STALE_IN_HOUR * self.pace.hours_in_window.min(1.0);
        } else {
            leaf.stale *= self.pace.local;
            for (local, value) in leaf.local.iter_mut().zip(values.iter().chain([&1.0])) {
                *local = *local * self.pace.local + *value as f32;
            }
        }
        if is_promoted {
            return;
        }
        for (metric, now) in now.iter().enumerate() {
            let (expected, far) = (now.expected, FAR_IN_FREEZE * now.expected);
            match self.config.detector.metrics[metric].formula {
                Formula::Sum(_) => {
                    let stream = &node.streams[metric];
                    let size = f64::from(stream.lump);
                    let profile = &mut leaf.profiles[place[metric]];
                    let shape = profile.shape(at, self.pace.hour_windows);
                    let m = expected * fast(stream);
                    let far = if is_frozen { FAR_IN_FREEZE * m } else { far_of(m, size, 0.1) + 2.0 * size };
                    if is_warm && (!is_frozen || shape.known > 0.0) {
                        let x = now.observed.max(m - far).min(m + far).max(0.0);
                        profile.learn(at, x, shape, self.pace.learning(window - node.born, !is_frozen));
                    }
                }
                Formula::Ratio { .. } | Formula::Mean { .. } => {
                    let quotient = &mut leaf.quotients[place[metric]];
                    let is_mean = matches!(self.config.detector.metrics[metric].formula, Formula::Mean { .. });
                    let own = if is_mean { spread(&node.streams[metric]) * now.square } else { expected };
                    let is_sure = is_warm && quotient.seen().0 > 0.0 && now.unsure < 0.3 * expected;
                    let far = match (is_frozen, is_sure) {
                        (true, true) => far,
                        (true, false) => continue,
                        (false, true) => far_of(1.0, own, 0.01 * expected * expected) + if is_mean { 0.0 } else { 2.0 },
                        (false, false) => f64::INFINITY,
                    };
                    let above = now.observed.max(expected - far).min(expected + far).max(0.0);
                    quotient.learn(at, above, now.below, self.pace.hourly, self.pace.quotient);
                    let pooled = &mut self.pooled[metric];
                    *pooled = (pooled.0 + above, pooled.1 + now.below);
                }
                Formula::Level(_) => {}
            }
        }
    }

    /// Tells of the loudest of what is unusual, keeps still about the rest, and lets nobody learn from it.
    fn tell(&mut self, live: &mut Live, findings: &mut Vec<Finding>) {
        let Some(window) = self.newest() else { return };
        for pooled in &mut self.pooled {
            *pooled = (pooled.0 * self.pace.quotient, pooled.1 * self.pace.quotient);
        }
        self.clumps.settle(self.pace.quotient);
        live.candidates
            .sort_by(|a, b| b.score.total_cmp(&a.score).then(a.node.cmp(&b.node)).then(a.metric.cmp(&b.metric)));
        for candidate in &live.candidates {
            let Candidate { node, metric, horizon, score, span, observed } = *candidate;
            let own = [node];
            let children = self.nodes.children(node);
            let series = if children.is_empty() { &own[..] } else { children };
            let stamp = |series: &NodeId| self.kept[*series as usize].as_ref().map(|node| node.stamp);
            let is_silent = series.iter().filter_map(stamp).any(|stamp| {
                let is_related = stamp.metric() == metric || self.are_related(stamp.metric(), metric);
                stamp.silences(window, self.pace.hour, score, is_related)
            });
            if !is_silent {
                let kept = self.kept[node as usize].as_deref().expect("it was judged");
                let mut reading = self.reading(kept, metric, horizon, &span, observed);
                reading.unusual = true;
                findings.push(Finding { node, metric, reading });
                for series in series {
                    if let Some(kept) = &mut self.kept[*series as usize] {
                        kept.stamp = Stamp::new(window, score, metric);
                    }
                }
            }
        }
        for at in 0..live.candidates.len() {
            self.hold(live.candidates[at], window);
        }
    }

    /// Whether two metrics are of a column both.
    fn are_related(&self, one: usize, other: usize) -> bool {
        let [one, other] = [one, other].map(|metric| self.config.detector.metrics[metric].formula.columns());
        one.iter().any(|column| other.contains(column))
    }

    /// Stops the learning of a node that is unusual, of its series, and of roll-ups that feel it, and begins their long
    /// sums anew.
    fn hold(&mut self, candidate: Candidate, window: u32) {
        let Candidate { node, metric, horizon, span, observed, .. } = candidate;
        let off = (observed - span.expected).abs();
        self.hold_one(node, metric, window);
        let own = [node];
        let children = self.nodes.children(node).to_vec();
        let mut above: Vec<NodeId> = Vec::new();
        for series in if children.is_empty() { &own[..] } else { &children[..] } {
            for parent in self.nodes.parents(*series) {
                if *parent != node && !above.contains(parent) {
                    above.push(*parent);
                }
            }
            if *series != node {
                self.hold_one(*series, metric, window);
            }
        }
        for parent in above {
            if self.sums(parent, metric, horizon).is_some_and(|(_, expected)| off >= FELT * expected) {
                self.hold_one(parent, metric, window);
            }
        }
    }

    fn hold_one(&mut self, node: NodeId, unusual: usize, window: u32) {
        let Some(mut kept) = self.kept[node as usize].take() else { return };
        self.freeze(&mut kept, unusual, window);
        if kept.restarted != window {
            kept.restarted = window;
            for (metric, watched) in self.config.detector.metrics.iter().enumerate() {
                let lanes = if matches!(watched.formula, Formula::Mean { .. }) { 3 } else { 2 };
                for lane in self.layout.lanes_of(metric, lanes) {
                    self.horizons.restart(&mut kept.cells[lane]);
                }
            }
        }
        self.kept[node as usize] = Some(kept);
    }

    /// Stops learning for a time; in the first days a short one, because little more than the last minutes is known.
    fn freeze(&self, node: &mut Node, metric: usize, window: u32) {
        let is_young = (window - node.born) as f32 * self.pace.hours_in_window < YOUNG_HOURS;
        let hours_max = if is_young { 1 } else { 4 };
        node.freeze.extend(window, self.pace.hour, hours_max);
        if matches!(self.config.detector.metrics[metric].formula, Formula::Sum(_)) {
            node.sums_freeze.extend(window, self.pace.hour, hours_max);
        }
    }

    /// Begins all sums anew.
    fn forget_sums(&mut self) {
        for node in self.kept.iter_mut().flatten() {
            node.cells.fill(0.0);
            node.restarted = self.window;
            if let Some(leaf) = &mut node.leaf {
                leaf.stale += 1.0;
                leaf.histories.fill(0.0);
            }
        }
    }
}

impl Detector for RateSuite {
    fn observe(&mut self, frame: &Frame, calendar: &Calendar, findings: &mut Vec<Finding>) {
        let slide = self.config.detector.slide_millis;
        if let Some(last) = self.last_start {
            if frame.start <= last {
                return;
            }
            let missing = (frame.start - last) / slide - 1;
            if missing > GAP_MAX {
                self.forget_sums();
            } else {
                let length = frame.end - frame.start;
                for at in 1..=missing {
                    let start = last + at * slide;
                    self.window(start, start + length, None, calendar, findings);
                    self.last_start = Some(start);
                }
            }
        }
        self.window(frame.start, frame.end, Some(frame), calendar, findings);
        self.last_start = Some(frame.start);
    }

    fn standing(&self, node: NodeId, metric: usize) -> Option<Reading> {
        let (kept, window) = (self.node(node)?, self.newest()?);
        if !kept.is_warm(window) {
            return None;
        }
        let short = self.horizons.list.iter().enumerate().filter(|(at, horizon)| *at == 0 || horizon.is_short());
        let readings = short.filter_map(|(at, horizon)| {
            let (span, observed) = self.span(kept, metric, horizon, at, window)?;
            Some((at, span, observed, score(span.z(observed), horizon.log10_tests)))
        });
        let (at, span, observed, _) = readings.reduce(|worst, next| if next.3 > worst.3 { next } else { worst })?;
        Some(self.reading(kept, metric, at, &span, observed))
    }

    /// Of a ratio and a mean, what is above the line: events, or amounts.
    fn contributions(&self, node: NodeId, metric: usize, horizon: u32) -> Vec<Contribution> {
        let Some(at) = self.horizons.list.iter().position(|known| known.windows == horizon) else { return Vec::new() };
        let children = if self.nodes.is_used(node) { self.nodes.children(node) } else { &[] };
        let contribution = |child: &NodeId| {
            let (observed, expected) = self.sums(*child, metric, at)?;
            Some(Contribution { node: *child, observed, expected })
        };
        children.iter().filter_map(contribution).collect()
    }

    fn standing_over(&self, node: NodeId, metric: usize, horizon: u32) -> Option<Reading> {
        let (kept, window) = (self.node(node)?, self.newest()?);
        let at = self.horizons.list.iter().position(|known| known.windows == horizon)?;
        let (span, observed) = self.span(kept, metric, &self.horizons.list[at], at, window)?;
        Some(self.reading(kept, metric, at, &span, observed))
    }

    fn wider(&self, node: NodeId) -> Vec<NodeId> {
        self.nodes.wider(node)
    }

    fn group(&self, node: NodeId) -> &[Member] {
        self.nodes.group(node)
    }

    fn health(&self) -> Health {
        let nodes = || self.kept.iter().flatten();
        let window = self.newest().unwrap_or(0);
        Health {
            series: nodes().count() * self.metrics(),
            warming_up: nodes().filter(|node| !node.is_warm(window)).count() * self.metrics(),
            dropped: self.dropped,
            bytes: nodes().map(|node| node.bytes() + 300).sum::<usize>()
                + self.live.now.capacity() * size_of::<Now>()
                + self.live.columns.capacity() * size_of::<f64>(),
        }
    }
}

/// Whether a deviation counts.
fn counts(direction: Direction, z: f64) -> bool {
    match direction {
        Direction::Up => z > 0.0,
        Direction::Down => z < 0.0,
        Direction::Both => z != 0.0,
    }
}

/// What scatter to start from.
#[inline]
fn assumed(formula: Formula, horizon: &Horizon, at: usize) -> Assumed {
    match formula {
        Formula::Sum(_) | Formula::Level(_) => Assumed::lightly(ASSUMED[at]),
        Formula::Ratio { .. } => Assumed::for_a_day(ASSUMED_RATE, horizon.minutes),
        Formula::Mean { .. } => Assumed::lightly(ASSUMED_RATE),
    }
}

/// How much more there is than the profile says, in the last hour.
#[inline]
fn fast(stream: &Stream) -> f64 {
    let prior = FAST_PRIOR * f64::from(stream.lump);
    (f64::from(stream.fast.0) + prior) / (f64::from(stream.fast.1) + prior)
}

/// Variance of the logarithm of one amount, about.
#[inline]
fn spread(stream: &super::node::Stream) -> f64 {
    let (squares, of) = (f64::from(stream.spread.0), f64::from(stream.spread.1));
    (squares + SPREAD.0 * SPREAD.1) / (of + SPREAD.1)
}

/// How far from its expectation a number is learnt as it is; one further off is learnt as one so far.
#[inline]
fn far_of(m: f64, size: f64, a: f64) -> f64 {
    4.0 * (size * m + a * m * m).sqrt()
}

/// How far a rate may be off in promotions. The larger room of the rate's and of its complement's: where nearly all buy,
/// a few more leave far fewer who do not.
fn tolerated(rate: f64, promotions: i32) -> Tolerance {
    let factor = PROMOTED_RATE.powi(promotions);
    let (mut down, mut up) = (1.0 / factor, factor);
    if rate > 0.0 && rate < 1.0 {
        down = down.min((1.0 - (1.0 - rate) * factor).max(0.0) / rate);
        up = up.max((1.0 - (1.0 - rate) / factor) / rate);
    }
    Tolerance { down, up }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
