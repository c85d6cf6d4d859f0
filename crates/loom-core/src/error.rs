use thiserror::Error;

/// A codec header or bitstream that breaks its specification.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The data ended before a field that the specification requires.
    #[error("{what}: data ends before it should ({clause})")]
    Truncated {
        /// The structure that was being read.
        what: &'static str,
        /// The clause that defines it.
        clause: &'static str,
    },
    /// A field holds a value that the specification forbids or that Loom does not support.
    #[error("{what}: {why} ({clause})")]
    Invalid {
        /// The structure that was being read.
        what: &'static str,
        /// What is wrong with it.
        why: String,
        /// The clause that is broken.
        clause: &'static str,
    },
}
