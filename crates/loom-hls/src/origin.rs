use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use loom_core::RenditionId;

use crate::address::{self, Address};
use crate::clock::FIRST;
use crate::limits;
use crate::playlist::{self, Opening, PartEntry, PlaylistHead, PlaylistState, SegmentEntry};
use crate::publish::{Change, Publish};

/// Answers viewers' requests for one recording, from what has been published.
///
/// A value in, a value out: any HTTP server can serve it. It keeps the playlists and the most recent parts in memory (bounded
/// by [`limits::PART_MEMORY`] and [`limits::PART_MEMORY_BYTES`] a rendition); everything else it answers with a place in the store.
#[derive(Debug, Default)]
pub struct Origin {
    multivariant: Option<Bytes>,
    /// The multivariant playlists of further pictures.
    asides: HashMap<RenditionId, Bytes>,
    renditions: HashMap<RenditionId, Served>,
    ended: bool,
}

/// The answer to a request.
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
    /// A segment that is still being made: [`Origin::growth`] gives it piece by piece, until it is whole.
    Growing {
        /// The rendition.
        rendition: RenditionId,
        /// The segment's media sequence number.
        segment: u64,
    },
}

/// The next piece of a segment that is still being made.
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

/// One rendition as viewers see it.
#[derive(Debug, Default)]
struct Served {
    head: Option<PlaylistHead>,
    inits: HashMap<u32, Bytes>,
    /// Lines of segments whose parts are not listed any more.
    settled: String,
    recent: VecDeque<Listed>,
    /// Where each segment's file keeps its parts.
    parts: BTreeMap<u64, Vec<PartPlace>>,
    independent: bool,
    ended: bool,
    /// The playlist as text, made when it is asked for.
    text: OnceLock<Bytes>,
    last_closed: Option<u64>,
}

/// A segment whose parts are listed, closed or not.
#[derive(Debug)]
struct Listed {
    number: u64,
    opening: Opening,
    parts: Vec<PartEntry>,
    closed: Option<SegmentEntry>,
}

#[derive(Debug)]
struct PartPlace {
    key: Arc<str>,
    offset: u64,
    len: u64,
    data: Option<Bytes>,
    gap: bool,
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
        let Publish { rendition, change } = publish;
        let Some(id) = rendition else {
            match change {
                Change::Multivariant { aside: None, text } => self.multivariant = Some(text),
                Change::Multivariant {
                    aside: Some(id),
                    text,
                    ..
                } => {
                    self.asides.insert(id, text);
                }
                Change::End => self.ended = true,
                _ => {}
            }
            return;
        };
        let served = self.renditions.entry(id).or_insert_with(|| Served {
            independent: true,
            ..Default::default()
        });
        served.take(change);
        served.text = OnceLock::new();
    }

    /// Answers a request for `path`, relative to the recording's base (`main.m3u8`, `720p/index.m3u8`, `720p/s12.p3.m4s`), with
    /// the URL's query where it has one. `_HLS_msn` and `_HLS_part` are obeyed (RFC 8216bis §6.2.5.2), others ignored.
    pub fn handle_request(&self, path: &str, query: Option<&str>) -> Answer {
        if path.len() + query.map_or(0, str::len) > limits::REQUEST_BYTES {
            return Answer::BadRequest(format!(
                "a path and query are at most {} bytes",
                limits::REQUEST_BYTES
            ));
        }
        let Some(address) = Address::parse(path) else {
            return Answer::NotFound;
        };
        match address {
            Address::Multivariant => match &self.multivariant {
                Some(text) => Answer::Ready(playlist_response(text.clone(), self.ended)),
                None if self.ended => Answer::NotFound,
                None => Answer::WaitFor(Wait {
                    rendition: None,
                    segment: None,
                    part: None,
                    limit: FIRST_WAIT,
                }),
            },
            Address::Aside(id) => match self.asides.get(&id) {
                Some(text) => Answer::Ready(playlist_response(text.clone(), self.ended)),
                None if self.ended || self.multivariant.is_some() => Answer::NotFound,
                None => Answer::WaitFor(Wait {
                    rendition: None,
                    segment: None,
                    part: None,
                    limit: FIRST_WAIT,
                }),
            },
            Address::Playlist(id) => {
                let block = match Block::parse(query) {
                    Ok(block) => block,
                    Err(why) => return Answer::BadRequest(why),
                };
                match self.renditions.get(&id) {
                    Some(served) => served.playlist(id, block),
                    None if self.ended || !self.is_named(&id) => Answer::NotFound,
                    None => Answer::WaitFor(Wait {
                        rendition: Some(id),
                        segment: block.map(|block| block.segment),
                        part: block.and_then(|block| block.part),
                        limit: FIRST_WAIT,
                    }),
                }
            }
            Address::Init(id, number) => match self.renditions.get(&id).and_then(|s| s.inits.get(&number)) {
                Some(data) => media_response(Body::Bytes(data.clone())),
                None => Answer::NotFound,
            },
            Address::Part(id, segment, part) => match self.renditions.get(&id) {
                Some(served) => served.part(id, segment, part),
                None => Answer::NotFound,
            },
            Address::Segment(id, number) if self.is_unfinished(&id, number) => self.unfinished(id, number),
            Address::Segment(ref id, number)
            | Address::Text(ref id, number)
            | Address::TimedText(ref id, number) => {
                let listed = self
                    .renditions
                    .get(id)
                    .is_some_and(|s| s.last_closed.is_some_and(|last| number <= last));
                if listed {
                    stored_answer(path)
                } else {
                    Answer::NotFound
                }
            }
        }
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

    fn unfinished(&self, id: RenditionId, segment: u64) -> Answer {
        match self.growth(&id, segment, 0) {
            // nothing of it is there: an answer could still become 404
            Growth::WaitFor(wait) => Answer::WaitFor(wait),
            _ => media_response(Body::Growing {
                rendition: id,
                segment,
            }),
        }
    }

    /// Whether the multivariant playlist names the rendition, so that its playlist will come.
    fn is_named(&self, id: &RenditionId) -> bool {
        let uri = address::playlist(id);
        self.multivariant
            .iter()
            .chain(self.asides.values())
            .filter_map(|text| std::str::from_utf8(text).ok())
            .any(|text| {
                text.lines()
                    .any(|line| line == uri || line.contains(&format!("URI=\"{uri}\"")))
            })
    }
}

impl Served {
    fn take(&mut self, change: Change) {
        match change {
            Change::Multivariant { .. } => {}
            Change::Init { number, data } => {
                self.inits.insert(number, data);
            }
            Change::Begin { head } => self.head = Some(head),
            Change::Part {
                segment,
                opening,
                entry,
                key,
                offset,
                data,
            } => {
                self.open(segment, opening);
                self.parts.entry(segment).or_default().push(PartPlace {
                    key,
                    offset,
                    len: data.len() as u64,
                    gap: entry.gap,
                    data: Some(data),
                });
                if let Some(listed) = self.recent.back_mut() {
                    listed.parts.push(entry);
                }
                self.forget();
            }
            Change::Segment {
                segment,
                opening,
                entry,
                independent,
            } => {
                self.open(segment, opening);
                self.independent = independent;
                self.last_closed = Some(segment);
                if let Some(listed) = self.recent.back_mut() {
                    listed.closed = Some(entry);
                }
                self.settle();
            }
            Change::End => self.ended = true,
        }
    }

    /// Makes `segment` the newest of the recent ones.
    fn open(&mut self, segment: u64, opening: Option<Opening>) {
        if self.recent.back().is_none_or(|listed| listed.number != segment) {
            self.recent.push_back(Listed {
                number: segment,
                opening: opening.unwrap_or_default(),
                parts: Vec::new(),
                closed: None,
            });
        }
    }

    /// Moves segments that lie more than three target durations before the end to where no parts are listed
    /// (RFC 8216bis §6.2.2).
    fn settle(&mut self) {
        let Some(head) = &self.head else { return };
        let keep = head.target_duration * 3;
        let length = |listed: &Listed| match &listed.closed {
            Some(entry) => entry.duration.duration(),
            None => listed.parts.iter().map(|p| p.duration.duration()).sum(),
        };
        let mut all: Duration = self.recent.iter().map(length).sum();
        while let Some(oldest) = self.recent.front() {
            let rest = all.saturating_sub(length(oldest));
            let Some(entry) = oldest.closed.as_ref().filter(|_| rest >= keep) else {
                return;
            };
            playlist::write_opening(&mut self.settled, &oldest.opening);
            playlist::write_segment(&mut self.settled, entry);
            self.parts.remove(&oldest.number);
            all = rest;
            self.recent.pop_front();
        }
    }

    /// Lets bytes go that few will ask for any more: of all but the last few seconds, and the oldest above the limit.
    /// They are read from the store then.
    fn forget(&mut self) {
        let (mut bytes, mut seconds) = (0, Duration::ZERO);
        for (segment, parts) in self.parts.iter_mut().rev() {
            let listed = self.recent.iter().rev().find(|listed| listed.number == *segment);
            for (at, part) in parts.iter_mut().enumerate().rev() {
                let Some(data) = &part.data else {
                    if part.gap {
                        continue;
                    }
                    return; // what is older has gone before
                };
                let newest = bytes == 0;
                bytes += data.len();
                if !newest && (bytes > limits::PART_MEMORY_BYTES || seconds >= limits::PART_MEMORY) {
                    part.data = None;
                }
                seconds += listed
                    .and_then(|listed| listed.parts.get(at))
                    .map_or(Duration::ZERO, |entry| entry.duration.duration());
            }
        }
    }

    /// The playlist; `None` while it lists nothing.
    fn text(&self) -> Option<&Bytes> {
        let head = self.head.as_ref()?;
        let listed = !self.settled.is_empty() || !self.recent.is_empty();
        listed.then(|| self.text.get_or_init(|| self.render(head)))
    }

    fn render(&self, head: &PlaylistHead) -> Bytes {
        let state = if self.ended {
            PlaylistState::Ended
        } else {
            PlaylistState::Growing
        };
        let mut text = String::with_capacity(self.settled.len() + 4096);
        playlist::write_head(&mut text, head, state, self.independent);
        text.push_str(&self.settled);
        for listed in &self.recent {
            playlist::write_opening(&mut text, &listed.opening);
            if !self.ended {
                for part in &listed.parts {
                    playlist::write_part(&mut text, part);
                }
            }
            if let Some(entry) = &listed.closed {
                playlist::write_segment(&mut text, entry);
            }
        }
        if self.ended {
            text.push_str(playlist::ENDLIST);
        } else if let Some((segment, part)) = self.expected() {
            playlist::write_preload_hint(&mut text, &address::part(segment, part));
        }
        text.into()
    }

    /// The part that comes next, where parts are made.
    fn expected(&self) -> Option<(u64, u64)> {
        self.head.as_ref()?.part_target?;
        let last = self.recent.back()?;
        Some(match last.closed {
            Some(_) => (last.number + 1, 0),
            None => (last.number, last.parts.len() as u64),
        })
    }

    fn playlist(&self, id: RenditionId, block: Option<Block>) -> Answer {
        let wait = Answer::WaitFor(self.wait(id, block));
        if self.head.is_none() || self.settled.is_empty() && self.recent.is_empty() {
            return if self.ended { Answer::NotFound } else { wait };
        }
        if let Some(block) = block.filter(|_| !self.ended) {
            if let Some(why) = self.too_far(block) {
                return Answer::BadRequest(why);
            }
            if !self.holds(block) {
                return wait;
            }
        }
        // hls.js takes a playlist without a whole segment for an error: who does not ask for a part waits for the first
        if block.is_none() && self.last_closed.is_none() && !self.ended {
            return wait;
        }
        match self.text() {
            Some(text) => Answer::Ready(playlist_response(text.clone(), self.ended)),
            None => wait,
        }
    }

    fn is_closed(&self, segment: u64) -> bool {
        self.last_closed.is_some_and(|last| segment <= last)
    }

    /// The wait for what a request names; past the end of a closed segment the next one's first part is meant.
    fn wait(&self, id: RenditionId, block: Option<Block>) -> Wait {
        let block = match block {
            Some(Block {
                segment,
                part: Some(_),
            }) if self.is_closed(segment) => Some(Block {
                segment: segment + 1,
                part: Some(0),
            }),
            block => block,
        };
        Wait {
            rendition: Some(id),
            segment: block.map(|block| block.segment),
            part: block.and_then(|block| block.part),
            limit: self
                .head
                .as_ref()
                .map_or(FIRST_WAIT, |head| head.target_duration * 3),
        }
    }

    /// Whether a wait for `block` is over, one way or the other.
    fn is_over(&self, block: Option<Block>) -> bool {
        match block {
            None => self.last_closed.is_some(),
            // a hinted part that its segment went without does not come any more
            Some(block) => {
                self.is_closed(block.segment) || self.holds(block) || self.too_far(block).is_some()
            }
        }
    }

    /// Whether the playlist holds what the request waits for (RFC 8216bis §6.2.5.2).
    fn holds(&self, block: Block) -> bool {
        let closed = |segment: u64| self.last_closed.is_some_and(|last| segment <= last);
        let Some(part) = block.part else {
            return closed(block.segment);
        };
        let count = |segment: u64| {
            let listed = self.recent.iter().find(|listed| listed.number == segment)?;
            Some(listed.parts.len() as u64)
        };
        match count(block.segment) {
            Some(parts) if part < parts => true,
            // past the end of a closed segment the next one's first part is meant
            _ if closed(block.segment) => match count(block.segment) {
                None => true,
                Some(_) => {
                    closed(block.segment + 1) || count(block.segment + 1).is_some_and(|parts| parts > 0)
                }
            },
            _ => false,
        }
    }

    fn too_far(&self, block: Block) -> Option<String> {
        let first = self.head.as_ref().map_or(FIRST, |head| head.first_segment);
        let next = self.last_closed.map_or(first, |last| last + 1);
        if block.segment > next + 1 {
            return Some(format!(
                "_HLS_msn={} is more than two after the last segment (RFC 8216bis §6.2.5.2)",
                block.segment
            ));
        }
        let limit = match self.head.as_ref()?.part_target?.as_secs_f64() {
            short if short < 1.0 => 3,
            long => (3.0 / long).ceil() as u64,
        };
        let last = self.recent.back()?;
        let part = block.part?;
        let ahead =
            last.closed.is_none() && block.segment == last.number && part >= last.parts.len() as u64 + limit;
        ahead.then(|| {
            format!("_HLS_part={part} is more than {limit} after the last part (RFC 8216bis §6.2.5.2)")
        })
    }

    fn part(&self, id: RenditionId, segment: u64, part: u64) -> Answer {
        let place = usize::try_from(part)
            .ok()
            .and_then(|part| self.parts.get(&segment)?.get(part));
        match place {
            Some(place) if place.gap => Answer::NotFound,
            Some(place) => media_response(match &place.data {
                Some(data) => Body::Bytes(data.clone()),
                None => Body::Stored {
                    key: place.key.to_string(),
                    offset: place.offset,
                    len: Some(place.len),
                },
            }),
            // a hinted part is waited for (RFC 8216bis §6.2.6)
            None if !self.ended && self.expected() == Some((segment, part)) => {
                let part = Some(part);
                Answer::WaitFor(self.wait(id, Some(Block { segment, part })))
            }
            None => Answer::NotFound,
        }
    }
}

/// `_HLS_msn` and `_HLS_part`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Block {
    segment: u64,
    part: Option<u64>,
}

impl Block {
    fn parse(query: Option<&str>) -> Result<Option<Self>, String> {
        let (mut segment, mut part) = (None, None);
        for (name, value) in query
            .unwrap_or_default()
            .split('&')
            .filter_map(|pair| pair.split_once('='))
        {
            let into = match name {
                "_HLS_msn" => &mut segment,
                "_HLS_part" => &mut part,
                _ => continue,
            };
            let plain = (1..=15).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_digit());
            let value = plain.then(|| value.parse::<u64>().ok()).flatten();
            *into =
                Some(value.ok_or_else(|| format!("{name} is not a decimal integer (RFC 8216bis §6.2.5.2)"))?);
        }
        match (segment, part) {
            (Some(segment), part) => Ok(Some(Self { segment, part })),
            (None, Some(_)) => Err("_HLS_part needs _HLS_msn (RFC 8216bis §6.2.5.2)".to_owned()),
            (None, None) => Ok(None),
        }
    }
}

/// The answer for a finished recording, whose folder holds everything: which file `path` is, and how to send it. The file may
/// be missing; then the answer to the viewer is 404.
pub fn stored_answer(path: &str) -> Answer {
    let stored = Body::Stored {
        key: path.to_owned(),
        offset: 0,
        len: None,
    };
    let (content_type, cache_control) = match Address::parse(path) {
        Some(Address::Multivariant | Address::Aside(_) | Address::Playlist(_)) => (PLAYLIST_TYPE, COMPLETE),
        Some(Address::Init(..) | Address::Segment(..)) => (MEDIA_TYPE, FOREVER),
        // the final transcript replaces it
        Some(Address::Text(..)) => (TEXT_TYPE, CHANGING),
        Some(Address::TimedText(..)) => (TIMED_TEXT_TYPE, CHANGING),
        Some(Address::Part(..)) | None => return Answer::NotFound,
    };
    Answer::Ready(Response {
        content_type,
        cache_control,
        body: stored,
    })
}

fn playlist_response(text: Bytes, complete: bool) -> Response {
    Response {
        content_type: PLAYLIST_TYPE,
        cache_control: if complete { COMPLETE } else { CHANGING },
        body: Body::Bytes(text),
    }
}

fn media_response(body: Body) -> Answer {
    Answer::Ready(Response {
        content_type: MEDIA_TYPE,
        cache_control: FOREVER,
        body,
    })
}

/// RFC 8216bis §4.
const PLAYLIST_TYPE: &str = "application/vnd.apple.mpegurl";
/// RFC 8216bis §3.1.2; sound is sent under it too.
const MEDIA_TYPE: &str = "video/mp4";
/// RFC 8216bis §3.1.5, RFC 4337 §2.
const TIMED_TEXT_TYPE: &str = "application/mp4";
/// WebVTT §1.
const TEXT_TYPE: &str = "text/vtt; charset=utf-8";
/// A name is never used again for other bytes.
const FOREVER: &str = "public, max-age=31536000, immutable";
const CHANGING: &str = "no-cache";
const COMPLETE: &str = "public, max-age=60";
/// How long a viewer who comes before the first media waits for it.
const FIRST_WAIT: Duration = Duration::from_secs(12);
