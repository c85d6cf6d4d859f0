use std::fmt;
use std::str::FromStr;

use crate::AiError;

/// What Whisper hears with.
///
/// ```
/// use loom_ai::{Device, ModelConfig};
///
/// let mut config = ModelConfig::default();
/// config.device = "cuda:1".parse()?;
/// assert_eq!(config.device, Device::Cuda(1));
/// # Ok::<(), loom_ai::AiError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Device {
    /// This machine's processor.
    #[default]
    Cpu,
    /// The NVIDIA GPU of this number, from 0 (feature `cuda`).
    Cuda(usize),
    /// Apple's GPU (feature `metal`).
    Metal,
    /// A GPU where one is built in, is there and has the memory, else the processor.
    Auto,
}

impl Device {
    /// Something else was named.
    pub(crate) fn unknown() -> AiError {
        AiError::Config {
            field: "device",
            rule: "must be cpu, cuda, cuda:N, metal or auto",
        }
    }
}

impl FromStr for Device {
    type Err = AiError;

    /// `cpu`, `cuda` (the first), `cuda:N`, `metal` or `auto`.
    fn from_str(text: &str) -> Result<Self, AiError> {
        match text {
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            "metal" => Ok(Self::Metal),
            "auto" => Ok(Self::Auto),
            _ => match text.strip_prefix("cuda:").map(str::parse) {
                Some(Ok(number)) => Ok(Self::Cuda(number)),
                _ => Err(Self::unknown()),
            },
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
            Self::Metal => f.write_str("metal"),
            Self::Auto => f.write_str("auto"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_read_as_it_is_written_and_anything_else_is_refused() {
        for device in [
            Device::Cpu,
            Device::Cuda(0),
            Device::Cuda(3),
            Device::Metal,
            Device::Auto,
        ] {
            assert_eq!(device.to_string().parse::<Device>().unwrap(), device);
        }
        assert_eq!("cuda".parse::<Device>().unwrap(), Device::Cuda(0));
        for wrong in ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "CPU", "unknown"] {
            let error = wrong.parse::<Device>().unwrap_err();
            assert!(
                matches!(error, AiError::Config { field: "device", .. }),
                "{wrong}"
            );
        }
    }
}
