//! The pages of the console, embedded: what `ops/console` has built, compressed already.

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use rust_embed::RustEmbed;

#[derive(RustEmbed)]
#[folder = "../ops/console/dist"]
struct Pages;

/// Encodings that files lie beside, the smallest first.
const ENCODINGS: [(&str, &str); 2] = [("br", ".br"), ("gzip", ".gz")];

/// The pages: `/`, and the files that it asks for.
pub fn router() -> Router {
    let names = Pages::iter().map(|name| name.to_string());
    let plain = names.filter(|name| !ENCODINGS.iter().any(|(_, end)| name.ends_with(end)));
    let mut router = Router::new().route("/", get(page));
    for name in plain {
        router = router.route(&format!("/{name}"), get(page));
    }
    router
}

async fn page(uri: Uri, headers: HeaderMap) -> Response {
    let name = match uri.path().trim_start_matches('/') {
        "" => "index.html",
        name => name,
    };
    let accepted = headers.get(header::ACCEPT_ENCODING);
    let accepted = accepted
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let (file, encoding) = best(name, accepted);
    let Some(file) = file else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let hash = file.metadata.sha256_hash();
    let tag: String = hash
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let tag = format!("\"{tag}\"");
    let known = headers.get(header::IF_NONE_MATCH);
    let mut response = match known.is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => Response::new(Body::from(file.data)),
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind(name)));
    // Asked again each time, since the next version has the same names.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if let Some(encoding) = encoding {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    response
}

/// The file in the smallest encoding that is accepted.
fn best(name: &str, accepted: &str) -> (Option<rust_embed::EmbeddedFile>, Option<&'static str>) {
    let takes = |encoding: &str| {
        let mut offered = accepted.split(',').map(str::trim);
        offered.any(|one| {
            let (token, weight) = one.split_once(';').unwrap_or((one, ""));
            token.trim() == encoding && weight.trim() != "q=0"
        })
    };
    for (encoding, end) in ENCODINGS {
        if takes(encoding)
            && let Some(file) = Pages::get(&format!("{name}{end}"))
        {
            return (Some(file), Some(encoding));
        }
    }
    (Pages::get(name), None)
}

fn kind(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, end)| end) {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "json" => "application/json",
        _ => "text/plain; charset=utf-8",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(path: &str, accepted: &str, known: &str) -> Response {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, accepted.parse().unwrap());
        headers.insert(header::IF_NONE_MATCH, known.parse().unwrap());
        page(path.parse().unwrap(), headers).await
    }

    fn header_of(response: &Response, name: header::HeaderName) -> String {
        let value = response.headers().get(name);
        value.map_or_else(String::new, |value| value.to_str().unwrap().to_owned())
    }

    #[tokio::test]
    async fn every_page_is_embedded_and_sent_as_small_as_the_asker_takes_it() {
        for path in ["/", "/app.js", "/app.css"] {
            let plain = ask(path, "", "x").await;
            assert_eq!(plain.status(), StatusCode::OK, "{path}");
            assert_eq!(header_of(&plain, header::CONTENT_ENCODING), "", "{path}");
            let small = ask(path, "gzip, deflate, br", "x").await;
            assert_eq!(header_of(&small, header::CONTENT_ENCODING), "br", "{path}");
            let refused = ask(path, "br;q=0, gzip", "x").await;
            assert_eq!(
                header_of(&refused, header::CONTENT_ENCODING),
                "gzip",
                "{path}"
            );
            let tag = header_of(&small, header::ETAG);
            let again = ask(path, "br", &tag).await;
            assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{path}");
        }
        assert_eq!(
            ask("/nothing", "", "x").await.status(),
            StatusCode::NOT_FOUND
        );
    }

    /// What a node serves is what a browser takes over a thin line.
    #[test]
    fn the_pages_are_small() {
        let compressed = Pages::iter().filter(|name| name.ends_with(".gz"));
        let bytes: usize = compressed
            .map(|name| Pages::get(&name).unwrap().data.len())
            .sum();
        assert!(bytes > 10_000 && bytes < 150_000, "{bytes}");
    }
}
