//! One live recording: a publisher's session through the transcode graph to the packager, until it ends.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use loom_core::{Media, MediaKind, MediaTime, TrackFormat, TrackId};
use loom_hls::{Packager, PackagerConfig, RenditionInfo, RenditionKind};
use loom_ingest::{CloseReason, Session, SessionEvent, SessionHandle};
use loom_transcode::{Backend, Feed, Output, Outputs, Plan, SourceShape, Wanted, plan};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::captions::LiveCaptions;
use crate::edges::Edges;
use crate::error::EngineError;
use crate::event::{RecordingInfo, RecordingState, TrackDescription};
use crate::finish;
use crate::gather::{Gathered, stopped};
use crate::packaging::{Packaging, Work, describe, told};
use crate::recording::{Inner, PublishAnswer};

/// How long the graph may take to flush at the end.
const FLUSH_LIMIT: Duration = Duration::from_secs(10);

pub(crate) async fn publish(
    recording: &Arc<Inner>,
    offer: &str,
    from: Option<IpAddr>,
) -> Result<PublishAnswer, EngineError> {
    let began = Instant::now();
    let limit = recording.shared.config.max_live;
    if recording.shared.live_count() >= limit {
        return Err(EngineError::Full { live: limit });
    }
    if recording.info().state != RecordingState::Created {
        // Before any work is done for an offer that can come to nothing; `begin` decides where two come at once.
        recording.begin(RecordingState::Live, None)?;
    }
    let (answer, session) = recording
        .shared
        .ingest
        .accept_from(offer, from)
        .await
        .map_err(EngineError::BadOffer)?;
    let (id, handle) = (session.id().to_string(), session.handle());
    recording.begin(RecordingState::Live, Some(id.clone()))?;
    metrics::counter!("loom_recordings_started_total").increment(1);
    tokio::spawn(run(recording.clone(), session, began));
    Ok(PublishAnswer {
        sdp: answer.sdp,
        session: id,
        etag: answer.etag,
        handle,
    })
}

/// Runs the recording to its end, whatever happens in it.
async fn run(recording: Arc<Inner>, session: Session, began: Instant) {
    metrics::gauge!("loom_recordings_live").increment(1);
    let outcome = AssertUnwindSafe(record(&recording, session, began))
        .catch_unwind()
        .await;
    metrics::gauge!("loom_recordings_live").decrement(1);
    match outcome {
        Ok(Ok(())) => {}
        Ok(Err(why)) => finish::salvage(&recording, &why.to_string()),
        Err(_) => finish::salvage(&recording, "an internal error ended the recording"),
    }
}

async fn record(recording: &Arc<Inner>, mut session: Session, began: Instant) -> Result<(), EngineError> {
    let handle = session.handle();
    let gathered = Gathered::from_session(&mut session, &mut recording.stop.subscribe()).await;
    if gathered.formats.is_empty() {
        let why = gathered
            .closed
            .map_or_else(|| "no media came".to_owned(), |why| why.to_string());
        recording.fail(format!("nothing was recorded: {why}"));
        return Ok(());
    }
    if let Some(at) = gathered.first_key_frame {
        metrics::histogram!("loom_first_key_frame_seconds").record(at.duration_since(began).as_secs_f64());
    }
    let mut running = Running::start(recording, handle, gathered).await?;
    let ended = running.follow(recording, &mut session).await;
    let how = match ended {
        CloseReason::ByHost | CloseReason::ByPublisher => None,
        other => Some(format!("the recording ended because {other}")),
    };
    if let Some(how) = how {
        tracing::info!(recording = %recording.id, how, "the publisher went away");
        recording.update(|info| info.reason = Some(how));
    }
    drop(session);
    let packaging = running.flush().await;
    packaging.finish().await?;
    recording.complete();
    finish::transcript(recording, Some(&packaging)).await;
    Ok(())
}

/// A recording whose graph runs.
struct Running {
    handle: SessionHandle,
    feed: Feed,
    tracks: Vec<TrackId>,
    keys: KeyFrames,
    edges: Edges,
    packaging: Packaging,
    pump: JoinHandle<Packaging>,
    held: Vec<Media>,
    closed: Option<CloseReason>,
}

impl Running {
    async fn start(
        recording: &Arc<Inner>,
        handle: SessionHandle,
        got: Gathered,
    ) -> Result<Self, EngineError> {
        let config = &recording.shared.config;
        let shape = SourceShape::from_formats(&got.formats);
        let plan = plan(&shape, &wanted(recording), &recording.shared.capabilities)
            .map_err(loom_transcode::TranscodeError::from)?;
        let captions = plan.audio.as_ref().is_some_and(|audio| audio.pcm);
        tracing::info!(recording = %recording.id, %plan, "the plan");
        let packager = Packager::new(PackagerConfig {
            // Key frames are asked for every `segment` and come a little later or earlier: each begins a segment.
            segment: config.segment.mul_f64(0.8),
            part: config.part,
            zero: got.zero,
            ..PackagerConfig::default()
        })?;
        let packaging = Packaging::start(recording.clone(), packager, renditions(&plan, captions))?;
        recording.update(|info| take_stock(info, &got.formats, &plan, captions));
        let backend = recording.shared.backend.clone();
        let (graph_plan, formats) = (plan.clone(), got.formats.clone());
        let (feed, outputs) = tokio::task::spawn_blocking(move || backend.live(&graph_plan, &formats))
            .await
            .map_err(|_| EngineError::ShuttingDown)??;
        let captions = captions
            .then(|| LiveCaptions::start(recording.clone(), packaging.clone()))
            .flatten();
        let pump = tokio::spawn(pump(recording.clone(), outputs, packaging.clone(), captions));
        let video = got
            .formats
            .iter()
            .find(|f| f.codec.kind() == MediaKind::Video)
            .map(|f| f.track);
        Ok(Self {
            handle,
            feed,
            tracks: got.formats.iter().map(|f| f.track).collect(),
            keys: KeyFrames::new(video, config.segment),
            edges: Edges::new(&got.formats),
            packaging,
            pump,
            held: got.held,
            closed: got.closed,
        })
    }

    /// Feeds the graph until the publisher or the host ends it; says who did.
    async fn follow(&mut self, recording: &Arc<Inner>, session: &mut Session) -> CloseReason {
        self.edges.align_start(&mut self.held);
        for media in std::mem::take(&mut self.held) {
            self.feed(media);
        }
        let mut stop = recording.stop.subscribe();
        let mut stopping = false;
        loop {
            if let Some(why) = self.closed.take() {
                return why;
            }
            tokio::select! {
                event = session.recv() => match event {
                    Some(SessionEvent::Media(media)) => self.feed(media),
                    Some(SessionEvent::Closed(why)) => return why,
                    Some(_) => {}
                    None => return CloseReason::ByHost,
                },
                () = stopped(&mut stop), if !stopping => {
                    stopping = true;
                    self.handle.close();
                }
                () = tokio::time::sleep(FLUSH_LIMIT), if stopping => return CloseReason::ByHost,
            }
        }
    }

    fn feed(&mut self, media: Media) {
        let track = match &media {
            Media::Format(format) => format.track,
            Media::Packet(packet) => packet.track,
            Media::Gap(gap) => gap.track,
            Media::End(track) => *track,
        };
        if !self.tracks.contains(&track) {
            return;
        }
        if let Media::Packet(packet) = &media {
            metrics::counter!("loom_received_bytes_total").increment(packet.data.len() as u64);
            self.edges.handle_packet(packet);
            if let Some(wanted) = self.keys.handle_packet(packet.track, packet.pts, packet.key) {
                self.handle.request_key_frame(wanted);
            }
        }
        self.feed.push(media);
    }

    /// Lets the graph and the captioner tell their last, and gives the packager back.
    async fn flush(mut self) -> Packaging {
        for media in self.edges.finish() {
            self.feed.push(media);
        }
        self.feed.finish();
        if timeout(FLUSH_LIMIT, self.pump).await.is_err() {
            tracing::error!("the transcode graph did not end; what it had made is kept");
        }
        self.packaging
    }
}

/// What is to be made of the recording's source: nothing is decoded for captions that there will not be.
pub(crate) fn wanted(recording: &Inner) -> Wanted {
    let ladder = &recording.shared.config.ladder;
    Wanted {
        captions_pcm: ladder.captions_pcm && recording.info().captions,
        ..ladder.clone()
    }
}

/// Moves what the graph makes to where it belongs, until it has ended.
pub(crate) async fn pump(
    recording: Arc<Inner>,
    mut outputs: Outputs,
    packaging: Packaging,
    captions: Option<LiveCaptions>,
) -> Packaging {
    while let Some(output) = outputs.recv().await {
        let taken = match output {
            Output::Format { rendition, codec } => packaging.send(Work::Format(rendition, codec)).await,
            Output::Packet { rendition, packet } => packaging.send(Work::Packet(rendition, packet)).await,
            Output::Pcm(frame) => {
                if let Some(captions) = &captions {
                    captions.push(frame.clone());
                }
                packaging.send(Work::Pcm(frame)).await
            }
            Output::Poster(picture) => packaging.send(Work::Poster(picture)).await,
            Output::Progress { done, total } => {
                if let Some(total) = total {
                    let fraction = (done.secs_f64() / total.as_secs_f64().max(0.001)).clamp(0.0, 1.0) as f32;
                    let _ = recording.events.send(crate::Event::Progress {
                        stage: "media",
                        fraction,
                    });
                }
                true
            }
            Output::Warning(what) => {
                tracing::warn!(recording = %recording.id, what, "transcode");
                true
            }
            Output::Failed {
                rendition: Some(rendition),
                reason,
            } => {
                tracing::error!(recording = %recording.id, %rendition, reason, "a rendition failed");
                recording.update(|info| info.renditions.retain(|r| r.id != rendition));
                packaging.send(Work::Drop(rendition)).await
            }
            Output::Failed {
                rendition: None,
                reason,
            } => {
                tracing::error!(recording = %recording.id, reason, "the transcode graph failed");
                recording.update(|info| info.reason = Some(reason));
                // Nothing more would come of what is still sent: end it, so that what there is gets finished and seen.
                recording.stop.send_replace(true);
                true
            }
            Output::End => break,
            _ => true,
        };
        if !taken {
            break;
        }
    }
    if let Some(captions) = captions {
        // Its last words are for live viewers; a stop does not wait for them.
        tokio::task::spawn_blocking(move || captions.finish());
    }
    packaging
}

/// The planned renditions as the packager wants them, captions last.
pub(crate) fn renditions(plan: &Plan, captions: bool) -> Vec<RenditionInfo> {
    let mut all: Vec<RenditionInfo> = plan.renditions.iter().map(describe).collect();
    if captions && let Some(id) = loom_core::RenditionId::new("captions") {
        let kind = RenditionKind::Subtitles {
            name: "English".to_owned(),
            language: "en".to_owned(),
        };
        all.push(RenditionInfo {
            id,
            kind,
            bandwidth: 1_000,
        });
    }
    all
}

/// Writes down what came and what is made of it.
pub(crate) fn take_stock(info: &mut RecordingInfo, formats: &[TrackFormat], plan: &Plan, captions: bool) {
    info.tracks = formats
        .iter()
        .map(|format| TrackDescription::of(&format.codec))
        .collect();
    info.renditions = plan.renditions.iter().map(told).collect();
    info.captions = captions;
}

/// Decides when the publisher is asked for a key frame, so that a segment can begin.
#[derive(Debug)]
struct KeyFrames {
    video: Option<TrackId>,
    every: Duration,
    /// The first segment is short, so that viewers can begin soon: a playlist without a whole segment plays nowhere.
    wait: Duration,
    last_key: Option<MediaTime>,
    last_request: Option<MediaTime>,
}

impl KeyFrames {
    /// A request that brought nothing is repeated after this long.
    const REPEAT: Duration = Duration::from_millis(400);

    /// How long the first segment is to be.
    const FIRST: Duration = Duration::from_millis(600);

    fn new(video: Option<TrackId>, every: Duration) -> Self {
        Self {
            video,
            every,
            wait: every.min(Self::FIRST),
            last_key: None,
            last_request: None,
        }
    }

    /// The track to ask for a key frame now, if any.
    fn handle_packet(&mut self, track: TrackId, pts: MediaTime, key: bool) -> Option<TrackId> {
        let video = self.video?;
        if track == video && key {
            if self.last_key.is_some() {
                self.wait = self.every;
            }
            self.last_key = Some(pts);
            self.last_request = None;
        }
        // Sound moves on where pictures stand still, so any track's packet may make a request due.
        let due = self.last_key? + self.wait;
        let rested = self.last_request.is_none_or(|at| pts >= at + Self::REPEAT);
        if pts < due || !rested {
            return None;
        }
        self.last_request = Some(pts);
        Some(video)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIDEO: TrackId = TrackId(0);
    const AUDIO: TrackId = TrackId(1);

    fn ms(millis: i64) -> MediaTime {
        MediaTime::from_millis(millis)
    }

    #[test]
    fn a_key_frame_is_asked_for_once_a_segment_and_again_where_none_came() {
        let mut keys = KeyFrames::new(Some(VIDEO), Duration::from_secs(2));
        assert_eq!(keys.handle_packet(VIDEO, ms(0), true), None);
        assert_eq!(keys.handle_packet(VIDEO, ms(590), false), None);
        assert_eq!(
            keys.handle_packet(VIDEO, ms(600), false),
            Some(VIDEO),
            "the first segment is short"
        );
        assert_eq!(keys.handle_packet(VIDEO, ms(633), true), None);
        assert_eq!(keys.handle_packet(VIDEO, ms(2_632), false), None);
        assert_eq!(keys.handle_packet(VIDEO, ms(2_633), false), Some(VIDEO));
        assert_eq!(keys.handle_packet(VIDEO, ms(2_666), false), None);
        assert_eq!(keys.handle_packet(VIDEO, ms(3_033), false), Some(VIDEO));
        assert_eq!(keys.handle_packet(VIDEO, ms(3_066), true), None);
        assert_eq!(keys.handle_packet(VIDEO, ms(5_033), false), None);
    }

    #[test]
    fn sound_asks_for_a_key_frame_where_the_picture_stands_still() {
        let mut keys = KeyFrames::new(Some(VIDEO), Duration::from_secs(2));
        assert_eq!(keys.handle_packet(AUDIO, ms(0), true), None);
        keys.handle_packet(VIDEO, ms(0), true);
        assert_eq!(keys.handle_packet(AUDIO, ms(620), true), Some(VIDEO));
    }

    #[test]
    fn a_recording_without_pictures_asks_for_none() {
        let mut keys = KeyFrames::new(None, Duration::from_secs(2));
        assert_eq!(keys.handle_packet(AUDIO, ms(9_000), true), None);
    }
}
