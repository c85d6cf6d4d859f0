use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tracing::debug;

use super::Shared;
use crate::demux::{Carrier, Path};
use crate::limits;

/// The UDP socket, read in batches (recvmmsg and GRO where the platform has them).
pub(super) struct Udp {
    socket: std::net::UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
}

/// Buffers a system call fills at most; with GRO each holds several datagrams. One that fills fewer leaves nothing behind.
const BATCH: usize = BATCH_SIZE;
/// So many buffers are taken before timers and other tasks have their turn: at least 100,000 a second, at a look every 5 ms.
const AT_ONCE: usize = 512;
/// So many gather before the next look, where that is not too long.
const GATHERED: u32 = 128;
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
        let socket = std::net::UdpSocket::from(socket);
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
        if let Err(why) = self.state.try_send((&self.socket).into(), &transmit) {
            debug!(to = %to.remote, %why, "a datagram was not sent");
        }
    }

    /// The socket as the runtime watches it, until it is dropped.
    fn watch(&self) -> io::Result<UdpSocket> {
        UdpSocket::from_std(self.socket.try_clone()?)
    }
}

/// Receives and runs timers for ever; ends when aborted.
///
/// Where much comes, the socket is not watched but looked at every few milliseconds: being woken for each datagram would
/// cost more than everything else that is done with it.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut buffers = buffers();
    let mut load = Load::new(Instant::now());
    let mut watched = None;
    let sleep = tokio::time::sleep(IDLE);
    tokio::pin!(sleep);
    loop {
        if load.moment.is_none() && watched.is_none() {
            watched = shared.udp.watch().map_err(unwatched).ok();
        }
        let count = match (load.moment, &watched) {
            (None, Some(socket)) => {
                let next = shared.timers.next().map(tokio::time::Instant::from);
                let next = next.unwrap_or_else(|| tokio::time::Instant::now() + IDLE);
                if sleep.deadline() != next {
                    sleep.as_mut().reset(next);
                }
                tokio::select! {
                    ready = socket.readable() => match ready {
                        Ok(()) => receive(&shared, &mut buffers, |read| socket.try_io(Interest::READABLE, read)),
                        Err(why) => {
                            debug!(%why, "the socket is not readable");
                            tokio::task::yield_now().await;
                            0
                        }
                    },
                    () = &mut sleep => 0,
                    () = shared.timers.earlier() => 0,
                }
            }
            (moment, _) => {
                watched = None;
                tokio::time::sleep(moment.unwrap_or(LONGEST)).await;
                look(&shared, &mut buffers)
            }
        };
        let now = Instant::now();
        load.handle(count, now);
        shared.run_timers(now);
    }
}

fn unwatched(why: io::Error) {
    debug!(%why, "the socket cannot be watched; it is looked at from time to time");
}

/// How much comes.
struct Load {
    since: Instant,
    count: u32,
    /// How long to let datagrams gather, where much comes: until [`GATHERED`] are there.
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
            let a_window = self.count as f64 * WINDOW.div_duration_f64(passed);
            // where it was much, half of that still is, so that it does not change all the time
            let least = f64::from(MUCH) * if self.moment.is_some() { 0.5 } else { 1.0 };
            let gathered = passed / self.count.max(1) * GATHERED;
            self.moment = (a_window >= least).then_some(gathered.clamp(SHORTEST, LONGEST));
            (self.since, self.count) = (now, 0);
        }
    }
}

/// What datagrams are read into.
pub(super) fn buffers() -> Vec<Vec<u8>> {
    vec![vec![0; BUFFER_BYTES]; BATCH]
}

/// Takes what has gathered; gives how many buffers it filled.
pub(super) fn look(shared: &Shared, buffers: &mut [Vec<u8>]) -> usize {
    let mut count = 0;
    while count < AT_ONCE {
        let more = receive(shared, buffers, |read| read());
        count += more;
        if more < BATCH {
            break;
        }
    }
    count
}

/// Takes one batch off the socket; gives how many buffers it filled. `read` does the reading, at once if ever.
fn receive<'a>(
    shared: &Shared,
    buffers: &'a mut [Vec<u8>],
    read: impl FnOnce(&mut dyn FnMut() -> io::Result<usize>) -> io::Result<usize>,
) -> usize {
    let mut metas = [RecvMeta::default(); BATCH];
    let udp = &shared.udp;
    let mut slices: Vec<IoSliceMut<'a>> = buffers.iter_mut().map(|it| IoSliceMut::new(it)).collect();
    let received = read(&mut || udp.state.recv((&udp.socket).into(), &mut slices, &mut metas));
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
    let mut filled = slices.iter().zip(&metas).take(count).peekable();
    while let Some((buffer, meta)) = filled.next() {
        let from = Path {
            carrier: Carrier::Udp,
            remote: SocketAddr::new(meta.addr.ip().to_canonical(), meta.addr.port()),
            local: meta.dst_ip,
        };
        // the packets of a picture come one after the other
        let is_same = |next: &RecvMeta| (next.addr, next.dst_ip) == (meta.addr, meta.dst_ip);
        let rest = std::iter::from_fn(|| filled.next_if(|(_, next)| is_same(next)));
        let datagrams = std::iter::once((buffer, meta))
            .chain(rest)
            .flat_map(|(buffer, meta)| {
                let received = buffer.get(..meta.len).unwrap_or_default();
                received.chunks(meta.stride.max(1))
            });
        shared.handle_datagrams(from, datagrams, now);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_gather_only_where_many_come_and_never_for_long() {
        let mut now = Instant::now();
        let mut load = Load::new(now);
        let mut second = |load: &mut Load, each: usize| {
            for _ in 0..100 {
                now += Duration::from_millis(10);
                load.handle(each, now);
            }
            load.moment
        };
        assert_eq!(second(&mut load, 10), None, "1,000 a second");
        assert_eq!(second(&mut load, 30), Some(LONGEST), "3,000");
        assert_eq!(second(&mut load, 12), Some(LONGEST), "1,200 after more");
        assert_eq!(second(&mut load, 600), Some(Duration::from_nanos(2_133_248)));
        assert_eq!(second(&mut load, 5_000), Some(SHORTEST));
        assert_eq!(second(&mut load, 5), None);
    }
}
