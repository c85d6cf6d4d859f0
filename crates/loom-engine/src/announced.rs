//! What multivariant playlists announce of a recording that was cut off, and is not there.

use loom_core::RenditionId;

use crate::error::EngineError;
use crate::event::RecordingInfo;
use crate::recording::Inner;
use crate::text;

/// Announces no more what nothing was recorded of: renditions without a media playlist. Blocks.
pub(crate) fn withdraw(recording: &Inner) -> Result<(), EngineError> {
    let folder = &recording.folder;
    for name in folder.multivariant_playlists() {
        let announced = folder.read(&name, 0, None)?.unwrap_or_default();
        let announced = String::from_utf8_lossy(&announced);
        match without(&announced, |path| recording.has(&format!("hls/{path}"))) {
            Some(kept) if kept == *announced => {}
            Some(kept) => folder.put(&name, kept.as_bytes())?,
            // a further picture of which nothing was recorded
            None => folder.discard(&name),
        }
    }
    let mut gone: Vec<RenditionId> = recording.info().renditions.into_iter().map(|it| it.id).collect();
    gone.retain(|id| !recording.has(&text::playlist(id)));
    if !gone.is_empty() {
        recording.update(|info| keep(info, |id| !gone.contains(id)));
    }
    Ok(())
}

/// Leaves in a description only these renditions.
pub(crate) fn keep(info: &mut RecordingInfo, stays: impl Fn(&RenditionId) -> bool) {
    info.renditions.retain(|it| stays(&it.id));
    for track in &mut info.tracks {
        track.renditions.retain(&stays);
    }
}

/// A multivariant playlist without what it names and is not there; `None` where no variant is left.
fn without(playlist: &str, is_there: impl Fn(&str) -> bool) -> Option<String> {
    let uri_is_there = |uri: &str| {
        // by whichever pathway, it lies in its rendition's folder
        let path = uri.split('?').next().unwrap_or_default();
        let folder = path.rsplitn(3, '/').take(2).map(str::len).sum::<usize>() + 1;
        is_there(&path[path.len().saturating_sub(folder)..])
    };
    let named = |line: &str| attribute(line, "URI").is_none_or(uri_is_there);
    let is_sound = |line: &&str| line.starts_with("#EXT-X-MEDIA:TYPE=AUDIO,");
    let sounds = playlist.lines().filter(is_sound).filter(|line| named(line));
    let groups: Vec<&str> = sounds.filter_map(|line| attribute(line, "GROUP-ID")).collect();
    let (mut kept, mut variants) = (String::with_capacity(playlist.len()), 0);
    let mut lines = playlist.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("#EXT-X-STREAM-INF:") {
            let uri = lines.next().unwrap_or_default();
            let heard = attribute(line, "AUDIO").is_none_or(|group| groups.contains(&group));
            if heard && uri_is_there(uri) {
                variants += 1;
                kept.extend([line, "\n", uri, "\n"]);
            }
            continue;
        }
        let names = line.starts_with("#EXT-X-MEDIA:") || line.starts_with("#EXT-X-I-FRAME-STREAM-INF:");
        if !names || named(line) {
            kept.extend([line, "\n"]);
        }
    }
    (variants > 0).then_some(kept)
}

/// A quoted attribute of a tag (RFC 8216bis §4.2).
pub(crate) fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    let (_, value) = tag.split_once(&format!(",{name}=\""))?;
    value.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_named_no_more_nor_a_variant_without_its_sound() {
        let head = "#EXTM3U\n#EXT-X-VERSION:6\n";
        let aac = "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"aac\",NAME=\"Sound\",URI=\"aac/index.m3u8\"\n";
        let opus = "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"opus\",NAME=\"Sound\",URI=\"opus/index.m3u8\"\n";
        let variant = |id: &str, sound: &str| {
            format!(
                "#EXT-X-STREAM-INF:BANDWIDTH=1,CODECS=\"a,b\",AUDIO=\"{sound}\"\nhttps://cdn.example/r/{id}/index.m3u8\n"
            )
        };
        let frames = |id: &str| format!("#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1,URI=\"{id}/iframes.m3u8\"\n");
        let whole = [
            head,
            aac,
            opus,
            &variant("source", "aac"),
            &variant("source", "opus"),
            &variant("480p", "opus"),
            &frames("source"),
            &frames("480p"),
        ]
        .concat();
        assert_eq!(without(&whole, |_| true).as_deref(), Some(&*whole));
        let there = ["opus/index.m3u8", "source/index.m3u8", "source/iframes.m3u8"];
        let rest = [head, opus, &variant("source", "opus"), &frames("source")].concat();
        assert_eq!(without(&whole, |path| there.contains(&path)), Some(rest));
        assert_eq!(without(&whole, |path| path == "opus/index.m3u8"), None);
    }
}
