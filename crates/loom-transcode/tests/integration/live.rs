//! Live tracks through the GStreamer backend, judged by ffmpeg.
#![cfg(feature = "gst")]

use std::time::Duration;

use crate::support::publisher::{AUDIO, Publisher, VIDEO};
use crate::support::{block_on, decoded_samples, ffmpeg, judge_video, runs_end, threads};
use loom_core::{Media, MediaTime, Packet, VideoCodec};
use loom_transcode::{Backend, GstBackend, Route, Rung, Wanted};

#[test]
fn a_live_source_is_kept_and_its_rung_has_the_same_key_pictures() {
    let publisher = Publisher::h264_and_opus(640, 480, 4.0);
    let plan = publisher.plan(2, &Wanted::default());
    let made = publisher.run(&plan);
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
    assert!((1..=1280).contains(&made.posters[0].width));
    let (from, line) = made.pcm_line();
    assert!((from.millis()).abs() < 30, "{from}");
    assert!((3.9..4.2).contains(&(line.len() as f64 / 16_000.0)));
}

fn only(lines: u32) -> Wanted {
    Wanted {
        rungs: vec![Rung::new(lines, 800_000).unwrap()],
        poster: false,
        ..Wanted::default()
    }
}

#[test]
fn every_other_codec_is_encoded_at_its_own_size_with_key_pictures_every_two_seconds() {
    let sources = [
        (
            VideoCodec::Vp8,
            "-c:v libvpx -deadline realtime -cpu-used 8 -lag-in-frames 0 -threads 1 -auto-alt-ref 0",
        ),
        (
            VideoCodec::Vp9,
            "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -lag-in-frames 0 -threads 1",
        ),
        (
            VideoCodec::Av1,
            "-c:v libaom-av1 -usage realtime -cpu-used 8 -lag-in-frames 0 -threads 1",
        ),
    ];
    let dir = tempfile::tempdir().unwrap();
    for (codec, encoder) in sources {
        let started = std::time::Instant::now();
        let publisher = Publisher::ivf(codec, encoder, 3.0);
        let count = publisher.media.len();
        let plan = publisher.plan(2, &Wanted::default());
        let made = publisher.run(&plan);
        assert!(made.failed.is_empty(), "{:?}", made.failed);
        eprintln!("{codec:?} {:?}", started.elapsed());
        assert_eq!(made.video("480p"), (480, 400));
        for id in ["480p", "360p"] {
            assert_eq!(
                made.key_times(id),
                [0, 2_000_000_000],
                "{codec:?} {:?}",
                made.warnings
            );
            assert!(
                made.of(id).len() * 10 >= count * 9,
                "{} of {count}",
                made.of(id).len()
            );
            judge_video(&made, id, dir.path());
        }
    }
}

#[test]
fn a_picture_comes_out_before_the_next_goes_in() {
    let plain = Publisher::h264_and_opus(640, 480, 0.7);
    let other = Publisher::ivf(
        VideoCodec::Vp8,
        "-c:v libvpx -deadline realtime -lag-in-frames 0 -auto-alt-ref 0",
        0.7,
    );
    for publisher in [plain, other] {
        let count = publisher
            .media
            .iter()
            .filter(|it| matches!(it, Media::Packet(it) if it.track == VIDEO))
            .count();
        let plan = publisher.plan(2, &only(360));
        let started = std::time::Instant::now();
        let made = publisher.run_ahead(&plan, 0, || ());
        assert_eq!(made.of("360p").len(), count);
        // Were a picture held back, each would have been waited for in vain for 100 ms.
        assert!(
            started.elapsed() < Duration::from_millis(90) * count as u32,
            "{:?}",
            started.elapsed()
        );
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_processor_time_of_live_pictures_is_known_while_they_run() {
    let publisher = Publisher::h264_and_opus(1280, 720, 2.0);
    let plan = publisher.plan(2, &only(360));
    let backend = GstBackend::new().unwrap();
    assert_eq!(backend.live_time(), backend.live_time());
    let mut taken = Duration::ZERO;
    let made = publisher.run_ahead(&plan, 2, || taken = backend.live_time().expect("Linux says"));
    // two seconds of decoding, scaling and encoding, in the hundredths that Linux counts
    assert!(taken >= Duration::from_millis(20), "{taken:?}");
    assert!(!made.of("360p").is_empty());
    assert!(backend.live_time().expect("Linux says") >= taken, "it only grows");
}

#[test]
fn a_source_that_changes_its_size_keeps_the_rungs_as_they_are() {
    let mut publisher = Publisher::h264_and_opus(640, 480, 2.0);
    publisher.formats.retain(|it| it.track == VIDEO);
    let plan = publisher.plan(2, &only(360));
    let after = Publisher::h264_and_opus(320, 400, 2.0);
    publisher.media.push(Media::Format(
        after.formats.into_iter().find(|it| it.track == VIDEO).unwrap(),
    ));
    publisher
        .media
        .extend(after.media.into_iter().filter_map(|it| match it {
            Media::Packet(packet) if packet.track == VIDEO => Some(Media::Packet(Packet {
                pts: packet.pts + Duration::from_secs(2),
                dts: packet.dts + Duration::from_secs(2),
                ..packet
            })),
            _ => None,
        }));
    let made = publisher.run(&plan);
    assert!(made.failed.is_empty(), "{:?}", made.failed);
    assert_eq!(made.formats["source"].len(), 2);
    assert_eq!(
        made.formats["360p"].len(),
        1,
        "one set of parameters for all of it"
    );
    assert_eq!(made.key_times("360p"), made.key_times("source"));
    assert_eq!(made.times("360p").last(), made.times("source").last());
    judge_video(&made, "360p", tempfile::tempdir().unwrap().path());
}

#[test]
fn the_kept_source_goes_on_when_its_decoder_gets_rubbish() {
    let mut publisher = Publisher::h264_and_opus(640, 480, 1.0);
    for media in &mut publisher.media {
        if let Media::Packet(packet) = media
            && packet.track == VIDEO
        {
            packet.data = vec![0xff; 40].into();
        }
    }
    let plan = publisher.plan(2, &only(360));
    let made = publisher.rush(&plan);
    assert_eq!(made.of("source").len(), 30);
    assert!(made.of("360p").is_empty());
    assert_eq!(made.failed.len(), 1, "{:?}", made.failed);
    assert_eq!(made.failed[0].0.as_deref(), Some("360p"));
    assert!(!made.of("opus").is_empty());
    made.assert_aac_is_contiguous("aac");
}

#[test]
fn the_kept_source_goes_on_when_the_graph_dies() {
    let publisher = Publisher::h264_and_opus(640, 480, 1.0);
    let plan = publisher.plan(2, &only(360));
    let mut broken = plan.clone();
    // A decoder for something else refuses the stream as soon as it comes.
    let video = broken.video.as_mut().unwrap();
    video.route = Some(Route::cpu("vp8dec", "x264enc", 1));
    video.fallbacks.clear();
    let made = publisher.run(&broken);
    assert_eq!(made.of("source").len(), 30);
    assert_eq!(made.failed.len(), 1, "{:?}", made.failed);
    assert_eq!(made.failed[0].0.as_deref(), Some("360p"));
    made.assert_aac_is_contiguous("aac");
}

#[test]
fn a_hole_in_the_sound_is_silence_and_the_rest_stays_in_its_place() {
    let mut publisher = Publisher::h264_and_opus(320, 240, 4.0);
    let hole = MediaTime::from_millis(1_000)..MediaTime::from_millis(3_000);
    publisher.media.retain(|it| {
        let Media::Packet(packet) = it else { return true };
        packet.track == VIDEO || !hole.contains(&packet.pts)
    });
    let plan = publisher.plan(2, &only(240));
    let made = publisher.run(&plan);
    made.assert_aac_is_contiguous("aac");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.aac");
    std::fs::write(&path, made.adts("aac")).unwrap();
    let line = decoded_samples(&path, "aac");
    let first = made.of("aac")[0].pts.secs_f64();
    let loud = |from: f64, to: f64| {
        let at = |secs: f64| ((secs - first) * 48_000.0) as usize;
        let span = &line[at(from)..at(to)];
        (span.iter().map(|it| it * it).sum::<f32>() / span.len() as f32).sqrt()
    };
    assert!(
        loud(0.3, 0.97) > 0.03 && loud(3.05, 3.8) > 0.03,
        "{} {}",
        loud(0.3, 0.97),
        loud(3.05, 3.8)
    );
    assert!(loud(1.08, 2.97) < 0.002, "{}", loud(1.08, 2.97));
    let (_, pcm) = made.pcm_line();
    assert!((pcm.len() as f64 / 16_000.0 - 4.0).abs() < 0.1);
}

#[test]
fn sound_that_has_not_begun_is_silence_so_that_its_rendition_keeps_pace() {
    let mut publisher = Publisher::h264_and_opus(320, 240, 3.0);
    publisher
        .media
        .retain(|it| matches!(it, Media::Packet(packet) if packet.track == VIDEO));
    let plan = publisher.plan(2, &only(240));
    let made = publisher.run(&plan);
    made.assert_aac_is_contiguous("aac");
    let end = made.of("aac").last().unwrap().pts;
    assert!((2_000..3_000).contains(&end.millis()), "{end}");
}

#[test]
fn work_that_is_late_is_dropped_and_the_kept_source_loses_nothing() {
    let publisher = Publisher::h264_and_opus(1920, 1080, 6.0);
    let wanted = Wanted {
        live_cores: Some(100.0),
        poster: false,
        ..Wanted::default()
    };
    let plan = publisher.plan(16, &wanted);
    let started = std::time::Instant::now();
    let made = publisher.rush(&plan);
    eprintln!("{:?} {:?}", started.elapsed(), made.warnings);
    assert!(made.failed.is_empty(), "{:?}", made.failed);
    assert_eq!(made.of("source").len(), 180);
    let all = made.key_times("source");
    for id in ["480p", "360p"] {
        // Packets may be passed over as far as a key frame; what is made starts at the source's key pictures only.
        let keys = made.key_times(id);
        assert!(
            !keys.is_empty() && keys.iter().all(|it| all.contains(it)),
            "{keys:?}"
        );
        // how much is late depends on the machine; what is told to be shed is
        let shed = made.shed.contains(&(id.to_owned(), true));
        assert!(!shed || made.of(id).len() < 180, "{id} was shed, and is whole");
    }
    assert!(made.of("480p").len() >= made.of("360p").len());
    assert_eq!(made.key_times("480p"), made.key_times("360p"));
}

#[test]
fn a_run_with_nothing_in_it_ends() {
    let mut publisher = Publisher::h264_and_opus(640, 480, 0.5);
    publisher.media.clear();
    let plan = publisher.plan(2, &Wanted::default());
    let made = publisher.rush(&plan);
    assert!(
        made.packets.is_empty() && made.failed.is_empty(),
        "{:?}",
        made.failed
    );
    assert_eq!(made.formats.keys().collect::<Vec<_>>(), ["opus", "source"]);
}

#[test]
fn times_before_zero_come_out_as_they_went_in() {
    let mut publisher = Publisher::h264_and_opus(640, 480, 1.0);
    for media in &mut publisher.media {
        if let Media::Packet(packet) = media {
            packet.pts = packet.pts - Duration::from_millis(500);
            packet.dts = packet.dts - Duration::from_millis(500);
        }
    }
    let plan = publisher.plan(2, &only(360));
    let made = publisher.run(&plan);
    assert!(made.times("source")[0] < -490_000_000);
    assert_eq!(made.times("360p")[0], made.times("source")[0]);
    let off = made.of("aac")[0].pts.signed_since(made.of("opus")[0].pts);
    assert!(off.abs() < 50_000, "{off} ns");
}

#[test]
fn no_second_of_a_rung_exceeds_its_rate() {
    // Noise: nothing is harder. Ten pictures a second, as screens have, of which the encoder was told nothing.
    let args = "-f lavfi -i color=gray:size=480x400:rate=10:duration=5,noise=alls=100:allf=t -c:v libvpx -lag-in-frames 0 -threads 1 -auto-alt-ref 0 -b:v 20M \
                -deadline realtime -cpu-used 8 -pix_fmt yuv420p";
    let publisher = Publisher::from_ivf(VideoCodec::Vp8, (480, 400), args, 10);
    let wanted = Wanted {
        rungs: vec![Rung::new(360, 400_000).unwrap()],
        poster: false,
        ..Wanted::default()
    };
    let mut plan = publisher.plan(2, &wanted);
    plan.video.as_mut().unwrap().frame_rate = 10.0;
    let made = publisher.run(&plan);
    let text = String::from_utf8_lossy(&made.of("360p")[0].data).into_owned();
    for told in [
        "vbv_maxrate=400",
        "vbv_bufsize=400",
        "bframes=0",
        "keyint=infinite",
        "scenecut=0",
        "rc_lookahead=0",
    ] {
        assert!(text.contains(told), "no {told} in the encoder's own SEI: {text}");
    }
    let bits = |from: i64, to: i64| {
        let inside = made
            .of("360p")
            .iter()
            .filter(|it| (from..to).contains(&it.pts.millis()));
        inside.map(|it| it.data.len() * 8).sum::<usize>()
    };
    let all = made.of("360p").len() as i64 * 100;
    for second in 0..(all / 1000 - 1) {
        // The buffer holds one second, so any one second has at most twice the rate, and the whole comes to the rate.
        let at = second * 1000;
        assert!(
            bits(at, at + 1000) < 880_000,
            "second {second}: {}",
            bits(at, at + 1000)
        );
    }
    let rate = bits(0, all) as f64 / (all as f64 / 1000.0);
    assert!(rate < 400_000.0 * 1.35, "{rate}");
}

#[test]
fn everything_ends_when_dropped() {
    let publisher = Publisher::h264_and_opus(640, 480, 1.0);
    let plan = publisher.plan(2, &Wanted::default());
    let mut after_one = 0;
    for round in 0..6 {
        let (mut feed, mut outputs) = GstBackend::new()
            .unwrap()
            .live(&plan, &publisher.formats)
            .unwrap();
        for media in &publisher.media {
            feed.push(media.clone());
        }
        block_on(outputs.recv()).expect("something comes");
        if round % 2 == 0 {
            drop(feed);
            drop(outputs);
        } else {
            drop(outputs);
            // A feed without a consumer is still safe to use.
            for media in &publisher.media {
                feed.push(media.clone());
            }
        }
        runs_end("a run that was dropped");
        if round == 0 {
            after_one = threads().len();
        }
    }
    // GLib keeps a few idle threads for the next graph; they do not add up.
    assert!(
        threads().len() <= after_one + 3,
        "{after_one} threads became {:?}",
        threads()
    );
}

/// Seconds of processor time by thread name, of the threads that live.
fn thread_seconds() -> std::collections::BTreeMap<String, f64> {
    let mut all = std::collections::BTreeMap::new();
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let Ok(stat) = std::fs::read_to_string(task.path().join("stat")) else {
            continue;
        };
        let (head, tail) = stat.rsplit_once(')').unwrap();
        let name = head.split_once('(').unwrap().1.to_owned();
        let fields: Vec<&str> = tail.split_ascii_whitespace().collect();
        let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
        *all.entry(name).or_default() += ticks / 100.0;
    }
    all
}

#[test]
#[ignore = "a measurement, run by hand: prints processor seconds a minute by stage"]
fn processor_seconds_of_a_live_screen_by_stage() {
    let wanted = Wanted {
        live_cores: Some(100.0),
        ..Wanted::default()
    };
    for cores in [2, 16] {
        let Some(publisher) = Publisher::screen() else {
            return;
        };
        let plan = publisher.plan(cores, &wanted);
        println!("{plan}");
        let before = thread_seconds();
        let mut after = before.clone();
        let made = publisher.run_ahead(&plan, 2, || after = thread_seconds());
        let minutes = made.of("source").last().unwrap().pts.secs_f64() / 60.0;
        for (name, spent) in after {
            let spent = spent - before.get(&name).copied().unwrap_or(0.0);
            println!("{name}: {:.2} s a minute", spent / minutes);
        }
        for (id, packets) in &made.packets {
            let bits = packets.iter().map(|it| it.data.len()).sum::<usize>() as f64 * 8.0;
            println!(
                "{id}: {:.0} kbit/s, {} packets",
                bits / minutes / 60_000.0,
                packets.len()
            );
        }
        println!("{:?}", made.warnings);
    }
}

/// Speech as a browser's microphone sends it, each packet with part of the one before it.
fn speech() -> Option<Publisher> {
    let path = crate::support::shared("media/speech/jfk.wav")?;
    let dir = tempfile::tempdir().unwrap();
    let path = ffmpeg(
        &format!(
            "-i {} -c:a libopus -application voip -b:a 24k -ac 1 -ar 48000 -fec 1 -packet_loss 20",
            path.display()
        ),
        &dir.path().join("in.mkv"),
    );
    Some(Publisher::from_file(&path))
}

#[test]
fn a_lost_packet_of_speech_is_made_up_from_the_next_one_and_shifts_nothing() {
    let (Some(whole), Some(mut lossy)) = (speech(), speech()) else {
        return;
    };
    let wanted = Wanted {
        rungs: Vec::new(),
        poster: false,
        ..Wanted::default()
    };
    let mut state = 5u64;
    let mut lost = Vec::new();
    let mut place = 0;
    lossy.media.retain(|it| {
        let Media::Packet(packet) = it else { return true };
        place += 1;
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        // one in seven, none of them the first and no two beside each other
        let is_lost = place > 5 && (state >> 33).is_multiple_of(6) && lost.last() != Some(&(place - 1));
        if is_lost {
            lost.push(place);
        }
        !is_lost || packet.track != AUDIO
    });
    let times: Vec<f64> = lost.iter().map(|place| (place - 1) as f64 * 0.02).collect();
    let plan = whole.plan(2, &wanted);
    let (_, expected) = whole.rush(&plan).pcm_line();
    let (_, heard) = lossy.rush(&plan).pcm_line();
    let drift = expected.len().abs_diff(heard.len());
    assert!(drift <= 16 * 20, "{} and {} samples", expected.len(), heard.len());
    let energy = |samples: &[f32]| samples.iter().map(|it| f64::from(it * it)).sum::<f64>();
    let span = |line: &[f32], from: f64| line[(from * 16_000.0) as usize..][..320].to_vec();
    let (mut signal, mut error) = (0.0, 0.0);
    let times = times
        .iter()
        .filter(|from| **from + 0.04 < heard.len() as f64 / 16_000.0);
    for from in times {
        let (original, made_up) = (span(&expected, *from), span(&heard, *from));
        let difference: Vec<f32> = original.iter().zip(&made_up).map(|(a, b)| a - b).collect();
        signal += energy(&original);
        error += energy(&difference);
    }
    let decibels = 10.0 * (signal / error).log10();
    println!("{} lost, {decibels:.1} dB", lost.len());
    assert!(lost.len() > 50);
    assert!(decibels > 6.0, "{decibels:.1} dB: silence would be 0");
}
