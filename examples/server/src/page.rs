//! The web page: files of `web/`, part of the program.

use std::collections::HashMap;
use std::sync::LazyLock;

use axum::extract::{Path, State};
use axum::response::IntoResponse;
use http::{HeaderMap, StatusCode, header};
use loom_engine::range::is_fresh;
use sha2::{Digest, Sha256};

use crate::app::App;
use crate::problem::{Answer, Problem};

/// One embedded file.
struct Asset {
    bytes: &'static [u8],
    kind: &'static str,
    tag: String,
}

/// `GET /`: record, and the library.
pub(crate) async fn index(headers: HeaderMap) -> Answer {
    serve("index.html", StatusCode::OK, &headers)
}

/// `GET /w/{id}`: watch. The page itself says in words where there is no such recording.
pub(crate) async fn watch(State(app): State<App>, Path(id): Path<String>, headers: HeaderMap) -> Answer {
    match app.recording(&id).await {
        Err(problem) if problem.status() == StatusCode::NOT_FOUND => {
            let status = if app.row(&id).await.is_ok() {
                StatusCode::OK
            } else {
                StatusCode::NOT_FOUND
            };
            serve("watch.html", status, &headers)
        }
        _ => serve("watch.html", StatusCode::OK, &headers),
    }
}

/// `GET /assets/{path}`
pub(crate) async fn asset(Path(path): Path<String>, headers: HeaderMap) -> Answer {
    serve(&path, StatusCode::OK, &headers)
}

fn serve(path: &str, status: StatusCode, request: &HeaderMap) -> Answer {
    let asset = ASSETS
        .get(path)
        .ok_or_else(|| Problem::not_found("unknown-page", "there is no such page or file"))?;
    // Names do not change with content, so a browser asks each time and is mostly told 304.
    let fields = [
        (header::ETAG, asset.tag.as_str()),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    if status == StatusCode::OK && is_fresh(request, &asset.tag) {
        return Ok((StatusCode::NOT_MODIFIED, fields).into_response());
    }
    Ok((status, fields, [(header::CONTENT_TYPE, asset.kind)], asset.bytes).into_response())
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "json" => "application/json",
        "webmanifest" => "application/manifest+json",
        _ => "text/plain; charset=utf-8",
    }
}

static ASSETS: LazyLock<HashMap<&str, Asset>> = LazyLock::new(|| {
    let asset = |&(path, bytes): &(&'static str, &'static [u8])| {
        let digest = Sha256::digest(bytes);
        let tag = digest
            .iter()
            .take(12)
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>();
        (
            path,
            Asset {
                bytes,
                kind: content_type(path),
                tag: format!("\"{tag}\""),
            },
        )
    };
    FILES.iter().map(asset).collect()
});

/// Path and content; written by the build script.
const FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/web.rs"));
