//! Packets and cues to CMAF parts, LL-HLS playlists (RFC 8216bis) and an origin that answers requests as values.
//!
//! Invariant: nothing is listed before it is stored. A [`Packager`] gives [`HlsOutput`]s in order; whoever carries them out
//! has every byte of a part on disk before the [`Publish`] that makes an [`Origin`] list it. Nothing here does IO,
//! spawns, waits or reads a clock; the same inputs give the same bytes. One exception is named for it: [`progressive`] reads and
//! writes through the traits it is given. All is `Send` and `Sync`.
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
mod declared;
mod define;
mod directives;
mod error;
mod imsc1;
mod lag;
pub mod limits;
mod listing;
mod metadata;
mod multivariant;
mod origin;
mod packager;
mod pauses;
mod playlist;
pub mod progressive;
mod publish;
mod rendition;
mod served;
mod sheets;
mod sprites;
mod steering;
mod still;
pub mod stored;
mod text;
mod view;
mod webvtt;
mod window;

pub use address::CLOCK;
pub use chapters::{Chapter, Chapters};
pub use config::{
    PackagerConfig, PartForm, RenditionInfo, RenditionKind, SessionData, SessionValue, SoundListing, Stills,
    TextForm,
};
pub use crypt::{ContentKey, Encryption, EncryptionScheme, KeyBytes, KeyFormat};
pub use daterange::{DateRange, DateRangeCue, DateRangeValue};
pub use error::HlsError;
pub use metadata::TimedMetadata;
pub use origin::{Answer, Body, Growth, Origin, Response, Wait, stored_answer};
pub use packager::Packager;
pub use playlist::date_time;
pub use publish::{HlsOutput, Publish, PublishKind};
pub use sheets::Sheets;
pub use sprites::{SpriteConfig, Sprites};
pub use steering::{Pathway, PathwayClone, Steering};
pub use text::{StoredFile, TextCue, list_subtitles, read_cues, store_subtitles};
pub use view::View;
pub use window::{StartPoint, Window};

/// What may be held anywhere, and used from any thread.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Packager>();
    shared::<HlsOutput>();
    shared::<Origin>();
    shared::<Answer>();
    shared::<Sprites>();
    shared::<progressive::Layout>();
    shared::<HlsError>();
};
