//! What this machine has: installed elements, with the limits that their pad templates state. Those of devices are
//! made for the very device that was found.

use std::collections::BTreeSet;

use gstreamer as gst;

use crate::capability::{Capabilities, ElementLimits};
use crate::device::{DeviceFamily, MemoryDomain};
use crate::elements;
use crate::error::TranscodeError;

impl Capabilities {
    /// Looks at this machine: cores this process may use, and which of the elements that the planner knows are
    /// installed. How many sessions a device runs at once is not known before it refuses one.
    ///
    /// # Errors
    /// Where GStreamer does not start.
    pub fn probe() -> Result<Self, TranscodeError> {
        super::start()?;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let mut made = Self::of(cores, []);
        for name in Self::known() {
            let Some(factory) = gst::ElementFactory::find(name) else {
                continue;
            };
            let known = elements::VIDEO.iter().find(|it| it.factory == name);
            let on_device = known.is_some_and(|it| it.family != DeviceFamily::Cpu);
            let limits = if on_device {
                limits_of(&factory)
            } else {
                ElementLimits::default()
            };
            made.elements.insert(name.to_owned(), limits);
        }
        Ok(made)
    }
}

fn limits_of(factory: &gst::ElementFactory) -> ElementLimits {
    let mut made = ElementLimits::default();
    for template in factory.static_pad_templates() {
        let caps = template.caps();
        for (structure, features) in caps.iter_with_features() {
            if structure.name() == "video/x-raw" {
                let memories: BTreeSet<_> = memory(features).into_iter().collect();
                match template.direction() {
                    gst::PadDirection::Sink => made.takes.extend(memories),
                    _ => made.gives.extend(memories),
                }
            } else if template.direction() == gst::PadDirection::Sink {
                made.profiles.extend(profiles(structure));
            }
            let range = |field: &str| {
                let range = structure.get::<gst::IntRange<i32>>(field).ok()?;
                // A template that states no limit says so by the whole range.
                let most = Some(range.max()).filter(|it| *it < i32::MAX)?;
                Some((u32::try_from(range.min()).ok()?, u32::try_from(most).ok()?))
            };
            if let (Some(w), Some(h)) = (range("width"), range("height")) {
                let least = made.smallest.unwrap_or((w.0, h.0));
                let most = made.largest.unwrap_or((w.1, h.1));
                made.smallest = Some((least.0.min(w.0), least.1.min(h.0)));
                made.largest = Some((most.0.max(w.1), most.1.max(h.1)));
            }
        }
    }
    made
}

fn memory(features: &gst::CapsFeaturesRef) -> Option<MemoryDomain> {
    if features.is_equal(gst::CapsFeatures::new_empty().as_ref()) || features.contains("memory:SystemMemory")
    {
        return Some(MemoryDomain::System);
    }
    MemoryDomain::ALL
        .into_iter()
        .find(|it| features.contains(format!("memory:{it}").as_str()))
}

fn profiles(structure: &gst::StructureRef) -> Vec<String> {
    let Ok(value) = structure.value("profile") else {
        return Vec::new();
    };
    if let Ok(list) = value.get::<gst::List>() {
        return list.iter().filter_map(|it| it.get::<String>().ok()).collect();
    }
    value.get::<String>().into_iter().collect()
}
