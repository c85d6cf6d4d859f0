//! Ten minutes each of what is no speech: not one word may be made of it, neither live nor in the final pass.

use std::f32::consts::TAU;
use std::sync::Arc;

use loom_ai::{CaptionOutput, Captioner, CaptionerConfig, Model, TranscribeConfig, transcribe};
use loom_core::{MediaTime, PcmFrame};

const RATE: usize = 16_000;
const SECONDS: usize = 600;

/// Uniform noise from a seed, -1 ..= 1.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// Ten minutes of what `sample` gives for seconds, which begin again each minute: later ones are too coarse for a phase.
fn made(mut sample: impl FnMut(f32) -> f32) -> Vec<f32> {
    (0..SECONDS * RATE)
        .map(|i| sample((i % (60 * RATE)) as f32 / RATE as f32).clamp(-1.0, 1.0))
        .collect()
}

/// Every word that is made of `pcm`, live and at the end.
fn words(model: &Arc<Model>, pcm: &[f32]) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut captioner = Captioner::new(CaptionerConfig::default(), Arc::clone(model)).unwrap();
    let mut take = |captioner: &mut Captioner| {
        while let Some(output) = captioner.poll_output() {
            if let CaptionOutput::Cue(cue) = output {
                out.push(format!("live at {}: {}", cue.start, cue.text));
            }
        }
    };
    for (index, samples) in pcm.chunks(RATE / 2).enumerate() {
        let frame = PcmFrame {
            pts: MediaTime::from_millis(index as i64 * 500),
            sample_rate: RATE as u32,
            channels: 1,
            samples: samples.to_vec(),
        };
        captioner.handle_pcm(frame).unwrap();
        take(&mut captioner);
    }
    captioner.finish().unwrap();
    take(&mut captioner);
    let said = transcribe(model, pcm, &TranscribeConfig::default(), |_| ()).unwrap();
    out.extend(
        said.segments
            .iter()
            .map(|it| format!("at the end, {:.1}: {}", it.start, it.text)),
    );
    out
}

#[track_caller]
fn none_in(name: &str, pcm: &[f32]) {
    let Some(model) = crate::material::english() else {
        return;
    };
    let found = words(&model, pcm);
    assert!(found.is_empty(), "{name}: {found:#?}");
}

#[test]
#[ignore = "ten minutes of sound: `make slow`"]
fn ten_minutes_of_silence_make_no_word() {
    none_in("silence", &made(|_| 0.0));
    let mut noise = Noise(1);
    none_in("a microphone's own noise", &made(|_| noise.next() * 0.001));
}

#[test]
#[ignore = "ten minutes of sound: `make slow`"]
fn ten_minutes_of_noise_make_no_word() {
    let mut noise = Noise(2);
    none_in("white noise", &made(|_| noise.next() * 0.2));
    let (mut noise, mut low) = (Noise(3), 0f32);
    none_in(
        "wind",
        &made(|t| {
            low += (noise.next() - low) * 0.05;
            low * (0.6 + 0.4 * (TAU * t / 7.0).sin())
        }),
    );
    let (mut noise, mut left) = (Noise(4), 0f32);
    none_in(
        "keys",
        &made(|t| {
            // A key each 130 to 400 ms: a click that dies away.
            if (t * 7.3).fract() < 0.000_5 && noise.next() > -0.4 {
                left = 0.5;
            }
            left *= 0.996;
            left * noise.next() + 0.001 * noise.next()
        }),
    );
    none_in(
        "mains hum",
        &made(|t| {
            (1..6)
                .map(|n| (TAU * 50.0 * n as f32 * t).sin() / (n * n) as f32)
                .sum::<f32>()
                * 0.1
        }),
    );
}

fn tune_with_drums() -> Vec<f32> {
    let scale = [220.0, 246.9, 261.6, 293.7, 329.6, 349.2, 392.0, 440.0];
    let mut noise = Noise(5);
    made(|t| {
        let beat = (t * 2.5) as usize;
        let since = (t * 2.5).fract() / 2.5;
        let f = scale[(beat * 5 + beat / 3) % scale.len()];
        let vibrato = 1.0 + 0.004 * (TAU * 5.5 * t).sin();
        let tune: f32 = (1..7)
            .map(|n| (TAU * f * vibrato * n as f32 * t).sin() / n as f32)
            .sum();
        let envelope = (since * 30.0).min(1.0) * (-2.5 * since).exp();
        let drum = if beat.is_multiple_of(2) {
            (TAU * 60.0 * since).sin() * (-18.0 * since).exp()
        } else {
            noise.next() * (-30.0 * since).exp() * 0.4
        };
        0.18 * tune * envelope + 0.4 * drum
    })
}

#[test]
#[ignore = "ten minutes of sound: `make slow`"]
fn ten_minutes_of_music_make_no_word() {
    let chords = [
        [220.0, 261.6, 329.6],
        [174.6, 220.0, 261.6],
        [196.0, 246.9, 293.7],
        [164.8, 207.7, 246.9],
    ];
    none_in(
        "plucked chords",
        &made(|t| {
            let at = (t / 2.0) as usize;
            let struck = (t * 2.0).fract();
            chords[at % 4].iter().map(|f| (TAU * f * t).sin()).sum::<f32>() / 4.0 * (-3.0 * struck).exp()
        }),
    );
    none_in("a tune with drums", &tune_with_drums());
}

/// 8 kHz with nothing above 4 kHz, in steps as coarse as G.711's (μ-law), and back.
fn over_the_telephone(pcm: &[f32]) -> Vec<f32> {
    let coarse = |it: f32| {
        let step = ((1.0 + 255.0 * it.abs()).ln() / 256f32.ln() * 127.0).round() / 127.0;
        ((256f32.powf(step) - 1.0) / 255.0).copysign(it)
    };
    let halves: Vec<f32> = pcm
        .as_chunks::<2>()
        .0
        .iter()
        .map(|it| coarse((it[0] + it[1]) / 2.0))
        .collect();
    let next = halves.iter().skip(1).chain(halves.last());
    halves
        .iter()
        .zip(next)
        .flat_map(|(a, b)| [*a, (a + b) / 2.0])
        .collect()
}

#[test]
#[ignore = "ten minutes of sound: `make slow`"]
fn ten_minutes_of_a_telephone_line_make_no_word() {
    let mut noise = Noise(6);
    none_in(
        "a quiet line",
        &over_the_telephone(&made(|_| noise.next() * 0.003)),
    );
    let mut noise = Noise(7);
    none_in(
        "a number that is called and never answers",
        &over_the_telephone(&made(|t| {
            let (low, high) = ([697.0, 770.0, 852.0, 941.0], [1209.0, 1336.0, 1477.0]);
            let at = t * 5.0;
            let key = at as usize;
            let tone = if key < 12 && at.fract() < 0.6 {
                // Twelve keys, then ringing: a second of 425 Hz each five.
                (TAU * low[key * 7 % 4] * t).sin() + (TAU * high[key * 5 % 3] * t).sin()
            } else if key >= 12 && t % 5.0 < 1.0 {
                (TAU * 425.0 * t).sin()
            } else {
                0.0
            };
            0.2 * tone + 0.002 * noise.next()
        })),
    );
    none_in("waiting music", &over_the_telephone(&tune_with_drums()));
}

#[test]
#[ignore = "ten minutes of sound: `make slow`"]
fn ten_minutes_of_clipped_sound_make_no_word() {
    let clipped = |pcm: Vec<f32>| -> Vec<f32> { pcm.iter().map(|it| (it * 20.0).clamp(-1.0, 1.0)).collect() };
    let mut noise = Noise(8);
    none_in("clipped noise", &clipped(made(|_| noise.next() * 0.2)));
    none_in("clipped music", &clipped(tune_with_drums()));
}

#[test]
#[ignore = "ten minutes of sound: `make slow`"]
fn ten_minutes_of_a_film_without_words_make_no_word() {
    let folder = crate::material::shared("media/natural");
    let Some(path) = folder.and_then(|it| {
        std::fs::read_dir(it)
            .ok()?
            .flatten()
            .map(|it| it.path())
            .find(|it| it.extension().is_some_and(|it| it == "mp4"))
    }) else {
        return;
    };
    let Some(pcm) = crate::material::decoded(path) else {
        return;
    };
    let whole: Vec<f32> = pcm.iter().copied().cycle().take(SECONDS * RATE).collect();
    none_in("a film's music and noises", &whole);
}
