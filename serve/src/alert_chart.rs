//! An alert's series as a picture: SVG that needs nothing else, light and dark.
//!
//! Drawn by hand and not by the dashboard's chart library: it must be there at once, on a phone, in a mail, without a script.

use crate::{
    formula::Formula,
    html::escaped,
    number_text::{digits, unit_of},
};
use chrono::{DateTime, Utc};
use sluice_events::{Alert, AlertState, EventTime, Kpi, Measure, PaneState, alert_text, alert_title, time_text};
use sluice_sinks::kpi_store::KpiQuery;
use std::{collections::BTreeMap, fmt::Write};

const STYLE: &str = include_str!("alert_chart.css");
/// What came before an episode is shown for this long, or for as many windows, whichever is longer.
const BEFORE_MILLIS: i64 = 2 * 3_600_000;
const BEFORE_WINDOWS: i64 = 60;
/// Windows after the episode.
const AFTER_WINDOWS: i64 = 20;
/// Panes read for one picture.
const PANES_MAX: usize = 20_000;
/// More points than pixels show nothing more.
const POINTS_MAX: usize = 560;
/// Beyond this a number is no number of a shop, and sums of such would be infinite.
const VALUE_MAX: f64 = 1e200;

// The sheet, and the plot in it.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 250.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 628.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 198.0;

/// What is drawn.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Chart {
    /// It in one sentence.
    title: String,
    /// Time shown, milliseconds since 1970-01-01 UTC.
    span: (i64, i64),
    /// Time of the episode.
    episode: (i64, i64),
    /// From one window to the next.
    slide: i64,
    /// What was seen, at the middle of each window; none where nothing is known.
    observed: Vec<(i64, Option<f64>)>,
    /// What was expected.
    expected: Vec<Expected>,
    /// Shares are told as per cent.
    is_share: bool,
    /// Which end of the line matters.
    is_low: bool,
}

/// What was expected of one window.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Expected {
    /// Middle of the window.
    at: i64,
    expected: f64,
    lower: f64,
    upper: f64,
}

/// Which panes the chart of an alert is made of.
pub fn panes_of(alert: &Alert) -> KpiQuery {
    let window = alert.window_millis.max(1);
    let before = BEFORE_MILLIS.max(window.saturating_mul(BEFORE_WINDOWS));
    let after = window.saturating_mul(AFTER_WINDOWS + 1);
    // What is missing is no value to ask for; it is looked at in `Chart::new`.
    let group = alert.group.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?))).collect();
    KpiQuery {
        model: alert.model.clone(),
        group,
        from: Some(EventTime::new(alert.since.get().saturating_sub(before))),
        to: Some(EventTime::new(alert.last_window.get().saturating_add(after))),
        limit: PANES_MAX,
    }
}

/// Charts of several alerts, one below the other with its sentence, as one picture. `panes` are those of the alerts' models
/// around their time.
pub fn alert_charts(alerts: &[(Alert, Vec<Kpi>)]) -> String {
    let step = HEIGHT as usize + SENTENCE;
    let (width, height) = (WIDTH as usize, alerts.len() * step);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\">\
         <rect width=\"100%\" height=\"100%\" fill=\"Canvas\"/>"
    );
    for (at, (alert, panes)) in alerts.iter().enumerate() {
        let top = at * step;
        let firing = Alert { state: AlertState::Firing, ..alert.clone() };
        let _ = write!(
            out,
            "<text x=\"8\" y=\"{}\" font-family=\"sans-serif\" font-size=\"11\" fill=\"CanvasText\">{}</text>\
             <svg y=\"{}\" width=\"{width}\" height=\"{HEIGHT}\">{}</svg>",
            top + SENTENCE - 6,
            escaped(&alert_title(&firing)),
            top + SENTENCE,
            Chart::new(alert, panes).svg()
        );
    }
    out.push_str("</svg>\n");
    out
}

/// Height of the sentence above a chart.
const SENTENCE: usize = 24;

impl Chart {
    /// The alert over panes of its model, newest first.
    pub(crate) fn new(alert: &Alert, panes: &[Kpi]) -> Self {
        let formula = Formula::of(alert);
        let window = alert.window_millis.max(1);
        let middle = |start: i64| start.saturating_add(window / 2);
        let end = alert.last_window.get().saturating_add(window);
        let (seen, slide) = series(alert, &formula, panes);
        // A rate's numbers are over the horizon; a window has its share of a sum, and all of a quotient.
        let share = match formula.is_quotient() || alert.horizon_millis <= 0 {
            true => 1.0,
            false => window as f64 / alert.horizon_millis as f64,
        };
        let known = |value: f64| Some(value * share).filter(|v| v.abs() < VALUE_MAX);
        let from_trace = || alert.trace.iter().map(|p| (p.window.get(), known(p.observed)));
        let observed: Vec<(i64, Option<f64>)> = match seen.is_empty() {
            true => from_trace().map(|(start, value)| (middle(start), value)).collect(),
            false => seen.into_iter().map(|(start, value)| (middle(start), value)).collect(),
        };
        let bound = |value: f64, none: f64| known(value).unwrap_or(none);
        let expect = |at, expected, lower, upper| {
            let (lower, upper) = (bound(lower, f64::NEG_INFINITY), bound(upper, f64::INFINITY));
            known(expected).map(|expected| Expected { at, expected, lower, upper })
        };
        let mut expected: Vec<Expected> =
            alert.trace.iter().filter_map(|p| expect(middle(p.window.get()), p.expected, p.lower, p.upper)).collect();
        if alert.trace.is_empty() {
            // Alerts of older versions have one expectation for the whole episode.
            let ends = [alert.first_window.get(), alert.last_window.get()];
            expected = ends
                .into_iter()
                .filter_map(|start| expect(middle(start), alert.expected, alert.lower, alert.upper))
                .collect();
            expected.dedup();
        }
        let before = BEFORE_MILLIS.max(window.saturating_mul(BEFORE_WINDOWS));
        let first = alert.since.get().saturating_sub(before);
        let earliest = observed.first().map_or(alert.since.get(), |(at, _)| at.saturating_sub(window / 2));
        let newest = observed.last().map_or(end, |(at, _)| at.saturating_add(window / 2));
        Self {
            title: alert_text(alert),
            span: (first.max(earliest).min(alert.since.get()), newest.max(end)),
            episode: (alert.since.get(), if alert.state == AlertState::Resolved { end } else { newest.max(end) }),
            slide,
            observed: thinned(observed),
            expected,
            is_share: formula.funnel_step().is_some(),
            is_low: alert.observed < alert.expected,
        }
    }

    /// The picture.
    pub(crate) fn svg(&self) -> String {
        let mut out = String::new();
        let _ = write!(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"alert-chart\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
             aria-labelledby=\"alert-chart-title alert-chart-desc\"><title id=\"alert-chart-title\">{}</title>\
             <desc id=\"alert-chart-desc\">{}</desc><style>{}</style>\
             <rect class=\"sheet\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>",
            escaped(&self.title),
            escaped(&self.description()),
            STYLE.trim(),
        );
        match self.scale() {
            Some(scale) => self.draw(&mut out, &scale),
            None => {
                let _ = write!(
                    out,
                    "<text class=\"nothing\" x=\"{}\" y=\"{}\">No data: nothing is stored of this time</text>",
                    WIDTH / 2.0,
                    HEIGHT / 2.0
                );
            }
        }
        out.push_str("</svg>");
        out
    }

    /// The same for those who do not see it.
    fn description(&self) -> String {
        let values = || self.observed.iter().filter_map(|(_, value)| *value);
        let (Some(low), Some(high)) = (values().reduce(f64::min), values().reduce(f64::max)) else {
            return "No data.".to_owned();
        };
        let mut text = format!(
            "Seen from {} to {}: {} at the lowest, {} at the highest.",
            time_text(EventTime::new(self.span.0)),
            time_text(EventTime::new(self.span.1)),
            self.label(low),
            self.label(high),
        );
        if let Some(last) = self.expected.last() {
            let _ = write!(text, " Expected at the end: {}", self.label(last.expected));
            match (last.lower.is_finite(), last.upper.is_finite()) {
                (true, true) => {
                    let _ = write!(text, ", from {} to {}", self.label(last.lower), self.label(last.upper));
                }
                (true, false) => {
                    let _ = write!(text, ", {} at least", self.label(last.lower));
                }
                (false, true) => {
                    let _ = write!(text, ", {} at most", self.label(last.upper));
                }
                (false, false) => {}
            }
            text.push('.');
        }
        text
    }

    fn label(&self, value: f64) -> String {
        if self.is_share { format!("{}\u{a0}%", digits(value * 100.0, 3)) } else { digits(value, 4) }
    }

    /// None when there is nothing to draw.
    fn scale(&self) -> Option<Scale> {
        let values =
            self.observed.iter().filter_map(|(_, value)| *value).chain(self.expected.iter().map(|e| e.expected));
        let (mut low, mut high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        if low > high || self.span.0 >= self.span.1 {
            return None;
        }
        // A band may be far wider than the numbers: it gets half as much room again.
        let room = (high - low).max(high.abs() * 0.1) * 0.5;
        let ends = self.expected.iter().flat_map(|e| [e.lower, e.upper]).filter(|v| v.is_finite());
        let (floor, ceiling) = (low - room, high + room);
        for end in ends {
            low = low.min(end.max(floor));
            high = high.max(end.min(ceiling));
        }
        // From zero on, unless that would press the line flat.
        if low >= 0.0 && low < 0.5 * high {
            low = 0.0;
        }
        if self.is_share && high <= 1.0 && high > 0.5 {
            high = 1.0;
        }
        let least = (high.abs().max(low.abs()) * 1e-6).max(1e-12);
        if high - low < least {
            (low, high) = if low == 0.0 { (0.0, 1.0) } else { (low - low.abs() * 0.1, high + high.abs() * 0.1) };
        }
        let step = round_step((high - low) / 4.0);
        let (first, mut last) = ((low / step).floor(), (high / step).ceil());
        // Room for the label of the highest; but nothing is above all.
        if (last * step - high) < 0.08 * (last - first) * step && !(self.is_share && high >= 0.99) {
            last += 1.0;
        }
        Some(Scale { time: self.span, value: (first * step, last * step), step, ticks: (first as i64, last as i64) })
    }

    fn draw(&self, out: &mut String, scale: &Scale) {
        let (from, to) = (scale.x(self.episode.0), scale.x(self.episode.1));
        let _ = write!(
            out,
            "<rect class=\"episode\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{}\"/>",
            (to - from).max(2.0),
            BOTTOM - TOP
        );
        self.draw_band(out, scale);
        let _ = write!(out, "<path class=\"begin\" d=\"M{from:.1} {TOP}V{BOTTOM}\"/>");
        self.draw_values(out, scale);
        self.draw_bounds(out, scale);
        self.draw_line(out, scale);
        self.draw_extremes(out, scale);
        self.draw_times(out, scale);
        legend(out);
    }

    fn draw_values(&self, out: &mut String, scale: &Scale) {
        let step = if self.is_share { scale.step * 100.0 } else { scale.step };
        for tick in scale.ticks.0..=scale.ticks.1 {
            let value = tick as f64 * scale.step;
            let y = scale.y(value);
            let text = if self.is_share { format!("{}\u{a0}%", axis(value * 100.0, step)) } else { axis(value, step) };
            let _ = write!(
                out,
                "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{RIGHT}\"/><text class=\"value\" x=\"{}\" y=\"{:.1}\">{text}</text>",
                LEFT - 8.0,
                y + 4.0
            );
        }
    }

    fn draw_line(&self, out: &mut String, scale: &Scale) {
        let mut line = String::new();
        let mut pen_is_down = false;
        for (at, value) in &self.observed {
            let Some(value) = value else {
                pen_is_down = false;
                continue;
            };
            let (x, y) = (scale.x(*at), scale.y(*value));
            // A point between two gaps is a dot: a line to itself with round ends.
            let _ = if pen_is_down { write!(line, "L{x:.1} {y:.1}") } else { write!(line, "M{x:.1} {y:.1}h0") };
            pen_is_down = true;
        }
        let _ = write!(out, "<path class=\"seen\" d=\"{line}\"/>");
    }

    /// What was expected, in steps of one window: from where to where on the sheet.
    fn steps(&self, scale: &Scale) -> Vec<(f64, f64, &Expected)> {
        let every = self.expected.len().div_ceil(POINTS_MAX).max(1);
        let half = (self.slide / 2).saturating_mul(every as i64);
        let shown = self.expected.iter().step_by(every);
        shown.map(|e| (scale.x(e.at.saturating_sub(half)), scale.x(e.at.saturating_add(half)), e)).collect()
    }

    fn draw_band(&self, out: &mut String, scale: &Scale) {
        let shown = self.steps(scale);
        if shown.iter().any(|(.., e)| e.lower.is_finite() || e.upper.is_finite()) {
            let mut area = String::new();
            for (from, to, e) in &shown {
                let pen = if area.is_empty() { 'M' } else { 'L' };
                let _ = write!(area, "{pen}{from:.1} {:.1}H{to:.1}", scale.y(e.upper));
            }
            for (from, to, e) in shown.iter().rev() {
                let _ = write!(area, "L{to:.1} {:.1}H{from:.1}", scale.y(e.lower));
            }
            // On a ground of its own, so that its colour is that of the legend.
            let _ = write!(out, "<path class=\"ground\" d=\"{area}Z\"/><path class=\"band\" d=\"{area}Z\"/>");
        }
    }

    fn draw_bounds(&self, out: &mut String, scale: &Scale) {
        let shown = self.steps(scale);
        let mut draw = |class: &str, value: &dyn Fn(&Expected) -> f64| {
            let mut line = String::new();
            for (from, to, e) in shown.iter().filter(|(.., e)| value(e).is_finite()) {
                let pen = if line.is_empty() { 'M' } else { 'L' };
                let _ = write!(line, "{pen}{from:.1} {:.1}H{to:.1}", scale.y(value(e)));
            }
            if !line.is_empty() {
                let _ = write!(out, "<path class=\"{class}\" d=\"{line}\"/>");
            }
        };
        draw("bound", &|e| e.lower);
        draw("bound", &|e| e.upper);
        draw("expected", &|e| e.expected);
    }

    /// The worst point of the episode, and the other end of the line.
    fn draw_extremes(&self, out: &mut String, scale: &Scale) {
        let known = || self.observed.iter().filter_map(|(at, value)| Some((*at, (*value)?)));
        let inside = |at: &i64| (self.episode.0..self.episode.1).contains(at);
        let further = |low: bool, a: (i64, f64), b: (i64, f64)| if (b.1 < a.1) == low && a.1 != b.1 { b } else { a };
        let Some(worst) = known().filter(|(at, _)| inside(at)).reduce(|a, b| further(self.is_low, a, b)) else {
            return;
        };
        self.draw_label(out, scale, worst, !self.is_low);
        let Some(other) = known().reduce(|a, b| further(!self.is_low, a, b)) else { return };
        let apart = (scale.x(other.0) - scale.x(worst.0)).abs() > 70.0;
        if other.1 != worst.1 && (apart || (scale.y(other.1) - scale.y(worst.1)).abs() > 40.0) {
            self.draw_label(out, scale, other, self.is_low);
        }
    }

    fn draw_label(&self, out: &mut String, scale: &Scale, (at, value): (i64, f64), above: bool) {
        let (x, y) = (scale.x(at), scale.y(value));
        let below = !above && y + 22.0 < BOTTOM;
        let label_y = if below { y + 19.0 } else { (y - 9.0).max(TOP + 10.0) };
        let anchor = match x {
            x if x < LEFT + 40.0 => "start",
            x if x > RIGHT - 40.0 => "end",
            _ => "middle",
        };
        let _ = write!(
            out,
            "<circle class=\"extreme\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\"/>\
             <text class=\"label\" x=\"{x:.1}\" y=\"{label_y:.1}\" text-anchor=\"{anchor}\">{}</text>",
            self.label(value)
        );
    }

    fn draw_times(&self, out: &mut String, scale: &Scale) {
        let _ = write!(out, "<path class=\"axis\" d=\"M{LEFT} {BOTTOM}H{RIGHT}\"/>");
        let (from, to) = self.span;
        let step = time_step(to.saturating_sub(from));
        let mut tick = from.div_euclid(step).saturating_mul(step);
        while tick <= to {
            if tick >= from
                && let Some(time) = moment(tick)
            {
                let x = scale.x(tick);
                let format = match step {
                    DAY.. => "%-d %b",
                    60_000.. => "%H:%M",
                    _ => "%H:%M:%S",
                };
                let _ = write!(
                    out,
                    "<path class=\"axis\" d=\"M{x:.1} {BOTTOM}v4\"/><text class=\"time\" x=\"{:.1}\" y=\"{}\">{}</text>",
                    // The last one is not cut off by the edge.
                    x.min(WIDTH - 27.0),
                    BOTTOM + 20.0,
                    time.format(format)
                );
            }
            tick = match tick.checked_add(step) {
                Some(next) => next,
                None => break,
            };
        }
        if let (Some(from), Some(to)) = (moment(from), moment(to.saturating_sub(1))) {
            let days = match from.date_naive() == to.date_naive() {
                true => from.format("%-d %B %Y").to_string(),
                false => format!("{} to {}", from.format("%-d %B"), to.format("%-d %B %Y")),
            };
            let _ = write!(out, "<text class=\"date\" x=\"{RIGHT}\" y=\"{}\">{days}, UTC</text>", HEIGHT - 8.0);
        }
    }
}

fn legend(out: &mut String) {
    let (y, line) = (12.0, 18.0);
    for (x, mark, text) in [
        (LEFT, format!("<path class=\"seen\" d=\"M{LEFT} {y}h{line}\"/>"), "seen"),
        (LEFT + 100.0, format!("<path class=\"expected\" d=\"M{} {y}h{line}\"/>", LEFT + 100.0), "expected"),
        (LEFT + 240.0, swatch("band", LEFT + 240.0), "usual range"),
        (LEFT + 410.0, swatch("episode", LEFT + 410.0), "alert"),
    ] {
        let _ = write!(out, "{mark}<text class=\"legend\" x=\"{}\" y=\"{}\">{text}</text>", x + line + 7.0, y + 4.0);
    }
}

fn swatch(class: &str, x: f64) -> String {
    format!("<rect class=\"{class}\" x=\"{x}\" y=\"6\" width=\"18\" height=\"12\"/>")
}

/// From data to the sheet.
struct Scale {
    time: (i64, i64),
    value: (f64, f64),
    step: f64,
    ticks: (i64, i64),
}

impl Scale {
    /// Times beyond the ends are at the ends.
    fn x(&self, time: i64) -> f64 {
        let (from, to) = (self.time.0 as f64, self.time.1 as f64);
        LEFT + ((time as f64 - from) / (to - from)).clamp(0.0, 1.0) * (RIGHT - LEFT)
    }

    /// Values beyond the ends are at the ends, infinite ones too.
    fn y(&self, value: f64) -> f64 {
        let (low, high) = self.value;
        BOTTOM - ((value.clamp(low, high) - low) / (high - low)) * (BOTTOM - TOP)
    }
}

/// What panes say of each window, oldest first, and the time from one to the next.
fn series(alert: &Alert, formula: &Formula, panes: &[Kpi]) -> (BTreeMap<i64, Option<f64>>, i64) {
    let window = alert.window_millis.max(1);
    let mut sums: BTreeMap<i64, (f64, f64)> = BTreeMap::new();
    // Counts and exact amounts add up, and none of them is zero; a level that is missing is not known.
    let mut adds_up = true;
    let is_of = |kpi: &&Kpi| {
        // An open window is lower than it will be: it would look like the anomaly itself.
        kpi.state != PaneState::Provisional
            && alert.group.iter().all(|(name, value)| kpi.group.get(name) == Some(value))
    };
    for kpi in panes.iter().filter(is_of) {
        let mut sum = |columns: &[String]| {
            let mut sum = None;
            for measure in columns.iter().filter_map(|column| kpi.measures.get(column)) {
                adds_up &= !matches!(measure, Measure::Double(_));
                if let Some(value) = measure.as_f64().filter(|v| v.abs() < VALUE_MAX) {
                    sum = Some(sum.unwrap_or(0.0) + value);
                }
            }
            sum
        };
        let (above, below) = (sum(&formula.numerator), sum(&formula.denominator));
        if above.is_some() || below.is_some() {
            let sums = sums.entry(kpi.window_start.get()).or_default();
            sums.0 += above.unwrap_or(0.0);
            sums.1 += below.unwrap_or(0.0);
        }
    }
    // More panes than were asked for: the oldest window may lack groups.
    if panes.len() >= PANES_MAX {
        sums.pop_first();
    }
    let starts: Vec<i64> = sums.keys().copied().collect();
    let slide = starts.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).min().unwrap_or(window).clamp(1, window);
    let mut values: BTreeMap<i64, Option<f64>> = sums
        .into_iter()
        .map(|(start, (above, below))| {
            let value = if formula.is_quotient() { above / below } else { above };
            (start, Some(value).filter(|v| v.abs() < VALUE_MAX))
        })
        .collect();
    if let Some(&first) = starts.first() {
        let silent = (!formula.is_quotient() && adds_up).then_some(0.0);
        let last = alert.last_window.get().max(starts.last().copied().unwrap_or(first));
        let mut start = first;
        // The bound is on what a wrong window length could do.
        for _ in 0..PANES_MAX {
            if start > last {
                break;
            }
            values.entry(start).or_insert(silent);
            start = start.saturating_add(slide);
        }
    }
    (values, slide)
}

/// At most two points a pixel or so: of many windows the lowest and the highest.
fn thinned(points: Vec<(i64, Option<f64>)>) -> Vec<(i64, Option<f64>)> {
    if points.len() <= POINTS_MAX {
        return points;
    }
    let size = points.len().div_ceil(POINTS_MAX / 2);
    let mut thin = Vec::with_capacity(POINTS_MAX);
    for chunk in points.chunks(size) {
        let known = || chunk.iter().filter_map(|(at, value)| Some((*at, (*value)?)));
        let lowest = known().reduce(|a, b| if b.1 < a.1 { b } else { a });
        let highest = known().reduce(|a, b| if b.1 > a.1 { b } else { a });
        let (Some(a), Some(b)) = (lowest, highest) else {
            thin.push((chunk[0].0, None));
            continue;
        };
        let (first, second) = if a.0 <= b.0 { (a, b) } else { (b, a) };
        thin.push((first.0, Some(first.1)));
        if second.0 != first.0 {
            thin.push((second.0, Some(second.1)));
        }
    }
    thin
}

const DAY: i64 = 86_400_000;

/// Seven ticks at most, at times people say.
fn time_step(length: i64) -> i64 {
    const SECOND: i64 = 1_000;
    const MINUTE: i64 = 60 * SECOND;
    const HOUR: i64 = 60 * MINUTE;
    let steps = [
        SECOND,
        5 * SECOND,
        15 * SECOND,
        30 * SECOND,
        MINUTE,
        2 * MINUTE,
        5 * MINUTE,
        10 * MINUTE,
        15 * MINUTE,
        30 * MINUTE,
        HOUR,
        2 * HOUR,
        3 * HOUR,
        6 * HOUR,
        12 * HOUR,
        DAY,
        2 * DAY,
        7 * DAY,
        14 * DAY,
        28 * DAY,
    ];
    steps.into_iter().find(|step| length / step <= 6).unwrap_or_else(|| (length / 6 / DAY + 1).saturating_mul(DAY))
}

/// 1, 2, 2.5 or 5 times a power of ten, this large at least.
fn round_step(rough: f64) -> f64 {
    let power = 10f64.powf(rough.log10().floor());
    [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|m| m * power).find(|step| *step >= rough * 0.999).unwrap_or(rough)
}

fn moment(millis: i64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_millis(millis)
}

/// A tick: as many decimal places as its step has.
fn axis(value: f64, step: f64) -> String {
    let (unit, sign) = unit_of(value.abs().max(step));
    let (value, step) = (value / unit, step / unit);
    let places = (0..6).find(|places| (step * 10f64.powi(*places)).fract().abs() < 1e-6).unwrap_or(6) as usize;
    let text = format!("{value:.places$}");
    if value == 0.0 { "0".to_owned() } else { format!("{text}{sign}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert_sample::{MINUTE, START, alert};
    use sluice_events::AlertPoint;

    fn pane(minute: i64, group: &[(&str, Option<&str>)], measures: &[(&str, Measure)]) -> Kpi {
        Kpi {
            id: String::new(),
            model: "sales".to_owned(),
            window_start: EventTime::new(START + minute * MINUTE),
            window_end: EventTime::new(START + (minute + 1) * MINUTE),
            group: group.iter().map(|(k, v)| ((*k).to_owned(), v.map(str::to_owned))).collect(),
            measures: measures.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect(),
            state: PaneState::Final,
            version: 1,
            sequence: 1,
            closed_by: None,
            completeness: 1.0,
        }
    }

    fn of(country: &str) -> [(&str, Option<&str>); 1] {
        [("country", Some(country))]
    }

    fn revenue(minute: i64, country: &str, revenue: &str) -> Kpi {
        pane(minute, &of(country), &[("revenue", Measure::Text(revenue.to_owned()))])
    }

    fn values(chart: &Chart) -> Vec<(i64, Option<f64>)> {
        chart.observed.iter().map(|(at, value)| ((at - START).div_euclid(MINUTE), *value)).collect()
    }

    /// Every number of the picture is on the sheet.
    fn is_sound(svg: &str) {
        for word in ["NaN", "nan", "inf"] {
            assert!(!svg.contains(&format!("{word} ")) && !svg.contains(&format!("\"{word}")), "{svg}");
        }
        for path in svg.split(" d=\"").skip(1) {
            let path = path.split('"').next().unwrap();
            for number in path.split(|c: char| !(c.is_ascii_digit() || c == '.' || c == '-')).filter(|n| !n.is_empty())
            {
                let number: f64 = number.parse().unwrap_or_else(|_| panic!("{path}"));
                assert!((0.0..=WIDTH).contains(&number), "{path}");
            }
        }
    }

    fn point(minute: i64, observed: f64, expected: f64, lower: f64, upper: f64) -> AlertPoint {
        AlertPoint { window: EventTime::new(START + minute * MINUTE), observed, expected, lower, upper }
    }

    #[test]
    fn panes_of_the_group_are_the_line_and_silence_of_a_sum_is_zero() {
        let panes = [revenue(2, "FR", "3.0000"), revenue(-1, "FR", "2.0000"), revenue(-1, "DE", "50.0000")];
        let mut alert = alert();
        alert.last_window = EventTime::new(START + 3 * MINUTE);
        let chart = Chart::new(&alert, &panes);
        let (some, zero) = (Some, Some(0.0));
        // The time from one window to the next is learnt from the panes, and no longer than a window.
        assert_eq!(values(&chart), [(-1, some(2.0)), (0, zero), (1, zero), (2, some(3.0)), (3, zero)]);
        let open = Kpi { state: PaneState::Provisional, ..revenue(4, "FR", "0.1000") };
        let chart = Chart::new(&alert, &[open, revenue(3, "FR", "1.0000")]);
        assert_eq!(values(&chart), [(3, some(1.0))], "an open window is not drawn");
    }

    #[test]
    fn a_roll_up_is_the_sum_of_its_groups_and_a_quotient_divides_the_sums() {
        let count = |minute, country, purchases, abandons| {
            pane(
                minute,
                &of(country),
                &[("purchases", Measure::Long(purchases)), ("abandons", Measure::Long(abandons))],
            )
        };
        let panes = [count(0, "FR", 1, 9), count(0, "DE", 30, 10), count(1, "FR", 0, 0), count(3, "FR", 1, 1)];
        let mut alert = alert();
        alert.group.clear();
        alert.last_window = EventTime::new(START + 3 * MINUTE);
        alert.formula = "abandons / (abandons + purchases)".to_owned();
        let chart = Chart::new(&alert, &panes);
        assert_eq!(
            values(&chart),
            [(0, Some(0.38)), (1, None), (2, None), (3, Some(0.5))],
            "nothing by nothing is a gap"
        );
        assert!(chart.is_share && chart.svg().contains("\u{a0}%<"));
        alert.formula = "purchases".to_owned();
        assert_eq!(values(&Chart::new(&alert, &panes))[0], (0, Some(31.0)));
        alert.group = [("country".to_owned(), None)].into();
        let unknown = pane(0, &[("country", None)], &[("purchases", Measure::Long(7))]);
        assert_eq!(values(&Chart::new(&alert, &[unknown]))[0], (0, Some(7.0)), "a missing value is a group too");
    }

    #[test]
    fn a_level_that_is_missing_is_a_gap() {
        let panes = [0, 2].map(|minute| pane(minute, &of("FR"), &[("revenue", Measure::Double(5.0))]));
        let mut alert = alert();
        alert.last_window = EventTime::new(START + 2 * MINUTE);
        let chart = Chart::new(&alert, &[&panes[..], &[revenue(1, "DE", "1")]].concat());
        assert_eq!(values(&chart), [(0, Some(5.0)), (1, None), (2, Some(5.0))]);
    }

    #[test]
    fn expectations_over_a_horizon_are_told_for_one_window() {
        let mut alert = alert();
        alert.trace = vec![point(0, 5.0, 50.0, 25.0, f64::INFINITY)];
        alert.horizon_millis = 5 * MINUTE;
        let chart = Chart::new(&alert, &[]);
        let at = START + MINUTE / 2;
        assert_eq!(chart.expected, [Expected { at, expected: 10.0, lower: 5.0, upper: f64::INFINITY }]);
        assert_eq!(values(&chart), [(0, Some(1.0))], "without panes the trace is the line");
        alert.formula = "purchases / checkouts".to_owned();
        assert_eq!(Chart::new(&alert, &[]).expected[0].expected, 50.0, "a quotient stays");
        alert.trace.clear();
        alert.formula.clear();
        let chart = Chart::new(&alert, &[]);
        assert_eq!(chart.expected.iter().map(|e| e.expected).collect::<Vec<_>>(), [20.1, 20.1], "the alert's own");
    }

    #[test]
    fn a_picture_is_as_it_was() {
        let mut alert = alert();
        alert.measure = "revenue <b>".to_owned();
        alert.formula = "revenue".to_owned();
        alert.trace = (0..10).map(|m| point(m, 0.0, 100.0 + m as f64, 60.0 + m as f64, f64::INFINITY)).collect();
        let wave = |m: i64| format!("{}.0000", 100 + (m * 7).rem_euclid(23));
        let panes: Vec<Kpi> = (-120..0).chain(12..20).map(|m| revenue(m, "FR", &wave(m))).collect();
        alert.state = AlertState::Resolved;
        let svg = Chart::new(&alert, &panes).svg();
        is_sound(&svg);
        assert!(svg.contains("revenue &lt;b&gt; of sales") && !svg.contains("<b>"));
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/alert_chart.svg");
        if std::env::var_os("SLUICE_WRITE_GOLDEN").is_some() {
            std::fs::write(path, format!("{svg}\n")).unwrap();
        }
        assert_eq!(svg, std::fs::read_to_string(path).unwrap().trim_end(), "SLUICE_WRITE_GOLDEN=1 writes it anew");
    }

    #[test]
    fn no_data_is_said_and_no_number_breaks_the_picture() {
        let mut odd = alert();
        (odd.expected, odd.lower, odd.upper) = (f64::NAN, f64::NAN, f64::NAN);
        let svg = Chart::new(&odd, &[]).svg();
        assert!(svg.contains("No data"), "{svg}");
        let numbers =
            [0.0, -0.0, 1e-300, 1e300, -1e199, 1e199, f64::MAX, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 7.0];
        for a in numbers {
            for b in numbers {
                let mut odd = alert();
                odd.trace = vec![point(0, a, b, a, b), point(1, b, a, b, a), point(7, b, 1.0, a, b)];
                for (window, horizon) in [(MINUTE, MINUTE), (0, 0), (i64::MAX, 1), (-5, MINUTE), (1, i64::MAX)] {
                    (odd.window_millis, odd.horizon_millis) = (window, horizon);
                    let panes = [("revenue", Measure::Double(a))];
                    is_sound(&Chart::new(&odd, &[]).svg());
                    is_sound(&Chart::new(&odd, &[pane(0, &of("FR"), &panes), pane(3, &of("FR"), &panes)]).svg());
                }
            }
        }
        for (since, last) in [(i64::MIN, i64::MAX), (i64::MAX, i64::MIN), (START, i64::MAX), (0, 0)] {
            let mut odd = alert();
            (odd.since, odd.first_window, odd.last_window) =
                (EventTime::new(since), EventTime::new(since), EventTime::new(last));
            is_sound(&Chart::new(&odd, &[revenue(0, "FR", "1.5")]).svg());
        }
    }

    #[test]
    fn many_windows_are_thinned_and_keep_their_ends() {
        let points: Vec<(i64, Option<f64>)> =
            (0..10_000).map(|n| (n, Some(if n == 5_000 { -9.0 } else { (n % 10) as f64 }))).collect();
        let thin = thinned(points);
        assert!(thin.len() <= POINTS_MAX && thin.contains(&(5_000, Some(-9.0))), "{}", thin.len());
        assert!(thin.is_sorted_by_key(|(at, _)| *at));
    }

    #[test]
    fn ticks_are_round_and_numbers_short() {
        assert_eq!([0.3, 7.0, 23.0, 900.0].map(round_step), [0.5, 10.0, 25.0, 1000.0]);
        assert_eq!(time_step(130 * 60_000), 30 * 60_000);
        assert_eq!(time_step(10 * 86_400_000), 2 * 86_400_000);
        assert_eq!(
            [(0.0, 0.25), (0.5, 0.25), (1_500.0, 500.0), (25_000.0, 5_000.0)].map(|(v, s)| axis(v, s)),
            ["0", "0.50", "1500", "25k"]
        );
    }
}
