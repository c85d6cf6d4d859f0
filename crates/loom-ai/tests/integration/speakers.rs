//! Who speaks: the encoder beside its reference, and a conversation of people who never met.

use std::path::PathBuf;
use std::sync::Arc;

use loom_ai::{
    Download, ModelConfig, SpeakerEncoder, SpeakerTurns, SpeakersConfig, TranscribeConfig, Transcript,
    VoiceEncoder, transcribe,
};
use loom_core::MediaTime;

use crate::material::{decoded, english, jfk, shared};

/// Resemblyzer's encoder, where this machine has it: at `LOOM_SPEAKERS`, which may say `fetch`, else in the cache.
fn encoder() -> Option<VoiceEncoder> {
    let mut config = ModelConfig::from_env();
    let named = std::env::var_os("LOOM_SPEAKERS").map(PathBuf::from);
    if named.as_ref().is_none_or(|it| it != "fetch") {
        config.download = Download::Never;
    }
    let path = named
        .filter(|it| it.is_file())
        .or_else(|| VoiceEncoder::fetch(&config, &mut |_| ()).ok());
    if path.is_none() {
        eprintln!("SKIPPED: no speaker encoder is on this machine; make speakers fetches one");
    }
    path.map(|it| VoiceEncoder::load(&it).unwrap())
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[test]
fn voices_have_the_vectors_that_the_reference_gives_them() {
    let (Some(encoder), Some(pcm)) = (encoder(), jfk()) else {
        return;
    };
    let known: serde_json::Value =
        serde_json::from_str(include_str!("../../testdata/jfk-voices.json")).unwrap();
    let windows = known["windows"].as_array().unwrap();
    let number = |it: &serde_json::Value| it.as_u64().unwrap() as usize;
    let sounds: Vec<&[f32]> = windows
        .iter()
        .map(|it| &pcm[number(&it["from"])..][..number(&it["samples"])])
        .collect();
    // one batch of all lengths, and each by itself
    let together = encoder.embed(&sounds).unwrap();
    for ((window, ours), sound) in windows.iter().zip(&together).zip(&sounds) {
        let theirs: Vec<f32> = window["vector"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it.as_f64().unwrap() as f32)
            .collect();
        let apart = ours
            .iter()
            .zip(&theirs)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        println!(
            "{} samples: cosine {:.6}, {apart:.6} apart at most",
            sound.len(),
            dot(ours, &theirs)
        );
        assert!(ours.len() == theirs.len() && apart < 1e-4, "{apart}");
        assert_eq!(&encoder.embed(&[sound]).unwrap()[0], ours);
    }
    let silent = encoder.embed(&[&[0.0; 25_600]]).unwrap();
    assert!((dot(&silent[0], &silent[0]) - 1.0).abs() < 1e-3);
}

/// Who speaks from when to when, in samples.
type Spoken = (usize, usize, usize);

/// Utterances of LibriSpeech's `test-other`, one behind the other: the sound, and who speaks.
fn conversation(
    people: &[&str],
    turns: usize,
    utterances: usize,
    seed: u64,
) -> Option<(Vec<f32>, Vec<Spoken>)> {
    let folder = shared("media/speech/librispeech-test-other")?;
    let (mut pcm, mut spoken) = (Vec::new(), Vec::new());
    let (mut state, mut next, mut last) = (seed, vec![0; people.len()], usize::MAX);
    let mut random = |most: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % most
    };
    for turn in 0..turns {
        // everybody speaks once at first
        let who = if turn < people.len() {
            turn
        } else {
            random(people.len())
        };
        if who == last {
            continue;
        }
        last = who;
        for _ in 0..1 + random(utterances) {
            let number = next[who] % 10;
            next[who] += 1;
            let sound = decoded(folder.join(format!("{}-{number:04}.flac", people[who])))?;
            spoken.push((who, pcm.len(), pcm.len() + sound.len()));
            pcm.extend(sound);
            pcm.extend(vec![0.0; 1_600 + random(4_800)]);
        }
    }
    Some((pcm, spoken))
}

/// Time of words that are said to be another's, over the time of all words, and how many speakers were found: of all ways to take one
/// for another the best.
fn errors(said: &Transcript, spoken: &[(usize, usize, usize)], people: usize) -> (f64, usize) {
    let mut names: Vec<&str> = Vec::new();
    let mut met: Vec<Vec<f64>> = Vec::new();
    for segment in &said.segments {
        let name = segment.speaker.as_deref().unwrap();
        let at = names.iter().position(|it| *it == name).unwrap_or_else(|| {
            names.push(name);
            met.push(vec![0.0; people]);
            names.len() - 1
        });
        for word in &segment.words {
            let middle = ((word.start.secs_f64() + word.end.secs_f64()) * 8_000.0) as usize;
            let whose = spoken
                .iter()
                .min_by_key(|it| it.1.saturating_sub(middle).max(middle.saturating_sub(it.2)))
                .unwrap();
            met[at][whose.0] += word.end.since(word.start).as_secs_f64();
        }
    }
    let all: f64 = met.iter().flatten().sum();
    fn best(met: &[Vec<f64>], taken: &mut Vec<bool>) -> f64 {
        let Some((first, rest)) = met.split_first() else {
            return 0.0;
        };
        // this one may also be nobody
        let mut most = best(rest, taken);
        for person in 0..taken.len() {
            if !taken[person] {
                taken[person] = true;
                most = most.max(first[person] + best(rest, taken));
                taken[person] = false;
            }
        }
        most
    }
    ((all - best(&met, &mut vec![false; people])) / all, names.len())
}

#[test]
#[ignore = "minutes of speech: make speakers"]
fn each_word_of_a_conversation_is_said_by_who_says_it() {
    let (Some(encoder), Some(model)) = (encoder(), english()) else {
        return;
    };
    let encoder: Arc<dyn SpeakerEncoder> = Arc::new(encoder);
    let all = [
        "1688-142285",
        "1998-15444",
        "2033-164914",
        "2414-128291",
        "2609-156975",
    ];
    let mut all_told = Vec::new();
    for (people, turns, utterances, seed) in [
        (&all[..], 16, 2, 1),
        (&all[..2], 10, 2, 2),
        (&all[2..], 12, 3, 3),
        (&all[..1], 1, 6, 4),
    ] {
        let Some((pcm, spoken)) = conversation(people, turns, utterances, seed) else {
            return;
        };
        let said = transcribe(&model, &pcm, &TranscribeConfig::default(), |_| ()).unwrap();
        let began = std::time::Instant::now();
        let mut turns = SpeakerTurns::new(SpeakersConfig::default(), encoder.clone()).unwrap();
        turns
            .handle_speech(&pcm, MediaTime::ZERO, &said.segments)
            .unwrap();
        let told = turns.finish(said);
        let (wrong, found) = errors(&told, &spoken, people.len());
        let seconds = pcm.len() as f64 / 16_000.0;
        println!(
            "{} people, {seconds:.0} s, seed {seed}: {:.1} % of the time of words is another's, {found} speakers found, {:.3} s of work a second",
            people.len(),
            wrong * 100.0,
            began.elapsed().as_secs_f64() / seconds
        );
        all_told.push((wrong, found, people.len()));
    }
    for (wrong, found, people) in all_told {
        assert_eq!(found, people);
        assert!(wrong < 0.05, "{wrong}");
    }
}
