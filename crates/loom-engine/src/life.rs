//! A recording's life, as a pure machine: what may be asked of it and what may happen to it in each state, and what comes of that. Whoever
//! holds it asks one step at a time, so two callers at once are one behind the other; the second is told that nothing changed.
//!
//! ```text
//! created ─▶ live ⇄ paused ─────▶ processing ─▶ ready
//!    │        ⇅       ⇅               ▲
//!    │     reconnecting ──────────────┤          any ─▶ failed, deleted
//!    └───────── (a file) ─────────────┘
//! ```

use crate::event::RecordingState;

/// What is asked of a recording, or has happened to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// A publisher comes; whether one that comes later could be taken.
    Publish { later: bool },
    /// A file comes, or pieces of others.
    Import,
    /// It is to rest.
    Pause,
    /// It is to go on.
    Resume,
    /// It is to end.
    Stop,
    /// Whoever runs it is to end it, whoever wants that: the engine ends, or it cannot go on.
    Halt,
    /// The file is not wanted any more.
    Cancel,
    /// Nobody has come to it in time: so it says.
    Expire(String),
    /// All of it is to go.
    Delete,
    /// Its publisher's media comes.
    Ran,
    /// Its publisher is away, and waited for.
    Vanished,
    /// It rests.
    Rested,
    /// All media is on disk under complete playlists.
    Completed,
    /// So is all that it waited for after that.
    Done,
    /// How it came to its end, where that was not by anybody's will.
    Ended(String),
    /// Nothing comes of it, and why.
    Failed(String),
}

/// Why a step cannot be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Somebody publishes to it, or has done so.
    Taken,
    /// Its state forbids it: this is why.
    State(&'static str),
}

/// Where a recording is in its life, and what is wanted of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Life {
    state: RecordingState,
    reason: Option<String>,
    /// It is made of a file, or of pieces of others.
    is_import: bool,
    complete: bool,
    wish: Wish,
}

/// What is wanted of whoever runs it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    /// To end it.
    pub(crate) stop: bool,
    /// To let it rest.
    pub(crate) rest: bool,
    /// To give up what is being made.
    pub(crate) cancel: bool,
}

impl Life {
    /// One that was found in that state, or has just begun in `created`.
    pub(crate) fn new(state: RecordingState, reason: Option<String>, is_import: bool) -> Self {
        Self {
            state,
            reason,
            is_import,
            complete: state.is_final(),
            wish: Wish::default(),
        }
    }

    pub(crate) fn state(&self) -> RecordingState {
        self.state
    }

    pub(crate) fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Whether all media is on disk under complete playlists, or no more will come.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    pub(crate) fn wish(&self) -> Wish {
        self.wish
    }

    /// Takes a step; gives whether it changed anything.
    pub(crate) fn handle(&mut self, step: Step) -> Result<bool, Refused> {
        use RecordingState::{Created, Failed, Live, Paused, Processing, Ready, Reconnecting};
        let before = self.clone();
        match (step, self.state) {
            (Step::Publish { .. }, Created) => self.state = Live,
            (Step::Publish { later: true }, now) if now.is_live() && !self.wish.stop => {}
            (Step::Import, Created) => (self.state, self.is_import) = (Processing, true),
            (Step::Publish { .. } | Step::Import, Failed | RecordingState::Deleted) => {
                return Err(Refused::State("make a new recording"));
            }
            (Step::Publish { .. } | Step::Import, _) => return Err(Refused::Taken),

            (Step::Pause, now) if now.is_live() => self.wish.rest = true,
            (Step::Resume, now) if now.is_live() => self.wish.rest = false,
            (Step::Pause | Step::Resume, _) => {
                return Err(Refused::State(
                    "only what is being recorded can be paused and resumed",
                ));
            }

            (Step::Stop, Created) => self.fail("it was stopped before anything was recorded".to_owned()),
            (Step::Stop, now) if now.is_live() => self.wish.stop = true,
            // a file is processed to its end; what has ended has ended
            (Step::Stop, _) => {}
            (Step::Halt, _) => self.wish.stop = true,
            (Step::Cancel, Processing) if self.is_import => {
                self.wish.cancel = true;
                self.fail("it was cancelled".to_owned());
            }
            (Step::Cancel, Failed) if self.wish.cancel => {}
            (Step::Cancel, _) => {
                return Err(Refused::State(
                    "only a file that is being processed can be cancelled",
                ));
            }
            (Step::Expire(why), Created) => self.fail(why),
            (Step::Expire(_), _) => {}
            (Step::Delete, _) => {
                (self.wish.stop, self.wish.cancel, self.complete) = (true, true, true);
                self.state = RecordingState::Deleted;
                self.reason = None;
            }

            (Step::Ran, Live | Reconnecting | Paused) => self.state = Live,
            (Step::Vanished, Live | Reconnecting | Paused) => self.state = Reconnecting,
            (Step::Rested, Live | Reconnecting | Paused) => self.state = Paused,
            (Step::Completed, Live | Reconnecting | Paused | Processing) => {
                (self.state, self.complete) = (Processing, true);
            }
            (Step::Done, Processing) if self.complete => self.state = Ready,
            (Step::Ended(why), now) if !now.is_final() => self.reason = Some(why),
            (Step::Failed(why), now) if !now.is_final() => self.fail(why),
            // what comes too late changes nothing
            (
                Step::Ran
                | Step::Vanished
                | Step::Rested
                | Step::Completed
                | Step::Done
                | Step::Ended(_)
                | Step::Failed(_),
                _,
            ) => {}
        }
        Ok(*self != before)
    }

    fn fail(&mut self, why: String) {
        (self.state, self.reason, self.complete) = (RecordingState::Failed, Some(why), true);
    }
}

#[cfg(test)]
mod tests {
    use super::RecordingState::{Created, Deleted, Failed, Live, Paused, Processing, Ready, Reconnecting};
    use super::*;

    const STATES: [RecordingState; 8] = [
        Created,
        Live,
        Reconnecting,
        Paused,
        Processing,
        Ready,
        Failed,
        Deleted,
    ];

    fn steps() -> Vec<Step> {
        let why = || "a test says so".to_owned();
        vec![
            Step::Publish { later: true },
            Step::Publish { later: false },
            Step::Import,
            Step::Pause,
            Step::Resume,
            Step::Stop,
            Step::Halt,
            Step::Cancel,
            Step::Expire(why()),
            Step::Delete,
            Step::Ran,
            Step::Vanished,
            Step::Rested,
            Step::Completed,
            Step::Done,
            Step::Ended(why()),
            Step::Failed(why()),
        ]
    }

    /// Every life there can be: states, origins, wishes, with and without all media.
    fn lives() -> Vec<Life> {
        let mut lives = Vec::new();
        for state in STATES {
            for bits in 0..32_u8 {
                let bit = |nth: u8| bits >> nth & 1 == 1;
                let mut life = Life::new(state, None, bit(0));
                life.complete |= bit(1) && state == Processing;
                life.wish = Wish {
                    stop: bit(2),
                    rest: bit(3),
                    cancel: bit(4) && state.is_final(),
                };
                lives.push(life);
            }
        }
        lives
    }

    /// What comes of each step, in the order of [`steps`], in each state, of a recording that came from a publisher, is not complete, and of
    /// which nothing is wanted yet. A letter is the state that follows, `.` that it stays, `T` that somebody publishes already, `X` that the
    /// state forbids it.
    const TABLE: [(RecordingState, &str); 8] = [
        (Created, "LLGXXF.XFD......F"),
        (Live, ".TT....X.D.RPG..F"),
        (Reconnecting, ".TT....X.DL.PG..F"),
        (Paused, ".TT....X.DLR.G..F"),
        (Processing, "TTTXX..X.D......F"),
        (Ready, "TTTXX..X.D......."),
        (Failed, "XXXXX..X.D......."),
        (Deleted, "XXXXX..X........."),
    ];

    fn letter(state: RecordingState) -> char {
        match state {
            Created => 'C',
            Live => 'L',
            Reconnecting => 'R',
            Paused => 'P',
            Processing => 'G',
            Ready => 'Y',
            Failed => 'F',
            Deleted => 'D',
        }
    }

    /// The table's letter, and what it does not tell: where wishes, origin and media count.
    fn expected(life: &Life, nth: usize) -> char {
        let step = &steps()[nth];
        match step {
            Step::Publish { later: true } if life.state.is_live() && life.wish.stop => 'T',
            Step::Cancel if life.state == Processing && life.is_import => 'F',
            Step::Cancel if life.state == Failed && life.wish.cancel => '.',
            Step::Done if life.state == Processing && life.complete => 'Y',
            _ => {
                let row = TABLE.iter().find(|(state, _)| *state == life.state);
                row.and_then(|(_, row)| row.chars().nth(nth)).expect("a letter")
            }
        }
    }

    #[test]
    fn each_step_in_each_state_leads_where_it_should() {
        let mut taken = 0;
        for life in lives() {
            for (nth, step) in steps().into_iter().enumerate() {
                let mut after = life.clone();
                let came = match after.handle(step.clone()) {
                    Ok(changed) => {
                        assert_eq!(changed, after != life, "{step:?} of {life:?}");
                        match after.state == life.state {
                            true => '.',
                            false => letter(after.state),
                        }
                    }
                    Err(refused) => {
                        assert_eq!(after, life, "what is refused changes nothing");
                        if refused == Refused::Taken { 'T' } else { 'X' }
                    }
                };
                assert_eq!(came, expected(&life, nth), "{step:?} of {life:?}");
                assert!(after.complete >= life.complete, "{step:?} of {life:?}");
                assert!(after.complete || !after.state.is_final(), "{step:?} of {life:?}");
                taken += 1;
            }
        }
        assert_eq!(taken, 8 * 32 * 17);
    }

    #[test]
    fn of_two_callers_who_ask_the_same_one_changes_something_and_neither_is_told_otherwise() {
        for life in lives() {
            for step in steps() {
                let mut it = life.clone();
                let first = it.handle(step.clone());
                let between = it.clone();
                let second = it.handle(step.clone());
                assert_eq!(it, between, "{step:?} twice of {life:?}");
                match (&step, first) {
                    // nobody else may come to what is to end
                    (Step::Publish { later: true }, Ok(true)) if life.wish.stop => {
                        assert_eq!(second, Err(Refused::Taken), "{step:?} of {life:?}");
                    }
                    // there is one publisher, and one file
                    (Step::Publish { later: false } | Step::Import, Ok(true)) => {
                        assert_eq!(second, Err(Refused::Taken), "{step:?} of {life:?}");
                    }
                    (_, Ok(_)) => assert_eq!(second, Ok(false), "{step:?} of {life:?}"),
                    (_, refused) => assert_eq!(second, refused, "{step:?} of {life:?}"),
                }
            }
        }
    }

    #[test]
    fn a_wish_is_kept_until_it_is_taken_back() {
        let mut life = Life::new(Live, None, false);
        assert_eq!(life.handle(Step::Pause), Ok(true));
        assert!(
            life.wish().rest && life.state() == Live,
            "whoever runs it tells when it rests"
        );
        assert_eq!(life.handle(Step::Rested), Ok(true));
        assert_eq!(life.handle(Step::Resume), Ok(true));
        assert!(!life.wish().rest && life.state() == Paused);
        assert_eq!(life.handle(Step::Vanished), Ok(true), "nobody is there to go on");
        assert_eq!(life.handle(Step::Stop), Ok(true));
        assert_eq!(life.handle(Step::Ended("nobody came back".to_owned())), Ok(true));
        assert_eq!(life.handle(Step::Done), Ok(false), "its media is not complete");
        assert_eq!(life.handle(Step::Completed), Ok(true));
        assert_eq!(life.handle(Step::Done), Ok(true));
        assert_eq!((life.state(), life.reason()), (Ready, Some("nobody came back")));
    }

    #[test]
    fn what_is_over_stays_so_and_what_is_deleted_stays_deleted() {
        for over in [Ready, Failed, Deleted] {
            for step in steps() {
                let mut life = Life::new(over, Some("as it was".to_owned()), true);
                let _ = life.handle(step.clone());
                let stays = life.state == over && (life.reason() == Some("as it was") || over == Deleted);
                assert!(stays || life.state == Deleted, "{step:?} of {over}");
            }
        }
    }
}
