use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use loom_ai::{Segment, Transcript};
use loom_core::{Cue, CueId, MediaTime};
use loom_hls::progressive::Layout;
use loom_hls::{Chapters, DateRange, Publish, TextCue};
use loom_ingest::SessionHandle;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use crate::download::{Download, DownloadChoice};
use crate::engine::Shared;
use crate::error::EngineError;
use crate::event::{ChapterDescription, Event, Events, GapDescription, RecordingInfo, RecordingState};
use crate::folder::Folder;
use crate::id::RecordingId;
use crate::origin::{self, Live};
use crate::packaging::Work;
use crate::take::Take;
use crate::text::{self, Given};
use crate::{download, import, live};

/// A handle to one recording. Clones are handles to the same one; dropping them ends nothing.
#[derive(Debug, Clone)]
pub struct Recording(pub(crate) Arc<Inner>);

/// What a WHIP client gets back (RFC 9725 §4.2).
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
    pub(crate) events: broadcast::Sender<Event>,
    /// Counts the steps to the recording's end; who waits for that is woken by it.
    pub(crate) published: watch::Sender<u64>,
    /// Set once somebody wants the recording to end.
    pub(crate) stop: watch::Sender<bool>,
    state: Mutex<State>,
    /// Text and chapters are changed by one caller at a time.
    pub(crate) text: tokio::sync::Mutex<()>,
    /// The download that was asked for last.
    download: tokio::sync::Mutex<Option<(DownloadChoice, Arc<Layout>)>>,
}

#[derive(Debug)]
struct State {
    info: RecordingInfo,
    /// The session whose media is recorded, and those that may take over from it.
    sessions: Vec<SessionHandle>,
    /// The way of later sessions to whoever runs the recording.
    takes: Option<mpsc::Sender<Take>>,
    /// The way to whoever packages it.
    packaging: Option<mpsc::WeakSender<Work>>,
    chapters: Chapters,
    cues: BTreeMap<CueId, Cue>,
    transcript: Option<Arc<Transcript>>,
    /// All media is on disk under complete playlists.
    complete: bool,
    /// When somebody last did something with it.
    touched: Instant,
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
        let live = self.0.events.subscribe();
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
        if !state.chapters.marks().is_empty() {
            snapshot.push_back(text::event(&state.chapters));
        }
        snapshot.extend(state.cues.values().cloned().map(Event::Caption));
        snapshot.push_back(info.state_event());
        Events {
            snapshot,
            live,
            recording: self.0.clone(),
            ended: false,
        }
    }

    /// Answers a WHIP client's offer; its media is recorded from then on. While the recording is live, or its vanished publisher
    /// is waited for, the new session takes over from the old one and goes on with the recording behind a declared gap, unless
    /// [`reconnect_window`](crate::EngineConfig::reconnect_window) is zero.
    ///
    /// # Errors
    /// [`EngineError::BadOffer`] where the offer cannot be answered (the recording stays as it was),
    /// [`EngineError::AlreadyPublished`] where it takes no other publisher any more, [`EngineError::Full`] at the limit of live recordings.
    pub async fn publish(&self, offer: &str) -> Result<PublishAnswer, EngineError> {
        self.publish_from(offer, None).await
    }

    /// As [`Recording::publish`], for an offer that came from an address, whose sessions are counted
    /// ([`max_sessions_per_address`](crate::IngestConfig::max_sessions_per_address)).
    ///
    /// # Errors
    /// As [`Recording::publish`].
    pub async fn publish_from(
        &self,
        offer: &str,
        from: Option<IpAddr>,
    ) -> Result<PublishAnswer, EngineError> {
        live::publish(&self.0, offer, from).await
    }

    /// Ends the publisher's session, as a WHIP client's DELETE asks (RFC 9725 §4.2); the recording is finished. Where another
    /// session has come to go on with it, only this one ends.
    ///
    /// # Errors
    /// [`EngineError::NoSuchSession`].
    pub fn hang_up(&self, session: &str) -> Result<(), EngineError> {
        let mut state = self.0.state();
        let Some(place) = state.sessions.iter().position(|it| it.id().as_str() == session) else {
            return Err(EngineError::NoSuchSession {
                recording: self.0.id.clone(),
                session: session.to_owned(),
            });
        };
        // Of a vanished publisher's sessions the newest is the one that counts.
        let newest = place + 1 == state.sessions.len();
        let waited_for = state.info.state == RecordingState::Reconnecting;
        if state.sessions.len() == 1 || newest && waited_for {
            drop(state);
            self.0.stop.send_replace(true);
            return Ok(());
        }
        let handle = state.sessions.remove(place);
        drop(state);
        handle.close();
        Ok(())
    }

    /// Tells that somebody is about to use it, such as an upload under way: a recording that nobody uses fails after
    /// [`unused_after`](crate::EngineConfig::unused_after), counted from here.
    pub fn touch(&self) {
        self.0.state().touched = Instant::now();
    }

    /// Takes a media file over and processes it as a live recording would be. The file is deleted at the end.
    ///
    /// Returns once the file was recognised; the state is `processing` then.
    ///
    /// # Errors
    /// [`EngineError::BadMedia`] where it is no media Loom can read; the recording is `failed` with that reason then.
    pub async fn import(&self, file: PathBuf) -> Result<(), EngineError> {
        import::import(&self.0, file).await
    }

    /// Ends the recording. Returns when its playlists are complete. To stop what has ended is no error.
    ///
    /// # Errors
    /// [`EngineError::NotReady`] where the recording could not be completed in time.
    pub async fn stop(&self) -> Result<(), EngineError> {
        let mut published = self.0.published.subscribe();
        if self.0.state().info.state == RecordingState::Created {
            self.0.fail("it was stopped before anything was recorded");
            return Ok(());
        }
        if !self.0.state_now().is_live() {
            return Ok(()); // a file is processed to its end; what has ended has ended
        }
        self.0.stop.send_replace(true);
        let deadline = Instant::now() + STOP_LIMIT;
        while !self.0.is_complete() {
            let late = || EngineError::NotReady(format!("recording {} is still being completed", self.0.id));
            timeout_at(deadline, published.changed())
                .await
                .map_err(|_| late())?
                .map_err(|_| late())?;
        }
        Ok(())
    }

    /// Answers a request for `path` below the recording's HLS folder, such as `main.m3u8`. A blocking playlist reload
    /// or part request (RFC 8216bis §6.2.5.2) is held until it can be answered. Cancellation safe.
    pub async fn hls(&self, path: &str, query: Option<&str>) -> HlsAnswer {
        match origin::collect(&self.0, path, query).await {
            Ok((about, body)) => HlsAnswer::Ready {
                content_type: about.content_type,
                cache_control: about.cache_control,
                body,
            },
            Err(no) => match no.status {
                StatusCode::BAD_REQUEST => HlsAnswer::BadRequest(no.detail),
                StatusCode::SERVICE_UNAVAILABLE => HlsAnswer::Unavailable(no.detail),
                _ => HlsAnswer::NotFound,
            },
        }
    }

    /// Says in every media playlist that a span of media time is something, such as a chapter; again with the same id, that more is
    /// known of it (RFC 8216bis §4.4.5.1).
    ///
    /// # Errors
    /// [`EngineError::Package`] where it breaks a rule; [`EngineError::NotReady`] where the recording has not begun, or nothing of it
    /// is packaged any more.
    pub async fn add_date_range(&self, range: DateRange) -> Result<(), EngineError> {
        self.0.ask_packaging(|done| Work::DateRange(range, done)).await
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
    /// # Errors
    /// As [`Recording::put_captions`]; [`EngineError::WrongState`] once the recording is complete.
    pub async fn add_captions(&self, language: &str, cues: Vec<TextCue>) -> Result<(), EngineError> {
        text::give(&self.0, language, None, cues, Given::More).await
    }

    /// Marks where a chapter begins; without `at`, where the recording is now. It is in `chapters.vtt` and `chapters.json` of the
    /// stream, and, where the recording has dates, in its playlists (`EXT-X-DATERANGE` of class `com.loom.chapter`).
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

    /// The recording as one progressive MP4 file, without re-encoding. Nothing is written: the file's bytes are read from the
    /// segments as they are asked for.
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
            return Ok(Download::new(layout.clone(), self.0.folder.clone()));
        }
        let (inner, wanted) = (self.0.clone(), choice.clone());
        let made = tokio::task::spawn_blocking(move || download::lay_out(&inner, &wanted)).await;
        let layout = Arc::new(made.map_err(|_| EngineError::ShuttingDown)??);
        *last = Some((choice.clone(), layout.clone()));
        Ok(Download::new(layout, self.0.folder.clone()))
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
        self.0.folder.copy_hls(folder)
    }

    /// Stops it where it is live and removes every byte of it.
    ///
    /// # Errors
    /// [`EngineError::Io`] where the disk refuses.
    pub async fn delete(&self) -> Result<(), EngineError> {
        if self.0.state_now().is_live() {
            self.stop().await?;
        }
        self.0.fail("it was deleted");
        self.0.stop.send_replace(true);
        self.0.folder.remove()?;
        self.0.shared.forget(&self.0.id);
        Ok(())
    }
}

impl Inner {
    pub(crate) fn new(id: RecordingId, shared: Arc<Shared>, folder: Folder, info: RecordingInfo) -> Self {
        Self {
            id,
            shared,
            folder,
            live: Live::default(),
            events: broadcast::Sender::new(Events::QUEUE),
            published: watch::Sender::new(0),
            stop: watch::Sender::new(false),
            state: Mutex::new(State {
                complete: info.state.is_final(),
                info,
                sessions: Vec::new(),
                takes: None,
                packaging: None,
                chapters: Chapters::default(),
                cues: BTreeMap::new(),
                transcript: None,
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
        self.state().complete
    }

    /// Whether a publisher would be taken.
    pub(crate) fn check_open(&self) -> Result<(), EngineError> {
        self.refusal(&self.state())
    }

    /// Takes a publisher in. The first begins the recording, and gets the way by which later ones come; those are handed to
    /// whoever runs it.
    pub(crate) fn admit(&self, take: Take) -> Result<Option<(Take, mpsc::Receiver<Take>)>, EngineError> {
        let mut state = self.state();
        self.refusal(&state)?;
        let session = take.session.handle();
        let first = match &state.takes {
            Some(takes) => match takes.try_send(take) {
                Ok(()) => None,
                Err(_) => return Err(EngineError::AlreadyPublished(self.id.clone())),
            },
            None => {
                let (takes, later) = mpsc::channel(TAKES);
                state.takes = Some(takes);
                state.info.state = RecordingState::Live;
                self.live.begin();
                self.tell(&state);
                Some((take, later))
            }
        };
        state.sessions.push(session);
        Ok(first)
    }

    /// Begins to read a file.
    pub(crate) fn begin_import(&self) -> Result<(), EngineError> {
        let mut state = self.state();
        if state.info.state != RecordingState::Created {
            self.refusal(&state)?;
            return Err(EngineError::AlreadyPublished(self.id.clone()));
        }
        state.info.state = RecordingState::Processing;
        self.live.begin();
        self.tell(&state);
        Ok(())
    }

    /// Why nobody may publish now.
    fn refusal(&self, state: &State) -> Result<(), EngineError> {
        let goes_on = |takes: &mpsc::Sender<Take>| {
            !takes.is_closed() && !self.is_stopping() && !self.shared.config.reconnect_window.is_zero()
        };
        match state.info.state {
            RecordingState::Created => Ok(()),
            now if now.is_live() && state.takes.as_ref().is_some_and(goes_on) => Ok(()),
            failed @ RecordingState::Failed => Err(EngineError::WrongState {
                recording: self.id.clone(),
                state: failed,
                why: "make a new recording",
            }),
            _ => Err(EngineError::AlreadyPublished(self.id.clone())),
        }
    }

    /// That session came to nothing.
    pub(crate) fn forget_session(&self, session: &str) {
        self.state().sessions.retain(|it| it.id().as_str() != session);
    }

    /// That session has taken over from those before it.
    pub(crate) fn settle_session(&self, session: &str) {
        let sessions = &mut self.state().sessions;
        if let Some(at) = sessions.iter().position(|it| it.id().as_str() == session) {
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
        let _ = self.events.send(Event::Gap(gap));
    }

    /// Changes what is known of the recording and, where that changed it, saves it and tells everybody.
    pub(crate) fn update(&self, change: impl FnOnce(&mut RecordingInfo)) {
        let mut state = self.state();
        if state.info.state.is_final() {
            return;
        }
        let before = state.info.clone();
        change(&mut state.info);
        if state.info.tracks != before.tracks {
            let _ = self.events.send(Event::Tracks {
                tracks: state.info.tracks.clone(),
            });
        }
        if state.info.renditions != before.renditions {
            let _ = self.events.send(Event::Renditions {
                renditions: state.info.renditions.clone(),
            });
        }
        if (state.info.state, &state.info.reason) != (before.state, &before.reason) {
            self.tell(&state);
        } else if state.info != before {
            self.save(&state.info);
        }
    }

    /// All media is in and listed under complete playlists.
    pub(crate) fn complete(self: &Arc<Self>) {
        let mut state = self.state();
        state.complete = true;
        drop(state);
        self.live.end();
        let ended = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(LATE_PARTS).await;
            ended.live.forget();
        });
        self.update(|info| info.state = RecordingState::Processing);
        self.wake();
    }

    /// Ends the recording as failed. What was recorded stays on disk.
    pub(crate) fn fail(&self, reason: impl Into<String>) {
        let reason = reason.into();
        tracing::info!(recording = %self.id, reason, "the recording failed");
        let mut state = self.state();
        if !state.info.state.is_final() {
            state.info.state = RecordingState::Failed;
            state.info.reason = Some(reason);
            self.tell(&state);
        }
        state.complete = true;
        drop(state);
        self.live.end();
        self.live.forget();
        self.wake();
    }

    /// Wakes who waits for the recording to be complete.
    pub(crate) fn wake(&self) {
        self.published.send_modify(|count| *count += 1);
    }

    /// Makes what is on disk now visible, and wakes those who wait for it.
    pub(crate) fn publish(&self, publish: Publish) {
        self.live.publish(publish);
    }

    /// There is media up to here.
    pub(crate) fn lengthen(&self, end: MediaTime) {
        let mut state = self.state();
        state.info.duration = state.info.duration.max(end.secs_f64());
    }

    /// Keeps what is known of it on disk as it is now.
    pub(crate) fn persist(&self) {
        self.save(&self.state().info);
    }

    /// Since when nobody has done anything with it.
    pub(crate) fn touched(&self) -> Instant {
        self.state().touched
    }

    /// From here on this is the way to whoever packages it.
    pub(crate) fn set_packaging(&self, work: mpsc::WeakSender<Work>) {
        self.state().packaging = Some(work);
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
        let _ = self.events.send(event);
    }

    /// Shows a caption, or its next version.
    pub(crate) fn show(&self, cue: Cue) {
        let mut state = self.state();
        if state.transcript.is_some() {
            return; // a last live caption that comes behind the final ones
        }
        state.cues.insert(cue.id, cue.clone());
        drop(state);
        let _ = self.events.send(Event::Caption(cue));
    }

    /// The captions so far are replaced by the final transcript.
    pub(crate) fn set_transcript(&self, transcript: Arc<Transcript>) {
        let mut state = self.state();
        state.cues = transcript
            .to_cues()
            .into_iter()
            .map(|cue| (cue.id, cue))
            .collect();
        state.transcript = Some(transcript);
    }

    fn tell(&self, state: &State) {
        self.save(&state.info);
        let _ = self.events.send(state.info.state_event());
    }

    fn save(&self, info: &RecordingInfo) {
        if let Err(why) = self.folder.save_info(info) {
            tracing::error!(recording = %self.id, error = %why, "the recording's state could not be saved");
        }
    }
}

/// What the captions say so far, as a transcript.
fn so_far(cues: &BTreeMap<CueId, Cue>, duration: f64) -> Transcript {
    let segments = cues.values().map(|cue| Segment {
        start: cue.start.secs_f64(),
        end: cue.end.secs_f64(),
        text: cue.text.clone(),
        confidence: 0.0,
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
