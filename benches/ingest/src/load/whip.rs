//! The offer, its POST, and what the answer says.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub const VIDEO_TYPE: u8 = 102;
pub const AUDIO_TYPE: u8 = 111;

/// What an offer tells about its publisher.
pub struct Offer<'a> {
    pub address: SocketAddr,
    pub fragment: &'a str,
    pub password: &'a str,
    pub fingerprint: &'a str,
    pub audio_source: u32,
    pub video_source: u32,
}

impl Offer<'_> {
    pub fn text(&self) -> String {
        let Self {
            address,
            fragment,
            password,
            fingerprint,
            audio_source,
            video_source,
        } = self;
        let (ip, port) = (address.ip(), address.port());
        let transport = format!(
            "c=IN IP4 {ip}\r\na=rtcp:9 IN IP4 0.0.0.0\r\na=candidate:1 1 udp 2130706431 {ip} {port} typ host\r\n\
             a=end-of-candidates\r\na=ice-ufrag:{fragment}\r\na=ice-pwd:{password}\r\na=fingerprint:sha-256 {fingerprint}\r\n\
             a=setup:actpass\r\na=sendonly\r\na=rtcp-mux\r\na=rtcp-rsize\r\n\
             a=extmap:1 urn:ietf:params:rtp-hdrext:sdes:mid\r\n\
             a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\n"
        );
        format!(
            "v=0\r\no=- {video_source} 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\na=msid-semantic: WMS *\r\n\
             m=audio {port} UDP/TLS/RTP/SAVPF {AUDIO_TYPE}\r\n{transport}a=mid:0\r\na=msid:load sound\r\n\
             a=rtpmap:{AUDIO_TYPE} opus/48000/2\r\na=rtcp-fb:{AUDIO_TYPE} transport-cc\r\n\
             a=fmtp:{AUDIO_TYPE} minptime=10;useinbandfec=1\r\na=ssrc:{audio_source} cname:load\r\n\
             m=video {port} UDP/TLS/RTP/SAVPF {VIDEO_TYPE}\r\n{transport}a=mid:1\r\na=msid:load picture\r\n\
             a=rtpmap:{VIDEO_TYPE} H264/90000\r\na=rtcp-fb:{VIDEO_TYPE} transport-cc\r\na=rtcp-fb:{VIDEO_TYPE} ccm fir\r\n\
             a=rtcp-fb:{VIDEO_TYPE} nack\r\na=rtcp-fb:{VIDEO_TYPE} nack pli\r\n\
             a=fmtp:{VIDEO_TYPE} level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\n\
             a=ssrc:{video_source} cname:load\r\n"
        )
    }
}

/// What an answer tells about its receiver.
#[derive(Debug)]
pub struct Answer {
    pub address: SocketAddr,
    pub fragment: String,
    pub password: String,
    /// Whether the receiver opens the DTLS handshake (RFC 8842 §5).
    pub active: bool,
    /// The number of the transport-wide sequence number extension, where it was taken.
    pub transport_cc: Option<u8>,
    pub mid: Option<u8>,
}

impl Answer {
    pub fn parse(text: &str) -> Result<Self> {
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.map(|value| value.trim().to_owned())
        };
        let number = |name: &str| {
            let lines = text.lines().filter_map(|line| line.strip_prefix("a=extmap:"));
            let line = lines.into_iter().find(|line| line.contains(name))?;
            line.split(['/', ' ']).next()?.parse().ok()
        };
        let mut addresses = Vec::new();
        for line in text.lines().filter_map(|line| line.strip_prefix("a=candidate:")) {
            let words: Vec<&str> = line.split_whitespace().collect();
            if let [_, "1", transport, _, ip, port, "typ", "host", ..] = words[..]
                && transport.eq_ignore_ascii_case("udp")
                && let (Ok(ip), Ok(port)) = (ip.parse::<IpAddr>(), port.parse())
            {
                addresses.push(SocketAddr::new(ip, port));
            }
        }
        addresses.retain(SocketAddr::is_ipv4);
        addresses.sort_by_key(|address| address.ip() != IpAddr::V4(Ipv4Addr::LOCALHOST));
        Ok(Self {
            address: *addresses
                .first()
                .with_context(|| format!("no UDP candidate in the answer:\n{text}"))?,
            fragment: value("a=ice-ufrag:").context("no a=ice-ufrag in the answer")?,
            password: value("a=ice-pwd:").context("no a=ice-pwd in the answer")?,
            active: value("a=setup:").context("no a=setup in the answer")? == "active",
            transport_cc: number("transport-wide-cc-extensions-01"),
            mid: number("sdes:mid"),
        })
    }
}

/// POSTs an offer and gives the answer's text. `http://HOST:PORT/PATH` only.
pub async fn post(url: &str, token: Option<&str>, offer: &str) -> Result<String> {
    let (host, path) = url
        .strip_prefix("http://")
        .and_then(|rest| rest.split_once('/'))
        .with_context(|| format!("not an http URL with a path: {url}"))?;
    let authorization = token.map_or(String::new(), |token| {
        format!("authorization: Bearer {token}\r\n")
    });
    let request = format!(
        "POST /{path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/sdp\r\ncontent-length: {}\r\n{authorization}\
         connection: close\r\n\r\n{offer}",
        offer.len()
    );
    let mut stream = TcpStream::connect(host).await?;
    stream.set_nodelay(true)?;
    stream.write_all(request.as_bytes()).await?;
    // The length is obeyed rather than the end awaited: some servers close a moment later.
    let mut answer = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&answer);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let lower = head.to_ascii_lowercase();
            let length = lower
                .lines()
                .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
            if length.is_some_and(|length: usize| body.len() >= length) {
                if !head.starts_with("HTTP/1.1 20") {
                    bail!("{text}");
                }
                return Ok(body.to_owned());
            }
        }
        if stream.read_buf(&mut answer).await? == 0 {
            bail!(
                "the connection ended within the answer: {}",
                String::from_utf8_lossy(&answer)
            );
        }
    }
}
