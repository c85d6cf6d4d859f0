//! Which session a datagram belongs to, and where its answers go. Pure.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::ice::{StunKind, username_fragment};
use crate::limits;

/// Names a session within its port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key(pub(crate) u64);

/// Our ICE credentials of one session (RFC 8445 §5.3). A lite agent sends no checks and needs none of the publisher's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IceCredentials {
    pub(crate) fragment: Arc<str>,
    pub(crate) password: Arc<str>,
}

/// What carries a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Carrier {
    Udp,
    /// RFC 4571 frames on a connection that the publisher opened (RFC 6544).
    Tcp,
}

/// One way to a publisher: its address, and the address of ours that it speaks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) carrier: Carrier,
    pub(crate) remote: SocketAddr,
    /// Unknown where the platform does not tell.
    pub(crate) local: Option<IpAddr>,
}

/// Finds the session of a datagram on the port that all sessions share.
///
/// Invariant: an address leads to a session only after a STUN request from it named that session and proved that it
/// knows the session's password, so nobody can take another's traffic. Answers follow the publisher: they go where its
/// media or its handshake last came from, and until then where it nominated.
#[derive(Debug, Default)]
pub(crate) struct Demux {
    by_fragment: HashMap<Arc<str>, Key>,
    by_address: HashMap<(Carrier, SocketAddr), Key>,
    sessions: HashMap<Key, Known>,
}

#[derive(Debug)]
struct Known {
    /// The last is in force; the one before it still answers until the publisher has moved (RFC 8445 §9).
    credentials: VecDeque<IceCredentials>,
    /// Oldest first.
    addresses: VecDeque<(Carrier, SocketAddr)>,
    path: Option<Path>,
    /// The credentials in force were used to nominate a path.
    is_nominated: bool,
}

/// Where a datagram goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    /// Media or its handshake, to this session.
    Session(Key),
    /// A connectivity check; if it is right under these credentials, [`Demux::handle_check`] is told.
    Check(Key, IceCredentials),
    /// Nowhere.
    Nobody,
}

impl Demux {
    pub(crate) fn open(&mut self, session: Key, credentials: IceCredentials) {
        self.by_fragment
            .insert(Arc::clone(&credentials.fragment), session);
        self.sessions.insert(
            session,
            Known {
                credentials: VecDeque::from([credentials]),
                addresses: VecDeque::new(),
                path: None,
                is_nominated: false,
            },
        );
    }

    /// Puts new credentials in force (RFC 8445 §9).
    pub(crate) fn restart(&mut self, session: Key, credentials: IceCredentials) {
        let Some(known) = self.sessions.get_mut(&session) else {
            return;
        };
        self.by_fragment
            .insert(Arc::clone(&credentials.fragment), session);
        known.credentials.push_back(credentials);
        known.is_nominated = false;
        if known.credentials.len() > 2
            && let Some(oldest) = known.credentials.pop_front()
        {
            self.by_fragment.remove(&oldest.fragment);
        }
    }

    pub(crate) fn close(&mut self, session: Key) {
        if let Some(known) = self.sessions.remove(&session) {
            for credentials in known.credentials {
                self.by_fragment.remove(&credentials.fragment);
            }
            for address in known.addresses {
                self.by_address.remove(&address);
            }
        }
    }

    /// An address is nobody's any more: who has it next proves itself anew.
    pub(crate) fn forget(&mut self, carrier: Carrier, remote: SocketAddr) {
        let address = (carrier, remote);
        let session = self.by_address.remove(&address);
        let Some(known) = session.and_then(|session| self.sessions.get_mut(&session)) else {
            return;
        };
        known.addresses.retain(|it| *it != address);
        if known
            .path
            .is_some_and(|path| (path.carrier, path.remote) == address)
        {
            known.path = None;
            known.is_nominated = false;
        }
    }

    /// Where answers to the session's publisher go; `None` before it nominated a path.
    pub(crate) fn path(&self, session: Key) -> Option<Path> {
        self.sessions.get(&session)?.path
    }

    /// Whether somebody at this address has proved to be a publisher.
    pub(crate) fn knows(&self, carrier: Carrier, remote: SocketAddr) -> bool {
        self.by_address.contains_key(&(carrier, remote))
    }

    pub(crate) fn handle_datagram(&mut self, from: Path, datagram: &[u8]) -> Route {
        match StunKind::of(datagram) {
            StunKind::Request => self.check(datagram).unwrap_or(Route::Nobody),
            // a lite agent sends no checks, so none is answered
            StunKind::Other => Route::Nobody,
            StunKind::No => {
                let Some(session) = self.by_address.get(&(from.carrier, from.remote)) else {
                    return Route::Nobody;
                };
                // who has proved itself and speaks is answered there, nominated or not: its handshake comes first
                if let Some(known) = self.sessions.get_mut(session) {
                    known.path = Some(from);
                }
                Route::Session(*session)
            }
        }
    }

    /// A check under `credentials` was right: its address leads to the session from here on.
    pub(crate) fn handle_check(
        &mut self,
        from: Path,
        session: Key,
        credentials: &IceCredentials,
        nominates: bool,
    ) {
        let address = (from.carrier, from.remote);
        let Some(known) = self.sessions.get_mut(&session) else {
            return;
        };
        if nominates && !known.is_nominated && known.credentials.back() == Some(credentials) {
            known.is_nominated = true;
            known.path = Some(from);
        }
        if let Some(before) = self.by_address.insert(address, session)
            && let Some(before) = self.sessions.get_mut(&before)
        {
            before.addresses.retain(|known| *known != address);
        }
        let Some(known) = self.sessions.get_mut(&session) else {
            return;
        };
        known.addresses.push_back(address);
        if known.addresses.len() <= limits::SESSION_ADDRESSES {
            return;
        }
        // the one that was proved longest ago goes, but not the one that media takes: Chromium checks that too, but not in step
        let path = known.path.map(|path| (path.carrier, path.remote));
        let oldest = known.addresses.iter().position(|it| Some(*it) != path);
        if let Some(oldest) = oldest.and_then(|at| known.addresses.remove(at)) {
            self.by_address.remove(&oldest);
        }
    }

    fn check(&self, datagram: &[u8]) -> Option<Route> {
        let fragment = username_fragment(datagram)?;
        let session = self.by_fragment.get(fragment)?;
        let known = self.sessions.get(session)?;
        let credentials = known.credentials.iter().find(|it| *it.fragment == *fragment)?;
        Some(Route::Check(*session, credentials.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ice::tests::check;

    const MEDIA: &[u8] = &[0x80, 0x60, 0, 1];
    const ONE: Key = Key(1);
    const TWO: Key = Key(2);

    fn path(port: u16) -> Path {
        Path {
            carrier: Carrier::Udp,
            remote: SocketAddr::from(([192, 0, 2, 1], port)),
            local: Some(IpAddr::from([192, 0, 2, 2])),
        }
    }

    fn credentials(fragment: &str) -> IceCredentials {
        IceCredentials {
            fragment: fragment.into(),
            password: fragment.repeat(6).as_str().into(),
        }
    }

    fn demux() -> Demux {
        let mut demux = Demux::default();
        demux.open(ONE, credentials("aaaa"));
        demux.open(TWO, credentials("bbbb"));
        demux
    }

    #[test]
    fn an_address_leads_to_a_session_only_after_its_proof() {
        let mut demux = demux();
        assert_eq!(demux.handle_datagram(path(1), MEDIA), Route::Nobody);
        let route = demux.handle_datagram(path(1), &check("aaaa", "x"));
        assert_eq!(route, Route::Check(ONE, credentials("aaaa")));
        assert_eq!(demux.handle_datagram(path(1), MEDIA), Route::Nobody);
        demux.handle_check(path(1), ONE, &credentials("aaaa"), true);
        assert_eq!(demux.handle_datagram(path(1), MEDIA), Route::Session(ONE));
        let over_tcp = Path {
            carrier: Carrier::Tcp,
            ..path(1)
        };
        assert_eq!(
            demux.handle_datagram(over_tcp, MEDIA),
            Route::Nobody,
            "the same numbers on another carrier are another address"
        );
    }

    #[test]
    fn an_address_that_another_session_proves_moves_to_it() {
        let mut demux = demux();
        demux.handle_check(path(1), ONE, &credentials("aaaa"), true);
        demux.handle_check(path(1), TWO, &credentials("bbbb"), true);
        demux.close(ONE);
        assert_eq!(demux.handle_datagram(path(1), MEDIA), Route::Session(TWO));
    }

    #[test]
    fn an_address_that_is_given_up_leads_nowhere_until_it_is_proved_and_nominated_anew() {
        let mut demux = demux();
        let ours = credentials("aaaa");
        demux.handle_check(path(1), ONE, &ours, true);
        demux.handle_check(path(2), ONE, &ours, true);
        demux.forget(Carrier::Udp, path(1).remote);
        assert_eq!(demux.handle_datagram(path(1), MEDIA), Route::Nobody);
        assert_eq!(demux.path(ONE), None, "answers do not go to a stranger");
        demux.forget(Carrier::Udp, path(3).remote);
        demux.handle_check(path(2), ONE, &ours, true);
        assert_eq!(demux.path(ONE), Some(path(2)));
        demux.close(ONE);
        assert!(demux.by_address.is_empty());
    }

    #[test]
    fn answers_follow_the_media() {
        let mut demux = demux();
        let ours = credentials("aaaa");
        demux.handle_check(path(1), ONE, &ours, false);
        assert_eq!(demux.path(ONE), None, "not nominated");
        demux.handle_check(path(1), ONE, &ours, true);
        demux.handle_check(path(2), ONE, &ours, true);
        assert_eq!(demux.path(ONE), Some(path(1)), "the first nomination holds");
        demux.handle_datagram(path(2), MEDIA);
        assert_eq!(demux.path(ONE), Some(path(2)));
        demux.handle_datagram(path(3), MEDIA);
        assert_eq!(demux.path(ONE), Some(path(2)), "a stranger's address is no path");
    }

    #[test]
    fn after_a_restart_the_new_credentials_nominate_and_the_old_still_answer() {
        let mut demux = demux();
        demux.handle_check(path(1), ONE, &credentials("aaaa"), true);
        demux.restart(ONE, credentials("cccc"));
        assert_eq!(
            demux.path(ONE),
            Some(path(1)),
            "the old path serves until there is a new one"
        );
        demux.handle_check(path(2), ONE, &credentials("aaaa"), true);
        assert_eq!(demux.path(ONE), Some(path(1)), "old credentials nominate no more");
        demux.handle_check(path(3), ONE, &credentials("cccc"), true);
        assert_eq!(demux.path(ONE), Some(path(3)));
        demux.restart(ONE, credentials("dddd"));
        assert_eq!(
            demux.handle_datagram(path(1), &check("aaaa", "x")),
            Route::Nobody,
            "the credentials before the last are gone"
        );
        assert_eq!(
            demux.handle_datagram(path(1), &check("cccc", "x")),
            Route::Check(ONE, credentials("cccc"))
        );
    }

    #[test]
    fn a_closed_session_is_forgotten() {
        let mut demux = demux();
        demux.handle_check(path(1), ONE, &credentials("aaaa"), true);
        demux.restart(ONE, credentials("cccc"));
        demux.close(ONE);
        assert_eq!(demux.handle_datagram(path(1), MEDIA), Route::Nobody);
        for fragment in ["aaaa", "cccc"] {
            assert_eq!(
                demux.handle_datagram(path(1), &check(fragment, "x")),
                Route::Nobody
            );
        }
        assert_eq!(demux.path(ONE), None);
    }

    #[test]
    fn addresses_of_one_session_are_bounded() {
        let mut demux = demux();
        for port in 0..1_000 {
            demux.handle_check(path(port), ONE, &credentials("aaaa"), true);
            demux.handle_check(path(port), ONE, &credentials("aaaa"), true);
        }
        assert_eq!(demux.by_address.len(), limits::SESSION_ADDRESSES);
        assert_eq!(demux.handle_datagram(path(999), MEDIA), Route::Session(ONE));
        assert!(demux.knows(Carrier::Udp, path(999).remote));
        assert!(!demux.knows(Carrier::Udp, path(1).remote));
    }

    #[test]
    fn the_address_that_media_takes_stays_known_however_many_others_are_proved() {
        let mut demux = demux();
        demux.handle_check(path(1), ONE, &credentials("aaaa"), true);
        demux.handle_check(path(2), ONE, &credentials("aaaa"), false);
        for port in 100..1_100 {
            demux.handle_check(path(port), ONE, &credentials("aaaa"), false);
            demux.handle_check(path(2), ONE, &credentials("aaaa"), false);
            assert_eq!(
                demux.handle_datagram(path(1), MEDIA),
                Route::Session(ONE),
                "{port}"
            );
        }
        assert!(
            demux.knows(Carrier::Udp, path(2).remote),
            "what is proved again is new again"
        );
        assert_eq!(demux.by_address.len(), limits::SESSION_ADDRESSES);
    }
}
