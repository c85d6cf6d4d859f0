//! How loud a sound is that is stored.

use std::io;

use loom_core::{CodecParameters, Media, TrackFormat, TrackId};
use tokio::sync::mpsc;

use super::audio::AudioGraph;
use super::codec_caps::audio_caps;
use super::element::{Outlet, Pace};
use super::live::buffer_of;
use crate::backend::{Event, Output};
use crate::capability::Capabilities;
use crate::error::TranscodeError;
use crate::limits;
use crate::plan::AudioPlan;
use crate::sound::Loudness;

/// How loud a track of sound is from its beginning to its end; `None` where it is silent. It comes as it is stored, first its format; where it has
/// a hole, that is silence. One that fails ends it. Blocks; what it holds does not grow with the length of the track.
///
/// # Errors
/// [`TranscodeError::Mismatch`] where it does not begin with the format of a sound, or cannot be decoded here; [`TranscodeError::Packets`] with what
/// the track said; [`TranscodeError::Graph`].
pub fn listen(
    can: &Capabilities,
    mut track: impl Iterator<Item = io::Result<Media>>,
) -> Result<Option<Loudness>, TranscodeError> {
    super::start()?;
    let broken = |source| TranscodeError::Packets { what: SOUND, source };
    let Some(Media::Format(TrackFormat {
        codec: CodecParameters::Audio(audio),
        ..
    })) = track.next().transpose().map_err(broken)?
    else {
        return Err(TranscodeError::Mismatch(
            "a sound to listen to begins with its format".to_owned(),
        ));
    };
    let plan = AudioPlan::listening(audio.codec.into(), audio.channels, can)
        .ok_or_else(|| TranscodeError::Mismatch(format!("nothing here decodes {:?}", audio.codec)))?;
    let (sender, mut outputs) = mpsc::channel(limits::ENCODED_QUEUE);
    let graph = AudioGraph::start(&plan, TrackId(0), Pace::File, Outlet::new(sender))?;
    graph.set_caps(&audio_caps(&audio));
    let mut taken = Ok(());
    for media in track {
        match media {
            Ok(Media::Packet(packet)) if graph.is_alive() => {
                if let Some(buffer) = buffer_of(&packet) {
                    graph.push(buffer);
                }
            }
            Ok(Media::Format(TrackFormat {
                codec: CodecParameters::Audio(audio),
                ..
            })) => graph.set_caps(&audio_caps(&audio)),
            Ok(_) => {}
            Err(why) => {
                taken = Err(broken(why));
                break;
            }
        }
    }
    graph.finish();
    let (mut heard, mut failed) = (None, None);
    while let Some(Event::Output(output)) = outputs.blocking_recv() {
        match output {
            Output::Loudness(loudness) => heard = Some(loudness),
            Output::Failed { reason, .. } => failed = Some(reason),
            _ => {}
        }
    }
    graph.stop();
    taken?;
    match failed {
        Some(why) => Err(TranscodeError::Graph { graph: SOUND, why }),
        None => Ok(heard),
    }
}

const SOUND: &str = "sound";
