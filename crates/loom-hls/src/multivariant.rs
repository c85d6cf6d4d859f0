//! The multivariant playlist (RFC 8216bis §4.4.6).

use std::fmt::Write as _;

use loom_core::{AudioCodec, CodecParameters};

use crate::address;
use crate::config::{RenditionInfo, RenditionKind, SoundListing};
use crate::rendition::Measured;

/// A rendition as the multivariant playlist sees it.
#[derive(Debug)]
pub(crate) struct Member<'a> {
    pub(crate) info: &'a RenditionInfo,
    pub(crate) codec: Option<&'a CodecParameters>,
    /// What it turned out to need, once it is complete.
    pub(crate) measured: Option<Measured>,
}

/// Renditions of sound with one codec: `EXT-X-MEDIA` of one `GROUP-ID`.
struct Group<'a> {
    id: &'static str,
    members: Vec<&'a Member<'a>>,
}

pub(crate) fn write(members: &[Member<'_>], sound: SoundListing, independent: bool) -> String {
    let mut out = String::from("#EXTM3U\n#EXT-X-VERSION:9\n");
    if independent {
        out.push_str("#EXT-X-INDEPENDENT-SEGMENTS\n");
    }
    let of = |wanted: fn(&RenditionKind) -> bool| members.iter().filter(move |m| wanted(&m.info.kind));
    let mut videos: Vec<&Member<'_>> = of(|k| matches!(k, RenditionKind::Video { .. })).collect();
    let sounds: Vec<&Member<'_>> = of(|k| matches!(k, RenditionKind::Audio { .. })).collect();
    let texts: Vec<&Member<'_>> = of(|k| matches!(k, RenditionKind::Subtitles { .. })).collect();
    // AAC first: every player has it, and a player takes the first variant that it can play
    let mut groups: Vec<Group<'_>> = [("aac", AudioCodec::Aac), ("opus", AudioCodec::Opus)]
        .into_iter()
        .map(|(id, codec)| Group {
            id,
            members: sounds
                .iter()
                .copied()
                .filter(|m| audio_codec(m) == Some(codec))
                .collect(),
        })
        .filter(|group| !group.members.is_empty())
        .collect();
    if sound == SoundListing::Preferred {
        groups.truncate(1);
    }
    if !videos.is_empty() {
        for group in &groups {
            for (at, member) in group.members.iter().enumerate() {
                write_sound(&mut out, group.id, member, at == 0);
            }
        }
    }
    for (at, member) in texts.iter().enumerate() {
        write_text(&mut out, member, at == 0);
    }
    let subtitles = !texts.is_empty();
    // the first variant is where players start that know nothing else (RFC 8216bis §6.3.1): the best not above 720 lines
    videos.sort_by_key(|m| std::cmp::Reverse(size(m)));
    if let Some(start) = videos.iter().position(|m| size(m).0.min(size(m).1) <= 720) {
        videos[..=start].rotate_right(1);
    }
    match groups.first() {
        _ if videos.is_empty() => {
            for member in groups.iter().flat_map(|group| &group.members) {
                write_variant(&mut out, None, &[member], None, subtitles);
            }
        }
        None => {
            for video in &videos {
                write_variant(&mut out, Some(video), &[], None, subtitles);
            }
        }
        Some(_) => {
            for group in &groups {
                for video in &videos {
                    write_variant(&mut out, Some(video), &group.members, Some(group.id), subtitles);
                }
            }
        }
    }
    out
}

fn write_sound(out: &mut String, group: &str, member: &Member<'_>, default: bool) {
    let RenditionKind::Audio {
        name,
        language,
        channels,
    } = &member.info.kind
    else {
        return;
    };
    let channels = match member.codec {
        Some(CodecParameters::Audio(it)) => it.channels,
        _ => *channels,
    };
    let _ = write!(
        out,
        "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"{group}\",NAME=\"{}\"",
        quoted(name)
    );
    if let Some(language) = language {
        let _ = write!(out, ",LANGUAGE=\"{}\"", quoted(language));
    }
    let _ = writeln!(
        out,
        ",DEFAULT={},AUTOSELECT=YES,CHANNELS=\"{channels}\",URI=\"{}\"",
        if default { "YES" } else { "NO" },
        address::playlist(&member.info.id)
    );
}

fn write_text(out: &mut String, member: &Member<'_>, default: bool) {
    let RenditionKind::Subtitles { name, language } = &member.info.kind else {
        return;
    };
    let _ = writeln!(
        out,
        "#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID=\"{SUBTITLES}\",NAME=\"{}\",LANGUAGE=\"{}\",DEFAULT={},AUTOSELECT=YES,FORCED=NO,\
         CHARACTERISTICS=\"public.accessibility.transcribes-spoken-dialog\",URI=\"{}\"",
        quoted(name),
        quoted(language),
        if default { "YES" } else { "NO" },
        address::playlist(&member.info.id)
    );
}

/// One `EXT-X-STREAM-INF` and its URI. `sounds` are the ones that may play beside the pictures, or the one that plays alone.
fn write_variant(
    out: &mut String,
    video: Option<&Member<'_>>,
    sounds: &[&Member<'_>],
    group: Option<&str>,
    text: bool,
) {
    let mut codecs: Vec<String> = Vec::new();
    for codec in video
        .into_iter()
        .chain(sounds.iter().copied())
        .filter_map(|m| m.codec)
    {
        let codec = codec.rfc6381();
        if !codecs.contains(&codec) {
            codecs.push(codec);
        }
    }
    let sound = sounds.iter().max_by_key(|m| peak(m));
    let all = || video.into_iter().chain(sound.copied());
    let _ = write!(
        out,
        "#EXT-X-STREAM-INF:BANDWIDTH={}",
        all().map(peak).sum::<u64>().max(1)
    );
    let average: Option<u64> = all().map(average).sum();
    if let Some(average) = average {
        let _ = write!(out, ",AVERAGE-BANDWIDTH={average}");
    }
    let _ = write!(out, ",CODECS=\"{}\"", codecs.join(","));
    if let Some(video) = video {
        let (height, width) = size(video);
        let _ = write!(out, ",RESOLUTION={width}x{height}");
        if let RenditionKind::Video { frame_rate, .. } = video.info.kind
            && frame_rate.is_finite()
            && frame_rate > 0.0
        {
            let _ = write!(out, ",FRAME-RATE={frame_rate:.3}");
        }
    }
    if let Some(group) = group {
        let _ = write!(out, ",AUDIO=\"{group}\"");
    }
    if text {
        let _ = write!(out, ",SUBTITLES=\"{SUBTITLES}\"");
    }
    if video.is_some() {
        out.push_str(",CLOSED-CAPTIONS=NONE");
    }
    let named = video.or(sounds.first().copied());
    let uri = named.map(|m| address::playlist(&m.info.id)).unwrap_or_default();
    let _ = writeln!(out, "\n{uri}");
}

fn peak(member: &Member<'_>) -> u64 {
    let measured = member.measured.map_or(0, |m| m.peak.ceil() as u64);
    u64::from(member.info.bandwidth).max(measured)
}

fn average(member: &Member<'_>) -> Option<u64> {
    let measured = member.measured.filter(|m| m.seconds > 0.0)?;
    Some(((measured.bytes as f64 * 8.0 / measured.seconds).ceil() as u64).max(1))
}

/// Height and width, in this order so that taller sorts higher.
fn size(member: &Member<'_>) -> (u32, u32) {
    match (member.codec, &member.info.kind) {
        (Some(CodecParameters::Video(it)), _) => (it.height, it.width),
        (_, RenditionKind::Video { width, height, .. }) => (*height, *width),
        _ => (0, 0),
    }
}

fn audio_codec(member: &Member<'_>) -> Option<AudioCodec> {
    match member.codec {
        Some(CodecParameters::Audio(it)) => Some(it.codec),
        _ => None,
    }
}

/// The text of a quoted-string, which can hold neither quotes nor line ends (RFC 8216bis §4.2).
pub(crate) fn quoted(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() && *c != '"').collect()
}

const SUBTITLES: &str = "subs";
