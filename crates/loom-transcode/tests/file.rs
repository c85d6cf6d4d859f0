//! Files through the GStreamer backend, judged by ffmpeg.
#![cfg(feature = "gst")]

mod support;

use loom_transcode::{Backend, Capabilities, GstBackend, Wanted, plan, probe_file};
use support::{Made, drain, ffmpeg, judge_video, pictures, shared};

fn transcode(path: &std::path::Path, wanted: &Wanted) -> Made {
    let info = probe_file(path).unwrap();
    let plan = plan(&info.shape(), wanted, &Capabilities::probe().unwrap()).unwrap();
    eprintln!("{info:?}\n{plan}");
    let made = drain(GstBackend::new().unwrap().file(&plan, path).unwrap());
    assert!(made.failed.is_empty(), "{:?}", made.failed);
    made
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
    eprintln!("{:?}", made.warnings);
}

#[test]
fn the_shared_film() {
    let Some(path) = shared("media/natural/big-buck-bunny-1080p-30sec.mp4") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let start = std::time::Instant::now();
    let made = transcode(&path, &Wanted::default());
    eprintln!("{:?}", start.elapsed());
    for id in made.packets.keys() {
        eprintln!("{id} {} keys {:?}", made.of(id).len(), made.key_times(id).len());
    }
    judge_video(&made, "360p", dir.path());
    eprintln!("{:?}", made.warnings);
}
