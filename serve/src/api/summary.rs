//! The time series of the dashboard: the newest windows, added up over all groups.

use super::{ApiError, ErrorBody, finite, parameters::Parameters};
use crate::server::Shared;
use axum::{
    Json,
    extract::{Query, State},
};
use rust_decimal::Decimal;
use serde::Serialize;
use sluice_events::{EventTime, EventType, Kpi, Measure, PaneState, time_text};
use sluice_sinks::kpi_store::{KpiQuery, KpiStore, KpiStoreError};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};
use utoipa::ToSchema;

const MINUTES: usize = 60;
/// Bounds what one request reads: this many minutes, times the groups of the two models.
const MINUTES_MAX: usize = 240;
/// Pages ask every two seconds and panes change every second: all pages may share one answer for that long.
const SHARED_FOR: Duration = Duration::from_secs(1);
const ACTIVITY: &str = "activity";
const SALES: &str = "sales";

/// The newest windows of `activity` and `sales`, added up over all groups.
///
/// Time is event time: the series ends with the newest window that has panes, however long ago that is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub(crate) struct Summary {
    /// End of the newest window, RFC 3339; null when there is none yet.
    as_of: Option<String>,
    /// Minutes of event time covered.
    minutes: usize,
    /// Oldest window first, with no gap: a window without panes is a row of zeros.
    points: Vec<Point>,
    totals: Totals,
    /// Models that the numbers need and that do not run here.
    missing_models: Vec<String>,
}

/// One window.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Point {
    /// RFC 3339.
    window_start: String,
    /// RFC 3339.
    window_end: String,
    /// Events by type.
    events_by_type: BTreeMap<String, i64>,
    /// Events of all types.
    events: i64,
    events_per_second: f64,
    /// Exact decimal.
    #[schema(example = "1203.5000")]
    revenue: String,
    orders: i64,
    items: i64,
    /// Carts left / (carts left + orders): by cart_abandon events, not by sessions; null when there was neither.
    abandonment_rate: Option<f64>,
    /// The least final state of its panes; null when it has none.
    #[schema(value_type = Option<String>, example = "sealed")]
    state: Option<PaneState>,
    /// The window is open: its numbers still grow.
    provisional: bool,
}

/// All windows together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub(crate) struct Totals {
    events: i64,
    /// Exact decimal.
    revenue: String,
    orders: i64,
    items: i64,
    /// Revenue / orders, to 4 decimal places; null without orders.
    aov: Option<String>,
    /// Carts left / (carts left + orders): by cart_abandon events, not by sessions; null when there was neither.
    abandonment_rate: Option<f64>,
}

/// The answers that pages share for a moment, by minutes.
pub(crate) type SummaryCache = tokio::sync::Mutex<HashMap<usize, (Instant, Arc<Summary>)>>;

/// The newest windows added up over all groups, for charts: events by type, revenue, orders, abandonment rate.
#[utoipa::path(
    get,
    path = "/api/v1/summary",
    tag = "KPIs",
    params(("minutes" = Option<u32>, Query, description = "Minutes of event time: 1 to 240, 60 when not given")),
    responses(
        (status = 200, body = Summary),
        (status = 400, body = ErrorBody, description = "A parameter is wrong or unknown"),
        (status = 503, body = ErrorBody, description = "The KPI store does not answer"),
    )
)]
pub(crate) async fn summary(
    State(shared): State<Arc<Shared>>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Json<Arc<Summary>>, ApiError> {
    let mut parameters = Parameters::new(pairs)?;
    let minutes = parameters.number("minutes", MINUTES, MINUTES_MAX)?;
    parameters.finish()?;
    // Held while reading: of many pages that ask at once, one reads and the others get its answer.
    let mut cache = shared.summaries.lock().await;
    cache.retain(|_, (read_at, _)| read_at.elapsed() < SHARED_FOR);
    if let Some((_, summary)) = cache.get(&minutes) {
        return Ok(Json(summary.clone()));
    }
    let models = shared.state.models.models();
    let known: Vec<&'static str> =
        [ACTIVITY, SALES].into_iter().filter(|name| models.iter().any(|m| m.name == *name)).collect();
    let summary = Arc::new(shared.ask_store(move |store| read(store, &known, minutes)).await?);
    cache.insert(minutes, (Instant::now(), summary.clone()));
    Ok(Json(summary))
}

fn read(store: &dyn KpiStore, models: &[&str], minutes: usize) -> Result<Summary, KpiStoreError> {
    let query = |model: &str, limit| KpiQuery { model: model.to_owned(), limit, ..KpiQuery::default() };
    let mut newest: Option<EventTime> = None;
    for model in models {
        newest = newest.max(store.kpis(&query(model, 1))?.first().map(|kpi| kpi.window_start));
    }
    let mut kpis = Vec::new();
    if let Some(newest) = newest {
        let span = (minutes as i64 - 1) * 60_000;
        let from = Some(EventTime::new(newest.get().saturating_sub(span)));
        for model in models {
            kpis.extend(store.kpis(&KpiQuery { from, ..query(model, usize::MAX) })?);
        }
    }
    let mut summary = sum_up(&kpis);
    summary.minutes = minutes;
    summary.missing_models =
        [ACTIVITY, SALES].iter().filter(|m| !models.contains(m)).map(|m| (*m).to_owned()).collect();
    Ok(summary)
}

/// What the panes of one window add up to.
#[derive(Clone, Default)]
struct Sums {
    end: i64,
    by_type: BTreeMap<String, i64>,
    revenue: Decimal,
    orders: i64,
    items: i64,
    state: Option<PaneState>,
}

impl Sums {
    fn add(&mut self, kpi: &Kpi) {
        let count = |name: &str| match kpi.measures.get(name) {
            Some(Measure::Long(n)) => *n,
            Some(other) => other.as_f64().and_then(finite).map_or(0, |x| x as i64),
            None => 0,
        };
        self.end = self.end.max(kpi.window_end.get());
        self.state = Some(self.state.map_or(kpi.state, |state| state.min(kpi.state)));
        if kpi.model == ACTIVITY {
            let kind = kpi.group.get("event_type").and_then(Option::as_deref).unwrap_or("unknown");
            *self.by_type.entry(kind.to_owned()).or_default() += count("events");
        } else {
            self.revenue = self.revenue.saturating_add(kpi.measures.get("revenue").map_or(Decimal::ZERO, decimal));
            self.orders += count("orders");
            self.items += count("items");
        }
    }

    fn merge(&mut self, other: &Self) {
        for (kind, n) in &other.by_type {
            *self.by_type.entry(kind.clone()).or_default() += n;
        }
        self.revenue = self.revenue.saturating_add(other.revenue);
        self.orders += other.orders;
        self.items += other.items;
    }

    fn events(&self) -> i64 {
        self.by_type.values().sum()
    }

    fn abandonment_rate(&self) -> Option<f64> {
        let left = self.by_type.get(EventType::CartAbandon.as_str()).copied().unwrap_or(0);
        let bought = self.orders;
        (left + bought > 0).then(|| left as f64 / (left + bought) as f64)
    }
}

/// Exact for the decimals that models make; a float becomes the nearest decimal.
fn decimal(measure: &Measure) -> Decimal {
    match measure {
        Measure::Null => None,
        Measure::Long(n) => Some(Decimal::from(*n)),
        Measure::Double(x) => Decimal::try_from(*x).ok(),
        Measure::Text(text) => Decimal::from_str_exact(text).ok(),
    }
    .unwrap_or_default()
}

fn sum_up(kpis: &[Kpi]) -> Summary {
    let mut windows: BTreeMap<i64, Sums> = BTreeMap::new();
    for kpi in kpis {
        windows.entry(kpi.window_start.get()).or_default().add(kpi);
    }
    fill_gaps(&mut windows);
    let mut all = Sums::default();
    let mut points = Vec::with_capacity(windows.len());
    for (start, sums) in &windows {
        all.merge(sums);
        let events = sums.events();
        points.push(Point {
            window_start: time_text(EventTime::new(*start)),
            window_end: time_text(EventTime::new(sums.end)),
            events,
            events_per_second: events as f64 * 1000.0 / (sums.end - start).max(1) as f64,
            events_by_type: sums.by_type.clone(),
            revenue: sums.revenue.to_string(),
            orders: sums.orders,
            items: sums.items,
            abandonment_rate: sums.abandonment_rate(),
            state: sums.state,
            provisional: sums.state == Some(PaneState::Provisional),
        });
    }
    Summary {
        as_of: points.last().map(|point| point.window_end.clone()),
        minutes: 0,
        points,
        totals: Totals {
            events: all.events(),
            revenue: all.revenue.to_string(),
            orders: all.orders,
            items: all.items,
            aov: all.revenue.checked_div(Decimal::from(all.orders)).map(|aov| aov.round_dp(4).to_string()),
            abandonment_rate: all.abandonment_rate(),
        },
        missing_models: Vec::new(),
    }
}

/// Puts a row of zeros where a window between the first and the last has no panes.
fn fill_gaps(windows: &mut BTreeMap<i64, Sums>) {
    let (Some((&first, _)), Some((&last, newest))) = (windows.first_key_value(), windows.last_key_value()) else {
        return;
    };
    let step = newest.end - last;
    // Windows below a second are no chart; and they bound the loop.
    if step < 1000 {
        return;
    }
    let mut start = last - step;
    while start > first {
        windows.entry(start).or_insert_with(|| Sums { end: start + step, ..Sums::default() });
        start -= step;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pane(model: &str, minute: i64, group: &[(&str, &str)], measures: &[(&str, Measure)], state: PaneState) -> Kpi {
        let (start, end) = (EventTime::new(minute * 60_000), EventTime::new((minute + 1) * 60_000));
        Kpi {
            id: String::new(),
            model: model.to_owned(),
            window_start: start,
            window_end: end,
            group: group.iter().map(|(k, v)| ((*k).to_owned(), Some((*v).to_owned()))).collect(),
            measures: measures.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect(),
            state,
            version: 1,
            sequence: 1,
            closed_by: None,
            completeness: 1.0,
        }
    }

    fn events(minute: i64, kind: &str, country: &str, n: i64, state: PaneState) -> Kpi {
        let group = [("event_type", kind), ("country", country)];
        pane(ACTIVITY, minute, &group, &[("events", Measure::Long(n))], state)
    }

    fn sales(minute: i64, country: &str, revenue: &str, orders: i64) -> Kpi {
        let measures = [("revenue", Measure::Text(revenue.to_owned())), ("orders", Measure::Long(orders))];
        pane(SALES, minute, &[("country", country)], &measures, PaneState::Final)
    }

    #[test]
    fn groups_are_added_up_exactly_and_a_missing_window_is_a_row_of_zeros() {
        use PaneState::{Final, Provisional, Sealed};
        let summary = sum_up(&[
            events(0, "page_view", "FR", 50, Sealed),
            events(0, "purchase", "FR", 1, Sealed),
            events(0, "cart_abandon", "DE", 3, Final),
            sales(0, "FR", "0.1000", 1),
            sales(0, "DE", "0.2000", 2),
            events(2, "page_view", "FR", 6, Final),
            events(2, "page_view", "DE", 6, Provisional),
            sales(2, "DE", "79228162514264.0001", 1),
        ]);
        let [first, gap, last] = &summary.points[..] else { panic!("{:?}", summary.points) };
        assert_eq!((first.events, first.revenue.as_str(), first.orders), (54, "0.3000", 3));
        assert_eq!((first.abandonment_rate, first.events_per_second), (Some(0.5), 0.9));
        assert_eq!((first.state, first.provisional), (Some(Final), false));
        assert_eq!((gap.events, gap.revenue.as_str(), gap.state), (0, "0", None));
        assert_eq!(gap.window_start, "1970-01-01T00:01:00Z");
        assert_eq!((last.events_by_type["page_view"], last.provisional), (12, true));
        assert_eq!(last.abandonment_rate, Some(0.0));
        assert_eq!(summary.totals.revenue, "79228162514264.3001");
        assert_eq!(summary.totals.aov.as_deref(), Some("19807040628566.0750"));
        assert_eq!(summary.as_of.as_deref(), Some("1970-01-01T00:03:00Z"));
    }

    #[test]
    fn nothing_adds_up_to_nothing() {
        let summary = sum_up(&[]);
        assert_eq!((summary.as_of, summary.points.len()), (None, 0));
        assert_eq!((summary.totals.revenue.as_str(), summary.totals.aov), ("0", None));
    }
}
