//! Ways for pictures from packet to packet: every combination of elements that can be linked, the cheapest first.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use loom_core::{RenditionId, VideoCodec};
use serde::{Deserialize, Serialize};

use super::{Preset, RungPlan, SourceVideoCodec};
use crate::capability::{Capabilities, ElementLimits};
use crate::device::{DeviceFamily, Devices, MemoryDomain};
use crate::elements::{CPU_SCALER, Known, VIDEO, Work};

/// One element of a route, and the memory in which pictures leave it, or enter it where it encodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// Its factory. Settings may follow, as `name key=value`.
    pub factory: String,
    /// Whose it is.
    pub family: DeviceFamily,
    /// Where its pictures lie.
    pub memory: MemoryDomain,
}

impl Stage {
    /// An element of the processor.
    pub fn cpu(factory: &str) -> Self {
        Self {
            factory: factory.to_owned(),
            family: DeviceFamily::Cpu,
            memory: MemoryDomain::System,
        }
    }

    /// Whether pictures are copied inside it, between its device's memory and ordinary memory.
    fn copies_inside(&self) -> bool {
        self.memory != self.family.memory()
    }
}

/// A copy of each picture from one memory to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crossing {
    /// Where it was.
    pub from: MemoryDomain,
    /// Where it is then.
    pub to: MemoryDomain,
    /// The factory that copies: an element of its own, or the decoder or encoder that does so inside.
    pub by: String,
    /// The rendition whose pictures they are; `None` for pictures of the source's size.
    pub rendition: Option<RenditionId>,
}

/// The elements that pictures pass on their way from packet to packet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// Decodes, once.
    pub decoder: Stage,
    /// Scales, once a rung; `None` where there are no rungs.
    pub scaler: Option<Stage>,
    /// Encodes: one for each rung, from the largest down.
    pub encoders: Vec<Stage>,
    /// Copies between memories. Where there are none, pictures stay where they were decoded.
    pub crossings: Vec<Crossing>,
    /// Cores that it takes, by estimate.
    pub cost: f64,
}

impl Route {
    /// A route of the processor alone, with the same encoder for each of so many rungs.
    pub fn cpu(decoder: &str, encoder: &str, rungs: usize) -> Self {
        Self {
            decoder: Stage::cpu(decoder),
            scaler: (rungs > 0).then(|| Stage::cpu(CPU_SCALER)),
            encoders: vec![Stage::cpu(encoder); rungs],
            crossings: Vec::new(),
            cost: 0.0,
        }
    }

    /// Every factory that it needs.
    pub fn factories(&self) -> BTreeSet<&str> {
        let stages = std::iter::once(&self.decoder)
            .chain(&self.scaler)
            .chain(&self.encoders);
        let crossings = self.crossings.iter().map(|it| it.by.as_str());
        stages.map(|it| it.factory.as_str()).chain(crossings).collect()
    }

    /// Whether it needs an element of this factory, whatever its settings are.
    pub fn uses(&self, factory: &str) -> bool {
        let name = |it: &str| it.split_whitespace().next().map(str::to_owned);
        self.factories().into_iter().any(|it| name(it) == name(factory))
    }

    /// Every memory that its pictures lie in.
    pub fn memories(&self) -> BTreeSet<MemoryDomain> {
        let stages = std::iter::once(&self.decoder)
            .chain(&self.scaler)
            .chain(&self.encoders);
        stages.map(|it| it.memory).collect()
    }
}

/// Something that is installed and is not used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// The factory, or the name of a rendition.
    pub what: String,
    /// Why, in words.
    pub why: String,
}

/// What a route is wanted for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Errand<'a> {
    pub(super) source: SourceVideoCodec,
    pub(super) profile: Option<&'a str>,
    /// As the decoder sees it.
    pub(super) coded: (u32, u32),
    pub(super) shown: (u32, u32),
    pub(super) frame_rate: f64,
    pub(super) is_turned: bool,
    /// Whether it is 8-bit 4:2:0.
    pub(super) is_plain: bool,
    pub(super) rungs: &'a [RungPlan],
    pub(super) preset: Preset,
    pub(super) codec: VideoCodec,
    pub(super) devices: Devices,
    pub(super) can: &'a Capabilities,
}

/// Routes, best first, none of which is without use: each does without something that every better one needs.
#[derive(Debug, Default)]
pub(super) struct Routes {
    pub(super) routes: Vec<Route>,
    pub(super) rejected: Vec<Rejected>,
}

impl Errand<'_> {
    /// Finds every way.
    pub(super) fn routes(&self) -> Routes {
        let mut refusals: BTreeMap<&str, String> = BTreeMap::new();
        let mut found: Vec<Route> = Vec::new();
        let decoders = self.usable(Work::Decode(self.source), &mut refusals);
        let encoders = self.usable(Work::Encode(self.codec), &mut refusals);
        let scalers = self.usable(Work::Scale, &mut refusals);
        for decoder in decoders.iter().flat_map(|it| self.decoding(it)) {
            if self.rungs.is_empty() {
                found.extend(self.looking(&decoder));
                continue;
            }
            for scaler in scalers.iter().flat_map(|it| self.scaling(it)) {
                for encoder in encoders.iter().flat_map(|it| self.encoding(it)) {
                    found.extend(self.link(&decoder, &scaler, &encoder, &encoders));
                }
            }
        }
        let on_device = |it: &Route| it.decoder.family != DeviceFamily::Cpu;
        found.sort_by(|a, b| {
            // Where pictures are only looked at, a few a second are decoded: no device is woken for them.
            let looking = match self.rungs.is_empty() {
                true => on_device(a).cmp(&on_device(b)),
                false => Ordering::Equal,
            };
            let cost = (a.cost * 1e6).round().total_cmp(&(b.cost * 1e6).round());
            looking.then(cost).then(a.crossings.len().cmp(&b.crossings.len()))
        });
        let rejected = self.rejections(&found, refusals);
        let mut routes: Vec<Route> = Vec::new();
        for route in found {
            let needs = route.factories();
            if !routes.iter().any(|better| better.factories().is_subset(&needs)) {
                routes.push(route);
            }
        }
        Routes { routes, rejected }
    }

    /// Cores for the decoder of a route, and for each rung.
    pub(super) fn prices(&self, route: &Route) -> (f64, Vec<f64>) {
        let pixels = |(w, h): (u32, u32)| f64::from(w) * f64::from(h) * self.frame_rate / 1e6;
        let copies = |whose: Option<&RenditionId>| {
            let count = route.crossings.iter().filter(|it| it.rendition.as_ref() == whose);
            count.count() as f64 * MOVE_COST
        };
        let on_cpu = |it: &Stage| it.family == DeviceFamily::Cpu;
        let decode = if on_cpu(&route.decoder) {
            DECODE_COST
        } else {
            DEVICE_DECODE_COST
        };
        let scale = if route.scaler.as_ref().is_none_or(on_cpu) {
            SCALE_COST
        } else {
            DEVICE_SCALE_COST
        };
        let rungs = self.rungs.iter().zip(&route.encoders).map(|(rung, encoder)| {
            let encode = if on_cpu(encoder) {
                encode_cost(self.codec, self.preset)
            } else {
                DEVICE_ENCODE_COST
            };
            pixels((rung.width, rung.height)) * (scale + encode + copies(Some(&rung.id)))
        });
        (pixels(self.shown) * (decode + copies(None)), rungs.collect())
    }

    /// Installed elements for `work` that nothing speaks against.
    fn usable(&self, work: Work, refusals: &mut BTreeMap<&'static str, String>) -> Vec<&'static Known> {
        let installed = VIDEO.iter().filter(|it| it.work == work && self.has(it.factory));
        let usable = installed.filter(|known| match self.refusal(known) {
            None => true,
            Some(why) => {
                refusals.insert(known.factory, why);
                false
            }
        });
        usable.collect()
    }

    fn has(&self, factory: &str) -> bool {
        factory == CPU_SCALER || self.can.has(factory)
    }

    fn limits(&self, factory: &str) -> &ElementLimits {
        const UNKNOWN: &ElementLimits = &ElementLimits {
            takes: BTreeSet::new(),
            gives: BTreeSet::new(),
            profiles: BTreeSet::new(),
            smallest: None,
            largest: None,
            sessions: None,
        };
        self.can.elements.get(factory).unwrap_or(UNKNOWN)
    }

    /// Why an element is out of the question, whatever it is linked with.
    fn refusal(&self, known: &Known) -> Option<String> {
        if !self.devices.allow(known.family) {
            return Some(format!("devices of {} are not wanted", known.family));
        }
        let limits = self.limits(known.factory);
        match known.work {
            Work::Decode(_) => limits
                .refusal_of_profile(self.profile)
                .or_else(|| limits.refusal_of_size(self.coded)),
            Work::Scale if self.is_turned && known.family != DeviceFamily::Cpu => {
                Some("the picture is turned, which the processor does".to_owned())
            }
            Work::Scale if known.factory == "cudascale" && !self.is_plain => {
                Some("it does not convert, and the source is not 8-bit 4:2:0".to_owned())
            }
            Work::Encode(_) if limits.sessions == Some(0) => Some("it has no sessions".to_owned()),
            Work::Encode(_) if !self.rungs.is_empty() => {
                let size = |rung: &RungPlan| limits.refusal_of_size((rung.width, rung.height));
                let all = self.rungs.iter().all(|rung| size(rung).is_some());
                self.rungs.first().and_then(size).filter(|_| all)
            }
            _ => None,
        }
    }

    fn decoding(&self, known: &Known) -> Vec<Stage> {
        let recorded = &self.limits(known.factory).gives;
        stages(known, recorded, known.gives)
    }

    fn encoding(&self, known: &Known) -> Vec<Stage> {
        let recorded = &self.limits(known.factory).takes;
        stages(known, recorded, known.takes)
    }

    /// A scaler works where its device's pictures lie.
    fn scaling(&self, known: &Known) -> Option<Stage> {
        let recorded = &self.limits(known.factory).gives;
        let own = known.family.memory();
        stages(known, recorded, known.gives)
            .into_iter()
            .find(|it| it.memory == own)
    }

    fn looking(&self, decoder: &Stage) -> Option<Route> {
        if self.is_turned && decoder.memory != MemoryDomain::System {
            return None;
        }
        let mut route = Route {
            decoder: decoder.clone(),
            scaler: None,
            encoders: Vec::new(),
            crossings: decoder_crossing(decoder).into_iter().collect(),
            cost: 0.0,
        };
        route.cost = self.prices(&route).0;
        Some(route)
    }

    /// A route by these three. Rungs that the encoder cannot take, for their size or for its sessions, go to others.
    fn link(&self, decoder: &Stage, scaler: &Stage, encoder: &Stage, all: &[&Known]) -> Option<Route> {
        // Turned pictures are turned before they are scaled, in ordinary memory.
        let mut crossings: Vec<Crossing> = decoder_crossing(decoder).into_iter().collect();
        crossings.extend(self.moves(decoder.memory, scaler.memory, None)?);
        let mut running: BTreeMap<DeviceFamily, u32> = BTreeMap::new();
        let mut encoders = Vec::new();
        for rung in self.rungs {
            let mut best: Option<(f64, Stage, Vec<Crossing>)> = None;
            let others = all.iter().flat_map(|it| self.encoding(it));
            for candidate in std::iter::once(encoder.clone()).chain(others) {
                let limits = self.limits(&candidate.factory);
                let used = running.get(&candidate.family).copied().unwrap_or(0);
                let is_full = limits.sessions.is_some_and(|most| used >= most);
                if is_full || limits.refusal_of_size((rung.width, rung.height)).is_some() {
                    continue;
                }
                let Some(mut moves) = self.moves(scaler.memory, candidate.memory, Some(&rung.id)) else {
                    continue;
                };
                moves.extend(encoder_crossing(&candidate, &rung.id));
                if candidate == *encoder {
                    best = Some((0.0, candidate, moves));
                    break;
                }
                let encode = match candidate.family {
                    DeviceFamily::Cpu => encode_cost(self.codec, self.preset),
                    _ => DEVICE_ENCODE_COST,
                };
                let price = encode + moves.len() as f64 * MOVE_COST;
                if best.as_ref().is_none_or(|(least, ..)| price < *least) {
                    best = Some((price, candidate, moves));
                }
            }
            let (_, stage, moves) = best?;
            *running.entry(stage.family).or_default() += 1;
            encoders.push(stage);
            crossings.extend(moves);
        }
        let mut route = Route {
            decoder: decoder.clone(),
            scaler: Some(scaler.clone()),
            encoders,
            crossings,
            cost: 0.0,
        };
        let (decode, rungs) = self.prices(&route);
        route.cost = decode + rungs.iter().sum::<f64>();
        // Where none of the rungs went to it, this is another encoder's route.
        route.encoders.contains(encoder).then_some(route)
    }

    /// The copies from one memory to another; between two devices by way of ordinary memory.
    fn moves(
        &self,
        from: MemoryDomain,
        to: MemoryDomain,
        whose: Option<&RenditionId>,
    ) -> Option<Vec<Crossing>> {
        let step = |from: MemoryDomain, to: MemoryDomain| {
            let mover = VIDEO.iter().find(|it| {
                it.work == Work::Move
                    && it.takes.contains(&from)
                    && it.gives.contains(&to)
                    && self.has(it.factory)
                    && self.devices.allow(it.family)
            })?;
            Some(Crossing {
                from,
                to,
                by: mover.factory.to_owned(),
                rendition: whose.cloned(),
            })
        };
        if from == to {
            return Some(Vec::new());
        }
        step(from, to).map(|it| vec![it]).or_else(|| {
            let middle = MemoryDomain::System;
            let distinct = from != middle && to != middle;
            distinct.then(|| Some(vec![step(from, middle)?, step(middle, to)?]))?
        })
    }

    /// Why each installed element that could do part of the work has none.
    fn rejections(&self, found: &[Route], mut refusals: BTreeMap<&str, String>) -> Vec<Rejected> {
        let Some(best) = found.first() else {
            return refusals
                .into_iter()
                .map(|(what, why)| Rejected {
                    what: what.to_owned(),
                    why,
                })
                .collect();
        };
        let used = best.factories();
        let mut rejected = Vec::new();
        let works = [Work::Decode(self.source), Work::Scale, Work::Encode(self.codec)];
        for work in works {
            if work != works[0] && self.rungs.is_empty() {
                break;
            }
            let idle = VIDEO
                .iter()
                .filter(|it| it.work == work && self.has(it.factory) && !used.contains(it.factory));
            for known in idle {
                let why = refusals.remove(known.factory).unwrap_or_else(|| {
                    let with = found.iter().find(|it| it.factories().contains(known.factory));
                    match with {
                        None => "pictures cannot get to it or from it".to_owned(),
                        Some(_) if self.rungs.is_empty() => {
                            "pictures are only looked at, which the one before it does".to_owned()
                        }
                        Some(with) if same_cost(with.cost, best.cost) => {
                            format!(
                                "it costs the same, {:.3} cores, and comes later in the order",
                                with.cost
                            )
                        }
                        Some(with) => format!(
                            "{:.3} cores and {} copies with it, {:.3} and {} as planned",
                            with.cost,
                            with.crossings.len(),
                            best.cost,
                            best.crossings.len()
                        ),
                    }
                });
                rejected.push(Rejected {
                    what: known.factory.to_owned(),
                    why,
                });
            }
        }
        rejected
    }
}

fn same_cost(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-6
}

/// One stage for each memory, by what was recorded of the machine where anything was.
fn stages(known: &Known, recorded: &BTreeSet<MemoryDomain>, documented: &[MemoryDomain]) -> Vec<Stage> {
    let stage = |memory: MemoryDomain| Stage {
        factory: known.factory.to_owned(),
        family: known.family,
        memory,
    };
    if recorded.is_empty() {
        documented.iter().copied().map(stage).collect()
    } else {
        recorded.iter().copied().map(stage).collect()
    }
}

fn decoder_crossing(decoder: &Stage) -> Option<Crossing> {
    decoder.copies_inside().then(|| Crossing {
        from: decoder.family.memory(),
        to: decoder.memory,
        by: decoder.factory.clone(),
        rendition: None,
    })
}

fn encoder_crossing(encoder: &Stage, rendition: &RenditionId) -> Option<Crossing> {
    encoder.copies_inside().then(|| Crossing {
        from: encoder.memory,
        to: encoder.family.memory(),
        by: encoder.factory.clone(),
        rendition: Some(rendition.clone()),
    })
}

// Cores for a million pixels a second, measured at 720p on film, the dearest content.
const DECODE_COST: f64 = 0.0044;
const SCALE_COST: f64 = 0.0022;

// Of devices not measured: what a driver's calls and the bitstream's way through memory may cost.
const DEVICE_DECODE_COST: f64 = 0.0003;
const DEVICE_SCALE_COST: f64 = 0.0001;
const DEVICE_ENCODE_COST: f64 = 0.0005;
/// One copy of 1.5 bytes a pixel at about 2.5 GB/s, not measured.
const MOVE_COST: f64 = 0.0006;

fn encode_cost(codec: VideoCodec, preset: Preset) -> f64 {
    let h264 = match preset {
        Preset::Superfast => 0.0087,
        Preset::Veryfast => 0.0143,
    };
    match codec {
        VideoCodec::H264 => h264,
        // Not measured.
        _ => h264 * 3.0,
    }
}
