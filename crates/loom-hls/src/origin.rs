mod answers;

use std::collections::HashMap;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use loom_core::RenditionId;

use crate::address::{self, Address};
use crate::clock::FIRST;
use crate::dash;
use crate::directives::{Block, Directives};
use crate::limits;
use crate::origin::answers::{CHANGING, COMPLETE, FOREVER, MANIFEST_TYPE, beside, playlist_response};
use crate::playlist;
use crate::publish::{Change, Publish};
use crate::served::{self, Ranged, Served, Show};
use crate::steering::Steering;
use crate::view::View;

pub use crate::origin::answers::stored_answer;
pub(crate) use crate::origin::answers::{max_age, media_response};

/// Answers viewers' requests for one recording, from what has been published.
///
/// A value in, a value out: any HTTP server can serve it. It keeps the playlists and the most recent parts in memory (bounded
/// by [`limits::PART_MEMORY`] and [`limits::PART_MEMORY_BYTES`] a rendition); everything else it answers with a place in the store.
///
/// ```
/// # use bytes::Bytes;
/// # use loom_core::{CodecParameters, MediaTime, Packet, RenditionId, TrackId, codec::opus};
/// use loom_hls::{Answer, Body, HlsOutput, Origin, Packager, PackagerConfig};
/// # use loom_hls::{RenditionInfo, RenditionKind};
///
/// let mut packager = Packager::new(PackagerConfig::default())?;
/// let mut origin = Origin::new();
/// let Answer::WaitFor(wait) = origin.handle_request("main.m3u8", None) else {
///     panic!("nothing has been published yet");
/// };
/// assert!(!origin.is_over(&wait)); // asked again after each change, and given up after wait.limit
///
/// // … declare renditions, hand packets over, store what is to be stored, and then:
/// # let sound = RenditionId::new("opus").expect("a name");
/// # let kind = RenditionKind::Audio { name: "Sound".into(), language: None, channels: 2 };
/// # packager.declare(RenditionInfo { id: sound.clone(), kind, bandwidth: 64_000 })?;
/// # packager.handle_format(&sound, CodecParameters::Audio(opus::rtp_parameters()))?;
/// # for number in 0..250 {
/// #     let (at, data) = (MediaTime::from_millis(number * 20), Bytes::from_static(&[0xfc, 0xff, 0xfe]));
/// #     let duration = Some(std::time::Duration::from_millis(20));
/// #     packager.handle_packet(&sound, Packet { track: TrackId(0), pts: at, dts: at, duration, key: true, data })?;
/// # }
/// while let Some(output) = packager.poll_output() {
///     if let HlsOutput::Publish(change) = output {
///         origin.handle_publish(change);
///     }
/// }
/// assert!(origin.is_over(&wait));
/// let Answer::Ready(response) = origin.handle_request("main.m3u8", None) else {
///     panic!("it is there now");
/// };
/// assert_eq!(response.content_type, "application/vnd.apple.mpegurl");
/// assert!(matches!(response.body, Body::Bytes(text) if text.starts_with(b"#EXTM3U")));
/// assert!(matches!(origin.handle_request("opus/index.m3u8", Some("_HLS_msn=x")), Answer::BadRequest(_)));
/// # Ok::<(), loom_hls::HlsError>(())
/// ```
#[derive(Debug, Default)]
pub struct Origin {
    multivariant: Option<Multivariant>,
    /// The multivariant playlists of further pictures.
    asides: HashMap<RenditionId, Multivariant>,
    renditions: HashMap<RenditionId, Served>,
    ranges: Vec<Ranged>,
    steering: Option<Steering>,
    frame: Option<dash::Frame>,
    book: dash::Book,
    /// The DASH manifest, made when it is asked for.
    manifest: OnceLock<Option<Bytes>>,
    ended: bool,
    /// Sheets of thumbnails that will not change.
    sheets: u64,
}

/// A multivariant playlist, and whose media playlists it names.
#[derive(Debug)]
struct Multivariant {
    text: Bytes,
    names: Vec<RenditionId>,
}

/// The answer to a request.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// Send this.
    Ready(Response),
    /// It will be there: ask again after each change of what is named, and give up after the limit.
    WaitFor(Wait),
    /// There is no such thing, and none is expected.
    NotFound,
    /// The request breaks a rule, which the text names.
    BadRequest(String),
}

/// What a request waits for. Requests that wait for the same rendition, segment and part are answered by the same change;
/// [`Origin::is_over`] tells whether it has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// Whose [`Publish`]es may bring it; `None`: those of the multivariant playlist.
    pub rendition: Option<RenditionId>,
    /// The segment; `None`: the rendition's first whole one.
    pub segment: Option<u64>,
    /// The part of that segment; `None`: the whole segment.
    pub part: Option<u64>,
    /// After this long it will not come: answer 503 (RFC 8216bis §6.2.5.2).
    pub limit: Duration,
}

/// A body and how to send it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// `Content-Type`.
    pub content_type: &'static str,
    /// `Cache-Control`.
    pub cache_control: &'static str,
    /// The body.
    pub body: Body,
}

/// Where a response's body is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Here.
    Bytes(Bytes),
    /// In the store.
    Stored {
        /// The file's path in the recording's folder.
        key: String,
        /// Where in the file it begins, bytes.
        offset: u64,
        /// How many bytes; `None` for all that follow.
        len: Option<u64>,
    },
    /// A playlist in the store, to be shown through [`View::show`].
    Viewed {
        /// The file's path in the recording's folder.
        key: String,
        /// How it is shown.
        view: View,
    },
    /// A segment that is still being made: [`Origin::growth`] gives it piece by piece, until it is whole.
    Growing {
        /// The rendition.
        rendition: RenditionId,
        /// The segment's media sequence number.
        segment: u64,
    },
}

/// The next piece of a segment that is still being made.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Growth {
    /// These bytes; ask again behind them.
    Bytes(Bytes),
    /// These bytes of a file in the store; ask again behind them.
    Stored {
        /// The file's path in the recording's folder.
        key: String,
        /// Where in the file they begin, bytes.
        offset: u64,
        /// How many, bytes; above zero.
        len: u64,
    },
    /// All that follows in a file of the store, which is whole; nothing comes behind it.
    Rest {
        /// The file's path in the recording's folder.
        key: String,
        /// Where in the file it begins, bytes.
        offset: u64,
    },
    /// The next piece is not there yet.
    WaitFor(Wait),
    /// The segment is whole, and that was all of it.
    End,
}

impl Origin {
    /// An origin that has nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the recording is complete: its folder alone can serve it from here on, see [`stored_answer`].
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Takes a change. What it names must be in the store.
    pub fn handle_publish(&mut self, publish: Publish) {
        if self.book.take(&publish) {
            self.manifest = OnceLock::new();
        }
        let Publish { rendition, change } = publish;
        let Some(id) = rendition else {
            match change {
                Change::Multivariant {
                    aside: None,
                    text,
                    names,
                } => self.multivariant = Some(Multivariant { text, names }),
                Change::Multivariant {
                    aside: Some(id),
                    text,
                    names,
                } => {
                    self.asides.insert(id, Multivariant { text, names });
                }
                Change::DateRange { line } => {
                    let at = self
                        .renditions
                        .values()
                        .map(Served::length)
                        .max()
                        .unwrap_or_default();
                    match self.ranges.iter_mut().find(|known| known.line.id == line.id) {
                        Some(known) => *known = Ranged { line, at },
                        None => self.ranges.push(Ranged { line, at }),
                    }
                    for served in self.renditions.values_mut() {
                        served.changed();
                    }
                }
                Change::Manifest { frame } => self.frame = Some(frame),
                Change::End => self.ended = true,
                Change::Sheets { sheets } => self.sheets = sheets.full(),
                _ => {}
            }
            return;
        };
        self.renditions.entry(id).or_default().take(change);
        // the others' playlists tell how far this one is
        for served in self.renditions.values_mut() {
            served.changed();
        }
    }

    /// Has `steering.json` answered: which pathways viewers are to prefer (RFC 8216bis §7).
    pub fn set_steering(&mut self, steering: Steering) {
        self.steering = Some(steering);
    }

    /// Ranks the pathways anew, the best first; viewers follow when they next ask.
    ///
    /// # Errors
    /// As [`Steering::set_ranking`], and where there is no steering.
    pub fn set_ranking(&mut self, ranking: &[String]) -> Result<(), crate::HlsError> {
        match &mut self.steering {
            Some(steering) => steering.set_ranking(ranking),
            None => Steering::none(),
        }
    }

    /// Answers a request for `path`, relative to the recording's base (`main.m3u8`, `720p/index.m3u8`, `720p/p73.m4s`), with
    /// the URL's query where it has one. `_HLS_msn`, `_HLS_part` and `_HLS_skip` are obeyed (RFC 8216bis §6.2.5), and what
    /// [`View`] reads; other names are ignored.
    pub fn handle_request(&self, path: &str, query: Option<&str>) -> Answer {
        self.handle_range_request(path, query, 0)
    }

    /// As [`Self::handle_request`], where only the bytes from `first` on are asked for (RFC 9110 §14.2, `bytes=FIRST-`). The answer is that
    /// to the whole, of which the host sends the range. What of a segment that is being made does not begin before `first` is waited
    /// for, as a hinted part is (RFC 8216bis §6.2.6): so a host that answers 206 has something to send, and one that learns that the segment
    /// ended before `first` can still answer 416. [`Self::growth`] gives a part only once all of it is there.
    pub fn handle_range_request(&self, path: &str, query: Option<&str>, first: u64) -> Answer {
        if path.len() + query.map_or(0, str::len) > limits::REQUEST_BYTES {
            return Answer::BadRequest(format!(
                "a path and query are at most {} bytes",
                limits::REQUEST_BYTES
            ));
        }
        let (view, path) = match View::parse(path, query) {
            Ok(read) => read,
            Err(why) => return Answer::BadRequest(why),
        };
        let Some(address) = Address::parse(path) else {
            return Answer::NotFound;
        };
        match address {
            Address::Multivariant | Address::Aside(_) => self.multivariant_answer(address, &view),
            Address::Playlist(id) => self.playlist_answer(id, false, query, &view),
            Address::Frames(id) => self.playlist_answer(id, true, query, &view),
            Address::Steering => match &self.steering {
                Some(steering) => steering.answer(query),
                None => Answer::NotFound,
            },
            // what is there is in the store
            Address::Thumbnails | Address::ChaptersTrack | Address::Chapters => beside(path, CHANGING),
            Address::Sheet(number) => beside(path, if number < self.sheets { FOREVER } else { CHANGING }),
            Address::Manifest => self.manifest(),
            // they are made once the recording has ended
            Address::AsideManifest | Address::AsideThumbnails | Address::AsideSheet => Answer::NotFound,
            Address::Init(id, number) => match self.renditions.get(&id).and_then(|s| s.inits.get(&number)) {
                Some(data) => media_response(Body::Bytes(data.clone())),
                None => Answer::NotFound,
            },
            Address::Part(id, number) => match self.renditions.get(&id) {
                Some(served) => served.part(id, number),
                None => Answer::NotFound,
            },
            Address::Segment(id, number) if self.is_unfinished(&id, number) => {
                self.unfinished(id, number, first)
            }
            Address::Segment(ref id, number)
            | Address::Text(ref id, number)
            | Address::TimedText(ref id, number) => {
                let listed = self.renditions.get(id).is_some_and(|s| s.is_closed(number));
                if listed {
                    stored_answer(path, None)
                } else {
                    Answer::NotFound
                }
            }
        }
    }

    fn multivariant_answer(&self, address: Address, view: &View) -> Answer {
        let found = match &address {
            Address::Aside(id) => self.asides.get(id),
            _ => self.multivariant.as_ref(),
        };
        let Some(found) = found else {
            return match self.ended || self.multivariant.is_some() {
                true => Answer::NotFound,
                false => Answer::WaitFor(Wait {
                    rendition: None,
                    segment: None,
                    part: None,
                    limit: FIRST_WAIT,
                }),
            };
        };
        let heads = || self.renditions.values().filter_map(|served| served.head.as_ref());
        if let Err(why) = view.check_growing(heads().next().map(|head| head.window).unwrap_or_default()) {
            return Answer::BadRequest(why);
        }
        let text = match (view.is_plain(), std::str::from_utf8(&found.text)) {
            (false, Ok(text)) => view.multivariant(text, view.start).into(),
            _ => found.text.clone(),
        };
        let cache_control = match (self.ended, heads().next()) {
            (true, _) => COMPLETE,
            (false, Some(head)) => max_age(head.target_duration / 2),
            (false, None) => CHANGING,
        };
        Answer::Ready(playlist_response(text, cache_control))
    }

    fn playlist_answer(&self, id: RenditionId, frames: bool, query: Option<&str>, view: &View) -> Answer {
        let asked = match Directives::parse(query) {
            Ok(asked) => asked,
            Err(why) => return Answer::BadRequest(why),
        };
        if let Some(why) = asked.block.and_then(|block| self.too_far(&id, block)) {
            return Answer::BadRequest(why);
        }
        let Some(served) = self.renditions.get(&id) else {
            return match self.ended || !self.is_named(&id) {
                true => Answer::NotFound,
                false => Answer::WaitFor(Wait {
                    rendition: Some(id),
                    segment: asked.block.map(|block| block.segment),
                    part: asked.block.and_then(|block| block.part),
                    limit: FIRST_WAIT,
                }),
            };
        };
        let window = view
            .window
            .or(served.head.as_ref().map(|head| head.window))
            .unwrap_or_default();
        if let Err(why) = view.check_growing(window) {
            return Answer::BadRequest(why);
        }
        let list = match (frames, &served.frames) {
            (false, _) => served,
            (true, Some(frames)) => frames,
            (true, None) if served.head.is_none() && !served.ended => {
                return Answer::WaitFor(served.wait(id, asked.block));
            }
            (true, None) => return Answer::NotFound,
        };
        if let Some(answer) = list.delay(id.clone(), asked.block) {
            return answer;
        }
        let show = Show {
            window,
            skip: asked.skip,
            start: view.start,
            query: view.query(),
            define: view.define.clone(),
        };
        let Some(text) = list.text(&show, &self.ranges, || self.reports(&id, frames, &show.query)) else {
            return Answer::NotFound;
        };
        let target = list.head.as_ref().map_or(FIRST_WAIT, |head| head.target_duration);
        // Appendix on caching: what was waited for six target durations, what was not half of one
        let cache_control = match (self.ended || list.ended, asked.block) {
            (true, _) => COMPLETE,
            (false, Some(_)) => max_age(target * 6),
            (false, None) => max_age(target / 2),
        };
        Answer::Ready(playlist_response(text, cache_control))
    }

    /// Why a request for a playlist that has not begun is refused: it asks for what lies too far ahead of all that is there. A rendition
    /// may begin late, with the segment that the others have come to.
    fn too_far(&self, id: &RenditionId, block: Block) -> Option<String> {
        let begun = self
            .renditions
            .get(id)
            .is_some_and(|served| served.head.is_some() || served.ended);
        if begun || self.ended || !self.is_named(id) {
            return None;
        }
        let last = self.renditions.values().filter_map(Served::last_closed).max();
        served::far_ahead(block, last.unwrap_or(FIRST - 1))
    }

    /// How far the other playlists are that a multivariant playlist names beside this one (RFC 8216bis §4.4.5.4, B.1), that of a
    /// rendition's key pictures or its own.
    fn reports(&self, id: &RenditionId, frames: bool, query: &str) -> String {
        let mut out = String::new();
        let low_latency = |served: &Served| {
            let head = served.head.as_ref();
            head.is_some_and(|head| head.blocking)
        };
        if !self.renditions.get(id).is_some_and(low_latency) {
            return out;
        }
        let mut tell = |served: &Served, path: String| {
            if let Some((segment, part)) = served.newest() {
                playlist::write_report(&mut out, &format!("../{path}{query}"), segment, part);
            }
        };
        let mut told: Vec<&RenditionId> = Vec::new();
        for lists in self.multivariant.iter().chain(self.asides.values()) {
            if !lists.names.contains(id) {
                continue;
            }
            for other in &lists.names {
                let Some(served) = self.renditions.get(other).filter(|served| !served.ended) else {
                    continue;
                };
                if told.contains(&other) {
                    continue;
                }
                told.push(other);
                if frames || other != id {
                    tell(served, address::playlist(other));
                }
                if let Some(key_pictures) = served.frames.as_ref().filter(|_| !frames || other != id) {
                    tell(key_pictures, address::frames(other));
                }
            }
        }
        out
    }

    /// Whether what a request waits for is there, or will never come: asking again gives another answer.
    pub fn is_over(&self, wait: &Wait) -> bool {
        let Some(id) = &wait.rendition else {
            return self.ended || self.multivariant.is_some();
        };
        let Some(served) = self.renditions.get(id) else {
            return self.ended;
        };
        let block = wait.segment.map(|segment| Block {
            segment,
            part: wait.part,
        });
        self.ended || served.ended || served.is_over(block)
    }

    /// The bytes from `offset` on of a segment that [`Body::Growing`] named.
    pub fn growth(&self, rendition: &RenditionId, segment: u64, offset: u64) -> Growth {
        let rest = || Growth::Rest {
            key: format!("{rendition}/{}", address::segment(segment)),
            offset,
        };
        let Some(served) = self.renditions.get(rendition) else {
            return Growth::End;
        };
        let closed = served.is_closed(segment);
        let Some(parts) = served.parts.get(&segment) else {
            return if closed || served.ended || self.ended {
                rest()
            } else {
                Growth::WaitFor(served.wait(
                    rendition.clone(),
                    Some(Block {
                        segment,
                        part: Some(0),
                    }),
                ))
            };
        };
        let mut begins = 0;
        for part in parts {
            let ends = begins + part.len;
            if offset < ends {
                let skip = offset - begins;
                return match &part.data {
                    Some(data) => Growth::Bytes(data.slice(skip as usize..)),
                    None => Growth::Stored {
                        key: part.key.to_string(),
                        offset: part.offset + skip,
                        len: part.len - skip,
                    },
                };
            }
            begins = ends;
        }
        if closed || served.ended || self.ended {
            return Growth::End;
        }
        let part = parts.len() as u64;
        Growth::WaitFor(served.wait(
            rendition.clone(),
            Some(Block {
                segment,
                part: Some(part),
            }),
        ))
    }

    /// Whether the segment is the one that is being made, or the one that comes next.
    fn is_unfinished(&self, id: &RenditionId, segment: u64) -> bool {
        let served = self.renditions.get(id);
        let grows = |it: &&Served| it.head.as_ref().is_some_and(|head| !head.own_parts);
        let expected = served.filter(grows).and_then(Served::expected);
        !self.ended && expected.is_some_and(|(next, _)| next == segment)
    }

    fn unfinished(&self, id: RenditionId, segment: u64, first: u64) -> Answer {
        match self.growth(&id, segment, first) {
            // nothing of it is there: an answer could still become 404, or 416
            Growth::WaitFor(wait) => Answer::WaitFor(wait),
            _ => media_response(Body::Growing {
                rendition: id,
                segment,
            }),
        }
    }

    fn manifest(&self) -> Answer {
        let write = |frame| dash::write(frame, &self.book).map(Bytes::from);
        let text = self.manifest.get_or_init(|| self.frame.as_ref().and_then(write));
        match text {
            Some(text) => Answer::Ready(Response {
                content_type: MANIFEST_TYPE,
                cache_control: if self.ended { COMPLETE } else { CHANGING },
                body: Body::Bytes(text.clone()),
            }),
            None if self.ended || self.frame.as_ref().is_some_and(|frame| frame.zero.is_none()) => {
                Answer::NotFound
            }
            None if self.multivariant.is_some() && self.frame.is_none() => Answer::NotFound,
            None => Answer::WaitFor(Wait {
                rendition: self.book.awaited().cloned(),
                segment: None,
                part: None,
                limit: FIRST_WAIT,
            }),
        }
    }

    /// Whether the multivariant playlist names the rendition, so that its playlist will come.
    fn is_named(&self, id: &RenditionId) -> bool {
        let lists = self.multivariant.iter().chain(self.asides.values());
        lists.flat_map(|lists| &lists.names).any(|named| named == id)
    }
}

/// How long a viewer who comes before the first media waits for it.
pub(crate) const FIRST_WAIT: Duration = Duration::from_secs(12);
