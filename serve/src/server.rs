//! The HTTP server: its routes and what every answer carries.

use crate::{
    AlertEvidence, GoldSource, ModelInfo, StatusSource,
    api::{self, ApiError, SummaryCache},
    dashboard,
};
use axum::{
    Router,
    extract::Request,
    http::{HeaderName, HeaderValue, Method, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use sluice_events::EventTime;
use sluice_quality::QualityReport;
use sluice_sinks::{
    Metrics,
    kpi_store::{KpiStore, KpiStoreError},
};
use std::{
    future::Future,
    io,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::{net::TcpListener, sync::Semaphore};
use utoipa::OpenApi;
use utoipa_swagger_ui::SwaggerUi;

/// Requests that may read the KPI store at once; the others wait.
const STORE_READERS: usize = 8;
/// Requests that may look for events in the lake at once.
const EVIDENCE_READERS: usize = 2;

/// What the server shows.
#[derive(Clone)]
pub struct ServeState {
    /// KPIs and alerts.
    pub store: Arc<dyn KpiStore>,
    /// The series of `/metrics`.
    pub metrics: Arc<Metrics>,
    /// How the process is doing.
    pub status: Arc<dyn StatusSource>,
    /// The live models of now. The dashboard needs `activity` and `sales`.
    pub models: Arc<dyn ModelSource>,
    /// What the checks of quality found.
    pub quality: Arc<dyn QualitySource>,
    /// The tables of gold.
    pub gold: Arc<dyn GoldSource>,
    /// The events behind alerts.
    pub evidence: Arc<dyn AlertEvidence>,
}

/// Tells what the checks of quality found. Asked on the pool for blocking work.
pub trait QualitySource: Send + Sync {
    /// The report over the checks of this many hours before the last one; why not, when the lake does not answer.
    ///
    /// # Errors
    /// A text for people.
    fn quality(&self, hours: usize) -> Result<Arc<QualityReport>, String>;
}

/// Tells the live models, which may change while the server runs.
pub trait ModelSource: Send + Sync {
    /// The models, each once.
    fn models(&self) -> Vec<ModelInfo>;
}

impl ModelSource for Vec<ModelInfo> {
    fn models(&self) -> Vec<ModelInfo> {
        self.clone()
    }
}

/// What the handlers share.
pub(crate) struct Shared {
    pub(crate) state: ServeState,
    pub(crate) summaries: SummaryCache,
    /// Who may look for the events of an alert.
    pub(crate) evidence_readers: Arc<Semaphore>,
    readers: Semaphore,
}

/// Processing time.
pub(crate) fn now() -> EventTime {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    EventTime::new(since_1970.as_millis() as i64)
}

impl Shared {
    /// Asks the store on the pool for blocking work.
    pub(crate) async fn ask_store<T, F>(&self, ask: F) -> Result<T, ApiError>
    where
        T: Send + 'static,
        F: FnOnce(&dyn KpiStore) -> Result<T, KpiStoreError> + Send + 'static,
    {
        let _permit = self.readers.acquire().await.map_err(|_| ApiError::Unfinished)?;
        let store = self.state.store.clone();
        match tokio::task::spawn_blocking(move || ask(store.as_ref())).await {
            Ok(answer) => Ok(answer?),
            Err(error) => {
                tracing::error!(%error, "ask the KPI store");
                Err(ApiError::Unfinished)
            }
        }
    }
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "sluice",
        description = "Live KPIs and alerts of an e-commerce event stream. Times are event times, RFC 3339 in UTC. \
                       Amounts of money are exact decimals, as text.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    paths(
        api::kpis,
        api::models,
        api::summary,
        api::alerts,
        api::alert,
        api::chart,
        api::acknowledge,
        api::snooze,
        api::end_snooze,
        api::quality,
        api::gold_tables,
        api::gold_table,
        api::runs,
        api::status,
        api::healthz,
        api::readyz,
        api::metrics
    )
)]
struct ApiDescription;

/// All routes over this state.
pub fn router(state: ServeState) -> Router {
    let shared = Arc::new(Shared {
        state,
        summaries: SummaryCache::default(),
        evidence_readers: Arc::new(Semaphore::new(EVIDENCE_READERS)),
        readers: Semaphore::new(STORE_READERS),
    });
    Router::new()
        .route("/api/v1/kpis/{model}", get(api::kpis))
        .route("/api/v1/models", get(api::models))
        .route("/api/v1/summary", get(api::summary))
        .route("/api/v1/alerts", get(api::alerts))
        .route("/api/v1/alerts/{id}", get(api::alert))
        .route("/api/v1/alerts/{id}/chart.svg", get(api::chart))
        .route("/api/v1/alerts/{id}/ack", post(api::acknowledge))
        .route("/api/v1/alerts/{id}/snooze", post(api::snooze).delete(api::end_snooze))
        .route("/api/v1/quality", get(api::quality))
        .route("/api/v1/gold", get(api::gold_tables))
        .route("/api/v1/gold/{table}", get(api::gold_table))
        .route("/api/v1/runs", get(api::runs))
        .route("/alerts", get(api::alerts_html))
        .route("/alerts/{id}", get(api::alert_html))
        .route("/quality", get(api::quality_html))
        .route("/models", get(api::models_html))
        .route("/api/v1/status", get(api::status))
        .route("/healthz", get(api::healthz))
        .route("/readyz", get(api::readyz))
        .route("/metrics", get(api::metrics))
        .with_state(shared)
        .merge(dashboard::router())
        .merge(SwaggerUi::new("/docs").url("/api/v1/openapi.json", ApiDescription::openapi()))
        .fallback(api::no_such_page)
        .method_not_allowed_fallback(api::no_such_method)
        .layer(middleware::from_fn(same_site_writes))
        .layer(middleware::map_response(with_security_headers))
}

/// Answers requests until `shutdown` is done, then finishes those that run.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    state: ServeState,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    // Unpacking the chart script takes a moment; the first page should not wait for it.
    tokio::task::spawn_blocking(dashboard::prepare);
    axum::serve(listener, router(state)).with_graceful_shutdown(shutdown).await
}

/// A browser says when a page of another site sends a request. Reading is harmless (no page can see the answer);
/// writing is not.
async fn same_site_writes(request: Request, next: Next) -> Response {
    let site = request.headers().get("sec-fetch-site").map(HeaderValue::as_bytes);
    let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    match site {
        Some(b"same-origin" | b"none") | None => next.run(request).await,
        Some(_) if reads => next.run(request).await,
        Some(_) => ApiError::CrossSite.into_response(),
    }
}

/// Nothing is loaded from elsewhere, and nobody frames or guesses. Charts and Swagger UI put styles into the page.
async fn with_security_headers(mut response: Response) -> Response {
    const HEADERS: [(HeaderName, &str); 4] = [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; object-src 'none'; \
             base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    // Numbers change every second; what may be kept says so itself.
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}
