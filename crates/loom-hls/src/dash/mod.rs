//! The DASH manifest (ISO/IEC 23009-1) of the same segments: `manifest.mpd`.
//!
//! A period begins where a rendition's init segment changes, at a discontinuity, and behind what is missing; so within one each
//! representation has one init segment and numbers without holes.

mod images;
mod mpd;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use loom_core::{CodecParameters, MediaKind, MediaTime, RenditionId, Timescale, WallClock};

use crate::address;
use crate::config::{PackagerConfig, RenditionInfo, TextForm};
use crate::crypt::{ContentKey, EncryptionScheme};
use crate::imsc1;
use crate::pauses::Pauses;
use crate::playlist::Opening;
use crate::publish::{Change, Publish};
use crate::sheets::Sheets;
use crate::view;

pub(crate) use mpd::write;

/// What a manifest says of the recording as a whole.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Frame {
    pub(crate) zero: Option<WallClock>,
    pub(crate) pauses: Pauses,
    pub(crate) segment: Duration,
    pub(crate) target: Duration,
    pub(crate) part: Option<Duration>,
}

impl Frame {
    /// How long a segment is said to last while it is being made: longer than most are, so that players who ask for what lies behind
    /// it ask for the next, wherever it begins (they would fetch one again that lasts longer than was said).
    fn foreseen(&self) -> Duration {
        (self.segment * 5 / 4).min(self.target)
    }

    /// `None` where players of DASH could not play it: whole segments that are encrypted.
    pub(crate) fn new(config: &PackagerConfig) -> Option<Self> {
        let whole = config
            .encryption
            .is_some_and(|it| it.scheme == EncryptionScheme::Segments);
        (!whole).then_some(Self {
            zero: config.zero,
            pauses: Pauses::default(),
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
    pub(crate) format: Format,
    pub(crate) key: Option<(EncryptionScheme, Arc<ContentKey>)>,
}

/// What a rendition is made of.
#[derive(Debug, Clone)]
pub(crate) enum Format {
    Media(CodecParameters),
    Text(TextForm),
}

impl Format {
    /// `None`: it is text.
    fn kind(&self) -> Option<MediaKind> {
        match self {
            Self::Media(codec) => Some(codec.kind()),
            Self::Text(_) => None,
        }
    }

    fn timescale(&self) -> Timescale {
        match self {
            Self::Media(codec) => codec.timescale(),
            Self::Text(_) => TEXT_SCALE,
        }
    }
}

/// In what text is placed: that of its segments where they are media.
pub(crate) const TEXT_SCALE: Timescale = match Timescale::new(imsc1::TIMESCALE) {
    Some(scale) => scale,
    None => Timescale::VIDEO,
};

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
    /// Sheets of thumbnails.
    pub(crate) sheets: Option<Sheets>,
    /// Where they lie, where that is not the usual folder.
    pub(crate) sheets_in: Option<RenditionId>,
    ended: bool,
}

#[derive(Debug, Default)]
struct Track {
    /// By the init segment's number.
    inits: BTreeMap<u32, Arc<Described>>,
    /// The init segment for what comes.
    init: u32,
    entries: Vec<Entry>,
    /// The segment that is being made, once there is a part of it.
    open: Option<Open>,
}

/// A segment that is being made begins where the one before it ends.
#[derive(Debug, Clone, Copy)]
struct Open {
    number: u64,
    discontinuity: bool,
    /// Whether all of its parts are gaps so far.
    gap: bool,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    number: u64,
    place: Place,
    init: u32,
    gap: bool,
}

impl Book {
    /// Takes a change; whether a manifest may say something else from here on.
    pub(crate) fn take(&mut self, publish: &Publish) -> bool {
        let Some(id) = &publish.rendition else {
            self.ended |= matches!(publish.change, Change::End);
            if let Change::Sheets { sheets } = publish.change {
                self.sheets = Some(sheets);
            }
            return true;
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
            Change::Text { described } => {
                let track = self.tracks.entry(id.clone()).or_default();
                track.inits.insert(0, described.clone());
            }
            Change::Part {
                segment,
                opening,
                entry,
                ..
            } => {
                if let Some(opening) = opening {
                    self.open(id, opening.map.as_deref());
                }
                let Some(track) = self.tracks.get_mut(id) else {
                    return false;
                };
                let new = |opening: &Opening| Open {
                    number: *segment,
                    discontinuity: opening.discontinuity,
                    gap: true,
                };
                track.open = opening.as_ref().map(new).or(track.open);
                let Some(open) = &mut track.open else {
                    return false;
                };
                let appears = open.gap && !entry.gap;
                open.gap &= entry.gap;
                return appears;
            }
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
                    track.open = None;
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
        true
    }

    /// Takes all that the complete `playlist` of a rendition lists.
    pub(crate) fn take_stored(&mut self, described: Described, playlist: &str) {
        let described = Arc::new(described);
        let scale = described.format.timescale();
        let ticks = |at: Duration| (MediaTime::ZERO + at).ticks(scale).max(0) as u64;
        let mut track = Track::default();
        track.inits.insert(track.init, described.clone());
        let mut at = Duration::ZERO;
        for segment in view::read(playlist) {
            let map = |tag: &'_ str| {
                tag.strip_prefix("#EXT-X-MAP:URI=\"")?
                    .split('"')
                    .next()
                    .and_then(init_number)
            };
            if let Some(number) = segment.tags().find_map(map) {
                track.init = number;
                track.inits.insert(number, described.clone());
            }
            let start = ticks(at);
            at += segment.duration;
            track.entries.push(Entry {
                number: segment.number,
                place: Place {
                    start,
                    length: ticks(at) - start,
                    discontinuity: segment.discontinuity,
                },
                init: track.init,
                gap: segment.is_gap(),
            });
        }
        self.tracks.insert(described.info.id.clone(), track);
    }

    fn sheet_folder(&self) -> &str {
        self.sheets_in
            .as_ref()
            .map_or(address::SHEETS, RenditionId::as_str)
    }

    /// A segment begins, with the init segment `map` where that is another than before.
    fn open(&mut self, id: &RenditionId, map: Option<&str>) {
        if let (Some(track), Some(number)) = (self.tracks.get_mut(id), map.and_then(init_number)) {
            track.init = number;
        }
    }

    /// The tracks of pictures and sound; text may come late, or never.
    fn media(&self) -> impl Iterator<Item = (&RenditionId, &Track)> + Clone {
        let is_media = |track: &Track| track.inits.values().all(|it| it.format.kind().is_some());
        self.tracks.iter().filter(move |(_, track)| is_media(track))
    }

    /// Whether there is something to play of every rendition, or of any where the others are long in coming.
    pub(crate) fn is_ready(&self) -> bool {
        let count = |(_, track): (_, &Track)| track.entries.iter().filter(|e| !e.gap).take(PATIENCE).count();
        let mut counts = self.media().map(count);
        counts.clone().any(|n| n == PATIENCE)
            || counts.clone().any(|n| n > 0) && (self.ended || counts.all(|n| n > 0))
    }

    /// A rendition that is waited for.
    pub(crate) fn awaited(&self) -> Option<&RenditionId> {
        let late = self
            .media()
            .find(|(_, track)| track.entries.iter().all(|e| e.gap));
        late.or_else(|| self.media().next()).map(|(id, _)| id)
    }

    /// The media that carries timed metadata: pictures, where there are any.
    fn carrier(&self) -> MediaKind {
        let mut all = self.tracks.values().flat_map(|track| track.inits.values());
        match all.any(|it| it.format.kind() == Some(MediaKind::Video)) {
            true => MediaKind::Video,
            false => MediaKind::Audio,
        }
    }

    /// The numbers at which periods begin.
    fn periods(&self, foreseen: Option<Duration>) -> Vec<u64> {
        let mut starts = std::collections::BTreeSet::new();
        for (_, track) in self.media() {
            let mut before: Option<Entry> = None;
            for entry in track.listed(foreseen) {
                let begins = before.as_ref().is_none_or(|before| {
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

/// The number in an init segment's name.
fn init_number(file: &str) -> Option<u32> {
    file.strip_prefix("init-")?.strip_suffix(".mp4")?.parse().ok()
}

/// Segments of one rendition after which the others are waited for no longer.
const PATIENCE: usize = 4;

impl Track {
    /// Its segments, and where it is `foreseen` how long that lasts, the one that is being made.
    fn listed(&self, foreseen: Option<Duration>) -> impl Iterator<Item = Entry> {
        let open = foreseen.zip(self.open.filter(|open| !open.gap));
        let last = self.entries.last().map(|last| (last.number, last.place));
        let open = open.zip(last).and_then(|((lasts, open), (number, before))| {
            (number + 1 == open.number).then(|| Entry {
                number: open.number,
                place: Place {
                    start: before.start + before.length,
                    length: self.ticks(MediaTime::ZERO + lasts),
                    discontinuity: open.discontinuity,
                },
                init: self.init,
                gap: false,
            })
        });
        let closed = self.entries.iter().filter(|e| !e.gap).copied();
        closed.chain(open)
    }

    /// Its segments from one number up to another.
    fn within(&self, from: u64, to: Option<u64>, foreseen: Option<Duration>) -> Vec<Entry> {
        let inside = |entry: &Entry| entry.number >= from && to.is_none_or(|to| entry.number < to);
        self.listed(foreseen).filter(inside).collect()
    }

    fn scale(&self) -> Timescale {
        let first = self.inits.values().next();
        first.map_or(Timescale::VIDEO, |it| it.format.timescale())
    }

    fn ticks(&self, at: MediaTime) -> u64 {
        at.ticks(self.scale()).max(0) as u64
    }

    fn time(&self, ticks: u64) -> MediaTime {
        MediaTime::from_ticks(ticks as i64, self.scale())
    }
}
