//! Text to tokens: byte-pair encoding (Sennrich et al. 2016) as GPT-2 cuts and ranks it. A pair's rank is the id of the token
//! that it makes, so the vocabulary alone is enough.

use std::collections::HashMap;

use crate::vocabulary::Vocabulary;

/// The tokens of `text`, as the reference encodes it.
pub(crate) fn encode(vocabulary: &Vocabulary, text: &str) -> Vec<u32> {
    let ids: HashMap<&[u8], u32> = (0..vocabulary.end_of_text)
        .map(|id| (vocabulary.token(id), id))
        .collect();
    let mut out = Vec::new();
    for piece in pieces(text) {
        merge(piece.as_bytes(), &ids, &mut out);
    }
    out
}

/// Joins the neighbours whose token has the lowest id until none do.
fn merge(bytes: &[u8], ids: &HashMap<&[u8], u32>, out: &mut Vec<u32>) {
    let mut ends: Vec<usize> = (0..=bytes.len()).collect();
    let joined = |ends: &[usize], at: usize| {
        let (from, to) = (*ends.get(at)?, *ends.get(at + 2)?);
        ids.get(&bytes[from..to]).copied()
    };
    while let Some((_, at)) = (0..ends.len())
        .filter_map(|at| Some((joined(&ends, at)?, at)))
        .min()
    {
        ends.remove(at + 1);
    }
    // Every single byte is a token, so nothing is left out.
    out.extend(ends.windows(2).filter_map(|it| ids.get(&bytes[it[0]..it[1]])));
}

/// GPT-2's pieces: contractions, words, numbers and runs of signs, each with the space before it, and runs of space.
fn pieces(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (piece, tail) = rest.split_at(piece(rest));
        out.push(piece);
        rest = tail;
    }
    out
}

fn piece(text: &str) -> usize {
    for it in ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"] {
        if text.starts_with(it) {
            return it.len();
        }
    }
    let body = text.strip_prefix(' ').unwrap_or(text);
    let lead = text.len() - body.len();
    let kind = |c: char| {
        if c.is_whitespace() {
            0
        } else if c.is_alphabetic() {
            1
        } else if c.is_numeric() {
            2
        } else {
            3
        }
    };
    match body.chars().next().map(kind) {
        Some(first @ 1..) => lead + run(body, |c| kind(c) == first),
        _ => {
            // All space but the last, which goes with what follows; all of it where nothing does.
            let space = run(text, char::is_whitespace);
            let last = text[..space].chars().next_back().map_or(0, char::len_utf8);
            if space < text.len() && space > last {
                space - last
            } else {
                space
            }
        }
    }
}

fn run(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|c| !belongs(c)).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn text_is_cut_where_the_tokenizers_crate_cuts_it() {
        let path = Path::new(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../../shared/models/whisper-tiny.en/tokenizer.json"
        ));
        if !path.is_file() {
            eprintln!("SKIPPED: {} is absent", path.display());
            return;
        }
        let theirs = tokenizers::Tokenizer::from_file(path).unwrap();
        let vocabulary = Vocabulary::english(path).unwrap();
        for text in [
            " Glossary: WebRTC, WHIP, Kubernetes",
            "it's 3.14, isn't it?  We'll   see\n\n  then \t.",
            " naïve café — 東京 🎙️!",
            "trailing space ",
            "   ",
            "",
        ] {
            let ids = theirs.encode(text, false).unwrap();
            assert_eq!(encode(&vocabulary, text), ids.get_ids(), "{text:?}");
        }
    }
}
