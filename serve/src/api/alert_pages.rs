//! The alerts as pages.

use super::ApiError;
use crate::{
    alert_chart::{Chart, panes_of},
    alert_page::{alert_page, alerts_page, no_page},
    alert_story::AlertStory,
    server::{Shared, now},
};
use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::{Html, IntoResponse, Response},
};
use sluice_events::AlertState;
use sluice_sinks::kpi_store::AlertQuery;
use std::sync::Arc;

/// Alerts that fire or are acknowledged, on the page of all.
const OPEN_MAX: usize = 300;
/// Others, on the page of all: those that are over, and those that another one explains.
const OTHERS_MAX: usize = 500;

/// All alerts.
pub(crate) async fn alerts_html(State(shared): State<Arc<Shared>>) -> Response {
    let read = |states: [AlertState; 2], limit| AlertQuery { states: states.to_vec(), limit, ..AlertQuery::default() };
    let open = read([AlertState::Firing, AlertState::Acknowledged], OPEN_MAX);
    let others = read([AlertState::Resolved, AlertState::Suppressed], OTHERS_MAX);
    let found = shared.ask_store(move |store| Ok((store.alerts(&open)?, store.alerts(&others)?))).await;
    answer(found.map(|(open, others)| alerts_page(&open, &others, now())))
}

/// One alert.
pub(crate) async fn alert_html(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Response {
    answer(one(&shared, id).await)
}

async fn one(shared: &Arc<Shared>, id: String) -> Result<String, ApiError> {
    let story = AlertStory::read(shared, id).await?;
    let alert = story.alert.clone();
    let draw = move |store: &dyn sluice_sinks::kpi_store::KpiStore| {
        Ok(Chart::new(&alert, &store.kpis(&panes_of(&alert))?).svg())
    };
    let chart = shared.ask_store(draw).await?;
    Ok(alert_page(&story, &chart, now()))
}

/// A person gets a page, whatever happens.
fn answer(page: Result<String, ApiError>) -> Response {
    match page {
        Ok(page) => Html(page).into_response(),
        Err(ApiError::NotFound { .. }) => {
            let page =
                no_page("There is no such alert", "It may be older than what is kept, or the link is cut short.");
            (StatusCode::NOT_FOUND, Html(page)).into_response()
        }
        Err(error) => {
            let text = error.to_string();
            let status = error.into_response().status();
            (status, Html(no_page("No alerts can be shown", &format!("{text}; try again.")))).into_response()
        }
    }
}
