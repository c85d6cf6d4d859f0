//! A rendition that was declared, and what becomes of it.

use loom_core::CodecParameters;

use crate::captions::CaptionTrack;
use crate::config::RenditionInfo;
use crate::listing::Listing;
use crate::multivariant::{self, Member};
use crate::rendition::MediaTrack;

#[derive(Debug)]
pub(crate) struct Declared {
    pub(crate) info: RenditionInfo,
    pub(crate) place: Place,
    pub(crate) track: Track,
    /// What it was seen to need above what the multivariant playlist said, bits a second.
    pub(crate) seen: u64,
}

/// Which multivariant playlist names a rendition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// `main.m3u8`; sound and text: every one.
    Main,
    /// `main.m3u8`, but it makes no boundaries: a layer that the publisher sends.
    Layer,
    /// One of its own.
    Aside,
    /// `main.m3u8`, and every other; sound that came late.
    Late,
    /// `main.m3u8`, and every other; text that the host hands over.
    Text,
}

#[derive(Debug)]
pub(crate) enum Track {
    Media(Box<MediaTrack>),
    Captions(Box<CaptionTrack>),
}

/// A rendition that is complete already, and is named beside those that are made.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) info: RenditionInfo,
    /// `None`: it is text.
    pub(crate) codec: Option<CodecParameters>,
}

impl Ready {
    /// As the multivariant playlist sees it.
    pub(crate) fn member(&self) -> Member<'_> {
        Member {
            info: &self.info,
            codec: self.codec.as_ref(),
            seen: 0,
            measured: None,
        }
    }
}

impl Declared {
    /// Whose it is: 0 of the publisher that was there from the start, 1 of what came beside it.
    pub(crate) fn publisher(&self) -> usize {
        usize::from(matches!(self.place, Place::Aside | Place::Late))
    }

    pub(crate) fn listing(&mut self) -> &mut Listing {
        match &mut self.track {
            Track::Media(track) => &mut track.listing,
            Track::Captions(captions) => &mut captions.listing,
        }
    }

    pub(crate) fn captions(&mut self) -> Option<&mut CaptionTrack> {
        match &mut self.track {
            Track::Captions(captions) => Some(captions),
            Track::Media(_) => None,
        }
    }

    pub(crate) fn media(&self) -> Option<&MediaTrack> {
        match &self.track {
            Track::Media(track) => Some(track),
            Track::Captions(_) => None,
        }
    }

    /// Whether it needs more than the multivariant playlist says of it (RFC 8216bis §4.4.6.2); from then on that says more, with room for
    /// some growth, so that it need not be written anew with each segment.
    pub(crate) fn outgrows(&mut self) -> bool {
        let peak = self.media().map_or(0.0, |track| track.measured.peak).ceil() as u64;
        let grown = peak > multivariant::planned(&self.info).max(self.seen);
        if grown {
            self.seen = peak + peak / 4;
        }
        grown
    }

    /// As the multivariant playlist sees it.
    pub(crate) fn member(&self, finished: bool) -> Member<'_> {
        Member {
            info: &self.info,
            codec: self.media().and_then(MediaTrack::codec),
            seen: self.seen,
            measured: self
                .media()
                .filter(|_| finished)
                .map(|track| track.measured.whole()),
        }
    }
}
