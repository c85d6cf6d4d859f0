//! Which session a datagram belongs to, and where its answers go. Pure.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::ice::{StunKind, username_fragment};
use crate::limits;
use crate::session::SessionId;

/// The ICE credentials of one session (RFC 8445 §5.3): our fragment, our password, and the publisher's password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IceCredentials {
    pub(crate) fragment: Arc<str>,
    pub(crate) password: Arc<str>,
    pub(crate) remote_password: Arc<str>,
}

/// One way to a publisher: its address, and the address of ours that it speaks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) remote: SocketAddr,
    /// Unknown where the platform does not tell.
    pub(crate) local: Option<IpAddr>,
}

/// Finds the session of a datagram on the port that all sessions share.
///
/// Invariant: an address leads to a session only after a STUN request from it named that session and proved that it
/// knows the session's password, so nobody can take another's traffic. Answers follow the publisher: they go where its
/// media last came from, and until then where it nominated.
#[derive(Debug, Default)]
pub(crate) struct Demux {
    by_fragment: HashMap<Arc<str>, SessionId>,
    by_address: HashMap<SocketAddr, SessionId>,
    sessions: HashMap<SessionId, Known>,
}

#[derive(Debug)]
struct Known {
    credentials: IceCredentials,
    /// Oldest first.
    addresses: VecDeque<SocketAddr>,
    path: Option<Path>,
}

/// Where a datagram goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    /// Media or its handshake, to this session.
    Session(SessionId),
    /// A connectivity check; if it is right under the session's password, [`Demux::handle_check`] is told.
    Check(SessionId, IceCredentials),
    /// Nowhere.
    Nobody,
}

impl Demux {
    pub(crate) fn open(&mut self, session: SessionId, credentials: IceCredentials) {
        self.by_fragment
            .insert(Arc::clone(&credentials.fragment), session.clone());
        self.sessions.insert(
            session,
            Known {
                credentials,
                addresses: VecDeque::new(),
                path: None,
            },
        );
    }

    pub(crate) fn close(&mut self, session: &SessionId) {
        if let Some(known) = self.sessions.remove(session) {
            self.by_fragment.remove(&known.credentials.fragment);
            for address in known.addresses {
                self.by_address.remove(&address);
            }
        }
    }

    /// Where answers to the session's publisher go; `None` before it nominated a path.
    pub(crate) fn path(&self, session: &SessionId) -> Option<Path> {
        self.sessions.get(session)?.path
    }

    pub(crate) fn handle_datagram(&mut self, from: Path, datagram: &[u8]) -> Route {
        match StunKind::of(datagram) {
            StunKind::Request => {
                let session = username_fragment(datagram).and_then(|fragment| self.by_fragment.get(fragment));
                let known = session.and_then(|session| Some((session, self.sessions.get(session)?)));
                known.map_or(Route::Nobody, |(session, known)| {
                    Route::Check(session.clone(), known.credentials.clone())
                })
            }
            // a lite agent sends no checks, so none is answered
            StunKind::Other => Route::Nobody,
            StunKind::No => {
                let Some(session) = self.by_address.get(&from.remote) else {
                    return Route::Nobody;
                };
                if let Some(known) = self.sessions.get_mut(session)
                    && known.path.is_some()
                {
                    known.path = Some(from);
                }
                Route::Session(session.clone())
            }
        }
    }

    /// A check was right: its address leads to the session from here on.
    pub(crate) fn handle_check(&mut self, from: Path, session: &SessionId, nominates: bool) {
        let Some(known) = self.sessions.get_mut(session) else {
            return;
        };
        if nominates && known.path.is_none() {
            known.path = Some(from);
        }
        match self.by_address.insert(from.remote, session.clone()) {
            Some(before) if before == *session => return,
            Some(before) => {
                if let Some(other) = self.sessions.get_mut(&before) {
                    other.addresses.retain(|address| *address != from.remote);
                }
            }
            None => {}
        }
        let Some(known) = self.sessions.get_mut(session) else {
            return;
        };
        known.addresses.push_back(from.remote);
        if known.addresses.len() > limits::SESSION_ADDRESSES
            && let Some(oldest) = known.addresses.pop_front()
        {
            self.by_address.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ice::tests::check;

    const MEDIA: &[u8] = &[0x80, 0x60, 0, 1];

    fn path(port: u16) -> Path {
        Path {
            remote: SocketAddr::from(([192, 0, 2, 1], port)),
            local: Some(IpAddr::from([192, 0, 2, 2])),
        }
    }

    fn demux() -> (Demux, SessionId, SessionId) {
        let (one, two) = (SessionId::from("one"), SessionId::from("two"));
        let mut demux = Demux::default();
        for (session, fragment) in [(&one, "aaaa"), (&two, "bbbb")] {
            let credentials = IceCredentials {
                fragment: fragment.into(),
                password: fragment.repeat(6).as_str().into(),
                remote_password: "theirs".into(),
            };
            demux.open(session.clone(), credentials);
        }
        (demux, one, two)
    }

    #[test]
    fn an_address_leads_to_a_session_only_after_its_proof() {
        let (mut demux, one, _) = demux();
        assert_eq!(demux.handle_datagram(path(1), MEDIA), Route::Nobody);
        let route = demux.handle_datagram(path(1), &check("aaaa", "x"));
        assert!(matches!(route, Route::Check(session, _) if session == one));
        assert_eq!(demux.handle_datagram(path(1), MEDIA), Route::Nobody);
        demux.handle_check(path(1), &one, true);
        assert_eq!(demux.handle_datagram(path(1), MEDIA), Route::Session(one));
    }

    #[test]
    fn an_address_that_another_session_proves_moves_to_it() {
        let (mut demux, one, two) = demux();
        demux.handle_check(path(1), &one, true);
        demux.handle_check(path(1), &two, true);
        demux.close(&one);
        assert_eq!(demux.handle_datagram(path(1), MEDIA), Route::Session(two));
    }

    #[test]
    fn answers_follow_the_media() {
        let (mut demux, one, _) = demux();
        demux.handle_check(path(1), &one, false);
        assert_eq!(demux.path(&one), None, "not nominated");
        demux.handle_check(path(1), &one, true);
        demux.handle_check(path(2), &one, true);
        assert_eq!(demux.path(&one), Some(path(1)), "the first nomination holds");
        demux.handle_datagram(path(2), MEDIA);
        assert_eq!(demux.path(&one), Some(path(2)));
        demux.handle_datagram(path(3), MEDIA);
        assert_eq!(demux.path(&one), Some(path(2)), "a stranger's address is no path");
    }

    #[test]
    fn a_closed_session_is_forgotten() {
        let (mut demux, one, _) = demux();
        demux.handle_check(path(1), &one, true);
        demux.close(&one);
        assert_eq!(demux.handle_datagram(path(1), MEDIA), Route::Nobody);
        assert_eq!(demux.handle_datagram(path(1), &check("aaaa", "x")), Route::Nobody);
        assert_eq!(demux.path(&one), None);
    }

    #[test]
    fn addresses_of_one_session_are_bounded() {
        let (mut demux, one, _) = demux();
        for port in 0..1_000 {
            demux.handle_check(path(port), &one, true);
            demux.handle_check(path(port), &one, true);
        }
        assert_eq!(demux.by_address.len(), limits::SESSION_ADDRESSES);
        assert_eq!(demux.handle_datagram(path(999), MEDIA), Route::Session(one));
    }
}
