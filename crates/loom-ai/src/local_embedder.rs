use std::path::Path;

use rayon::prelude::*;
use serde::Deserialize;
use tokenizers::{PostProcessor, Tokenizer, TruncationParams};

use crate::decoder::{Linear, add};
use crate::encoder::Norm;
use crate::kernels::{add_bias, attend, bias_gelu};
use crate::limits::{MAX_LAYERS, MAX_POSITIONS, MAX_VOCABULARY, MAX_WIDTH};
use crate::locate::{LocateProgress, ModelFiles, ModelOrigin};
use crate::model_config::{Download, ModelConfig};
use crate::quant::QuantMatrix;
use crate::weights::{Tensors, read_small};
use crate::{AiError, Embedder};

/// A sentence encoder in memory: BERT's architecture (Devlin et al., 2019) with the mean of its last layer, as
/// `sentence-transformers/all-MiniLM-L6-v2` has it (Reimers and Gurevych, "Sentence-BERT", 2019). Of a long text its first 256 tokens count.
///
/// ```no_run
/// use loom_ai::{Gist, LocalEmbedder, ModelConfig, Transcript};
///
/// # fn example(transcript: Transcript) -> Result<(), loom_ai::AiError> {
/// let mut config = ModelConfig::from_env();
/// config.path = Some("/models/all-MiniLM-L6-v2".into());
/// let encoder = LocalEmbedder::load(&LocalEmbedder::locate(&config, &mut |_| {})?, 1)?;
/// println!("{:?}", Gist::by_meaning(&transcript, &encoder)?.chapters);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct LocalEmbedder {
    name: String,
    width: usize,
    heads: usize,
    tokenizer: Tokenizer,
    words: QuantMatrix,
    /// What each place adds, with what the first of two texts adds.
    places: Vec<f32>,
    norm: Norm,
    layers: Vec<Layer>,
    /// So that its threads are these and not each caller's.
    pool: rayon::ThreadPool,
}

#[derive(Debug)]
struct Layer {
    /// Query, key and value in one.
    qkv: Linear,
    out: Linear,
    attention_norm: Norm,
    up: Linear,
    down: Linear,
    norm: Norm,
}

const WEIGHTS: &str = "model.safetensors";
const WORDS: &str = "embeddings.word_embeddings.weight";
const PLACES: &str = "embeddings.position_embeddings.weight";
const KINDS: &str = "embeddings.token_type_embeddings.weight";

/// Tokens of a text that count: what these models were trained with.
const LONGEST: usize = 256;

#[derive(Deserialize)]
struct Config {
    model_type: String,
    hidden_act: String,
    num_attention_heads: usize,
}

impl LocalEmbedder {
    /// Finds the folder: `config.path`, else the cache, else `config.repository` on the hub. Blocks; `progress` is called from this thread.
    ///
    /// # Errors
    /// [`AiError::Malformed`] where the folder at the path has no model; [`AiError::Download`] or [`AiError::Checksum`] from the hub.
    pub fn locate(
        config: &ModelConfig,
        progress: &mut dyn FnMut(LocateProgress),
    ) -> Result<ModelFiles, AiError> {
        let holds = |folder: &Path| folder.join(WEIGHTS).is_file();
        if let Some(path) = &config.path {
            return match holds(path) {
                true => Ok(ModelFiles::new(path.clone(), ModelOrigin::Path)),
                false => Err(AiError::malformed(path, WEIGHTS, "this file is missing")),
            };
        }
        let kept = crate::hub::folder(config);
        if holds(&kept) {
            return Ok(ModelFiles::new(kept, ModelOrigin::Cache));
        }
        if config.download == Download::Never {
            return Err(AiError::malformed(
                &kept,
                WEIGHTS,
                "this file is missing, and downloads are switched off",
            ));
        }
        Ok(ModelFiles::new(
            crate::hub::fetch_encoder(config, progress)?,
            ModelOrigin::Hub,
        ))
    }

    /// Loads the folder that [`locate`](Self::locate) found: `model.safetensors`, `config.json` and `tokenizer.json`. `threads`, 1 to 64, share the
    /// texts.
    ///
    /// # Errors
    /// [`AiError::Malformed`] names the tensor or field that is missing, misshapen or of another architecture.
    pub fn load(files: &ModelFiles, threads: usize) -> Result<Self, AiError> {
        if !(1..=64).contains(&threads) {
            return Err(AiError::Config {
                field: "threads",
                rule: "must be from 1 to 64",
            });
        }
        let folder = files.path();
        let path = folder.join("config.json");
        let config: Config = serde_json::from_slice(&read_small(&path)?)
            .map_err(|e| AiError::malformed(&path, "json", e.to_string()))?;
        for (field, found, known) in [
            ("model_type", &config.model_type, "bert"),
            ("hidden_act", &config.hidden_act, "gelu"),
        ] {
            if found != known {
                return Err(AiError::malformed(
                    &path,
                    field,
                    format!("{found:?}, expected {known:?}"),
                ));
            }
        }
        let path = folder.join("tokenizer.json");
        let mut tokenizer = Tokenizer::from_bytes(read_small(&path)?)
            .map_err(|e| AiError::malformed(&path, "tokenizer", e.to_string()))?;
        let marks = tokenizer
            .get_post_processor()
            .map_or(0, |it| it.added_tokens(false));
        if marks >= LONGEST {
            let rule = format!("{marks} marks around each text, expected fewer than {LONGEST}");
            return Err(AiError::malformed(&path, "post_processor", rule));
        }
        let shortened = TruncationParams {
            max_length: LONGEST,
            ..TruncationParams::default()
        };
        tokenizer
            .with_padding(None)
            .with_truncation(Some(shortened))
            .map_err(|e| AiError::malformed(&path, "truncation", e.to_string()))?;

        let path = folder.join(WEIGHTS);
        let mut tensors = Tensors::read(&path)?;
        let bad = |what: &str, rule: String| AiError::malformed(&path, what, rule);
        let shape = |name: &str| match tensors.shape(name) {
            Some(&[rows, columns]) => Ok((rows, columns)),
            _ => Err(bad(name, "this matrix is missing: not a bert model".to_owned())),
        };
        let (count, width) = shape(WORDS)?;
        let (longest, _) = shape(PLACES)?;
        let (kinds, _) = shape(KINDS)?;
        let (inner, _) = shape("encoder.layer.0.intermediate.dense.weight")?;
        let layers = (0..=MAX_LAYERS)
            .take_while(|it| {
                tensors
                    .shape(&format!("encoder.layer.{it}.output.dense.weight"))
                    .is_some()
            })
            .count();
        let heads = config.num_attention_heads;
        let wide = |it: usize| {
            it.is_multiple_of(QuantMatrix::BLOCK) && (QuantMatrix::BLOCK..=4 * MAX_WIDTH).contains(&it)
        };
        for (what, good) in [
            (
                WORDS,
                (1..=MAX_VOCABULARY).contains(&count) && wide(width) && width <= MAX_WIDTH,
            ),
            (PLACES, (LONGEST..=MAX_POSITIONS).contains(&longest)),
            ("encoder.layer.0.intermediate.dense.weight", wide(inner)),
            (KINDS, (1..=8).contains(&kinds)),
            ("encoder.layer", (1..=MAX_LAYERS).contains(&layers)),
            (
                "num_attention_heads",
                (1..=width).contains(&heads) && width.is_multiple_of(heads),
            ),
        ] {
            if !good {
                let rule = format!(
                    "{count} tokens, {width} wide, {inner} within, {longest} places, {layers} layers, {heads} heads: no known model"
                );
                return Err(bad(what, rule));
            }
        }
        if tokenizer.get_vocab_size(true) > count {
            let rule = format!("{count} rows, but {} tokens", tokenizer.get_vocab_size(true));
            return Err(bad(WORDS, rule));
        }
        let words = QuantMatrix::new(&tensors.values(WORDS, &[count, width])?, width);
        let mut places = tensors.values(PLACES, &[longest, width])?;
        // A text alone is of the first kind.
        add_bias(&mut places, &tensors.values(KINDS, &[kinds, width])?[..width]);
        let norm = Norm::take(&mut tensors, "embeddings.LayerNorm", width)?;
        let layers = (0..layers)
            .map(|it| Layer::take(&mut tensors, &format!("encoder.layer.{it}"), width, inner))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            name: files.name().to_owned(),
            width,
            heads,
            tokenizer,
            words,
            places,
            norm,
            layers,
            pool: rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .thread_name(|i| format!("loom-embed-{i}"))
                .build()
                .map_err(|e| AiError::Inference(Box::new(e)))?,
        })
    }

    fn one(&self, text: &str) -> Result<Vec<f32>, AiError> {
        let tokens = self
            .tokenizer
            .encode_fast(text, true)
            .map_err(AiError::Inference)?;
        let mut x = Vec::with_capacity(tokens.len() * self.width);
        for (token, place) in tokens.get_ids().iter().zip(self.places.chunks_exact(self.width)) {
            if *token as usize >= self.words.rows() {
                let why = format!("token {token} of a text has no row among {}", self.words.rows());
                return Err(AiError::Inference(why.into()));
            }
            let word = self.words.row(*token as usize);
            x.extend(word.zip(place).map(|(word, place)| word + place));
        }
        let mut x = self.norm.apply(&x);
        for layer in &self.layers {
            let mixed = self.mix(&layer.qkv.apply(&x));
            add(&mut x, &layer.out.apply(&mixed));
            x = layer.attention_norm.apply(&x);
            let mut up = layer.up.product(&x);
            bias_gelu(&mut up, &layer.up.bias);
            add(&mut x, &layer.down.apply(&up));
            x = layer.norm.apply(&x);
        }
        let mut mean = vec![0.0; self.width];
        x.chunks_exact(self.width).for_each(|row| add(&mut mean, row));
        let length = mean
            .iter()
            .map(|it| it * it)
            .sum::<f32>()
            .sqrt()
            .max(f32::MIN_POSITIVE);
        mean.iter_mut().for_each(|it| *it /= length);
        Ok(mean)
    }

    /// Each head's view of all tokens.
    fn mix(&self, qkv: &[f32]) -> Vec<f32> {
        let (width, size) = (self.width, self.width / self.heads);
        let rows = qkv.len() / (3 * width);
        let mut mixed = vec![0.0; rows * width];
        let mut scores = vec![0.0; rows];
        for (row, mixed) in mixed.chunks_exact_mut(width).enumerate() {
            for at in (0..width).step_by(size) {
                attend(
                    &qkv[row * 3 * width + at..][..size],
                    &qkv[width + at..],
                    &qkv[2 * width + at..],
                    3 * width,
                    &mut scores,
                    &mut mixed[at..at + size],
                );
            }
        }
        mixed
    }
}

impl Embedder for LocalEmbedder {
    fn name(&self) -> &str {
        &self.name
    }

    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, AiError> {
        self.pool
            .install(|| texts.par_iter().map(|it| self.one(it)).collect())
    }
}

impl Layer {
    fn take(from: &mut Tensors, at: &str, width: usize, inner: usize) -> Result<Self, AiError> {
        let (mut weight, mut bias) = (Vec::new(), Vec::new());
        for part in ["query", "key", "value"] {
            weight.extend(from.values(&format!("{at}.attention.self.{part}.weight"), &[width, width])?);
            bias.extend(from.values(&format!("{at}.attention.self.{part}.bias"), &[width])?);
        }
        Ok(Self {
            qkv: Linear {
                weight: QuantMatrix::new(&weight, width),
                bias,
            },
            out: Linear::take(from, &format!("{at}.attention.output.dense"), width, width)?,
            attention_norm: Norm::take(from, &format!("{at}.attention.output.LayerNorm"), width)?,
            up: Linear::take(from, &format!("{at}.intermediate.dense"), inner, width)?,
            down: Linear::take(from, &format!("{at}.output.dense"), width, inner)?,
            norm: Norm::take(from, &format!("{at}.output.LayerNorm"), width)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use candle_core::{Device, Tensor};
    use serde_json::{Value, json};

    use super::*;

    /// A sentence and every seventh value of its vector, as llama.cpp makes it (`testdata/sentence_encoder.py`).
    type Expected = Vec<(String, Vec<f32>)>;

    const WIDE: usize = 64;
    const WITHIN: usize = 128;
    const LAYERS: usize = 2;

    /// Writes an encoder of random weights, the rounding of which is exact, with letters for words.
    fn write(folder: &Path) {
        let marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"];
        let mut words: Vec<String> = marks.map(str::to_owned).to_vec();
        for it in ('a'..='z')
            .chain('0'..='9')
            .chain(['.', ',', '!', '\'', '(', ')', '@', '-', ';'])
        {
            words.push(it.to_string());
            words.push(format!("##{it}"));
        }
        words.extend(["the", "##ing", "cap", "##tions", "日", "本"].map(str::to_owned));
        let vocab: HashMap<&String, usize> = words.iter().zip(0..).collect();
        let special = |(id, it): (usize, &&str)| json!({"id": id, "content": it, "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false});
        let tokenizer = json!({
            "version": "1.0",
            "added_tokens": marks.iter().enumerate().map(special).collect::<Vec<Value>>(),
            "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true},
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
            "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": vocab},
        });
        let config = json!({
            "model_type": "bert", "hidden_act": "gelu", "num_attention_heads": 4, "hidden_size": WIDE, "intermediate_size": WITHIN,
            "num_hidden_layers": LAYERS, "max_position_embeddings": 256, "layer_norm_eps": 1e-12,
        });
        let mut state = 11u64;
        let mut tensors = HashMap::new();
        let mut add = |name: String, shape: &[usize], top: f32| {
            let count: usize = shape.iter().product();
            let values: Vec<f32> = (0..count)
                .map(|at| {
                    state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    let step = if at % 64 == 0 {
                        127.0
                    } else {
                        ((state >> 33) % 255) as f32 - 127.0
                    };
                    step / 127.0 * top
                })
                .collect();
            tensors.insert(name, Tensor::from_vec(values, shape, &Device::Cpu).unwrap());
        };
        add(WORDS.to_owned(), &[words.len(), WIDE], 1.0);
        add(PLACES.to_owned(), &[256, WIDE], 0.5);
        add(KINDS.to_owned(), &[2, WIDE], 0.5);
        let norm = |at: &str| [format!("{at}.weight"), format!("{at}.bias")];
        norm("embeddings.LayerNorm")
            .into_iter()
            .for_each(|it| add(it, &[WIDE], 1.0));
        for layer in 0..LAYERS {
            let at = format!("encoder.layer.{layer}");
            for (part, rows, columns) in [
                ("attention.self.query", WIDE, WIDE),
                ("attention.self.key", WIDE, WIDE),
                ("attention.self.value", WIDE, WIDE),
                ("attention.output.dense", WIDE, WIDE),
                ("intermediate.dense", WITHIN, WIDE),
                ("output.dense", WIDE, WITHIN),
            ] {
                add(format!("{at}.{part}.weight"), &[rows, columns], 0.3);
                add(format!("{at}.{part}.bias"), &[rows], 0.3);
            }
            for part in ["attention.output.LayerNorm", "output.LayerNorm"] {
                norm(&format!("{at}.{part}"))
                    .into_iter()
                    .for_each(|it| add(it, &[WIDE], 1.0));
            }
        }
        candle_core::safetensors::save(&tensors, folder.join(WEIGHTS)).unwrap();
        std::fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).unwrap();
        std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    }

    fn load(folder: &Path) -> Result<LocalEmbedder, AiError> {
        let config = ModelConfig {
            path: Some(folder.to_owned()),
            ..ModelConfig::default()
        };
        LocalEmbedder::load(&LocalEmbedder::locate(&config, &mut |_| ())?, 2)
    }

    fn hold(encoder: &LocalEmbedder, expected: &Expected, tolerance: f32) {
        let texts: Vec<&str> = expected.iter().map(|it| it.0.as_str()).collect();
        let found = encoder.embed(&texts).unwrap();
        let mut worst = 0f32;
        for ((text, expected), found) in expected.iter().zip(&found) {
            let length: f32 = found.iter().map(|it| it * it).sum();
            assert!((length - 1.0).abs() < 1e-4);
            for (expected, found) in expected.iter().zip(found.iter().step_by(7)) {
                worst = worst.max((expected - found).abs());
            }
            assert!(worst <= tolerance, "{text:?}: {worst}");
        }
        eprintln!("{}: within {worst}", encoder.name());
    }

    #[test]
    fn a_small_encoder_makes_the_vectors_that_llama_cpp_makes() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path());
        let expected = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/sentence_encoder.json");
        let expected = serde_json::from_slice(&std::fs::read(expected).unwrap()).unwrap();
        hold(&load(folder.path()).unwrap(), &expected, 1e-3);
    }

    #[test]
    #[ignore = "writes files: LOOM_WRITE_SMALL names the folder"]
    fn a_small_encoder_is_written() {
        write(Path::new(
            &std::env::var("LOOM_WRITE_SMALL").expect("LOOM_WRITE_SMALL names a folder"),
        ));
    }

    /// all-MiniLM-L6-v2 against llama.cpp: `make text-model` fetches it and runs this.
    #[test]
    #[ignore = "reads a real model: LOOM_ENCODER names its folder, LOOM_ENCODER_EXPECTED what is expected of it"]
    fn a_real_encoder_makes_the_vectors_that_llama_cpp_makes() {
        let folder = std::env::var("LOOM_ENCODER").expect("LOOM_ENCODER names a folder");
        let expected =
            std::env::var("LOOM_ENCODER_EXPECTED").expect("LOOM_ENCODER_EXPECTED names a json file");
        let expected = serde_json::from_slice(&std::fs::read(expected).unwrap()).unwrap();
        hold(&load(Path::new(&folder)).unwrap(), &expected, 0.01);
    }

    #[test]
    fn a_folder_that_is_no_encoder_is_refused_with_what_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let fault = || load(folder.path()).unwrap_err().to_string();
        assert!(
            fault().contains("model.safetensors: this file is missing"),
            "{}",
            fault()
        );
        write(folder.path());
        let config = folder.path().join("config.json");
        let plain = std::fs::read_to_string(&config).unwrap();
        for (from, to, word) in [
            ("\"bert\"", "\"t5\"", "model_type"),
            ("\"gelu\"", "\"relu\"", "hidden_act"),
            (
                "\"num_attention_heads\":4",
                "\"num_attention_heads\":0",
                "num_attention_heads",
            ),
            (
                "\"num_attention_heads\":4",
                "\"num_attention_heads\":5",
                "num_attention_heads",
            ),
            ("{", "[", "config.json: json"),
        ] {
            std::fs::write(&config, plain.replace(from, to)).unwrap();
            assert!(fault().contains(word), "{}", fault());
        }
        std::fs::write(&config, &plain).unwrap();
        let tokenizer = folder.path().join("tokenizer.json");
        let plain = std::fs::read_to_string(&tokenizer).unwrap();
        let mut many: Value = serde_json::from_str(&plain).unwrap();
        let mark = json!({"SpecialToken": {"id": "[CLS]", "type_id": 0}});
        many["post_processor"] = json!({
            "type": "TemplateProcessing", "single": vec![mark; LONGEST], "pair": [],
            "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]}},
        });
        std::fs::write(&tokenizer, many.to_string()).unwrap();
        assert!(
            fault().contains("post_processor: 256 marks around each text"),
            "{}",
            fault()
        );
        // A mark of which the embedding knows nothing shows only where a text has it.
        std::fs::write(&tokenizer, plain.replace(r#"["[SEP]",3]"#, r#"["[SEP]",90000]"#)).unwrap();
        let error = load(folder.path())
            .unwrap()
            .embed(&["ab"])
            .unwrap_err()
            .to_string();
        assert!(error.contains("token 90000 of a text has no row"), "{error}");
        std::fs::write(&tokenizer, &plain).unwrap();
        let weights = folder.path().join(WEIGHTS);
        let whole = std::fs::read(&weights).unwrap();
        std::fs::write(&weights, &whole[..whole.len() - 4]).unwrap();
        assert!(fault().contains("model.safetensors"), "{}", fault());
        let mut tensors = candle_core::safetensors::load_buffer(&whole, &Device::Cpu).unwrap();
        tensors.remove("encoder.layer.1.attention.self.key.bias");
        candle_core::safetensors::save(&tensors, &weights).unwrap();
        assert!(
            fault().contains("encoder.layer.1.attention.self.key.bias: this tensor is missing"),
            "{}",
            fault()
        );
    }
}
