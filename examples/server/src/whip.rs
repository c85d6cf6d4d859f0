//! Who may publish: the engine's recordings behind the WHIP adapter, each guarded by its token.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use http::StatusCode;
use loom_engine::Answer;
use loom_engine::whip::{self, Fragment, IfMatch, Published, Refusal, WhipHost};
use loom_engine::{EngineError, Recording, RecordingId};
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
    /// The session of each recording that somebody publishes to.
    sessions: Arc<Mutex<HashMap<RecordingId, OpenSession>>>,
}

/// What a PATCH is checked against.
#[derive(Debug, Clone)]
struct OpenSession {
    id: String,
    etag: String,
}

/// `POST /v1/recordings/{id}/whip`, `PATCH` and `DELETE /v1/recordings/{id}/whip/{session}` (RFC 9725). The adapter
/// answers for itself to pages of other origins.
pub(crate) fn routes(app: &App) -> Router<App> {
    let publishers = Publishers {
        app: app.clone(),
        sessions: Arc::default(),
    };
    Router::new().nest(
        "/v1/recordings",
        whip::router(Arc::new(publishers)).with_state(()),
    )
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

    /// A session is known until its recording is over.
    fn forget_when_over(&self, recording: Recording) {
        let sessions = Arc::clone(&self.sessions);
        tokio::spawn(async move {
            let mut events = recording.events();
            while events.next().await.is_some() {}
            sessions
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(recording.id());
        });
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<RecordingId, OpenSession>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WhipHost for Publishers {
    async fn publish(
        &self,
        endpoint: &str,
        token: Option<&str>,
        offer: String,
    ) -> Result<Published, Refusal> {
        let recording = self.admit(endpoint, token).await?;
        let answer = match recording.publish(&offer).await {
            Ok(answer) => answer,
            // The adapter knows which of an offer's faults has which status.
            Err(EngineError::BadOffer(why)) => return Err(why.into()),
            Err(why) => return Err(Problem::from(why).into()),
        };
        let session = OpenSession {
            id: answer.session.clone(),
            etag: answer.etag.clone(),
        };
        self.sessions().insert(recording.id().clone(), session);
        self.forget_when_over(recording);
        Ok(Published {
            session: answer.session.as_str().into(),
            answer: Answer {
                sdp: answer.sdp,
                etag: answer.etag,
            },
        })
    }

    async fn trickle(
        &self,
        endpoint: &str,
        session: &str,
        token: Option<&str>,
        if_match: &IfMatch,
        _fragment: &Fragment,
    ) -> Result<(), Refusal> {
        let recording = self.admit(endpoint, token).await?;
        let known = self
            .sessions()
            .get(recording.id())
            .filter(|open| open.id == session)
            .cloned();
        let gone = || Problem::not_found("unknown-session", "this recording has no such WHIP session");
        if_match.check(&known.ok_or_else(gone)?.etag)
    }

    async fn end(&self, endpoint: &str, session: &str, token: Option<&str>) -> Result<(), Refusal> {
        let recording = self.admit(endpoint, token).await?;
        recording.hang_up(session).map_err(Problem::from)?;
        self.sessions().remove(recording.id());
        Ok(())
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        let status = problem.status();
        let title = status.canonical_reason().unwrap_or("Error");
        let mut refusal = Self::new(status.as_u16(), title, problem.detail());
        refusal.retry_after = problem.retry_after();
        refusal
    }
}
