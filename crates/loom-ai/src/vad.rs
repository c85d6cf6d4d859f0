use earshot::Detector;

use crate::limits::SAMPLE_RATE;

/// Samples of one decision (16 ms).
const FRAME: usize = 256;

/// When speech is taken to begin and to end.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct VoiceActivityConfig {
    /// A frame scoring at least this is speech, 0.0 ..= 1.0.
    pub threshold: f32,
    /// Seconds of speech, nearly unbroken, that begin an utterance.
    pub onset: f32,
    /// Seconds without speech that end an utterance.
    pub hangover: f32,
    /// Seconds kept before the first speech of an utterance.
    pub lead: f32,
    /// Seconds kept after its last speech.
    pub tail: f32,
}

impl Default for VoiceActivityConfig {
    fn default() -> Self {
        Self {
            threshold: 0.5,
            onset: 0.1,
            hangover: 0.6,
            lead: 0.3,
            tail: 0.25,
        }
    }
}

/// What a run of sound turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activity {
    /// An utterance begins at this sample.
    Begins(u64),
    /// The utterance's last speech ended at this sample, and enough silence followed.
    Ends(u64),
}

/// Tells speech from everything else, 16 ms at a time. The score is that of a small recurrent network (crate `earshot`,
/// which carries its weights); a gate on level keeps digital silence and hiss from ever reaching it.
pub(crate) struct VoiceActivity {
    config: VoiceActivityConfig,
    detector: Box<Detector>,
    pending: Vec<f32>,
    /// Samples decided on.
    at: u64,
    speaking: bool,
    /// Evidence for speech, in frames; decays where there is none.
    evidence: f32,
    /// First sample of the run that the evidence comes from.
    run: u64,
    /// End of the last frame that was speech.
    last_speech: u64,
}

impl std::fmt::Debug for VoiceActivity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VoiceActivity")
            .field("at", &self.at)
            .field("speaking", &self.speaking)
            .finish_non_exhaustive()
    }
}

impl VoiceActivity {
    pub(crate) fn new(config: VoiceActivityConfig) -> Self {
        Self {
            config,
            detector: Detector::default_boxed(),
            pending: Vec::with_capacity(FRAME),
            at: 0,
            speaking: false,
            evidence: 0.0,
            run: 0,
            last_speech: 0,
        }
    }

    /// Samples since the last frame that was speech.
    pub(crate) fn quiet_for(&self) -> u64 {
        self.at - self.last_speech.min(self.at)
    }

    /// End of the last frame that was speech.
    pub(crate) fn last_speech(&self) -> u64 {
        self.last_speech
    }

    /// First sample that an utterance could still be said to begin at.
    pub(crate) fn earliest_begin(&self) -> u64 {
        let from = if self.evidence > 0.0 { self.run } else { self.at };
        from.saturating_sub(samples(self.config.lead))
    }

    /// Takes the next samples; `each` gets what was decided, in order.
    pub(crate) fn handle(&mut self, pcm: &[f32], mut each: impl FnMut(Activity)) {
        let mut rest = pcm;
        while !rest.is_empty() {
            let take = (FRAME - self.pending.len()).min(rest.len());
            self.pending
                .extend(rest[..take].iter().map(|v| v.clamp(-1.0, 1.0)));
            rest = &rest[take..];
            if self.pending.len() == FRAME {
                if let Some(activity) = self.frame() {
                    each(activity);
                }
                self.pending.clear();
            }
        }
    }

    fn frame(&mut self) -> Option<Activity> {
        let level = (self.pending.iter().map(|v| v * v).sum::<f32>() / FRAME as f32).sqrt();
        let score = self.detector.predict_f32(&self.pending);
        let speech = score >= self.config.threshold && level >= QUIETEST;
        let start = self.at;
        self.at += FRAME as u64;
        if speech {
            if self.evidence <= 0.0 {
                self.run = start;
            }
            self.evidence = (self.evidence + 1.0).min(1_000.0);
            self.last_speech = self.at;
        } else if !self.speaking {
            self.evidence = (self.evidence - 0.5).max(0.0);
        }
        if !self.speaking && self.evidence * FRAME as f32 >= self.config.onset * SAMPLE_RATE as f32 {
            self.speaking = true;
            return Some(Activity::Begins(
                self.run.saturating_sub(samples(self.config.lead)),
            ));
        }
        if self.speaking && self.quiet_for() >= samples(self.config.hangover) {
            self.speaking = false;
            self.evidence = 0.0;
            return Some(Activity::Ends(self.last_speech + samples(self.config.tail)));
        }
        None
    }
}

/// Root mean square below which nothing is speech (-66 dBFS).
const QUIETEST: f32 = 0.000_5;

pub(crate) fn samples(seconds: f32) -> u64 {
    (seconds * SAMPLE_RATE as f32) as u64
}

/// The utterances of a whole recording: sample ranges in order, apart from each other.
pub(crate) fn utterances(pcm: &[f32], config: VoiceActivityConfig) -> Vec<std::ops::Range<usize>> {
    let mut vad = VoiceActivity::new(config);
    let mut out: Vec<std::ops::Range<usize>> = Vec::new();
    let mut begun = None;
    let end = pcm.len() as u64;
    let push = |out: &mut Vec<std::ops::Range<usize>>, from: u64, to: u64| {
        let from = out.last().map_or(from as usize, |it| it.end.max(from as usize));
        let to = to.min(end) as usize;
        if to > from {
            out.push(from..to);
        }
    };
    vad.handle(pcm, |activity| match activity {
        Activity::Begins(at) => begun = Some(at),
        Activity::Ends(at) => {
            if let Some(from) = begun.take() {
                push(&mut out, from, at);
            }
        }
    });
    if let Some(from) = begun {
        push(&mut out, from, end);
    }
    out
}
