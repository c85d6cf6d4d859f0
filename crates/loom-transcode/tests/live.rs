//! Live tracks through the GStreamer backend, judged by ffmpeg.
#![cfg(feature = "gst")]

mod support;

use std::time::Duration;

use loom_core::{CodecParameters, Media, Packet, TrackFormat, TrackId};
use loom_transcode::{Backend, Capabilities, GstBackend, Plan, SourceShape, Wanted, plan, probe_file};
use support::{Made, drain, ffmpeg, judge_video, pictures};

const VIDEO: TrackId = TrackId(7);
const AUDIO: TrackId = TrackId(9);

/// A publisher's packets, taken from a file that ffmpeg made: H.264 without reordering, and Opus.
struct Publisher {
    formats: Vec<TrackFormat>,
    media: Vec<Media>,
}

impl Publisher {
    fn h264_and_opus(w: u32, h: u32, secs: f64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = ffmpeg(
            &format!(
                "{} -f lavfi -i sine=frequency=440:sample_rate=48000:duration={secs} -c:v libx264 -preset ultrafast \
                 -tune zerolatency -g 30 -pix_fmt yuv420p -c:a libopus",
                pictures(w, h, 30, secs)
            )
            .replace("  ", " "),
            &dir.path().join("in.mkv"),
        );
        let info = probe_file(&path).unwrap();
        let wanted = Wanted {
            rungs: Vec::new(),
            aac: false,
            captions_pcm: false,
            poster: false,
            ..Wanted::default()
        };
        let plan = plan(&info.shape(), &wanted, &Capabilities::probe().unwrap()).unwrap();
        Self::of(drain(GstBackend::new().unwrap().file(&plan, &path).unwrap()))
    }

    fn of(made: Made) -> Self {
        let mut formats = Vec::new();
        let mut media = Vec::new();
        for (id, all) in &made.formats {
            let codec = all[0].clone();
            let track = if matches!(codec, CodecParameters::Video(_)) {
                VIDEO
            } else {
                AUDIO
            };
            formats.push(TrackFormat { track, codec });
            media.extend(
                made.of(id)
                    .iter()
                    .cloned()
                    .map(|packet| Packet { track, ..packet }),
            );
        }
        media.sort_by_key(|it: &Packet| it.dts);
        Self {
            formats,
            media: media.into_iter().map(Media::Packet).collect(),
        }
    }

    fn plan(&self, cores: usize, wanted: &Wanted) -> Plan {
        let mut can = Capabilities::probe().unwrap();
        can.cores = cores;
        plan(&SourceShape::from_formats(&self.formats), wanted, &can).unwrap()
    }

    /// Pushes at most this many times as fast as real time.
    fn run(self, plan: &Plan, speed: f64) -> Made {
        eprintln!("{plan}");
        let (mut feed, outputs) = GstBackend::new().unwrap().live(plan, &self.formats).unwrap();
        let pusher = std::thread::spawn(move || {
            let started = std::time::Instant::now();
            for media in self.media {
                if let Media::Packet(packet) = &media {
                    let due = Duration::from_secs_f64(packet.dts.secs_f64().max(0.0) / speed);
                    std::thread::sleep(due.saturating_sub(started.elapsed()));
                }
                feed.push(media);
            }
            feed.finish();
        });
        let made = drain(outputs);
        pusher.join().unwrap();
        made
    }
}

#[test]
fn a_live_source_is_kept_and_its_rung_has_the_same_key_pictures() {
    let publisher = Publisher::h264_and_opus(640, 480, 4.0);
    let plan = publisher.plan(2, &Wanted::default());
    let made = publisher.run(&plan, 4.0);
    assert!(made.failed.is_empty(), "{:?}", made.failed);
    assert_eq!(made.of("source").len(), 120);
    assert_eq!(made.key_times("360p"), made.key_times("source"));
    assert!(made.key_times("source").len() >= 4);
    assert!(made.of("360p").len() > 60, "{}", made.of("360p").len());
    let dir = tempfile::tempdir().unwrap();
    judge_video(&made, "source", dir.path());
    judge_video(&made, "360p", dir.path());
    made.assert_aac_is_contiguous("aac");
    assert!(!made.of("opus").is_empty());
    assert_eq!(made.posters.len(), 1);
    eprintln!("{:?} {:?}", made.warnings, made.posters[0].pts);
    let (from, line) = made.pcm_line();
    assert!((from.millis()).abs() < 30, "{from}");
    assert!((3.9..4.2).contains(&(line.len() as f64 / 16_000.0)));
}
