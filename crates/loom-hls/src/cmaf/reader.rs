use std::io::{self, Read};

use mp4_atom::{Atom, Decode, Header, Moof, Moov};

use crate::limits;

/// What a chunk's `moof` says of its samples: all of one track, with their data in order in the `mdat` that follows.
#[derive(Debug, Clone)]
pub(crate) struct Chunk {
    /// Decode time of the first sample, ticks.
    pub(crate) decode_time: u64,
    /// Each sample: ticks it lasts, bytes, composition offset in ticks, whether it is a sync sample.
    pub(crate) samples: Vec<ChunkSample>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChunkSample {
    pub(crate) duration: u32,
    pub(crate) size: u32,
    pub(crate) offset: i32,
    pub(crate) sync: bool,
}

/// Reads boxes up to the next `mdat`'s payload and gives the chunk it belongs to, and the payload's length; `None` at the end.
/// The reader is then at the first byte of the payload.
pub(crate) fn read_chunk_header(from: &mut impl Read) -> io::Result<Option<(Chunk, u64)>> {
    let mut chunk = None;
    loop {
        let Some(header) = read_header(from)? else {
            return match chunk {
                None => Ok(None),
                Some(_) => Err(invalid("a moof has no mdat (ISO/IEC 14496-12 §8.1.1)")),
            };
        };
        let size = header
            .size
            .ok_or_else(|| invalid("a box in a segment has no size"))? as u64;
        match &<[u8; 4]>::from(header.kind) {
            b"mdat" => {
                let chunk: Chunk = chunk.ok_or_else(|| invalid("an mdat has no moof before it"))?;
                let told: u64 = chunk.samples.iter().map(|s| u64::from(s.size)).sum();
                return match told == size {
                    true => Ok(Some((chunk, size))),
                    false => Err(invalid(&format!("an mdat of {size} bytes has samples of {told}"))),
                };
            }
            b"moof" => {
                let moof = Moof::decode_body(&mut &read_body(from, size)?[..]).map_err(invalid_box)?;
                chunk = Some(chunk_of(&moof)?);
            }
            _ => {
                io::copy(&mut from.take(size), &mut io::sink())?;
            }
        }
    }
}

/// The `moov` of an init segment.
pub(crate) fn read_moov(mut init: &[u8]) -> io::Result<Moov> {
    while let Some(header) = read_header(&mut init)? {
        let size = header.size.unwrap_or(init.len());
        let body = init
            .get(..size)
            .ok_or_else(|| invalid("an init segment is cut short"))?;
        if header.kind == Moov::KIND {
            return Moov::decode_body(&mut &body[..]).map_err(invalid_box);
        }
        init = &init[size..];
    }
    Err(invalid("an init segment has no moov (ISO/IEC 23000-19 §7.3.1)"))
}

fn chunk_of(moof: &Moof) -> io::Result<Chunk> {
    let [traf] = &moof.traf[..] else {
        return Err(invalid(
            "a chunk has not one track fragment (ISO/IEC 23000-19 §7.3.2.3)",
        ));
    };
    let tfdt = traf
        .tfdt
        .as_ref()
        .ok_or_else(|| invalid("a track fragment has no tfdt (ISO/IEC 23000-19 §7.5.15)"))?;
    let default = &traf.tfhd;
    let mut samples = Vec::new();
    for entry in traf.trun.iter().flat_map(|run| run.samples.iter()) {
        let flags = entry.flags.or(default.default_sample_flags).unwrap_or(0);
        samples.push(ChunkSample {
            duration: entry.duration.or(default.default_sample_duration).unwrap_or(0),
            size: entry.size.or(default.default_sample_size).unwrap_or(0),
            offset: i32::try_from(entry.cts.unwrap_or(0))
                .map_err(|_| invalid("a composition offset is out of range"))?,
            sync: flags & 0x0001_0000 == 0,
        });
        if samples.len() > limits::CHUNK_SAMPLES {
            return Err(invalid("a track run has too many samples"));
        }
    }
    Ok(Chunk {
        decode_time: tfdt.base_media_decode_time,
        samples,
    })
}

/// The next box's header; `None` at the end of the data.
fn read_header(from: &mut impl Read) -> io::Result<Option<Header>> {
    let mut head = [0; 16];
    let mut got = 0;
    while got < 8 {
        match from.read(&mut head[got..8])? {
            0 if got == 0 => return Ok(None),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => got += n,
        }
    }
    let mut len = 8;
    if head[..4] == [0, 0, 0, 1] {
        from.read_exact(&mut head[8..])?;
        len = 16;
    }
    Header::decode(&mut &head[..len]).map(Some).map_err(invalid_box)
}

fn read_body(from: &mut impl Read, size: u64) -> io::Result<Vec<u8>> {
    if size > limits::BOX_BYTES {
        return Err(invalid(&format!(
            "a box of {size} bytes is above the limit of {}",
            limits::BOX_BYTES
        )));
    }
    let mut body = Vec::new();
    from.take(size).read_to_end(&mut body)?;
    match body.len() as u64 == size {
        true => Ok(body),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}

fn invalid_box(why: mp4_atom::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
