//! The live models and what their numbers mean.

use crate::{ModelInfo, server::Shared};
use axum::{Json, extract::State};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// The live models.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelsBody {
    models: Vec<ModelInfo>,
}

/// The live models: title, grain, unit, definition, source, SQL, columns.
#[utoipa::path(get, path = "/api/v1/models", tag = "KPIs", responses((status = 200, body = ModelsBody)))]
pub(crate) async fn models(State(shared): State<Arc<Shared>>) -> Json<ModelsBody> {
    Json(ModelsBody { models: shared.state.models.models() })
}
