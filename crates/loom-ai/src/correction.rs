//! What a person changes in a transcript. Words that stay keep their times; those that were changed share the time of what they take the
//! place of.

use std::ops::Range;

use loom_core::{MediaTime, Word};
use serde::{Deserialize, Serialize};
use similar::{Algorithm, DiffOp, capture_diff_slices_by_key};

use crate::AiError;
use crate::limits::{MAX_NAME, MAX_SEGMENT_WORDS, MAX_TRANSCRIPT_BYTES};
use crate::transcript::{Segment, Transcript};

/// Something that a person changes in a transcript.
///
/// ```
/// use loom_ai::Correction;
///
/// let read: Vec<Correction> =
///     serde_json::from_str(r#"[{"segment": 3, "text": "Good morning."}, {"replace": "lume", "with": "Loom"}]"#)?;
/// assert_eq!(read[1], Correction::Replace { replace: "lume".into(), with: "Loom".into() });
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    untagged,
    deny_unknown_fields,
    expecting = "a correction is {\"segment\": 3, \"text\": \"…\"}, {\"replace\": \"…\", \"with\": \"…\"} or {\"speaker\": \"…\", \"name\": \"…\"}"
)]
#[non_exhaustive]
pub enum Correction {
    /// What a segment says instead. One that says nothing goes.
    Segment {
        /// Its place among the transcript's segments, from 0.
        segment: usize,
        /// All of its text.
        text: String,
    },
    /// One word, or some in a row within a segment, wherever they stand. Neither case nor the punctuation around them is looked at, and that
    /// punctuation stays.
    Replace {
        /// What is written now.
        replace: String,
        /// What is written instead; nothing, where it is empty.
        with: String,
    },
    /// What a speaker is called, wherever they speak. Two of one name are one.
    Name {
        /// As they are called now.
        speaker: String,
        /// The name.
        name: String,
    },
}

impl Transcript {
    /// The transcript with all of `corrections`, one after the other; places of segments are those of `self`. A word that is spelt as before,
    /// but for case and punctuation, keeps its time and its probability; of others the time is that of the words they replace, in proportion
    /// to their letters, and the probability 1.
    ///
    /// ```
    /// use loom_ai::{Correction, Segment, Transcript};
    /// use loom_core::{MediaTime, Word};
    ///
    /// let word = |start, end, text: &str| Word {
    ///     start: MediaTime::from_millis(start),
    ///     end: MediaTime::from_millis(end),
    ///     text: text.into(),
    ///     probability: 0.5,
    /// };
    /// let heard = Transcript {
    ///     language: "en".into(),
    ///     model: "tiny.en".into(),
    ///     duration: 4.0,
    ///     text: "This is lume.".into(),
    ///     segments: vec![Segment {
    ///         start: 1.0,
    ///         end: 2.5,
    ///         text: "This is lume.".into(),
    ///         confidence: -0.1,
    ///         speaker: None,
    ///         words: vec![word(1_000, 1_400, "This"), word(1_500, 1_800, "is"), word(1_900, 2_500, "lume.")],
    ///     }],
    /// };
    /// let corrected = heard.corrected(&[Correction::Replace { replace: "lume".into(), with: "Loom".into() }])?;
    /// assert_eq!(corrected.text, "This is Loom.");
    /// assert_eq!(corrected.segments[0].words[1], heard.segments[0].words[1]);
    /// assert_eq!(corrected.segments[0].words[2].start, MediaTime::from_millis(1_900));
    /// # Ok::<(), loom_ai::AiError>(())
    /// ```
    ///
    /// # Errors
    /// [`AiError::Correction`] for the first that changes nothing: of a segment that there is not, words that nobody says, text with control
    /// characters, or text without end.
    pub fn corrected(&self, corrections: &[Correction]) -> Result<Self, AiError> {
        let mut segments: Vec<Option<Segment>> = self.segments.iter().cloned().map(Some).collect();
        for (number, correction) in corrections.iter().enumerate() {
            let refused = |why: String| AiError::Correction { number, why };
            let changed = match correction {
                Correction::Segment { segment, text } => rewrite(&mut segments, *segment, text),
                Correction::Replace { replace, with } => replace_all(&mut segments, replace, with),
                Correction::Name { speaker, name } => rename(&mut segments, speaker, name),
            };
            changed.map_err(refused)?;
            let bytes = segments.iter().flatten().map(|it| it.text.len()).sum::<usize>();
            if bytes > MAX_TRANSCRIPT_BYTES {
                return Err(refused(format!(
                    "it makes the transcript longer than {MAX_TRANSCRIPT_BYTES} bytes"
                )));
            }
        }
        let segments: Vec<Segment> = segments.into_iter().flatten().collect();
        let texts: Vec<&str> = segments.iter().map(|it| it.text.as_str()).collect();
        Ok(Self {
            text: texts.join(" "),
            segments,
            ..self.clone()
        })
    }
}

/// A segment says something else.
fn rewrite(segments: &mut [Option<Segment>], at: usize, text: &str) -> Result<(), String> {
    let count = segments.len();
    let Some(segment) = segments.get_mut(at).and_then(Option::as_mut) else {
        return Err(format!("there is no segment {at} of {count}"));
    };
    let new = words_of(text)?;
    let old = timed(segment);
    if old.len().max(new.len()) > MAX_SEGMENT_WORDS {
        return Err(format!(
            "a segment of more than {MAX_SEGMENT_WORDS} words is not written anew"
        ));
    }
    if new
        .iter()
        .eq(segment.text.split_whitespace().collect::<Vec<_>>().iter())
    {
        return Err(format!("segment {at} says that already"));
    }
    let old_texts: Vec<&str> = old.iter().map(|it| it.text.as_str()).collect();
    let mut places = Vec::with_capacity(new.len());
    for op in capture_diff_slices_by_key(Algorithm::Myers, &old_texts, &new, |it| key(it)) {
        match op {
            DiffOp::Equal {
                old_index,
                new_index,
                len,
            } => {
                places.extend((0..len).map(|it| Place::kept(&old[old_index + it], new[new_index + it])));
            }
            DiffOp::Insert {
                new_index, new_len, ..
            } => put(&mut places, &[], &new[new_index..new_index + new_len]),
            DiffOp::Replace {
                old_index,
                old_len,
                new_index,
                new_len,
            } => {
                put(
                    &mut places,
                    &old[old_index..old_index + old_len],
                    &new[new_index..new_index + new_len],
                );
            }
            DiffOp::Delete { .. } => {}
        }
    }
    let changed = settled(segment, places);
    segments[at] = changed;
    Ok(())
}

/// Words are others, wherever they stand.
fn replace_all(segments: &mut [Option<Segment>], replace: &str, with: &str) -> Result<(), String> {
    let wanted: Vec<String> = words_of(replace)?.into_iter().map(key).collect();
    let with = words_of(with)?;
    if wanted.is_empty() {
        return Err("it says no words to replace".to_owned());
    }
    let (mut found, mut bytes) = (false, 0);
    for place in segments {
        let Some(segment) = place else { continue };
        let old = timed(segment);
        let keys: Vec<String> = old.iter().map(|it| key(&it.text)).collect();
        let mut places = Vec::with_capacity(old.len());
        let (mut at, mut changes) = (0, false);
        while at < old.len() {
            if !keys[at..].starts_with(&wanted) {
                places.push(Place::kept(&old[at], &old[at].text));
                at += 1;
                continue;
            }
            let these = &old[at..at + wanted.len()];
            at += wanted.len();
            let new = dressed(these, &with);
            changes |= new.iter().ne(these.iter().map(|it| &it.text));
            bytes += new.iter().map(|it| it.len() + 1).sum::<usize>();
            if bytes > MAX_TRANSCRIPT_BYTES {
                return Err(format!("it says more than {MAX_TRANSCRIPT_BYTES} bytes"));
            }
            put(
                &mut places,
                these,
                &new.iter().map(String::as_str).collect::<Vec<_>>(),
            );
        }
        if changes {
            found = true;
            *place = settled(segment, places);
        }
    }
    match found {
        true => Ok(()),
        false => Err(format!("nobody says {replace:?}, or it is written so already")),
    }
}

/// A speaker is called something else.
fn rename(segments: &mut [Option<Segment>], speaker: &str, name: &str) -> Result<(), String> {
    let name = words_of(name)?.join(" ");
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(format!("a name has 1 to {MAX_NAME} bytes"));
    }
    let mut found = false;
    for segment in segments
        .iter_mut()
        .flatten()
        .filter(|it| it.speaker.as_deref() == Some(speaker))
    {
        found |= name != speaker;
        segment.speaker = Some(name.clone());
    }
    match found {
        true => Ok(()),
        false => Err(format!(
            "nobody is called {speaker:?}, or that is the name already"
        )),
    }
}

/// A word on its way into a segment.
struct Place {
    text: String,
    time: Time,
}

enum Time {
    /// That of the word it was, with its probability.
    Kept(Range<MediaTime>, f32),
    /// Within what it takes the place of; `None` where it takes the place of nothing.
    Open(Option<Range<MediaTime>>),
}

impl Place {
    fn kept(word: &Word, text: &str) -> Self {
        Self {
            text: text.to_owned(),
            time: Time::Kept(word.start..word.end, word.probability),
        }
    }

    fn letters(&self) -> i64 {
        self.text.chars().count().max(1) as i64
    }

    fn span(&self) -> Option<Range<MediaTime>> {
        match &self.time {
            Time::Kept(span, _) => Some(span.clone()),
            Time::Open(span) => span.clone(),
        }
    }
}

/// New words in the place of old ones: as many, and each has the time of its own.
fn put(places: &mut Vec<Place>, old: &[Word], new: &[&str]) {
    if old.len() == new.len() {
        let pairs = old.iter().zip(new);
        places.extend(pairs.map(|(old, new)| match key(&old.text) == key(new) {
            true => Place::kept(old, new),
            false => Place {
                text: (*new).to_owned(),
                time: Time::Kept(old.start..old.end, CERTAIN),
            },
        }));
        return;
    }
    let span = old
        .first()
        .zip(old.last())
        .map(|(first, last)| first.start..last.end);
    places.extend(new.iter().map(|text| Place {
        text: (*text).to_owned(),
        time: Time::Open(span.clone()),
    }));
}

/// The segment with these words, each at its time; nothing where there are none.
fn settled(segment: &Segment, mut places: Vec<Place>) -> Option<Segment> {
    let whole = MediaTime::from_secs_f64(segment.start)..MediaTime::from_secs_f64(segment.end);
    let mut at = 0;
    while at < places.len() {
        if matches!(places[at].time, Time::Kept(..)) {
            at += 1;
            continue;
        }
        let open = |it: &&Place| matches!(it.time, Time::Open(_));
        let run = at..at + places[at..].iter().take_while(open).count();
        at = run.end;
        let (run, span) = room(&places, run, &whole);
        spread(&mut places[run], span);
    }
    let words: Vec<Word> = places
        .into_iter()
        .filter_map(|it| match it.time {
            Time::Kept(span, probability) => Some(Word {
                start: span.start,
                end: span.end,
                text: it.text,
                probability,
            }),
            Time::Open(_) => None,
        })
        .collect();
    let (first, last) = (words.first()?, words.last()?);
    let texts: Vec<&str> = words.iter().map(|it| it.text.as_str()).collect();
    Some(Segment {
        start: first.start.secs_f64(),
        end: last.end.secs_f64(),
        text: texts.join(" "),
        words,
        ..segment.clone()
    })
}

/// The time for words that have none: what they take the place of, else what is free between their neighbours, as far as they need it; where
/// that is too short to be heard, a neighbour shares its own.
fn room(
    places: &[Place],
    mut run: Range<usize>,
    whole: &Range<MediaTime>,
) -> (Range<usize>, Range<MediaTime>) {
    let least = run.len() as i64 * LEAST;
    let long = |span: &Range<MediaTime>| span.end.millis() - span.start.millis();
    let spans = || places[run.clone()].iter().filter_map(Place::span);
    let replaced = spans()
        .map(|it| it.start)
        .min()
        .zip(spans().map(|it| it.end).max());
    if let Some((start, end)) = replaced
        && long(&(start..end)) >= least
    {
        return (run, start..end);
    }
    let before = run.start.checked_sub(1).and_then(|it| places[it].span());
    let after = places.get(run.end).and_then(Place::span);
    let start = before.as_ref().map_or(whole.start, |it| it.end);
    let end = after.as_ref().map_or(whole.end, |it| it.start).max(start);
    if long(&(start..end)) >= least {
        let letters: i64 = places[run.clone()].iter().map(Place::letters).sum();
        let needed = MediaTime::from_millis(start.millis() + letters * LETTER);
        return (run, start..end.min(needed));
    }
    match (before, after) {
        (Some(before), _) => {
            run.start -= 1;
            (run, before.start..end)
        }
        (None, Some(after)) => {
            run.end += 1;
            (run, start..after.end)
        }
        (None, None) => (run, start..end),
    }
}

/// Gives words their times within `span`, in proportion to their letters. A word that lends its time keeps its probability.
fn spread(places: &mut [Place], span: Range<MediaTime>) {
    let all: i64 = places.iter().map(Place::letters).sum();
    let (from, long) = (span.start.millis(), span.end.millis() - span.start.millis());
    let at = |so_far: i64| MediaTime::from_millis(from + long * so_far / all.max(1));
    let mut so_far = 0;
    for place in places {
        let probability = match place.time {
            Time::Kept(_, probability) => probability,
            Time::Open(_) => CERTAIN,
        };
        let start = at(so_far);
        so_far += place.letters();
        place.time = Time::Kept(start..at(so_far), probability);
    }
}

/// The segment's words; where it has none, those of its text, spread over its time.
fn timed(segment: &Segment) -> Vec<Word> {
    if !segment.words.is_empty() {
        return segment.words.clone();
    }
    let span = MediaTime::from_secs_f64(segment.start)..MediaTime::from_secs_f64(segment.end);
    let texts = segment.text.split_whitespace();
    let mut places: Vec<Place> = texts
        .map(|text| Place {
            text: text.to_owned(),
            time: Time::Kept(span.clone(), 0.0),
        })
        .collect();
    spread(&mut places, span.clone());
    let words = places.into_iter().filter_map(|it| {
        let span = it.span()?;
        Some(Word {
            start: span.start,
            end: span.end,
            text: it.text,
            probability: 0.0,
        })
    });
    words.collect()
}

/// The new words with the punctuation that the old ones stand in, where they bring none.
fn dressed(old: &[Word], new: &[&str]) -> Vec<String> {
    let mut new: Vec<String> = new.iter().map(|it| (*it).to_owned()).collect();
    let plain = |it: char| !it.is_alphanumeric();
    if let (Some(before), Some(first)) = (old.first(), new.first_mut())
        && first.starts_with(char::is_alphanumeric)
    {
        let bare = before.text.trim_start_matches(plain).len();
        first.insert_str(0, &before.text[..before.text.len() - bare]);
    }
    if let (Some(behind), Some(last)) = (old.last(), new.last_mut())
        && last.ends_with(char::is_alphanumeric)
    {
        last.push_str(&behind.text[behind.text.trim_end_matches(plain).len()..]);
    }
    new
}

/// The words of a text that a person has written.
fn words_of(text: &str) -> Result<Vec<&str>, String> {
    let hidden = |it: char| it.is_control() && !it.is_whitespace();
    match text.chars().find(|it| hidden(*it)) {
        Some(it) => Err(format!(
            "there is a control character in it, U+{:04X}",
            u32::from(it)
        )),
        None => Ok(text.split_whitespace().collect()),
    }
}

/// By what two spellings are the same word: without case and punctuation, where anything is left then.
fn key(text: &str) -> String {
    let letters: String = text
        .chars()
        .filter(|it| it.is_alphanumeric())
        .flat_map(char::to_lowercase)
        .collect();
    match letters.is_empty() {
        true => text.to_owned(),
        false => letters,
    }
}

/// The probability of what a person has written.
const CERTAIN: f32 = 1.0;
/// No word is heard in less, milliseconds.
const LEAST: i64 = 60;
/// What a letter of a word takes at most that is put into a pause, milliseconds.
const LETTER: i64 = 150;

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(words: &[(i64, i64, &str)]) -> Segment {
        let ms = MediaTime::from_millis;
        let words: Vec<Word> = words
            .iter()
            .map(|(start, end, text)| Word {
                start: ms(*start),
                end: ms(*end),
                text: (*text).to_owned(),
                probability: 0.5,
            })
            .collect();
        let texts: Vec<&str> = words.iter().map(|it| it.text.as_str()).collect();
        Segment {
            start: words[0].start.secs_f64(),
            end: words[words.len() - 1].end.secs_f64(),
            text: texts.join(" "),
            confidence: -0.2,
            speaker: None,
            words,
        }
    }

    fn transcript() -> Transcript {
        let segments = vec![
            segment(&[
                (1_000, 1_300, "We"),
                (1_300, 1_600, "call"),
                (1_600, 1_800, "it"),
                (2_000, 2_600, "lume,"),
            ]),
            segment(&[
                (3_000, 3_400, "Lume"),
                (3_400, 3_700, "is"),
                (3_700, 4_500, "open."),
                (6_000, 6_400, "Fine."),
            ]),
        ];
        Transcript {
            language: "en".into(),
            model: "tiny.en".into(),
            duration: 7.0,
            text: segments
                .iter()
                .map(|it| it.text.clone())
                .collect::<Vec<_>>()
                .join(" "),
            segments,
        }
    }

    fn rewritten(at: usize, text: &str) -> Vec<(i64, i64, String, f32)> {
        let correction = Correction::Segment {
            segment: at,
            text: text.into(),
        };
        let it = transcript().corrected(&[correction]).unwrap();
        let words = it.segments[at].words.iter();
        words
            .map(|it| {
                (
                    it.start.millis(),
                    it.end.millis(),
                    it.text.clone(),
                    it.probability,
                )
            })
            .collect()
    }

    fn shown(words: &[(i64, i64, String, f32)]) -> Vec<(i64, i64, &str, f32)> {
        words
            .iter()
            .map(|(start, end, text, p)| (*start, *end, text.as_str(), *p))
            .collect()
    }

    #[test]
    fn a_word_that_stays_keeps_its_time_and_a_new_one_has_that_of_the_old() {
        assert_eq!(
            shown(&rewritten(0, "We CALL it Loom.")),
            [
                (1_000, 1_300, "We", 0.5),
                (1_300, 1_600, "CALL", 0.5),
                (1_600, 1_800, "it", 0.5),
                (2_000, 2_600, "Loom.", 1.0)
            ]
        );
    }

    #[test]
    fn more_words_share_the_time_of_fewer_by_their_letters() {
        assert_eq!(
            shown(&rewritten(1, "Loo me is open. Fine.")),
            [
                (3_000, 3_240, "Loo", 1.0),
                (3_240, 3_400, "me", 1.0),
                (3_400, 3_700, "is", 0.5),
                (3_700, 4_500, "open.", 0.5),
                (6_000, 6_400, "Fine.", 0.5)
            ]
        );
        assert_eq!(
            shown(&rewritten(0, "Name it lume,"))[0],
            (1_000, 1_600, "Name", 1.0)
        );
    }

    #[test]
    fn what_is_put_between_words_lies_in_the_pause_or_its_neighbour_gives_room() {
        let in_the_pause = rewritten(1, "Lume is open. Now Fine.");
        assert_eq!(shown(&in_the_pause)[3], (4_500, 4_950, "Now", 1.0));
        let no_pause = rewritten(1, "Lume always is open. Fine.");
        assert_eq!(
            shown(&no_pause)[..3],
            [
                (3_000, 3_160, "Lume", 0.5),
                (3_160, 3_400, "always", 1.0),
                (3_400, 3_700, "is", 0.5)
            ]
        );
        let in_front = rewritten(1, "So Lume is open. Fine.");
        assert_eq!(
            shown(&in_front)[..2],
            [(3_000, 3_133, "So", 1.0), (3_133, 3_400, "Lume", 0.5)]
        );
        let behind = rewritten(1, "Lume is open. Fine. Good.");
        assert_eq!(
            shown(&behind)[3..],
            [(6_000, 6_200, "Fine.", 0.5), (6_200, 6_400, "Good.", 1.0)]
        );
    }

    #[test]
    fn words_never_overlap_and_lie_in_their_segment() {
        for text in [
            "a b c d e f g h i j",
            "open",
            "x",
            "Fine. open. is Lume",
            "Lume is is is open. open. Fine.",
        ] {
            let words = rewritten(1, text);
            assert_eq!(words.len(), text.split(' ').count());
            assert!(
                words
                    .iter()
                    .all(|it| it.0 <= it.1 && it.0 >= 3_000 && it.1 <= 6_400),
                "{words:?}"
            );
            assert!(words.windows(2).all(|it| it[0].1 <= it[1].0), "{words:?}");
        }
    }

    #[test]
    fn a_word_is_replaced_wherever_it_stands_and_its_punctuation_stays() {
        let wanted = Correction::Replace {
            replace: "LUME".into(),
            with: "Loom".into(),
        };
        let it = transcript().corrected(&[wanted]).unwrap();
        assert_eq!(it.text, "We call it Loom, Loom is open. Fine.");
        assert_eq!(it.segments[0].words[3].start.millis(), 2_000);
        let two = Correction::Replace {
            replace: "open fine".into(),
            with: "closed".into(),
        };
        let it = transcript().corrected(&[two]).unwrap();
        assert_eq!(it.segments[1].text, "Lume is closed.");
        assert_eq!(
            (it.segments[1].words[2].start.millis(), it.segments[1].end),
            (3_700, 6.4)
        );
    }

    #[test]
    fn a_segment_that_says_nothing_goes_and_the_others_keep_their_places_in_the_same_request() {
        let corrections = [
            Correction::Segment {
                segment: 0,
                text: " ".into(),
            },
            Correction::Segment {
                segment: 1,
                text: "Lume was open. Fine.".into(),
            },
        ];
        let it = transcript().corrected(&corrections).unwrap();
        assert_eq!((it.segments.len(), it.text.as_str()), (1, "Lume was open. Fine."));
    }

    #[test]
    fn a_speaker_gets_a_name_wherever_they_speak() {
        let name = |speaker: &str, name: &str| Correction::Name {
            speaker: speaker.into(),
            name: name.into(),
        };
        let mut it = transcript();
        it.segments[0].speaker = Some("Speaker 2".into());
        let named = it.corrected(&[name("Speaker 2", " Ann  Lee ")]).unwrap();
        assert_eq!(named.segments[0].speaker.as_deref(), Some("Ann Lee"));
        assert_eq!(named.segments[1].speaker, None);
        let refused = |wanted| it.corrected(&[wanted]).unwrap_err().to_string();
        assert!(refused(name("Speaker 1", "Ann")).contains("nobody is called"));
        assert!(refused(name("Speaker 2", "")).contains("1 to"));
    }

    #[test]
    fn a_segment_without_word_times_gets_some() {
        let mut it = transcript();
        it.segments[0].words.clear();
        let wanted = Correction::Segment {
            segment: 0,
            text: "We call it Loom,".into(),
        };
        let words = it.corrected(&[wanted]).unwrap().segments[0].words.clone();
        assert_eq!(words.len(), 4);
        assert_eq!((words[0].start.millis(), words[3].end.millis()), (1_000, 2_600));
    }

    #[test]
    fn what_changes_nothing_or_has_no_end_is_refused_with_its_number() {
        let replace = |replace: &str, with: &str| Correction::Replace {
            replace: replace.into(),
            with: with.into(),
        };
        let refused = |wanted: &[Correction]| transcript().corrected(wanted).unwrap_err().to_string();
        assert!(refused(&[replace("nobody", "x")]).starts_with("correction 0: nobody says"));
        assert!(refused(&[replace("  ", "x")]).contains("no words"));
        assert!(
            refused(&[Correction::Segment {
                segment: 2,
                text: "x".into()
            }])
            .contains("no segment 2 of 2")
        );
        let same = Correction::Segment {
            segment: 0,
            text: "We call  it lume,".into(),
        };
        assert!(refused(&[same]).contains("already"));
        assert!(refused(&[replace("lume", "a\u{0}b")]).contains("U+0000"));
        let long = "x ".repeat(MAX_SEGMENT_WORDS + 1);
        assert!(
            refused(&[Correction::Segment {
                segment: 0,
                text: long
            }])
            .contains("words")
        );
        // each doubles what the one before has made
        let doubled = vec![replace("lume", "lume lume"); 64];
        assert!(refused(&doubled).ends_with("bytes"));
    }
}
