use crate::AiError;
use crate::decoder::{Decoder, Look, Session};
use crate::encoder::Encoder;

/// What decoding asks of the network. There are two: [`Host`], on this machine's processor, and
/// [`Desk`](crate::tensors::Desk), on a device.
pub(crate) trait Network {
    /// One decode: the sound, what was kept of the tokens so far, and where the alignment heads looked. A copy shares what it can.
    type Session: Clone;

    /// Begins a decode of each window: its mel frames, time-major, two a position. Of all these sessions so many `copies` at most will be fed
    /// beside them.
    fn begin(&self, turn: Turn, windows: Vec<Vec<f32>>, copies: usize)
    -> Result<Vec<Self::Session>, AiError>;

    /// Feeds as many tokens to each session, session after session, and gives the logits of what follows the tokens number `wanted`, a
    /// row for each.
    fn feed(
        &self,
        sessions: &mut [&mut Self::Session],
        tokens: &[u32],
        wanted: &[usize],
        logits: &mut Vec<f32>,
    ) -> Result<(), AiError>;

    /// Forgets every token after the first `len`.
    fn truncate(&self, session: &mut Self::Session, len: usize);

    /// Tokens fed so far.
    fn fed(&self, session: &Self::Session) -> usize;

    /// One for each token fed.
    fn looks<'a>(&self, session: &'a Self::Session) -> &'a [Look];

    /// Tokens that a decode may hold.
    fn capacity(&self) -> usize;

    /// The heads that a [`Look`] is of.
    fn alignment(&self) -> Alignment;
}

/// Who asks: a decode that somebody reads along with, or one of a whole recording, which may wait and works for longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    Live,
    Patient,
}

/// The decoder's heads whose cross-attention is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Alignment {
    pub(crate) heads: usize,
    /// Whether somebody has measured that they follow the sound.
    pub(crate) known: bool,
}

/// Encoder and decoder on this machine's processor. Its callers bring the threads.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) encoder: Encoder,
    pub(crate) decoder: Decoder,
}

impl Network for Host {
    type Session = Session;

    fn begin(&self, _: Turn, windows: Vec<Vec<f32>>, _: usize) -> Result<Vec<Session>, AiError> {
        let each = windows.iter();
        Ok(each.map(|it| self.decoder.begin(&self.encoder.run(it))).collect())
    }

    fn feed(
        &self,
        sessions: &mut [&mut Session],
        tokens: &[u32],
        wanted: &[usize],
        logits: &mut Vec<f32>,
    ) -> Result<(), AiError> {
        let rows = self.decoder.feed(sessions, tokens);
        let width = self.decoder.width();
        if wanted.iter().copied().eq(0..tokens.len()) {
            self.decoder.logits(&rows, logits);
        } else {
            let row = |&it: &usize| &rows[it * width..][..width];
            self.decoder
                .logits(&wanted.iter().map(row).collect::<Vec<_>>().concat(), logits);
        }
        Ok(())
    }

    fn truncate(&self, session: &mut Session, len: usize) {
        session.truncate(len, self.decoder.width());
    }

    fn fed(&self, session: &Session) -> usize {
        session.len()
    }

    fn looks<'a>(&self, session: &'a Session) -> &'a [Look] {
        &session.looks
    }

    fn capacity(&self) -> usize {
        self.decoder.capacity()
    }

    fn alignment(&self) -> Alignment {
        self.decoder.alignment()
    }
}
