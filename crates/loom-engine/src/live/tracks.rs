//! What the tracks of a publisher do in mid-recording: begin, pause, change their size, come in another codec.

use std::sync::Arc;

use loom_core::{CodecParameters, Media, MediaKind, RenditionId, TrackFormat, TrackId};
use tokio::time::timeout;

use super::{Running, SETTLE};
use crate::error::EngineError;
use crate::event::{RenditionDescription, TrackDescription, TrackState, codec_name};
use crate::further::{self, Further, Role};
use crate::gather::SOUNDS;
use crate::packaging::Work;
use crate::recording::Inner;

impl Running {
    /// Takes what came, in the recording's names and times.
    pub(super) async fn take_in(&mut self, recording: &Arc<Inner>, media: Media) {
        match &media {
            Media::Format(format) => {
                self.follow_codec(recording, format).await;
                let now = TrackDescription::of(&format.codec);
                self.describe(recording, format.track, |track| {
                    (track.codec, track.width, track.height) = (now.codec, now.width, now.height);
                });
                if !self.is_recorded(format.track) {
                    self.unrecorded.retain(|it| it.track != format.track);
                    self.unrecorded.push(format.clone());
                }
            }
            Media::Packet(packet) if !self.is_recorded(packet.track) => {
                self.begin_late(recording, packet.track).await;
            }
            Media::Packet(packet) if self.silent.contains(&packet.track) => {
                tracing::info!(recording = %recording.id, track = %packet.track, "sound begins that was silent so far");
                self.silent.retain(|it| *it != packet.track);
                self.describe(recording, packet.track, |it| it.state = TrackState::Running);
            }
            _ => {}
        }
        self.feed(media);
    }

    fn is_recorded(&self, track: TrackId) -> bool {
        self.formats.iter().any(|it| it.track == track) || self.further.iter().any(|it| it.track == track)
    }

    /// Begins to record what was offered and begins only now, beside what there is, and tells of it. Another layer of a picture that is
    /// recorded is kept where it can be as it came, and is only told where not.
    async fn begin_late(&mut self, recording: &Arc<Inner>, track: TrackId) {
        let Some(at) = self.unrecorded.iter().position(|it| it.track == track) else {
            return;
        };
        let format = self.unrecorded.remove(at);
        let Some(known) = self.known.iter().find(|it| it.id == track).cloned() else {
            return;
        };
        let is_layer = (self.known.iter()).any(|it| it.mid == known.mid && self.is_recorded(it.id));
        let mut told = Vec::new();
        let is_worth_it = match format.codec.kind() {
            MediaKind::Video => !is_layer || further::is_kept(&format),
            MediaKind::Audio => self.sounds() < SOUNDS,
        };
        if is_worth_it {
            match self.record_late(recording, &format).await {
                Ok(renditions) => told = renditions,
                Err(why) => {
                    tracing::error!(recording = %recording.id, %track, %why, "a track that begins late cannot be recorded");
                }
            }
        }
        let renditions: Vec<_> = told.iter().map(|it| it.id.clone()).collect();
        tracing::info!(recording = %recording.id, %track, ?renditions, "a track begins late");
        recording.update(|info| {
            info.tracks.retain(|it| !it.is(&known));
            info.tracks.push(TrackDescription {
                mid: Some(known.mid.clone()),
                rid: known.rid.clone(),
                stream: known.stream.clone(),
                publisher: self.publisher_of(track).cloned(),
                renditions,
                ..TrackDescription::of(&format.codec)
            });
            info.renditions.extend(told);
        });
    }

    /// How many sounds there are.
    fn sounds(&self) -> usize {
        let main = self
            .formats
            .iter()
            .filter(|it| it.codec.kind() == MediaKind::Audio);
        let further = self.further.iter().filter(|it| it.role == Role::Sound);
        main.count() + further.count()
    }

    /// Plans for what begins late, has the packager expect it, and starts its graph. Gives its renditions; none where nothing can
    /// be made of it.
    async fn record_late(
        &mut self,
        recording: &Arc<Inner>,
        format: &TrackFormat,
    ) -> Result<Vec<RenditionDescription>, EngineError> {
        let role = match format.codec.kind() {
            MediaKind::Video => Role::Aside,
            MediaKind::Audio => Role::Sound,
        };
        let late = vec![(format.clone(), role)];
        let mut told = Vec::new();
        for planned in Further::plan(recording, late, &mut self.names) {
            for info in planned.renditions() {
                self.packaging.declare_late(info).await?;
            }
            let (ids, renditions): (_, Vec<_>) = (planned.ids(), planned.told().collect());
            match planned.start(recording, &self.packaging).await {
                Ok(branch) => self.further.push(branch),
                Err(why) => {
                    for id in ids {
                        self.packaging.send(Work::Drop(id)).await;
                    }
                    return Err(why);
                }
            }
            if role == Role::Aside {
                self.keys.add(format.track);
            }
            self.feed(Media::Format(format.clone()));
            told.extend(renditions);
        }
        Ok(told)
    }

    /// Goes on with a picture that comes in another codec than before: by another graph, under the same names.
    async fn follow_codec(&mut self, recording: &Arc<Inner>, format: &TrackFormat) {
        let track = format.track;
        let branch = self.further.iter().position(|it| it.track == track);
        let main = self.formats.iter().position(|it| it.track == track);
        let (role, before) = match (branch, main) {
            (Some(at), _) => (self.further[at].role, &self.further[at].codec),
            (None, Some(at)) => (Role::Main, &self.formats[at].codec),
            (None, None) => return,
        };
        match (before, &format.codec) {
            (CodecParameters::Video(before), CodecParameters::Video(now)) if before.codec != now.codec => {}
            _ => return,
        }
        let (before, now) = (codec_name(before), codec_name(&format.codec));
        tracing::info!(recording = %recording.id, %track, before, now, "a picture comes in another codec");
        // What the graph before still has comes out first, or is late and left out.
        match branch {
            Some(at) => {
                let mut pump = self.further.remove(at).finish();
                if timeout(SETTLE * 4, &mut pump).await.is_err() {
                    pump.abort();
                }
            }
            None => {
                self.feed.push(Media::End(track));
                tokio::time::sleep(SETTLE).await;
            }
        }
        let ours = self.renditions_of(recording, track);
        let begun = match Further::instead(recording, format.clone(), role, &ours) {
            Ok(planned) => planned.start(recording, &self.packaging).await,
            Err(why) => Err(why),
        };
        match begun {
            Ok(branch) => {
                self.further.push(branch);
                if let Some(at) = main {
                    self.formats[at] = format.clone();
                }
            }
            Err(why) => {
                tracing::error!(recording = %recording.id, %track, %why, "a picture cannot go on in another codec");
                self.describe(recording, track, |it| it.renditions.clear());
            }
        }
    }

    /// The names of what is made of a picture, the best first.
    fn renditions_of(&self, recording: &Inner, track: TrackId) -> Vec<RenditionId> {
        let Some(known) = self.known.iter().find(|it| it.id == track) else {
            return Vec::new();
        };
        let info = recording.info();
        let own = info.tracks.into_iter().find(|it| it.is(known));
        own.map_or_else(Vec::new, |it| it.renditions)
    }

    /// Tells whether a track of the session runs.
    pub(super) fn note(&self, recording: &Inner, theirs: TrackId, state: TrackState) {
        if let Some(ours) = self.placement.ours(theirs) {
            self.describe(recording, ours, |track| track.state = state);
        }
    }

    /// Changes what is told of a track.
    pub(super) fn describe(
        &self,
        recording: &Inner,
        ours: TrackId,
        change: impl FnOnce(&mut TrackDescription),
    ) {
        let Some(known) = self.known.iter().find(|track| track.id == ours) else {
            return;
        };
        recording.update(|info| {
            info.tracks.iter_mut().find(|it| it.is(known)).map(change);
        });
    }
}
