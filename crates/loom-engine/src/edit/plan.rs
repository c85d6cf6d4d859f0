//! What a new recording is made of: which renditions the pieces have in common, and where each piece begins.

use std::time::Duration;

use loom_core::{MediaKind, MediaTime, Packet, RenditionId};
use loom_hls::stored::StoredTrack;
use loom_hls::{HlsError, RenditionInfo, RenditionKind};

use super::{Piece, PieceDescription, Placed};
use crate::error::EngineError;
use crate::event::{RecordingState, RenditionDescription, TrackDescription};
use crate::limits;
use crate::packaging::Declared;
use crate::packets::SegmentReader;
use crate::recording::Inner;
use crate::text;

/// What is to be made.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(super) pieces: Vec<Piece>,
    /// Those that all pieces have, the one first whose key frames say where pieces begin.
    pub(super) tracks: Vec<Track>,
}

/// A rendition of the new recording.
#[derive(Debug)]
pub(super) struct Track {
    pub(super) told: RenditionDescription,
    info: RenditionInfo,
    /// A quality of the main picture with key frames of its own.
    layer: bool,
    /// Its files in each of the pieces' recordings.
    pub(super) stored: Vec<StoredTrack>,
}

impl Plan {
    /// Looks whether a recording can be made of these. Blocks.
    pub(super) fn new(pieces: Vec<Piece>) -> Result<Self, EngineError> {
        let bad = |why: String| Err(EngineError::BadEdit(why));
        if pieces.is_empty() || pieces.len() > limits::PIECES {
            return bad(format!(
                "it has {} pieces; 1 to {} are taken, each with an end behind its beginning",
                pieces.len(),
                limits::PIECES
            ));
        }
        for piece in &pieces {
            let info = piece.recording.info();
            if info.state != RecordingState::Ready {
                return Err(EngineError::WrongState {
                    recording: info.id,
                    state: info.state,
                    why: "only what is ready can be edited",
                });
            }
            if piece.from < MediaTime::ZERO
                || piece.from >= piece.to
                || piece.from.secs_f64() >= info.duration
            {
                return bad(format!(
                    "of recording {}, which lasts {:.3} s, nothing lies from {:.3} to {:.3} s",
                    info.id,
                    info.duration,
                    piece.from.secs_f64(),
                    piece.to.secs_f64()
                ));
            }
        }
        let first = pieces[0].recording.info();
        let main = text::main_playlist(&pieces[0].recording.0)?;
        let mut tracks = Vec::new();
        for told in &first.renditions {
            let stored: Result<Option<Vec<StoredTrack>>, EngineError> = pieces
                .iter()
                .map(|piece| stored(&piece.recording.0, told))
                .collect();
            if let Some(stored) = stored? {
                tracks.push(Track {
                    info: declared(told, &main),
                    layer: false,
                    told: told.clone(),
                    stored,
                });
            }
        }
        for kind in [MediaKind::Video, MediaKind::Audio] {
            let has = |it: &RenditionDescription| it.kind == kind && it.playlist.is_none();
            for piece in &pieces {
                let info = piece.recording.info();
                if info.renditions.iter().any(has) && !tracks.iter().any(|it| has(&it.told)) {
                    let what = if kind == MediaKind::Video {
                        "pictures"
                    } else {
                        "sound"
                    };
                    return bad(format!(
                        "recording {} has {what}, and not all others have any of the same name and codec",
                        info.id
                    ));
                }
            }
        }
        // the main picture first, or the sound where there is none
        tracks.sort_by_key(|it| (it.told.playlist.is_some(), it.told.kind != MediaKind::Video));
        let Some(lead) = tracks.first().map(|it| it.told.id.clone()) else {
            return bad(format!("recording {} has neither pictures nor sound", first.id));
        };
        let main = first.tracks.iter().find(|it| it.renditions.contains(&lead));
        for track in &mut tracks {
            track.layer = track.told.kind == MediaKind::Video
                && track.told.playlist.is_none()
                && main.is_some_and(|main| !main.renditions.contains(&track.told.id));
        }
        let plan = Self { pieces, tracks };
        for nth in 0..plan.pieces.len() {
            plan.check_beginning(nth)?;
        }
        Ok(plan)
    }

    /// Whether the main picture has a key frame in a piece.
    fn check_beginning(&self, nth: usize) -> Result<(), EngineError> {
        let piece = &self.pieces[nth];
        let lead = &self.tracks[0];
        for segment in &lead.stored[nth].segments {
            if segment.gap || segment.end <= piece.from || segment.start >= piece.to {
                continue;
            }
            let packets = SegmentReader::default().read(&piece.recording.0, segment)?;
            if packets.iter().any(|it| begins(it, piece)) {
                return Ok(());
            }
        }
        Err(EngineError::BadEdit(format!(
            "in recording {} no key frame of {} lies from {:.3} to {:.3} s, and a piece begins at one",
            piece.recording.id(),
            lead.told.id,
            piece.from.secs_f64(),
            piece.to.secs_f64()
        )))
    }

    /// As the new recording tells it until it is made.
    pub(super) fn described(&self) -> Vec<PieceDescription> {
        let told = |piece: &Piece| PieceDescription {
            recording: piece.recording.id().clone(),
            from: piece.from.secs_f64(),
            to: piece.to.secs_f64(),
            at: None,
        };
        self.pieces.iter().map(told).collect()
    }

    /// As it tells it then.
    pub(super) fn placed(&self, placed: &[Placed]) -> Vec<PieceDescription> {
        let told = |it: &Placed| PieceDescription {
            recording: self.pieces[it.piece].recording.id().clone(),
            from: it.from.secs_f64(),
            to: it.to.secs_f64(),
            at: Some(it.at.secs_f64()),
        };
        placed.iter().map(told).collect()
    }

    pub(super) fn declared(&self) -> Vec<Declared> {
        let mut all: Vec<Declared> = self
            .tracks
            .iter()
            .map(|track| match (&track.told.playlist, track.layer) {
                (Some(_), _) => Declared::Aside(track.info.clone()),
                (None, true) => Declared::Layer(track.info.clone()),
                (None, false) => Declared::Main(track.info.clone()),
            })
            .collect();
        if self.captions() {
            all.extend(text::captions().map(Declared::Main));
        }
        all
    }

    pub(super) fn renditions(&self) -> Vec<RenditionDescription> {
        self.tracks.iter().map(|it| it.told.clone()).collect()
    }

    /// What came in, by the first piece.
    pub(super) fn tracks(&self) -> Vec<TrackDescription> {
        let mut tracks = self.pieces[0].recording.info().tracks;
        for track in &mut tracks {
            track
                .renditions
                .retain(|id| self.tracks.iter().any(|it| it.told.id == *id));
        }
        tracks
    }

    /// Whether any of the recordings has captions of what is said.
    pub(super) fn captions(&self) -> bool {
        let has = |piece: &Piece| {
            let id = RenditionId::new(text::CAPTIONS);
            id.is_some_and(|id| piece.recording.0.folder.path(&text::playlist(&id)).is_file())
        };
        self.pieces.iter().any(has)
    }

    /// The longest segment of the main picture.
    pub(super) fn longest_segment(&self) -> Duration {
        let segments = self.tracks[0].stored.iter().flat_map(|it| &it.segments);
        let media = segments.filter(|it| !it.gap);
        media.map(|it| it.end.since(it.start)).max().unwrap_or_default()
    }
}

/// Whether a piece can begin with this packet: times are told to a millisecond.
pub(super) fn begins(packet: &Packet, piece: &Piece) -> bool {
    packet.key && packet.pts + Duration::from_millis(1) > piece.from && packet.pts < piece.to
}

/// A rendition's files, where a recording has it in that codec.
fn stored(recording: &Inner, wanted: &RenditionDescription) -> Result<Option<StoredTrack>, EngineError> {
    let info = recording.info();
    let same = |it: &&RenditionDescription| {
        it.id == wanted.id
            && it.kind == wanted.kind
            && it.codec == wanted.codec
            && it.playlist == wanted.playlist
    };
    if !info.renditions.iter().any(|it| same(&it)) {
        return Ok(None);
    }
    let Some(playlist) = recording.folder.read(&text::playlist(&wanted.id), 0, None)? else {
        return Ok(None);
    };
    match StoredTrack::from_playlist(&wanted.id, &String::from_utf8_lossy(&playlist)) {
        Ok(track) if track.segments.iter().any(|it| !it.gap) => Ok(Some(track)),
        Ok(_) => Ok(None),
        Err(why @ HlsError::Stored { .. }) => Err(EngineError::BadEdit(format!(
            "recording {} cannot be edited: {why}",
            recording.id
        ))),
        Err(why) => Err(why.into()),
    }
}

/// What the packager must know of a rendition; what the recording's own description does not have, its playlist tells.
pub(crate) fn declared(told: &RenditionDescription, main: &str) -> RenditionInfo {
    let own = text::playlist(&told.id);
    let own = own.trim_start_matches("hls/");
    let lines: Vec<&str> = main.lines().collect();
    let kind = match told.kind {
        MediaKind::Video => {
            let at = lines
                .iter()
                .position(|line| line.ends_with(own) && !line.starts_with('#'));
            let variant = at.and_then(|at| lines.get(at.checked_sub(1)?));
            let rate =
                variant.and_then(|line| line.split_once("FRAME-RATE=")?.1.split(',').next()?.parse().ok());
            RenditionKind::Video {
                width: told.width.unwrap_or(0),
                height: told.height.unwrap_or(0),
                frame_rate: rate.unwrap_or(0.0),
            }
        }
        MediaKind::Audio => {
            let uri = format!("URI=\"{own}\"");
            let listed = lines.iter().find(|line| line.contains(&uri));
            let said = |name: &str| listed.and_then(|line| line.split_once(name)?.1.split('"').next());
            let channels = said("CHANNELS=\"").and_then(|it| it.parse().ok());
            RenditionKind::Audio {
                name: said(",NAME=\"").unwrap_or(&told.codec).to_owned(),
                language: said(",LANGUAGE=\"").map(str::to_owned),
                channels: channels.unwrap_or(2),
            }
        }
    };
    RenditionInfo {
        id: told.id.clone(),
        kind,
        bandwidth: told.bandwidth,
    }
}
