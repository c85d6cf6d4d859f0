//! What the tests share: material made by ffmpeg, a run's outputs put in order, and foreign judges.

#[cfg(feature = "gst")]
pub(crate) mod publisher;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use loom_core::codec::h264::{parameter_sets, sample_nals};
use loom_core::{CodecParameters, MediaTime, Packet, PcmFrame, Picture};
use loom_transcode::{Loudness, Output, Outputs, PictureCount};

/// Everything that came out of a run.
#[derive(Default)]
pub(crate) struct Made {
    pub(crate) formats: BTreeMap<String, Vec<CodecParameters>>,
    pub(crate) packets: BTreeMap<String, Vec<Packet>>,
    /// Times of pictures that were told to be left out.
    pub(crate) stills: BTreeMap<String, Vec<i64>>,
    pub(crate) pcm: Vec<PcmFrame>,
    pub(crate) loudness: Option<Loudness>,
    pub(crate) posters: Vec<Picture>,
    pub(crate) thumbnails: Vec<Picture>,
    pub(crate) progress: Vec<MediaTime>,
    pub(crate) warnings: Vec<String>,
    /// Rungs that were shed, or came back (`false`).
    pub(crate) shed: Vec<(String, bool)>,
    pub(crate) failed: Vec<(Option<String>, String)>,
    pub(crate) counts: BTreeMap<String, PictureCount>,
    pub(crate) ended: bool,
}

impl Made {
    pub(crate) fn take(&mut self, output: Output) {
        match output {
            Output::Format { rendition, codec } => {
                self.formats.entry(rendition.to_string()).or_default().push(codec);
            }
            Output::Packet { rendition, packet } => {
                let name = rendition.to_string();
                assert!(
                    self.formats.contains_key(&name),
                    "a packet of {name} before its format"
                );
                self.packets.entry(name).or_default().push(packet);
            }
            Output::Still { rendition, at } => {
                let name = rendition.to_string();
                let before = self.of(&name).last().map(|it| it.pts);
                assert!(
                    before.is_some_and(|before| before < at),
                    "{name}: {at} comes behind {before:?}"
                );
                self.stills.entry(name).or_default().push(at.nanos());
            }
            Output::Pcm(frame) => self.pcm.push(frame),
            Output::Loudness(loudness) => {
                assert!(self.loudness.replace(loudness).is_none(), "it is told once");
            }
            Output::Poster(picture) => self.posters.push(picture),
            Output::Thumbnail(picture) => self.thumbnails.push(picture),
            Output::Progress { done, .. } => self.progress.push(done),
            Output::Warning(text) => self.warnings.push(text),
            Output::Overload { rendition, shed } => self.shed.push((rendition.to_string(), shed)),
            Output::Failed { rendition, reason } => {
                self.failed.push((rendition.map(|it| it.to_string()), reason))
            }
            Output::Counted(count) => {
                self.counts.insert(count.rendition.to_string(), count);
            }
            Output::End => self.ended = true,
            other => panic!("unknown output {other:?}"),
        }
    }

    /// Every picture that was decoded came out of each rung, or was declared left out.
    pub(crate) fn assert_pictures_add_up(&self) {
        for (id, it) in &self.counts {
            assert_eq!(it.encoded, self.of(id).len() as u64, "{id}: {it:?}");
            assert_eq!(
                it.decoded,
                it.encoded + it.still + it.late + it.missed,
                "{id}: {it:?}"
            );
        }
    }

    pub(crate) fn of(&self, rendition: &str) -> &[Packet] {
        self.packets.get(rendition).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn times(&self, rendition: &str) -> Vec<i64> {
        self.of(rendition).iter().map(|it| it.pts.nanos()).collect()
    }

    pub(crate) fn key_times(&self, rendition: &str) -> Vec<i64> {
        self.of(rendition)
            .iter()
            .filter(|it| it.key)
            .map(|it| it.pts.nanos())
            .collect()
    }

    pub(crate) fn video(&self, rendition: &str) -> (u32, u32) {
        match &self.formats[rendition][0] {
            CodecParameters::Video(it) => (it.width, it.height),
            other => panic!("{rendition} is {other:?}"),
        }
    }

    /// The rendition as a byte stream of ISO/IEC 14496-10 Annex B, for foreign decoders.
    pub(crate) fn annex_b(&self, rendition: &str) -> Vec<u8> {
        let CodecParameters::Video(video) = &self.formats[rendition][0] else {
            panic!("{rendition} is no video");
        };
        let (sps, pps) = parameter_sets(&video.config).unwrap();
        let mut bytes = Vec::new();
        let mut put = |nal: &[u8]| {
            bytes.extend([0, 0, 0, 1]);
            bytes.extend(nal);
        };
        sps.iter().chain(&pps).for_each(|set| put(set));
        for packet in self.of(rendition) {
            sample_nals(&packet.data).unwrap().into_iter().for_each(&mut put);
        }
        bytes
    }

    /// The rendition as ADTS (ISO/IEC 14496-3 Annex 1.A), for foreign decoders.
    pub(crate) fn adts(&self, rendition: &str) -> Vec<u8> {
        let CodecParameters::Audio(audio) = &self.formats[rendition][0] else {
            panic!("{rendition} is no audio");
        };
        let config = u16::from_be_bytes([audio.config[0], audio.config[1]]);
        let (rate, channels) = (u64::from(config >> 7) & 15, u64::from(config >> 3) & 15);
        let mut bytes = Vec::new();
        for packet in self.of(rendition) {
            let len = packet.data.len() as u64 + 7;
            let header: u64 =
                0xfff << 44 | 1 << 40 | 1 << 38 | rate << 34 | channels << 30 | len << 13 | 0x7ff << 2;
            bytes.extend(&header.to_be_bytes()[1..]);
            bytes.extend(&packet.data[..]);
        }
        bytes
    }

    /// Contiguous frames: each begins at the tick where the one before it ends.
    pub(crate) fn assert_aac_is_contiguous(&self, rendition: &str) {
        let scale = self.formats[rendition][0].timescale();
        let ticks: Vec<i64> = self.of(rendition).iter().map(|it| it.pts.ticks(scale)).collect();
        assert!(ticks.len() > 2);
        for pair in ticks.windows(2) {
            assert_eq!(pair[1] - pair[0], 1024, "{ticks:?}");
        }
    }

    /// The samples of the PCM, which must have no holes, with the time of the first.
    pub(crate) fn pcm_line(&self) -> (MediaTime, Vec<f32>) {
        let first = self.pcm.first().expect("there is PCM");
        let mut line: Vec<f32> = Vec::new();
        for frame in &self.pcm {
            assert_eq!((frame.sample_rate, frame.channels), (16_000, 1));
            let wanted = first.pts.nanos() + line.len() as i64 * 62_500;
            assert!(
                (frame.pts.nanos() - wanted).abs() < 70_000,
                "a hole at {}",
                frame.pts
            );
            line.extend(&frame.samples);
        }
        (first.pts, line)
    }
}

/// Takes everything a run makes, for at most a minute.
pub(crate) fn drain(mut outputs: Outputs) -> Made {
    block_on(async move {
        let mut made = Made::default();
        while let Some(output) = outputs.recv().await {
            assert!(!made.ended, "something after the end");
            made.take(output);
        }
        assert!(made.ended, "the outputs closed without an end");
        made
    })
}

pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(async {
            tokio::time::timeout(Duration::from_secs(60), work)
                .await
                .expect("it takes no minute")
        })
}

pub(crate) fn shared(path: &str) -> Option<PathBuf> {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared")).join(path);
    if path.exists() {
        return Some(path);
    }
    eprintln!("skipped: {} is not here", path.display());
    None
}

/// Runs ffmpeg; its arguments are split at spaces.
pub(crate) fn ffmpeg(args: &str, out: &Path) -> PathBuf {
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-y"])
        .args(args.split_ascii_whitespace())
        .arg(out)
        .status()
        .expect("ffmpeg is installed");
    assert!(status.success(), "ffmpeg {args}");
    out.to_owned()
}

/// Pictures with motion, `secs` long, as an input for [`ffmpeg`].
pub(crate) fn pictures(w: u32, h: u32, fps: u32, secs: f64) -> String {
    format!("-f lavfi -i testsrc2=size={w}x{h}:rate={fps}:duration={secs}")
}

/// What ffmpeg decodes of a file, with every error counted as a failure: the count of pictures or samples.
pub(crate) fn decodes_without_error(path: &Path, format: &str) -> u64 {
    let out = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-xerror", "-f", format, "-i"])
        .arg(path)
        .args(["-fps_mode", "passthrough", "-f", "framecrc", "-"])
        .output()
        .expect("ffmpeg is installed");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(
        out.status.success() && said.trim().is_empty(),
        "{}: {said}",
        path.display()
    );
    String::from_utf8_lossy(&out.stdout)
        .lines()
        .filter(|it| !it.starts_with('#'))
        .count() as u64
}

/// Decodes a raw stream to mono floats at 48 kHz.
pub(crate) fn decoded_samples(path: &Path, format: &str) -> Vec<f32> {
    let out = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-f", format, "-i"])
        .arg(path)
        .args(["-ac", "1", "-ar", "48000", "-f", "f32le", "-"])
        .output()
        .expect("ffmpeg is installed");
    out.stdout
        .chunks_exact(4)
        .map(|it| f32::from_le_bytes([it[0], it[1], it[2], it[3]]))
        .collect()
}

/// Fields of a file's first video stream as ffprobe reads them.
pub(crate) fn ffprobe(path: &Path, entries: &str) -> String {
    let out = Command::new("ffprobe")
        .args(["-v", "error", "-show_entries", entries, "-of", "csv=p=0"])
        .arg(path)
        .output()
        .expect("ffprobe is installed");
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

/// Decodes the video of a rendition by ffmpeg and counts its pictures.
pub(crate) fn judge_video(made: &Made, rendition: &str, folder: &Path) {
    let path = folder.join(format!("{rendition}.h264"));
    std::fs::write(&path, made.annex_b(rendition)).unwrap();
    assert_eq!(
        decodes_without_error(&path, "h264"),
        made.of(rendition).len() as u64,
        "{rendition}"
    );
    let (w, h) = made.video(rendition);
    assert!(
        ffprobe(&path, "stream=width,height").starts_with(&format!("{w},{h}")),
        "{rendition}"
    );
}

/// What this process's threads are called.
#[cfg(feature = "gst")]
pub(crate) fn threads() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    tasks
        .filter_map(|it| std::fs::read_to_string(it.path().join("comm")).ok())
        .collect()
}

/// Waits until no thread of a run is left; the limit is there to fail at all.
#[cfg(feature = "gst")]
pub(crate) fn runs_end(what: &str) {
    let since = std::time::Instant::now();
    while threads().iter().any(|it| it.starts_with("loom-")) {
        assert!(
            since.elapsed() < Duration::from_secs(20),
            "{what}: {:?}",
            threads()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}
