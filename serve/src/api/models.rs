//! The live models and what their numbers mean, and what was learnt of customers.

use super::{ApiError, gold::ask};
use crate::{LearnedInfo, ModelInfo, models_page::models_page, server::Shared};
use axum::{Json, extract::State, response::Html};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// The live models, and the models that were learnt.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelsBody {
    models: Vec<ModelInfo>,
    /// Null when the lake does not answer.
    learned: Option<Vec<LearnedInfo>>,
}

/// The live models: title, grain, unit, definition, source, SQL, columns. And the cards of what was learnt: data, features,
/// how good it is.
#[utoipa::path(get, path = "/api/v1/models", tag = "KPIs", responses((status = 200, body = ModelsBody)))]
pub(crate) async fn models(State(shared): State<Arc<Shared>>) -> Json<ModelsBody> {
    let learned = ask(&shared, |source| source.learned()).await.ok();
    Json(ModelsBody { models: shared.state.models.models(), learned })
}

/// What was learnt, as a page.
pub(crate) async fn models_html(State(shared): State<Arc<Shared>>) -> Result<Html<String>, ApiError> {
    Ok(Html(models_page(&ask(&shared, |source| source.learned()).await?)))
}
