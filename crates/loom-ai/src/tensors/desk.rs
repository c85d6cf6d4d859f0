use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::memory::Need;
use super::place::Place;
use super::queue::{Batch, Beginning, LEAST_SLOTS, Queue};
use super::whisper::{Fed, Feed, Whisper};
use crate::decoder::Look;
use crate::limits::MAX_AT_ONCE;
use crate::network::{Alignment, Network, Turn};
use crate::weights::Checkpoint;
use crate::{AiError, Device};

/// Where sessions ask the thread that owns a device. Each caller waits for its answer; who comes with sound while the queue is full waits for
/// room in it. So a device that is too slow makes its callers late, as a processor does, and these say so: live captions lag and in the end leave
/// sound out, recordings take longer.
#[derive(Debug)]
pub(crate) struct Desk {
    shared: Arc<Shared>,
    facts: Facts,
    thread: Option<thread::JoinHandle<()>>,
}

/// What does not change once the model is loaded.
#[derive(Debug, Clone, Copy)]
struct Facts {
    device: Device,
    capacity: usize,
    alignment: Alignment,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// The thread waits here for work.
    work: Condvar,
    /// Callers wait here for room in the queue.
    room: Condvar,
}

#[derive(Debug)]
struct State {
    queue: Queue<Begin, Step>,
    /// Nobody will ask any more, or nobody will answer.
    closed: bool,
}

/// Windows to be heard.
#[derive(Debug)]
struct Begin {
    windows: Vec<Vec<f32>>,
    answer: SyncSender<Result<Begun, AiError>>,
}

/// The slots that they have, and how many positions each window has.
#[derive(Debug)]
struct Begun {
    grant: Arc<Grant>,
    positions: Vec<usize>,
}

/// Tokens to be fed.
#[derive(Debug)]
struct Step {
    feeds: Vec<Feed>,
    answer: SyncSender<Result<Vec<Fed>, AiError>>,
}

/// The slots that were given to one asking; they are free again when the last of its sessions is gone.
#[derive(Debug)]
struct Grant {
    shared: Arc<Shared>,
    turn: Turn,
    slots: Vec<usize>,
    spare: Mutex<Vec<usize>>,
}

/// However the thread ends, nobody waits for it any more.
struct Closing<'a>(&'a Shared);

/// One slot that some sessions hold.
#[derive(Debug)]
struct Lease {
    slot: usize,
    grant: Arc<Grant>,
}

/// One decode. A copy shares the slot until either is fed.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    lease: Arc<Lease>,
    positions: usize,
    len: usize,
    looks: Vec<Look>,
}

impl Desk {
    /// Opens the device that is wanted and loads the model there; nothing where the processor is to hear. The checkpoint comes back, without
    /// its weights where they are on the device.
    pub(crate) fn open(
        device: Device,
        name: &str,
        at_once: usize,
        checkpoint: Checkpoint,
    ) -> Result<(Option<Self>, Checkpoint), AiError> {
        if device == Device::Cpu {
            return Ok((None, checkpoint));
        }
        if !(LEAST_SLOTS..=MAX_AT_ONCE).contains(&at_once) {
            return Err(AiError::Config {
                field: "at_once",
                rule: "must be from 24 to 256",
            });
        }
        let name = name.to_owned();
        Self::start(at_once, checkpoint, move |checkpoint| {
            let need = Need::new(checkpoint.values_held(), &checkpoint.dims, at_once);
            Place::find(device, &name, at_once, &need)
        })
    }

    /// The least that there is of one, of candle's tensors on the processor.
    #[cfg(test)]
    pub(crate) fn on_processor(checkpoint: Checkpoint) -> Result<(Self, Checkpoint), AiError> {
        let find = |_: &Checkpoint| Ok(Some(Place::processor(None)));
        let (desk, checkpoint) = Self::start(LEAST_SLOTS, checkpoint, find)?;
        Ok((desk.unwrap(), checkpoint))
    }

    /// The same of a place that `find` opens on the thread that will own it.
    fn start(
        at_once: usize,
        mut checkpoint: Checkpoint,
        find: impl FnOnce(&Checkpoint) -> Result<Option<Place>, AiError> + Send + 'static,
    ) -> Result<(Option<Self>, Checkpoint), AiError> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                queue: Queue::new(at_once),
                closed: false,
            }),
            work: Condvar::new(),
            room: Condvar::new(),
        });
        let (tell, told) = sync_channel(1);
        let of_thread = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("loom-ai-device".to_owned())
            .spawn(move || {
                let ready = find(&checkpoint).and_then(|place| match place {
                    Some(place) => Whisper::take(&mut checkpoint, place, at_once).map(Some),
                    None => Ok(None),
                });
                let (whisper, facts) = match ready {
                    Ok(Some(it)) => {
                        let facts = Facts {
                            device: it.device(),
                            capacity: it.capacity(),
                            alignment: it.alignment(),
                        };
                        (Some(it), Ok(Some(facts)))
                    }
                    Ok(None) => (None, Ok(None)),
                    Err(why) => (None, Err(why)),
                };
                // Whoever loads waits for this.
                let _ = tell.send(facts.map(|facts| (facts, checkpoint)));
                if let Some(whisper) = whisper {
                    let _closing = Closing(&of_thread);
                    of_thread.serve(&whisper);
                }
            })
            .map_err(|why| AiError::Inference(Box::new(why)))?;
        let (facts, checkpoint) = told
            .recv()
            .map_err(|_| AiError::Inference("the device's thread panicked as it opened".into()))??;
        let desk = facts.map(|facts| Self {
            shared,
            facts,
            thread: Some(thread),
        });
        Ok((desk, checkpoint))
    }

    pub(crate) fn device(&self) -> Device {
        self.facts.device
    }

    /// Puts a request in the queue as soon as `full` lets it, and waits for its answer.
    fn ask<A>(
        &self,
        answer: &Receiver<Result<A, AiError>>,
        full: impl Fn(&Queue<Begin, Step>) -> bool,
        put: impl FnOnce(&mut Queue<Begin, Step>),
    ) -> Result<A, AiError> {
        let shared = &self.shared;
        let state = shared
            .room
            .wait_while(shared.lock(), |it| full(&it.queue) && !it.closed);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return Err(gone());
        }
        put(&mut state.queue);
        drop(state);
        shared.work.notify_one();
        answer.recv().map_err(|_| gone())?
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.shared.close();
        if let Some(thread) = self.thread.take() {
            // A panic there has been told of.
            let _ = thread.join();
        }
    }
}

fn gone() -> AiError {
    AiError::Inference("the device's thread has ended".into())
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whoever waits is told that nobody answers.
    fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.queue.clear();
        drop(state);
        self.work.notify_all();
        self.room.notify_all();
    }

    /// Does what is asked for until nobody asks any more.
    fn serve(self: &Arc<Self>, whisper: &Whisper) {
        while let Some(batch) = self.next() {
            match batch {
                Batch::Begin(it) => self.begin(whisper, it),
                Batch::Feed(it) => feed(whisper, it),
            }
        }
    }

    fn next(&self) -> Option<Batch<Begin, Step>> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(batch) = state.queue.poll() {
                self.room.notify_all();
                return Some(batch);
            }
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn begin(self: &Arc<Self>, whisper: &Whisper, batch: Vec<(Vec<usize>, Beginning<Begin>)>) {
        let grant = |(slots, it): (Vec<usize>, Beginning<Begin>)| {
            let grant = Grant {
                shared: Arc::clone(self),
                turn: it.turn,
                spare: Mutex::new(slots[it.windows..].to_vec()),
                slots,
            };
            (Arc::new(grant), it.what)
        };
        let batch: Vec<(Arc<Grant>, Begin)> = batch.into_iter().map(grant).collect();
        let heard = each_alone_if_not_together(&batch, |some| {
            let windows = some
                .iter()
                .flat_map(|(grant, it)| grant.slots.iter().zip(&it.windows));
            let windows: Vec<(usize, &[f32])> = windows.map(|(slot, it)| (*slot, it.as_slice())).collect();
            let mut positions = whisper.begin(&windows)?.into_iter();
            let each = some.iter();
            Ok(each
                .map(|(_, it)| positions.by_ref().take(it.windows.len()).collect())
                .collect())
        });
        for ((grant, it), heard) in batch.into_iter().zip(heard) {
            let begun = heard.map(|positions| Begun { grant, positions });
            // Who asked waits for this.
            let _ = it.answer.send(begun);
        }
    }
}

fn feed(whisper: &Whisper, batch: Vec<Step>) {
    let fed = each_alone_if_not_together(&batch, |some| {
        let feeds: Vec<Feed> = some.iter().flat_map(|it| it.feeds.iter().cloned()).collect();
        let mut fed = whisper.feed(&feeds)?.into_iter();
        let each = some.iter();
        Ok(each
            .map(|it| fed.by_ref().take(it.feeds.len()).collect::<Vec<_>>())
            .collect())
    });
    for (it, fed) in batch.into_iter().zip(fed) {
        // Who asked waits for this.
        let _ = it.answer.send(fed.and_then(|fed| sound(whisper, &it.feeds, fed)));
    }
}

/// The answers, if they are numbers. What is none spreads over all of a decode, so the first value of each row tells.
fn sound(whisper: &Whisper, feeds: &[Feed], fed: Vec<Fed>) -> Result<Vec<Fed>, AiError> {
    let each = fed.iter().zip(feeds);
    let ill = |(it, feed): (&Fed, &Feed)| {
        let row = (it.logits.len() / feed.wanted.len().max(1)).max(1);
        it.logits.iter().step_by(row).any(|it| !it.is_finite())
    };
    if !each.into_iter().any(ill) {
        return Ok(fed);
    }
    for it in feeds {
        whisper.wipe(it.slot)?;
    }
    Err(AiError::Inference(
        "the device made no numbers of this sound".into(),
    ))
}

/// What the device makes of all at once; where that fails, of each by itself, so that one which cannot be done hurts no other.
fn each_alone_if_not_together<T, A>(
    batch: &[T],
    device: impl Fn(&[T]) -> candle_core::Result<Vec<A>>,
) -> Vec<Result<A, AiError>> {
    let guarded = |some: &[T]| match catch_unwind(AssertUnwindSafe(|| device(some))) {
        Ok(done) => done.map_err(AiError::from),
        Err(_) => Err(AiError::Inference("a panic on the device's thread".into())),
    };
    match guarded(batch) {
        Ok(all) => all.into_iter().map(Ok).collect(),
        Err(why) if batch.len() == 1 => vec![Err(why)],
        Err(why) => {
            tracing::warn!(%why, "not done together on the device");
            let each = batch.iter().map(std::slice::from_ref);
            each.map(|it| guarded(it).and_then(|mut it| it.pop().ok_or_else(gone)))
                .collect()
        }
    }
}

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        self.shared.lock().queue.handle_release(self.turn, &self.slots);
        self.shared.work.notify_one();
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.grant.spare().push(self.slot);
    }
}

impl Grant {
    fn spare(&self) -> MutexGuard<'_, Vec<usize>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// What to feed; a slot of its own is taken where others share its slot.
    fn next(&mut self, tokens: &[u32], wanted: Vec<usize>) -> Result<Feed, AiError> {
        let mut copied = None;
        if Arc::strong_count(&self.lease) > 1 {
            let grant = Arc::clone(&self.lease.grant);
            let spare = grant.spare().pop();
            let slot = spare
                .ok_or_else(|| AiError::Inference("more copies of a decode than were asked for".into()))?;
            copied = Some(self.lease.slot);
            self.lease = Arc::new(Lease { slot, grant });
        }
        Ok(Feed {
            slot: self.lease.slot,
            copied,
            positions: self.positions,
            before: self.len,
            tokens: tokens.to_vec(),
            wanted,
        })
    }
}

impl Network for Desk {
    type Session = Session;

    fn begin(&self, turn: Turn, windows: Vec<Vec<f32>>, copies: usize) -> Result<Vec<Session>, AiError> {
        let count = windows.len();
        if !self.shared.lock().queue.holds(turn, count + copies) {
            return Err(AiError::Inference(
                "more windows at once than the device holds".into(),
            ));
        }
        let (answer, begun) = sync_channel(1);
        let begun = self.ask(&begun, Queue::is_full, |queue| {
            queue.handle_begin(Beginning {
                turn,
                windows: count,
                copies,
                what: Begin { windows, answer },
            });
        })?;
        let each = begun.grant.slots.iter().zip(begun.positions);
        Ok(each
            .map(|(&slot, positions)| Session {
                lease: Arc::new(Lease {
                    slot,
                    grant: Arc::clone(&begun.grant),
                }),
                positions,
                len: 0,
                looks: Vec::new(),
            })
            .collect())
    }

    fn feed(
        &self,
        sessions: &mut [&mut Session],
        tokens: &[u32],
        wanted: &[usize],
        logits: &mut Vec<f32>,
    ) -> Result<(), AiError> {
        let each = tokens.len() / sessions.len().max(1);
        let of = |index: usize| {
            let own = wanted.iter().filter_map(|it| it.checked_sub(index * each));
            own.filter(|it| *it < each).collect()
        };
        let feeds: Result<Vec<Feed>, AiError> = sessions
            .iter_mut()
            .zip(tokens.chunks_exact(each.max(1)))
            .enumerate()
            .map(|(index, (it, tokens))| it.next(tokens, of(index)))
            .collect();
        let (answer, fed) = sync_channel(1);
        let step = Step {
            feeds: feeds?,
            answer,
        };
        let fed = self.ask(&fed, |_| false, |queue| queue.handle_feed(step))?;
        logits.clear();
        for (session, fed) in sessions.iter_mut().zip(fed) {
            session.len += each;
            session.looks.extend(fed.looks);
            logits.extend(fed.logits);
        }
        Ok(())
    }

    fn truncate(&self, session: &mut Session, len: usize) {
        session.len = session.len.min(len);
        session.looks.truncate(session.len);
    }

    fn fed(&self, session: &Session) -> usize {
        session.len
    }

    fn looks<'a>(&self, session: &'a Session) -> &'a [Look] {
        &session.looks
    }

    fn capacity(&self) -> usize {
        self.facts.capacity
    }

    fn alignment(&self) -> Alignment {
        self.facts.alignment
    }
}
