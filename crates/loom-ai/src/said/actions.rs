use super::Excerpt;
use super::sentences::{Sentence, bare};

/// What somebody says who undertakes something, asks for it, or sets a time for it. A phrase counts its points; [`LEAST`] make an
/// action item.
const SIGNS: &[(&str, i32)] = &[
    ("action item", 3),
    ("to do", 1),
    ("todo", 3),
    ("follow up", 2),
    ("next step", 2),
    ("next steps", 2),
    ("deadline", 2),
    ("i'll", 2),
    ("i will", 2),
    ("we'll", 1),
    ("we will", 1),
    ("i'm going to", 2),
    ("we're going to", 1),
    ("i am going to", 2),
    ("let's", 1),
    ("let me", 1),
    ("please", 2),
    ("can you", 2),
    ("could you", 2),
    ("would you", 1),
    ("will you", 2),
    ("need to", 2),
    ("needs to", 2),
    ("have to", 1),
    ("has to", 1),
    ("must", 1),
    ("should", 1),
    ("make sure", 2),
    ("don't forget", 3),
    ("remember to", 3),
    ("remind", 2),
    ("assign", 2),
    ("take care of", 2),
    ("get back to", 2),
    ("reach out", 2),
    ("sign off", 1),
    ("send", 1),
    ("schedule", 1),
    ("prepare", 1),
    ("finish", 1),
    ("review", 1),
    ("update", 1),
    ("fix", 1),
    ("write", 1),
    ("check", 1),
    ("book", 1),
    ("call", 1),
    ("email", 1),
    ("share", 1),
    ("draft", 1),
    ("test", 1),
    ("deploy", 1),
    ("by monday", 2),
    ("by tuesday", 2),
    ("by wednesday", 2),
    ("by thursday", 2),
    ("by friday", 2),
    ("by tomorrow", 2),
    ("by tonight", 2),
    ("by the end of", 2),
    ("by next", 2),
    ("before the", 1),
    ("tomorrow", 1),
    ("next week", 1),
    ("end of day", 2),
    ("this week", 1),
    ("asap", 2),
    ("as soon as possible", 2),
];
/// What is said of plans that are none, or long past.
const AGAINST: &[(&str, i32)] = &[
    ("used to", 2),
    ("don't need to", 3),
    ("doesn't need to", 3),
    ("didn't", 2),
    ("should have", 2),
    ("would have", 2),
    ("if i were", 2),
    ("i'll never", 3),
    ("i will never", 3),
    ("thank you", 1),
    ("would you believe", 3),
    ("let me tell", 2),
    ("let me show", 2),
    ("i'll show", 2),
    ("we'll see", 2),
    ("as you can see", 2),
    ("i must say", 3),
    ("let's see", 2),
    ("let's look", 2),
    ("was", 1),
    ("were", 1),
    ("had to", 2),
];
/// Points of an action item: an undertaking or a request, and what or when.
const LEAST: i32 = 3;

pub(super) fn find(sentences: &[Sentence]) -> Vec<Excerpt> {
    sentences
        .iter()
        .filter(|it| points(it) >= LEAST)
        .map(Excerpt::from)
        .collect()
}

fn points(sentence: &Sentence) -> i32 {
    let words: Vec<String> = sentence.words.iter().map(|it| bare(&it.text)).collect();
    let text = format!(" {} ", words.join(" "));
    let sum = |signs: &[(&str, i32)]| -> i32 {
        let said = signs
            .iter()
            .filter(|(sign, _)| text.contains(&format!(" {sign} ")));
        said.map(|(_, points)| points).sum()
    };
    sum(SIGNS) - sum(AGAINST)
}
