//! The multivariant playlist (RFC 8216bis §4.4.6).

use std::fmt::Write as _;

use loom_core::codec::{Colour, VideoRange};
use loom_core::{AudioCodec, CodecParameters, RenditionId};

use crate::address;
use crate::config::{PackagerConfig, RenditionInfo, RenditionKind, SessionData, SessionValue, SoundListing};
use crate::playlist::{self, quoted};
use crate::rendition::Measured;
use crate::steering::Pathway;

/// A rendition as the multivariant playlist sees it.
#[derive(Debug)]
pub(crate) struct Member<'a> {
    pub(crate) info: &'a RenditionInfo,
    pub(crate) codec: Option<&'a CodecParameters>,
    /// More than was planned, where it has been seen to need more: bits a second.
    pub(crate) seen: u64,
    /// What it turned out to need, once it is complete.
    pub(crate) measured: Option<Measured>,
}

/// Renditions of sound with one codec: `EXT-X-MEDIA` of one `GROUP-ID`.
struct Group<'a> {
    id: &'static str,
    members: Vec<&'a Member<'a>>,
}

/// One host's way to all of it: what its `GROUP-ID`s end in, and what stands before its links.
struct Way<'a> {
    pathway: Option<&'a Pathway>,
    first: bool,
}

/// The playlist, and the renditions that it names.
pub(crate) fn write(members: &[Member<'_>], config: &PackagerConfig) -> (String, Vec<RenditionId>) {
    // §8: nothing here needs more than what the media playlists need
    let mut out = String::from("#EXTM3U\n#EXT-X-VERSION:6\n");
    // EXT-X-INDEPENDENT-SEGMENTS stands in the media playlists, where it is true, and so not here (§4.4.2.1)
    if let Some(start) = config.start {
        playlist::write_start(&mut out, start);
    }
    for data in &config.session_data {
        write_session_data(&mut out, data);
    }
    if let Some(first) = config.pathways.first().filter(|_| config.steering) {
        let _ = writeln!(
            out,
            "#EXT-X-CONTENT-STEERING:SERVER-URI=\"{}\",PATHWAY-ID=\"{}\"",
            address::STEERING,
            first.id
        );
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
    if config.sound == SoundListing::Preferred {
        groups.truncate(1);
    }
    let sounds = groups.iter().flat_map(|group| &group.members);
    let named = sounds
        .chain(&texts)
        .chain(&videos)
        .map(|m| m.info.id.clone())
        .collect();
    // the order of quality, the best last: by it SCORE ranks (§4.4.6.2)
    let mut scores = videos.clone();
    scores.sort_by_key(|m| (size(m), m.info.bandwidth));
    let score = |video: &Member<'_>| {
        let place = scores.iter().position(|m| m.info.id == video.info.id);
        place.map(|place| place + 1).filter(|_| scores.len() > 1)
    };
    // the first variant is where players start that know nothing else (§6.3.1): the best not above 720 lines
    videos.sort_by_key(|m| std::cmp::Reverse(size(m)));
    if let Some(start) = videos.iter().position(|m| size(m).0.min(size(m).1) <= 720) {
        videos[..=start].rotate_right(1);
    }
    let ways: Vec<Way<'_>> = match config.pathways.is_empty() {
        true => vec![Way {
            pathway: None,
            first: true,
        }],
        false => (config.pathways.iter().enumerate())
            .map(|(at, pathway)| Way {
                pathway: Some(pathway),
                first: at == 0,
            })
            .collect(),
    };
    for way in &ways {
        if !videos.is_empty() {
            for group in &groups {
                for (at, member) in group.members.iter().enumerate() {
                    write_sound(&mut out, way, group.id, member, at == 0);
                }
            }
        }
        for (at, member) in texts.iter().enumerate() {
            write_text(&mut out, way, member, at == 0);
        }
    }
    for way in &ways {
        let mut variant = |video: Option<&Member<'_>>, sounds: &[&Member<'_>], group: Option<&str>| {
            write_variant(
                &mut out,
                way,
                video,
                sounds,
                group,
                !texts.is_empty(),
                video.and_then(score),
            );
        };
        match groups.first() {
            _ if videos.is_empty() => {
                for member in groups.iter().flat_map(|group| &group.members) {
                    variant(None, &[member], None);
                }
            }
            None => {
                for video in &videos {
                    variant(Some(video), &[], None);
                }
            }
            Some(_) => {
                for group in &groups {
                    for video in &videos {
                        variant(Some(video), &group.members, Some(group.id));
                    }
                }
            }
        }
    }
    for way in &ways {
        for video in videos.iter().filter(|_| config.lists_frames()) {
            write_frames(&mut out, way, video, score(video));
        }
    }
    (out, named)
}

impl Way<'_> {
    fn link(&self, path: &str) -> String {
        let base = self.pathway.and_then(|pathway| pathway.base_url.as_deref());
        format!("{}{path}", base.unwrap_or_default())
    }

    /// A group of this way's own: its members' links are.
    fn group(&self, id: &str) -> String {
        match self.pathway.filter(|_| !self.first) {
            Some(pathway) => format!("{id}.{}", pathway.id),
            None => id.to_owned(),
        }
    }

    fn write_id(&self, out: &mut String) {
        if let Some(pathway) = self.pathway {
            let _ = write!(out, ",PATHWAY-ID=\"{}\"", pathway.id);
        }
    }
}

/// `EXT-X-SESSION-DATA` (§4.4.6.4).
fn write_session_data(out: &mut String, data: &SessionData) {
    let _ = write!(out, "#EXT-X-SESSION-DATA:DATA-ID=\"{}\"", quoted(&data.id));
    let _ = match &data.value {
        SessionValue::Text(text) => write!(out, ",VALUE=\"{}\"", quoted(text)),
        SessionValue::Json(uri) => write!(out, ",URI=\"{}\"", quoted(uri)),
        SessionValue::Raw(uri) => write!(out, ",URI=\"{}\",FORMAT=RAW", quoted(uri)),
    };
    if let Some(language) = &data.language {
        let _ = write!(out, ",LANGUAGE=\"{}\"", quoted(language));
    }
    out.push('\n');
}

fn write_sound(out: &mut String, way: &Way<'_>, group: &str, member: &Member<'_>, default: bool) {
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
        "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"{}\",NAME=\"{}\"",
        way.group(group),
        quoted(name)
    );
    if let Some(language) = language {
        let _ = write!(out, ",LANGUAGE=\"{}\"", quoted(language));
    }
    let _ = writeln!(
        out,
        ",DEFAULT={},AUTOSELECT=YES,CHANNELS=\"{channels}\",STABLE-RENDITION-ID=\"{}\",URI=\"{}\"",
        if default { "YES" } else { "NO" },
        stable(&member.info.id),
        way.link(&address::playlist(&member.info.id))
    );
}

fn write_text(out: &mut String, way: &Way<'_>, member: &Member<'_>, default: bool) {
    let RenditionKind::Subtitles { name, language } = &member.info.kind else {
        return;
    };
    let _ = writeln!(
        out,
        "#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID=\"{}\",NAME=\"{}\",LANGUAGE=\"{}\",DEFAULT={},AUTOSELECT=YES,FORCED=NO,\
         CHARACTERISTICS=\"public.accessibility.transcribes-spoken-dialog\",STABLE-RENDITION-ID=\"{}\",URI=\"{}\"",
        way.group(SUBTITLES),
        quoted(name),
        quoted(language),
        if default { "YES" } else { "NO" },
        stable(&member.info.id),
        way.link(&address::playlist(&member.info.id))
    );
}

/// One `EXT-X-STREAM-INF` and its URI. `sounds` are the ones that may play beside the pictures, or the one that plays alone.
fn write_variant(
    out: &mut String,
    way: &Way<'_>,
    video: Option<&Member<'_>>,
    sounds: &[&Member<'_>],
    group: Option<&str>,
    text: bool,
    score: Option<usize>,
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
    write_score(out, score);
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
        write_range(out, video);
    }
    if let Some(group) = group {
        let _ = write!(out, ",AUDIO=\"{}\"", way.group(group));
    }
    if text {
        let _ = write!(out, ",SUBTITLES=\"{}\"", way.group(SUBTITLES));
    }
    if video.is_some() {
        out.push_str(",CLOSED-CAPTIONS=NONE");
    }
    let named = video.or(sounds.first().copied());
    if let Some(named) = named {
        // one URI, one id (§4.4.6.2), whatever sound it is listed with
        let _ = write!(out, ",STABLE-VARIANT-ID=\"{}\"", stable(&named.info.id));
    }
    way.write_id(out);
    let uri = named.map(|m| way.link(&address::playlist(&m.info.id)));
    let _ = writeln!(out, "\n{}", uri.unwrap_or_default());
}

/// `EXT-X-I-FRAME-STREAM-INF` (§4.4.6.3). While live the pictures' own peak stands for that of their key pictures, which are a part
/// of them.
fn write_frames(out: &mut String, way: &Way<'_>, video: &Member<'_>, score: Option<usize>) {
    let measured = video.measured.as_ref().filter(|m| m.seconds > 0.0);
    let bandwidth = measured.map_or_else(|| peak(video), |m| m.frame_peak.ceil() as u64);
    let _ = write!(out, "#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH={}", bandwidth.max(1));
    if let Some(measured) = measured {
        let average = (measured.frame_bytes as f64 * 8.0 / measured.seconds).ceil() as u64;
        let _ = write!(out, ",AVERAGE-BANDWIDTH={}", average.max(1));
    }
    write_score(out, score);
    if let Some(codec) = video.codec {
        let _ = write!(out, ",CODECS=\"{}\"", codec.rfc6381());
    }
    let (height, width) = size(video);
    let _ = write!(out, ",RESOLUTION={width}x{height}");
    write_range(out, video);
    let _ = write!(out, ",STABLE-VARIANT-ID=\"{}.iframes\"", stable(&video.info.id));
    way.write_id(out);
    let _ = writeln!(out, ",URI=\"{}\"", way.link(&address::frames(&video.info.id)));
}

fn write_score(out: &mut String, score: Option<usize>) {
    if let Some(score) = score {
        let _ = write!(out, ",SCORE={score}.0");
    }
}

fn write_range(out: &mut String, video: &Member<'_>) {
    if let Some(CodecParameters::Video(it)) = video.codec {
        // what says nothing is BT.709 or the like
        out.push_str(match it.colour().map_or(VideoRange::Sdr, Colour::range) {
            VideoRange::Sdr => ",VIDEO-RANGE=SDR",
            VideoRange::Hlg => ",VIDEO-RANGE=HLG",
            VideoRange::Pq => ",VIDEO-RANGE=PQ",
        });
    }
}

/// A stable id: `a-z A-Z 0-9 + / = . - _` only (§4.4.6.1).
fn stable(id: &RenditionId) -> String {
    let plain = |c: char| match c {
        c if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') => c,
        _ => '_',
    };
    id.to_string().chars().map(plain).collect()
}

/// Bits a second that are planned for. What boxes add to sound's own bits, at five parts a second, counts; in pictures it is lost.
pub(crate) fn planned(info: &RenditionInfo) -> u64 {
    let overhead = match info.kind {
        RenditionKind::Audio { .. } => 12_000,
        _ => 0,
    };
    u64::from(info.bandwidth) + overhead
}

/// Bits a second at most: as measured once all is there (§4.4.6.2), as planned before, or as was seen by then.
fn peak(member: &Member<'_>) -> u64 {
    match member.measured.as_ref().filter(|m| m.peak > 0.0) {
        Some(measured) => measured.peak.ceil() as u64,
        None => planned(member.info).max(member.seen),
    }
}

fn average(member: &Member<'_>) -> Option<u64> {
    let measured = member.measured.as_ref().filter(|m| m.seconds > 0.0)?;
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

const SUBTITLES: &str = "subs";
