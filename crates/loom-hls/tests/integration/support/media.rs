//! Media that ffmpeg encodes for a test, taken apart into packets by readers that are not ours.

use std::io::Cursor;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use loom_core::codec::{aac, av1, h264, hevc, opus, vp9};
use loom_core::{CodecParameters, MediaTime, Packet, RenditionId, Timescale, VideoCodec, VideoParameters};
use loom_hls::{RenditionInfo, RenditionKind};

use super::{Stream, audio, packet, video};

/// Whether the programs that judge are there; says so loudly where they are not.
pub(crate) fn have_ffmpeg() -> bool {
    let there = ["ffmpeg", "ffprobe"].iter().all(|program| {
        Command::new(program)
            .arg("-version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|s| s.success())
    });
    if !there {
        eprintln!("SKIPPED: ffmpeg or ffprobe is not installed, and nothing else here judges decodability");
    }
    there
}

/// Runs ffmpeg and gives what it writes to standard output.
pub(crate) fn ffmpeg(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("ffmpeg")
        .args(["-hide_banner", "-loglevel", "error", "-nostdin"])
        .args(arguments)
        .arg("-")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// Decodes every stream of `input` and gives what ffmpeg complains of.
pub(crate) fn complaints(input: &Path) -> String {
    let output = Command::new("ffmpeg")
        .args([
            "-hide_banner",
            "-loglevel",
            "warning",
            "-nostdin",
            "-xerror",
            "-allowed_extensions",
            "ALL",
        ])
        .arg("-i")
        .arg(input)
        .args(["-map", "0", "-map", "-0:s", "-f", "null", "-"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() {
        text
    } else {
        format!("{}: {text}", output.status)
    }
}

/// As [`complaints`], for a file that is no playlist.
pub(crate) fn complaints_of_file(input: &Path) -> String {
    let output = Command::new("ffmpeg")
        .args([
            "-hide_banner",
            "-loglevel",
            "warning",
            "-nostdin",
            "-xerror",
            "-i",
        ])
        .arg(input)
        .args(["-map", "0", "-f", "null", "-"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() {
        text
    } else {
        format!("{}: {text}", output.status)
    }
}

/// Each packet of a one-stream input as ffprobe sees it: pts, dts, duration in seconds, whether it is a key packet.
pub(crate) fn probe_packets(input: &Path, select: &str) -> Vec<(f64, f64, f64, bool)> {
    let output = Command::new("ffprobe")
        .args([
            "-loglevel",
            "error",
            "-select_streams",
            select,
            "-show_entries",
            "packet=pts_time,dts_time,duration_time,flags",
        ])
        .args(["-of", "csv=p=0"])
        .arg(input)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter(|line| line.split(',').count() >= 4) // the others are side data
        .map(|line| {
            let fields: Vec<&str> = line.split(',').collect();
            let number = |at: usize| fields[at].parse().unwrap_or(f64::NAN);
            (number(0), number(1), number(2), fields[3].contains('K'))
        })
        .collect()
}

/// A moving test picture as H.264, `bframes` between the others, a key frame every `gop` pictures at 30 a second.
pub(crate) fn h264_stream(
    name: &str,
    width: u32,
    height: u32,
    seconds: u32,
    gop: u32,
    bframes: u32,
) -> Stream {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("made.mp4");
    let source = format!("testsrc2=size={width}x{height}:rate=30:duration={seconds}");
    let x264 = format!("keyint={gop}:min-keyint={gop}:scenecut=0:bframes={bframes}:threads=1");
    let arguments = [
        "-f",
        "lavfi",
        "-i",
        &source,
        "-pix_fmt",
        "yuv420p",
        "-c:v",
        "libx264",
        "-preset",
        "veryfast",
        "-x264-params",
        &x264,
        "-y",
        file.to_str().unwrap(),
        "-f",
        "null",
    ];
    ffmpeg(&arguments);
    h264_of_mp4(name, width, height, std::fs::read(&file).unwrap())
}

/// Pictures as H.264 from an MP4, the first of them shown at zero.
pub(crate) fn h264_of_mp4(name: &str, width: u32, height: u32, data: Vec<u8>) -> Stream {
    let size = data.len() as u64;
    let mut reader = mp4::Mp4Reader::read_header(Cursor::new(data), size).unwrap();
    let track = &reader.tracks()[&1];
    let scale = Timescale::new(track.timescale()).unwrap();
    let (sps, pps) = (
        track.sequence_parameter_set().unwrap(),
        track.picture_parameter_set().unwrap(),
    );
    let codec = CodecParameters::Video(h264::parameters(sps, &[Bytes::copy_from_slice(pps)]).unwrap());
    let count = reader.sample_count(1).unwrap();
    let mut packets: Vec<Packet> = (1..=count)
        .map(|n| {
            let sample = reader.read_sample(1, n).unwrap().unwrap();
            let dts = MediaTime::from_ticks(sample.start_time as i64, scale);
            let pts = MediaTime::from_ticks(
                sample.start_time as i64 + i64::from(sample.rendering_offset),
                scale,
            );
            packet(pts, dts, None, sample.is_sync, sample.bytes)
        })
        .collect();
    // the file's edit list is not read: shift so that the first picture is shown at zero
    let first = Duration::from_nanos(packets[0].pts.nanos() as u64);
    for packet in &mut packets {
        packet.pts = packet.pts - first;
        packet.dts = packet.dts - first;
    }
    Stream {
        info: video(name, width, height),
        codec,
        packets,
    }
}

/// A tone as AAC-LC at 48 kHz, stereo.
pub(crate) fn aac_stream(name: &str, seconds: u32) -> Stream {
    let source = format!("sine=frequency=440:sample_rate=48000:duration={seconds}");
    let adts = ffmpeg(&[
        "-f", "lavfi", "-i", &source, "-ac", "2", "-c:a", "aac", "-f", "adts",
    ]);
    let mut packets = Vec::new();
    let mut at = 0;
    let scale = Timescale::new(48_000).unwrap();
    while at + 7 <= adts.len() {
        let head = &adts[at..];
        let length = usize::from(head[3] & 3) << 11 | usize::from(head[4]) << 3 | usize::from(head[5]) >> 5;
        let pts = MediaTime::from_ticks(packets.len() as i64 * i64::from(aac::FRAME_LENGTH), scale);
        let lasts = Duration::from_nanos(1024 * 1_000_000_000 / 48_000);
        packets.push(packet(pts, pts, Some(lasts), true, head[7..length].to_vec()));
        at += length;
    }
    Stream {
        info: audio(name),
        codec: CodecParameters::Audio(super::aac_stereo()),
        packets,
    }
}

/// A tone as Opus, from the pages of an Ogg file.
pub(crate) fn opus_stream(name: &str, seconds: u32) -> Stream {
    let source = format!("sine=frequency=440:sample_rate=48000:duration={seconds}");
    let ogg = ffmpeg(&[
        "-f", "lavfi", "-i", &source, "-ac", "2", "-c:a", "libopus", "-f", "ogg",
    ]);
    let mut whole = Vec::new();
    let mut frames: Vec<Vec<u8>> = Vec::new();
    let mut at = 0;
    while at + 27 <= ogg.len() {
        assert_eq!(&ogg[at..at + 4], b"OggS");
        let count = usize::from(ogg[at + 26]);
        let lacing = &ogg[at + 27..at + 27 + count];
        let mut from = at + 27 + count;
        for lace in lacing {
            whole.extend_from_slice(&ogg[from..from + usize::from(*lace)]);
            from += usize::from(*lace);
            if *lace < 255 {
                frames.push(std::mem::take(&mut whole));
            }
        }
        at = from;
    }
    let mut pts = MediaTime::ZERO;
    let packets = frames[2..]
        .iter()
        .map(|frame| {
            let lasts = opus::packet_duration(frame).unwrap();
            let made = packet(pts, pts, Some(lasts), true, frame.clone());
            pts = pts + lasts;
            made
        })
        .collect();
    Stream {
        info: audio(name),
        codec: CodecParameters::Audio(opus::parameters(2, opus::DEFAULT_PRE_SKIP)),
        packets,
    }
}

/// A moving test picture as AV1 or VP9, from an IVF file.
pub(crate) fn ivf_stream(
    name: &str,
    codec: VideoCodec,
    width: u32,
    height: u32,
    seconds: u32,
    gop: u32,
) -> Stream {
    let encoder: &[&str] = match codec {
        VideoCodec::Av1 => &[
            "libaom-av1",
            "-cpu-used",
            "8",
            "-usage",
            "realtime",
            "-lag-in-frames",
            "0",
        ],
        _ => &[
            "libvpx-vp9",
            "-deadline",
            "realtime",
            "-cpu-used",
            "8",
            "-auto-alt-ref",
            "0",
        ],
    };
    ivf_stream_by(encoder, name, codec, (width, height), seconds, gop)
}

/// The same by an encoder and its options.
pub(crate) fn ivf_stream_by(
    encoder: &[&str],
    name: &str,
    codec: VideoCodec,
    (width, height): (u32, u32),
    seconds: u32,
    gop: u32,
) -> Stream {
    let source = format!("testsrc2=size={width}x{height}:rate=30:duration={seconds}");
    let gop = gop.to_string();
    let mut arguments = vec![
        "-f",
        "lavfi",
        "-i",
        &source,
        "-pix_fmt",
        "yuv420p",
        "-g",
        &gop,
        "-keyint_min",
        &gop,
        "-b:v",
        "300k",
    ];
    arguments.push("-c:v");
    arguments.extend(encoder);
    arguments.extend(["-f", "ivf"]);
    let ivf = ffmpeg(&arguments);
    let mut packets = Vec::new();
    let mut parameters: Option<VideoParameters> = None;
    let mut at = 32;
    let (rate, scale) = (u32_at(&ivf, 16), u32_at(&ivf, 20));
    while at + 12 <= ivf.len() {
        let length = u32_at(&ivf, at) as usize;
        let ticks = u32_at(&ivf, at + 4);
        let frame = &ivf[at + 12..at + 12 + length];
        at += 12 + length;
        let pts = MediaTime::from_secs_f64(f64::from(ticks) * f64::from(scale) / f64::from(rate));
        let (data, key) = match codec {
            VideoCodec::Av1 => {
                let obus = av1::obus(frame).unwrap();
                let header = obus.iter().find(|o| o.obu_type == av1::obu_type::SEQUENCE_HEADER);
                if let (Some(header), None) = (header, &parameters) {
                    parameters = Some(av1::parameters(header.whole).unwrap());
                }
                let kept = obus
                    .iter()
                    .filter(|o| o.obu_type != av1::obu_type::TEMPORAL_DELIMITER);
                (
                    kept.flat_map(|o| o.whole.iter().copied()).collect::<Vec<u8>>(),
                    header.is_some(),
                )
            }
            _ => {
                let header = vp9::frame_header(frame).unwrap();
                if let (vp9::FrameHeader::Key(key), None) = (header, &parameters) {
                    parameters = Some(VideoParameters {
                        codec,
                        width: key.width,
                        height: key.height,
                        config: key.config(),
                    });
                }
                (frame.to_vec(), matches!(header, vp9::FrameHeader::Key(_)))
            }
        };
        packets.push(packet(pts, pts, None, key, data));
    }
    Stream {
        info: RenditionInfo {
            id: RenditionId::new(name).unwrap(),
            kind: RenditionKind::Video {
                width,
                height,
                frame_rate: 30.0,
            },
            bandwidth: 600_000,
        },
        codec: CodecParameters::Video(parameters.unwrap()),
        packets,
    }
}

fn u32_at(data: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(data[at..at + 4].try_into().unwrap())
}

/// A moving test picture as HEVC, 10 bits deep, of BT.2020 with PQ, from a byte stream with delimiters.
pub(crate) fn hevc_stream(name: &str, width: u32, height: u32, seconds: u32, gop: u32) -> Stream {
    let source = format!("testsrc2=size={width}x{height}:rate=30:duration={seconds}");
    let x265 = format!(
        "log-level=error:keyint={gop}:min-keyint={gop}:scenecut=0:bframes=0:aud=1:pools=1:colorprim=9:transfer=16:colormatrix=9"
    );
    let data = ffmpeg(&[
        "-f",
        "lavfi",
        "-i",
        &source,
        "-pix_fmt",
        "yuv420p10le",
        "-c:v",
        "libx265",
        "-preset",
        "ultrafast",
        "-x265-params",
        &x265,
        "-f",
        "hevc",
    ]);
    let mut units: Vec<Vec<&[u8]>> = Vec::new();
    for nal in h264::annex_b_nals(&data) {
        match (hevc::nal_unit_type(nal), units.last_mut()) {
            (Some(hevc::nal_type::AUD), _) | (_, None) => units.push(vec![nal]),
            (_, Some(unit)) => unit.push(nal),
        }
    }
    let units: Vec<hevc::AccessUnit> = units.into_iter().map(hevc::AccessUnit::from_nals).collect();
    let parameters = hevc::parameters(&units[0].vps, &units[0].sps, &units[0].pps).unwrap();
    let packets = (0..)
        .zip(units)
        .map(|(n, unit)| {
            let pts = MediaTime::from_ticks(n * 3_000, Timescale::VIDEO);
            packet(pts, pts, None, unit.key, unit.sample)
        })
        .collect();
    Stream {
        info: video(name, width, height),
        codec: CodecParameters::Video(parameters),
        packets,
    }
}
