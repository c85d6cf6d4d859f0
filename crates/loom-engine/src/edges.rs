//! Sound and pictures begin and end together: where one comes later than the other or stops earlier, the first picture is
//! shown from the beginning, and silence fills in for sound.

use std::time::Duration;

use bytes::Bytes;
use loom_core::{AudioCodec, CodecParameters, Media, MediaKind, MediaTime, Packet, TrackFormat, TrackId};

/// 20 ms of silence as an Opus packet: one CELT frame, fullband, mono (RFC 6716 §3.1), which a stereo decoder plays as well.
const SILENCE: &[u8] = &[0xf8, 0xff, 0xfe];
const SILENCE_LASTS: Duration = Duration::from_millis(20);

/// Packets of silence that a silent track begins with: an AAC encoder gives its first frame when it has had three.
const SILENT_START: u32 = 10;

/// More than this is no edge but a track that was absent; it stays so.
const LONGEST: Duration = Duration::from_secs(10);

/// How long a picture lasts where there is only one.
const ONE_PICTURE: Duration = Duration::from_millis(33);

/// Watches one picture track and one sound track.
#[derive(Debug)]
pub(crate) struct Edges {
    video: Option<TrackId>,
    /// Where silence can be made: an Opus track.
    opus: Option<TrackId>,
    last_picture: Option<MediaTime>,
    picture_lasts: Duration,
    sound_end: Option<MediaTime>,
}

impl Edges {
    pub(crate) fn new(formats: &[TrackFormat]) -> Self {
        let video = formats
            .iter()
            .find(|f| f.codec.kind() == MediaKind::Video)
            .map(|f| f.track);
        let is_opus = |codec: &CodecParameters| matches!(codec, CodecParameters::Audio(it) if it.codec == AudioCodec::Opus);
        let opus = formats.iter().find(|f| is_opus(&f.codec)).map(|f| f.track);
        Self {
            video,
            opus,
            last_picture: None,
            picture_lasts: ONE_PICTURE,
            sound_end: None,
        }
    }

    /// Makes what came first begin with both tracks.
    pub(crate) fn align_start(&self, held: &mut Vec<Media>) {
        let first = |held: &[Media], wanted: Option<TrackId>| {
            held.iter()
                .position(|media| matches!(media, Media::Packet(packet) if Some(packet.track) == wanted))
        };
        let (Some(picture), Some(sound)) = (first(held, self.video), first(held, self.opus)) else {
            return;
        };
        let (picture_at, sound_at) = (start(&held[picture]), start(&held[sound]));
        let apart = picture_at.since(sound_at).max(sound_at.since(picture_at));
        if apart > LONGEST {
            return;
        }
        if picture_at > sound_at {
            if let Media::Packet(packet) = &mut held[picture] {
                packet.pts = sound_at;
                packet.dts = packet.dts.min(sound_at);
            }
            return;
        }
        let Some(track) = self.opus else { return };
        let count = apart.as_nanos() / SILENCE_LASTS.as_nanos();
        let before = (1..=count as u32)
            .rev()
            .map(|n| silence(track, sound_at - SILENCE_LASTS * n));
        held.splice(sound..sound, before);
    }

    /// What a track of sound begins with that is offered and silent: its format, and enough for its encoders to begin. Whoever packages it
    /// takes what follows for a pause.
    pub(crate) fn begin_silent(format: TrackFormat, from: MediaTime) -> Vec<Media> {
        let track = format.track;
        let sound = (0..SILENT_START).map(|n| silence(track, from + SILENCE_LASTS * n));
        std::iter::once(Media::Format(format)).chain(sound).collect()
    }

    /// Makes further pictures begin with everything else.
    pub(crate) fn align_pictures(held: &mut [Media], tracks: &[TrackId]) {
        let starts = held.iter().filter(|media| matches!(media, Media::Packet(_)));
        let Some(first) = starts.map(start).min() else {
            return;
        };
        for track in tracks {
            let own = held
                .iter_mut()
                .find_map(|media| match media {
                    Media::Packet(packet) if packet.track == *track => Some(packet),
                    _ => None,
                })
                .filter(|packet| packet.pts.since(first) <= LONGEST);
            if let Some(packet) = own {
                packet.dts = packet.dts.min(first);
                packet.pts = first;
            }
        }
    }

    /// Takes note of a packet on its way.
    pub(crate) fn handle_packet(&mut self, packet: &Packet) {
        if Some(packet.track) == self.video {
            if let Some(last) = self.last_picture.filter(|last| *last < packet.pts) {
                self.picture_lasts = packet.pts.since(last).min(Duration::from_secs(1));
            }
            self.last_picture = self.last_picture.max(Some(packet.pts));
        } else if Some(packet.track) == self.opus {
            let end = packet.pts + packet.duration.unwrap_or(SILENCE_LASTS);
            self.sound_end = self.sound_end.max(Some(end));
        }
    }

    /// The silence that makes sound end with the last picture.
    pub(crate) fn finish(&self) -> Vec<Media> {
        let (Some(track), Some(picture), Some(from)) = (self.opus, self.last_picture, self.sound_end) else {
            return Vec::new();
        };
        let missing = (picture + self.picture_lasts).since(from);
        if missing > LONGEST {
            return Vec::new();
        }
        let count = missing.as_nanos() / SILENCE_LASTS.as_nanos();
        (0..count as u32)
            .map(|n| silence(track, from + SILENCE_LASTS * n))
            .collect()
    }
}

fn start(media: &Media) -> MediaTime {
    match media {
        Media::Packet(packet) => packet.pts,
        _ => MediaTime::ZERO,
    }
}

fn silence(track: TrackId, pts: MediaTime) -> Media {
    let (duration, data) = (Some(SILENCE_LASTS), Bytes::from_static(SILENCE));
    Media::Packet(Packet {
        track,
        pts,
        dts: pts,
        duration,
        key: true,
        data,
    })
}

#[cfg(test)]
mod tests {
    use loom_core::codec::opus;
    use loom_core::{VideoCodec, VideoParameters};

    use super::*;

    const VIDEO: TrackId = TrackId(0);
    const AUDIO: TrackId = TrackId(1);

    fn edges() -> Edges {
        let (codec, config) = (VideoCodec::Vp8, Bytes::new());
        let video = CodecParameters::Video(VideoParameters {
            codec,
            width: 640,
            height: 360,
            config,
        });
        let audio = CodecParameters::Audio(opus::parameters(2, 0));
        Edges::new(&[
            TrackFormat {
                track: VIDEO,
                codec: video,
            },
            TrackFormat {
                track: AUDIO,
                codec: audio,
            },
        ])
    }

    fn packet(track: TrackId, millis: i64) -> Packet {
        let (pts, data) = (MediaTime::from_millis(millis), Bytes::from_static(b"x"));
        let duration = (track == AUDIO).then_some(SILENCE_LASTS);
        Packet {
            track,
            pts,
            dts: pts,
            duration,
            key: true,
            data,
        }
    }

    fn starts(held: &[Media]) -> Vec<(u32, i64)> {
        let packets = held.iter().filter_map(|media| match media {
            Media::Packet(packet) => Some((packet.track.0, packet.pts.millis())),
            _ => None,
        });
        packets.collect()
    }

    #[test]
    fn a_late_first_picture_is_shown_from_the_first_sound_on() {
        let mut held = vec![
            Media::Packet(packet(AUDIO, 0)),
            Media::Packet(packet(VIDEO, 60)),
            Media::Packet(packet(VIDEO, 93)),
        ];
        edges().align_start(&mut held);
        assert_eq!(starts(&held), [(1, 0), (0, 0), (0, 93)]);
    }

    #[test]
    fn silence_comes_before_late_sound() {
        let mut held = vec![Media::Packet(packet(VIDEO, 0)), Media::Packet(packet(AUDIO, 70))];
        edges().align_start(&mut held);
        assert_eq!(starts(&held), [(0, 0), (1, 10), (1, 30), (1, 50), (1, 70)]);
    }

    #[test]
    fn silence_follows_sound_that_ended_before_the_pictures() {
        let mut edges = edges();
        edges.handle_packet(&packet(AUDIO, 0));
        for millis in [0, 40, 80] {
            edges.handle_packet(&packet(VIDEO, millis));
        }
        assert_eq!(
            starts(&edges.finish()),
            [(1, 20), (1, 40), (1, 60), (1, 80), (1, 100)]
        );
    }

    #[test]
    fn a_track_that_was_gone_for_long_is_not_made_up() {
        let mut edges = edges();
        edges.handle_packet(&packet(AUDIO, 0));
        edges.handle_packet(&packet(VIDEO, 60_000));
        assert!(edges.finish().is_empty());
    }
}
