use std::sync::Arc;

use bytes::Bytes;
use loom_core::RenditionId;

use crate::dash;
use crate::daterange::RangeLine;
use crate::playlist::{Opening, PartEntry, PlaylistHead, SegmentEntry};
use crate::sheets::Sheets;

/// What a [`crate::Packager`] asks for, to be done in order: what is stored before a `Publish` must be on disk before the
/// `Publish` is handed to the [`crate::Origin`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum HlsOutput {
    /// Write this file whole, replacing what may be there.
    Store {
        /// Its path in the recording's folder: at most one folder deep, of `a-z 0-9 - _ .` only.
        key: String,
        /// Its content.
        data: Bytes,
    },
    /// Write behind what the file holds.
    Append {
        /// Its path.
        key: String,
        /// What is added.
        data: Bytes,
    },
    /// Make what was stored visible to viewers.
    Publish(Publish),
    /// Delete this file: nobody asks for it any more. To keep it does no harm.
    Remove {
        /// Its path.
        key: String,
    },
    /// Hand this key over by [`Packager::handle_key`](crate::Packager::handle_key): the first before the first format; one that comes late
    /// leaves the one before in force, until the next segment after it has come.
    NeedKey {
        /// Which, from 0.
        period: u32,
    },
}

/// A change of what viewers see, for [`crate::Origin::handle_publish`].
#[derive(Debug, Clone)]
pub struct Publish {
    pub(crate) rendition: Option<RenditionId>,
    pub(crate) change: Change,
}

impl Publish {
    /// The rendition that it changes; `None` for the multivariant playlist.
    pub fn rendition(&self) -> Option<&RenditionId> {
        self.rendition.as_ref()
    }

    /// What kind of change it is.
    pub fn kind(&self) -> PublishKind {
        match &self.change {
            Change::Multivariant { .. } | Change::Manifest { .. } => PublishKind::Multivariant,
            Change::Init { .. } | Change::Text { .. } | Change::Begin { .. } => PublishKind::Init,
            Change::Part { .. } => PublishKind::Part,
            Change::Segment { .. } => PublishKind::Segment,
            Change::DateRange { .. } => PublishKind::DateRange,
            Change::End => PublishKind::End,
            Change::Sheets { .. } => PublishKind::Thumbnails,
        }
    }
}

/// What kind of change a [`Publish`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublishKind {
    /// The multivariant playlist is there, or is complete.
    Multivariant,
    /// An init segment is there, or a playlist begins.
    Init,
    /// A part is listed.
    Part,
    /// A segment is listed.
    Segment,
    /// A date range is new, or changed, in every media playlist.
    DateRange,
    /// The rendition is complete.
    End,
    /// There are more thumbnails.
    Thumbnails,
}

#[derive(Debug, Clone)]
pub(crate) enum Change {
    Multivariant {
        /// The picture whose own it is; `None` for the main one.
        aside: Option<RenditionId>,
        text: Bytes,
        /// Whose media playlists it names.
        names: Vec<RenditionId>,
    },
    /// One that is new or changed, in every media playlist.
    DateRange {
        line: RangeLine,
    },
    /// What a DASH manifest says of the whole; without this there is none.
    Manifest {
        frame: dash::Frame,
    },
    Init {
        number: u32,
        data: Bytes,
        /// Where a DASH manifest names the rendition.
        described: Option<Arc<dash::Described>>,
    },
    /// What a DASH manifest says of a rendition of text.
    Text {
        described: Arc<dash::Described>,
    },
    Begin {
        head: PlaylistHead,
        /// Whether there is a playlist of its key pictures too.
        frames: bool,
    },
    Part {
        segment: u64,
        /// With the segment's first part.
        opening: Option<Opening>,
        entry: PartEntry,
        key: Arc<str>,
        offset: u64,
        data: Bytes,
    },
    Segment {
        segment: u64,
        /// Where the segment had no part.
        opening: Option<Opening>,
        entry: SegmentEntry,
        /// Whether every segment up to here can be decoded by itself.
        independent: bool,
        /// Whether the next segment has begun, so that its first part is not far.
        followed: bool,
        /// Where a DASH manifest may name it.
        place: Option<dash::Place>,
    },
    End,
    Sheets {
        sheets: Sheets,
    },
}
