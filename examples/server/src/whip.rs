//! Who may publish: the engine's recordings behind the WHIP adapter, each guarded by its token.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use loom_engine::whip::{self, Client, Patch, Published, Redirect, RedirectKind, Refusal, WhipHost};
use loom_engine::{
    Answer, EngineError, IceRestart, IceServer, Recording, RecordingId, RecordingState, SessionHandle,
};
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
    /// The sessions of each recording that somebody publishes to: one, and those that would take its place.
    sessions: Arc<Mutex<HashMap<RecordingId, Vec<SessionHandle>>>>,
}

/// `/v1/recordings/{id}/whip` and `/v1/recordings/{id}/whip/{session}` (RFC 9725). The adapter answers for itself to
/// pages of other origins.
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

    fn sessions(&self) -> MutexGuard<'_, HashMap<RecordingId, Vec<SessionHandle>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn session(&self, recording: &Recording, session: &str) -> Result<SessionHandle, Refusal> {
        let known = self
            .sessions()
            .get(recording.id())
            .and_then(|open| open.iter().find(|it| it.id().as_str() == session))
            .cloned();
        let gone = || Problem::not_found("unknown-session", "this recording has no such WHIP session");
        known.ok_or_else(|| gone().into())
    }
}

impl WhipHost for Publishers {
    /// Whoever shows a recording's token may do anything with it.
    async fn authorize(
        &self,
        endpoint: &str,
        session: Option<&str>,
        client: Client<'_>,
    ) -> Result<(), Refusal> {
        let recording = self.app.recording(endpoint).await?;
        let kept = self.app.store.token_hash(recording.id().clone()).await;
        let kept = kept.map_err(Problem::from)?;
        let token = client.token.ok_or_else(|| {
            Refusal::unauthorized(
                "to publish, send the recording's whip_token as Authorization: Bearer TOKEN",
            )
        })?;
        let shown = hash(token);
        if !kept.is_some_and(|kept| bool::from(kept.ct_eq(&shown))) {
            return Err(Refusal::unauthorized(
                "the token is not this recording's; it was told once, when the recording was made",
            ));
        }
        session.map_or(Ok(()), |session| self.session(&recording, session).map(drop))
    }

    async fn redirect(&self, endpoint: &str, _client: Client<'_>) -> Option<Redirect> {
        let to = self.app.config.redirect_to.as_ref()?;
        // a publisher that comes back to its recording finds it nowhere else
        let recording = self.app.recording(endpoint).await.ok()?;
        let is_new = recording.info().state == RecordingState::Created;
        (is_new && self.app.engine.is_full()).then(|| Redirect {
            to: to.url(endpoint),
            kind: RedirectKind::Temporary,
        })
    }

    async fn ice_servers(&self, _endpoint: &str, _client: Client<'_>) -> Vec<IceServer> {
        self.app.engine.config().ingest.ice_servers.clone()
    }

    async fn publish(&self, endpoint: &str, client: Client<'_>, offer: String) -> Result<Published, Refusal> {
        let recording = self.app.recording(endpoint).await?;
        let answer = match recording.publish_from(&offer, client.address).await {
            Ok(answer) => answer,
            // The adapter knows which of an offer's faults has which status.
            Err(EngineError::BadOffer(why)) => return Err(why.into()),
            Err(why) => return Err(Problem::from(why).into()),
        };
        self.sessions()
            .entry(recording.id().clone())
            .or_default()
            .push(answer.handle.clone());
        self.forget_when_over(recording);
        Ok(Published {
            session: answer.session.as_str().into(),
            answer: Answer {
                sdp: answer.sdp,
                etag: answer.etag,
            },
            // none is registered (RFC 9725 §6.4)
            extensions: Vec::new(),
        })
    }

    async fn patch(
        &self,
        endpoint: &str,
        session: &str,
        patch: &Patch,
    ) -> Result<Option<IceRestart>, Refusal> {
        let recording = self.app.recording(endpoint).await?;
        self.session(&recording, session)?.patch(patch)
    }

    async fn end(&self, endpoint: &str, session: &str) -> Result<(), Refusal> {
        let recording = self.app.recording(endpoint).await?;
        self.session(&recording, session)?;
        recording.hang_up(session).map_err(Problem::from)?;
        if let Some(open) = self.sessions().get_mut(recording.id()) {
            open.retain(|it| it.id().as_str() != session);
        }
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
