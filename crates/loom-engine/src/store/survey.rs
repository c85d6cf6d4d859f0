//! What of a recording's folder belongs in the store, and in which order: what is named before what names it.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::brief::BRIEF;
use crate::error::EngineError;
use crate::finish::TRANSCRIPT;
use crate::folder::{Folder, LAYOUT, PREVIEW, TRANSCRIPTS};
use crate::versions;

/// A recording's folder as it is at one moment. Who names was read before who is named, so that all that is named here is there.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Survey {
    /// Files that others name, and such as stand for themselves: segments, thumbnails, keys, the poster, the preview, the transcript,
    /// what a language model made of it, compositions.
    pub(super) media: Vec<String>,
    /// Media playlists, with what they say.
    pub(super) lists: Vec<(String, Bytes)>,
    /// What lies beside the renditions: multivariant playlists, and what only these name or nobody: the DASH manifest, tracks of chapters and
    /// thumbnails; the layout of a composition, and the list of a transcript's versions.
    pub(super) tops: Vec<(String, Bytes)>,
    /// `recording.json`, by which the recording is known.
    pub(super) info: Option<Bytes>,
}

impl Survey {
    /// Blocks.
    pub(super) fn of(folder: &Folder) -> Result<Self, EngineError> {
        let read = |names: Vec<String>| -> Result<Vec<(String, Bytes)>, EngineError> {
            let mut files = Vec::new();
            for name in names {
                if let Some(data) = folder.read(&name, 0, None)? {
                    files.push((name, data));
                }
            }
            Ok(files)
        };
        let info = folder.read(INFO, 0, None)?;
        let mut tops = read(folder.files("hls"))?;
        tops.extend(read(vec![LAYOUT.to_owned(), TRANSCRIPTS.to_owned()])?);
        let mut lists = Vec::new();
        for rendition in folder.folders("hls") {
            let files = folder.files(&rendition).into_iter();
            lists.extend(read(files.filter(|name| name.ends_with(".m3u8")).collect())?);
        }
        for (_, text) in &mut lists {
            *text = whole_lines(text);
        }
        lists.retain(|(_, text)| !text.is_empty());
        let known: BTreeSet<&str> = tops.iter().map(|(name, _)| name.as_str()).collect();
        let named: BTreeSet<String> = lists
            .iter()
            .chain(&tops)
            .flat_map(|(name, text)| named(name, text))
            .filter(|name| !name.ends_with(".m3u8") && !known.contains(name.as_str()))
            .collect();
        let apart = APART.iter().map(|name| (*name).to_owned());
        let media = named
            .into_iter()
            .chain(folder.files("keys"))
            .chain(apart)
            .collect();
        Ok(Self {
            media,
            lists,
            tops,
            info,
        })
    }

    /// Leaves out, of a recording that grows, whatever names a playlist that is not there yet.
    pub(super) fn hold_back(&mut self) {
        let known: BTreeSet<&str> = self.lists.iter().map(|(name, _)| name.as_str()).collect();
        self.tops.retain(|(name, text)| {
            let lists = named(name, text);
            lists
                .iter()
                .filter(|name| name.ends_with(".m3u8"))
                .all(|name| known.contains(name.as_str()))
        });
    }
}

/// The files that a playlist, a track of thumbnails, or a list of versions names in the recording's folder.
pub(super) fn named(name: &str, text: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(text);
    let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
    let uris: Vec<&str> = if name.ends_with(".m3u8") {
        text.lines()
            .filter_map(|line| match line.strip_prefix('#') {
                None => Some(line),
                Some(tag) => Some(tag.split_once("URI=\"")?.1.split_once('"')?.0),
            })
            .collect()
    } else if name.ends_with(".vtt") {
        text.lines()
            .filter_map(|line| Some(line.split_once("#xywh=")?.0))
            .collect()
    } else if name == TRANSCRIPTS {
        return versions::files(text.as_bytes());
    } else {
        Vec::new()
    };
    uris.into_iter()
        .filter_map(|uri| {
            let path = uri.split(['?', '#']).next().unwrap_or_default();
            let own = !path.is_empty() && !path.contains(':') && path.split('/').all(is_name);
            own.then(|| format!("{folder}/{path}"))
        })
        .collect()
}

/// Whether it names a file in a recording's folder.
pub(super) fn is_name(component: &str) -> bool {
    (1..=128).contains(&component.len())
        && !component.starts_with('.')
        && component
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// A media playlist that is being added to may have been read before its last lines were all there.
fn whole_lines(text: &Bytes) -> Bytes {
    if text.ends_with(b"#EXT-X-ENDLIST\n") {
        return text.clone();
    }
    let (mut at, mut whole) = (0, 0);
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        at += line.len();
        if !line.starts_with(b"#") && line.ends_with(b"\n") {
            whole = at;
        }
    }
    text.slice(..whole)
}

/// By which a recording is known.
pub(super) const INFO: &str = "recording.json";

/// What stands for itself.
const APART: [&str; 4] = ["poster.jpg", PREVIEW, TRANSCRIPT, BRIEF];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_playlist_names_its_segments_and_maps_and_nothing_outside_the_folder() {
        let list = "#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI=\"../key-0.bin\"\n#EXT-X-MAP:URI=\"init-0.mp4\"\n#EXTINF:2,\ns1.m4s\n\
                    https://cdn.example/s2.m4s\n/etc/passwd\n../x\ns3.m4s?a=b\n";
        let names = named("hls/720p/index.m3u8", list.as_bytes());
        assert_eq!(
            names,
            ["hls/720p/init-0.mp4", "hls/720p/s1.m4s", "hls/720p/s3.m4s"]
        );
        let sheets = "WEBVTT\n\n00:00.000 --> 00:02.000\nthumbs/s0.jpg#xywh=0,0,1,1\n";
        assert_eq!(named("hls/thumbs.vtt", sheets.as_bytes()), ["hls/thumbs/s0.jpg"]);
    }

    #[test]
    fn of_a_playlist_that_is_read_while_it_grows_the_last_whole_segment_is_the_last() {
        let whole = "#EXTM3U\n#EXTINF:2,\ns1.m4s\n";
        for cut in ["", "#EXTINF:2", "#EXTINF:2,\n", "#EXTINF:2,\ns2.m4"] {
            let read = Bytes::from(format!("{whole}{cut}"));
            assert_eq!(whole_lines(&read), whole, "{cut:?}");
        }
        let ended = Bytes::from(format!("{whole}#EXT-X-ENDLIST\n"));
        assert_eq!(whole_lines(&ended), ended);
    }
}
