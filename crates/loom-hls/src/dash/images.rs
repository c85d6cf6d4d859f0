//! Thumbnails in the manifest: tiles on sheets (DASH-IF IOP v4.3 §6.2.6).

use std::fmt::Write as _;

use loom_core::{MediaTime, Timescale};

use crate::dash::mpd::write_timeline;
use crate::dash::{Entry, Place};
use crate::sheets::Sheets;

/// The adaptation set of those of the first `count` sheets that are shown between two instants; nothing where there are none.
pub(super) fn write(
    out: &mut String,
    set: usize,
    (sheets, folder): (&Sheets, &str),
    count: u64,
    (begins, ends): (MediaTime, MediaTime),
) {
    let listed = (0..count).filter(|sheet| sheets.starts(*sheet) < ends && sheets.starts(sheet + 1) > begins);
    let entries: Vec<Entry> = listed.map(|sheet| entry(sheets, sheet)).collect();
    let Some(first) = entries.first() else { return };
    let (width, height) = (sheets.columns * sheets.cell.0, sheets.rows * sheets.cell.1);
    // the same however many sheets there are: above what a sheet takes, for as long as the first is shown
    let bits = u64::from(width) * u64::from(height) * BITS_PER_PIXEL;
    let lasts = sheets.starts(1).millis().max(1) as u64;
    let bandwidth = (bits * 1_000).div_ceil(lasts).max(1);
    let _ = writeln!(
        out,
        "<AdaptationSet id=\"{set}\" contentType=\"image\" mimeType=\"image/jpeg\">\n\
         <Representation id=\"{folder}\" bandwidth=\"{bandwidth}\" width=\"{width}\" height=\"{height}\">\n\
         <EssentialProperty schemeIdUri=\"{SCHEME}\" value=\"{}x{}\"/>",
        sheets.columns, sheets.rows
    );
    let _ = write!(
        out,
        "<SegmentTemplate timescale=\"{}\" presentationTimeOffset=\"{}\" startNumber=\"{}\" media=\"$RepresentationID$/s$Number$.jpg\"><SegmentTimeline>",
        SCALE.hz(),
        ticks(begins),
        first.number,
    );
    write_timeline(out, &entries);
    out.push_str("</SegmentTimeline></SegmentTemplate>\n</Representation>\n</AdaptationSet>\n");
}

/// A sheet lasts as long as all of its places, though the last may have fewer pictures.
fn entry(sheets: &Sheets, sheet: u64) -> Entry {
    let start = ticks(sheets.starts(sheet));
    Entry {
        number: sheet,
        place: Place {
            start,
            length: ticks(sheets.starts(sheet + 1)).saturating_sub(start),
            discontinuity: false,
        },
        init: 0,
        gap: false,
    }
}

fn ticks(at: MediaTime) -> u64 {
    at.ticks(SCALE).max(0) as u64
}

const SCALE: Timescale = Timescale::MILLIS;
const SCHEME: &str = "http://dashif.org/guidelines/thumbnail_tile";
const BITS_PER_PIXEL: u64 = 2;
