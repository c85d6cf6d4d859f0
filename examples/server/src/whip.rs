//! Who may publish: the engine's recordings behind the WHIP adapter, each guarded by its token.

use std::fmt;
use std::sync::Arc;

use axum::Router;
use http::StatusCode;
use loom_engine::Recording;
use loom_engine::whip::{self, Published, Refusal, WhipHost};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::app::App;
use crate::problem::Problem;
use crate::store::TokenHash;

/// What a publisher shows: told once, when the recording is made; only its hash is kept.
pub(crate) struct Token(String);

impl Token {
    /// 256 bits that nobody can guess.
    pub(crate) fn random() -> Self {
        let bits: [u128; 2] = rand::random();
        Self(format!("{:032x}{:032x}", bits[0], bits[1]))
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    pub(crate) fn hash(&self) -> TokenHash {
        hash(&self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Hashing first makes every comparison one of 32 bytes; doing it in constant time tells nothing of how many agree.
fn hash(token: &str) -> TokenHash {
    Sha256::digest(token.as_bytes()).into()
}

/// The engine as the WHIP adapter sees it.
struct Publishers {
    app: App,
}

/// `POST /v1/recordings/{id}/whip`, `PATCH` and `DELETE /v1/recordings/{id}/whip/{session}` (RFC 9725).
pub(crate) fn routes(app: &App) -> Router<App> {
    let whip = whip::router(Arc::new(Publishers { app: app.clone() }));
    Router::new().nest("/v1/recordings", whip.with_state(()))
}

impl Publishers {
    /// The recording, where `token` is its own.
    async fn admit(&self, endpoint: &str, token: Option<&str>) -> Result<Recording, Refusal> {
        let recording = self.app.recording(endpoint).await?;
        let kept = self
            .app
            .store
            .token_hash(recording.id().clone())
            .await
            .map_err(Problem::from)?;
        let refuse =
            |detail: &str| Refusal::from(Problem::new(StatusCode::UNAUTHORIZED, "bad-token", detail));
        let token = token.ok_or_else(|| {
            refuse("to publish, send the recording's whip_token as Authorization: Bearer TOKEN")
        })?;
        let shown = hash(token);
        match kept {
            Some(kept) if bool::from(kept.ct_eq(&shown)) => Ok(recording),
            _ => Err(refuse(
                "the token is not this recording's; it was told once, when the recording was made",
            )),
        }
    }
}

impl WhipHost for Publishers {
    async fn publish(
        &self,
        endpoint: &str,
        token: Option<&str>,
        offer: String,
    ) -> Result<Published, Refusal> {
        let answer = self
            .admit(endpoint, token)
            .await?
            .publish(&offer)
            .await
            .map_err(Problem::from)?;
        Ok(Published {
            sdp: answer.sdp,
            session: answer.session,
            etag: answer.etag,
        })
    }

    async fn end(&self, endpoint: &str, session: &str, token: Option<&str>) -> Result<(), Refusal> {
        let recording = self.admit(endpoint, token).await?;
        Ok(recording.hang_up(session).map_err(Problem::from)?)
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self {
            status: problem.status().as_u16(),
            title: problem.status().canonical_reason().unwrap_or("Error").to_owned(),
            detail: problem.detail().to_owned(),
        }
    }
}
