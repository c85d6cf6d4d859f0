use bytes::Bytes;
use mp4_atom::{Encode, FourCC, Mfhd, Moof, Styp, Tfdt, Tfhd, Traf, Trun, TrunEntry};

use crate::cmaf::{NOT_SYNC, SYNC, TRACK_ID};

/// One sample with its place on the track's timescale.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    /// Decode time, ticks.
    pub(crate) dts: u64,
    /// Ticks until the next sample's decode time.
    pub(crate) duration: u32,
    /// Presentation time less decode time, ticks.
    pub(crate) offset: i32,
    pub(crate) key: bool,
    pub(crate) data: Bytes,
}

/// `styp`, which begins a segment (ISO/IEC 14496-12 §8.16.2).
pub(crate) fn styp(out: &mut Vec<u8>) -> Result<(), mp4_atom::Error> {
    Styp {
        major_brand: FourCC::new(b"msdh"),
        minor_version: 0,
        compatible_brands: [b"msdh", b"cmfs"].map(FourCC::new).to_vec(),
    }
    .encode(out)
}

/// Writes one CMAF chunk, `moof` and `mdat` (ISO/IEC 23000-19 §7.3.2.3), behind what `out` holds. `video` tells which sample
/// flags the track's other samples have.
pub(crate) fn write_chunk(
    out: &mut Vec<u8>,
    sequence: u32,
    video: bool,
    samples: &[Sample],
) -> Result<(), mp4_atom::Error> {
    let payload: usize = samples.iter().map(|s| s.data.len()).sum();
    let one_duration = samples
        .first()
        .map(|s| s.duration)
        .filter(|d| samples.iter().all(|s| s.duration == *d));
    let reordered = samples.iter().any(|s| s.offset != 0);
    let first_alone = samples.iter().skip(1).all(|s| !s.key);
    let flags = |at: usize, sample: &Sample| {
        if !video {
            return None;
        }
        match (first_alone, at) {
            (true, 0) => sample.key.then_some(SYNC),
            (true, _) => None,
            (false, _) => Some(if sample.key { SYNC } else { NOT_SYNC }),
        }
    };
    let entries: Vec<TrunEntry> = samples
        .iter()
        .enumerate()
        .map(|(at, sample)| TrunEntry {
            duration: one_duration.is_none().then_some(sample.duration),
            size: Some(sample.data.len() as u32),
            flags: flags(at, sample),
            cts: reordered.then_some(i64::from(sample.offset)),
        })
        .collect();
    let mut moof = Moof {
        mfhd: Mfhd {
            sequence_number: sequence,
        },
        traf: vec![Traf {
            tfhd: Tfhd {
                track_id: TRACK_ID,
                default_base_is_moof: true,
                default_sample_duration: one_duration,
                default_sample_flags: Some(if video { NOT_SYNC } else { SYNC }),
                ..Default::default()
            },
            tfdt: Some(Tfdt {
                base_media_decode_time: samples.first().map_or(0, |s| s.dts),
            }),
            trun: vec![Trun {
                data_offset: Some(0),
                samples: entries.into(),
            }],
            ..Default::default()
        }],
    };
    let mut head = Vec::with_capacity(128 + samples.len() * 16);
    moof.encode(&mut head)?;
    // the data begin behind moof and the header of mdat; the offset's own size is fixed
    moof.traf[0].trun[0].data_offset = Some(head.len() as i32 + MDAT_HEADER as i32);
    head.clear();
    moof.encode(&mut head)?;
    out.reserve(head.len() + MDAT_HEADER + payload);
    out.extend_from_slice(&head);
    out.extend_from_slice(&((MDAT_HEADER + payload) as u32).to_be_bytes());
    out.extend_from_slice(b"mdat");
    for sample in samples {
        out.extend_from_slice(&sample.data);
    }
    Ok(())
}

const MDAT_HEADER: usize = 8;
