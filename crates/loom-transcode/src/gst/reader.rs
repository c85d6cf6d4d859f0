//! Opening a file: `filesrc ! parsebin`, and a sink for each stream it finds.

use std::path::Path;

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;

use super::codec_caps::{source_audio_codec, source_video_codec};
use super::element::{capsfilter, chain, make};
use super::video::pad as pad_of;
use crate::error::TranscodeError;
use crate::plan::{SourceAudioCodec, SourceVideoCodec};

/// What a stream of a file is, where it is of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StreamKind {
    Video(SourceVideoCodec),
    Audio(SourceAudioCodec),
}

impl StreamKind {
    /// By the caps that a parser has put on a pad.
    pub(super) fn of(pad: &gst::Pad) -> Option<Self> {
        let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
        source_video_codec(&caps)
            .map(Self::Video)
            .or_else(|| source_audio_codec(&caps).map(Self::Audio))
    }
}

/// A pipeline that reads `path`, with the element whose pads are its streams.
pub(super) fn reader(path: &Path) -> Result<(gst::Pipeline, gst::Element), TranscodeError> {
    let pipeline = gst::Pipeline::new();
    let source = make("filesrc")?;
    source.set_property("location", path);
    let parser = make("parsebin")?;
    if let Some(bin) = parser.downcast_ref::<gst::Bin>() {
        bin.connect_element_added(|_, element| {
            if element.factory().is_some_and(|it| it.name() == "matroskademux") {
                keep_times(element);
            }
        });
    }
    chain("reader", &pipeline, &[&source, &parser])?;
    Ok((pipeline, parser))
}

/// Matroska has no edit lists. Its demuxer yet begins its segment with the first packet that comes, and once more where another stream's is
/// earlier: a packet between the two would be early. So the segment begins at zero, unless the file begins well after that.
fn keep_times(demuxer: &gst::Element) {
    demuxer.connect_pad_added(|_, pad| {
        pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, |_, info| {
            if let Some(gst::PadProbeData::Event(event)) = &mut info.data
                && let gst::EventView::Segment(segment) = event.view()
                && let Some(times) = segment.segment().downcast_ref::<gst::ClockTime>()
                && times.start().is_some_and(|start| start < LATE)
            {
                let mut whole = times.clone();
                whole.set_start(gst::ClockTime::ZERO);
                whole.set_time(gst::ClockTime::ZERO);
                whole.set_position(gst::ClockTime::ZERO);
                *event = gst::event::Segment::builder(&whole)
                    .seqnum(event.seqnum())
                    .build();
            }
            gst::PadProbeReturn::Ok
        });
    });
}

/// Pictures that are reordered, and an encoder's first sound, begin earlier.
const LATE: gst::ClockTime = gst::ClockTime::SECOND;

/// Links a stream to a sink. H.264 is brought into the form of ISO BMFF on the way.
pub(super) fn open_stream(
    pipeline: &gst::Pipeline,
    pad: &gst::Pad,
    kind: Option<StreamKind>,
    sink: &gst_app::AppSink,
) -> Result<(), TranscodeError> {
    let mut row = Vec::new();
    if kind == Some(StreamKind::Video(SourceVideoCodec::H264)) {
        row.push(make("h264parse")?);
        row.push(capsfilter(
            &gst::Caps::builder("video/x-h264")
                .field("stream-format", "avc")
                .field("alignment", "au")
                .build(),
        )?);
    }
    row.push(sink.clone().upcast());
    chain("reader", pipeline, &row.iter().collect::<Vec<_>>())?;
    let failed = |why: String| TranscodeError::Graph { graph: "reader", why };
    for element in row.iter().rev() {
        element
            .sync_state_with_parent()
            .map_err(|why| failed(why.to_string()))?;
    }
    pad.link(&pad_of(&row[0], "sink")?)
        .map(|_| ())
        .map_err(|why| failed(why.to_string()))
}
