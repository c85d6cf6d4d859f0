//! Which track a packet belongs to.

use loom_core::TrackId;

use crate::media::{RtpPacket, RtpSection};

/// The tracks of the sections: one section after the other, of each its layers in their order.
#[derive(Debug)]
pub(super) struct Routes {
    /// The first track of each section.
    first: Vec<u32>,
}

/// Where a packet belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) section: usize,
    pub(super) track: TrackId,
    /// The packet itself says so, with its section's name and, where there are layers, its layer's.
    pub(super) named: bool,
}

impl Routes {
    pub(super) fn new(sections: &[RtpSection]) -> Self {
        let mut next = 0;
        let first = sections.iter().map(|section| {
            let first = next;
            next += section.layers.len().max(1) as u32;
            first
        });
        Self {
            first: first.collect(),
        }
    }

    /// The track of a packet (RFC 9143 §9.2, RFC 8852 §3): by the names that it carries, else where packets of its source
    /// went `before`, else by its declared source, else by its payload type where only one section has it.
    pub(super) fn of(
        &self,
        sections: &[RtpSection],
        packet: &RtpPacket,
        before: Option<Route>,
    ) -> Option<Route> {
        let has_format = |section: &RtpSection| {
            let mut formats = section.formats.iter();
            formats.any(|format| format.payload_type == packet.payload_type)
        };
        let at = match &packet.mid {
            // a name that no section has: the packet is nobody's
            Some(mid) => sections
                .iter()
                .position(|section| section.mid.as_bytes() == mid)?,
            None => {
                let mut declared = sections.iter();
                let declared = || declared.position(|section| section.sources.contains(&packet.source));
                let mut fitting = (0..sections.len()).filter(|at| has_format(&sections[*at]));
                let alone = || fitting.next().filter(|_| fitting.next().is_none());
                before
                    .map(|route| route.section)
                    .or_else(declared)
                    .or_else(alone)?
            }
        };
        let (section, first) = (sections.get(at)?, *self.first.get(at)?);
        if !has_format(section) {
            return None;
        }
        let named_layer = match &packet.rid {
            Some(rid) if !section.layers.is_empty() => {
                Some(section.layers.iter().position(|layer| layer.as_bytes() == rid)?)
            }
            _ => None,
        };
        let known_layer = || {
            let before = before.filter(|before| before.section == at);
            before.map(|before| (before.track.0 - first) as usize)
        };
        // where layers have sources, both are in the same order
        let declared_layer = || section.sources.iter().position(|source| *source == packet.source);
        let layer = match section.layers.len() {
            0 => 0,
            count => named_layer
                .or_else(known_layer)
                .or_else(declared_layer)
                .filter(|layer| *layer < count)
                .unwrap_or(0),
        };
        Some(Route {
            section: at,
            track: TrackId(first + layer as u32),
            named: packet.mid.is_some() && (section.layers.is_empty() || named_layer.is_some()),
        })
    }
}
