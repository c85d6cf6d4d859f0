//! Who may publish: the engine's recordings behind the WHIP adapter, each guarded by its token.

use std::fmt;
use std::sync::Arc;

use axum::Router;
use loom_engine::whip::{self, Client, Patch, Published, Redirect, RedirectKind, Refusal, WhipHost};
use loom_engine::{Answer, EngineError, IceRestart, IceServer, PublisherName, Recording, RecordingState};
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
struct Publishers(App);

/// `/v1/recordings/{id}/whip` and `/v1/recordings/{id}/whip/{session}` (RFC 9725). The adapter answers for itself to
/// pages of other origins.
pub(crate) fn routes(app: &App) -> Router<App> {
    Router::new().nest(
        "/v1/recordings",
        whip::router(Arc::new(Publishers(app.clone()))).with_state(()),
    )
}

impl Publishers {
    /// Whose token it is: that of one who joins under this name, or `None` for the recording's own: whoever shows that may do anything
    /// with it.
    async fn whose(
        &self,
        recording: &Recording,
        token: Option<&str>,
    ) -> Result<Option<PublisherName>, Refusal> {
        let store = &self.0.store;
        let token = token.ok_or_else(|| {
            Refusal::unauthorized(
                "to publish, send the recording's whip_token as Authorization: Bearer TOKEN",
            )
        })?;
        let shown = hash(token);
        let is_shown = |kept: &TokenHash| bool::from(kept.ct_eq(&shown));
        let kept = store.token_hash(recording.id().clone()).await;
        if kept.map_err(Problem::from)?.is_some_and(|kept| is_shown(&kept)) {
            return Ok(None);
        }
        let invited = store.invitations(recording.id().clone()).await;
        let mut invited = invited.map_err(Problem::from)?.into_iter();
        let found = invited.find(|(_, kept)| is_shown(kept));
        found.map(|(name, _)| Some(name)).ok_or_else(|| {
            Refusal::unauthorized(
                "the token is not this recording's; it was told once, when the recording was made, or the publisher was asked to join",
            )
        })
    }
}

impl WhipHost for Publishers {
    /// Whoever shows a recording's token may do anything with it; who joins, with its own sessions.
    async fn authorize(
        &self,
        endpoint: &str,
        session: Option<&str>,
        client: Client<'_>,
    ) -> Result<(), Refusal> {
        let recording = self.0.recording(endpoint).await?;
        let whose = self.whose(&recording, client.token).await?;
        let Some(session) = session else {
            return Ok(());
        };
        let publisher = recording.publisher(session).map_err(Problem::from)?;
        match whose.is_none() || whose == publisher {
            true => Ok(()),
            false => Err(Refusal::forbidden("the session is another publisher's")),
        }
    }

    async fn redirect(&self, endpoint: &str, _client: Client<'_>) -> Option<Redirect> {
        let to = self.0.config.redirect_to.as_ref()?;
        // a publisher that comes back to its recording finds it nowhere else
        let recording = self.0.recording(endpoint).await.ok()?;
        let is_new = recording.info().state == RecordingState::Created;
        (is_new && self.0.engine.is_full()).then(|| Redirect {
            to: to.url(endpoint),
            kind: RedirectKind::Temporary,
        })
    }

    async fn ice_servers(&self, _endpoint: &str, _client: Client<'_>) -> Vec<IceServer> {
        self.0.engine.config().ingest.ice_servers.clone()
    }

    async fn publish(&self, endpoint: &str, client: Client<'_>, offer: String) -> Result<Published, Refusal> {
        let recording = self.0.recording(endpoint).await?;
        let whose = self.whose(&recording, client.token).await?;
        let answered = match whose {
            None => recording.publish_from(&offer, client.address).await,
            Some(name) => recording.join_from(name, &offer, client.address).await,
        };
        let answer = match answered {
            Ok(answer) => answer,
            // The adapter knows which of an offer's faults has which status.
            Err(EngineError::BadOffer(why)) => return Err(why.into()),
            Err(why) => return Err(Problem::from(why).into()),
        };
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
        let recording = self.0.recording(endpoint).await?;
        recording.session(session).map_err(Problem::from)?.patch(patch)
    }

    async fn end(&self, endpoint: &str, session: &str) -> Result<(), Refusal> {
        let recording = self.0.recording(endpoint).await?;
        recording.hang_up(session).map_err(Problem::from)?;
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
