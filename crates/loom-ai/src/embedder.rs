use std::fmt;

use crate::AiError;

/// Sentences to vectors that lie close to each other where the sentences mean something alike: `LocalEmbedder` (feature `candle`), or a host's own.
/// [`Gist::by_meaning`](crate::Gist::by_meaning) finds chapters with it.
pub trait Embedder: fmt::Debug + Send + Sync {
    /// A short name for logs and pages.
    fn name(&self) -> &str;

    /// A vector for each text, all as long, of length 1.
    ///
    /// # Errors
    /// What the model or its host said.
    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, AiError>;
}
