//! The pieces' packets on their way to the packager of the new recording, a segment of all renditions at a time.

use loom_core::{CodecParameters, MediaKind, MediaTime, Packet};
use tokio::runtime::Handle;

use super::Placed;
use super::plan::{Plan, begins};
use crate::error::EngineError;
use crate::event::{Event, RecordingState};
use crate::packaging::{Packaging, Work};
use crate::packets::SegmentReader;
use crate::recording::Inner;

/// Hands all pieces over; gives where they lie. A piece that has a gap, or was paused, comes as several. Blocks.
pub(super) fn feed(
    recording: &Inner,
    plan: &Plan,
    packaging: &Packaging,
) -> Result<Vec<Placed>, EngineError> {
    let mut feed = Feed {
        recording,
        plan,
        packaging,
        readers: (0..plan.tracks.len()).map(|_| SegmentReader::default()).collect(),
        told: vec![None; plan.tracks.len()],
        placed: Vec::new(),
    };
    for nth in 0..plan.pieces.len() {
        feed.piece(nth)?;
        feed.readers.fill_with(SegmentReader::default); // another recording's files may have the same names
        recording.events.tell(Event::Progress {
            stage: "media",
            fraction: (nth + 1) as f32 / plan.pieces.len() as f32,
        });
    }
    Ok(feed.placed)
}

struct Feed<'a> {
    recording: &'a Inner,
    plan: &'a Plan,
    packaging: &'a Packaging,
    /// One for each rendition.
    readers: Vec<SegmentReader>,
    /// The format that the packager has of each.
    told: Vec<Option<CodecParameters>>,
    placed: Vec<Placed>,
}

impl Feed<'_> {
    fn piece(&mut self, nth: usize) -> Result<(), EngineError> {
        let piece = &self.plan.pieces[nth];
        let lead = &self.plan.tracks[0].stored[nth].segments;
        let mut running = false;
        let mut gap = false;
        // which renditions have had a key frame since the piece began
        let mut started = vec![false; self.plan.tracks.len()];
        for segment in lead {
            if segment.end <= piece.from {
                continue;
            }
            if segment.start >= piece.to {
                break;
            }
            if segment.gap {
                (running, gap) = (false, gap || self.placed.last().is_some_and(|it| it.piece == nth));
                continue;
            }
            if self.recording.state_now() != RecordingState::Processing {
                return Err(EngineError::NotReady(
                    "the recording was ended while it was made".to_owned(),
                ));
            }
            running &= !segment.discontinuity;
            let mut all: Vec<(usize, Packet)> = Vec::new();
            for at in 0..self.plan.tracks.len() {
                let stored = &self.plan.tracks[at].stored[nth].segments;
                let own = stored.binary_search_by_key(&segment.number, |it| it.number);
                let Some(own) = own.ok().map(|own| &stored[own]).filter(|own| !own.gap) else {
                    continue;
                };
                let packets = self.readers[at].read(&piece.recording.0, own)?;
                all.extend(packets.into_iter().map(|packet| (at, packet)));
            }
            if !running {
                let first = all.iter().find(|(at, packet)| *at == 0 && begins(packet, piece));
                let Some((_, first)) = first else { continue };
                let from = first.pts;
                let at = self.begin(nth, from, gap)?;
                self.placed.push(Placed {
                    piece: nth,
                    from,
                    to: from,
                    at,
                });
                started.fill(false);
                (running, gap) = (true, false);
            }
            self.send(all, piece.to, &mut started)?;
        }
        Ok(())
    }

    /// Goes on behind what was there before; gives where.
    fn begin(&mut self, nth: usize, from: MediaTime, gap: bool) -> Result<MediaTime, EngineError> {
        let Some(last) = self.placed.last().copied() else {
            return Ok(MediaTime::ZERO);
        };
        let runtime = Handle::current();
        if gap && last.piece == nth {
            // nobody published: that is so in the new recording too
            let wanted = last.at + from.since(last.from);
            let (end, at) = runtime.block_on(self.packaging.go_on(wanted))?;
            self.recording.declare_gap(end, at);
            return Ok(at);
        }
        runtime.block_on(self.packaging.pause())?;
        runtime.block_on(self.packaging.resume(MediaTime::ZERO))
    }

    /// Hands over what lies in the piece, in order of decoding.
    fn send(
        &mut self,
        mut all: Vec<(usize, Packet)>,
        to: MediaTime,
        started: &mut [bool],
    ) -> Result<(), EngineError> {
        let Some(placed) = self.placed.last_mut() else {
            return Ok(());
        };
        // pictures that begin before the end may need some behind it, but none that are decoded later
        let mut last = vec![None; self.plan.tracks.len()];
        for (nth, (at, packet)) in all.iter().enumerate() {
            let seen = match self.plan.tracks[*at].told.kind {
                MediaKind::Video => packet.pts,
                MediaKind::Audio => middle(packet),
            };
            if seen < to {
                last[*at] = Some(nth);
            }
        }
        let mut nth = 0;
        all.retain(|(at, packet)| {
            let here = nth;
            nth += 1;
            if last[*at].is_none_or(|last| here > last) {
                return false;
            }
            match self.plan.tracks[*at].told.kind {
                MediaKind::Video => {
                    started[*at] |= packet.key && packet.pts + SLACK >= placed.from;
                    started[*at]
                }
                MediaKind::Audio => middle(packet) >= placed.from,
            }
        });
        all.sort_by_key(|(_, packet)| packet.dts);
        let nanos = placed.at.signed_since(placed.from);
        for (at, mut packet) in all {
            let id = &self.plan.tracks[at].told.id;
            let codec = self.readers[at].codec();
            if self.told[at].as_ref() != codec
                && let Some(codec) = codec.cloned()
            {
                self.told[at] = Some(codec.clone());
                self.packaging.send_blocking(Work::Format(id.clone(), codec));
            }
            placed.to = placed.to.max(packet.pts + packet.duration.unwrap_or_default());
            let moved = |at: MediaTime| MediaTime::from_nanos(at.nanos().saturating_add(nanos));
            (packet.pts, packet.dts) = (moved(packet.pts), moved(packet.dts));
            self.packaging.send_blocking(Work::Packet(id.clone(), packet));
        }
        Ok(())
    }
}

fn middle(packet: &Packet) -> MediaTime {
    packet.pts + packet.duration.unwrap_or_default() / 2
}

/// The same instant in two renditions' clocks.
const SLACK: std::time::Duration = std::time::Duration::from_millis(1);
