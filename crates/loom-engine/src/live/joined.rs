//! What joined publishers send becomes further tracks of the recording, beside those of its own publisher.

use std::sync::Arc;

use loom_core::{MediaKind, TrackId};
use loom_ingest::TrackInfo;
use tokio::sync::mpsc;
use tracing::{Instrument, debug_span};

use super::{Ended, Running};
use crate::event::TrackState;
use crate::id::PublisherName;
use crate::joined::{Line, Runs, Said, Word};
use crate::levels::Sound;
use crate::recording::Inner;
use crate::source::SourceHandle;
use crate::take::{Placement, Take};

/// One who has joined, and may have gone again.
pub(super) struct Beside {
    name: PublisherName,
    session: String,
    handle: SourceHandle,
    /// How its session's tracks fit into the recording.
    placement: Placement,
    /// The recording's tracks that are its own, through all its sessions.
    own: Vec<TrackId>,
}

impl Running {
    /// Feeds the graph until the session of the recording's own publisher is over, and so long takes in what the joined send.
    pub(super) async fn follow_take(
        &mut self,
        recording: &Arc<Inner>,
        later: &mut mpsc::Receiver<Take>,
    ) -> Ended {
        self.take_number += 1;
        recording.joiners.tell(Line::Runs(Arc::new(Runs {
            take: self.take_number,
            own: self.session.handle(),
            zero: self.session_zero,
            shift: self.placement.shift(),
        })));
        let stage = debug_span!("take", recording = %recording.id, number = self.take_number);
        let ended = self.follow_session(recording, later).instrument(stage).await;
        recording.joiners.tell(Line::Rests);
        ended
    }

    /// Takes in what one who has joined says.
    pub(super) async fn hear(&mut self, recording: &Arc<Inner>, word: Word) {
        let Word { session, take, said } = word;
        if let Said::Came { name, handle, tracks } = said {
            return self.welcome(recording, session, name, handle, &tracks);
        }
        let Some(at) = self.beside.iter().position(|it| it.session == session) else {
            return; // another has its place by now
        };
        let placement = &self.beside[at].placement;
        match said {
            Said::Media(media) if take == self.take_number => {
                if let Some(media) = placement.place(media) {
                    self.take_in(recording, media).await;
                }
            }
            Said::Track(theirs, state) => {
                if let Some(ours) = placement.ours(theirs) {
                    self.describe(recording, ours, |track| track.state = state);
                }
            }
            Said::Gone => {
                for ours in self.beside[at].own.clone() {
                    self.describe(recording, ours, |track| track.state = TrackState::Paused);
                }
            }
            Said::Media(_) | Said::Came { .. } => {}
        }
    }

    /// Makes room for the tracks of one who joins, or finds those that it had before.
    fn welcome(
        &mut self,
        recording: &Inner,
        session: String,
        name: PublisherName,
        handle: SourceHandle,
        tracks: &[TrackInfo],
    ) {
        // sections of two publishers may have the same name
        let named = |track: &TrackInfo| TrackInfo {
            mid: format!("{name}:{}", track.mid),
            ..track.clone()
        };
        let tracks: Vec<_> = tracks.iter().map(named).collect();
        let before = self.beside.iter().position(|it| it.name == name);
        let mut own = before.map_or_else(Vec::new, |at| self.beside.remove(at).own);
        let places: Vec<_> = self
            .known
            .iter()
            .filter(|it| own.contains(&it.id))
            .cloned()
            .collect();
        let mut placement = Placement::onto(&places, &self.known, &tracks);
        let added = placement.take_added();
        own.extend(added.iter().map(|track| track.id));
        self.known.extend(added);
        for ours in &own {
            let state = match placement.theirs(*ours) {
                Some(_) => TrackState::Running,
                None => TrackState::Paused,
            };
            self.describe(recording, *ours, |track| track.state = state);
        }
        self.beside.push(Beside {
            name,
            session,
            handle,
            placement,
            own,
        });
        self.tell_sounds(recording);
    }

    /// Tells whose sound comes in.
    pub(super) fn tell_sounds(&self, recording: &Inner) {
        let sounds = self.known.iter().filter(|track| track.kind == MediaKind::Audio);
        let sent = sounds.filter_map(|track| {
            let beside = self.beside.iter().find(|it| it.own.contains(&track.id));
            let (placement, handle) = match beside {
                Some(beside) => (&beside.placement, beside.handle.clone()),
                None => (&self.placement, self.session.handle()),
            };
            Some(Sound {
                mid: track.mid.clone(),
                publisher: beside.map(|it| it.name.clone()),
                handle,
                theirs: placement.theirs(track.id)?,
                is_main: self.formats.iter().any(|it| it.track == track.id),
            })
        });
        recording.levels.set(sent.collect());
    }

    /// The recording's tracks but for those of who has joined.
    pub(super) fn own_tracks(&self) -> Vec<TrackInfo> {
        let own = |track: &&TrackInfo| self.publisher_of(track.id).is_none();
        self.known.iter().filter(own).cloned().collect()
    }

    /// Who has joined and brought that track.
    pub(super) fn publisher_of(&self, track: TrackId) -> Option<&PublisherName> {
        let beside = self.beside.iter().find(|it| it.own.contains(&track));
        beside.map(|it| &it.name)
    }

    /// Asks whoever sends a track for a key frame.
    pub(super) fn request_key_frame(&self, ours: TrackId) {
        if let Some(theirs) = self.placement.theirs(ours) {
            self.session.handle().request_key_frame(theirs);
        }
        for beside in &self.beside {
            if let Some(theirs) = beside.placement.theirs(ours) {
                beside.handle.request_key_frame(theirs);
            }
        }
    }
}
