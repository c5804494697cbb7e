//! What all detectors have in common.

use crate::{Calendar, Frame, Member, NodeId};
use serde::{Deserialize, Serialize};

/// Which deviations count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    /// Above the band.
    Up,
    /// Below the band.
    Down,
    /// Either.
    Both,
}

/// How a watched number comes from the columns of a [`Frame`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Formula {
    /// A column that adds up over groups: a count, or a sum. Nothing seen is 0.
    Sum(usize),
    /// Events of one kind by those of another: how many checkouts become purchases. Both columns are counts.
    Ratio {
        /// The column above the line.
        numerator: usize,
        /// The column below it.
        denominator: usize,
    },
    /// An amount by a count, such as revenue by order.
    Mean {
        /// Column of the amount.
        amount: usize,
        /// Column of the count.
        count: usize,
    },
    /// A column that adds up to nothing, such as a latency or a percentile: it has no roll-up.
    Level(usize),
}

impl Formula {
    /// The value columns that it is of; twice the same for one.
    pub fn columns(self) -> [usize; 2] {
        match self {
            Self::Sum(column) | Self::Level(column) => [column, column],
            Self::Ratio { numerator, denominator } => [numerator, denominator],
            Self::Mean { amount, count } => [amount, count],
        }
    }
}

/// A watched number of every series of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// Its name in alerts.
    pub name: String,
    /// How it is computed.
    pub formula: Formula,
    /// Which deviations count.
    pub direction: Direction,
    /// The score from which on it is unusual; what a score means is the detector's.
    pub threshold: f64,
}

/// What a detector watches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DetectorConfig {
    /// Group columns of the frames.
    pub group_columns: usize,
    /// Value columns of the frames.
    pub value_columns: usize,
    /// Milliseconds from the start of one window to that of the next.
    pub slide_millis: i64,
    /// What is watched.
    pub metrics: Vec<Metric>,
    /// Whether roll-ups over the group columns are watched too.
    pub rolls_up: bool,
    /// Series held at most, roll-ups not counted. What comes beyond is not watched, and counted.
    pub series_max: usize,
}

/// What a detector says about one number.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// What was seen over the horizon.
    pub observed: f64,
    /// What the windows before let expect.
    pub expected: f64,
    /// Below this it is unusual; minus infinity where nothing is too low.
    pub lower: f64,
    /// Above this it is unusual; infinity where nothing is too high.
    pub upper: f64,
    /// How unusual, 0 or above, in the detector's own measure.
    pub score: f64,
    /// Standard deviations from the expectation, signed.
    pub z_score: f64,
    /// Chance of a deviation this large or larger in one test when nothing is wrong.
    pub tail_probability: f64,
    /// False alarms a year to expect of one series at this score.
    pub false_alarms_per_year: f64,
    /// What a rate was divided by over the horizon: the denominators, the count of a mean. 1 for what is not divided.
    pub weight: f64,
    /// Windows that observed and expected are over; those of the horizon end with the window judged.
    pub horizon: u32,
    /// Whether it counts as an anomaly.
    pub unusual: bool,
}

/// A number that left its band.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Of which series or roll-up.
    pub node: NodeId,
    /// Which of [`DetectorConfig::metrics`].
    pub metric: usize,
    /// How far.
    pub reading: Reading,
}

/// What a child of a roll-up has to do with its deviation, over the same horizon.
#[derive(Clone, Debug, PartialEq)]
pub struct Contribution {
    /// The child.
    pub node: NodeId,
    /// What was seen of it.
    pub observed: f64,
    /// What was expected.
    pub expected: f64,
}

/// How a detector itself is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Series watched, roll-ups included, times metrics.
    pub series: usize,
    /// Of these, how many have not seen enough to be judged.
    pub warming_up: usize,
    /// Groups that came and are not watched, because `series_max` are.
    pub dropped: usize,
    /// Bytes held, about.
    pub bytes: usize,
}

/// Watches the windows of a model. Deterministic: the same windows give the same findings, and a detector that was
/// serialised and restored between any two of them goes on as if it had not been.
pub trait Detector {
    /// Judges a closed window by those before it, then learns it. Windows come in order; adds what is unusual to `findings`.
    fn observe(&mut self, frame: &Frame, calendar: &Calendar, findings: &mut Vec<Finding>);

    /// How a number stands in the newest window, whether or not it was told of; none while it warms up.
    fn standing(&self, node: NodeId, metric: usize) -> Option<Reading>;

    /// Who makes up a roll-up's deviation in the newest window, over `horizon` windows; nobody, for a series.
    fn contributions(&self, node: NodeId, metric: usize, horizon: u32) -> Vec<Contribution>;

    /// The group of a node: a member for each group column.
    fn group(&self, node: NodeId) -> &[Member];

    /// The same over a horizon of so many windows; none where it is not judged over one.
    fn standing_over(&self, node: NodeId, metric: usize, horizon: u32) -> Option<Reading>;

    /// The roll-ups that cover all of a node, the narrowest first.
    fn wider(&self, node: NodeId) -> Vec<NodeId>;

    /// How it is doing itself.
    fn health(&self) -> Health;
}
