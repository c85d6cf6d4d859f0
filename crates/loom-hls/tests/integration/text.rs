//! Subtitles in several languages and forms, while a recording grows and after.

use std::process::Command;

use crate::support::{Folder, captions, h264_format, id, packet, video};
use loom_core::{Cue, CueId, CueState, MediaTime};
use loom_hls::{
    Answer, Body, Packager, PackagerConfig, RenditionInfo, RenditionKind, TextCue, TextForm, store_subtitles,
};

fn subtitles(name: &str, language: &str) -> RenditionInfo {
    RenditionInfo {
        id: id(name),
        kind: RenditionKind::Subtitles {
            name: language.to_uppercase(),
            language: language.to_owned(),
        },
        bandwidth: 1_000,
    }
}

fn text(cue: u64, start: i64, end: i64, said: &str) -> TextCue {
    TextCue {
        id: CueId(cue),
        start: MediaTime::from_millis(start),
        end: MediaTime::from_millis(end),
        text: said.to_owned(),
        settings: String::new(),
    }
}

/// Pictures with a key frame every 2 s, 25 a second.
struct Growing {
    packager: Packager,
    folder: Folder,
    next: i64,
}

impl Growing {
    fn new(form: TextForm, texts: &[RenditionInfo]) -> Self {
        let config = PackagerConfig {
            text: form,
            ..Default::default()
        };
        let mut packager = Packager::new(config).unwrap();
        packager.declare(video("source", 640, 360)).unwrap();
        for text in texts {
            packager.declare_text(text.clone()).unwrap();
        }
        packager.handle_format(&id("source"), h264_format(false)).unwrap();
        Self {
            packager,
            folder: Folder::default(),
            next: 0,
        }
    }

    fn to(&mut self, millis: i64) {
        while self.next * 40 < millis {
            let at = MediaTime::from_millis(self.next * 40);
            let key = self.next % 50 == 0;
            let packet = packet(at, at, None, key, vec![1; 1_000]);
            self.packager.handle_packet(&id("source"), packet).unwrap();
            self.next += 1;
        }
        self.folder.drain(&mut self.packager);
    }

    fn finish(&mut self) {
        self.packager.finish().unwrap();
        self.folder.drain(&mut self.packager);
    }

    fn playlist(&self, path: &str) -> String {
        match self.folder.origin.handle_request(path, None) {
            Answer::Ready(response) => match response.body {
                Body::Bytes(text) => String::from_utf8(text.to_vec()).unwrap(),
                Body::Stored { key, .. } => String::from_utf8(self.folder.files[&key].clone()).unwrap(),
                other => panic!("{path}: {other:?}"),
            },
            other => panic!("{path}: {other:?}"),
        }
    }

    fn stored(&self, key: &str) -> &str {
        std::str::from_utf8(&self.folder.files[key]).unwrap()
    }

    /// The starts of a playlist's segments.
    fn boundaries(&self, rendition: &str) -> Vec<String> {
        let text = self.stored(&format!("{rendition}/index.m3u8"));
        let lengths = text.lines().filter(|line| line.starts_with("#EXTINF:"));
        lengths.map(str::to_owned).collect()
    }
}

#[test]
fn languages_are_declared_beforehand_or_come_later_and_have_the_boundaries_of_the_media() {
    let mut growing = Growing::new(TextForm::WebVtt, &[subtitles("text-de", "de")]);
    let german = text(0, 1_000, 3_000, "Hallo Welt");
    growing.packager.handle_text(&id("text-de"), german).unwrap();
    growing.to(7_000);
    assert!(growing.stored("text-de/s1.vtt").contains("Hallo Welt"));
    assert!(!growing.playlist("main.m3u8").contains("text-fr"));
    growing.packager.declare_text(subtitles("text-fr", "fr")).unwrap();
    let french = [
        text(0, 1_000, 3_000, "Bonjour le monde"),
        text(1, 9_000, 10_000, "À bientôt"),
    ];
    growing.packager.replace_text(&id("text-fr"), &french).unwrap();
    growing.to(12_000);
    growing.finish();
    let main = growing.playlist("main.m3u8");
    let parsed = m3u8_rs::parse_master_playlist_res(main.as_bytes()).unwrap();
    let listed: Vec<_> = parsed
        .alternatives
        .iter()
        .map(|it| (it.language.as_deref(), it.default, it.group_id.as_str()))
        .collect();
    assert_eq!(listed, [(Some("de"), true, "subs"), (Some("fr"), false, "subs")]);
    assert!(
        parsed
            .variants
            .iter()
            .filter(|it| !it.is_i_frame)
            .all(|it| it.subtitles.as_deref() == Some("subs"))
    );
    for rendition in ["text-de", "text-fr"] {
        assert_eq!(growing.boundaries(rendition), growing.boundaries("source"));
    }
    let holding = |word: &str| -> Vec<&str> {
        let files = growing
            .folder
            .files
            .iter()
            .filter(|(key, _)| key.ends_with(".vtt"));
        files
            .filter(|(_, data)| String::from_utf8_lossy(data).contains(word))
            .map(|(key, _)| key.as_str())
            .collect()
    };
    // a cue is in each segment that it spans, with the same times
    assert_eq!(
        holding("Bonjour"),
        holding("Hallo")
            .iter()
            .map(|it| it.replace("-de", "-fr"))
            .collect::<Vec<_>>()
    );
    assert!(holding("Hallo").len() > 1);
    assert_eq!(holding("bientôt").len(), 1);
    assert!(growing.packager.declare_text(subtitles("text-it", "it")).is_err());
}

#[test]
fn a_text_that_is_handed_over_whole_while_live_replaces_what_is_out_and_what_will_come() {
    let mut growing = Growing::new(TextForm::WebVtt, &[subtitles("text-de", "de")]);
    let first = [text(0, 500, 1_500, "alt eins"), text(1, 9_000, 9_500, "alt zwei")];
    growing.packager.replace_text(&id("text-de"), &first).unwrap();
    growing.to(7_000);
    let listed = growing.playlist("text-de/index.m3u8");
    let second = [text(0, 500, 1_500, "neu eins"), text(1, 9_000, 9_500, "neu zwei")];
    growing.packager.replace_text(&id("text-de"), &second).unwrap();
    growing.folder.drain(&mut growing.packager);
    assert_eq!(growing.playlist("text-de/index.m3u8"), listed);
    growing.to(12_000);
    growing.finish();
    let all: String = growing
        .folder
        .files
        .iter()
        .filter(|(key, _)| key.ends_with(".vtt"))
        .map(|(_, data)| String::from_utf8_lossy(data).into_owned())
        .collect();
    assert!(!all.contains("alt"), "{all}");
    assert!(all.contains("neu eins") && all.contains("neu zwei"), "{all}");
    let third = [text(0, 3_000, 3_500, "danach")];
    growing.packager.replace_text(&id("text-de"), &third).unwrap();
    growing.folder.drain(&mut growing.packager);
    let said = |word: &str| {
        let mut files = growing.folder.files.iter();
        files.any(|(key, data)| key.ends_with(".vtt") && String::from_utf8_lossy(data).contains(word))
    };
    assert!(said("danach") && !said("neu"));
}

#[test]
fn what_is_said_goes_to_the_captions_and_not_to_the_translation() {
    let mut growing = Growing::new(TextForm::WebVtt, &[]);
    let mut packager = Packager::new(PackagerConfig::default()).unwrap();
    packager.declare(video("source", 640, 360)).unwrap();
    packager.declare_text(subtitles("text-de", "de")).unwrap();
    packager.declare(captions()).unwrap();
    packager.handle_format(&id("source"), h264_format(false)).unwrap();
    growing.packager = packager;
    let said = Cue {
        id: CueId(0),
        start: MediaTime::from_millis(100),
        end: MediaTime::from_millis(900),
        text: "spoken".to_owned(),
        words: Vec::new(),
        state: CueState::Final,
    };
    growing.packager.handle_cue(said.clone()).unwrap();
    growing
        .packager
        .handle_text(&id("text-de"), text(0, 100, 900, "gesprochen"))
        .unwrap();
    growing.to(5_000);
    // the captions wait for their watermark, the translation does not
    assert!(growing.folder.files.contains_key("text-de/s1.vtt"));
    assert!(!growing.folder.files.contains_key("captions/s1.vtt"));
    growing.finish();
    growing.packager.replace_cues(&[said]);
    growing.folder.drain(&mut growing.packager);
    assert!(growing.stored("captions/s1.vtt").contains("\nspoken\n"));
    assert!(growing.stored("text-de/s1.vtt").contains("\ngesprochen\n"));
}

#[test]
fn ffprobe_reads_imsc1_text_written_live_and_after_the_end() {
    let mut growing = Growing::new(TextForm::Imsc1, &[subtitles("text-de", "de")]);
    let cues = [
        text(0, 1_000, 3_000, "Hallo & <Welt>"),
        text(1, 5_000, 5_500, "Zwei"),
    ];
    growing.packager.replace_text(&id("text-de"), &cues).unwrap();
    growing.to(8_000);
    growing.finish();
    let main = growing.playlist("main.m3u8");
    assert!(main.contains("CODECS=\"stpp.ttml.im1t,avc1"), "{main}");
    let playlist = growing.stored("source/index.m3u8").to_owned();
    let after = store_subtitles(&id("text-fr"), "fr", &cues, &playlist, TextForm::Imsc1).unwrap();
    for file in after {
        growing.folder.files.insert(file.key, file.data.to_vec());
    }
    let folder = tempfile::tempdir().unwrap();
    for rendition in ["text-de", "text-fr"] {
        assert_eq!(growing.boundaries(rendition), growing.boundaries("source"));
        let text = growing.stored(&format!("{rendition}/index.m3u8"));
        let names = text
            .lines()
            .filter(|line| line.starts_with('t') || line.starts_with("#EXT-X-MAP"));
        let mut whole = Vec::new();
        for name in names {
            let name = name.trim_start_matches("#EXT-X-MAP:URI=\"").trim_end_matches('"');
            whole.extend_from_slice(&growing.folder.files[&format!("{rendition}/{name}")]);
        }
        let path = folder.path().join(format!("{rendition}.mp4"));
        std::fs::write(&path, &whole).unwrap();
        let probed = Command::new("ffprobe")
            .args(["-v", "error", "-show_entries"])
            .arg("stream=codec_name,codec_tag_string:packet=pts_time")
            .args(["-of", "csv=p=0"])
            .arg(&path)
            .output();
        let Ok(probed) = probed else {
            eprintln!("SKIPPED: no ffprobe to judge with");
            return;
        };
        let said = String::from_utf8_lossy(&probed.stdout);
        assert!(
            probed.stderr.is_empty(),
            "{}",
            String::from_utf8_lossy(&probed.stderr)
        );
        assert!(said.contains(",stpp"), "{said}");
        let times: Vec<f64> = said
            .lines()
            .filter_map(|line| line.split(',').next()?.parse().ok())
            .collect();
        let lengths = growing.boundaries("source");
        let mut at = 0.0;
        let expected: Vec<f64> = lengths
            .iter()
            .map(|line| {
                let begins = at;
                at += line["#EXTINF:".len()..]
                    .trim_end_matches(',')
                    .parse::<f64>()
                    .unwrap();
                begins
            })
            .collect();
        assert_eq!(times, expected, "{said}");
    }
}
