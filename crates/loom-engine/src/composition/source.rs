//! What screen and camera are made of: two renditions of a recording.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use loom_core::{Media, MediaKind, MediaTime, RenditionId};
use loom_hls::progressive::TrackFiles;
use loom_hls::stored::{StoredSegment, StoredTrack};

use super::is_over;
use crate::download;
use crate::error::EngineError;
use crate::event::{RecordingState, RenditionDescription};
use crate::packets::{Packets, SegmentReader};
use crate::recording::Inner;
use crate::text;

/// What a composition is made of.
pub(super) struct Parts {
    pub(super) screen: Source,
    pub(super) camera: Source,
}

/// A rendition of pictures.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) told: RenditionDescription,
    /// As it is listed, gaps too.
    pub(super) track: StoredTrack,
}

/// Where the screen's pictures break off, and where they go on.
#[derive(Debug, PartialEq)]
pub(super) struct Break {
    /// Where those before it end.
    pub(super) end: MediaTime,
    /// Where each of the segments ends that nobody published anything of.
    pub(super) gaps: Vec<MediaTime>,
    /// Where those behind it begin.
    pub(super) at: MediaTime,
    /// How long the recording was paused there.
    pub(super) paused: Duration,
}

impl Parts {
    /// Blocks.
    pub(super) fn of(recording: &Inner) -> Result<Self, EngineError> {
        let info = recording.info();
        if info.state != RecordingState::Ready {
            return Err(EngineError::WrongState {
                recording: info.id,
                state: info.state,
                why: "screen and camera can be made into one picture once it is ready",
            });
        }
        let pictures = download::best(&info, MediaKind::Video).zip(info.camera().cloned());
        let Some((screen, camera)) = pictures else {
            return Err(EngineError::NoCamera(info.id));
        };
        Ok(Self {
            screen: Source::of(recording, screen)?,
            camera: Source::of(recording, camera)?,
        })
    }

    /// Where the last picture ends.
    pub(super) fn end(&self) -> MediaTime {
        let ends = [&self.screen, &self.camera].map(|it| it.media().last().map(|segment| segment.end));
        ends.into_iter().flatten().max().unwrap_or_default()
    }
}

impl Source {
    fn of(recording: &Inner, told: RenditionDescription) -> Result<Self, EngineError> {
        let playlist = playlist(recording, &told.id)?;
        // says of what is encrypted, or empty, that there is no download
        TrackFiles::from_playlist(&told.id, &playlist)?;
        let track = StoredTrack::from_playlist(&told.id, &playlist)?;
        Ok(Self { told, track })
    }

    /// Its segments, but for gaps.
    pub(super) fn media(&self) -> impl Iterator<Item = &StoredSegment> {
        self.track.segments.iter().filter(|segment| !segment.gap)
    }

    /// Pictures a second, as they come in its first segments; 0 where none do.
    pub(super) fn rate(&self, recording: &Inner) -> Result<f64, EngineError> {
        let mut reader = SegmentReader::default();
        let mut lasts = Vec::new();
        for segment in self.media().take(RATED) {
            for packet in reader.read(recording, segment)? {
                lasts.extend(packet.duration.filter(|it| !it.is_zero()));
            }
        }
        lasts.sort_unstable();
        let usual = lasts.get(lasts.len() / 2).copied();
        Ok(usual.map_or(0.0, |it| 1.0 / it.as_secs_f64()))
    }

    /// Its packets, until it is over.
    pub(super) fn packets(
        &self,
        recording: &Arc<Inner>,
    ) -> impl Iterator<Item = io::Result<Media>> + Send + use<> {
        Packets::new(recording, &self.track.segments, is_over)
    }

    /// Where its zero lies on the wall clock, where that is known.
    pub(super) fn zero(&self) -> Option<SystemTime> {
        self.track.zeros.first().map(|(_, zero)| *zero)
    }

    /// Where it breaks off, in order of time.
    pub(super) fn breaks(&self) -> VecDeque<Break> {
        let zero = |at: MediaTime| {
            let at = at + Duration::from_millis(1); // lengths are rounded
            let before = self.track.zeros.iter().rfind(|(from, _)| *from <= at);
            before.map(|(_, zero)| *zero)
        };
        let (mut breaks, mut gaps, mut last) = (VecDeque::new(), Vec::new(), None::<&StoredSegment>);
        for segment in &self.track.segments {
            if segment.gap {
                gaps.push(segment.end);
                continue;
            }
            let gaps = std::mem::take(&mut gaps);
            if let Some(last) = last
                && (segment.discontinuity || !gaps.is_empty())
            {
                let later = zero(last.start).zip(zero(segment.start));
                let paused = later.and_then(|(before, after)| after.duration_since(before).ok());
                breaks.push_back(Break {
                    end: last.end,
                    gaps,
                    at: segment.start,
                    paused: paused.unwrap_or_default(),
                });
            }
            last = Some(segment);
        }
        breaks
    }
}

/// A rendition's media playlist.
pub(super) fn playlist(recording: &Inner, rendition: &RenditionId) -> Result<String, EngineError> {
    let name = text::playlist(rendition);
    let list = recording.folder.read(&name, 0, None)?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&list).into_owned())
}

/// Segments that are looked at for how fast pictures come.
const RATED: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_breaks_off_where_it_was_paused_and_where_nobody_published() {
        let list = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:1\n#EXT-X-MAP:URI=\"init-0.mp4\"\n\
            #EXT-X-PROGRAM-DATE-TIME:2026-11-22T16:00:00.000Z\n#EXTINF:2.000000,\ns1.m4s\n#EXTINF:1.500000,\ns2.m4s\n\
            #EXT-X-DISCONTINUITY\n#EXT-X-PROGRAM-DATE-TIME:2026-11-22T16:01:03.500Z\n#EXTINF:2.000000,\ns3.m4s\n\
            #EXT-X-GAP\n#EXTINF:1.000000,\ns4.m4s\n#EXT-X-GAP\n#EXTINF:0.500000,\ns5.m4s\n\
            #EXT-X-DISCONTINUITY\n#EXT-X-PROGRAM-DATE-TIME:2026-11-22T16:01:07.000Z\n#EXTINF:2.000000,\ns6.m4s\n#EXT-X-ENDLIST\n";
        let id = RenditionId::new("source").expect("a name");
        let source = Source {
            told: RenditionDescription {
                id: id.clone(),
                kind: MediaKind::Video,
                codec: "h264".to_owned(),
                width: None,
                height: None,
                bandwidth: 1,
                playlist: None,
            },
            track: StoredTrack::from_playlist(&id, list).expect("a playlist"),
        };
        let ms = MediaTime::from_millis;
        let expected = [
            Break {
                end: ms(3_500),
                gaps: Vec::new(),
                at: ms(3_500),
                paused: Duration::from_secs(60),
            },
            Break {
                end: ms(5_500),
                gaps: vec![ms(6_500), ms(7_000)],
                at: ms(7_000),
                paused: Duration::ZERO,
            },
        ];
        assert_eq!(source.breaks(), expected);
        assert_eq!(source.track.target, Duration::from_secs(4));
        let zero = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_363_200);
        assert_eq!(source.zero(), Some(zero));
        assert_eq!(source.media().count(), 4);
    }
}
