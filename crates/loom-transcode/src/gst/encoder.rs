//! Encoders, each told the same: a quality or a rate that no second exceeds, no reordering, and no key frame that was
//! not asked for.

use gstreamer as gst;
use loom_core::VideoCodec;

use super::element::{Pace, make, set_if_possible};
use crate::device::DeviceFamily;
use crate::error::TranscodeError;
use crate::plan::{Preset, RungPlan, Stage, VideoPlan};

/// What an encoder may spend.
#[derive(Debug, Clone, Copy)]
pub(super) struct Effort {
    /// x264's preset.
    pub(super) preset: Preset,
    /// Bits a second at most over any second.
    pub(super) bitrate: u32,
    pub(super) threads: u32,
}

impl Effort {
    /// Of a rung, as planned.
    pub(super) fn of(plan: &VideoPlan, rung: &RungPlan) -> Self {
        Self {
            preset: plan.preset,
            bitrate: rung.bitrate,
            threads: rung.threads,
        }
    }
}

/// An encoder, and what brings its stream into the form that is packed.
pub(super) fn encoder(
    stage: &Stage,
    codec: VideoCodec,
    effort: Effort,
    pace: Pace,
) -> Result<Vec<gst::Element>, TranscodeError> {
    if codec != VideoCodec::H264 {
        return Err(TranscodeError::Mismatch(format!(
            "rungs are encoded in H.264 here, not in {codec:?}"
        )));
    }
    let encoder = make(&stage.factory)?;
    if stage.family == DeviceFamily::Cpu {
        tell_x264(&encoder, effort, pace);
        return Ok(vec![encoder]);
    }
    tell_device(&encoder, stage.family, effort, pace);
    // Devices give a byte stream, and some give it in pieces.
    Ok(vec![encoder, make("h264parse")?])
}

/// x264 with a quality to reach and a rate that no second exceeds. `option-string` does not reach the rate control's
/// buffer: `bitrate` and `vbv-buf-capacity` do, as the SEI shows.
///
/// Adaptive quantization takes bits from edges, such as those of text, for flat areas: at equal VMAF, over four qualities, a recording of a
/// screen needed 12 % fewer bits without it (16 % live), and a film 8 %.
fn tell_x264(encoder: &gst::Element, effort: Effort, pace: Pace) {
    let lookahead = match pace {
        Pace::Live => "0",
        Pace::File => "10",
    };
    // These are what `tune=zerolatency` sets, but for its two that do not suit: it turns timestamps off for rate
    // control, and slices on where one thread is enough.
    let settings = [
        ("speed-preset", effort.preset.name()),
        ("pass", "qual"),
        ("quantizer", "23"),
        ("bitrate", &kilobits(effort)),
        ("vbv-buf-capacity", "1000"),
        ("bframes", "0"),
        ("b-adapt", "false"),
        ("rc-lookahead", lookahead),
        ("sync-lookahead", "0"),
        ("mb-tree", if pace == Pace::File { "true" } else { "false" }),
        ("threads", &effort.threads.to_string()),
        (
            "sliced-threads",
            if effort.threads > 1 && pace == Pace::Live {
                "true"
            } else {
                "false"
            },
        ),
        ("key-int-max", "2147483647"),
        ("aud", "false"),
        ("byte-stream", "false"),
        ("option-string", "scenecut=0:aq-mode=0"),
    ];
    for (name, value) in settings {
        set_if_possible(encoder, name, value);
    }
}

/// Settings by the names of GStreamer's documentation; what an encoder of the family has not is passed over.
fn tell_device(encoder: &gst::Element, family: DeviceFamily, effort: Effort, pace: Pace) {
    let rate = kilobits(effort);
    let live = if pace == Pace::Live { "true" } else { "false" };
    let controls = format!("controls,video_bitrate={}", effort.bitrate);
    let settings: &[(&str, &str)] = match family {
        // `nvh264enc` has rc-mode, bframes and zerolatency; `nvcudah264enc` rate-control, b-frames and tune.
        DeviceFamily::Nvidia => &[
            ("rc-mode", "vbr"),
            ("rate-control", "vbr"),
            ("bitrate", &rate),
            ("max-bitrate", &rate),
            ("vbv-buffer-size", &rate),
            ("gop-size", "-1"),
            ("bframes", "0"),
            ("b-frames", "0"),
            ("zerolatency", live),
            ("zero-reorder-delay", "true"),
            ("aud", "false"),
        ],
        DeviceFamily::VaApi => &[
            ("rate-control", "vbr"),
            ("bitrate", &rate),
            ("cpb-size", &rate),
            ("key-int-max", "1024"),
            ("b-frames", "0"),
            ("aud", "false"),
        ],
        DeviceFamily::QuickSync => &[
            ("rate-control", "vbr"),
            ("bitrate", &rate),
            ("max-bitrate", &rate),
            ("gop-size", "65535"),
            ("b-frames", "0"),
            ("low-latency", live),
        ],
        DeviceFamily::V4l2 => &[("extra-controls", &controls)],
        _ => &[
            ("bitrate", &rate),
            ("allow-frame-reordering", "false"),
            ("realtime", live),
            ("max-keyframe-interval", "2147483647"),
        ],
    };
    for (name, value) in settings {
        set_if_possible(encoder, name, value);
    }
}

fn kilobits(effort: Effort) -> String {
    (effort.bitrate / 1000).max(1).to_string()
}
