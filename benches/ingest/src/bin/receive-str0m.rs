//! Receives by `str0m`: `receive-str0m ADDRESS FOLDER [gathered]`.
//!
//! One UDP socket and one thread for all publishers. As str0m's own examples do, it is woken by each datagram and reads one
//! a system call; `gathered` reads them as Loom does, in batches every few milliseconds, which str0m leaves to its host.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io::{ErrorKind, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use loom_bench_ingest::receive::{Folder, Written, arguments, serve};
use quinn_udp::{RecvMeta, UdpSocketState};
use str0m::change::SdpOffer;
use str0m::config::DtlsCert;
use str0m::crypto::from_feature_flags;
use str0m::media::{KeyframeRequestKind, MediaKind, Mid};
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Event, Input, Output, Rtc, RtcConfig};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let (address, folder) = arguments()?;
    from_feature_flags().install_process_default();
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket_buffer(&socket);
    socket.set_nonblocking(true)?;
    let local = socket.local_addr()?;
    let (sender, incoming) = sync_channel(64);
    let is_gathered = std::env::args().nth(3).as_deref() == Some("gathered");
    let mut receiving = Receiving::new(socket, local)?;
    std::thread::spawn(move || {
        if is_gathered {
            receiving.run_gathered(&incoming);
        } else {
            receiving.run(&incoming);
        }
    });
    let shared = Shared {
        local,
        incoming: sender,
        folder: folder.clone(),
    };
    serve(&address, &folder, move |name, offer| {
        let answered = answer(&shared, &name, &offer);
        std::future::ready(answered)
    })
    .await
}

/// As many bytes as Loom asks for.
fn socket_buffer(socket: &UdpSocket) {
    use std::os::fd::AsRawFd;
    let bytes: libc::c_int = 8 * 1024 * 1024;
    for option in [libc::SO_RCVBUFFORCE, libc::SO_RCVBUF] {
        // SAFETY: the pointer is to a live int of the length that is given.
        let done = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                option,
                (&raw const bytes).cast(),
                size_of_val(&bytes) as u32,
            )
        };
        if done == 0 {
            return;
        }
    }
}

/// Waits until there is something to receive, or this long; whole milliseconds, rounded up.
fn await_datagram(socket: &UdpSocket, wait: Duration) {
    use std::os::fd::AsRawFd;
    let mut waiting = libc::pollfd {
        fd: socket.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let milliseconds = wait.as_micros().div_ceil(1_000) as libc::c_int;
    // SAFETY: the pointer is to one live pollfd.
    unsafe { libc::poll(&raw mut waiting, 1, milliseconds) };
}

#[derive(Clone)]
struct Shared {
    local: SocketAddr,
    incoming: SyncSender<Client>,
    folder: Folder,
}

fn answer(shared: &Shared, name: &str, offer: &str) -> Result<String> {
    let mut rtc = RtcConfig::new()
        .set_ice_lite(true)
        .set_dtls_cert(certificate())
        .build(Instant::now());
    rtc.add_local_candidate(Candidate::host(shared.local, "udp")?);
    let answer = rtc.sdp_api().accept_offer(SdpOffer::from_sdp_string(offer)?)?;
    shared.incoming.send(Client {
        rtc,
        written: shared.folder.publisher(name)?,
        video: None,
        due: Instant::now(),
    })?;
    Ok(answer.to_sdp_string())
}

/// One certificate for all sessions, as with the others.
fn certificate() -> DtlsCert {
    static ONCE: std::sync::OnceLock<DtlsCert> = std::sync::OnceLock::new();
    let made = || {
        from_feature_flags()
            .dtls_provider
            .generate_certificate()
            .expect("a certificate can be made")
    };
    ONCE.get_or_init(made).clone()
}

struct Client {
    rtc: Rtc,
    written: Arc<Mutex<Written>>,
    video: Option<Mid>,
    due: Instant,
}

struct Receiving {
    socket: UdpSocket,
    batches: UdpSocketState,
    local: SocketAddr,
    clients: Vec<Client>,
    by_address: HashMap<SocketAddr, usize>,
    /// When whom to wake; one that was since moved is recognised by its time.
    due: BinaryHeap<Reverse<(Instant, usize)>>,
}

impl Receiving {
    fn new(socket: UdpSocket, local: SocketAddr) -> Result<Self> {
        let batches = UdpSocketState::new((&socket).into())?;
        Ok(Self {
            socket,
            batches,
            local,
            clients: Vec::new(),
            by_address: HashMap::new(),
            due: BinaryHeap::new(),
        })
    }

    fn run(&mut self, incoming: &Receiver<Client>) {
        let mut buffer = vec![0; 2_000];
        loop {
            let wait = self.turn(incoming);
            await_datagram(&self.socket, wait);
            loop {
                match self.socket.recv_from(&mut buffer) {
                    Ok((length, source)) => self.take(source, &buffer[..length], Instant::now()),
                    Err(why) if why.kind() == ErrorKind::WouldBlock => break,
                    Err(why) => eprintln!("{why}"),
                }
            }
        }
    }

    /// As Loom reads its port where much comes.
    fn run_gathered(&mut self, incoming: &Receiver<Client>) {
        const BATCH: usize = 64;
        let mut buffers = vec![vec![0; 65_536]; BATCH];
        let mut count = 0;
        loop {
            let wait = self.turn(incoming);
            if count == 0 {
                await_datagram(&self.socket, wait);
            } else {
                std::thread::sleep(Duration::from_millis(5));
            }
            count = 0;
            loop {
                let mut metas = [RecvMeta::default(); BATCH];
                let mut slices: Vec<_> = buffers.iter_mut().map(|it| IoSliceMut::new(it)).collect();
                let read = match self.batches.recv((&self.socket).into(), &mut slices, &mut metas) {
                    Ok(read) => read,
                    Err(why) if why.kind() == ErrorKind::WouldBlock => break,
                    Err(why) => {
                        eprintln!("{why}");
                        break;
                    }
                };
                count += read;
                let now = Instant::now();
                for (buffer, meta) in slices.iter().zip(&metas).take(read) {
                    for datagram in buffer[..meta.len].chunks(meta.stride.max(1)) {
                        self.take(meta.addr, datagram, now);
                    }
                }
                if read < BATCH {
                    break;
                }
            }
        }
    }

    /// Takes new publishers in and runs what is due; gives how long there is nothing to do.
    fn turn(&mut self, incoming: &Receiver<Client>) -> Duration {
        while let Ok(client) = incoming.try_recv() {
            self.clients.push(client);
            self.poll(self.clients.len() - 1);
        }
        let now = Instant::now();
        while let Some(Reverse((at, index))) = self.due.peek().copied() {
            if at > now {
                break;
            }
            self.due.pop();
            if self.clients[index].due == at {
                let _ = self.clients[index].rtc.handle_input(Input::Timeout(now));
                self.poll(index);
            }
        }
        let longest = Duration::from_millis(5);
        let next = self.due.peek().map_or(now + longest, |Reverse((at, _))| *at);
        next.saturating_duration_since(now).min(longest)
    }

    fn take(&mut self, source: SocketAddr, datagram: &[u8], now: Instant) {
        let Ok(contents) = datagram.try_into() else { return };
        let receive = Receive {
            proto: Protocol::Udp,
            source,
            destination: self.local,
            contents,
        };
        let input = Input::Receive(now, receive);
        let known = self.by_address.get(&source).copied();
        let found = known.or_else(|| self.clients.iter().position(|client| client.rtc.accepts(&input)));
        if let Some(index) = found {
            self.by_address.insert(source, index);
            let _ = self.clients[index].rtc.handle_input(input);
            self.poll(index);
        }
    }

    fn poll(&mut self, index: usize) {
        let client = &mut self.clients[index];
        loop {
            match client.rtc.poll_output() {
                Ok(Output::Timeout(at)) => {
                    if client.due != at && client.rtc.is_alive() {
                        client.due = at;
                        self.due.push(Reverse((at, index)));
                    }
                    return;
                }
                Ok(Output::Transmit(transmit)) => {
                    let _ = self.socket.send_to(&transmit.contents, transmit.destination);
                }
                Ok(Output::Event(event)) => {
                    if let Err(why) = client.handle(event) {
                        eprintln!("{why:#}");
                    }
                }
                Err(why) => return eprintln!("{why}"),
            }
        }
    }
}

impl Client {
    fn handle(&mut self, event: Event) -> Result<()> {
        match event {
            Event::MediaAdded(added) if added.kind == MediaKind::Video => self.video = Some(added.mid),
            Event::MediaData(data) => {
                let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
                if Some(data.mid) != self.video {
                    return written.sound(&data.data);
                }
                if !data.contiguous {
                    written.gap();
                    if let Some(mut writer) = self.rtc.writer(data.mid) {
                        let _ = writer.request_keyframe(None, KeyframeRequestKind::Pli);
                    }
                }
                written.picture_stream(&data.data)?;
            }
            _ => {}
        }
        Ok(())
    }
}
