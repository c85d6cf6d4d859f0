//! The device that `LOOM_TEST_DEVICE` names (`cuda:0`, `metal`) beside the processor. What can be held without one is in `src/tensors/tests.rs`.

use std::sync::Arc;

use loom_ai::{
    CaptionOutput, Captioner, CaptionerConfig, Device, Download, Model, ModelConfig, TranscribeConfig,
    transcribe,
};
use loom_core::{MediaTime, PcmFrame};
use loom_testkit::word_errors;

use crate::material::{JFK, jfk, shared};

fn on_device() -> Option<(Arc<Model>, Device)> {
    let Ok(name) = std::env::var("LOOM_TEST_DEVICE") else {
        eprintln!("SKIPPED: LOOM_TEST_DEVICE names no device");
        return None;
    };
    let mut config = ModelConfig::default();
    config.path = Some(shared("models/whisper-tiny.en")?);
    config.download = Download::Never;
    config.device = name.parse().unwrap();
    let model = Model::load(&Model::locate(&config, &mut |_| ()).unwrap(), 1).unwrap();
    Some((model, config.device))
}

#[test]
fn a_device_hears_what_is_said_many_times_at_once() {
    let (Some((model, device)), Some(pcm)) = (on_device(), jfk()) else {
        return;
    };
    assert_eq!(model.device(), device);
    let whole = |beam| {
        let mut config = TranscribeConfig::default();
        config.beam = beam;
        transcribe(&model, &pcm, &config, |_| ()).unwrap().text
    };
    let live = || {
        let mut captioner = Captioner::new(CaptionerConfig::default(), Arc::clone(&model)).unwrap();
        for (number, samples) in pcm.chunks(320).enumerate() {
            let frame = PcmFrame {
                pts: MediaTime::from_millis(number as i64 * 20),
                sample_rate: 16_000,
                channels: 1,
                samples: samples.to_vec(),
            };
            captioner.handle_pcm(frame).unwrap();
        }
        captioner.finish().unwrap();
        let mut cues = std::collections::BTreeMap::new();
        while let Some(it) = captioner.poll_output() {
            if let CaptionOutput::Cue(cue) = it {
                cues.insert(cue.id.0, cue.text);
            }
        }
        cues.into_values().collect::<Vec<_>>().join(" ")
    };
    std::thread::scope(|scope| {
        let sessions: Vec<_> = (0..48)
            .map(|index| {
                scope.spawn(move || match index % 8 {
                    0 => whole(1),
                    4 => whole(8),
                    _ => live(),
                })
            })
            .collect();
        for it in sessions {
            let text = it.join().unwrap();
            assert_eq!(word_errors(JFK, &text).errors, 0, "{text}");
        }
    });
}
