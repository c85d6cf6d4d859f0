//! Who may publish, and what comes of it: a [`WhipHost`].

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use loom_engine::whip::{Client, Patch, Published, Refusal, WhipHost};
use loom_engine::{Answer, Engine, EngineError, IceRestart, Recording, RecordingId, SessionHandle};

/// Each name has a token; who shows it makes a recording with each offer.
pub(crate) struct Door {
    engine: Engine,
    tokens: HashMap<String, String>,
    began: Box<dyn Fn(Recording) + Send + Sync>,
    /// Whose session it is, of which recording.
    sessions: Mutex<HashMap<String, Session>>,
}

struct Session {
    name: String,
    recording: Recording,
    handle: SessionHandle,
}

impl Door {
    pub(crate) fn new(
        engine: Engine,
        tokens: HashMap<String, String>,
        began: impl Fn(Recording) + Send + Sync + 'static,
    ) -> Self {
        Self {
            engine,
            tokens,
            began: Box::new(began),
            sessions: Mutex::default(),
        }
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WhipHost for Door {
    async fn authorize(
        &self,
        endpoint: &str,
        session: Option<&str>,
        client: Client<'_>,
    ) -> Result<(), Refusal> {
        let wanted = self.tokens.get(endpoint);
        // whether there is such a name is nobody's business who has no token for it
        if wanted.is_none() || client.token != wanted.map(String::as_str) {
            return Err(Refusal::unauthorized(
                "show the token of this name as Authorization: Bearer TOKEN",
            ));
        }
        match session {
            Some(session) if self.sessions().get(session).is_none_or(|it| it.name != endpoint) => {
                Err(Refusal::not_found("there is no such session"))
            }
            _ => Ok(()),
        }
    }

    async fn publish(&self, endpoint: &str, client: Client<'_>, offer: String) -> Result<Published, Refusal> {
        let broken = |why: EngineError| Refusal::busy(why.to_string(), 5);
        let recording = self.engine.create(RecordingId::random()).map_err(broken)?;
        let answer = match recording.publish_from(&offer, client.address).await {
            Ok(answer) => answer,
            Err(EngineError::BadOffer(why)) => return Err(why.into()), // each fault has a status of its own
            Err(why) => return Err(broken(why)),
        };
        println!("/{}/hls/main.m3u8", recording.id());
        let session = Session {
            name: endpoint.to_owned(),
            recording: recording.clone(),
            handle: answer.handle,
        };
        self.sessions().insert(answer.session.clone(), session);
        (self.began)(recording);
        Ok(Published {
            session: answer.session.as_str().into(),
            answer: Answer {
                sdp: answer.sdp,
                etag: answer.etag,
            },
            extensions: Vec::new(),
        })
    }

    async fn patch(&self, _: &str, session: &str, patch: &Patch) -> Result<Option<IceRestart>, Refusal> {
        let handle = self.sessions().get(session).map(|it| it.handle.clone());
        handle
            .ok_or_else(|| Refusal::not_found("there is no such session"))?
            .patch(patch)
    }

    async fn end(&self, _: &str, session: &str) -> Result<(), Refusal> {
        if let Some(ended) = self.sessions().remove(session) {
            let _ = ended.recording.hang_up(session); // it may have ended by itself
        }
        Ok(())
    }
}
