//! What was said and what was written beside it, at its new times: transcript, captions, subtitles, chapters.

use std::sync::Arc;

use loom_ai::{Segment, Transcript};
use loom_core::{CueId, MediaTime, RenditionId};
use loom_hls::{TextCue, read_cues};

use super::Placed;
use super::plan::Plan;
use crate::error::EngineError;
use crate::finish;
use crate::packaging::Packaging;
use crate::recording::Inner;
use crate::text::{self, Given, Subtitles};

/// Writes all of it into the new recording, which is complete.
pub(super) async fn carry(
    recording: &Arc<Inner>,
    plan: &Plan,
    placed: &[Placed],
    packaging: &Packaging,
) -> Result<(), EngineError> {
    if let Some(transcript) = transcript(recording, plan, placed) {
        recording
            .folder
            .put(finish::TRANSCRIPT, transcript.to_json().as_bytes())?;
        recording.set_transcript(Arc::new(transcript));
    }
    for subtitles in subtitles(plan)? {
        let cues = cues(plan, placed, &subtitles.id)?;
        if subtitles.id.as_str() == text::CAPTIONS {
            packaging
                .set_captions(cues.into_iter().map(Into::into).collect())
                .await?;
        } else {
            text::give(
                recording,
                &subtitles.language,
                Some(&subtitles.name),
                cues,
                Given::Whole,
            )
            .await?;
        }
    }
    chapters(recording, plan, placed).await
}

/// The subtitle renditions of all pieces' recordings.
fn subtitles(plan: &Plan) -> Result<Vec<Subtitles>, EngineError> {
    let mut found: Vec<Subtitles> = Vec::new();
    for piece in &plan.pieces {
        for it in text::listed(&piece.recording.0)? {
            if found.iter().all(|known| known.id != it.id) {
                found.push(it);
            }
        }
    }
    Ok(found)
}

/// The cues of a subtitle rendition of WebVTT, as far as they are seen in the pieces.
fn cues(plan: &Plan, placed: &[Placed], id: &RenditionId) -> Result<Vec<TextCue>, EngineError> {
    let mut all = Vec::new();
    let mut before: Option<(usize, Vec<TextCue>)> = None;
    for it in placed {
        if before.as_ref().is_none_or(|(piece, _)| *piece != it.piece) {
            before = Some((it.piece, stored_cues(&plan.pieces[it.piece].recording.0, id)?));
        }
        let known = before.iter().flat_map(|(_, cues)| cues);
        for cue in known.filter(|cue| cue.start < it.to && cue.end > it.from) {
            all.push(TextCue {
                id: CueId(all.len() as u64),
                start: it.moved(cue.start),
                end: it.moved(cue.end),
                ..cue.clone()
            });
        }
    }
    Ok(all)
}

/// The cues of a rendition; one that spans segments stands in each of them.
fn stored_cues(recording: &Inner, id: &RenditionId) -> Result<Vec<TextCue>, EngineError> {
    let mut cues: Vec<TextCue> = Vec::new();
    let Some(playlist) = recording.folder.read(&text::playlist(id), 0, None)? else {
        return Ok(cues);
    };
    for uri in String::from_utf8_lossy(&playlist)
        .lines()
        .filter(|line| line.ends_with(".vtt"))
    {
        let file = recording
            .folder
            .read(&format!("hls/{id}/{uri}"), 0, None)?
            .unwrap_or_default();
        for cue in read_cues(&file)? {
            let known = cues.iter().rev().take(SPANNED);
            let same = |it: &TextCue| (it.start, it.end, &it.text) == (cue.start, cue.end, &cue.text);
            if !known.into_iter().any(same) {
                cues.push(cue);
            }
        }
    }
    Ok(cues)
}

/// So many cues back one is looked for that stands in several segments.
const SPANNED: usize = 64;

/// What was said in the pieces, where it was written down; a word belongs where its middle is heard.
fn transcript(recording: &Inner, plan: &Plan, placed: &[Placed]) -> Option<Transcript> {
    let mut whole: Option<Transcript> = None;
    for it in placed {
        let Some(said) = plan.pieces[it.piece].recording.0.final_transcript() else {
            continue;
        };
        let into = whole.get_or_insert_with(|| Transcript {
            text: String::new(),
            segments: Vec::new(),
            ..(*said).clone()
        });
        into.segments
            .extend(said.segments.iter().filter_map(|segment| heard(segment, it)));
    }
    let mut whole = whole?;
    let first = plan.pieces.first().map(|it| it.recording.id());
    if plan.pieces.iter().any(|it| Some(it.recording.id()) != first) {
        // each recording counts its own: one's "Speaker 1" is not the other's
        let is_number = |name: &mut String| name.starts_with(UNNAMED);
        for segment in &mut whole.segments {
            segment.speaker.take_if(is_number);
        }
    }
    let texts: Vec<&str> = whole.segments.iter().map(|it| it.text.as_str()).collect();
    whole.text = texts.join(" ");
    whole.duration = recording.info().duration;
    Some(whole)
}

/// What comes before the number of a speaker whom nobody has named.
const UNNAMED: &str = "Speaker ";

/// What is left of a segment in a piece.
fn heard(segment: &Segment, placed: &Placed) -> Option<Segment> {
    let middle = |start: MediaTime, end: MediaTime| start + end.since(start) / 2;
    let moved = |seconds: f64| placed.moved(MediaTime::from_secs_f64(seconds)).secs_f64();
    if segment.words.is_empty() {
        let at = middle(
            MediaTime::from_secs_f64(segment.start),
            MediaTime::from_secs_f64(segment.end),
        );
        return placed.holds(at).then(|| Segment {
            start: moved(segment.start),
            end: moved(segment.end),
            ..segment.clone()
        });
    }
    let mut words = segment.words.clone();
    words.retain(|word| placed.holds(middle(word.start, word.end)));
    let (first, last) = (words.first()?, words.last()?);
    let (start, end) = (moved(first.start.secs_f64()), moved(last.end.secs_f64()));
    let text = match words.len() == segment.words.len() {
        true => segment.text.clone(),
        false => {
            let texts: Vec<&str> = words.iter().map(|word| word.text.as_str()).collect();
            texts.join(" ")
        }
    };
    for word in &mut words {
        (word.start, word.end) = (placed.moved(word.start), placed.moved(word.end));
    }
    Some(Segment {
        start,
        end,
        text,
        words,
        ..segment.clone()
    })
}

/// The chapters that begin in a piece, and the one that a piece begins in.
async fn chapters(recording: &Arc<Inner>, plan: &Plan, placed: &[Placed]) -> Result<(), EngineError> {
    let mut last = String::new();
    for it in placed {
        let chapters = plan.pieces[it.piece].recording.0.chapters();
        let marks = chapters.marks();
        let running = marks.iter().rev().find(|mark| mark.at <= it.from);
        let within = marks.iter().filter(|mark| mark.at > it.from && mark.at < it.to);
        for mark in running.into_iter().chain(within) {
            if mark.title != last {
                text::mark(recording, Some(it.moved(mark.at)), &mark.title).await?;
                last.clone_from(&mark.title);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use loom_core::Word;

    use super::*;

    #[test]
    fn a_sentence_that_is_cut_keeps_the_words_that_are_heard() {
        let ms = MediaTime::from_millis;
        let word = |text: &str, from: i64, to: i64| Word {
            start: ms(from),
            end: ms(to),
            text: text.to_owned(),
            probability: 1.0,
        };
        let segment = Segment {
            start: 3.0,
            end: 5.0,
            text: "One two three.".to_owned(),
            confidence: 0.0,
            speaker: None,
            words: vec![
                word("One", 3_000, 3_500),
                word("two", 3_800, 4_300),
                word("three.", 4_500, 5_000),
            ],
        };
        let placed = Placed {
            piece: 0,
            from: ms(4_000),
            to: ms(9_000),
            at: ms(10_000),
        };
        let left = heard(&segment, &placed).expect("some of it is heard");
        assert_eq!(left.text, "two three.");
        assert_eq!((left.start, left.end), (10.0, 11.0));
        assert_eq!(left.words[0].start, ms(10_000));
        assert_eq!(left.words[1].end, ms(11_000));
        let before = Placed {
            to: ms(9_000),
            from: ms(5_000),
            ..placed
        };
        assert!(heard(&segment, &before).is_none());
    }
}
