use std::fmt;
use std::sync::Arc;

use crate::AiError;
use crate::align::{self, TimedWord};
use crate::decode::{self, Answer, Ask};
use crate::decoder::{Decoder, Session};
use crate::encoder::Encoder;
use crate::limits::{FRAMES_PER_POSITION, SAMPLE_RATE, SAMPLES_PER_POSITION};
use crate::locate::ModelFiles;
use crate::mel::MelBank;
use crate::prompt::{Opening, Task};
use crate::vocabulary::{Vocabulary, language_code};
use crate::weights::{Checkpoint, Dims};

/// A Whisper model in memory, ready to be shared by every recording.
///
/// ```no_run
/// use loom_ai::{Model, ModelConfig, TranscribeConfig, transcribe};
///
/// # fn example(pcm: Vec<f32>) -> Result<(), loom_ai::AiError> {
/// let files = Model::locate(&ModelConfig::from_env(), &mut |_| {})?;
/// let model = Model::load(&files, 2)?;
/// let transcript = transcribe(&model, &pcm, &TranscribeConfig::default(), |done| eprintln!("{done:.2}"))?;
/// println!("{}", transcript.to_vtt());
/// # Ok(())
/// # }
/// ```
pub struct Model {
    name: String,
    dims: Dims,
    vocabulary: Vocabulary,
    mel: MelBank,
    encoder: Encoder,
    decoder: Decoder,
    /// Inference for live captions runs here, so that its threads are the pool's and not each caller's.
    pool: rayon::ThreadPool,
    /// Whole recordings are heard here: they work for seconds at a time, which live captions must not wait for.
    patient: rayon::ThreadPool,
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model")
            .field("name", &self.name)
            .field("dims", &self.dims)
            .finish_non_exhaustive()
    }
}

/// What one window of sound said.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    pub(crate) answer: Answer,
    pub(crate) words: Vec<TimedWord>,
}

impl Model {
    /// Loads the files that [`locate`](Self::locate) found. `threads` share the work of one window; 1 costs the least
    /// processor time in all.
    ///
    /// # Errors
    /// [`AiError::Malformed`] names the tensor or field that is missing, misshapen or cut off.
    pub fn load(files: &ModelFiles, threads: usize) -> Result<Arc<Self>, AiError> {
        if !(1..=64).contains(&threads) {
            return Err(AiError::Config {
                field: "threads",
                rule: "must be from 1 to 64",
            });
        }
        let mut checkpoint = Checkpoint::read(files.path())?;
        let dims = checkpoint.dims;
        let encoder = Encoder::take(&mut checkpoint)?;
        let decoder = Decoder::take(&mut checkpoint)?;
        let pool = |name: &'static str| {
            rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .thread_name(move |i| format!("{name}-{i}"))
                .build()
                .map_err(|e| AiError::Inference(Box::new(e)))
        };
        Ok(Arc::new(Self {
            name: files.name().to_owned(),
            dims,
            vocabulary: checkpoint.vocabulary,
            mel: MelBank::new(dims.mels),
            encoder,
            decoder,
            pool: pool("loom-ai")?,
            patient: pool("loom-ai-whole")?,
        }))
    }

    /// A short name for logs and pages: the folder's or file's.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the model knows languages other than English.
    pub fn is_multilingual(&self) -> bool {
        self.vocabulary.languages.is_some()
    }

    pub(crate) fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// Most samples that one window may have: what the model takes, less a second of silence.
    pub(crate) fn longest_window(&self) -> usize {
        (self.dims.audio_positions * SAMPLES_PER_POSITION).saturating_sub(SAMPLE_RATE)
    }

    /// The tokens a decode begins with: what was said before, if anything, then language and task.
    pub(crate) fn prompt(&self, opening: &Opening<'_>, pcm: &[f32]) -> Result<Vec<u32>, AiError> {
        let vocabulary = &self.vocabulary;
        let mut tokens = opening.before(vocabulary, self.dims.text_positions / 2);
        tokens.push(vocabulary.start);
        let Some((first, count)) = vocabulary.languages else {
            return match opening.task {
                Task::Transcribe => Ok(tokens),
                Task::Translate => Err(AiError::Config {
                    field: "task",
                    rule: "must be to transcribe: an english-only model cannot translate",
                }),
            };
        };
        tokens.push(match opening.language {
            Some(code) => vocabulary.language(code).ok_or(AiError::Config {
                field: "language",
                rule: "must be a code that the model knows",
            })?,
            None => self.pool.install(|| self.detect(pcm, first, count)),
        });
        tokens.push(match opening.task {
            Task::Transcribe => vocabulary.transcribe,
            Task::Translate => vocabulary.translate,
        });
        Ok(tokens)
    }

    /// The language code that a prompt names.
    pub(crate) fn language_of(&self, prompt: &[u32]) -> &'static str {
        let index = self.vocabulary.languages.and_then(|(first, _)| {
            let start = prompt.iter().position(|&it| it == self.vocabulary.start)?;
            prompt.get(start + 1)?.checked_sub(first)
        });
        index.and_then(|it| language_code(it as usize)).unwrap_or("en")
    }

    fn detect(&self, pcm: &[f32], first: u32, count: u32) -> u32 {
        let mut session = self.decoder.begin(&self.encode(pcm, 1.0));
        let x = self.decoder.feed(&mut session, &[self.vocabulary.start]);
        let mut logits = Vec::new();
        self.decoder.logits(&x, &mut logits);
        (first..first + count)
            .max_by(|&a, &b| logits[a as usize].total_cmp(&logits[b as usize]))
            .unwrap_or(first)
    }

    /// Hears one window of at most [`longest_window`](Self::longest_window) samples.
    pub(crate) fn hear(&self, pcm: &[f32], ask: &Ask<'_>) -> Heard {
        self.pool
            .install(|| self.listen(&[pcm], std::slice::from_ref(ask)))
            .swap_remove(0)
    }

    /// Hears several windows of a whole recording; each comes out as it would alone.
    pub(crate) fn hear_all(&self, sounds: &[&[f32]], asks: &[Ask<'_>]) -> Vec<Heard> {
        self.patient.install(|| self.listen(sounds, asks))
    }

    fn listen(&self, sounds: &[&[f32]], asks: &[Ask<'_>]) -> Vec<Heard> {
        let each = sounds.iter().zip(asks);
        let mut sessions: Vec<Session> = each
            .map(|(pcm, ask)| self.decoder.begin(&self.encode(pcm, ask.silence)))
            .collect();
        let answers = decode::decode(&self.decoder, &self.vocabulary, &mut sessions, asks);
        let each = answers.into_iter().zip(sounds);
        each.map(|(answer, pcm)| {
            let positions = pcm.len().div_ceil(SAMPLES_PER_POSITION).max(1);
            let heads = self.decoder.alignment_heads();
            let words = align::words(&self.vocabulary, &answer, heads, positions);
            Heard { answer, words }
        })
        .collect()
    }

    fn encode(&self, pcm: &[f32], silence: f32) -> Vec<f32> {
        let padded = pcm.len() + (silence * SAMPLE_RATE as f32) as usize;
        let positions = padded
            .div_ceil(SAMPLES_PER_POSITION)
            .min(self.dims.audio_positions);
        self.encoder
            .run(&self.mel.frames(pcm, positions * FRAMES_PER_POSITION))
    }
}

#[cfg(test)]
mod reference;
