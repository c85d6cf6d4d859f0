//! A recording that is paused: its publisher may stay, go, or come back meanwhile, and nothing of what comes is recorded.

use std::sync::Arc;
use std::time::Duration;

use loom_core::{Media, MediaKind, MediaTime, Packet, TrackFormat, TrackId};
use loom_ingest::SessionEvent;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Rested, Running, SETTLE};
use crate::arrival::at;
use crate::edges::Edges;
use crate::error::EngineError;
use crate::event::TrackState;
use crate::gather::{Gathered, stopped};
use crate::life::Step;
use crate::recording::Inner;
use crate::take::{self, Placement, Take};

impl Running {
    /// Lets the recording rest until it is to go on, and goes on with the session that is there then, if one is.
    pub(super) async fn rest(
        &mut self,
        recording: &Arc<Inner>,
        later: &mut mpsc::Receiver<Take>,
    ) -> Result<Rested, EngineError> {
        // what the graph still has of the take is there soon
        tokio::time::sleep(SETTLE).await;
        self.packaging.pause().await?;
        tracing::info!(recording = %recording.id, "the recording is paused");
        recording.happened(Step::Rested);
        // the newest format of each track of the session, where it has changed
        let mut formats: Vec<TrackFormat> = Vec::new();
        let mut alive = true;
        if let Some(waiting) = self.candidate.take() {
            self.change_session(recording, waiting.take);
        }
        let over = Instant::now() + recording.shared.config.longest_pause;
        let (mut stop, mut rest) = (recording.stop.subscribe(), recording.rest.subscribe());
        loop {
            tokio::select! {
                // who came before it was to go on is who it goes on with
                biased;
                () = stopped(&mut stop) => {
                    self.session.handle().close();
                    return Ok(Rested::Stopped);
                }
                Some(next) = later.recv() => {
                    self.change_session(recording, next);
                    formats.clear();
                    alive = true;
                }
                resumed = rest.wait_for(|rest| !*rest) => {
                    if resumed.is_ok() {
                        break;
                    }
                }
                () = tokio::time::sleep_until(over) => {
                    self.session.handle().close();
                    return Ok(Rested::TooLong);
                }
                event = self.session.recv(), if alive => match event {
                    Some(SessionEvent::Media(Media::Format(format))) => {
                        formats.retain(|it| it.track != format.track);
                        formats.push(format);
                    }
                    Some(SessionEvent::Paused(track)) => self.note(recording, track, TrackState::Paused),
                    Some(SessionEvent::Resumed(track)) => self.note(recording, track, TrackState::Running),
                    Some(SessionEvent::Closed(why)) => {
                        tracing::info!(recording = %recording.id, %why, "the publisher goes while the recording is paused");
                        alive = false;
                    }
                    Some(_) => {}
                    None => alive = false,
                },
            }
        }
        metrics::counter!("loom_resumes_total").increment(1);
        if alive && self.session.is_pushed() {
            // nothing comes before the host knows that it goes on
            recording.happened(Step::Ran);
        }
        let got = match alive {
            true => self.gather_again(recording, formats, later).await,
            false => None,
        };
        let Some((got, theirs, began)) = got else {
            let to = self.packaging.resume(self.line(Instant::now())).await?;
            self.shift_zero(Instant::now(), to);
            self.edges = Edges::new(&self.formats);
            let stopping = recording.is_stopping();
            if !stopping {
                recording.happened(Step::Vanished);
            }
            return Ok(if stopping { Rested::Stopped } else { Rested::Alone });
        };
        let to = self.packaging.resume(self.line(began)).await?;
        self.shift_zero(began, to);
        tracing::info!(recording = %recording.id, at = %to, "the recording goes on");
        self.begin_take(got, theirs, to);
        recording.happened(Step::Ran);
        self.tell_tracks(recording);
        Ok(Rested::Resumed)
    }

    /// Where media time would be by now, if it had not stood still.
    fn line(&self, now: Instant) -> MediaTime {
        MediaTime::ZERO + now.duration_since(self.zero)
    }

    /// From here on the instant `now` is `to` on the recording's line.
    fn shift_zero(&mut self, now: Instant, to: MediaTime) {
        self.zero += self.line(now).since(to);
    }

    /// Another session takes over from the one that is there, before anything of it is recorded.
    fn change_session(&mut self, recording: &Inner, next: Take) {
        tracing::info!(recording = %recording.id, "another session takes the publisher's place during a pause");
        self.session.handle().close();
        let placement = Placement::onto(&self.own_tracks(), &self.known, next.session.tracks());
        self.take_up(recording, next.session, placement);
        self.tell_tracks(recording);
        recording.settle_session(self.session.id());
    }

    /// Waits until each track that runs has something to go on with, pictures with a key frame. Gives that, its earliest instant, and when
    /// it came; `None` where nothing does: the session is gone, or the recording is to end.
    async fn gather_again(
        &mut self,
        recording: &Arc<Inner>,
        changed: Vec<TrackFormat>,
        later: &mut mpsc::Receiver<Take>,
    ) -> Option<(Gathered, MediaTime, Instant)> {
        let (formats, awaited, stands) = self.expected(recording, &changed);
        let mut got = Gathered::again(formats, &awaited);
        let mut held: Vec<Media> = changed.into_iter().map(Media::Format).collect();
        let mut keyed: Vec<TrackId> = Vec::new();
        let mut stop = recording.stop.subscribe();
        let mut ask = tokio::time::interval(ASK_AGAIN);
        let asked = Instant::now();
        loop {
            // where nothing is known to run, whatever comes first will do
            let late = match got.waits() {
                Some(late) => late.map(|late| {
                    if stands {
                        late.min(asked + STILL_LIMIT)
                    } else {
                        late
                    }
                }),
                None if got.began().is_none() && got.closed.is_none() => None,
                None => break,
            };
            tokio::select! {
                () = stopped(&mut stop) => return None,
                Some(next) = later.recv() => self.consider(recording, next),
                _ = ask.tick() => {
                    let pictures = awaited.iter().filter(|(track, kind)| *kind == MediaKind::Video && !keyed.contains(track));
                    for (track, _) in pictures {
                        self.session.handle().request_key_frame(*track);
                    }
                }
                () = at(late) => got.give_up(),
                event = self.session.recv() => {
                    if let Some(SessionEvent::Media(Media::Packet(packet))) = &event
                        && !keyed.contains(&packet.track)
                    {
                        if !packet.key || self.is_before(packet, asked) {
                            continue;
                        }
                        keyed.push(packet.track);
                    }
                    match event {
                        Some(SessionEvent::Paused(track)) => self.note(recording, track, TrackState::Paused),
                        Some(SessionEvent::Resumed(track)) => self.note(recording, track, TrackState::Running),
                        event => got.handle_event(event, Instant::now()),
                    }
                }
            }
        }
        let theirs = take::earliest(&got.held)?;
        let began = got.began()?;
        held.append(&mut got.held);
        got.held = held;
        Some((got, theirs, began))
    }

    /// Whether a packet of the session was sent before that instant, and was only held up on its way.
    fn is_before(&self, packet: &Packet, instant: Instant) -> bool {
        let clock = self.session.handle().clock();
        let clock = clock.filter(|_| instant.elapsed() < HELD_UP);
        clock.is_some_and(|clock| {
            let passed = instant.into_std().saturating_duration_since(clock.arrived);
            packet.pts < MediaTime::ZERO + passed
        })
    }

    /// The formats of the session's tracks that are recorded, which of these are to be waited for (the main picture, and what runs), and
    /// whether that picture has stood still of late.
    fn expected(
        &self,
        recording: &Inner,
        changed: &[TrackFormat],
    ) -> (Vec<TrackFormat>, Vec<(TrackId, MediaKind)>, bool) {
        let info = recording.info();
        let further = self.further.iter().map(|it| (it.track, &it.codec));
        let main = self.formats.iter().map(|it| (it.track, &it.codec));
        let (mut formats, mut awaited, mut stands) = (changed.to_vec(), Vec::new(), false);
        for (at, (ours, codec)) in main.chain(further).enumerate() {
            let Some(theirs) = self.placement.theirs(ours) else {
                continue;
            };
            if formats.iter().all(|it| it.track != theirs) {
                formats.push(TrackFormat {
                    track: theirs,
                    codec: codec.clone(),
                });
            }
            let known = self.known.iter().find(|it| it.id == ours);
            let told = info
                .tracks
                .iter()
                .find(|told| known.is_some_and(|known| told.is(known)));
            let runs = told.is_some_and(|told| told.state == TrackState::Running);
            let is_main_picture = at < self.formats.len() && codec.kind() == MediaKind::Video;
            if runs && !self.silent.contains(&ours) || is_main_picture {
                awaited.push((theirs, codec.kind()));
            }
            stands |= is_main_picture && !runs;
        }
        (formats, awaited, stands)
    }
}

/// A picture that stands still comes within this when it is asked for; one that does not is muted, and holds up nothing.
const STILL_LIMIT: Duration = Duration::from_millis(1_500);

/// Nothing is held up for longer on its way; what seems to be is of a clock that stood still.
const HELD_UP: Duration = Duration::from_secs(1);

/// Pictures are asked for a key frame this often.
const ASK_AGAIN: Duration = Duration::from_millis(400);
