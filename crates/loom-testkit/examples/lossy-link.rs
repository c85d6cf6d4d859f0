//! A bad network of one process: relays UDP, or the IP packets of two TUN devices, through a [`Link`] in each direction.
//!
//! ```text
//! lossy-link [--loss 0.05] [--burst 0.02] [--burst-length 4] [--duplicate 0.01] [--reorder 0.01] [--hold-ms 20]
//!            [--delay-ms 30] [--jitter-ms 30] [--order free|kept] [--rate-kbits N] [--queue-ms 200] [--seed 1]
//!            [--both] [--clean-seconds 0] (LISTEN UPSTREAM | --tun)
//! ```
//!
//! `LISTEN UPSTREAM`, two addresses, listens on the one and sends to the other, a socket of its own for each sender.
//! `--tun` takes the devices that its standard input and output are, both open for reading and writing, and passes each
//! packet of the one to the other. What goes towards UPSTREAM, or from input to output, is impaired; what comes back is
//! delayed alone, or impaired as well with `--both`. The link is clean for `--clean-seconds` after the first datagram.
//! Every ten seconds it says on standard error what it did.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use loom_testkit::{Link, LinkConfig, LinkCounts, Order, RateCap};

/// Bytes that an IPv4 and a UDP header take.
const HEADERS: usize = 28;
/// Datagrams that wait for the links at most.
const WAITING: usize = 16_384;
/// How often it says what it did.
const REPORT: Duration = Duration::from_secs(10);

/// One end that takes datagrams.
#[derive(Clone)]
enum End {
    Device(Arc<File>),
    Socket(Arc<UdpSocket>, SocketAddr),
}

impl End {
    /// Loses what it cannot send, as a network does.
    fn send(&self, datagram: &[u8]) {
        let _ = match self {
            Self::Device(device) => device.as_ref().write(datagram),
            Self::Socket(socket, to) => socket.send_to(datagram, *to),
        };
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

/// A datagram on its way.
#[derive(Clone)]
struct Datagram {
    direction: Direction,
    to: End,
    bytes: Arc<[u8]>,
}

struct Options {
    up: LinkConfig,
    down: LinkConfig,
    clean: Duration,
    ends: Vec<String>,
    is_tun: bool,
}

fn main() -> ExitCode {
    match options(std::env::args().skip(1)).and_then(|options| run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("lossy-link: {why}");
            ExitCode::FAILURE
        }
    }
}

fn options(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut up = LinkConfig::default();
    let (mut both, mut is_tun, mut clean, mut ends) = (false, false, Duration::ZERO, Vec::new());
    let (mut rate, mut queue) = (None, Duration::from_millis(200));
    while let Some(word) = words.next() {
        let name = match word.strip_prefix("--") {
            Some("both") => {
                both = true;
                continue;
            }
            Some("tun") => {
                is_tun = true;
                continue;
            }
            Some(name) => name,
            None => {
                ends.push(word);
                continue;
            }
        };
        let value = words.next().ok_or(format!("--{name} needs a value"))?;
        let number = || {
            value
                .parse::<f64>()
                .map_err(|why| format!("--{name} {value}: {why}"))
        };
        let millis = || number().map(|it| Duration::from_secs_f64(it.max(0.0) / 1_000.0));
        match name {
            "loss" => up.loss = number()?,
            "burst" => up.burst.share = number()?,
            "burst-length" => up.burst.mean_length = number()?,
            "duplicate" => up.duplication = number()?,
            "reorder" => up.reordering = number()?,
            "hold-ms" => up.hold = millis()?,
            "delay-ms" => up.delay = millis()?,
            "jitter-ms" => up.jitter = millis()?,
            "order" if value == "free" => up.order = Order::Free,
            "order" if value == "kept" => up.order = Order::Kept,
            "rate-kbits" => rate = Some((number()? * 1_000.0) as u64),
            "queue-ms" => queue = millis()?,
            "seed" => up.seed = number()? as u64,
            "clean-seconds" => clean = Duration::from_secs_f64(number()?.max(0.0)),
            _ => return Err(format!("--{name} {value} is not known")),
        }
    }
    up.rate = rate.map(|bits_per_second| RateCap {
        bits_per_second,
        queue,
    });
    let down = if both {
        LinkConfig {
            seed: up.seed + 1,
            ..up
        }
    } else {
        LinkConfig {
            delay: up.delay,
            ..LinkConfig::default()
        }
    };
    if is_tun != ends.is_empty() || !matches!(ends.len(), 0 | 2) {
        return Err("say LISTEN and UPSTREAM, or --tun".to_owned());
    }
    Ok(Options {
        up,
        down,
        clean,
        ends,
        is_tun,
    })
}

fn run(options: &Options) -> Result<(), String> {
    let (sender, receiver) = sync_channel(WAITING);
    let failed = |why: io::Error| why.to_string();
    if options.is_tun {
        let device =
            |fd: std::os::fd::BorrowedFd<'_>| fd.try_clone_to_owned().map(|fd| Arc::new(File::from(fd)));
        let near = device(io::stdin().as_fd()).map_err(failed)?;
        let far = device(io::stdout().as_fd()).map_err(failed)?;
        let ways = [
            (Arc::clone(&near), Arc::clone(&far), Direction::Up),
            (far, near, Direction::Down),
        ];
        for (from, to, direction) in ways {
            let sender = sender.clone();
            thread::spawn(move || read_device(&from, &End::Device(to), direction, &sender));
        }
    } else {
        let address = |text: &String| text.parse::<SocketAddr>().map_err(|why| format!("{text}: {why}"));
        let (listen, upstream) = (address(&options.ends[0])?, address(&options.ends[1])?);
        let socket = Arc::new(UdpSocket::bind(listen).map_err(failed)?);
        thread::spawn(move || serve(&socket, upstream, &sender));
    }
    relay(options, &receiver)
}

fn read_device(device: &File, to: &End, direction: Direction, sender: &SyncSender<Datagram>) {
    let mut buffer = vec![0; 65_536];
    loop {
        let mut reader = device;
        let Ok(len) = reader.read(&mut buffer) else { return };
        let datagram = Datagram {
            direction,
            to: to.clone(),
            bytes: buffer[..len].into(),
        };
        if len == 0 || sender.send(datagram).is_err() {
            return;
        }
    }
}

/// Takes what publishers send, and for each has a socket towards upstream and a thread that takes the answers.
fn serve(socket: &Arc<UdpSocket>, upstream: SocketAddr, sender: &SyncSender<Datagram>) {
    let mut sockets: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut buffer = vec![0; 65_536];
    loop {
        // a socket tells errors of what it sent before; they are nobody's business here
        let Ok((len, from)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        let near = match sockets.get(&from) {
            Some(near) => Arc::clone(near),
            None => {
                let any: SocketAddr = if upstream.is_ipv4() {
                    ([0; 4], 0).into()
                } else {
                    ([0u16; 8], 0).into()
                };
                let Ok(near) = UdpSocket::bind(any).map(Arc::new) else {
                    continue;
                };
                sockets.insert(from, Arc::clone(&near));
                let (answers, socket, sender) = (Arc::clone(&near), Arc::clone(socket), sender.clone());
                thread::spawn(move || answer(&answers, &End::Socket(socket, from), &sender));
                near
            }
        };
        let datagram = Datagram {
            direction: Direction::Up,
            to: End::Socket(near, upstream),
            bytes: buffer[..len].into(),
        };
        if sender.send(datagram).is_err() {
            return;
        }
    }
}

fn answer(socket: &UdpSocket, to: &End, sender: &SyncSender<Datagram>) {
    let mut buffer = vec![0; 65_536];
    loop {
        let Ok((len, _)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        let datagram = Datagram {
            direction: Direction::Down,
            to: to.clone(),
            bytes: buffer[..len].into(),
        };
        if sender.send(datagram).is_err() {
            return;
        }
    }
}

/// Moves everything through the two links, for as long as anything can come.
fn relay(options: &Options, receiver: &Receiver<Datagram>) -> Result<(), String> {
    let mut up = Link::<Datagram>::new(options.up);
    let mut down = Link::<Datagram>::new(options.down);
    let mut dirty_from = None;
    let mut report = Instant::now() + REPORT;
    loop {
        let now = Instant::now();
        for link in [&mut up, &mut down] {
            while let Some(it) = link.poll_delivery(now) {
                it.item.to.send(&it.item.bytes);
            }
        }
        if now >= report {
            report = now + REPORT;
            writeln!(
                io::stderr(),
                "up: {}; down: {}",
                told(up.counts()),
                told(down.counts())
            )
            .map_err(|why| why.to_string())?;
        }
        let due = [up.poll_timeout(), down.poll_timeout(), Some(report)]
            .into_iter()
            .flatten()
            .min();
        let wait = due.map_or(REPORT, |due| due.saturating_duration_since(Instant::now()));
        match receiver.recv_timeout(wait) {
            Ok(datagram) => {
                let now = Instant::now();
                if now < *dirty_from.get_or_insert(now + options.clean) {
                    datagram.to.send(&datagram.bytes);
                    continue;
                }
                let bytes = datagram.bytes.len() + if options.is_tun { 0 } else { HEADERS };
                match datagram.direction {
                    Direction::Up => up.handle_datagram(datagram, bytes, now),
                    Direction::Down => down.handle_datagram(datagram, bytes, now),
                };
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err("both ends are gone".to_owned()),
        }
    }
}

fn told(counts: LinkCounts) -> String {
    format!(
        "{} sent, {} lost, {} in {} bursts, {} dropped, {} doubled, {} held back",
        counts.sent,
        counts.lost,
        counts.lost_in_bursts,
        counts.bursts,
        counts.dropped,
        counts.doubled,
        counts.held_back
    )
}
