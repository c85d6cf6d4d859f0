use std::path::PathBuf;

use loom_core::CodecError;

/// Why a source cannot be planned for.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanError {
    /// The source has neither video nor audio.
    #[error("the source has neither a video nor an audio track that could be transcoded")]
    NoMedia,
    /// The size of the video is zero, or above what is accepted.
    #[error("video of {width}x{height} is outside the accepted sizes, 2x2 to {max}x{max}", max = crate::limits::MAX_DIMENSION)]
    VideoSize {
        /// Pixels across.
        width: u32,
        /// Pixels down.
        height: u32,
    },
    /// Nothing here decodes the source, and it cannot be kept as it came.
    #[error(
        "no decoder for {codec} is installed here (looked for {looked_for}), and {codec} cannot be kept as it came"
    )]
    NoDecoder {
        /// The codec.
        codec: String,
        /// The GStreamer factories that would have done.
        looked_for: String,
    },
    /// Nothing here encodes what is needed, and the source cannot be kept as it came.
    #[error(
        "no {codec} encoder is installed here (looked for {looked_for}), and the source cannot be kept as it came"
    )]
    NoEncoder {
        /// The codec.
        codec: &'static str,
        /// The GStreamer factories that would have done.
        looked_for: String,
    },
    /// A list of capabilities cannot be read.
    #[error("line {line} of the list of capabilities cannot be read: {why}")]
    CapabilityList {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
}

/// Why a transcode cannot start, or a file cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TranscodeError {
    /// GStreamer itself does not start here.
    #[error("gstreamer does not start: {0}")]
    Start(String),
    /// A GStreamer element that the plan names is not installed, or refuses its settings.
    #[error("gstreamer element {factory:?} cannot be used: {why}")]
    Element {
        /// The factory.
        factory: String,
        /// What it said.
        why: String,
    },
    /// The graph could not be put together or started.
    #[error("the {graph} graph does not start: {why}")]
    Graph {
        /// Which graph.
        graph: &'static str,
        /// What it said.
        why: String,
    },
    /// The plan and what it is to run on do not fit.
    #[error("the plan does not fit: {0}")]
    Mismatch(String),
    /// The file cannot be opened or read.
    #[error("{path:?} cannot be read")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file holds no media that is understood here.
    #[error("{path:?} is no media file that can be used: {why}")]
    NotMedia {
        /// The file.
        path: PathBuf,
        /// What it is instead, or what is missing.
        why: String,
    },
    /// The file is a media file, but it is cut short or damaged.
    #[error("{path:?} is damaged: {why}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is missing.
        why: String,
    },
    /// A process apart ([`ApartConfig`](crate::ApartConfig)) did not do what it was to do with a file.
    #[error("the process that was to {task} {why}")]
    Apart {
        /// What it was to do, and with which file or chunk.
        task: String,
        /// What it did instead: the signal that ended it, where one did.
        why: String,
    },
    /// A chunk, or a request for one, is not what it should be.
    #[error("the chunk cannot be used: {0}")]
    Chunk(String),
    /// A composition is not as it must be.
    #[error("{field} is {is}: {rule}")]
    Composition {
        /// The field, from the composition on.
        field: String,
        /// What it is.
        is: String,
        /// What it may be.
        rule: String,
    },
    /// Packets that a composition is made of cannot be read, or those that it is made into not be written.
    #[error("the {what} of a composition: {source}")]
    Packets {
        /// Which.
        what: &'static str,
        /// What whoever reads or writes them said.
        #[source]
        source: std::io::Error,
    },
    /// A codec header could not be read.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The source cannot be planned for.
    #[error(transparent)]
    Plan(#[from] PlanError),
}
