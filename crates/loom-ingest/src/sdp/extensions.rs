//! The RTP header extensions that are agreed on (RFC 8285).

use std::collections::HashMap;

use super::{MediaLines, attribute, bad};
use crate::error::IngestError;
use crate::limits;

/// The local identifiers of the header extensions that a session uses, the same in all its sections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Extensions {
    /// The media section's name (RFC 9143 §15.2).
    pub(crate) mid: Option<u8>,
    /// The layer's name (RFC 8852 §4.1).
    pub(crate) rid: Option<u8>,
    /// The name of the layer that a retransmission repairs (RFC 8852 §4.2).
    pub(crate) repaired_rid: Option<u8>,
    /// The transport-wide sequence number (draft-holmer-rmcat-transport-wide-cc-extensions-01 §2).
    pub(crate) transport_cc: Option<u8>,
    /// How loud a packet's sound is (RFC 6464 §3).
    pub(crate) audio_level: Option<u8>,
}

/// One header extension of a section that is agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AgreedExtension {
    pub(crate) id: u8,
    pub(crate) uri: &'static str,
}

const MID: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
const RID: &str = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id";
const REPAIRED_RID: &str = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id";
const AUDIO_LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
const TRANSPORT_CC: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";

/// Which extensions a section has a use for, beside its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Uses {
    pub(super) layers: bool,
    pub(super) transport_wide: bool,
    pub(super) sound: bool,
}

/// Reads the extensions of one accepted section after the other.
#[derive(Debug, Default)]
pub(super) struct ExtensionReader<'a> {
    /// What an identifier means in the sections read so far.
    known: HashMap<u16, &'a str>,
    agreed: Extensions,
}

impl<'a> ExtensionReader<'a> {
    pub(super) fn agreed(&self) -> Extensions {
        self.agreed
    }

    /// The extensions of a section that we use, in the offer's order.
    pub(super) fn handle_section(
        &mut self,
        session: &[&'a str],
        section: &MediaLines<'a>,
        uses: Uses,
    ) -> Result<Vec<AgreedExtension>, IngestError> {
        let (mut ids, mut agreed) = (Vec::new(), Vec::<AgreedExtension>::new());
        let lines = session.iter().chain(section.lines.iter());
        for value in lines.filter_map(|line| attribute(line, "extmap")) {
            let (id, direction, uri) = parse(value)?;
            if ids.contains(&id) {
                return Err(bad(format!(
                    "the {} section gives the header extension id {id} twice (RFC 8285 §5)",
                    section.media
                )));
            }
            if ids.len() == limits::SECTION_EXTENSIONS {
                return Err(bad(format!(
                    "the {} section has more than {} header extensions",
                    section.media,
                    limits::SECTION_EXTENSIONS
                )));
            }
            ids.push(id);
            if *self.known.entry(id).or_insert(uri) != uri {
                return Err(bad(format!(
                    "the header extension id {id} means two things in one BUNDLE group (RFC 9143 §12)"
                )));
            }
            let place = match uri {
                MID => Some((MID, &mut self.agreed.mid)),
                RID if uses.layers => Some((RID, &mut self.agreed.rid)),
                REPAIRED_RID if uses.layers => Some((REPAIRED_RID, &mut self.agreed.repaired_rid)),
                AUDIO_LEVEL if uses.sound => Some((AUDIO_LEVEL, &mut self.agreed.audio_level)),
                TRANSPORT_CC if uses.transport_wide => Some((TRANSPORT_CC, &mut self.agreed.transport_cc)),
                _ => None,
            };
            // 15 means something else in the one-byte form (RFC 8285 §4.2), and above 255 none can be used (§4.3)
            let usable = u8::try_from(id).ok().filter(|id| *id != 15);
            let sends = !matches!(direction, Some("recvonly" | "inactive"));
            if let (Some((uri, place)), Some(id), true) = (place, usable, sends)
                && *place.get_or_insert(id) == id
            {
                agreed.push(AgreedExtension { id, uri });
            }
        }
        Ok(agreed)
    }
}

/// `<id>["/"<direction>] <uri> [<attributes>]` (RFC 8285 §8).
fn parse(value: &str) -> Result<(u16, Option<&str>, &str), IngestError> {
    let wrong = || {
        bad(format!(
            "\"a=extmap:{value}\" has no id from 1 to 4351 and URI (RFC 8285 §5)"
        ))
    };
    let mut words = value.split_ascii_whitespace();
    let (name, uri) = words.next().zip(words.next()).ok_or_else(wrong)?;
    let (id, direction) = name
        .split_once('/')
        .map_or((name, None), |(id, direction)| (id, Some(direction)));
    let id = id.parse().ok().filter(|id| (1..=4351).contains(id));
    Ok((id.ok_or_else(wrong)?, direction, uri))
}
