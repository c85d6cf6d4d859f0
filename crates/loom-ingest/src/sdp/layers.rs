//! The simulcast layers of a section (RFC 8853), by name or by synchronization source.

use super::{MediaLines, attribute, bad};
use crate::error::IngestError;
use crate::limits;
use crate::media::RtpFormat;

/// How a section sends the same picture more than once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Simulcast {
    /// It does not.
    #[default]
    Off,
    /// Each layer has a name (`a=rid`, RFC 8851), in the offer's order of preference.
    ByName(Vec<Layer>),
    /// Each layer has a synchronization source, in the order of `a=ssrc-group:SIM`, which no RFC has but browsers.
    BySource(Vec<u32>),
}

/// One layer with a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layer {
    pub(crate) name: String,
    /// The publisher does not send it for now (`~`, RFC 8853 §5.1); it may later.
    pub(super) paused: bool,
    /// What the offer says of it (RFC 8851 §5), without the payload types.
    pub(super) restrictions: String,
    /// The payload types it keeps to, of those that are taken; empty where it may use all.
    pub(super) payload_types: Vec<u8>,
}

impl Simulcast {
    /// How many layers there are; none without simulcast.
    pub(crate) fn count(&self) -> usize {
        match self {
            Self::Off => 0,
            Self::ByName(layers) => layers.len(),
            Self::BySource(sources) => sources.len(),
        }
    }

    /// Reads it from a section of which `formats` are taken.
    pub(super) fn of(section: &MediaLines<'_>, formats: &[RtpFormat]) -> Result<Self, IngestError> {
        let simulcast = match section.attribute("simulcast") {
            Some(value) => Self::by_name(value, section, formats)?,
            None => Self::by_source(section),
        };
        if simulcast.count() > limits::SECTION_LAYERS {
            return Err(bad(format!(
                "the {} section has {} simulcast layers; at most {} are taken",
                section.media,
                simulcast.count(),
                limits::SECTION_LAYERS
            )));
        }
        Ok(simulcast)
    }

    /// `send <layer>;<layer>;…`, each a choice of names with commas between, each name perhaps paused with `~`
    /// (RFC 8853 §5.1).
    fn by_name(value: &str, section: &MediaLines<'_>, formats: &[RtpFormat]) -> Result<Self, IngestError> {
        let words: Vec<&str> = value.split_ascii_whitespace().collect();
        let send = words.chunks(2).find_map(|pair| match pair {
            ["send", list] => Some(*list),
            _ => None,
        });
        let Some(list) = send else {
            return Ok(Self::Off);
        };
        let mut layers = Vec::<Layer>::new();
        let mut names = Vec::new();
        for choice in list.split(';') {
            let mut taken = None;
            for name in choice.split(',') {
                let (name, paused) = match name.strip_prefix('~') {
                    Some(name) => (name, true),
                    None => (name, false),
                };
                let spelled = name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
                if name.is_empty() || name.len() > limits::NAME_BYTES || !spelled {
                    return Err(bad(format!(
                        "{name:?} in \"a=simulcast\" is not 1 to {} letters, digits, \"-\" or \"_\" (RFC 8851 §10)",
                        limits::NAME_BYTES
                    )));
                }
                if names.contains(&name) {
                    return Err(bad(format!(
                        "\"a=simulcast\" names {name:?} twice (RFC 8853 §5.1)"
                    )));
                }
                names.push(name);
                if taken.is_none() {
                    taken = layer(name, paused, section, formats);
                }
            }
            layers.extend(taken);
        }
        Ok(if layers.is_empty() {
            Self::Off
        } else {
            Self::ByName(layers)
        })
    }

    fn by_source(section: &MediaLines<'_>) -> Self {
        let mut groups = section
            .lines
            .iter()
            .filter_map(|line| attribute(line, "ssrc-group")?.strip_prefix("SIM "));
        let sources: Vec<u32> = groups
            .next()
            .into_iter()
            .flat_map(str::split_ascii_whitespace)
            .filter_map(|source| source.parse().ok())
            .collect();
        if sources.len() > 1 {
            Self::BySource(sources)
        } else {
            Self::Off
        }
    }
}

/// The layer that `a=rid:<name> send …` describes; `None` without one, and where it keeps to codecs that are not taken.
fn layer(name: &str, paused: bool, section: &MediaLines<'_>, formats: &[RtpFormat]) -> Option<Layer> {
    let mut rids = section.lines.iter().filter_map(|line| attribute(line, "rid"));
    let rest = rids.find_map(|rid| {
        let mut words = rid.splitn(3, ' ');
        let matches = words.next() == Some(name) && words.next() == Some("send");
        matches.then(|| words.next().unwrap_or_default().trim())
    })?;
    let mut restrictions = Vec::new();
    let mut payload_types = Vec::new();
    for restriction in rest.split(';').map(str::trim).filter(|it| !it.is_empty()) {
        let Some(numbers) = restriction.strip_prefix("pt=") else {
            restrictions.push(restriction);
            continue;
        };
        let numbers: Vec<u8> = numbers
            .split(',')
            .filter_map(|it| it.trim().parse().ok())
            .collect();
        let taken = formats.iter().map(|format| format.payload_type);
        payload_types = taken.filter(|number| numbers.contains(number)).collect();
        if payload_types.is_empty() {
            return None;
        }
    }
    Some(Layer {
        name: name.to_owned(),
        paused,
        restrictions: restrictions.join(";"),
        payload_types,
    })
}
