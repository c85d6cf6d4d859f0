//! Small models of random weights, held to what llama.cpp makes of the same files (`testdata/text_model.py`).

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::Path;

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use serde::Deserialize;

use super::*;

/// A file of random weights: every 8-bit rounding of them is exact, so that what differs from llama.cpp is an error.
struct Small {
    fields: Vec<(String, Value)>,
    tensors: Vec<(String, QTensor)>,
    state: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// As SmolLM2: the embedding serves as output, digits stand alone.
    Smol,
    /// As Llama 3.1: an output of its own, slowed turns, a mark that begins each text.
    Llama3,
    /// Biased queries, keys and values.
    Qwen2,
    /// Queries and keys of one size, heads wider than their share.
    Qwen3,
}

const KINDS: [(Kind, &str); 4] = [
    (Kind::Smol, "smol"),
    (Kind::Llama3, "llama3"),
    (Kind::Qwen2, "qwen2"),
    (Kind::Qwen3, "qwen3"),
];
const MERGES: &[&str] = &[
    "Ġ t", "h e", "Ġt he", "i n", "e r", "o n", "Ġ a", "r e", "1 2", "2 0", "20 2", "' s", "Ġ s", "Ġ Ġ",
    "ĠĠ Ġ", "Ċ Ċ", "l l", "' ll", "e n", "Ã ¼", "n d", "a nd", "Ġa nd", "n g", "i ng",
];

/// How large a small model is.
struct Sizes {
    width: usize,
    inner: usize,
    heads: usize,
    shared: usize,
    layers: usize,
}

impl Small {
    fn new(kind: Kind) -> Self {
        let sizes = Sizes {
            width: 64,
            inner: 128,
            heads: 4,
            shared: 2,
            layers: 2,
        };
        Self::sized(kind, &sizes)
    }

    fn sized(kind: Kind, sizes: &Sizes) -> Self {
        let (architecture, pre) = match kind {
            Kind::Smol => ("llama", "smollm"),
            Kind::Llama3 => ("llama", "llama-bpe"),
            Kind::Qwen2 => ("qwen2", "qwen2"),
            Kind::Qwen3 => ("qwen3", "qwen2"),
        };
        let mut it = Self {
            fields: Vec::new(),
            tensors: Vec::new(),
            state: 7,
        };
        let &Sizes {
            width,
            inner,
            heads,
            shared,
            layers,
        } = sizes;
        let size = if kind == Kind::Qwen3 { 32 } else { 16 };
        it.field("general.architecture", text(architecture));
        for (part, value) in [
            ("block_count", layers),
            ("context_length", 512),
            ("embedding_length", width),
            ("feed_forward_length", inner),
            ("attention.head_count", heads),
            ("attention.head_count_kv", shared),
            ("attention.key_length", size),
            ("attention.value_length", size),
            ("rope.dimension_count", size),
        ] {
            it.field(&format!("{architecture}.{part}"), Value::U32(value as u32));
        }
        it.field(
            &format!("{architecture}.attention.layer_norm_rms_epsilon"),
            Value::F32(1e-5),
        );
        it.field(&format!("{architecture}.rope.freq_base"), Value::F32(10_000.0));
        let mut tokens: Vec<String> = (0..=255).map(|byte| letter(byte).to_string()).collect();
        tokens.extend(MERGES.iter().map(|it| it.replace(' ', "")));
        let plain = tokens.len();
        tokens.extend(["<|endoftext|>", "<|im_start|>", "<|im_end|>"].map(str::to_owned));
        let count = tokens.len();
        let kinds = (0..count).map(|at| Value::I32(if at < plain { 1 } else { 3 }));
        it.field("tokenizer.ggml.model", text("gpt2"));
        it.field("tokenizer.ggml.pre", text(pre));
        it.field(
            "tokenizer.ggml.tokens",
            Value::Array(tokens.iter().map(|it| text(it)).collect()),
        );
        it.field("tokenizer.ggml.token_type", Value::Array(kinds.collect()));
        it.field(
            "tokenizer.ggml.merges",
            Value::Array(MERGES.iter().map(|it| text(it)).collect()),
        );
        it.field("tokenizer.ggml.bos_token_id", Value::U32(plain as u32));
        it.field("tokenizer.ggml.eos_token_id", Value::U32(plain as u32 + 2));
        it.field("tokenizer.ggml.add_bos_token", Value::Bool(kind == Kind::Llama3));
        let chat = "{{ bos_token }}{% for it in messages %}<|im_start|>{{ it.role }}\n{{ it.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n";
        it.field("tokenizer.chat_template", text(chat));

        it.tensor("token_embd.weight", &[count, width], 1.0);
        for index in 0..layers {
            let at = |part: &str| format!("blk.{index}.{part}");
            for (part, rows, columns) in [
                ("attn_q", heads * size, width),
                ("attn_k", shared * size, width),
                ("attn_v", shared * size, width),
                ("attn_output", width, heads * size),
                ("ffn_gate", inner, width),
                ("ffn_up", inner, width),
                ("ffn_down", width, inner),
            ] {
                it.tensor(&at(&format!("{part}.weight")), &[rows, columns], 0.35);
                if kind == Kind::Qwen2 && ["attn_q", "attn_k", "attn_v"].contains(&part) {
                    it.tensor(&at(&format!("{part}.bias")), &[rows], 0.5);
                }
            }
            it.tensor(&at("attn_norm.weight"), &[width], 1.0);
            it.tensor(&at("ffn_norm.weight"), &[width], 1.0);
            if kind == Kind::Qwen3 {
                it.tensor(&at("attn_q_norm.weight"), &[size], 2.0);
                it.tensor(&at("attn_k_norm.weight"), &[size], 2.0);
            }
        }
        it.tensor("output_norm.weight", &[width], 1.0);
        if kind == Kind::Llama3 {
            it.tensor("output.weight", &[count, width], 1.0);
            let factors: Vec<f32> = (0..size / 2).map(|at| 1.0 + at as f32 / 2.0).collect();
            it.values("rope_freqs.weight", factors, &[size / 2]);
        }
        it
    }

    fn field(&mut self, key: &str, value: Value) {
        self.fields.push((key.to_owned(), value));
    }

    /// Whole steps of `top` / 127, the largest in each 64 values.
    fn tensor(&mut self, name: &str, shape: &[usize], top: f32) {
        let count = shape.iter().product();
        let values = (0..count).map(|at| {
            self.state = self
                .state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let step = (self.state >> 33) % 255;
            let step = if at % 64 == 0 { 127.0 } else { step as f32 - 127.0 };
            step / 127.0 * top
        });
        let values = values.collect();
        self.values(name, values, shape);
    }

    fn values(&mut self, name: &str, values: Vec<f32>, shape: &[usize]) {
        let it = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
        let it = QTensor::quantize(&it, GgmlDType::F32).unwrap();
        self.tensors.push((name.to_owned(), it));
    }

    fn bytes(&self) -> Vec<u8> {
        let fields: Vec<(&str, &Value)> = self.fields.iter().map(|(key, it)| (key.as_str(), it)).collect();
        let tensors: Vec<(&str, &QTensor)> = self
            .tensors
            .iter()
            .map(|(name, it)| (name.as_str(), it))
            .collect();
        let mut out = Cursor::new(Vec::new());
        gguf_file::write(&mut out, &fields, &tensors).unwrap();
        out.into_inner()
    }

    fn without(mut self, name: &str) -> Self {
        self.fields.retain(|it| it.0 != name);
        self.tensors.retain(|it| it.0 != name);
        self
    }

    fn with(self, key: &str, value: Value) -> Self {
        let mut it = self.without(key);
        it.field(key, value);
        it
    }
}

/// GPT-2's letter for a byte.
fn letter(byte: u8) -> char {
    let printed = |it: u8| matches!(it, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if printed(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|&it| !printed(it)).count() as u32;
    char::from_u32(256 + before).unwrap()
}

fn text(it: &str) -> Value {
    Value::String(it.to_owned())
}

fn read(bytes: &[u8]) -> Result<LocalTextModel, AiError> {
    let mut config = LocalTextModelConfig::new("small.gguf");
    (config.threads, config.context, config.answer) = (2, 512, 64);
    LocalTextModel::read(Reader::of(Path::new("small.gguf"), bytes), &config)
}

fn fault(bytes: &[u8]) -> String {
    read(bytes).expect_err("it is refused").to_string()
}

/// What llama.cpp makes of a file.
#[derive(Deserialize)]
struct Expected {
    /// Texts and their tokens.
    tokens: Vec<(String, Vec<u32>)>,
    answers: Vec<Followed>,
    /// The prompt made of an instruction "Say it." and a text "Over there".
    chat: Vec<u32>,
}

/// A prompt's tokens, the likeliest ones after it with the logarithm of their share, and those that follow greedily where none ends the answer.
#[derive(Deserialize)]
struct Followed {
    prompt: Vec<u32>,
    likeliest: Vec<(u32, f32)>,
    follow: Vec<u32>,
}

fn hold(model: &LocalTextModel, expected: &Expected, tolerance: f32) {
    for (text, tokens) in &expected.tokens {
        assert_eq!(&model.tokens.encode(text).unwrap(), tokens, "{text:?}");
    }
    assert_eq!(model.prompt("Say it.", "Over there").unwrap(), expected.chat);
    let (mut worst, mut same, mut all) = (0f32, 0, 0);
    for it in &expected.answers {
        let Followed {
            prompt,
            likeliest,
            follow,
        } = it;
        let mut session = Session::new(&model.network);
        let mut logits = model.network.logits(&model.network.feed(&mut session, prompt));
        let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum = logits.iter().map(|it| (it - top).exp()).sum::<f32>().ln() + top;
        for (token, share) in likeliest {
            let found = logits[*token as usize] - sum;
            worst = worst.max((found - share).abs());
            assert!(
                (found - share).abs() <= tolerance,
                "token {token}: {found}, expected {share}"
            );
        }
        for &next in follow {
            let ends = (0..).zip(&mut logits).filter(|it| model.tokens.ends(it.0));
            ends.for_each(|it| *it.1 = f32::NEG_INFINITY);
            let ours = Sampler::new(Sampling::Greedy, 1.0).choose(&mut logits);
            // What llama.cpp chose is our choice too, or as good as that.
            let behind = logits[ours as usize] - logits[next as usize];
            assert!(
                behind <= tolerance,
                "{ours} by {behind}, expected {next} of {follow:?}"
            );
            (same, all) = (same + usize::from(ours == next), all + 1);
            logits = model.network.logits(&model.network.feed(&mut session, &[next]));
        }
    }
    eprintln!(
        "{}: logarithms of shares within {worst}, {same} of {all} tokens the same",
        model.name
    );
    assert!(same * 20 >= all * 19);
}

#[test]
fn small_models_answer_as_llama_cpp_makes_them() {
    let expected = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/text_model.json");
    let all: BTreeMap<String, Expected> = serde_json::from_slice(&std::fs::read(expected).unwrap()).unwrap();
    for (kind, name) in KINDS {
        eprintln!("{name}");
        hold(&read(&Small::new(kind).bytes()).unwrap(), &all[name], 2e-3);
    }
}

/// Writes the files that `testdata/text_model.py` reads.
#[test]
#[ignore = "writes files: LOOM_WRITE_SMALL names the folder"]
fn small_models_are_written() {
    let folder = std::env::var("LOOM_WRITE_SMALL").expect("LOOM_WRITE_SMALL names a folder");
    for (kind, name) in KINDS {
        std::fs::write(
            Path::new(&folder).join(format!("{name}.gguf")),
            Small::new(kind).bytes(),
        )
        .unwrap();
        // a seed of the fuzz target
        let least = Sizes {
            width: 32,
            inner: 32,
            heads: 2,
            shared: 1,
            layers: 1,
        };
        let tiny = Path::new(&folder).join(format!("tiny-{name}.gguf"));
        let mut it = Small::sized(kind, &least);
        for (_, tensor) in it.tensors.iter_mut().filter(|it| it.1.rank() == 2) {
            let values = tensor.dequantize(&Device::Cpu).unwrap();
            *tensor = QTensor::quantize(&values, GgmlDType::Q8_0).unwrap();
        }
        std::fs::write(tiny, it.bytes()).unwrap();
    }
}

#[test]
fn an_answer_is_the_same_however_it_is_fed_and_shared_out() {
    let bytes = Small::new(Kind::Smol).bytes();
    let model = read(&bytes).unwrap();
    let prompt = model
        .prompt("Say it.", "Over there, and again over there")
        .unwrap();
    let mut sessions = [Session::new(&model.network), Session::new(&model.network)];
    let whole = model.network.feed(&mut sessions[0], &prompt);
    let single = prompt
        .iter()
        .map(|&it| model.network.feed(&mut sessions[1], &[it]))
        .last()
        .unwrap();
    let apart = whole
        .iter()
        .zip(&single)
        .map(|(a, b)| (a - b).abs())
        .fold(0f32, f32::max);
    assert!(apart < 1e-3, "{apart}");
    let said = model.answer("Say it.", "Over there").unwrap();
    assert!(!said.is_empty());
    assert_eq!(model.answer("Say it.", "Over there").unwrap(), said);
    let mut config = model.config.clone();
    config.threads = 1;
    let alone = LocalTextModel::read(Reader::of(Path::new("small.gguf"), &bytes), &config).unwrap();
    assert_eq!(alone.answer("Say it.", "Over there").unwrap(), said);
    config.sampling = Sampling::Seeded {
        seed: 3,
        temperature: 1.0,
        top_p: 0.9,
    };
    let drawn = LocalTextModel::read(Reader::of(Path::new("small.gguf"), &bytes), &config).unwrap();
    let other = drawn.answer("Say it.", "Over there").unwrap();
    assert_ne!(other, said);
    assert_eq!(drawn.answer("Say it.", "Over there").unwrap(), other);
}

/// The same file with two bytes' tokens, which nothing here says, for the marks around thoughts, as Qwen 3's files have these.
fn thinking(chat: &str) -> LocalTextModel {
    let mut small = Small::new(Kind::Qwen3);
    for (key, value) in &mut small.fields {
        let (Value::Array(all), Some(marks)) = (
            value,
            match key.as_str() {
                "tokenizer.ggml.tokens" => Some(["<think>", "</think>"].map(text)),
                "tokenizer.ggml.token_type" => Some([Value::I32(4), Value::I32(4)]),
                _ => None,
            },
        ) else {
            continue;
        };
        let [opens, closes] = marks;
        (all[0], all[1]) = (opens, closes);
    }
    read(&small.with("tokenizer.chat_template", text(chat)).bytes()).unwrap()
}

#[test]
fn thoughts_between_marks_that_have_no_text_are_no_answer() {
    let said = "<|im_start|>{{ messages[1].content }}<|im_end|>";
    let model = thinking(&format!("{said}<think>\n\n</think>\n\n"));
    let prompt = model.prompt("Say it.", "Over there").unwrap();
    let spoken = |prompt: &[u32], text: &str| {
        let answer = model.tokens.encode(text).unwrap();
        model.tokens.decode(model.tokens.spoken(prompt, &answer)).unwrap()
    };
    assert!(prompt.contains(&0) && prompt.contains(&1));
    for (answer, expected) in [
        ("Yes.", "Yes."),
        ("<think>no</think>Yes.", "Yes."),
        ("<think>no</think>a<think>b</think>Yes.", "Yes."),
        ("no</think>Yes.", "Yes."),
        ("Yes.<think>no", "Yes."),
        ("<think>no", ""),
    ] {
        assert_eq!(spoken(&prompt, answer), expected, "{answer}");
    }
    // What a model is told to think, and has not ended.
    let model = thinking(&format!("{said}<think>\n"));
    let prompt = model.prompt("Say it.", "Over there").unwrap();
    assert_eq!(spoken(&prompt, "no"), "");
    assert_eq!(spoken(&prompt, "no</think>Yes."), "Yes.");
    let answer = model.follow(&prompt);
    assert!(!answer.is_empty() && !answer.iter().any(|it| *it < 2));
    assert_eq!(model.answer("Say it.", "Over there").unwrap(), "");
}

#[test]
fn of_a_text_that_is_too_long_the_beginning_is_read() {
    let model = read(&Small::new(Kind::Qwen2).bytes()).unwrap();
    let room = 512 - 64;
    for text in [
        "the word ".repeat(5_000),
        "Ünïcödé 語 ".repeat(300),
        "x".repeat(447),
    ] {
        let prompt = model.prompt("Say it.", &text).unwrap();
        assert!(
            prompt.len() <= room && prompt.len() > room * 7 / 8,
            "{}",
            prompt.len()
        );
    }
    let error = model.prompt(&"Say it. ".repeat(400), "now").unwrap_err();
    assert!(error.to_string().contains("the instruction alone"), "{error}");
    assert!(model.longest() < 512 * 4);
}

#[test]
fn a_file_that_is_not_a_known_model_is_refused_with_what_is_wrong() {
    let small = || Small::new(Kind::Qwen3);
    for (it, words) in [
        (
            small().with("general.architecture", text("rwkv")),
            vec!["general.architecture", "rwkv", "qwen3"],
        ),
        (
            small().without("qwen3.block_count"),
            vec!["qwen3.block_count: this field is missing"],
        ),
        (
            small().with("qwen3.block_count", Value::U32(3)),
            vec!["blk.2.attn_q.weight: this tensor is missing"],
        ),
        (
            small().with("qwen3.block_count", Value::U32(1 << 20)),
            vec!["qwen3.block_count", "1 to 128"],
        ),
        (
            small().with("qwen3.attention.head_count_kv", Value::U32(0)),
            vec!["qwen3.attention.head_count_kv"],
        ),
        (
            small().with("qwen3.attention.head_count_kv", Value::U32(3)),
            vec!["4 heads cannot share 3"],
        ),
        (
            small().with("qwen3.attention.head_count", Value::U32(2)),
            vec!["blk.0.attn_q.weight", "128 × 64 values, expected 64 × 64"],
        ),
        (
            small().with("qwen3.rope.dimension_count", Value::U32(31)),
            vec!["qwen3.rope.dimension_count"],
        ),
        (
            small().with("qwen3.rope.scaling.type", text("yarn")),
            vec!["qwen3.rope.scaling.type"],
        ),
        (
            small().with("qwen3.expert_count", Value::U32(8)),
            vec!["qwen3.expert_count"],
        ),
        (
            small().with("qwen3.context_length", text("long")),
            vec!["qwen3.context_length"],
        ),
        (
            small().without("token_embd.weight"),
            vec!["token_embd.weight: this tensor is missing"],
        ),
        (
            small().without("blk.1.ffn_down.weight"),
            vec!["blk.1.ffn_down.weight: this tensor is missing"],
        ),
        (
            small().without("blk.1.attn_k_norm.weight"),
            vec!["blk.1.attn_k_norm.weight: this tensor is missing"],
        ),
        (
            small().with("tokenizer.ggml.model", text("llama")),
            vec!["tokenizer.ggml.model", "\"llama\""],
        ),
        (
            small().with("tokenizer.ggml.pre", text("tekken")),
            vec!["tokenizer.ggml.pre", "tekken"],
        ),
        (
            small().without("tokenizer.ggml.tokens"),
            vec!["tokenizer.ggml.tokens: this field is missing"],
        ),
        (
            small().with("tokenizer.ggml.tokens", Value::Array(vec![Value::U32(1)])),
            vec!["tokenizer.ggml.tokens"],
        ),
        (
            small().with("tokenizer.ggml.merges", Value::Array(vec![text("ab")])),
            vec!["tokenizer.ggml"],
        ),
        (
            small().with(
                "tokenizer.ggml.tokens",
                Value::Array((0..400).map(|at| text(&format!("t{at}"))).collect()),
            ),
            vec!["tokenizer.ggml"],
        ),
    ] {
        let fault = fault(&it.bytes());
        assert!(
            words.iter().all(|word| fault.contains(word)),
            "{fault}, expected {words:?}"
        );
    }
    let mut infinite = small().without("output_norm.weight");
    infinite.values("output_norm.weight", vec![f32::NAN; 64], &[64]);
    assert!(fault(&infinite.bytes()).contains("output_norm.weight: a value that is no finite number"));
}

#[test]
fn a_file_that_is_cut_off_or_has_a_byte_changed_is_read_or_refused_but_never_breaks() {
    let whole = Small::new(Kind::Llama3).bytes();
    let header = whole.len() - 4 * (284 * 64 * 2);
    for at in (0..whole.len()).step_by(whole.len() / 23) {
        let fault = fault(&whole[..at]);
        assert!(fault.starts_with("small.gguf: "), "{fault}");
    }
    // The header's fields, not its thousands of tokens.
    let places = (0..1_200).step_by(17).chain((0..header).step_by(header / 23));
    for (at, change) in places.zip([0x01, 0x80, 0xff].into_iter().cycle()) {
        let mut bytes = whole.clone();
        bytes[at] ^= change;
        if let Ok(model) = read(&bytes) {
            let _ = model.answer("Say it.", "Over there");
        }
    }
}

#[test]
fn what_no_answer_can_be_made_with_is_refused() {
    let bytes = Small::new(Kind::Smol).bytes();
    let fault = |change: fn(&mut LocalTextModelConfig)| {
        let mut config = LocalTextModelConfig::new("small.gguf");
        change(&mut config);
        let files = ModelFiles::new("small.gguf".into(), ModelOrigin::Path);
        LocalTextModel::load(&files, &config).unwrap_err().to_string()
    };
    assert!(fault(|it| it.threads = 0).starts_with("threads: "));
    assert!(fault(|it| it.context = 100).starts_with("context: "));
    assert!(fault(|it| it.answer = 3_000).starts_with("answer: "));
    assert!(fault(|it| it.repeat_penalty = f32::NAN).starts_with("repeat_penalty: "));
    let seeded = |it: &mut LocalTextModelConfig| {
        it.sampling = Sampling::Seeded {
            seed: 1,
            temperature: 0.0,
            top_p: 1.0,
        };
    };
    assert!(fault(seeded).starts_with("sampling: "));
    assert!(fault(|_| ()).contains("small.gguf"), "there is no such file");
    assert!(read(&bytes).is_ok());
}

#[test]
fn a_name_is_a_path_or_one_on_the_hub() {
    let hub = LocalTextModelConfig::new("Qwen/Qwen3-0.6B-GGUF/Qwen3-0.6B-Q8_0.gguf");
    assert_eq!(hub.files.path, None);
    assert_eq!(
        (hub.files.repository.as_str(), hub.file.as_str()),
        ("Qwen/Qwen3-0.6B-GGUF", "Qwen3-0.6B-Q8_0.gguf")
    );
    for path in [
        "m.gguf",
        "/models/a/m.gguf",
        "./a/m.gguf",
        "a/b/c/m.gguf",
        "../a/m.gguf",
    ] {
        assert_eq!(
            LocalTextModelConfig::new(path).files.path.as_deref(),
            Some(Path::new(path))
        );
    }
}

/// The real SmolLM2-135M-Instruct against llama.cpp: `make text-model` fetches it and runs this.
#[test]
#[ignore = "reads a real model: LOOM_TEXT_MODEL names it, LOOM_TEXT_EXPECTED what is expected of it"]
fn a_real_model_answers_as_llama_cpp_makes_it() {
    let path = std::env::var("LOOM_TEXT_MODEL").expect("LOOM_TEXT_MODEL names a gguf file");
    let expected = std::env::var("LOOM_TEXT_EXPECTED").expect("LOOM_TEXT_EXPECTED names a json file");
    let all: BTreeMap<String, Expected> = serde_json::from_slice(&std::fs::read(expected).unwrap()).unwrap();
    let mut config = LocalTextModelConfig::new(&path);
    config.threads = 2;
    let files = LocalTextModel::locate(&config, &mut |_| ()).unwrap();
    let model = LocalTextModel::load(&files, &config).unwrap();
    // llama.cpp rounds what is multiplied to 8 bits, of which this is the trace.
    hold(&model, &all.into_values().next().unwrap(), 0.35);
}
