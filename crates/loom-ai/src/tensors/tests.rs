//! The network of tensors on candle's own processor device: beside the reference, beside ours, batched beside alone, and through the desk.

use std::path::Path;
use std::sync::Arc;

use loom_core::{MediaTime, PcmFrame};

use super::Desk;
use super::memory::Need;
use super::place::Place;
use super::whisper::{Fed, Feed, Whisper};
use crate::mel::MelBank;
use crate::model::reference::{Reference, material, tiny_en, worst};
use crate::network::{Network, Turn};
use crate::weights::Checkpoint;
use crate::{
    AiError, CaptionOutput, Captioner, CaptionerConfig, Device, Download, Model, ModelConfig,
    TranscribeConfig, transcribe,
};

/// Largest difference of a logit that comes of what else is done in the same go; those of one step span about 40.
const TOGETHER: f32 = 2e-3;
/// Largest difference of a share of the sound from our own decoder's, whose numbers have 8 and 12 bits.
const SHARE: f32 = 0.05;

fn whisper(folder: &Path, slots: usize) -> Whisper {
    let mut checkpoint = Checkpoint::read(folder).unwrap();
    Whisper::take(&mut checkpoint, Place::processor(None), slots).unwrap()
}

/// So many seconds of speech and one of silence, as mel frames.
fn mel(pcm: &[f32], seconds: usize) -> Vec<f32> {
    MelBank::new(80).frames(&pcm[..seconds * 16_000], (seconds + 1) * 100)
}

fn feed(slot: usize, positions: usize, before: usize, tokens: &[u32], wanted: &[usize]) -> Feed {
    Feed {
        slot,
        copied: None,
        positions,
        before,
        tokens: tokens.to_vec(),
        wanted: wanted.to_vec(),
    }
}

fn assert_same(together: &Fed, alone: &Fed) {
    assert_eq!(together.logits.len(), alone.logits.len());
    let error = worst(together.logits.iter().copied().zip(alone.logits.iter().copied()));
    assert!(error <= TOGETHER, "logits differ by {error}");
    assert_eq!(together.looks.len(), alone.looks.len());
    for (a, b) in together.looks.iter().zip(&alone.looks) {
        assert_eq!(a.len(), b.len());
        let error = worst(a.iter().copied().zip(b.iter().copied()));
        assert!(error <= TOGETHER, "shares differ by {error}");
    }
}

#[test]
fn encoder_logits_and_shares_are_those_of_the_reference_and_of_our_own_decoder() {
    let Some((folder, pcm)) = material() else { return };
    let reference = Reference::read();
    let device = whisper(&folder, 3);
    let mel = MelBank::new(80).frames(&pcm, 3_000);
    reference.judge_encoder(&device.encoded(&mel).unwrap());

    let host = Model::processor(&folder).unwrap();
    let mut session = host.begin(Turn::Live, vec![mel.clone()], 0).unwrap().remove(0);
    let positions = device.begin(&[(1, &mel)]).unwrap()[0];
    assert_eq!(positions, 1_500);
    let mut logits = Vec::new();
    for (step, &token) in reference.tokens.iter().enumerate().take(8) {
        let fed = device.feed(&[feed(1, positions, step, &[token], &[0])]).unwrap();
        reference.judge_logits(step, &fed[0].logits);
        host.feed(&mut [&mut session], &[token], &[0], &mut logits)
            .unwrap();
        let ours = host.looks(&session)[step].iter().copied();
        let error = worst(fed[0].looks[0].iter().copied().zip(ours));
        assert_eq!(fed[0].looks[0].len(), host.looks(&session)[step].len());
        assert!(error <= SHARE, "shares {step}: {error}");
    }
}

#[test]
fn decodes_of_any_length_come_out_together_as_they_do_alone() {
    let Some((folder, pcm)) = material() else { return };
    let device = whisper(&folder, 4);
    let tokens = Reference::read().tokens;
    let sounds = [mel(&pcm, 3), mel(&pcm, 1), mel(&pcm, 2)];
    let slots = [3, 0, 1];
    // A prompt of several steps, one token, and some that are drafted; then one for each.
    let long: Vec<u32> = tokens.iter().copied().cycle().take(17).collect();
    let asks: [(&[u32], &[usize]); 3] = [
        (&long, &[0, 10, 16]),
        (&tokens[..1], &[0]),
        (&tokens[..6], &[2, 3, 4, 5]),
    ];
    let windows: Vec<(usize, &[f32])> = slots.into_iter().zip(sounds.iter().map(Vec::as_slice)).collect();
    let positions = device.begin(&windows).unwrap();
    assert_eq!(positions, [200, 100, 150]);
    let feeds = |before: [usize; 3], asks: [(&[u32], &[usize]); 3]| -> Vec<Feed> {
        let each = slots.iter().zip(&positions).zip(before).zip(asks);
        each.map(|(((&slot, &sound), before), (tokens, wanted))| feed(slot, sound, before, tokens, wanted))
            .collect()
    };
    let first = feeds([0; 3], asks);
    let then = feeds([17, 1, 6], [(&tokens[..1], &[0]); 3]);
    let together = [device.feed(&first).unwrap(), device.feed(&then).unwrap()];
    for index in 0..3 {
        device.begin(&windows[index..=index]).unwrap();
        for (feeds, together) in [&first, &then].into_iter().zip(&together) {
            let alone = device.feed(&feeds[index..=index]).unwrap();
            assert_same(&together[index], &alone[0]);
        }
    }
}

#[test]
fn a_copy_goes_its_own_way_and_leaves_the_original_as_it_is() {
    let Some((folder, pcm)) = material() else { return };
    let device = whisper(&folder, 3);
    let tokens = Reference::read().tokens;
    let mel = mel(&pcm, 2);
    let sound = device.begin(&[(0, &mel)]).unwrap()[0];
    device.feed(&[feed(0, sound, 0, &tokens[..3], &[])]).unwrap();
    let original = feed(0, sound, 3, &tokens[3..4], &[0]);
    let copy = Feed {
        copied: Some(0),
        ..feed(2, sound, 3, &tokens[5..6], &[0])
    };
    let both = device.feed(&[copy, original.clone()]).unwrap();
    device.begin(&[(1, &mel)]).unwrap();
    device.feed(&[feed(1, sound, 0, &tokens[..3], &[])]).unwrap();
    assert_same(
        &both[1],
        &device.feed(&[feed(1, sound, 3, &tokens[3..4], &[0])]).unwrap()[0],
    );
    assert_same(
        &both[0],
        &device.feed(&[feed(1, sound, 3, &tokens[5..6], &[0])]).unwrap()[0],
    );
    assert_same(&both[1], &device.feed(&[original]).unwrap()[0]);
}

#[test]
fn sound_that_makes_no_numbers_harms_neither_its_neighbours_nor_who_comes_after_it() {
    let Some((folder, pcm)) = material() else { return };
    let (desk, _) = Desk::on_processor(Checkpoint::read(&folder).unwrap()).unwrap();
    let start = Reference::read().tokens[0];
    let logits = |sessions: &mut [&mut super::desk::Session]| {
        let mut logits = Vec::new();
        let tokens = vec![start; sessions.len()];
        let all: Vec<usize> = (0..sessions.len()).collect();
        desk.feed(sessions, &tokens, &all, &mut logits).map(|()| logits)
    };
    let good = mel(&pcm, 2);
    let mut bad = mel(&pcm, 3);
    bad[5_000] = f32::NAN;
    let mut alone = desk.begin(Turn::Live, vec![good.clone()], 0).unwrap();
    let expected = logits(&mut [&mut alone[0]]).unwrap();
    drop(alone);
    let mut both = desk.begin(Turn::Patient, vec![bad, good.clone()], 0).unwrap();
    let [ill, well] = &mut *both else {
        panic!("two were asked for")
    };
    let error = logits(&mut [ill]).unwrap_err();
    assert!(matches!(error, AiError::Inference(_)), "{error}");
    let found = logits(&mut [well]).unwrap();
    assert!(worst(found.into_iter().zip(expected.iter().copied())) <= TOGETHER);
    drop(both);
    // The slot of the first is given again, and what it held lay where the new, shorter sound is not.
    let mut after = desk.begin(Turn::Live, vec![good], 0).unwrap();
    let found = logits(&mut [&mut after[0]]).unwrap();
    assert!(worst(found.into_iter().zip(expected)) <= TOGETHER);
}

#[test]
fn more_sessions_than_there_are_slots_are_all_served() {
    let Some((folder, pcm)) = material() else { return };
    let (desk, _) = Desk::on_processor(Checkpoint::read(&folder).unwrap()).unwrap();
    let start = Reference::read().tokens[0];
    let mel = mel(&pcm, 1);
    let all: Vec<Vec<f32>> = std::thread::scope(|scope| {
        let sessions: Vec<_> = (0..26)
            .map(|index| {
                let (desk, mel) = (&desk, mel.clone());
                let turn = if index % 4 == 0 { Turn::Patient } else { Turn::Live };
                scope.spawn(move || {
                    let mut it = desk.begin(turn, vec![mel], 0).unwrap();
                    let mut logits = Vec::new();
                    desk.feed(&mut [&mut it[0]], &[start], &[0], &mut logits).unwrap();
                    logits
                })
            })
            .collect();
        sessions.into_iter().map(|it| it.join().unwrap()).collect()
    });
    for it in &all[1..] {
        assert!(worst(it.iter().copied().zip(all[0].iter().copied())) <= TOGETHER);
    }
}

/// What a recording says, and with a beam.
fn said(model: &Model, pcm: &[f32], beam: usize) -> String {
    let config = TranscribeConfig {
        beam,
        ..TranscribeConfig::default()
    };
    transcribe(model, pcm, &config, |_| ()).unwrap().text
}

#[test]
fn tensors_hear_what_our_own_network_hears() {
    let (Some((host, pcm)), Some((folder, _))) = (tiny_en(), material()) else {
        return;
    };
    let tensors = Model::of_tensors(&folder).unwrap();
    let some = &pcm[..5 * 16_000];
    // Both at once, live and whole with a beam, each as by itself.
    let live = |model: &Arc<Model>| {
        let mut captioner = Captioner::new(CaptionerConfig::default(), Arc::clone(model)).unwrap();
        captioner
            .handle_pcm(PcmFrame {
                pts: MediaTime::ZERO,
                sample_rate: 16_000,
                channels: 1,
                samples: some.to_vec(),
            })
            .unwrap();
        captioner.finish().unwrap();
        let mut last = String::new();
        while let Some(it) = captioner.poll_output() {
            if let CaptionOutput::Cue(cue) = it {
                last = cue.text;
            }
        }
        last
    };
    let expected = live(&host);
    assert!(!expected.is_empty());
    std::thread::scope(|scope| {
        let captions = scope.spawn(|| live(&tensors));
        assert_eq!(said(&tensors, some, 2), said(&host, some, 2));
        assert_eq!(captions.join().unwrap(), expected);
    });
}

#[test]
fn what_a_device_needs_is_counted_before_and_refused_where_it_is_not_free() {
    let Some((folder, _)) = material() else { return };
    let checkpoint = Checkpoint::read(&folder).unwrap();
    let need = Need::new(checkpoint.values_held(), &checkpoint.dims, 5);
    let held = whisper(&folder, 5).values_held();
    // Fused projections have keys' biases, which are all zero and not in the file.
    let biases = 384 * (4 + 2 * 4);
    assert_eq!(held as u64, need.weights + need.caches + biases);
    assert!(need.work > need.weights, "{need:?}");

    let enough = need.values() * 4;
    assert!(Place::processor(Some(enough)).holding("tiny", 5, &need).is_ok());
    let error = Place::processor(Some(enough - 1))
        .holding("tiny", 5, &need)
        .unwrap_err();
    let AiError::Memory { needed, free, .. } = error else {
        panic!("{error}");
    };
    assert_eq!((needed, free), (enough, enough - 1));
    assert!(error.to_string().contains("tiny takes"), "{error}");
}

#[test]
fn a_device_that_is_not_there_is_an_error_unless_any_will_do() {
    let Some((folder, _)) = material() else { return };
    let load = |change: &dyn Fn(&mut ModelConfig)| {
        let mut config = ModelConfig {
            path: Some(folder.clone()),
            download: Download::Never,
            ..ModelConfig::default()
        };
        change(&mut config);
        Model::load(&Model::locate(&config, &mut |_| ()).unwrap(), 1)
    };
    let error = load(&|it| it.wrong_device = true).unwrap_err();
    assert!(error.to_string().starts_with("device: must be cpu"), "{error}");
    let error = load(&|it| (it.device, it.at_once) = (Device::Auto, 23)).unwrap_err();
    assert!(
        matches!(error, AiError::Config { field: "at_once", .. }),
        "{error}"
    );
    // No machine has as many.
    let error = load(&|it| it.device = Device::Cuda(99)).unwrap_err();
    assert!(
        error.to_string().starts_with("cannot hear with cuda:99"),
        "{error}"
    );
    if cfg!(not(any(feature = "cuda", feature = "metal"))) {
        let error = load(&|it| it.device = Device::Metal).unwrap_err();
        assert!(error.to_string().ends_with("without feature `metal`"), "{error}");
        assert_eq!(
            load(&|it| it.device = Device::Auto).unwrap().device(),
            Device::Cpu
        );
    }
}
