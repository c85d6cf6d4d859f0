//! `loom-bench-packaging IN.mp4 FOLDER`: reads an MP4 with H.264 and AAC from its start to its end and writes whole segments and
//! their playlists, as `ffmpeg -i IN.mp4 -c copy -f hls -hls_segment_type fmp4` does.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::{Bytes, BytesMut};
use loom_core::codec::{aac, h264};
use loom_core::{CodecParameters, MediaKind, MediaTime, Packet, RenditionId, Timescale, TrackId};
use loom_hls::{HlsOutput, Packager, PackagerConfig, RenditionInfo, RenditionKind};
use mp4_atom::{Codec, Decode, Encode, Header, Moov, Trak};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(input), Some(folder)) = (arguments.next(), arguments.next()) else {
        bail!("loom-bench-packaging IN.mp4 FOLDER");
    };
    let mut input = File::open(input)?;
    let mut tracks = read_tracks(&mut input)?;
    let mut packager = Packager::new(PackagerConfig::file(
        Duration::from_secs(4),
        Duration::from_secs(10),
    ))?;
    for track in &tracks {
        packager.declare(track.info.clone())?;
    }
    for track in &tracks {
        packager.handle_format(&track.info.id, track.codec.clone())?;
    }
    let mut store = Store::at(PathBuf::from(folder));
    let mut source = Source::new(input);
    loop {
        let next = tracks.iter_mut().filter(|t| !t.samples.is_empty());
        let Some(track) = next.min_by_key(|t| t.samples[0].offset) else {
            break;
        };
        let Some(sample) = track.samples.pop_front() else {
            break;
        };
        let data = source.take(sample.offset, sample.size)?;
        packager.handle_packet(&track.info.id, track.packet(&sample, data))?;
        store.carry_out(&mut packager)?;
    }
    packager.finish()?;
    store.carry_out(&mut packager)
}

/// One track and where its samples lie.
struct Track {
    info: RenditionInfo,
    codec: CodecParameters,
    scale: Timescale,
    /// Where its edit list begins, ticks.
    from: i64,
    samples: VecDeque<Sample>,
}

struct Sample {
    offset: u64,
    size: usize,
    dts: i64,
    pts: i64,
    duration: u32,
    key: bool,
}

impl Track {
    fn packet(&self, sample: &Sample, data: Bytes) -> Packet {
        let time = |ticks| MediaTime::from_ticks(ticks - self.from, self.scale);
        let nanos = u64::from(sample.duration) * 1_000_000_000 / u64::from(self.scale.hz());
        Packet {
            track: TrackId(0),
            pts: time(sample.pts),
            dts: time(sample.dts),
            duration: Some(Duration::from_nanos(nanos)).filter(|_| self.codec.kind() == MediaKind::Audio),
            key: sample.key,
            data,
        }
    }
}

fn read_tracks(input: &mut File) -> Result<Vec<Track>> {
    let mut at = 0;
    let moov = loop {
        input.seek(SeekFrom::Start(at))?;
        let mut head = [0; 16];
        input.read_exact(&mut head).context("there is no moov")?;
        let header = Header::decode(&mut &head[..])?;
        let length: u64 = if head[..4] == [0, 0, 0, 1] { 16 } else { 8 };
        let size = header.size.context("a box without a size")? as u64;
        if &<[u8; 4]>::from(header.kind) == b"moov" {
            let mut body = vec![0; size as usize];
            input.seek(SeekFrom::Start(at + length))?;
            input.read_exact(&mut body)?;
            break <Moov as mp4_atom::Atom>::decode_body(&mut &body[..])?;
        }
        at += length + size;
    };
    moov.trak
        .iter()
        .filter_map(|trak| read_track(trak).transpose())
        .collect()
}

fn read_track(trak: &Trak) -> Result<Option<Track>> {
    let table = &trak.mdia.minf.stbl;
    let scale = Timescale::new(trak.mdia.mdhd.timescale).context("a timescale of zero")?;
    let (name, kind, codec) = match table.stsd.codecs.first() {
        Some(Codec::Avc1(entry)) => {
            let mut avcc = Vec::new();
            entry.avcc.encode(&mut avcc)?;
            let codec = h264::parameters_from_avcc(&Bytes::from(avcc).slice(8..))?;
            let kind = RenditionKind::Video {
                width: codec.width,
                height: codec.height,
                frame_rate: 30.0,
            };
            ("source", kind, CodecParameters::Video(codec))
        }
        Some(Codec::Mp4a(entry)) => {
            let rate = entry.audio.sample_rate.integer();
            let index = [96_000, 88_200, 64_000, 48_000_u32, 44_100]
                .iter()
                .position(|it| *it == u32::from(rate));
            let index = index.context("another rate of sound")? as u16;
            let channels = entry.audio.channel_count;
            let config = (2_u16 << 11 | index << 7 | channels << 3).to_be_bytes();
            let kind = RenditionKind::Audio {
                name: "Sound".to_owned(),
                language: None,
                channels,
            };
            (
                "aac",
                kind,
                CodecParameters::Audio(aac::parameters(&Bytes::copy_from_slice(&config))?),
            )
        }
        _ => return Ok(None),
    };
    let edits = trak.edts.as_ref().and_then(|edts| edts.elst.as_ref());
    let from = edits.and_then(|elst| {
        elst.entries
            .iter()
            .find_map(|e| i64::try_from(e.media_time?).ok())
    });
    let info = RenditionInfo {
        id: RenditionId::new(name).context("a name")?,
        kind,
        bandwidth: 5_000_000,
    };
    Ok(Some(Track {
        info,
        codec,
        scale,
        from: from.unwrap_or(0),
        samples: read_samples(trak)?,
    }))
}

/// ISO/IEC 14496-12 §8.6, §8.7.
fn read_samples(trak: &Trak) -> Result<VecDeque<Sample>> {
    let table = &trak.mdia.minf.stbl;
    let sizes: Vec<u32> = match &table.stsz.samples {
        mp4_atom::StszSamples::Identical { count, size } => vec![*size; *count as usize],
        mp4_atom::StszSamples::Different { sizes } => sizes.clone(),
    };
    let mut chunks: Vec<u64> = Vec::new();
    if let Some(stco) = &table.stco {
        chunks.extend(stco.entries.iter().map(|at| u64::from(*at)));
    }
    if let Some(co64) = &table.co64 {
        chunks.extend(&co64.entries);
    }
    let mut durations = table
        .stts
        .entries
        .iter()
        .flat_map(|e| std::iter::repeat_n(e.sample_delta, e.sample_count as usize));
    let offsets: Vec<(u32, i64)> = table.ctts.as_ref().map_or(Vec::new(), |ctts| {
        ctts.entries
            .iter()
            .map(|e| (e.sample_count, e.sample_offset))
            .collect()
    });
    let mut offsets = offsets
        .into_iter()
        .flat_map(|(count, offset)| std::iter::repeat_n(offset, count as usize));
    let keys: Option<std::collections::HashSet<u32>> = table
        .stss
        .as_ref()
        .map(|stss| stss.entries.iter().copied().collect());
    let mut samples = VecDeque::with_capacity(sizes.len());
    let (mut dts, mut number) = (0_i64, 0_usize);
    for (at, chunk) in chunks.iter().enumerate() {
        let runs = &table.stsc.entries;
        let run = runs.partition_point(|run| run.first_chunk as usize <= at + 1) - 1;
        let mut offset = *chunk;
        for _ in 0..runs[run].samples_per_chunk {
            let Some(size) = sizes.get(number) else { break };
            let duration = durations.next().unwrap_or(0);
            samples.push_back(Sample {
                offset,
                size: *size as usize,
                dts,
                pts: dts + offsets.next().unwrap_or(0),
                duration,
                key: keys
                    .as_ref()
                    .is_none_or(|keys| keys.contains(&(number as u32 + 1))),
            });
            offset += u64::from(*size);
            dts += i64::from(duration);
            number += 1;
        }
    }
    Ok(samples)
}

/// Reads a file forwards, in large pieces, of which samples are slices.
struct Source {
    file: File,
    /// Where in the file `piece` begins.
    at: u64,
    piece: Bytes,
    spare: BytesMut,
}

const PIECE: usize = 1 << 20;

impl Source {
    fn new(file: File) -> Self {
        Self {
            file,
            at: 0,
            piece: Bytes::new(),
            spare: BytesMut::new(),
        }
    }

    fn take(&mut self, offset: u64, size: usize) -> Result<Bytes> {
        let held = offset >= self.at && offset + size as u64 <= self.at + self.piece.len() as u64;
        if !held {
            self.file.seek(SeekFrom::Start(offset))?;
            self.spare.clear();
            self.spare.reserve(PIECE.max(size));
            let want = PIECE.max(size);
            self.spare.resize(want, 0);
            let mut got = 0;
            while got < want {
                match self.file.read(&mut self.spare[got..])? {
                    0 => break,
                    n => got += n,
                }
            }
            self.spare.truncate(got);
            self.piece = self.spare.split().freeze();
            self.at = offset;
        }
        let from = (offset - self.at) as usize;
        if from + size > self.piece.len() {
            bail!("the file is cut short");
        }
        Ok(self.piece.slice(from..from + size))
    }
}

/// Writes what the packager makes.
struct Store {
    folder: PathBuf,
    open: Option<(String, File)>,
}

impl Store {
    fn at(folder: PathBuf) -> Self {
        Self { folder, open: None }
    }

    fn carry_out(&mut self, packager: &mut Packager) -> Result<()> {
        while let Some(output) = packager.poll_output() {
            match output {
                HlsOutput::Store { key, data } => {
                    let path = self.folder.join(&key);
                    if let Some(parent) = path.parent().filter(|parent| !parent.exists()) {
                        fs::create_dir_all(parent)?;
                    }
                    let mut file = File::create(&path)?;
                    file.write_all(&data)?;
                    self.open = Some((key, file)).filter(|(key, _)| key.ends_with(".m4s"));
                }
                HlsOutput::Append { key, data } => match &mut self.open {
                    Some((open, file)) if *open == key => file.write_all(&data)?,
                    _ => append(&self.folder.join(&key), &data)?,
                },
                _ => {}
            }
        }
        Ok(())
    }
}

fn append(path: &Path, data: &[u8]) -> Result<()> {
    File::options().append(true).open(path)?.write_all(data)?;
    Ok(())
}
