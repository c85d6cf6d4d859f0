use crate::limits;

const WORDS: usize = limits::REPLAY_PACKETS / 64;

/// Which of the last [`limits::REPLAY_PACKETS`] sequence numbers of a source have come (RFC 3711 §3.3.2). The library's own
/// window shifts all its bits for each packet.
#[derive(Debug, Default)]
pub(crate) struct ReplayWindow {
    seen: Box<Seen>,
    latest: Option<u16>,
}

/// Where a number lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    New,
    /// It has come before.
    Again,
    /// Too old to tell.
    Beyond,
}

#[derive(Debug)]
struct Seen([u64; WORDS]);

impl Default for Seen {
    fn default() -> Self {
        Self([0; WORDS])
    }
}

impl Seen {
    fn place(sequence: u16) -> (usize, u64) {
        let at = usize::from(sequence) % limits::REPLAY_PACKETS;
        (at / 64, 1 << (at % 64))
    }

    fn has(&self, sequence: u16) -> bool {
        let (word, bit) = Self::place(sequence);
        self.0[word] & bit != 0
    }
}

impl ReplayWindow {
    pub(crate) fn place(&self, sequence: u16) -> Place {
        let Some(latest) = self.latest else {
            return Place::New;
        };
        let ahead = i32::from(sequence.wrapping_sub(latest) as i16);
        if ahead > 0 {
            Place::New
        } else if ahead <= -(limits::REPLAY_PACKETS as i32) {
            Place::Beyond
        } else if self.seen.has(sequence) {
            Place::Again
        } else {
            Place::New
        }
    }

    /// Remembers a number that is new, once its packet has proved that its sender knows the keys.
    pub(crate) fn accept(&mut self, sequence: u16) {
        let latest = *self.latest.get_or_insert(sequence);
        let ahead = sequence.wrapping_sub(latest) as i16;
        if ahead > 0 {
            // what lies between has not come yet
            for skipped in 1..=ahead.min(limits::REPLAY_PACKETS as i16) as u16 {
                let (word, bit) = Seen::place(sequence.wrapping_sub(skipped - 1));
                self.seen.0[word] &= !bit;
            }
            self.latest = Some(sequence);
        }
        let (word, bit) = Seen::place(sequence);
        self.seen.0[word] |= bit;
    }
}

#[cfg(test)]
mod tests {
    use rtc::shared::replay_detector::{ReplayDetector, WrappedSlidingWindowDetector};

    use super::*;

    #[test]
    fn it_says_what_the_librarys_window_says() {
        let mut theirs = WrappedSlidingWindowDetector::new(limits::REPLAY_PACKETS, u64::from(u16::MAX));
        let mut ours = ReplayWindow::default();
        let (mut chance, mut at) = (11_u64, 60_000_u64);
        for step in 0..200_000 {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let draw = chance >> 33;
            at += draw % 5;
            let sequence = match draw % 7 {
                0 => at.wrapping_sub(draw % 1_900),
                1 => at + draw % 300,
                _ => at,
            } & 0xffff;
            let is_new = ours.place(sequence as u16) == Place::New;
            assert_eq!(theirs.check(sequence), is_new, "step {step}, number {sequence}");
            // one of ten is forged: it was checked, and is not accepted
            if draw % 10 != 0 && is_new {
                theirs.accept();
                ours.accept(sequence as u16);
            }
        }
    }

    #[test]
    fn a_number_is_taken_once_and_not_when_it_is_older_than_the_window() {
        let mut window = ReplayWindow::default();
        for sequence in [65_535, 0, 5_000] {
            assert_eq!(window.place(sequence), Place::New);
            window.accept(sequence);
            assert_eq!(window.place(sequence), Place::Again);
        }
        let oldest = 5_001 - limits::REPLAY_PACKETS as u16;
        assert_eq!(window.place(0), Place::Beyond);
        assert_eq!(window.place(oldest - 1), Place::Beyond);
        assert_eq!(window.place(oldest), Place::New);
    }
}
