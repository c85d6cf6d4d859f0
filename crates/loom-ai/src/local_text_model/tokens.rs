use std::collections::HashMap;
use std::path::Path;

use candle_core::quantized::gguf_file::{Content, Value, VersionedMagic};
use candle_core::quantized::tokenizer::TokenizerFromGguf;
use tokenizers::Tokenizer;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;

use crate::AiError;
use crate::limits::{MAX_TOKEN_BYTES, MAX_VOCABULARY};

/// Text to tokens and back, as the file's own fields say.
#[derive(Debug)]
pub(super) struct Tokens {
    inner: Tokenizer,
    count: usize,
    /// Those that end an answer.
    ends: Vec<u32>,
    /// Texts that stand for no text but for a mark, such as `<|im_end|>`.
    marks: Vec<String>,
    /// The mark that begins a text, for templates, where there is one.
    begin: String,
    /// Its token, where every text begins with it.
    first: Option<u32>,
    /// The tokens around what a model only thinks, where it has them.
    thought: Option<(u32, u32)>,
}

/// How a text is cut before its pieces become tokens; `tokenizer.ggml.pre` names it, by the names that llama.cpp gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// GPT-2's words, numbers and signs.
    Words,
    /// The same, with each digit apart.
    WordsAndDigits,
    /// Llama 3's: as candle has it. A piece that is a token is not taken apart.
    Llama3,
    /// Qwen's: as candle has it.
    Qwen,
}

impl Cut {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "gpt-2" | "gpt2" => Self::Words,
            "smollm" => Self::WordsAndDigits,
            "llama3" | "llama-v3" | "llama-bpe" => Self::Llama3,
            "qwen2" => Self::Qwen,
            _ => return None,
        })
    }

    /// What candle calls it.
    fn candles(self) -> &'static str {
        match self {
            Self::Words | Self::WordsAndDigits => "gpt2",
            Self::Llama3 => "llama3",
            Self::Qwen => "qwen2",
        }
    }
}

impl Tokens {
    pub(super) fn new(path: &Path, fields: &HashMap<String, Value>) -> Result<Self, AiError> {
        let bad = |what: &str, rule: String| AiError::malformed(path, what, rule);
        let kind = text(fields, "tokenizer.ggml.model").unwrap_or("none");
        if kind != "gpt2" {
            let rule = format!("{kind:?} is not known; byte-level byte pairs (\"gpt2\") are");
            return Err(bad("tokenizer.ggml.model", rule));
        }
        let name = text(fields, PRE).unwrap_or("none");
        let cut = Cut::of(name).ok_or_else(|| bad(PRE, format!("{name:?} is not known")))?;
        let Some(Value::Array(listed)) = fields.get(TOKENS) else {
            return Err(bad(TOKENS, "this field is missing".to_owned()));
        };
        if listed.is_empty() || listed.len() > MAX_VOCABULARY {
            return Err(bad(
                TOKENS,
                format!("{} tokens, expected 1 to {MAX_VOCABULARY}", listed.len()),
            ));
        }
        let token = |id: usize| match listed.get(id) {
            Some(Value::String(it)) => Some(it.as_str()),
            _ => None,
        };
        if let Some(at) = (0..listed.len()).find(|&at| token(at).is_none_or(|it| it.len() > MAX_TOKEN_BYTES))
        {
            return Err(bad(
                TOKENS,
                format!("token {at} is no text of {MAX_TOKEN_BYTES} bytes at most"),
            ));
        }
        let mut metadata: HashMap<String, Value> = fields
            .iter()
            .filter(|(key, _)| key.starts_with("tokenizer.ggml."))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        metadata.insert(PRE.to_owned(), Value::String(cut.candles().to_owned()));
        metadata.insert(
            "tokenizer.ggml.ignore_merges".to_owned(),
            Value::Bool(cut == Cut::Llama3),
        );
        let content = Content {
            magic: VersionedMagic::GgufV3,
            metadata,
            tensor_infos: HashMap::new(),
            tensor_data_offset: 0,
        };
        let mut inner =
            Tokenizer::from_gguf(&content).map_err(|e| bad("tokenizer.ggml", first_line(&e.to_string())))?;
        let words = ByteLevel::new(false, false, true);
        match cut {
            Cut::Words => {
                inner.with_pre_tokenizer(Some(words));
            }
            Cut::WordsAndDigits => {
                let parts: Vec<PreTokenizerWrapper> = vec![Digits::new(true).into(), words.into()];
                inner.with_pre_tokenizer(Some(Sequence::new(parts)));
            }
            Cut::Llama3 | Cut::Qwen => {}
        }
        let id = |key: &str| match fields.get(key) {
            Some(Value::U32(it)) => Some(*it),
            _ => None,
        };
        let mut ends: Vec<u32> = ["eos", "eot", "eom"]
            .iter()
            .filter_map(|it| id(&format!("tokenizer.ggml.{it}_token_id")))
            .collect();
        let marks: Vec<String> = inner
            .get_added_tokens_decoder()
            .into_values()
            .map(|it| it.content)
            .filter(|it| it.len() > 1)
            .collect();
        let known = |it: &&&str| marks.iter().any(|mark| mark == **it);
        ends.extend(ENDS.iter().filter(known).filter_map(|it| inner.token_to_id(it)));
        let begin = id("tokenizer.ggml.bos_token_id").filter(|it| token(*it as usize).is_some());
        let first = begin.filter(|_| {
            matches!(
                fields.get("tokenizer.ggml.add_bos_token"),
                Some(Value::Bool(true))
            )
        });
        let begin = begin.and_then(|it| token(it as usize)).unwrap_or_default();
        let mark = |it: &str| {
            inner
                .token_to_id(it)
                .filter(|_| marks.iter().any(|mark| mark == it))
        };
        let thought = mark("<think>").zip(mark("</think>"));
        Ok(Self {
            thought,
            begin: begin.to_owned(),
            first,
            inner,
            count: listed.len(),
            ends,
            marks,
        })
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn marks(&self) -> &[String] {
        &self.marks
    }

    pub(super) fn begin(&self) -> &str {
        &self.begin
    }

    pub(super) fn ends(&self, token: u32) -> bool {
        self.ends.contains(&token)
    }

    /// A mark in the text becomes the mark's token.
    pub(super) fn encode(&self, text: &str) -> Result<Vec<u32>, String> {
        let it = self.inner.encode_fast(text, false).map_err(|e| e.to_string())?;
        Ok(it.get_ids().to_vec())
    }

    /// A whole prompt: with the token that begins each text, where there is one and a template has not put it there.
    pub(super) fn encode_prompt(&self, text: &str) -> Result<Vec<u32>, String> {
        let mut tokens = self.encode(text)?;
        if let Some(first) = self.first.filter(|it| tokens.first() != Some(it)) {
            tokens.insert(0, first);
        }
        Ok(tokens)
    }

    /// What of an answer is said and not only thought. Whoever made the file may take the marks around thoughts for marks, which have no text, so
    /// that they are looked for before there is one.
    pub(super) fn spoken<'a>(&self, prompt: &[u32], answer: &'a [u32]) -> &'a [u32] {
        let Some((opens, closes)) = self.thought else {
            return answer;
        };
        let last = |tokens: &[u32], mark: u32| tokens.iter().rposition(|it| *it == mark);
        let after = match last(answer, closes) {
            Some(at) => &answer[at + 1..],
            // the prompt itself may end amid a thought
            None if last(prompt, opens) > last(prompt, closes) => &[],
            None => answer,
        };
        let thinks_again = after.iter().position(|it| *it == opens);
        &after[..thinks_again.unwrap_or(after.len())]
    }

    /// Without marks.
    pub(super) fn decode(&self, tokens: &[u32]) -> Result<String, String> {
        self.inner.decode(tokens, true).map_err(|e| e.to_string())
    }
}

const PRE: &str = "tokenizer.ggml.pre";
const TOKENS: &str = "tokenizer.ggml.tokens";

/// Marks that end an answer in the families that have them, whatever else the file says.
const ENDS: &[&str] = &[
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<|endoftext|>",
];

/// What candle says of an error, without where in candle that was.
fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// A field that is a text.
pub(super) fn text<'a>(fields: &'a HashMap<String, Value>, key: &str) -> Option<&'a str> {
    match fields.get(key) {
        Some(Value::String(it)) => Some(it),
        _ => None,
    }
}
