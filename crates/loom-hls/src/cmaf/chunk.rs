use std::time::SystemTime;

use bytes::Bytes;
use mp4_atom::{
    Encode, FourCC, Mfhd, Moof, Prft, ReferenceTime, Saio, Saiz, Senc, Styp, Tfdt, Tfhd, Traf, Trun,
    TrunEntry,
};

use crate::cmaf::{NOT_SYNC, SYNC, TRACK_ID};
use crate::crypt::{self, SampleSeal, Sealed};

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

/// `prft` (ISO/IEC 14496-12 §8.16.5), before the chunk it is about: what is shown at `media_time`, ticks, happened at `at`.
pub(crate) fn prft(out: &mut Vec<u8>, media_time: u64, at: SystemTime) -> Result<(), mp4_atom::Error> {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let fraction = (u64::from(since.subsec_nanos()) << 32) / 1_000_000_000;
    Prft {
        reference_track_id: TRACK_ID,
        // seconds since 1900 in the upper half (RFC 5905 §6); the era wraps in 2036, as it must
        ntp_timestamp: since.as_secs().wrapping_add(NTP_TO_UNIX) << 32 | fraction,
        media_time,
        utc_time_semantics: ReferenceTime::RealTime,
    }
    .encode(out)
}

/// Seconds from 1900 to 1970.
const NTP_TO_UNIX: u64 = 2_208_988_800;

/// Writes one CMAF chunk, `moof` and `mdat` (ISO/IEC 23000-19 §7.3.2.3), behind what `out` holds. `video` tells which sample
/// flags the track's other samples have. With `seal` the samples are encrypted (ISO/IEC 23001-7).
pub(crate) fn write_chunk(
    out: &mut Vec<u8>,
    sequence: u32,
    video: bool,
    samples: &[Sample],
    seal: Option<&mut SampleSeal>,
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
    let mut sealed = Vec::new();
    if let Some(seal) = seal {
        sealed.extend(samples.iter().map(|sample| seal.seal(&sample.data)));
        describe(&mut moof.traf[0], &sealed, seal.has_subsamples())?;
    }
    let mut head = Vec::with_capacity(128 + samples.len() * 16);
    moof.encode(&mut head)?;
    if let Some(at) = sample_information(&head)
        && let Some(saio) = moof.traf[0].saio.first_mut()
    {
        saio.offsets = vec![at as u64];
    }
    // the data begin behind moof and the header of mdat; the offset's own size is fixed
    moof.traf[0].trun[0].data_offset = Some(head.len() as i32 + MDAT_HEADER as i32);
    head.clear();
    moof.encode(&mut head)?;
    out.reserve(head.len() + MDAT_HEADER + payload);
    out.extend_from_slice(&head);
    out.extend_from_slice(&((MDAT_HEADER + payload) as u32).to_be_bytes());
    out.extend_from_slice(b"mdat");
    for (at, sample) in samples.iter().enumerate() {
        out.extend_from_slice(sealed.get(at).map_or(&sample.data, |sealed| &sealed.data));
    }
    Ok(())
}

/// Says how samples are encrypted: `senc` (ISO/IEC 23001-7 §7.2), and `saiz` and `saio` that lead to it (ISO/IEC 14496-12 §8.7.8,
/// §8.7.9). Samples that are protected as a whole, with a constant vector, need nothing said.
fn describe(traf: &mut Traf, sealed: &[Sealed], subsamples: bool) -> Result<(), mp4_atom::Error> {
    if !subsamples && sealed.iter().all(|sample| sample.iv.is_empty()) {
        return Ok(());
    }
    let mut data = (sealed.len() as u32).to_be_bytes().to_vec();
    let mut sizes = Vec::with_capacity(sealed.len());
    for sample in sealed {
        let from = data.len();
        data.extend(&sample.iv);
        if subsamples {
            data.extend((sample.subsamples.len() as u16).to_be_bytes());
            for (clear, protected) in &sample.subsamples {
                data.extend(clear.to_be_bytes());
                data.extend(protected.to_be_bytes());
            }
        }
        sizes.push(u8::try_from(data.len() - from).map_err(|_| mp4_atom::Error::OutOfBounds)?);
    }
    let one = sizes
        .first()
        .copied()
        .filter(|size| sizes.iter().all(|s| s == size));
    traf.senc = Some(Senc {
        use_subsamples: subsamples,
        data,
        ..Default::default()
    });
    traf.saiz.push(Saiz {
        default_sample_info_size: one.unwrap_or(0),
        sample_count: sizes.len() as u32,
        sample_info_size: if one.is_some() { Vec::new() } else { sizes },
        ..Default::default()
    });
    traf.saio.push(Saio {
        offsets: vec![0],
        ..Default::default()
    });
    Ok(())
}

/// Where in a `moof` the first sample's information lies, behind the head of `senc`.
fn sample_information(moof: &[u8]) -> Option<usize> {
    let traf = crypt::child(moof, 8..moof.len(), b"traf")?;
    let senc = crypt::child(moof, traf.start + 8..traf.end, b"senc")?;
    Some(senc.start + 16)
}

const MDAT_HEADER: usize = 8;
