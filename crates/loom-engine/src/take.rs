//! Takes: the sessions of one recording, one after the other, and how each one's tracks and times fit into the recording's.

use loom_core::{Gap, Media, MediaKind, MediaTime, Packet, TrackFormat, TrackId};
use loom_ingest::{Session, TrackInfo};
use tokio::time::Instant;

/// One publisher's session, on its way into a recording.
#[derive(Debug)]
pub(crate) struct Take {
    pub(crate) session: Session,
    /// When it was offered.
    pub(crate) began: Instant,
}

/// Puts what a session delivers into the recording: its tracks under the recording's names, its times on the recording's line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Placement {
    /// The session's track, the recording's.
    tracks: Vec<(TrackId, TrackId)>,
    /// Nanoseconds that are added to the session's times.
    shift: i64,
}

impl Placement {
    /// The recording's own first session: everything is as it came.
    pub(crate) fn first(tracks: &[TrackInfo]) -> Self {
        Self {
            tracks: tracks.iter().map(|track| (track.id, track.id)).collect(),
            shift: 0,
        }
    }

    /// A later session, whose n-th track of a kind (and layer) goes on with the recording's n-th.
    pub(crate) fn onto(known: &[TrackInfo], offered: &[TrackInfo]) -> Self {
        let mut tracks: Vec<(TrackId, TrackId)> = Vec::new();
        for track in offered {
            let fits = |it: &&TrackInfo| it.kind == track.kind && it.rid == track.rid;
            let free = |it: &&TrackInfo| !tracks.iter().any(|(_, taken)| *taken == it.id);
            match known.iter().filter(fits).find(free) {
                Some(place) => tracks.push((track.id, place.id)),
                // with no tracks yet the session is the recording's first
                None if known.is_empty() => {}
                None => {
                    tracing::warn!(kind = ?track.kind, mid = track.mid, "a track that the recording did not begin with is left out");
                }
            }
        }
        Self { tracks, shift: 0 }
    }

    /// From here on the session's instant `theirs` is the recording's `ours`.
    pub(crate) fn align(&mut self, theirs: MediaTime, ours: MediaTime) {
        self.shift = ours.signed_since(theirs);
    }

    /// The recording's name of a session's track.
    pub(crate) fn ours(&self, theirs: TrackId) -> Option<TrackId> {
        let place = self.tracks.iter().find(|(it, _)| *it == theirs)?;
        Some(place.1)
    }

    /// The session's name of a recording's track.
    pub(crate) fn theirs(&self, ours: TrackId) -> Option<TrackId> {
        let place = self.tracks.iter().find(|(_, it)| *it == ours)?;
        Some(place.0)
    }

    /// The same media in the recording; `None` for a track that has no place there.
    pub(crate) fn place(&self, media: Media) -> Option<Media> {
        Some(match media {
            Media::Format(format) => Media::Format(TrackFormat {
                track: self.ours(format.track)?,
                ..format
            }),
            Media::Packet(packet) => Media::Packet(Packet {
                track: self.ours(packet.track)?,
                pts: self.time(packet.pts),
                dts: self.time(packet.dts),
                ..packet
            }),
            Media::Gap(gap) => Media::Gap(Gap {
                track: self.ours(gap.track)?,
                from: self.time(gap.from),
                to: self.time(gap.to),
            }),
            Media::End(track) => Media::End(self.ours(track)?),
        })
    }

    fn time(&self, theirs: MediaTime) -> MediaTime {
        MediaTime::from_nanos(theirs.nanos().saturating_add(self.shift))
    }
}

/// The earliest instant of what was held back.
pub(crate) fn earliest(held: &[Media]) -> Option<MediaTime> {
    let times = held.iter().filter_map(|media| match media {
        Media::Packet(packet) => Some(packet.pts),
        _ => None,
    });
    times.min()
}

/// The first format of a kind.
pub(crate) fn of_kind(formats: &[TrackFormat], kind: MediaKind) -> Option<&TrackFormat> {
    formats.iter().find(|format| format.codec.kind() == kind)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn track(id: u32, kind: MediaKind, mid: &str) -> TrackInfo {
        TrackInfo {
            id: TrackId(id),
            kind,
            mid: mid.to_owned(),
            rid: None,
            stream: None,
        }
    }

    #[test]
    fn a_later_session_takes_the_places_of_its_kind_in_order_whatever_it_calls_them() {
        let known = [
            track(0, MediaKind::Audio, "0"),
            track(1, MediaKind::Video, "1"),
            track(2, MediaKind::Video, "2"),
        ];
        let offered = [
            track(0, MediaKind::Video, "a"),
            track(1, MediaKind::Audio, "b"),
            track(2, MediaKind::Audio, "c"),
        ];
        let placement = Placement::onto(&known, &offered);
        assert_eq!(placement.ours(TrackId(0)), Some(TrackId(1)));
        assert_eq!(placement.ours(TrackId(1)), Some(TrackId(0)));
        assert_eq!(placement.ours(TrackId(2)), None, "the recording has one sound");
        assert_eq!(placement.theirs(TrackId(1)), Some(TrackId(0)));
        assert_eq!(placement.theirs(TrackId(2)), None);
    }

    #[test]
    fn times_are_shifted_by_what_lies_between() {
        let known = [track(0, MediaKind::Video, "0")];
        let mut placement = Placement::onto(&known, &[track(5, MediaKind::Video, "x")]);
        let ms = MediaTime::from_millis;
        placement.align(ms(40), ms(12_040));
        let packet = Packet {
            track: TrackId(5),
            pts: ms(73),
            dts: ms(40),
            duration: None,
            key: false,
            data: Bytes::from_static(b"x"),
        };
        let Some(Media::Packet(placed)) = placement.place(Media::Packet(packet)) else {
            panic!("it has a place");
        };
        assert_eq!(
            (placed.track, placed.pts, placed.dts),
            (TrackId(0), ms(12_073), ms(12_040))
        );
    }
}
