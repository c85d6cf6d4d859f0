//! What the transcode graph makes, on its way to the packager, the captioner and the recording's description.

use std::sync::Arc;

use loom_core::{MediaKind, RenditionId, TrackFormat};
use loom_ingest::TrackInfo;
use loom_transcode::{Output, Outputs, Plan};

use crate::admission::Ladder;
use crate::captions::LiveCaptions;
use crate::event::{Event, RecordingInfo, TrackDescription};
use crate::further::{Further, Role};
use crate::life::Step;
use crate::packaging::{Declared, Packaging, Work, describe, told};
use crate::recording::Inner;
use crate::text;
use crate::thumbnails::Thumbnails;

/// Moves what the graph makes to where it belongs, until it has ended. `wanted` says when thumbnails come.
pub(crate) async fn pump(
    recording: Arc<Inner>,
    mut outputs: Outputs,
    packaging: Packaging,
    captions: Option<LiveCaptions>,
    wanted: Option<loom_transcode::Thumbnails>,
    ladder: Ladder,
) -> Packaging {
    let mut pump = Pump::new(recording, packaging, captions, wanted);
    pump.ladder = Some(ladder);
    while let Some(output) = outputs.recv().await {
        if !pump.handle(output).await {
            break;
        }
    }
    pump.finish().await
}

/// Where what is made belongs.
pub(crate) struct Pump {
    recording: Arc<Inner>,
    packaging: Packaging,
    captions: Option<LiveCaptions>,
    wanted: Option<loom_transcode::Thumbnails>,
    thumbnails: Option<Thumbnails>,
    ladder: Option<Ladder>,
}

impl Pump {
    pub(crate) fn new(
        recording: Arc<Inner>,
        packaging: Packaging,
        captions: Option<LiveCaptions>,
        wanted: Option<loom_transcode::Thumbnails>,
    ) -> Self {
        Self {
            recording,
            packaging,
            captions,
            wanted,
            thumbnails: None,
            ladder: None,
        }
    }

    /// Moves one thing there, and waits while that is behind. `false` where no more is taken.
    pub(crate) async fn handle(&mut self, output: Output) -> bool {
        match output {
            Output::Format { rendition, codec } => self.packaging.send(Work::Format(rendition, codec)).await,
            Output::Packet { rendition, packet } => {
                self.packaging.send(Work::Packet(rendition, packet)).await
            }
            Output::Still { rendition, at } => self.packaging.send(Work::Still(rendition, at)).await,
            Output::Pcm(frame) => {
                self.recording.levels.hear(&frame);
                if let Some(captions) = &mut self.captions {
                    captions.push(frame.clone());
                }
                self.packaging.send(Work::Pcm(frame)).await
            }
            Output::Loudness(loudness) => {
                self.recording.update(|info| info.loudness = Some(loudness));
                true
            }
            Output::Poster(picture) => self.packaging.send(Work::Poster(picture)).await,
            Output::Thumbnail(picture) => {
                let start = || Thumbnails::start(&self.recording, self.wanted.unwrap_or_default());
                let thumbnails = self.thumbnails.get_or_insert_with(start);
                thumbnails.push(picture).await;
                true
            }
            Output::Progress { done, total } => {
                if let Some(total) = total {
                    let fraction = (done.secs_f64() / total.as_secs_f64().max(0.001)).clamp(0.0, 1.0) as f32;
                    self.recording.events.tell(Event::Progress {
                        stage: "media",
                        fraction,
                    });
                }
                true
            }
            Output::Overload { rendition, shed } => {
                if let Some(ladder) = &mut self.ladder {
                    tell_load(&self.recording, ladder, rendition, shed);
                }
                true
            }
            Output::Warning(what) => {
                tracing::warn!(recording = %self.recording.id, what, "transcode");
                self.recording.events.tell(Event::Warning { what });
                true
            }
            Output::Failed {
                rendition: Some(rendition),
                reason,
            } => {
                tracing::error!(recording = %self.recording.id, %rendition, reason, "a rendition failed");
                self.recording
                    .update(|info| info.renditions.retain(|r| r.id != rendition));
                self.packaging.send(Work::Drop(rendition)).await
            }
            Output::Failed {
                rendition: None,
                reason,
            } => {
                tracing::error!(recording = %self.recording.id, reason, "the transcode graph failed");
                self.recording.happened(Step::Ended(reason));
                // Nothing more would come of what is still sent: end it, so that what there is gets finished and seen.
                self.recording.happened(Step::Halt);
                true
            }
            Output::End => false,
            _ => true,
        }
    }

    /// All is made.
    pub(crate) async fn finish(self) -> Packaging {
        if let Some(thumbnails) = self.thumbnails
            && let Some(sheets) = thumbnails.finish().await
        {
            self.packaging.send(Work::Sheets(sheets)).await;
        }
        if let Some(captions) = self.captions {
            // Its last words are for live viewers; a stop does not wait for them.
            tokio::task::spawn_blocking(move || captions.finish());
        }
        self.packaging
    }
}

/// A rung is shed, or has come back: to whom it is news it is told.
pub(crate) fn tell_load(recording: &Inner, ladder: &mut Ladder, rendition: RenditionId, shed: bool) {
    if !ladder.handle_load(&rendition, shed) {
        return;
    }
    match shed {
        true => tracing::warn!(recording = %recording.id, %rendition, "a rung is shed: encoding is late"),
        false => tracing::info!(recording = %recording.id, %rendition, "a rung is encoded in full again"),
    }
    metrics::counter!("loom_rungs_late_total").increment(u64::from(shed));
    recording.events.tell(Event::Overload { rendition, shed });
}

/// The planned renditions as the packager wants them, captions last.
pub(crate) fn renditions(plan: &Plan, captions: bool, further: &[Further]) -> Vec<Declared> {
    let mut all: Vec<Declared> = plan.renditions.iter().map(describe).map(Declared::Main).collect();
    for track in further {
        let place = match track.role {
            Role::Aside => Declared::Aside,
            Role::Layer => Declared::Layer,
            Role::Sound | Role::Main => Declared::Main,
        };
        all.extend(track.renditions().map(place));
    }
    if captions {
        all.extend(text::captions().map(Declared::Main));
    }
    all
}

/// Writes down what came and what is made of it.
pub(crate) fn take_stock(
    info: &mut RecordingInfo,
    formats: &[TrackFormat],
    tracks: &[TrackInfo],
    plan: &Plan,
    further: &[Further],
    is_main: impl Fn(&TrackFormat) -> bool,
    captions: bool,
) {
    let main = |kind: MediaKind| {
        let made = plan.renditions.iter().filter(move |it| it.kind() == kind);
        made.map(|it| it.id.clone()).collect::<Vec<_>>()
    };
    info.tracks = formats
        .iter()
        .map(|format| {
            let offered = tracks.iter().find(|track| track.id == format.track);
            let own = further.iter().find(|it| it.format.track == format.track);
            TrackDescription {
                mid: offered.map(|it| it.mid.clone()),
                rid: offered.and_then(|it| it.rid.clone()),
                stream: offered.and_then(|it| it.stream.clone()),
                renditions: match own {
                    Some(own) => own.ids(),
                    None if is_main(format) => main(format.codec.kind()),
                    None => Vec::new(),
                },
                ..TrackDescription::of(&format.codec)
            }
        })
        .collect();
    info.renditions = plan
        .renditions
        .iter()
        .map(told)
        .chain(further.iter().flat_map(Further::told))
        .collect();
    info.captions = captions;
}
