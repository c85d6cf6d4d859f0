use loom_core::RenditionId;
use thiserror::Error;

/// Input that cannot be packaged, or a configuration that breaks a rule.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HlsError {
    /// A configuration value is out of range.
    #[error("packager configuration: {what} ({clause})")]
    Config {
        /// What is wrong.
        what: String,
        /// The clause that it breaks.
        clause: &'static str,
    },
    /// A rendition that was never declared.
    #[error("rendition {rendition}: was not declared")]
    UnknownRendition {
        /// The rendition.
        rendition: RenditionId,
    },
    /// A declaration that cannot be taken.
    #[error("rendition {rendition}: cannot be declared: {why}")]
    Declaration {
        /// The rendition.
        rendition: RenditionId,
        /// Why not.
        why: String,
    },
    /// A codec, or parameters of one, that cannot be carried.
    #[error("rendition {rendition}: {why} ({clause})")]
    Format {
        /// The rendition.
        rendition: RenditionId,
        /// What is wrong.
        why: String,
        /// The clause that says so.
        clause: &'static str,
    },
    /// A packet that cannot be placed. The packet is dropped; the rendition goes on.
    #[error("rendition {rendition}, segment {segment}: packet dropped: {why} ({clause})")]
    Packet {
        /// The rendition.
        rendition: RenditionId,
        /// The media sequence number of the segment it would have gone into.
        segment: u64,
        /// What is wrong.
        why: String,
        /// The clause that says so.
        clause: &'static str,
    },
    /// A text track that cannot be read.
    #[error("text, line {line}: {why} ({clause})")]
    Text {
        /// The line, from 1; 0 for the whole.
        line: usize,
        /// What is wrong.
        why: String,
        /// The clause that it breaks.
        clause: &'static str,
    },
    /// The boxes could not be written.
    #[error("rendition {rendition}, segment {segment}: boxes cannot be written (ISO/IEC 14496-12 §8.8)")]
    Boxes {
        /// The rendition.
        rendition: RenditionId,
        /// The media sequence number.
        segment: u64,
        /// The writer's reason.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A date range that playlists cannot carry.
    #[error("date range {id:?}: {why} ({clause})")]
    DateRange {
        /// Its name.
        id: String,
        /// What is wrong.
        why: String,
        /// The clause that says so.
        clause: &'static str,
    },
    /// Timed metadata that cannot be carried.
    #[error("timed metadata: {why} ({clause})")]
    Metadata {
        /// What is wrong.
        why: String,
        /// The clause that says so.
        clause: &'static str,
    },
    /// A stored file is not as the packager writes it.
    #[error("{key}: {why} ({clause})")]
    Stored {
        /// The file's key.
        key: String,
        /// What is wrong.
        why: String,
        /// The clause that says so.
        clause: &'static str,
    },
    /// Input after [`crate::Packager::finish`].
    #[error("the recording is finished: nothing more can be packaged")]
    Finished,
}
