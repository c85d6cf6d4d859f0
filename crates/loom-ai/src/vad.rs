use std::collections::VecDeque;

use earshot::Detector;

use crate::limits::SAMPLE_RATE;
use crate::tones::Tones;

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

impl VoiceActivityConfig {
    /// The rule that these values break, if any.
    pub(crate) fn broken_rule(&self) -> Option<&'static str> {
        let spans = [self.onset, self.hangover, self.lead, self.tail];
        if !(0.0..=1.0).contains(&self.threshold) {
            Some("threshold must be from 0 to 1")
        } else if !spans.iter().all(|it| (0.0..=2.0).contains(it)) {
            Some("onset, hangover, lead and tail must be from 0 to 2 seconds")
        } else if self.tail > self.hangover {
            Some("tail must not be longer than hangover")
        } else {
            None
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
/// which carries its weights), kept from steady noise and near silence by their level, and from tones by their spectrum.
pub(crate) struct VoiceActivity {
    config: VoiceActivityConfig,
    detector: Box<Detector>,
    tones: Tones,
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
    /// Levels of the last frames, dB.
    levels: VecDeque<f32>,
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
            tones: Tones::new(),
            pending: Vec::with_capacity(FRAME),
            at: 0,
            speaking: false,
            evidence: 0.0,
            run: 0,
            last_speech: 0,
            levels: VecDeque::with_capacity(STEADY_FRAMES),
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

    /// Whether the level has hardly changed for a while; a few frames may stray.
    fn is_steady(&self) -> bool {
        if self.levels.len() < STEADY_FRAMES / 2 {
            return false;
        }
        let mut sorted: Vec<f32> = self.levels.iter().copied().collect();
        sorted.sort_unstable_by(f32::total_cmp);
        let few = sorted.len() / 10;
        sorted[sorted.len() - 1 - few] - sorted[few] < LEAST_RANGE
    }

    fn frame(&mut self) -> Option<Activity> {
        let level = (self.pending.iter().map(|v| v * v).sum::<f32>() / FRAME as f32).sqrt();
        let score = self.detector.predict_f32(&self.pending);
        if self.levels.len() == STEADY_FRAMES {
            self.levels.pop_front();
        }
        self.levels.push_back(20.0 * level.max(1e-6).log10());
        self.tones.take(&self.pending);
        let speech =
            score >= self.config.threshold && level >= QUIETEST && !self.is_steady() && !self.tones.are_all();
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

/// Frames (0.64 s) over which speech never keeps one level: tones, fans and hiss do, and the network takes loud ones for speech.
const STEADY_FRAMES: usize = 40;
/// How far apart the levels of speech are at least over that span, dB.
const LEAST_RANGE: f32 = 4.0;
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

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: usize = SAMPLE_RATE;

    fn found(pcm: &[f32]) -> Vec<std::ops::Range<usize>> {
        utterances(pcm, VoiceActivityConfig::default())
    }

    /// Seconds of `pcm` that count as speech.
    fn heard(pcm: &[f32]) -> f32 {
        found(pcm).iter().map(|it| it.len()).sum::<usize>() as f32 / SECOND as f32
    }

    fn noise(seconds: usize, level: f32) -> Vec<f32> {
        let mut state = 0x2545_f491_4f6c_dd1du64;
        (0..seconds * SECOND)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                ((state >> 40) as f32 / (1 << 23) as f32 - 1.0) * level
            })
            .collect()
    }

    #[test]
    fn silence_and_hiss_are_no_speech() {
        assert!(found(&vec![0.0; 20 * SECOND]).is_empty());
        assert!(found(&noise(20, 0.000_5)).is_empty());
    }

    #[test]
    fn noise_of_any_level_is_no_speech() {
        for level in [0.01, 0.1, 0.5] {
            assert!(
                heard(&noise(20, level)) < 1.0,
                "level {level}: {} s",
                heard(&noise(20, level))
            );
        }
    }

    #[test]
    fn a_tone_is_no_speech() {
        let tone: Vec<f32> = (0..20 * SECOND)
            .map(|i| (std::f32::consts::TAU * 440.0 * i as f32 / SECOND as f32).sin() * 0.3)
            .collect();
        assert!(heard(&tone) < 1.0, "{} s of a tone", heard(&tone));
    }

    #[test]
    fn speech_is_found_between_silences_and_in_noise() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../../shared/media/speech/jfk.wav"
        );
        let Ok(wav) = std::fs::read(path) else {
            eprintln!("SKIPPED: {path} is absent");
            return;
        };
        let data = wav.windows(4).position(|it| it == b"data").unwrap() + 8;
        let speech: Vec<f32> = wav[data..]
            .chunks_exact(2)
            .map(|b| f32::from(i16::from_le_bytes([b[0], b[1]])) / 32_768.0)
            .collect();
        let mut pcm = vec![0.0; 3 * SECOND];
        pcm.extend_from_slice(&speech);
        pcm.extend_from_slice(&[0.0; 3 * SECOND]);
        for hiss in [0.0, 0.003] {
            let mixed: Vec<f32> = pcm.iter().zip(noise(20, hiss)).map(|(a, b)| a + b).collect();
            let utterances = found(&mixed);
            let first = utterances.first().unwrap().start as f32 / SECOND as f32;
            let last = utterances.last().unwrap().end as f32 / SECOND as f32;
            assert!((2.4..3.6).contains(&first), "{first}");
            assert!((12.8..14.6).contains(&last), "{last}");
            assert!(heard(&mixed) > 7.0, "{} s", heard(&mixed));
        }
    }
}
