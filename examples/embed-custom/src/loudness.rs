//! A [`Transcriber`] that writes down when it was loud, and how loud.

use std::collections::VecDeque;
use std::sync::Arc;

use loom_engine::{
    AiError, CaptionOutput, Cue, CueId, CueState, LiveTranscriber, MediaTime, PcmFrame, Transcriber,
    Transcript, TranscriptSegment, Word,
};

/// Samples a second of what it hears.
const RATE: u32 = 16_000;
/// Samples that are judged together: a tenth of a second.
const STRETCH: usize = RATE as usize / 10;
/// What is louder than this, in decibels below full scale, is written down.
const LOUD: f32 = -50.0;

/// Hears nothing but loudness.
#[derive(Debug)]
pub(crate) struct Loudness;

impl Transcriber for Loudness {
    fn name(&self) -> &str {
        "loudness"
    }

    fn transcribe(
        &self,
        pcm: &[f32],
        start: MediaTime,
        progress: &mut dyn FnMut(f32),
    ) -> Result<Transcript, AiError> {
        let mut meter = Meter::default();
        let mut loud: Vec<Loud> = meter.hear(pcm, start).into_iter().collect();
        loud.extend(meter.end());
        progress(1.0);
        let texts: Vec<String> = loud.iter().map(Loud::text).collect();
        Ok(Transcript {
            language: "en".to_owned(),
            model: self.name().to_owned(),
            duration: pcm.len() as f64 / f64::from(RATE),
            text: texts.join(" "),
            segments: loud.iter().map(Loud::segment).collect(),
        })
    }

    fn live(self: Arc<Self>) -> Result<Option<Box<dyn LiveTranscriber>>, AiError> {
        Ok(Some(Box::new(Live::default())))
    }
}

/// One recording's live captions.
#[derive(Debug, Default)]
struct Live {
    meter: Meter,
    cues: u64,
    settled: MediaTime,
    outputs: VecDeque<CaptionOutput>,
}

impl LiveTranscriber for Live {
    fn handle_pcm(&mut self, frame: PcmFrame) -> Result<(), AiError> {
        for loud in self.meter.hear(&frame.samples, frame.pts) {
            self.show(&loud);
        }
        self.settle(self.meter.open.as_ref().map_or(frame.pts, |open| open.start));
        Ok(())
    }

    fn finish(&mut self) -> Result<(), AiError> {
        if let Some(loud) = self.meter.end() {
            self.show(&loud);
        }
        Ok(())
    }

    fn poll_output(&mut self) -> Option<CaptionOutput> {
        self.outputs.pop_front()
    }
}

impl Live {
    fn show(&mut self, loud: &Loud) {
        self.outputs.push_back(CaptionOutput::Cue(Cue {
            id: CueId(self.cues),
            start: loud.start,
            end: loud.end,
            text: loud.text(),
            words: Vec::new(),
            state: CueState::Final,
        }));
        self.cues += 1;
    }

    /// No later caption begins before this: players are given what there is up to here, every half second.
    fn settle(&mut self, at: MediaTime) {
        if at.secs_f64() > self.settled.secs_f64() + 0.5 {
            self.settled = at;
            self.outputs.push_back(CaptionOutput::Watermark(at));
        }
    }
}

/// Finds the stretches that are loud.
#[derive(Debug, Default)]
struct Meter {
    waiting: Vec<f32>,
    open: Option<Loud>,
}

#[derive(Debug, Clone)]
struct Loud {
    start: MediaTime,
    end: MediaTime,
    decibels: f32,
}

impl Meter {
    /// The loud stretches that end within `pcm`, whose first sample is heard at `at`.
    fn hear(&mut self, pcm: &[f32], at: MediaTime) -> Vec<Loud> {
        let seconds = |samples: usize| samples as f64 / f64::from(RATE);
        let mut from = at.secs_f64() - seconds(self.waiting.len());
        self.waiting.extend_from_slice(pcm);
        let mut ended = Vec::new();
        while self.waiting.len() >= STRETCH {
            let energy: f32 = self.waiting.drain(..STRETCH).map(|it| it * it).sum();
            let decibels = 10.0 * (energy / STRETCH as f32).max(1e-10).log10();
            let to = from + seconds(STRETCH);
            match &mut self.open {
                Some(open) if decibels > LOUD => {
                    open.end = MediaTime::from_secs_f64(to);
                    open.decibels = open.decibels.max(decibels);
                }
                None if decibels > LOUD => {
                    self.open = Some(Loud {
                        start: MediaTime::from_secs_f64(from),
                        end: MediaTime::from_secs_f64(to),
                        decibels,
                    });
                }
                _ => ended.extend(self.open.take()),
            }
            from = to;
        }
        ended
    }

    fn end(&mut self) -> Option<Loud> {
        self.waiting.clear();
        self.open.take()
    }
}

impl Loud {
    fn text(&self) -> String {
        format!("[sound, {:.0} dB]", self.decibels)
    }

    fn segment(&self) -> TranscriptSegment {
        TranscriptSegment {
            start: self.start.secs_f64(),
            end: self.end.secs_f64(),
            text: self.text(),
            confidence: 0.0,
            speaker: None,
            words: vec![Word {
                start: self.start,
                end: self.end,
                text: self.text(),
                probability: 1.0,
            }],
        }
    }
}
