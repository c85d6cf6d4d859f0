//! What of AV1 temporal units may be encrypted: tiles (AV1 Codec ISO Media File Format Binding, "Common Encryption").

use std::ops::Range;

use loom_core::codec::av1::{FrameHeader, FrameHeaders, Tiles, obu_type, obus};

/// The tiles of a temporal unit, each `decode_tile()` a range. A frame that does not parse has none.
pub(super) fn protected(headers: &mut FrameHeaders, sample: &[u8]) -> Vec<Range<usize>> {
    let (mut at, mut found) = (0, Vec::new());
    // those of the frame whose header came last
    let mut tiles: Option<Tiles> = None;
    for obu in obus(sample).unwrap_or_default() {
        at += obu.whole.len();
        let begins = at - obu.payload.len();
        let group = match obu.obu_type {
            obu_type::FRAME | obu_type::FRAME_HEADER => {
                tiles = match headers.read(&obu) {
                    Some(FrameHeader::Frame { tiles, .. }) => tiles,
                    _ => None,
                };
                let behind = tiles
                    .filter(|_| obu.obu_type == obu_type::FRAME)
                    .map(|it| it.header);
                behind.filter(|header| *header <= obu.payload.len())
            }
            obu_type::TILE_GROUP => Some(0),
            _ => None,
        };
        if let (Some(tiles), Some(header)) = (tiles, group) {
            let ranges = tiles.of_group(&obu.payload[header..]).unwrap_or_default();
            let base = begins + header;
            found.extend(ranges.into_iter().map(|tile| base + tile.start..base + tile.end));
        }
    }
    found
}
