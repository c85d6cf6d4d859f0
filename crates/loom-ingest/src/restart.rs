use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::demux::IceCredentials;
use crate::error::IngestError;
use crate::sdp::{self, Candidate, RemoteIce};
use crate::transport::Identity;
use crate::whip::{Patch, PatchKind, Refusal};

/// What a publisher that restarts ICE is told (RFC 9725 §4.3.3).
#[must_use = "the publisher waits for it"]
#[derive(Clone, PartialEq, Eq)]
pub struct IceRestart {
    /// Our new `a=ice-ufrag`.
    pub fragment: String,
    /// Our new `a=ice-pwd`.
    pub password: String,
    /// Our candidates as `candidate:…`, the best first.
    pub candidates: Vec<String>,
    /// The new entity tag, without quotes.
    pub etag: String,
}

impl fmt::Debug for IceRestart {
    /// Tells no password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IceRestart")
            .field("fragment", &self.fragment)
            .field("candidates", &self.candidates)
            .field("etag", &self.etag)
            .finish_non_exhaustive()
    }
}

/// The generations of one session's ICE.
pub(crate) struct Restarts {
    identity: Identity,
    candidates: Vec<Candidate>,
    current: Mutex<Generation>,
}

struct Generation {
    etag: String,
    /// The publisher's credentials: at first those of each section of its offer, then those of its last restart.
    remote: Vec<RemoteIce>,
}

impl Restarts {
    pub(crate) fn new(identity: Identity, candidates: Vec<Candidate>, etag: String, offer: &str) -> Self {
        let remote = offered(offer);
        Self {
            identity,
            candidates,
            current: Mutex::new(Generation { etag, remote }),
        }
    }

    pub(crate) fn etag(&self) -> String {
        self.lock().etag.clone()
    }

    /// New credentials and a new tag, for a publisher whose own new ones are these. `apply` is called with them before
    /// anybody else can restart.
    pub(crate) fn restart(
        &self,
        fragment: &str,
        password: &str,
        apply: impl FnOnce(IceCredentials),
    ) -> Result<IceRestart, IngestError> {
        let remote = RemoteIce::new(fragment, password)?;
        self.renew(&mut self.lock(), remote, apply)
    }

    /// As [`Self::restart`], where a WHIP client's `PATCH` asks for that. The tag that it names is compared and replaced in
    /// one go, so that of two restarts that name the same tag only one is done.
    pub(crate) fn patch(
        &self,
        patch: &Patch,
        apply: impl FnOnce(IceCredentials),
    ) -> Result<Option<IceRestart>, Refusal> {
        let mut current = self.lock();
        match patch.kind(&current.etag, &current.remote)? {
            PatchKind::Trickle => Ok(None),
            PatchKind::Restart(remote) => Ok(Some(self.renew(&mut current, remote, apply)?)),
        }
    }

    fn renew(
        &self,
        current: &mut Generation,
        remote: RemoteIce,
        apply: impl FnOnce(IceCredentials),
    ) -> Result<IceRestart, IngestError> {
        let credentials = new_credentials(&self.identity)?;
        let etag = self.identity.random_word(8)?;
        let restart = IceRestart {
            fragment: credentials.fragment.to_string(),
            password: credentials.password.to_string(),
            candidates: sdp::candidates(&self.candidates),
            etag: etag.clone(),
        };
        apply(credentials);
        *current = Generation {
            etag,
            remote: vec![remote],
        };
        Ok(restart)
    }

    fn lock(&self) -> MutexGuard<'_, Generation> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The credentials in an offer that was accepted, in its order.
fn offered(offer: &str) -> Vec<RemoteIce> {
    let values = |name: &'static str| {
        let lines = offer.lines().filter_map(move |line| line.strip_prefix(name));
        lines.map(str::trim)
    };
    let pairs = values("a=ice-ufrag:").zip(values("a=ice-pwd:"));
    let mut found: Vec<RemoteIce> = Vec::new();
    for remote in pairs.filter_map(|(fragment, password)| RemoteIce::new(fragment, password).ok()) {
        if !found.contains(&remote) {
            found.push(remote);
        }
    }
    found
}

/// RFC 8445 §5.3: at least 24 bits of randomness in the fragment and 128 in the password.
pub(crate) fn new_credentials(identity: &Identity) -> Result<IceCredentials, IngestError> {
    Ok(IceCredentials {
        fragment: identity.random_word(8)?.into(),
        password: identity.random_word(16)?.into(),
    })
}
