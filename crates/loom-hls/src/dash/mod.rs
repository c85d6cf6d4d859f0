//! The DASH manifest (ISO/IEC 23009-1) of the same segments: `manifest.mpd`.
//!
//! A period begins where a rendition's init segment changes, at a discontinuity, and behind what is missing; so within one each
//! representation has one init segment and numbers without holes.

mod mpd;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use loom_core::{CodecParameters, MediaKind, RenditionId, WallClock};

use crate::config::{PackagerConfig, RenditionInfo};
use crate::crypt::{ContentKey, EncryptionScheme};
use crate::publish::{Change, Publish};

pub(crate) use mpd::write;

/// What a manifest says of the recording as a whole.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Frame {
    pub(crate) zero: Option<WallClock>,
    pub(crate) segment: Duration,
    pub(crate) target: Duration,
    pub(crate) part: Option<Duration>,
}

impl Frame {
    /// `None` where players of DASH could not play it: whole segments that are encrypted.
    pub(crate) fn new(config: &PackagerConfig) -> Option<Self> {
        let whole = config
            .encryption
            .is_some_and(|it| it.scheme == EncryptionScheme::Segments);
        (!whole).then_some(Self {
            zero: config.zero,
            segment: config.segment,
            target: config.target_duration,
            part: config.low_latency.then_some(config.part),
        })
    }
}

/// What an init segment is for.
#[derive(Debug, Clone)]
pub(crate) struct Described {
    pub(crate) info: RenditionInfo,
    pub(crate) codec: CodecParameters,
    pub(crate) key: Option<(EncryptionScheme, Arc<ContentKey>)>,
}

/// A segment's place on its track's timeline, ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) start: u64,
    pub(crate) length: u64,
    pub(crate) discontinuity: bool,
}

/// Everything that has been published, as a manifest wants it.
#[derive(Debug, Default)]
pub(crate) struct Book {
    tracks: BTreeMap<RenditionId, Track>,
    ended: bool,
}

#[derive(Debug, Default)]
struct Track {
    /// By the init segment's number.
    inits: BTreeMap<u32, Arc<Described>>,
    /// The init segment for what comes.
    init: u32,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    number: u64,
    place: Place,
    init: u32,
    gap: bool,
}

impl Book {
    pub(crate) fn take(&mut self, publish: &Publish) {
        let Some(id) = &publish.rendition else {
            self.ended |= matches!(publish.change, Change::End);
            return;
        };
        match &publish.change {
            Change::Init {
                number,
                described: Some(described),
                ..
            } => {
                let track = self.tracks.entry(id.clone()).or_default();
                track.inits.insert(*number, described.clone());
            }
            Change::Part {
                opening: Some(opening),
                ..
            } => self.open(id, opening.map.as_deref()),
            Change::Segment {
                segment,
                opening,
                entry,
                place: Some(place),
                ..
            } => {
                if let Some(opening) = opening {
                    self.open(id, opening.map.as_deref());
                }
                if let Some(track) = self.tracks.get_mut(id) {
                    track.entries.push(Entry {
                        number: *segment,
                        place: *place,
                        init: track.init,
                        gap: entry.gap,
                    });
                }
            }
            _ => {}
        }
    }

    /// A segment begins, with the init segment `map` where that is another than before.
    fn open(&mut self, id: &RenditionId, map: Option<&str>) {
        let number = map.and_then(|map| map.strip_prefix("init-")?.strip_suffix(".mp4")?.parse().ok());
        if let (Some(track), Some(number)) = (self.tracks.get_mut(id), number) {
            track.init = number;
        }
    }

    /// Whether there is something to play of every rendition, or of any where the others are long in coming.
    pub(crate) fn is_ready(&self) -> bool {
        let count = |track: &Track| track.entries.iter().filter(|e| !e.gap).take(PATIENCE).count();
        let mut counts = self.tracks.values().map(count);
        counts.clone().any(|n| n == PATIENCE)
            || counts.clone().any(|n| n > 0) && (self.ended || counts.all(|n| n > 0))
    }

    /// A rendition that is waited for.
    pub(crate) fn awaited(&self) -> Option<&RenditionId> {
        let late = self
            .tracks
            .iter()
            .find(|(_, track)| track.entries.iter().all(|e| e.gap));
        late.or_else(|| self.tracks.iter().next()).map(|(id, _)| id)
    }

    /// The numbers at which periods begin.
    fn periods(&self) -> Vec<u64> {
        let mut starts = std::collections::BTreeSet::new();
        for track in self.tracks.values() {
            let mut before: Option<&Entry> = None;
            for entry in track.entries.iter().filter(|entry| !entry.gap) {
                let begins = before.is_none_or(|before| {
                    before.init != entry.init
                        || before.number + 1 != entry.number
                        || entry.place.discontinuity
                });
                if begins {
                    starts.insert(entry.number);
                }
                before = Some(entry);
            }
        }
        starts.into_iter().collect()
    }
}

/// Segments of one rendition after which the others are waited for no longer.
const PATIENCE: usize = 4;

impl Track {
    /// Its segments from one number up to another.
    fn within(&self, from: u64, to: Option<u64>) -> Vec<&Entry> {
        let inside = |entry: &&Entry| entry.number >= from && to.is_none_or(|to| entry.number < to);
        self.entries.iter().filter(inside).filter(|e| !e.gap).collect()
    }

    fn is(&self, kind: MediaKind) -> bool {
        self.inits.values().any(|it| it.codec.kind() == kind)
    }
}
