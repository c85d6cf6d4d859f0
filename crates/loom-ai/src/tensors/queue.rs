use std::collections::{BTreeSet, VecDeque};

use super::whisper::TOGETHER;
use crate::network::Turn;

/// What waits for a device, and which of it goes there next: a machine without a thread or a clock.
///
/// The oldest goes first, with all behind it that the device can do in the same go. A session waits for one answer before it asks again, so none
/// comes twice before another has come once. Sound to be heard needs free slots; while those are taken it stands aside, live sound for
/// live sound and whole recordings for whole recordings, each in order: a recording takes half of the slots at most, and what the
/// next one waits for is not given to live sound.
#[derive(Debug)]
pub(super) struct Queue<B, F> {
    slots: usize,
    free: BTreeSet<usize>,
    /// Slots that whole recordings hold.
    patient: usize,
    live_begins: VecDeque<Waiting<Beginning<B>>>,
    patient_begins: VecDeque<Waiting<Beginning<B>>>,
    feeds: VecDeque<Waiting<F>>,
    next: u64,
}

#[derive(Debug)]
struct Waiting<T> {
    number: u64,
    what: T,
}

/// Sound that is to be heard.
#[derive(Debug)]
pub(super) struct Beginning<B> {
    pub(super) turn: Turn,
    pub(super) windows: usize,
    /// Slots beside those of the windows.
    pub(super) copies: usize,
    pub(super) what: B,
}

/// What goes to the device in one go.
#[derive(Debug)]
pub(super) enum Batch<B, F> {
    /// With the slots that each was given.
    Begin(Vec<(Vec<usize>, Beginning<B>)>),
    Feed(Vec<F>),
}

/// Requests to hear sound that may wait; who comes then waits for room, and falls behind as where the processor is too slow. Tokens to be fed
/// are not counted: who brings them holds slots already, which others wait for.
pub(super) const BOUND: usize = 256;
/// Slots that there are at least: half of them hold what one recording asks for, four windows and a beam of eight.
pub(super) const LEAST_SLOTS: usize = 24;

impl<B> Beginning<B> {
    fn slots(&self) -> usize {
        self.windows + self.copies
    }
}

impl<B, F> Queue<B, F> {
    pub(super) fn new(slots: usize) -> Self {
        Self {
            slots,
            free: (0..slots).collect(),
            patient: 0,
            live_begins: VecDeque::new(),
            patient_begins: VecDeque::new(),
            feeds: VecDeque::new(),
            next: 0,
        }
    }

    /// Whether no more sound to be heard may wait.
    pub(super) fn is_full(&self) -> bool {
        self.live_begins.len() + self.patient_begins.len() >= BOUND
    }

    /// Whether so much could be begun if nothing else were.
    pub(super) fn holds(&self, turn: Turn, slots: usize) -> bool {
        match turn {
            Turn::Live => slots <= self.slots - self.slots / 2,
            Turn::Patient => slots <= self.slots / 2,
        }
    }

    pub(super) fn handle_begin(&mut self, it: Beginning<B>) {
        let number = self.number();
        let line = match it.turn {
            Turn::Live => &mut self.live_begins,
            Turn::Patient => &mut self.patient_begins,
        };
        line.push_back(Waiting { number, what: it });
    }

    pub(super) fn handle_feed(&mut self, what: F) {
        let number = self.number();
        self.feeds.push_back(Waiting { number, what });
    }

    /// Slots are free again.
    pub(super) fn handle_release(&mut self, turn: Turn, slots: &[usize]) {
        if turn == Turn::Patient {
            self.patient -= slots.len();
        }
        self.free.extend(slots);
    }

    /// Nothing that waits will be done.
    pub(super) fn clear(&mut self) {
        self.live_begins.clear();
        self.patient_begins.clear();
        self.feeds.clear();
    }

    /// What the device does next; nothing where nothing waits, or all that waits needs slots.
    pub(super) fn poll(&mut self) -> Option<Batch<B, F>> {
        let feed = self.feeds.front().map(|it| it.number);
        let begin = self.next_begin().map(|it| it.0);
        match (begin, feed) {
            (None, None) => None,
            (Some(begin), Some(feed)) if feed < begin => Some(self.all_feeds()),
            (None, Some(_)) => Some(self.all_feeds()),
            (Some(_), _) => Some(self.some_begins()),
        }
    }

    /// Each holds a slot of its own, so they are never more than these.
    fn all_feeds(&mut self) -> Batch<B, F> {
        Batch::Feed(self.feeds.drain(..).map(|it| it.what).collect())
    }

    fn some_begins(&mut self) -> Batch<B, F> {
        let (mut begun, mut windows) = (Vec::new(), 0);
        while let Some((_, turn, more)) = self.next_begin()
            && (begun.is_empty() || windows + more <= TOGETHER)
        {
            let line = match turn {
                Turn::Live => &mut self.live_begins,
                Turn::Patient => &mut self.patient_begins,
            };
            let Some(it) = line.pop_front() else { break };
            let given: Vec<usize> = (0..it.what.slots())
                .map_while(|_| self.free.pop_first())
                .collect();
            if turn == Turn::Patient {
                self.patient += given.len();
            }
            windows += more;
            begun.push((given, it.what));
        }
        Batch::Begin(begun)
    }

    /// The oldest that there are slots for: its number, whose it is, and how many windows it has.
    fn next_begin(&self) -> Option<(u64, Turn, usize)> {
        let patient = self.patient_begins.front().map(|it| {
            let has_turn = self.patient + it.what.slots() <= self.slots / 2;
            (it, has_turn)
        });
        let kept = match &patient {
            Some((it, true)) => it.what.slots(),
            _ => 0,
        };
        let live = self
            .live_begins
            .front()
            .filter(|it| it.what.slots() + kept <= self.free.len());
        let patient = patient
            .filter(|(it, has_turn)| *has_turn && it.what.slots() <= self.free.len())
            .map(|it| it.0);
        let oldest = live.into_iter().chain(patient).min_by_key(|it| it.number)?;
        Some((oldest.number, oldest.what.turn, oldest.what.windows))
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Names = Queue<&'static str, &'static str>;

    fn begin(queue: &mut Names, turn: Turn, windows: usize, what: &'static str) {
        queue.handle_begin(Beginning {
            turn,
            windows,
            copies: 0,
            what,
        });
    }

    /// What goes next by name, with how many slots each was given.
    fn next(queue: &mut Names) -> Option<Vec<(&'static str, Vec<usize>)>> {
        Some(match queue.poll()? {
            Batch::Begin(it) => it.into_iter().map(|(slots, it)| (it.what, slots)).collect(),
            Batch::Feed(it) => it.into_iter().map(|it| (it, Vec::new())).collect(),
        })
    }

    #[test]
    fn the_oldest_goes_first_with_all_of_its_kind() {
        let mut queue = Names::new(24);
        queue.handle_feed("a");
        begin(&mut queue, Turn::Live, 1, "b");
        queue.handle_feed("c");
        begin(&mut queue, Turn::Patient, 4, "d");
        queue.handle_feed("e");
        let feeds = next(&mut queue).unwrap();
        assert_eq!(feeds.iter().map(|it| it.0).collect::<Vec<_>>(), ["a", "c", "e"]);
        let begun = next(&mut queue).unwrap();
        assert_eq!(begun, [("b", vec![0]), ("d", vec![1, 2, 3, 4])]);
        assert_eq!(next(&mut queue), None);
    }

    #[test]
    fn what_is_encoded_at_once_is_bounded_and_keeps_its_order() {
        let mut queue = Names::new(48);
        for name in ["a", "b", "c", "d", "e"] {
            begin(&mut queue, Turn::Patient, 3, name);
        }
        let names = |it: Option<Vec<(&'static str, Vec<usize>)>>| {
            it.unwrap().into_iter().map(|it| it.0).collect::<Vec<_>>()
        };
        assert_eq!(names(next(&mut queue)), ["a", "b"]);
        assert_eq!(names(next(&mut queue)), ["c", "d"]);
        assert_eq!(names(next(&mut queue)), ["e"]);
    }

    #[test]
    fn whole_recordings_leave_live_sound_its_half_and_get_theirs_in_the_end() {
        let mut queue = Names::new(24);
        begin(&mut queue, Turn::Patient, 8, "first");
        begin(&mut queue, Turn::Patient, 8, "second");
        assert_eq!(next(&mut queue).unwrap(), [("first", (0..8).collect())]);
        assert_eq!(next(&mut queue), None, "half would be exceeded");
        for number in 0..16 {
            begin(&mut queue, Turn::Live, 1, "live");
            let given = next(&mut queue).unwrap();
            assert_eq!(given, [("live", vec![8 + number])]);
        }
        begin(&mut queue, Turn::Live, 1, "late");
        assert_eq!(next(&mut queue), None, "nothing is free");
        queue.handle_feed("a step");
        assert_eq!(
            next(&mut queue).unwrap()[0].0,
            "a step",
            "who waits for a slot holds nobody up"
        );
        // What is freed belongs to the second recording from now on, which may begin once there is enough of it.
        queue.handle_release(Turn::Patient, &(0..8).collect::<Vec<_>>());
        assert_eq!(next(&mut queue).unwrap(), [("second", (0..8).collect())]);
        queue.handle_release(Turn::Live, &[8]);
        assert_eq!(next(&mut queue).unwrap(), [("late", vec![8])]);
    }

    #[test]
    fn a_recording_that_waits_is_not_passed_by_live_sound_for_ever() {
        let mut queue = Names::new(24);
        for _ in 0..20 {
            begin(&mut queue, Turn::Live, 1, "live");
        }
        while next(&mut queue).is_some() {}
        begin(&mut queue, Turn::Patient, 8, "whole");
        let (mut held, mut rounds): (Vec<usize>, usize) = ((0..20).collect(), 0);
        loop {
            rounds += 1;
            assert!(rounds < 20, "it never gets its slots");
            queue.handle_release(Turn::Live, &[held.remove(0)]);
            begin(&mut queue, Turn::Live, 1, "another");
            let given = next(&mut queue);
            if given.iter().flatten().any(|it| it.0 == "whole") {
                break;
            }
            held.extend(given.into_iter().flatten().flat_map(|it| it.1));
        }
    }

    #[test]
    fn the_queue_says_when_it_is_full_and_those_whom_it_waits_for_are_still_served() {
        let mut queue = Names::new(LEAST_SLOTS);
        for _ in 0..LEAST_SLOTS {
            begin(&mut queue, Turn::Live, 1, "served");
        }
        while next(&mut queue).is_some() {}
        for _ in 0..BOUND {
            assert!(!queue.is_full());
            begin(&mut queue, Turn::Live, 1, "waiting");
        }
        assert!(queue.is_full());
        for _ in 0..LEAST_SLOTS {
            queue.handle_feed("a step");
        }
        assert_eq!(next(&mut queue).unwrap().len(), LEAST_SLOTS);
        assert_eq!(next(&mut queue), None);
        queue.handle_release(Turn::Live, &[5]);
        assert_eq!(next(&mut queue).unwrap(), [("waiting", vec![5])]);
        assert!(!queue.is_full());
        assert!(queue.holds(Turn::Patient, 12));
        assert!(!queue.holds(Turn::Patient, 13));
    }
}
