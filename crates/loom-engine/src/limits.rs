//! Every bound on what a host pushes, on what a recording's way to a store costs, and on what it is made of.

use std::time::Duration;

/// Publishers that join a recording, by their names, through all of it: each has renditions of its own.
pub(crate) const JOINED: usize = 4;
/// Sessions of one that joins: the one it had, and the one it comes back with.
pub(crate) const JOINED_SESSIONS: usize = 2;
/// What joined publishers send and whoever runs the recording has not taken yet, in items of all of them. When full they wait, and what they
/// are sent meanwhile is lost as on the road.
pub(crate) const JOINED_ITEMS: usize = 256;
/// Tracks of one take that a host pushes.
pub(crate) const PUSHED_TRACKS: usize = 16;
/// The largest packet that a host pushes: a coded picture.
pub(crate) const PUSHED_PACKET_BYTES: usize = 8 << 20;
/// What is pushed ahead of its time and waits, in items. When full, packets are refused and encoders of raw media wait.
pub(crate) const PUSHED_ITEMS: usize = 1_024;
/// The same in bytes.
pub(crate) const PUSHED_BYTES: usize = 64 << 20;
/// The largest object that is sent: one request each. A longer file is kept as several.
pub(crate) const OBJECT_BYTES: u64 = 8 << 20;
/// Objects on their way at a time, of all recordings: together with [`OBJECT_BYTES`] the most memory that sending takes.
pub(crate) const OBJECTS_SENT: usize = 4;
/// How much of an object is read at a time for a viewer.
pub(crate) const OBJECT_READ: u64 = 1 << 20;
/// Files read at a time when a recording is fetched.
pub(crate) const FILES_FETCHED: usize = 8;
/// The largest file that is fetched whole: a playlist of some days.
pub(crate) const FETCHED_BYTES: u64 = 64 << 20;
/// The most objects that a recording may have in a store.
pub(crate) const OBJECTS: usize = 1 << 20;
/// The most pieces that a recording is made of.
pub(crate) const PIECES: usize = 1_000;
/// Corrections of a transcript that are taken at once.
pub(crate) const CORRECTIONS: usize = 1_000;
/// Versions of one transcript, what was heard among them: each is a whole file.
pub(crate) const VERSIONS: usize = 1_000;
/// How often a growing recording's new segments are sent.
pub(crate) const SEND_EVERY: Duration = Duration::from_secs(2);
/// How often its playlists are.
pub(crate) const SEND_LISTS_EVERY: Duration = Duration::from_secs(10);
/// How long a request to S3 may take.
#[cfg(feature = "s3")]
pub(crate) const REQUEST: Duration = Duration::from_secs(60);
