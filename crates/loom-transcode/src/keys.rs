//! At which pictures every encoder starts anew.

use std::collections::VecDeque;
use std::time::Duration;

use crate::plan::KeyRule;

/// Chooses pictures, once, at the decoder; the encoders then look their pictures up, so that all agree.
/// Times are those of buffers, in nanoseconds.
#[derive(Debug)]
pub(crate) struct KeyPictures {
    rule: KeyRule,
    /// Key frames of the source that the decoder has not given back yet.
    expected: VecDeque<u64>,
    /// The next instant of [`KeyRule::Every`].
    next: Option<u64>,
    chosen: VecDeque<u64>,
}

impl KeyPictures {
    pub(crate) fn new(rule: KeyRule) -> Self {
        Self {
            rule,
            expected: VecDeque::new(),
            next: None,
            chosen: VecDeque::new(),
        }
    }

    /// Decoding begins anew. Where pictures up to `after` have come out, the next one is no first one.
    #[cfg(any(test, feature = "gst"))]
    pub(crate) fn resume(&mut self, after: Option<u64>) {
        self.expected.clear();
        self.chosen.clear();
        self.next = match self.rule {
            KeyRule::WithSource => after,
            KeyRule::Every(span) => after.map(|at| after_on_grid(at, span)),
        };
    }

    /// A key frame of the source goes into the decoder.
    pub(crate) fn handle_source_key(&mut self, at: u64) {
        if self.rule == KeyRule::WithSource {
            remember(&mut self.expected, at);
        }
    }

    /// A picture comes out of the decoder. Where a key frame was lost on the way, the next picture stands in.
    pub(crate) fn handle_picture(&mut self, at: u64) -> bool {
        let first = self.next.is_none();
        let chosen = match self.rule {
            KeyRule::WithSource => {
                self.next = Some(at);
                let before = self.expected.len();
                self.expected.retain(|key| *key > at);
                self.expected.len() < before
            }
            KeyRule::Every(span) => {
                let due = self.next.is_none_or(|next| at >= next);
                if due {
                    // One grid for all graphs of a recording, whenever each begins and however pictures fall.
                    self.next = Some(after_on_grid(at, span));
                }
                due
            }
        };
        if chosen || first {
            remember(&mut self.chosen, at);
        }
        chosen || first
    }

    /// Whether encoders start anew at this picture.
    #[cfg(any(test, feature = "gst"))]
    pub(crate) fn is_chosen(&self, at: u64) -> bool {
        self.chosen.contains(&at)
    }
}

fn after_on_grid(at: u64, span: Duration) -> u64 {
    let span = (span.as_nanos() as u64).max(1);
    (at / span + 1) * span
}

fn remember(queue: &mut VecDeque<u64>, at: u64) {
    if queue.len() == MOST_REMEMBERED {
        queue.pop_front();
    }
    queue.push_back(at);
}

/// Many more than pictures fit between a decoder and its slowest encoder.
const MOST_REMEMBERED: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_of_instants_does_not_drift_with_the_pictures_nor_with_the_first_of_them() {
        let mut keys = KeyPictures::new(KeyRule::Every(Duration::from_nanos(1000)));
        let chosen: Vec<u64> = (0..60)
            .map(|n| 7 + n * 83)
            .filter(|at| keys.handle_picture(*at))
            .collect();
        assert_eq!(chosen, [7, 1003, 2082, 3078, 4074]);
        assert!(keys.is_chosen(2082) && !keys.is_chosen(2165));
        let mut late = KeyPictures::new(KeyRule::Every(Duration::from_nanos(1000)));
        let chosen: Vec<u64> = (20..60)
            .map(|n| 7 + n * 83)
            .filter(|at| late.handle_picture(*at))
            .collect();
        assert_eq!(chosen, [1667, 2082, 3078, 4074]);
    }

    #[test]
    fn a_lost_key_frame_is_stood_in_for_by_the_next_picture() {
        let mut keys = KeyPictures::new(KeyRule::WithSource);
        keys.handle_source_key(0);
        keys.handle_source_key(100);
        let chosen: Vec<u64> = [0, 50, 130, 150]
            .into_iter()
            .filter(|at| keys.handle_picture(*at))
            .collect();
        assert_eq!(chosen, [0, 130]);
    }

    #[test]
    fn decoding_that_begins_anew_keeps_to_the_same_instants() {
        let mut keys = KeyPictures::new(KeyRule::Every(Duration::from_nanos(1000)));
        let all = |keys: &mut KeyPictures, from: u64| -> Vec<u64> {
            let pictures = (from..40).map(|n| 7 + n * 83);
            pictures.filter(|at| keys.handle_picture(*at)).collect()
        };
        assert_eq!(all(&mut keys, 0), [7, 1003, 2082, 3078]);
        keys.resume(Some(1500));
        assert_eq!(all(&mut keys, 0), [2082, 3078]);
        let mut keys = KeyPictures::new(KeyRule::WithSource);
        keys.handle_source_key(7);
        keys.resume(Some(1500));
        keys.handle_source_key(7 + 83 * 30);
        assert_eq!(all(&mut keys, 20), [7 + 83 * 30]);
    }
}
