use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use loom_core::{MediaKind, MediaTime, RenditionId, WallClock};

use crate::address;
use crate::clock::{FIRST, SegmentClock};
use crate::config::{PackagerConfig, TextForm};
use crate::crypt::EncryptionScheme;
use crate::daterange::RangeLine;
use crate::pauses::Pauses;
use crate::playlist::{self, Beginning, Opening, PlaylistHead, PlaylistState, SegmentEntry};
use crate::publish::{Change, HlsOutput, Publish};

/// One rendition's stored playlist: it grows on disk a segment at a time, so that it is there after a crash, and is written
/// anew when the recording is complete.
#[derive(Debug)]
pub(crate) struct Listing {
    id: RenditionId,
    zero: Option<WallClock>,
    pub(crate) pauses: Pauses,
    head: PlaylistHead,
    began: bool,
    /// What the stored playlist says of [`independent`](Self::independent) and [`long`](Self::long), once there is one.
    stored: Option<(bool, bool)>,
    /// Whether every video segment starts with a key frame.
    pub(crate) independent: bool,
    /// Whether a segment is longer than the target duration, by what is rounded off.
    long: bool,
    body: String,
    /// The same for the playlist of its key pictures, where it has any.
    frames: Option<String>,
    ranges: Vec<RangeLine>,
    finished: bool,
    /// How much of [`body`](Self::body) there was when the publisher went away.
    mark: Option<(usize, usize)>,
}

impl Listing {
    /// `media` is what the rendition is made of; `None` for text.
    pub(crate) fn new(id: RenditionId, config: &PackagerConfig, media: Option<MediaKind>) -> Self {
        let parts = media.is_some() && config.low_latency;
        let frames = media == Some(MediaKind::Video) && config.lists_frames();
        Self {
            id,
            zero: config.zero,
            pauses: Pauses::default(),
            head: PlaylistHead {
                target_duration: config.target_duration,
                part_target: parts.then_some(config.part),
                part: config.low_latency.then_some(config.part),
                blocking: config.low_latency,
                first_segment: 0,
                discontinuity_sequence: 0,
                own_parts: parts
                    && config
                        .encryption
                        .is_some_and(|it| it.scheme == EncryptionScheme::Segments),
                part_form: config.part_form(),
                window: config.window,
                start: config.start,
                mapped: media.is_some() || config.text == TextForm::Imsc1,
                frames: false,
            },
            began: false,
            stored: None,
            independent: true,
            long: false,
            body: String::new(),
            frames: frames.then(String::new),
            ranges: Vec::new(),
            finished: false,
            mark: None,
        }
    }

    /// The publisher is away: what is listed from here on are gaps, and worth listing only where media follows.
    pub(crate) fn mark(&mut self) {
        let frames = self.frames.as_ref().map_or(0, String::len);
        self.mark.get_or_insert((self.body.len(), frames));
    }

    /// What has just been listed lies before the publisher went away.
    pub(crate) fn remark(&mut self) {
        if let Some(mark) = &mut self.mark {
            *mark = (self.body.len(), self.frames.as_ref().map_or(0, String::len));
        }
    }

    /// The publisher is back.
    pub(crate) fn unmark(&mut self) {
        self.mark = None;
    }

    pub(crate) fn id(&self) -> &RenditionId {
        &self.id
    }

    /// When `at` was, to the nanosecond.
    pub(crate) fn instant(&self, at: MediaTime) -> Option<SystemTime> {
        self.zero.map(|zero| self.pauses.shift(zero, at).at(at))
    }

    /// The date of `at`, which is written in whole milliseconds: that of the recording's beginning is rounded down, every later one up. By
    /// their dates no segment begins before the one in front of it has ended then, nor does the last end before the whole does, for
    /// which players wait that place segments by their dates. A rendition may begin a little before the one that was first to come.
    pub(crate) fn date(&self, at: MediaTime, clock: &SegmentClock) -> Option<SystemTime> {
        let begins = clock.start(FIRST)?.at;
        let whole = |span: Duration| Duration::from_millis(span.as_nanos().div_ceil(1_000_000) as u64);
        let (after, before) = (at.since(begins), begins.since(at));
        self.zero.map(|zero| match zero.at(begins) {
            first if after.max(before) < TICKS => first,
            first => first + whole(after) - whole(before),
        } + self.pauses.before(at))
    }

    /// The first segment's number is known: the playlist can be seen from here on.
    pub(crate) fn begin(&mut self, segment: u64, discontinuities: u64, out: &mut VecDeque<HlsOutput>) {
        self.began = true;
        self.head.first_segment = segment;
        self.head.discontinuity_sequence = discontinuities;
        let head = self.head.clone();
        let frames = self.frames.is_some();
        self.publish(Change::Begin { head, frames }, out);
    }

    /// Adds a closed segment to the stored playlist.
    pub(crate) fn close(&mut self, opening: Opening, entry: SegmentEntry, out: &mut VecDeque<HlsOutput>) {
        let from = self.body.len();
        self.long |= self.head.is_exceeded(&entry);
        let says = (self.independent, self.long);
        playlist::write_opening(&mut self.body, &opening);
        playlist::write_segment(&mut self.body, &entry);
        let mut of_frames = 0;
        if let Some(frames) = &mut self.frames {
            of_frames = frames.len();
            playlist::write_opening(frames, &opening);
            playlist::write_frame(frames, &entry.of_frame());
        }
        if self.stored == Some(says) {
            out.push_back(HlsOutput::Append {
                key: address::playlist(&self.id),
                data: self.body[from..].to_owned().into(),
            });
            if let Some(frames) = &self.frames {
                out.push_back(HlsOutput::Append {
                    key: address::frames(&self.id),
                    data: frames[of_frames..].to_owned().into(),
                });
            }
        } else {
            self.store(PlaylistState::Ended, out);
            self.stored = Some(says);
        }
    }

    /// Adds a date range, or says more of one. What is stored is written anew.
    pub(crate) fn set_range(&mut self, line: &RangeLine, out: &mut VecDeque<HlsOutput>) {
        match self.ranges.iter_mut().find(|known| known.id == line.id) {
            Some(known) => *known = line.clone(),
            None => self.ranges.push(line.clone()),
        }
        match (self.finished, self.stored) {
            (true, _) if self.began => self.store(PlaylistState::Whole, out),
            (false, Some(_)) => self.store(PlaylistState::Ended, out),
            _ => {}
        }
    }

    /// Writes the complete playlist and ends it.
    pub(crate) fn finish(&mut self, out: &mut VecDeque<HlsOutput>) {
        if let Some((mark, of_frames)) = self.mark.take() {
            self.body.truncate(mark);
            if let Some(frames) = &mut self.frames {
                frames.truncate(of_frames);
            }
        }
        self.finished = true;
        if self.began {
            self.store(PlaylistState::Whole, out);
        }
        self.publish(Change::End, out);
    }

    /// Writes the playlist, and that of the key pictures.
    fn store(&self, state: PlaylistState, out: &mut VecDeque<HlsOutput>) {
        let mut store = |key: String, head: &PlaylistHead, body: &str| {
            let mut text = String::with_capacity(body.len() + 512);
            let beginning = Beginning::of(head, state, self.independent, self.long);
            playlist::write_head(&mut text, head, &beginning);
            for range in &self.ranges {
                text.push_str(&range.line);
            }
            text.push_str(body);
            if state == PlaylistState::Whole {
                text.push_str(playlist::ENDLIST);
            }
            out.push_back(HlsOutput::Store {
                key,
                data: text.into(),
            });
        };
        store(address::playlist(&self.id), &self.head, &self.body);
        if let Some(frames) = &self.frames {
            store(address::frames(&self.id), &self.head.of_frames(), frames);
        }
    }

    pub(crate) fn publish(&self, change: Change, out: &mut VecDeque<HlsOutput>) {
        out.push_back(HlsOutput::Publish(Publish {
            rendition: Some(self.id.clone()),
            change,
        }));
    }
}

/// What two renditions' ticks of one instant may be apart.
const TICKS: Duration = Duration::from_micros(100);
