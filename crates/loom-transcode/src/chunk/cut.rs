//! Where a file's packets are cut into chunks.

use std::ops::Range;
use std::time::Duration;

use loom_core::{MediaTime, Packet};

use super::ChunkItem;
use crate::limits;

/// Cuts a stream of packets, which come in the order of decoding, at key frames. Pictures that follow a key frame and are shown before it
/// (ISO/IEC 23008-2 §3.74 calls them leading) need what was before it: the chunk that ends there gets them, and the key frame too.
#[derive(Debug)]
pub(crate) struct Cutter {
    least: Duration,
    /// What packets are of from here on.
    format: Option<String>,
    from: Option<MediaTime>,
    items: Vec<ChunkItem>,
    bytes: u64,
    /// The latest time of a picture so far.
    newest: MediaTime,
    /// A key frame at which to cut, and the leading pictures behind it.
    next: Option<(Packet, Vec<Packet>)>,
}

/// What goes into the decoder for one chunk, and which pictures of it are the chunk's.
#[derive(Debug, PartialEq)]
pub(crate) struct Cut {
    pub(crate) shown: Range<MediaTime>,
    pub(crate) items: Vec<ChunkItem>,
}

impl Cutter {
    /// Chunks are at least as long as `least`, but for the last, and those that are [`limits::CHUNK_BYTES`] large before.
    pub(crate) fn new(least: Duration) -> Self {
        Self {
            least,
            format: None,
            from: None,
            items: Vec::new(),
            bytes: 0,
            newest: MediaTime::ZERO,
            next: None,
        }
    }

    /// Bytes that it holds.
    pub(crate) fn held(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn handle_format(&mut self, format: String) {
        if self.format.as_ref() != Some(&format) {
            self.items.push(ChunkItem::Format(format.clone()));
            self.format = Some(format);
        }
    }

    /// Takes a packet; gives the chunk that ends before it, or before the key frame that it follows.
    pub(crate) fn handle_packet(&mut self, packet: Packet) -> Option<Cut> {
        let mut done = None;
        if let Some((key, leading)) = &mut self.next {
            if packet.pts < key.pts {
                self.bytes += packet.data.len() as u64;
                leading.push(packet);
                return None;
            }
            done = self.cut();
        }
        // A key frame that is shown before something that came before it is none to cut at: its times are broken.
        let enough = |from: MediaTime| {
            packet.pts.since(from) >= self.least || (self.bytes >= limits::CHUNK_BYTES && packet.pts > from)
        };
        if packet.key && packet.pts > self.newest && self.from.is_some_and(enough) {
            self.bytes += packet.data.len() as u64;
            self.next = Some((packet, Vec::new()));
        } else {
            self.take(packet);
        }
        done
    }

    /// No more packets come.
    pub(crate) fn finish(&mut self) -> impl Iterator<Item = Cut> + use<> {
        let before = if self.next.is_some() { self.cut() } else { None };
        let last = self.from.map(|from| Cut {
            shown: from..END,
            items: std::mem::take(&mut self.items),
        });
        before.into_iter().chain(last)
    }

    fn take(&mut self, packet: Packet) {
        // What an edit list hides is decoded, and is before all chunks.
        self.from.get_or_insert(MediaTime::ZERO);
        self.newest = self.newest.max(packet.pts);
        self.bytes += packet.data.len() as u64;
        self.items.push(ChunkItem::Packet(packet));
    }

    /// Ends the chunk before the key frame, and begins the next with it.
    fn cut(&mut self) -> Option<Cut> {
        let (key, leading) = self.next.take()?;
        let mut items = std::mem::take(&mut self.items);
        if !leading.is_empty() {
            items.push(ChunkItem::Packet(key.clone()));
            items.extend(leading.into_iter().map(ChunkItem::Packet));
        }
        let shown = self.from.unwrap_or(MediaTime::ZERO)..key.pts;
        self.from = Some(key.pts);
        self.bytes = 0;
        self.items.extend(self.format.clone().map(ChunkItem::Format));
        self.take(key);
        Some(Cut { shown, items })
    }
}

/// Behind every picture.
const END: MediaTime = MediaTime::from_nanos(i64::MAX);
