use std::collections::BTreeSet;
use std::fmt;

/// What this machine can do: how many cores it has and which GStreamer factories are installed. Plain data, so that
/// a list recorded on one machine can be planned for on another.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// Processor cores this process may use, at least 1.
    pub cores: usize,
    /// Names of factories that are present, out of those that the planner knows.
    pub factories: BTreeSet<String>,
}

impl Capabilities {
    /// A machine with `cores` and the named factories.
    pub fn of<'a>(cores: usize, factories: impl IntoIterator<Item = &'a str>) -> Self {
        Self {
            cores: cores.max(1),
            factories: factories.into_iter().map(str::to_owned).collect(),
        }
    }

    /// Whether a factory is present.
    pub fn has(&self, factory: &str) -> bool {
        self.factories.contains(factory)
    }

    /// The first of `names` that is present.
    pub fn first_of<'a>(&self, names: &[&'a str]) -> Option<&'a str> {
        names.iter().copied().find(|name| self.has(name))
    }

    /// Hardware factories that are present. They are named in a plan's notes; the CPU runs the plan.
    pub fn hardware(&self) -> impl Iterator<Item = &str> {
        HARDWARE.iter().copied().filter(|name| self.has(name))
    }

    /// Every factory name the planner may ask for.
    pub fn known() -> impl Iterator<Item = &'static str> {
        let tables = [
            H264_DECODERS,
            HEVC_DECODERS,
            VP8_DECODERS,
            VP9_DECODERS,
            AV1_DECODERS,
            OPUS_DECODERS,
            AAC_DECODERS,
            VORBIS_DECODERS,
            MP3_DECODERS,
            FLAC_DECODERS,
            H264_ENCODERS,
            AAC_ENCODERS,
            HARDWARE,
        ];
        tables.into_iter().flatten().copied()
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cores;", self.cores)?;
        self.factories.iter().try_for_each(|name| write!(f, " {name}"))
    }
}

// In order of preference. A name that is not installed is passed over.
pub(crate) const H264_DECODERS: &[&str] = &["avdec_h264", "openh264dec"];
pub(crate) const HEVC_DECODERS: &[&str] = &["avdec_h265", "libde265dec"];
pub(crate) const VP8_DECODERS: &[&str] = &["vp8dec", "avdec_vp8"];
pub(crate) const VP9_DECODERS: &[&str] = &["vp9dec", "avdec_vp9"];
pub(crate) const AV1_DECODERS: &[&str] = &["dav1ddec", "av1dec", "avdec_av1"];
pub(crate) const OPUS_DECODERS: &[&str] = &["opusdec", "avdec_opus"];
pub(crate) const AAC_DECODERS: &[&str] = &["avdec_aac", "faad", "fdkaacdec"];
pub(crate) const VORBIS_DECODERS: &[&str] = &["vorbisdec", "avdec_vorbis"];
pub(crate) const MP3_DECODERS: &[&str] = &["mpg123audiodec", "avdec_mp3"];
pub(crate) const FLAC_DECODERS: &[&str] = &["flacdec", "avdec_flac"];
pub(crate) const H264_ENCODERS: &[&str] = &["x264enc"];
pub(crate) const AAC_ENCODERS: &[&str] = &["avenc_aac", "fdkaacenc", "voaacenc"];
const HARDWARE: &[&str] = &[
    "nvh264dec",
    "nvh265dec",
    "nvvp8dec",
    "nvvp9dec",
    "nvav1dec",
    "nvh264enc",
    "nvcudah264enc",
    "cudaconvertscale",
    "cudascale",
    "vah264dec",
    "vah265dec",
    "vavp9dec",
    "vaav1dec",
    "vah264enc",
    "vah264lpenc",
    "vapostproc",
    "qsvh264dec",
    "qsvh264enc",
    "v4l2slh264dec",
    "v4l2h264dec",
    "v4l2h264enc",
    "vtdec",
    "vtenc_h264",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preferred_factory_that_is_absent_is_passed_over() {
        let can = Capabilities::of(2, ["av1dec", "avdec_av1"]);
        assert_eq!(can.first_of(AV1_DECODERS), Some("av1dec"));
        assert_eq!(can.first_of(AAC_ENCODERS), None);
    }
}
