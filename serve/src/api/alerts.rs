//! The alerts, and a person's word on them.

use super::{
    ApiError, ErrorBody, finite,
    parameters::{Parameters, bad},
};
use crate::{
    ExampleEvent,
    alert_advice::{evidence_sql, meaning, next_steps},
    alert_chart::{Chart, panes_of},
    alert_story::{AlertStory, surroundings},
    formula::Formula,
    server::{Shared, now},
};
use axum::{
    Json,
    body::Bytes,
    extract::{Path, Query, State},
    http::header,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use sluice_events::{
    Alert, AlertPart, AlertPoint, AlertState, EventTime, OffsetSpan, Resolution, Severity, alert_text, time_text,
};
use sluice_sinks::kpi_store::{AlertQuery, KpiStore, KpiStoreError};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use utoipa::ToSchema;

const LIMIT: usize = 100;
const LIMIT_MAX: usize = 1_000;
const STATES: [AlertState; 4] =
    [AlertState::Firing, AlertState::Acknowledged, AlertState::Resolved, AlertState::Suppressed];
const SEVERITIES: [Severity; 3] = [Severity::Info, Severity::Warning, Severity::Critical];
/// Longer is no name.
const NAME_CHARS_MAX: usize = 100;
/// A snooze is for a night or a journey; what nobody wants to hear of for longer should not be watched.
const SNOOZE_MAX: Duration = Duration::from_secs(30 * 86_400);
const SNOOZE_HINT: &str = "use for=2h, or until= with a time to come, 30 days away at most";

/// Alerts, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AlertsBody {
    alerts: Vec<AlertBody>,
}

/// An episode of a series, or of a roll-up, that left its band.
#[derive(Debug, Serialize, ToSchema)]
pub struct AlertBody {
    id: String,
    /// It in one sentence.
    text: String,
    model: String,
    measure: String,
    /// What a rate divides, such as `purchases / checkouts`; null for a measure.
    formula: Option<String>,
    /// The step of the shopper's way that a rate is about.
    #[schema(example = "checkout to purchase")]
    funnel_step: Option<String>,
    /// Group columns; null is a missing value. Of a roll-up those that it does not add up.
    group: BTreeMap<String, Option<String>>,
    detector: String,
    /// `firing`, `acknowledged`, `resolved` or `suppressed`.
    #[schema(value_type = String, example = "firing")]
    state: AlertState,
    /// How it ended: `recovered`, `corrected` by late events, `gone` or `unwatched`; null while it goes on.
    #[schema(value_type = Option<String>, example = "recovered")]
    resolution: Option<Resolution>,
    /// `info`, `warning` or `critical`.
    #[schema(value_type = String, example = "warning")]
    severity: Severity,
    /// Over the horizon, at the highest score so far.
    observed: Option<f64>,
    expected: Option<f64>,
    /// Lower end of the expected band; null when there is none.
    lower: Option<f64>,
    /// Upper end of the expected band; null when there is none.
    upper: Option<f64>,
    /// How unusual, in the detector's own measure.
    score: Option<f64>,
    /// The score from which on it fires; null when it is not known.
    threshold: Option<f64>,
    /// How often nothing would look like this, in words; null when it is not known.
    #[schema(example = "by chance about once in 100 years")]
    score_meaning: Option<String>,
    /// Standard deviations from the expectation, signed.
    z_score: Option<f64>,
    tail_probability: Option<f64>,
    /// Start of the first window that the numbers are over. RFC 3339.
    since: String,
    /// Start of the window in which it was raised. RFC 3339.
    first_window: String,
    /// Start of the last window looked at. RFC 3339.
    last_window: String,
    /// End of the last window looked at. RFC 3339.
    last_window_end: String,
    /// How much time observed and expected are over.
    horizon_seconds: f64,
    /// Estimate of what the deviation is worth so far: an exact decimal; null when it is not known.
    money_at_stake: Option<String>,
    /// Groups that make up the deviation of a roll-up, the largest share first.
    parts: Vec<PartBody>,
    /// The alert that explains it.
    parent: Option<String>,
    /// Of the series: the same for all its episodes.
    fingerprint: String,
    /// How often it came back before it had been quiet for long enough.
    episodes: i32,
    acknowledged_by: Option<String>,
    /// RFC 3339.
    acknowledged_at: Option<String>,
    /// Until then nobody is told of this series. RFC 3339.
    snoozed_until: Option<String>,
    /// Input offsets in which the events of its windows are.
    origin: Vec<OriginBody>,
}

/// Input offsets in which the events of an alert's windows are.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OriginBody {
    partition: i32,
    /// First offset that may be one of them.
    from: i64,
    /// First offset not covered.
    upto: i64,
}

/// What a group has to do with the deviation of a roll-up.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PartBody {
    group: BTreeMap<String, Option<String>>,
    observed: Option<f64>,
    expected: Option<f64>,
    /// Of the deviation; 1 is all of it.
    share: Option<f64>,
}

/// An alert with all that helps to understand it.
#[derive(Debug, Serialize, ToSchema)]
pub struct AlertDetailBody {
    #[serde(flatten)]
    alert: AlertBody,
    /// What to look at next, the likeliest first.
    next_steps: Vec<String>,
    /// The series, window by window, since the alert was raised.
    trace: Vec<PointBody>,
    /// What explains it.
    parent_alert: Option<AlertRef>,
    /// What it explains, newest first.
    children: Vec<AlertRef>,
    /// It explains more than those.
    more_children: bool,
    /// The other episodes of its series, newest first.
    history: Vec<AlertRef>,
    /// Some of the events behind it.
    events: Vec<EventBody>,
    /// Why events may be missing.
    events_note: Option<&'static str>,
    /// All events behind it: SQL for `sluice query`; null without offsets.
    events_sql: Option<String>,
}

/// A window of an alert's series.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PointBody {
    /// Start of the window. RFC 3339.
    window: String,
    /// Over the horizon that ends with the window.
    observed: Option<f64>,
    expected: Option<f64>,
    lower: Option<f64>,
    upper: Option<f64>,
}

/// Another alert, in short. `/api/v1/alerts/{id}` has the rest.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AlertRef {
    id: String,
    text: String,
    #[schema(value_type = String, example = "resolved")]
    state: AlertState,
    #[schema(value_type = String, example = "warning")]
    severity: Severity,
    /// RFC 3339.
    since: String,
    /// RFC 3339.
    last_window_end: String,
}

/// One of the events behind an alert.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventBody {
    event_id: String,
    /// RFC 3339.
    event_time: String,
    #[schema(example = "purchase")]
    event_type: String,
    customer_id: Option<String>,
    order_id: Option<String>,
    product_id: Option<String>,
    partition: i32,
    offset: i64,
}

/// End of the last window looked at.
fn end_text(alert: &Alert) -> String {
    time_text(EventTime::new(alert.last_window.get().saturating_add(alert.window_millis)))
}

impl From<Alert> for AlertBody {
    fn from(alert: Alert) -> Self {
        Self {
            text: alert_text(&alert),
            funnel_step: Formula::of(&alert)
                .funnel_step()
                .map(|(from, to)| format!("{} to {}", from.name(), to.name())),
            score_meaning: meaning(&alert),
            observed: finite(alert.observed),
            expected: finite(alert.expected),
            lower: finite(alert.lower),
            upper: finite(alert.upper),
            score: finite(alert.score),
            threshold: finite(alert.threshold).filter(|threshold| *threshold > 0.0),
            z_score: finite(alert.z_score),
            tail_probability: finite(alert.tail_probability),
            since: time_text(alert.since),
            first_window: time_text(alert.first_window),
            last_window: time_text(alert.last_window),
            last_window_end: end_text(&alert),
            horizon_seconds: alert.horizon_millis as f64 / 1000.0,
            acknowledged_at: alert.acknowledged_at.map(time_text),
            snoozed_until: alert.snoozed_until.map(time_text),
            origin: alert.origin.into_iter().map(OriginBody::from).collect(),
            parts: alert.parts.into_iter().map(PartBody::from).collect(),
            id: alert.id,
            model: alert.model,
            measure: alert.measure,
            formula: Some(alert.formula).filter(|formula| !formula.is_empty()),
            group: alert.group,
            detector: alert.detector,
            state: alert.state,
            resolution: alert.resolution,
            severity: alert.severity,
            money_at_stake: alert.money_at_stake,
            parent: alert.parent,
            fingerprint: alert.fingerprint,
            episodes: alert.episodes,
            acknowledged_by: alert.acknowledged_by,
        }
    }
}

impl From<OffsetSpan> for OriginBody {
    fn from(span: OffsetSpan) -> Self {
        Self { partition: span.partition, from: span.from, upto: span.upto }
    }
}

impl From<AlertPart> for PartBody {
    fn from(part: AlertPart) -> Self {
        Self {
            group: part.group,
            observed: finite(part.observed),
            expected: finite(part.expected),
            share: finite(part.share),
        }
    }
}

impl From<&AlertPoint> for PointBody {
    fn from(point: &AlertPoint) -> Self {
        Self {
            window: time_text(point.window),
            observed: finite(point.observed),
            expected: finite(point.expected),
            lower: finite(point.lower),
            upper: finite(point.upper),
        }
    }
}

impl From<Alert> for AlertRef {
    fn from(alert: Alert) -> Self {
        Self {
            text: alert_text(&alert),
            since: time_text(alert.since),
            last_window_end: end_text(&alert),
            id: alert.id,
            state: alert.state,
            severity: alert.severity,
        }
    }
}

impl From<ExampleEvent> for EventBody {
    fn from(event: ExampleEvent) -> Self {
        Self {
            event_id: event.event_id,
            event_time: time_text(event.event_time),
            event_type: event.event_type,
            customer_id: event.customer_id,
            order_id: event.order_id,
            product_id: event.product_id,
            partition: event.partition,
            offset: event.offset,
        }
    }
}

impl From<AlertStory> for AlertDetailBody {
    fn from(story: AlertStory) -> Self {
        let (children, more_children) = story.children;
        let refs = |alerts: Vec<Alert>| alerts.into_iter().map(AlertRef::from).collect();
        Self {
            next_steps: next_steps(&story.alert),
            trace: story.alert.trace.iter().map(PointBody::from).collect(),
            events_sql: evidence_sql(&story.alert),
            parent_alert: story.parent.map(AlertRef::from),
            children: refs(children),
            more_children,
            history: refs(story.episodes),
            events: story.events.into_iter().map(EventBody::from).collect(),
            events_note: story.events_note,
            alert: story.alert.into(),
        }
    }
}

/// An alert as `/api/v1/alerts/{id}` shows it, from the store alone: without events. None when there is no such alert.
///
/// # Errors
/// When the store does not answer.
pub fn alert_detail(store: &dyn KpiStore, id: &str) -> Result<Option<AlertDetailBody>, KpiStoreError> {
    let story = surroundings(store, id)?;
    Ok(story.map(|story| {
        AlertStory { events_note: Some("The lake was not asked: sluice is not running."), ..story }.into()
    }))
}

/// Alerts, newest first.
#[utoipa::path(
    get,
    path = "/api/v1/alerts",
    tag = "Alerts",
    params(
        ("state" = Option<String>, Query, description = "Only in these states: `firing`, `acknowledged`, `resolved`, `suppressed`; several with commas"),
        ("model" = Option<String>, Query, description = "Only of this live model"),
        ("severity" = Option<String>, Query, description = "Only of this severity or a higher one: `info`, `warning` or `critical`"),
        ("from" = Option<String>, Query, description = "First windows that start at or after this: RFC 3339 or epoch milliseconds"),
        ("to" = Option<String>, Query, description = "First windows that start before this: RFC 3339 or epoch milliseconds"),
        ("limit" = Option<u32>, Query, description = "At most this many: 1 to 1000, 100 when not given"),
    ),
    responses(
        (status = 200, body = AlertsBody),
        (status = 400, body = ErrorBody, description = "A parameter is wrong or unknown"),
        (status = 503, body = ErrorBody, description = "The KPI store does not answer"),
    )
)]
pub(crate) async fn alerts(
    State(shared): State<Arc<Shared>>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Json<AlertsBody>, ApiError> {
    let mut parameters = Parameters::with_list(pairs, "state")?;
    let states = parameters.text("state").map_or(Ok(Vec::new()), |text| read_states(&text))?;
    let severity =
        match parameters.text("severity") {
            None => None,
            Some(text) => Some(SEVERITIES.into_iter().find(|s| s.name() == text).ok_or_else(|| {
                bad("severity", &format!("'{text}' is no severity"), "use info, warning or critical")
            })?),
        };
    let query = AlertQuery {
        states,
        severity,
        model: parameters.text("model"),
        from: parameters.time("from")?,
        to: parameters.time("to")?,
        limit: parameters.number("limit", LIMIT, LIMIT_MAX)?,
        ..AlertQuery::default()
    };
    parameters.finish()?;
    let found = shared.ask_store(move |store| store.alerts(&query)).await?;
    Ok(Json(AlertsBody { alerts: found.into_iter().map(AlertBody::from).collect() }))
}

fn read_states(text: &str) -> Result<Vec<AlertState>, ApiError> {
    let read = |name: &str| {
        STATES.into_iter().find(|state| state.name() == name).ok_or_else(|| {
            bad("state", &format!("'{name}' is no state"), "use firing, acknowledged, resolved or suppressed")
        })
    };
    text.split(',').map(|name| read(name.trim())).collect()
}

/// An alert with all that helps to understand it: what it is part of, earlier episodes, example events.
#[utoipa::path(
    get,
    path = "/api/v1/alerts/{id}",
    tag = "Alerts",
    params(("id" = String, Path, description = "The alert's id")),
    responses(
        (status = 200, body = AlertDetailBody),
        (status = 404, body = ErrorBody, description = "There is no such alert"),
        (status = 503, body = ErrorBody, description = "The KPI store does not answer"),
    )
)]
pub(crate) async fn alert(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
) -> Result<Json<AlertDetailBody>, ApiError> {
    Ok(Json(AlertStory::read(&shared, id).await?.into()))
}

/// The alert's series as a picture: what was seen and expected, from two hours before it began.
#[utoipa::path(
    get,
    path = "/api/v1/alerts/{id}/chart.svg",
    tag = "Alerts",
    params(("id" = String, Path, description = "The alert's id")),
    responses(
        (status = 200, body = String, content_type = "image/svg+xml"),
        (status = 404, body = ErrorBody, description = "There is no such alert"),
        (status = 503, body = ErrorBody, description = "The KPI store does not answer"),
    )
)]
pub(crate) async fn chart(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Result<Response, ApiError> {
    let asked = id.clone();
    let drawn = shared
        .ask_store(move |store| {
            let Some(alert) = store.alert(&asked)? else { return Ok(None) };
            Ok(Some(Chart::new(&alert, &store.kpis(&panes_of(&alert))?).svg()))
        })
        .await?;
    let svg = drawn.ok_or_else(|| ApiError::no_alert(id))?;
    Ok(([(header::CONTENT_TYPE, "image/svg+xml")], svg).into_response())
}

/// Who acknowledges.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AckBody {
    /// A name, to be shown to others.
    #[schema(example = "ann")]
    by: Option<String>,
}

/// Marks a firing alert as seen by a person. It stays so until it resolves; one that does not fire is left as it is.
#[utoipa::path(
    post,
    path = "/api/v1/alerts/{id}/ack",
    tag = "Alerts",
    params(("id" = String, Path, description = "The alert's id")),
    request_body(content = Option<AckBody>, description = "Who; may be left out"),
    responses(
        (status = 200, body = AlertBody, description = "The alert as it is now"),
        (status = 400, body = ErrorBody, description = "The body is wrong"),
        (status = 404, body = ErrorBody, description = "There is no such alert"),
        (status = 503, body = ErrorBody, description = "The KPI store does not answer"),
    )
)]
pub(crate) async fn acknowledge(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<AlertBody>, ApiError> {
    let by = read_name(&body)?;
    change(&shared, id, move |store, id| store.acknowledge(id, by.as_deref(), now())).await
}

fn read_name(body: &[u8]) -> Result<Option<String>, ApiError> {
    let wrong = |reason: &str| bad("by", reason, "send nothing, or {\"by\": \"ann\"}");
    if body.is_empty() {
        return Ok(None);
    }
    let AckBody { by } =
        serde_json::from_slice(body).map_err(|e| wrong(&format!("the body is not understood: {e}")))?;
    let by = by.map(|by| by.trim().to_owned()).filter(|by| !by.is_empty());
    match by.as_ref().is_some_and(|by| by.chars().count() > NAME_CHARS_MAX) {
        true => Err(wrong(&format!("a name has at most {NAME_CHARS_MAX} characters"))),
        false => Ok(by),
    }
}

/// Until then nobody is told of the alert's series, in later episodes either. One of the two parameters.
#[utoipa::path(
    post,
    path = "/api/v1/alerts/{id}/snooze",
    tag = "Alerts",
    params(
        ("id" = String, Path, description = "The alert's id"),
        ("for" = Option<String>, Query, description = "For this long, such as `2h` or `1day 30min`; 30 days at most"),
        ("until" = Option<String>, Query, description = "Until then: RFC 3339 or epoch milliseconds"),
    ),
    responses(
        (status = 200, body = AlertBody, description = "The alert as it is now"),
        (status = 400, body = ErrorBody, description = "A parameter is wrong or unknown"),
        (status = 404, body = ErrorBody, description = "There is no such alert"),
        (status = 503, body = ErrorBody, description = "The KPI store does not answer"),
    )
)]
pub(crate) async fn snooze(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Json<AlertBody>, ApiError> {
    let mut parameters = Parameters::new(pairs)?;
    let (length, until) = (parameters.text("for"), parameters.time("until")?);
    parameters.finish()?;
    let until = snooze_end(now(), length.as_deref(), until)?;
    change(&shared, id, move |store, id| store.snooze(id, Some(until))).await
}

fn snooze_end(now: EventTime, length: Option<&str>, until: Option<EventTime>) -> Result<EventTime, ApiError> {
    let latest = now.get().saturating_add(SNOOZE_MAX.as_millis() as i64);
    let (name, end) = match (length, until) {
        (Some(length), None) => {
            let duration = humantime::parse_duration(length)
                .map_err(|_| bad("for", &format!("'{length}' is no length of time"), SNOOZE_HINT))?;
            let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
            ("for", now.get().saturating_add(millis))
        }
        (None, Some(until)) => ("until", until.get()),
        (None, None) => return Err(bad("for", "is missing", SNOOZE_HINT)),
        (Some(_), Some(_)) => return Err(bad("until", "is there beside 'for'", SNOOZE_HINT)),
    };
    match end > now.get() && end <= latest {
        true => Ok(EventTime::new(end)),
        false => Err(bad(name, "is over already or too far away", SNOOZE_HINT)),
    }
}

/// Ends a snooze.
#[utoipa::path(
    delete,
    path = "/api/v1/alerts/{id}/snooze",
    tag = "Alerts",
    params(("id" = String, Path, description = "The alert's id")),
    responses(
        (status = 200, body = AlertBody, description = "The alert as it is now"),
        (status = 404, body = ErrorBody, description = "There is no such alert"),
        (status = 503, body = ErrorBody, description = "The KPI store does not answer"),
    )
)]
pub(crate) async fn end_snooze(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
) -> Result<Json<AlertBody>, ApiError> {
    change(&shared, id, |store, id| store.snooze(id, None)).await
}

/// Does it, and answers with the alert as it is then.
async fn change<F>(shared: &Shared, id: String, change: F) -> Result<Json<AlertBody>, ApiError>
where
    F: FnOnce(&dyn KpiStore, &str) -> Result<Option<Alert>, KpiStoreError> + Send + 'static,
{
    let asked = id.clone();
    let changed = shared.ask_store(move |store| change(store, &asked)).await?;
    changed.map(|alert| Json(alert.into())).ok_or_else(|| ApiError::no_alert(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snooze_has_an_end_that_is_to_come_and_not_far() {
        let now = EventTime::new(1_000);
        let end = |length: Option<&str>, until: Option<i64>| {
            snooze_end(now, length, until.map(EventTime::new)).ok().map(EventTime::get)
        };
        assert_eq!(end(Some("2h"), None), Some(7_201_000));
        assert_eq!(end(Some("1day 30min"), None), Some(1_000 + 88_200_000));
        assert_eq!(end(None, Some(1_001)), Some(1_001));
        for (length, until) in [
            (None, None),
            (None, Some(1_000)),
            (None, Some(i64::MAX)),
            (Some("0s"), None),
            (Some("31days"), None),
            (Some("9999999years"), None),
            (Some("soon"), None),
            (Some("2h"), Some(7_201_000)),
        ] {
            assert_eq!(end(length, until), None, "{length:?} {until:?}");
        }
    }

    #[test]
    fn a_name_may_be_left_out_and_is_short() {
        let read = |body: &str| read_name(body.as_bytes()).ok();
        assert_eq!(read(""), Some(None));
        assert_eq!(read("{}"), Some(None));
        assert_eq!(read(r#"{"by": "  "}"#), Some(None));
        assert_eq!(read(r#"{"by": " ann "}"#), Some(Some("ann".to_owned())));
        assert_eq!(read(r#"{"by": 3}"#), None);
        assert_eq!(read(r#"{"bye": "ann"}"#), None);
        assert_eq!(read(&format!(r#"{{"by": "{}"}}"#, "x".repeat(101))), None);
    }
}
