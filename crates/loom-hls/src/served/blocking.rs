//! Requests for a playlist that wait until it has grown (RFC 8216bis §6.2.5.2).

use loom_core::RenditionId;

use crate::directives::Block;
use crate::origin::{Answer, FIRST_WAIT, Wait};
use crate::served::Served;

impl Served {
    /// What a request for the playlist has to wait for, or is refused for; `None` where it can be answered.
    pub(crate) fn delay(&self, id: RenditionId, block: Option<Block>) -> Option<Answer> {
        let wait = Answer::WaitFor(self.wait(id, block));
        if !self.listed() && self.ended {
            return Some(Answer::NotFound);
        }
        if let Some(block) = block.filter(|_| !self.ended)
            && let Some(why) = self.too_far(block)
        {
            return Some(Answer::BadRequest(why));
        }
        if !self.listed() {
            return Some(wait);
        }
        if block.is_some_and(|block| !self.ended && !self.holds(block)) {
            return Some(wait);
        }
        // hls.js takes a playlist without a whole segment for an error: who does not ask for a part waits for the first
        (block.is_none() && self.last_closed.is_none() && !self.ended).then_some(wait)
    }

    /// The newest segment that is whole.
    pub(crate) fn last_closed(&self) -> Option<u64> {
        self.last_closed
    }

    pub(crate) fn is_closed(&self, segment: u64) -> bool {
        self.last_closed.is_some_and(|last| segment <= last)
    }

    /// The wait for what a request names; past the end of a closed segment the next one's first part is meant.
    pub(crate) fn wait(&self, id: RenditionId, block: Option<Block>) -> Wait {
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
    pub(crate) fn is_over(&self, block: Option<Block>) -> bool {
        match block {
            None => self.last_closed.is_some(),
            // where its segment went without it, a hinted part is the next one's first
            Some(block) => {
                let passed = block.part.is_some() && self.is_closed(block.segment);
                passed || self.holds(block) || self.too_far(block).is_some()
            }
        }
    }

    /// Whether the playlist holds what the request waits for (RFC 8216bis §6.2.5.2).
    fn holds(&self, block: Block) -> bool {
        let closed = |segment: u64| self.is_closed(segment);
        let Some(part) = block.part else {
            return closed(block.segment) && self.awaits() != Some(block.segment);
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
        // one that has not begun may begin late, see Origin::too_far
        let head = self.head.as_ref()?;
        if let Some(why) = far_ahead(
            block,
            self.last_closed.unwrap_or(head.first_segment.saturating_sub(1)),
        ) {
            return Some(why);
        }
        let limit = match head.part_target?.as_secs_f64() {
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
}

/// Why a request for `block` is refused where `last` is the last segment: it is more than two behind it.
pub(crate) fn far_ahead(block: Block, last: u64) -> Option<String> {
    (block.segment > last + 2).then(|| {
        format!(
            "_HLS_msn={} is more than two after the last segment (RFC 8216bis §6.2.5.2)",
            block.segment
        )
    })
}
