//! Real speech through real weights. Where `../shared` is absent each test says so and passes.

use std::collections::HashMap;
use std::process::Command;
use std::sync::Arc;

use loom_ai::{
    AiError, CaptionOutput, Captioner, CaptionerConfig, Download, Model, ModelConfig, TranscribeConfig,
    Transcript, transcribe,
};
use loom_core::{CueId, CueState, MediaTime, PcmFrame};
use loom_testkit::word_errors;

use crate::material::{JFK, decoded, english, jfk, load, shared};

fn heard(model: &Model, pcm: &[f32]) -> Transcript {
    transcribe(model, pcm, &TranscribeConfig::default(), |_| ()).unwrap()
}

/// Feeds `pcm` in frames of `frame` samples and gives every output with the sound time at which it came.
fn live(model: &Arc<Model>, pcm: &[f32], frame: usize) -> Vec<(f64, CaptionOutput)> {
    let mut captioner = Captioner::new(CaptionerConfig::default(), Arc::clone(model)).unwrap();
    let mut out = Vec::new();
    for (index, samples) in pcm.chunks(frame).enumerate() {
        let pts = MediaTime::from_secs_f64((index * frame) as f64 / 16e3);
        let samples = samples.to_vec();
        let (sample_rate, channels) = (16_000, 1);
        captioner
            .handle_pcm(PcmFrame {
                pts,
                sample_rate,
                channels,
                samples,
            })
            .unwrap();
        let now = (index * frame + frame) as f64 / 16e3;
        out.extend(std::iter::from_fn(|| captioner.poll_output()).map(|it| (now, it)));
    }
    captioner.finish().unwrap();
    out.extend(std::iter::from_fn(|| captioner.poll_output()).map(|it| (pcm.len() as f64 / 16e3, it)));
    out
}

fn final_text(outputs: &[(f64, CaptionOutput)]) -> String {
    let texts = outputs.iter().filter_map(|(_, it)| match it {
        CaptionOutput::Cue(cue) if cue.state == CueState::Final => Some(cue.text.replace('\n', " ")),
        _ => None,
    });
    texts.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_famous_sentence_is_heard_without_an_error() {
    let (Some(model), Some(pcm)) = (english(), jfk()) else {
        return;
    };
    let it = heard(&model, &pcm);
    assert_eq!(word_errors(JFK, &it.text).errors, 0, "{}", it.text);
    assert_eq!((it.language.as_str(), it.duration), ("en", 11.0));
    assert_eq!(
        it,
        heard(&model, &pcm),
        "the same sound gives the same transcript"
    );
}

#[test]
fn words_are_timed_within_the_sound_and_outside_its_pauses() {
    let (Some(model), Some(pcm)) = (english(), jfk()) else {
        return;
    };
    let words: Vec<_> = heard(&model, &pcm)
        .segments
        .into_iter()
        .flat_map(|it| it.words)
        .collect();
    assert_eq!(words.len(), 22);
    assert!(
        words
            .windows(2)
            .all(|it| it[0].start < it[0].end && it[0].end <= it[1].start)
    );
    let loud = |from: f64, to: f64| {
        let sound = &pcm[(from * 16e3) as usize..((to * 16e3) as usize).min(pcm.len())];
        (sound.iter().map(|v| v * v).sum::<f32>() / sound.len() as f32).sqrt()
    };
    for word in &words {
        let (start, end) = (word.start.secs_f64(), word.end.secs_f64());
        assert!(
            (0.0..=11.0).contains(&start) && end <= 11.0 && end - start < 1.5,
            "{word:?}"
        );
        assert!(
            loud((start - 0.1).max(0.0), end + 0.1) > 0.02,
            "{word:?} lies in a pause"
        );
    }
}

#[test]
fn read_sentences_are_heard_within_a_twentieth_of_their_words() {
    let (Some(model), Some(folder)) = (english(), shared("media/speech/ljspeech")) else {
        return;
    };
    let (mut errors, mut words) = (0, 0);
    for line in std::fs::read_to_string(folder.join("trans.txt"))
        .unwrap()
        .lines()
        .take(6)
    {
        let (name, said) = line.split_once('|').unwrap();
        let Some(pcm) = decoded(folder.join(format!("{name}.flac"))) else {
            return;
        };
        let it = word_errors(said, &heard(&model, &pcm).text);
        (errors, words) = (errors + it.errors, words + it.words);
    }
    assert!(errors * 20 <= words, "{errors} errors in {words} words");
}

#[test]
fn a_shown_cue_only_grows_and_its_one_final_form_ends_it() {
    let (Some(model), Some(pcm)) = (english(), jfk()) else {
        return;
    };
    let outputs = live(&model, &pcm, 320);
    let text = final_text(&outputs);
    assert!(word_errors(JFK, &text).rate() <= 0.1, "{text}");
    let mut shown: HashMap<CueId, String> = HashMap::new();
    let mut ended = Vec::new();
    let mut mark = MediaTime::from_nanos(i64::MIN);
    for (_, output) in &outputs {
        match output {
            CaptionOutput::Cue(cue) => {
                assert!(!ended.contains(&cue.id), "{cue:?} changed after its end");
                assert!(cue.start >= mark, "{cue:?} begins before the watermark {mark}");
                assert!(cue.start < cue.end && cue.text.lines().count() <= 2);
                assert!(
                    cue.text.lines().all(|it| it.chars().count() <= 42),
                    "{}",
                    cue.text
                );
                if cue.state == CueState::Final {
                    ended.push(cue.id);
                } else {
                    let before = shown.entry(cue.id).or_default();
                    assert!(
                        cue.text.starts_with(before.as_str()),
                        "{before:?} became {:?}",
                        cue.text
                    );
                    before.clone_from(&cue.text);
                }
            }
            CaptionOutput::Watermark(at) => {
                assert!(*at > mark);
                mark = *at;
            }
            _ => {}
        }
    }
    assert!(shown.keys().all(|it| ended.contains(it)), "every shown cue ends");
    assert!(ended.windows(2).all(|it| it[0] < it[1]));
    assert_eq!(
        mark,
        MediaTime::from_millis(11_000),
        "at the end everything is heard"
    );
}

#[test]
fn what_is_said_is_captioned_once_and_about_as_well_as_the_whole_is_heard() {
    let (Some(model), Some(folder)) = (english(), shared("media/speech/librispeech-test-other")) else {
        return;
    };
    let said = std::fs::read_to_string(folder.join("trans.txt")).unwrap();
    let lines = said.lines().filter_map(|it| it.split_once(' '));
    // Sentences of one talk, from seconds to a quarter of a minute long, with half a second between them.
    let (mut pcm, mut text) = (Vec::new(), String::new());
    for (name, said) in lines.filter(|it| it.0.starts_with("1688-142285-")) {
        let Some(sentence) = decoded(folder.join(format!("{name}.flac"))) else {
            return;
        };
        pcm.extend(sentence);
        pcm.extend([0.0; 8_000]);
        text = format!("{text} {said}");
    }
    assert!(pcm.len() > 60 * 16_000, "{} s", pcm.len() / 16_000);
    let captions = final_text(&live(&model, &pcm, 320));
    let (live, whole) = (
        word_errors(&text, &captions),
        word_errors(&text, &heard(&model, &pcm).text),
    );
    let most = whole.errors + whole.words / 50;
    assert!(
        live.errors <= most,
        "{} errors live, {} of the whole: {captions}",
        live.errors,
        whole.errors
    );
}

#[test]
fn live_cues_do_not_depend_on_how_the_sound_is_cut() {
    let (Some(model), Some(pcm)) = (english(), jfk()) else {
        return;
    };
    let only = |outputs: Vec<(f64, CaptionOutput)>| outputs.into_iter().map(|it| it.1).collect::<Vec<_>>();
    assert_eq!(
        only(live(&model, &pcm[..80_000], 320)),
        only(live(&model, &pcm[..80_000], 1_111))
    );
}

#[test]
fn words_are_shown_soon_after_they_end() {
    let (Some(model), Some(pcm)) = (english(), jfk()) else {
        return;
    };
    let mut delays = Vec::new();
    let mut shown: HashMap<CueId, usize> = HashMap::new();
    for (now, output) in live(&model, &pcm, 320) {
        if let CaptionOutput::Cue(cue) = output {
            let seen = shown.entry(cue.id).or_default();
            delays.extend(cue.words.iter().skip(*seen).map(|it| now - it.end.secs_f64()));
            *seen = cue.words.len().max(*seen);
        }
    }
    delays.sort_by(f64::total_cmp);
    let p95 = delays[delays.len() * 95 / 100];
    assert!(p95 < 2.5, "p95 {p95:.2} s of sound time: {delays:.2?}");
}

#[test]
fn silence_makes_no_cue_and_its_watermark_goes_on() {
    let Some(model) = english() else { return };
    let outputs = live(&model, &vec![0.0; 10 * 16_000], 320);
    assert!(
        outputs
            .iter()
            .all(|(_, it)| matches!(it, CaptionOutput::Watermark(_)))
    );
    for (now, output) in &outputs {
        if let CaptionOutput::Watermark(at) = output {
            assert!(now - at.secs_f64() < 0.7, "at {now} the watermark is only {at}");
        }
    }
    assert!(outputs.len() > 20);
    assert!(heard(&model, &vec![0.0; 10 * 16_000]).segments.is_empty());
}

#[test]
fn music_makes_no_cue() {
    let Some(model) = english() else { return };
    let chords = [
        [220.0, 277.2, 329.6],
        [196.0, 246.9, 293.7],
        [174.6, 220.0, 261.6],
    ];
    let pcm: Vec<f32> = (0..15 * 16_000)
        .map(|i| {
            let t = i as f32 / 16e3;
            let tones = chords[(t / 2.0) as usize % 3].map(|f| (std::f32::consts::TAU * f * t).sin());
            tones.iter().sum::<f32>() / 4.0 * (-2.0 * (t * 2.0).fract()).exp()
        })
        .collect();
    assert_eq!(final_text(&live(&model, &pcm, 320)), "");
    assert_eq!(heard(&model, &pcm).text, "");
}

#[test]
fn a_gap_in_the_sound_keeps_the_times_right() {
    let (Some(model), Some(pcm)) = (english(), jfk()) else {
        return;
    };
    let mut captioner = Captioner::new(CaptionerConfig::default(), model).unwrap();
    for (half, pts) in [(&pcm[..40_000], 0), (&pcm[120_000..], 60_000)] {
        for (index, samples) in half.chunks(320).enumerate() {
            let frame = PcmFrame {
                pts: MediaTime::from_millis(pts + index as i64 * 20),
                sample_rate: 16_000,
                channels: 1,
                samples: samples.to_vec(),
            };
            captioner.handle_pcm(frame).unwrap();
        }
    }
    captioner.finish().unwrap();
    let starts: Vec<i64> = std::iter::from_fn(|| captioner.poll_output())
        .filter_map(|it| match it {
            CaptionOutput::Cue(cue) if cue.state == CueState::Final => Some(cue.start.millis()),
            _ => None,
        })
        .collect();
    assert!(starts.iter().any(|it| *it < 2_500), "{starts:?}");
    assert!(starts.iter().any(|it| *it >= 60_000), "{starts:?}");
    assert!(
        starts.iter().all(|it| !(2_500..60_000).contains(it)),
        "{starts:?}"
    );
}

#[test]
fn pcm_of_another_shape_is_refused_with_its_shape() {
    let Some(model) = english() else { return };
    let mut captioner = Captioner::new(CaptionerConfig::default(), model).unwrap();
    let stereo = PcmFrame {
        pts: MediaTime::ZERO,
        sample_rate: 48_000,
        channels: 2,
        samples: vec![0.0; 1_920],
    };
    let error = captioner.handle_pcm(stereo).unwrap_err();
    assert!(error.to_string().contains("2 channels at 48000 hz"), "{error}");
}

#[test]
fn a_multilingual_ggml_file_is_read_as_it_is_and_finds_the_language() {
    let (Some(path), Some(pcm)) = (shared("models/whisper-tiny/ggml-tiny.bin"), jfk()) else {
        return;
    };
    let model = load(path).unwrap();
    assert!(model.is_multilingual());
    let it = heard(&model, &pcm);
    assert_eq!(it.language, "en");
    assert!(word_errors(JFK, &it.text).errors <= 1, "{}", it.text);
    let mut config = CaptionerConfig::default();
    config.language = Some("tlh".to_owned());
    let error = Captioner::new(config, model).unwrap_err();
    assert!(
        matches!(
            error,
            AiError::Config {
                field: "language",
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn openais_own_checkpoint_gives_the_same_words() {
    let Some(pcm) = jfk() else { return };
    let mut config = ModelConfig::from_env();
    config.path = None;
    config.download = Download::Never;
    let files = match Model::locate(&config, &mut |_| ()) {
        Ok(files) if files.path().extension().is_some_and(|it| it == "pt") => files,
        _ => {
            eprintln!("SKIPPED: no .pt checkpoint in the cache");
            return;
        }
    };
    let it = heard(&Model::load(&files, 1).unwrap(), &pcm);
    assert_eq!(word_errors(JFK, &it.text).errors, 0, "{}", it.text);
}

#[test]
fn ffmpeg_reads_the_subtitle_files_as_we_meant_them() {
    let (Some(model), Some(pcm)) = (english(), jfk()) else {
        return;
    };
    let it = heard(&model, &pcm);
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("a.vtt", it.to_vtt()), ("a.srt", it.to_srt())] {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let Ok(read) = Command::new("ffmpeg")
            .args(["-v", "error", "-i"])
            .arg(&path)
            .args(["-f", "srt", "-"])
            .output()
        else {
            eprintln!("SKIPPED: no ffmpeg to judge by");
            return;
        };
        assert!(
            read.status.success() && read.stderr.is_empty(),
            "{name}: {}",
            String::from_utf8_lossy(&read.stderr)
        );
        let read = String::from_utf8(read.stdout).unwrap();
        assert_eq!(read.matches("-->").count(), it.to_cues().len(), "{name}: {read}");
        let words: String = read
            .lines()
            .filter(|it| it.chars().any(char::is_alphabetic))
            .collect::<Vec<_>>()
            .join(" ");
        assert_eq!(word_errors(&it.text, &words).errors, 0, "{name}: {read}");
    }
}
