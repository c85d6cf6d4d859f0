//! Playlists whose links carry on a query parameter of their own URL, such as a token, by `EXT-X-DEFINE` (RFC 8216bis §4.4.2.3): the
//! text is the same for every viewer, so that it can be cached for all.

use std::fmt::Write as _;

use crate::limits;

/// Reads the name of a parameter that is to be carried on. Those that are read here themselves cannot be.
pub(crate) fn parse(name: &str) -> Result<String, String> {
    let plain = (1..=limits::PARAMETER_BYTES).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if !plain || name.starts_with("_HLS_") || OWN.contains(&name) {
        return Err(
            "define names a query parameter of letters, digits, - and _ that has no other meaning (RFC 8216bis §4.4.2.3)"
                .to_owned(),
        );
    }
    Ok(name.to_owned())
}

/// A playlist of either kind that defines the parameter `name` and carries it on in each link that has no query yet.
pub(crate) fn carry(text: &str, name: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    for line in text.lines() {
        if let Some(version) = line.strip_prefix("#EXT-X-VERSION:") {
            let version = version.parse().unwrap_or(0).max(QUERYPARAM_VERSION);
            let _ = writeln!(
                out,
                "#EXT-X-VERSION:{version}\n#EXT-X-DEFINE:QUERYPARAM=\"{name}\""
            );
            continue;
        }
        let (before, uri, behind) = match line.split_once("URI=\"") {
            _ if line.starts_with("#EXT-X-DATERANGE:") => (line, "", ""),
            Some((before, rest)) if line.starts_with('#') => {
                let end = rest.find('"').unwrap_or(rest.len());
                (&line[..before.len() + "URI=\"".len()], &rest[..end], &rest[end..])
            }
            _ if line.starts_with('#') => (line, "", ""),
            _ => ("", line, ""),
        };
        let scheme = uri.split_once(':').map(|(scheme, _)| scheme);
        let fetched = scheme.is_none_or(|scheme| matches!(scheme, "http" | "https"));
        out.push_str(before);
        out.push_str(uri);
        if fetched && !uri.is_empty() && !uri.contains('?') {
            let _ = write!(out, "?{}", link(name));
        }
        out.push_str(behind);
        out.push('\n');
    }
    out
}

/// The parameter as a link has it.
pub(crate) fn link(name: &str) -> String {
    format!("{name}={{${name}}}")
}

/// What a request's query may say of how a recording is shown.
const OWN: [&str; 5] = ["window", "start", "from", "to", "define"];
/// RFC 8216bis §8.
const QUERYPARAM_VERSION: u32 = 11;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_link_that_is_fetched_carries_the_parameter_on() {
        let text = "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-DATERANGE:ID=\"a\",X-ASSET-URI=\"b\"\n#EXT-X-KEY:METHOD=AES-128,URI=\"../key-0.bin\",IV=0x1\n\
            #EXT-X-KEY:METHOD=AES-128,URI=\"skd://k\"\n#EXT-X-MAP:URI=\"init-0.mp4\"\n#EXTINF:2.0,\ns1.m4s\n\
            #EXT-X-RENDITION-REPORT:URI=\"../a/index.m3u8?define=token\",LAST-MSN=1\n";
        assert_eq!(
            carry(text, "token"),
            "#EXTM3U\n#EXT-X-VERSION:11\n#EXT-X-DEFINE:QUERYPARAM=\"token\"\n#EXT-X-DATERANGE:ID=\"a\",X-ASSET-URI=\"b\"\n\
             #EXT-X-KEY:METHOD=AES-128,URI=\"../key-0.bin?token={$token}\",IV=0x1\n#EXT-X-KEY:METHOD=AES-128,URI=\"skd://k\"\n\
             #EXT-X-MAP:URI=\"init-0.mp4?token={$token}\"\n#EXTINF:2.0,\ns1.m4s?token={$token}\n\
             #EXT-X-RENDITION-REPORT:URI=\"../a/index.m3u8?define=token\",LAST-MSN=1\n"
        );
        for name in ["", "_HLS_msn", "window", "a b", "a\"b", "a{b"] {
            assert!(parse(name).is_err(), "{name}");
        }
    }
}
