//! Packets to begin anew with where a graph fails.

use std::collections::VecDeque;

use gstreamer as gst;

use crate::limits;

/// What went into the decoder since the last key frame before which everything has come out.
#[derive(Debug, Default)]
pub(super) struct Replay {
    /// The format of what comes first.
    caps: Option<gst::Caps>,
    items: VecDeque<Item>,
    bytes: usize,
}

/// One thing that a decoder is given.
#[derive(Debug, Clone)]
pub(super) enum Item {
    /// What follows is of this format.
    Caps(gst::Caps),
    /// A packet.
    Packet {
        /// It.
        buffer: gst::Buffer,
        /// Whether decoding can begin with it.
        key: bool,
    },
}

impl Replay {
    /// What a decoder is given to begin with.
    pub(super) fn items(&self) -> impl Iterator<Item = Item> {
        self.caps
            .clone()
            .map(Item::Caps)
            .into_iter()
            .chain(self.items.iter().cloned())
    }

    pub(super) fn handle_caps(&mut self, caps: &gst::Caps) {
        if self.items.is_empty() {
            self.caps = Some(caps.clone());
        } else {
            self.items.push_back(Item::Caps(caps.clone()));
        }
    }

    /// A packet goes into the decoder; every picture up to `done` has come out of every encoder. Where more waits
    /// than is remembered, all of it is forgotten up to the next key frame.
    pub(super) fn handle_packet(&mut self, buffer: &gst::Buffer, key: bool, done: Option<u64>) {
        if key {
            self.forget_before(done);
        } else if self.items.is_empty() {
            return;
        }
        self.bytes += buffer.size();
        self.items.push_back(Item::Packet {
            buffer: buffer.clone(),
            key,
        });
        if self.items.len() > limits::REPLAY_PACKETS || self.bytes > limits::REPLAY_BYTES {
            while !self.items.is_empty() {
                self.forget_first();
            }
        }
    }

    /// Groups of pictures whose successor begins no later than `done` are not needed.
    fn forget_before(&mut self, done: Option<u64>) {
        let Some(done) = done else { return };
        let is_done = |item: &Item| match item {
            Item::Packet { buffer, key: true } => buffer.pts().is_some_and(|pts| pts.nseconds() <= done),
            _ => false,
        };
        let Some(start) = self.items.iter().rposition(is_done) else {
            return;
        };
        for _ in 0..start {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        match self.items.pop_front() {
            Some(Item::Caps(caps)) => self.caps = Some(caps),
            Some(Item::Packet { buffer, .. }) => self.bytes = self.bytes.saturating_sub(buffer.size()),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(ms: u64) -> gst::Buffer {
        let mut buffer = gst::Buffer::from_slice([0u8; 100]);
        if let Some(inner) = buffer.get_mut() {
            inner.set_pts(gst::ClockTime::from_mseconds(ms));
        }
        buffer
    }

    fn times(replay: &Replay) -> Vec<u64> {
        let time = |item: Item| match item {
            Item::Packet { buffer, .. } => buffer.pts().map(gst::ClockTime::mseconds),
            Item::Caps(_) => None,
        };
        replay.items().filter_map(time).collect()
    }

    #[test]
    fn groups_are_kept_until_what_follows_them_has_begun_to_come_out() {
        gst::init().unwrap();
        let mut replay = Replay::default();
        let done = |ms: u64| Some(ms * 1_000_000);
        for ms in [0, 10, 20, 30, 40, 50] {
            replay.handle_packet(&packet(ms), ms % 20 == 0, None);
        }
        assert_eq!(times(&replay), [0, 10, 20, 30, 40, 50], "nothing has come out");
        replay.handle_packet(&packet(60), true, done(30));
        assert_eq!(
            times(&replay),
            [20, 30, 40, 50, 60],
            "30 is still in the group of 20"
        );
        replay.handle_packet(&packet(70), false, done(60));
        replay.handle_packet(&packet(80), true, done(60));
        assert_eq!(times(&replay), [60, 70, 80]);
    }

    #[test]
    fn nothing_is_remembered_that_no_decoder_could_begin_with() {
        gst::init().unwrap();
        let mut replay = Replay::default();
        replay.handle_packet(&packet(0), false, None);
        assert_eq!(times(&replay), Vec::<u64>::new());
        for ms in 0..=limits::REPLAY_PACKETS as u64 {
            replay.handle_packet(&packet(ms), ms == 0, None);
        }
        assert_eq!(times(&replay), Vec::<u64>::new(), "it is bounded");
        replay.handle_packet(&packet(5_000), true, None);
        assert_eq!(times(&replay), [5_000]);
    }

    #[test]
    fn what_is_replayed_begins_with_its_own_format() {
        gst::init().unwrap();
        let mut replay = Replay::default();
        let caps = |name: &str| gst::Caps::new_empty_simple(name);
        replay.handle_caps(&caps("video/x-vp8"));
        replay.handle_packet(&packet(0), true, None);
        replay.handle_caps(&caps("video/x-vp9"));
        replay.handle_packet(&packet(10), true, Some(0));
        replay.handle_packet(&packet(20), true, Some(10_000_000));
        let first = replay.items().next();
        assert!(matches!(first, Some(Item::Caps(it)) if it == caps("video/x-vp9")));
    }
}
