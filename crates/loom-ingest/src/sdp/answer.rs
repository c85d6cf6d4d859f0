use std::net::SocketAddr;

use loom_core::MediaKind;

use super::{Offer, attribute, split};
use crate::media::RtpCodec;

/// What a Chromium sender should start at, kbit/s: without it, it starts at 300 and is blurred for seconds.
const START_KBITS: u32 = 2_500;
/// Below this a screen cannot be read, kbit/s.
const MIN_KBITS: u32 = 300;

/// Makes of the WebRTC stack's answer the one that goes to the publisher: refused sections in their places, our codecs in
/// order of preference, our addresses as the candidates.
///
/// `candidates` are host candidates, the best first.
pub(crate) fn finish(offer: &Offer, answer: &str, candidates: &[SocketAddr]) -> String {
    let (session, sections) = split(answer.lines().filter(|line| !line.is_empty()));
    let mut text = String::new();
    let mut put = |line: &str| {
        text.push_str(line);
        text.push_str("\r\n");
    };
    session.iter().for_each(|line| put(line));
    let mut bundled = false;
    for offered in &offer.outline {
        let accepted = offered
            .accepted
            .and_then(|at| Some((offer.sections.get(at)?, sections.get(at)?)));
        let Some((section, lines)) = accepted else {
            put(&format!(
                "m={} 0 {} {}",
                offered.media, offered.protocol, offered.formats
            ));
            put("c=IN IP4 0.0.0.0");
            put("a=inactive");
            if let Some(mid) = &offered.mid {
                put(&format!("a=mid:{mid}"));
            }
            continue;
        };
        let agreed = |number: &&str| lines.formats.contains(number);
        let numbers: Vec<String> = section
            .formats
            .iter()
            .map(|format| format.payload_type.to_string())
            .collect();
        let numbers: Vec<&str> = numbers.iter().map(String::as_str).filter(agreed).collect();
        put(&format!(
            "m={} 9 {} {}",
            offered.media,
            offered.protocol,
            numbers.join(" ")
        ));
        for line in &lines.lines {
            let dropped = ["candidate", "end-of-candidates", "fmtp"];
            if dropped.iter().all(|name| attribute(line, name).is_none()) {
                put(line);
            }
        }
        for format in section
            .formats
            .iter()
            .filter(|format| numbers.contains(&format.payload_type.to_string().as_str()))
        {
            put(&format!(
                "a=fmtp:{} {}",
                format.payload_type,
                parameters(format.codec, &format.parameters)
            ));
        }
        // one transport for all (RFC 9143 §7.3.1): its candidates stand in the first section
        if !std::mem::replace(&mut bundled, true) {
            for (at, address) in candidates.iter().enumerate() {
                put(&format!("a={}", candidate(at, *address)));
            }
            put("a=end-of-candidates");
        }
    }
    text
}

/// The `a=fmtp` value of an answer: the offer's, and what we wish for.
fn parameters(codec: RtpCodec, offered: &str) -> String {
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

/// A host candidate (RFC 8839 §5.1) for RTP and RTCP on one port.
fn candidate(at: usize, address: SocketAddr) -> String {
    // RFC 8445 §5.1.2.1: type preference 126 for host candidates, component 1
    let local = 65_535 - at as u32;
    let priority = 126 << 24 | local << 8 | 255;
    format!(
        "candidate:{} 1 udp {priority} {} {} typ host",
        at + 1,
        address.ip(),
        address.port()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_replace_what_the_offer_says_of_the_same_thing() {
        assert_eq!(
            parameters(RtpCodec::Opus, "minptime=10;useinbandfec=1;sprop-stereo=1"),
            "minptime=10;stereo=1;maxaveragebitrate=128000;useinbandfec=1"
        );
        assert_eq!(
            parameters(RtpCodec::Vp8, ""),
            "x-google-start-bitrate=2500;x-google-min-bitrate=300"
        );
    }

    #[test]
    fn candidates_fall_in_priority_in_their_order() {
        let address = |text: &str| text.parse().unwrap();
        assert_eq!(
            candidate(0, address("192.0.2.7:8189")),
            "candidate:1 1 udp 2130706431 192.0.2.7 8189 typ host"
        );
        assert_eq!(
            candidate(1, address("[2001:db8::1]:8189")),
            "candidate:2 1 udp 2130706175 2001:db8::1 8189 typ host"
        );
    }
}
