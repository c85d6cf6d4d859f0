//! Every bound that keeps hostile or broken input from costing more than it should.

use std::time::Duration;

/// The largest single sample: above any coded picture that a level of H.264, VP9 or AV1 in use allows.
pub const SAMPLE_BYTES: usize = 16 << 20;
/// The most media that one rendition holds back in memory while it waits for a segment boundary.
pub const HELD_BYTES: usize = 64 << 20;
/// A chunk (`moof` and `mdat`) is closed once it holds this much, whatever it lasts.
pub const CHUNK_BYTES: usize = 8 << 20;
/// The most samples in one `moof`.
pub const CHUNK_SAMPLES: usize = 4_096;
/// Renditions of one recording.
pub const RENDITIONS: usize = 32;
/// Cues held in memory at a time; the oldest that no open segment needs are let go first.
pub const CUES: usize = 4_096;
/// The longest text of one cue.
pub const CUE_BYTES: usize = 8 << 10;
/// The longest side of a thumbnail that is put on a sheet.
pub const THUMBNAIL_SIDE: u32 = 512;
/// The most thumbnails of one recording.
pub const THUMBNAILS: usize = 4_096;
/// How long the only thumbnail so far is shown.
pub const THUMBNAIL_FIRST: Duration = Duration::from_secs(2);
/// The most chapters of one recording.
pub const CHAPTERS: usize = 1_000;
/// The longest title of a chapter.
pub const TITLE_BYTES: usize = 512;
/// The largest text track that is read from a file.
pub const TEXT_BYTES: usize = 4 << 20;
/// The most cues of one text track that is handed over whole.
pub const TEXT_CUES: usize = 20_000;
/// Recent parts' bytes that the origin keeps for each rendition; older ones are read from the store.
pub const PART_MEMORY_BYTES: usize = 4 << 20;
/// The same in time: live viewers ask for parts within this; it is above the hold-back of low-latency players.
pub const PART_MEMORY: Duration = Duration::from_secs(3);
/// The longest name of a query parameter that links carry on.
pub const PARAMETER_BYTES: usize = 32;
/// The longest path and the longest query the origin reads.
pub const REQUEST_BYTES: usize = 512;
/// The largest `moov` or `moof` the progressive writer reads.
pub const BOX_BYTES: u64 = 16 << 20;
/// The farthest a last audio sample is drawn out so that all renditions end together.
pub const AUDIO_TAIL: Duration = Duration::from_secs(1);
/// The longest URI or format of a key in a playlist.
pub const KEY_TEXT_BYTES: usize = 16 << 10;
/// The most formats that one key is offered in beside `identity`.
pub const KEY_FORMATS: usize = 8;
/// The longest `pssh` boxes of one key, taken together.
pub const PSSH_BYTES: usize = 64 << 10;
/// Keys of one recording that are kept in memory.
pub const KEYS: usize = 65_536;
/// Subsamples of one sample that encryption makes: what follows them stays in the clear. `saiz` counts their bytes in 8 bits.
pub const SUBSAMPLES: usize = 40;
/// Times above this are no media times: two years.
pub const MEDIA_TIME: Duration = Duration::from_secs(2 * 366 * 86_400);
/// The longest name of a date range.
pub const DATE_RANGE_ID_BYTES: usize = 256;
/// The longest line of a date range.
pub const DATE_RANGE_BYTES: usize = 4 << 10;
/// Date ranges of one recording.
pub const DATE_RANGES: usize = 1_024;
/// Different views of one playlist (windows, delta updates) that the origin keeps ready between two changes.
pub const VIEWS: usize = 16;
/// Pathways of one recording, clones and all.
pub const PATHWAYS: usize = 16;
/// For longer than this no picture is repeated and no silence is made: a gap is listed.
pub const STAND: Duration = Duration::from_secs(600);
/// The longest tag of timed metadata.
pub const METADATA_BYTES: usize = 16 << 10;
/// Timed metadata that waits for its instant; above this, none is taken.
pub const METADATA: usize = 256;
