//! Text of a recording that is complete: what its folder holds is enough.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use loom_core::{MediaTime, RenditionId};

use super::TextCue;
use crate::address;
use crate::config::TextForm;
use crate::error::HlsError;
use crate::playlist::quoted;
use crate::{imsc1, webvtt};

/// A file to write into a recording's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFile {
    /// Its path, as in [`HlsOutput::Store`](crate::HlsOutput::Store).
    pub key: String,
    /// Its content.
    pub data: Bytes,
}

/// A subtitle rendition of a complete recording, written whole: its segments first, its playlist last. `playlist` is the complete
/// media playlist of any of the recording's renditions, whose boundaries the text gets; or the subtitle rendition's own, whose text is
/// replaced.
///
/// # Errors
/// [`HlsError::Text`] where `playlist` lists no segment.
pub fn store_subtitles(
    rendition: &RenditionId,
    language: &str,
    cues: &[TextCue],
    playlist: &str,
    form: TextForm,
) -> Result<Vec<StoredFile>, HlsError> {
    let mut files = Vec::new();
    let mut text = String::new();
    let (mut number, mut at) = (0, Duration::ZERO);
    let mut length = Duration::ZERO;
    let mut mapped = form == TextForm::WebVtt;
    let count = playlist
        .lines()
        .filter(|line| line.starts_with("#EXTINF:"))
        .count();
    for line in playlist.lines() {
        let kept = KEPT.iter().any(|tag| line.starts_with(tag));
        if let Some(first) = line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:") {
            number = first.trim().parse().unwrap_or(0);
        }
        if let Some(seconds) = line.strip_prefix("#EXTINF:") {
            let seconds = seconds.split(',').next().and_then(|it| it.parse::<f64>().ok());
            let seconds = seconds.filter(|it| (0.0..1e9).contains(it)).unwrap_or(0.0);
            length = Duration::from_secs_f64(seconds);
            if !mapped {
                mapped = true;
                let init = address::init(0);
                let _ = writeln!(text, "#EXT-X-MAP:URI=\"{init}\"");
                files.push(StoredFile {
                    key: format!("{rendition}/{init}"),
                    data: imsc1::write_init(language),
                });
            }
        }
        if kept {
            // WebVTT has no init segments (§8)
            let versionless = form == TextForm::WebVtt && line.starts_with("#EXT-X-VERSION");
            text.push_str(if versionless { "#EXT-X-VERSION:3" } else { line });
            text.push('\n');
        } else if !line.starts_with('#') && !line.trim().is_empty() {
            let start = MediaTime::ZERO + at;
            at += length;
            let end = MediaTime::ZERO + at;
            let nth = files.iter().filter(|it| !it.key.ends_with(".mp4")).count();
            let from = if nth == 0 {
                MediaTime::from_nanos(i64::MIN)
            } else {
                start
            };
            let to = if nth + 1 == count {
                MediaTime::from_nanos(i64::MAX)
            } else {
                end
            };
            let shown = cues.iter().filter(|cue| cue.overlaps(from, to));
            let (file, data) = match form {
                TextForm::WebVtt => {
                    let text = webvtt::write_segment(start, shown);
                    (address::text(number), text.into())
                }
                TextForm::Imsc1 => (
                    address::timed_text(number),
                    imsc1::write_segment(number, language, start, end, shown),
                ),
            };
            let _ = writeln!(text, "{file}");
            files.push(StoredFile {
                key: format!("{rendition}/{file}"),
                data,
            });
            number += 1;
        }
    }
    if count == 0 || files.len() < count {
        return Err(HlsError::Text {
            line: 0,
            why: "the playlist lists no segments".to_owned(),
            clause: "RFC 8216bis §4.4.4.1",
        });
    }
    files.push(StoredFile {
        key: address::playlist(rendition),
        data: text.into(),
    });
    Ok(files)
}

/// The multivariant playlist `main` with one more subtitle rendition, named by every variant; as it was where it names that already.
/// Where it is the only one, it is the default.
pub fn list_subtitles(
    main: &str,
    rendition: &RenditionId,
    name: &str,
    language: &str,
    form: TextForm,
) -> String {
    let uri = format!("URI=\"{}\"", address::playlist(rendition));
    if main.lines().any(|line| line.contains(&uri)) {
        return main.to_owned();
    }
    let others = main.lines().any(|line| line.starts_with(SUBTITLES));
    let entry = format!(
        "{SUBTITLES},GROUP-ID=\"{GROUP}\",NAME=\"{}\",LANGUAGE=\"{}\",DEFAULT={},AUTOSELECT=YES,FORCED=NO,{uri}\n",
        quoted(name),
        quoted(language),
        if others { "NO" } else { "YES" },
    );
    let (before, count) = main.lines().enumerate().fold((None, 0), |(last, _), (at, line)| {
        let after = line.starts_with("#EXT-X-MEDIA:").then_some(at + 1);
        (after.or(last), at + 1)
    });
    let first_variant = main
        .lines()
        .position(|line| line.starts_with("#EXT-X-STREAM-INF:"));
    let place = before.or(first_variant).unwrap_or(count);
    let mut out = String::with_capacity(main.len() + 512);
    for (at, line) in main.lines().enumerate() {
        if at == place {
            out.push_str(&entry);
        }
        if line.starts_with("#EXT-X-STREAM-INF:") {
            out.push_str(&with_text(line, form));
        } else {
            out.push_str(line);
        }
        out.push('\n');
    }
    if place >= count {
        out.push_str(&entry);
    }
    out
}

/// The multivariant playlist with the codec of its text in every variant that has subtitles.
pub(crate) fn name_text_codec(main: String, form: TextForm) -> String {
    if form == TextForm::WebVtt {
        return main;
    }
    let lines = main.lines().map(|line| {
        if line.starts_with("#EXT-X-STREAM-INF:") && line.contains(",SUBTITLES=\"") {
            with_text(line, form) + "\n"
        } else {
            format!("{line}\n")
        }
    });
    lines.collect()
}

/// A variant that names the subtitle group, and the codec of its text where players must know it (RFC 8216bis §4.4.6.2).
fn with_text(variant: &str, form: TextForm) -> String {
    let mut line = variant.to_owned();
    if form == TextForm::Imsc1
        && !line.contains(imsc1::CODEC)
        && let Some(at) = line.find("CODECS=\"")
    {
        let inside = at + "CODECS=\"".len();
        let comma = if line[inside..].starts_with('"') { "" } else { "," };
        line.insert_str(inside, &format!("{}{comma}", imsc1::CODEC));
    }
    if !line.contains(",SUBTITLES=\"") {
        let _ = write!(line, ",SUBTITLES=\"{GROUP}\"");
    }
    line
}

/// Lines of a media playlist that hold for a text rendition with the same boundaries too.
const KEPT: [&str; 10] = [
    "#EXTM3U",
    "#EXT-X-VERSION",
    "#EXT-X-TARGETDURATION",
    "#EXT-X-MEDIA-SEQUENCE",
    "#EXT-X-DISCONTINUITY",
    "#EXT-X-PLAYLIST-TYPE",
    "#EXT-X-PROGRAM-DATE-TIME",
    "#EXT-X-DATERANGE",
    "#EXTINF",
    "#EXT-X-ENDLIST",
];

const SUBTITLES: &str = "#EXT-X-MEDIA:TYPE=SUBTITLES";
const GROUP: &str = "subs";

#[cfg(test)]
mod tests {
    use loom_core::CueId;

    use super::*;

    const MAIN: &str = "#EXTM3U\n#EXT-X-VERSION:9\n\
        #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"aac\",NAME=\"AAC\",DEFAULT=YES,AUTOSELECT=YES,CHANNELS=\"2\",URI=\"aac/index.m3u8\"\n\
        #EXT-X-STREAM-INF:BANDWIDTH=1,CODECS=\"avc1.64001e,mp4a.40.2\",AUDIO=\"aac\",CLOSED-CAPTIONS=NONE\nsource/index.m3u8\n";

    const VIDEO: &str = "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:3\n#EXT-X-PLAYLIST-TYPE:VOD\n\
        #EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-MAP:URI=\"init-0.mp4\"\n#EXTINF:2.000000,\ns3.m4s\n#EXT-X-GAP\n#EXTINF:2.000000,\ns4.m4s\n\
        #EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"init-1.mp4\"\n#EXTINF:1.500000,\ns5.m4s\n#EXT-X-ENDLIST\n";

    fn id(name: &str) -> RenditionId {
        RenditionId::new(name).unwrap()
    }

    fn cue(id: u64, start: i64, end: i64, text: &str) -> TextCue {
        TextCue {
            id: CueId(id),
            start: MediaTime::from_millis(start),
            end: MediaTime::from_millis(end),
            text: text.to_owned(),
            settings: String::new(),
        }
    }

    #[test]
    fn text_gets_the_boundaries_of_the_media_and_a_cue_is_in_every_segment_that_it_spans() {
        let cues = [
            cue(0, 500, 2_500, "one"),
            cue(1, 4_000, 4_500, "two"),
            cue(2, 9_000, 9_500, "late"),
        ];
        let files = store_subtitles(&id("text-de"), "de", &cues, VIDEO, TextForm::WebVtt).unwrap();
        let names: Vec<&str> = files.iter().map(|file| file.key.as_str()).collect();
        assert_eq!(
            names,
            [
                "text-de/s3.vtt",
                "text-de/s4.vtt",
                "text-de/s5.vtt",
                "text-de/index.m3u8"
            ]
        );
        let said = |at: usize| {
            let text = std::str::from_utf8(&files[at].data).unwrap().to_owned();
            ["one", "two", "late"].map(|word| text.contains(word))
        };
        assert_eq!(said(0), [true, false, false]);
        assert_eq!(said(1), [true, false, false]);
        assert_eq!(said(2), [false, true, true]);
        let playlist = std::str::from_utf8(&files[3].data).unwrap();
        assert_eq!(
            playlist,
            "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:3\n#EXT-X-PLAYLIST-TYPE:VOD\n\
             #EXTINF:2.000000,\ns3.vtt\n#EXTINF:2.000000,\ns4.vtt\n#EXT-X-DISCONTINUITY\n#EXTINF:1.500000,\ns5.vtt\n#EXT-X-ENDLIST\n"
        );
        // the rendition's own playlist serves as well
        let again = store_subtitles(&id("text-de"), "de", &cues, playlist, TextForm::WebVtt).unwrap();
        assert_eq!(again, files);
        assert!(store_subtitles(&id("text-de"), "de", &cues, "#EXTM3U\n", TextForm::WebVtt).is_err());
    }

    #[test]
    fn a_language_is_listed_once_and_every_variant_names_its_group() {
        let one = list_subtitles(MAIN, &id("text-de"), "Deutsch", "de", TextForm::WebVtt);
        let two = list_subtitles(&one, &id("text-fr"), "Fran\"çais\n", "fr", TextForm::WebVtt);
        assert_eq!(
            list_subtitles(&two, &id("text-fr"), "x", "fr", TextForm::WebVtt),
            two
        );
        let texts: Vec<&str> = two.lines().filter(|line| line.starts_with(SUBTITLES)).collect();
        assert_eq!(texts.len(), 2);
        assert!(texts[0].contains("LANGUAGE=\"de\",DEFAULT=YES"), "{}", texts[0]);
        assert!(
            texts[1].contains("NAME=\"Français\",LANGUAGE=\"fr\",DEFAULT=NO"),
            "{}",
            texts[1]
        );
        assert_eq!(two.matches(",SUBTITLES=\"subs\"").count(), 1);
        let imsc = list_subtitles(MAIN, &id("text-de"), "Deutsch", "de", TextForm::Imsc1);
        assert!(
            imsc.contains("CODECS=\"stpp.ttml.im1t,avc1.64001e,mp4a.40.2\""),
            "{imsc}"
        );
    }
}
