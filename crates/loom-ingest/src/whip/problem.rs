use crate::error::IngestError;

/// A request that is not granted, as the fields of a problem document (RFC 9457 §3.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status code: 4xx or 5xx.
    pub status: u16,
    /// What kind of problem it is, in a few words.
    pub title: String,
    /// What happened this time and what would help, as a sentence.
    pub detail: String,
    /// After how many seconds a new try makes sense (`Retry-After`, RFC 9110 §10.2.3).
    pub retry_after: Option<u32>,
}

impl Refusal {
    /// A refusal with a status code, a kind, and a sentence that helps.
    pub fn new(status: u16, title: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            status,
            title: title.into(),
            detail: detail.into(),
            retry_after: None,
        }
    }

    /// 401: the request needs a token, or a better one.
    pub fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(401, "Unauthorized", detail)
    }

    /// 403: the token is good, but not for this.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(403, "Forbidden", detail)
    }

    /// 404: there is no such endpoint or session.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(404, "Not found", detail)
    }

    /// 503: there is no room; try again after so many seconds.
    pub fn busy(detail: impl Into<String>, retry_after: u32) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..Self::new(503, "Busy", detail)
        }
    }

    /// The problem document.
    pub fn to_json(&self) -> String {
        serde_json::json!({
            "type": "about:blank",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        })
        .to_string()
    }
}

impl From<IngestError> for Refusal {
    fn from(error: IngestError) -> Self {
        let detail = error.to_string();
        match error {
            IngestError::OfferTooLarge { .. } => Self::new(413, "Offer too large", detail),
            IngestError::NotSdp { .. } => Self::new(400, "Not an SDP offer", detail),
            IngestError::NoMedia { .. } => Self::new(422, "Nothing to publish", detail),
            IngestError::UnknownCodecs { .. } => Self::new(422, "No usable codec", detail),
            IngestError::BadOffer { .. } => Self::new(422, "Unusable offer", detail),
            IngestError::Closed => Self::new(404, "No such session", detail),
            IngestError::Full { .. } | IngestError::FullForAddress { .. } => Self {
                retry_after: Some(RETRY_SECONDS),
                ..Self::new(503, "Too many publishers", detail)
            },
            IngestError::Config { .. } | IngestError::Socket { .. } | IngestError::Webrtc { .. } => {
                Self::new(500, "Ingest failed", detail)
            }
        }
    }
}

const RETRY_SECONDS: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_document_has_its_fields_escaped() {
        let json = Refusal::new(400, "Not an SDP offer", "line 1: \"x\"\n").to_json();
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["status"], 400);
        assert_eq!(value["type"], "about:blank");
        assert_eq!(value["detail"], "line 1: \"x\"\n");
    }
}
