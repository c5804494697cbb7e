//! One judge for each number of each series and roll-up, none of them knowing of the others.

use crate::{
    Calendar, Contribution, Detector, DetectorConfig, Finding, Formula, Frame, Health, Member, Method, NodeId, Nodes,
    Reading, limits::Limits, method::Series,
};
use serde::{Deserialize, Serialize};

/// Runs one [`Method`] for each metric of each series and of its roll-ups.
///
/// A roll-up's number comes from the columns of the groups in it, added up; a [`Formula::Level`] has none. A group that is
/// not in a frame counts 0 for a [`Formula::Sum`] until it is forgotten, a week after it was last seen, and is not judged
/// by other formulas. A null is left out, as SQL does, and so is a ratio or mean of nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PerSeries {
    config: DetectorConfig,
    method: Method,

    /// Start of the newest window.
    newest: i64,
    nodes: Nodes,
    /// By node, then metric. None for what was never seen, and for free numbers.
    watched: Vec<Option<Watched>>,
    /// Groups of the newest window that are not watched.
    dropped: usize,

    /// What the newest frame brought, by node and metric.
    #[serde(skip)]
    brought: Vec<Brought>,
    /// The index of the nodes is not saved.
    #[serde(skip)]
    is_indexed: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Watched {
    series: Series,
    /// Of the newest window.
    reading: Option<Reading>,
}

/// What adds up to the number of a series or roll-up.
#[derive(Clone, Copy, Debug, Default)]
struct Brought {
    /// The sum, the level, or what is above the line.
    above: f64,
    below: f64,
    /// Rows without a number.
    nulls: u32,
    /// Rows with one.
    numbers: u32,
}

const DAY_MILLIS: i64 = 86_400_000;
/// How long a group may stay away before it is forgotten: longer than any weekend.
const FORGOTTEN_AFTER_MILLIS: i64 = 7 * DAY_MILLIS;

impl PerSeries {
    /// Watches nothing yet.
    pub fn new(config: DetectorConfig, method: Method) -> Self {
        let adds_up = config.metrics.iter().any(|metric| !matches!(metric.formula, Formula::Level(_)));
        Self {
            nodes: Nodes::new(config.group_columns, config.series_max, config.rolls_up && adds_up),
            config,
            method,
            newest: i64::MIN,
            watched: Vec::new(),
            dropped: 0,
            brought: Vec::new(),
            is_indexed: false,
        }
    }

    fn at(&self, node: NodeId, metric: usize) -> usize {
        node as usize * self.config.metrics.len() + metric
    }

    /// Once a day, for it looks at all groups.
    fn forget_the_gone(&mut self, start: i64) {
        if start.div_euclid(DAY_MILLIS) == self.newest.div_euclid(DAY_MILLIS) {
            return;
        }
        for node in self.nodes.forget_before(start.saturating_sub(FORGOTTEN_AFTER_MILLIS)) {
            let (from, to) = (self.at(node, 0), self.at(node + 1, 0).min(self.watched.len()));
            self.watched[from.min(to)..to].fill(None);
        }
    }

    /// Adds up the frame.
    fn gather(&mut self, frame: &Frame) {
        self.brought.iter_mut().for_each(|brought| *brought = Brought::default());
        self.dropped = 0;
        for (group, values) in frame.rows() {
            let Some(node) = self.nodes.of(group, frame.start) else {
                self.dropped += 1;
                continue;
            };
            self.brought.resize(self.at(self.nodes.len() as NodeId, 0), Brought::default());
            for (metric, formula) in self.config.metrics.iter().map(|metric| metric.formula).enumerate() {
                let (above, below) = match formula {
                    Formula::Sum(column) | Formula::Level(column) => (values[column], 1.0),
                    Formula::Ratio { numerator, denominator } => (values[numerator], values[denominator]),
                    Formula::Mean { amount, count } => (values[amount], values[count]),
                };
                let roll_ups = if matches!(formula, Formula::Level(_)) { &[] } else { self.nodes.parents(node) };
                for node in [node].iter().chain(roll_ups) {
                    let brought = &mut self.brought[*node as usize * self.config.metrics.len() + metric];
                    if above.is_finite() && below.is_finite() {
                        brought.above += above;
                        brought.below += below;
                        brought.numbers += 1;
                    } else {
                        brought.nulls += 1;
                    }
                }
            }
        }
    }
}

impl Brought {
    /// The number; none where there is nothing to judge.
    fn number(&self, formula: Formula) -> Option<f64> {
        match formula {
            Formula::Sum(_) => (self.numbers > 0 || self.nulls == 0).then_some(self.above),
            Formula::Level(_) => (self.numbers > 0).then_some(self.above),
            Formula::Ratio { .. } | Formula::Mean { .. } => (self.below != 0.0).then(|| self.above / self.below),
        }
    }
}

impl Detector for PerSeries {
    fn observe(&mut self, frame: &Frame, _: &Calendar, findings: &mut Vec<Finding>) {
        if !self.is_indexed {
            self.nodes.reindex();
            self.is_indexed = true;
            self.brought.resize(self.at(self.nodes.len() as NodeId, 0), Brought::default());
        }
        self.forget_the_gone(frame.start);
        self.newest = frame.start;
        self.gather(frame);
        self.watched.resize(self.brought.len(), None);
        for (metric, watching) in self.config.metrics.iter().enumerate() {
            let limits = Limits::of(watching, self.config.slide_millis);
            for node in self.nodes.iter() {
                let is_level = matches!(watching.formula, Formula::Level(_));
                if is_level && !self.nodes.children(node).is_empty() {
                    continue;
                }
                let at = self.at(node, metric);
                let number = self.brought[at].number(watching.formula);
                let watched = &mut self.watched[at];
                let Some(number) = number else {
                    watched.iter_mut().for_each(|watched| watched.reading = None);
                    continue;
                };
                let watched =
                    watched.get_or_insert_with(|| Watched { series: Series::new(&self.method), reading: None });
                watched.reading = watched.series.judge(frame.start, number, &self.method, &limits);
                if let (Some(reading), Formula::Ratio { .. } | Formula::Mean { .. }) =
                    (&mut watched.reading, watching.formula)
                {
                    reading.weight = self.brought[at].below;
                }
                findings.extend(watched.reading.filter(|reading| reading.unusual).map(|reading| Finding {
                    node,
                    metric,
                    reading,
                }));
            }
        }
    }

    fn standing(&self, node: NodeId, metric: usize) -> Option<Reading> {
        self.watched.get(self.at(node, metric))?.as_ref()?.reading
    }

    /// Of one window, whatever the horizon: that is all a reading here is over.
    fn contributions(&self, node: NodeId, metric: usize, _: u32) -> Vec<Contribution> {
        let children = if self.nodes.is_used(node) { self.nodes.children(node) } else { &[] };
        let standing = |child: &NodeId| self.standing(*child, metric).map(|reading| (*child, reading));
        children
            .iter()
            .filter_map(standing)
            .map(|(node, reading)| Contribution { node, observed: reading.observed, expected: reading.expected })
            .collect()
    }

    fn standing_over(&self, node: NodeId, metric: usize, horizon: u32) -> Option<Reading> {
        self.standing(node, metric).filter(|reading| reading.horizon == horizon)
    }

    fn wider(&self, node: NodeId) -> Vec<NodeId> {
        self.nodes.wider(node)
    }

    fn group(&self, node: NodeId) -> &[Member] {
        self.nodes.group(node)
    }

    fn health(&self) -> Health {
        let watched = || self.watched.iter().flatten();
        // A node's group, its neighbours and its place in the index.
        let of_node = |node: NodeId| {
            let neighbours = self.nodes.children(node).len() + self.nodes.parents(node).len();
            160 + size_of_val(self.nodes.group(node)) + neighbours * size_of::<NodeId>()
        };
        Health {
            series: watched().count(),
            warming_up: watched().filter(|watched| watched.series.is_warming_up(&self.method)).count(),
            dropped: self.dropped,
            bytes: size_of::<Self>()
                + self.nodes.iter().map(of_node).sum::<usize>()
                + self.watched.capacity() * size_of::<Option<Watched>>()
                + watched().map(|watched| watched.series.heap_bytes()).sum::<usize>()
                + self.brought.capacity() * size_of::<Brought>(),
        }
    }
}
