use std::collections::HashSet;

use loom_core::MediaKind;

use super::{MediaLines, attribute, fmtp_value, split};
use crate::error::IngestError;
use crate::limits;
use crate::media::{RtpCodec, RtpFormat, RtpSection};

/// Which side opens the DTLS handshake (RFC 8842 §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DtlsRole {
    /// We do: `a=setup:active`.
    Active,
    /// The publisher does: `a=setup:passive`.
    Passive,
}

/// A checked offer to publish.
///
/// Invariant: it has at least one section that sends a codec Loom knows, and each of those has what ICE and DTLS need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offer {
    /// What the publisher sends, with our choice of its codecs.
    pub(crate) sections: Vec<RtpSection>,
    /// All its sections, in order.
    pub(crate) outline: Vec<OfferedSection>,
    pub(crate) role: DtlsRole,
    /// The publisher's ICE password.
    pub(crate) ice_password: String,
    /// The offer as the WebRTC stack gets it: accepted sections only, of each only the codecs that we take, without
    /// retransmission and repair streams, simulcast, and candidates.
    pub(crate) reduced: String,
}

/// A section of an offer, as an answer must mirror it (RFC 8829 §5.3.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OfferedSection {
    pub(crate) media: String,
    pub(crate) protocol: String,
    /// Its formats, for a section that is refused.
    pub(crate) formats: String,
    pub(crate) mid: Option<String>,
    /// Where it is in [`Offer::sections`]; `None` for a refused one.
    pub(crate) accepted: Option<usize>,
}

impl Offer {
    /// Checks an offer and reduces it to what we take.
    ///
    /// # Errors
    /// [`IngestError::OfferTooLarge`], [`IngestError::NotSdp`], [`IngestError::NoMedia`],
    /// [`IngestError::UnknownCodecs`] or [`IngestError::BadOffer`], each with what is wrong in words.
    pub(crate) fn parse(text: &str) -> Result<Self, IngestError> {
        if text.len() > limits::OFFER_BYTES {
            return Err(IngestError::OfferTooLarge {
                bytes: text.len(),
                limit: limits::OFFER_BYTES,
            });
        }
        check_lines(text)?;
        let (session, sections) = split(text.lines().filter(|line| !line.is_empty()));
        if sections.len() > limits::OFFER_SECTIONS {
            return Err(bad(format!(
                "{} media sections; at most {} are taken",
                sections.len(),
                limits::OFFER_SECTIONS
            )));
        }
        let mut accepted = Vec::new();
        let mut outline = Vec::new();
        let mut kept = Vec::new();
        let mut unknown = Vec::new();
        for section in &sections {
            let taken = if sends_media(section, &session) {
                accept(section, &mut unknown)?
            } else {
                None
            };
            outline.push(OfferedSection {
                media: section.media.to_owned(),
                protocol: section.protocol.to_owned(),
                formats: section.formats.join(" "),
                mid: section.attribute("mid").map(str::to_owned),
                accepted: taken.is_some().then_some(accepted.len()),
            });
            if let Some(taken) = taken {
                check_transport(section, &session)?;
                kept.push((section, taken.clone()));
                accepted.push(taken);
            }
        }
        if accepted.is_empty() {
            return Err(refusal(&sections, unknown));
        }
        let ice_password = kept.iter().find_map(|(section, _)| section.attribute("ice-pwd"));
        let ice_password =
            ice_password.or_else(|| session.iter().find_map(|line| attribute(line, "ice-pwd")));
        let ice_password = ice_password.unwrap_or_default().to_owned();
        let mut mids = HashSet::new();
        if let Some(twice) = accepted.iter().find(|section| !mids.insert(&section.mid)) {
            return Err(bad(format!(
                "two media sections have the mid {:?} (RFC 5888 §4)",
                twice.mid
            )));
        }
        Ok(Self {
            ice_password,
            role: role(&sections, &session),
            reduced: reduce(&session, &kept),
            sections: accepted,
            outline,
        })
    }
}

fn bad(why: String) -> IngestError {
    IngestError::BadOffer { why }
}

fn check_lines(text: &str) -> Result<(), IngestError> {
    let not_sdp = |line: usize, why: &str| IngestError::NotSdp {
        line,
        why: why.to_owned(),
    };
    if text.trim().is_empty() {
        return Err(not_sdp(1, "it is empty"));
    }
    for (at, line) in text.lines().enumerate() {
        let number = at + 1;
        if line.len() > limits::OFFER_LINE_BYTES {
            return Err(not_sdp(number, "the line is too long"));
        }
        if at == 0 && line != "v=0" {
            return Err(not_sdp(number, "the first line must be \"v=0\""));
        }
        let is_field = matches!(line.as_bytes(), [kind, b'=', ..] if kind.is_ascii_lowercase());
        if !line.is_empty() && !is_field {
            return Err(not_sdp(number, "a line is a letter, \"=\" and a value"));
        }
    }
    Ok(())
}

/// Whether the section is audio or video that the publisher sends, over DTLS-SRTP.
fn sends_media(section: &MediaLines<'_>, session: &[&str]) -> bool {
    let has = |name: &str| section.attribute(name).is_some();
    let receives_only = if has("sendonly") || has("sendrecv") {
        false
    } else {
        has("recvonly")
            || has("inactive")
            || session
                .iter()
                .any(|line| matches!(*line, "a=recvonly" | "a=inactive"))
    };
    matches!(section.media, "audio" | "video")
        && section.protocol.ends_with("TLS/RTP/SAVPF")
        && !receives_only
}

fn accept(section: &MediaLines<'_>, unknown: &mut Vec<String>) -> Result<Option<RtpSection>, IngestError> {
    let kind = if section.media == "audio" {
        MediaKind::Audio
    } else {
        MediaKind::Video
    };
    let mut formats = Vec::new();
    for format in section.formats.iter().take(limits::SECTION_CODECS) {
        let Ok(payload_type) = format.parse::<u8>() else {
            return Err(bad(format!(
                "{format:?} in \"m={}\" is no payload type (RFC 8866 §5.14)",
                section.media
            )));
        };
        let about = |name: &str| {
            section
                .lines
                .iter()
                .filter_map(|line| attribute(line, name))
                .find_map(|value| {
                    let (number, rest) = value.split_once(' ')?;
                    (number.parse() == Ok(payload_type)).then_some(rest.trim())
                })
        };
        let name = about("rtpmap")
            .and_then(|map| map.split('/').next())
            .unwrap_or(format);
        let parameters = about("fmtp").unwrap_or_default();
        match RtpCodec::from_name(name).filter(|codec| codec.kind() == kind) {
            Some(codec) if is_usable(codec, parameters) => {
                formats.push(RtpFormat {
                    payload_type,
                    codec,
                    parameters: parameters.to_owned(),
                });
            }
            _ if !unknown.iter().any(|known| known == name) => unknown.push(name.to_owned()),
            _ => {}
        }
    }
    if formats.is_empty() {
        return Ok(None);
    }
    formats.sort_by_key(preference);
    let Some(mid) = section.attribute("mid").filter(|mid| !mid.is_empty()) else {
        return Err(bad(format!(
            "the {} section has no \"a=mid\" (RFC 8829 §5.2.1)",
            section.media
        )));
    };
    let repair = repair_sources(section);
    let mut sources = Vec::new();
    for source in section.lines.iter().filter_map(|line| source_of(line)) {
        if !repair.contains(&source) && !sources.contains(&source) && sources.len() < limits::SECTION_SOURCES
        {
            sources.push(source);
        }
    }
    Ok(Some(RtpSection {
        kind,
        mid: mid.to_owned(),
        formats,
        sources,
        layers: Vec::new(),
        stream: None,
    }))
}

/// H.264 in 4:2:0 with 8 bits, VP9 likewise: what every player decodes.
fn is_usable(codec: RtpCodec, parameters: &str) -> bool {
    match codec {
        RtpCodec::H264 => {
            let profile = fmtp_value(parameters, "profile-level-id").and_then(|id| id.get(..2));
            let mode = fmtp_value(parameters, "packetization-mode").unwrap_or("0");
            // 42, 4d, 58 and 64 are Baseline, Main, Extended and High (ISO/IEC 14496-10 Annex A.2)
            let usual = ["42", "4d", "58", "64"];
            profile.is_none_or(|profile| usual.iter().any(|it| it.eq_ignore_ascii_case(profile)))
                && matches!(mode, "0" | "1")
        }
        RtpCodec::Vp9 => fmtp_value(parameters, "profile-id").is_none_or(|profile| profile == "0"),
        RtpCodec::Av1 => fmtp_value(parameters, "profile").is_none_or(|profile| profile == "0"),
        RtpCodec::Vp8 | RtpCodec::Opus => true,
    }
}

/// Lower is better: H.264 first, because it can be kept as it is; of it, packetization mode 1, then the richer profile.
fn preference(format: &RtpFormat) -> (u8, u8, u8) {
    let codec = match format.codec {
        RtpCodec::H264 | RtpCodec::Opus => 0,
        RtpCodec::Vp8 => 1,
        RtpCodec::Vp9 => 2,
        RtpCodec::Av1 => 3,
    };
    let mode = u8::from(fmtp_value(&format.parameters, "packetization-mode") != Some("1"));
    // Constrained Baseline first: every sender has an encoder for it, while a High one may be hardware that is not there
    let profile = match fmtp_value(&format.parameters, "profile-level-id").and_then(|id| id.get(..4)) {
        Some(id) if id.eq_ignore_ascii_case("42e0") => 0,
        Some(id) if id.starts_with("42") => 1,
        _ => 2,
    };
    (codec, mode, profile)
}

/// The sources of retransmission and repair streams: all but the first of their groups (RFC 5576 §4.2, RFC 8627 §5.1.2).
fn repair_sources(section: &MediaLines<'_>) -> HashSet<u32> {
    let groups = section
        .lines
        .iter()
        .filter_map(|line| attribute(line, "ssrc-group"));
    groups
        .filter(|group| group.starts_with("FID ") || group.starts_with("FEC"))
        .flat_map(|group| group.split_ascii_whitespace().skip(2))
        .filter_map(|source| source.parse().ok())
        .collect()
}

fn source_of(line: &str) -> Option<u32> {
    attribute(line, "ssrc")?
        .split_ascii_whitespace()
        .next()?
        .parse()
        .ok()
}

fn check_transport(section: &MediaLines<'_>, session: &[&str]) -> Result<(), IngestError> {
    for (name, clause) in [
        ("ice-ufrag", "RFC 8839 §5.4"),
        ("ice-pwd", "RFC 8839 §5.4"),
        ("fingerprint", "RFC 8122 §5"),
    ] {
        let there =
            section.attribute(name).is_some() || session.iter().any(|line| attribute(line, name).is_some());
        if !there {
            return Err(bad(format!(
                "the {} section has no \"a={name}\" ({clause})",
                section.media
            )));
        }
    }
    Ok(())
}

fn role(sections: &[MediaLines<'_>], session: &[&str]) -> DtlsRole {
    let setup = sections
        .iter()
        .find_map(|section| section.attribute("setup"))
        .or_else(|| session.iter().find_map(|line| attribute(line, "setup")));
    // Passive wherever the offer allows it: then the handshake ends here first, and no media comes before it can be decrypted.
    if setup == Some("passive") {
        DtlsRole::Active
    } else {
        DtlsRole::Passive
    }
}

/// Why an offer of which nothing is accepted is refused.
fn refusal(sections: &[MediaLines<'_>], unknown: Vec<String>) -> IngestError {
    let media = |section: &&MediaLines<'_>| matches!(section.media, "audio" | "video");
    if !unknown.is_empty() {
        return IngestError::UnknownCodecs { offered: unknown };
    }
    let why = match sections.iter().find(media) {
        None if sections.is_empty() => "it has no media section",
        None => "it has no audio and no video section",
        Some(section) if !section.protocol.ends_with("TLS/RTP/SAVPF") => {
            "its media does not go over DTLS-SRTP"
        }
        Some(section) if section.formats.is_empty() => "its media sections name no codec",
        Some(_) => "its media sections only receive",
    };
    IngestError::NoMedia { why }
}

/// The text of the offer with what we do not take left out.
fn reduce(session: &[&str], kept: &[(&MediaLines<'_>, RtpSection)]) -> String {
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

#[cfg(test)]
mod tests;
