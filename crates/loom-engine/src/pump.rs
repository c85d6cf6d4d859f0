//! What the transcode graph makes, on its way to the packager, the captioner and the recording's description.

use std::sync::Arc;

use loom_core::TrackFormat;
use loom_hls::{RenditionInfo, RenditionKind};
use loom_transcode::{Output, Outputs, Plan};

use crate::captions::LiveCaptions;
use crate::event::{RecordingInfo, TrackDescription};
use crate::packaging::{Packaging, Work, describe, told};
use crate::recording::Inner;

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
