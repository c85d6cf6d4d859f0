//! Elements that fail: when a graph starts, and while it runs. What was promised is made all the same.
#![cfg(feature = "gst")]

use crate::support::publisher::{Publisher, VIDEO};
use crate::support::{Made, block_on, drain, ffmpeg, judge_video, pictures};
use loom_core::Media;
use loom_transcode::{
    Backend, Capabilities, Crossing, GstBackend, MemoryDomain, Plan, Route, Rung, SourceVideoCodec, Wanted,
    plan, probe_file,
};

fn only(lines: u32) -> Wanted {
    Wanted {
        rungs: vec![Rung::new(lines, 800_000).unwrap()],
        poster: false,
        ..Wanted::default()
    }
}

/// On the way of decoded pictures something gives up after so many of them.
fn fails_after(pictures: u32, route: &Route) -> Route {
    let mut route = route.clone();
    route.crossings.push(Crossing {
        from: MemoryDomain::System,
        to: MemoryDomain::System,
        by: format!("identity error-after={pictures}"),
        rendition: None,
    });
    route
}

fn breaking(mut plan: Plan, pictures: u32) -> Plan {
    let video = plan.video.as_mut().unwrap();
    let good = video.route.take().unwrap();
    video.route = Some(fails_after(pictures, &good));
    video.fallbacks = vec![good];
    plan
}

fn missing(made: &Made, id: &str) -> u64 {
    made.assert_pictures_add_up();
    made.counts[id].missed
}

#[test]
fn a_live_graph_that_fails_is_made_anew_and_goes_on_with_the_next_segment() {
    let publisher = Publisher::h264_and_opus(640, 480, 4.0);
    let plan = breaking(publisher.plan(2, &only(360)), 50);
    let made = publisher.run(&plan);
    assert!(made.failed.is_empty(), "{:?}", made.failed);
    assert_eq!(made.of("source").len(), 120, "what is kept is not touched");
    let told: Vec<_> = made
        .warnings
        .iter()
        .filter(|it| it.contains("goes on with avdec_h264"))
        .collect();
    assert_eq!(told.len(), 1, "{:?}", made.warnings);
    assert!(told[0].contains("identity"), "{told:?}");
    assert_eq!(
        made.formats["360p"].len(),
        1,
        "the same encoder makes the same parameter sets"
    );
    let (rung, keys) = (made.times("360p"), made.key_times("360p"));
    assert!(rung.windows(2).all(|pair| pair[0] < pair[1]), "{rung:?}");
    assert_eq!(
        keys,
        made.key_times("source"),
        "segments start where the source's do"
    );
    assert_eq!(rung.last(), made.times("source").last());
    assert_eq!(
        rung.len() as u64 + missing(&made, "360p"),
        120,
        "{:?}",
        made.warnings
    );
    assert!(missing(&made, "360p") <= 30, "at most one segment");
    judge_video(&made, "360p", tempfile::tempdir().unwrap().path());
    made.assert_aac_is_contiguous("aac");
}

#[test]
fn a_file_goes_on_from_where_its_graph_failed_though_key_frames_are_far_apart() {
    let dir = tempfile::tempdir().unwrap();
    let args = format!(
        "{} -c:v libx264 -preset ultrafast -bf 2 -g 600 -pix_fmt yuv420p",
        pictures(320, 240, 30, 6.0)
    );
    let path = ffmpeg(&args, &dir.path().join("in.mp4"));
    let wanted = Wanted {
        keep_source: false,
        rungs: [240, 120]
            .into_iter()
            .filter_map(|it| Rung::new(it, 400_000))
            .collect(),
        ..only(240)
    };
    let shape = probe_file(&path).unwrap().shape();
    let whole = plan(&shape, &wanted, &Capabilities::probe().unwrap()).unwrap();
    for after in [1, 20, 75, 130] {
        let made = drain(
            GstBackend::new()
                .unwrap()
                .file(&breaking(whole.clone(), after), &path)
                .unwrap(),
        );
        assert!(made.failed.is_empty(), "{:?}", made.failed);
        for id in ["240p", "120p"] {
            let times = made.times(id);
            assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{times:?}");
            // A segment that another rung had begun is not begun again by this one.
            let keys = made.key_times(id);
            assert!(keys.iter().all(|it| it % 2_000_000_000 == 0), "{after}: {keys:?}");
            assert_eq!(
                (keys[0], keys.last()),
                (0, Some(&4_000_000_000)),
                "{after}: {keys:?}"
            );
            // What was missed lies between the failure and the next segment.
            let hole = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
            assert!(hole <= 2_600_000_000, "{hole}");
            assert_eq!(
                made.of(id).len() as u64 + missing(&made, id),
                180,
                "{:?}",
                made.warnings
            );
            judge_video(&made, id, dir.path());
        }
    }
}

#[test]
fn a_list_that_names_devices_which_are_not_there_costs_nothing_but_a_warning() {
    let publisher = Publisher::h264_and_opus(640, 480, 2.0);
    let mut lying = Capabilities::probe().unwrap();
    for list in ["nvidia", "vaapi"] {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/capabilities");
        let text = std::fs::read_to_string(format!("{folder}/{list}.txt")).unwrap();
        lying
            .elements
            .extend(text.parse::<Capabilities>().unwrap().elements);
    }
    let shape = loom_transcode::SourceShape::from_formats(&publisher.formats);
    let plan = plan(&shape, &only(360), &lying).unwrap();
    assert!(
        plan.to_string().contains("nvh264dec (NVIDIA in CUDAMemory)"),
        "{plan}"
    );
    let made = publisher.run(&plan);
    assert!(made.failed.is_empty(), "{:?}", made.failed);
    assert_eq!(made.times("360p"), made.times("source"), "{:?}", made.warnings);
    assert!(
        made.warnings.iter().any(|it| it.contains("nvh264dec")),
        "{:?}",
        made.warnings
    );
    judge_video(&made, "360p", tempfile::tempdir().unwrap().path());
}

#[test]
fn a_decoder_that_refuses_the_stream_is_replaced_and_no_picture_is_missing() {
    let publisher = Publisher::h264_and_opus(640, 480, 2.0);
    let mut plan = publisher.plan(2, &only(360));
    let video = plan.video.as_mut().unwrap();
    video.fallbacks = vec![Route::cpu("vp9dec", "x264enc", 1), video.route.clone().unwrap()];
    video.route = Some(Route::cpu("vp8dec", "x264enc", 1));
    assert_eq!(video.source, SourceVideoCodec::H264);
    let made = publisher.run(&plan);
    assert!(made.failed.is_empty(), "{:?}", made.failed);
    assert_eq!(made.times("360p"), made.times("source"), "{:?}", made.warnings);
    assert_eq!(missing(&made, "360p"), 0);
}

#[test]
fn where_every_route_fails_the_rungs_end_and_the_source_goes_on() {
    let publisher = Publisher::h264_and_opus(640, 480, 3.0);
    let mut plan = publisher.plan(2, &only(360));
    let video = plan.video.as_mut().unwrap();
    let good = video.route.take().unwrap();
    video.route = Some(fails_after(20, &good));
    video.fallbacks.clear();
    let made = publisher.run(&plan);
    assert_eq!(made.of("source").len(), 90);
    assert_eq!(made.failed.len(), 1, "{:?}", made.failed);
    assert!(made.ended);
}

#[test]
fn everything_ends_when_dropped_while_a_graph_is_made_anew() {
    let names = || -> Vec<String> {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        tasks
            .filter_map(|it| std::fs::read_to_string(it.ok()?.path().join("comm")).ok())
            .filter(|it| it.starts_with("loom-video"))
            .collect()
    };
    let publisher = Publisher::h264_and_opus(640, 480, 1.0);
    let plan = breaking(publisher.plan(2, &only(360)), 3);
    for round in 0..10u64 {
        let (mut feed, mut outputs) = GstBackend::new()
            .unwrap()
            .live(&plan, &publisher.formats)
            .unwrap();
        for media in &publisher.media {
            if matches!(media, Media::Packet(packet) if packet.track == VIDEO) {
                feed.push(media.clone());
            }
        }
        block_on(outputs.recv()).expect("something comes");
        std::thread::sleep(std::time::Duration::from_millis(round * 7));
        drop(outputs);
        drop(feed);
    }
    // The thread that made a graph anew may be about to end; other tests have graphs too.
    for _ in 0..3_000 {
        if names().is_empty() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("{:?}", names());
}
