//! A language model on this machine: GGUF files of the families that most small instruct models are of.
//!
//! candle reads the file's blocks and its tokenizer; the arithmetic is this crate's, as Whisper's is: candle multiplies quantised matrices on
//! one pool for the whole process, as wide as the machine, whose threads spin for each other, and live recordings need those cores.

mod chat;
mod network;
mod sampling;
#[cfg(test)]
mod tests;
mod tokens;

use std::fmt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use chat::Chat;
use network::{Network, Session};
use sampling::Sampler;
use tokens::Tokens;

use crate::limits::MAX_CONTEXT;
use crate::locate::{LocateProgress, ModelFiles, ModelOrigin};
use crate::model_config::{Download, ModelConfig};
use crate::weights::{Header, Reader};
use crate::{AiError, TextModel};

/// Which language model answers, and how.
///
/// ```
/// use loom_ai::LocalTextModelConfig;
///
/// // a file on this machine, else OWNER/NAME/FILE.gguf on the hub
/// let config = LocalTextModelConfig::new("Qwen/Qwen2.5-0.5B-Instruct-GGUF/qwen2.5-0.5b-instruct-q8_0.gguf");
/// assert_eq!(config.files.repository, "Qwen/Qwen2.5-0.5B-Instruct-GGUF");
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LocalTextModelConfig {
    /// Where the file is: a path, else a repository on the hub and a cache for what comes from there.
    pub files: ModelConfig,
    /// The file's name in the repository, such as `qwen2.5-0.5b-instruct-q8_0.gguf`.
    pub file: String,
    /// Threads that share an answer's work, 1 to 64. Half of the processors unless told, one at least.
    pub threads: usize,
    /// Tokens that the model has in mind at most, 256 to 32,768, its answer among them; fewer where it knows fewer. Of a longer text it reads
    /// the beginning. What one answer works in grows with it: keys and values are kept in f32 (Llama 3.2 1B: 64 KiB a token).
    pub context: usize,
    /// Tokens of an answer at most, 1 to half of the context.
    pub answer: usize,
    /// How the next token is chosen.
    pub sampling: Sampling,
    /// What a token's logit is divided by, or multiplied with where it is below zero, that was among the last 64 (Keskar et al., "CTRL",
    /// 2019): 1 to 2. 1 changes nothing. An answer that goes in circles all the same ends there.
    pub repeat_penalty: f32,
}

/// How a language model's next token is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub enum Sampling {
    /// The likeliest one, always.
    #[default]
    Greedy,
    /// One of the likeliest, by chance: the same for the same seed.
    Seeded {
        /// Where chance begins.
        seed: u64,
        /// What logits are divided by: above 0, at most 5. Less is closer to greedy.
        temperature: f32,
        /// The likeliest tokens that together have this share are chosen from (Holtzman et al., "nucleus sampling", 2020): above 0, at most 1.
        top_p: f32,
    },
}

impl LocalTextModelConfig {
    /// The model called `name`: a `.gguf` file's path where there is one, else `OWNER/NAME/FILE.gguf` on the hub. The cache, the hub's address
    /// and whether it may be asked are as [`ModelConfig::from_env`] has them.
    pub fn new(name: &str) -> Self {
        let mut files = ModelConfig::from_env();
        files.path = Some(name.into());
        let mut file = String::new();
        let hub = name.rsplit_once('/').filter(|(repository, file)| {
            let parts: Vec<&str> = repository.split('/').collect();
            let plain = |it: &&str| !it.is_empty() && !it.starts_with('.');
            parts.len() == 2 && parts.iter().all(plain) && plain(file) && file.ends_with(".gguf")
        });
        if let Some((repository, of_it)) = hub
            && !Path::new(name).is_file()
        {
            files.path = None;
            files.repository = repository.to_owned();
            file = of_it.to_owned();
        }
        Self {
            files,
            file,
            threads: (std::thread::available_parallelism().map_or(1, usize::from) / 2).clamp(1, 64),
            context: 4_096,
            answer: 400,
            sampling: Sampling::Greedy,
            repeat_penalty: 1.1,
        }
    }

    fn check(&self) -> Result<(), AiError> {
        let sampling = match self.sampling {
            Sampling::Greedy => true,
            Sampling::Seeded {
                temperature, top_p, ..
            } => temperature > 0.0 && temperature <= 5.0 && top_p > 0.0 && top_p <= 1.0,
        };
        let rules = [
            (
                (1..=64).contains(&self.threads),
                "threads",
                "must be from 1 to 64",
            ),
            (
                (256..=MAX_CONTEXT).contains(&self.context),
                "context",
                "must be from 256 to 32,768",
            ),
            (
                (1..=self.context / 2).contains(&self.answer),
                "answer",
                "must be from 1 to half of the context",
            ),
            (
                (1.0..=2.0).contains(&self.repeat_penalty),
                "repeat_penalty",
                "must be from 1 to 2",
            ),
            (
                sampling,
                "sampling",
                "must have a temperature above 0 and at most 5, and a top_p above 0 and at most 1",
            ),
        ];
        match rules.into_iter().find(|(good, ..)| !good) {
            Some((_, field, rule)) => Err(AiError::Config { field, rule }),
            None => Ok(()),
        }
    }
}

/// A language model in memory, on this machine's processors: Llama's architecture (SmolLM2, Llama 3), Qwen 2 and Qwen 3, with a
/// byte-level tokenizer, in any of GGUF's usual formats.
///
/// It takes a little more than a byte for each of its weights, whatever the file's format: they are rounded to 8 bits as Whisper's are. It
/// answers one question at a time; others wait. The same question always has the same answer.
///
/// ```no_run
/// use loom_ai::{Brief, LocalTextModel, LocalTextModelConfig, Transcript};
///
/// # fn example(transcript: Transcript) -> Result<(), loom_ai::AiError> {
/// let config = LocalTextModelConfig::new("/models/smollm2-360m-instruct-q8_0.gguf");
/// let files = LocalTextModel::locate(&config, &mut |_| {})?;
/// let model = LocalTextModel::load(&files, &config)?;
/// let brief = Brief::of(&transcript, &model)?;
/// println!("{}: {}", brief.title, brief.summary);
/// # Ok(())
/// # }
/// ```
pub struct LocalTextModel {
    name: String,
    config: LocalTextModelConfig,
    network: Network,
    tokens: Tokens,
    chat: Chat,
    /// So that its threads are these and not each caller's.
    pool: rayon::ThreadPool,
    turn: Mutex<()>,
}

impl fmt::Debug for LocalTextModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalTextModel")
            .field("name", &self.name)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl LocalTextModel {
    /// Finds the file: `files.path`, else the cache, else the hub. Blocks; `progress` is called from this thread.
    ///
    /// # Errors
    /// [`AiError::Io`] where there is no file at the path; [`AiError::Download`] or [`AiError::Checksum`] from the hub.
    pub fn locate(
        config: &LocalTextModelConfig,
        progress: &mut dyn FnMut(LocateProgress),
    ) -> Result<ModelFiles, AiError> {
        if let Some(path) = &config.files.path {
            let found = std::fs::metadata(path).map_err(|e| AiError::io(path, e))?;
            if !found.is_file() {
                return Err(AiError::malformed(path, "file", "this is no gguf file"));
            }
            return Ok(ModelFiles::new(path.clone(), ModelOrigin::Path));
        }
        if config.file.is_empty() || config.file.contains(['/', '\\']) {
            return Err(AiError::Config {
                field: "file",
                rule: "must be the name of a file in the repository",
            });
        }
        let kept = crate::hub::folder(&config.files).join(&config.file);
        if kept.is_file() {
            return Ok(ModelFiles::new(kept, ModelOrigin::Cache));
        }
        if config.files.download == Download::Never {
            return Err(AiError::TextModel {
                model: format!("{}/{}", config.files.repository, config.file),
                reason: format!(
                    "it is not in {}, and downloads are switched off",
                    config.files.cache.display()
                ),
            });
        }
        crate::hub::fetch_file(&config.files, &config.file, progress)?;
        Ok(ModelFiles::new(kept, ModelOrigin::Hub))
    }

    /// Loads the file that [`locate`](Self::locate) found.
    ///
    /// # Errors
    /// [`AiError::Malformed`] names the tensor or field that is missing, misshapen, cut off, or of a model that this cannot run;
    /// [`AiError::Config`] a value of `config` that is out of its range.
    pub fn load(files: &ModelFiles, config: &LocalTextModelConfig) -> Result<Self, AiError> {
        config.check()?;
        Self::read(Reader::open(files.path())?, config)
    }

    /// A file's bytes; `path` is what errors name.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn of_bytes(
        path: &Path,
        bytes: &[u8],
        config: &LocalTextModelConfig,
    ) -> Result<Self, AiError> {
        Self::read(Reader::of(path, bytes), config)
    }

    fn read(mut file: Reader<'_>, config: &LocalTextModelConfig) -> Result<Self, AiError> {
        let path = file.path;
        let header = Header::read(&mut file)?;
        let tokens = Tokens::new(path, &header.fields)?;
        let chat = Chat::new(&header.fields, &tokens);
        let network = Network::read(&mut file, header, config.threads)?;
        if network.vocabulary() < tokens.count() {
            return Err(AiError::malformed(
                path,
                "tokenizer.ggml.tokens",
                format!(
                    "{} tokens, but {} embeddings",
                    tokens.count(),
                    network.vocabulary()
                ),
            ));
        }
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(config.threads)
            .thread_name(|i| format!("loom-text-{i}"))
            .build()
            .map_err(|e| AiError::Inference(Box::new(e)))?;
        Ok(Self {
            name: path
                .file_stem()
                .and_then(|it| it.to_str())
                .unwrap_or("model")
                .to_owned(),
            config: config.clone(),
            network,
            tokens,
            chat,
            pool,
            turn: Mutex::default(),
        })
    }

    /// Tokens that prompt and answer may have together.
    fn context(&self) -> usize {
        self.config.context.min(self.network.context())
    }

    /// Tokens of an answer.
    fn most(&self) -> usize {
        self.config.answer.min(self.context() / 2)
    }

    /// The whole prompt's tokens: of a text that is too long its beginning.
    fn prompt(&self, instruction: &str, text: &str) -> Result<Vec<u32>, AiError> {
        let room = self.context() - self.most();
        // No token has more bytes than these on average, so that a longer text is not even looked at.
        let mut length = text.floor_char_boundary(room * WIDEST);
        loop {
            let rendered = self.chat.render(instruction, &text[..length]);
            let tokens = self
                .tokens
                .encode_prompt(&rendered)
                .map_err(|it| self.failed(it))?;
            if tokens.is_empty() {
                return Err(self.failed("its chat template gives an empty prompt".to_owned()));
            }
            if tokens.len() <= room {
                return Ok(tokens);
            }
            if length == 0 {
                return Err(self.failed(format!("the instruction alone has more than {room} tokens")));
            }
            // by what is too much, and a little more
            let kept = length * room / tokens.len() * 31 / 32;
            length = text.floor_char_boundary(kept);
        }
    }

    /// The tokens that follow `prompt`, up to one that ends the answer.
    fn follow(&self, prompt: &[u32]) -> Vec<u32> {
        let mut sampler = Sampler::new(self.config.sampling, self.config.repeat_penalty);
        let mut session = Session::new(&self.network);
        let mut row = Vec::new();
        for part in prompt.chunks(AT_ONCE) {
            row = self.network.feed(&mut session, part);
        }
        let mut answer = Vec::new();
        let most = self.most();
        loop {
            let mut logits = self.network.logits(&row);
            logits.truncate(self.tokens.count());
            let next = sampler.choose(&mut logits);
            if self.tokens.ends(next) {
                return answer;
            }
            answer.push(next);
            if let Some(kept) = sampling::before_circle(&answer) {
                answer.truncate(kept);
                return answer;
            }
            if answer.len() >= most {
                return answer;
            }
            row = self.network.feed(&mut session, &[next]);
        }
    }

    fn failed(&self, reason: String) -> AiError {
        AiError::TextModel {
            model: self.name.clone(),
            reason,
        }
    }
}

/// Bytes a token has on average at most, in any text that is one.
const WIDEST: usize = 16;
/// Tokens of a prompt that are fed together: the weights are read once for all.
const AT_ONCE: usize = 64;

impl TextModel for LocalTextModel {
    fn name(&self) -> &str {
        &self.name
    }

    fn answer(&self, instruction: &str, text: &str) -> Result<String, AiError> {
        let prompt = self.prompt(instruction, text)?;
        let _one = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = self.pool.install(|| self.follow(&prompt));
        let said = self.tokens.spoken(&prompt, &answer);
        let said = self.tokens.decode(said).map_err(|it| self.failed(it))?;
        Ok(chat::spoken(&said).to_owned())
    }

    fn longest(&self) -> usize {
        // English has four letters a token and more; what the instruction and the template take is set aside.
        self.context().saturating_sub(self.most() + 128) * 7 / 2
    }
}
