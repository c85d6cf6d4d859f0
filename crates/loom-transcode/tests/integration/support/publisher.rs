//! A publisher's packets, pushed live.

use std::time::Duration;

use loom_core::codec::av1;
use loom_core::{
    CodecParameters, Media, MediaTime, Packet, TrackFormat, TrackId, VideoCodec, VideoParameters,
};
use loom_transcode::{Backend, Capabilities, GstBackend, Plan, SourceShape, Wanted, plan, probe_file};

use super::{Made, block_on, drain, ffmpeg, pictures, shared};

pub(crate) const VIDEO: TrackId = TrackId(7);
pub(crate) const AUDIO: TrackId = TrackId(9);

/// A publisher's packets, taken from a file that ffmpeg made: H.264 without reordering, and Opus.
pub(crate) struct Publisher {
    pub(crate) formats: Vec<TrackFormat>,
    pub(crate) media: Vec<Media>,
}

impl Publisher {
    pub(crate) fn h264_and_opus(w: u32, h: u32, secs: f64) -> Self {
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
        Self::from_file(&path)
    }

    pub(crate) fn from_file(path: &std::path::Path) -> Self {
        let info = probe_file(path).unwrap();
        let wanted = Wanted {
            rungs: Vec::new(),
            aac: false,
            captions_pcm: false,
            poster: false,
            ..Wanted::default()
        };
        let plan = plan(&info.shape(), &wanted, &Capabilities::probe().unwrap()).unwrap();
        Self::of(drain(GstBackend::new().unwrap().file(&plan, path).unwrap()))
    }

    /// The video alone of another codec, from the packets of an IVF file.
    pub(crate) fn ivf(codec: VideoCodec, encoder: &str, secs: f64) -> Self {
        let args = format!(
            "{} -pix_fmt yuv420p {encoder} -g 30",
            pictures(480, 400, 15, secs)
        );
        Self::from_ivf(codec, (480, 400), &args, 15)
    }

    pub(crate) fn from_ivf(codec: VideoCodec, (width, height): (u32, u32), args: &str, rate: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = std::fs::read(ffmpeg(&args.replace("  ", ""), &dir.path().join("in.ivf"))).unwrap();
        let mut media = Vec::new();
        let mut config = bytes::Bytes::new();
        let mut at = 32;
        while let Some(header) = file.get(at..at + 12) {
            let len = u32::from_le_bytes(header[..4].try_into().unwrap()) as usize;
            let ticks = u64::from_le_bytes(header[4..].try_into().unwrap());
            let mut data = &file[at + 12..at + 12 + len];
            at += 12 + len;
            let key = match codec {
                VideoCodec::Vp8 => data[0] & 1 == 0,
                VideoCodec::Vp9 => data[0] & 0b100 == 0,
                _ => {
                    data = data.strip_prefix(&[0x12, 0]).unwrap_or(data);
                    let all = av1::obus(data).unwrap();
                    let sequence = all
                        .iter()
                        .find(|it| it.obu_type == av1::obu_type::SEQUENCE_HEADER);
                    if let Some(sequence) = sequence {
                        config = av1::parameters(sequence.whole).unwrap().config;
                    }
                    sequence.is_some()
                }
            };
            let pts = MediaTime::from_nanos((ticks * 1_000_000_000 / rate) as i64);
            let data = bytes::Bytes::copy_from_slice(data);
            media.push(Media::Packet(Packet {
                track: VIDEO,
                pts,
                dts: pts,
                duration: None,
                key,
                data,
            }));
        }
        let codec = CodecParameters::Video(VideoParameters {
            codec,
            width,
            height,
            config,
        });
        Self {
            formats: vec![TrackFormat { track: VIDEO, codec }],
            media,
        }
    }

    pub(crate) fn of(made: Made) -> Self {
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

    pub(crate) fn plan(&self, cores: usize, wanted: &Wanted) -> Plan {
        let mut can = Capabilities::probe().unwrap();
        can.cores = cores;
        plan(&SourceShape::from_formats(&self.formats), wanted, &can).unwrap()
    }

    /// Pushes each picture when those before it have come out, but for a few: nothing is ever late.
    pub(crate) fn run(self, plan: &Plan) -> Made {
        self.run_ahead(plan, 4, || ())
    }

    pub(crate) fn run_ahead(self, plan: &Plan, most: usize, before_the_end: impl FnOnce()) -> Made {
        let ahead = |pushed: usize, made: &Made| {
            let out = |id: &str| made.of(id).len();
            let rungs = plan.video.iter().flat_map(|it| &it.rungs);
            rungs
                .map(|it| pushed.saturating_sub(out(it.id.as_str())))
                .max()
                .unwrap_or(0)
        };
        let (mut feed, mut outputs) = GstBackend::new().unwrap().live(plan, &self.formats).unwrap();
        block_on(async move {
            let mut made = Made::default();
            let mut pushed = 0;
            for media in self.media {
                pushed += usize::from(matches!(&media, Media::Packet(packet) if packet.track == VIDEO));
                feed.push(media);
                while ahead(pushed, &made) > most && made.failed.is_empty() {
                    match tokio::time::timeout(Duration::from_millis(100), outputs.recv()).await {
                        Ok(output) => made.take(output.expect("it goes on")),
                        Err(_) => break,
                    }
                }
            }
            before_the_end();
            feed.finish();
            while let Some(output) = outputs.recv().await {
                made.take(output);
            }
            assert!(made.ended);
            made
        })
    }

    /// A screen recording of ten pictures a second, 1230×720, with a tone.
    pub(crate) fn screen() -> Option<Self> {
        let path = shared("media/screen/spyder-files-commit.webm")?;
        let dir = tempfile::tempdir().unwrap();
        let path = ffmpeg(
            &format!(
                "-i {} -f lavfi -i sine=duration=35 -map 0:v -map 1:a -c:v libx264 -preset veryfast -tune zerolatency \
                 -g 20 -pix_fmt yuv420p -c:a libopus -ac 2 -shortest",
                path.display()
            ),
            &dir.path().join("in.mkv"),
        );
        Some(Self::from_file(&path))
    }

    /// Pushes as fast as it can.
    pub(crate) fn rush(self, plan: &Plan) -> Made {
        let (mut feed, outputs) = GstBackend::new().unwrap().live(plan, &self.formats).unwrap();
        let pusher = std::thread::spawn(move || {
            for media in self.media {
                std::thread::sleep(Duration::from_micros(500));
                feed.push(media);
            }
            feed.finish();
        });
        let made = drain(outputs);
        pusher.join().unwrap();
        made
    }
}
