//! Rules of a presentation that has ended: each fault is a word replaced in a file of one that has none.

use std::time::Duration;

use loom_testkit::validator::{Boundaries, Level, Options, Report, validate};
use mp4_atom::{FourCC, Moof, Moov};

use crate::site::{HZ, Site, Wrong, chunk, init, segment};

const MAIN: &str = r#"#EXTM3U
#EXT-X-VERSION:6
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-CONTENT-STEERING:SERVER-URI="steering.json",PATHWAY-ID="A"
#EXT-X-SESSION-DATA:DATA-ID="com.example.title",LANGUAGE="en",VALUE="Test"
#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID="subs",NAME="English",LANGUAGE="en",DEFAULT=YES,AUTOSELECT=YES,URI="t.m3u8"
#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID="subs",NAME="Deutsch",LANGUAGE="de",DEFAULT=NO,AUTOSELECT=YES,URI="t.m3u8"
#EXT-X-STREAM-INF:BANDWIDTH=768,AVERAGE-BANDWIDTH=768,SCORE=2.0,CODECS="avc1.42c01f",RESOLUTION=320x180,FRAME-RATE=2.000,SUBTITLES="subs",CLOSED-CAPTIONS=NONE,STABLE-VARIANT-ID="v",PATHWAY-ID="A"
v.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=768,SCORE=1.0,CODECS="avc1.42c01f",RESOLUTION=320x180,SUBTITLES="subs",CLOSED-CAPTIONS=NONE,STABLE-VARIANT-ID="w",PATHWAY-ID="A"
w.m3u8
#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=768,CODECS="avc1.42c01f",URI="i.m3u8"
"#;

const STEERING: &str = r#"{"VERSION": 1, "TTL": 300, "PATHWAY-PRIORITY": ["A"]}"#;

fn video() -> String {
    let mut text = String::from(
        "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-PLAYLIST-TYPE:VOD\n",
    );
    text += "#EXT-X-MAP:URI=\"init.mp4\"\n#EXT-X-DATERANGE:ID=\"one\",START-DATE=\"2026-01-01T00:00:01.000Z\",DURATION=1.5,END-DATE=\"2026-01-01T00:00:02.500Z\"\n";
    for at in 0..3 {
        text += &format!(
            "#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:0{}.000Z\n#EXTINF:2.000000,\ns{at}.m4s\n",
            2 * at
        );
    }
    text + "#EXT-X-ENDLIST\n"
}

fn texts() -> String {
    let mut text = String::from(
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-PLAYLIST-TYPE:VOD\n",
    );
    for at in 0..3 {
        text += &format!(
            "#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:0{}.000Z\n#EXTINF:2.000000,\nt{at}.vtt\n",
            2 * at
        );
    }
    text + "#EXT-X-ENDLIST\n"
}

fn i_frames() -> String {
    let mut text = String::from(
        "#EXTM3U\n#EXT-X-VERSION:5\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-PLAYLIST-TYPE:VOD\n#EXT-X-I-FRAMES-ONLY\n#EXT-X-MAP:URI=\"init.mp4\"\n",
    );
    for at in 0..3 {
        text += &format!(
            "#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:0{}.000Z\n#EXTINF:2.000000,\n#EXT-X-BYTERANGE:{}@20\ns{at}.m4s\n",
            2 * at,
            media(at, |_| {}).len() - 20
        );
    }
    text + "#EXT-X-ENDLIST\n"
}

/// Segment `at`: two seconds in four pictures.
fn media(at: u64, change: impl Fn(&mut Moof)) -> Vec<u8> {
    segment(&[chunk(at * 2 * u64::from(HZ), 4, true, change)])
}

fn site() -> Site {
    let mut site = Site::new();
    let mut put = |name: &str, data: Vec<u8>| site.files.insert(name.to_owned(), data);
    put("main.m3u8", MAIN.into());
    put("steering.json", STEERING.into());
    put("v.m3u8", video().into());
    put("w.m3u8", video().into());
    put("t.m3u8", texts().into());
    put("i.m3u8", i_frames().into());
    put("init.mp4", init(|_, _| {}));
    for at in 0..3 {
        put(&format!("s{at}.m4s"), media(at, |_| {}));
        let cue = "00:01.000 --> 00:03.000\nHello\n";
        let cue = if at < 2 { cue } else { "" };
        put(
            &format!("t{at}.vtt"),
            format!("WEBVTT\nX-TIMESTAMP-MAP=LOCAL:00:00:00.000,MPEGTS:0\n\n{cue}").into(),
        );
    }
    site
}

fn judged(site: Site) -> Report {
    let options = Options {
        time: Duration::from_secs(3),
        boundaries: Boundaries::Equal,
        ..Options::default()
    };
    validate(&site.serve("main.m3u8"), &options).expect("it can be read")
}

/// A site with `from` in a file replaced by `to`, once.
fn spoiled(file: &str, from: &str, to: &str) -> Site {
    let mut site = site();
    let text = String::from_utf8(site.files[file].clone()).expect("text");
    assert!(text.contains(from), "{file} has no {from}");
    site.files
        .insert(file.to_owned(), text.replacen(from, to, 1).into());
    site
}

#[test]
fn a_presentation_that_obeys_has_no_violation() {
    let report = judged(site());
    assert_eq!(
        report.violations().map(ToString::to_string).collect::<Vec<_>>(),
        Vec::<String>::new()
    );
    assert_eq!((report.playlists, report.segments), (4, 12));
}

#[test]
fn each_fault_of_a_media_playlist_is_found_under_its_clause() {
    for (clause, from, to) in [
        ("§4.4.1.1", "#EXTM3U\n", "#EXTM3U8\n"),
        ("§4.1", "#EXTINF:2.000000,\ns1", "#EXTINF:2.000000, \ns1"),
        (
            "§4.2",
            "MAP:URI=\"init.mp4\"",
            "MAP:URI=\"init.mp4\",URI=\"init.mp4\"",
        ),
        ("§4.2", "URI=\"init.mp4\"", "URI=init.mp4"),
        ("§4.4.1.2", "#EXT-X-VERSION:6\n", ""),
        ("§8", "VERSION:6", "VERSION:5"),
        ("§6.2.1", "VERSION:6", "VERSION:9"),
        ("§4.4.3.1", "#EXT-X-TARGETDURATION:2\n", ""),
        ("§4.4.3.1", "TARGETDURATION:2", "TARGETDURATION:1"),
        ("§4.4.3", "#EXT-X-MAP", "#EXT-X-ENDLIST\n#EXT-X-MAP"),
        ("§4.4.3.2", "#EXT-X-ENDLIST", "#EXT-X-MEDIA-SEQUENCE:0"),
        ("§4.4.3.5", "TYPE:VOD", "TYPE:LIVE"),
        ("§4.4.6", "#EXT-X-MAP", "#EXT-X-MEDIA:TYPE=AUDIO\n#EXT-X-MAP"),
        ("§4.4.4.1", "#EXTINF:2.000000,\ns1", "s1"),
        ("§4.4.4.1", "#EXTINF:2.000000,\ns1", "#EXTINF:2.000000\ns1"),
        ("§3", "#EXTINF:2.000000,\ns1", "#EXTINF:1.900000,\ns1"),
        ("§6.2.1", "00:00:02.000Z\n", "00:00:02.100Z\n"),
        ("§4.4.4.6", "00:00:02.000Z\n", "00:00:02\n"),
        ("§6.2.4", "00:00:00.000Z\n", "00:00:00.060Z\n"),
        (
            "§6.2.4",
            "#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:04.000Z\n",
            "#EXT-X-DISCONTINUITY\n#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:04.000Z\n",
        ),
        (
            "§4.4.4.5",
            "URI=\"init.mp4\"",
            "URI=\"init.mp4\",BYTERANGE=\"100\"",
        ),
        ("§3.1.2", "#EXT-X-MAP:URI=\"init.mp4\"\n", ""),
        ("§4.4.4.4", "#EXT-X-MAP", "#EXT-X-KEY:METHOD=AES-128\n#EXT-X-MAP"),
        ("§4.4.4.8", "#EXT-X-MAP", "#EXT-X-BITRATE:90\n#EXT-X-MAP"),
        ("§4.4.5.1", "DURATION=1.5", "DURATION=1.6"),
        ("§4.4.5.1", "ID=\"one\",", ""),
        (
            "§4.4.5.3",
            "#EXT-X-ENDLIST",
            "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"x\"\n#EXT-X-ENDLIST",
        ),
        (
            "§4.4.2.2",
            "#EXT-X-MAP",
            "#EXT-X-START:TIME-OFFSET=60\n#EXT-X-MAP",
        ),
        (
            "§4.4.2.1",
            "#EXT-X-MAP",
            "#EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-MAP",
        ),
        ("§4.4.2.3", "#EXT-X-MAP", "#EXT-X-DEFINE:VALUE=\"x\"\n#EXT-X-MAP"),
        ("§6.2.1", "\ns1.m4s", "\ns9.m4s"),
        ("§3", "\ns1.m4s", "\ns2.m4s"),
    ] {
        let report = judged(spoiled("v.m3u8", from, to));
        assert!(
            report.breaks(clause),
            "{from:?} became {to:?}, and no {clause} was found:\n{report}"
        );
    }
}

#[test]
fn each_fault_of_a_multivariant_playlist_is_found_under_its_clause() {
    for (clause, from, to) in [
        ("§4.4.6.2", "BANDWIDTH=768,AVERAGE-BANDWIDTH=768,", ""),
        ("§4.4.6.2.1", "BANDWIDTH=768", "BANDWIDTH=500"),
        ("§4.4.6.2", "BANDWIDTH=768", "BANDWIDTH=900"),
        ("§4.4.6.2", "AVERAGE-BANDWIDTH=768", "AVERAGE-BANDWIDTH=400"),
        ("§4.4.6.2", "SCORE=1.0,", ""),
        ("§6.2.4", "avc1.42c01f", "avc1.64001f"),
        ("§4.4.6.2", "320x180", "640x360"),
        ("§4.4.6.2", "FRAME-RATE=2.000", "FRAME-RATE=2.0001"),
        ("§4.4.6.2", "SUBTITLES=\"subs\"", "SUBTITLES=\"sub\""),
        ("§4.4.6.2", ",CLOSED-CAPTIONS=NONE", ""),
        ("§4.4.6.2", "ID=\"v\"", "ID=\"v v\""),
        ("§4.4.6.1", "NAME=\"English\",", ""),
        ("§4.4.6.1.1", "NAME=\"Deutsch\"", "NAME=\"English\""),
        ("§4.4.6.1.1", "DEFAULT=NO", "DEFAULT=YES"),
        ("§4.4.6.1.1", "LANGUAGE=\"de\"", "LANGUAGE=\"en\""),
        ("§4.4.6.1", "AUTOSELECT=YES", "AUTOSELECT=NO"),
        ("§4.4.6.2.1", ",URI=\"t.m3u8\"", ""),
        ("§4.4.6.3", ",URI=\"i.m3u8\"", ""),
        ("§4.4.6.3", "URI=\"i.m3u8\"", "URI=\"t.m3u8\""),
        ("§4.4.6.4", "VALUE=\"Test\"", "VALUE=\"Test\",URI=\"x\""),
        (
            "§4.4.6.6",
            "PATHWAY-ID=\"A\"\n#EXT-X-SESSION",
            "PATHWAY-ID=\"B\"\n#EXT-X-SESSION",
        ),
        ("§7.2", "steering.json", "nowhere.json"),
        (
            "§4.4.2",
            "#EXT-X-VERSION:6\n",
            "#EXT-X-VERSION:6\n#EXT-X-VERSION:6\n",
        ),
        (
            "§4.4.3",
            "#EXT-X-VERSION:6\n",
            "#EXT-X-VERSION:6\n#EXT-X-TARGETDURATION:2\n",
        ),
        ("§6.2.1", "#EXT-X-VERSION:6\n", "#EXT-X-VERSION:11\n"),
        ("§8", "FRAME-RATE", "REQ-VIDEO-LAYOUT=\"CH-STEREO\",FRAME-RATE"),
    ] {
        let report = judged(spoiled("main.m3u8", from, to));
        assert!(
            report.breaks(clause),
            "{from:?} became {to:?}, and no {clause} was found:\n{report}"
        );
    }
}

#[test]
fn each_fault_of_the_other_files_is_found_under_its_clause() {
    for (clause, file, from, to) in [
        ("§7.2", "steering.json", "\"VERSION\": 1", "\"VERSION\": 2"),
        ("§7.2", "steering.json", "[\"A\"]", "[\"B\"]"),
        ("§3.1.4", "t0.vtt", "WEBVTT", "WEBVT"),
        (
            "§3.1.4",
            "t0.vtt",
            "X-TIMESTAMP-MAP=LOCAL:00:00:00.000,MPEGTS:0\n",
            "",
        ),
        ("WebVTT §4.1", "t0.vtt", "00:03.000", "00:00.500"),
        ("§3.1.4", "t1.vtt", "00:01.000 --> 00:03.000\nHello\n", ""),
        ("§3.1.4", "t0.vtt", "MPEGTS:0", "MPEGTS:900000"),
        ("§6.2.4", "t.m3u8", "TYPE:VOD", "TYPE:EVENT"),
        (
            "§4.4.3.6",
            "i.m3u8",
            "EXTINF:2.000000,\n#EXT-X-BYTERANGE",
            "EXTINF:1.500000,\n#EXT-X-BYTERANGE",
        ),
    ] {
        let report = judged(spoiled(file, from, to));
        assert!(
            report.breaks(clause),
            "{file}: {from:?} became {to:?}, and no {clause} was found:\n{report}"
        );
    }
}

#[test]
fn each_fault_of_an_init_segment_is_found() {
    type Change = fn(&mut mp4_atom::Ftyp, &mut Moov);
    let changes: [(&str, Change); 5] = [
        ("iso6", |ftyp, _| {
            ftyp.major_brand = FourCC::new(b"isom");
            ftyp.compatible_brands.clear();
        }),
        ("mvhd", |_, moov| moov.mvhd.duration = 1),
        ("tkhd", |_, moov| moov.trak[0].tkhd.duration = 1),
        ("mvex", |_, moov| moov.mvex = None),
        ("traf", |_, moov| {
            moov.trak[0].tkhd.track_id = 7;
            moov.mvex.iter_mut().for_each(|mvex| mvex.trex[0].track_id = 7);
        }),
    ];
    for (word, change) in changes {
        let mut site = site();
        site.files.insert("init.mp4".to_owned(), init(change));
        let report = judged(site);
        let told = report
            .violations()
            .any(|finding| finding.clause == "§3.1.2" && finding.rule.contains(word));
        assert!(told, "{word}:\n{report}");
    }
}

#[test]
fn each_fault_of_a_segment_is_found_under_its_clause() {
    type Change = fn(&mut Moof);
    let changes: [(&str, Change); 7] = [
        ("§3", |moof| {
            moof.traf[0]
                .tfdt
                .iter_mut()
                .for_each(|tfdt| tfdt.base_media_decode_time += 1)
        }),
        ("§3.1.2", |moof| moof.traf[0].tfdt = None),
        ("§3.1.2", |moof| moof.traf[0].tfhd.default_base_is_moof = false),
        ("ISO/IEC 14496-12 §8.8.8", |moof| {
            moof.traf[0].trun[0].data_offset = Some(1_000)
        }),
        ("ISO/IEC 14496-12 §8.8.3.1", |moof| {
            each_sample(moof, |at, sample| {
                sample.flags = (at > 0).then_some(0x0200_0000).or(sample.flags)
            })
        }),
        ("ISO/IEC 23000-19 §7.3.2.2", |moof| {
            each_sample(moof, |at, sample| {
                sample.size = sample.size.map(|size| size - u32::from(at == 3))
            })
        }),
        ("§3", |moof| {
            each_sample(moof, |_, sample| {
                sample.duration = sample.duration.map(|ticks| ticks - 200)
            })
        }),
    ];
    for (clause, change) in changes {
        let mut site = site();
        site.files.insert("s1.m4s".to_owned(), media(1, change));
        let report = judged(site);
        assert!(report.breaks(clause), "no {clause} was found:\n{report}");
    }
    let mut site = site();
    site.files.insert(
        "s1.m4s".to_owned(),
        segment(&[chunk(2 * u64::from(HZ), 4, false, |_| {})]),
    );
    let report = judged(site);
    for clause in ["§4.4.2.1", "§3", "§4.4.3.6"] {
        assert!(
            report.breaks(clause),
            "a segment without a key frame, and no {clause}:\n{report}"
        );
    }
    let mut site = self::site();
    let cut = site.files["s1.m4s"].len() - 3;
    site.files
        .entry("s1.m4s".to_owned())
        .and_modify(|data| data.truncate(cut));
    assert!(judged(site).breaks("ISO/IEC 14496-12 §4.2"));
}

fn each_sample(moof: &mut Moof, change: impl Fn(usize, &mut mp4_atom::TrunEntry)) {
    let mut entries: Vec<_> = moof.traf[0].trun[0].samples.iter().collect();
    entries
        .iter_mut()
        .enumerate()
        .for_each(|(at, entry)| change(at, entry));
    moof.traf[0].trun[0].samples = entries.into();
}

#[test]
fn headers_that_are_missing_are_found() {
    let mut site = site();
    site.wrong = Wrong::Bare;
    let report = judged(site);
    for clause in ["B.1", "Fetch §3.3"] {
        assert!(report.breaks(clause), "{clause}:\n{report}");
    }
    assert!(
        report.violations().all(|finding| finding.level == Level::Should),
        "{report}"
    );
}

#[test]
fn text_that_is_long_and_not_gzipped_is_found() {
    let long = format!("# {}\n#EXT-X-MAP", "x".repeat(2_000));
    let mut site = spoiled("v.m3u8", "#EXT-X-MAP", &long);
    site.wrong = Wrong::Plain;
    let report = judged(site);
    assert!(
        report.violations().any(|finding| finding.rule.contains("gzip")),
        "{report}"
    );
}
