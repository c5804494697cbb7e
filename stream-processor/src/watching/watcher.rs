//! What watches a model: its detectors and the book of their alerts.

use super::{
    alert_book::{AlertBook, AlertUpdate, Found, Judged},
    plan::{ColumnKind, WatchColumn, WatchError, WatchPlan},
    spec::Method,
};
use crate::{LiveModel, Window, merger::Rows};
use arrow::datatypes::DataType;
use serde::{Deserialize, Serialize};
use sluice_detectors::{
    Calendar, Contribution, Detector, EwmaConfig, Finding, Frame, Health, Member, Method as SeriesMethod, NodeId,
    PerSeries, RateConfig, RateSuite, Reading, ZScoreConfig,
};
use sluice_events::{Measure, OffsetSpan, Severity};
use std::{collections::BTreeMap, sync::Arc};

/// Series of one detector, at most.
const SERIES_MAX: usize = 10_000;

/// Any detector.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) enum AnyDetector {
    Series(Box<PerSeries>),
    Rate(Box<RateSuite>),
}

/// A plan and the detector that carries it out.
#[derive(Clone)]
pub(crate) struct Watch {
    pub plan: WatchPlan,
    pub detector: AnyDetector,
}

impl AnyDetector {
    pub fn new(plan: &WatchPlan) -> Result<Self, WatchError> {
        let config = plan.config.clone();
        let series = |method| Ok(Self::Series(Box::new(PerSeries::new(config.clone(), method))));
        match plan.method {
            Method::ZScore { window, warmup } => series(SeriesMethod::ZScore(ZScoreConfig { window, warmup })),
            Method::Ewma { half_life, warmup } => series(SeriesMethod::Ewma(EwmaConfig { half_life, warmup })),
            Method::Cover => series(SeriesMethod::Cover(Default::default())),
            Method::Rate => {
                let rate = RateConfig { detector: config, money: plan.money };
                let suite = RateSuite::new(rate).map_err(|e| WatchError(format!("detect: {e}")))?;
                Ok(Self::Rate(Box::new(suite)))
            }
        }
    }

    fn inner(&self) -> &dyn Detector {
        match self {
            Self::Series(detector) => detector.as_ref(),
            Self::Rate(detector) => detector.as_ref(),
        }
    }

    /// What a deviation is worth, where the detector knows.
    pub fn money_at_stake(&self, node: NodeId, metric: usize, reading: &Reading) -> Option<f64> {
        match self {
            Self::Series(_) => None,
            Self::Rate(detector) => detector.money_at_stake(node, metric, reading),
        }
    }
}

impl Detector for AnyDetector {
    fn observe(&mut self, frame: &Frame, calendar: &Calendar, findings: &mut Vec<Finding>) {
        match self {
            Self::Series(detector) => detector.observe(frame, calendar, findings),
            Self::Rate(detector) => detector.observe(frame, calendar, findings),
        }
    }

    fn standing(&self, node: NodeId, metric: usize) -> Option<Reading> {
        self.inner().standing(node, metric)
    }

    fn contributions(&self, node: NodeId, metric: usize, horizon: u32) -> Vec<Contribution> {
        self.inner().contributions(node, metric, horizon)
    }

    fn group(&self, node: NodeId) -> &[Member] {
        self.inner().group(node)
    }

    fn standing_over(&self, node: NodeId, metric: usize, horizon: u32) -> Option<Reading> {
        self.inner().standing_over(node, metric, horizon)
    }

    fn wider(&self, node: NodeId) -> Vec<NodeId> {
        self.inner().wider(node)
    }

    fn health(&self) -> Health {
        self.inner().health()
    }
}

/// The detector that carries out a plan.
///
/// # Errors
/// When its method does not fit what is watched.
pub fn detector_of(plan: &WatchPlan) -> Result<Box<dyn Detector>, WatchError> {
    Ok(Box::new(AnyDetector::new(plan)?))
}

/// How the detection of a model is doing.
#[derive(Clone, Debug)]
pub struct DetectionHealth {
    /// The model.
    pub model: String,
    /// The detector's name.
    pub detector: &'static str,
    /// What it says of itself.
    pub health: Health,
    /// Start of the last window it judged, in milliseconds; none before the first.
    pub last_window: Option<i64>,
}

/// What is known beforehand, by names of columns; each detector is told what fits its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownTimes {
    /// From, to (milliseconds, the second not included), and the series it is about, by column.
    pub promotions: Vec<(i64, i64, BTreeMap<String, String>)>,
    /// The group column whose value says where a series lives.
    pub clock_column: String,
    /// Clocks by its values.
    pub clocks: Vec<sluice_detectors::Clock>,
}

impl KnownTimes {
    /// What a detector with these group columns is told. A promotion of a column that it does not have is about none of
    /// its series alone, but about some of the events of each: it counts for all of them.
    pub fn for_columns(&self, columns: &[String]) -> Calendar {
        let member = |group: &BTreeMap<String, String>, column: &String| match group.get(column) {
            None => Member::All,
            Some(value) => Member::Value(Some(value.as_str().into())),
        };
        let promotions = self.promotions.iter().map(|(start, end, group)| sluice_detectors::Promotion {
            start: *start,
            end: *end,
            group: columns.iter().map(|column| member(group, column)).collect(),
        });
        let clock_column = columns.iter().position(|column| *column == self.clock_column);
        let clocks = if clock_column.is_some() { self.clocks.clone() } else { Vec::new() };
        // What is read from files and settings is checked where it is read.
        Calendar::new(columns.len(), promotions.collect(), clock_column, clocks).unwrap_or_default()
    }
}

/// Watches the windows of a model.
pub struct Watcher {
    watches: Vec<Watch>,
    calendars: Vec<Calendar>,
    book: AlertBook,
    /// What detectors were shown of windows that late events may still change.
    shown: BTreeMap<i64, Vec<Frame>>,
    last_window: Option<i64>,
}

/// What a checkpoint keeps.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct SavedWatcher {
    detectors: Vec<AnyDetector>,
    book: AlertBook,
    shown: BTreeMap<i64, Vec<Frame>>,
    last_window: Option<i64>,
}

/// A window that became final.
pub(crate) struct Seen<'a> {
    pub start: i64,
    pub end: i64,
    pub slide: i64,
    pub rows: &'a Rows,
    /// Gives the offsets in which the events of windows from a time on are.
    pub origin: &'a dyn Fn(i64) -> Vec<OffsetSpan>,
}

/// What the detectors say of it.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub alerts: Vec<AlertUpdate>,
    /// Measure, largest score.
    pub scores: Vec<(String, f64)>,
}

/// The columns of a model, as they may be watched.
pub(crate) fn watch_columns(model: &LiveModel) -> Vec<WatchColumn> {
    let kind = |column: &crate::OutputColumn| match &column.data_type {
        _ if column.is_group => ColumnKind::Group,
        _ if !column.is_additive => ColumnKind::Level,
        data_type if data_type.is_integer() => ColumnKind::Count,
        DataType::Decimal128(_, 0) => ColumnKind::Count,
        _ => ColumnKind::Amount,
    };
    model.columns.iter().map(|c| WatchColumn { name: c.name.clone(), kind: kind(c) }).collect()
}

/// The plans of a model's header.
pub(crate) fn plans(model: &LiveModel, header: &crate::Header) -> Result<Vec<WatchPlan>, WatchError> {
    let Window::Grid(grid) = &model.window else { return Ok(Vec::new()) };
    let overlap = grid.slide() < grid.size();
    if overlap && header.detect.iter().any(|spec| spec.method == Method::Rate) {
        return Err(WatchError(
            "detect: method=rate adds windows up, and these overlap; watch tumbling windows, or use method=zscore"
                .to_owned(),
        ));
    }
    let plans = WatchPlan::of(&header.detect, &watch_columns(model), grid.slide(), SERIES_MAX)?;
    plans.iter().try_for_each(|plan| AnyDetector::new(plan).map(drop))?;
    Ok(plans)
}

impl Watcher {
    /// Of a model that has seen nothing yet.
    pub fn new(model: &LiveModel) -> Self {
        // They were made once when the model was compiled.
        Self::of(plans(model, &model.header).unwrap_or_default())
    }

    /// That carries out these plans.
    pub(crate) fn of(plans: Vec<WatchPlan>) -> Self {
        let watches = plans.into_iter().filter_map(|plan| {
            let detector = AnyDetector::new(&plan).ok()?;
            Some(Watch { plan, detector })
        });
        let mut watcher = Self {
            watches: watches.collect(),
            calendars: Vec::new(),
            book: AlertBook::default(),
            shown: BTreeMap::new(),
            last_window: None,
        };
        watcher.know(&KnownTimes::default());
        watcher
    }

    pub(crate) fn restored(model: &LiveModel, saved: SavedWatcher) -> Self {
        let mut watcher = Self::new(model);
        if saved.detectors.len() == watcher.watches.len() {
            for (watch, detector) in watcher.watches.iter_mut().zip(saved.detectors) {
                watch.detector = detector;
            }
            (watcher.book, watcher.shown, watcher.last_window) = (saved.book, saved.shown, saved.last_window);
        }
        watcher
    }

    pub(crate) fn save(&self) -> SavedWatcher {
        SavedWatcher {
            detectors: self.watches.iter().map(|w| w.detector.clone()).collect(),
            book: self.book.clone(),
            shown: self.shown.clone(),
            last_window: self.last_window,
        }
    }

    /// Tells it what is known beforehand, from the next window on.
    pub fn know(&mut self, times: &KnownTimes) {
        self.calendars = self.watches.iter().map(|watch| times.for_columns(&watch.plan.group_columns)).collect();
    }

    /// Whether anything is watched.
    pub fn is_empty(&self) -> bool {
        self.watches.is_empty()
    }

    /// Shows it a window that became final, the next one in time.
    pub(crate) fn judge(&mut self, model: &str, seen: &Seen<'_>) -> Verdict {
        let mut found = Vec::new();
        let mut frames = Vec::with_capacity(self.watches.len());
        let mut verdict = Verdict::default();
        for (at, (watch, calendar)) in self.watches.iter_mut().zip(&self.calendars).enumerate() {
            let frame = frame(&watch.plan, (seen.start, seen.end), seen.rows);
            let mut findings = Vec::new();
            watch.detector.observe(&frame, calendar, &mut findings);
            for (metric, spec) in watch.plan.specs.iter().enumerate() {
                let scores = findings.iter().filter(|f| f.metric == metric).map(|f| f.reading.score);
                verdict.scores.push((spec.name.clone(), scores.fold(0.0, f64::max)));
            }
            let of_plan = |f: Finding| Found { plan: at, node: f.node, metric: f.metric, reading: f.reading };
            found.extend(findings.into_iter().map(of_plan));
            frames.push(frame);
        }
        self.shown.insert(seen.start, frames);
        self.last_window = Some(seen.start);
        let window = Judged { start: seen.start, end: seen.end, slide: seen.slide };
        verdict.alerts = self.book.judge(model, &self.watches, window, &found, seen.origin);
        verdict
    }

    /// Late events changed a window that it was shown.
    pub(crate) fn correct(&mut self, start: i64, end: i64, rows: &Rows) -> Vec<AlertUpdate> {
        let Some(before) = self.shown.get(&start) else { return Vec::new() };
        let now: Vec<Frame> = self.watches.iter().map(|watch| frame(&watch.plan, (start, end), rows)).collect();
        let sum = |frame: &Frame, members: &[Member], column: usize| -> f64 {
            let covered = |group: &[Option<Arc<str>>]| {
                members.iter().zip(group).all(|(m, value)| match m {
                    Member::All => true,
                    Member::Value(wanted) => wanted == value,
                })
            };
            let rows = frame.rows().filter(|(group, _)| covered(group));
            rows.map(|(_, values)| values[column]).filter(|value| value.is_finite()).sum()
        };
        let change = |plan: usize, members: &[Member], column: usize| {
            sum(&now[plan], members, column) - sum(&before[plan], members, column)
        };
        let alerts = self.book.correct(&self.watches, start, &change);
        self.shown.insert(start, now);
        alerts
    }

    /// Nothing changes windows that begin at or before this any more.
    pub(crate) fn sealed(&mut self, start: i64) {
        while let Some(shown) = self.shown.first_entry().filter(|shown| *shown.key() <= start) {
            shown.remove();
        }
    }

    /// Ends the alerts that are open, because what watches them goes.
    pub(crate) fn close(self) -> Vec<AlertUpdate> {
        self.book.close()
    }

    /// Alerts that fire now, by severity.
    pub fn firing(&self) -> impl Iterator<Item = Severity> {
        self.book.firing()
    }

    /// How its detectors are doing.
    pub(crate) fn health(&self, model: &str) -> impl Iterator<Item = DetectionHealth> {
        self.watches.iter().map(move |watch| DetectionHealth {
            model: model.to_owned(),
            detector: watch.plan.method.name(),
            health: watch.detector.health(),
            last_window: self.last_window,
        })
    }
}

impl SavedWatcher {
    /// The open alerts of a watcher that is not restored.
    pub fn close(self) -> Vec<AlertUpdate> {
        self.book.close()
    }
}

fn frame(plan: &WatchPlan, (start, end): (i64, i64), rows: &Rows) -> Frame {
    let mut frame = Frame::new(plan.config.group_columns, plan.config.value_columns);
    frame.clear(start, end);
    let group = |group: &BTreeMap<String, Option<String>>| {
        let value = |column: &String| group.get(column).and_then(|v| v.as_deref()).map(Arc::from);
        plan.group_columns.iter().map(value).collect()
    };
    let rows = rows.values().map(|(g, measures)| (group(g), measures));
    plan.fill(&mut frame, rows, |measures, name| measures.get(name).and_then(Measure::as_f64));
    frame
}
