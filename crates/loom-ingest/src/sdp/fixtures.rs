//! Offers that publishers wrote; see `testdata/offers/PROVENANCE.md`.

pub(crate) const PLAIN: &str = include_str!("../../testdata/offers/chromium.sdp");
pub(crate) const TWO_STREAMS: &str = include_str!("../../testdata/offers/chromium-two-streams.sdp");
pub(crate) const LAYERS: &str = include_str!("../../testdata/offers/chromium-layers-by-name.sdp");
pub(crate) const SOURCES: &str = include_str!("../../testdata/offers/chromium-layers-by-source.sdp");
pub(crate) const FLEXFEC: &str = include_str!("../../testdata/offers/chromium-flexfec.sdp");
pub(crate) const AIORTC: &str = include_str!("../../testdata/offers/aiortc.sdp");

pub(crate) const ALL: [(&str, &str); 6] = [
    ("plain", PLAIN),
    ("two streams", TWO_STREAMS),
    ("layers", LAYERS),
    ("sources", SOURCES),
    ("flexfec", FLEXFEC),
    ("aiortc", AIORTC),
];
