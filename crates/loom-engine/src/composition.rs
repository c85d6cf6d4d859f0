//! Screen and camera in one picture, as a file to download: made by a job, of a recording that is ready, whose tracks stay as they are.
//!
//! The main picture is the screen, and the first picture aside the camera, as publishers send them. What was asked for last lies beside the
//! file, whose name has its checksum, so that another layout is another file, here and in the store.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use loom_core::{CodecParameters, Media, MediaKind, MediaTime, Packet, RenditionId, TrackFormat, TrackId};
use loom_hls::progressive::{Layout, TrackFiles};
use loom_hls::stored::{StoredSegment, StoredTrack, read_codec, read_packets};
use loom_hls::{HlsOutput, Packager, PackagerConfig, RenditionInfo, RenditionKind};
use loom_transcode::{Composed, Composition, compose};
use sha2::{Digest, Sha256};

use crate::download::{self, Segment};
use crate::error::EngineError;
use crate::event::{RecordingState, RenditionDescription};
use crate::folder::{COMPOSITION, Folder, LAYOUT, is_composition};
use crate::jobs::{self, JobDescription, JobKind, JobState};
use crate::recording::{Inner, Recording};
use crate::text;

impl Recording {
    /// Has screen and camera made into one picture, with the main sound as it is, as one progressive MP4 file: by a job
    /// ([`JobKind::Composition`]), of which this gives how it stands. The main picture is the screen, the first picture aside the camera. Another
    /// layout takes the place of the one asked for before, and its file that of the other; to ask for the same again makes nothing anew.
    ///
    /// Cancellation: it is asked for, or not.
    ///
    /// ```no_run
    /// use loom_engine::{Composition, EngineError, JobState, Place, Placement, Recording};
    ///
    /// # async fn example(recording: Recording) -> Result<(), EngineError> {
    /// let middle = Placement { at: 60.0, place: Place::Centre { x: 0.5, y: 0.5 }, size: 0.8, ..Placement::default() };
    /// recording.lay_out(&Composition { placements: vec![Placement::default(), middle] }).await?;
    /// while recording.jobs().iter().any(|it| it.state != JobState::Done && it.state != JobState::Parked) {
    ///     tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    /// }
    /// println!("{:?}", recording.composition());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`EngineError::BadComposition`] with the field that breaks a rule, [`EngineError::WrongState`] where the recording is not ready,
    /// [`EngineError::NoCamera`] where it has not two pictures, [`EngineError::Download`] where it is encrypted, [`EngineError::Io`].
    pub async fn lay_out(&self, composition: &Composition) -> Result<JobDescription, EngineError> {
        let bad = |why: loom_transcode::TranscodeError| EngineError::BadComposition(why.to_string());
        composition.check().map_err(bad)?;
        let (working, wanted) = (self.0.clone(), composition.clone());
        let asked = tokio::task::spawn_blocking(move || {
            Parts::of(&working)?;
            let json = serde_json::to_vec(&wanted).unwrap_or_default();
            working.folder.put(LAYOUT, &json)
        });
        asked.await.map_err(|_| EngineError::ShuttingDown)??;
        jobs::add(&self.0, JobKind::Composition);
        jobs::restart(&self.0, JobKind::Composition)
    }

    /// The file of the layout that was asked for last ([`Self::lay_out`]), once it is made. Where only the store has it, to ask for it has the job
    /// bring it back; until then there is none.
    pub fn composition(&self) -> Option<PathBuf> {
        let name = file_name(&wanted(&self.0).ok()??);
        let path = self.0.folder.path(&name);
        if path.is_file() {
            return Some(path);
        }
        let is_open = |it: &JobDescription| it.job == JobKind::Composition && it.state != JobState::Done;
        if !is_over(&self.0) && !self.jobs().iter().any(is_open) && self.0.blob(&name).is_some() {
            jobs::add(&self.0, JobKind::Composition);
        }
        None
    }
}

/// The job [`JobKind::Composition`].
pub(crate) async fn make(recording: &Arc<Inner>) -> Result<(), EngineError> {
    let turn = recording.shared.compositions.clone().acquire_owned().await;
    let turn = turn.map_err(|_| EngineError::ShuttingDown)?;
    let working = recording.clone();
    let made = tokio::task::spawn_blocking(move || {
        // over when this thread is done, whether or not somebody waits for that
        let _turn = turn;
        let _alone = working.composing.blocking_lock();
        make_wanted(&working)
    });
    made.await.map_err(|_| EngineError::ShuttingDown)?
}

/// Discards what a process that was killed has left: half a film, and the pictures for one. Nobody else makes one meanwhile.
pub(crate) fn tidy(folder: &Folder) {
    folder.discard_partial(is_composition);
    if folder.path(WORK).is_dir() {
        folder.discard_folder(WORK);
    }
}

fn make_wanted(recording: &Arc<Inner>) -> Result<(), EngineError> {
    let Some(layout) = wanted(recording)? else {
        return Ok(()); // nobody has asked
    };
    let folder = &recording.folder;
    tidy(folder);
    let name = file_name(&layout);
    let made = match folder.path(&name).is_file() {
        true => Ok(()),
        false => fetch(recording, &name).unwrap_or_else(|| write(recording, &layout, &name)),
    };
    folder.discard_folder(WORK);
    match made {
        // it is over, or another job is queued behind this one
        Err(_) if is_unwanted(recording, &name) => Ok(()),
        Err(_) if is_over(recording) => Err(EngineError::ShuttingDown),
        Err(why) => Err(why),
        Ok(()) => {
            let others = folder.files("").into_iter();
            for other in others.filter(|it| is_composition(it) && *it != name) {
                folder.discard(&other);
            }
            Ok(())
        }
    }
}

/// Brings it back from the store, where that has it and this disk has not; `None` where it is to be made.
fn fetch(recording: &Inner, name: &str) -> Option<Result<(), EngineError>> {
    let runtime = &recording.shared.stores.as_ref()?.runtime;
    let blob = recording.blob(name)?;
    let mut at: u64 = 0;
    let next = || {
        let failed = EngineError::io("read from the store", name);
        let piece = runtime.block_on(async {
            tokio::select! {
                biased;
                () = ended(recording) => Err(EngineError::ShuttingDown),
                piece = blob.read(at, PIECE as u64) => piece.map_err(failed),
            }
        })?;
        at += piece.len() as u64;
        Ok((!piece.is_empty()).then_some(piece))
    };
    Some(recording.folder.put_pieces(name, next))
}

/// Makes the pictures, then the file of them and the sound.
fn write(recording: &Arc<Inner>, layout: &Composition, name: &str) -> Result<(), EngineError> {
    let parts = Parts::of(recording)?;
    let mut tracks = vec![parts.pictures(recording, layout, name)?];
    tracks.extend(parts.sound);
    let open = |key: &str| match key.starts_with(WORK) {
        _ if is_over(recording) => Err(io::Error::from(io::ErrorKind::Interrupted)),
        true => File::open(recording.folder.path(key)).map(Segment::File),
        false => download::open(recording, key),
    };
    let file = Layout::new(&tracks, open)?;
    let mut at = 0;
    recording.folder.put_pieces(name, || {
        if is_over(recording) {
            return Err(EngineError::ShuttingDown);
        }
        if at == file.len() {
            return Ok(None);
        }
        let piece = download::read_range(&file, open, at, PIECE)?;
        at += piece.len() as u64;
        Ok(Some(piece))
    })
}

/// What a composition is made of.
struct Parts {
    screen: Source,
    camera: Source,
    sound: Option<TrackFiles>,
    /// Seconds.
    duration: f64,
}

/// A rendition of pictures.
#[derive(Clone)]
struct Source {
    told: RenditionDescription,
    segments: Vec<StoredSegment>,
}

impl Parts {
    /// Blocks.
    fn of(recording: &Inner) -> Result<Self, EngineError> {
        let info = recording.info();
        if info.state != RecordingState::Ready {
            return Err(EngineError::WrongState {
                recording: info.id,
                state: info.state,
                why: "screen and camera can be made into one picture once it is ready",
            });
        }
        let pictures = download::best(&info, MediaKind::Video).zip(info.camera().cloned());
        let Some((screen, camera)) = pictures else {
            return Err(EngineError::NoCamera(info.id));
        };
        let sound = download::best(&info, MediaKind::Audio);
        Ok(Self {
            screen: Source::of(recording, screen)?,
            camera: Source::of(recording, camera)?,
            sound: sound.map(|it| files(recording, &it.id)).transpose()?,
            duration: info.duration,
        })
    }

    /// Has the composed pictures made and packaged.
    fn pictures(
        &self,
        recording: &Arc<Inner>,
        layout: &Composition,
        name: &str,
    ) -> Result<TrackFiles, EngineError> {
        let even = |side: Option<u32>| side.unwrap_or_default() & !1;
        let size = (even(self.screen.told.width), even(self.screen.told.height));
        let rates = [self.screen.rate(recording)?, self.camera.rate(recording)?];
        let wanted = Composed {
            size,
            frame_rate: rates.into_iter().fold(LEAST_RATE, f64::max).min(MOST_RATE),
            key_interval: recording.shared.config.segment,
        };
        let mut writer = Writer::new(recording, wanted)?;
        let mut failed = None;
        let end = compose(
            &recording.shared.capabilities,
            layout,
            wanted,
            self.screen.packets(recording, name),
            self.camera.packets(recording, name),
            |media| {
                if is_over(recording) {
                    return Err(io::ErrorKind::Interrupted.into());
                }
                writer.take(media).map_err(|why| {
                    let told = io::Error::other(why.to_string());
                    failed = Some(why);
                    told
                })?;
                let so_far = writer.at.secs_f64() / self.duration.max(1e-9);
                jobs::progress(recording, JobKind::Composition, so_far as f32);
                Ok(())
            },
        );
        match (end, failed) {
            (_, Some(why)) => Err(why),
            (Err(why), None) => Err(why.into()),
            (Ok(end), None) => writer.finish(end),
        }
    }
}

fn files(recording: &Inner, rendition: &RenditionId) -> Result<TrackFiles, EngineError> {
    Ok(TrackFiles::from_playlist(
        rendition,
        &playlist(recording, rendition)?,
    )?)
}

fn playlist(recording: &Inner, rendition: &RenditionId) -> Result<String, EngineError> {
    let name = text::playlist(rendition);
    let list = recording.folder.read(&name, 0, None)?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&list).into_owned())
}

impl Source {
    fn of(recording: &Inner, told: RenditionDescription) -> Result<Self, EngineError> {
        // says of what is encrypted, or empty, that there is no download
        files(recording, &told.id)?;
        let mut segments = StoredTrack::from_playlist(&told.id, &playlist(recording, &told.id)?)?.segments;
        segments.retain(|segment| !segment.gap);
        Ok(Self { told, segments })
    }

    /// Pictures a second, as they come in its first segments.
    fn rate(&self, recording: &Arc<Inner>) -> Result<f64, EngineError> {
        let mut reader = Reader::default();
        let mut lasts = Vec::new();
        for segment in self.segments.iter().take(RATED) {
            for packet in reader.read(recording, segment)?.1 {
                lasts.extend(packet.duration.filter(|it| !it.is_zero()));
            }
        }
        lasts.sort_unstable();
        let usual = lasts.get(lasts.len() / 2).copied();
        Ok(usual.map_or(LEAST_RATE, |it| 1.0 / it.as_secs_f64()))
    }

    /// Its packets, read a segment at a time, until the file of that name is not wanted any more.
    fn packets(&self, recording: &Arc<Inner>, name: &str) -> Packets {
        Packets {
            recording: recording.clone(),
            name: name.to_owned(),
            segments: self.segments.clone().into(),
            reader: Reader::default(),
            told: None,
            read: VecDeque::new(),
        }
    }
}

/// Reads segments; knows the init segment that was read last.
#[derive(Default)]
struct Reader {
    init: String,
    codec: Option<CodecParameters>,
}

impl Reader {
    fn read(
        &mut self,
        recording: &Inner,
        segment: &StoredSegment,
    ) -> Result<(CodecParameters, Vec<Packet>), EngineError> {
        if is_over(recording) {
            return Err(EngineError::ShuttingDown);
        }
        let codec = match self.codec.clone().filter(|_| self.init == segment.init) {
            Some(codec) => codec,
            None => read_codec(&segment.init, &download::read(recording, &segment.init)?)?,
        };
        self.init.clone_from(&segment.init);
        self.codec = Some(codec.clone());
        let data = download::read(recording, &segment.key)?;
        let packets = read_packets(&segment.key, &codec, &data)?;
        Ok((codec, packets))
    }
}

/// A rendition's packets on their way to the decoder.
struct Packets {
    recording: Arc<Inner>,
    /// The file that is made of them.
    name: String,
    segments: VecDeque<StoredSegment>,
    reader: Reader,
    /// The format that was handed out last.
    told: Option<CodecParameters>,
    read: VecDeque<Media>,
}

impl Iterator for Packets {
    type Item = io::Result<Media>;

    fn next(&mut self) -> Option<Self::Item> {
        // whoever waits for a picture is woken by it
        if is_over(&self.recording) {
            return Some(Err(io::ErrorKind::Interrupted.into()));
        }
        while self.read.is_empty() {
            let segment = self.segments.pop_front()?;
            if is_unwanted(&self.recording, &self.name) {
                return Some(Err(io::ErrorKind::Interrupted.into()));
            }
            let (codec, packets) = match self.reader.read(&self.recording, &segment) {
                Ok(read) => read,
                Err(why) => return Some(Err(io::Error::other(why))),
            };
            if self.told.as_ref() != Some(&codec) {
                self.told = Some(codec.clone());
                self.read.push_back(Media::Format(TrackFormat {
                    track: TrackId(0),
                    codec,
                }));
            }
            self.read.extend(packets.into_iter().map(Media::Packet));
        }
        self.read.pop_front().map(Ok)
    }
}

/// Packages the composed pictures in a folder of their own.
struct Writer<'a> {
    recording: &'a Inner,
    rendition: RenditionId,
    packager: Packager,
    /// Waits for the next, which says how long it lasts.
    last: Option<Packet>,
    at: MediaTime,
}

impl<'a> Writer<'a> {
    fn new(recording: &'a Inner, wanted: Composed) -> Result<Self, EngineError> {
        let no_name = || EngineError::NotReady("no name".to_owned());
        let rendition = RenditionId::new(WORK).ok_or_else(no_name)?;
        let every = wanted.key_interval;
        let mut packager = Packager::new(PackagerConfig::file(every, every))?;
        packager.declare(RenditionInfo {
            id: rendition.clone(),
            kind: RenditionKind::Video {
                width: wanted.size.0,
                height: wanted.size.1,
                frame_rate: wanted.frame_rate,
            },
            bandwidth: 1_000_000, // no playlist is read by a player
        })?;
        Ok(Self {
            recording,
            rendition,
            packager,
            last: None,
            at: MediaTime::ZERO,
        })
    }

    fn take(&mut self, media: Media) -> Result<(), EngineError> {
        match media {
            Media::Format(format) => self.packager.handle_format(&self.rendition, format.codec)?,
            Media::Packet(packet) => {
                self.at = packet.pts;
                if let Some(last) = self.last.replace(packet) {
                    self.put(last, self.at)?;
                }
            }
            _ => {}
        }
        self.store()
    }

    fn put(&mut self, packet: Packet, end: MediaTime) -> Result<(), EngineError> {
        let duration = Some(end.since(packet.pts).max(Duration::from_millis(1)));
        self.packager
            .handle_packet(&self.rendition, Packet { duration, ..packet })?;
        Ok(())
    }

    fn finish(mut self, end: MediaTime) -> Result<TrackFiles, EngineError> {
        if let Some(last) = self.last.take() {
            self.put(last, end)?;
        }
        self.packager.finish()?;
        self.store()?;
        let name = format!("{WORK}/index.m3u8");
        let list = self.recording.folder.read(&name, 0, None)?.unwrap_or_default();
        Ok(TrackFiles::from_playlist(
            &self.rendition,
            &String::from_utf8_lossy(&list),
        )?)
    }

    fn store(&mut self) -> Result<(), EngineError> {
        let folder = &self.recording.folder;
        while let Some(output) = self.packager.poll_output() {
            match output {
                HlsOutput::Store { key, data } if key.starts_with(WORK) => folder.begin(&key, &data)?,
                HlsOutput::Append { key, data } if key.starts_with(WORK) => folder.append(&key, &data)?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// The layout that was asked for last; `None` where nobody has asked.
fn wanted(recording: &Inner) -> Result<Option<Composition>, EngineError> {
    let Some(json) = recording.folder.read(LAYOUT, 0, None)? else {
        return Ok(None);
    };
    let unreadable = EngineError::io("read", recording.folder.path(LAYOUT));
    serde_json::from_slice(&json)
        .map(Some)
        .map_err(|why| unreadable(io::Error::new(io::ErrorKind::InvalidData, why)))
}

/// Whether the recording was deleted, or the engine has ended.
fn is_over(recording: &Inner) -> bool {
    recording.state_now() == RecordingState::Deleted || *recording.shared.over.borrow()
}

/// Returns once it is over.
async fn ended(recording: &Inner) {
    let mut over = recording.shared.over.subscribe();
    let mut steps = recording.published.subscribe();
    while !is_over(recording) {
        tokio::select! {
            _ = over.changed() => {}
            _ = steps.changed() => {}
        }
    }
}

/// Whether another layout was asked for. One that cannot be read is no other.
fn is_unwanted(recording: &Inner, name: &str) -> bool {
    matches!(wanted(recording), Ok(Some(layout)) if file_name(&layout) != name)
}

/// The file of a layout.
fn file_name(layout: &Composition) -> String {
    let json = serde_json::to_vec(layout).unwrap_or_default();
    let sum: String = Sha256::digest(&json)[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{COMPOSITION}{sum}.mp4")
}

/// The folder of the composed pictures until the file is made of them, and the rendition's name.
const WORK: &str = "composition";
/// How much of a file is held at a time.
const PIECE: usize = 1 << 20;
/// Pictures a second that a composition may have at least, and at most: between them as many as the faster of both.
const LEAST_RATE: f64 = 30.0;
const MOST_RATE: f64 = 60.0;
/// Segments that are looked at for how fast pictures come.
const RATED: usize = 3;
