//! The life of alerts: one episode of a series, one alert, from the window that raised it to the one that ended it.
//!
//! An episode that comes back soon after it ended is the same alert, and must be quiet for longer to end again, so that
//! a series that flaps rings once. Of alerts about one thing, one is told: the roll-up, unless one part makes up nearly
//! all of it; then that part. The others are suppressed and point at it.

use super::{plan::WatchPlan, spec::Method, watcher::Watch};
use serde::{Deserialize, Serialize};
use sluice_detectors::{Detector, Formula, Member, NodeId, Reading};
use sluice_events::{
    Alert, AlertPart, AlertPoint, AlertState, EventTime, Kpi, Money, OffsetSpan, Resolution, Severity,
};
use std::collections::{BTreeMap, BTreeSet};
use xxhash_rust::xxh3::xxh3_64;

/// Usual windows in a row that end an alert.
const RESOLVED_AFTER: u32 = 2;
/// Doublings of that for an alert that came back again and again, at most.
const FLAPPING_MAX: i32 = 5;
/// For this long after its end, in milliseconds, a series that leaves its band again is the same alert: half an hour.
const COOL_DOWN: i64 = 30 * 60_000;
/// The same in windows, where windows are long.
const COOL_DOWN_WINDOWS: i64 = 5;
/// Alerts raised within this many milliseconds of each other may be about one thing: an hour.
const TOGETHER: u64 = 3_600_000;
/// So many series that go the same way at once, and more, are one thing.
const MANY: usize = 4;
/// Share of a roll-up's deviation from which on a part of it is what went wrong.
const DOMINANT: f64 = 0.8;
/// Windows of an alert's course that are kept.
const TRACE_MAX: usize = 120;
/// Parts of a roll-up that are told.
const PARTS_MAX: usize = 8;
/// An alert whose score is higher than another one's by this factor is not explained by it.
const GRAVER: f64 = 2.0;
/// Scores above the threshold by this factor raise the severity.
const GRAVE: f64 = 3.0;

/// The episodes of a model: those that are open, and those that ended a moment ago.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct AlertBook {
    episodes: BTreeMap<String, Episode>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Episode {
    plan: usize,
    node: NodeId,
    members: Vec<Member>,
    metric: usize,
    /// Whether it is about too little; else about too much.
    is_low: bool,
    alert: Alert,
    weight: f64,
    horizon: u32,
    /// Windows that the numbers of its course are over: those of the first reading.
    course_horizon: u32,
    usual_windows: u32,
    /// Start of the first window that the numbers of the alert are over.
    seen_since: i64,
    /// Start of the window in which it began, or began again.
    began: i64,
    /// When it ended; none while it is open.
    ended: Option<i64>,
    /// Whether a window has been judged with it: a new one is told at once.
    told: Option<(AlertState, Severity)>,
    /// Estimated money at stake, added up over the windows.
    stake: Option<f64>,
}

/// An alert as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertUpdate {
    /// The alert.
    pub alert: Alert,
    /// Whether its state or severity is another than when it was told last; else only its numbers went on.
    pub is_news: bool,
}

/// The window just judged.
#[derive(Clone, Copy)]
pub(crate) struct Judged {
    pub start: i64,
    pub end: i64,
    pub slide: i64,
}

impl Judged {
    /// Milliseconds that so many windows, this one the last, are over.
    fn millis_of(&self, windows: u32) -> i64 {
        (i64::from(windows) * self.slide).max(self.end - self.start)
    }
}

/// A reading that is unusual, and whose it is.
pub(crate) struct Found {
    pub plan: usize,
    pub node: NodeId,
    pub metric: usize,
    pub reading: Reading,
}

impl AlertBook {
    /// Takes what the detectors say of a window; gives the alerts that are new or another now. `origin` gives the offsets
    /// in which the events of windows from a time on are.
    pub fn judge(
        &mut self,
        model: &str,
        watches: &[Watch],
        window: Judged,
        found: &[Found],
        origin: &dyn Fn(i64) -> Vec<OffsetSpan>,
    ) -> Vec<AlertUpdate> {
        let mut seen = BTreeSet::new();
        for finding in found.iter().chain(&storms(watches, found)) {
            let watch = &watches[finding.plan];
            let members = watch.detector.group(finding.node);
            let group = watch.plan.group_of(members);
            let fingerprint = fingerprint(model, &watch.plan, finding.metric, &group);
            if let Some(mut other) = self.episodes.remove(&fingerprint) {
                let turned = other.is_low != (finding.reading.z_score < 0.0);
                if turned && other.ended.is_none() {
                    other.end(window.start, Resolution::Recovered);
                }
                // Too low after too high is another thing. What ended is told, and not looked for any more.
                let key = if turned { other.alert.id.clone() } else { fingerprint.clone() };
                self.episodes.insert(key, other);
            }
            let episode = match self.episodes.get_mut(&fingerprint) {
                Some(known) => {
                    if known.ended.take().is_some() {
                        known.begin_again(window);
                    }
                    (known.node, known.usual_windows) = (finding.node, 0);
                    known
                }
                None => {
                    let new = Episode::new(model, watch, finding, members.to_vec(), group, &fingerprint, window);
                    self.episodes.entry(fingerprint.clone()).or_insert(new)
                }
            };
            episode.take(watch, finding, window, origin);
            seen.insert(fingerprint);
        }
        for (fingerprint, episode) in &mut self.episodes {
            if episode.ended.is_none() && !seen.contains(fingerprint) {
                episode.look(&watches[episode.plan], window, origin);
            }
        }
        self.group(watches);
        let alerts = self.tell();
        self.episodes.retain(|_, e| e.ended.is_none_or(|ended| window.start - ended < e.cool_down(window.slide)));
        alerts
    }

    /// Takes into account that late events changed a window: `change` gives by how much a value column of the series
    /// that a node covers grew. Gives the alerts that are another now.
    pub fn correct(
        &mut self,
        watches: &[Watch],
        start: i64,
        change: &dyn Fn(usize, &[Member], usize) -> f64,
    ) -> Vec<AlertUpdate> {
        for episode in self.episodes.values_mut() {
            let since = episode.seen_since;
            if episode.ended.is_none() && since <= start && start < since + episode.alert.horizon_millis {
                episode.correct(&watches[episode.plan].plan, start, change);
            }
        }
        self.group(watches);
        self.tell()
    }

    /// Ends all that is open: what watched it is gone.
    pub fn close(mut self) -> Vec<AlertUpdate> {
        for episode in self.episodes.values_mut().filter(|e| e.ended.is_none()) {
            episode.end(episode.alert.last_window.get(), Resolution::Unwatched);
        }
        self.tell()
    }

    /// Alerts that fire now, by severity.
    pub fn firing(&self) -> impl Iterator<Item = Severity> {
        let open = self.episodes.values().filter(|e| e.alert.state == AlertState::Firing);
        open.map(|e| e.alert.severity)
    }

    /// Says which of the open episodes are about one thing. The first of each such set is told, the others point at it.
    fn group(&mut self, watches: &[Watch]) {
        let mut order: Vec<&String> =
            self.episodes.iter().filter(|(_, e)| e.ended.is_none()).map(|(fingerprint, _)| fingerprint).collect();
        let rank = |fingerprint: &String| {
            let e = &self.episodes[fingerprint];
            // A roll-up that is one part's doing comes after the part.
            let width = if e.has_dominant_part() { usize::MAX } else { e.alert.group.len() };
            // What somebody has heard of goes on; another look at it is no news.
            let is_unheard = e.told.is_none_or(|(state, _)| state != AlertState::Firing);
            (width, is_unheard, e.began, e.metric, fingerprint.clone())
        };
        order.sort_by_cached_key(|fingerprint| rank(fingerprint));
        // The same in many series at once is one thing, even where no roll-up is as sure of it as they are.
        let has_many_alike = |fingerprint: &&&String| {
            let e = &self.episodes[**fingerprint];
            order.iter().filter(|other| e.is_alike(&self.episodes[**other])).nth(MANY - 1).is_some()
        };
        let alike: BTreeSet<&String> = order.iter().filter(has_many_alike).copied().collect();
        let ended: BTreeSet<&str> =
            self.episodes.values().filter(|e| e.ended.is_some()).map(|e| &*e.alert.id).collect();
        let mut mains: Vec<&String> = Vec::new();
        let mut parents: Vec<(String, Option<String>)> = Vec::new();
        for fingerprint in order {
            let e = &self.episodes[fingerprint];
            let main = mains.iter().find(|name| {
                let main = &self.episodes[**name];
                let are_many = || main.is_alike(e) && alike.contains(*name) && alike.contains(fingerprint);
                main.plan == e.plan && (main.explains(e, &watches[e.plan].plan) || are_many())
            });
            let parent = match main {
                Some(main) => Some(self.episodes[*main].alert.id.clone()),
                // What explained it ended first: that is no news.
                None => e.alert.parent.clone().filter(|parent| ended.contains(&**parent)),
            };
            if parent.is_none() {
                mains.push(fingerprint);
            }
            parents.push((fingerprint.clone(), parent));
        }
        for (fingerprint, parent) in parents {
            if let Some(episode) = self.episodes.get_mut(&fingerprint) {
                episode.alert.state = if parent.is_some() { AlertState::Suppressed } else { AlertState::Firing };
                episode.alert.parent = parent;
            }
        }
    }

    /// The alerts that somebody should hear of: what fires, as it goes on; anything else once.
    fn tell(&mut self) -> Vec<AlertUpdate> {
        let mut alerts = Vec::new();
        for episode in self.episodes.values_mut() {
            let now = Some((episode.alert.state, episode.alert.severity));
            let is_news = episode.told != now;
            if is_news || episode.alert.state == AlertState::Firing {
                episode.told = now;
                alerts.push(AlertUpdate { alert: episode.alert.clone(), is_news });
            }
        }
        alerts
    }
}

impl Episode {
    fn new(
        model: &str,
        watch: &Watch,
        found: &Found,
        members: Vec<Member>,
        group: BTreeMap<String, Option<String>>,
        fingerprint: &str,
        window: Judged,
    ) -> Self {
        let spec = &watch.plan.specs[found.metric];
        let identity = format!("{fingerprint}|{}", window.start);
        let alert = Alert {
            id: format!("{:016x}", xxh3_64(identity.as_bytes())),
            model: model.to_owned(),
            measure: spec.name.clone(),
            group,
            detector: spec.method.name().to_owned(),
            state: AlertState::Firing,
            severity: Severity::Info,
            observed: 0.0,
            expected: 0.0,
            lower: 0.0,
            upper: 0.0,
            score: 0.0,
            tail_probability: 1.0,
            first_window: EventTime::new(window.start),
            last_window: EventTime::new(window.start),
            window_millis: window.end - window.start,
            origin: Vec::new(),
            z_score: 0.0,
            threshold: spec.threshold,
            false_alarms_per_year: f64::INFINITY,
            formula: watch.plan.formula_text(found.metric),
            since: EventTime::new(window.start),
            horizon_millis: 0,
            resolution: None,
            parent: None,
            money_at_stake: None,
            parts: Vec::new(),
            trace: Vec::new(),
            fingerprint: fingerprint.to_owned(),
            episodes: 1,
            acknowledged_by: None,
            acknowledged_at: None,
            snoozed_until: None,
        };
        Self {
            plan: found.plan,
            node: found.node,
            members,
            metric: found.metric,
            is_low: found.reading.z_score < 0.0,
            alert,
            weight: 1.0,
            horizon: 1,
            course_horizon: found.reading.horizon,
            usual_windows: 0,
            seen_since: window.start,
            began: window.start,
            ended: None,
            told: None,
            stake: None,
        }
    }

    /// It came back before the series had been quiet for long.
    fn begin_again(&mut self, window: Judged) {
        self.began = window.start;
        self.alert.episodes += 1;
        self.alert.resolution = None;
        // What it comes back with is told, even if it is less than before.
        self.alert.score = 0.0;
    }

    /// Takes an unusual reading.
    fn take(&mut self, watch: &Watch, found: &Found, window: Judged, origin: &dyn Fn(i64) -> Vec<OffsetSpan>) {
        let reading = &found.reading;
        self.follow(watch, reading, window);
        let alert = &mut self.alert;
        if reading.score > alert.score {
            (alert.observed, alert.expected) = (reading.observed, reading.expected);
            (alert.lower, alert.upper) = (reading.lower, reading.upper);
            (alert.score, alert.z_score) = (reading.score, reading.z_score);
            alert.tail_probability = reading.tail_probability;
            alert.false_alarms_per_year = reading.false_alarms_per_year;
            let since = window.start + window.slide - i64::from(reading.horizon) * window.slide;
            self.seen_since = since;
            alert.horizon_millis = window.millis_of(reading.horizon);
            // Since when is what it was first seen by; later readings only say how bad it is.
            alert.since =
                if alert.trace.len() <= 1 { EventTime::new(since) } else { alert.since.min(EventTime::new(since)) };
            (self.weight, self.horizon) = (reading.weight, self.horizon.max(reading.horizon));
            alert.parts = parts(watch, found);
        }
        self.weigh(watch, origin);
    }

    /// Follows an open episode through a window in which nothing was found of it.
    fn look(&mut self, watch: &Watch, window: Judged, origin: &dyn Fn(i64) -> Vec<OffsetSpan>) {
        let is_there = watch.detector.group(self.node) == self.members;
        let Some(reading) = watch.detector.standing(self.node, self.metric).filter(|_| is_there) else {
            self.usual_windows += 1;
            if self.usual_windows >= self.patience() {
                self.end(window.start, Resolution::Gone);
            }
            return;
        };
        self.follow(watch, &reading, window);
        self.usual_windows = if reading.unusual { 0 } else { self.usual_windows + 1 };
        if self.usual_windows < self.patience() {
            self.weigh(watch, origin);
            return;
        }
        self.end(window.start, Resolution::Recovered);
        // What it came back to, over the windows of its course, or over those that say most where these say nothing.
        let last = watch.detector.standing_over(self.node, self.metric, self.course_horizon).unwrap_or(reading);
        (self.alert.observed, self.alert.expected) = (last.observed, last.expected);
        (self.alert.lower, self.alert.upper) = (last.lower, last.upper);
        self.alert.horizon_millis = window.millis_of(last.horizon);
    }

    /// Notes where the series stands in a window, and what that is worth.
    fn follow(&mut self, watch: &Watch, reading: &Reading, window: Judged) {
        let is_new = self.alert.trace.is_empty();
        self.alert.last_window = EventTime::new(window.start);
        let of_course = match reading.horizon == self.course_horizon {
            true => Some(*reading),
            false => watch.detector.standing_over(self.node, self.metric, self.course_horizon),
        };
        if let Some(point) = of_course {
            self.alert.trace.push(AlertPoint {
                window: EventTime::new(window.start),
                observed: point.observed,
                expected: point.expected,
                lower: point.lower,
                upper: point.upper,
            });
        }
        if self.alert.trace.len() > TRACE_MAX {
            self.alert.trace.remove(0);
        }
        if reading.unusual
            && let Some(money) = watch.detector.money_at_stake(self.node, self.metric, reading)
        {
            // The first reading speaks for its whole horizon, each later one for its newest window.
            let share = if is_new { 1.0 } else { 1.0 / f64::from(reading.horizon.max(1)) };
            self.stake = Some(self.stake.unwrap_or(0.0) + money.abs() * share);
        }
    }

    /// How grave it is, and where its events are.
    fn weigh(&mut self, watch: &Watch, origin: &dyn Fn(i64) -> Vec<OffsetSpan>) {
        let spec = &watch.plan.specs[self.metric];
        let severity = severity(spec.severity, self.alert.score / spec.threshold, self.stake, spec.stake);
        self.alert.severity = self.alert.severity.max(severity);
        self.alert.money_at_stake = self.stake.and_then(money_text);
        self.alert.origin = origin(self.alert.since.get());
    }

    fn end(&mut self, at: i64, resolution: Resolution) {
        self.ended = Some(at);
        self.alert.state = AlertState::Resolved;
        self.alert.resolution = Some(resolution);
        self.alert.last_window = self.alert.last_window.max(EventTime::new(at));
    }

    /// Late events changed a window that the reading is over.
    fn correct(&mut self, plan: &WatchPlan, start: i64, change: &dyn Fn(usize, &[Member], usize) -> f64) {
        let grown = |column: usize| change(self.plan, &self.members, column);
        let alert = &mut self.alert;
        let observed = match plan.config.metrics[self.metric].formula {
            Formula::Sum(column) | Formula::Level(column) => alert.observed + grown(column),
            Formula::Ratio { numerator, denominator } | Formula::Mean { amount: numerator, count: denominator } => {
                (alert.observed * self.weight + grown(numerator)) / (self.weight + grown(denominator))
            }
        };
        if observed.is_finite() && observed != alert.observed {
            alert.observed = observed;
            if alert.lower <= observed && observed <= alert.upper {
                self.end(start.max(self.alert.last_window.get()), Resolution::Corrected);
            }
        }
    }

    /// Usual windows that end it: more for one that was seen over a long time, or that flaps.
    fn patience(&self) -> u32 {
        let flapping = 1 << (self.alert.episodes - 1).clamp(0, FLAPPING_MAX);
        RESOLVED_AFTER.max(self.horizon / 4) * flapping
    }

    fn cool_down(&self, slide: i64) -> i64 {
        COOL_DOWN.max(COOL_DOWN_WINDOWS * slide).max(self.alert.horizon_millis)
    }

    /// Whether the deviation is nearly all of one part's.
    fn has_dominant_part(&self) -> bool {
        self.alert.parts.first().is_some_and(|part| part.share >= DOMINANT)
    }

    /// Whether the same number of another series went the same way at about the same time.
    fn is_alike(&self, other: &Self) -> bool {
        (self.plan, self.metric) == (other.plan, other.metric)
            && self.is_low == other.is_low
            && self.began.abs_diff(other.began) <= TOGETHER
    }

    /// Whether another open episode is about what this one is about.
    fn explains(&self, other: &Self, plan: &WatchPlan) -> bool {
        let covers = |wide: &[Member], narrow: &[Member]| {
            wide.iter().zip(narrow).all(|(wide, narrow)| *wide == Member::All || wide == narrow)
        };
        let is_its_doing = || {
            covers(&other.members, &self.members)
                && other
                    .alert
                    .parts
                    .first()
                    .is_some_and(|part| part.share >= DOMINANT && part.group == self.alert.group)
        };
        // One that is much graver is news, unless it is the same events seen another way.
        let may_be_one = plan.are_related(self.metric, other.metric) || other.alert.score < self.alert.score * GRAVER;
        self.began.abs_diff(other.began) <= TOGETHER
            && may_be_one
            && (covers(&self.members, &other.members) || is_its_doing())
    }
}

/// The roll-ups that many findings are parts of and that were not told because their parts are louder: they say more. Of
/// those that cover as many, the narrowest.
fn storms(watches: &[Watch], found: &[Found]) -> Vec<Found> {
    let mut alike: BTreeMap<(usize, usize, bool), Vec<&Found>> = BTreeMap::new();
    for finding in found {
        let is_low = finding.reading.z_score < 0.0;
        alike.entry((finding.plan, finding.metric, is_low)).or_default().push(finding);
    }
    let widest = |((plan, metric, is_low), parts): ((usize, usize, bool), Vec<&Found>)| {
        let detector = &watches[plan].detector;
        let mut covers: BTreeMap<NodeId, usize> = BTreeMap::new();
        parts.iter().flat_map(|part| detector.wider(part.node)).for_each(|node| *covers.entry(node).or_default() += 1);
        let narrow = |node: NodeId| detector.group(node).iter().filter(|member| **member != Member::All).count();
        let (node, count) = covers.into_iter().max_by_key(|(node, count)| (*count, narrow(*node)))?;
        if count < MANY || parts.iter().any(|part| part.node == node) {
            return None;
        }
        let reading = detector.standing(node, metric)?;
        let is_alike = reading.unusual && (reading.z_score < 0.0) == is_low;
        is_alike.then_some(Found { plan, node, metric, reading })
    };
    alike.into_iter().filter(|(_, parts)| parts.len() >= MANY).filter_map(widest).collect()
}

/// The severity that the line gives, one higher for a grave score or much money, one lower for little money.
fn severity(base: Severity, gravity: f64, stake: Option<f64>, limit: Option<f64>) -> Severity {
    let levels = [Severity::Info, Severity::Warning, Severity::Critical];
    let mut level = base as i32 + i32::from(gravity >= GRAVE);
    if let (Some(stake), Some(limit)) = (stake, limit) {
        level += i32::from(stake >= limit) - i32::from(stake < limit / 10.0);
    }
    levels[level.clamp(0, 2) as usize]
}

fn money_text(money: f64) -> Option<String> {
    let units = (money * 10_f64.powi(Money::SCALE as i32)).round();
    (units.abs() < 1e18).then(|| Money::from_units(units as i64).to_string())
}

/// Who makes up a roll-up's deviation: by the group column that tells most, or by single series.
fn parts(watch: &Watch, found: &Found) -> Vec<AlertPart> {
    let is_sum = matches!(watch.plan.config.metrics[found.metric].formula, Formula::Sum(_));
    if !is_sum && watch.plan.method != Method::Rate {
        // Their parts are quotients, which do not add up.
        return Vec::new();
    }
    let children = watch.detector.contributions(found.node, found.metric, found.reading.horizon);
    let whole: f64 = children.iter().map(|c| c.observed - c.expected).sum();
    if children.len() < 2 || whole == 0.0 || !whole.is_finite() {
        return Vec::new();
    }
    let free: Vec<usize> =
        (0..watch.plan.group_columns.len()).filter(|at| watch.detector.group(found.node)[*at] == Member::All).collect();
    let mut best: Vec<AlertPart> = Vec::new();
    // One column alone says more to a person than a pair, so pairs must be clearly better.
    let views = free.iter().map(|at| (vec![*at], 1.0)).chain((free.len() > 1).then(|| (free.clone(), 0.9)));
    let mut best_top = 0.0;
    for (columns, weight) in views {
        let mut sums: BTreeMap<Vec<Member>, (f64, f64)> = BTreeMap::new();
        for child in &children {
            let members = watch.detector.group(child.node);
            let mut key = watch.detector.group(found.node).to_vec();
            columns.iter().for_each(|at| key[*at] = members[*at].clone());
            let sum = sums.entry(key).or_default();
            (sum.0, sum.1) = (sum.0 + child.observed, sum.1 + child.expected);
        }
        let mut parts: Vec<AlertPart> = sums
            .into_iter()
            .map(|(members, (observed, expected))| AlertPart {
                group: watch.plan.group_of(&members),
                observed,
                expected,
                share: (observed - expected) / whole,
            })
            .collect();
        parts.sort_by(|a, b| b.share.total_cmp(&a.share));
        let top = parts.first().map_or(0.0, |part| part.share.min(1.0)) * weight;
        if parts.len() > 1 && top > best_top {
            (best, best_top) = (parts, top);
        }
    }
    best.truncate(PARTS_MAX);
    best
}

fn fingerprint(model: &str, plan: &WatchPlan, metric: usize, group: &BTreeMap<String, Option<String>>) -> String {
    let spec = &plan.specs[metric];
    let key = Kpi::id_of("", EventTime::new(0), EventTime::new(0), group);
    let identity = format!("{model}|{}|{}|{:?}|{key}", spec.name, spec.method.name(), spec.only);
    format!("{:016x}", xxh3_64(identity.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        LiveModel,
        watching::{plans, watcher::AnyDetector},
    };
    use sluice_detectors::{Calendar, Frame};

    #[test]
    fn many_loud_parts_tell_the_narrowest_roll_up_over_all_of_them() {
        for country in ["DE", "FR"] {
            let (watches, parts) = outage_of(country);
            assert_eq!(parts.len(), 4);
            let told = storms(&watches, &parts);
            let told: Vec<_> = told.iter().map(|found| watches[0].detector.group(found.node).to_vec()).collect();
            assert_eq!(told, [[Member::Value(Some(country.into())), Member::All]], "and not the whole shop");
            assert!(storms(&watches, &parts[1..]).is_empty(), "three are not many");
        }
    }

    #[test]
    fn what_was_told_is_not_explained_by_what_comes_back_later() {
        // The detector holds France for usual; here it is found unusual all the same.
        let (watches, parts) = outage_of("DE");
        let detector = &watches[0].detector;
        let node = (0..15).find(|node| detector.group(*node)[0] == Member::Value(Some("FR".into()))).unwrap();
        let found = |metric| Found { plan: 0, node, metric, reading: parts[0].reading };
        let mut book = AlertBook::default();
        let mut minute = 0;
        let mut judge = |found: &[Found]| {
            minute += 1;
            let window = Judged { start: minute * 60_000, end: (minute + 1) * 60_000, slide: 60_000 };
            book.judge("orders", &watches, window, found, &|_| Vec::new());
            let states = book.episodes.values().filter(|e| e.told.is_some());
            states.map(|e| (e.metric, e.alert.state)).collect::<BTreeMap<_, _>>()
        };
        let (orders, revenue) = (0, 1);
        assert_eq!(judge(&[found(orders)]), [(orders, AlertState::Firing)].into());
        assert!((0..10).any(|_| judge(&[])[&orders] == AlertState::Resolved));
        assert_eq!(judge(&[found(revenue)])[&revenue], AlertState::Firing);
        let states = judge(&[found(orders), found(revenue)]);
        assert_eq!(states, [(orders, AlertState::Suppressed), (revenue, AlertState::Firing)].into());
    }

    /// A watched shop in which a country sells nothing any more, and what is found of each of the country's series.
    fn outage_of(down: &str) -> ([Watch; 1], Vec<Found>) {
        let text = "-- title: Orders\n-- detect: measure=orders revenue\nSELECT country, device, count(*) AS orders, \
                    sum(coalesce(quantity * unit_price, 0)) AS revenue FROM events GROUP BY tumble(event_time, INTERVAL '1 minute'), country, device";
        let model = LiveModel::compile("orders", text, &[]).unwrap();
        let plan = plans(&model, &model.header).unwrap().remove(0);
        let mut watch = Watch { detector: AnyDetector::new(&plan).unwrap(), plan };
        let mut frame = Frame::new(2, 2);
        for minute in 0..121 {
            frame.clear(minute * 60_000, (minute + 1) * 60_000);
            for (at, country) in ["DE", "FR"].into_iter().enumerate() {
                for device in ["app", "tablet", "tv", "web"] {
                    let orders = if minute == 120 && country == down { 0 } else { 90 + (minute * 5 + at as i64) % 21 };
                    frame.push(&[Some(country.into()), Some(device.into())], &[orders as f64, (orders * 10) as f64]);
                }
            }
            watch.detector.observe(&frame, &Calendar::default(), &mut Vec::new());
        }
        let detector = &watch.detector;
        let is_part = |node: &NodeId| {
            let group = detector.group(*node);
            group[0] == Member::Value(Some(down.into())) && group[1] != Member::All
        };
        // Eight series, two countries, four devices, and the whole.
        let parts = (0..15).filter(is_part);
        let found = |node| Found { plan: 0, node, metric: 0, reading: detector.standing(node, 0).unwrap() };
        let parts = parts.map(found).collect();
        ([watch], parts)
    }
}
