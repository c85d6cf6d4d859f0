use std::time::Duration;

use loom_core::{RenditionId, VideoCodec};

use super::{RungPlan, usual_bitrate};
use crate::device::Devices;
use crate::sound::SoundTreatment;
use crate::thumbnails::Thumbnails;

/// One step of the ladder that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rung {
    /// Its rendition's name.
    pub id: RenditionId,
    /// Pixels of its shorter side at most.
    pub lines: u32,
    /// Bits a second at most, over any second, for 30 pictures a second.
    pub bitrate: u32,
}

impl Rung {
    /// A rung named for its lines, such as `720p`; `None` for a count of lines outside 2 to
    /// [`MAX_DIMENSION`](crate::limits::MAX_DIMENSION).
    pub fn new(lines: u32, bitrate: u32) -> Option<Self> {
        let id = RenditionId::new(&format!("{lines}p"))?;
        (2..=crate::limits::MAX_DIMENSION)
            .contains(&lines)
            .then_some(Self { id, lines, bitrate })
    }
}

/// What is to be made of a source.
///
/// ```
/// use loom_transcode::{Rung, Wanted};
///
/// let one_small_rung = Wanted {
///     rungs: Rung::new(360, 600_000).into_iter().collect(),
///     poster: false,
///     ..Wanted::default()
/// };
/// assert_eq!(one_small_rung.rungs[0].id.as_str(), "360p");
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// Video rungs. Those above the source's size are left out.
    pub rungs: Vec<Rung>,
    /// Keep an H.264 source as the top rendition, `source`, as it came; and Opus or AAC sound likewise.
    pub keep_source: bool,
    /// Make an AAC rendition, `aac`.
    pub aac: bool,
    /// What is done with sound before it is encoded to `aac`. A file's sound that is AAC is then encoded again rather than kept; Opus is kept beside.
    pub sound: SoundTreatment,
    /// Give 16 kHz mono PCM for captions.
    pub captions_pcm: bool,
    /// Give one poster picture.
    pub poster: bool,
    /// Give small pictures along the way. Where nothing else needs pictures, only key frames are decoded for them.
    pub thumbnails: Option<Thumbnails>,
    /// How often segments may start where the source is not kept: every encoder makes an IDR picture this often.
    pub key_interval: Duration,
    /// The longest time between key frames with which a file's video is still kept as it came.
    pub max_key_interval: Duration,
    /// The most cores' worth of work a live session may plan for; `None` leaves it to the planner.
    pub live_cores: Option<f64>,
    /// What rungs are encoded in.
    pub codec: VideoCodec,
    /// Which devices may be used.
    pub devices: Devices,
    /// Leave out pictures that show what the one before them shows: on screens, most. One a second is encoded, each that starts a
    /// segment, and the last. Times are kept, so rungs have fewer pictures than their source, at some of its instants. Live, who cuts
    /// parts is told of each one that is left out ([`Output::Still`](crate::Output::Still)).
    pub skip_still: bool,
}

impl Default for Wanted {
    fn default() -> Self {
        let ladder = [
            (1080, 5_000_000),
            (720, 2_800_000),
            (480, 1_400_000),
            (360, 800_000),
        ];
        Self {
            rungs: ladder
                .into_iter()
                .filter_map(|(lines, bitrate)| Rung::new(lines, bitrate))
                .collect(),
            keep_source: true,
            aac: true,
            sound: SoundTreatment::default(),
            captions_pcm: true,
            poster: true,
            thumbnails: Some(Thumbnails::default()),
            key_interval: Duration::from_secs(2),
            max_key_interval: Duration::from_secs(6),
            live_cores: None,
            codec: VideoCodec::H264,
            devices: Devices::default(),
            skip_still: true,
        }
    }
}

impl Wanted {
    /// The source as it came and nothing else: no ladder, no `aac`, no captions, no pictures. A live source of H.264 and Opus
    /// then costs no decoder and no encoder. What cannot be kept becomes one H.264 rendition of its own size.
    pub fn source_only() -> Self {
        Self {
            rungs: Vec::new(),
            aac: false,
            captions_pcm: false,
            poster: false,
            thumbnails: None,
            ..Self::default()
        }
    }
}

/// The size of a rung: `lines` on the shorter side of `shown`, the aspect kept, both sides even, never larger.
fn fit(shown: (u32, u32), lines: u32) -> (u32, u32) {
    let (w, h) = shown;
    let short = w.min(h).max(1);
    let lines = lines.min(short);
    let scale = |side: u32| {
        let exact = f64::from(side) * f64::from(lines) / f64::from(short);
        (((exact / 2.0).round() as u32) * 2).min(side & !1).max(2)
    };
    (scale(w), scale(h))
}

/// Every rung that fits the source, from the largest down. Where the source is not kept, the first is its own size.
pub(super) fn candidates(shown: (u32, u32), wanted: &Wanted, kept: bool, frame_rate: f64) -> Vec<RungPlan> {
    let mut ladder = wanted.rungs.clone();
    ladder.sort_by_key(|rung| std::cmp::Reverse(rung.lines));
    ladder.dedup_by_key(|rung| rung.lines);
    let short = shown.0.min(shown.1);
    let mut rungs: Vec<RungPlan> = Vec::new();
    let mut above = short;
    if !kept {
        // The smallest rung that holds the source gives the top its name; larger sources come down to the largest rung.
        let top = ladder
            .iter()
            .rev()
            .find(|rung| rung.lines >= short)
            .or(ladder.first());
        // Without a ladder what cannot be kept still becomes something that plays.
        let own = Rung::new(short, usual_bitrate(shown, 30.0)).filter(|_| top.is_none());
        if let Some(top) = top.or(own.as_ref()) {
            rungs.push(rung_plan(top, shown, frame_rate));
            above = short.min(top.lines);
        }
    }
    for rung in &ladder {
        // A step of less than a seventh is no other choice to a viewer.
        if f64::from(rung.lines) <= f64::from(above) * 0.86 {
            rungs.push(rung_plan(rung, shown, frame_rate));
            above = rung.lines;
        }
    }
    // A viewer on a thin line needs some choice, however small the step.
    if usize::from(kept) + rungs.len() < 2 && short > 360 {
        rungs.extend(
            ladder
                .iter()
                .find(|rung| rung.lines < above)
                .map(|rung| rung_plan(rung, shown, frame_rate)),
        );
    }
    rungs
}

fn rung_plan(rung: &Rung, shown: (u32, u32), frame_rate: f64) -> RungPlan {
    let (width, height) = fit(shown, rung.lines);
    // Twice the pictures want about 1.5 times the bits.
    let bitrate = f64::from(rung.bitrate) * (frame_rate / 30.0).max(1.0).powf(0.6);
    RungPlan {
        id: rung.id.clone(),
        width,
        height,
        bitrate: bitrate as u32,
        threads: 1,
    }
}

/// Which rungs a budget of cores allows, by their indices in order: the top where the source is not kept, then the
/// lowest, then from the top down; never fewer than `least`.
pub(super) fn afford(decode: f64, prices: &[f64], kept: bool, least: usize, budget: f64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..prices.len()).collect();
    if let Some(lowest) = order.pop() {
        order.insert(usize::from(!kept && lowest > 0), lowest);
    }
    let mut spent = decode;
    let mut chosen = Vec::new();
    for index in order {
        let price = prices[index];
        if chosen.len() < least || spent + price <= budget {
            spent += price;
            chosen.push(index);
        }
    }
    chosen.sort_unstable();
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rung_keeps_the_aspect_with_even_sides() {
        assert_eq!(fit((1920, 1080), 720), (1280, 720));
        assert_eq!(fit((1920, 1080), 360), (640, 360));
        assert_eq!(fit((1280, 674), 480), (912, 480));
        assert_eq!(fit((1230, 720), 360), (616, 360));
        assert_eq!(fit((1080, 1920), 480), (480, 854));
        assert_eq!(fit((3440, 1440), 1080), (2580, 1080));
    }

    #[test]
    fn a_rung_is_never_larger_than_its_source() {
        assert_eq!(fit((641, 361), 361), (640, 360));
        assert_eq!(fit((320, 240), 720), (320, 240));
        assert_eq!(fit((5, 3), 2), (4, 2));
        for w in 2..90 {
            for h in 2..90 {
                for lines in [2, 16, 45, 360] {
                    let (rw, rh) = fit((w, h), lines);
                    assert!(rw <= w && rh <= h && rw % 2 == 0 && rh % 2 == 0 && rw > 0 && rh > 0);
                }
            }
        }
    }
}
