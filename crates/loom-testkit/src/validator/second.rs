//! A second opinion on classic playlists: `m3u8-rs`.

use super::media::Media;
use super::report::Report;

const CLAUSE: &str = "second opinion";

pub(crate) fn media(text: &str, ours: &Media, at: &str, report: &mut Report) {
    match m3u8_rs::parse_media_playlist_res(text.as_bytes()) {
        Err(why) => report.must(CLAUSE, at, "m3u8-rs reads each media playlist", short(&why)),
        Ok(theirs) => {
            let segments = theirs
                .segments
                .iter()
                .filter(|segment| !segment.uri.is_empty())
                .count();
            if segments != ours.segments.len()
                || theirs.target_duration != ours.target
                || theirs.end_list != ours.ended
            {
                let seen = format!("{segments} segments of {}", ours.segments.len());
                report.must(CLAUSE, at, "m3u8-rs reads the same as this validator", seen);
            }
        }
    }
}

pub(crate) fn multivariant(text: &str, variants: usize, at: &str, report: &mut Report) {
    match m3u8_rs::parse_master_playlist_res(text.as_bytes()) {
        Err(why) => report.must(
            CLAUSE,
            at,
            "m3u8-rs reads each multivariant playlist",
            short(&why),
        ),
        Ok(theirs) => {
            let found = theirs
                .variants
                .iter()
                .filter(|variant| !variant.is_i_frame)
                .count();
            if found != variants {
                let seen = format!("{found} variants of {variants}");
                report.must(CLAUSE, at, "m3u8-rs reads the same as this validator", seen);
            }
        }
    }
}

fn short(why: &impl std::fmt::Debug) -> String {
    format!("{why:?}").chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2.0,\na.m4s\n";

    #[test]
    fn another_reading_is_told() {
        let (mut agreed, mut quiet) = (Report::default(), Report::default());
        let ours = Media::parse(TEXT, "test", &mut quiet);
        media(TEXT, &ours, "test", &mut agreed);
        assert_eq!(agreed.findings, []);
        media(
            &TEXT.replace("#EXTINF", "#EXTINF:2.0,\nb.m4s\n#EXTINF"),
            &ours,
            "test",
            &mut agreed,
        );
        assert!(agreed.breaks(CLAUSE));
        let mut unread = Report::default();
        multivariant("no playlist", 0, "test", &mut unread);
        assert!(unread.breaks(CLAUSE));
    }
}
