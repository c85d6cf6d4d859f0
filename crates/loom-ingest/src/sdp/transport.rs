//! What an offer says of its transport: ICE, DTLS, and that all media share one.

use super::{MediaLines, attribute, bad};
use crate::error::IngestError;
use crate::limits;

/// Which side opens the DTLS handshake (RFC 8842 §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DtlsRole {
    /// We do: `a=setup:active`.
    Active,
    /// The publisher does: `a=setup:passive`.
    Passive,
}

/// The publisher's ICE credentials (RFC 8839 §5.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RemoteIce {
    pub(crate) fragment: String,
    pub(crate) password: String,
}

impl RemoteIce {
    /// Credentials as RFC 8839 §5.4 has them.
    ///
    /// # Errors
    /// [`IngestError::BadOffer`] for a wrong length or character.
    pub(crate) fn new(fragment: &str, password: &str) -> Result<Self, IngestError> {
        let checked = |what: &str, value: &str, least: usize| {
            let is_ice_char = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
            if !(least..=limits::ICE_CREDENTIAL_BYTES).contains(&value.len()) {
                return Err(bad(format!(
                    "\"a={what}\" has {} characters; it must have {least} to {} (RFC 8839 §5.4)",
                    value.len(),
                    limits::ICE_CREDENTIAL_BYTES
                )));
            }
            if !value.bytes().all(is_ice_char) {
                return Err(bad(format!(
                    "\"a={what}\" holds other characters than letters, digits, \"+\" and \"/\" (RFC 8839 §5.4)"
                )));
            }
            Ok(value.to_owned())
        };
        Ok(Self {
            fragment: checked("ice-ufrag", fragment, 4)?,
            password: checked("ice-pwd", password, 22)?,
        })
    }
}

/// What the publisher's DTLS certificate must hash to (RFC 8122 §5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    /// `sha-256`, `sha-384` or `sha-512`.
    pub(crate) algorithm: String,
    pub(crate) bytes: Vec<u8>,
}

/// The transport that all accepted sections share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Transport {
    pub(super) ice: RemoteIce,
    pub(super) fingerprints: Vec<Fingerprint>,
    pub(super) role: DtlsRole,
    /// The names of the accepted sections in the order of their BUNDLE group; empty without a group.
    pub(super) bundle: Vec<String>,
}

impl Transport {
    /// Reads it from the accepted sections, of which there is at least one, each with its name.
    pub(super) fn of(
        session: &[&str],
        all: &[MediaLines<'_>],
        accepted: &[(&MediaLines<'_>, &str)],
    ) -> Result<Self, IngestError> {
        let group = group(session, accepted)?;
        let section = |mid: &str| all.iter().find(|section| section.attribute("mid") == Some(mid));
        let bundle: Vec<String> = group
            .iter()
            .filter(|mid| accepted.iter().any(|(_, accepted)| accepted == *mid))
            .map(|mid| (*mid).to_owned())
            .collect();
        // The first accepted section of the group tells the transport (RFC 9143 §7.3.1). Where another one comes before it that
        // is not accepted, it may be the only one to have it: sections with "a=bundle-only" need not (RFC 9143 §7.1.3).
        let first = bundle.first().and_then(|mid| section(mid));
        let offered_first = group.first().and_then(|mid| section(mid));
        let alone = accepted.first().map(|(section, _)| *section);
        let told: Vec<&[&str]> = [first.or(alone), offered_first]
            .into_iter()
            .flatten()
            .map(|section| section.lines.as_slice())
            .chain([session])
            .collect();
        let value = |name: &str| {
            let mut values = told
                .iter()
                .flat_map(|lines| lines.iter())
                .filter_map(|line| attribute(line, name));
            values.next()
        };
        let media = first.or(alone).map_or("media", |section| section.media);
        let needed = |name: &str, clause: &str| {
            value(name).ok_or_else(|| bad(format!("the {media} section has no \"a={name}\" ({clause})")))
        };
        let ice = RemoteIce::new(
            needed("ice-ufrag", "RFC 8839 §5.4")?,
            needed("ice-pwd", "RFC 8839 §5.4")?,
        )?;
        needed("fingerprint", "RFC 8122 §5")?;
        needed("rtcp-mux", "RFC 9725 §4.4.1")?;
        let lines = told
            .iter()
            .find(|lines| lines.iter().any(|line| attribute(line, "fingerprint").is_some()));
        Ok(Self {
            ice,
            fingerprints: fingerprints(lines.copied().unwrap_or_default())?,
            role: role(value("setup"))?,
            bundle,
        })
    }
}

/// The names in the BUNDLE group that holds all accepted sections; without one, nothing, where only one is accepted.
fn group<'a>(session: &[&'a str], accepted: &[(&MediaLines<'_>, &str)]) -> Result<Vec<&'a str>, IngestError> {
    let groups = session
        .iter()
        .filter_map(|line| attribute(line, "group")?.strip_prefix("BUNDLE"));
    for group in groups {
        let mids: Vec<&str> = group.split_ascii_whitespace().collect();
        if accepted.iter().all(|(_, mid)| mids.contains(mid)) {
            return Ok(mids);
        }
    }
    match accepted {
        [_] => Ok(Vec::new()),
        _ => Err(bad(
            "its media sections are not in one \"a=group:BUNDLE\" (RFC 9725 §4.4.1, RFC 9143 §7)".to_owned(),
        )),
    }
}

/// The hashes that are strong enough (RFC 8122 §5 forbids MD2 and MD5; SHA-1 has collisions), with their bytes.
const HASHES: [(&str, usize); 3] = [("sha-256", 32), ("sha-384", 48), ("sha-512", 64)];

fn fingerprints(lines: &[&str]) -> Result<Vec<Fingerprint>, IngestError> {
    let mut fingerprints = Vec::new();
    let values = lines.iter().filter_map(|line| attribute(line, "fingerprint"));
    for value in values.take(limits::FINGERPRINTS) {
        let Some((algorithm, digits)) = value.trim().split_once(' ') else {
            return Err(bad(format!(
                "the fingerprint {value:?} has no hash and value (RFC 8122 §5)"
            )));
        };
        let pair = |pair: &str| {
            let is_hex = pair.len() == 2 && pair.bytes().all(|digit| digit.is_ascii_hexdigit());
            is_hex.then(|| u8::from_str_radix(pair, 16).ok()).flatten()
        };
        let bytes: Option<Vec<u8>> = digits.trim().split(':').map(pair).collect();
        let Some(bytes) = bytes else {
            return Err(bad(format!(
                "the {algorithm} fingerprint is not pairs of hexadecimal digits with colons between (RFC 8122 §5)"
            )));
        };
        let algorithm = algorithm.to_ascii_lowercase();
        match HASHES.iter().find(|(name, _)| *name == algorithm) {
            Some((_, length)) if bytes.len() == *length => {
                fingerprints.push(Fingerprint { algorithm, bytes })
            }
            Some((_, length)) => {
                return Err(bad(format!(
                    "the {algorithm} fingerprint has {} bytes, not {length} (RFC 8122 §5)",
                    bytes.len()
                )));
            }
            None => {}
        }
    }
    if fingerprints.is_empty() {
        return Err(bad(
            "none of its fingerprints is sha-256, sha-384 or sha-512 (RFC 8122 §5)".to_owned(),
        ));
    }
    Ok(fingerprints)
}

/// Passive wherever the offer allows it: then the handshake ends here first, and no media comes before it can be decrypted.
fn role(setup: Option<&str>) -> Result<DtlsRole, IngestError> {
    match setup.map(str::trim) {
        None | Some("actpass" | "active") => Ok(DtlsRole::Passive),
        Some("passive") => Ok(DtlsRole::Active),
        Some(other) => Err(bad(format!(
            "\"a=setup:{other}\" is not actpass, active or passive (RFC 8842 §5.2)"
        ))),
    }
}
