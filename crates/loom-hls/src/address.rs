//! Names: of a rendition's files in the store, and of the same things in URLs. Both are the same text, so that a finished
//! recording can be served from its folder.

use loom_core::RenditionId;

/// The multivariant playlist.
pub(crate) const MULTIVARIANT: &str = "main.m3u8";
/// A media playlist, in its rendition's folder.
pub(crate) const PLAYLIST: &str = "index.m3u8";
/// The track of thumbnails, and the folder of their sheets.
pub(crate) const THUMBNAILS: &str = "thumbs.vtt";
pub(crate) const SHEETS: &str = "thumbs";
/// The chapters as a WebVTT track.
pub(crate) const CHAPTERS_TRACK: &str = "chapters.vtt";
/// The chapters as players of HLS read them.
pub(crate) const CHAPTERS: &str = "chapters.json";
/// The DASH manifest.
pub(crate) const MANIFEST: &str = "manifest.mpd";

/// The path, relative to a recording's base, at which the host tells what time it is ([`date_time`](crate::date_time), `text/plain`, not to be
/// cached): players of DASH set their clocks by it (ISO/IEC 23009-1 §5.8.4.11, `http-iso`).
pub const CLOCK: &str = "clock.txt";

/// The media playlist of the key pictures, in its rendition's folder.
const FRAMES: &str = "iframes.m3u8";
/// The steering manifest.
pub(crate) const STEERING: &str = "steering.json";

/// What a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    Multivariant,
    /// The DASH manifest.
    Manifest,
    /// The multivariant playlist of one further picture.
    Aside(RenditionId),
    Playlist(RenditionId),
    /// The playlist of the key pictures.
    Frames(RenditionId),
    /// The steering manifest.
    Steering,
    Init(RenditionId, u32),
    Segment(RenditionId, u64),
    /// A part, by its running number in the rendition.
    Part(RenditionId, u64),
    Text(RenditionId, u64),
    /// A segment of IMSC1 text.
    TimedText(RenditionId, u64),
    Thumbnails,
    /// A sheet of thumbnails.
    Sheet(u64),
    /// The complete DASH manifest of one further picture.
    AsideManifest,
    /// Its track of thumbnails.
    AsideThumbnails,
    /// A sheet of these.
    AsideSheet,
    ChaptersTrack,
    Chapters,
}

impl Address {
    /// Reads a path relative to the recording's base; `None` where it names nothing that could ever exist.
    pub(crate) fn parse(path: &str) -> Option<Self> {
        match path {
            MULTIVARIANT => return Some(Self::Multivariant),
            THUMBNAILS => return Some(Self::Thumbnails),
            CHAPTERS_TRACK => return Some(Self::ChaptersTrack),
            CHAPTERS => return Some(Self::Chapters),
            _ => {}
        }
        if let Some(number) = path
            .strip_prefix("thumbs/s")
            .and_then(|file| file.strip_suffix(".jpg"))
        {
            return Some(Self::Sheet(number_of(number)?));
        }
        if path == STEERING {
            return Some(Self::Steering);
        }
        if path == MANIFEST {
            return Some(Self::Manifest);
        }
        if let Some(aside) = path.strip_suffix(".m3u8").filter(|name| !name.contains('/')) {
            return Some(Self::Aside(RenditionId::new(aside)?));
        }
        if let Some((aside, kind)) = path.rsplit_once('.').filter(|_| !path.contains('/')) {
            RenditionId::new(aside)?;
            return match kind {
                "mpd" => Some(Self::AsideManifest),
                "vtt" => Some(Self::AsideThumbnails),
                _ => None,
            };
        }
        let (rendition, file) = path.split_once('/')?;
        let rendition = RenditionId::new(rendition)?;
        if file == PLAYLIST {
            return Some(Self::Playlist(rendition));
        }
        if file == FRAMES {
            return Some(Self::Frames(rendition));
        }
        if let Some(number) = file.strip_prefix("init-").and_then(|f| f.strip_suffix(".mp4")) {
            return Some(Self::Init(rendition, u32::try_from(number_of(number)?).ok()?));
        }
        if let Some(number) = file.strip_prefix('t').and_then(|f| f.strip_suffix(".m4s")) {
            return Some(Self::TimedText(rendition, number_of(number)?));
        }
        if let Some(number) = file.strip_prefix('p').and_then(|f| f.strip_suffix(".m4s")) {
            return Some(Self::Part(rendition, number_of(number)?));
        }
        let numbered = file.strip_prefix('s')?;
        if let Some(number) = numbered.strip_suffix(".vtt") {
            return Some(Self::Text(rendition, number_of(number)?));
        }
        if let Some(number) = numbered.strip_suffix(".jpg") {
            return number_of(number).map(|_| Self::AsideSheet);
        }
        Some(Self::Segment(
            rendition,
            number_of(numbered.strip_suffix(".m4s")?)?,
        ))
    }
}

/// Decimal digits as we write them: no sign, no leading zero, at most 15.
fn number_of(digits: &str) -> Option<u64> {
    let plain = (1..=15).contains(&digits.len())
        && digits.bytes().all(|b| b.is_ascii_digit())
        && (digits.len() == 1 || !digits.starts_with('0'));
    plain.then(|| digits.parse().ok()).flatten()
}

/// The main multivariant playlist, or that of a further picture.
pub(crate) fn multivariant(aside: Option<&RenditionId>) -> String {
    aside.map_or_else(|| MULTIVARIANT.to_owned(), |id| format!("{id}.m3u8"))
}

pub(crate) fn playlist(rendition: &RenditionId) -> String {
    format!("{rendition}/{PLAYLIST}")
}

pub(crate) fn frames(rendition: &RenditionId) -> String {
    format!("{rendition}/{FRAMES}")
}

pub(crate) fn init(number: u32) -> String {
    format!("init-{number}.mp4")
}

pub(crate) fn segment(number: u64) -> String {
    format!("s{number}.m4s")
}

/// Parts are numbered through the whole rendition, not within their segments: so the next one's name is known before it is known
/// which segment it falls in (RFC 8216bis §4.4.5.3).
pub(crate) fn part(number: u64) -> String {
    format!("p{number}.m4s")
}

pub(crate) fn text(number: u64) -> String {
    format!("s{number}.vtt")
}

/// A sheet of thumbnails in `folder`.
pub(crate) fn sheet(folder: &str, number: u64) -> String {
    format!("{folder}/s{number}.jpg")
}

pub(crate) fn timed_text(number: u64) -> String {
    format!("t{number}.m4s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_that_is_written_is_read_back() {
        let id = || RenditionId::new("720p").unwrap();
        for (path, address) in [
            (MULTIVARIANT.to_owned(), Address::Multivariant),
            (MANIFEST.to_owned(), Address::Manifest),
            (multivariant(Some(&id())), Address::Aside(id())),
            (playlist(&id()), Address::Playlist(id())),
            (frames(&id()), Address::Frames(id())),
            (STEERING.to_owned(), Address::Steering),
            (format!("720p/{}", init(3)), Address::Init(id(), 3)),
            (format!("720p/{}", segment(12)), Address::Segment(id(), 12)),
            (format!("720p/{}", part(12)), Address::Part(id(), 12)),
            (format!("720p/{}", text(7)), Address::Text(id(), 7)),
            (format!("720p/{}", timed_text(7)), Address::TimedText(id(), 7)),
            (THUMBNAILS.to_owned(), Address::Thumbnails),
            (sheet(SHEETS, 0), Address::Sheet(0)),
            ("composition.mpd".to_owned(), Address::AsideManifest),
            ("composition.vtt".to_owned(), Address::AsideThumbnails),
            (sheet("composition-1a-thumbs", 12), Address::AsideSheet),
            (CHAPTERS_TRACK.to_owned(), Address::ChaptersTrack),
            (CHAPTERS.to_owned(), Address::Chapters),
        ] {
            assert_eq!(Address::parse(&path), Some(address), "{path}");
        }
    }

    #[test]
    fn no_path_leads_out_of_the_folder() {
        for path in [
            "",
            "/",
            "..",
            "../main.m3u8",
            "720p/../main.m3u8",
            "720p",
            "720p/",
            "720p//index.m3u8",
            "720p/s1.m4s/",
            "720p/s.m4s",
            "720p/s01.m4s",
            "720p/s+1.m4s",
            "720p/s-1.m4s",
            "720p/p.m4s",
            "720p/p01.m4s",
            "720p/s9999999999999999.m4s",
            "72 0p/index.m3u8",
            "720p/init-99999999999.mp4",
            "720p\\index.m3u8",
            "720p/s1.p1.m4s",
            "720p/p1.p1.m4s",
            "720p/s1.m4s\0",
            "thumbs/s01.jpg",
            "thumbs/../s1.jpg",
            "thumbs/s-1.jpg",
            "720p/s01.jpg",
            "../a.mpd",
            "Composition.mpd",
            "a.b.vtt",
            ".mpd",
            "a.txt",
        ] {
            assert_eq!(Address::parse(path), None, "{path:?}");
        }
    }
}
