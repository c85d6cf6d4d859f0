use std::sync::{Mutex, PoisonError};

use crate::demux::IceCredentials;
use crate::error::IngestError;
use crate::sdp::{self, Candidate, RemoteIce};
use crate::transport::Identity;

/// What a publisher that restarts ICE is told (RFC 9725 §4.3.3).
#[derive(Debug, Clone, PartialEq, Eq)]
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

/// The generations of one session's ICE.
pub(crate) struct Restarts {
    identity: Identity,
    candidates: Vec<Candidate>,
    etag: Mutex<String>,
}

impl Restarts {
    pub(crate) fn new(identity: Identity, candidates: Vec<Candidate>, etag: String) -> Self {
        Self {
            identity,
            candidates,
            etag: Mutex::new(etag),
        }
    }

    pub(crate) fn etag(&self) -> String {
        self.etag.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// New credentials and a new tag, for a publisher whose own new ones are these.
    pub(crate) fn restart(
        &self,
        fragment: &str,
        password: &str,
    ) -> Result<(IceRestart, IceCredentials), IngestError> {
        RemoteIce::new(fragment, password)?;
        let credentials = new_credentials(&self.identity)?;
        let etag = self.identity.random_word(8)?;
        self.etag
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone_from(&etag);
        let restart = IceRestart {
            fragment: credentials.fragment.to_string(),
            password: credentials.password.to_string(),
            candidates: sdp::candidates(&self.candidates),
            etag,
        };
        Ok((restart, credentials))
    }
}

/// RFC 8445 §5.3: at least 24 bits of randomness in the fragment and 128 in the password.
pub(crate) fn new_credentials(identity: &Identity) -> Result<IceCredentials, IngestError> {
    Ok(IceCredentials {
        fragment: identity.random_word(8)?.into(),
        password: identity.random_word(16)?.into(),
    })
}
