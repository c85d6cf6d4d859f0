use std::time::Duration;

/// What a test writes into each packet of sound and each picture that it sends: who sent it, and when it was captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stamp {
    /// The session, counted from 0.
    pub(super) session: u8,
    /// Its place among those of its track, in which nothing is left out.
    pub(super) number: u32,
    /// When it was captured, by the true clock, since the schedule's begin.
    pub(super) captured: Duration,
}

impl Stamp {
    /// Bytes of which none is zero, so that they can stand in a NAL unit as they are.
    pub(super) fn write(&self) -> Vec<u8> {
        let nanos = self.captured.as_nanos() as u64;
        let fields = [u64::from(self.session), u64::from(self.number), nanos];
        let nibbles = fields
            .iter()
            .flat_map(|field| (0..16).map(move |at| 0x40 | (field >> (60 - 4 * at) & 0xf) as u8));
        MAGIC.iter().copied().chain(nibbles).collect()
    }

    /// Of a sample; `None` where it has none, as silence and pictures that are repeated have.
    pub(super) fn read(sample: &[u8]) -> Option<Self> {
        let head = &sample[..sample.len().min(HEAD)];
        let at = head.windows(MAGIC.len()).position(|it| it == MAGIC)? + MAGIC.len();
        let nibbles = head.get(at..at + 48)?;
        let mut fields = nibbles.chunks(16).map(|field| {
            let nibbles = field.iter().map(|byte| u64::from(byte & 0xf));
            nibbles.fold(0, |all, nibble| all << 4 | nibble)
        });
        Some(Self {
            session: fields.next()? as u8,
            number: fields.next()? as u32,
            captured: Duration::from_nanos(fields.next()?),
        })
    }
}

/// As the name of unregistered user data has it: 16 bytes (ISO/IEC 14496-10 §D.2.6).
const MAGIC: &[u8; 16] = b"loom-schedule-01";

/// Where in a sample a stamp ends at the latest.
const HEAD: usize = 96;
