//! Files in chunks, judged by ffmpeg.
#![cfg(feature = "gst")]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use crate::support::{Made, block_on, drain, ffmpeg, judge_video, pictures, shared};
use loom_transcode::{
    Backend, Capabilities, Chunk, ChunkRequest, ChunkWorker, GstBackend, Plan, SourceChunk, Wanted, plan,
    probe_file, read_chunks,
};

fn planned(path: &Path, wanted: &Wanted) -> Plan {
    let info = probe_file(path).unwrap();
    let plan = plan(&info.shape(), wanted, &Capabilities::probe().unwrap()).unwrap();
    eprintln!("{info:?}\n{plan}");
    plan
}

fn read(plan: &Plan, path: &Path, least: Duration) -> Vec<SourceChunk> {
    let mut source = read_chunks(plan, path, least).unwrap();
    block_on(async {
        let mut chunks = Vec::new();
        while let Some(chunk) = source.recv().await {
            chunks.push(chunk.unwrap());
        }
        chunks
    })
}

/// Encodes every chunk, and puts what comes of them one behind the other.
fn transcode(path: &Path, wanted: &Wanted, least: Duration) -> (Vec<SourceChunk>, Made) {
    let plan = planned(path, wanted);
    let chunks = read(&plan, path, least);
    let worker = GstBackend::new().unwrap();
    let mut made = Made::default();
    let kept = chunks.iter().flat_map(|source| source.kept.iter().cloned());
    kept.for_each(|output| made.take(output));
    for source in &chunks {
        // By bytes, as to another machine.
        let request = ChunkRequest::from_bytes(&source.request.to_bytes()).unwrap();
        let chunk = block_on(worker.encode(Arc::new(request))).unwrap();
        chunk.check(&source.request).unwrap();
        let chunk = Chunk::from_bytes(&chunk.to_bytes()).unwrap();
        let mut part = Made::default();
        chunk.outputs.into_iter().for_each(|output| part.take(output));
        part.assert_pictures_add_up();
        for (id, formats) in part.formats {
            made.formats.entry(id).or_default().extend(formats);
        }
        for (id, packets) in part.packets {
            made.packets.entry(id).or_default().extend(packets);
        }
        made.posters.extend(part.posters);
        made.thumbnails.extend(part.thumbnails);
        made.warnings.extend(part.warnings);
    }
    for (id, formats) in &made.formats {
        assert!(
            formats.windows(2).all(|two| two[0] == two[1]),
            "{id} changes its format: {formats:?}"
        );
    }
    (chunks, made)
}

fn encoded(lossless: bool) -> Wanted {
    Wanted {
        keep_source: lossless,
        skip_still: false,
        key_interval: Duration::from_secs(2),
        ..Wanted::default()
    }
}

/// The instants of a file's pictures in the order of their showing, nanoseconds, as ffprobe reads them.
fn shown(path: &Path) -> Vec<i64> {
    let out = Command::new("ffprobe")
        .args([
            "-v",
            "error",
            "-select_streams",
            "v",
            "-show_entries",
            "frame=pts_time",
            "-of",
            "csv=p=0",
        ])
        .arg(path)
        .output()
        .expect("ffprobe is installed");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let seconds = text
        .lines()
        .filter_map(|line| line.trim_end_matches(',').parse::<f64>().ok());
    seconds.map(|it| (it * 1e9).round() as i64).collect()
}

/// How near each picture of a rung is to the file's, the farthest, dB.
fn farthest(made: &Made, rung: &str, path: &Path, folder: &Path) -> f64 {
    let (coded, said) = (folder.join("coded.h264"), folder.join("psnr"));
    std::fs::write(&coded, made.annex_b(rung)).unwrap();
    let (w, h) = made.video(rung);
    let graph = format!(
        "[0:v]settb=1/25,setpts=N[a];[1:v]scale={w}:{h}:flags=bicubic,settb=1/25,setpts=N[b];[a][b]psnr=stats_file={}",
        said.display()
    );
    let out = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-i"])
        .arg(&coded)
        .arg("-i")
        .arg(path)
        .args(["-fps_mode", "passthrough", "-lavfi", &graph, "-f", "null", "-"])
        .output()
        .expect("ffmpeg is installed");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let lines = std::fs::read_to_string(said).unwrap();
    let each = lines.lines().filter_map(|line| {
        let (_, rest) = line.split_once("psnr_y:")?;
        rest.split(' ').next()?.parse::<f64>().ok()
    });
    let each: Vec<f64> = each.collect();
    assert_eq!(each.len(), made.of(rung).len());
    each.into_iter().fold(f64::MAX, f64::min)
}

/// Every picture once, at its time, decodable and the right one; key frames of all rungs at the same instants, one where each chunk begins.
fn judge(made: &Made, chunks: &[SourceChunk], path: &Path, folder: &Path) {
    // Matroska may begin later than at zero, which is where we begin.
    let mut shown = shown(path);
    let first = shown[0];
    shown.iter_mut().for_each(|at| *at -= first);
    let rungs: Vec<_> = made.packets.keys().filter(|id| id.ends_with('p')).collect();
    assert!(!rungs.is_empty(), "{:?}", made.packets.keys());
    for id in &rungs {
        let times = made.times(id);
        assert_eq!(times.len(), shown.len(), "{id}");
        for (ours, theirs) in times.iter().zip(&shown) {
            assert!((ours - theirs).abs() <= 1_000_000, "{id}: {ours} is {theirs}");
        }
        assert_eq!(made.key_times(id), made.key_times(rungs[0]), "{id}");
        for chunk in chunks.iter().skip(1) {
            assert!(
                made.key_times(id).contains(&chunk.request.shown.start.nanos()),
                "{id}"
            );
        }
        judge_video(made, id, folder);
        let farthest = farthest(made, id, path, folder);
        assert!(
            farthest > 27.0,
            "{id}: a picture is {farthest} dB from the file's"
        );
    }
    assert!(made.warnings.is_empty(), "{:?}", made.warnings);
    assert_eq!(made.posters.len(), 1);
}

#[test]
fn chunks_of_closed_groups_have_every_picture_once_and_the_source_as_it_came() {
    let dir = tempfile::tempdir().unwrap();
    let args = format!(
        "{} -c:v libx264 -bf 3 -g 25 -pix_fmt yuv420p -preset veryfast",
        pictures(854, 480, 25, 5.0)
    );
    let path = ffmpeg(&args, &dir.path().join("in.mp4"));
    let (chunks, made) = transcode(&path, &encoded(true), Duration::from_secs(2));
    assert_eq!(chunks.len(), 3);
    judge(&made, &chunks, &path, dir.path());
    assert_eq!(made.key_times("360p"), made.key_times("source"));
    let whole = drain(
        GstBackend::new()
            .unwrap()
            .file(&planned(&path, &encoded(true)), &path)
            .unwrap(),
    );
    assert_eq!(
        made.of("source"),
        whole.of("source"),
        "what is kept is what a run on the whole keeps"
    );
}

/// x265 opens its groups: pictures that follow a key frame are shown before it, and need what was before it.
#[test]
fn pictures_that_lead_a_key_frame_are_neither_lost_nor_shown_twice() {
    let dir = tempfile::tempdir().unwrap();
    let args = format!(
        "{} -c:v libx265 -preset ultrafast -x265-params \
         log-level=none:open-gop=1:bframes=4:b-adapt=0:keyint=25:min-keyint=25:scenecut=0 -pix_fmt yuv420p",
        pictures(854, 480, 25, 5.0)
    );
    for name in ["in.mp4", "in.mkv"] {
        let path = ffmpeg(&args, &dir.path().join(name));
        let (chunks, made) = transcode(&path, &encoded(false), Duration::from_secs(1));
        assert!(chunks.len() >= 4, "{name}: {}", chunks.len());
        let beyond = |chunk: &SourceChunk| {
            chunk
                .request
                .packets()
                .any(|it| it.pts >= chunk.request.shown.end)
        };
        assert!(beyond(&chunks[0]), "{name}: the material has leading pictures");
        judge(&made, &chunks, &path, dir.path());
    }
}

#[test]
fn a_webm_of_uneven_rate_keeps_its_times() {
    let dir = tempfile::tempdir().unwrap();
    let args = format!(
        "{} -vf select='mod(n\\,7)*mod(n\\,3)' -fps_mode vfr -c:v libvpx -deadline realtime -cpu-used 8 -b:v 4M -g 30",
        pictures(854, 480, 30, 5.0)
    );
    let path = ffmpeg(&args, &dir.path().join("in.webm"));
    let (chunks, made) = transcode(&path, &encoded(false), Duration::from_secs(1));
    assert!(chunks.len() >= 3, "{}", chunks.len());
    judge(&made, &chunks, &path, dir.path());
}

#[test]
fn one_group_is_one_chunk_and_an_edit_list_is_obeyed() {
    let dir = tempfile::tempdir().unwrap();
    let args = format!(
        "{} -c:v libx264 -preset veryfast -bf 2 -g 500 -pix_fmt yuv420p",
        pictures(854, 480, 25, 4.0)
    );
    let whole = ffmpeg(&args, &dir.path().join("whole.mp4"));
    let cut = ffmpeg(
        &format!("-ss 1.3 -i {} -c copy", whole.display()),
        &dir.path().join("cut.mp4"),
    );
    let (chunks, made) = transcode(&cut, &encoded(true), Duration::from_secs(1));
    assert_eq!(chunks.len(), 1);
    let frames = probe_file(&cut).unwrap().video.unwrap().frames;
    assert_eq!(made.of("360p").len() as u64, frames);
    assert!(made.times("360p")[0] < 40_000_000, "what is hidden stays so");
}

#[test]
fn the_same_chunk_is_the_same_to_the_byte_each_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = match shared("media/screen/spyder-editor-syntax-highlighting.webm") {
        Some(path) => ffmpeg(
            &format!("-t 6 -i {} -c copy", path.display()),
            &dir.path().join("in.webm"),
        ),
        None => return,
    };
    let plan = planned(&path, &Wanted::default());
    let first = read(&plan, &path, Duration::from_secs(2));
    let again = read(&plan, &path, Duration::from_secs(2));
    let worker = GstBackend::new().unwrap();
    for (first, again) in first.iter().zip(&again) {
        assert_eq!(first.request.to_bytes(), again.request.to_bytes());
        let made = |chunk: &SourceChunk| {
            let made = block_on(worker.encode(chunk.request.clone())).unwrap();
            let mut sorted = Made::default();
            made.outputs.into_iter().for_each(|output| sorted.take(output));
            (sorted.packets, sorted.formats, sorted.thumbnails, sorted.counts)
        };
        assert_eq!(made(first), made(again));
    }
}

#[test]
fn a_request_that_is_given_up_halfway_ends_its_graph() {
    let dir = tempfile::tempdir().unwrap();
    let args = format!(
        "{} -c:v libx264 -preset ultrafast -g 500 -pix_fmt yuv420p",
        pictures(1280, 720, 30, 10.0)
    );
    let path = ffmpeg(&args, &dir.path().join("in.mp4"));
    let chunks = read(&planned(&path, &encoded(false)), &path, Duration::from_secs(1));
    let worker = GstBackend::new().unwrap();
    let started = std::time::Instant::now();
    block_on(async {
        let given_up = tokio::time::timeout(
            Duration::from_millis(300),
            worker.encode(chunks[0].request.clone()),
        );
        assert!(given_up.await.is_err(), "it takes longer than that");
    });
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn a_chunk_without_a_picture_that_can_be_decoded_is_empty_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let args = format!(
        "{} -c:v libx264 -preset veryfast -g 25 -pix_fmt yuv420p",
        pictures(854, 480, 25, 2.0)
    );
    let path = ffmpeg(&args, &dir.path().join("in.mp4"));
    let chunks = read(&planned(&path, &encoded(false)), &path, Duration::from_secs(1));
    let mut request = ChunkRequest::clone(&chunks[1].request);
    for item in &mut request.items {
        if let loom_transcode::ChunkItem::Packet(packet) = item {
            packet.data = packet.data.iter().map(|_| 0xff).collect::<Vec<u8>>().into();
        }
    }
    let made = block_on(GstBackend::new().unwrap().encode(Arc::new(request))).unwrap();
    let mut sorted = Made::default();
    made.outputs.into_iter().for_each(|output| sorted.take(output));
    assert!(
        sorted.packets.is_empty() && !sorted.warnings.is_empty(),
        "{:?}",
        sorted.warnings
    );
}
