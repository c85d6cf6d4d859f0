//! Takes: the sessions of one recording, one after the other, and how each one's tracks and times fit into the recording's.

use loom_core::{Gap, Media, MediaKind, MediaTime, Packet, TrackFormat, TrackId};
use loom_ingest::TrackInfo;
use tokio::time::Instant;

use crate::source::Source;

/// One publisher's session, on its way into a recording.
#[derive(Debug)]
pub(crate) struct Take {
    pub(crate) session: Source,
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
    /// The recording's tracks that begin with this session.
    added: Vec<TrackInfo>,
}

impl Placement {
    /// The recording's own first session: everything is as it came.
    pub(crate) fn first(tracks: &[TrackInfo]) -> Self {
        Self {
            tracks: tracks.iter().map(|track| (track.id, track.id)).collect(),
            ..Self::default()
        }
    }

    /// A later session, whose n-th track of a kind (and layer) goes on with the n-th of the `places`, which its publisher had before. What is
    /// beyond those is a track of its own from there on, beside all that are `known`.
    pub(crate) fn onto(places: &[TrackInfo], known: &[TrackInfo], offered: &[TrackInfo]) -> Self {
        let mut placement = Self::default();
        for same_layer in [true, false] {
            for track in offered {
                // one that is not sent in layers any more goes on with the main layer, and the other way round
                let fits = |it: &&TrackInfo| {
                    it.kind == track.kind
                        && (it.rid == track.rid || !same_layer && it.rid.is_some() != track.rid.is_some())
                };
                let free = |it: &&TrackInfo| !placement.tracks.iter().any(|(_, taken)| *taken == it.id);
                if placement.ours(track.id).is_none()
                    && let Some(place) = places.iter().filter(fits).find(free)
                {
                    placement.tracks.push((track.id, place.id));
                }
            }
        }
        for track in offered {
            if placement.ours(track.id).is_none() {
                placement.add(known, track);
            }
        }
        placement
    }

    /// Makes room for a track that the recording has not had.
    fn add(&mut self, known: &[TrackInfo], track: &TrackInfo) {
        let all = || known.iter().chain(&self.added);
        if all().count() >= TRACKS {
            tracing::warn!(kind = ?track.kind, mid = track.mid, "a track is left out: the recording has too many");
            return;
        }
        let id = TrackId(all().map(|it| it.id.0 + 1).max().unwrap_or_default());
        // a name tells one track of the recording
        let taken = |mid: &str| all().any(|it| it.mid == mid && it.rid == track.rid);
        let mid = match taken(&track.mid) {
            true => format!("{}-{}", track.mid, id.0),
            false => track.mid.clone(),
        };
        self.tracks.push((track.id, id));
        self.added.push(TrackInfo {
            id,
            mid,
            ..track.clone()
        });
    }

    /// The tracks of the recording that begin with this session.
    pub(crate) fn take_added(&mut self) -> Vec<TrackInfo> {
        std::mem::take(&mut self.added)
    }

    /// From here on the session's instant `theirs` is the recording's `ours`.
    pub(crate) fn align(&mut self, theirs: MediaTime, ours: MediaTime) {
        self.shift = ours.signed_since(theirs);
    }

    /// Nanoseconds that are added to the session's times.
    pub(crate) fn shift(&self) -> i64 {
        self.shift
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

/// The tracks in the order of the offer, but the layer that is the main picture before the others of its section.
pub(crate) fn main_first(tracks: &[TrackInfo], main: Option<TrackId>) -> Vec<TrackInfo> {
    let mut tracks = tracks.to_vec();
    let Some(at) = tracks.iter().position(|it| Some(it.id) == main) else {
        return tracks;
    };
    let section = tracks.iter().position(|it| it.mid == tracks[at].mid);
    tracks[section.unwrap_or(at)..=at].rotate_right(1);
    tracks
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

/// So many tracks a recording has at most, through all its sessions.
const TRACKS: usize = 32;

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
        let placement = Placement::onto(&known, &known, &offered);
        assert_eq!(placement.ours(TrackId(0)), Some(TrackId(1)));
        assert_eq!(placement.ours(TrackId(1)), Some(TrackId(0)));
        assert_eq!(placement.theirs(TrackId(1)), Some(TrackId(0)));
        assert_eq!(
            placement.theirs(TrackId(2)),
            None,
            "one picture is not sent any more"
        );
        assert_eq!(
            placement.ours(TrackId(2)),
            Some(TrackId(3)),
            "a second sound is new"
        );
        let added = placement.clone().take_added();
        assert_eq!(
            (added.len(), added[0].id, added[0].mid.as_str()),
            (1, TrackId(3), "c")
        );
    }

    #[test]
    fn a_picture_goes_on_with_the_main_layer_when_it_is_not_sent_in_layers_any_more() {
        let layer = |id, rid: Option<&str>| TrackInfo {
            rid: rid.map(str::to_owned),
            ..track(id, MediaKind::Video, "1")
        };
        let layers = [
            track(0, MediaKind::Audio, "0"),
            layer(1, Some("q")),
            layer(2, Some("h")),
            layer(3, Some("f")),
        ];
        let known = main_first(&layers, Some(TrackId(3)));
        let plain = Placement::onto(&known, &known, &[layer(7, None)]);
        assert_eq!(plain.ours(TrackId(7)), Some(TrackId(3)));
        let again = Placement::onto(&known, &known, &layers);
        for it in &layers {
            assert_eq!(again.ours(it.id), Some(it.id));
        }
        let known = [track(0, MediaKind::Audio, "0"), layer(1, None)];
        let mut split = Placement::onto(&known, &known, &layers);
        let places: Vec<_> = layers.iter().map(|it| split.ours(it.id).map(|id| id.0)).collect();
        assert_eq!(places, [Some(0), Some(1), Some(2), Some(3)]);
        assert_eq!(split.take_added().len(), 2);
    }

    #[test]
    fn a_track_that_is_new_has_a_name_of_its_own_and_there_is_an_end_to_them() {
        let known = [track(0, MediaKind::Video, "0"), track(1, MediaKind::Audio, "1")];
        let offered = [
            track(0, MediaKind::Audio, "0"),
            track(1, MediaKind::Video, "1"),
            track(2, MediaKind::Audio, "1"),
        ];
        let added = Placement::onto(&known, &known, &offered).take_added();
        assert_eq!(
            added.iter().map(|it| it.mid.as_str()).collect::<Vec<_>>(),
            ["1-2"]
        );
        let many: Vec<_> = (0..100)
            .map(|id| track(id, MediaKind::Video, &id.to_string()))
            .collect();
        assert_eq!(
            Placement::onto(&known, &known, &many).take_added().len(),
            TRACKS - 2
        );
    }

    #[test]
    fn times_are_shifted_by_what_lies_between() {
        let known = [track(0, MediaKind::Video, "0")];
        let mut placement = Placement::onto(&known, &known, &[track(5, MediaKind::Video, "x")]);
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
