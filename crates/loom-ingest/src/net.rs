//! The one port: a UDP socket, and a TCP listener beside it, for all sessions. One thread receives, hands each datagram to its
//! session, and runs the sessions' timers; sessions have no tasks of their own. It is a thread so that it waits for nothing that
//! the host does: what the kernel has no room for, until it is read, is lost.

mod tcp;
mod thread;
mod timers;
mod udp;

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use rtc::crypto::RTCCryptoProvider;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tracing::{debug, warn};

use crate::config::IngestConfig;
use crate::demux::{Carrier, Demux, IceCredentials, Key, Path, Route};
use crate::error::IngestError;
use crate::ice::{Check, StunKind};
use crate::limits;
use crate::session::Core;
use thread::Receiving;
use timers::Timers;
use udp::Udp;

/// The shared port. Ends its thread and its task when dropped.
pub(crate) struct Port {
    shared: Arc<Shared>,
    _receiving: Receiving,
    streams: Option<AbortHandle>,
}

/// What sessions and the port's tasks share.
pub(crate) struct Shared {
    udp: Udp,
    /// Where TCP is listened on, if it is.
    tcp: Option<SocketAddr>,
    crypto: Arc<dyn RTCCryptoProvider>,
    state: Mutex<State>,
    pub(crate) timers: Timers,
}

#[derive(Default)]
struct State {
    demux: Demux,
    sessions: HashMap<Key, Entry>,
    streams: HashMap<SocketAddr, mpsc::Sender<Bytes>>,
    last_key: u64,
}

struct Entry {
    core: Arc<Core>,
    /// The address that the offer came from.
    from: Option<IpAddr>,
}

impl Port {
    /// Binds the sockets and starts to receive. Must be called within a Tokio runtime, for the streams.
    pub(crate) fn bind(
        config: &IngestConfig,
        crypto: Arc<dyn RTCCryptoProvider>,
    ) -> Result<Self, IngestError> {
        let (shared, listener) = Shared::bind(config, crypto)?;
        let receiving =
            Receiving::start(udp::run(Arc::clone(&shared))).map_err(|source| IngestError::Socket {
                address: config.udp,
                source,
            })?;
        let streams = listener.map(|it| tokio::spawn(tcp::run(Arc::clone(&shared), it)).abort_handle());
        Ok(Self {
            shared,
            _receiving: receiving,
            streams,
        })
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.shared.udp.local_addr()
    }

    /// Whether TCP is taken too, at the same port.
    pub(crate) fn has_tcp(&self) -> bool {
        self.shared.tcp.is_some()
    }

    pub(crate) fn session_count(&self) -> usize {
        self.shared.lock().sessions.len()
    }

    /// Opens a session's way in: datagrams of who proves to know its password reach what `make` makes.
    ///
    /// # Errors
    /// [`IngestError::Full`], [`IngestError::FullForAddress`].
    pub(crate) fn open(
        &self,
        config: &IngestConfig,
        from: Option<IpAddr>,
        credentials: IceCredentials,
        make: impl FnOnce(Arc<Shared>, Key) -> Core,
    ) -> Result<Arc<Core>, IngestError> {
        let mut state = self.shared.lock();
        if state.sessions.len() >= config.max_sessions {
            return Err(IngestError::Full {
                limit: config.max_sessions,
            });
        }
        let limit = config.max_sessions_per_address;
        let from = from.map(client);
        if let Some(address) = from
            && state.sessions.values().filter(|it| it.from == from).count() >= limit
        {
            return Err(IngestError::FullForAddress { address, limit });
        }
        state.last_key += 1;
        let key = Key(state.last_key);
        let core = Arc::new(make(Arc::clone(&self.shared), key));
        state.demux.open(key, credentials);
        let entry = Entry {
            core: Arc::clone(&core),
            from,
        };
        state.sessions.insert(key, entry);
        Ok(core)
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        if let Some(streams) = &self.streams {
            streams.abort();
        }
        let sessions = std::mem::take(&mut self.shared.lock().sessions);
        for entry in sessions.into_values() {
            entry.core.end();
        }
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port")
            .field("local", &self.local_addr())
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// The sockets, of which nobody takes anything yet.
    fn bind(
        config: &IngestConfig,
        crypto: Arc<dyn RTCCryptoProvider>,
    ) -> Result<(Arc<Self>, Option<TcpListener>), IngestError> {
        let udp = Udp::bind(config.udp).map_err(|source| IngestError::Socket {
            address: config.udp,
            source,
        })?;
        let listener = if config.tcp {
            match tcp::listen(udp.local_addr()) {
                Ok(listener) => Some(listener),
                Err(why) => {
                    let address = udp.local_addr();
                    warn!(%address, %why, "no TCP port for media; publishers need UDP");
                    None
                }
            }
        } else {
            None
        };
        let shared = Arc::new(Self {
            tcp: listener.as_ref().and_then(|it| it.local_addr().ok()),
            udp,
            crypto,
            state: Mutex::default(),
            timers: Timers::default(),
        });
        Ok((shared, listener))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes datagrams that came one after the other on one path.
    fn handle_datagrams<'a>(&self, from: Path, datagrams: impl Iterator<Item = &'a [u8]>, now: Instant) {
        let mut datagrams = datagrams
            .filter(|it| it.len() <= limits::DATAGRAM_BYTES)
            .peekable();
        while let Some(datagram) = datagrams.next() {
            let mut state = self.lock();
            match state.demux.handle_datagram(from, datagram) {
                Route::Session(key) => {
                    let core = state.sessions.get(&key).map(|it| Arc::clone(&it.core));
                    drop(state);
                    // up to the next check nothing changes whose path it is
                    let rest =
                        std::iter::from_fn(|| datagrams.next_if(|it| StunKind::of(it) == StunKind::No));
                    let together = std::iter::once(datagram).chain(rest);
                    match core {
                        Some(core) => core.handle_datagrams(together, now),
                        None => together.for_each(|_| {}),
                    }
                }
                Route::Check(key, credentials) => {
                    drop(state);
                    self.handle_check(from, key, &credentials, datagram, now);
                }
                Route::Nobody => {}
            }
        }
    }

    fn handle_check(
        &self,
        from: Path,
        key: Key,
        credentials: &IceCredentials,
        datagram: &[u8],
        now: Instant,
    ) {
        let crypto = self.crypto.crypto();
        let Some(check) = Check::read(datagram, &credentials.password, crypto) else {
            debug!(from = %from.remote, "a connectivity check with a wrong password");
            return;
        };
        let mut state = self.lock();
        state
            .demux
            .handle_check(from, key, credentials, check.nominates());
        let session = state.sessions.get(&key).map(|entry| Arc::clone(&entry.core));
        drop(state);
        if let Some(response) = check.success(from.remote, &credentials.password, crypto) {
            self.send_on(from, &response);
        }
        if let Some(session) = session {
            session.handle_check(check.nominates(), now);
        }
    }

    /// Runs what is due; gives when the next is.
    fn run_timers(&self, now: Instant) -> Option<Instant> {
        while let Some(key) = self.timers.take_due(now) {
            let session = self.lock().sessions.get(&key).map(|it| Arc::clone(&it.core));
            if let Some(session) = session {
                session.handle_timeout(now);
            }
        }
        self.timers.next()
    }

    /// Puts new ICE credentials of a session in force.
    pub(crate) fn restart(&self, key: Key, credentials: IceCredentials) {
        self.lock().demux.restart(key, credentials);
    }

    /// Forgets a session.
    pub(crate) fn close(&self, key: Key) {
        let mut state = self.lock();
        state.demux.close(key);
        state.sessions.remove(&key);
    }

    /// Sends to a session's publisher, where that is known.
    pub(crate) fn send(&self, key: Key, datagram: &[u8]) {
        let path = self.lock().demux.path(key);
        if let Some(path) = path {
            self.send_on(path, datagram);
        }
    }

    /// A datagram that finds a full buffer is dropped, as any hop on the way might do.
    fn send_on(&self, path: Path, datagram: &[u8]) {
        match path.carrier {
            Carrier::Udp => self.udp.send(path, datagram),
            Carrier::Tcp => {
                let stream = self.lock().streams.get(&path.remote).cloned();
                let is_sent = stream.is_some_and(|stream| stream.try_send(tcp::frame(datagram)).is_ok());
                if !is_sent {
                    debug!(to = %path.remote, "a stream is full or gone; a datagram was dropped");
                }
            }
        }
    }
}

/// Whom an address counts as: an IPv6 network of 64 bits is one client's (RFC 4291 §2.5.1), which may take any address of it.
pub(crate) fn client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests;
