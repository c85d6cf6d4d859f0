use std::collections::HashMap;

use loom_core::{MediaKind, VideoCodec};

use super::extensions::{AgreedExtension, ExtensionReader, Extensions, Uses};
use super::formats::{
    Feedback, RepairStream, feedback, formats, repair_sources, repairs, retransmission, source_of,
};
use super::layers::Simulcast;
use super::transport::{DtlsRole, Fingerprint, RemoteIce, Transport};
use super::{MediaLines, attribute, bad, split};
use crate::error::IngestError;
use crate::limits;
use crate::media::{RetransmissionConfig, RtpCodec, RtpSection};

/// A checked offer to publish.
///
/// Invariant: it has at least one section that sends a codec Loom knows; those that it has share one transport, of which
/// all that ICE and DTLS need is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offer {
    /// What the publisher sends, with our choice of its codecs.
    pub(crate) sections: Vec<RtpSection>,
    /// All its sections, in order.
    pub(crate) outline: Vec<OfferedSection>,
    pub(crate) role: DtlsRole,
    pub(crate) ice: RemoteIce,
    /// At least one; the publisher's certificate must match one of them.
    pub(crate) fingerprints: Vec<Fingerprint>,
    /// The header extensions that the answer agrees to.
    pub(crate) extensions: Extensions,
    /// The accepted sections by name in the order of their BUNDLE group; empty without a group.
    pub(crate) bundle: Vec<String>,
    /// Whether the session as a whole allows one-byte and two-byte header extensions side by side (RFC 8285 §6).
    pub(super) allows_mixed: bool,
}

/// A section of an offer, as an answer must mirror it (RFC 9429 §5.3.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OfferedSection {
    pub(crate) media: String,
    pub(crate) protocol: String,
    /// Its formats, for a section that is refused.
    pub(crate) formats: String,
    pub(crate) mid: Option<String>,
    /// What is agreed; `None` for a refused one.
    pub(crate) accepted: Option<Terms>,
}

/// What is agreed for an accepted section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Terms {
    /// Where it is in [`Offer::sections`].
    pub(crate) section: usize,
    /// Of each payload type that is taken.
    pub(crate) feedback: Vec<(u8, Vec<Feedback>)>,
    /// RTCP packets may be no compound ones (RFC 5506 §5).
    pub(crate) reduced_size: bool,
    pub(crate) simulcast: Simulcast,
    /// Streams that repair others of the section, all of one payload type.
    pub(crate) repairs: Vec<RepairStream>,
    /// How what is missing of it is sent again.
    pub(crate) retransmission: RetransmissionConfig,
    pub(super) extensions: Vec<AgreedExtension>,
    pub(super) allows_mixed: bool,
}

impl Terms {
    pub(crate) fn feedback_of(&self, payload_type: u8) -> &[Feedback] {
        let mut all = self.feedback.iter();
        all.find(|(number, _)| *number == payload_type)
            .map_or(&[], |(_, feedback)| feedback)
    }
}

impl Offer {
    /// As [`Self::parse_for`], with every codec that there is.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn parse(text: &str) -> Result<Self, IngestError> {
        Self::parse_for(text, &crate::IngestConfig::default().video)
    }

    /// Checks an offer and takes of it what we can, of pictures those in `video`.
    ///
    /// # Errors
    /// [`IngestError::OfferTooLarge`], [`IngestError::NotSdp`], [`IngestError::NoMedia`],
    /// [`IngestError::UnknownCodecs`] or [`IngestError::BadOffer`], each with what is wrong in words.
    pub(crate) fn parse_for(text: &str, video: &[VideoCodec]) -> Result<Self, IngestError> {
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
        check_names(&sections)?;
        let mut outline = Vec::new();
        let mut kept = Vec::new();
        let mut unknown = Vec::new();
        let mut is_whole = true;
        let mut extensions = ExtensionReader::default();
        for section in &sections {
            let mut accepted = None;
            if sends_media(section, &session) {
                let others = unknown.len();
                let taken = accept(section, &session, video, &mut unknown, &mut extensions)?;
                if let Some((taken, mut terms)) = taken {
                    terms.section = kept.len();
                    accepted = Some(terms);
                    kept.push((section, taken));
                    unknown.truncate(others);
                } else {
                    is_whole = false;
                }
            }
            outline.push(OfferedSection {
                media: section.media.to_owned(),
                protocol: section.protocol.to_owned(),
                formats: section.formats.join(" "),
                mid: section.attribute("mid").map(str::to_owned),
                accepted,
            });
        }
        // RFC 9725 §4.4.3: half of what is sent is not recorded without a word
        if kept.is_empty() || !is_whole {
            return Err(refusal(&sections, video, unknown));
        }
        check_together(&kept, &outline)?;
        let named: Vec<(&MediaLines<'_>, &str)> = kept
            .iter()
            .map(|(lines, taken)| (*lines, taken.mid.as_str()))
            .collect();
        let transport = Transport::of(&session, &sections, &named)?;
        Ok(Self {
            role: transport.role,
            ice: transport.ice,
            fingerprints: transport.fingerprints,
            extensions: extensions.agreed(),
            bundle: transport.bundle,
            allows_mixed: session
                .iter()
                .any(|line| attribute(line, "extmap-allow-mixed").is_some()),
            sections: kept.into_iter().map(|(_, taken)| taken).collect(),
            outline,
        })
    }

    /// The repair streams that the answer agrees to.
    pub(crate) fn repairs(&self) -> impl Iterator<Item = &RepairStream> {
        let terms = self.outline.iter().filter_map(|it| it.accepted.as_ref());
        terms.flat_map(|terms| &terms.repairs)
    }

    /// How all sections send again what is missing. Payload types mean the same in all of them.
    pub(crate) fn retransmission(&self) -> RetransmissionConfig {
        let mut all = RetransmissionConfig::default();
        for terms in self.outline.iter().filter_map(|it| it.accepted.as_ref()) {
            for format in &terms.retransmission.formats {
                if !all.formats.contains(format) {
                    all.formats.push(*format);
                }
            }
            all.streams.extend(&terms.retransmission.streams);
        }
        all
    }

    /// Whether the answer agrees to feedback of a kind for a payload type. Payload types mean the same in all sections.
    pub(crate) fn agrees(&self, payload_type: u8, kind: Feedback) -> bool {
        let mut terms = self.outline.iter().filter_map(|it| it.accepted.as_ref());
        terms.any(|terms| terms.feedback_of(payload_type).contains(&kind))
    }
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
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let is_media = match fields.as_slice() {
            [media, port, _, _, ..] => {
                let number = port.split('/').next().unwrap_or_default();
                is_token(media.trim_start_matches("m=")) && number.parse::<u16>().is_ok()
            }
            _ => false,
        };
        if line.starts_with("m=") && !is_media {
            return Err(not_sdp(
                number,
                "\"m=\" has a kind of media, a port, a protocol and formats",
            ));
        }
        if !line.is_empty() && !is_field {
            return Err(not_sdp(number, "a line is a letter, \"=\" and a value"));
        }
        if line.contains(['\0', '\r']) {
            return Err(not_sdp(number, "a line holds no NUL and no CR"));
        }
    }
    Ok(())
}

/// RFC 8866 §9: `token`.
fn is_token(text: &str) -> bool {
    let is_token_char = |byte: u8| byte.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]".contains(&byte);
    !text.is_empty() && text.bytes().all(is_token_char)
}

/// Names stand in the answer, so those of refused sections count too.
fn check_names(sections: &[MediaLines<'_>]) -> Result<(), IngestError> {
    let mids: Vec<&str> = sections.iter().filter_map(|it| it.attribute("mid")).collect();
    for (at, mid) in mids.iter().enumerate() {
        if mid.len() > limits::NAME_BYTES || !is_token(mid) {
            return Err(bad(format!(
                "the mid {mid:?} is not a token of 1 to {} characters (RFC 5888 §4)",
                limits::NAME_BYTES
            )));
        }
        if mids.get(..at).is_some_and(|before| before.contains(mid)) {
            return Err(bad(format!(
                "two media sections have the mid {mid:?} (RFC 5888 §4)"
            )));
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
        // RFC 3264 §5.1, RFC 9143 §7.2.2
        && (section.port != "0" || has("bundle-only"))
        && !receives_only
}

fn accept<'a>(
    section: &MediaLines<'a>,
    session: &[&'a str],
    video: &[VideoCodec],
    unknown: &mut Vec<String>,
    extensions: &mut ExtensionReader<'a>,
) -> Result<Option<(RtpSection, Terms)>, IngestError> {
    let kind = if section.media == "audio" {
        MediaKind::Audio
    } else {
        MediaKind::Video
    };
    let formats = formats(section, kind, video, unknown)?;
    if formats.is_empty() {
        return Ok(None);
    }
    let Some(mid) = section.attribute("mid") else {
        return Err(bad(format!(
            "the {} section has no \"a=mid\" (RFC 9429 §5.2.1)",
            section.media
        )));
    };
    let simulcast = match kind {
        MediaKind::Video => Simulcast::of(section, &formats)?,
        MediaKind::Audio => Simulcast::Off,
    };
    let repairs = match kind {
        MediaKind::Video => repairs(section),
        MediaKind::Audio => Vec::new(),
    };
    let feedback: Vec<_> = formats
        .iter()
        .map(|format| (format.payload_type, feedback(section, format.payload_type)))
        .collect();
    let uses = Uses {
        layers: matches!(simulcast, Simulcast::ByName(_)),
        sound: kind == MediaKind::Audio,
        transport_wide: feedback
            .iter()
            .any(|(_, kinds)| kinds.contains(&Feedback::TransportWide)),
    };
    let (layers, sources) = match &simulcast {
        Simulcast::Off => (Vec::new(), sources(section)),
        // the packets carry the names; a declared source does not tell which of several layers it is
        Simulcast::ByName(layers) => {
            let names: Vec<String> = layers.iter().map(|layer| layer.name.clone()).collect();
            let alone = names.len() == 1;
            (names, if alone { sources(section) } else { Vec::new() })
        }
        Simulcast::BySource(sources) => (
            (0..sources.len()).map(|at| at.to_string()).collect(),
            sources.clone(),
        ),
    };
    let terms = Terms {
        section: 0,
        reduced_size: section.attribute("rtcp-rsize").is_some(),
        allows_mixed: section.attribute("extmap-allow-mixed").is_some(),
        extensions: extensions.handle_section(session, section, uses)?,
        retransmission: retransmission(section, &feedback),
        feedback,
        simulcast,
        repairs,
    };
    let taken = RtpSection {
        kind,
        mid: mid.to_owned(),
        formats,
        sources,
        layers,
        stream: stream(section),
    };
    Ok(Some((taken, terms)))
}

/// The synchronization sources that the section declares (RFC 5576 §4.1), without those of retransmission and repair.
fn sources(section: &MediaLines<'_>) -> Vec<u32> {
    let repair = repair_sources(section);
    let mut sources = Vec::new();
    for source in section.lines.iter().filter_map(|line| source_of(line)) {
        if !repair.contains(&source) && !sources.contains(&source) && sources.len() < limits::SECTION_SOURCES
        {
            sources.push(source);
        }
    }
    sources
}

/// The media stream of the section: of `a=msid` (RFC 8830 §2), else of a source's `msid` (RFC 5576 §4.1). `-` is none.
fn stream(section: &MediaLines<'_>) -> Option<String> {
    let of_source = || {
        let mut sources = section.lines.iter().filter_map(|line| attribute(line, "ssrc"));
        sources.find_map(|value| value.split_once(' ')?.1.strip_prefix("msid:"))
    };
    let name = section
        .attribute("msid")
        .or_else(of_source)?
        .split_ascii_whitespace()
        .next()?;
    (name != "-" && name.len() <= limits::NAME_BYTES).then(|| name.to_owned())
}

/// What the accepted sections must have in common, and how many tracks they make.
fn check_together(
    kept: &[(&MediaLines<'_>, RtpSection)],
    outline: &[OfferedSection],
) -> Result<(), IngestError> {
    let mut codecs = HashMap::new();
    for format in kept.iter().flat_map(|(_, section)| &section.formats) {
        let before = codecs.entry(format.payload_type).or_insert(format.codec);
        if *before != format.codec {
            return Err(bad(format!(
                "payload type {} is {} in one section and {} in another (RFC 9143 §9.1.1)",
                format.payload_type,
                before.name(),
                format.codec.name()
            )));
        }
    }
    let tracks: usize = outline
        .iter()
        .filter_map(|section| section.accepted.as_ref())
        .map(|terms| terms.simulcast.count().max(1))
        .sum();
    if tracks > limits::SESSION_TRACKS {
        return Err(bad(format!(
            "it makes {tracks} tracks, counting simulcast layers; at most {} are taken",
            limits::SESSION_TRACKS
        )));
    }
    Ok(())
}

/// Why an offer of which nothing, or not all that it sends, is accepted is refused.
fn refusal(sections: &[MediaLines<'_>], video: &[VideoCodec], unknown: Vec<String>) -> IngestError {
    let media = |section: &&MediaLines<'_>| matches!(section.media, "audio" | "video");
    if !unknown.is_empty() {
        let taken = [RtpCodec::H264, RtpCodec::Vp8, RtpCodec::Vp9, RtpCodec::Av1]
            .into_iter()
            .filter(|codec| codec.video().is_some_and(|it| video.contains(&it)));
        return IngestError::UnknownCodecs {
            offered: unknown,
            taken: taken.map(RtpCodec::name).collect(),
        };
    }
    let why = match sections.iter().find(media) {
        None if sections.is_empty() => "it has no media section",
        None => "it has no audio and no video section",
        Some(section) if !section.protocol.ends_with("TLS/RTP/SAVPF") => {
            "its media does not go over DTLS-SRTP"
        }
        Some(section) if section.port == "0" && section.attribute("bundle-only").is_none() => {
            "its media sections are off (port 0)"
        }
        Some(_) => "its media sections only receive",
    };
    IngestError::NoMedia { why }
}

#[cfg(test)]
mod tests;
