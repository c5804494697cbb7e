//! The live page at `/`, and what it and the pages of alerts load, all from this process.

use axum::{
    Router,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use flate2::{Compression, write::GzEncoder};
use std::{borrow::Cow, io::Write, sync::LazyLock};
use xxhash_rust::xxh3::xxh3_64;

/// A file of the page, plain and packed.
struct Asset {
    content_type: &'static str,
    plain: Cow<'static, [u8]>,
    gzip: Vec<u8>,
    tag: String,
    /// Whether a browser may use its copy without asking.
    may_be_kept: bool,
}

impl Asset {
    fn new(content_type: &'static str, plain: impl Into<Cow<'static, [u8]>>, may_be_kept: bool) -> Self {
        let plain = plain.into();
        let mut packer = GzEncoder::new(Vec::new(), Compression::default());
        // Writing to memory cannot fail; and an empty packed form is not served.
        let gzip = packer.write_all(&plain).and_then(|()| packer.finish()).unwrap_or_default();
        Self { content_type, tag: format!("\"{:016x}\"", xxh3_64(&plain)), plain, gzip, may_be_kept }
    }

    fn answer(&'static self, request: &HeaderMap) -> Response {
        let cache = if self.may_be_kept { "public, max-age=86400" } else { "no-cache" };
        let headers =
            [(header::ETAG, self.tag.as_str()), (header::CACHE_CONTROL, cache), (header::VARY, "accept-encoding")];
        let says = |name, what: &str| {
            request.get(name).and_then(|value| value.to_str().ok()).is_some_and(|value| value.contains(what))
        };
        if says(header::IF_NONE_MATCH, &self.tag) {
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        let content_type = [(header::CONTENT_TYPE, self.content_type)];
        if says(header::ACCEPT_ENCODING, "gzip") && !self.gzip.is_empty() {
            (headers, content_type, [(header::CONTENT_ENCODING, "gzip")], self.gzip.as_slice()).into_response()
        } else {
            (headers, content_type, self.plain.as_ref()).into_response()
        }
    }
}

static PAGE: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("text/html; charset=utf-8", include_bytes!("index.html").as_slice(), false));
static SCRIPT: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("text/javascript; charset=utf-8", include_bytes!("app.js").as_slice(), false));
static STYLE: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("text/css; charset=utf-8", include_bytes!("style.css").as_slice(), false));
static ALERTS_SCRIPT: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("text/javascript; charset=utf-8", include_bytes!("alerts.js").as_slice(), false));
static ALERTS_STYLE: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("text/css; charset=utf-8", include_bytes!("alerts.css").as_slice(), false));
static CHARTS: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("text/javascript; charset=utf-8", chart_script().into_bytes(), true));

/// Makes the assets ready.
pub(crate) fn prepare() {
    for asset in [&PAGE, &SCRIPT, &STYLE, &ALERTS_SCRIPT, &ALERTS_STYLE, &CHARTS] {
        LazyLock::force(asset);
    }
}

/// The page and its files.
pub(crate) fn router() -> Router {
    let asset = |asset: &'static LazyLock<Asset>| get(async move |headers: HeaderMap| asset.answer(&headers));
    Router::new()
        .route("/", asset(&PAGE))
        .route("/assets/app.js", asset(&SCRIPT))
        .route("/assets/style.css", asset(&STYLE))
        .route("/assets/alerts.js", asset(&ALERTS_SCRIPT))
        .route("/assets/alerts.css", asset(&ALERTS_STYLE))
        .route("/assets/plotly.min.js", asset(&CHARTS))
}

/// The chart library, as the `plotly` crate ships it: the first of the script elements that it would put into a page.
fn chart_script() -> String {
    let elements = plotly::Plot::offline_js_sources();
    let script = elements.split_once('>').map_or("", |(_, rest)| rest);
    script.split_once("</script>").map_or("", |(script, _)| script).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chart_script_is_whole_and_nothing_else() {
        let script = chart_script();
        assert!(script.len() > 1_000_000, "{} bytes", script.len());
        assert!(!script.contains("MathJax.Hub.") || script.contains("Plotly"));
        assert!(!script.contains("<script type=\"text/javascript\">"));
        assert!(script.trim_end().ends_with([';', ')', '}']), "{}", &script[script.len() - 40..]);
    }
}
