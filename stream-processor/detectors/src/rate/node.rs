//! What is kept of a series or a roll-up.

use super::dispersion::{Dispersion, Unit};
use super::horizons::{Horizons, SINGLE};
use super::hourly::Hourly;
use super::lag::LAG_MAX;
use super::profile::Profile;
use super::suppression::{Freeze, Stamp};
use crate::{Formula, Metric};
use serde::{Deserialize, Serialize};

/// Where in a node what of a metric is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Layout {
    /// Of each metric: where its lanes begin.
    lanes: Vec<usize>,
    lane: usize,
    cells: usize,
    /// Of each metric: which of the profiles (sums) or quotients is its.
    pub(crate) place: Vec<usize>,
    pub(crate) profiles: usize,
    pub(crate) quotients: usize,
    /// Of each value column: which of the histories is its, for those below a line.
    pub(crate) histories: Vec<Option<usize>>,
    pub(crate) history_count: usize,
    /// How many spans there are.
    pub(crate) horizons: usize,
}

impl Layout {
    pub(crate) fn new(metrics: &[Metric], value_columns: usize, horizons: &Horizons) -> Self {
        let lane = horizons.lane();
        let mut layout = Self {
            lanes: Vec::new(),
            lane,
            cells: 0,
            place: Vec::new(),
            profiles: 0,
            quotients: 0,
            histories: vec![None; value_columns],
            history_count: 0,
            horizons: horizons.list.len(),
        };
        for metric in metrics {
            layout.lanes.push(layout.cells);
            let (kind, cells) = match metric.formula {
                Formula::Sum(_) => (&mut layout.profiles, 2 * lane + SINGLE),
                Formula::Mean { .. } => (&mut layout.quotients, 3 * lane),
                _ => (&mut layout.quotients, 2 * lane),
            };
            layout.cells += cells;
            layout.place.push(*kind);
            *kind += 1;
            if let Formula::Ratio { denominator, .. } = metric.formula
                && layout.histories[denominator].is_none()
            {
                layout.histories[denominator] = Some(layout.history_count);
                layout.history_count += 1;
            }
        }
        layout
    }

    /// Where a metric's lane begins: 0 observed, 1 expected, 2 levels (sums; only single windows) or squares (means).
    #[inline]
    pub(crate) fn lane(&self, metric: usize, which: usize) -> std::ops::Range<usize> {
        let from = self.lanes[metric] + which * self.lane;
        from..(from + self.lane).min(self.cells)
    }

    /// Where a metric's cells are, all lanes.
    pub(crate) fn lanes_of(&self, metric: usize, lanes: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
        (0..lanes).map(move |which| self.lane(metric, which))
    }
}

/// A number of a node.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Stream {
    /// Of the last hour: seen, and expected.
    pub(crate) fast: (f32, f32),
    /// Standard deviation of the logarithm by which the expectation may be off as a whole, now and for long horizons.
    pub(crate) unsure: f32,
    pub(crate) unsure_long: f32,
    /// How much of the expectation is one series': 1 when all is, less when many have a part in it.
    pub(crate) concentration: f32,
    /// What a unit of money is, for sums.
    pub(crate) unit: Unit,
    /// As it is used: 1 for a count.
    pub(crate) size: f32,
    /// What comes at once in about an hour: an amount, or events that come together.
    pub(crate) lump: f32,
    /// Expected above the line, and what is below it: what a quotient is shown by.
    pub(crate) shown: (f32, f32),
    /// Squares of errors of a mean, and what they are by.
    pub(crate) spread: (f32, f32),
}

/// What is kept of a series or a roll-up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Node {
    /// The window that it came in, and the one in which its long sums began anew.
    pub(crate) born: u32,
    /// Which columns it rolls up: nodes of one kind scatter alike.
    pub(crate) kind: u16,
    pub(crate) restarted: u32,
    pub(crate) freeze: Freeze,
    /// The same, only because of a sum: while a rate or a mean is unusual, what there is of everything is as before.
    pub(crate) sums_freeze: Freeze,
    /// 0: the level of the last hour is learnt; 1: for hours it was not.
    pub(crate) unlearnt: f32,
    /// Of a series only.
    pub(crate) stamp: Stamp,
    /// Promotions that a series is in now or was in just before, and until which window.
    pub(crate) promotions: u8,
    pub(crate) promoted_until: u32,
    pub(crate) cells: Box<[f32]>,
    pub(crate) streams: Box<[Stream]>,
    /// By metric, then horizon.
    pub(crate) dispersions: Box<[Dispersion]>,
    /// By value column; nothing where no money is known.
    pub(crate) money: Box<[f32]>,
    pub(crate) leaf: Option<Box<Leaf>>,
}

/// What a series has and a roll-up takes from its series.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Leaf {
    pub(crate) profiles: Box<[Profile]>,
    pub(crate) quotients: Box<[Hourly]>,
    /// The last windows of the columns below a line.
    pub(crate) histories: Box<[f32]>,
    /// Sum of each column over the last minutes, and in the last place what one window each would have made.
    pub(crate) local: Box<[f32]>,
    /// By how much, as a logarithm, the last minutes may be out of date because they are not learnt.
    pub(crate) stale: f32,
}

impl Node {
    pub(crate) fn new(layout: &Layout, window: u32, kind: u16, is_leaf: bool, money_columns: usize) -> Self {
        let metrics = layout.place.len();
        let value_columns = layout.histories.len();
        let leaf = || Leaf {
            profiles: vec![Profile::new(); layout.profiles].into(),
            quotients: vec![Hourly::default(); layout.quotients].into(),
            histories: vec![0.0; layout.history_count * (LAG_MAX + 1)].into(),
            local: vec![0.0; value_columns + 1].into(),
            stale: 0.0,
        };
        Self {
            born: window,
            kind,
            restarted: window,
            freeze: Freeze::default(),
            sums_freeze: Freeze::default(),
            unlearnt: 0.0,
            stamp: Stamp::default(),
            promotions: 0,
            promoted_until: 0,
            cells: vec![0.0; layout.cells].into(),
            streams: vec![Stream { size: 1.0, lump: 1.0, concentration: 1.0, ..Stream::default() }; metrics].into(),
            dispersions: vec![Dispersion::default(); metrics * layout.horizons].into(),
            money: vec![0.0; money_columns].into(),
            leaf: is_leaf.then(|| Box::new(leaf())),
        }
    }

    /// Whether it has been seen long enough to be judged.
    pub(crate) fn is_warm(&self, window: u32) -> bool {
        window - self.born >= WARM
    }

    pub(crate) fn bytes(&self) -> usize {
        let leaf = self.leaf.as_ref().map_or(0, |leaf| {
            size_of::<Leaf>()
                + leaf.profiles.iter().map(Profile::bytes).sum::<usize>()
                + size_of_val(&*leaf.quotients)
                + size_of_val(&*leaf.histories)
                + size_of_val(&*leaf.local)
        });
        size_of::<Self>()
            + size_of_val(&*self.cells)
            + size_of_val(&*self.streams)
            + size_of_val(&*self.dispersions)
            + size_of_val(&*self.money)
            + leaf
    }
}

/// Windows after which a series is judged.
pub(crate) const WARM: u32 = 30;
