//! Many live captioners on one model, each fed in real time, and how long after a word's end it is shown:
//!
//!     live_load MODEL PCM SESSIONS [SECONDS] [THREADS]
//!
//! PCM is 16 kHz mono f32; each session begins at another place in it. A word's end is where its cue says. Printed are the delays of
//! words, of final cues, how often a final cue changed (never, or it is a bug), and how many shown words were changed by their final cue.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use loom_ai::{CaptionOutput, Captioner, CaptionerConfig, Download, Model, ModelConfig};
use loom_core::{Cue, CueId, CueState, MediaTime, PcmFrame};

/// Samples of a frame of 20 ms.
const FRAME: usize = 320;

#[derive(Default)]
struct Shown {
    words: Vec<f64>,
    finals: Vec<f64>,
    changed_finals: usize,
    changed_words: usize,
    partial: HashMap<CueId, Vec<String>>,
    ended: Vec<CueId>,
}

impl Shown {
    fn put(&mut self, cue: &Cue, now: f64) {
        if self.ended.contains(&cue.id) {
            self.changed_finals += 1;
        }
        let before = self.partial.entry(cue.id).or_default();
        for word in cue.words.iter().skip(before.len()) {
            self.words.push(now - word.end.secs_f64());
        }
        let plain = |it: &str| it.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
        let texts: Vec<String> = cue.words.iter().map(|it| plain(&it.text)).collect();
        let same = before.iter().zip(&texts).filter(|(a, b)| a == b).count();
        self.changed_words += before.len() - same;
        *before = texts;
        if cue.state == CueState::Final {
            self.ended.push(cue.id);
            self.finals.push(now - cue.end.secs_f64());
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, pcm, sessions, rest @ ..] = arguments.as_slice() else {
        return Err("usage: live_load MODEL PCM SESSIONS [SECONDS] [THREADS]".into());
    };
    let number = |at: usize, default: usize| rest.get(at).map_or(Ok(default), |it| it.parse());
    let (sessions, seconds): (usize, usize) = (sessions.parse()?, number(0, 60)?);
    let mut config = ModelConfig::default();
    config.path = Some(model.into());
    config.download = Download::Never;
    let model = Model::load(&Model::locate(&config, &mut |_| ())?, number(1, 2)?)?;
    let raw = std::fs::read(pcm)?;
    let (values, _) = raw.as_chunks::<4>();
    let pcm: Arc<Vec<f32>> = Arc::new(values.iter().map(|it| f32::from_le_bytes(*it)).collect());
    let threads: Vec<_> = (0..sessions)
        .map(|index| {
            let (model, pcm) = (Arc::clone(&model), Arc::clone(&pcm));
            std::thread::spawn(move || session(model, &pcm, index * pcm.len() / sessions, seconds))
        })
        .collect();
    let mut all = Shown::default();
    for thread in threads {
        let it = thread.join().map_err(|_| "a session ended badly")??;
        all.words.extend(it.words);
        all.finals.extend(it.finals);
        all.changed_finals += it.changed_finals;
        all.changed_words += it.changed_words;
    }
    println!("{sessions} sessions of {seconds} s");
    for (name, list) in [("words shown", &mut all.words), ("cues final", &mut all.finals)] {
        list.sort_by(f64::total_cmp);
        let at = |share: f64| {
            list.get((list.len() as f64 * share) as usize)
                .copied()
                .unwrap_or_default()
        };
        println!(
            "{name}: {}, p50 {:.2} s, p95 {:.2} s after their end",
            list.len(),
            at(0.5),
            at(0.95)
        );
    }
    let minutes = (sessions * seconds) as f64 / 60.0;
    println!(
        "final cues changed: {}; shown words changed a minute: {:.1}",
        all.changed_finals,
        all.changed_words as f64 / minutes
    );
    Ok(())
}

fn session(model: Arc<Model>, pcm: &[f32], from: usize, seconds: usize) -> Result<Shown, loom_ai::AiError> {
    let mut captioner = Captioner::new(CaptionerConfig::default(), model)?;
    let mut shown = Shown::default();
    let begun = Instant::now();
    for index in 0..seconds * 50 {
        let due = Duration::from_millis(index as u64 * 20 + 20);
        if let Some(early) = due.checked_sub(begun.elapsed()) {
            std::thread::sleep(early);
        }
        captioner.handle_lag(begun.elapsed().saturating_sub(due + Duration::from_millis(100)));
        let samples = (0..FRAME)
            .map(|at| pcm[(from + index * FRAME + at) % pcm.len()])
            .collect();
        captioner.handle_pcm(PcmFrame {
            pts: MediaTime::from_millis(index as i64 * 20),
            sample_rate: 16_000,
            channels: 1,
            samples,
        })?;
        while let Some(output) = captioner.poll_output() {
            if let CaptionOutput::Cue(cue) = output {
                shown.put(&cue, begun.elapsed().as_secs_f64());
            }
        }
    }
    Ok(shown)
}
