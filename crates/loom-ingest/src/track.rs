use loom_core::{MediaKind, TrackId};

/// One track that a publisher's offer announces; of a simulcast section, one layer (RFC 8853).
///
/// All layers of a section show the same picture at different sizes and have the same [`mid`](Self::mid).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackInfo {
    /// Names it in what the session delivers; its place in [`Session::tracks`](crate::Session::tracks).
    pub id: TrackId,
    /// Video or audio.
    pub kind: MediaKind,
    /// The media section's name in the offer (`a=mid`, RFC 5888 §4).
    pub mid: String,
    /// The layer's name where the section is simulcast (`a=rid`, RFC 8851).
    pub rid: Option<String>,
    /// The media stream that the publisher puts it in (`a=msid`, RFC 8830): what a page records together.
    pub stream: Option<String>,
}
