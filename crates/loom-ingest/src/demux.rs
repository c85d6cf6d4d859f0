//! Which session a datagram belongs to. Pure.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use crate::limits;
use crate::session::SessionId;

/// Finds the session of a datagram on the port that all sessions share.
///
/// Invariant: an address leads to a session only after a STUN request from it named that session and proved that it
/// knows the session's password, so nobody can take another's traffic.
#[derive(Debug, Default)]
pub(crate) struct Demux {
    by_fragment: HashMap<String, SessionId>,
    by_address: HashMap<SocketAddr, SessionId>,
    sessions: HashMap<SessionId, Known>,
}

#[derive(Debug)]
struct Known {
    fragment: String,
    password: Arc<str>,
    /// Oldest first.
    addresses: VecDeque<SocketAddr>,
}

/// Where a datagram goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    /// To this session.
    Session(SessionId),
    /// To this session if the datagram's MESSAGE-INTEGRITY is right under this password; then
    /// [`Demux::handle_proof`] makes it known.
    Prove { session: SessionId, password: Arc<str> },
    /// Nowhere.
    Nobody,
}

impl Demux {
    /// A session opens, with its ICE username fragment and password.
    pub(crate) fn open(&mut self, session: SessionId, fragment: String, password: Arc<str>) {
        self.by_fragment.insert(fragment.clone(), session.clone());
        self.sessions.insert(
            session,
            Known {
                fragment,
                password,
                addresses: VecDeque::new(),
            },
        );
    }

    pub(crate) fn close(&mut self, session: &SessionId) {
        if let Some(known) = self.sessions.remove(session) {
            self.by_fragment.remove(&known.fragment);
            self.by_address.retain(|_, owner| owner != session);
        }
    }

    pub(crate) fn handle_datagram(&self, from: SocketAddr, datagram: &[u8]) -> Route {
        let owner = self.by_address.get(&from);
        let Some(fragment) = binding_request_fragment(datagram) else {
            return owner.map_or(Route::Nobody, |session| Route::Session(session.clone()));
        };
        match self.by_fragment.get(fragment) {
            None => Route::Nobody,
            Some(session) if owner == Some(session) => Route::Session(session.clone()),
            Some(session) => match self.sessions.get(session) {
                Some(known) => Route::Prove {
                    session: session.clone(),
                    password: Arc::clone(&known.password),
                },
                None => Route::Nobody,
            },
        }
    }

    /// The datagram of a [`Route::Prove`] was proved: its address leads to the session from here on.
    pub(crate) fn handle_proof(&mut self, from: SocketAddr, session: &SessionId) {
        if !self.sessions.contains_key(session) {
            return;
        }
        if let Some(before) = self.by_address.insert(from, session.clone())
            && before != *session
            && let Some(other) = self.sessions.get_mut(&before)
        {
            other.addresses.retain(|address| *address != from);
        }
        let Some(known) = self.sessions.get_mut(session) else {
            return;
        };
        known.addresses.push_back(from);
        if known.addresses.len() > limits::SESSION_ADDRESSES
            && let Some(oldest) = known.addresses.pop_front()
        {
            self.by_address.remove(&oldest);
        }
    }
}

/// Our half of the USERNAME in a STUN binding request (RFC 8489 §5, §14.3; RFC 8445 §7.2.2); `None` for anything else.
fn binding_request_fragment(datagram: &[u8]) -> Option<&str> {
    const BINDING_REQUEST: [u8; 2] = [0x00, 0x01];
    const MAGIC: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
    const USERNAME: u16 = 0x0006;
    if datagram.get(..2)? != BINDING_REQUEST || datagram.get(4..8)? != MAGIC {
        return None;
    }
    let mut rest = datagram.get(20..)?;
    for _ in 0..limits::STUN_ATTRIBUTES {
        let (head, tail) = rest.split_first_chunk::<4>()?;
        let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let value = tail.get(..len)?;
        if u16::from_be_bytes([head[0], head[1]]) == USERNAME {
            return std::str::from_utf8(value).ok()?.split(':').next();
        }
        rest = tail.get(len.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(username: &str) -> Vec<u8> {
        let mut datagram = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
        datagram.extend([7; 12]);
        datagram.extend([0x80, 0x22, 0, 3, b'a', b'b', b'c', 0]); // SOFTWARE, padded
        datagram.extend([0, 6, 0, username.len() as u8]);
        datagram.extend(username.bytes());
        datagram.resize(datagram.len().next_multiple_of(4), 0);
        datagram
    }

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    fn demux() -> (Demux, SessionId, SessionId) {
        let (one, two) = (SessionId::from("one"), SessionId::from("two"));
        let mut demux = Demux::default();
        demux.open(one.clone(), "aaaa".to_owned(), "first".into());
        demux.open(two.clone(), "bbbb".to_owned(), "second".into());
        (demux, one, two)
    }

    #[test]
    fn an_address_leads_to_a_session_only_after_its_proof() {
        let (mut demux, one, _) = demux();
        let media = [0x80, 0x60, 0, 1];
        assert_eq!(demux.handle_datagram(address(1), &media), Route::Nobody);
        let route = demux.handle_datagram(address(1), &request("aaaa:peer"));
        assert_eq!(
            route,
            Route::Prove {
                session: one.clone(),
                password: "first".into()
            }
        );
        assert_eq!(demux.handle_datagram(address(1), &media), Route::Nobody);
        demux.handle_proof(address(1), &one);
        assert_eq!(
            demux.handle_datagram(address(1), &media),
            Route::Session(one.clone())
        );
        assert_eq!(
            demux.handle_datagram(address(1), &request("aaaa:peer")),
            Route::Session(one)
        );
    }

    #[test]
    fn an_address_that_another_session_proves_moves_to_it() {
        let (mut demux, one, two) = demux();
        demux.handle_proof(address(1), &one);
        assert!(matches!(
            demux.handle_datagram(address(1), &request("bbbb:x")),
            Route::Prove { .. }
        ));
        assert_eq!(
            demux.handle_datagram(address(1), &[23]),
            Route::Session(one.clone()),
            "not yet"
        );
        demux.handle_proof(address(1), &two);
        demux.close(&one);
        assert_eq!(demux.handle_datagram(address(1), &[23]), Route::Session(two));
    }

    #[test]
    fn a_closed_session_is_forgotten() {
        let (mut demux, one, _) = demux();
        demux.handle_proof(address(1), &one);
        demux.close(&one);
        assert_eq!(demux.handle_datagram(address(1), &[23]), Route::Nobody);
        assert_eq!(
            demux.handle_datagram(address(1), &request("aaaa:x")),
            Route::Nobody
        );
    }

    #[test]
    fn addresses_of_one_session_are_bounded() {
        let (mut demux, one, _) = demux();
        for port in 0..1_000 {
            demux.handle_proof(address(port), &one);
        }
        assert_eq!(demux.by_address.len(), limits::SESSION_ADDRESSES);
        assert_eq!(demux.handle_datagram(address(999), &[23]), Route::Session(one));
    }

    #[test]
    fn every_cut_request_leads_nowhere() {
        let (demux, ..) = demux();
        let whole = request("aaaa:peer");
        for len in 0..whole.len() - 3 {
            assert_eq!(
                demux.handle_datagram(address(1), &whole[..len]),
                Route::Nobody,
                "{len}"
            );
        }
    }
}
