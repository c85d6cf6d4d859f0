//! Recordings that a crash or an error cut off: they are completed from what is on disk.

use std::sync::Arc;

use bytes::Bytes;
use loom_core::RenditionId;
use loom_hls::stored::{first_picture, read_timescale, whole_chunks};

use crate::announced;
use crate::error::EngineError;
use crate::finish;
use crate::folder::Folder;
use crate::life::Step;
use crate::packaging::vouched;
use crate::recording::Inner;
use crate::text;

/// Completes a recording from what is on disk.
pub(crate) fn salvage(recording: &Arc<Inner>, reason: &str) {
    let folder = &recording.folder;
    let read = |name: String| {
        let text = folder.read(&name, 0, None).ok().flatten()?;
        Some((name, String::from_utf8_lossy(&text).into_owned()))
    };
    end_at_missing(folder, |file| recording.has(file));
    for rendition in recording.info().renditions {
        // more than one where its playlist is older than what lies beside it
        while close_open_segment(recording, &rendition.id).unwrap_or_else(|why| {
            tracing::error!(recording = %recording.id, rendition = %rendition.id, error = %why, "what there is of the last segment is lost");
            false
        }) {}
    }
    let playlists: Vec<(String, String)> = folder.media_playlists().into_iter().filter_map(read).collect();
    // While a publisher was waited for, gaps were listed, of which nothing is worth keeping where it did not come back.
    // Text has segments there all the same, so pictures and sound tell where the recording ends.
    let info = recording.info();
    let is_media = |name: &str| {
        let own = |id: &str| name == format!("hls/{id}/index.m3u8");
        info.renditions.iter().any(|it| own(it.id.as_str()))
    };
    let media = playlists.iter().filter(|(name, _)| is_media(name));
    let last = media.filter_map(|(_, text)| Listed::of(text).last_media()).max();
    let multivariant = folder.multivariant_playlists().into_iter().filter_map(read);
    let announced: String = multivariant.map(|(_, text)| text).collect();
    let lengths: Vec<f64> = playlists
        .iter()
        .filter_map(|(name, text)| {
            let mut listed = Listed::of(text);
            if is_media(name) && listed.last_media().is_none() {
                // it was declared, and nothing of it came
                folder.discard(name);
                folder.discard(&name.replace("/index.m3u8", "/iframes.m3u8"));
                return None;
            }
            listed.end_with(last.unwrap_or(u64::MAX));
            let length = listed.length()?;
            folder.put(name, listed.closed().as_bytes()).ok()?;
            let frames = name.replace("/index.m3u8", "/iframes.m3u8");
            let path = frames.trim_start_matches("hls/");
            if ['"', '/']
                .iter()
                .any(|before| announced.contains(&format!("{before}{path}\"")))
            {
                let known = read(frames.clone()).map(|(_, text)| text);
                let text = key_pictures(known.as_deref(), &listed, |uri| {
                    folder.read(&name.replace("index.m3u8", uri), 0, None).ok()?
                });
                folder.put(&frames, text.as_bytes()).ok()?;
            }
            Some(length)
        })
        .collect();
    let recorded = !lengths.is_empty() && folder.path("hls/main.m3u8").is_file();
    let media = folder.media_playlists().into_iter().filter(|name| is_media(name));
    let template = media.filter_map(read).map(|(_, text)| text).next();
    if let Some(Err(why)) = template.map(|text| text::complete(recording, &text)) {
        tracing::error!(recording = %recording.id, error = %why, "text that was announced could not be completed");
    }
    if let Err(why) = announced::withdraw(recording) {
        tracing::error!(recording = %recording.id, error = %why, "what is announced is not all there");
    }
    if !recorded {
        recording.fail(format!("{reason}, but nothing had been recorded"));
        return;
    }
    let longest = lengths.into_iter().fold(0.0, f64::max);
    recording.update(|info| info.duration = longest);
    recording.happened(Step::Ended(reason.to_owned()));
    finish::begin(recording);
    let recording = recording.clone();
    tokio::spawn(async move { finish::end(&recording).await });
}

/// Whether all that has media has a complete playlist, and there is any. After a power cut it need not, though something says so that came
/// later.
pub(crate) fn is_ended(folder: &Folder) -> bool {
    let ends = |rendition: &String| {
        let text = folder.read(&format!("{rendition}/index.m3u8"), 0, None);
        text.ok()
            .flatten()
            .unwrap_or_default()
            .ends_with(b"#EXT-X-ENDLIST\n")
    };
    let mut renditions = folder.folders("hls");
    renditions.retain(|it| {
        let mut files = folder.files(it).into_iter();
        files.any(|file| file.ends_with("/index.m3u8") || file.ends_with(".m4s"))
    });
    !renditions.is_empty() && renditions.iter().all(ends)
}

/// Lists what there is of the segment that was being written: its whole parts, which viewers may have seen listed. Gives whether there was
/// all of it, so that another may lie behind it.
fn close_open_segment(recording: &Inner, rendition: &RenditionId) -> Result<bool, EngineError> {
    let folder = &recording.folder;
    let name = text::playlist(rendition);
    let known = folder.read(&name, 0, None)?;
    let known = known.as_deref().map(String::from_utf8_lossy);
    let mut playlist = match &known {
        Some(text) if text.contains("#EXT-X-ENDLIST") => return Ok(false),
        // what was torn off at its end is left out
        Some(text) => Listed::of(text).text(),
        // the first segment was not closed; nothing tells its key, where it has one
        None if recording.shared.config.encryption.is_some() => return Ok(false),
        None => FIRST_LIST.to_owned(),
    };
    let sealed = "#EXT-X-KEY:METHOD=AES-128"; // no part of it can be told from another
    if playlist.contains(sealed) {
        return Ok(false);
    }
    let listed = Listed::of(&playlist);
    let number = listed.first + listed.segments.len() as u64;
    let segment = format!("hls/{rendition}/s{number}.m4s");
    let Some(data) = folder.read(&segment, 0, None)? else {
        return Ok(false);
    };
    let certain = vouched(folder, rendition, &format!("s{number}.m4s"), &data)?;
    let mut maps = playlist
        .lines()
        .filter_map(|line| line.strip_prefix("#EXT-X-MAP:URI=\""));
    let map = maps.next_back().and_then(|line| line.split('"').next());
    let map = map.map(str::to_owned);
    let inits = folder.files(&format!("hls/{rendition}"));
    let number_of = |file: &String| {
        file.rsplit_once("/init-")?
            .1
            .strip_suffix(".mp4")?
            .parse::<u32>()
            .ok()
    };
    let Some(newest) = inits.iter().filter_map(number_of).max() else {
        return Ok(false);
    };
    let init = format!("init-{newest}.mp4");
    let key = format!("{rendition}/{init}");
    let init_data = folder.read(&format!("hls/{key}"), 0, None)?.unwrap_or_default();
    let (len, lasts) = whole_chunks(read_timescale(&key, &init_data)?, &data[..certain]);
    if lasts.is_zero() {
        return Ok(false);
    }
    folder.shorten(&segment, len as u64)?;
    if map.as_ref() != Some(&init) {
        if map.is_some() {
            playlist.push_str("#EXT-X-DISCONTINUITY\n");
        }
        playlist.push_str(&format!("#EXT-X-MAP:URI=\"{init}\"\n"));
    }
    playlist.push_str(&format!("#EXTINF:{:.6},\ns{number}.m4s\n", lasts.as_secs_f64()));
    folder.put(&name, playlist.as_bytes())?;
    Ok(len == data.len())
}

/// The playlist of the key pictures of the segments that are listed (RFC 8216bis §4.4.3.6), ended: what was known of it, and what it lacks by
/// the segments themselves.
fn key_pictures(known: Option<&str>, listed: &Listed<'_>, segment: impl Fn(&str) -> Option<Bytes>) -> String {
    let known = known.map(Listed::of);
    let head = known.as_ref().map_or_else(
        || [&listed.head[..], &["#EXT-X-I-FRAMES-ONLY"]].concat(),
        |known| known.head.clone(),
    );
    let known = known.map_or_else(Vec::new, |known| known.segments);
    let lines = known.iter().take(listed.segments.len()).flat_map(|it| &it.lines);
    let mut text: String = head.iter().chain(lines).flat_map(|line| [line, "\n"]).collect();
    for lacking in listed.segments.iter().skip(known.len()) {
        for line in lacking
            .lines
            .iter()
            .filter(|line| !line.starts_with("#EXT-X-BITRATE:"))
        {
            if !line.starts_with('#')
                && !lacking.gap
                && let Some(len) = segment(line).and_then(|data| first_picture(&data))
            {
                text.push_str(&format!("#EXT-X-BYTERANGE:{len}@0\n"));
            }
            text.push_str(line);
            text.push('\n');
        }
    }
    text + "#EXT-X-ENDLIST\n"
}

/// The head of a playlist whose first segment was not closed. No segment is longer than the packager's target, and this one has ended.
const FIRST_LIST: &str = "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-TARGETDURATION:10\n#EXT-X-MEDIA-SEQUENCE:1\n#EXT-X-PLAYLIST-TYPE:VOD\n";

/// Cuts every media playlist off before the first segment that is not there. What comes behind may be there under another name yet: no playlist
/// is ended by that.
pub(crate) fn end_at_missing(folder: &Folder, is_there: impl Fn(&str) -> bool) {
    for name in folder.media_playlists() {
        let Ok(Some(text)) = folder.read(&name, 0, None) else {
            continue;
        };
        let text = String::from_utf8_lossy(&text);
        let base = name.trim_end_matches("index.m3u8");
        let mut listed = Listed::of(&text);
        let whole = |segment: &Segment<'_>| {
            segment.gap
                || segment
                    .lines
                    .last()
                    .is_some_and(|uri| is_there(&format!("{base}{uri}")))
        };
        let there = listed
            .segments
            .iter()
            .take_while(|segment| whole(segment))
            .count();
        if there < listed.segments.len() {
            listed.segments.truncate(there);
            // a playlist that is not as it should be is of no use; one that is too long, of some
            let _ = folder.put(&name, listed.text().as_bytes());
        }
    }
}

/// A media playlist's lines, without what only live viewers need.
#[derive(Debug, PartialEq)]
struct Listed<'a> {
    /// What comes before the first segment's own lines.
    head: Vec<&'a str>,
    segments: Vec<Segment<'a>>,
    /// The first segment's media sequence number (RFC 8216bis §4.4.3.2).
    first: u64,
}

#[derive(Debug, Default, PartialEq)]
struct Segment<'a> {
    /// Its tags and its URI.
    lines: Vec<&'a str>,
    seconds: f64,
    gap: bool,
}

impl<'a> Listed<'a> {
    fn of(playlist: &'a str) -> Self {
        const LIVE: [&str; 6] = [
            "#EXT-X-PART:",
            "#EXT-X-PART-INF",
            "#EXT-X-PRELOAD-HINT",
            "#EXT-X-SERVER-CONTROL",
            "#EXT-X-RENDITION-REPORT",
            "#EXT-X-ENDLIST",
        ];
        // RFC 8216bis §4.4.4: the tags that apply to the segments behind them
        const OF_SEGMENTS: [&str; 8] = [
            "#EXTINF:",
            "#EXT-X-BYTERANGE:",
            "#EXT-X-DISCONTINUITY",
            "#EXT-X-KEY:",
            "#EXT-X-MAP:",
            "#EXT-X-PROGRAM-DATE-TIME:",
            "#EXT-X-GAP",
            "#EXT-X-BITRATE:",
        ];
        let is_number = |line: &str| line.starts_with("#EXT-X-DISCONTINUITY-SEQUENCE");
        let mut listed = Self {
            head: Vec::new(),
            segments: Vec::new(),
            first: 0,
        };
        let mut next = Segment::default();
        // a power cut leaves zeros where what was added to a file did not reach the disk
        let lines = playlist.lines().take_while(|line| !line.contains('\0'));
        for line in lines.filter(|line| !line.is_empty()) {
            if LIVE.iter().any(|tag| line.starts_with(tag)) {
                continue;
            }
            let own = OF_SEGMENTS.iter().any(|tag| line.starts_with(tag)) && !is_number(line);
            if listed.segments.is_empty() && next.lines.is_empty() && line.starts_with('#') && !own {
                if let Some(number) = line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:") {
                    listed.first = number.trim().parse().unwrap_or(0);
                }
                listed.head.push(line);
                continue;
            }
            next.lines.push(line);
            if let Some(length) = line.strip_prefix("#EXTINF:") {
                let seconds = length.split(',').next().and_then(|it| it.parse().ok());
                next.seconds = seconds.unwrap_or(0.0);
            }
            next.gap |= line == "#EXT-X-GAP";
            if !line.starts_with('#') {
                listed.segments.push(std::mem::take(&mut next));
            }
        }
        listed
    }

    /// The number of the last segment that is no gap.
    fn last_media(&self) -> Option<u64> {
        let at = self.segments.iter().rposition(|segment| !segment.gap)?;
        Some(self.first + at as u64)
    }

    /// Leaves out what comes behind that segment.
    fn end_with(&mut self, last: u64) {
        let count = last.saturating_add(1).saturating_sub(self.first);
        self.segments
            .truncate(usize::try_from(count).unwrap_or(usize::MAX));
    }

    /// The seconds that it lists; `None` where it lists nothing.
    fn length(&self) -> Option<f64> {
        (!self.segments.is_empty()).then(|| self.segments.iter().map(|it| it.seconds).sum())
    }

    /// The playlist, as one that may go on.
    fn text(&self) -> String {
        let segments = self.segments.iter().flat_map(|it| &it.lines);
        let lines = self.head.iter().chain(segments);
        lines.flat_map(|line| [line, "\n"]).collect()
    }

    /// The playlist, ended (RFC 8216bis §4.4.3.4).
    fn closed(&self) -> String {
        self.text() + "#EXT-X-ENDLIST\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(playlist: &str) -> String {
        Listed::of(playlist).closed()
    }

    #[test]
    fn a_playlist_that_was_cut_off_ends_and_keeps_only_whole_segments() {
        let live = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES\n#EXT-X-PART-INF:PART-TARGET=0.4\n\
                    #EXT-X-PART:DURATION=0.4,URI=\"s0.p0.m4s\"\n#EXTINF:2.0,\ns0.m4s\n#EXT-X-PART:DURATION=0.4,URI=\"s1.p0.m4s\"\n\
                    #EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"s1.p1.m4s\"\n";
        let ended = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:2.0,\ns0.m4s\n#EXT-X-ENDLIST\n";
        assert_eq!(closed(live), ended);
        assert_eq!(closed(ended), ended);
    }

    #[test]
    fn what_a_power_cut_tore_off_a_playlist_is_left_out_and_does_not_end_it() {
        let whole = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:2.0,\ns0.m4s\n";
        assert_eq!(Listed::of(&format!("{whole}\0\0\0\0")).text(), whole);
        assert_eq!(Listed::of(&format!("{whole}#EXTINF:2.0,\n\0\0")).text(), whole);
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::at(root.path().to_owned());
        folder.create().unwrap();
        folder
            .put(
                "hls/source/index.m3u8",
                format!("{whole}#EXTINF:2.0,\ns1.m").as_bytes(),
            )
            .unwrap();
        end_at_missing(&folder, |file| file == "hls/source/s0.m4s");
        let text = folder.read("hls/source/index.m3u8", 0, None).unwrap().unwrap();
        assert_eq!(text, whole.as_bytes(), "the segment behind it may be whole");
    }

    #[test]
    fn gaps_behind_the_last_media_are_left_out_of_text_too() {
        let head =
            "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:1\n#EXT-X-DISCONTINUITY-SEQUENCE:0\n";
        let media = "#EXT-X-MAP:URI=\"init0.mp4\"\n#EXTINF:2.0,\ns1.m4s\n#EXT-X-GAP\n#EXTINF:4.0,\ns2.m4s\n#EXT-X-DISCONTINUITY\n\
                     #EXTINF:1.5,\ns3.m4s\n";
        let away = "#EXT-X-GAP\n#EXTINF:2.0,\ns4.m4s\n#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:00.000Z\n#EXT-X-GAP\n#EXTINF:2.0,\ns5.m4s\n";
        let cut = format!("{head}{media}{away}");
        let mut listed = Listed::of(&cut);
        let last = listed.last_media();
        assert_eq!(last, Some(3), "a gap that media follows stays");
        listed.end_with(3);
        assert_eq!(listed.closed(), format!("{head}{media}#EXT-X-ENDLIST\n"));
        assert_eq!(listed.length(), Some(7.5));
        // Text begins with its own first segment, and has no gaps.
        let text = "#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:2\n#EXTINF:4.0,\ns2.vtt\n#EXTINF:1.5,\ns3.vtt\n#EXTINF:2.0,\ns4.vtt\n";
        let mut listed = Listed::of(text);
        listed.end_with(3);
        assert_eq!(listed.segments.len(), 2);
        assert_eq!(listed.length(), Some(5.5));
    }
}
