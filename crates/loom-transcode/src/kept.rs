//! A backend without codecs: what is kept as it came, and nothing else.

use std::path::Path;

use loom_core::{CodecParameters, Media, RenditionId, TrackFormat};
use tokio::sync::mpsc;

use crate::backend::{Backend, Feed, FeedPort, KeptTrack, Outputs, TrackRoles};
use crate::error::TranscodeError;
use crate::limits;
use crate::plan::{Plan, SourceVideoCodec};

/// Runs plans that keep everything as it came, which are those of a machine with no elements
/// ([`Capabilities::none`](crate::Capabilities::none)). It needs no codec, no thread and no library: a packet that is pushed is an output.
///
/// ```
/// use std::time::Duration;
/// use bytes::Bytes;
/// use loom_core::{CodecParameters, Media, MediaTime, Packet, TrackFormat, TrackId, codec::opus};
/// use loom_transcode::{Backend, Capabilities, KeptBackend, Output, SourceShape, Wanted, plan};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let track = TrackId(0);
/// let formats = [TrackFormat { track, codec: CodecParameters::Audio(opus::rtp_parameters()) }];
/// let plan = plan(&SourceShape::from_formats(&formats), &Wanted::default(), &Capabilities::none())?;
/// let (mut feed, mut outputs) = KeptBackend.live(&plan, &formats)?;
/// feed.push(Media::Packet(Packet {
///     track,
///     pts: MediaTime::ZERO,
///     dts: MediaTime::ZERO,
///     duration: Some(Duration::from_millis(20)),
///     key: true,
///     data: Bytes::from_static(&[0xfc, 0xff, 0xfe]),
/// }));
/// feed.finish();
/// let mut packets = 0;
/// while let Some(output) = outputs.recv().await {
///     packets += usize::from(matches!(output, Output::Packet { .. }));
/// }
/// assert_eq!(packets, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct KeptBackend;

impl Backend for KeptBackend {
    fn live(&self, plan: &Plan, formats: &[TrackFormat]) -> Result<(Feed, Outputs), TranscodeError> {
        if let Some(made) = plan.renditions.iter().find(|it| !it.kept) {
            let why = format!("{} is encoded, and nothing is here", made.id);
            return Err(TranscodeError::Mismatch(why));
        }
        let roles = TrackRoles::assign(plan, formats)?;
        let (out, kept) = mpsc::channel(limits::KEPT_QUEUE);
        let keep = |id: &Option<RenditionId>| {
            let id = id.clone()?;
            Some(KeptTrack::new(id, out.clone(), false))
        };
        let mut port = KeptPort {
            codec: plan.video.as_ref().map(|it| it.source),
            is_foreign: false,
            video: plan.video.as_ref().and_then(|it| keep(&it.keep)),
            audio: plan.audio.as_ref().and_then(|it| keep(&it.keep)),
            roles,
        };
        let initial = [port.roles.video.clone(), port.roles.audio.clone()];
        for format in initial.into_iter().flatten() {
            port.push(Media::Format(format));
        }
        drop(out);
        let nothing_encoded = mpsc::channel(1).1;
        let outputs = Outputs::new(kept, nothing_encoded, 0, Box::new(()));
        Ok((Feed::new(Box::new(port)), outputs))
    }

    /// # Errors
    /// Always: to read a file takes GStreamer.
    fn file(&self, _plan: &Plan, _path: &Path) -> Result<Outputs, TranscodeError> {
        let why = "files are read by the backend on GStreamer (feature `gst`)";
        Err(TranscodeError::Mismatch(why.to_owned()))
    }
}

struct KeptPort {
    codec: Option<SourceVideoCodec>,
    /// What comes is of another codec than the plan is for.
    is_foreign: bool,
    video: Option<KeptTrack>,
    audio: Option<KeptTrack>,
    roles: TrackRoles,
}

impl FeedPort for KeptPort {
    fn push(&mut self, media: Media) {
        match media {
            Media::Format(format) => self.handle_format(&format),
            Media::Packet(packet) => {
                let kept = if self.roles.is_video(packet.track) && !self.is_foreign {
                    &mut self.video
                } else if self.roles.is_audio(packet.track) {
                    &mut self.audio
                } else {
                    return;
                };
                if let Some(kept) = kept {
                    kept.handle_packet(packet);
                }
            }
            Media::Gap(_) | Media::End(_) => {}
        }
    }

    fn finish(&mut self) {
        self.video = None;
        self.audio = None;
    }
}

impl KeptPort {
    fn handle_format(&mut self, format: &TrackFormat) {
        let kept = match &format.codec {
            CodecParameters::Video(video) if self.roles.is_video(format.track) => {
                self.is_foreign = self.codec != Some(video.codec.into());
                if self.is_foreign {
                    tracing::warn!(codec = ?video.codec, "the source became another, which the plan is not for");
                    return;
                }
                &mut self.video
            }
            CodecParameters::Audio(_) if self.roles.is_audio(format.track) => &mut self.audio,
            _ => return,
        };
        if let Some(kept) = kept {
            kept.handle_format(&format.codec);
        }
    }
}
