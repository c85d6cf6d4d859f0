//! The composed pictures as a stream: their renditions packaged beside the recording's own, and the playlist and the manifest that name them
//! together with its sound and text. Segments have the numbers and boundaries that the recording's have.
//!
//! All of it is made in folders that nobody looks at, and brought to its place once it is whole.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;
use loom_core::{MediaKind, MediaTime, Packet, RenditionId, WallClock};
use loom_hls::stored::read_codec;
use loom_hls::{Chapters, HlsOutput, Packager, PackagerConfig, SpriteConfig, Sprites, list_subtitles};
use loom_transcode::{Composition, Output, Plan};

use super::is_unwanted;
use super::source::{Break, Parts, playlist};
use crate::download;
use crate::edit;
use crate::error::EngineError;
use crate::event::{CompositionDescription, RenditionDescription};
use crate::folder::COMPOSITION;
use crate::id::RecordingId;
use crate::import::chunks::Sink;
use crate::jobs::{self, JobKind};
use crate::packaging::{describe, told};
use crate::recording::Inner;
use crate::text;
use crate::thumbnails::smaller;

/// Whoever packages the composed pictures.
pub(super) struct Stream<'a> {
    recording: &'a Inner,
    layout: Composition,
    /// What the names of its renditions begin with, and of no other making's.
    prefix: String,
    /// Under which names the plan's renditions are packaged.
    names: HashMap<RenditionId, RenditionId>,
    told: Vec<RenditionDescription>,
    packager: Packager,
    sprites: Option<Sprites>,
    /// The longer side of a picture on a sheet.
    side: u32,
    breaks: VecDeque<Break>,
    /// The last packet of each: what follows says how long it lasts.
    last: HashMap<RenditionId, Packet>,
    end: MediaTime,
    /// What names the renditions, and nobody sees before they are in their place.
    lists: Lists,
    failed: Option<EngineError>,
}

#[derive(Default)]
struct Lists {
    multivariant: Bytes,
    manifest: Option<Bytes>,
    thumbnails: Option<Bytes>,
}

impl<'a> Stream<'a> {
    /// Blocks.
    pub(super) fn new(
        recording: &'a Inner,
        layout: Composition,
        parts: &Parts,
        plan: &Plan,
    ) -> Result<Self, EngineError> {
        let prefix = format!("{COMPOSITION}-{}", &RecordingId::random().as_str()[..10]);
        let named = |what: &dyn std::fmt::Display| {
            RenditionId::new(&format!("{prefix}-{what}"))
                .ok_or_else(|| EngineError::NotReady(format!("{prefix}-{what} is no name")))
        };
        let playlists = &recording.shared.config.playlists;
        let config = PackagerConfig {
            // a segment for each of the screen's, which begin where key frames are
            target_duration: parts.screen.track.target,
            zero: parts.screen.zero().map(|zero| WallClock { zero }),
            ..PackagerConfig::file(SHORTEST, SHORTEST)
        };
        let mut packager = Packager::new(playlists.apply(&recording.id, config))?;
        let (mut names, mut descriptions) = (HashMap::new(), Vec::new());
        for (nth, planned) in plan.renditions.iter().enumerate() {
            let id = named(&nth)?;
            let mut info = describe(planned);
            info.id = id.clone();
            packager.declare(info)?;
            descriptions.push(RenditionDescription {
                id: id.clone(),
                playlist: Some(format!("{COMPOSITION}.m3u8")),
                ..told(planned)
            });
            names.insert(planned.id.clone(), id);
        }
        declare_rest(recording, &mut packager)?;
        let thumbnails = plan.video.as_ref().and_then(|video| video.thumbnails);
        let aside = RenditionId::new(COMPOSITION);
        let sheets = named(&SHEETS)?;
        let sprites = thumbnails.zip(aside).map(|(wanted, aside)| {
            let config = SpriteConfig {
                every: wanted.every,
                doubles_after: NonZeroU32::new(wanted.doubles_after),
                ..SpriteConfig::default()
            };
            Sprites::aside(config, &aside, &sheets)
        });
        Ok(Self {
            recording,
            layout,
            prefix,
            names,
            told: descriptions,
            packager,
            sprites,
            side: thumbnails.map_or(0, |wanted| wanted.side),
            breaks: parts.screen.breaks(),
            last: HashMap::new(),
            end: parts.end(),
            lists: Lists::default(),
            failed: None,
        })
    }

    fn take(&mut self, output: Output) -> Result<(), EngineError> {
        match output {
            Output::Format { rendition, codec } => {
                if let Some(id) = self.names.get(&rendition) {
                    self.packager.handle_format(id, codec)?;
                }
            }
            Output::Packet { rendition, packet } => {
                if let Some(id) = self.names.get(&rendition).cloned() {
                    self.take_packet(id, packet)?;
                }
            }
            Output::Thumbnail(picture) => {
                if let Some(sprites) = &mut self.sprites {
                    sprites.handle_picture(smaller(&picture, self.side).as_ref().unwrap_or(&picture));
                }
            }
            Output::Progress {
                done,
                total: Some(total),
            } => {
                let so_far = done.secs_f64() / total.as_secs_f64().max(1e-9);
                jobs::progress(self.recording, JobKind::Composition, so_far.min(1.0) as f32);
            }
            Output::Warning(what) => {
                tracing::warn!(recording = %self.recording.id, what, "composition");
            }
            _ => {}
        }
        self.store()
    }

    fn take_packet(&mut self, id: RenditionId, packet: Packet) -> Result<(), EngineError> {
        let is_behind = |at: MediaTime, it: &Break| at + ROUNDING >= it.at;
        while let Some(over) = self.breaks.pop_front_if(|it| is_behind(packet.pts, it)) {
            self.cross(over)?;
        }
        let next = self.breaks.front();
        if next.is_some_and(|next| !next.gaps.is_empty() && packet.pts >= next.end) {
            return Ok(()); // nobody published: the camera moves over a screen that is not there
        }
        let end = packet.dts;
        match self.last.insert(id.clone(), packet) {
            Some(last) => self.put(&id, last, end),
            None => Ok(()),
        }
    }

    fn put(&mut self, id: &RenditionId, packet: Packet, end: MediaTime) -> Result<(), EngineError> {
        let duration = Some(end.since(packet.dts).max(Duration::from_millis(1)));
        Ok(self.packager.handle_packet(id, Packet { duration, ..packet })?)
    }

    /// The last of each rendition lasts until here.
    fn put_last(&mut self, end: MediaTime) -> Result<(), EngineError> {
        for (id, last) in std::mem::take(&mut self.last) {
            self.put(&id, last, end)?;
        }
        Ok(())
    }

    /// Breaks off as the screen does, and goes on.
    fn cross(&mut self, over: Break) -> Result<(), EngineError> {
        self.put_last(over.end)?;
        self.packager.handle_absence()?;
        for gap in &over.gaps {
            self.packager.handle_gap(*gap)?;
        }
        match over.gaps.is_empty() {
            true => self.packager.handle_resume(over.paused)?,
            false => self.packager.handle_return(over.at)?,
        };
        Ok(())
    }

    /// All pictures are in: the lists are made, and all of it is brought to its place. Blocks.
    pub(super) fn finish(mut self) -> Result<CompositionDescription, EngineError> {
        if let Some(why) = self.failed.take() {
            return Err(why);
        }
        self.put_last(self.end)?;
        if let Some(sprites) = &mut self.sprites {
            sprites.finish(self.end);
            let folder = RenditionId::new(&format!("{}-{SHEETS}", self.prefix));
            if let Some((folder, sheets)) = folder.zip(sprites.sheets()) {
                self.packager.handle_sheets_in(&folder, sheets)?;
            }
        }
        self.packager.finish()?;
        self.store()?;
        self.publish()
    }

    /// What is whole is written where it belongs, first what is named, then what names it.
    fn publish(&self) -> Result<CompositionDescription, EngineError> {
        let (recording, folder) = (self.recording, &self.recording.folder);
        let chapters = recording.chapters();
        for it in &self.told {
            let name = format!("{}/index.m3u8", it.id);
            let list = folder.read(&name, 0, None)?.unwrap_or_default();
            let dated = chapters.date_in(&String::from_utf8_lossy(&list));
            folder.put(&name, dated.as_bytes())?;
        }
        for made in folder
            .folders("")
            .iter()
            .filter(|it| it.starts_with(&self.prefix))
        {
            folder.adopt(made)?;
        }
        let beside = |end: &str| format!("{COMPOSITION}.{end}");
        let put = |end: &str, data: &[u8]| folder.put(&format!("hls/{}", beside(end)), data);
        let Lists {
            multivariant,
            manifest,
            thumbnails,
        } = &self.lists;
        if let Some(track) = thumbnails {
            put("vtt", track)?;
        }
        if let Some(manifest) = manifest {
            put("mpd", manifest)?;
        }
        // text that came meanwhile
        let mut main = String::from_utf8_lossy(multivariant).into_owned();
        for it in text::listed(recording)? {
            let form = text::form_of(&playlist(recording, &it.id)?).unwrap_or_default();
            main = list_subtitles(&main, &it.id, &it.name, &it.language, form);
        }
        if !chapters.marks().is_empty() {
            main = Chapters::list_in(&main);
        }
        put("m3u8", main.as_bytes())?;
        Ok(CompositionDescription {
            layout: self.layout.clone(),
            playlist: beside("m3u8"),
            manifest: manifest.as_ref().map(|_| beside("mpd")),
            thumbnails: thumbnails.as_ref().map(|_| beside("vtt")),
            renditions: self.told.clone(),
        })
    }

    fn store(&mut self) -> Result<(), EngineError> {
        let folder = &self.recording.folder;
        let sheets = self.sprites.iter_mut();
        let mut outputs: Vec<HlsOutput> = sheets
            .flat_map(|it| std::iter::from_fn(|| it.poll_output()))
            .collect();
        outputs.extend(std::iter::from_fn(|| self.packager.poll_output()));
        for output in outputs {
            match output {
                HlsOutput::Store { key, data } if key.starts_with(&self.prefix) => {
                    folder.begin(&key, &data)?
                }
                HlsOutput::Append { key, data } if key.starts_with(&self.prefix) => {
                    folder.append(&key, &data)?;
                }
                HlsOutput::Store { key, data } => match key.rsplit_once('.') {
                    Some(("main", _)) => self.lists.multivariant = data,
                    Some((_, "mpd")) => self.lists.manifest = Some(data),
                    Some((COMPOSITION, _)) => self.lists.thumbnails = Some(data),
                    _ => {}
                },
                _ => {}
            }
        }
        Ok(())
    }
}

impl Sink for Stream<'_> {
    async fn handle(&mut self, output: Output) -> bool {
        // each chunk tells how far it is
        let unwanted = matches!(output, Output::Progress { .. }) && is_unwanted(self.recording, &self.layout);
        let taken = match unwanted {
            true => Err(EngineError::NotReady("another layout was asked for".to_owned())),
            false => self.take(output),
        };
        taken.map_err(|why| self.failed = Some(why)).is_ok()
    }
}

/// Names the recording's main sound, further sounds and text beside the composed pictures.
fn declare_rest(recording: &Inner, packager: &mut Packager) -> Result<(), EngineError> {
    let main = text::main_playlist(recording)?;
    let info = recording.info();
    let sounds = info.renditions.iter().filter(|it| it.kind == MediaKind::Audio);
    for sound in sounds {
        let list = playlist(recording, &sound.id)?;
        let init = list
            .lines()
            .find_map(|line| line.strip_prefix("#EXT-X-MAP:URI=\"")?.split('"').next());
        let Some(init) = init.map(|init| format!("{}/{init}", sound.id)) else {
            continue; // there is nothing of it
        };
        let codec = read_codec(&init, &download::read(recording, &init)?)?;
        packager.declare_ready(edit::declared(sound, &main), Some(codec), &list)?;
    }
    for subtitles in text::listed(recording)? {
        let list = playlist(recording, &subtitles.id)?;
        if !list.is_empty() {
            packager.declare_ready(subtitles.info(), None, &list)?;
        }
    }
    Ok(())
}

/// Segments are no shorter, but for the last before a break.
const SHORTEST: Duration = Duration::from_millis(200);
/// What the name of the folder of its sheets of thumbnails ends in.
const SHEETS: &str = "thumbs";
/// The same instant in two clocks.
const ROUNDING: Duration = Duration::from_millis(2);
