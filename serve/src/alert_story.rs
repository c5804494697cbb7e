//! An alert with all that helps to understand it.

use crate::{ExampleEvent, api::ApiError, server::Shared};
use sluice_events::{Alert, EventTime};
use sluice_sinks::kpi_store::{AlertQuery, KpiStore, KpiStoreError};
use std::{sync::Arc, time::Duration};

/// Alerts that one explains, told beside it.
const CHILDREN_MAX: usize = 50;
/// Episodes of its series, told beside it.
const EPISODES_MAX: usize = 20;
/// Episodes older than this say little.
const EPISODES_FOR_MILLIS: i64 = 90 * 86_400_000;
/// What an alert explains is about the same time.
const CHILDREN_WITHIN_MILLIS: i64 = 86_400_000;
/// Events that are shown.
const EVENTS_MAX: usize = 20;
/// A page is of more use than the events on it.
const EVENTS_TIMEOUT: Duration = Duration::from_secs(3);

/// An alert and its surroundings.
pub(crate) struct AlertStory {
    pub(crate) alert: Alert,
    /// What explains it.
    pub(crate) parent: Option<Alert>,
    /// What it explains, newest first, and whether there is more.
    pub(crate) children: (Vec<Alert>, bool),
    /// The other episodes of its series, newest first.
    pub(crate) episodes: Vec<Alert>,
    /// Events behind it.
    pub(crate) events: Vec<ExampleEvent>,
    /// Why there may be no events.
    pub(crate) events_note: Option<&'static str>,
}

impl AlertStory {
    /// Reads it.
    ///
    /// # Errors
    /// When there is no such alert, or the store does not answer. A failure to find events is a note.
    pub(crate) async fn read(shared: &Arc<Shared>, id: String) -> Result<Self, ApiError> {
        let asked = id.clone();
        let found = shared.ask_store(move |store| surroundings(store, &asked)).await?;
        let mut story = found.ok_or_else(|| ApiError::no_alert(id))?;
        match events(shared, story.alert.clone()).await {
            Ok(events) => story.events = events,
            Err(note) => story.events_note = Some(note),
        }
        Ok(story)
    }
}

/// The alert and what else the store knows of it; none when there is no such alert.
///
/// # Errors
/// When the store does not answer.
pub(crate) fn surroundings(store: &dyn KpiStore, id: &str) -> Result<Option<AlertStory>, KpiStoreError> {
    let Some(alert) = store.alert(id)? else { return Ok(None) };
    let time = |at: EventTime, by: i64| Some(EventTime::new(at.get().saturating_add(by)));
    let parent = match &alert.parent {
        Some(parent) => store.alert(parent)?,
        None => None,
    };
    let mut children = store.alerts(&AlertQuery {
        parent: Some(id.to_owned()),
        from: time(alert.since, -CHILDREN_WITHIN_MILLIS),
        to: time(alert.last_window, CHILDREN_WITHIN_MILLIS),
        limit: CHILDREN_MAX + 1,
        ..AlertQuery::default()
    })?;
    let more = children.len() > CHILDREN_MAX;
    children.truncate(CHILDREN_MAX);
    let mut episodes = Vec::new();
    if !alert.fingerprint.is_empty() {
        episodes = store.alerts(&AlertQuery {
            fingerprint: Some(alert.fingerprint.clone()),
            from: time(alert.first_window, -EPISODES_FOR_MILLIS),
            limit: EPISODES_MAX + 1,
            ..AlertQuery::default()
        })?;
        episodes.retain(|episode| episode.id != alert.id);
    }
    Ok(Some(AlertStory { alert, parent, children: (children, more), episodes, events: Vec::new(), events_note: None }))
}

async fn events(shared: &Arc<Shared>, alert: Alert) -> Result<Vec<ExampleEvent>, &'static str> {
    let source = shared.state.evidence.clone();
    let asked = async {
        // Held by the work itself: a slow lake takes no more than these threads from the pool, however often it is asked.
        let permit = shared.evidence_readers.clone().acquire_owned().await.map_err(|e| e.to_string())?;
        let work = move || {
            let answer = source.events(&alert, EVENTS_MAX);
            drop(permit);
            answer
        };
        tokio::task::spawn_blocking(work).await.map_err(|e| e.to_string())?
    };
    match tokio::time::timeout(EVENTS_TIMEOUT, asked).await {
        Ok(Ok(mut events)) => {
            events.truncate(EVENTS_MAX);
            Ok(events)
        }
        Ok(Err(cause)) => {
            tracing::warn!(error = cause, "find the events of an alert");
            Err("The lake does not answer; the log says what it said.")
        }
        Err(_) => Err("The lake takes too long to answer; try again."),
    }
}
