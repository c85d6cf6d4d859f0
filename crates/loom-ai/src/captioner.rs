use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use loom_core::{Cue, CueId, CueState, MediaTime, PcmFrame, Word};

use crate::AiError;
use crate::agreement::{Agreement, Pass};
use crate::limits::SAMPLE_RATE;
use crate::lines::{self, bare};
use crate::model::Model;
use crate::prompt::Opening;
use crate::transcriber::CaptionOutput;
use crate::vad::{Activity, VoiceActivity, VoiceActivityConfig, samples};

/// How live captions are made.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CaptionerConfig {
    /// ISO 639-1 code; `None` lets a multilingual model find out from the first utterance.
    pub language: Option<String>,
    /// New sound after which the utterance is decoded again.
    pub step: Duration,
    /// About how much sound one decode hears at most: more of it errs less and costs more.
    pub window: Duration,
    /// What counts as speech.
    pub voice_activity: VoiceActivityConfig,
}

impl Default for CaptionerConfig {
    fn default() -> Self {
        Self {
            language: None,
            step: Duration::from_millis(450),
            window: Duration::from_secs(14),
            voice_activity: VoiceActivityConfig::default(),
        }
    }
}

/// PCM to live captions.
///
/// Stability: the current utterance is decoded again each time some new sound has come, and a word is shown once two
/// decodes in a row agree on it and on all before it (LocalAgreement-2: Liu et al. 2020, Macháček et al. 2023), or once it is
/// likely enough. A shown cue only grows at its end; its final form comes once a break follows it that two decodes agree on,
/// or that was heard a second ago, may correct it, and is forced on every later decode of the same sound. Silence is never
/// decoded.
///
/// Time comes only from the PCM: the same frames always give the same cues.
///
/// ```no_run
/// use std::sync::Arc;
/// use loom_ai::{CaptionOutput, Captioner, CaptionerConfig, Model};
/// use loom_core::PcmFrame;
///
/// # fn example(model: Arc<Model>, frames: impl Iterator<Item = PcmFrame>) -> Result<(), loom_ai::AiError> {
/// let mut captioner = Captioner::new(CaptionerConfig::default(), model)?;
/// for frame in frames {
///     captioner.handle_pcm(frame)?; // 16 kHz, one channel
///     while let Some(output) = captioner.poll_output() {
///         if let CaptionOutput::Cue(cue) = output {
///             println!("{:?} {} {}", cue.id, cue.start, cue.text); // the same id again: it has grown
///         }
///     }
/// }
/// captioner.finish()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Captioner {
    config: CaptionerConfig,
    model: Arc<Model>,
    vad: VoiceActivity,
    prompt: Option<Vec<u32>>,
    /// Sound that waits to be a whole [`CHUNK`].
    pending: Vec<f32>,
    /// Sound that may still be needed; its first sample is number `base`.
    pcm: Vec<f32>,
    base: u64,
    /// When sample number 0 of this run is heard.
    zero: Option<MediaTime>,
    utterance: Option<Utterance>,
    /// The last utterance, whose sound is context for the next.
    rested: Option<Utterance>,
    open: Vec<Word>,
    next_id: u64,
    /// No later cue begins before this.
    floor: MediaTime,
    watermark: Option<MediaTime>,
    lag: Duration,
    outputs: VecDeque<CaptionOutput>,
}

#[derive(Debug)]
struct Utterance {
    /// First sample that is still decoded.
    from: u64,
    /// Samples that the last decode heard up to.
    heard: u64,
    agreement: Agreement,
}

/// Samples worked on at once (20 ms), so that a decode is due at the same sample however frames are cut.
const CHUNK: usize = 320;
/// Least sound that is decoded before an utterance has ended.
const LEAST: f32 = 0.8;
/// Seconds of silence after which an utterance no longer is context for the next.
const RESUMED: f32 = 1.5;
/// A gap in the PCM up to this long is bridged with silence; a longer one ends the utterance.
const BRIDGED: Duration = Duration::from_millis(400);
/// How far the PCM's own times may stray from its sample count before they count as a gap.
const JITTER: Duration = Duration::from_millis(40);

impl Captioner {
    /// Captions for one recording with a model that other recordings may share.
    ///
    /// # Errors
    /// [`AiError::Config`] for a value out of range or a language that the model does not know.
    pub fn new(config: CaptionerConfig, model: Arc<Model>) -> Result<Self, AiError> {
        let bad = |field, rule| Err(AiError::Config { field, rule });
        if !(Duration::from_millis(200)..=Duration::from_secs(10)).contains(&config.step) {
            return bad("step", "must be from 0.2 to 10 seconds");
        }
        if !(Duration::from_secs(4)..=Duration::from_secs(28)).contains(&config.window) {
            return bad("window", "must be from 4 to 28 seconds");
        }
        if let Some(rule) = config.voice_activity.broken_rule() {
            return bad("voice_activity", rule);
        }
        let prompt = match &config.language {
            Some(_) => Some(model.prompt(&Opening::of(&config.language), &[])?),
            None if !model.is_multilingual() => Some(model.prompt(&Opening::default(), &[])?),
            None => None,
        };
        Ok(Self {
            vad: VoiceActivity::new(config.voice_activity),
            config,
            model,
            prompt,
            pending: Vec::new(),
            pcm: Vec::new(),
            base: 0,
            zero: None,
            utterance: None,
            rested: None,
            open: Vec::new(),
            next_id: 0,
            floor: MediaTime::from_nanos(i64::MIN),
            watermark: None,
            lag: Duration::ZERO,
            outputs: VecDeque::new(),
        })
    }

    /// Takes the next sound: 16 kHz, one channel. Inference happens in here, so call it from a thread of its own.
    ///
    /// A gap in its times longer than 400 ms ends the utterance; sound that was already heard is left out.
    ///
    /// # Errors
    /// [`AiError::PcmShape`] for another rate or more channels; [`AiError::Inference`] when the arithmetic fails, after
    /// which the utterance is given up and the captioner goes on.
    pub fn handle_pcm(&mut self, frame: PcmFrame) -> Result<(), AiError> {
        if frame.sample_rate as usize != SAMPLE_RATE || frame.channels != 1 {
            return Err(AiError::PcmShape {
                at: frame.pts,
                channels: frame.channels,
                sample_rate: frame.sample_rate,
            });
        }
        let mut sound = frame.samples;
        for value in &mut sound {
            *value = if value.is_finite() {
                value.clamp(-1.0, 1.0)
            } else {
                0.0
            };
        }
        let expected = self.time(self.base + (self.pcm.len() + self.pending.len()) as u64);
        if self.zero.is_none() {
            self.zero = Some(frame.pts);
        } else if frame.pts.since(expected) > JITTER {
            let gap = frame.pts.since(expected);
            if gap <= BRIDGED {
                self.take(&vec![0.0; samples(gap.as_secs_f32()) as usize])?;
            } else {
                self.end_run()?;
                self.zero = Some(frame.pts);
            }
        } else if expected.since(frame.pts) > JITTER {
            let again = (samples(expected.since(frame.pts).as_secs_f32()) as usize).min(sound.len());
            sound.drain(..again);
        }
        self.take(&sound)
    }

    /// Tells how much sound waits behind the last frame: the step grows by it and the window shrinks, so that captions catch up
    /// rather than fall further behind when inference is slower than real time.
    pub fn handle_lag(&mut self, lag: Duration) {
        self.lag = lag.min(Duration::from_secs(8));
    }

    /// No more sound comes: what is open becomes final.
    ///
    /// # Errors
    /// [`AiError::Inference`] when the arithmetic fails; the cues shown so far are final all the same.
    pub fn finish(&mut self) -> Result<(), AiError> {
        let end = self.time(self.base + (self.pcm.len() + self.pending.len()) as u64);
        let result = self.end_run();
        if self.zero.take().is_some() {
            self.raise(end);
        }
        result
    }

    /// The next cue or watermark, in order.
    #[must_use = "it is given once"]
    pub fn poll_output(&mut self) -> Option<CaptionOutput> {
        self.outputs.pop_front()
    }

    fn take(&mut self, sound: &[f32]) -> Result<(), AiError> {
        self.pending.extend_from_slice(sound);
        while self.pending.len() >= CHUNK {
            let chunk: Vec<f32> = self.pending.drain(..CHUNK).collect();
            self.pcm.extend_from_slice(&chunk);
            let mut decided: [Option<Activity>; 4] = [None; 4];
            let mut slots = decided.iter_mut();
            self.vad.handle(&chunk, |it| {
                if let Some(slot) = slots.next() {
                    *slot = Some(it);
                }
            });
            for activity in decided.into_iter().flatten() {
                match activity {
                    Activity::Begins(at) => {
                        self.begin_utterance(at);
                    }
                    Activity::Ends(at) => self.end_utterance(at)?,
                }
            }
            self.decode_if_due()?;
            self.forget();
            self.advance();
        }
        Ok(())
    }

    /// Decodes the utterance once a step of new sound has come.
    fn decode_if_due(&mut self) -> Result<(), AiError> {
        let now = self.base + self.pcm.len() as u64;
        let step = samples((self.config.step + self.lag).as_secs_f32());
        let Some(utterance) = &self.utterance else {
            return Ok(());
        };
        let is_new = self.vad.last_speech() > utterance.heard.saturating_sub(samples(0.1));
        if now - utterance.heard < step || now - utterance.from < samples(LEAST) || !is_new {
            return Ok(());
        }
        self.decode(now, Pass::Growing)
    }

    fn decode(&mut self, to: u64, pass: Pass) -> Result<(), AiError> {
        let Some(mut utterance) = self.utterance.take() else {
            return Ok(());
        };
        let to = to.min(self.base + self.pcm.len() as u64);
        let most = self.model.longest_window() as u64;
        if to.saturating_sub(utterance.from) > most {
            utterance.from = to - most;
        }
        let sound =
            &self.pcm[(utterance.from - self.base) as usize..(to.max(utterance.from) - self.base) as usize];
        if self.prompt.is_none() {
            self.prompt = Some(self.model.prompt(&Opening::default(), sound)?);
        }
        let prompt = self.prompt.as_deref().unwrap_or_default();
        utterance.agreement.hear(&self.model, prompt, sound, pass)?;
        utterance.heard = to;
        let words = utterance
            .agreement
            .words(pass, self.time(utterance.from).secs_f64());
        let closed = self.close_cues(&words[..utterance.agreement.agreed().min(words.len())], pass);
        utterance.agreement.fix(closed);
        if pass == Pass::Growing {
            self.grow(&words[closed..]);
        }
        let window = match pass {
            Pass::Growing => self.window(),
            Pass::Last => self.context(),
        };
        let most = samples(self.config.window.as_secs_f32());
        let length = to.saturating_sub(utterance.from);
        utterance.from += utterance
            .agreement
            .trim(self.model.vocabulary(), length, window, most);
        self.utterance = Some(utterance);
        Ok(())
    }

    /// Ends every cue that `words` fill: how many words became final.
    fn close_cues(&mut self, words: &[Word], pass: Pass) -> usize {
        let mut from = 0;
        for at in 1..=words.len() {
            let ends = match words.get(at) {
                Some(next) => lines::ends_before(&words[from..at], next),
                None => pass == Pass::Last,
            };
            if ends {
                self.settle(&words[from..at]);
                from = at;
            }
        }
        from
    }

    /// Shows the words of the open cue, which only ever grows at its end. Where what was shown is heard otherwise now, only
    /// what was said after it is added; the final form will correct the rest.
    fn grow(&mut self, words: &[Word]) {
        let before = self.open.last().map_or(self.floor, |it| it.end);
        let goes_on = self
            .open
            .iter()
            .zip(words)
            .all(|(a, b)| bare(&a.text) == bare(&b.text));
        let from = if goes_on {
            self.open.len()
        } else {
            words.iter().take_while(|it| it.start < before).count()
        };
        let more = in_order(words.get(from..).unwrap_or_default(), before);
        if more.is_empty() {
            return;
        }
        self.open.extend(more);
        let cue = self.cue(self.open.clone(), CueState::Partial);
        self.outputs.extend(cue.map(CaptionOutput::Cue));
    }

    /// Ends the open cue with these words, which may correct what it showed.
    fn settle(&mut self, words: &[Word]) {
        if let Some(cue) = self.cue(in_order(words, self.floor), CueState::Final) {
            self.floor = self.floor.max(cue.end);
            self.next_id += 1;
            self.open.clear();
            self.outputs.push_back(CaptionOutput::Cue(cue));
        }
    }

    fn cue(&self, words: Vec<Word>, state: CueState) -> Option<Cue> {
        Some(Cue {
            id: CueId(self.next_id),
            start: words.first()?.start,
            end: words.last()?.end,
            text: lines::text(&words),
            words,
            state,
        })
    }

    /// Goes on with the last utterance's sound as context if it is not long ago.
    fn begin_utterance(&mut self, at: u64) {
        let at = at.max(self.base);
        self.utterance = Some(match self.rested.take() {
            Some(rested)
                if at - rested.heard.min(at) <= samples(RESUMED)
                    && at.saturating_sub(rested.from) <= self.context() =>
            {
                Utterance { heard: at, ..rested }
            }
            _ => Utterance {
                from: at,
                heard: at,
                agreement: Agreement::default(),
            },
        });
    }

    /// Samples after which what is final is left out: fewer where sound waits.
    fn window(&self) -> u64 {
        samples(self.config.window.as_secs_f32() / (1.0 + 2.0 * self.lag.as_secs_f32()))
    }

    /// Samples that a resumed utterance may bring along.
    fn context(&self) -> u64 {
        self.window() * 6 / 7
    }

    fn end_utterance(&mut self, at: u64) -> Result<(), AiError> {
        let result = self.decode(at, Pass::Last);
        self.rested = self.utterance.take();
        // What was shown and not heard again stays as it was.
        let open = std::mem::take(&mut self.open);
        self.settle(&open);
        result
    }

    /// Ends what is going on because the sound's times break off here.
    fn end_run(&mut self) -> Result<(), AiError> {
        self.pcm.append(&mut self.pending);
        let end = self.base + self.pcm.len() as u64;
        let result = self.end_utterance(end);
        self.rested = None;
        self.pcm.clear();
        self.base = 0;
        self.vad = VoiceActivity::new(self.config.voice_activity);
        result
    }

    /// Lets go of sound that no decode will want.
    fn forget(&mut self) {
        let now = self.base + self.pcm.len() as u64;
        if self
            .rested
            .as_ref()
            .is_some_and(|it| now - it.heard > samples(2.0 * RESUMED))
        {
            self.rested = None;
        }
        let kept = self.utterance.as_ref().or(self.rested.as_ref());
        let needed = kept.map_or(u64::MAX, |it| it.from).min(self.vad.earliest_begin());
        let spare = needed.saturating_sub(self.base) as usize;
        if spare > SAMPLE_RATE {
            self.pcm.drain(..spare.min(self.pcm.len()));
            self.base += spare as u64;
        }
    }

    /// Raises the watermark to where nothing can begin any more.
    fn advance(&mut self) {
        let at = match (&self.utterance, self.open.first()) {
            (_, Some(first)) => first.start,
            (Some(it), None) => self.time(it.from).max(self.floor),
            (None, None) => self.time(self.vad.earliest_begin()),
        };
        if self.watermark.is_none_or(|it| at.since(it) >= WATERMARK_STEP) {
            self.raise(at);
        }
    }

    fn raise(&mut self, at: MediaTime) {
        if self.watermark.is_none_or(|it| at > it) {
            self.watermark = Some(at);
            self.floor = self.floor.max(at);
            self.outputs.push_back(CaptionOutput::Watermark(at));
        }
    }

    fn time(&self, sample: u64) -> MediaTime {
        let zero = self.zero.unwrap_or(MediaTime::ZERO);
        MediaTime::from_nanos(zero.nanos() + sample as i64 * 62_500)
    }
}

/// The watermark moves by at least this much.
const WATERMARK_STEP: Duration = Duration::from_millis(200);

/// The words with times that begin no earlier than `floor` and never go back.
fn in_order(words: &[Word], mut floor: MediaTime) -> Vec<Word> {
    words
        .iter()
        .cloned()
        .map(|mut word| {
            word.start = word.start.max(floor);
            word.end = word.end.max(word.start + Duration::from_millis(20));
            floor = word.end;
            word
        })
        .collect()
}
