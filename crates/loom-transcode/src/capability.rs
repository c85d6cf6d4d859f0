use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use crate::device::{DeviceFamily, MemoryDomain};
use crate::elements;
use crate::error::PlanError;
use crate::limits;

/// What this machine can do: how many cores it has and which GStreamer elements are installed, each with its limits.
/// Plain data, so that a list recorded on one machine can be planned for on another. Its text, one element a line, is
/// read back by `FromStr`:
///
/// ```text
/// cores 16
/// nvh264dec gives=CUDAMemory,system profiles=high,main size=48x16..4096x4096
/// nvh264enc takes=CUDAMemory,system size=145x49..4096x4096 sessions=8
/// ```
///
/// ```
/// use loom_transcode::Capabilities;
///
/// let machine = Capabilities::of(8, ["x264enc", "nvh264enc"]);
/// assert!(machine.has("x264enc"));
/// assert_eq!(machine.hardware().collect::<Vec<_>>(), ["nvh264enc"]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// Processor cores this process may use, at least 1.
    pub cores: usize,
    /// Elements that are present, out of those that the planner knows, by the name of their factory.
    pub elements: BTreeMap<String, ElementLimits>,
}

/// What one element can do, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ElementLimits {
    /// Memories that it takes pictures from. Empty: those of its documentation.
    pub takes: BTreeSet<MemoryDomain>,
    /// Memories that it gives pictures in. Empty: those of its documentation.
    pub gives: BTreeSet<MemoryDomain>,
    /// Profiles that it decodes, by GStreamer's names. Empty: any.
    pub profiles: BTreeSet<String>,
    /// The smallest width and height, pixels.
    pub smallest: Option<(u32, u32)>,
    /// The largest width and height, pixels.
    pub largest: Option<(u32, u32)>,
    /// How many of it can run at once.
    pub sessions: Option<u32>,
}

impl ElementLimits {
    /// Why a picture of this size is not for it, or `None` where it is.
    pub(crate) fn refusal_of_size(&self, (w, h): (u32, u32)) -> Option<String> {
        match (self.smallest, self.largest) {
            (Some((least_w, least_h)), _) if w < least_w || h < least_h => {
                Some(format!("{w}x{h} is below the {least_w}x{least_h} that it takes"))
            }
            (_, Some((most_w, most_h))) if w > most_w || h > most_h => {
                Some(format!("{w}x{h} is above the {most_w}x{most_h} that it takes"))
            }
            _ => None,
        }
    }

    /// Why a stream of this profile is not for it, or `None` where it is or where one of both is not known.
    pub(crate) fn refusal_of_profile(&self, profile: Option<&str>) -> Option<String> {
        let profile = profile.filter(|_| !self.profiles.is_empty())?;
        // Each is within the next ones, ISO/IEC 14496-10 Annex A.2.
        let wider: &[&str] = match profile {
            "constrained-baseline" => &["baseline", "main", "high"],
            "main" => &["high"],
            "constrained-high" => &["progressive-high", "high"],
            "progressive-high" => &["high"],
            _ => &[],
        };
        let known = |it: &str| self.profiles.contains(it);
        let decodes = known(profile) || wider.iter().any(|it| known(it));
        (!decodes).then(|| format!("it does not decode profile {profile}"))
    }
}

impl Capabilities {
    /// A machine with `cores` and the named elements, of whose limits nothing is known.
    pub fn of<'a>(cores: usize, factories: impl IntoIterator<Item = &'a str>) -> Self {
        let unlimited = |name: &str| (name.to_owned(), ElementLimits::default());
        Self {
            cores: cores.max(1),
            elements: factories.into_iter().map(unlimited).collect(),
        }
    }

    /// This machine's cores and no elements: what can be kept as it came is all that can be done.
    pub fn none() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self::of(cores, [])
    }

    /// Whether an element is present.
    pub fn has(&self, factory: &str) -> bool {
        self.elements.contains_key(factory)
    }

    /// The first of `names` that is present.
    pub fn first_of<'a>(&self, names: &[&'a str]) -> Option<&'a str> {
        names.iter().copied().find(|name| self.has(name))
    }

    /// Elements that are present and are not the processor.
    pub fn hardware(&self) -> impl Iterator<Item = &str> {
        let mut names: Vec<&str> = elements::VIDEO
            .iter()
            .filter(|it| it.family != DeviceFamily::Cpu && self.has(it.factory))
            .map(|it| it.factory)
            .collect();
        names.sort_unstable();
        names.dedup();
        names.into_iter()
    }

    /// Every factory name the planner may ask for.
    pub fn known() -> impl Iterator<Item = &'static str> {
        let video = elements::VIDEO.iter().map(|it| it.factory);
        video.chain(elements::SOUND.iter().copied().flatten().copied())
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cores {}", self.cores)?;
        for (name, limits) in &self.elements {
            write!(f, "\n{name}")?;
            let memories = |all: &BTreeSet<MemoryDomain>| {
                let names: Vec<_> = all.iter().map(|it| it.name()).collect();
                names.join(",")
            };
            if !limits.takes.is_empty() {
                write!(f, " takes={}", memories(&limits.takes))?;
            }
            if !limits.gives.is_empty() {
                write!(f, " gives={}", memories(&limits.gives))?;
            }
            if !limits.profiles.is_empty() {
                let names: Vec<_> = limits.profiles.iter().map(String::as_str).collect();
                write!(f, " profiles={}", names.join(","))?;
            }
            if limits.smallest.is_some() || limits.largest.is_some() {
                let (least, most) = (
                    limits.smallest.unwrap_or((1, 1)),
                    limits.largest.unwrap_or((i32::MAX as u32, i32::MAX as u32)),
                );
                write!(f, " size={}x{}..{}x{}", least.0, least.1, most.0, most.1)?;
            }
            if let Some(sessions) = limits.sessions {
                write!(f, " sessions={sessions}")?;
            }
        }
        Ok(())
    }
}

impl FromStr for Capabilities {
    type Err = PlanError;

    fn from_str(text: &str) -> Result<Self, PlanError> {
        let mut made = Self::of(1, []);
        for (index, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let refused = |why: String| PlanError::CapabilityList { line: index + 1, why };
            if made.elements.len() >= limits::MAX_ELEMENTS {
                return Err(refused(format!(
                    "there are more than {} elements",
                    limits::MAX_ELEMENTS
                )));
            }
            let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            if name == "cores" {
                let cores = rest.trim().parse::<usize>().ok().filter(|it| *it > 0);
                made.cores = cores.ok_or_else(|| refused(format!("{rest:?} is no number of cores")))?;
                continue;
            }
            let limits = element_limits(rest).map_err(refused)?;
            made.elements.insert(name.to_owned(), limits);
        }
        Ok(made)
    }
}

fn element_limits(text: &str) -> Result<ElementLimits, String> {
    let mut made = ElementLimits::default();
    for field in text.split_whitespace() {
        let (key, value) = field
            .split_once('=')
            .ok_or_else(|| format!("{field:?} is no key=value"))?;
        match key {
            "takes" => made.takes = value.split(',').map(str::parse).collect::<Result<_, _>>()?,
            "gives" => made.gives = value.split(',').map(str::parse).collect::<Result<_, _>>()?,
            "profiles" => made.profiles = value.split(',').map(str::to_owned).collect(),
            "size" => {
                let (least, most) = value
                    .split_once("..")
                    .ok_or_else(|| format!("{value:?} is no WxH..WxH"))?;
                (made.smallest, made.largest) = (Some(size(least)?), Some(size(most)?));
            }
            "sessions" => {
                let sessions = value.parse().map_err(|why| format!("{value:?}: {why}"))?;
                made.sessions = Some(sessions);
            }
            _ => return Err(format!("{key:?} is not known")),
        }
    }
    Ok(made)
}

fn size(text: &str) -> Result<(u32, u32), String> {
    let sides = text
        .split_once('x')
        .and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
    sides.ok_or_else(|| format!("{text:?} is no WxH"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preferred_factory_that_is_absent_is_passed_over() {
        let can = Capabilities::of(2, ["faad", "fdkaacdec"]);
        assert_eq!(can.first_of(elements::AAC_DECODERS), Some("faad"));
        assert_eq!(can.first_of(elements::AAC_ENCODERS), None);
    }

    #[test]
    fn a_list_is_read_back_as_it_was_written() {
        let text = "cores 16\n\
            nvh264dec gives=system,CUDAMemory profiles=high,main size=48x16..4096x4096\n\
            nvh264enc takes=system,CUDAMemory sessions=8\n\
            x264enc";
        let can: Capabilities = text.parse().unwrap();
        assert_eq!(can.to_string(), text);
        assert_eq!(can.elements["nvh264enc"].sessions, Some(8));
        let commented: Capabilities = "# a list\n\ncores 4 # of them\nx264enc\n".parse().unwrap();
        assert_eq!(commented, Capabilities::of(4, ["x264enc"]));
    }

    #[test]
    fn a_list_that_cannot_be_read_is_refused_with_its_line() {
        for (text, line) in [
            ("cores none", 1),
            ("x264enc\nx265enc takes", 2),
            ("nvh264dec gives=Moon", 1),
            ("\n\nx264enc size=3", 3),
            ("x264enc size=3x..4x4", 1),
            ("x264enc sessions=-1", 1),
            ("x264enc colour=red", 1),
        ] {
            let why = text.parse::<Capabilities>().unwrap_err();
            assert!(
                matches!(why, PlanError::CapabilityList { line: at, .. } if at == line),
                "{text:?}: {why}"
            );
        }
    }

    #[test]
    fn a_profile_is_decoded_by_whoever_decodes_a_wider_one() {
        let limits: ElementLimits = element_limits("profiles=high,baseline").unwrap();
        for profile in ["high", "main", "constrained-baseline", "constrained-high"] {
            assert_eq!(limits.refusal_of_profile(Some(profile)), None);
        }
        assert!(limits.refusal_of_profile(Some("high-4:4:4")).is_some());
        assert_eq!(limits.refusal_of_profile(None), None);
        assert_eq!(ElementLimits::default().refusal_of_profile(Some("high-10")), None);
    }
}
