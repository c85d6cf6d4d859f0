use std::net::SocketAddr;

use loom_core::MediaKind;

use super::layers::{Layer, Simulcast};
use super::{DtlsRole, Feedback, Offer, OfferedSection, Terms};
use crate::media::{RtpCodec, RtpSection};

/// What a Chromium sender should start at, kbit/s: without it, it starts at 300 and is blurred for seconds.
const START_KBITS: u32 = 2_500;
/// Below this a screen cannot be read, kbit/s.
const MIN_KBITS: u32 = 300;

/// What is ours in an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AnswerParts<'a> {
    /// Our ICE user fragment, 4 to 256 of the characters of RFC 8839 §5.4.
    pub(crate) fragment: &'a str,
    /// Our ICE password, 22 to 256 of them.
    pub(crate) password: &'a str,
    /// Of our DTLS certificate, as `a=fingerprint` has it: `sha-256 AA:BB:…`.
    pub(crate) fingerprint: &'a str,
    /// Where we are reached, the best first of each transport.
    pub(crate) candidates: &'a [Candidate],
    /// Names the session; the number in `o=` comes from it.
    pub(crate) session: &'a str,
}

/// An address at which we are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) address: SocketAddr,
    pub(crate) transport: CandidateTransport,
}

/// How a [`Candidate`] is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CandidateTransport {
    Udp,
    /// The publisher opens the connection (RFC 6544 §4.1).
    TcpPassive,
}

impl Candidate {
    pub(crate) fn udp(address: SocketAddr) -> Self {
        Self {
            address,
            transport: CandidateTransport::Udp,
        }
    }

    pub(crate) fn tcp(address: SocketAddr) -> Self {
        Self {
            address,
            transport: CandidateTransport::TcpPassive,
        }
    }
}

/// RFC 8445 §10, RFC 8840 §4.1.1; the same in an answer and in the fragment of an ICE restart.
pub(crate) const ICE_OPTIONS: &str = "a=ice-options:ice2 trickle";

/// Answers an offer: every section in its place (RFC 9429 §5.3.1), those that send what we take as `recvonly` on one
/// transport (RFC 9143 §7.3), as an ICE lite agent with all its candidates.
pub(crate) fn answer(offer: &Offer, ours: &AnswerParts<'_>) -> String {
    let mut text = Lines::default();
    text.put("v=0");
    text.put(format!("o=- {} 1 IN IP4 127.0.0.1", session_number(ours.session)));
    text.put("s=-");
    text.put("t=0 0");
    if !offer.bundle.is_empty() {
        text.put(format!("a=group:BUNDLE {}", offer.bundle.join(" ")));
    }
    if offer.allows_mixed {
        text.put("a=extmap-allow-mixed");
    }
    text.put("a=ice-lite");
    text.put(ICE_OPTIONS);
    let transport = offer.bundle.first();
    for offered in &offer.outline {
        let accepted = offered
            .accepted
            .as_ref()
            .and_then(|terms| Some((offer.sections.get(terms.section)?, terms)));
        let Some((section, terms)) = accepted else {
            put_refused(&mut text, offered);
            continue;
        };
        put_accepted(&mut text, offer, offered, section, terms, ours);
        // one transport for all: its candidates stand where it is told (RFC 9143 §7.1.3)
        if transport.is_none_or(|mid| *mid == section.mid) {
            for line in candidates(ours.candidates) {
                text.put(format!("a={line}"));
            }
            text.put("a=end-of-candidates");
        }
    }
    text.0
}

/// The values of the `a=candidate` lines (RFC 8839 §5.1), with `candidate:` before them.
pub(crate) fn candidates(candidates: &[Candidate]) -> Vec<String> {
    let lines = candidates.iter().enumerate();
    lines.map(|(at, it)| candidate(at, it)).collect()
}

#[derive(Default)]
struct Lines(String);

impl Lines {
    fn put(&mut self, line: impl AsRef<str>) {
        self.0.push_str(line.as_ref());
        self.0.push_str("\r\n");
    }
}

fn put_refused(text: &mut Lines, offered: &OfferedSection) {
    let formats = &offered.formats;
    text.put(format!("m={} 0 {} {formats}", offered.media, offered.protocol));
    text.put("c=IN IP4 0.0.0.0");
    text.put("a=inactive");
    if let Some(mid) = &offered.mid {
        text.put(format!("a=mid:{mid}"));
    }
}

fn put_accepted(
    text: &mut Lines,
    offer: &Offer,
    offered: &OfferedSection,
    section: &RtpSection,
    terms: &Terms,
    ours: &AnswerParts<'_>,
) {
    let numbers = section.formats.iter().map(|format| format.payload_type);
    let again = terms.retransmission.formats.iter().map(|(carrier, _)| *carrier);
    let repair = terms.repairs.first();
    let repaired = repair.map(|repair| repair.payload_type);
    let numbers = join(numbers.chain(again).chain(repaired), " ");
    // port 9 and no address: the candidates tell (RFC 9429 §5.3.1)
    text.put(format!("m={} 9 {} {numbers}", offered.media, offered.protocol));
    text.put("c=IN IP4 0.0.0.0");
    text.put(format!("a=mid:{}", section.mid));
    text.put("a=recvonly");
    text.put(format!("a=ice-ufrag:{}", ours.fragment));
    text.put(format!("a=ice-pwd:{}", ours.password));
    text.put(format!("a=fingerprint:{}", ours.fingerprint));
    text.put(match offer.role {
        DtlsRole::Active => "a=setup:active",
        DtlsRole::Passive => "a=setup:passive",
    });
    text.put("a=rtcp-mux");
    // RFC 9725 §4.4.1 wants it of both sides, whatever RFC 8858 §4.2 says of answers
    text.put("a=rtcp-mux-only");
    if terms.reduced_size {
        text.put("a=rtcp-rsize");
    }
    if terms.allows_mixed {
        text.put("a=extmap-allow-mixed");
    }
    for extension in &terms.extensions {
        text.put(format!("a=extmap:{} {}", extension.id, extension.uri));
    }
    for format in &section.formats {
        let (number, codec) = (format.payload_type, format.codec);
        let channels = match codec.kind() {
            MediaKind::Video => "",
            MediaKind::Audio => "/2",
        };
        text.put(format!(
            "a=rtpmap:{number} {}/{}{channels}",
            codec.name(),
            codec.scale().hz()
        ));
        text.put(format!(
            "a=fmtp:{number} {}",
            parameters(codec, &format.parameters)
        ));
        for feedback in terms.feedback_of(number) {
            text.put(format!("a=rtcp-fb:{number} {}", feedback.text()));
        }
    }
    for (carrier, of) in &terms.retransmission.formats {
        let scale = section.formats.iter().find(|it| it.payload_type == *of);
        let hz = scale.map_or(90_000, |it| it.codec.scale().hz());
        text.put(format!("a=rtpmap:{carrier} rtx/{hz}"));
        text.put(format!("a=fmtp:{carrier} apt={of}"));
    }
    if let Some(repair) = repair {
        let number = repair.payload_type;
        text.put(format!("a=rtpmap:{number} flexfec-03/90000"));
        if !repair.parameters.is_empty() {
            text.put(format!("a=fmtp:{number} {}", repair.parameters));
        }
        if repair.transport_wide {
            text.put(format!("a=rtcp-fb:{number} {}", Feedback::TransportWide.text()));
        }
    }
    put_layers(text, &terms.simulcast);
}

/// The names of the layers, the other way round (RFC 8853 §5.3.2, RFC 8851 §6.3). Layers by source have none.
fn put_layers(text: &mut Lines, simulcast: &Simulcast) {
    let Simulcast::ByName(layers) = simulcast else {
        return;
    };
    for layer in layers {
        let numbers = join(layer.payload_types.iter().copied(), ",");
        let numbers = if numbers.is_empty() {
            numbers
        } else {
            format!("pt={numbers}")
        };
        let rest = [numbers.as_str(), layer.restrictions.as_str()];
        let rest: Vec<&str> = rest.into_iter().filter(|it| !it.is_empty()).collect();
        let line = format!("a=rid:{} recv {}", layer.name, rest.join(";"));
        text.put(line.trim_end());
    }
    let name = |layer: &Layer| format!("{}{}", if layer.paused { "~" } else { "" }, layer.name);
    let names: Vec<String> = layers.iter().map(name).collect();
    text.put(format!("a=simulcast:recv {}", names.join(";")));
}

/// The `a=fmtp` value of an answer: the offer's, and what we wish for.
pub(super) fn parameters(codec: RtpCodec, offered: &str) -> String {
    let wishes = match codec.kind() {
        MediaKind::Video => format!("x-google-start-bitrate={START_KBITS};x-google-min-bitrate={MIN_KBITS}"),
        // RFC 7587 §6.1
        MediaKind::Audio => "stereo=1;maxaveragebitrate=128000;useinbandfec=1".to_owned(),
    };
    let ours: Vec<&str> = wishes
        .split(';')
        .filter_map(|wish| wish.split('=').next())
        .collect();
    let offered = offered.split(';').map(str::trim).filter(|pair| {
        let name = pair.split('=').next().unwrap_or_default().trim();
        // what a sender says of its own stream is no wish of the receiver
        let spoken = name.starts_with("sprop-") || ours.contains(&name);
        !name.is_empty() && !spoken
    });
    offered.chain([wishes.as_str()]).collect::<Vec<_>>().join(";")
}

/// A host candidate for RTP and RTCP on one port (RFC 8839 §5.1).
pub(super) fn candidate(at: usize, candidate: &Candidate) -> String {
    let (ip, port) = (candidate.address.ip(), candidate.address.port());
    let at = at.min(8_000) as u32;
    // priority = type preference, local preference, 256 - component (RFC 8445 §5.1.2.1)
    let (transport, preference, local, kind) = match candidate.transport {
        CandidateTransport::Udp => ("udp", 126, 65_535 - at, ""),
        // a lower type preference than UDP's, and 4 of 7 for the passive direction (RFC 6544 §4.2)
        CandidateTransport::TcpPassive => ("tcp", 90, (4 << 13) + 8_191 - at, " tcptype passive"),
    };
    let priority = preference << 24 | local << 8 | 255;
    format!(
        "candidate:{} 1 {transport} {priority} {ip} {port} typ host{kind}",
        at + 1
    )
}

/// A number below 2^63 (RFC 9429 §5.2.1) that stands for the session's name: FNV-1a.
fn session_number(session: &str) -> u64 {
    let hash = session.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash >> 1
}

fn join(numbers: impl Iterator<Item = u8>, between: &str) -> String {
    let numbers: Vec<String> = numbers.map(|number| number.to_string()).collect();
    numbers.join(between)
}

#[cfg(test)]
mod tests;
