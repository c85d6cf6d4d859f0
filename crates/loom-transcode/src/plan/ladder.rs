use std::time::Duration;

use loom_core::RenditionId;

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
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// Video rungs. Those above the source's size are left out.
    pub rungs: Vec<Rung>,
    /// Keep an H.264 source as the top rendition, `source`, as it came; and Opus or AAC sound likewise.
    pub keep_source: bool,
    /// Make an AAC rendition, `aac`.
    pub aac: bool,
    /// Give 16 kHz mono PCM for captions.
    pub captions_pcm: bool,
    /// Give one poster picture.
    pub poster: bool,
    /// How often segments may start where the source is not kept: every encoder makes an IDR picture this often.
    pub key_interval: Duration,
    /// The longest time between key frames with which a file's video is still kept as it came.
    pub max_key_interval: Duration,
    /// The most cores' worth of work a live session may plan for; `None` leaves it to the planner.
    pub live_cores: Option<f64>,
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
            captions_pcm: true,
            poster: true,
            key_interval: Duration::from_secs(2),
            max_key_interval: Duration::from_secs(6),
            live_cores: None,
        }
    }
}

/// The size of a rung: `lines` on the shorter side of `shown`, the aspect kept, both sides even, never larger.
pub(crate) fn fit(shown: (u32, u32), lines: u32) -> (u32, u32) {
    let (w, h) = shown;
    let short = w.min(h).max(1);
    let lines = lines.min(short);
    let scale = |side: u32| {
        let exact = f64::from(side) * f64::from(lines) / f64::from(short);
        (((exact / 2.0).round() as u32) * 2).min(side & !1).max(2)
    };
    (scale(w), scale(h))
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
