//! What a publisher sends beside its main picture and its main sound: a camera beside a screen, another microphone, the smaller
//! layers of a simulcast. Each is kept as a rendition of its own, by a graph of its own, so that none can hurt another.

use std::sync::Arc;

use loom_core::{CodecParameters, Media, MediaKind, RenditionId, TrackFormat, TrackId};
use loom_hls::{RenditionInfo, RenditionKind};
use loom_ingest::TrackInfo;
use loom_transcode::{Feed, Output, Outputs, Plan, SourceShape, Wanted, plan};
use tokio::task::JoinHandle;

use crate::admission::Ladder;
use crate::error::EngineError;
use crate::event::RenditionDescription;
use crate::packaging::{Packaging, Work, describe, told};
use crate::pump::tell_load;
use crate::recording::Inner;

/// What a further track is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The main picture, once it has come in another codec than the recording began with.
    Main,
    /// Another picture, with a multivariant playlist of its own.
    Aside,
    /// A smaller layer of the main picture: a ready-made quality of it.
    Layer,
    /// Another sound.
    Sound,
}

/// A further track that is planned for.
#[derive(Debug)]
pub(crate) struct Further {
    pub(crate) format: TrackFormat,
    pub(crate) role: Role,
    pub(crate) plan: Plan,
    /// Its renditions: what the plan calls them, what the recording does.
    names: Vec<(RenditionId, RenditionId)>,
}

/// A publisher's tracks by what they are for.
#[derive(Debug, Default)]
pub(crate) struct Sorted {
    /// At most one picture and one sound, which make the main stream.
    pub(crate) main: Vec<TrackFormat>,
    pub(crate) further: Vec<(TrackFormat, Role)>,
}

/// The main picture is the first section of pictures, of its layers the largest; the main sound is the first.
pub(crate) fn sort(formats: &[TrackFormat], tracks: &[TrackInfo]) -> Sorted {
    let mid = |format: &TrackFormat| {
        let info = tracks.iter().find(|track| track.id == format.track);
        info.map(|info| info.mid.clone())
    };
    let of = |kind: MediaKind| formats.iter().filter(move |format| format.codec.kind() == kind);
    let mut sorted = Sorted::default();
    let first = of(MediaKind::Video).next().map(&mid);
    let main = of(MediaKind::Video)
        .filter(|format| Some(mid(format)) == first)
        .max_by_key(|format| (size(format), std::cmp::Reverse(format.track)));
    sorted.main.extend(main.cloned());
    sorted.main.extend(of(MediaKind::Audio).next().cloned());
    for format in formats {
        if sorted.main.iter().any(|main| main.track == format.track) {
            continue;
        }
        let role = match format.codec.kind() {
            MediaKind::Audio => Role::Sound,
            MediaKind::Video if Some(mid(format)) == first => Role::Layer,
            MediaKind::Video => Role::Aside,
        };
        sorted.further.push((format.clone(), role));
    }
    sorted
}

/// What the main ladder need not encode, because a layer brings it: rungs within 15 % of a layer's height.
pub(crate) fn spare(wanted: &mut Wanted, further: &[(TrackFormat, Role)]) {
    let layers: Vec<u32> = further
        .iter()
        .filter(|(format, role)| *role == Role::Layer && is_kept(format))
        .map(|(format, _)| lines(format))
        .collect();
    wanted.rungs.retain(|rung| {
        let near = |layer: &&u32| {
            f64::from(**layer).mul_add(-1.0, f64::from(rung.lines)).abs() <= f64::from(rung.lines) * 0.15
        };
        layers.iter().find(near).is_none()
    });
}

impl Further {
    /// Plans for each further track, under names that are not in `used`, and puts them there. One that cannot be kept or made is left
    /// out, and the log says so.
    pub(crate) fn plan(
        recording: &Inner,
        further: Vec<(TrackFormat, Role)>,
        used: &mut Vec<RenditionId>,
    ) -> Vec<Self> {
        let ladder = &recording.shared.config.ladder;
        let wanted = Wanted {
            aac: ladder.aac,
            keep_source: ladder.keep_source,
            sound: ladder.sound,
            ..Wanted::source_only()
        };
        let asides = used.iter().filter(|id| id.as_str().starts_with(ASIDE)).count();
        let (mut pictures, mut sounds) = (1 + asides, sounds_in(used));
        let mut made = Vec::new();
        for (format, role) in further {
            let shape = SourceShape::from_formats(std::slice::from_ref(&format));
            let plan = match plan(&shape, &wanted, &recording.shared.capabilities) {
                Ok(plan) => plan,
                Err(why) => {
                    tracing::warn!(recording = %recording.id, track = %format.track, %why, "a further track cannot be recorded");
                    continue;
                }
            };
            if role == Role::Layer && !is_kept(&format) {
                // To encode a smaller picture again that the ladder makes of the larger one would bring nothing new.
                tracing::info!(recording = %recording.id, track = %format.track, "a layer that cannot be kept as it is is not used");
                continue;
            }
            match role {
                Role::Aside => pictures += 1,
                Role::Sound => sounds += 1,
                Role::Layer | Role::Main => {}
            }
            let name = |id: &RenditionId| match role {
                Role::Aside => format!("{ASIDE}{pictures}"),
                Role::Sound if sounds == 1 => id.as_str().to_owned(),
                Role::Sound => format!("{id}-{sounds}"),
                Role::Layer | Role::Main => format!("{}p", lines(&format)),
            };
            let mut names = Vec::new();
            for planned in &plan.renditions {
                if let Some(ours) = RenditionId::new(&name(&planned.id)).filter(|ours| !used.contains(ours)) {
                    used.push(ours.clone());
                    names.push((planned.id.clone(), ours));
                }
            }
            made.push(Self {
                format,
                role,
                plan,
                names,
            });
        }
        made
    }

    /// Plans for a track that comes in another codec than before, and is to go on under the names of its renditions: `ours`,
    /// the best first. Those for which the new codec has none have gaps from there on.
    ///
    /// # Errors
    /// Where it can neither be kept nor be decoded here.
    pub(crate) fn instead(
        recording: &Inner,
        format: TrackFormat,
        role: Role,
        ours: &[RenditionId],
    ) -> Result<Self, EngineError> {
        let source = |id: &RenditionId| id.as_str() == SOURCE;
        let ladder = &recording.shared.config.ladder;
        let wanted = match role {
            Role::Main => Wanted {
                // what was encoded goes on being encoded, or viewers would have to change the rendition
                keep_source: ladder.keep_source && ours.iter().any(source),
                ..ladder.clone()
            },
            _ => Wanted {
                keep_source: ladder.keep_source,
                ..Wanted::source_only()
            },
        };
        let shape = SourceShape::from_formats(std::slice::from_ref(&format));
        let plan = plan(&shape, &wanted, &recording.shared.capabilities)
            .map_err(loom_transcode::TranscodeError::from)?;
        let names = match_names(plan.renditions.iter().map(|it| &it.id), ours);
        Ok(Self {
            format,
            role,
            plan,
            names,
        })
    }

    /// Its renditions as the packager wants them.
    pub(crate) fn renditions(&self) -> impl Iterator<Item = RenditionInfo> {
        self.names.iter().filter_map(|(theirs, ours)| {
            let mut info = describe(self.plan.renditions.iter().find(|it| it.id == *theirs)?);
            info.id = ours.clone();
            if let RenditionKind::Audio { name, .. } = &mut info.kind
                && let Some((_, number)) = ours.as_str().rsplit_once('-')
            {
                *name = format!("{name} {number}");
            }
            Some(info)
        })
    }

    /// Its renditions as the API tells them.
    pub(crate) fn told(&self) -> impl Iterator<Item = RenditionDescription> {
        self.names.iter().filter_map(|(theirs, ours)| {
            let mut told = told(self.plan.renditions.iter().find(|it| it.id == *theirs)?);
            told.id = ours.clone();
            told.playlist = (self.role == Role::Aside).then(|| format!("{ours}.m3u8"));
            Some(told)
        })
    }

    pub(crate) fn ids(&self) -> Vec<RenditionId> {
        self.names.iter().map(|(_, ours)| ours.clone()).collect()
    }

    /// Starts its graph.
    pub(crate) async fn start(
        self,
        recording: &Arc<Inner>,
        packaging: &Packaging,
    ) -> Result<Branch, EngineError> {
        let backend = recording.shared.backend.clone();
        let ladder = recording.shared.admission.begin(self.plan.live_cores());
        let (plan, format) = (self.plan, self.format.clone());
        let (feed, outputs) = tokio::task::spawn_blocking(move || backend.live(&plan, &[format]))
            .await
            .map_err(|_| EngineError::ShuttingDown)??;
        Ok(Branch {
            track: self.format.track,
            role: self.role,
            codec: self.format.codec,
            feed,
            pump: tokio::spawn(pump(
                recording.clone(),
                outputs,
                packaging.clone(),
                self.names,
                ladder,
            )),
        })
    }
}

/// A further track whose graph runs.
pub(crate) struct Branch {
    pub(crate) track: TrackId,
    pub(crate) role: Role,
    /// What its graph is for.
    pub(crate) codec: CodecParameters,
    feed: Feed,
    pump: JoinHandle<()>,
}

impl Branch {
    pub(crate) fn push(&mut self, media: Media) {
        self.feed.push(media);
    }

    /// Nothing more comes; gives what is to be waited for.
    pub(crate) fn finish(self) -> JoinHandle<()> {
        self.feed.finish();
        self.pump
    }
}

/// Moves what a further track's graph makes to the packager, under the recording's names.
async fn pump(
    recording: Arc<Inner>,
    mut outputs: Outputs,
    packaging: Packaging,
    names: Vec<(RenditionId, RenditionId)>,
    mut ladder: Ladder,
) {
    let ours = |id: &RenditionId| {
        names
            .iter()
            .find(|(theirs, _)| theirs == id)
            .map(|(_, ours)| ours.clone())
    };
    while let Some(output) = outputs.recv().await {
        let work = match output {
            Output::Format { rendition, codec } => ours(&rendition).map(|id| Work::Format(id, codec)),
            Output::Packet { rendition, packet } => ours(&rendition).map(|id| Work::Packet(id, packet)),
            Output::Still { rendition, at } => ours(&rendition).map(|id| Work::Still(id, at)),
            Output::Failed { rendition, reason } => {
                tracing::error!(recording = %recording.id, ?rendition, reason, "a further track's rendition failed");
                let failed = rendition.and_then(|id| ours(&id));
                if let Some(failed) = &failed {
                    recording.update(|info| info.renditions.retain(|it| it.id != *failed));
                }
                failed.map(Work::Drop)
            }
            Output::Overload { rendition, shed } => {
                if let Some(ours) = ours(&rendition) {
                    tell_load(&recording, &mut ladder, ours, shed);
                }
                None
            }
            Output::End => return,
            _ => None,
        };
        if let Some(work) = work
            && !packaging.send(work).await
        {
            return;
        }
    }
}

/// What a plan's renditions are called in the recording, both with the best first: as they call themselves where that is a name of
/// the recording's; the others, the best first, take what names are left.
fn match_names<'a>(
    theirs: impl Iterator<Item = &'a RenditionId> + Clone,
    ours: &[RenditionId],
) -> Vec<(RenditionId, RenditionId)> {
    let same = |id: &&RenditionId| ours.contains(id);
    let mut names: Vec<_> = theirs
        .clone()
        .filter(same)
        .map(|id| (id.clone(), id.clone()))
        .collect();
    let left: Vec<_> = ours
        .iter()
        .filter(|id| names.iter().all(|(_, taken)| taken != *id))
        .collect();
    let others = theirs.filter(|id| !same(id));
    names.extend(
        others
            .zip(left)
            .map(|(theirs, ours)| (theirs.clone(), ours.clone())),
    );
    names
}

/// Whether a rendition is of another sound than the main one: `opus-2`.
pub(crate) fn is_further_sound(id: &RenditionId) -> bool {
    let number = |codec: &str| id.as_str().strip_prefix(codec)?.strip_prefix('-');
    number("opus").or_else(|| number("aac")).is_some()
}

/// How many sounds have those names: `opus`, `opus-2`, and the same in another codec.
fn sounds_in(names: &[RenditionId]) -> usize {
    let of = |codec: &str| {
        let is_one = |id: &&RenditionId| id.as_str().split('-').next() == Some(codec);
        names.iter().filter(is_one).count()
    };
    ["opus", "aac"].into_iter().map(of).max().unwrap_or_default()
}

/// What pictures aside are called, before their number.
const ASIDE: &str = "video-";

/// What the planner calls a picture that is kept as it came.
const SOURCE: &str = "source";

fn size(format: &TrackFormat) -> u64 {
    match &format.codec {
        CodecParameters::Video(video) => u64::from(video.width) * u64::from(video.height),
        CodecParameters::Audio(_) => 0,
    }
}

/// The shorter side of a picture.
fn lines(format: &TrackFormat) -> u32 {
    match &format.codec {
        CodecParameters::Video(video) => video.width.min(video.height),
        CodecParameters::Audio(_) => 0,
    }
}

/// Whether it is what renditions are made of.
pub(crate) fn is_kept(format: &TrackFormat) -> bool {
    matches!(&format.codec, CodecParameters::Video(video) if video.codec == loom_core::VideoCodec::H264)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use loom_core::codec::opus;
    use loom_core::{VideoCodec, VideoParameters};

    use super::*;

    fn video(track: u32, width: u32, height: u32) -> TrackFormat {
        TrackFormat {
            track: TrackId(track),
            codec: CodecParameters::Video(VideoParameters {
                codec: VideoCodec::H264,
                width,
                height,
                config: Bytes::new(),
            }),
        }
    }

    fn sound(track: u32) -> TrackFormat {
        TrackFormat {
            track: TrackId(track),
            codec: CodecParameters::Audio(opus::parameters(2, 0)),
        }
    }

    fn info(track: u32, kind: MediaKind, mid: &str, rid: Option<&str>) -> TrackInfo {
        TrackInfo {
            id: TrackId(track),
            kind,
            mid: mid.to_owned(),
            rid: rid.map(str::to_owned),
            stream: None,
        }
    }

    #[test]
    fn a_picture_in_another_codec_goes_on_under_the_names_that_there_are() {
        let ids = |names: &[&str]| -> Vec<RenditionId> {
            names.iter().filter_map(|name| RenditionId::new(name)).collect()
        };
        let matched = |theirs: &[&str], ours: &[&str]| {
            let names = match_names(ids(theirs).iter(), &ids(ours));
            let text = |(theirs, ours): (RenditionId, RenditionId)| format!("{theirs} as {ours}");
            names.into_iter().map(text).collect::<Vec<_>>()
        };
        let to_encoded = matched(&["720p", "480p", "360p"], &["source", "480p", "360p"]);
        assert_eq!(to_encoded, ["480p as 480p", "360p as 360p", "720p as source"]);
        assert_eq!(matched(&["source", "480p"], &["source", "480p", "360p"]).len(), 2);
        assert_eq!(matched(&["source"], &["video-2"]), ["source as video-2"]);
    }

    #[test]
    fn the_largest_layer_of_the_first_picture_is_the_main_one() {
        let formats = [
            sound(0),
            video(1, 320, 180),
            video(2, 640, 360),
            video(3, 1280, 720),
            video(4, 640, 480),
            sound(5),
        ];
        let tracks = [
            info(0, MediaKind::Audio, "0", None),
            info(1, MediaKind::Video, "1", Some("q")),
            info(2, MediaKind::Video, "1", Some("h")),
            info(3, MediaKind::Video, "1", Some("f")),
            info(4, MediaKind::Video, "2", None),
            info(5, MediaKind::Audio, "3", None),
        ];
        let sorted = sort(&formats, &tracks);
        let main: Vec<u32> = sorted.main.iter().map(|format| format.track.0).collect();
        assert_eq!(main, [3, 0]);
        let further: Vec<(u32, Role)> = sorted
            .further
            .iter()
            .map(|(format, role)| (format.track.0, *role))
            .collect();
        assert_eq!(
            further,
            [
                (1, Role::Layer),
                (2, Role::Layer),
                (4, Role::Aside),
                (5, Role::Sound)
            ]
        );
        let mut wanted = Wanted::default();
        spare(&mut wanted, &sorted.further);
        let rungs: Vec<&str> = wanted.rungs.iter().map(|rung| rung.id.as_str()).collect();
        assert_eq!(rungs, ["1080p", "720p", "480p"], "360p comes ready-made");
    }
}
