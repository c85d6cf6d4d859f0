use loom_core::MediaKind;

use crate::error::HlsError;
use crate::limits;
use crate::metadata::{Message, TimedMetadata};
use crate::packager::{Packager, Track};

impl Packager {
    /// Takes timed metadata, for every rendition of pictures, or where there are none, of sound. What lies past the end of the recording
    /// is never told.
    ///
    /// # Errors
    /// [`HlsError::Metadata`] where it is no ID3 tag, is too long, or too many wait for their instants; [`HlsError::Finished`].
    pub fn handle_metadata(&mut self, metadata: TimedMetadata) -> Result<(), HlsError> {
        self.check_running()?;
        metadata.check()?;
        let message = Message {
            id: self.messages,
            at: metadata.at.unwrap_or(self.head),
            tag: metadata.tag,
        };
        let media = self
            .tracks
            .iter_mut()
            .filter_map(|declared| match &mut declared.track {
                Track::Media(track) => Some(track).filter(|track| !track.ended),
                Track::Captions(_) => None,
            });
        let (pictures, sounds): (Vec<_>, Vec<_>) = media.partition(|track| track.kind() == MediaKind::Video);
        let media = if pictures.is_empty() { sounds } else { pictures };
        if media.iter().any(|track| track.messages.len() >= limits::METADATA) {
            return Err(HlsError::Metadata {
                why: format!("{} wait for their instants already", limits::METADATA),
                clause: "ISO/IEC 23009-1 §5.10.3.3",
            });
        }
        self.messages = self.messages.wrapping_add(1);
        for track in media {
            track.messages.push(message.clone());
        }
        Ok(())
    }
}
