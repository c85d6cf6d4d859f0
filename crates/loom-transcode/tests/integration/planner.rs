//! The planner on lists of what machines of each device family have.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use loom_core::VideoCodec;
use loom_transcode::{
    Capabilities, Crossing, DeviceFamily, Devices, MemoryDomain, Oddity, Plan, PlanError, Rotation, Route,
    Rung, SourceShape, SourceVideoCodec, VideoPlan, VideoShape, Wanted, plan,
};

const LISTS: [&str; 10] = [
    "nvidia",
    "nvidia-two-sessions",
    "nvidia-decodes-only",
    "nvidia-1.20",
    "vaapi",
    "vaapi-low-power",
    "quicksync",
    "v4l2",
    "videotoolbox",
    "cpu",
];

const CODECS: [SourceVideoCodec; 5] = [
    SourceVideoCodec::H264,
    SourceVideoCodec::Hevc,
    SourceVideoCodec::Vp8,
    SourceVideoCodec::Vp9,
    SourceVideoCodec::Av1,
];

fn machine(list: &str) -> Capabilities {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/capabilities");
    let text = std::fs::read_to_string(folder.join(format!("{list}.txt"))).unwrap();
    text.parse().unwrap()
}

fn file(codec: SourceVideoCodec, w: u32, h: u32) -> SourceShape {
    SourceShape {
        video: Some(VideoShape::new(codec, w, h)),
        ..SourceShape::default()
    }
}

fn video(plan: &Plan) -> &VideoPlan {
    plan.video.as_ref().unwrap()
}

fn route(plan: &Plan) -> &Route {
    video(plan).route.as_ref().unwrap()
}

fn encoders(plan: &Plan) -> Vec<&str> {
    route(plan)
        .encoders
        .iter()
        .map(|it| it.factory.as_str())
        .collect()
}

fn planned(list: &str, source: &SourceShape) -> Plan {
    plan(source, &Wanted::default(), &machine(list)).unwrap()
}

fn why_not<'a>(plan: &'a Plan, what: &str) -> &'a str {
    let found = video(plan).rejected.iter().find(|it| it.what == what);
    &found
        .unwrap_or_else(|| panic!("{what} is not rejected:\n{plan}"))
        .why
}

#[test]
fn a_device_that_does_it_all_keeps_pictures_in_its_memory() {
    let source = file(SourceVideoCodec::Hevc, 1920, 1080);
    for (list, memory, parts) in [
        (
            "nvidia",
            MemoryDomain::Cuda,
            ["nvh265dec", "cudaconvertscale", "nvcudah264enc"],
        ),
        (
            "nvidia-1.20",
            MemoryDomain::Cuda,
            ["nvh265dec", "cudascale", "nvh264enc"],
        ),
        (
            "vaapi",
            MemoryDomain::Va,
            ["vah265dec", "vapostproc", "vah264enc"],
        ),
        (
            "vaapi-low-power",
            MemoryDomain::Va,
            ["vah265dec", "vapostproc", "vah264lpenc"],
        ),
        (
            "quicksync",
            MemoryDomain::Va,
            ["qsvh265dec", "vapostproc", "qsvh264enc"],
        ),
        (
            "v4l2",
            MemoryDomain::System,
            ["v4l2slh265dec", "v4l2convert", "v4l2h264enc"],
        ),
        (
            "videotoolbox",
            MemoryDomain::System,
            ["vtdec_hw", "loomscale", "vtenc_h264_hw"],
        ),
        (
            "cpu",
            MemoryDomain::System,
            ["avdec_h265", "loomscale", "x264enc"],
        ),
    ] {
        let made = planned(list, &source);
        let route = route(&made);
        assert_eq!(route.memories(), BTreeSet::from([memory]), "{made}");
        assert_eq!(route.crossings, [], "{made}");
        assert_eq!(route.factories(), BTreeSet::from(parts), "{made}");
        assert_eq!(route.encoders.len(), 4, "{made}");
    }
}

#[test]
fn a_device_that_only_decodes_scales_too_and_each_rung_is_downloaded_once() {
    for codec in CODECS {
        let made = planned("nvidia-decodes-only", &file(codec, 1920, 1080));
        let route = route(&made);
        assert_eq!(route.decoder.family, DeviceFamily::Nvidia, "{made}");
        assert_eq!(
            route.scaler.as_ref().unwrap().factory,
            "cudaconvertscale",
            "{made}"
        );
        assert!(encoders(&made).iter().all(|it| *it == "x264enc"), "{made}");
        let rungs = &video(&made).rungs;
        let downloads: Vec<Crossing> = rungs
            .iter()
            .map(|rung| Crossing {
                from: MemoryDomain::Cuda,
                to: MemoryDomain::System,
                by: "cudadownload".to_owned(),
                rendition: Some(rung.id.clone()),
            })
            .collect();
        assert_eq!(route.crossings, downloads, "{made}");
    }
}

#[test]
fn what_a_device_has_no_session_for_is_encoded_by_the_processor() {
    let made = planned("nvidia-two-sessions", &file(SourceVideoCodec::Vp9, 1920, 1080));
    assert_eq!(
        encoders(&made),
        ["nvcudah264enc", "nvcudah264enc", "x264enc", "x264enc"],
        "the largest rungs are where the device saves most:\n{made}"
    );
    assert_eq!(route(&made).crossings.len(), 2, "{made}");
}

#[test]
fn a_decoder_without_the_profile_or_the_size_is_passed_over_and_the_plan_says_so() {
    let mut source = file(SourceVideoCodec::H264, 1920, 1080);
    let shape = source.video.as_mut().unwrap();
    shape.profile = Some("high-4:4:4".to_owned());
    shape.odd.push(Oddity::PixelFormat);
    let made = planned("nvidia", &source);
    assert_eq!(route(&made).decoder.factory, "avdec_h264", "{made}");
    assert!(why_not(&made, "nvh264dec").contains("high-4:4:4"), "{made}");

    let made = planned("nvidia", &file(SourceVideoCodec::H264, 7680, 4320));
    assert_eq!(route(&made).decoder.factory, "avdec_h264", "{made}");
    assert!(why_not(&made, "nvh264dec").contains("4096x4096"), "{made}");

    // 2000 lines are above what the board's encoder takes: the top is the processor's, the rest is not.
    let wanted = Wanted {
        rungs: [2000, 720]
            .into_iter()
            .filter_map(|it| Rung::new(it, 5_000_000))
            .collect(),
        ..Wanted::default()
    };
    let source = file(SourceVideoCodec::Vp9, 3552, 2000);
    let made = plan(&source, &wanted, &machine("v4l2")).unwrap();
    assert_eq!(encoders(&made), ["x264enc", "v4l2h264enc"], "{made}");
}

#[test]
fn a_scaler_that_does_not_convert_is_not_given_ten_bits() {
    let mut source = file(SourceVideoCodec::Hevc, 1920, 1080);
    source.video.as_mut().unwrap().odd.push(Oddity::PixelFormat);
    let made = planned("nvidia-1.20", &source);
    assert!(!route(&made).factories().contains("cudascale"), "{made}");
    assert!(why_not(&made, "cudascale").contains("does not convert"), "{made}");
}

#[test]
fn a_picture_that_must_be_turned_is_turned_by_the_processor() {
    let mut source = file(SourceVideoCodec::H264, 1920, 1080);
    source.video.as_mut().unwrap().rotation = Rotation::Quarter;
    for list in LISTS {
        let made = planned(list, &source);
        let scaler = route(&made).scaler.as_ref().unwrap();
        assert_eq!(scaler.family, DeviceFamily::Cpu, "{made}");
        assert_eq!(scaler.memory, MemoryDomain::System, "{made}");
    }
}

#[test]
fn only_the_devices_that_are_wanted_are_used() {
    let mut both = machine("nvidia");
    both.elements.extend(machine("vaapi").elements);
    let source = file(SourceVideoCodec::H264, 1920, 1080);
    for only in [DeviceFamily::Cpu, DeviceFamily::Nvidia, DeviceFamily::VaApi] {
        let wanted = Wanted {
            devices: Devices::Only(only),
            ..Wanted::default()
        };
        let made = plan(&source, &wanted, &both).unwrap();
        for it in std::iter::once(route(&made)).chain(&video(&made).fallbacks) {
            let families = std::iter::once(&it.decoder).chain(&it.encoders).chain(&it.scaler);
            let allowed = [only, DeviceFamily::Cpu];
            assert!(
                families.map(|it| it.family).all(|it| allowed.contains(&it)),
                "{made}"
            );
        }
        assert_eq!(route(&made).decoder.family, only, "{made}");
    }
}

#[test]
fn other_codecs_are_encoded_where_the_device_has_them() {
    for (list, codec, factory) in [
        ("nvidia", VideoCodec::Hevc, "nvcudah265enc"),
        ("nvidia", VideoCodec::Av1, "nvcudaav1enc"),
        ("vaapi", VideoCodec::Hevc, "vah265enc"),
        ("quicksync", VideoCodec::Av1, "qsvav1enc"),
        ("videotoolbox", VideoCodec::Hevc, "vtenc_h265_hw"),
        ("nvidia-decodes-only", VideoCodec::Av1, "svtav1enc"),
        ("v4l2", VideoCodec::Hevc, "x265enc"),
    ] {
        let wanted = Wanted {
            codec,
            ..Wanted::default()
        };
        let made = plan(&file(SourceVideoCodec::H264, 1920, 1080), &wanted, &machine(list)).unwrap();
        assert!(encoders(&made).iter().all(|it| *it == factory), "{made}");
    }
}

#[test]
fn a_list_that_lies_leads_from_plan_to_plan_down_to_the_processor() {
    for list in LISTS {
        let mut made = planned(list, &file(SourceVideoCodec::H264, 1920, 1080));
        let renditions = made.renditions.clone();
        let mut failed = BTreeSet::new();
        loop {
            // The first element that is not the processor's fails; at last the processor's encoder does.
            let route = route(&made).clone();
            let stages = route.encoders.iter().chain(&route.scaler).chain([&route.decoder]);
            let device = stages
                .clone()
                .find(|it| it.family != DeviceFamily::Cpu)
                .map(|it| it.factory.clone());
            let is_last = device.is_none();
            let liar = device.unwrap_or_else(|| "x264enc".to_owned());
            failed.insert(liar.clone());
            let Some(next) = made.next_best(&liar) else {
                assert!(is_last, "{liar} had no way round it:\n{made}");
                break;
            };
            made = next;
            assert_eq!(made.renditions, renditions, "what was promised is made");
            let used = route_of(&made).factories();
            assert!(used.iter().all(|it| !failed.contains(*it)), "{failed:?}\n{made}");
            assert_eq!(why_not(&made, &liar), "it failed");
            assert!(made.to_string().contains(&format!("{liar} failed")), "{made}");
        }
        let on_cpu = [&route(&made).decoder].into_iter().chain(&route(&made).encoders);
        assert!(
            on_cpu.map(|it| it.family).all(|it| it == DeviceFamily::Cpu),
            "{made}"
        );
    }
}

fn route_of(plan: &Plan) -> &Route {
    route(plan)
}

#[test]
fn an_element_that_is_not_on_the_way_gives_the_next_plan_too() {
    let made = planned("nvidia", &file(SourceVideoCodec::H264, 1920, 1080));
    let next = made.next_best("appsrc").unwrap();
    assert_eq!(Some(route(&next)), video(&made).fallbacks.first());
}

#[test]
fn a_plan_prints_why_each_element_was_not_chosen() {
    let made = planned("nvidia", &file(SourceVideoCodec::H264, 1920, 1080));
    let text = made.to_string();
    for part in [
        "video H.264 -> source as it came -> nvh264dec (NVIDIA in CUDAMemory)",
        "-> cudaconvertscale 1280x720 -> nvcudah264enc (NVIDIA)",
        "pictures in CUDAMemory, 0 copies between memories",
        "not nvh264enc: it costs the same",
        "not x264enc:",
        "not avdec_h264:",
        "else 1: ",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    let mixed = planned("nvidia-decodes-only", &file(SourceVideoCodec::H264, 1920, 1080));
    assert!(
        mixed
            .to_string()
            .contains("640x360 -> [cudadownload: CUDAMemory to system] -> x264enc"),
        "{mixed}"
    );
}

#[test]
fn a_plan_draws_itself_with_what_was_not_chosen() {
    for list in LISTS {
        let mut source = file(SourceVideoCodec::H264, 1920, 1080);
        source.duration = Some(std::time::Duration::from_secs(3));
        let made = planned(list, &source);
        let dot = made.to_dot();
        assert!(dot.starts_with("digraph plan {") && dot.ends_with("}\n"), "{dot}");
        for factory in route(&made).factories() {
            assert!(
                dot.contains(&format!("[label=\"{factory}\\n")),
                "no {factory} in\n{dot}"
            );
        }
        for it in &video(&made).rejected {
            assert!(dot.contains(&format!("\"{}\\n{}\"", it.what, it.why)), "{dot}");
        }
        for it in &made.renditions {
            assert_eq!(
                dot.matches(&format!("-> \"rendition {}\"", it.id)).count(),
                1,
                "{dot}"
            );
        }
        // Names and labels are quoted, so that nothing in them ends a statement.
        for line in dot.lines().filter(|it| it.contains("label=")) {
            assert_eq!(line.replace("\\\"", "").matches('"').count() % 2, 0, "{line}");
        }
        assert_draws(&dot);
    }
}

/// Graphviz itself reads it, where it is installed.
fn assert_draws(dot: &str) {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let child = Command::new("dot")
        .arg("-Tcanon")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn();
    let Ok(mut child) = child else {
        return;
    };
    child.stdin.take().unwrap().write_all(dot.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{dot}");
}

/// Every list × source codec × size × ladder × budget × pace, some 9,000 plans; budgets are for live sources.
#[test]
fn every_plan_of_every_machine_holds_the_rules() {
    let ladders: [&[(u32, u32)]; 3] = [
        &[(360, 800_000)],
        &[
            (1080, 5_000_000),
            (720, 2_800_000),
            (480, 1_400_000),
            (360, 800_000),
        ],
        &[
            (360, 1),
            (2160, 14_000_000),
            (361, 2),
            (1440, 9_000_000),
            (240, 300_000),
        ],
    ];
    let sizes = [(1920, 1080), (3840, 2160), (641, 361), (1080, 1920), (8192, 4320)];
    let mut count = 0;
    for list in LISTS {
        let can = machine(list);
        for codec in CODECS {
            for (w, h) in sizes {
                for ladder in ladders {
                    for budget in [None, Some(0.0), Some(0.1), Some(0.4), Some(100.0)] {
                        let paces = [(true, true), (true, false), (false, true), (false, false)];
                        let paces = paces.into_iter().filter(|(live, _)| *live || budget.is_none());
                        for (live, keep_source) in paces {
                            let wanted = Wanted {
                                rungs: ladder
                                    .iter()
                                    .filter_map(|(lines, rate)| Rung::new(*lines, *rate))
                                    .collect(),
                                keep_source,
                                live_cores: budget,
                                ..Wanted::default()
                            };
                            let source = SourceShape {
                                live,
                                ..file(codec, w, h)
                            };
                            check(&source, &wanted, &can);
                            count += 1;
                        }
                    }
                }
            }
        }
    }
    println!("{count} plans");
    assert!(count >= 9_000);
}

fn check(source: &SourceShape, wanted: &Wanted, can: &Capabilities) {
    let shape = source.video.as_ref().unwrap();
    let made = match plan(source, wanted, can) {
        Ok(made) => made,
        Err(why) => panic!("{shape:?}: {why}"),
    };
    let video = video(&made);
    let kept = wanted.keep_source && shape.codec == SourceVideoCodec::H264;
    assert_eq!(video.keep.is_some(), kept, "{made}");
    assert_eq!(
        made.renditions.iter().filter(|it| it.kept).count(),
        usize::from(kept)
    );

    // Never larger than the source, nor than the one before it.
    let mut above = (shape.width, shape.height);
    let mut names = BTreeSet::new();
    for rung in &video.rungs {
        assert!(rung.width <= above.0 && rung.height <= above.1, "{made}");
        assert!(names.insert(rung.id.clone()), "{made}");
        above = (rung.width, rung.height);
    }
    for pair in video.rungs.windows(2) {
        // A source of a line more than the lowest rung gives two of one size, for thin lines.
        let is_less = pair[1].width < pair[0].width || pair[1].bitrate < pair[0].bitrate;
        assert!(is_less, "{made}");
    }
    assert_eq!(
        made.renditions.len(),
        video.rungs.len() + usize::from(kept),
        "{made}"
    );

    let Some(best) = &video.route else {
        assert!(video.rungs.is_empty(), "{made}");
        return;
    };
    for route in std::iter::once(best).chain(&video.fallbacks) {
        check_route(route, video, can, &made);
    }
    // Whatever fails, the processor is there.
    let on_cpu = |it: &Route| {
        it.decoder.family == DeviceFamily::Cpu
            && it.encoders.iter().all(|it| it.family == DeviceFamily::Cpu)
            && it.crossings.is_empty()
    };
    assert!(
        std::iter::once(best).chain(&video.fallbacks).any(on_cpu),
        "nothing is left where all devices fail:\n{made}"
    );
    // No way round is without use: each does without something that each better one needs.
    let ways: Vec<&Route> = std::iter::once(best).chain(&video.fallbacks).collect();
    for (index, way) in ways.iter().enumerate() {
        let better = &ways[..index];
        assert!(
            better
                .iter()
                .all(|it| !it.factories().is_subset(&way.factories())),
            "{made}"
        );
        assert!(
            better.iter().all(|it| it.cost <= way.cost + 1e-5) || video.rungs.is_empty(),
            "{made}"
        );
    }
    assert!(video.rejected.iter().all(|it| !it.why.is_empty()));
    check_budget(source, wanted, can, &made);
}

fn check_route(route: &Route, video: &VideoPlan, can: &Capabilities, made: &Plan) {
    let builtin = |it: &str| it == "loomscale";
    for factory in route.factories() {
        assert!(
            can.has(factory) || builtin(factory),
            "{factory} is not installed:\n{made}"
        );
    }
    assert_eq!(route.encoders.len(), video.rungs.len(), "{made}");
    assert_eq!(route.scaler.is_some(), !video.rungs.is_empty(), "{made}");
    // Walk the pictures' way, and hold what is declared against the memories that differ.
    let mut declared = route.crossings.clone();
    let mut walk = |from: MemoryDomain, to: MemoryDomain, whose: Option<&loom_core::RenditionId>| {
        let mut at = from;
        while at != to {
            let step = declared
                .iter()
                .position(|it| it.from == at && it.rendition.as_ref() == whose)
                .unwrap_or_else(|| panic!("{at} to {to} is not declared:\n{made}"));
            at = declared.remove(step).to;
        }
    };
    // A device's pictures begin, and end, in its own memory.
    let decoder = &route.decoder;
    walk(decoder.family.memory(), decoder.memory, None);
    if let Some(scaler) = &route.scaler {
        walk(decoder.memory, scaler.memory, None);
        for (rung, encoder) in video.rungs.iter().zip(&route.encoders) {
            walk(scaler.memory, encoder.memory, Some(&rung.id));
            walk(encoder.memory, encoder.family.memory(), Some(&rung.id));
        }
    }
    assert_eq!(declared, [], "declared, and not on the way:\n{made}");
    let mut sessions: BTreeMap<&str, u32> = BTreeMap::new();
    for (rung, encoder) in video.rungs.iter().zip(&route.encoders) {
        let limits = &can.elements[&encoder.factory];
        let (w, h) = (rung.width, rung.height);
        assert!(
            limits.largest.is_none_or(|most| w <= most.0 && h <= most.1),
            "{made}"
        );
        assert!(
            limits.smallest.is_none_or(|least| w >= least.0 && h >= least.1),
            "{made}"
        );
        *sessions.entry(&encoder.factory).or_default() += 1;
        let most = limits.sessions.unwrap_or(u32::MAX);
        assert!(sessions[encoder.factory.as_str()] <= most, "{made}");
    }
}

/// Live, the budget holds, or no more than the least is made; what is left out is the plan's to explain.
fn check_budget(source: &SourceShape, wanted: &Wanted, can: &Capabilities, made: &Plan) {
    let video = video(made);
    let free = Wanted {
        live_cores: Some(1e9),
        ..wanted.clone()
    };
    let all = plan(source, &free, can).unwrap();
    let all: Vec<_> = all.video.unwrap().rungs.iter().map(|it| it.id.clone()).collect();
    let some: Vec<_> = video.rungs.iter().map(|it| it.id.clone()).collect();
    assert!(some.iter().all(|it| all.contains(it)), "{made}");
    for out in all.iter().filter(|it| !some.contains(it)) {
        assert!(source.live, "a file has no budget:\n{made}");
        assert!(why_not(made, out.as_str()).contains("cores"), "{made}");
    }
    let budget = wanted.live_cores.unwrap_or(can.cores as f64 * 0.125);
    let cost = video.route.as_ref().map_or(0.0, |it| it.cost);
    let least = usize::from(video.keep.is_none()) + 1;
    assert!(
        !source.live || cost <= budget + 1e-9 || some.len() <= least,
        "{made}"
    );
}

#[test]
fn a_machine_without_a_way_says_what_stood_in_it() {
    let can: Capabilities = "cores 4\nnvh264dec size=48x16..640x360\nx264enc".parse().unwrap();
    let source = file(SourceVideoCodec::H264, 1920, 1080);
    let wanted = Wanted {
        keep_source: false,
        ..Wanted::default()
    };
    let why = plan(&source, &wanted, &can).unwrap_err();
    assert!(matches!(why, PlanError::NoDecoder { .. }), "{why}");
    assert!(
        why.to_string()
            .contains("nvh264dec: 1920x1080 is above the 640x360"),
        "{why}"
    );
    let can: Capabilities = "cores 4\nnvh264dec gives=CUDAMemory\nx264enc".parse().unwrap();
    let why = plan(&source, &wanted, &can).unwrap_err();
    assert!(
        matches!(why, PlanError::NoEncoder { .. }),
        "no download, no way: {why}"
    );
}
