//! How the API says no.

use axum::{
    Json,
    http::{Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use sluice_sinks::kpi_store::KpiStoreError;
use utoipa::ToSchema;

/// Why a request was not answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// The caller asked wrongly; the hint says how to ask.
    #[error("parameter '{name}': {reason}")]
    BadParameter { name: String, reason: String, hint: String },
    /// There is no such thing.
    #[error("no {what} is named '{name}'")]
    NotFound { what: &'static str, name: String, hint: String },
    /// The store did not answer. Asking again later may help.
    #[error("the KPI store does not answer")]
    Store(#[from] KpiStoreError),
    /// The lake did not answer. Asking again later may help.
    #[error("the lake does not answer")]
    Lake(String),
    /// The work on the blocking pool ended without an answer.
    #[error("the request was not finished")]
    Unfinished,
    /// A page of another site sent it.
    #[error("a page of another site may not do this")]
    CrossSite,
}

/// The body of every answer that is an error.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorBody {
    /// What is wrong.
    #[schema(example = "parameter 'from': 'yesterday' is not a time")]
    pub(crate) error: String,
    /// What to do about it.
    #[schema(example = "use RFC 3339, such as 2024-03-01T10:00:00Z, or milliseconds since 1970")]
    pub(crate) hint: String,
}

impl ApiError {
    /// There is no alert of this id.
    pub(crate) fn no_alert(id: String) -> Self {
        Self::NotFound { what: "alert", name: id, hint: "/api/v1/alerts lists the alerts with their ids".to_owned() }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let error = self.to_string();
        let (status, hint) = match self {
            Self::BadParameter { hint, .. } => (StatusCode::BAD_REQUEST, hint),
            Self::NotFound { hint, .. } => (StatusCode::NOT_FOUND, hint),
            Self::Store(cause) => {
                tracing::warn!(error = %cause, "answer from the KPI store");
                (StatusCode::SERVICE_UNAVAILABLE, "try again; the log says what the store said".to_owned())
            }
            Self::Lake(cause) => {
                tracing::warn!(error = cause, "answer from the lake");
                (StatusCode::SERVICE_UNAVAILABLE, "try again; the log says what the lake said".to_owned())
            }
            Self::Unfinished => (StatusCode::INTERNAL_SERVER_ERROR, "try again; see the log".to_owned()),
            Self::CrossSite => (StatusCode::FORBIDDEN, "send it from the dashboard or from a program".to_owned()),
        };
        (status, Json(ErrorBody { error, hint })).into_response()
    }
}

/// The answer for a path that does not exist.
pub(crate) async fn no_such_page(uri: Uri) -> ApiError {
    ApiError::NotFound { what: "page", name: uri.path().to_owned(), hint: "/docs lists every path".to_owned() }
}

/// The answer for a path that exists, asked with another method.
pub(crate) async fn no_such_method(method: Method, uri: Uri) -> Response {
    let error = format!("{} does not take {method}", uri.path());
    let hint = "/docs lists the methods of every path".to_owned();
    (StatusCode::METHOD_NOT_ALLOWED, Json(ErrorBody { error, hint })).into_response()
}
