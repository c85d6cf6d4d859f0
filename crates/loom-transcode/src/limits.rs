//! Every length and count that this crate bounds, named once.

use std::time::Duration;

/// The largest width or height accepted, pixels.
pub const MAX_DIMENSION: u32 = 8192;

/// The most streams a file may hold; the first video and the first audio stream of them are used.
pub const MAX_STREAMS: usize = 32;

/// The most channels an audio track may have.
pub const MAX_CHANNELS: u16 = 8;

/// Encoded packets that wait for the consumer. When full, encoders wait; live, frames are then dropped before them.
pub const ENCODED_QUEUE: usize = 256;

/// Kept packets that wait for the consumer. Live packets beyond it fail the kept rendition: the consumer stands still.
pub const KEPT_QUEUE: usize = 4096;

/// Live packets that wait for a decoder. Beyond it packets are dropped up to the next key frame; kept renditions
/// are not touched.
pub const DECODE_QUEUE_PACKETS: u64 = 240;

/// Bytes of live packets that wait for a decoder, as above.
pub const DECODE_QUEUE_BYTES: u64 = 16 << 20;

/// A file's packets that wait for a decoder; the reader waits when full.
pub const FILE_QUEUE_PACKETS: u64 = 48;

/// Bytes of a file's packets that wait for a decoder; the reader waits when full.
pub const FILE_QUEUE_BYTES: u64 = 4 << 20;

/// Stretches of decoded live sound that wait for the AAC encoder. Beyond it the `aac` rendition fails.
pub const SOUND_QUEUE: u64 = 6_000;

/// Pictures that wait for one encoder, live. When full, those that start no segment are dropped.
pub const ENCODE_QUEUE_LIVE: u32 = 10;

/// Pictures that wait for one encoder, from a file; the decoder waits when full.
pub const ENCODE_QUEUE_FILE: u32 = 4;

/// The longest stretch of missing sound that is filled with silence; a longer one is taken for a broken clock and
/// the sound goes on where it left off.
pub const MAX_SILENCE: Duration = Duration::from_secs(4 * 60 * 60);

/// The widest poster, pixels.
pub const MAX_POSTER_WIDTH: u32 = 1280;

/// How long reading a file's structure may stand still before it is given up.
pub const PROBE_STALL: Duration = Duration::from_secs(20);
