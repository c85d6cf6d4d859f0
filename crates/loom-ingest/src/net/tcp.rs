use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tracing::debug;

use super::{Shared, client};
use crate::demux::{Carrier, Path};
use crate::limits;

/// A stream that has not proved to be a publisher's by then is closed.
const PROOF: Duration = Duration::from_secs(15);
/// A stream that is silent this long is closed. Publishers ask for consent every 5 s or so (RFC 7675 §5.1).
const IDLE: Duration = Duration::from_secs(60);

/// Listens for publishers that cannot send UDP (RFC 6544).
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(128)?;
    TcpListener::from_std(socket.into())
}

/// One datagram as a frame (RFC 4571 §2).
pub(super) fn frame(datagram: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(2 + datagram.len());
    frame.put_u16(datagram.len() as u16);
    frame.put_slice(datagram);
    frame.freeze()
}

/// Takes streams in for ever; ends when aborted.
pub(super) async fn run(shared: Arc<Shared>, listener: TcpListener) {
    let mut streams = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, remote)) if streams.len() < limits::STREAMS => {
                    if let Some((open, frames)) = Registered::new(&shared, remote) {
                        streams.spawn(serve(open, stream, frames));
                    }
                }
                Ok((_, remote)) => debug!(%remote, "too many streams; one was refused"),
                Err(why) => {
                    debug!(%why, "a stream was not accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = streams.join_next() => {}
        }
    }
}

async fn serve(open: Registered, stream: TcpStream, frames: mpsc::Receiver<Bytes>) {
    let Ok(local) = stream.local_addr() else {
        return;
    };
    let _ = stream.set_nodelay(true);
    let path = Path {
        carrier: Carrier::Tcp,
        remote: open.remote,
        local: Some(local.ip()),
    };
    let (read, write) = stream.into_split();
    tokio::select! {
        ended = receive(&open.shared, path, read) => {
            if let Err(why) = ended {
                debug!(remote = %open.remote, %why, "a stream ended");
            }
        }
        _ = send(write, frames) => {}
    }
}

/// Keeps a stream on the list until it ends.
pub(super) struct Registered {
    shared: Arc<Shared>,
    remote: SocketAddr,
    sender: mpsc::Sender<Bytes>,
}

impl Registered {
    /// `None` where its address has too many streams that have not proved to be a publisher's.
    pub(super) fn new(shared: &Arc<Shared>, remote: SocketAddr) -> Option<(Self, mpsc::Receiver<Bytes>)> {
        let mut state = shared.lock();
        let address = client(remote.ip());
        let unproven = state
            .streams
            .keys()
            .filter(|other| client(other.ip()) == address && !state.demux.knows(Carrier::Tcp, **other));
        if unproven.count() >= limits::UNPROVEN_STREAMS {
            debug!(%remote, "too many streams without a proof; one was refused");
            return None;
        }
        let (sender, frames) = mpsc::channel(limits::STREAM_FRAMES);
        // one that had this address before is gone, or its publisher would not have it again: who comes now proves itself
        if state.streams.insert(remote, sender.clone()).is_some() {
            state.demux.forget(Carrier::Tcp, remote);
        }
        drop(state);
        let registered = Self {
            shared: Arc::clone(shared),
            remote,
            sender,
        };
        Some((registered, frames))
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        // its address may be another stream's by now
        let registered = state.streams.get(&self.remote);
        if registered.is_some_and(|it| it.same_channel(&self.sender)) {
            state.streams.remove(&self.remote);
            state.demux.forget(Carrier::Tcp, self.remote);
        }
    }
}

async fn receive(shared: &Shared, path: Path, read: OwnedReadHalf) -> io::Result<()> {
    let mut read = BufReader::with_capacity(limits::STREAM_BYTES, read);
    let mut buffer = vec![0; limits::DATAGRAM_BYTES];
    let proof = tokio::time::Instant::now() + PROOF;
    let mut is_known = false;
    loop {
        let until = if is_known {
            tokio::time::Instant::now() + IDLE
        } else {
            proof
        };
        let frame = tokio::time::timeout_at(until, read_frame(&mut read, &mut buffer))
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        shared.handle_datagrams(path, std::iter::once(frame), Instant::now());
        let knows = shared.lock().demux.knows(Carrier::Tcp, path.remote);
        if is_known && !knows {
            return Ok(()); // its session is over, or took to other addresses
        }
        is_known = knows;
    }
}

async fn read_frame<'a>(read: &mut BufReader<OwnedReadHalf>, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
    let len = usize::from(read.read_u16().await?);
    let frame = buffer
        .get_mut(..len)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a frame is too long"))?;
    read.read_exact(frame).await?;
    Ok(frame)
}

async fn send(mut write: OwnedWriteHalf, mut frames: mpsc::Receiver<Bytes>) -> io::Result<()> {
    while let Some(frame) = frames.recv().await {
        write.write_all(&frame).await?;
    }
    Ok(())
}
