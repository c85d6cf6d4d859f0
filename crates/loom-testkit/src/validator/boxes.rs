//! CMAF as a foreign reader sees it: init segments and fragments by `mp4-atom`.

use mp4_atom::{Any, Codec, Decode as _, FourCC, Ftyp, Header, Moof, Moov, ReadFrom as _, Styp};

use super::picture::{self, Coding};
use super::report::Report;

/// What an init segment says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Init {
    pub(crate) tracks: Vec<Track>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Track {
    pub(crate) id: u32,
    pub(crate) timescale: u32,
    /// RFC 6381, as far as the sample entry tells.
    pub(crate) codec: String,
    pub(crate) size: Option<(u16, u16)>,
    pub(crate) channels: Option<u16>,
    pub(crate) coding: Coding,
    duration: u32,
    flags: u32,
    bytes: u32,
}

/// The samples of a part or a segment.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Media {
    /// Decode time of the first sample, ticks.
    pub(crate) start: u64,
    /// Sum of the samples' durations, ticks.
    pub(crate) ticks: u64,
    /// The earliest presentation time, ticks.
    pub(crate) shown: i64,
    pub(crate) samples: usize,
    pub(crate) timescale: u32,
    /// Whether the first sample can be decoded by itself.
    pub(crate) begins_with_key: bool,
    pub(crate) has_key: bool,
    pub(crate) fragments: usize,
    pub(crate) encrypted: bool,
}

impl Media {
    pub(crate) fn seconds(&self) -> f64 {
        self.ticks as f64 / f64::from(self.timescale.max(1))
    }
}

/// Reads an init segment; `None` where it cannot be read at all.
pub(crate) fn init(data: &[u8], at: &str, report: &mut Report) -> Option<Init> {
    const CLAUSE: &str = "§3.1.2";
    let mut rest = data;
    let mut before: Vec<FourCC> = Vec::new();
    let (mut ftyp, mut moov): (Option<Ftyp>, Option<Moov>) = (None, None);
    while !rest.is_empty() {
        let any = match Any::decode(&mut rest) {
            Ok(any) => any,
            Err(why) => {
                report.must(
                    CLAUSE,
                    at,
                    "an init segment is a file of ISO boxes",
                    format!("mp4-atom: {why}"),
                );
                return None;
            }
        };
        before.push(any.kind());
        match any {
            Any::Ftyp(it) => ftyp = Some(it),
            Any::Moov(it) => {
                if ftyp.is_none() {
                    report.must(CLAUSE, at, "ftyp stands before moov", format!("{before:?}"));
                }
                moov = Some(*Box::from(it));
            }
            Any::Mdat(_) => report.must("§3.1", at, "an init segment holds no samples", "an mdat"),
            _ => {}
        }
    }
    match &ftyp {
        None => report.must(CLAUSE, at, "an init segment has an ftyp", "it has none"),
        Some(ftyp) => {
            let brands: Vec<FourCC> = ftyp
                .compatible_brands
                .iter()
                .copied()
                .chain([ftyp.major_brand])
                .collect();
            if !brands.iter().any(|brand| is_iso6_or_later(*brand)) {
                report.must(
                    CLAUSE,
                    at,
                    "ftyp names a brand compatible with iso6 or later",
                    format!("{brands:?}"),
                );
            }
            if !brands
                .iter()
                .any(|brand| [FourCC::new(b"cmfc"), FourCC::new(b"cmf2")].contains(brand))
            {
                report.note(
                    "ISO/IEC 23000-19 §7.2",
                    at,
                    "a CMAF header names cmfc or cmf2",
                    format!("{brands:?}"),
                );
            }
        }
    }
    let Some(moov) = moov else {
        report.must(CLAUSE, at, "an init segment has a moov", "it has none");
        return None;
    };
    if moov.mvhd.duration != 0 {
        report.must(CLAUSE, at, "mvhd has a duration of zero", moov.mvhd.duration);
    }
    let Some(mvex) = &moov.mvex else {
        report.must(CLAUSE, at, "moov has an mvex", "it has none");
        return None;
    };
    let mut tracks = Vec::new();
    for trak in &moov.trak {
        if trak.tkhd.duration != 0 {
            report.must(CLAUSE, at, "tkhd has a duration of zero", trak.tkhd.duration);
        }
        let table = &trak.mdia.minf.stbl;
        if !table.stts.entries.is_empty() || !table.stsc.entries.is_empty() {
            report.must(CLAUSE, at, "an init segment's sample table is empty", "it is not");
        }
        let Some(trex) = mvex.trex.iter().find(|trex| trex.track_id == trak.tkhd.track_id) else {
            report.must(
                "ISO/IEC 14496-12 §8.8.3",
                at,
                "each track has a trex",
                trak.tkhd.track_id,
            );
            continue;
        };
        let Some(entry) = table.stsd.codecs.first() else {
            report.must(
                "ISO/IEC 14496-12 §8.5.2",
                at,
                "a track has a sample entry",
                trak.tkhd.track_id,
            );
            continue;
        };
        tracks.push(Track {
            id: trak.tkhd.track_id,
            timescale: trak.mdia.mdhd.timescale,
            codec: codec_text(entry),
            size: entry.visual().map(|visual| (visual.width, visual.height)),
            channels: entry.audio().map(|audio| audio.channel_count),
            coding: Coding::of(entry),
            duration: trex.default_sample_duration,
            flags: trex.default_sample_flags,
            bytes: trex.default_sample_size,
        });
    }
    Some(Init { tracks })
}

/// Reads a part or a segment.
pub(crate) fn media(data: &[u8], init: &Init, at: &str, report: &mut Report) -> Option<Media> {
    const CLAUSE: &str = "§3.1.2";
    let mut found = Media {
        shown: i64::MAX,
        ..Media::default()
    };
    let mut offset = 0;
    let mut open: Option<(Moof, usize)> = None;
    while offset < data.len() {
        let mut rest = &data[offset..];
        let whole = rest.len();
        let Ok(header) = Header::read_from(&mut rest) else {
            report.must(
                "ISO/IEC 14496-12 §4.2",
                at,
                "a segment is a sequence of boxes",
                format!("no header at byte {offset}"),
            );
            return None;
        };
        let head = whole - rest.len();
        let size = header.size.unwrap_or(rest.len());
        if size > rest.len() {
            report.must(
                "ISO/IEC 14496-12 §4.2",
                at,
                "a box ends within its segment",
                format!("{:?} at byte {offset}", header.kind),
            );
            return None;
        }
        let mut this = &data[offset..offset + head + size];
        match header.kind {
            kind if kind == FourCC::new(b"moof") => {
                if open.is_some() {
                    report.must(
                        "ISO/IEC 23000-19 §7.3.2.2",
                        at,
                        "a moof is followed by its mdat",
                        offset,
                    );
                }
                match Any::decode(&mut this) {
                    Ok(Any::Moof(moof)) => open = Some((*Box::from(moof), offset)),
                    Ok(_) => {}
                    Err(why) => {
                        report.must(
                            "ISO/IEC 14496-12 §8.8.4",
                            at,
                            "a moof can be read",
                            format!("mp4-atom: {why}"),
                        );
                        return None;
                    }
                }
            }
            kind if kind == FourCC::new(b"mdat") => {
                let Some((moof, from)) = open.take() else {
                    report.must(
                        "ISO/IEC 23000-19 §7.3.2.2",
                        at,
                        "an mdat stands behind its moof",
                        offset,
                    );
                    return None;
                };
                found.fragments += 1;
                let payload = offset + head..offset + head + size;
                fragment(&moof, from, payload, data, init, &mut found, at, report)?;
            }
            kind if kind == FourCC::new(b"styp") => {
                if offset != 0 {
                    report.note(
                        "ISO/IEC 14496-12 §8.16.2",
                        at,
                        "a styp that is not first is ignored",
                        offset,
                    );
                }
                if Styp::decode_all(this).is_none() {
                    report.must("ISO/IEC 14496-12 §8.16.2", at, "a styp can be read", offset);
                }
            }
            kind if [b"moov", b"ftyp"].iter().any(|init| kind == FourCC::new(init)) => {
                report.must(
                    CLAUSE,
                    at,
                    "a media segment holds no init segment",
                    format!("{kind:?}"),
                );
            }
            _ => {}
        }
        offset += head + size;
    }
    if open.is_some() {
        report.must(
            "ISO/IEC 23000-19 §7.3.2.2",
            at,
            "a moof is followed by its mdat",
            "the file ends",
        );
    }
    if found.fragments == 0 {
        report.must(CLAUSE, at, "a segment holds a moof and its mdat", "it holds none");
        return None;
    }
    Some(found)
}

/// `Styp` by itself.
trait DecodeAll: Sized {
    fn decode_all(data: &[u8]) -> Option<Self>;
}

impl DecodeAll for Styp {
    fn decode_all(mut data: &[u8]) -> Option<Self> {
        match Any::decode(&mut data).ok()? {
            Any::Styp(styp) => Some(styp),
            _ => None,
        }
    }
}

#[expect(
    clippy::too_many_arguments,
    reason = "one place calls it, with what it has just read"
)]
fn fragment(
    moof: &Moof,
    moof_at: usize,
    payload: std::ops::Range<usize>,
    data: &[u8],
    init: &Init,
    found: &mut Media,
    at: &str,
    report: &mut Report,
) -> Option<()> {
    const CLAUSE: &str = "§3.1.2";
    if moof.traf.len() != 1 {
        report.must(
            "ISO/IEC 23000-19 §7.3.2.2",
            at,
            "a CMAF chunk holds one traf",
            moof.traf.len(),
        );
    }
    let mut held = 0;
    for traf in &moof.traf {
        let Some(track) = init.tracks.iter().find(|track| track.id == traf.tfhd.track_id) else {
            report.must(
                CLAUSE,
                at,
                "each traf has a trak of the same track_ID",
                traf.tfhd.track_id,
            );
            return None;
        };
        let Some(tfdt) = &traf.tfdt else {
            report.must(CLAUSE, at, "each traf has a tfdt", "there is none");
            return None;
        };
        if !traf.tfhd.default_base_is_moof || traf.tfhd.base_data_offset.is_some() {
            report.must(
                CLAUSE,
                at,
                "a segment uses movie-fragment-relative addressing",
                "default-base-is-moof is not set, or there is a base-data-offset",
            );
        }
        found.encrypted |= traf.senc.is_some();
        found.timescale = track.timescale;
        let mut time = tfdt.base_media_decode_time;
        if found.samples == 0 {
            found.start = time;
        } else if time != found.start + found.ticks {
            let seen = format!("{time}, and {} was due", found.start + found.ticks);
            report.must(
                "ISO/IEC 23000-19 §7.3.2.3",
                at,
                "a chunk's tfdt is where the one before ends",
                seen,
            );
        }
        for run in &traf.trun {
            let mut place = match run.data_offset {
                Some(offset) => (moof_at as i64 + i64::from(offset)) as usize,
                None => payload.start,
            };
            for (index, sample) in run.samples.iter().enumerate() {
                let duration = sample
                    .duration
                    .or(traf.tfhd.default_sample_duration)
                    .unwrap_or(track.duration);
                let size = sample
                    .size
                    .or(traf.tfhd.default_sample_size)
                    .unwrap_or(track.bytes) as usize;
                let flags = sample
                    .flags
                    .or(traf.tfhd.default_sample_flags)
                    .unwrap_or(track.flags);
                if place < payload.start || place + size > payload.end {
                    let seen = format!("sample {index}: {place}+{size} of {payload:?}");
                    report.must(
                        "ISO/IEC 14496-12 §8.8.8",
                        at,
                        "each sample lies in its mdat",
                        seen,
                    );
                    return None;
                }
                let shown = time as i64 + sample.cts.unwrap_or(0);
                found.shown = found.shown.min(shown);
                let key = match picture::is_key(track.coding, &data[place..place + size])
                    .filter(|_| !found.encrypted)
                {
                    Some(key) => {
                        let said = flags & 0x1_0000 == 0;
                        if key != said && track.coding != Coding::Other {
                            let seen = format!("sample {index} at {time}: the bitstream says {key}");
                            report.must(
                                "ISO/IEC 14496-12 §8.8.3.1",
                                at,
                                "sample_is_non_sync_sample tells key frames truly",
                                seen,
                            );
                        }
                        key
                    }
                    None => flags & 0x1_0000 == 0,
                };
                if found.samples == 0 {
                    found.begins_with_key = key;
                }
                found.has_key |= key;
                found.samples += 1;
                if duration == 0 {
                    report.should(
                        "ISO/IEC 14496-12 §8.8.8",
                        at,
                        "no sample lasts nothing",
                        format!("sample {index} at {time}"),
                    );
                }
                time += u64::from(duration);
                found.ticks += u64::from(duration);
                held += size;
                place += size;
            }
        }
    }
    if held != payload.len() {
        let seen = format!("{held} of {} bytes", payload.len());
        report.should(
            "ISO/IEC 23000-19 §7.3.2.2",
            at,
            "an mdat holds its chunk's samples and nothing else",
            seen,
        );
    }
    Some(())
}

fn is_iso6_or_later(brand: FourCC) -> bool {
    let text = brand.to_string();
    [
        "iso6", "iso7", "iso8", "iso9", "isoa", "isob", "isoc", "cmfc", "cmf2",
    ]
    .contains(&text.as_str())
}

/// The codec as RFC 6381 names it, from the sample entry.
fn codec_text(entry: &Codec) -> String {
    let avc = |name: &str, it: &mp4_atom::Avcc| {
        let (profile, level) = (it.avc_profile_indication, it.avc_level_indication);
        format!("{name}.{profile:02x}{:02x}{level:02x}", it.profile_compatibility)
    };
    match entry {
        Codec::Avc1(it) => avc("avc1", &it.avcc),
        Codec::Avc3(it) => avc("avc3", &it.avcc),
        Codec::Hvc1(_) => "hvc1".to_owned(),
        Codec::Hev1(_) => "hev1".to_owned(),
        Codec::Av01(it) => {
            let tier = if it.av1c.seq_tier_0 { 'H' } else { 'M' };
            let depth = 8 + 2 * u8::from(it.av1c.high_bitdepth) + 2 * u8::from(it.av1c.twelve_bit);
            format!(
                "av01.{}.{:02}{tier}.{depth:02}",
                it.av1c.seq_profile, it.av1c.seq_level_idx_0
            )
        }
        Codec::Vp09(it) => format!(
            "vp09.{:02}.{:02}.{:02}",
            it.vpcc.profile, it.vpcc.level, it.vpcc.bit_depth
        ),
        Codec::Mp4a(it) => match &it.esds.es_desc.dec_config.dec_specific {
            Some(specific) => format!("mp4a.40.{}", specific.profile),
            None => "mp4a".to_owned(),
        },
        Codec::Opus(_) => "opus".to_owned(),
        Codec::Unknown(kind, _) => kind.to_string(),
        _ => String::new(),
    }
}
