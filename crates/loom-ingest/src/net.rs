//! The one UDP socket, and the virtual sockets that the WebRTC stack of each session sees in its place.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rtc::crypto::RTCCryptoProvider;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::task::AbortHandle;
use tracing::{debug, warn};
use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, BATCH_SIZE, JoinHandle, RecvMeta,
    Runtime, TokioRuntime, Transmit,
};

use crate::config::IngestConfig;
use crate::demux::{Demux, IceCredentials, Path, Route};
use crate::error::IngestError;
use crate::ice::{Check, StunKind, answer_own_check};
use crate::limits;
use crate::session::SessionId;

/// The shared port. Ends its receiving task when dropped.
pub(crate) struct Port {
    shared: Arc<Shared>,
    receiver: AbortHandle,
}

struct Shared {
    socket: Arc<dyn AsyncUdpSocket>,
    local: SocketAddr,
    crypto: Arc<dyn RTCCryptoProvider>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    demux: Demux,
    mailboxes: HashMap<SessionId, Arc<Mailbox>>,
}

/// What waits for one session's driver. All of it is said to come from [`PUBLISHER`], wherever it came from.
#[derive(Default)]
struct Mailbox {
    inner: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    datagrams: VecDeque<Bytes>,
    waker: Option<Waker>,
    dropped: u64,
    /// The last check that nominated, until the driver's agent has selected its path.
    nomination: Option<Bytes>,
}

/// The address that the WebRTC stack knows the publisher by, so that a publisher that moves needs nothing of it.
const PUBLISHER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9);
/// Where a session's driver binds the socket that is only a name to it.
pub(crate) const LANE_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

impl Port {
    /// Binds the socket and starts to receive. Must be called within a Tokio runtime.
    pub(crate) fn bind(
        config: &IngestConfig,
        crypto: Arc<dyn RTCCryptoProvider>,
    ) -> Result<Self, IngestError> {
        let failed = |source| IngestError::Socket {
            address: config.udp,
            source,
        };
        let socket = match bind_socket(config.udp) {
            Err(why) if why.kind() == io::ErrorKind::AddrInUse && config.udp.port() != 0 => {
                warn!(address = %config.udp, "the UDP port for media is taken; using any free one");
                bind_socket(SocketAddr::new(config.udp.ip(), 0))
            }
            other => other,
        }
        .map_err(failed)?;
        let socket = TokioRuntime.wrap_udp_socket(socket).map_err(failed)?;
        let local = socket.local_addr().map_err(failed)?;
        let shared = Arc::new(Shared {
            socket,
            local,
            crypto,
            state: Mutex::default(),
        });
        let receiver = tokio::spawn(receive(Arc::clone(&shared))).abort_handle();
        Ok(Self { shared, receiver })
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.shared.local
    }

    /// Opens a session's way in: datagrams of who proves to know its password reach the sockets of [`Lane::runtime`].
    pub(crate) fn open(self: &Arc<Self>, session: &SessionId, credentials: IceCredentials) -> Lane {
        let mailbox = Arc::new(Mailbox::default());
        let mut state = self.shared.lock();
        state.demux.open(session.clone(), credentials.clone());
        state.mailboxes.insert(session.clone(), Arc::clone(&mailbox));
        Lane {
            port: Arc::clone(self),
            session: session.clone(),
            credentials,
            mailbox,
        }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.receiver.abort();
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port")
            .field("local", &self.shared.local)
            .finish_non_exhaustive()
    }
}

/// One session's share of the port. Closes it when dropped.
pub(crate) struct Lane {
    port: Arc<Port>,
    session: SessionId,
    credentials: IceCredentials,
    mailbox: Arc<Mailbox>,
}

impl Lane {
    /// A runtime whose UDP sockets are this lane.
    pub(crate) fn runtime(&self) -> Arc<dyn Runtime> {
        Arc::new(LaneRuntime {
            end: LaneEnd {
                shared: Arc::clone(&self.port.shared),
                session: self.session.clone(),
                credentials: self.credentials.clone(),
                mailbox: Arc::clone(&self.mailbox),
            },
        })
    }

    /// Whether the driver has taken all that came.
    pub(crate) fn is_drained(&self) -> bool {
        self.mailbox.lock().datagrams.is_empty()
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let mut state = self.port.shared.lock();
        state.demux.close(&self.session);
        state.mailboxes.remove(&self.session);
        let dropped = self.mailbox.lock().dropped;
        if dropped > 0 {
            warn!(session = %self.session, dropped, "datagrams came faster than they were taken");
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle_datagram(&self, from: Path, datagram: &[u8]) {
        let mut state = self.lock();
        match state.demux.handle_datagram(from, datagram) {
            Route::Session(session) => {
                if let Some(mailbox) = state.mailboxes.get(&session) {
                    mailbox.put(Bytes::copy_from_slice(datagram));
                }
            }
            Route::Check(session, credentials) => {
                let crypto = self.crypto.crypto();
                let Some(check) = Check::read(datagram, &credentials.password, crypto) else {
                    debug!(from = %from.remote, %session, "a connectivity check with a wrong password");
                    return;
                };
                state.demux.handle_check(from, &session, check.nominates());
                if let Some(mailbox) = state.mailboxes.get(&session) {
                    mailbox.put_check(datagram, check.nominates());
                }
                drop(state);
                if let Some(response) = check.success(from.remote, &credentials.password, crypto) {
                    self.send(from, &response);
                }
            }
            Route::Nobody => {}
        }
    }

    fn send(&self, to: Path, datagram: &[u8]) {
        let transmit = Transmit {
            destination: mapped(to.remote, self.local),
            ecn: None,
            contents: datagram,
            segment_size: None,
            src_ip: to.local,
        };
        // All lanes share the socket and only one task could be woken when it has room again: a datagram that finds the
        // kernel's buffer full is dropped, as any hop on the way might do.
        let mut idle = Context::from_waker(Waker::noop());
        match self.socket.poll_send(&mut idle, &transmit) {
            Poll::Ready(Ok(_)) => {}
            Poll::Ready(Err(why)) => debug!(to = %to.remote, %why, "a datagram was not sent"),
            Poll::Pending => debug!(to = %to.remote, "the socket is full; a datagram was dropped"),
        }
    }
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, datagram: Bytes) {
        self.lock().put(datagram);
    }

    /// A check goes to the driver's agent too, which lives by them.
    fn put_check(&self, datagram: &[u8], nominates: bool) {
        let datagram = Bytes::copy_from_slice(datagram);
        let mut waiting = self.lock();
        if nominates {
            waiting.nomination = Some(datagram.clone());
        }
        waiting.put(datagram);
    }

    /// The agent sent a check of its own: it gets its answer, and once more the nomination that made it ask, which it
    /// accepts now.
    fn put_answer(&self, answer: Vec<u8>) {
        let mut waiting = self.lock();
        waiting.put(answer.into());
        if let Some(nomination) = waiting.nomination.take() {
            waiting.put(nomination);
        }
    }
}

impl Waiting {
    fn put(&mut self, datagram: Bytes) {
        if self.datagrams.len() >= limits::MAILBOX_DATAGRAMS {
            self.dropped += 1;
            return;
        }
        self.datagrams.push_back(datagram);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

fn bind_socket(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // the kernel takes what it allows (net.core.rmem_max) and says nothing
    socket.set_recv_buffer_size(limits::SOCKET_RECEIVE_BYTES)?;
    socket.set_send_buffer_size(limits::SOCKET_SEND_BYTES)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Receives for ever; ends when aborted.
async fn receive(shared: Arc<Shared>) {
    let segments = shared.socket.max_gro_segments();
    let mut buffers = vec![vec![0; limits::DATAGRAM_BYTES * segments.max(1)]; BATCH_SIZE];
    let mut metas = [RecvMeta::default(); BATCH_SIZE];
    loop {
        let received = std::future::poll_fn(|cx| {
            let mut slices = buffers
                .iter_mut()
                .map(|buffer| IoSliceMut::new(buffer))
                .collect::<Vec<_>>();
            shared.socket.poll_recv(cx, &mut slices, &mut metas)
        })
        .await;
        match received {
            Ok(count) => {
                for (buffer, meta) in buffers.iter().zip(&metas).take(count) {
                    let remote = SocketAddr::new(meta.addr.ip().to_canonical(), meta.addr.port());
                    let from = Path {
                        remote,
                        local: meta.dst_ip,
                    };
                    for datagram in buffer[..meta.len].chunks(meta.stride.max(1)) {
                        shared.handle_datagram(from, datagram);
                    }
                }
            }
            Err(why) => {
                // a port that went away on the other side, most often; the socket stays good
                debug!(%why, "receiving failed once");
                tokio::task::yield_now().await;
            }
        }
    }
}

/// An IPv4 address as a dual-stack socket wants it.
fn mapped(address: SocketAddr, local: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if local.is_ipv6() => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        _ => address,
    }
}

/// The driver's end of a lane.
#[derive(Clone)]
struct LaneEnd {
    shared: Arc<Shared>,
    session: SessionId,
    credentials: IceCredentials,
    mailbox: Arc<Mailbox>,
}

/// A Tokio runtime whose UDP sockets are one lane of the shared port.
struct LaneRuntime {
    end: LaneEnd,
}

impl fmt::Debug for LaneRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LaneRuntime")
            .field("session", &self.end.session)
            .finish_non_exhaustive()
    }
}

impl Runtime for LaneRuntime {
    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) -> Box<dyn JoinHandle> {
        TokioRuntime.spawn(future)
    }

    /// The socket that the driver bound is only a name: it is closed, and the lane answers to its address.
    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let name = socket.local_addr()?;
        Ok(Arc::new(LaneSocket {
            name,
            end: self.end.clone(),
        }))
    }

    fn wrap_tcp_listener(&self, _listener: std::net::TcpListener) -> io::Result<Arc<dyn AsyncTcpListener>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn connect_tcp<'a>(
        &'a self,
        _remote_addr: SocketAddr,
    ) -> Pin<Box<dyn Future<Output = io::Result<Arc<dyn AsyncTcpStream>>> + Send + 'a>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    fn resolve_host<'a>(
        &'a self,
        _host: &'a str,
    ) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + 'static>> {
        TokioRuntime.sleep(duration)
    }

    fn interval(&self, period: Duration) -> Box<dyn AsyncInterval> {
        TokioRuntime.interval(period)
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + '_>>) {
        TokioRuntime.block_on(future);
    }

    fn yield_now(&self) -> Pin<Box<dyn Future<Output = ()> + Send + 'static>> {
        TokioRuntime.yield_now()
    }

    fn name(&self) -> &'static str {
        "loom"
    }
}

/// What a session's driver takes for its own socket.
struct LaneSocket {
    name: SocketAddr,
    end: LaneEnd,
}

impl LaneEnd {
    /// Takes what the driver sends. Of STUN, nothing leaves: checks were answered when they came, and a lite agent sends
    /// none.
    fn send(&self, datagram: &[u8]) {
        match StunKind::of(datagram) {
            StunKind::Request => {
                let crypto = self.shared.crypto.crypto();
                if let Some(answer) =
                    answer_own_check(datagram, LANE_ADDRESS, &self.credentials.remote_password, crypto)
                {
                    self.mailbox.put_answer(answer);
                }
            }
            StunKind::Other => {}
            StunKind::No => {
                let path = self.shared.lock().demux.path(&self.session);
                if let Some(path) = path {
                    self.shared.send(path, datagram);
                }
            }
        }
    }
}

impl fmt::Debug for LaneSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LaneSocket")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl AsyncUdpSocket for LaneSocket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.name)
    }

    fn poll_send(&self, _cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        self.end.send(transmit.contents);
        Poll::Ready(Ok(transmit.contents.len()))
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut waiting = self.end.mailbox.lock();
        let (Some(buffer), Some(meta)) = (bufs.first_mut(), meta.first_mut()) else {
            return Poll::Ready(Ok(0));
        };
        let Some(datagram) = waiting.datagrams.pop_front() else {
            waiting.waker = Some(cx.waker().clone());
            return Poll::Pending;
        };
        let len = datagram.len().min(buffer.len());
        buffer[..len].copy_from_slice(&datagram[..len]);
        *meta = RecvMeta::default();
        meta.addr = PUBLISHER;
        meta.len = len;
        meta.stride = len.max(1);
        Poll::Ready(Ok(1))
    }
}
