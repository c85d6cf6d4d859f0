use std::collections::VecDeque;
use std::time::SystemTime;

use loom_core::{MediaTime, RenditionId, WallClock};

use crate::address;
use crate::config::PackagerConfig;
use crate::crypt::EncryptionScheme;
use crate::playlist::{self, Opening, PlaylistHead, PlaylistState, SegmentEntry};
use crate::publish::{Change, HlsOutput, Publish};

/// One rendition's stored playlist: it grows on disk a segment at a time, so that it is there after a crash, and is written
/// anew when the recording is complete.
#[derive(Debug)]
pub(crate) struct Listing {
    id: RenditionId,
    zero: Option<WallClock>,
    head: PlaylistHead,
    began: bool,
    /// What the stored playlist says of [`independent`](Self::independent), once there is one.
    stored: Option<bool>,
    /// Whether every video segment starts with a key frame.
    pub(crate) independent: bool,
    body: String,
    /// How much of [`body`](Self::body) there was when the publisher went away.
    mark: Option<usize>,
}

impl Listing {
    /// `parts` tells whether the rendition's playlist lists parts.
    pub(crate) fn new(id: RenditionId, config: &PackagerConfig, parts: bool) -> Self {
        Self {
            id,
            zero: config.zero,
            head: PlaylistHead {
                target_duration: config.target_duration,
                part_target: parts.then_some(config.part),
                blocking: config.low_latency,
                first_segment: 0,
                discontinuity_sequence: 0,
                own_parts: parts
                    && config
                        .encryption
                        .is_some_and(|it| it.scheme == EncryptionScheme::Segments),
            },
            began: false,
            stored: None,
            independent: true,
            body: String::new(),
            mark: None,
        }
    }

    /// The publisher is away: what is listed from here on are gaps, and worth listing only where media follows.
    pub(crate) fn mark(&mut self) {
        self.mark.get_or_insert(self.body.len());
    }

    /// What has just been listed lies before the publisher went away.
    pub(crate) fn remark(&mut self) {
        if let Some(mark) = &mut self.mark {
            *mark = self.body.len();
        }
    }

    /// The publisher is back.
    pub(crate) fn unmark(&mut self) {
        self.mark = None;
    }

    pub(crate) fn id(&self) -> &RenditionId {
        &self.id
    }

    pub(crate) fn date(&self, at: MediaTime) -> Option<SystemTime> {
        self.zero.map(|zero| zero.at(at))
    }

    /// The first segment's number is known: the playlist can be seen from here on.
    pub(crate) fn begin(&mut self, segment: u64, discontinuities: u64, out: &mut VecDeque<HlsOutput>) {
        self.began = true;
        self.head.first_segment = segment;
        self.head.discontinuity_sequence = discontinuities;
        let head = self.head.clone();
        self.publish(Change::Begin { head }, out);
    }

    /// Adds a closed segment to the stored playlist.
    pub(crate) fn close(&mut self, opening: Opening, entry: SegmentEntry, out: &mut VecDeque<HlsOutput>) {
        let from = self.body.len();
        playlist::write_opening(&mut self.body, &opening);
        playlist::write_segment(&mut self.body, &entry);
        let key = address::playlist(&self.id);
        if self.stored == Some(self.independent) {
            out.push_back(HlsOutput::Append {
                key,
                data: self.body[from..].to_owned().into(),
            });
        } else {
            let mut text = String::new();
            playlist::write_head(&mut text, &self.head, PlaylistState::Ended, self.independent);
            text.push_str(&self.body);
            out.push_back(HlsOutput::Store {
                key,
                data: text.into(),
            });
            self.stored = Some(self.independent);
        }
    }

    /// Writes the complete playlist and ends it.
    pub(crate) fn finish(&mut self, out: &mut VecDeque<HlsOutput>) {
        if let Some(mark) = self.mark.take() {
            self.body.truncate(mark);
        }
        if self.began {
            let mut text = String::with_capacity(self.body.len() + 256);
            playlist::write_head(&mut text, &self.head, PlaylistState::Whole, self.independent);
            text.push_str(&self.body);
            text.push_str(playlist::ENDLIST);
            out.push_back(HlsOutput::Store {
                key: address::playlist(&self.id),
                data: text.into(),
            });
        }
        self.publish(Change::End, out);
    }

    pub(crate) fn publish(&self, change: Change, out: &mut VecDeque<HlsOutput>) {
        out.push_back(HlsOutput::Publish(Publish {
            rendition: Some(self.id.clone()),
            change,
        }));
    }
}
