//! Which of a section's codecs are taken, in which order, and with which feedback.

use std::collections::HashSet;

use loom_core::{MediaKind, VideoCodec};

use super::{MediaLines, attribute, bad, fmtp_value};
use crate::error::IngestError;
use crate::limits;
use crate::media::{RetransmissionConfig, RtpCodec, RtpFormat};

/// A kind of RTCP feedback that we send where the offer names it for a payload type (RFC 4585 §4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Feedback {
    /// Generic negative acknowledgement (RFC 4585 §6.2.1).
    Nack,
    /// Picture loss indication (RFC 4585 §6.3.1).
    PictureLoss,
    /// Full intra request (RFC 5104 §4.3.1).
    /// draft-holmer-rmcat-transport-wide-cc-extensions-01 §2.
    TransportWide,
}

impl Feedback {
    const ALL: [Self; 3] = [Self::TransportWide, Self::Nack, Self::PictureLoss];

    /// As `a=rtcp-fb` writes it.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Nack => "nack",
            Self::PictureLoss => "nack pli",
            Self::TransportWide => "transport-cc",
        }
    }
}

/// The codecs of a section that are taken, of pictures those in `video`, in our order of preference; the names of the others go into
/// `unknown`.
pub(super) fn formats(
    section: &MediaLines<'_>,
    kind: MediaKind,
    video: &[VideoCodec],
    unknown: &mut Vec<String>,
) -> Result<Vec<RtpFormat>, IngestError> {
    let mut formats = Vec::new();
    let mut seen = HashSet::new();
    for format in section.formats.iter().take(limits::SECTION_CODECS) {
        let Some(payload_type) = format.parse::<u8>().ok().filter(|number| *number < 128) else {
            return Err(bad(format!(
                "{format:?} in \"m={}\" is no payload type (RFC 8866 §5.14)",
                section.media
            )));
        };
        if !seen.insert(payload_type) {
            return Err(bad(format!(
                "\"m={}\" names payload type {payload_type} twice (RFC 8866 §5.14)",
                section.media
            )));
        }
        let name = about(section, "rtpmap", payload_type)
            .and_then(|map| map.split('/').next())
            .unwrap_or(format);
        let parameters = about(section, "fmtp", payload_type).unwrap_or_default();
        let is_taken = |codec: &RtpCodec| codec.video().is_none_or(|it| video.contains(&it));
        let known = RtpCodec::from_name(name).filter(|codec| codec.kind() == kind);
        match known.filter(is_taken) {
            Some(codec) if is_usable(codec, parameters) => formats.push(RtpFormat {
                payload_type,
                codec,
                parameters: parameters.to_owned(),
            }),
            _ if !unknown.iter().any(|known| known == name) => unknown.push(name.to_owned()),
            _ => {}
        }
    }
    formats.sort_by_key(preference);
    Ok(formats)
}

/// The feedback that the section asks for with a payload type, or with all (`*`), of the kinds that we send.
pub(super) fn feedback(section: &MediaLines<'_>, payload_type: u8) -> Vec<Feedback> {
    let asked: Vec<&str> = section
        .lines
        .iter()
        .filter_map(|line| attribute(line, "rtcp-fb")?.split_once(' '))
        .filter(|(about, _)| *about == "*" || about.parse() == Ok(payload_type))
        .map(|(_, what)| what.trim())
        .collect();
    let mut agreed = Feedback::ALL.to_vec();
    agreed.retain(|kind| asked.contains(&kind.text()));
    agreed
}

/// The value of the first `a=name:<payload type> value`.
fn about<'a>(section: &MediaLines<'a>, name: &str, payload_type: u8) -> Option<&'a str> {
    let mut values = section.lines.iter().filter_map(|line| attribute(line, name));
    values.find_map(|value| {
        let (number, rest) = value.split_once(' ')?;
        (number.parse() == Ok(payload_type)).then_some(rest.trim())
    })
}

/// How the section sends again what is missing of those of its payload types of which that may be asked (RFC 4588 §8).
pub(super) fn retransmission(
    section: &MediaLines<'_>,
    agreed: &[(u8, Vec<Feedback>)],
) -> RetransmissionConfig {
    let formats = section.formats.iter().take(limits::SECTION_CODECS);
    let formats = formats.filter_map(|format| {
        let carrier = format.parse::<u8>().ok().filter(|number| *number < 128)?;
        let name = about(section, "rtpmap", carrier)?.split('/').next()?;
        let of = fmtp_value(about(section, "fmtp", carrier)?, "apt")?
            .parse()
            .ok()?;
        let asked = agreed
            .iter()
            .any(|(number, kinds)| *number == of && kinds.contains(&Feedback::Nack));
        (name.eq_ignore_ascii_case("rtx") && asked).then_some((carrier, of))
    });
    let groups = section
        .lines
        .iter()
        .filter_map(|line| attribute(line, "ssrc-group")?.strip_prefix("FID "));
    let streams = groups.filter_map(|group| {
        let mut sources = group.split_ascii_whitespace().map(str::parse);
        match (sources.next(), sources.next(), sources.next()) {
            (Some(Ok(media)), Some(Ok(carrier)), None) => Some((carrier, media)),
            _ => None,
        }
    });
    RetransmissionConfig {
        formats: formats.collect(),
        streams: streams.take(limits::SECTION_SOURCES).collect(),
    }
}

/// A stream of repair packets (draft-ietf-payload-flexible-fec-scheme-03) and the one that it protects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RepairStream {
    pub(crate) payload_type: u8,
    /// Its synchronization source.
    pub(crate) source: u32,
    /// The source of the media.
    pub(crate) protects: u32,
    /// Its `a=fmtp`: how far back its packets reach.
    pub(crate) parameters: String,
    /// Whether its packets count in transport-wide feedback.
    pub(crate) transport_wide: bool,
}

/// The repair streams of a section whose format is `flexfec-03` and that say which source they protect
/// (`a=ssrc-group:FEC-FR`, RFC 5956 §4.3).
pub(super) fn repairs(section: &MediaLines<'_>) -> Vec<RepairStream> {
    let format = section
        .formats
        .iter()
        .take(limits::SECTION_CODECS)
        .find_map(|format| {
            let payload_type = format.parse::<u8>().ok().filter(|number| *number < 128)?;
            let map = about(section, "rtpmap", payload_type)?;
            map.eq_ignore_ascii_case("flexfec-03/90000")
                .then_some(payload_type)
        });
    let Some(payload_type) = format else {
        return Vec::new();
    };
    let groups = section
        .lines
        .iter()
        .filter_map(|line| attribute(line, "ssrc-group")?.strip_prefix("FEC-FR "));
    let streams = groups.filter_map(|group| {
        let mut sources = group.split_ascii_whitespace().map(str::parse);
        let (Some(Ok(protects)), Some(Ok(source)), None) = (sources.next(), sources.next(), sources.next())
        else {
            return None;
        };
        Some(RepairStream {
            payload_type,
            source,
            protects,
            parameters: about(section, "fmtp", payload_type)
                .unwrap_or_default()
                .to_owned(),
            transport_wide: feedback(section, payload_type).contains(&Feedback::TransportWide),
        })
    });
    streams.take(limits::SECTION_REPAIRS).collect()
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
pub(super) fn repair_sources(section: &MediaLines<'_>) -> HashSet<u32> {
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

pub(super) fn source_of(line: &str) -> Option<u32> {
    attribute(line, "ssrc")?
        .split_ascii_whitespace()
        .next()?
        .parse()
        .ok()
}
