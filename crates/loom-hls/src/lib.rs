//! Packets and cues to CMAF parts, LL-HLS playlists (RFC 8216bis) and an origin that answers requests as values.
//!
//! Invariant: nothing is listed before it is stored. A [`Packager`] gives [`HlsOutput`]s in order; whoever carries them out
//! has every byte of a part on disk before the [`Publish`] that makes an [`Origin`] list it. Nothing here does IO,
//! spawns, waits or reads a clock; the same inputs give the same bytes. One exception is named for it: [`progressive`] reads and
//! writes through the traits it is given.
//!
//! Segments of all renditions have the same boundaries and the same media sequence numbers. Decode times are the recording's
//! media time in ticks: what every rendition shows at one instant has one time.

mod address;
mod captions;
mod chapters;
mod clock;
mod cmaf;
mod config;
mod crypt;
mod dash;
mod daterange;
mod directives;
mod error;
mod imsc1;
pub mod limits;
mod listing;
mod multivariant;
mod origin;
mod packager;
mod playlist;
pub mod progressive;
mod publish;
mod rendition;
mod served;
mod sprites;
mod steering;
mod still;
mod text;
mod view;
mod webvtt;
mod window;

pub use chapters::{Chapter, Chapters};
pub use config::{
    PackagerConfig, RenditionInfo, RenditionKind, SessionData, SessionValue, SoundListing, Stills, TextForm,
};
pub use crypt::{ContentKey, Encryption, EncryptionScheme, KeyBytes, KeyFormat};
pub use daterange::{DateRange, DateRangeCue, DateRangeValue};
pub use error::HlsError;
pub use origin::{Answer, Body, Growth, Origin, Response, Wait, stored_answer};
pub use packager::Packager;
pub use publish::{HlsOutput, Publish, PublishKind};
pub use sprites::{SpriteConfig, Sprites};
pub use steering::{Pathway, PathwayClone, Steering};
pub use text::{StoredFile, TextCue, list_subtitles, read_cues, store_subtitles};
pub use view::View;
pub use window::{StartPoint, Window};
