use std::ops::Range;
use std::sync::Arc;

use loom_core::{MediaTime, Word};

use super::SpeakerEncoder;
use super::clusters::Clusters;
use crate::AiError;
use crate::limits::{MAX_SPEAKERS, SAMPLE_RATE};
use crate::transcript::{Segment, Transcript};

/// How speakers are told apart.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SpeakersConfig {
    /// The most that there may be, 1 ..= 50.
    pub most: usize,
    /// How alike two groups of windows are, by the mean cosine of their vectors, that are one speaker's, 0.0 ..= 1.0. More finds more speakers.
    pub alike: f32,
    /// How much less alike a speaker's voice must be than another's before a turn ends there, 0.0 ..= 1.0, summed over windows.
    pub patience: f32,
}

impl Default for SpeakersConfig {
    fn default() -> Self {
        Self {
            most: 12,
            alike: 0.62,
            patience: 0.15,
        }
    }
}

/// Says who speaks when in one recording. It is given the recording's sound stretch by stretch, with what was said there, and keeps of each
/// window of speech a dozen bytes, and of all voices a megabyte at most: ten hours of speech are two megabytes.
///
/// ```
/// use std::sync::Arc;
/// use loom_ai::{AiError, SpeakerEncoder, SpeakerTurns, SpeakersConfig, Transcript};
/// use loom_core::MediaTime;
///
/// fn who(encoder: Arc<dyn SpeakerEncoder>, pcm: &[f32], said: Transcript) -> Result<Transcript, AiError> {
///     let mut turns = SpeakerTurns::new(SpeakersConfig::default(), encoder)?;
///     turns.handle_speech(pcm, MediaTime::ZERO, &said.segments)?;
///     Ok(turns.finish(said)) // its segments have speakers now
/// }
/// ```
#[derive(Debug)]
pub struct SpeakerTurns {
    config: SpeakersConfig,
    encoder: Arc<dyn SpeakerEncoder>,
    clusters: Clusters,
    /// The middles of all windows, in order, milliseconds.
    middles: Vec<i64>,
}

impl SpeakerTurns {
    /// Of a recording that has not been heard yet.
    ///
    /// # Errors
    /// [`AiError::Config`] names the field that is out of its range.
    pub fn new(config: SpeakersConfig, encoder: Arc<dyn SpeakerEncoder>) -> Result<Self, AiError> {
        let refused = |field, rule| Err(AiError::Config { field, rule });
        if !(1..=MAX_SPEAKERS).contains(&config.most) {
            return refused("most", "must be from 1 to 50");
        }
        if !(0.0..=1.0).contains(&config.alike) {
            return refused("alike", "must be from 0 to 1");
        }
        if !(0.0..=1.0).contains(&config.patience) {
            return refused("patience", "must be from 0 to 1");
        }
        Ok(Self {
            config,
            encoder,
            clusters: Clusters::default(),
            middles: Vec::new(),
        })
    }

    /// Hears who speaks in a stretch of 16 kHz mono sound whose first sample is heard at `start`, and in which `segments` were said. Stretches come
    /// in order. Blocks.
    ///
    /// # Errors
    /// Those of the encoder; [`AiError::Inference`] where what it gives is no vector of length 1.
    pub fn handle_speech(
        &mut self,
        pcm: &[f32],
        start: MediaTime,
        segments: &[Segment],
    ) -> Result<(), AiError> {
        let sample = |ms: i64| ((ms - start.millis()).max(0) as usize * SAMPLE_RATE / 1_000).min(pcm.len());
        let windows = runs(segments).into_iter().flat_map(windows);
        let heard: Vec<(i64, &[f32])> = windows
            .map(|it| ((it.start + it.end) / 2, &pcm[sample(it.start)..sample(it.end)]))
            .filter(|(_, sound)| sound.len() >= LEAST * SAMPLE_RATE / 1_000)
            .collect();
        for some in heard.chunks(TOGETHER) {
            let sounds: Vec<&[f32]> = some.iter().map(|it| it.1).collect();
            let vectors = self.encoder.embed(&sounds)?;
            if vectors.len() != some.len() || !vectors.iter().all(|it| self.clusters.add(it)) {
                let why = format!(
                    "{} gave something else than a unit vector a window",
                    self.encoder.name()
                );
                return Err(AiError::Inference(why.into()));
            }
            self.middles.extend(some.iter().map(|it| it.0));
        }
        Ok(())
    }

    /// The transcript of all that was heard, with who says what: segments in which the speaker changes are cut there. Speakers are "Speaker 1",
    /// "Speaker 2" in the order in which they first speak.
    pub fn finish(self, mut transcript: Transcript) -> Transcript {
        let labels = self.labels();
        let changes = changes(&self.middles, &labels, &transcript.segments);
        let Some(first) = labels.first() else {
            return transcript;
        };
        let mut known: Vec<usize> = Vec::new();
        let mut name = |label: usize| {
            let at = known.iter().position(|it| *it == label).unwrap_or_else(|| {
                known.push(label);
                known.len() - 1
            });
            format!("Speaker {}", at + 1)
        };
        let mut segments: Vec<Segment> = Vec::with_capacity(transcript.segments.len());
        for segment in transcript.segments {
            for (segment, at) in cut(segment, &changes) {
                let turn = changes.partition_point(|it| it.0 <= at);
                let label = turn.checked_sub(1).map_or(*first, |it| changes[it].1);
                segments.push(Segment {
                    speaker: Some(name(label)),
                    ..segment
                });
            }
        }
        transcript.segments = segments;
        transcript
    }

    /// Who speaks in each window: of all sequences of speakers the one that is most alike to what was heard, where each change costs
    /// patience (Viterbi 1967).
    fn labels(&self) -> Vec<usize> {
        let speakers = self
            .clusters
            .speakers(self.config.alike, self.config.most, LEAST_WINDOWS);
        let rows: Vec<&Vec<f32>> = self
            .clusters
            .of()
            .iter()
            .map(|it| &speakers.likeness[usize::from(*it)])
            .collect();
        let Some(count) = rows.first().map(|it| it.len()).filter(|it| *it > 0) else {
            return Vec::new();
        };
        let best = |scores: &[f32]| {
            (0..count)
                .max_by(|a, b| scores[*a].total_cmp(&scores[*b]))
                .unwrap_or(0)
        };
        let mut scores = vec![0.0; count];
        // for each window and speaker, who spoke before
        let mut before: Vec<u8> = Vec::with_capacity(rows.len() * count);
        for row in &rows {
            let top = best(&scores);
            // by how much each is behind the best
            let ahead = scores[top];
            for (speaker, score) in scores.iter_mut().enumerate() {
                let behind = *score - ahead;
                let stays = behind >= -self.config.patience;
                before.push(if stays { speaker as u8 } else { top as u8 });
                *score = behind.max(-self.config.patience) + row[speaker];
            }
        }
        let mut label = best(&scores);
        let mut labels = vec![0; rows.len()];
        for (at, it) in labels.iter_mut().enumerate().rev() {
            *it = label;
            label = usize::from(before[at * count + label]);
        }
        labels
    }
}

/// Stretches in which somebody speaks without a pause, milliseconds.
fn runs(segments: &[Segment]) -> Vec<Range<i64>> {
    let mut runs: Vec<Range<i64>> = Vec::new();
    for segment in segments {
        for it in spans(segment) {
            match runs.last_mut() {
                Some(last) if it.start - last.end < PAUSE => last.end = last.end.max(it.end),
                _ => runs.push(it),
            }
        }
    }
    runs
}

/// When each of a segment's words is heard; where it has none, when all of it is.
fn spans(segment: &Segment) -> Vec<Range<i64>> {
    let ms = |at: MediaTime| at.millis();
    if segment.words.is_empty() {
        let at = MediaTime::from_secs_f64;
        return std::iter::once(ms(at(segment.start))..ms(at(segment.end))).collect();
    }
    segment.words.iter().map(|it| ms(it.start)..ms(it.end)).collect()
}

/// Windows of a run: evenly spaced, and half over one another at least.
fn windows(run: Range<i64>) -> impl Iterator<Item = Range<i64>> {
    let long = run.end - run.start;
    // what is too short to be told is taken with what surrounds it
    let missing = (LEAST as i64 - long).max(0);
    let run = run.start - missing / 2..run.end + missing - missing / 2;
    let left = (long - WINDOW).max(0);
    let steps = (left + HOP - 1) / HOP;
    (0..=steps).map(move |step| {
        let from = run.start + if steps == 0 { 0 } else { left * step / steps };
        from..(from + WINDOW).min(run.end)
    })
}

/// When another begins to speak, and who, in order: in the longest pause between the middles of two windows, or half a window's way beside them.
fn changes(middles: &[i64], labels: &[usize], segments: &[Segment]) -> Vec<(i64, usize)> {
    let pauses = pauses(segments);
    let mut changes: Vec<(i64, usize)> = Vec::new();
    let each = middles.iter().zip(labels);
    for ((from, before), (to, label)) in each.clone().zip(each.skip(1)) {
        if before == label {
            continue;
        }
        let middle = (from + to) / 2;
        let earliest = changes.last().map_or(i64::MIN, |it| it.0).max(from - HOP / 2);
        let latest = to + HOP / 2;
        let near = pauses.partition_point(|it| it.0 < earliest)..pauses.partition_point(|it| it.0 <= latest);
        let near = pauses.get(near).unwrap_or_default().iter();
        let longest = near.max_by_key(|(at, long)| (*long, -(at - middle).abs()));
        changes.push((longest.map_or(middle.max(earliest), |it| it.0), *label));
    }
    changes
}

/// The middles of all pauses between words, and how long each is; one behind a sentence counts for more.
fn pauses(segments: &[Segment]) -> Vec<(i64, i64)> {
    let mut pauses = Vec::new();
    let mut last: Option<(i64, bool)> = None;
    for segment in segments {
        let spans = spans(segment);
        for (at, it) in spans.iter().enumerate() {
            if let Some((end, is_sentence)) = last {
                let more = if is_sentence { SENTENCE } else { 0 } + if at == 0 { SENTENCE } else { 0 };
                pauses.push(((end + it.start) / 2, (it.start - end).max(0) + more));
            }
            let said = segment
                .words
                .get(at)
                .map_or(segment.text.as_str(), |word| &word.text);
            last = Some((it.end, said.ends_with(['.', '?', '!', '。', '？', '！'])));
        }
    }
    pauses
}

/// The pieces of a segment, none of which a change lies in, and an instant within each.
fn cut(segment: Segment, changes: &[(i64, usize)]) -> Vec<(Segment, i64)> {
    let middle = |it: &Range<i64>| (it.start + it.end) / 2;
    let spans = spans(&segment);
    if segment.words.is_empty() {
        let at = middle(&spans[0]);
        return vec![(segment, at)];
    }
    let turn = |it: &Range<i64>| changes.partition_point(|change| change.0 <= middle(it));
    let mut pieces: Vec<(Vec<Word>, i64, usize)> = Vec::new();
    for (word, span) in segment.words.iter().zip(&spans) {
        let turn = turn(span);
        match pieces.last_mut().filter(|it| it.2 == turn) {
            Some(piece) => piece.0.push(word.clone()),
            None => pieces.push((vec![word.clone()], middle(span), turn)),
        }
    }
    if pieces.len() == 1 {
        let at = pieces[0].1;
        return vec![(segment, at)];
    }
    let whole = |(words, at, _): (Vec<Word>, i64, usize)| {
        let texts: Vec<&str> = words.iter().map(|it| it.text.as_str()).collect();
        let piece = Segment {
            start: words.first().map_or(segment.start, |it| it.start.secs_f64()),
            end: words.last().map_or(segment.end, |it| it.end.secs_f64()),
            text: texts.join(" "),
            words,
            ..segment.clone()
        };
        (piece, at)
    };
    pieces.into_iter().map(whole).collect()
}

/// A window's length, milliseconds: what the encoder was taught with.
const WINDOW: i64 = 1_600;
/// How far apart windows are at most, milliseconds.
const HOP: i64 = 800;
/// The shortest window, milliseconds.
const LEAST: usize = 400;
/// A pause of so many milliseconds ends a run.
const PAUSE: i64 = 500;
/// What the end of a sentence, or of a segment, counts for as a pause, milliseconds.
const SENTENCE: i64 = 200;
/// Windows that are embedded at once.
const TOGETHER: usize = 16;
/// Who has fewer windows than this is no speaker of their own: 4 s of speech.
const LEAST_WINDOWS: f32 = 5.0;

#[cfg(test)]
mod tests {
    use super::*;

    /// Hears a voice in the sign of the first sample that is not 0: each speaker is an axis.
    #[derive(Debug)]
    struct Signs;

    impl SpeakerEncoder for Signs {
        fn name(&self) -> &str {
            "signs"
        }

        fn embed(&self, windows: &[&[f32]]) -> Result<Vec<Vec<f32>>, AiError> {
            let share = |it: &&[f32]| it.iter().filter(|s| **s > 0.0).count() as f32 / it.len() as f32;
            let vector = |it: &&[f32]| {
                let (a, b) = (share(it), 1.0 - share(it));
                let long = (a * a + b * b).sqrt();
                vec![a / long, b / long]
            };
            Ok(windows.iter().map(vector).collect())
        }
    }

    fn word(start: i64, end: i64, text: &str) -> Word {
        Word {
            start: MediaTime::from_millis(start),
            end: MediaTime::from_millis(end),
            text: text.to_owned(),
            probability: 1.0,
        }
    }

    fn segment(words: Vec<Word>) -> Segment {
        let texts: Vec<&str> = words.iter().map(|it| it.text.as_str()).collect();
        Segment {
            start: words[0].start.secs_f64(),
            end: words[words.len() - 1].end.secs_f64(),
            text: texts.join(" "),
            confidence: 0.0,
            speaker: None,
            words,
        }
    }

    /// Words of 400 ms, one every 500 ms, of the speakers that are named by the sign of their sound, for so many words each, and 200 ms more of
    /// a pause behind them.
    fn conversation(turns: &[(f32, usize)]) -> (Vec<f32>, Vec<Word>) {
        let (mut pcm, mut words) = (Vec::new(), Vec::new());
        for (sign, count) in turns {
            for _ in 0..*count {
                let at = pcm.len() as i64 / 16;
                words.push(word(at, at + 400, "word"));
                pcm.extend(std::iter::repeat_n(*sign, 8_000));
            }
            pcm.extend(std::iter::repeat_n(*sign, 3_200));
        }
        (pcm, words)
    }

    fn told(pcm: &[f32], segments: Vec<Segment>) -> Vec<(Option<String>, usize)> {
        let mut turns = SpeakerTurns::new(SpeakersConfig::default(), Arc::new(Signs)).unwrap();
        turns.handle_speech(pcm, MediaTime::ZERO, &segments).unwrap();
        let whole = Transcript {
            language: "en".into(),
            model: "test".into(),
            duration: 0.0,
            text: String::new(),
            segments,
        };
        let whole = turns.finish(whole);
        whole
            .segments
            .iter()
            .map(|it| (it.speaker.clone(), it.words.len()))
            .collect()
    }

    #[test]
    fn a_segment_is_cut_where_the_speaker_changes_and_the_first_to_speak_is_the_first() {
        let (pcm, words) = conversation(&[(-1.0, 14), (1.0, 12), (-1.0, 10)]);
        let speaker = |it: &str| Some(it.to_owned());
        let found = told(&pcm, vec![segment(words)]);
        assert_eq!(
            found,
            [
                (speaker("Speaker 1"), 14),
                (speaker("Speaker 2"), 12),
                (speaker("Speaker 1"), 10)
            ]
        );
    }

    #[test]
    fn one_who_speaks_alone_is_one_speaker_and_nobody_is_none() {
        let (pcm, words) = conversation(&[(1.0, 30)]);
        assert_eq!(
            told(&pcm, vec![segment(words)]),
            [(Some("Speaker 1".to_owned()), 30)]
        );
        assert_eq!(told(&pcm, Vec::new()), []);
    }

    #[test]
    fn a_change_lies_in_the_longest_pause_near_it() {
        let (pcm, mut words) = conversation(&[(1.0, 10), (-1.0, 10)]);
        // another pause is as long, but no sentence ends there
        words[9].text = "end.".into();
        words[11].start = words[11].start + std::time::Duration::from_millis(200);
        let found = told(&pcm, vec![segment(words)]);
        assert_eq!(found.iter().map(|it| it.1).collect::<Vec<_>>(), [10, 10]);
    }

    #[test]
    fn windows_cover_a_run_and_are_as_long_as_they_may_be() {
        let all = |run| windows(run).collect::<Vec<_>>();
        assert_eq!(all(0..1_000), std::slice::from_ref(&(0..1_000)));
        assert_eq!(all(1_000..1_100), std::slice::from_ref(&(850..1_250)));
        assert_eq!(all(0..1_600), std::slice::from_ref(&(0..1_600)));
        assert_eq!(all(0..2_000), [0..1_600, 400..2_000]);
        assert_eq!(all(0..4_000), [0..1_600, 800..2_400, 1_600..3_200, 2_400..4_000]);
    }

    #[test]
    fn a_configuration_out_of_its_range_is_refused() {
        for config in [
            SpeakersConfig {
                most: 0,
                ..SpeakersConfig::default()
            },
            SpeakersConfig {
                alike: 1.5,
                ..SpeakersConfig::default()
            },
            SpeakersConfig {
                patience: f32::NAN,
                ..SpeakersConfig::default()
            },
        ] {
            assert!(matches!(
                SpeakerTurns::new(config, Arc::new(Signs)),
                Err(AiError::Config { .. })
            ));
        }
    }
}
