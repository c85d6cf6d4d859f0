//! Rules of a low-latency playlist that grows.

use std::time::Duration;

use loom_testkit::validator::{Options, Report, validate};

use crate::site::{HZ, Site, Wrong, chunk, init, segment};

const SEGMENTS: u64 = 10;
const PARTS: u64 = 4;

const HEAD: &str = "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-TARGETDURATION:2\n#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=12,PART-HOLD-BACK=1.5,HOLD-BACK=6\n#EXT-X-PART-INF:PART-TARGET=0.5\n";

/// The playlist once so many parts are there, its first `skip` segments left out.
fn version(parts: u64, skip: u64) -> String {
    let mut text = format!("{HEAD}#EXT-X-MEDIA-SEQUENCE:0\n");
    if skip > 0 {
        text += &format!("#EXT-X-SKIP:SKIPPED-SEGMENTS={skip}\n");
    } else {
        text += "#EXT-X-MAP:URI=\"init.mp4\"\n";
    }
    let end = parts as f64 / 2.0;
    for segment in skip..=parts / PARTS {
        let listed = (parts - segment * PARTS).min(PARTS);
        if listed > 0 {
            text += &format!(
                "#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:{:02}.000Z\n",
                segment * 2
            );
        }
        if end - (segment + 1) as f64 * 2.0 <= 6.0 {
            for part in 0..listed {
                let key = if part == 0 { ",INDEPENDENT=YES" } else { "" };
                text += &format!("#EXT-X-PART:DURATION=0.5,URI=\"s{segment}.p{part}.m4s\"{key}\n");
            }
        }
        if listed == PARTS {
            text += &format!("#EXTINF:2.000000,\ns{segment}.m4s\n");
        }
    }
    text + &format!(
        "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"s{}.p{}.m4s\"\n",
        parts / PARTS,
        parts % PARTS
    )
}

fn site() -> Site {
    let mut site = Site::new();
    site.files.insert("init.mp4".to_owned(), init(|_, _| {}));
    for number in 0..=SEGMENTS {
        let start = number * 2 * u64::from(HZ);
        let parts: Vec<Vec<u8>> = (0..PARTS)
            .map(|part| chunk(start + part * u64::from(HZ / 2), 1, part == 0, |_| {}))
            .collect();
        for (part, data) in parts.iter().enumerate() {
            site.files.insert(format!("s{number}.p{part}.m4s"), data.clone());
        }
        site.files.insert(format!("s{number}.m4s"), parts.concat());
    }
    for parts in 12..=SEGMENTS * PARTS {
        site.versions.push(version(parts, 0));
        // what ends more than twelve seconds before the last whole segment's end
        let skip = (parts / PARTS).saturating_sub(6);
        site.deltas.push(version(parts, skip));
    }
    let last = version(SEGMENTS * PARTS, 0);
    let ended = last
        .lines()
        .filter(|line| !line.contains("PRELOAD-HINT"))
        .fold(String::new(), |text, line| text + line + "\n");
    site.versions.push(ended.clone() + "#EXT-X-ENDLIST\n");
    site.deltas.push(ended + "#EXT-X-ENDLIST\n");
    site
}

fn judged(site: Site) -> Report {
    let options = Options {
        time: Duration::from_secs(6),
        patience: Duration::from_secs(10),
        ..Options::default()
    };
    validate(&site.serve("live.m3u8"), &options).expect("it can be read")
}

#[test]
fn a_live_playlist_that_obeys_has_no_violation() {
    let report = judged(site());
    assert_eq!(
        report.violations().map(ToString::to_string).collect::<Vec<_>>(),
        Vec::<String>::new()
    );
    assert!(
        report.parts >= 28 && report.segments >= 10 && report.reloads > 25,
        "{report}"
    );
}

/// From the given version on, `from` is `to`.
fn spoiled(since: usize, from: &str, to: &str) -> Report {
    let mut site = site();
    let mut found = false;
    for text in site
        .versions
        .iter_mut()
        .skip(since)
        .chain(site.deltas.iter_mut().skip(since))
    {
        found |= text.contains(from);
        *text = text.replace(from, to);
    }
    assert!(found, "no version has {from}");
    judged(site)
}

#[test]
fn each_fault_of_a_version_is_found_under_its_clause() {
    for (clause, from, to) in [
        ("§4.4.3.7", "#EXT-X-PART-INF:PART-TARGET=0.5\n", ""),
        ("§4.4.3.8", "PART-HOLD-BACK=1.5,", ""),
        ("§4.4.3.8", "PART-HOLD-BACK=1.5", "PART-HOLD-BACK=0.9"),
        ("§4.4.3.8", "PART-HOLD-BACK=1.5", "PART-HOLD-BACK=1.2"),
        ("§4.4.3.8", ",HOLD-BACK=6", ",HOLD-BACK=5"),
        ("§4.4.3.8", "CAN-SKIP-UNTIL=12", "CAN-SKIP-UNTIL=11"),
        ("§4.4.4.9", "DURATION=0.5,URI=\"s4.p1", "DURATION=0.6,URI=\"s4.p1"),
        ("§4.4.4.9", "DURATION=0.5,URI=\"s4.p1", "DURATION=0.4,URI=\"s4.p1"),
        (
            "§4.4.4.9",
            "URI=\"s4.p1.m4s\"",
            "URI=\"s4.p1.m4s\",INDEPENDENT=YES",
        ),
        ("§4.4.4.9", "\"s4.p0.m4s\",INDEPENDENT=YES", "\"s4.p0.m4s\""),
        ("§3.2", "DURATION=0.5,URI=\"s3.p1", "DURATION=0.45,URI=\"s3.p1"),
        (
            "§4.4.5.3",
            "HINT:TYPE=PART,URI=\"s4.p1.m4s\"",
            "HINT:TYPE=PART,URI=\"s4.p2.m4s\"",
        ),
        ("B.1", "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"s4.p1.m4s\"\n", ""),
        (
            "§6.2.6",
            "#EXT-X-PRELOAD-HINT",
            "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"x\"\n#EXT-X-PRELOAD-HINT",
        ),
        ("B.1", "#EXT-X-PROGRAM-DATE-TIME", "#DATE"),
    ] {
        let report = spoiled(0, from, to);
        assert!(
            report.breaks(clause),
            "{from:?} became {to:?}, and no {clause} was found:\n{report}"
        );
    }
}

#[test]
fn each_change_that_is_not_allowed_is_found_under_its_clause() {
    for (clause, from, to) in [
        ("§6.2.1", "TARGETDURATION:2", "TARGETDURATION:3"),
        ("§6.2.1", "#EXTINF:2.000000,\ns3.m4s", "#EXTINF:2.000001,\ns3.m4s"),
        ("§6.2.1", "\ns3.m4s", "\ns2.m4s"),
        ("§6.2.1", "PART-TARGET=0.5", "PART-TARGET=0.51"),
        ("§6.2.1", "HOLD-BACK=6", "HOLD-BACK=7"),
        ("§6.2.1", "00:00:06.000Z", "00:00:06.001Z"),
        ("§6.2.2", "#EXTINF:2.000000,\ns0.m4s\n", ""),
        ("§6.2.1", "#EXT-X-VERSION:9", "#EXT-X-VERSION:10"),
    ] {
        let report = spoiled(9, from, to);
        assert!(
            report.breaks(clause),
            "{from:?} became {to:?}, and no {clause} was found:\n{report}"
        );
    }
}

#[test]
fn an_answer_without_what_was_asked_for_is_found() {
    let mut site = site();
    site.versions[9] = site.versions[8].clone();
    site.deltas[9] = site.versions[8].clone();
    assert!(judged(site).breaks("§6.2.5.2"));
}

#[test]
fn parts_that_are_other_than_their_segment_are_found() {
    let mut site = site();
    let odd = chunk(8 * u64::from(HZ), 1, true, |_| {});
    site.files
        .insert("s4.m4s".to_owned(), segment(&[odd.clone(), odd]));
    assert!(judged(site).breaks("§3.2"));
}

#[test]
fn parts_that_stay_too_long_are_found() {
    let mut site = site();
    for text in site.versions.iter_mut().chain(&mut site.deltas) {
        *text = text.replace(
            "#EXTINF:2.000000,\ns0.m4s",
            "#EXT-X-PART:DURATION=0.5,URI=\"s0.p0.m4s\",INDEPENDENT=YES\n#EXTINF:2.000000,\ns0.m4s",
        );
    }
    assert!(
        judged(site)
            .violations()
            .any(|finding| finding.rule.contains("are removed"))
    );
}

#[test]
fn a_delta_update_that_differs_from_the_playlist_is_found() {
    let mut site = site();
    for text in &mut site.deltas {
        if let Some(skip) = text
            .split("SKIPPED-SEGMENTS=")
            .nth(1)
            .and_then(|rest| rest.lines().next())
            .map(str::to_owned)
        {
            let more: u64 = skip.parse::<u64>().expect("a number") + 1;
            *text = text.replace(
                &format!("SKIPPED-SEGMENTS={skip}"),
                &format!("SKIPPED-SEGMENTS={more}"),
            );
        }
    }
    let report = judged(site);
    assert!(report.breaks("§6.2.1"), "{report}");
}

#[test]
fn directives_that_are_not_obeyed_are_found_under_their_clause() {
    for (clause, wrong) in [
        ("§6.2.5.2", Wrong::TakesPartAlone),
        ("§6.2.5.2", Wrong::TakesFarAhead),
        ("§6.2.6", Wrong::KnowsAll),
        ("§6.2.5.1", Wrong::NoDelta),
    ] {
        let mut site = site();
        site.wrong = wrong;
        let report = judged(site);
        assert!(report.breaks(clause), "{wrong:?}, and no {clause}:\n{report}");
    }
}

#[test]
fn a_segment_that_is_gone_once_it_leaves_the_window_is_found() {
    let mut site = site();
    let window = |text: &String, first: u64| {
        let mut out = text.replace("MEDIA-SEQUENCE:0", &format!("MEDIA-SEQUENCE:{first}"));
        for number in 0..first {
            out = out.replace(&format!("#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:{:02}.000Z\n#EXTINF:2.000000,\ns{number}.m4s\n", number * 2), "");
        }
        out
    };
    let cut: Vec<String> = site
        .versions
        .iter()
        .enumerate()
        .map(|(at, text)| if at > 20 { window(text, 1) } else { text.clone() })
        .collect();
    site.versions = cut;
    site.deltas.clear();
    site.wrong = Wrong::NoDelta;
    let fine = {
        let mut other = self::site();
        other.versions.clone_from(&site.versions);
        other.deltas.clear();
        judged(other)
    };
    assert!(!fine.breaks("§6.2.2"), "{fine}");
    // it was there when it was listed, and is not when the window has moved on
    site.files.remove("s0.m4s");
    let report = judged(site);
    assert!(
        report
            .violations()
            .any(|finding| finding.rule.contains("stays for its duration")),
        "{report}"
    );
}
