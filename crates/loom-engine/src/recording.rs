use std::collections::{BTreeMap, VecDeque};
#[cfg(feature = "ingest")]
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

#[cfg(feature = "hls")]
use bytes::Bytes;
#[cfg(feature = "hls")]
use http::StatusCode;
use loom_ai::{Brief, Segment, Transcript};
use loom_core::{Cue, CueId, MediaTime};
use loom_hls::progressive::Layout;
use loom_hls::{Chapters, DateRange, Publish, TextCue, TimedMetadata};
use loom_ingest::ReceptionStats;
#[cfg(feature = "ingest")]
use loom_ingest::SessionHandle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use crate::download::{self, Download, DownloadChoice};
use crate::engine::Shared;
use crate::error::EngineError;
#[cfg(feature = "transcode")]
use crate::event::CompositionDescription;
use crate::event::{ChapterDescription, Event, Events, GapDescription, RecordingInfo, RecordingState, Told};
use crate::event_log::EventLog;
use crate::folder::{Folder, PREVIEW, SOURCE};
use crate::gather::stopped;
use crate::id::{PublisherName, RecordingId};
#[cfg(feature = "transcode")]
use crate::import;
use crate::jobs::{self, JobDescription, JobKind, Jobs};
use crate::joined::{Joiners, Line};
use crate::levels::{LevelDescription, Levels};
use crate::life::{Life, Refused, Step};
#[cfg(feature = "ingest")]
use crate::live;
#[cfg(feature = "hls")]
use crate::origin::{self, Live};
use crate::packaging::Work;
#[cfg(feature = "transcode")]
use crate::preview::Preview;
use crate::push::{self, PushTrack, Pusher};
use crate::source::SourceHandle;
use crate::store::{self, Blob, Sending, StorageClass};
use crate::take::Take;
use crate::text::{self, Given};
#[cfg(not(feature = "hls"))]
use crate::unwatched::Live;
use crate::versions::TranscriptVersion;

/// A handle to one recording. Clones are handles to the same one; dropping them ends nothing.
///
/// A second of Opus that the host pushes, from its beginning to its stream:
///
/// ```
/// use loom_engine::{Engine, EngineConfig, HlsAnswer, MediaTime, PushTrack, RecordingId, RecordingState};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let mut config = EngineConfig { data_dir: folder.path().into(), ..EngineConfig::default() };
/// # config.captions.enabled = false;
/// # config.ingest.udp = ([127, 0, 0, 1], 0).into();
/// let engine = Engine::start(config).await?;
/// let recording = engine.create(RecordingId::random())?;
/// let pusher = recording.push(vec![PushTrack::Opus { channels: 2 }]).await?;
/// for number in 0..50 {
///     let at = MediaTime::from_millis(number * 20);
///     pusher.packet(0, at, at, vec![0xfc, 0xff, 0xfe].into())?; // 20 ms of silence
/// }
/// pusher.finish();
/// let mut events = recording.events();
/// while let Some(event) = events.next().await {
///     println!("{event:?}"); // the last tells that it is ready
/// }
/// assert_eq!(recording.info().state, RecordingState::Ready);
/// assert!(matches!(recording.hls("main.m3u8", None).await, HlsAnswer::Ready { .. }));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Recording(pub(crate) Arc<Inner>);

/// What a WHIP client gets back (RFC 9725 §4.2).
#[must_use = "the WHIP client waits for it"]
#[cfg(feature = "ingest")]
#[derive(Debug, Clone)]
pub struct PublishAnswer {
    /// The SDP answer.
    pub sdp: String,
    /// Names the session; the last component of the WHIP resource's URL.
    pub session: String,
    /// The entity tag of the ICE session, without quotes.
    pub etag: String,
    /// What a WHIP client's `PATCH` is for (RFC 9725 §4.3).
    pub handle: SessionHandle,
}

/// What the recording's HLS origin says to a request.
///
/// What a server that has no types of the crate `http` makes of it:
///
/// ```
/// use loom_engine::{HlsAnswer, Recording};
///
/// async fn status_and_body(recording: &Recording, path: &str, query: Option<&str>) -> (u16, Vec<u8>) {
///     match recording.hls(path, query).await {
///         HlsAnswer::Ready { body, .. } => (200, body.to_vec()),
///         HlsAnswer::Part { body, .. } => (206, body.to_vec()),
///         HlsAnswer::OutOfRange { .. } => (416, Vec::new()),
///         HlsAnswer::NotFound => (404, Vec::new()),
///         HlsAnswer::BadRequest(why) => (400, why.into()),
///         HlsAnswer::Unavailable(why) => (503, why.into()),
///     }
/// }
/// ```
#[must_use]
#[cfg(feature = "hls")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HlsAnswer {
    /// The resource.
    Ready {
        /// Its media type.
        content_type: &'static str,
        /// How long a cache may keep it (`Cache-Control`).
        cache_control: &'static str,
        /// Its bytes.
        body: Bytes,
    },
    /// Those of its bytes that a range named (status 206).
    Part {
        /// Its media type.
        content_type: &'static str,
        /// How long a cache may keep it (`Cache-Control`).
        cache_control: &'static str,
        /// The place of the first of these bytes among all.
        first: u64,
        /// How many bytes there are in all; `None` where nobody knows yet, of a segment that is being made.
        total: Option<u64>,
        /// The bytes, at least one.
        body: Bytes,
    },
    /// It has no bytes where the range lies (status 416).
    OutOfRange {
        /// How many bytes there are, where that is known.
        total: Option<u64>,
    },
    /// There is no such resource.
    NotFound,
    /// The request breaks the specification.
    BadRequest(String),
    /// It did not come in time; ask again.
    Unavailable(String),
}

/// What the recording's own tasks and its handles share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) id: RecordingId,
    pub(crate) shared: Arc<Shared>,
    pub(crate) folder: Folder,
    /// What viewers ask.
    pub(crate) live: Live,
    pub(crate) events: EventLog,
    /// Counts the steps to the recording's end; who waits for that is woken by it.
    pub(crate) published: watch::Sender<u64>,
    /// Set once somebody wants the recording to end.
    pub(crate) stop: watch::Sender<bool>,
    /// Set once nobody wants the file that is being processed.
    pub(crate) cancel: watch::Sender<bool>,
    /// Whether somebody wants it to rest.
    pub(crate) rest: watch::Sender<bool>,
    /// The publishers beside its own.
    pub(crate) joiners: Joiners,
    /// How loud what comes in is.
    pub(crate) levels: Levels,
    state: Mutex<State>,
    /// Text and chapters are changed by one caller at a time, and none of them while it is deleted.
    pub(crate) text: tokio::sync::Mutex<()>,
    /// The download that was asked for last.
    download: tokio::sync::Mutex<Option<(DownloadChoice, Arc<Layout>)>>,
    /// How far it is on its way to the store.
    pub(crate) sending: Sending,
    /// What is done for it once it has ended.
    pub(crate) jobs: Jobs,
    /// Whoever makes one picture of its screen and camera holds this, and whoever deletes it.
    #[cfg(feature = "transcode")]
    pub(crate) composing: tokio::sync::Mutex<()>,
    /// The pictures of its preview, from its end until that is made.
    #[cfg(feature = "transcode")]
    pub(crate) moments: Mutex<Option<Preview>>,
}

#[derive(Debug)]
struct State {
    /// As `life` has it, in state and reason.
    info: RecordingInfo,
    life: Life,
    /// The session whose media is recorded, and those that may take over from it.
    sessions: Vec<SourceHandle>,
    /// The way of later sessions to whoever runs the recording.
    takes: Option<mpsc::Sender<Take>>,
    /// The way to whoever packages it.
    packaging: Option<mpsc::WeakSender<Work>>,
    chapters: Chapters,
    cues: BTreeMap<CueId, Cue>,
    transcript: Option<Arc<Transcript>>,
    brief: Option<Arc<Brief>>,
    /// The versions of the final transcript.
    versions: Vec<TranscriptVersion>,
    /// When somebody last did something with it.
    touched: Instant,
}

impl State {
    fn set_transcript(&mut self, transcript: Arc<Transcript>) {
        let cues = transcript.to_cues().into_iter();
        self.cues = cues.map(|cue| (cue.id, cue)).collect();
        self.transcript = Some(transcript);
    }
}

impl Recording {
    /// Its name.
    pub fn id(&self) -> &RecordingId {
        &self.0.id
    }

    /// How it stands.
    pub fn info(&self) -> RecordingInfo {
        self.0.state().info.clone()
    }

    /// How it stands, and then what happens to it.
    pub fn events(&self) -> Events {
        let state = self.0.state();
        let (live, number) = self.0.events.follow();
        let info = &state.info;
        let mut snapshot = VecDeque::new();
        if !info.tracks.is_empty() {
            snapshot.push_back(Event::Tracks {
                tracks: info.tracks.clone(),
            });
        }
        if !info.renditions.is_empty() {
            snapshot.push_back(Event::Renditions {
                renditions: info.renditions.clone(),
            });
        }
        if !info.joined.is_empty() {
            snapshot.push_back(Event::Joined {
                joined: info.joined.clone(),
            });
        }
        if !state.chapters.marks().is_empty() {
            snapshot.push_back(text::event(&state.chapters));
        }
        snapshot.extend(state.cues.values().cloned().map(Event::Caption));
        snapshot.push_back(info.state_event());
        Events {
            first: snapshot.into_iter().map(|event| Told { number, event }).collect(),
            live,
            recording: self.0.clone(),
            number: None,
            ended: false,
        }
    }

    /// What was told after the event of that number ([`Events::number`]), and then what happens: for who was cut off. Where that is too
    /// long ago, as [`Self::events`].
    pub fn events_after(&self, number: u64) -> Events {
        let Some((first, live)) = self.0.events.follow_after(number) else {
            return self.events();
        };
        let nothing = first.is_empty();
        Events {
            first,
            live,
            recording: self.0.clone(),
            number: Some(number),
            ended: nothing && self.0.state_now().is_final(),
        }
    }

    /// Answers a WHIP client's offer; its media is recorded from then on. While the recording is live, or its vanished publisher
    /// is waited for, the new session takes over from the old one and goes on with the recording behind a declared gap, unless
    /// [`reconnect_window`](crate::EngineConfig::reconnect_window) is zero.
    ///
    /// Cancellation: there is a session, or nothing has happened.
    ///
    /// # Errors
    /// [`EngineError::BadOffer`] where the offer cannot be answered (the recording stays as it was),
    /// [`EngineError::AlreadyPublished`] where it takes no other publisher any more, [`EngineError::Full`] at the limit of live recordings,
    /// [`EngineError::DiskFull`] where it would begin on a full disk.
    #[cfg(feature = "ingest")]
    pub async fn publish(&self, offer: &str) -> Result<PublishAnswer, EngineError> {
        self.publish_from(offer, None).await
    }

    /// As [`Recording::publish`], for an offer that came from an address, whose sessions are counted
    /// ([`max_sessions_per_address`](crate::IngestConfig::max_sessions_per_address)).
    ///
    /// Cancellation: there is a session, or nothing has happened.
    ///
    /// # Errors
    /// As [`Recording::publish`].
    #[cfg(feature = "ingest")]
    pub async fn publish_from(
        &self,
        offer: &str,
        from: Option<IpAddr>,
    ) -> Result<PublishAnswer, EngineError> {
        live::publish(&self.0, offer, from).await
    }

    /// Answers the offer of another publisher, who joins the recording beside its own, such as a telephone's camera beside a screen. What it
    /// sends becomes further tracks of the recording, on the one timeline: where RTCP sender reports say that it was captured, if both
    /// publishers' clocks agree with ours, else where it came, less half the way ([`AlignedBy`](crate::AlignedBy)). It may come before the
    /// recording's own publisher, go, and come back under its name: that begins, holds up and ends nothing. While the recording is paused or
    /// its own publisher is away, nothing of it is recorded. At most four publishers join a recording.
    ///
    /// Cancellation: there is a session, or nothing has happened.
    ///
    /// # Errors
    /// [`EngineError::BadOffer`] where the offer cannot be answered, [`EngineError::WrongState`] where the recording has ended,
    /// [`EngineError::Crowded`] where too many have joined.
    #[cfg(feature = "ingest")]
    pub async fn join(&self, name: PublisherName, offer: &str) -> Result<PublishAnswer, EngineError> {
        self.join_from(name, offer, None).await
    }

    /// As [`Recording::join`], for an offer that came from an address, whose sessions are counted
    /// ([`max_sessions_per_address`](crate::IngestConfig::max_sessions_per_address)).
    ///
    /// Cancellation: there is a session, or nothing has happened.
    ///
    /// # Errors
    /// As [`Recording::join`].
    #[cfg(feature = "ingest")]
    pub async fn join_from(
        &self,
        name: PublisherName,
        offer: &str,
        from: Option<IpAddr>,
    ) -> Result<PublishAnswer, EngineError> {
        live::join(&self.0, name, offer, from).await
    }

    /// Ends the session of a publisher that has joined, where it is there. It may come back.
    pub fn part(&self, name: &PublisherName) {
        self.0.joiners.close(name, None);
    }

    /// Begins a take whose media the host pushes itself, as a publisher would: live, and with all that follows of that. It may also go on
    /// with what a publisher, or another pusher, has begun.
    ///
    /// Cancellation: the take has begun and ends at once, or nothing has happened.
    ///
    /// # Errors
    /// [`EngineError::BadPush`] where the tracks will not do, else as [`Recording::publish`].
    pub async fn push(&self, tracks: Vec<PushTrack>) -> Result<Pusher, EngineError> {
        push::push(&self.0, tracks).await
    }

    /// As [`Self::push`], of a publisher that joins the recording beside its own, as by [`Self::join`]: its first packet lies where the recording
    /// is when it comes.
    ///
    /// Cancellation: the take has begun and ends at once, or nothing has happened.
    ///
    /// # Errors
    /// [`EngineError::BadPush`] where the tracks will not do, else as [`Recording::join`].
    pub async fn push_beside(
        &self,
        name: PublisherName,
        tracks: Vec<PushTrack>,
    ) -> Result<Pusher, EngineError> {
        push::push_beside(&self.0, name, tracks).await
    }

    /// How good the road from the publisher is whose media is recorded; `None` where nobody publishes by WebRTC.
    pub fn reception(&self) -> Option<ReceptionStats> {
        let session = self.0.state().sessions.first().cloned()?;
        session.stats()
    }

    /// How good the road from a publisher is that has joined; `None` where it is not there, or pushes.
    pub fn joined_reception(&self, name: &PublisherName) -> Option<ReceptionStats> {
        self.0.joiners.publisher(name)?.stats()
    }

    /// How loud each sound is that comes in now: where its publisher tells (RFC 6464), else, of the main sound, where it is decoded for captions.
    /// What is known of no other way is left out. Cheap; nothing is measured for those who do not ask but what comes by the way.
    pub fn levels(&self) -> Vec<LevelDescription> {
        match self.0.state_now() {
            RecordingState::Live => self.0.levels.now(),
            _ => Vec::new(),
        }
    }

    /// The publisher's session of that name, for what a WHIP client's `PATCH` asks (RFC 9725 §4.3).
    ///
    /// # Errors
    /// [`EngineError::NoSuchSession`].
    #[cfg(feature = "ingest")]
    pub fn session(&self, session: &str) -> Result<SessionHandle, EngineError> {
        let state = self.0.state();
        let mut publishers = state.sessions.iter().filter_map(SourceHandle::session);
        let found = publishers.find(|it| it.id().as_str() == session).cloned();
        let found = found.or_else(|| self.0.joiners.session(session));
        found.ok_or_else(|| self.no_session(session))
    }

    /// Who publishes in that session: a publisher that has joined, by its name, or `None` for the recording's own.
    ///
    /// # Errors
    /// [`EngineError::NoSuchSession`].
    pub fn publisher(&self, session: &str) -> Result<Option<PublisherName>, EngineError> {
        if self.0.state().sessions.iter().any(|it| it.id() == session) {
            return Ok(None);
        }
        let joined = self.0.joiners.name(session).map(Some);
        joined.ok_or_else(|| self.no_session(session))
    }

    /// Ends the publisher's session, as a WHIP client's DELETE asks (RFC 9725 §4.2); the recording is finished. Where another
    /// session has come to go on with it, or it is that of a publisher that has joined, only this one ends.
    ///
    /// # Errors
    /// [`EngineError::NoSuchSession`].
    pub fn hang_up(&self, session: &str) -> Result<(), EngineError> {
        if self.0.joiners.hang_up(session) {
            return Ok(());
        }
        let mut state = self.0.state();
        let Some(place) = state.sessions.iter().position(|it| it.id() == session) else {
            return Err(self.no_session(session));
        };
        // Of a vanished publisher's sessions the newest is the one that counts.
        let newest = place + 1 == state.sessions.len();
        let waited_for = state.info.state == RecordingState::Reconnecting;
        if state.sessions.len() == 1 || newest && waited_for {
            state.sessions.clear();
            drop(state);
            self.0.happened(Step::Halt);
            return Ok(());
        }
        let handle = state.sessions.remove(place);
        drop(state);
        handle.close();
        Ok(())
    }

    fn no_session(&self, session: &str) -> EngineError {
        EngineError::NoSuchSession {
            recording: self.0.id.clone(),
            session: session.to_owned(),
        }
    }

    /// Tells that somebody is about to use it, such as an upload under way: a recording that nobody uses fails after
    /// [`unused_after`](crate::EngineConfig::unused_after), counted from here.
    pub fn touch(&self) {
        self.0.state().touched = Instant::now();
    }

    /// Takes a media file over and processes it as a live recording would be: it is moved into the recording's folder, and deleted at the
    /// end. Where the process ends before that, the next engine goes on with it.
    ///
    /// Returns once the file was recognised; the state is `processing` then.
    ///
    /// Cancellation: the file is processed all the same; [`Self::cancel`] gives it up.
    ///
    /// # Errors
    /// [`EngineError::BadMedia`] where it is no media Loom can read; the recording is `failed` with that reason then.
    #[cfg(feature = "transcode")]
    pub async fn import(&self, file: PathBuf) -> Result<(), EngineError> {
        import::import(&self.0, file).await
    }

    /// Gives up a file that is being processed: the recording is `failed` at once, and what was made of it stays until it is deleted. A
    /// stretch of sound that is being transcribed is transcribed to its end, and thrown away.
    ///
    /// # Errors
    /// [`EngineError::WrongState`] where no file is being processed. To cancel what was cancelled is no error.
    pub fn cancel(&self) -> Result<(), EngineError> {
        self.0.ask(Step::Cancel).map(drop)
    }

    /// Ends the recording. Returns when its playlists are complete. To stop what has ended is no error.
    ///
    /// Cancellation: what was asked for is done all the same.
    ///
    /// # Errors
    /// [`EngineError::NotReady`] where the recording could not be completed in time.
    pub async fn stop(&self) -> Result<(), EngineError> {
        let mut published = self.0.published.subscribe();
        let began = Instant::now();
        let live = self.0.state_now().is_live();
        self.0.ask(Step::Stop)?;
        let deadline = began + STOP_LIMIT;
        // a file is processed to its end; what has ended has ended
        while self.0.state_now().is_live() && !self.0.is_complete() {
            let late = || EngineError::NotReady(format!("recording {} is still being completed", self.0.id));
            timeout_at(deadline, published.changed())
                .await
                .map_err(|_| late())?
                .map_err(|_| late())?;
        }
        if live {
            metrics::histogram!("loom_stop_seconds").record(began.elapsed().as_secs_f64());
        }
        Ok(())
    }

    /// Pauses it: what its publisher sends from here on is not recorded, and media time stands still until [`Self::resume`]. The publisher
    /// may stay connected, go, or come back meanwhile; viewers are told, and see what there is. Returns once it rests. To pause what
    /// is paused is no error. A recording that rests for [`longest_pause`](crate::EngineConfig::longest_pause) is finished.
    ///
    /// Cancellation: what was asked for is done all the same.
    ///
    /// # Errors
    /// [`EngineError::WrongState`] where it has not begun or has ended.
    pub async fn pause(&self) -> Result<(), EngineError> {
        self.set_rest(true).await
    }

    /// Goes on after [`Self::pause`], at the instant of media time at which it was paused, behind a discontinuity (RFC 8216bis §4.4.4.3).
    /// Where the publisher has gone it is waited for as long as one that vanished. Returns once that is so. To resume what is not paused is
    /// no error.
    ///
    /// Cancellation: what was asked for is done all the same.
    ///
    /// # Errors
    /// [`EngineError::WrongState`] where it has not begun or has ended; [`EngineError::NotReady`] where nothing came of the publisher within
    /// 20 s, as of one that has muted all it sends: it is `paused` until the first that comes, and goes on with that.
    pub async fn resume(&self) -> Result<(), EngineError> {
        self.set_rest(false).await
    }

    async fn set_rest(&self, wanted: bool) -> Result<(), EngineError> {
        let (mut events, _) = self.0.events.follow();
        let step = || if wanted { Step::Pause } else { Step::Resume };
        self.0.ask(step())?;
        let deadline = Instant::now() + STOP_LIMIT;
        loop {
            // who has changed it back meanwhile has had the last word
            match self.0.state_now() {
                now if (now == RecordingState::Paused) == wanted && now.is_live() => return Ok(()),
                now if now.is_live() && *self.0.rest.borrow() != wanted => return Ok(()),
                now if now.is_live() => {}
                // it has ended meanwhile, and says so
                _ => return self.0.ask(step()).map(drop),
            }
            if timeout_at(deadline, events.recv()).await.is_err() {
                let why = format!("recording {} is still being paused or resumed", self.0.id);
                return Err(EngineError::NotReady(why));
            }
        }
    }

    /// Answers a request for `path` below the recording's HLS folder, such as `main.m3u8`. A blocking playlist reload
    /// or part request (RFC 8216bis §6.2.5.2) is held until it can be answered. Cancellation safe.
    #[cfg(feature = "hls")]
    pub async fn hls(&self, path: &str, query: Option<&str>) -> HlsAnswer {
        self.asked(path, query, None).await
    }

    /// As [`Self::hls`], for the bytes that a request's `Range` names (RFC 9110 §14.2), such as `bytes=0-99`. One that is malformed, of another
    /// unit or of several parts is ignored. Of a segment that is being made, a range without an end is answered once that is whole.
    ///
    /// Cancellation safe.
    #[cfg(feature = "hls")]
    pub async fn hls_range(&self, path: &str, query: Option<&str>, range: &str) -> HlsAnswer {
        self.asked(path, query, Some(range)).await
    }

    #[cfg(feature = "hls")]
    async fn asked(&self, path: &str, query: Option<&str>, range: Option<&str>) -> HlsAnswer {
        match origin::collect(&self.0, path, query, range).await {
            Ok(whole) => {
                let (content_type, cache_control) = (whole.about.content_type, whole.about.cache_control);
                match whole.part {
                    None => HlsAnswer::Ready {
                        content_type,
                        cache_control,
                        body: whole.body,
                    },
                    Some((first, total)) => HlsAnswer::Part {
                        content_type,
                        cache_control,
                        first,
                        total,
                        body: whole.body,
                    },
                }
            }
            Err(no) => match no.status {
                StatusCode::RANGE_NOT_SATISFIABLE => HlsAnswer::OutOfRange { total: no.total },
                StatusCode::BAD_REQUEST => HlsAnswer::BadRequest(no.detail),
                StatusCode::SERVICE_UNAVAILABLE => HlsAnswer::Unavailable(no.detail),
                _ => HlsAnswer::NotFound,
            },
        }
    }

    /// Says in every media playlist that a span of media time is something, such as a chapter; again with the same id, that more is
    /// known of it (RFC 8216bis §4.4.5.1).
    ///
    /// Cancellation: it is said all the same, or not at all.
    ///
    /// # Errors
    /// [`EngineError::Package`] where it breaks a rule; [`EngineError::NotReady`] where the recording has not begun, or nothing of it
    /// is packaged any more.
    pub async fn add_date_range(&self, range: DateRange) -> Result<(), EngineError> {
        self.0.ask_packaging(|done| Work::DateRange(range, done)).await
    }

    /// Has players told something when playback comes to an instant, live and later: an ID3 tag in the media itself (`emsg`), which
    /// hls.js hands out as `FRAG_PARSING_METADATA`.
    ///
    /// Cancellation: they are told all the same, or not at all.
    ///
    /// # Errors
    /// [`EngineError::Package`] where it is no ID3 tag, is too long, or too many wait for their instants; [`EngineError::NotReady`] where
    /// the recording has not begun, or nothing of it is packaged any more.
    pub async fn add_metadata(&self, metadata: TimedMetadata) -> Result<(), EngineError> {
        self.0.ask_packaging(|done| Work::Metadata(metadata, done)).await
    }

    /// The transcript: the final one once it is written; before, what has been said so far. `None` without captions.
    pub fn transcript(&self) -> Option<Arc<Transcript>> {
        let state = self.0.state();
        if state.transcript.is_some() || state.cues.is_empty() {
            return state.transcript.clone();
        }
        Some(Arc::new(so_far(&state.cues, state.info.duration)))
    }

    /// Subtitles of a language (BCP 47), such as a translation: `cues` are all there are, in place of those before. While the recording is
    /// live, segments that are out are written anew; once it is complete, the language is listed where it was not. `name` is shown
    /// to viewers; without, the language's own name is. Files are read by [`read_cues`](crate::read_cues).
    ///
    /// Cancellation: they are put, or not at all.
    ///
    /// # Errors
    /// [`EngineError::BadText`] for what is no language tag, [`EngineError::WrongState`] for the language of live captions while
    /// these are being written, [`EngineError::NotReady`] where the recording has not begun.
    pub async fn put_captions(
        &self,
        language: &str,
        name: Option<&str>,
        cues: Vec<TextCue>,
    ) -> Result<(), EngineError> {
        text::give(&self.0, language, name, cues, Given::Whole).await
    }

    /// More cues of a language, while the recording is live: one with the id of an earlier one of the language takes its place. A cue that
    /// comes after its segment has ended is put into the next.
    ///
    /// Cancellation: they are added, or not at all.
    ///
    /// # Errors
    /// As [`Recording::put_captions`]; [`EngineError::WrongState`] once the recording is complete.
    pub async fn add_captions(&self, language: &str, cues: Vec<TextCue>) -> Result<(), EngineError> {
        text::give(&self.0, language, None, cues, Given::More).await
    }

    /// Marks where a chapter begins; without `at`, where the recording is now. It is in `chapters.vtt` and `chapters.json` of the
    /// stream, and, where the recording has dates, in its playlists (`EXT-X-DATERANGE` of class `com.loom.chapter`).
    ///
    /// Cancellation: it may be marked in part then; mark it again, which is no error.
    ///
    /// # Errors
    /// [`EngineError::BadText`] where the title or the time will not do or another chapter begins there,
    /// [`EngineError::NotReady`] where the recording has not begun.
    pub async fn mark(&self, at: Option<MediaTime>, title: &str) -> Result<ChapterDescription, EngineError> {
        text::mark(&self.0, at, title).await
    }

    /// The chapters, in order of time.
    pub fn chapters(&self) -> Vec<ChapterDescription> {
        self.0.chapters().marks().iter().map(text::describe).collect()
    }

    /// The chapters as a WebVTT chapters track; `None` where there are none.
    pub fn chapters_track(&self) -> Option<String> {
        let chapters = self.0.chapters();
        let end = MediaTime::from_secs_f64(self.info().duration);
        let any = !chapters.marks().is_empty();
        any.then(|| chapters.to_webvtt(self.0.is_complete().then_some(end)))
    }

    /// The poster, a JPEG file, once there is one.
    pub fn poster(&self) -> Option<PathBuf> {
        let path = self.0.folder.path("poster.jpg");
        path.is_file().then_some(path)
    }

    /// The preview, an MP4 file (H.264, no sound, at most 320 pixels across, 3 s, below 200 kB) of up to nine moments of the recording, once there is
    /// one: when it is ready, where it has thumbnails. An edit's is as small as those.
    pub fn preview(&self) -> Option<PathBuf> {
        let path = self.0.folder.path(PREVIEW);
        path.is_file().then_some(path)
    }

    /// The recording as one progressive MP4 file, without re-encoding. Nothing is written: the file's bytes are read from the
    /// segments as they are asked for.
    ///
    /// Cancellation safe: nothing is begun that matters.
    ///
    /// # Errors
    /// [`EngineError::NotReady`] while it is live, [`EngineError::NoSuchRendition`], [`EngineError::Download`] where a rendition cannot
    /// be put into such a file, as one that is encrypted.
    pub async fn download(&self, choice: &DownloadChoice) -> Result<Download, EngineError> {
        if !self.0.is_complete() {
            let why = format!(
                "recording {} is {}; it can be downloaded once it has ended",
                self.0.id,
                self.info().state
            );
            return Err(EngineError::NotReady(why));
        }
        if self.info().state == RecordingState::Failed {
            return Err(EngineError::NotReady(
                "the recording failed; there is nothing to download".to_owned(),
            ));
        }
        // one caller lays it out, and the last one is kept: players ask for many ranges
        let mut last = self.0.download.lock().await;
        if let Some((_, layout)) = last.as_ref().filter(|(had, _)| had == choice) {
            return Ok(Download::new(layout.clone(), self.0.clone()));
        }
        let (inner, wanted) = (self.0.clone(), choice.clone());
        let made = tokio::task::spawn_blocking(move || download::lay_out(&inner, &wanted)).await;
        let layout = Arc::new(made.map_err(|_| EngineError::ShuttingDown)??);
        *last = Some((choice.clone(), layout.clone()));
        Ok(Download::new(layout, self.0.clone()))
    }

    /// Copies the finished stream, playlists and segments, into `folder`; `main.m3u8` there begins it. Blocks.
    ///
    /// # Errors
    /// [`EngineError::NotReady`] while it is live, [`EngineError::Io`] where the disk refuses.
    pub fn export_hls(&self, folder: &Path) -> Result<(), EngineError> {
        if !self.0.is_complete() {
            return Err(EngineError::NotReady(format!(
                "recording {} has not ended",
                self.0.id
            )));
        }
        self.0.folder.copy_hls(folder)?;
        self.0.export_stored(folder)
    }

    /// Waits until all that there is of it now is in the store, where the engine has one. Once the recording has ended, that is all
    /// there will be; what is added to it later, such as a chapter, is sent too.
    ///
    /// Cancellation safe: what is missing is sent in the background, or when this is asked again.
    ///
    /// # Errors
    /// [`EngineError::Store`] where the store refuses: it is tried again in the background, and when this is asked again.
    pub async fn stored(&self) -> Result<(), EngineError> {
        match &self.0.shared.stores {
            Some(stores) => store::send_once(&self.0, stores, store::Lists::Now).await,
            None => Ok(()),
        }
    }

    /// What is done for it once it has ended, and how far that is; nothing before.
    pub fn jobs(&self) -> Vec<JobDescription> {
        jobs::describe(&self.0)
    }

    /// Begins a job anew that waits for its next try, or is parked after its last. To restart what runs, or is done, is no error and changes
    /// nothing. Gives how the job stands then.
    ///
    /// # Errors
    /// [`EngineError::NoSuchJob`].
    pub fn restart_job(&self, job: JobKind) -> Result<JobDescription, EngineError> {
        jobs::restart(&self.0, job)
    }

    /// Changes how often it will be asked for: what the store has of it is tagged anew, and nothing sent again.
    ///
    /// Cancellation: some of its objects may be tagged then; change it again.
    ///
    /// # Errors
    /// [`EngineError::NotReady`] where the engine has no store, [`EngineError::Store`] where the store refuses or has no tags; some of
    /// its objects may be tagged then.
    pub async fn set_class(&self, class: StorageClass) -> Result<(), EngineError> {
        match &self.0.shared.stores {
            Some(stores) => store::set_class(&self.0, stores, class).await,
            None => Err(EngineError::NotReady("there is no store".to_owned())),
        }
    }

    /// Stops it where it is live and removes every byte of it, in the store too.
    ///
    /// Cancellation: it may be deleted in part then; delete it again.
    ///
    /// # Errors
    /// [`EngineError::Io`] where the disk refuses, [`EngineError::Store`] where the store does: the recording is gone for everybody,
    /// and the engine deletes the rest when it next starts.
    pub async fn delete(&self) -> Result<(), EngineError> {
        if self.0.state_now().is_live() {
            self.stop().await?;
        }
        // one after the other: the second finds nothing left
        let _one = self.0.text.lock().await;
        if self.0.folder.exists() {
            // whatever comes between, the next engine deletes the rest
            self.0.folder.condemn()?;
        }
        self.0.ask(Step::Delete)?;
        jobs::close(&self.0);
        self.0.shared.forget(&self.0.id);
        // what is being written is broken off first
        #[cfg(feature = "transcode")]
        let _alone = self.0.composing.lock().await;
        if let Some(stores) = &self.0.shared.stores {
            store::erase(&self.0, stores).await?;
        }
        let working = self.0.clone();
        let removed = tokio::task::spawn_blocking(move || working.folder.remove());
        removed.await.map_err(|_| EngineError::ShuttingDown)?
    }
}

impl Inner {
    pub(crate) fn new(
        id: RecordingId,
        shared: Arc<Shared>,
        folder: Folder,
        info: RecordingInfo,
        sending: Sending,
    ) -> Self {
        let is_import = !info.made_from.is_empty() || folder.path(SOURCE).is_file();
        // the job is not begun again where the process was killed at its last try
        #[cfg(feature = "transcode")]
        crate::composition::tidy(&folder);
        Self {
            sending,
            id,
            shared,
            folder,
            live: Live::default(),
            events: EventLog::new(),
            published: watch::Sender::new(0),
            stop: watch::Sender::new(false),
            cancel: watch::Sender::new(false),
            rest: watch::Sender::new(false),
            jobs: Jobs::default(),
            #[cfg(feature = "transcode")]
            composing: tokio::sync::Mutex::new(()),
            #[cfg(feature = "transcode")]
            moments: Mutex::default(),
            joiners: Joiners::new(),
            levels: Levels::default(),
            state: Mutex::new(State {
                life: Life::new(info.state, info.reason.clone(), is_import),
                info,
                sessions: Vec::new(),
                takes: None,
                packaging: None,
                chapters: Chapters::default(),
                cues: BTreeMap::new(),
                transcript: None,
                brief: None,
                versions: vec![TranscriptVersion::HEARD],
                touched: Instant::now(),
            }),
            text: tokio::sync::Mutex::new(()),
            download: tokio::sync::Mutex::new(None),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock leaves the state half changed, so a panic elsewhere spoils nothing.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn info(&self) -> RecordingInfo {
        self.state().info.clone()
    }

    /// Where it is in its life.
    pub(crate) fn state_now(&self) -> RecordingState {
        self.state().info.state
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.state().life.is_complete()
    }

    /// Asks for a step; gives whether it changed anything.
    pub(crate) fn ask(self: &Arc<Self>, step: Step) -> Result<bool, EngineError> {
        let mut state = self.state();
        let before = state.life.state();
        let changed = self.step(&mut state, step)?;
        let now = state.life.state();
        drop(state);
        if now != before && matches!(now, RecordingState::Failed | RecordingState::Deleted) {
            tracing::info!(recording = %self.id, state = %now, reason = self.info().reason, "the recording is over");
            jobs::give_up(self, JobKind::holds_up);
            self.live.end();
            self.live.forget();
            self.wake();
        }
        Ok(changed)
    }

    /// Tells what has happened to it. What comes too late changes nothing.
    pub(crate) fn happened(self: &Arc<Self>, step: Step) {
        if let Err(why) = self.ask(step) {
            tracing::warn!(recording = %self.id, %why, "a step was not taken");
        }
    }

    /// Takes a step, and tells everybody what it changed.
    fn step(&self, state: &mut State, step: Step) -> Result<bool, EngineError> {
        let taken = state.life.handle(step);
        let changed = taken.map_err(|refused| self.refusal(state.life.state(), refused))?;
        let wish = state.life.wish();
        for (wanted, of) in [
            (wish.stop, &self.stop),
            (wish.rest, &self.rest),
            (wish.cancel, &self.cancel),
        ] {
            of.send_if_modified(|now| std::mem::replace(now, wanted) != wanted);
        }
        let now = state.life.state();
        if now != RecordingState::Created && !now.is_live() {
            self.joiners.tell(Line::Over);
        }
        let told = (state.info.state, state.info.reason.as_deref());
        if told != (state.life.state(), state.life.reason()) {
            state.info.state = state.life.state();
            state.info.reason = state.life.reason().map(str::to_owned);
            self.tell(state);
        }
        Ok(changed)
    }

    /// Whether a publisher would be taken.
    pub(crate) fn check_open(&self) -> Result<(), EngineError> {
        let state = self.state();
        let later = self.takes_later(&state);
        // asked of a copy: nothing changes yet
        let asked = state.life.clone().handle(Step::Publish { later });
        asked
            .map(drop)
            .map_err(|refused| self.refusal(state.life.state(), refused))
    }

    fn refusal(&self, state: RecordingState, refused: Refused) -> EngineError {
        let recording = self.id.clone();
        match refused {
            Refused::Taken => EngineError::AlreadyPublished(recording),
            Refused::State(why) => EngineError::WrongState {
                recording,
                state,
                why,
            },
        }
    }

    /// Whether a publisher that comes later could go on with it.
    fn takes_later(&self, state: &State) -> bool {
        let open = state.takes.as_ref().is_some_and(|takes| !takes.is_closed());
        open && !self.shared.config.reconnect_window.is_zero()
    }

    /// Takes a publisher in. The first begins the recording, and gets the way by which later ones come; those are handed to
    /// whoever runs it.
    pub(crate) fn admit(&self, take: Take) -> Result<Option<(Take, mpsc::Receiver<Take>)>, EngineError> {
        let mut state = self.state();
        let later = self.takes_later(&state);
        if state.life.state() == RecordingState::Created {
            self.live.begin(); // before anybody is told
        }
        self.step(&mut state, Step::Publish { later })?;
        let session = take.session.handle();
        let first = match &state.takes {
            Some(takes) => match takes.try_send(take) {
                Ok(()) => None,
                Err(_) => return Err(EngineError::AlreadyPublished(self.id.clone())),
            },
            None => {
                let (takes, later) = mpsc::channel(TAKES);
                state.takes = Some(takes);
                Some((take, later))
            }
        };
        state.sessions.push(session);
        Ok(first)
    }

    /// Begins to read a file.
    pub(crate) fn begin_import(&self) -> Result<(), EngineError> {
        let mut state = self.state();
        if state.life.state() == RecordingState::Created {
            self.live.begin(); // before anybody is told
        }
        self.step(&mut state, Step::Import).map(drop)
    }

    /// That session came to nothing.
    pub(crate) fn forget_session(&self, session: &str) {
        self.state().sessions.retain(|it| it.id() != session);
    }

    /// That session has taken over from those before it.
    pub(crate) fn settle_session(&self, session: &str) {
        let sessions = &mut self.state().sessions;
        if let Some(at) = sessions.iter().position(|it| it.id() == session) {
            sessions.drain(..at);
        }
    }

    /// Somebody wants it to end.
    pub(crate) fn is_stopping(&self) -> bool {
        *self.stop.borrow()
    }

    /// Tells of a stretch for which nobody published.
    pub(crate) fn declare_gap(&self, from: MediaTime, to: MediaTime) {
        let gap = GapDescription {
            from: from.secs_f64(),
            to: to.secs_f64(),
        };
        self.update(|info| info.gaps.push(gap));
        self.events.tell(Event::Gap(gap));
    }

    /// Changes what is known of the recording and, where that changed it, saves it and tells everybody.
    pub(crate) fn update(&self, change: impl FnOnce(&mut RecordingInfo)) {
        let mut state = self.state();
        if state.info.state.is_final() {
            return;
        }
        let before = state.info.clone();
        change(&mut state.info);
        debug_assert_eq!(
            (state.info.state, &state.info.reason),
            (before.state, &before.reason),
            "its life has steps"
        );
        if state.info.tracks != before.tracks {
            self.events.tell(Event::Tracks {
                tracks: state.info.tracks.clone(),
            });
        }
        if state.info.joined != before.joined {
            self.events.tell(Event::Joined {
                joined: state.info.joined.clone(),
            });
        }
        if state.info.renditions != before.renditions {
            self.events.tell(Event::Renditions {
                renditions: state.info.renditions.clone(),
            });
        }
        if state.info != before {
            self.save(&state.info);
        }
    }

    /// Its screen and camera are there in one picture.
    #[cfg(feature = "transcode")]
    pub(crate) fn set_composition(&self, made: CompositionDescription) {
        let mut state = self.state();
        if state.info.state != RecordingState::Deleted {
            state.info.composition = Some(made);
            self.save(&state.info);
        }
    }

    /// All media is in and listed under complete playlists.
    pub(crate) fn complete(self: &Arc<Self>) {
        self.happened(Step::Completed);
        self.live.end();
        let ended = self.clone();
        let mut deleted = self.cancel.subscribe();
        tokio::spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(LATE_PARTS) => {}
                () = stopped(&mut deleted) => {}
            }
            ended.live.forget();
        });
        self.wake();
    }

    /// Ends the recording as failed. What was recorded stays on disk.
    pub(crate) fn fail(self: &Arc<Self>, reason: impl Into<String>) {
        self.happened(Step::Failed(reason.into()));
    }

    /// Wakes who waits for the recording to be complete.
    pub(crate) fn wake(self: &Arc<Self>) {
        self.published.send_modify(|count| *count += 1);
        store::send_soon(self);
    }

    /// Makes what is on disk now visible, and wakes those who wait for it.
    pub(crate) fn publish(&self, publish: Publish) {
        self.live.publish(publish);
    }

    /// There is media up to here.
    pub(crate) fn lengthen(&self, end: MediaTime) {
        let mut state = self.state();
        let before = state.info.duration;
        state.info.duration = before.max(end.secs_f64());
        let seconds = state.info.duration.floor() - before.floor();
        if seconds > 0.0 {
            metrics::counter!("loom_recorded_seconds_total").increment(seconds as u64);
        }
    }

    /// Copies what only the store has of the stream. Blocks.
    fn export_stored(&self, folder: &Path) -> Result<(), EngineError> {
        let Some(stores) = &self.shared.stores else {
            return Ok(());
        };
        for name in self.sending.names(&self.folder)? {
            let below = name
                .strip_prefix("hls/")
                .filter(|_| !self.folder.path(&name).is_file());
            let Some((path, blob)) = below.map(|below| folder.join(below)).zip(self.blob(&name)) else {
                continue;
            };
            let copy = || {
                std::fs::create_dir_all(path.parent().unwrap_or(folder))?;
                let mut file = blob.into_file(stores.runtime.clone());
                std::io::copy(&mut file, &mut std::fs::File::create(&path)?)
            };
            copy().map_err(EngineError::io("copy from the store to", &path))?;
        }
        Ok(())
    }

    /// A file of it that this disk does not have, where the store has it.
    pub(crate) fn blob(&self, file: &str) -> Option<Blob> {
        self.sending.blob(self, file)
    }

    /// Whether this disk has a file of it, or the store.
    pub(crate) fn has(&self, file: &str) -> bool {
        self.folder.path(file).is_file() || self.blob(file).is_some()
    }

    /// Keeps what is known of it on disk as it is now.
    pub(crate) fn persist(&self) {
        self.save(&self.state().info);
    }

    /// All that was written of it survives a power cut from here on.
    pub(crate) async fn secure(self: &Arc<Self>) -> Result<(), EngineError> {
        let working = self.clone();
        let secured = tokio::task::spawn_blocking(move || working.folder.secure());
        secured.await.map_err(|_| EngineError::ShuttingDown)?
    }

    /// Since when nobody has done anything with it.
    pub(crate) fn touched(&self) -> Instant {
        self.state().touched
    }

    /// From here on this is the way to whoever packages it.
    pub(crate) fn set_packaging(&self, work: mpsc::WeakSender<Work>) {
        self.state().packaging = Some(work);
    }

    /// Whether somebody packages it yet.
    pub(crate) fn is_packaged(&self) -> bool {
        let way = self.state().packaging.clone();
        way.is_some_and(|way| way.upgrade().is_some())
    }

    /// Has the packager do something, and waits until it is done.
    pub(crate) async fn ask_packaging(
        &self,
        work: impl FnOnce(oneshot::Sender<Result<(), EngineError>>) -> Work,
    ) -> Result<(), EngineError> {
        let gone = || EngineError::NotReady(format!("recording {} cannot take this now", self.id));
        let way = self.state().packaging.clone();
        let way = way.and_then(|way| way.upgrade()).ok_or_else(gone)?;
        let (done, answer) = oneshot::channel();
        way.send(work(done)).await.map_err(|_| gone())?;
        drop(way);
        answer.await.map_err(|_| gone())?
    }

    pub(crate) fn chapters(&self) -> Chapters {
        self.state().chapters.clone()
    }

    /// Tells everybody of the chapters.
    pub(crate) fn set_chapters(&self, chapters: Chapters) {
        let event = text::event(&chapters);
        self.state().chapters = chapters;
        self.events.tell(event);
    }

    /// Shows a caption, or its next version.
    pub(crate) fn show(&self, cue: Cue) {
        let mut state = self.state();
        if state.transcript.is_some() {
            return; // a last live caption that comes behind the final ones
        }
        state.cues.insert(cue.id, cue.clone());
        drop(state);
        self.events.tell(Event::Caption(cue));
    }

    /// What was said, once that is written down.
    pub(crate) fn final_transcript(&self) -> Option<Arc<Transcript>> {
        self.state().transcript.clone()
    }

    pub(crate) fn brief(&self) -> Option<Arc<Brief>> {
        self.state().brief.clone()
    }

    /// What a language model made of the transcript, once that is written down.
    pub(crate) fn set_brief(&self, brief: Arc<Brief>) {
        self.state().brief = Some(brief);
    }

    /// The captions so far are replaced by the final transcript.
    pub(crate) fn set_transcript(&self, transcript: Arc<Transcript>) {
        self.state().set_transcript(transcript);
    }

    /// The versions of the final transcript, in order; none where their list cannot be read.
    pub(crate) fn versions(&self) -> Vec<TranscriptVersion> {
        self.state().versions.clone()
    }

    /// The number of the newest, and its text.
    pub(crate) fn newest_version(&self) -> Option<(u32, Arc<Transcript>)> {
        let state = self.state();
        Some((state.versions.last()?.version, state.transcript.clone()?))
    }

    /// The newest version, and the list that it ends; none where that cannot be read.
    pub(crate) fn set_version(&self, transcript: Arc<Transcript>, versions: Vec<TranscriptVersion>) {
        let mut state = self.state();
        state.set_transcript(transcript);
        state.versions = versions;
    }

    fn tell(&self, state: &State) {
        self.save(&state.info);
        self.events.tell(state.info.state_event());
    }

    fn save(&self, info: &RecordingInfo) {
        if let Err(why) = self.folder.save_info(info) {
            tracing::error!(recording = %self.id, error = %why, "the recording's state could not be saved");
        }
        self.shared.sync.touch();
    }
}

/// What the captions say so far, as a transcript.
fn so_far(cues: &BTreeMap<CueId, Cue>, duration: f64) -> Transcript {
    let segments = cues.values().map(|cue| Segment {
        start: cue.start.secs_f64(),
        end: cue.end.secs_f64(),
        text: cue.text.clone(),
        confidence: 0.0,
        speaker: None,
        words: cue.words.clone(),
    });
    let texts: Vec<&str> = cues.values().map(|cue| cue.text.as_str()).collect();
    Transcript {
        language: "en".to_owned(),
        model: "live captions".to_owned(),
        duration,
        text: texts.join(" "),
        segments: segments.collect(),
    }
}

impl RecordingInfo {
    pub(crate) fn state_event(&self) -> Event {
        Event::State {
            state: self.state,
            reason: self.reason.clone(),
            duration: self.duration,
        }
    }
}

/// How long the parts of a recording that has ended are still answered by their own names.
const LATE_PARTS: Duration = Duration::from_secs(30);

/// Sessions that wait to take over from another.
const TAKES: usize = 4;

/// How long a stop may take until its caller is told that it goes on without them.
const STOP_LIMIT: Duration = Duration::from_secs(20);
