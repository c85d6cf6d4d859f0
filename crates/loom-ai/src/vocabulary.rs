use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use flate2::read::DeflateDecoder;

use crate::AiError;
use crate::limits::{MAX_TOKEN_BYTES, MAX_VOCABULARY};

/// A model's tokens: the bytes each text token stands for, and where the special ones lie.
///
/// Text tokens have ids below [`end_of_text`](Self::end_of_text); everything from there on is special, and the
/// timestamps come last, 20 ms apart. That order is the same in every published Whisper vocabulary.
#[derive(Debug, Clone)]
pub(crate) struct Vocabulary {
    bytes: Vec<u8>,
    ends: Vec<u32>,
    pub(crate) end_of_text: u32,
    pub(crate) start: u32,
    /// First language token and how many follow; none in an English-only model.
    pub(crate) languages: Option<(u32, u32)>,
    pub(crate) translate: u32,
    pub(crate) transcribe: u32,
    /// Opens text that was said before.
    pub(crate) previous: u32,
    pub(crate) no_speech: u32,
    pub(crate) first_timestamp: u32,
    /// Text tokens that stand for no speech (brackets, notes, musical signs).
    pub(crate) unspoken: Vec<u32>,
    /// The token of a single space.
    pub(crate) blank: Option<u32>,
}

impl Vocabulary {
    /// From the bytes of each text token, in id order, and the model's number of ids.
    ///
    /// 51,864 ids and below are English only; above are multilingual, with one more language from 51,866 on.
    pub(crate) fn new(path: &Path, tokens: &[Vec<u8>], size: usize) -> Result<Self, AiError> {
        if size > MAX_VOCABULARY {
            return Err(AiError::malformed(
                path,
                "vocabulary size",
                format!("at most {MAX_VOCABULARY}"),
            ));
        }
        let multilingual = size >= 51_865;
        let text = if multilingual { 50_257 } else { 50_256 };
        if tokens.len() < text || size < text + 1_500 {
            return Err(AiError::malformed(
                path,
                "vocabulary",
                format!(
                    "{} text tokens of {size} ids: whisper has at least {text}",
                    tokens.len()
                ),
            ));
        }
        let (mut bytes, mut ends) = (Vec::new(), Vec::with_capacity(text));
        for token in &tokens[..text] {
            if token.len() > MAX_TOKEN_BYTES {
                return Err(AiError::malformed(
                    path,
                    "token",
                    format!("at most {MAX_TOKEN_BYTES} bytes"),
                ));
            }
            bytes.extend_from_slice(token);
            ends.push(bytes.len() as u32);
        }
        let end_of_text = text as u32;
        let start = end_of_text + 1;
        // After the languages: translate, transcribe, start of language model, start of previous text, no speech, no
        // timestamps, then 0.00, 0.02, … 30.00. English-only vocabularies keep the ids of 99 languages too, unused.
        let languages = if multilingual {
            (size - 51_865) as u32 + 99
        } else {
            99
        };
        let translate = start + 1 + languages;
        let mut it = Self {
            bytes,
            ends,
            end_of_text,
            start,
            languages: multilingual.then_some((start + 1, languages)),
            translate,
            transcribe: translate + 1,
            previous: translate + 3,
            no_speech: translate + 4,
            first_timestamp: translate + 6,
            unspoken: Vec::new(),
            blank: None,
        };
        if it.first_timestamp as usize + 1_501 != size {
            return Err(AiError::malformed(
                path,
                "vocabulary size",
                format!(
                    "{size} ids leave no room for 1501 timestamps from {}",
                    it.first_timestamp
                ),
            ));
        }
        it.unspoken = (0..end_of_text).filter(|&id| is_unspoken(it.token(id))).collect();
        it.blank = (0..end_of_text).find(|&id| it.token(id) == b" ");
        Ok(it)
    }

    /// From a Hugging Face `tokenizer.json`: its byte-level BPE vocabulary.
    pub(crate) fn from_tokenizer_json(path: &Path, json: &[u8], size: usize) -> Result<Self, AiError> {
        #[derive(serde::Deserialize)]
        struct Root {
            model: Bpe,
        }
        #[derive(serde::Deserialize)]
        struct Bpe {
            vocab: HashMap<String, u32>,
        }
        let root: Root = serde_json::from_slice(json)
            .map_err(|e| AiError::malformed(path, "model.vocab", e.to_string()))?;
        let alphabet = byte_alphabet();
        let mut tokens = vec![Vec::new(); root.model.vocab.len().min(MAX_VOCABULARY)];
        for (text, id) in &root.model.vocab {
            let Some(slot) = tokens.get_mut(*id as usize) else {
                continue;
            };
            *slot = text
                .chars()
                .map(|c| alphabet.get(&c).copied())
                .collect::<Option<Vec<u8>>>()
                .unwrap_or_default();
        }
        Self::new(path, &tokens, size)
    }

    /// The vocabulary of the English-only models, which their `.pt` files do not carry.
    pub(crate) fn english(path: &Path) -> Result<Self, AiError> {
        let mut raw = Vec::new();
        DeflateDecoder::new(ENGLISH)
            .read_to_end(&mut raw)
            .map_err(|e| AiError::malformed(path, "built-in vocabulary", e.to_string()))?;
        let mut tokens = Vec::with_capacity(50_256);
        let mut rest = raw.as_slice();
        while let Some((&len, tail)) = rest.split_first() {
            let (token, tail) = tail.split_at_checked(usize::from(len)).unwrap_or((tail, &[]));
            tokens.push(token.to_vec());
            rest = tail;
        }
        Self::new(path, &tokens, 51_864)
    }

    /// The bytes of a text token; none for a special one.
    pub(crate) fn token(&self, id: u32) -> &[u8] {
        let id = id as usize;
        match self.ends.get(id) {
            Some(&end) => {
                let start = if id == 0 { 0 } else { self.ends[id - 1] };
                &self.bytes[start as usize..end as usize]
            }
            None => &[],
        }
    }

    /// The text of `ids`, special tokens left out, broken UTF-8 replaced.
    pub(crate) fn text(&self, ids: &[u32]) -> String {
        let bytes: Vec<u8> = ids.iter().flat_map(|&id| self.token(id)).copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub(crate) fn is_timestamp(&self, id: u32) -> bool {
        id >= self.first_timestamp
    }

    pub(crate) fn is_text(&self, id: u32) -> bool {
        id < self.end_of_text
    }

    /// The language token of an ISO 639-1 code as Whisper orders them.
    pub(crate) fn language(&self, code: &str) -> Option<u32> {
        let (first, count) = self.languages?;
        let index = LANGUAGES.iter().position(|&it| it == code)? as u32;
        (index < count).then_some(first + index)
    }
}

/// Signs that a transcript never needs and that a model emits for music, noise and captions' house style.
fn is_unspoken(token: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(token) else {
        return false;
    };
    let bare = text.strip_prefix(' ').unwrap_or(text);
    if bare.is_empty() {
        return false;
    }
    // A lone dash or quote opens a speaker's turn only after a space.
    if text.starts_with(' ') && (bare == "-" || bare == "'") {
        return true;
    }
    let runs = [
        "<<", ">>", "<<<", ">>>", "--", "---", "-(", "-[", "('", "(\"", "((", "))", "(((", ")))", "[[", "]]",
        "{{", "}}",
    ];
    runs.contains(&bare)
        || bare
            .chars()
            .all(|c| "\"#()*+/:;<=>@[\\]^_`{|}~「」『』♪♩♫♬♭♮♯".contains(c))
            && bare.chars().count() == 1
        || bare.contains('♪')
}

/// GPT-2's printable stand-ins for the 256 bytes: printable Latin-1 stays, the rest follows from U+0100 in order.
fn byte_alphabet() -> HashMap<char, u8> {
    let printable = |b: u8| matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let mut next = 0x100;
    (0..=255u8)
        .map(|b| {
            let c = if printable(b) {
                char::from(b)
            } else {
                next += 1;
                char::from_u32(next - 1).unwrap_or('\u{fffd}')
            };
            (c, b)
        })
        .collect()
}

/// Deflated: for each of the 50,256 text tokens of GPT-2's vocabulary, in id order, its length (one byte) and bytes.
/// Source and licence: `assets/PROVENANCE.md`.
static ENGLISH: &[u8] = include_bytes!("../assets/gpt2.vocab.deflate");

/// Whisper's languages in the order of their tokens.
const LANGUAGES: [&str; 100] = [
    "en", "zh", "de", "es", "ru", "ko", "fr", "ja", "pt", "tr", "pl", "ca", "nl", "ar", "sv", "it", "id",
    "hi", "fi", "vi", "he", "uk", "el", "ms", "cs", "ro", "da", "hu", "ta", "no", "th", "ur", "hr", "bg",
    "lt", "la", "mi", "ml", "cy", "sk", "te", "fa", "lv", "bn", "sr", "az", "sl", "kn", "et", "mk", "br",
    "eu", "is", "hy", "ne", "mn", "bs", "kk", "sq", "sw", "gl", "mr", "pa", "si", "km", "sn", "yo", "so",
    "af", "oc", "ka", "be", "tg", "sd", "gu", "am", "yi", "lo", "uz", "fo", "ht", "ps", "tk", "nn", "mt",
    "sa", "lb", "my", "bo", "tl", "mg", "as", "tt", "haw", "ln", "ha", "ba", "jw", "su", "yue",
];

/// The ISO 639-1 code (or Whisper's own) of language number `index`.
pub(crate) fn language_code(index: usize) -> Option<&'static str> {
    LANGUAGES.get(index).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_vocabulary_reads_as_the_tokenizers_crate_reads_it() {
        let path = Path::new(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../../shared/models/whisper-tiny.en/tokenizer.json"
        ));
        if !path.is_file() {
            eprintln!("SKIPPED: {} is absent", path.display());
            return;
        }
        let ours = Vocabulary::english(path).unwrap();
        let read = Vocabulary::from_tokenizer_json(path, &std::fs::read(path).unwrap(), 51_864).unwrap();
        assert_eq!((&ours.bytes, &ours.ends), (&read.bytes, &read.ends));
        let theirs = tokenizers::Tokenizer::from_file(path).unwrap();
        for text in [
            "Hello, world!",
            " naïve café — 東京 🎙️",
            "it's 3.14, isn't it?",
            "\n\ttabs",
        ] {
            let ids = theirs.encode(text, false).unwrap();
            assert_eq!(ours.text(ids.get_ids()), text);
        }
        let id = |token: &str| theirs.token_to_id(token);
        assert_eq!(id("<|startoftranscript|>"), Some(ours.start));
        assert_eq!(id("<|transcribe|>"), Some(ours.transcribe));
        assert_eq!(id("<|nospeech|>"), Some(ours.no_speech));
        assert_eq!(id("<|0.00|>"), Some(ours.first_timestamp));
    }

    #[test]
    fn a_vocabulary_of_another_size_is_refused() {
        let tokens = vec![b"x".to_vec(); 50_257];
        let error = Vocabulary::new(Path::new("m.bin"), &tokens, 32_000).unwrap_err();
        assert!(error.to_string().starts_with("m.bin: vocabulary"), "{error}");
        Vocabulary::new(Path::new("m.bin"), &tokens, 51_866).unwrap();
    }
}
