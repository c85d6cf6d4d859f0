//! Requests and answers while a recording grows.

use std::time::{Duration, SystemTime};

use crate::support::{Folder, aac_stereo, audio, captions, h264_format, id, packet, video};
use loom_core::{CodecParameters, MediaTime, WallClock};
use loom_hls::{Answer, Body, Growth, Packager, PackagerConfig, RenditionInfo, stored_answer};

const PICTURE: i64 = 40;

/// A recording of pictures with a key frame every 2 s, at 25 a second, packaged up to some picture.
struct Growing {
    packager: Packager,
    folder: Folder,
    next: i64,
}

impl Growing {
    fn new(renditions: &[RenditionInfo]) -> Self {
        let config = PackagerConfig {
            zero: Some(WallClock {
                zero: SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_363_200),
            }),
            ..Default::default()
        };
        let mut packager = Packager::new(config).unwrap();
        for rendition in renditions {
            packager.declare(rendition.clone()).unwrap();
        }
        Self {
            packager,
            folder: Folder::default(),
            next: 0,
        }
    }

    fn started() -> Self {
        let mut growing = Self::new(&[video("source", 640, 360)]);
        growing
            .packager
            .handle_format(&id("source"), h264_format(false))
            .unwrap();
        growing
    }

    fn to(&mut self, millis: i64) {
        while self.next * PICTURE < millis {
            let at = MediaTime::from_millis(self.next * PICTURE);
            let key = self.next % 50 == 0;
            self.packager
                .handle_packet(&id("source"), packet(at, at, None, key, vec![1; 100_000]))
                .unwrap();
            self.next += 1;
        }
        self.folder.drain(&mut self.packager);
    }

    fn ask(&self, path: &str, query: &str) -> Answer {
        self.folder
            .origin
            .handle_request(path, (!query.is_empty()).then_some(query))
    }

    fn playlist(&self, query: &str) -> Option<String> {
        match self.ask("source/index.m3u8", query) {
            Answer::Ready(response) => match response.body {
                Body::Bytes(text) => Some(String::from_utf8(text.to_vec()).unwrap()),
                _ => panic!("a live playlist is in memory"),
            },
            Answer::WaitFor(wait) => {
                assert_eq!(wait.rendition, Some(id("source")));
                assert!(wait.limit >= Duration::from_secs(12));
                None
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_multivariant_playlist_waits_until_every_format_is_known() {
    let mut growing = Growing::new(&[video("source", 640, 360), audio("aac"), audio("opus"), captions()]);
    assert!(matches!(growing.ask("main.m3u8", ""), Answer::WaitFor(wait) if wait.rendition.is_none()));
    growing
        .packager
        .handle_format(&id("source"), h264_format(false))
        .unwrap();
    growing
        .packager
        .handle_format(&id("aac"), CodecParameters::Audio(aac_stereo()))
        .unwrap();
    growing.folder.drain(&mut growing.packager);
    assert!(matches!(growing.ask("main.m3u8", ""), Answer::WaitFor(_)));
    growing.packager.drop_rendition(&id("opus")).unwrap();
    growing.folder.drain(&mut growing.packager);
    let text = growing.folder.text("main.m3u8");
    assert_eq!(
        text,
        "#EXTM3U\n#EXT-X-VERSION:6\n\
         #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"aac\",NAME=\"Sound\",DEFAULT=YES,AUTOSELECT=YES,CHANNELS=\"2\",\
         STABLE-RENDITION-ID=\"aac\",URI=\"aac/index.m3u8\"\n\
         #EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID=\"subs\",NAME=\"English\",LANGUAGE=\"en\",DEFAULT=YES,AUTOSELECT=YES,FORCED=NO,\
         CHARACTERISTICS=\"public.accessibility.transcribes-spoken-dialog\",STABLE-RENDITION-ID=\"captions\",URI=\"captions/index.m3u8\"\n\
         #EXT-X-STREAM-INF:BANDWIDTH=1140000,CODECS=\"avc1.64001e,mp4a.40.2\",RESOLUTION=640x360,FRAME-RATE=30.000,VIDEO-RANGE=SDR,AUDIO=\"aac\",\
         SUBTITLES=\"subs\",CLOSED-CAPTIONS=NONE,STABLE-VARIANT-ID=\"source\"\nsource/index.m3u8\n\
         #EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1000000,CODECS=\"avc1.64001e\",RESOLUTION=640x360,VIDEO-RANGE=SDR,\
         STABLE-VARIANT-ID=\"source.iframes\",URI=\"source/iframes.m3u8\"\n"
    );
    assert!(growing.packager.declare(audio("late")).is_err());
    assert!(matches!(growing.ask("source/index.m3u8", ""), Answer::WaitFor(_)));
    assert_eq!(growing.ask("opus/index.m3u8", ""), Answer::NotFound);
}

#[test]
fn a_live_playlist_lists_parts_hints_the_next_and_holds_back() {
    let mut growing = Growing::started();
    growing.to(2_700);
    let text = growing.playlist("").unwrap();
    assert_eq!(
        text,
        "#EXTM3U\n#EXT-X-VERSION:10\n#EXT-X-TARGETDURATION:4\n\
         #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=24.000000,CAN-SKIP-DATERANGES=YES,\
         PART-HOLD-BACK=1.002000,HOLD-BACK=12.000000\n\
         #EXT-X-PART-INF:PART-TARGET=0.334000\n#EXT-X-MEDIA-SEQUENCE:1\n#EXT-X-PLAYLIST-TYPE:EVENT\n\
         #EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-MAP:URI=\"init-0.mp4\"\n\
         #EXT-X-PROGRAM-DATE-TIME:2026-11-22T16:00:00.000Z\n\
         #EXT-X-PART:DURATION=0.320000,URI=\"p0.m4s\",INDEPENDENT=YES\n\
         #EXT-X-PART:DURATION=0.320000,URI=\"p1.m4s\"\n#EXT-X-PART:DURATION=0.320000,URI=\"p2.m4s\"\n\
         #EXT-X-PART:DURATION=0.320000,URI=\"p3.m4s\"\n#EXT-X-PART:DURATION=0.320000,URI=\"p4.m4s\"\n\
         #EXT-X-PART:DURATION=0.320000,URI=\"p5.m4s\"\n#EXT-X-PART:DURATION=0.080000,URI=\"p6.m4s\"\n\
         #EXTINF:2.000000,\ns1.m4s\n#EXT-X-PROGRAM-DATE-TIME:2026-11-22T16:00:02.000Z\n\
         #EXT-X-PART:DURATION=0.320000,URI=\"p7.m4s\",INDEPENDENT=YES\n\
         #EXT-X-PART:DURATION=0.320000,URI=\"p8.m4s\"\n\
         #EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"p9.m4s\"\n\
         #EXT-X-RENDITION-REPORT:URI=\"../source/iframes.m3u8\",LAST-MSN=1\n"
    );
    // parts are their segment, cut up
    let whole: Vec<u8> = (0..7)
        .flat_map(|p| growing.folder.get(&format!("source/p{p}.m4s")).unwrap())
        .collect();
    assert_eq!(growing.folder.get("source/s1.m4s").unwrap(), whole);
    assert_eq!(&whole[4..8], b"styp");
}

#[test]
fn a_blocked_reload_wakes_on_the_part_it_asked_for() {
    let mut growing = Growing::started();
    growing.to(200);
    assert_eq!(growing.playlist("_HLS_msn=1&_HLS_part=0"), None);
    growing.to(400);
    assert!(
        growing
            .playlist("_HLS_msn=1&_HLS_part=0")
            .unwrap()
            .contains("p0.m4s")
    );
    assert_eq!(
        growing.playlist(""),
        None,
        "who asks for no part waits for a whole segment"
    );
    growing.to(2_100);
    assert!(growing.playlist("").is_some());
    assert!(growing.playlist("foo=bar&_HLS_msn=1").is_some());
    assert_eq!(growing.playlist("_HLS_msn=2"), None);
    assert_eq!(growing.playlist("_HLS_msn=2&_HLS_part=0"), None);
    assert_eq!(
        growing.playlist("_HLS_msn=1&_HLS_part=7"),
        None,
        "past the end of a segment the next one's first part is meant"
    );
    growing.to(2_500);
    assert!(
        growing
            .playlist("_HLS_msn=1&_HLS_part=7")
            .unwrap()
            .contains("p7.m4s")
    );
    assert_eq!(growing.playlist("_HLS_msn=2&_HLS_part=1"), None);
    growing.to(4_100);
    let all_parts = growing.playlist("_HLS_msn=2&_HLS_part=6").unwrap();
    assert!(
        all_parts.contains("p13.m4s") && !all_parts.contains("s2.m4s"),
        "{all_parts}"
    );
    assert_eq!(
        growing.playlist("_HLS_msn=2"),
        None,
        "a segment's URI comes a part later than its last part"
    );
    growing.to(4_500);
    let whole = growing.playlist("_HLS_msn=2").unwrap();
    assert!(whole.contains("s2.m4s") && whole.contains("p14.m4s"), "{whole}");
    growing.to(6_100);
    assert!(!growing.playlist("").unwrap().contains("s3.m4s"));
    growing.packager.finish().unwrap();
    growing.folder.drain(&mut growing.packager);
    let ended = growing.playlist("_HLS_msn=9&_HLS_part=3").unwrap();
    assert!(
        ended.contains("s3.m4s")
            && ended.ends_with("#EXT-X-ENDLIST\n")
            && !ended.contains("PART")
            && !ended.contains("HINT"),
        "{ended}"
    );
}

#[test]
fn a_reload_from_too_far_ahead_is_refused_before_the_first_segment_too() {
    let mut growing = Growing::started();
    for millis in [0, 40, 700, 1_700] {
        growing.to(millis);
        for path in ["source/index.m3u8", "source/iframes.m3u8"] {
            for query in ["_HLS_msn=3", "_HLS_msn=50&_HLS_part=0"] {
                let answer = growing.ask(path, query);
                assert!(
                    matches!(&answer, Answer::BadRequest(why) if why.contains("RFC 8216bis §6.2.5.2")),
                    "{path}?{query} at {millis}: {answer:?}"
                );
            }
            for query in ["_HLS_msn=1", "_HLS_msn=2"] {
                assert!(
                    matches!(growing.ask(path, query), Answer::WaitFor(_)),
                    "{path}?{query} at {millis}"
                );
            }
        }
    }
}

#[test]
fn a_reload_from_too_far_ahead_or_without_sense_is_refused() {
    let mut growing = Growing::started();
    growing.to(4_400);
    for query in [
        "_HLS_msn=5",
        "_HLS_msn=5&_HLS_part=0",
        "_HLS_msn=3&_HLS_part=4",
        "_HLS_part=1",
        "_HLS_msn=-1",
        "_HLS_msn=",
        "_HLS_msn=1e3",
        "_HLS_msn=99999999999999999999",
        "_HLS_msn=2&_HLS_part=x",
    ] {
        let answer = growing.ask("source/index.m3u8", query);
        assert!(
            matches!(&answer, Answer::BadRequest(why) if why.contains("RFC 8216bis §6.2.5.2")),
            "{query}: {answer:?}"
        );
    }
    for query in ["_HLS_msn=4", "_HLS_msn=4&_HLS_part=0", "_HLS_msn=3&_HLS_part=3"] {
        assert!(
            matches!(growing.ask("source/index.m3u8", query), Answer::WaitFor(_)),
            "{query}"
        );
    }
    assert!(matches!(
        growing.ask("source/index.m3u8", &"x".repeat(600)),
        Answer::BadRequest(_)
    ));
}

#[test]
fn the_hinted_part_is_waited_for_and_no_other() {
    let mut growing = Growing::started();
    growing.to(2_500);
    assert!(matches!(growing.ask("source/p8.m4s", ""), Answer::WaitFor(_)));
    for path in [
        "source/p9.m4s",
        "source/p10.m4s",
        "source/s3.m4s",
        "source/s2.p1.m4s",
        "source/init-1.mp4",
        "else/index.m3u8",
    ] {
        assert_eq!(growing.ask(path, ""), Answer::NotFound, "{path}");
    }
    growing.to(2_800);
    assert!(matches!(growing.ask("source/p8.m4s", ""), Answer::Ready(_)));
}

#[test]
fn a_hinted_part_is_the_next_whichever_segment_it_falls_in() {
    let mut growing = Growing::started();
    let (mut before, mut came) = (None, 0);
    // a key frame every 1,920 ms, which is six whole parts: with the sixth nobody knows yet that its segment ends
    for n in 0..300 {
        let at = MediaTime::from_millis(n * PICTURE);
        let picture = packet(at, at, None, n % 48 == 0, vec![1; 1_000]);
        growing.packager.handle_packet(&id("source"), picture).unwrap();
        growing.folder.drain(&mut growing.packager);
        let Some(text) = growing.playlist("_HLS_msn=1&_HLS_part=0") else {
            continue;
        };
        let uri = |tag: &str| {
            let line = text.lines().rfind(|line| line.starts_with(tag)).unwrap();
            line.split('"').nth(1).unwrap().to_owned()
        };
        let hint = uri("#EXT-X-PRELOAD-HINT:TYPE=PART");
        let asked = growing.ask(&format!("source/{hint}"), "");
        assert!(matches!(asked, Answer::WaitFor(_)), "{hint}: {asked:?}");
        if let Some(before) = before.filter(|before| *before != hint) {
            assert_eq!(uri("#EXT-X-PART:"), before, "{text}");
            assert!(matches!(
                growing.ask(&format!("source/{before}"), ""),
                Answer::Ready(_)
            ));
            came += 1;
        }
        before = Some(hint);
    }
    assert!(came > 30, "{came}");
}

#[test]
fn only_the_change_that_brings_it_ends_a_wait() {
    let mut growing = Growing::started();
    growing.to(2_500);
    let waits: Vec<_> = [
        ("source/p8.m4s", ""),
        ("source/index.m3u8", "_HLS_msn=2&_HLS_part=1"),
        ("source/index.m3u8", "_HLS_msn=2&_HLS_part=2"),
        ("source/index.m3u8", "_HLS_msn=2"),
    ]
    .map(|(path, query)| match growing.ask(path, query) {
        Answer::WaitFor(wait) => wait,
        other => panic!("{path}?{query}: {other:?}"),
    })
    .into();
    let of = |at: usize| (waits[at].segment, waits[at].part);
    assert_eq!(
        (of(0), of(1), of(3)),
        ((Some(2), Some(1)), (Some(2), Some(1)), (Some(2), None))
    );
    let over = |growing: &Growing| -> Vec<bool> {
        waits
            .iter()
            .map(|wait| growing.folder.origin.is_over(wait))
            .collect()
    };
    assert_eq!(over(&growing), [false; 4]);
    growing.to(2_800);
    assert_eq!(over(&growing), [true, true, false, false]);
    growing.to(4_400);
    assert_eq!(over(&growing), [true; 4]);
}

#[test]
fn a_segment_can_be_fetched_while_it_is_made() {
    let mut growing = Growing::started();
    growing.to(2_500);
    let Answer::Ready(response) = growing.ask("source/s2.m4s", "") else {
        panic!("it has begun")
    };
    let Body::Growing { rendition, segment } = response.body else {
        panic!("it is not whole: {:?}", response.body)
    };
    let (mut got, mut waited) = (Vec::new(), 0);
    loop {
        match growing
            .folder
            .origin
            .growth(&rendition, segment, got.len() as u64)
        {
            Growth::Bytes(data) => got.extend_from_slice(&data),
            Growth::WaitFor(wait) => {
                assert!(!growing.folder.origin.is_over(&wait), "{wait:?}");
                waited += 1;
                let next = growing.next * PICTURE + 340;
                growing.to(next);
            }
            Growth::End => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(waited >= 3, "{waited}");
    assert!(
        growing.folder.files["source/s2.m4s"] == got,
        "all of it, once, in order"
    );
    // long after, what is left of it is in its file
    growing.to(60_000);
    assert_eq!(
        growing.folder.origin.growth(&rendition, 2, 10),
        Growth::Rest {
            key: "source/s2.m4s".to_owned(),
            offset: 10
        }
    );
}

#[test]
fn old_parts_leave_memory_and_then_the_playlist() {
    let mut growing = Growing::started();
    growing.to(30_000);
    // 2.5 MB a second against a limit of 4 MiB
    let Answer::Ready(response) = growing.ask("source/p56.m4s", "") else {
        panic!("listed parts are there")
    };
    let Body::Stored { key, offset, len } = response.body else {
        panic!("it left memory")
    };
    assert_eq!((key.as_str(), offset), ("source/s9.m4s", 0));
    assert!(len.unwrap() > 800_000);
    let text = growing.playlist("").unwrap();
    assert!(
        text.contains("p56.m4s") && !text.contains("p49.m4s") && text.contains("\ns1.m4s\n"),
        "{text}"
    );
    assert_eq!(growing.ask("source/p14.m4s", ""), Answer::NotFound);
}

#[test]
fn a_new_format_opens_a_segment_with_its_own_map_in_every_rendition() {
    let mut growing = Growing::new(&[video("source", 640, 360), audio("aac")]);
    growing
        .packager
        .handle_format(&id("source"), h264_format(false))
        .unwrap();
    growing
        .packager
        .handle_format(&id("aac"), CodecParameters::Audio(aac_stereo()))
        .unwrap();
    let frame = Duration::from_millis(20);
    let sound = |growing: &mut Growing, from: i64, to: i64| {
        for at in (from..to).step_by(20).map(MediaTime::from_millis) {
            growing
                .packager
                .handle_packet(&id("aac"), packet(at, at, Some(frame), true, vec![2; 50]))
                .unwrap();
        }
    };
    growing.to(3_000);
    sound(&mut growing, 0, 2_900);
    let CodecParameters::Video(mut smaller) = h264_format(false) else {
        unreachable!()
    };
    smaller.width = 320;
    growing
        .packager
        .handle_format(&id("source"), CodecParameters::Video(smaller))
        .unwrap();
    // the next key frame is at 4 s: what comes before it cannot be decoded
    growing.to(6_500);
    sound(&mut growing, 2_900, 6_500);
    growing.folder.drain(&mut growing.packager);
    let text = growing.playlist("").unwrap();
    assert_eq!(
        text.matches("#EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"init-1.mp4\"\n")
            .count(),
        1,
        "{text}"
    );
    assert!(
        text.contains("#EXTINF:2.000000,\ns2.m4s\n#EXT-X-DISCONTINUITY\n"),
        "{text}"
    );
    let text = growing.folder.text("aac/index.m3u8");
    assert!(
        text.contains("s2.m4s\n#EXT-X-DISCONTINUITY\n#EXT-X-PROGRAM-DATE-TIME"),
        "{text}"
    );
    assert_eq!(text.matches("#EXT-X-MAP").count(), 1);
}

#[test]
fn a_finished_folder_answers_by_itself() {
    for (path, content_type) in [
        ("main.m3u8", "application/vnd.apple.mpegurl"),
        ("720p/index.m3u8", "application/vnd.apple.mpegurl"),
        ("720p/init-0.mp4", "video/mp4"),
        ("720p/s4.m4s", "video/mp4"),
        ("captions/s4.vtt", "text/vtt; charset=utf-8"),
    ] {
        let Answer::Ready(response) = stored_answer(path, None) else {
            panic!("{path}")
        };
        assert_eq!(response.content_type, content_type);
        assert_eq!(
            response.body,
            Body::Stored {
                key: path.to_owned(),
                offset: 0,
                len: None
            }
        );
    }
    for path in ["../etc/passwd", "720p/s4.p1.m4s", "720p/other", ""] {
        assert_eq!(stored_answer(path, None), Answer::NotFound, "{path}");
    }
}
