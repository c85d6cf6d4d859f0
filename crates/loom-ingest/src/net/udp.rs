use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tracing::debug;

use super::Shared;
use crate::demux::{Carrier, Path};
use crate::limits;

/// The UDP socket, read in batches (recvmmsg and GRO where the platform has them).
pub(super) struct Udp {
    socket: UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
}

/// Buffers a system call fills at most; with GRO each holds several datagrams.
const BATCH: usize = 64;
/// What GRO puts into one buffer at most.
const BUFFER_BYTES: usize = 65_536;
/// Over how long the load is measured.
const WINDOW: Duration = Duration::from_millis(100);
/// So much in a [`WINDOW`] is much: 2,000 a second, some fifteen publishers.
const MUCH: u32 = 200;
/// How long datagrams gather at least and at most. The timer counts in milliseconds.
const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_millis(5);
/// Without a session, the timers are looked at this often.
const IDLE: Duration = Duration::from_secs(60);

impl Udp {
    pub(super) fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        // the kernel takes what it allows (net.core.rmem_max) and says nothing
        socket.set_recv_buffer_size(limits::SOCKET_RECEIVE_BYTES)?;
        socket.set_send_buffer_size(limits::SOCKET_SEND_BYTES)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        let state = UdpSocketState::new((&socket).into())?;
        let socket = UdpSocket::from_std(socket.into())?;
        let local = socket.local_addr()?;
        Ok(Self { socket, state, local })
    }

    pub(super) fn local_addr(&self) -> SocketAddr {
        self.local
    }

    pub(super) fn send(&self, to: Path, datagram: &[u8]) {
        let transmit = Transmit {
            destination: mapped(to.remote, self.local),
            ecn: None,
            contents: datagram,
            segment_size: None,
            src_ip: to.local,
        };
        let sent = self.socket.try_io(Interest::WRITABLE, || {
            self.state.try_send((&self.socket).into(), &transmit)
        });
        if let Err(why) = sent {
            debug!(to = %to.remote, %why, "a datagram was not sent");
        }
    }
}

/// Receives and runs timers for ever; ends when aborted.
///
/// Where much comes, it is let gather for a moment between two reads: waking for each datagram would cost more than
/// everything else that is done with it.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut buffers = vec![vec![0; BUFFER_BYTES]; BATCH];
    let mut load = Load::new(Instant::now());
    let sleep = tokio::time::sleep(IDLE);
    tokio::pin!(sleep);
    loop {
        let next = shared.timers.next().unwrap_or_else(|| Instant::now() + IDLE);
        if sleep.deadline() != next.into() {
            sleep.as_mut().reset(next.into());
        }
        tokio::select! {
            ready = shared.udp.socket.readable() => match ready {
                Ok(()) => {
                    let count = receive(&shared, &mut buffers);
                    load.handle(count, Instant::now());
                    if let Some(moment) = load.moment.filter(|_| count < BATCH) {
                        tokio::time::sleep(moment).await;
                    }
                }
                Err(why) => {
                    debug!(%why, "the socket is not readable");
                    tokio::task::yield_now().await;
                }
            },
            () = &mut sleep => {}
            () = shared.timers.earlier() => {}
        }
        shared.run_timers(Instant::now());
    }
}

/// How much comes.
struct Load {
    since: Instant,
    count: u32,
    /// How long to let datagrams gather: where much comes, until half a batch is there.
    moment: Option<Duration>,
}

impl Load {
    fn new(since: Instant) -> Self {
        Self {
            since,
            count: 0,
            moment: None,
        }
    }

    fn handle(&mut self, count: usize, now: Instant) {
        self.count += count as u32;
        let passed = now.saturating_duration_since(self.since);
        if passed >= WINDOW {
            let is_much = self.count >= MUCH;
            let gathered = passed / self.count.max(1) * (BATCH as u32 / 2);
            self.moment = is_much.then_some(gathered.clamp(SHORTEST, LONGEST));
            (self.since, self.count) = (now, 0);
        }
    }
}

/// Takes one batch off the socket; gives how many buffers it filled.
fn receive(shared: &Shared, buffers: &mut [Vec<u8>]) -> usize {
    let mut metas = [RecvMeta::default(); BATCH];
    let udp = &shared.udp;
    let mut slices: Vec<IoSliceMut<'_>> = buffers.iter_mut().map(|it| IoSliceMut::new(it)).collect();
    let received = udp.socket.try_io(Interest::READABLE, || {
        udp.state.recv((&udp.socket).into(), &mut slices, &mut metas)
    });
    let count = match received {
        Ok(count) => count,
        Err(why) if why.kind() == io::ErrorKind::WouldBlock => return 0,
        Err(why) => {
            // a port that went away on the other side, most often; the socket stays good
            debug!(%why, "receiving failed once");
            return 0;
        }
    };
    let now = Instant::now();
    for (buffer, meta) in slices.iter().zip(&metas).take(count) {
        let from = Path {
            carrier: Carrier::Udp,
            remote: SocketAddr::new(meta.addr.ip().to_canonical(), meta.addr.port()),
            local: meta.dst_ip,
        };
        let received = buffer.get(..meta.len).unwrap_or_default();
        shared.handle_datagrams(from, received.chunks(meta.stride.max(1)), now);
    }
    count
}

/// An IPv4 address as a dual-stack socket wants it.
fn mapped(address: SocketAddr, local: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if local.is_ipv6() => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        _ => address,
    }
}
