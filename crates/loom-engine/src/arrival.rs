//! Sessions on their way into a recording: its first, and those that may take over from another.

use std::sync::Arc;
use std::time::Duration;

use loom_ingest::SessionEvent;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::gather::{Gathered, stopped};
use crate::recording::Inner;
use crate::take::Take;

/// A session that a recording may begin or go on with.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) take: Take,
    pub(crate) got: Gathered,
}

impl Arrival {
    /// Nothing has come of it yet.
    pub(crate) fn new(take: Take) -> Self {
        Self {
            got: Gathered::of(&take.session),
            take,
        }
    }

    /// Puts another into a place where one may wait already; that one is forgotten.
    pub(crate) fn replace(place: &mut Option<Self>, next: Self, recording: &Inner) {
        if let Some(before) = place.replace(next) {
            tracing::info!(recording = %recording.id, "a session that was to take over is replaced by another");
            recording.forget_session(before.take.session.id());
        }
    }

    /// Forgets one that ended before it could take over.
    pub(crate) fn forget_gone(place: &mut Option<Self>, recording: &Inner) {
        if let Some(gone) = place.take_if(|it| it.got.closed.is_some()) {
            tracing::info!(recording = %recording.id, "a session that was to take over is gone");
            recording.forget_session(gone.take.session.id());
        }
    }

    /// What the one in that place says next, if there is one. Cancellation safe.
    pub(crate) async fn next_event(place: &mut Option<Self>) -> Option<SessionEvent> {
        match place {
            Some(arrival) => arrival.take.session.recv().await,
            None => std::future::pending().await,
        }
    }

    /// What that event changes.
    pub(crate) fn handle_event(place: &mut Option<Self>, event: Option<SessionEvent>) {
        if let Some(arrival) = place {
            arrival.got.handle_event(event, Instant::now());
        }
    }
}

/// Waits until the recording's first session has shown what it brings. Gives it, and another that came meanwhile: that one
/// is to take over later, unless it has media where the first has none.
pub(crate) async fn first(
    recording: &Arc<Inner>,
    take: Take,
    later: &mut mpsc::Receiver<Take>,
) -> (Arrival, Option<Arrival>) {
    let mut first = Arrival::new(take);
    let mut next: Option<Arrival> = None;
    let mut stop = recording.stop.subscribe();
    let mut stopping = false;
    loop {
        let silent = first.got.began().is_none();
        let gone = first.got.closed.is_some();
        if silent && let Some(other) = next.take_if(|other| gone || other.got.began().is_some()) {
            tracing::info!(recording = %recording.id, "another session came, and the first has sent nothing");
            recording.settle_session(other.take.session.id());
            first = other;
            continue;
        }
        // who has ended has nothing more to say, and says so at once, again and again
        Arrival::forget_gone(&mut next, recording);
        let Some(late) = first.got.waits() else { break };
        tokio::select! {
            event = first.take.session.recv() => first.got.handle_event(event, Instant::now()),
            () = at(late) => first.got.give_up(),
            Some(take) = later.recv(), if !stopping => {
                Arrival::replace(&mut next, Arrival::new(take), recording);
            }
            event = Arrival::next_event(&mut next), if !stopping => Arrival::handle_event(&mut next, event),
            () = stopped(&mut stop), if !stopping => {
                stopping = true;
                next = None;
                first.take.session.handle().close();
            }
            () = tokio::time::sleep(DRAIN_LIMIT), if stopping => first.got.handle_event(None, Instant::now()),
        }
    }
    first.got.settle();
    (first, next)
}

/// How long a closed session may take to hand over what it has.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// Sleeps until then, or for ever.
pub(crate) async fn at(then: Option<Instant>) {
    match then {
        Some(then) => tokio::time::sleep_until(then).await,
        None => std::future::pending().await,
    }
}
