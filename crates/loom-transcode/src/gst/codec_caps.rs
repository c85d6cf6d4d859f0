//! Codec parameters as caps, and back.

use bytes::Bytes;
use gstreamer as gst;
use loom_core::codec::{aac, h264, opus};
use loom_core::{AudioCodec, AudioParameters, CodecError, CodecParameters, VideoCodec, VideoParameters};

use crate::plan::{SourceAudioCodec, SourceVideoCodec};

/// What `appsrc` says of live video. The rate only tells encoders what to expect: times rule.
pub(super) fn video_caps(video: &VideoParameters, frame_rate: f64) -> gst::Caps {
    let builder = match video.codec {
        VideoCodec::H264 => gst::Caps::builder("video/x-h264")
            .field("stream-format", "avc")
            .field("alignment", "au")
            .field("codec_data", gst::Buffer::from_slice(video.config.clone())),
        VideoCodec::Hevc => gst::Caps::builder("video/x-h265")
            .field("stream-format", "hvc1")
            .field("alignment", "au")
            .field("codec_data", gst::Buffer::from_slice(video.config.clone())),
        VideoCodec::Vp8 => gst::Caps::builder("video/x-vp8"),
        VideoCodec::Vp9 => gst::Caps::builder("video/x-vp9"),
        VideoCodec::Av1 => gst::Caps::builder("video/x-av1")
            .field("stream-format", "obu-stream")
            .field("alignment", "tu"),
    };
    builder
        .field("width", video.width as i32)
        .field("height", video.height as i32)
        .field("framerate", fraction(frame_rate))
        .build()
}

/// What `appsrc` says of live audio.
pub(super) fn audio_caps(audio: &AudioParameters) -> gst::Caps {
    match audio.codec {
        AudioCodec::Opus => gst::Caps::builder("audio/x-opus")
            .field("channel-mapping-family", 0i32)
            .field("rate", 48_000i32)
            .field("channels", i32::from(audio.channels)),
        AudioCodec::Aac => gst::Caps::builder("audio/mpeg")
            .field("mpegversion", 4i32)
            .field("stream-format", "raw")
            .field("framed", true)
            .field("rate", audio.sample_rate as i32)
            .field("channels", i32::from(audio.channels))
            .field("codec_data", gst::Buffer::from_slice(audio.config.clone())),
    }
    .build()
}

/// The nearest fraction to a rate.
pub(super) fn fraction(frame_rate: f64) -> gst::Fraction {
    let ntsc = (frame_rate * 1001.0 / 1000.0).round();
    if (frame_rate - frame_rate.round()).abs() > 1e-3 && (frame_rate - ntsc * 1000.0 / 1001.0).abs() < 5e-3 {
        return gst::Fraction::new(ntsc as i32 * 1000, 1001);
    }
    gst::Fraction::approximate_f64((frame_rate * 1000.0).round() / 1000.0)
        .unwrap_or(gst::Fraction::new(30, 1))
}

/// The bytes of a buffer-valued field.
pub(super) fn bytes_field(caps: &gst::CapsRef, field: &str) -> Option<Bytes> {
    let buffer = caps.structure(0)?.get::<gst::Buffer>(field).ok()?;
    let map = buffer.map_readable().ok()?;
    Some(Bytes::copy_from_slice(&map))
}

/// The parameters of an H.264 stream in `avc` form.
pub(super) fn h264_parameters(caps: &gst::CapsRef) -> Result<CodecParameters, CodecError> {
    let config = bytes_field(caps, "codec_data").unwrap_or_default();
    h264::parameters_from_avcc(&config).map(CodecParameters::Video)
}

/// The parameters of a raw AAC stream.
pub(super) fn aac_parameters(caps: &gst::CapsRef) -> Result<CodecParameters, CodecError> {
    let config = bytes_field(caps, "codec_data").unwrap_or_default();
    aac::parameters(&config).map(CodecParameters::Audio)
}

/// The parameters of an Opus stream, its pre-skip from the `OpusHead` that a container brought.
pub(super) fn opus_parameters(caps: &gst::CapsRef) -> CodecParameters {
    let structure = caps.structure(0);
    let channels = structure
        .and_then(|it| it.get::<i32>("channels").ok())
        .and_then(|it| u16::try_from(it).ok())
        .unwrap_or(2);
    let head = structure
        .and_then(|it| it.get::<gst::Array>("streamheader").ok())
        .and_then(|it| it.first().and_then(|first| first.get::<gst::Buffer>().ok()))
        .and_then(|it| it.map_readable().ok().map(|map| Bytes::copy_from_slice(&map)))
        .and_then(|it| it.strip_prefix(b"OpusHead").map(Bytes::copy_from_slice));
    let pre_skip = head.as_ref().map_or(0, opus::pre_skip);
    CodecParameters::Audio(opus::parameters(channels, pre_skip))
}

/// Which video codec caps are, where it is one that is understood.
pub(super) fn source_video_codec(caps: &gst::CapsRef) -> Option<SourceVideoCodec> {
    match caps.structure(0)?.name().as_str() {
        "video/x-h264" => Some(SourceVideoCodec::H264),
        "video/x-h265" => Some(SourceVideoCodec::Hevc),
        "video/x-vp8" => Some(SourceVideoCodec::Vp8),
        "video/x-vp9" => Some(SourceVideoCodec::Vp9),
        "video/x-av1" => Some(SourceVideoCodec::Av1),
        _ => None,
    }
}

/// Which audio codec caps are, where it is one that is understood.
pub(super) fn source_audio_codec(caps: &gst::CapsRef) -> Option<SourceAudioCodec> {
    let structure = caps.structure(0)?;
    let number = |field: &str| structure.get::<i32>(field).ok();
    match structure.name().as_str() {
        "audio/x-opus" => Some(SourceAudioCodec::Opus),
        "audio/x-vorbis" => Some(SourceAudioCodec::Vorbis),
        "audio/x-flac" => Some(SourceAudioCodec::Flac),
        "audio/x-raw" => Some(SourceAudioCodec::Pcm),
        "audio/mpeg" if number("mpegversion") == Some(1) && number("layer").unwrap_or(3) == 3 => {
            Some(SourceAudioCodec::Mp3)
        }
        "audio/mpeg" if matches!(number("mpegversion"), Some(2 | 4)) => {
            // audioObjectType 2 is LC, ISO/IEC 14496-3 Table 1.17; an LC core of 24 kHz or less may hide SBR
            let config = bytes_field(caps, "codec_data");
            let lc = config
                .as_ref()
                .is_some_and(|it| it.first().is_some_and(|first| first >> 3 == 2));
            // a tail of 0x2b7 and sbrPresentFlag 0 says that it hides none, §1.6.6.1
            let tail = config
                .as_ref()
                .map_or(&[][..], |it| it.get(2..).unwrap_or_default());
            let says_plain = matches!(tail, [] | [0x56, 0xe5, 0x00]);
            let plain = lc && says_plain && number("rate").is_some_and(|rate| rate > 24_000);
            Some(if plain {
                SourceAudioCodec::Aac
            } else {
                SourceAudioCodec::AacOther
            })
        }
        _ => None,
    }
}
