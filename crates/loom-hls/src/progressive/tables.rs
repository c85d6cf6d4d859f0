use std::io;
use std::time::Duration;

use loom_core::{MediaTime, Timescale};
use mp4::{FtypBox, MoovBox, TrackType, WriteBox};
use mp4_atom::{Codec, Decode, Encode, Moov};

use crate::cmaf::Chunk;
use crate::progressive::Piece;

/// One track's sample tables, run-length where the format has them so.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) timescale: Timescale,
    pub(crate) entries: Vec<Codec>,
    /// Decode time of the first sample, ticks.
    first: u64,
    /// Where the last sample ends, ticks.
    end: u64,
    /// The earliest presentation time, ticks.
    shown: i64,
    sizes: Vec<u32>,
    durations: Vec<(u32, u32)>,
    offsets: Vec<(u32, i32)>,
    syncs: Vec<u32>,
}

impl Table {
    pub(crate) fn new(timescale: Timescale) -> Self {
        Self {
            timescale,
            entries: Vec::new(),
            first: 0,
            end: 0,
            shown: i64::MAX,
            sizes: Vec::new(),
            durations: Vec::new(),
            offsets: Vec::new(),
            syncs: Vec::new(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sizes.is_empty()
    }

    pub(crate) fn add(&mut self, chunk: &Chunk) {
        if self.is_empty() {
            self.first = chunk.decode_time;
        } else if chunk.decode_time > self.end {
            // over a gap the sample before it lasts: the tables have no other way to say so (ISO/IEC 14496-12 §8.6.1.2)
            self.draw_out((chunk.decode_time - self.end).min(u64::from(u32::MAX)) as u32);
        }
        let mut at = chunk.decode_time;
        for sample in &chunk.samples {
            self.sizes.push(sample.size);
            run(&mut self.durations, sample.duration);
            run(&mut self.offsets, sample.offset);
            if sample.sync {
                self.syncs.push(self.sizes.len() as u32);
            }
            self.shown = self.shown.min(at as i64 + i64::from(sample.offset));
            at += u64::from(sample.duration);
        }
        self.end = at;
    }

    /// Makes the last sample last longer.
    fn draw_out(&mut self, by: u32) {
        if let Some((count, duration)) = self.durations.pop() {
            if count > 1 {
                self.durations.push((count - 1, duration));
            }
            run(&mut self.durations, duration.saturating_add(by));
        }
    }

    fn time(&self, ticks: i64) -> MediaTime {
        MediaTime::from_ticks(ticks, self.timescale)
    }

    /// When its first sample is shown.
    fn starts(&self) -> MediaTime {
        self.time(self.shown)
    }

    /// How long it is shown, the reordering of its first pictures aside.
    fn shown_for(&self) -> Duration {
        self.time(self.end as i64).since(self.time(self.first as i64))
    }
}

/// How long the whole plays.
pub(crate) fn duration(tables: &[Table]) -> Duration {
    let start = tables.iter().map(Table::starts).min().unwrap_or(MediaTime::ZERO);
    tables
        .iter()
        .map(|t| (t.starts() + t.shown_for()).since(start))
        .max()
        .unwrap_or_default()
}

/// The file up to the first byte of media: `ftyp`, `moov`, and the header of an `mdat` that holds `pieces` in their order.
pub(crate) fn write_moov(tables: &[Table], pieces: &[Piece], payload: u64) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let ftyp = FtypBox {
        major_brand: (*b"isom").into(),
        minor_version: 0x200,
        compatible_brands: [*b"isom", *b"iso2", *b"mp41"].map(Into::into).to_vec(),
    };
    ftyp.write_box(&mut head).map_err(invalid)?;
    // offsets depend on the size of moov, and that on whether they fit 32 bits, but not on their values
    let long = payload > u64::from(u32::MAX) - (256 << 20);
    let mdat = if long { 16 } else { 8 };
    let empty = moov_box(tables, pieces, 0, long)?;
    let base = (head.len() + empty.len() + mdat) as u64;
    head.extend(moov_box(tables, pieces, base, long)?);
    if long {
        head.extend(1_u32.to_be_bytes());
        head.extend(b"mdat");
        head.extend((payload + 16).to_be_bytes());
    } else {
        head.extend(((payload + 8) as u32).to_be_bytes());
        head.extend(b"mdat");
    }
    Ok(head)
}

fn moov_box(tables: &[Table], pieces: &[Piece], base: u64, long: bool) -> io::Result<Vec<u8>> {
    let mut moov = MoovBox::default();
    moov.mvhd.timescale = MOVIE.hz();
    moov.mvhd.duration = movie_ticks(duration(tables));
    let start = tables.iter().map(Table::starts).min().unwrap_or(MediaTime::ZERO);
    for (number, table) in tables.iter().enumerate() {
        let visual = table.entries.first().and_then(Codec::visual);
        moov.traks.push(Default::default());
        let Some(trak) = moov.traks.last_mut() else {
            continue;
        };
        // an edit list says when the track begins, and hides that its decode times begin earlier than its first
        // picture is shown (ISO/IEC 14496-12 §8.6.6)
        let late = movie_ticks(table.starts().since(start));
        let lasts = movie_ticks(table.shown_for());
        trak.edts = Some(Default::default());
        if let Some(edts) = &mut trak.edts {
            edts.elst = Some(Default::default());
            if let Some(elst) = &mut edts.elst {
                let mut edit = |length: u64, from: u64| {
                    elst.entries.push(Default::default());
                    if let Some(entry) = elst.entries.last_mut() {
                        entry.segment_duration = length;
                        entry.media_time = from;
                        entry.media_rate = 1;
                    }
                };
                if late > 0 {
                    edit(late, EMPTY_EDIT);
                }
                edit(lasts, (table.shown - table.first as i64).max(0) as u64);
            }
        }
        trak.tkhd.flags = 3; // enabled, in the movie
        trak.tkhd.track_id = number as u32 + 1;
        trak.tkhd.duration = late + lasts;
        trak.mdia.mdhd.timescale = table.timescale.hz();
        trak.mdia.mdhd.duration = table.end - table.first;
        trak.mdia.mdhd.version = u8::from(trak.mdia.mdhd.duration > u64::from(u32::MAX));
        trak.mdia.mdhd.language = "und".to_owned();
        let minf = &mut trak.mdia.minf;
        match visual {
            Some(visual) => {
                trak.mdia.hdlr.handler_type = TrackType::Video.into();
                trak.mdia.hdlr.name = "video".to_owned();
                trak.tkhd.set_width(visual.width);
                trak.tkhd.set_height(visual.height);
                minf.vmhd = Some(Default::default());
            }
            None => {
                trak.mdia.hdlr.handler_type = TrackType::Audio.into();
                trak.mdia.hdlr.name = "sound".to_owned();
                minf.smhd = Some(Default::default());
            }
        }
        let stbl = &mut minf.stbl;
        // a stand-in, see below
        stbl.stsd.avc1 = Some(Default::default());
        if let Some(entry) = &mut stbl.stsd.avc1 {
            entry.avcc.configuration_version = 1;
        }
        for (count, duration) in &table.durations {
            stbl.stts.entries.push(Default::default());
            if let Some(entry) = stbl.stts.entries.last_mut() {
                (entry.sample_count, entry.sample_delta) = (*count, *duration);
            }
        }
        if table.offsets.iter().any(|(_, offset)| *offset != 0) {
            stbl.ctts = Some(Default::default());
            if let Some(ctts) = &mut stbl.ctts {
                ctts.version = u8::from(table.offsets.iter().any(|(_, offset)| *offset < 0));
                for (count, offset) in &table.offsets {
                    ctts.entries.push(Default::default());
                    if let Some(entry) = ctts.entries.last_mut() {
                        (entry.sample_count, entry.sample_offset) = (*count, *offset);
                    }
                }
            }
        }
        if table.syncs.len() < table.sizes.len() {
            stbl.stss = Some(Default::default());
            if let Some(stss) = &mut stbl.stss {
                stss.entries = table.syncs.clone();
            }
        }
        stbl.stsz.sample_count = table.sizes.len() as u32;
        stbl.stsz.sample_sizes = table.sizes.clone();
        let mut offset = base;
        let mut offsets = Vec::new();
        let mut before = (0, 0);
        for piece in pieces {
            if piece.track == number {
                offsets.push(offset);
                if before != (piece.samples, piece.entry) {
                    before = (piece.samples, piece.entry);
                    stbl.stsc.entries.push(Default::default());
                    if let Some(entry) = stbl.stsc.entries.last_mut() {
                        entry.first_chunk = offsets.len() as u32;
                        (entry.samples_per_chunk, entry.sample_description_index) = before;
                    }
                }
            }
            offset += piece.size;
        }
        if long {
            stbl.co64 = Some(Default::default());
            if let Some(co64) = &mut stbl.co64 {
                co64.entries = offsets;
            }
        } else {
            stbl.stco = Some(Default::default());
            if let Some(stco) = &mut stbl.stco {
                stco.entries = offsets.iter().map(|o| *o as u32).collect();
            }
        }
    }
    let mut written = Vec::new();
    moov.write_box(&mut written).map_err(invalid)?;
    // the mp4 crate writes sample entries from what it knows of a codec, without the extension that avcC has for High
    // profile (ISO/IEC 14496-15 §5.3.3.1.2): put in the stored ones
    let mut moov = Moov::decode(&mut &written[..]).map_err(invalid)?;
    for (trak, table) in moov.trak.iter_mut().zip(tables) {
        trak.mdia.minf.stbl.stsd.codecs = table.entries.clone();
    }
    moov.mvhd.next_track_id = tables.len() as u32 + 1;
    let mut out = Vec::new();
    moov.encode(&mut out).map_err(invalid)?;
    Ok(out)
}

fn run<T: PartialEq>(runs: &mut Vec<(u32, T)>, value: T) {
    match runs.last_mut() {
        Some((count, last)) if *last == value => *count += 1,
        _ => runs.push((1, value)),
    }
}

fn movie_ticks(span: Duration) -> u64 {
    (MediaTime::ZERO + span).ticks(MOVIE).max(0) as u64
}

fn invalid(why: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// The movie's timescale: edit lists are exact to a tenth of a millisecond, and 32 bits hold 119 hours.
const MOVIE: Timescale = match Timescale::new(10_000) {
    Some(it) => it,
    None => Timescale::MILLIS,
};
/// `media_time` of an edit that shows nothing: −1 (ISO/IEC 14496-12 §8.6.6.3).
const EMPTY_EDIT: u64 = u32::MAX as u64;
