//! Sound that is measured, brought to a loudness and freed of noise, judged by ffmpeg.
#![cfg(feature = "gst")]

use std::path::Path;
use std::process::Command;

use crate::support::{Made, decoded_samples, drain, ffmpeg, shared};
use loom_transcode::{
    Backend, Capabilities, GstBackend, Loudness, LoudnessTarget, SoundTreatment, Wanted, plan, probe_file,
};

/// Runs a file's plan as the engine does: where a loudness is wanted, the sound is measured first.
fn transcode(path: &Path, sound: SoundTreatment) -> Made {
    let wanted = Wanted {
        sound,
        ..Wanted::default()
    };
    let shape = probe_file(path).unwrap().shape();
    let mut plan = plan(&shape, &wanted, &Capabilities::probe().unwrap()).unwrap();
    let backend = GstBackend::new().unwrap();
    for _ in 0..3 {
        let Some(measuring) = plan.measuring() else { break };
        let heard = drain(backend.file(&measuring, path).unwrap());
        assert!(heard.packets.is_empty() && heard.pcm.is_empty());
        if !heard.loudness.is_some_and(|it| plan.handle_loudness(&it)) {
            break;
        }
    }
    eprintln!("{plan}");
    let made = drain(backend.file(&plan, path).unwrap());
    assert!(made.failed.is_empty(), "{:?}", made.failed);
    made
}

/// What ffmpeg's `ebur128` measures: integrated loudness, range, true peak.
fn judged(path: &Path, filter: &str) -> (f64, f64, f64) {
    let out = Command::new("ffmpeg")
        .args(["-nostdin", "-i"])
        .arg(path)
        .args(["-af", &format!("{filter}ebur128=peak=true"), "-f", "null", "-"])
        .output()
        .expect("ffmpeg is installed");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    let summary = said.rsplit("Summary:").next().unwrap_or_default();
    let field = |name: &str| {
        let rest = summary
            .split(name)
            .nth(1)
            .unwrap_or_else(|| panic!("no {name} in {said}"));
        let number = rest.split_whitespace().next().unwrap_or_default();
        number
            .parse::<f64>()
            .unwrap_or_else(|why| panic!("{number:?}: {why}"))
    };
    (field("I:"), field("LRA:"), field("Peak:"))
}

fn assert_agrees(ours: Loudness, theirs: (f64, f64, f64), what: &str) {
    eprintln!("{what}: {ours:?}, ffmpeg {theirs:?}");
    assert!(
        (ours.integrated - theirs.0).abs() <= 0.3,
        "{what}: {ours:?} {theirs:?}"
    );
    assert!(
        (ours.range - theirs.1).abs() <= 0.5,
        "{what}: {ours:?} {theirs:?}"
    );
    assert!(
        (ours.true_peak - theirs.2).abs() <= 0.3,
        "{what}: {ours:?} {theirs:?}"
    );
}

/// Three stretches of noise, each as loud throughout, and two seconds below the relative gate, as samples of 16 bits. ffmpeg looks ten times a
/// second where once is enough (EBU Tech 3342), so that a range of few seconds is another.
fn steps(dir: &Path, channels: &str) -> std::path::PathBuf {
    let noise = "anoisesrc=color=pink:seed=5:sample_rate=48000:duration=45";
    let level = "volume='if(lt(t,14),0.5,if(lt(t,16),0.01,if(lt(t,30),0.15,0.3)))':eval=frame";
    ffmpeg(
        &format!("-f lavfi -i {noise} -af {level},{channels} -c:a pcm_s16le"),
        &dir.join("steps.mkv"),
    )
}

#[test]
fn loudness_is_what_ffmpeg_measures() {
    let dir = tempfile::tempdir().unwrap();
    for channels in ["aformat=channel_layouts=mono", "pan=stereo|c0=c0|c1=0.3*c0"] {
        let path = steps(dir.path(), channels);
        let made = transcode(&path, SoundTreatment::default());
        let ours = made.loudness.expect("it is told");
        assert_eq!(ours.gain, None);
        assert_agrees(ours, judged(&path, ""), channels);
    }
    let quiet = ffmpeg(
        "-f lavfi -i anullsrc=sample_rate=48000 -t 2 -c:a pcm_s16le",
        &dir.path().join("quiet.mkv"),
    );
    let target = SoundTreatment {
        loudness: Some(LoudnessTarget::default()),
        ..SoundTreatment::default()
    };
    let made = transcode(&quiet, target);
    assert_eq!(made.loudness, None, "silence has none");
    made.assert_aac_is_contiguous("aac");
}

#[test]
fn speech_is_brought_to_a_loudness_and_its_peaks_stay_below_the_limit() {
    let Some(speech) = shared("media/speech/jfk.wav") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    // soft, with peaks that would be far above the limit
    let args = format!("-i {} -af volume=-9dB -ar 48000 -c:a libopus", speech.display());
    let path = ffmpeg(&args, &dir.path().join("speech.mkv"));
    let plain = transcode(&path, SoundTreatment::default());
    let target = LoudnessTarget {
        integrated: -14.0,
        ..LoudnessTarget::default()
    };
    let treatment = SoundTreatment {
        loudness: Some(target),
        ..SoundTreatment::default()
    };
    let made = transcode(&path, treatment);
    let ours = made.loudness.expect("it is told");
    let gain = ours.gain.expect("it was made louder");
    assert!(gain > 6.0, "{ours:?}");
    assert_eq!(plain.of("opus"), made.of("opus"), "what is kept stays as it came");
    let aac = dir.path().join("made.aac");
    std::fs::write(&aac, made.adts("aac")).unwrap();
    let theirs = judged(&aac, "");
    eprintln!("{ours:?}, ffmpeg of the coded {theirs:?}");
    assert!((theirs.0 - target.integrated).abs() <= 0.3, "{theirs:?}");
    assert!((ours.integrated - target.integrated).abs() <= 0.2, "{ours:?}");
    assert!(ours.true_peak <= target.true_peak + 0.05, "{ours:?}");
    assert!(
        theirs.2 <= target.true_peak + 0.7,
        "AAC adds a little: {theirs:?}"
    );
    let times = |made: &Made| made.times("aac");
    assert_eq!(times(&plain), times(&made));
    let before = dir.path().join("plain.aac");
    std::fs::write(&before, plain.adts("aac")).unwrap();
    assert_eq!(
        lag(&decoded_samples(&before, "aac"), &decoded_samples(&aac, "aac")),
        0
    );
    assert_eq!(plain.pcm_line(), made.pcm_line(), "captions hear what came");
}

/// By how many samples `late` lies behind `line`, where they are most alike; looked for within 12 ms: the network's frame is 10 ms.
fn lag(line: &[f32], late: &[f32]) -> i64 {
    let alike = |by: i64| -> f64 {
        let pairs = (2_000..line.len().min(late.len()) as i64 - 2_000).step_by(5);
        pairs
            .map(|at| f64::from(line[at as usize]) * f64::from(late[(at + by) as usize]))
            .sum()
    };
    (-600..=600)
        .max_by(|a, b| alike(*a).total_cmp(&alike(*b)))
        .unwrap_or_default()
}

/// The mean power of 20 ms frames, decibels.
fn powers(line: &[f32]) -> Vec<f64> {
    line.chunks_exact(960)
        .map(|frame| {
            let sum: f64 = frame.iter().map(|it| f64::from(*it).powi(2)).sum();
            10.0 * (sum / 960.0 + 1e-12).log10()
        })
        .collect()
}

fn mean_power(powers: &[f64], of: &[usize]) -> f64 {
    let sum: f64 = of.iter().map(|at| 10f64.powf(powers[*at] / 10.0)).sum();
    10.0 * (sum / of.len() as f64).log10()
}

#[test]
fn noise_is_suppressed_and_speech_stays_where_and_what_it_was() {
    let Some(speech) = shared("media/speech/librispeech-test-other/1688-142285-0000.flac") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let clean = ffmpeg(
        &format!("-i {} -ar 48000 -ac 1 -c:a pcm_s16le", speech.display()),
        &dir.path().join("clean.mkv"),
    );
    let noise = "anoisesrc=color=pink:seed=11:sample_rate=48000:amplitude=0.03";
    let noisy = ffmpeg(
        &format!(
            "-i {} -f lavfi -i {noise} -filter_complex [0:a][1:a]amix=inputs=2:duration=first:normalize=0 -c:a pcm_s16le",
            clean.display()
        ),
        &dir.path().join("noisy.mkv"),
    );
    let aac = |path: &Path, suppress_noise: bool| {
        let treatment = SoundTreatment {
            suppress_noise,
            ..SoundTreatment::default()
        };
        let made = transcode(path, treatment);
        let coded = dir.path().join(format!("{suppress_noise}.aac"));
        std::fs::write(&coded, made.adts("aac")).unwrap();
        (decoded_samples(&coded, "aac"), made)
    };
    let (original, _) = aac(&clean, false);
    let (before, plain) = aac(&noisy, false);
    let (after, made) = aac(&noisy, true);
    assert_eq!(plain.times("aac"), made.times("aac"));
    assert_eq!(before.len(), after.len());
    assert_eq!(plain.pcm_line(), made.pcm_line(), "captions hear what came");
    let lag = lag(&original, &after);
    assert!(lag.abs() <= 48, "speech lies {lag} samples from where it was");
    let (original, before, after) = (powers(&original), powers(&before), powers(&after));
    let count = original.len().min(after.len());
    let mut order: Vec<usize> = (25..count - 5).collect(); // the network takes half a second to know the noise
    order.sort_by(|a, b| original[*a].total_cmp(&original[*b]));
    let (pauses, spoken) = (&order[..order.len() / 10], &order[order.len() / 2..]);
    let fell = mean_power(&before, pauses) - mean_power(&after, pauses);
    let changed = mean_power(&after, spoken) - mean_power(&original, spoken);
    eprintln!(
        "noise {:.1} dB, fell by {fell:.1} dB; speech {:.1} dB, changed by {changed:.2} dB; lag {lag}",
        mean_power(&before, pauses),
        mean_power(&original, spoken)
    );
    assert!(fell >= 10.0, "noise fell by {fell:.1} dB");
    assert!(changed.abs() <= 1.5, "speech changed by {changed:.2} dB");
}
