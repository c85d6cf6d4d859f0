//! The elements that the planner knows, by what they do, each list in order of preference. Memories are those of the
//! pad templates in GStreamer's documentation; a machine's own list may say otherwise.

use loom_core::VideoCodec;

use crate::device::MemoryDomain::{self, Cuda, D3d11, DmaBuf, Gl, System, Va};
use crate::device::{
    DeviceFamily,
    DeviceFamily::{Cpu, Nvidia, QuickSync, V4l2, VaApi, VideoToolbox},
};
use crate::plan::SourceVideoCodec;

/// What an element does with pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    Decode(SourceVideoCodec),
    Scale,
    Encode(VideoCodec),
    /// Copies between memories.
    Move,
}

/// An element as its documentation describes it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    pub(crate) factory: &'static str,
    pub(crate) family: DeviceFamily,
    pub(crate) work: Work,
    /// Memories that it takes pictures from; none for a decoder.
    pub(crate) takes: &'static [MemoryDomain],
    /// Memories that it gives pictures in; none for an encoder.
    pub(crate) gives: &'static [MemoryDomain],
}

const fn decoder(
    codec: SourceVideoCodec,
    family: DeviceFamily,
    factory: &'static str,
    gives: &'static [MemoryDomain],
) -> Known {
    Known {
        factory,
        family,
        work: Work::Decode(codec),
        takes: &[],
        gives,
    }
}

const fn scaler(family: DeviceFamily, factory: &'static str, memory: &'static [MemoryDomain]) -> Known {
    Known {
        factory,
        family,
        work: Work::Scale,
        takes: memory,
        gives: memory,
    }
}

const fn encoder(
    codec: VideoCodec,
    family: DeviceFamily,
    factory: &'static str,
    takes: &'static [MemoryDomain],
) -> Known {
    Known {
        factory,
        family,
        work: Work::Encode(codec),
        takes,
        gives: &[],
    }
}

const fn mover(
    family: DeviceFamily,
    factory: &'static str,
    takes: &'static [MemoryDomain],
    gives: &'static [MemoryDomain],
) -> Known {
    Known {
        factory,
        family,
        work: Work::Move,
        takes,
        gives,
    }
}

use SourceVideoCodec::{Av1, H264, Hevc, Vp8, Vp9};

const NVDEC: &[MemoryDomain] = &[Cuda, Gl, System];
const NVENC: &[MemoryDomain] = &[Cuda, Gl, System];
const VA: &[MemoryDomain] = &[Va, System];
const CPU: &[MemoryDomain] = &[System];
/// `v4l2sl…dec` gives both, mapped; `v4l2…dec` (stateful) says `video/x-raw` alone.
const STATELESS: &[MemoryDomain] = &[DmaBuf, System];

pub(crate) const VIDEO: &[Known] = &[
    decoder(H264, Nvidia, "nvh264dec", NVDEC),
    decoder(H264, Nvidia, "nvh264sldec", NVDEC),
    decoder(H264, VaApi, "vah264dec", VA),
    decoder(H264, QuickSync, "qsvh264dec", VA),
    decoder(H264, V4l2, "v4l2slh264dec", STATELESS),
    decoder(H264, V4l2, "v4l2h264dec", CPU),
    decoder(H264, VideoToolbox, "vtdec_hw", &[System, Gl]),
    decoder(H264, VideoToolbox, "vtdec", &[System, Gl]),
    decoder(H264, Cpu, "avdec_h264", CPU),
    decoder(H264, Cpu, "openh264dec", CPU),
    decoder(Hevc, Nvidia, "nvh265dec", NVDEC),
    decoder(Hevc, Nvidia, "nvh265sldec", NVDEC),
    decoder(Hevc, VaApi, "vah265dec", VA),
    decoder(Hevc, QuickSync, "qsvh265dec", VA),
    decoder(Hevc, V4l2, "v4l2slh265dec", STATELESS),
    decoder(Hevc, V4l2, "v4l2h265dec", CPU),
    decoder(Hevc, VideoToolbox, "vtdec_hw", &[System, Gl]),
    decoder(Hevc, Cpu, "avdec_h265", CPU),
    decoder(Hevc, Cpu, "libde265dec", CPU),
    decoder(Vp8, Nvidia, "nvvp8dec", NVDEC),
    decoder(Vp8, VaApi, "vavp8dec", VA),
    decoder(Vp8, V4l2, "v4l2slvp8dec", STATELESS),
    decoder(Vp8, V4l2, "v4l2vp8dec", CPU),
    decoder(Vp8, Cpu, "vp8dec", CPU),
    decoder(Vp8, Cpu, "avdec_vp8", CPU),
    decoder(Vp9, Nvidia, "nvvp9dec", NVDEC),
    decoder(Vp9, VaApi, "vavp9dec", VA),
    decoder(Vp9, QuickSync, "qsvvp9dec", VA),
    decoder(Vp9, V4l2, "v4l2slvp9dec", STATELESS),
    decoder(Vp9, V4l2, "v4l2vp9dec", CPU),
    decoder(Vp9, Cpu, "vp9dec", CPU),
    decoder(Vp9, Cpu, "avdec_vp9", CPU),
    decoder(Av1, Nvidia, "nvav1dec", NVDEC),
    decoder(Av1, VaApi, "vaav1dec", VA),
    decoder(Av1, QuickSync, "qsvav1dec", VA),
    decoder(Av1, V4l2, "v4l2slav1dec", STATELESS),
    decoder(Av1, Cpu, "dav1ddec", CPU),
    decoder(Av1, Cpu, "av1dec", CPU),
    decoder(Av1, Cpu, "avdec_av1", CPU),
    scaler(Nvidia, "cudaconvertscale", &[Cuda]),
    scaler(Nvidia, "cudascale", &[Cuda]),
    scaler(VaApi, "vapostproc", VA),
    scaler(V4l2, "v4l2convert", CPU),
    scaler(Cpu, CPU_SCALER, CPU),
    encoder(VideoCodec::H264, Nvidia, "nvcudah264enc", NVENC),
    encoder(
        VideoCodec::H264,
        Nvidia,
        "nvautogpuh264enc",
        &[Cuda, D3d11, Gl, System],
    ),
    encoder(VideoCodec::H264, Nvidia, "nvh264enc", NVENC),
    encoder(VideoCodec::H264, VaApi, "vah264enc", VA),
    encoder(VideoCodec::H264, VaApi, "vah264lpenc", VA),
    encoder(VideoCodec::H264, QuickSync, "qsvh264enc", VA),
    encoder(VideoCodec::H264, V4l2, "v4l2h264enc", CPU),
    encoder(VideoCodec::H264, VideoToolbox, "vtenc_h264_hw", CPU),
    encoder(VideoCodec::H264, VideoToolbox, "vtenc_h264", CPU),
    encoder(VideoCodec::H264, Cpu, "x264enc", CPU),
    encoder(VideoCodec::Hevc, Nvidia, "nvcudah265enc", NVENC),
    encoder(VideoCodec::Hevc, Nvidia, "nvh265enc", NVENC),
    encoder(VideoCodec::Hevc, VaApi, "vah265enc", VA),
    encoder(VideoCodec::Hevc, VaApi, "vah265lpenc", VA),
    encoder(VideoCodec::Hevc, QuickSync, "qsvh265enc", VA),
    encoder(VideoCodec::Hevc, V4l2, "v4l2h265enc", CPU),
    encoder(VideoCodec::Hevc, VideoToolbox, "vtenc_h265_hw", CPU),
    encoder(VideoCodec::Hevc, VideoToolbox, "vtenc_h265", CPU),
    encoder(VideoCodec::Hevc, Cpu, "x265enc", CPU),
    encoder(VideoCodec::Av1, Nvidia, "nvcudaav1enc", NVENC),
    encoder(VideoCodec::Av1, Nvidia, "nvav1enc", NVENC),
    encoder(VideoCodec::Av1, VaApi, "vaav1enc", VA),
    encoder(VideoCodec::Av1, QuickSync, "qsvav1enc", VA),
    encoder(VideoCodec::Av1, Cpu, "svtav1enc", CPU),
    encoder(VideoCodec::Av1, Cpu, "av1enc", CPU),
    encoder(VideoCodec::Vp9, VaApi, "vavp9enc", VA),
    encoder(VideoCodec::Vp9, QuickSync, "qsvvp9enc", VA),
    encoder(VideoCodec::Vp9, Cpu, "vp9enc", CPU),
    mover(Nvidia, "cudadownload", &[Cuda], &[System]),
    mover(Nvidia, "cudaupload", &[System], &[Cuda]),
    mover(VaApi, "vapostproc", VA, VA),
];

/// Loom's own: it is not looked up.
pub(crate) const CPU_SCALER: &str = "loomscale";

// In order of preference. A name that is not installed is passed over.
pub(crate) const OPUS_DECODERS: &[&str] = &["opusdec", "avdec_opus"];
pub(crate) const AAC_DECODERS: &[&str] = &["avdec_aac", "faad", "fdkaacdec"];
pub(crate) const VORBIS_DECODERS: &[&str] = &["vorbisdec", "avdec_vorbis"];
pub(crate) const MP3_DECODERS: &[&str] = &["mpg123audiodec", "avdec_mp3"];
pub(crate) const FLAC_DECODERS: &[&str] = &["flacdec", "avdec_flac"];
pub(crate) const AAC_ENCODERS: &[&str] = &["avenc_aac", "fdkaacenc", "voaacenc"];
pub(crate) const SOUND: &[&[&str]] = &[
    OPUS_DECODERS,
    AAC_DECODERS,
    VORBIS_DECODERS,
    MP3_DECODERS,
    FLAC_DECODERS,
    AAC_ENCODERS,
];

/// The names of those that do `work`, as a sentence lists them.
pub(crate) fn names_of(work: Work) -> String {
    let names: Vec<&str> = VIDEO
        .iter()
        .filter(|it| it.work == work)
        .map(|it| it.factory)
        .collect();
    names.join(", ")
}
