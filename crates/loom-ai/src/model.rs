use std::fmt;
use std::sync::Arc;

use crate::align::{self, TimedWord};
use crate::decode::{self, Answer, Ask};
use crate::decoder::Decoder;
use crate::encoder::Encoder;
use crate::limits::{FRAMES_PER_POSITION, SAMPLE_RATE, SAMPLES_PER_POSITION};
use crate::locate::ModelFiles;
use crate::mel::MelBank;
use crate::network::{Host, Network, Turn};
use crate::prompt::{Opening, Task};
use crate::tensors::Desk;
use crate::vocabulary::{Vocabulary, language_code};
use crate::weights::{Checkpoint, Dims};
use crate::{AiError, Device};

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
    hearing: Hearing,
}

/// What hears.
enum Hearing {
    Host(Box<Processor>),
    /// The thread that owns a device.
    Device(Desk),
}

/// The network on this machine's processor, and its threads.
struct Processor {
    network: Host,
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
            .field("device", &self.device())
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
    /// Loads the files that [`locate`](Self::locate) found, onto the device that its configuration named. Where that is this machine's
    /// processor, `threads` share the work of one window; 1 costs the least processor time in all.
    ///
    /// # Errors
    /// [`AiError::Malformed`] names the tensor or field that is missing, misshapen or cut off. [`AiError::Device`] and
    /// [`AiError::Memory`] say what the device lacks; the processor takes its place only for [`Device::Auto`].
    pub fn load(files: &ModelFiles, threads: usize) -> Result<Arc<Self>, AiError> {
        if !(1..=64).contains(&threads) {
            return Err(AiError::Config {
                field: "threads",
                rule: "must be from 1 to 64",
            });
        }
        if files.is_of_wrong_device() {
            return Err(Device::unknown());
        }
        let checkpoint = Checkpoint::read(files.path())?;
        let (desk, mut checkpoint) =
            match Desk::open(files.device(), files.name(), files.at_once(), checkpoint) {
                Ok(it) => it,
                Err(why @ AiError::Config { .. }) => return Err(why),
                // A gpu that was there and fails all the same may have taken weights already: they are read anew.
                Err(why) if files.device() == Device::Auto => {
                    tracing::warn!(%why, "not heard with a gpu");
                    (None, Checkpoint::read(files.path())?)
                }
                Err(why) => return Err(why),
            };
        let hearing = match desk {
            Some(desk) => Hearing::Device(desk),
            None => Hearing::Host(Box::new(Processor::new(&mut checkpoint, threads)?)),
        };
        Ok(Arc::new(Self::new(files.name(), checkpoint, hearing)))
    }

    fn new(name: &str, checkpoint: Checkpoint, hearing: Hearing) -> Self {
        Self {
            name: name.to_owned(),
            dims: checkpoint.dims,
            mel: MelBank::new(checkpoint.dims.mels),
            vocabulary: checkpoint.vocabulary,
            hearing,
        }
    }

    /// The network alone, on this machine's processor.
    #[cfg(test)]
    pub(crate) fn processor(path: &std::path::Path) -> Result<Host, AiError> {
        Ok(Processor::new(&mut Checkpoint::read(path)?, 1)?.network)
    }

    /// The same as a device's thread hears, with candle's tensors on this machine's processor.
    #[cfg(test)]
    pub(crate) fn of_tensors(path: &std::path::Path) -> Result<Arc<Self>, AiError> {
        let (desk, checkpoint) = Desk::on_processor(Checkpoint::read(path)?)?;
        Ok(Arc::new(Self::new("tensors", checkpoint, Hearing::Device(desk))))
    }

    /// What it hears with: never [`Device::Auto`], but what that came to.
    pub fn device(&self) -> Device {
        match &self.hearing {
            Hearing::Host(_) => Device::Cpu,
            Hearing::Device(desk) => desk.device(),
        }
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
            None => match &self.hearing {
                Hearing::Host(it) => it.pool.install(|| self.detect(&it.network, pcm, first, count))?,
                Hearing::Device(desk) => self.detect(desk, pcm, first, count)?,
            },
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

    fn detect(&self, network: &impl Network, pcm: &[f32], first: u32, count: u32) -> Result<u32, AiError> {
        let mut logits = Vec::new();
        for mut session in network.begin(Turn::Live, vec![self.frames(pcm, 1.0)], 0)? {
            network.feed(&mut [&mut session], &[self.vocabulary.start], &[0], &mut logits)?;
        }
        let likeliest =
            (first..first + count).max_by(|&a, &b| logits[a as usize].total_cmp(&logits[b as usize]));
        Ok(likeliest.unwrap_or(first))
    }

    /// Hears one window of at most [`longest_window`](Self::longest_window) samples.
    pub(crate) fn hear(&self, pcm: &[f32], ask: &Ask<'_>) -> Result<Heard, AiError> {
        let (sounds, asks) = ([pcm], std::slice::from_ref(ask));
        let mut heard = match &self.hearing {
            Hearing::Host(it) => it
                .pool
                .install(|| self.listen(&it.network, Turn::Live, &sounds, asks))?,
            Hearing::Device(desk) => self.listen(desk, Turn::Live, &sounds, asks)?,
        };
        Ok(heard.swap_remove(0))
    }

    /// Hears several windows of a whole recording; each comes out as it would alone.
    pub(crate) fn hear_all(&self, sounds: &[&[f32]], asks: &[Ask<'_>]) -> Result<Vec<Heard>, AiError> {
        match &self.hearing {
            Hearing::Host(it) => it
                .patient
                .install(|| self.listen(&it.network, Turn::Patient, sounds, asks)),
            Hearing::Device(desk) => self.listen(desk, Turn::Patient, sounds, asks),
        }
    }

    fn listen<N: Network>(
        &self,
        network: &N,
        turn: Turn,
        sounds: &[&[f32]],
        asks: &[Ask<'_>],
    ) -> Result<Vec<Heard>, AiError> {
        let each = sounds.iter().zip(asks);
        let windows = each.map(|(pcm, ask)| self.frames(pcm, ask.silence)).collect();
        // One window at a time is heard with a beam.
        let copies = asks.iter().map(|it| it.beam).filter(|&it| it > 1).max();
        let mut sessions = network.begin(turn, windows, copies.unwrap_or(0))?;
        let answers = decode::decode(network, &self.vocabulary, &mut sessions, asks)?;
        let each = answers.into_iter().zip(sounds);
        let heard = each.map(|(answer, pcm)| {
            let positions = pcm.len().div_ceil(SAMPLES_PER_POSITION).max(1);
            let heads = network.alignment().heads;
            let words = align::words(&self.vocabulary, &answer, heads, positions);
            Heard { answer, words }
        });
        Ok(heard.collect())
    }

    /// The mel frames of `pcm` and so many seconds of silence after it.
    fn frames(&self, pcm: &[f32], silence: f32) -> Vec<f32> {
        let padded = pcm.len() + (silence * SAMPLE_RATE as f32) as usize;
        let positions = padded
            .div_ceil(SAMPLES_PER_POSITION)
            .min(self.dims.audio_positions);
        self.mel.frames(pcm, positions * FRAMES_PER_POSITION)
    }
}

impl Processor {
    fn new(checkpoint: &mut Checkpoint, threads: usize) -> Result<Self, AiError> {
        let pool = |name: &'static str| {
            rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .thread_name(move |i| format!("{name}-{i}"))
                .build()
                .map_err(|e| AiError::Inference(Box::new(e)))
        };
        Ok(Self {
            network: Host {
                encoder: Encoder::take(checkpoint)?,
                decoder: Decoder::take(checkpoint)?,
            },
            pool: pool("loom-ai")?,
            patient: pool("loom-ai-whole")?,
        })
    }
}

#[cfg(test)]
pub(crate) mod reference;
