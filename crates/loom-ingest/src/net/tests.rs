//! Publishers over real sockets: by UDP, by TCP, by IPv6, and on the move.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use loom_core::Media;
use rtc::dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::{Shared, tcp, udp};
use crate::demux::Carrier;
use crate::ice::StunKind;
use crate::ice::tests::check;
use crate::limits;
use crate::transport::client::Client;
use crate::{CloseReason, Ingest, IngestConfig, IngestError, Session, SessionEvent};

/// How a publisher reaches the port.
enum Wire {
    Udp(UdpSocket),
    Tcp(TcpStream),
}

impl Wire {
    async fn udp(to: SocketAddr) -> Self {
        let own = if to.is_ipv6() { "[::1]:0" } else { "127.0.0.1:0" };
        let socket = UdpSocket::bind(own).await.unwrap();
        socket.connect(to).await.unwrap();
        Self::Udp(socket)
    }

    async fn tcp(to: SocketAddr) -> Self {
        Self::Tcp(TcpStream::connect(to).await.unwrap())
    }

    async fn send(&mut self, datagram: &[u8]) {
        match self {
            Self::Udp(socket) => {
                socket.send(datagram).await.unwrap();
            }
            // RFC 4571 §2
            Self::Tcp(stream) => {
                stream.write_u16(datagram.len() as u16).await.unwrap();
                stream.write_all(datagram).await.unwrap();
            }
        }
    }

    async fn recv(&mut self) -> Vec<u8> {
        let mut buffer = vec![0; 2_000];
        let len = match self {
            Self::Udp(socket) => socket.recv(&mut buffer).await.unwrap(),
            Self::Tcp(stream) => {
                let len = usize::from(stream.read_u16().await.unwrap());
                stream.read_exact(&mut buffer[..len]).await.unwrap()
            }
        };
        buffer.truncate(len);
        buffer
    }
}

struct Publisher {
    client: Client,
    wire: Wire,
    session: Session,
    credentials: (String, String),
}

const PATIENCE: Duration = Duration::from_secs(10);

fn local(config: IngestConfig) -> IngestConfig {
    IngestConfig {
        udp: "127.0.0.1:0".parse().unwrap(),
        ..config
    }
}

fn value<'a>(sdp: &'a str, name: &str) -> &'a str {
    let prefix = format!("a={name}:");
    sdp.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap()
}

impl Publisher {
    /// One that is connected.
    async fn connect(ingest: &Ingest, wire: Wire) -> Self {
        let client = Client::new(&[SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm]);
        let (answer, session) = ingest.accept(&client.offer()).await.unwrap();
        let credential = |name| value(&answer.sdp, name).to_owned();
        let mut publisher = Self {
            client,
            wire,
            session,
            credentials: (credential("ice-ufrag"), credential("ice-pwd")),
        };
        publisher.nominate().await;
        publisher.client.connect(Instant::now());
        while !publisher.client.is_connected() {
            while let Some(datagram) = publisher.client.poll_dtls() {
                publisher.wire.send(&datagram).await;
            }
            let datagram = timeout(PATIENCE, publisher.wire.recv()).await.unwrap();
            publisher.client.handle_dtls(&datagram, Instant::now());
        }
        assert_eq!(publisher.next().await, SessionEvent::Connected);
        publisher
    }

    async fn nominate(&mut self) {
        let (fragment, password) = &self.credentials;
        self.wire.send(&check(fragment, password)).await;
        let datagram = timeout(PATIENCE, self.wire.recv()).await.unwrap();
        assert_eq!(StunKind::of(&datagram), StunKind::Other, "a binding response");
    }

    async fn next(&mut self) -> SessionEvent {
        timeout(PATIENCE, self.session.recv()).await.unwrap().unwrap()
    }

    /// Sends sound until some of it has come through.
    async fn speak(&mut self) {
        for _ in 0..3 {
            let packet = self.client.audio();
            self.wire.send(&packet).await;
        }
        loop {
            if let SessionEvent::Media(Media::Packet(_)) = self.next().await {
                return;
            }
        }
    }
}

#[tokio::test]
async fn what_comes_is_taken_while_the_host_holds_all_of_its_threads() {
    let ingest = Ingest::bind(local(IngestConfig::default())).await.unwrap();
    let client = Client::new(&[SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm]);
    let (answer, _session) = ingest.accept(&client.offer()).await.unwrap();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let asked = check(value(&answer.sdp, "ice-ufrag"), value(&answer.sdp, "ice-pwd"));
    socket.send_to(&asked, ingest.local_addr()).unwrap();
    let mut buffer = [0; 2_000];
    // this runtime's only thread waits in here
    let (length, _) = socket.recv_from(&mut buffer).unwrap();
    assert_eq!(
        StunKind::of(&buffer[..length]),
        StunKind::Other,
        "a binding response"
    );
}

#[tokio::test]
async fn a_publisher_without_udp_comes_by_tcp() {
    let ingest = Ingest::bind(local(IngestConfig::default())).await.unwrap();
    let wire = Wire::tcp(ingest.local_addr()).await;
    let mut publisher = Publisher::connect(&ingest, wire).await;
    publisher.speak().await;
}

#[tokio::test]
async fn a_stream_that_breaks_its_frames_costs_only_itself() {
    let ingest = Ingest::bind(local(IngestConfig::default())).await.unwrap();
    let mut publisher = Publisher::connect(&ingest, Wire::tcp(ingest.local_addr()).await).await;
    let mut broken = TcpStream::connect(ingest.local_addr()).await.unwrap();
    broken.write_all(&[0xff; 64]).await.unwrap();
    let closed = timeout(PATIENCE, broken.read_u8()).await.unwrap();
    assert!(
        closed.is_err(),
        "a frame longer than any datagram closes the stream"
    );
    publisher.speak().await;
}

/// Whether the other side closes it, within a moment.
async fn is_closed(stream: &mut TcpStream) -> bool {
    timeout(Duration::from_millis(300), stream.read_u8())
        .await
        .is_ok_and(|read| read.is_err())
}

#[tokio::test]
async fn streams_that_prove_nothing_are_few_and_keep_no_publisher_out() {
    let ingest = Ingest::bind(local(IngestConfig::default())).await.unwrap();
    let mut publisher = Publisher::connect(&ingest, Wire::tcp(ingest.local_addr()).await).await;
    let mut idle = Vec::new();
    for _ in 0..limits::UNPROVEN_STREAMS {
        idle.push(TcpStream::connect(ingest.local_addr()).await.unwrap());
    }
    let mut refused = TcpStream::connect(ingest.local_addr()).await.unwrap();
    assert!(is_closed(&mut refused).await, "one too many of this address");
    let last = idle.last_mut().unwrap();
    assert!(!is_closed(last).await);
    // who has proved itself does not count, and goes on
    publisher.speak().await;
    // from another address one is taken nevertheless
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    if socket.bind("127.0.0.2:0".parse().unwrap()).is_ok() {
        let stream = socket.connect(ingest.local_addr()).await.unwrap();
        Publisher::connect(&ingest, Wire::Tcp(stream)).await.speak().await;
    }
    idle.clear();
    // their places are free again
    let connected = timeout(PATIENCE, async {
        loop {
            let mut stream = TcpStream::connect(ingest.local_addr()).await.unwrap();
            if !is_closed(&mut stream).await {
                return;
            }
        }
    });
    connected.await.unwrap();
}

#[tokio::test]
async fn a_streams_end_takes_its_proof_along_but_not_its_successor() {
    let ingest = Ingest::bind(local(IngestConfig::default())).await.unwrap();
    let publisher = Publisher::connect(&ingest, Wire::tcp(ingest.local_addr()).await).await;
    let Wire::Tcp(stream) = &publisher.wire else {
        panic!("not by TCP")
    };
    let (remote, shared) = (stream.local_addr().unwrap(), Arc::clone(&ingest.port().shared));
    let knows = || shared.lock().demux.knows(Carrier::Tcp, remote);
    assert!(knows());
    // another stream from the very same address, while the end of the first has not been noticed
    let (successor, _frames) = tcp::Registered::new(&shared, remote).unwrap();
    assert!(!knows(), "it has proved nothing yet");
    drop(publisher);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(shared.lock().streams.contains_key(&remote), "it is still there");
    drop(successor);
    assert!(!shared.lock().streams.contains_key(&remote));

    let publisher = Publisher::connect(&ingest, Wire::tcp(ingest.local_addr()).await).await;
    let Publisher { wire, session, .. } = publisher;
    let Wire::Tcp(stream) = wire else {
        panic!("not by TCP")
    };
    let remote = stream.local_addr().unwrap();
    assert!(shared.lock().demux.knows(Carrier::Tcp, remote));
    drop(stream);
    let forgotten = timeout(PATIENCE, async {
        while shared.lock().demux.knows(Carrier::Tcp, remote) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    forgotten.await.unwrap();
    drop(session);
}

#[tokio::test]
async fn nothing_is_lost_where_so_much_comes_that_the_port_looks_at_it_by_the_clock() {
    const SOUNDS: usize = 900;
    let ingest = Ingest::bind(local(IngestConfig::default())).await.unwrap();
    let wire = Wire::udp(ingest.local_addr()).await;
    let mut publisher = Publisher::connect(&ingest, wire).await;
    for _ in 0..SOUNDS / 10 {
        for _ in 0..10 {
            let packet = publisher.client.audio();
            publisher.wire.send(&packet).await;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let mut taken = 0;
    while taken < SOUNDS {
        match publisher.next().await {
            SessionEvent::Media(Media::Packet(_)) => taken += 1,
            SessionEvent::Media(Media::Format(_)) => {}
            other => panic!("{other:?} after {taken} sounds"),
        }
    }
    // and it is woken again once little comes
    tokio::time::sleep(Duration::from_millis(300)).await;
    publisher.speak().await;
}

#[tokio::test]
async fn a_publisher_comes_by_ipv6() {
    let udp = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    let Ok(ingest) = Ingest::bind(IngestConfig {
        udp,
        ..IngestConfig::default()
    })
    .await
    else {
        eprintln!("SKIPPED: this machine has no IPv6 loopback");
        return;
    };
    let wire = Wire::udp(ingest.local_addr()).await;
    let mut publisher = Publisher::connect(&ingest, wire).await;
    publisher.speak().await;
}

#[tokio::test]
async fn a_publisher_that_restarts_ice_goes_on_from_elsewhere() {
    let ingest = Ingest::bind(local(IngestConfig::default())).await.unwrap();
    let wire = Wire::udp(ingest.local_addr()).await;
    let mut publisher = Publisher::connect(&ingest, wire).await;
    publisher.speak().await;
    let mut etag = publisher.session.handle().etag();
    for round in 0..10 {
        let handle = publisher.session.handle();
        let restart = handle.restart_ice("next", "bP+XJMM09aR8AiX1jdukzR6Y").unwrap();
        assert_ne!(restart.etag, etag);
        assert_eq!(restart.etag, handle.etag());
        etag = restart.etag;
        assert_ne!(restart.fragment, publisher.credentials.0);
        publisher.credentials = (restart.fragment, restart.password);
        // from another port, and every other time by the other carrier
        publisher.wire = match round % 2 {
            0 => Wire::tcp(ingest.local_addr()).await,
            _ => Wire::udp(ingest.local_addr()).await,
        };
        publisher.nominate().await;
        while publisher.next().await != SessionEvent::Restarted {}
        publisher.speak().await;
    }
    let refused = publisher.session.handle().restart_ice("x", "short");
    assert!(matches!(refused, Err(IngestError::BadOffer { .. })));
}

#[tokio::test]
async fn one_address_has_its_share_and_others_are_still_taken() {
    let config = IngestConfig {
        max_sessions_per_address: 2,
        ..IngestConfig::default()
    };
    let ingest = Ingest::bind(local(config)).await.unwrap();
    let offer = Client::new(&[SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm]).offer();
    let (here, there) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
    let first = ingest.accept_from(&offer, Some(here)).await.unwrap();
    let _second = ingest.accept_from(&offer, Some(here)).await.unwrap();
    let refused = ingest.accept_from(&offer, Some(here)).await;
    assert!(matches!(
        refused,
        Err(IngestError::FullForAddress { limit: 2, .. })
    ));
    let _other = ingest.accept_from(&offer, Some(there)).await.unwrap();
    drop(first);
    drop(ingest.accept_from(&offer, Some(here)).await.unwrap());
    // whoever has one IPv6 address has all of its network
    let there = |number: u16| Some(IpAddr::from([0x2001, 0xdb8, 0, 7, 0, 0, 0, number]));
    let _third = ingest.accept_from(&offer, there(1)).await.unwrap();
    let _fourth = ingest.accept_from(&offer, there(2)).await.unwrap();
    assert!(ingest.accept_from(&offer, there(3)).await.is_err());
    let next = IpAddr::from([0x2001, 0xdb8, 0, 8, 0, 0, 0, 1]);
    drop(ingest.accept_from(&offer, Some(next)).await.unwrap());
}

#[tokio::test]
async fn an_ingest_that_goes_tells_its_sessions() {
    let ingest = Ingest::bind(local(IngestConfig::default())).await.unwrap();
    let wire = Wire::udp(ingest.local_addr()).await;
    let mut publisher = Publisher::connect(&ingest, wire).await;
    drop(ingest);
    assert_eq!(publisher.next().await, SessionEvent::Closed(CloseReason::ByHost));
    assert_eq!(publisher.session.recv().await, None);
}

#[tokio::test]
async fn what_has_gathered_is_taken_at_one_look() {
    let config = IngestConfig {
        udp: "127.0.0.1:0".parse().unwrap(),
        ..IngestConfig::default()
    };
    let (shared, _listener) = Shared::bind(&config, rtc::crypto::default_provider().unwrap()).unwrap();
    let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..200 {
        sender.send_to(b"gathered", shared.udp.local_addr()).unwrap();
    }
    let mut buffers = udp::buffers();
    assert_eq!(udp::look(&shared, &mut buffers), 200);
    assert_eq!(udp::look(&shared, &mut buffers), 0);
}
