//! What is made of a file, brought into one order: that of time, whoever was done first. So the packager makes the same of it every time.

use std::collections::{BTreeMap, VecDeque};

use loom_core::{MediaTime, RenditionId};
use loom_transcode::{AudioPlan, Output, Outputs};

/// What waits, in lanes that each have their own order.
#[derive(Debug, Default)]
pub(super) struct Lanes(BTreeMap<Lane, VecDeque<(MediaTime, Output)>>);

/// Which of two things at the same instant is first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Lane {
    /// Warnings, pictures, counts.
    Aside,
    Rendition(RenditionId),
    Speech,
}

impl Lanes {
    pub(super) fn push(&mut self, output: Output) {
        let (lane, at) = place(&output);
        self.0.entry(lane).or_default().push_back((at, output));
    }

    /// The next thing before `end`.
    pub(super) fn pop_before(&mut self, end: MediaTime) -> Option<Output> {
        let heads = self
            .0
            .iter()
            .filter_map(|(lane, waiting)| Some((waiting.front()?.0, lane)));
        let (at, lane) = heads.min()?;
        if at >= end {
            return None;
        }
        let lane = lane.clone();
        self.0.get_mut(&lane)?.pop_front().map(|(_, output)| output)
    }
}

/// Formats, and what has no time, are due at once, behind what is before them in their lane.
fn place(output: &Output) -> (Lane, MediaTime) {
    let now = MediaTime::from_nanos(i64::MIN);
    match output {
        Output::Packet { rendition, packet } => (Lane::Rendition(rendition.clone()), packet.dts),
        Output::Format { rendition, .. }
        | Output::Failed {
            rendition: Some(rendition),
            ..
        } => (Lane::Rendition(rendition.clone()), now),
        Output::Pcm(frame) => (Lane::Speech, frame.pts),
        Output::Thumbnail(picture) => (Lane::Aside, picture.pts),
        _ => (Lane::Aside, now),
    }
}

/// The sound of a file: one run by itself, which is led by the pictures.
pub(crate) struct Sound {
    outputs: Outputs,
    /// How far each lane has come.
    heads: BTreeMap<Lane, MediaTime>,
    ended: bool,
}

impl Sound {
    pub(super) fn new(plan: &AudioPlan, outputs: Outputs) -> Self {
        let made = RenditionId::new("aac").filter(|_| plan.encoder.is_some());
        let renditions = plan.keep.clone().into_iter().chain(made).map(Lane::Rendition);
        let lanes = renditions.chain(plan.pcm.then_some(Lane::Speech));
        Self {
            outputs,
            heads: lanes
                .map(|lane| (lane, MediaTime::from_nanos(i64::MIN)))
                .collect(),
            ended: false,
        }
    }

    /// Takes what there is of it up to `end`, and a little more.
    pub(super) async fn read_to(&mut self, end: MediaTime, lanes: &mut Lanes) {
        while !self.ended && self.heads.values().any(|at| *at < end) {
            match self.outputs.recv().await {
                None | Some(Output::End) => self.ended = true,
                // it follows the pictures, which tell their own
                Some(Output::Progress { .. }) => {}
                Some(output) => {
                    let (lane, at) = place(&output);
                    if matches!(output, Output::Failed { .. }) {
                        self.heads.remove(&lane);
                    } else if let Some(head) = self.heads.get_mut(&lane) {
                        *head = at.max(*head);
                    }
                    lanes.push(output);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use loom_core::{Packet, TrackId};

    use super::*;

    fn packet(name: &str, millis: i64) -> Output {
        let pts = MediaTime::from_millis(millis);
        Output::Packet {
            rendition: RenditionId::new(name).expect("a name"),
            packet: Packet {
                track: TrackId(0),
                pts,
                dts: pts,
                duration: None,
                key: true,
                data: Bytes::new(),
            },
        }
    }

    #[test]
    fn whoever_was_done_first_the_order_is_that_of_time() {
        let made = [
            packet("360p", 0),
            packet("aac", 10),
            packet("360p", 40),
            packet("source", 0),
            packet("source", 40),
            packet("aac", 30),
            packet("aac", 60),
        ];
        let order = |made: &mut dyn Iterator<Item = &Output>| {
            let mut lanes = Lanes::default();
            made.for_each(|output| lanes.push(output.clone()));
            let before = std::iter::from_fn(|| lanes.pop_before(MediaTime::from_millis(50)));
            before.collect::<Vec<_>>()
        };
        let first = order(&mut made.iter());
        let expected = [
            ("360p", 0),
            ("source", 0),
            ("aac", 10),
            ("aac", 30),
            ("360p", 40),
            ("source", 40),
        ];
        assert_eq!(first, expected.map(|(name, at)| packet(name, at)));
        let lane = |name: &'static str| {
            made.iter()
                .filter(move |it| place(it).0 == place(&packet(name, 0)).0)
        };
        let other = order(&mut lane("aac").chain(lane("source")).chain(lane("360p")));
        assert_eq!(other, first);
    }
}
