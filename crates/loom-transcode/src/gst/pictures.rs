//! What the threads of a picture graph share. It outlives graphs that fail.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use gst::prelude::*;
use gstreamer as gst;
use loom_core::{CodecParameters, MediaTime, RenditionId};

use super::element::{Outlet, Pace, plain_media_time};
use super::poster::PosterTaker;
use super::rung::{capacity, fail_all};
use super::stillness::Stillness;
use super::thumbnails::ThumbnailTaker;
use super::video::{lock, pad};
use crate::backend::{Output, PictureCount};
use crate::error::TranscodeError;
use crate::keys::KeyPictures;
use crate::plan::VideoPlan;
use crate::shed::LoadShedder;

/// What the graph's threads share. Times are those of buffers, in nanoseconds.
pub(super) struct Shared {
    /// Decoded pictures of other times are none of this run's: what an edit list hides, what belongs to another chunk.
    shown: Range<MediaTime>,
    pub(super) keys: Mutex<KeyPictures>,
    pub(super) load: Mutex<LoadShedder>,
    poster: Mutex<Option<PosterTaker>>,
    thumbnails: Mutex<Option<ThumbnailTaker>>,
    /// What each rung's packets are of.
    formats: Mutex<Vec<Option<CodecParameters>>>,
    /// The last picture of each rung that came out; 0 before there is one.
    emitted: Vec<AtomicU64>,
    /// Pictures are passed over up to the first one that starts a segment after all that came out of each rung.
    resume_after: Mutex<Option<Vec<u64>>>,
    pictures_in: AtomicU64,
    pictures_out: AtomicU64,
    counted_to: AtomicU64,
    /// Pictures of the graph that runs.
    decoded: AtomicU64,
    /// Decoded pictures that each rung has missed since.
    missed: Vec<AtomicU64>,
    /// Pictures that each rung was too late for.
    late: Vec<AtomicU64>,
    /// Packets of each rung.
    encoded: Vec<AtomicU64>,
    still: Mutex<Stillness>,
    /// Times of pictures that were left out lately: as still ones, and by each rung as late ones.
    left_out: Mutex<Vec<VecDeque<u64>>>,
    /// Still pictures that a rung counts as missed.
    recounted: Vec<AtomicU64>,
}

impl Shared {
    pub(super) fn new(plan: &VideoPlan, pace: Pace, shown: Range<MediaTime>, out: &Outlet) -> Self {
        let rungs = plan.rungs.len();
        let thumbnails = plan.thumbnails;
        Self {
            shown,
            keys: Mutex::new(KeyPictures::new(plan.keys)),
            load: Mutex::new(LoadShedder::new(rungs, plan.keep.is_some(), capacity(pace))),
            poster: Mutex::new(plan.poster.then(|| PosterTaker::new(pace, out.clone()))),
            thumbnails: Mutex::new(thumbnails.map(|it| ThumbnailTaker::new(it, pace, out.clone()))),
            formats: Mutex::new(vec![None; rungs]),
            emitted: (0..rungs).map(|_| AtomicU64::new(0)).collect(),
            resume_after: Mutex::new(None),
            pictures_in: AtomicU64::new(0),
            pictures_out: AtomicU64::new(0),
            counted_to: AtomicU64::new(0),
            decoded: AtomicU64::new(0),
            missed: (0..rungs).map(|_| AtomicU64::new(0)).collect(),
            late: (0..rungs).map(|_| AtomicU64::new(0)).collect(),
            encoded: (0..rungs).map(|_| AtomicU64::new(0)).collect(),
            still: Mutex::new(Stillness::default()),
            left_out: Mutex::new(vec![VecDeque::new(); rungs + 1]),
            recounted: (0..rungs).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// A packet goes into the decoder; gives the time up to which every picture has come out of every encoder.
    pub(super) fn handle_packet(&self, packet: &gst::Buffer, key: bool) -> Option<u64> {
        if key && let Some(pts) = packet.pts() {
            lock(&self.keys).handle_source_key(pts.nseconds());
        }
        self.pictures_in.fetch_add(1, Ordering::Relaxed);
        self.done()
    }

    /// A packet goes into a decoder once more.
    pub(super) fn handle_replayed(&self, packet: &gst::Buffer, key: bool) {
        if key && let Some(pts) = packet.pts() {
            lock(&self.keys).handle_source_key(pts.nseconds());
        }
    }

    /// An encoder gave the packet of the picture of this time.
    pub(super) fn handle_encoded(&self, rung: usize, at: u64) {
        if let Some(emitted) = self.emitted.get(rung) {
            emitted.fetch_max(at, Ordering::Relaxed);
        }
        if let Some(encoded) = self.encoded.get(rung) {
            encoded.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A picture was not given to an encoder that is late.
    pub(super) fn handle_late(&self, rung: usize, at: u64) {
        if let Some(late) = self.late.get(rung) {
            late.fetch_add(1, Ordering::Relaxed);
        }
        self.remember(rung + 1, at);
    }

    fn remember(&self, whose: usize, at: u64) {
        if let Some(times) = lock(&self.left_out).get_mut(whose) {
            if times.len() == MOST_LEFT_OUT {
                times.pop_front();
            }
            times.push_back(at);
        }
    }

    /// Whether a format is another than the one before it of this rung.
    pub(super) fn is_news(&self, rung: usize, codec: &CodecParameters) -> bool {
        let mut formats = lock(&self.formats);
        match formats.get_mut(rung) {
            Some(known) if known.as_ref() != Some(codec) => {
                *known = Some(codec.clone());
                true
            }
            _ => false,
        }
    }

    /// The graph is made anew: encoders begin at the first picture that starts a segment after all that have come out.
    pub(super) fn resume(&self) {
        let emitted: Vec<u64> = self.emitted.iter().map(|it| it.load(Ordering::Relaxed)).collect();
        let after = emitted.iter().copied().max().filter(|it| *it > 0);
        lock(&self.keys).resume(after);
        lock(&self.still).forget();
        // What had not come out of a rung is missed by it, whatever else had become of it.
        let mut left_out = lock(&self.left_out);
        for (rung, emitted) in emitted.iter().enumerate() {
            let beyond = |times: &VecDeque<u64>| times.iter().filter(|it| *it > emitted).count() as u64;
            let (still, late) = (beyond(&left_out[0]), beyond(&left_out[rung + 1]));
            self.recounted[rung].fetch_add(still, Ordering::Relaxed);
            self.late[rung].fetch_sub(late, Ordering::Relaxed);
        }
        left_out.iter_mut().for_each(VecDeque::clear);
        drop(left_out);
        *lock(&self.resume_after) = after.map(|_| emitted);
    }

    /// Whether the decoder of this graph has given pictures, and whether encoders have.
    pub(super) fn has_decoded(&self) -> bool {
        self.decoded.load(Ordering::Relaxed) > 0
    }

    /// How many pictures have been decoded, by whichever graph.
    pub(super) fn pictures(&self) -> u64 {
        self.pictures_out.load(Ordering::Relaxed)
    }

    fn done(&self) -> Option<u64> {
        let times = self.emitted.iter().map(|it| it.load(Ordering::Relaxed));
        // Where nothing is encoded, what was decoded is done with.
        let done = times
            .min()
            .unwrap_or_else(|| self.counted_to.load(Ordering::Relaxed));
        Some(done).filter(|it| *it > 0)
    }

    fn is_passed_over(&self, at: u64, starts_segment: bool) -> bool {
        let mut resume_after = lock(&self.resume_after);
        let Some(emitted) = &*resume_after else {
            return false;
        };
        if starts_segment && emitted.iter().all(|it| at > *it) {
            *resume_after = None;
            return false;
        }
        for (missed, emitted) in self.missed.iter().zip(emitted) {
            missed.fetch_add(u64::from(at > *emitted), Ordering::Relaxed);
        }
        true
    }

    /// Looks at every picture as it leaves the decoder: it is counted, times go up, and segments are started here for
    /// every encoder at once. Those that show what is shown already go no further where it `compares`.
    pub(super) fn watch_decoder(
        self: &Arc<Self>,
        decoder: &gst::Element,
        pace: Pace,
        compares: bool,
    ) -> Result<(), TranscodeError> {
        let pad = pad(decoder, "src")?;
        let shared = self.clone();
        pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |pad, info| {
            let is_end = info.event().is_some_and(|it| it.type_() == gst::EventType::Eos);
            // Past this pad, so that it is not looked at again.
            if is_end
                && let Some(last) = lock(&shared.still).finish()
                && let Some(peer) = pad.peer()
            {
                let _ = peer.chain(last);
            }
            gst::PadProbeReturn::Ok
        });
        let shared = self.clone();
        shared.decoded.store(0, Ordering::Relaxed);
        let last = AtomicU64::new(0);
        pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            let Some(buffer) = info.buffer() else {
                return gst::PadProbeReturn::Ok;
            };
            let Some(pts) = buffer.pts().map(gst::ClockTime::nseconds) else {
                return DROPPED;
            };
            let at = plain_media_time(gst::ClockTime::from_nseconds(pts));
            if !shared.shown.contains(&at) {
                return DROPPED;
            }
            shared.decoded.fetch_add(1, Ordering::Relaxed);
            // A picture that is decoded anew after a failure is counted once.
            if shared.counted_to.fetch_max(pts, Ordering::Relaxed) < pts {
                shared.pictures_out.fetch_add(1, Ordering::Relaxed);
            }
            // x264 wants each picture later than the one before.
            if pts <= last.swap(pts, Ordering::Relaxed) {
                return DROPPED;
            }
            let starts_segment = lock(&shared.keys).handle_picture(pts);
            if shared.is_passed_over(pts, starts_segment) {
                return DROPPED;
            }
            if compares
                && let Some(caps) = pad.current_caps()
                && !lock(&shared.still).handle_picture(buffer, &caps, pts, starts_segment)
            {
                shared.remember(0, pts);
                if pace == Pace::Live {
                    pad.push_event(left_out(pts));
                }
                return DROPPED;
            }
            gst::PadProbeReturn::Ok
        });
        Ok(())
    }

    /// Whether a packet needs decoding where nothing is encoded: all until the poster is taken, then the key frames that become
    /// thumbnails, which need no others.
    pub(super) fn looks_at(&self, packet: &gst::Buffer, key: bool) -> bool {
        let poster = lock(&self.poster).as_ref().is_some_and(|it| !it.is_done());
        let wanted = |at| lock(&self.thumbnails).as_ref().is_some_and(|it| it.wants(at));
        poster || (key && packet.pts().map(plain_media_time).is_some_and(wanted))
    }

    /// Offers every picture, turned upright, to the poster and to the thumbnails.
    pub(super) fn watch_upright(self: &Arc<Self>, element: &gst::Element) -> Result<(), TranscodeError> {
        let shared = self.clone();
        pad(element, "src")?.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            if let (Some(picture), Some(caps)) = (info.buffer(), pad.current_caps()) {
                if let Some(poster) = &mut *lock(&shared.poster) {
                    poster.handle_picture(picture, &caps);
                }
                if let Some(thumbnails) = &mut *lock(&shared.thumbnails) {
                    thumbnails.handle_picture(picture, &caps);
                }
            }
            gst::PadProbeReturn::Ok
        });
        Ok(())
    }

    /// Writes the poster where that has not happened and the last thumbnails, and waits for them.
    pub(super) fn finish_looking(&self) {
        let poster = lock(&self.poster).as_mut().and_then(|poster| {
            poster.finish();
            poster.take_writer()
        });
        let thumbnails = lock(&self.thumbnails).as_mut().and_then(ThumbnailTaker::finish);
        for writer in poster.into_iter().chain(thumbnails) {
            let _ = writer.join();
        }
    }

    /// What became of every decoded picture, a rung each.
    pub(super) fn counts(&self, ids: &[RenditionId]) -> Vec<PictureCount> {
        let still = lock(&self.still).dropped();
        let count = |of: &[AtomicU64], rung: usize| of.get(rung).map_or(0, |it| it.load(Ordering::Relaxed));
        let ids = ids.iter().enumerate();
        ids.map(|(rung, id)| PictureCount {
            rendition: id.clone(),
            decoded: self.pictures_out.load(Ordering::Relaxed),
            encoded: count(&self.encoded, rung),
            still: still.saturating_sub(count(&self.recounted, rung)),
            late: count(&self.late, rung),
            missed: count(&self.missed, rung),
        })
        .collect()
    }

    /// A graph can come to its end without an error and without pictures: what came out is held against what went in.
    pub(super) fn check_counts(&self, pace: Pace, expected: Option<u64>, ids: &[RenditionId], out: &Outlet) {
        let (packets, pictures) = (
            self.pictures_in.load(Ordering::Relaxed),
            self.pictures_out.load(Ordering::Relaxed),
        );
        let expected = match pace {
            Pace::File if !ids.is_empty() => expected.unwrap_or(packets),
            _ => packets,
        };
        if expected > 0 && pictures == 0 {
            fail_all(ids, &format!("none of {expected} pictures could be decoded"), out);
        } else if pace == Pace::File && pictures < expected {
            out.warn(format!(
                "video: {pictures} of {expected} pictures could be decoded"
            ));
        }
        for count in self.counts(ids) {
            if count.missed > 0 {
                out.warn(format!(
                    "video: {} pictures are missing from {}, between a failure and the next segment",
                    count.missed, count.rendition
                ));
            }
            let _ = out.send(Output::Counted(count));
        }
        let dropped = lock(&self.load).dropped();
        if dropped > 0 {
            tracing::info!(dropped, "pictures were dropped before encoders");
        }
    }
}

/// What goes through the graph in the place of a picture that was left out, behind those before it: up to the encoder, which would keep
/// it until the next picture.
pub(super) fn left_out(at: u64) -> gst::Event {
    gst::event::Gap::new(gst::ClockTime::from_nseconds(at), gst::ClockTime::NONE)
}

/// What a probe answers to take a buffer out of the flow. Not `Drop`: the binding has taken the buffer already then, and GStreamer
/// would complain that there is none to give back.
pub(super) const DROPPED: gst::PadProbeReturn = gst::PadProbeReturn::Handled;

/// Many more than pictures fit between a decoder and its slowest encoder.
const MOST_LEFT_OUT: usize = 512;
