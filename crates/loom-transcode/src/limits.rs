//! Every length and count that this crate bounds, named once.

use std::time::Duration;

/// The largest width or height accepted, pixels.
pub const MAX_DIMENSION: u32 = 8192;

/// The most elements a list of capabilities may name.
pub const MAX_ELEMENTS: usize = 1024;

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

/// Bytes of a file's packets from one key frame to the next with which it is still encoded in chunks: a chunk is held in memory.
pub const GROUP_BYTES: u64 = 64 << 20;

/// Bytes of a file's packets with which a chunk ends at the next key frame, however short it is.
pub const CHUNK_BYTES: u64 = 32 << 20;

/// Bytes that a process apart may say at once: a chunk, twice, where the source is kept too.
pub const MESSAGE_BYTES: u32 = 256 << 20;

/// What a process apart has said that waits for the consumer, in messages; where these are chunks, one waits.
pub const MESSAGE_QUEUE: usize = 64;

/// Packets that are remembered, so that decoding can begin anew where a graph fails. Beyond it all are forgotten up to
/// the next key frame.
pub const REPLAY_PACKETS: usize = 1800;

/// Bytes of packets that are remembered, as above.
pub const REPLAY_BYTES: usize = 32 << 20;

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

/// The lowest and the highest rate of raw sound, samples a second.
pub const SOUND_RATES: std::ops::RangeInclusive<u32> = 8_000..=192_000;

/// The most channels of raw sound: what Opus carries without a channel map (RFC 7845 §5.1.1.1).
pub const SOUND_CHANNELS: u16 = 2;

/// Bytes of raw sound that wait for the Opus encoder: some ten seconds of what there is most of. Beyond it sound is dropped.
pub const RAW_SOUND_BYTES: u64 = 16 << 20;

/// How long an encoder of a raw source may take to give its last.
pub const RAW_FLUSH: Duration = Duration::from_secs(2);

/// The most placements of a camera over a screen.
pub const PLACEMENTS: usize = 1000;

/// How long a graph whose last is out may take to say how it ended.
pub const ENDING: Duration = Duration::from_secs(5);
