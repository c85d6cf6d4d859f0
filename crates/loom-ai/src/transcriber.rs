use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use loom_core::{Cue, MediaTime, PcmFrame};

use crate::{AiError, Transcript};

/// What makes text of speech: Whisper (`Model`, feature `candle`), or a host's own. One serves any number of recordings, from any
/// thread.
///
/// A failure that has no variant of its own is [`AiError::Inference`].
///
/// ```
/// use loom_ai::{AiError, Segment, Transcriber, Transcript};
/// use loom_core::MediaTime;
///
/// /// Hears how long somebody has spoken, and nothing else.
/// #[derive(Debug)]
/// struct Clock;
///
/// impl Transcriber for Clock {
///     fn name(&self) -> &str {
///         "clock"
///     }
///
///     fn transcribe(&self, pcm: &[f32], start: MediaTime, progress: &mut dyn FnMut(f32)) -> Result<Transcript, AiError> {
///         let seconds = pcm.len() as f64 / 16_000.0;
///         let text = format!("{seconds} seconds");
///         progress(1.0);
///         Ok(Transcript {
///             language: "en".into(),
///             model: self.name().into(),
///             duration: seconds,
///             text: text.clone(),
///             segments: vec![Segment {
///                 start: start.secs_f64(),
///                 end: start.secs_f64() + seconds,
///                 text,
///                 confidence: 0.0,
///                 speaker: None,
///                 words: Vec::new(),
///             }],
///         })
///     }
/// }
///
/// let said = Clock.transcribe(&[0.0; 8_000], MediaTime::ZERO, &mut |_| {})?;
/// assert_eq!(said.text, "0.5 seconds");
/// # Ok::<(), AiError>(())
/// ```
pub trait Transcriber: fmt::Debug + Send + Sync {
    /// A short name for logs, pages and transcripts.
    fn name(&self) -> &str;

    /// Writes down what is said in 16 kHz mono sound whose first sample is heard at `start`. Blocks; `progress` is told the share that is
    /// done, 0.0 ..= 1.0. A long recording comes in stretches of ten minutes, which are cut where it is quiet.
    ///
    /// # Errors
    /// The transcript is not written then; the recording is kept all the same.
    fn transcribe(
        &self,
        pcm: &[f32],
        start: MediaTime,
        progress: &mut dyn FnMut(f32),
    ) -> Result<Transcript, AiError>;

    /// Begins the live captions of a recording; `None` where it makes none, which is the default.
    ///
    /// # Errors
    /// The recording has no live captions then.
    fn live(self: Arc<Self>) -> Result<Option<Box<dyn LiveTranscriber>>, AiError> {
        Ok(None)
    }
}

/// The live captions of one recording. It lives on a thread of its own, which may be kept busy: sound that waits too long is left to
/// the transcript.
pub trait LiveTranscriber: Send {
    /// Takes the next sound: 16 kHz, one channel.
    ///
    /// # Errors
    /// The captions miss this sound. After 20 of them in a row the recording's live captions end.
    fn handle_pcm(&mut self, frame: PcmFrame) -> Result<(), AiError>;

    /// Tells how much sound waits behind the last frame.
    fn handle_lag(&mut self, _lag: Duration) {}

    /// No more sound comes: what is open becomes final.
    ///
    /// # Errors
    /// The last caption is lost then.
    fn finish(&mut self) -> Result<(), AiError>;

    /// The next cue or watermark, in order.
    #[must_use = "it is given once"]
    fn poll_output(&mut self) -> Option<CaptionOutput>;
}

/// What live captions give.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum CaptionOutput {
    /// A cue that is new or has changed. A partial one only ever grows at its end; its final one comes once, last.
    Cue(Cue),
    /// Every cue that begins before this instant has been given, and is final. It never goes back.
    Watermark(MediaTime),
}

#[cfg(feature = "candle")]
impl Transcriber for crate::Model {
    fn name(&self) -> &str {
        self.name()
    }

    fn transcribe(
        &self,
        pcm: &[f32],
        start: MediaTime,
        progress: &mut dyn FnMut(f32),
    ) -> Result<Transcript, AiError> {
        let config = crate::TranscribeConfig {
            start,
            ..crate::TranscribeConfig::default()
        };
        crate::transcribe(self, pcm, &config, progress)
    }

    fn live(self: Arc<Self>) -> Result<Option<Box<dyn LiveTranscriber>>, AiError> {
        let captioner = crate::Captioner::new(crate::CaptionerConfig::default(), self)?;
        Ok(Some(Box::new(captioner)))
    }
}

#[cfg(feature = "candle")]
impl LiveTranscriber for crate::Captioner {
    fn handle_pcm(&mut self, frame: PcmFrame) -> Result<(), AiError> {
        self.handle_pcm(frame)
    }

    fn handle_lag(&mut self, lag: Duration) {
        self.handle_lag(lag);
    }

    fn finish(&mut self) -> Result<(), AiError> {
        self.finish()
    }

    fn poll_output(&mut self) -> Option<CaptionOutput> {
        self.poll_output()
    }
}
