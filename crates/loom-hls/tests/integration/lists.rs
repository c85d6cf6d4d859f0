//! What playlists say while they grow and after: delta updates, reports, windows, date ranges, key pictures, pathways, clips.

use std::time::{Duration, SystemTime};

use crate::support::{Folder, aac_stereo, audio, h264_format, id, media, packet, video};
use loom_core::{CodecParameters, MediaTime, WallClock};
use loom_hls::{
    Answer, Body, DateRange, DateRangeValue, Packager, PackagerConfig, Pathway, SessionData, SessionValue,
    StartPoint, Steering, Window, stored_answer,
};

fn config() -> PackagerConfig {
    PackagerConfig {
        zero: Some(WallClock {
            zero: SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_363_200),
        }),
        ..Default::default()
    }
}

/// Pictures and sound, as one recording.
struct Growing {
    /// Milliseconds from one picture to the next.
    every: i64,
    /// Milliseconds from one key frame to the next.
    keys: i64,
    packager: Packager,
    folder: Folder,
    at: i64,
}

impl Growing {
    fn new(config: PackagerConfig) -> Self {
        let mut packager = Packager::new(config).unwrap();
        packager.declare(video("source", 640, 360)).unwrap();
        packager.declare(audio("aac")).unwrap();
        packager.handle_format(&id("source"), h264_format(false)).unwrap();
        packager
            .handle_format(&id("aac"), CodecParameters::Audio(aac_stereo()))
            .unwrap();
        Self {
            every: 40,
            keys: 2_000,
            packager,
            folder: Folder::default(),
            at: 0,
        }
    }

    fn to(&mut self, millis: i64) {
        while self.at < millis {
            let at = MediaTime::from_millis(self.at);
            if self.at % self.every == 0 {
                let key = self.at % self.keys == 0;
                let picture = packet(at, at, None, key, vec![1; if key { 5_000 } else { 500 }]);
                self.packager.handle_packet(&id("source"), picture).unwrap();
            }
            let sound = packet(at, at, Some(Duration::from_millis(20)), true, vec![2; 50]);
            self.packager.handle_packet(&id("aac"), sound).unwrap();
            self.at += 20;
        }
        self.folder.drain(&mut self.packager);
    }

    fn end(&mut self) {
        self.packager.finish().unwrap();
        self.folder.drain(&mut self.packager);
    }

    fn answer(&self, path: &str, query: &str) -> Answer {
        self.folder.origin.handle_request(path, Some(query))
    }

    fn text(&self, path: &str, query: &str) -> String {
        match self.answer(path, query) {
            Answer::Ready(response) => match response.body {
                Body::Bytes(text) => String::from_utf8(text.to_vec()).unwrap(),
                other => panic!("{path}?{query}: {other:?}"),
            },
            other => panic!("{path}?{query}: {other:?}"),
        }
    }

    /// What is answered once only the folder is left.
    fn stored(&self, path: &str, query: &str) -> Option<String> {
        let Answer::Ready(response) = stored_answer(path, Some(query)) else {
            return None;
        };
        let read = |key: &str| self.folder.files.get(key).cloned();
        match response.body {
            Body::Stored { key, .. } => read(&key).map(|text| String::from_utf8(text).unwrap()),
            Body::Viewed { key, view } => view.show(&key, read),
            other => panic!("{other:?}"),
        }
    }
}

fn range(id: &str, from: i64, to: Option<i64>) -> DateRange {
    DateRange {
        id: id.to_owned(),
        class: Some("chapter".to_owned()),
        start: MediaTime::from_millis(from),
        end: to.map(MediaTime::from_millis),
        attributes: vec![("X-TITLE".to_owned(), DateRangeValue::Text(id.to_owned()))],
        cue: Vec::new(),
    }
}

fn count(text: &str, tag: &str) -> usize {
    text.lines().filter(|line| line.starts_with(tag)).count()
}

#[test]
fn dates_follow_from_durations_where_sound_comes_first_and_pictures_begin_before_it() {
    let mut growing = Growing::new(config());
    let ms = MediaTime::from_millis;
    let sound = |n: i64| packet(ms(107 + n * 20), ms(107 + n * 20), None, true, vec![2; 300]);
    growing.packager.handle_packet(&id("aac"), sound(0)).unwrap();
    for n in 0..200 {
        let at = ms(100 + n * 40);
        let picture = packet(at, at, None, n % 50 == 0, vec![1; 500]);
        growing.packager.handle_packet(&id("source"), picture).unwrap();
        for n in n * 2 + 1..n * 2 + 3 {
            growing.packager.handle_packet(&id("aac"), sound(n)).unwrap();
        }
    }
    growing.packager.finish().unwrap();
    growing.folder.drain(&mut growing.packager);
    for rendition in ["source", "aac"] {
        let text = growing.folder.stored(&format!("{rendition}/index.m3u8"));
        let playlist = m3u8_rs::parse_media_playlist_res(text.as_bytes()).unwrap();
        assert!(playlist.segments.len() > 2, "{text}");
        for pair in playlist.segments.windows(2) {
            let [begin, next] = [&pair[0], &pair[1]].map(|it| it.program_date_time.unwrap());
            let apart = (next - begin).num_milliseconds() as f32 / 1_000.0;
            assert!((apart - pair[0].duration).abs() < 0.003, "{rendition}: {text}");
        }
    }
}

#[test]
fn a_delta_update_and_what_came_before_make_the_whole() {
    let mut growing = Growing::new(config());
    growing.to(20_100);
    let early = growing.text("source/index.m3u8", "_HLS_skip=YES");
    assert!(
        !early.contains("#EXT-X-SKIP"),
        "nothing lies beyond the skip boundary: {early}"
    );
    growing.to(61_000);
    let whole = growing.text("source/index.m3u8", "");
    let delta = growing.text("source/index.m3u8", "_HLS_skip=YES");
    let skip = delta
        .lines()
        .find_map(|line| line.strip_prefix("#EXT-X-SKIP:SKIPPED-SEGMENTS="))
        .unwrap();
    let skipped: usize = skip.parse().unwrap();
    // what remains lasts the skip boundary of 24 s, less the segment that is open, and less than a segment more
    let left: f64 = delta
        .lines()
        .filter_map(|line| {
            line.strip_prefix("#EXTINF:")?
                .strip_suffix(',')?
                .parse::<f64>()
                .ok()
        })
        .sum();
    assert!((22.0..=26.0).contains(&left), "{left}");
    assert_eq!(count(&delta, "#EXTINF") + skipped, count(&whole, "#EXTINF"));
    // the whole's lines, less those of the skipped segments, are the delta's, less the tag
    let uri = format!("\ns{skipped}.m4s\n");
    let (_, behind) = whole.split_once(&uri).unwrap();
    assert!(delta.ends_with(behind), "{delta}");
    let before = delta.split("#EXT-X-SKIP").next().unwrap();
    assert!(whole.starts_with(before), "{delta}");
    growing.end();
    assert!(
        !growing
            .text("source/index.m3u8", "_HLS_skip=YES")
            .contains("#EXT-X-SKIP")
    );
}

#[test]
fn a_delta_update_of_the_second_kind_leaves_out_old_date_ranges() {
    let mut growing = Growing::new(config());
    growing.to(2_100);
    growing
        .packager
        .handle_date_range(&range("one", 0, Some(2_000)))
        .unwrap();
    growing.to(61_000);
    growing
        .packager
        .handle_date_range(&range("two", 60_000, None))
        .unwrap();
    growing.to(62_000);
    let whole = growing.text("source/index.m3u8", "");
    assert_eq!(count(&whole, "#EXT-X-DATERANGE"), 2);
    let first = growing.text("source/index.m3u8", "_HLS_skip=YES");
    assert_eq!(count(&first, "#EXT-X-DATERANGE"), 2, "YES skips segments alone");
    let second = growing.text("source/index.m3u8", "_HLS_skip=v2");
    assert!(second.contains(",RECENTLY-REMOVED-DATERANGES=\"\"\n"), "{second}");
    assert!(
        second.contains("ID=\"two\"") && !second.contains("ID=\"one\""),
        "{second}"
    );
    assert!(second.starts_with("#EXTM3U\n#EXT-X-VERSION:10\n"));
    // in a window it has left the playlist, and that is said for as long as the skip boundary
    growing.to(66_500);
    let window = growing.text("source/index.m3u8", "window=dvr-50&_HLS_skip=v2");
    assert!(
        window.contains(",RECENTLY-REMOVED-DATERANGES=\"one\"\n") && !window.contains("ID=\"one\""),
        "{window}"
    );
}

#[test]
fn date_ranges_stand_in_every_playlist_and_can_be_told_after_the_end() {
    let mut growing = Growing::new(config());
    growing.to(4_500);
    growing
        .packager
        .handle_date_range(&range("a", 1_000, None))
        .unwrap();
    growing.to(8_000);
    let line =
        "#EXT-X-DATERANGE:ID=\"a\",CLASS=\"chapter\",START-DATE=\"2026-11-22T16:00:01.000Z\",X-TITLE=\"a\"\n";
    for path in ["source/index.m3u8", "aac/index.m3u8", "source/iframes.m3u8"] {
        assert!(growing.text(path, "").contains(line), "{path}");
        assert!(growing.folder.stored(path).contains(line), "{path}");
    }
    assert!(
        growing
            .packager
            .handle_date_range(&range("a", 2_000, None))
            .is_err(),
        "its start is fixed"
    );
    growing.end();
    growing
        .packager
        .handle_date_range(&range("a", 1_000, Some(5_000)))
        .unwrap();
    growing
        .packager
        .handle_date_range(&range("b", 5_000, Some(8_000)))
        .unwrap();
    growing.folder.drain(&mut growing.packager);
    for path in ["source/index.m3u8", "aac/index.m3u8", "source/iframes.m3u8"] {
        let stored = growing.folder.stored(path);
        assert_eq!(count(&stored, "#EXT-X-DATERANGE"), 2, "{stored}");
        assert!(
            stored.contains("END-DATE=\"2026-11-22T16:00:05.000Z\""),
            "{stored}"
        );
        assert!(stored.ends_with("#EXT-X-ENDLIST\n"));
        let parsed = m3u8_rs::parse_media_playlist_res(stored.as_bytes()).unwrap();
        assert_eq!(parsed.playlist_type, Some(m3u8_rs::MediaPlaylistType::Vod));
    }
    let mut undated = Packager::new(PackagerConfig::default()).unwrap();
    let why = undated
        .handle_date_range(&range("a", 0, None))
        .unwrap_err()
        .to_string();
    assert!(why.contains("EXT-X-PROGRAM-DATE-TIME"), "{why}");
}

#[test]
fn each_playlist_reports_how_far_the_others_are() {
    let mut growing = Growing::new(config());
    growing.to(4_500);
    let text = growing.text("source/index.m3u8", "");
    let sound = growing.text("aac/index.m3u8", "");
    // the newest segment, and the parts listed of it
    let (whole, open) = sound.rsplit_once(".m4s\n#EXT").unwrap();
    let segment: u64 = whole.rsplit_once("\ns").unwrap().1.parse::<u64>().unwrap() + 1;
    let part = open.matches("EXT-X-PART:").count() + usize::from(open.starts_with("-X-PART:")) - 1;
    let newest = growing.text("aac/index.m3u8", "");
    assert_eq!(newest, sound);
    let reports = |text: &str| -> Vec<String> {
        let all = text
            .lines()
            .filter_map(|line| line.strip_prefix("#EXT-X-RENDITION-REPORT:"));
        all.map(str::to_owned).collect()
    };
    let of_sound = format!("URI=\"../aac/index.m3u8\",LAST-MSN={segment},LAST-PART={part}");
    let of_keys = "URI=\"../source/iframes.m3u8\",LAST-MSN=2".to_owned();
    assert_eq!(reports(&text), [of_sound.clone(), of_keys.clone()], "{text}");
    let pictures = &reports(&sound)[0];
    assert!(
        pictures.starts_with("URI=\"../source/index.m3u8\",LAST-MSN=3,LAST-PART="),
        "{sound}"
    );
    assert_eq!(reports(&sound), [pictures.clone(), of_keys]);
    let keys = growing.text("source/iframes.m3u8", "");
    assert_eq!(reports(&keys), [of_sound, pictures.clone()], "{keys}");
    let window = growing.text("source/index.m3u8", "window=live");
    assert!(
        window.contains("URI=\"../aac/index.m3u8?window=live\""),
        "{window}"
    );
    // while the publisher is away the newest that there is are gaps, which have no parts
    let end = growing.packager.handle_absence().unwrap();
    growing.packager.handle_gap(end + Duration::from_secs(5)).unwrap();
    growing.folder.drain(&mut growing.packager);
    let gaps = growing.text("aac/index.m3u8", "");
    let newest = 3 + gaps.matches("#EXT-X-GAP").count();
    assert!(newest >= 5, "{gaps}");
    for (of, among) in [("aac", "source/index.m3u8"), ("source", "source/iframes.m3u8")] {
        let told = format!("URI=\"../{of}/index.m3u8\",LAST-MSN={newest}");
        let text = growing.text(among, "");
        assert!(reports(&text).contains(&told), "{told}: {text}");
    }
    growing.end();
    assert!(!growing.text("source/index.m3u8", "").contains("RENDITION-REPORT"));
}

#[test]
fn windows_slide_with_their_numbers_right() {
    let mut growing = Growing::new(config());
    growing.to(10_100);
    // another take: a discontinuity
    growing
        .packager
        .handle_return(MediaTime::from_millis(12_000))
        .unwrap();
    growing.at = 12_000;
    let mut before = (0, 0);
    for step in 0..40 {
        growing.to(12_000 + step * 1_000);
        for (query, least) in [("window=live", 16.0), ("window=dvr-30", 30.0)] {
            for rendition in ["source", "aac"] {
                let text = growing.text(&format!("{rendition}/index.m3u8"), query);
                let parsed = m3u8_rs::parse_media_playlist_res(text.as_bytes()).unwrap();
                assert_eq!(parsed.playlist_type, None, "what slides has no type (§4.4.3.5)");
                let length: f32 = parsed.segments.iter().map(|s| s.duration).sum();
                assert!(length < least + 4.1, "{query}: {length}");
                assert_eq!(
                    length >= least,
                    growing.at > (least * 1000.0) as i64 + 4_000 || length >= least
                );
                // it is the end of the whole one
                let whole = growing.text(&format!("{rendition}/index.m3u8"), "");
                let first = text.lines().find(|line| line.ends_with(".m4s")).unwrap();
                assert_eq!(first, format!("s{}.m4s", parsed.media_sequence));
                let removed = whole.split(&format!("\n{first}\n")).next().unwrap();
                let mine = text.split(&format!("\n{first}\n")).next().unwrap();
                let gone = count(removed, "#EXT-X-DISCONTINUITY\n".trim())
                    - count(mine, "#EXT-X-DISCONTINUITY\n".trim());
                let told = text
                    .lines()
                    .find_map(|line| {
                        line.strip_prefix("#EXT-X-DISCONTINUITY-SEQUENCE:")?
                            .parse::<usize>()
                            .ok()
                    })
                    .unwrap_or(0);
                let sequence = usize::from(told > 0);
                assert_eq!(told, gone + sequence, "{text}");
                assert!(mine.contains("#EXT-X-MAP:URI=\"init-0.mp4\"\n"), "{text}");
                assert!(mine.contains("#EXT-X-PROGRAM-DATE-TIME"), "{text}");
                if (query, rendition) == ("window=live", "source") {
                    assert!(before <= (parsed.media_sequence, told), "numbers never fall");
                    before = (parsed.media_sequence, told);
                }
            }
        }
    }
    assert!(before.0 > 10 && before.1 == 1, "{before:?}");
    let main = growing.text("main.m3u8", "window=dvr-30");
    assert!(
        main.contains("\nsource/index.m3u8?window=dvr-30\n")
            && main.contains("URI=\"aac/index.m3u8?window=dvr-30\"")
            && main.contains("URI=\"source/iframes.m3u8?window=dvr-30\""),
        "{main}"
    );
    for query in ["window=week", "window=live&start=10", "from=1&to=2", "start=x"] {
        assert!(
            matches!(growing.answer("source/index.m3u8", query), Answer::BadRequest(_)),
            "{query}"
        );
    }
    growing.end();
    let stored = growing.stored("source/index.m3u8", "window=live").unwrap();
    let live = growing.text("source/index.m3u8", "window=live");
    let numbers = |text: &str| {
        text.lines()
            .find(|line| line.starts_with("#EXT-X-MEDIA-SEQUENCE"))
            .unwrap()
            .to_owned()
    };
    assert_eq!(
        numbers(&stored),
        numbers(&live),
        "a viewer may come back after the end"
    );
    assert_eq!(count(&stored, "#EXTINF"), count(&live, "#EXTINF"));
    assert!(!stored.contains("PLAYLIST-TYPE"), "{stored}");
}

#[test]
fn a_clip_is_a_vod_of_the_segments_that_lie_in_it() {
    let mut growing = Growing::new(config());
    growing.to(20_000);
    growing
        .packager
        .handle_date_range(&range("early", 0, Some(1_000)))
        .unwrap();
    growing
        .packager
        .handle_date_range(&range("inside", 7_000, Some(8_000)))
        .unwrap();
    growing.end();
    for (path, query, link) in [
        ("source/index.m3u8", "from=6.5&to=11", "s4.m4s"),
        ("clip/6.5-11/source/index.m3u8", "", "../../../source/s4.m4s"),
        ("aac/index.m3u8", "from=6.5&to=11", "s4.m4s"),
    ] {
        let text = growing.stored(path, query).unwrap();
        let parsed = m3u8_rs::parse_media_playlist_res(text.as_bytes()).unwrap();
        assert_eq!(parsed.media_sequence, 4, "{text}");
        assert_eq!(parsed.playlist_type, Some(m3u8_rs::MediaPlaylistType::Vod));
        assert!(parsed.end_list);
        assert_eq!(parsed.segments.len(), 3, "6 s to 12 s: {text}");
        assert_eq!(parsed.segments[0].uri, link);
        assert!(
            parsed.segments[0].map.is_some(),
            "the map in force is said anew: {text}"
        );
        assert!(
            text.contains("ID=\"inside\"") && !text.contains("ID=\"early\""),
            "{text}"
        );
    }
    let main = growing.stored("main.m3u8", "from=6.5&to=11&start=6.5").unwrap();
    assert!(
        main.contains("#EXT-X-START:TIME-OFFSET=0.500000,PRECISE=YES\n"),
        "{main}"
    );
    assert!(
        main.contains("\nsource/index.m3u8?from=6.5&to=11&start=6.5\n"),
        "{main}"
    );
    let main = growing.stored("clip/6.5-11/main.m3u8", "").unwrap();
    assert!(main.contains("\nsource/index.m3u8\n"), "{main}");
    assert_eq!(growing.stored("source/index.m3u8", "from=100&to=110"), None);
    assert_eq!(growing.stored("clip/6.5-11/source/s4.m4s", ""), None);
    for path in ["clip/11-6.5/main.m3u8", "clip/x-y/main.m3u8", "clip/5/main.m3u8"] {
        assert!(
            matches!(stored_answer(path, None), Answer::BadRequest(_)),
            "{path}"
        );
    }
}

#[test]
fn a_foreign_decoder_gets_a_picture_of_every_range_of_the_key_pictures() {
    if !media::have_ffmpeg() {
        return;
    }
    let stream = media::h264_stream("source", 320, 180, 9, 60, 2);
    let mut packager = Packager::new(config()).unwrap();
    let streams = [stream];
    let folder = crate::support::package(&mut packager, &streams, |_, _, _| {});
    let text = folder.stored("source/iframes.m3u8");
    let parsed = m3u8_rs::parse_media_playlist_res(text.as_bytes()).unwrap();
    assert!(parsed.i_frames_only && parsed.end_list, "{text}");
    let whole = folder.stored("source/index.m3u8");
    assert_eq!(parsed.segments.len(), count(&whole, "#EXTINF"));
    assert!(parsed.segments.len() >= 4);
    let init = &folder.files["source/init-0.mp4"];
    let dir = tempfile::tempdir().unwrap();
    for segment in &parsed.segments {
        let range = segment
            .byte_range
            .as_ref()
            .unwrap_or_else(|| panic!("{segment:?}"));
        let file = &folder.files[&format!("source/{}", segment.uri)];
        let (from, len) = (range.offset.unwrap() as usize, range.length as usize);
        let mut alone = init.clone();
        alone.extend_from_slice(&file[from..from + len]);
        let path = dir.path().join("one.mp4");
        std::fs::write(&path, alone).unwrap();
        let said = media::complaints_of_file(&path);
        assert!(said.is_empty(), "{segment:?}: {said}");
        let seen = media::probe_packets(&path, "0");
        assert_eq!(seen.len(), 1, "{segment:?}");
        assert!(seen[0].3, "it is a key frame");
    }
    let main = folder.stored("main.m3u8");
    let parsed = m3u8_rs::parse_master_playlist_res(main.as_bytes()).unwrap();
    let frames: Vec<_> = parsed.variants.iter().filter(|v| v.is_i_frame).collect();
    let pictures: Vec<_> = parsed.variants.iter().filter(|v| !v.is_i_frame).collect();
    assert_eq!((frames.len(), pictures.len()), (1, 1));
    assert_eq!(frames[0].uri, "source/iframes.m3u8");
    assert!(frames[0].bandwidth < pictures[0].bandwidth, "{main}");
    assert!(frames[0].average_bandwidth.unwrap() <= frames[0].bandwidth);
}

#[test]
fn the_key_pictures_playlist_grows_with_the_segments() {
    let mut growing = Growing::new(config());
    growing.to(6_500);
    let text = growing.text("source/iframes.m3u8", "_HLS_msn=3");
    assert!(
        text.contains("#EXT-X-I-FRAMES-ONLY\n") && !text.contains("#EXT-X-PART"),
        "{text}"
    );
    assert_eq!(count(&text, "#EXT-X-BYTERANGE"), 3);
    assert!(matches!(
        growing.answer("source/iframes.m3u8", "_HLS_msn=4"),
        Answer::WaitFor(wait) if wait.rendition == Some(id("source")) && wait.segment == Some(4)
    ));
    assert_eq!(growing.answer("aac/iframes.m3u8", ""), Answer::NotFound);
    let control = |text: &str| {
        text.lines()
            .find(|line| line.contains("SERVER-CONTROL"))
            .map(str::to_owned)
    };
    let pictures = growing.text("source/index.m3u8", "");
    assert_eq!(
        control(&text),
        control(&pictures),
        "it is the same in all playlists (§6.2.4)"
    );
    growing.end();
    for path in ["source/iframes.m3u8", "source/index.m3u8"] {
        let ended = growing.text(path, "");
        assert!(ended.contains("#EXT-X-PLAYLIST-TYPE:VOD\n"), "{ended}");
    }
    assert!(
        growing
            .text("source/iframes.m3u8", "")
            .starts_with("#EXTM3U\n#EXT-X-VERSION:5\n")
    );
}

#[test]
fn where_a_segment_exceeds_the_target_duration_by_what_is_rounded_off_the_version_says_so() {
    let mut growing = Growing::new(PackagerConfig {
        low_latency: false,
        ..config()
    });
    // none at 4 s
    (growing.every, growing.keys) = (60, 60_000);
    growing.to(14_000);
    growing.end();
    for path in ["source/index.m3u8", "source/iframes.m3u8"] {
        for text in [growing.text(path, ""), growing.folder.stored(path)] {
            assert!(text.contains("#EXT-X-TARGETDURATION:4\n"), "{text}");
            assert!(text.contains("#EXTINF:4.02"), "{text}");
            assert!(text.starts_with("#EXTM3U\n#EXT-X-VERSION:6\n"), "{text}");
        }
    }
}

#[test]
fn ages_are_those_that_the_specification_recommends() {
    let mut growing = Growing::new(config());
    growing.to(6_500);
    let age = |path: &str, query: &str| match growing.answer(path, query) {
        Answer::Ready(response) => response.cache_control,
        other => panic!("{other:?}"),
    };
    // a target duration of 4 s: half of it, and six of them
    assert_eq!(age("source/index.m3u8", ""), "public, max-age=2");
    assert_eq!(
        age("source/index.m3u8", "_HLS_msn=3&_HLS_part=0"),
        "public, max-age=24"
    );
    assert_eq!(age("source/s1.m4s", ""), "public, max-age=31536000, immutable");
    assert_eq!(age("main.m3u8", ""), "public, max-age=2");
}

#[test]
fn several_hosts_are_pathways_with_the_same_variants() {
    let pathways = vec![
        Pathway {
            id: "here".to_owned(),
            base_url: None,
        },
        Pathway {
            id: "cdn".to_owned(),
            base_url: Some("https://cdn.example/r/".to_owned()),
        },
    ];
    let mut growing = Growing::new(PackagerConfig {
        pathways: pathways.clone(),
        steering: true,
        start: Some(StartPoint::FromEnd(Duration::from_secs(30))),
        session_data: vec![SessionData {
            id: "com.apple.hls.title".to_owned(),
            value: SessionValue::Text("A \"talk\"".to_owned()),
            language: Some("en".to_owned()),
        }],
        ..config()
    });
    growing.to(4_500);
    let text = growing.text("main.m3u8", "");
    for line in [
        "#EXT-X-CONTENT-STEERING:SERVER-URI=\"steering.json\",PATHWAY-ID=\"here\"\n",
        "#EXT-X-SESSION-DATA:DATA-ID=\"com.apple.hls.title\",VALUE=\"A talk\",LANGUAGE=\"en\"\n",
        "#EXT-X-START:TIME-OFFSET=-30.000000,PRECISE=YES\n",
        "GROUP-ID=\"aac.cdn\"",
        "URI=\"https://cdn.example/r/aac/index.m3u8\"",
        "\nhttps://cdn.example/r/source/index.m3u8\n",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let parsed = m3u8_rs::parse_master_playlist_res(text.as_bytes()).unwrap();
    let of = |pathway: &str| -> Vec<String> {
        let mark = format!("PATHWAY-ID=\"{pathway}\"");
        let lines = text
            .lines()
            .filter(|line| line.contains(&mark) && line.contains("STREAM-INF"));
        lines
            .map(|line| {
                let line = line.replace(".cdn\"", "\"").replace("https://cdn.example/r/", "");
                line.replace(&mark, "")
            })
            .collect()
    };
    assert_eq!(of("here"), of("cdn"), "{text}");
    assert_eq!(of("here").len(), 2);
    assert_eq!(parsed.variants.len(), 4);
    assert!(
        growing
            .text("source/index.m3u8", "")
            .contains("#EXT-X-START:TIME-OFFSET=-30.000000")
    );
    let clip = {
        growing.end();
        growing.stored("clip/0-2/main.m3u8", "").unwrap()
    };
    assert!(
        clip.contains("\nhttps://cdn.example/r/clip/0-2/source/index.m3u8\n"),
        "{clip}"
    );

    let mut origin = loom_hls::Origin::new();
    assert_eq!(origin.handle_request("steering.json", None), Answer::NotFound);
    assert!(origin.set_ranking(&["cdn".to_owned()]).is_err());
    origin.set_steering(Steering::new(&pathways, Duration::from_secs(10)).unwrap());
    let ranked = |origin: &loom_hls::Origin| match origin
        .handle_request("steering.json", Some("_HLS_pathway=\"here\""))
    {
        Answer::Ready(response) => match response.body {
            Body::Bytes(text) => String::from_utf8(text.to_vec()).unwrap(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    assert!(ranked(&origin).contains("\"PATHWAY-PRIORITY\":[\"here\",\"cdn\"]"));
    origin
        .set_ranking(&["cdn".to_owned(), "here".to_owned()])
        .unwrap();
    assert!(ranked(&origin).contains("\"PATHWAY-PRIORITY\":[\"cdn\",\"here\"]"));
}

#[test]
fn a_configuration_that_breaks_a_clause_is_refused() {
    for config in [
        PackagerConfig {
            window: Window::Live,
            start: Some(StartPoint::FromBeginning(Duration::from_secs(3))),
            ..config()
        },
        PackagerConfig {
            start: Some(StartPoint::FromEnd(Duration::from_secs(3))),
            ..config()
        },
        PackagerConfig {
            pathways: vec![Pathway {
                id: "a b".to_owned(),
                base_url: None,
            }],
            ..config()
        },
        PackagerConfig {
            session_data: vec![SessionData {
                id: String::new(),
                value: SessionValue::Text(String::new()),
                language: None,
            }],
            ..config()
        },
    ] {
        assert!(Packager::new(config).is_err());
    }
}

#[test]
fn a_coming_map_is_hinted_before_its_first_part() {
    let mut growing = Growing::new(config());
    growing.to(5_000);
    assert!(!growing.text("source/index.m3u8", "").contains("TYPE=MAP"));
    let CodecParameters::Video(mut smaller) = h264_format(false) else {
        unreachable!()
    };
    smaller.width = 320;
    growing
        .packager
        .handle_format(&id("source"), CodecParameters::Video(smaller))
        .unwrap();
    growing.folder.drain(&mut growing.packager);
    let text = growing.text("source/index.m3u8", "");
    assert!(
        text.contains("#EXT-X-PRELOAD-HINT:TYPE=MAP,URI=\"init-1.mp4\"\n"),
        "{text}"
    );
    assert_eq!(count(&text, "#EXT-X-PRELOAD-HINT"), 2);
}

#[test]
fn each_segment_says_its_bit_rate_where_that_is_wanted() {
    let mut growing = Growing::new(PackagerConfig {
        bit_rates: true,
        ..config()
    });
    growing.to(9_000);
    growing.end();
    for rendition in ["source", "aac"] {
        let text = growing.folder.stored(&format!("{rendition}/index.m3u8"));
        let playlist = m3u8_rs::parse_media_playlist_res(text.as_bytes()).unwrap();
        assert!(playlist.segments.len() > 3, "{text}");
        for segment in &playlist.segments {
            let said = segment
                .unknown_tags
                .iter()
                .find(|tag| tag.tag == "X-BITRATE")
                .and_then(|tag| tag.rest.as_ref()?.parse::<f64>().ok())
                .unwrap_or_else(|| panic!("{}: {text}", segment.uri));
            let bytes = growing.folder.files[&format!("{rendition}/{}", segment.uri)].len();
            let rate = bytes as f64 * 8.0 / 1000.0 / f64::from(segment.duration);
            // §4.4.4.8: within 10 %
            assert!((said - rate).abs() <= rate * 0.1, "{said} of {rate}");
        }
    }
    assert!(!growing.folder.stored("source/iframes.m3u8").contains("BITRATE"));
}
