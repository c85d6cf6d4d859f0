//! Recordings that a crash or an error cut off: they are completed from what is on disk.

use std::sync::Arc;

use crate::finish;
use crate::recording::Inner;

/// Completes a recording from what is on disk.
pub(crate) fn salvage(recording: &Arc<Inner>, reason: &str) {
    let folder = &recording.folder;
    let read = |name: String| {
        let text = folder.read(&name, 0, None).ok().flatten()?;
        Some((name, String::from_utf8_lossy(&text).into_owned()))
    };
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
    let lengths: Vec<f64> = playlists
        .iter()
        .filter_map(|(name, text)| {
            let mut listed = Listed::of(text);
            listed.end_with(last.unwrap_or(u64::MAX));
            let length = listed.length()?;
            folder.put(name, listed.closed().as_bytes()).ok()?;
            // the playlist of the key pictures, where there is one, has the same segments
            if let Some((name, text)) = read(name.replace("/index.m3u8", "/iframes.m3u8")) {
                let mut frames = Listed::of(&text);
                frames.end_with(last.unwrap_or(u64::MAX));
                folder.put(&name, frames.closed().as_bytes()).ok()?;
            }
            Some(length)
        })
        .collect();
    if lengths.is_empty() || !folder.path("hls/main.m3u8").is_file() {
        recording.fail(format!("{reason}, but nothing had been recorded"));
        return;
    }
    let longest = lengths.into_iter().fold(0.0, f64::max);
    recording.update(|info| {
        info.reason = Some(reason.to_owned());
        info.duration = info.duration.max(longest);
    });
    recording.complete();
    let recording = recording.clone();
    tokio::spawn(async move { finish::transcript(&recording, None).await });
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
        for line in playlist.lines().filter(|line| !line.is_empty()) {
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

    /// The playlist, ended (RFC 8216bis §4.4.3.4).
    fn closed(&self) -> String {
        let segments = self.segments.iter().flat_map(|it| &it.lines);
        let mut text: String = self
            .head
            .iter()
            .chain(segments)
            .flat_map(|line| [line, "\n"])
            .collect();
        text.push_str("#EXT-X-ENDLIST\n");
        text
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
