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
const BATCH: usize = 32;
/// What GRO puts into one buffer at most.
const BUFFER_BYTES: usize = 65_536;
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
pub(super) async fn run(shared: Arc<Shared>) {
    let mut buffers = vec![vec![0; BUFFER_BYTES]; BATCH];
    let sleep = tokio::time::sleep(IDLE);
    tokio::pin!(sleep);
    loop {
        let next = shared.timers.next().unwrap_or_else(|| Instant::now() + IDLE);
        if sleep.deadline() != next.into() {
            sleep.as_mut().reset(next.into());
        }
        tokio::select! {
            ready = shared.udp.socket.readable() => match ready {
                Ok(()) => receive(&shared, &mut buffers),
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

/// Takes one batch off the socket.
fn receive(shared: &Shared, buffers: &mut [Vec<u8>]) {
    let mut metas = [RecvMeta::default(); BATCH];
    let udp = &shared.udp;
    let mut slices: Vec<IoSliceMut<'_>> = buffers.iter_mut().map(|it| IoSliceMut::new(it)).collect();
    let received = udp.socket.try_io(Interest::READABLE, || {
        udp.state.recv((&udp.socket).into(), &mut slices, &mut metas)
    });
    let count = match received {
        Ok(count) => count,
        Err(why) if why.kind() == io::ErrorKind::WouldBlock => return,
        Err(why) => {
            // a port that went away on the other side, most often; the socket stays good
            debug!(%why, "receiving failed once");
            return;
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
}

/// An IPv4 address as a dual-stack socket wants it.
fn mapped(address: SocketAddr, local: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if local.is_ipv6() => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        _ => address,
    }
}
