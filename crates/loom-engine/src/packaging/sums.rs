//! What the parts of segments that are being written are, beside them: after a power cut a file can be as long as it was, and empty in the
//! middle. A part that is not as it is described here was not there yet. What may be lost is bounded: where a window's parts are not on the
//! disk yet, however fast they came, the next one waits.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use flate2::Crc;
use loom_core::RenditionId;

use crate::error::EngineError;
use crate::folder::{Folder, PARTS, Safety};
use crate::sync::{Syncer, Written};

/// The segments of a recording that may be lost yet.
#[derive(Debug)]
pub(super) struct Sums {
    renditions: HashMap<String, Rendition>,
    /// Parts of a rendition that may be listed and not on the disk.
    at_risk: usize,
}

#[derive(Debug, Default)]
struct Rendition {
    /// How long the segment that is being written is.
    len: u64,
    /// Segments of which something was written since they were last settled.
    fresh: Vec<String>,
    /// Segments that are described; the oldest first.
    described: VecDeque<String>,
    /// Parts that may not be on the disk yet; the oldest first.
    written: VecDeque<Written>,
}

impl Sums {
    /// All is written to the disk once a window; a part is so long.
    pub(super) fn new(window: Duration, part: Duration) -> Self {
        let parts = window.as_nanos().div_ceil(part.as_nanos().max(1));
        Self {
            renditions: HashMap::new(),
            at_risk: usize::try_from(parts).unwrap_or(usize::MAX).max(1),
        }
    }

    /// Something is about to be written: where it is one part too many that a power cut could take, waits for those before it.
    pub(super) fn keep_up(&mut self, folder: &Folder, key: &str, sync: &Syncer) {
        if folder.safety() == Safety::Kill || !key.ends_with(".m4s") {
            return;
        }
        let it = self.renditions.entry(rendition(key).to_owned()).or_default();
        while it.written.front().is_some_and(|first| sync.is_done(*first)) {
            it.written.pop_front();
        }
        while it.written.len() >= self.at_risk
            && let Some(first) = it.written.pop_front()
        {
            sync.wait(first);
        }
    }

    /// The first piece of a segment is about to be written, or another.
    pub(super) fn describe(
        &mut self,
        folder: &Folder,
        key: &str,
        data: &[u8],
        begins: bool,
    ) -> Result<(), EngineError> {
        if folder.safety() == Safety::Kill || !key.ends_with(".m4s") {
            return Ok(());
        }
        let it = self.renditions.entry(rendition(key).to_owned()).or_default();
        let line = |at: u64| {
            let mut crc = Crc::new();
            crc.update(data);
            format!("{at} {} {:08x}\n", data.len(), crc.sum())
        };
        let name = format!("{PARTS}/{key}");
        match begins {
            true => {
                folder.begin(&name, line(0).as_bytes())?;
                it.len = 0;
                if it.described.back().is_none_or(|last| last != key) {
                    it.described.push_back(key.to_owned());
                }
                while it.described.len() > DESCRIBED {
                    let old = it.described.pop_front().unwrap_or_default();
                    folder.discard(&format!("{PARTS}/{old}"));
                }
            }
            false => folder.append(&name, line(it.len).as_bytes())?,
        }
        Ok(())
    }

    /// It was written.
    pub(super) fn wrote(&mut self, folder: &Folder, key: &str, len: usize, written: Written) {
        if folder.safety() == Safety::Kill || !key.ends_with(".m4s") {
            return;
        }
        let it = self.renditions.entry(rendition(key).to_owned()).or_default();
        it.len += len as u64;
        it.written.push_back(written);
        let file = format!("hls/{key}");
        if it.fresh.last() != Some(&file) {
            it.fresh.push(file);
        }
    }

    /// A playlist is about to be written: what it names survives a power cut first.
    pub(super) fn settle(&mut self, folder: &Folder, key: &str) -> Result<(), EngineError> {
        if folder.safety() == Safety::Kill || !key.ends_with(".m3u8") {
            return Ok(());
        }
        if let Some(it) = self.renditions.get_mut(rendition(key))
            && !it.fresh.is_empty()
        {
            folder.settle(&format!("hls/{}", rendition(key)), &it.fresh)?;
            it.fresh.clear();
        }
        Ok(())
    }
}

/// How much of a segment was there for certain: all of it where its recording was not meant to survive a power cut.
pub(crate) fn vouched(
    folder: &Folder,
    rendition: &RenditionId,
    segment: &str,
    data: &[u8],
) -> Result<usize, EngineError> {
    if !folder.path(PARTS).is_dir() {
        return Ok(data.len());
    }
    let sums = folder.read(&format!("{PARTS}/{rendition}/{segment}"), 0, None)?;
    Ok(whole(&String::from_utf8_lossy(&sums.unwrap_or_default()), data))
}

/// The bytes up to the first piece that is not as described. A line that cannot be read was not there yet, and one may stand twice.
fn whole(sums: &str, data: &[u8]) -> usize {
    let mut at = 0;
    for line in sums.lines() {
        let mut fields = line.split(' ');
        let (from, len, sum) = (fields.next(), fields.next(), fields.next());
        let number = |field: Option<&str>| field.and_then(|it| it.parse::<usize>().ok());
        let sum = sum
            .filter(|it| it.len() == 8)
            .and_then(|it| u32::from_str_radix(it, 16).ok());
        let (Some(from), Some(len), Some(sum)) = (number(from), number(len), sum) else {
            continue;
        };
        let piece = from.checked_add(len).and_then(|end| data.get(from..end));
        let mut crc = Crc::new();
        crc.update(piece.unwrap_or_default());
        if from == at && piece.is_some() && crc.sum() == sum {
            at += len;
        }
    }
    at
}

/// The folder that a file of the stream lies in.
fn rendition(key: &str) -> &str {
    key.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// Segments of a rendition that are described: that which is written, and those whose playlist may be lost yet.
const DESCRIBED: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_as_it_was_described_was_not_there_yet() {
        let pieces: [&[u8]; 3] = [b"first part", b"second", b"and the third"];
        let (mut sums, mut data) = (String::new(), Vec::new());
        for piece in pieces {
            let mut crc = Crc::new();
            crc.update(piece);
            sums.push_str(&format!("{} {} {:08x}\n", data.len(), piece.len(), crc.sum()));
            data.extend_from_slice(piece);
        }
        assert_eq!(whole(&sums, &data), data.len());
        assert_eq!(whole(&sums, &data[..data.len() - 1]), 16);
        let mut holed = data.clone();
        holed[12..14].fill(0);
        assert_eq!(whole(&sums, &holed), 10, "what is behind a hole is of no use");
        for cut in 0..sums.len() {
            let kept = whole(&sums[..cut], &data);
            assert!([0, 10, 16, 29].contains(&kept), "{cut}: {kept}");
        }
        let torn = format!("0 10\0\0\0\n{sums}");
        assert_eq!(whole(&torn, &data), data.len());
        assert_eq!(whole(&format!("{sums}{sums}"), &data), data.len());
        assert_eq!(whole("", &data), 0);
    }
}
