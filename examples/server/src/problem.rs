//! What went wrong, as an RFC 9457 problem document.

use axum::Json;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use loom_engine::{EngineError, HlsError};
use serde::Serialize;

use crate::store::StoreError;

/// An answer that says no: `application/problem+json` with a sentence that helps (RFC 9457 §3.1).
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Problem {
    #[serde(skip)]
    status: StatusCode,
    detail: String,
    /// A word for programs; it stays the same when the sentence is reworded.
    code: &'static str,
    #[serde(skip)]
    retry_after: Option<u32>,
}

/// As it is sent.
#[derive(Debug, Serialize)]
pub(crate) struct Document<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    #[serde(flatten)]
    problem: &'a Problem,
}

/// A handler's answer.
pub(crate) type Answer<T = Response> = Result<T, Problem>;

impl Problem {
    pub(crate) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: detail.into(),
            code,
            retry_after: None,
        }
    }

    pub(crate) fn bad_request(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    pub(crate) fn not_found(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, detail)
    }

    pub(crate) fn conflict(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    pub(crate) fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail)
    }

    pub(crate) fn unsupported_type(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-type", detail)
    }

    /// 503 with a Retry-After in seconds.
    pub(crate) fn unavailable(code: &'static str, detail: impl Into<String>, retry_after: u32) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail)
        }
    }

    /// 500. What went wrong is for the log; the answer names no file of this machine.
    pub(crate) fn internal(what: &'static str, why: &dyn std::fmt::Display) -> Self {
        tracing::error!(%why, "{what}");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            format!("the server could not {what}; its log says why"),
        )
    }

    /// There is no such recording.
    pub(crate) fn unknown(id: &str) -> Self {
        let shown: String = id.chars().take(40).collect();
        Self::not_found(
            "unknown-recording",
            format!("there is no recording {shown:?}; it may have been deleted"),
        )
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// Seconds.
    pub(crate) fn retry_after(&self) -> Option<u32> {
        self.retry_after
    }

    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// The document (RFC 9457 §3.1).
    pub(crate) fn document(&self) -> Document<'_> {
        Document {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            problem: self,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.document())).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if self.status == StatusCode::PAYLOAD_TOO_LARGE {
            // the rest of the body is not read, so nothing else comes through (RFC 9110 §15.5.14)
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl From<EngineError> for Problem {
    fn from(error: EngineError) -> Self {
        let told = error.to_string();
        match error {
            EngineError::NotFound(id) => Self::unknown(id.as_str()),
            EngineError::Exists(_) => Self::conflict("exists", told),
            EngineError::BadOffer(_) => Self::bad_request("bad-offer", told),
            EngineError::AlreadyPublished(_) => Self::conflict("already-published", told),
            EngineError::NoSuchSession { .. } => Self::not_found("unknown-session", told),
            EngineError::NoSuchRendition { .. } => Self::not_found("unknown-rendition", told),
            EngineError::NoSuchJob { .. } => Self::not_found("unknown-job", told),
            EngineError::NoSuchVersion { .. } => Self::not_found("unknown-version", told),
            EngineError::Superseded { .. } => Self::new(StatusCode::PRECONDITION_FAILED, "superseded", told),
            EngineError::Download(_) => Self::conflict("no-download", told),
            EngineError::WrongState { .. } => Self::conflict("wrong-state", told),
            EngineError::Crowded { .. } => Self::conflict("crowded", told),
            EngineError::Full { .. } => Self::unavailable("full", told, 30),
            EngineError::DiskFull { .. } => Self::new(StatusCode::INSUFFICIENT_STORAGE, "disk-full", told),
            EngineError::BadMedia(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "bad-media", told),
            EngineError::BadComposition(_) => Self::bad_request("bad-composition", told),
            EngineError::NoCamera(_) => Self::conflict("no-camera", told),
            EngineError::BadEdit(_) => Self::bad_request("bad-edit", told),
            EngineError::BadText(_) => Self::bad_request("bad-text", told),
            EngineError::Package(HlsError::Metadata { .. }) => Self::bad_request("bad-metadata", told),
            EngineError::NotReady(_) => Self::conflict("not-ready", told),
            EngineError::Store(loom_engine::StoreError::Unsupported(_)) => Self::conflict("no-classes", told),
            EngineError::Store(why) => {
                // what it says names hosts and buckets
                tracing::error!(%why, "the store failed");
                Self::unavailable(
                    "store",
                    "the store of recordings does not answer as it should; try again",
                    10,
                )
            }
            EngineError::ShuttingDown => Self::unavailable("shutting-down", told, 5),
            other => Self::internal("do that", &other),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::internal("read or write its database", &error)
    }
}

impl From<BytesRejection> for Problem {
    fn from(rejection: BytesRejection) -> Self {
        match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                Self::too_large("the request's body is larger than this address takes")
            }
            _ => Self::bad_request("bad-body", "the request's body broke off before its end"),
        }
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::bad_request(
            "bad-query",
            format!("the query cannot be read: {}", rejection.body_text()),
        )
    }
}
