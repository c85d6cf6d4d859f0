//! A rendition on its way to a decoder.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use loom_core::{CodecParameters, Media, TrackFormat, TrackId};
use loom_hls::stored::StoredSegment;

use super::SegmentReader;
use crate::recording::Inner;

/// A rendition's formats and packets, as a decoder takes them.
pub(crate) struct Packets<F> {
    recording: Arc<Inner>,
    segments: VecDeque<StoredSegment>,
    /// Whether nobody wants them any more.
    is_over: F,
    reader: SegmentReader,
    /// The format that was handed out last.
    told: Option<CodecParameters>,
    read: VecDeque<Media>,
}

impl<F: Fn(&Inner) -> bool> Packets<F> {
    /// Those of these segments; one that is a gap has none. Where `is_over`, which is asked often, they break off.
    pub(crate) fn new<'a>(
        recording: &Arc<Inner>,
        segments: impl IntoIterator<Item = &'a StoredSegment>,
        is_over: F,
    ) -> Self {
        let media = segments.into_iter().filter(|segment| !segment.gap);
        Self {
            recording: recording.clone(),
            segments: media.cloned().collect(),
            is_over,
            reader: SegmentReader::default(),
            told: None,
            read: VecDeque::new(),
        }
    }
}

impl<F: Fn(&Inner) -> bool> Iterator for Packets<F> {
    type Item = io::Result<Media>;

    fn next(&mut self) -> Option<Self::Item> {
        // whoever waits for a picture is woken by it
        if (self.is_over)(&self.recording) {
            return Some(Err(io::ErrorKind::Interrupted.into()));
        }
        while self.read.is_empty() {
            let segment = self.segments.pop_front()?;
            let packets = match self.reader.read(&self.recording, &segment) {
                Ok(packets) => packets,
                Err(why) => return Some(Err(io::Error::other(why))),
            };
            if self.told.as_ref() != self.reader.codec()
                && let Some(codec) = self.reader.codec().cloned()
            {
                self.told = Some(codec.clone());
                self.read.push_back(Media::Format(TrackFormat {
                    track: TrackId(0),
                    codec,
                }));
            }
            self.read.extend(packets.into_iter().map(Media::Packet));
        }
        self.read.pop_front().map(Ok)
    }
}
