//! The offer as the WebRTC stack gets it, and the stack's answer as the publisher gets it.

use std::collections::HashSet;
use std::net::SocketAddr;

use super::answer::{Candidate, candidate, parameters};
use super::formats::{repair_sources, source_of};
use super::{MediaLines, Offer, attribute, split};
use crate::media::RtpSection;

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
            .as_ref()
            .and_then(|terms| Some((offer.sections.get(terms.section)?, sections.get(terms.section)?)));
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
                put(&format!("a={}", candidate(at, &Candidate::udp(*address))));
            }
            put("a=end-of-candidates");
        }
    }
    text
}

/// The text of the offer with what we do not take left out.
pub(super) fn reduce(session: &[&str], kept: &[(&MediaLines<'_>, RtpSection)]) -> String {
    let mut text = String::new();
    let mut put = |line: &str| {
        text.push_str(line);
        text.push_str("\r\n");
    };
    for line in session {
        match attribute(line, "group") {
            Some(group) if group.starts_with("BUNDLE") => {
                let mids: Vec<_> = kept.iter().map(|(_, section)| section.mid.as_str()).collect();
                put(&format!("a=group:BUNDLE {}", mids.join(" ")));
            }
            _ => put(line),
        }
    }
    for (section, taken) in kept {
        let numbers: Vec<_> = taken
            .formats
            .iter()
            .map(|format| format.payload_type.to_string())
            .collect();
        put(&format!(
            "m={} 9 {} {}",
            section.media,
            section.protocol,
            numbers.join(" ")
        ));
        let repair = repair_sources(section);
        for line in &section.lines {
            if is_kept(line, taken, &repair) {
                put(line);
            }
        }
    }
    text
}

fn is_kept(line: &str, section: &RtpSection, repair: &HashSet<u32>) -> bool {
    const DROPPED: [&str; 6] = [
        "candidate",
        "end-of-candidates",
        "simulcast",
        "rid",
        "ssrc-group",
        "remote-candidates",
    ];
    if DROPPED.iter().any(|name| attribute(line, name).is_some()) {
        return false;
    }
    if let Some(source) = source_of(line) {
        return section.sources.contains(&source) && !repair.contains(&source);
    }
    let about = ["rtpmap", "fmtp", "rtcp-fb"]
        .iter()
        .find_map(|name| attribute(line, name));
    match about.and_then(|value| value.split_ascii_whitespace().next()) {
        None | Some("*") => true,
        Some(number) => section
            .formats
            .iter()
            .any(|format| number.parse() == Ok(format.payload_type)),
    }
}
