use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A kind of device that decodes, scales or encodes, by the interface through which it is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum DeviceFamily {
    /// NVDEC, NVENC and CUDA.
    Nvidia,
    /// VA-API: Intel and AMD graphics on Linux.
    VaApi,
    /// Intel Quick Sync Video (oneVPL).
    QuickSync,
    /// V4L2 memory-to-memory devices: Raspberry Pi, i.MX, Qualcomm, Rockchip.
    V4l2,
    /// Apple VideoToolbox.
    VideoToolbox,
    /// The processor.
    Cpu,
}

impl DeviceFamily {
    /// Every family, the processor last.
    pub const ALL: [Self; 6] = [
        Self::Nvidia,
        Self::VaApi,
        Self::QuickSync,
        Self::V4l2,
        Self::VideoToolbox,
        Self::Cpu,
    ];

    /// The memory that its pictures are in before anything is handed over.
    pub fn memory(self) -> MemoryDomain {
        match self {
            Self::Nvidia => MemoryDomain::Cuda,
            Self::VaApi | Self::QuickSync => MemoryDomain::Va,
            // Its buffers are mapped, not copied; an IOSurface is mapped likewise.
            Self::V4l2 | Self::VideoToolbox | Self::Cpu => MemoryDomain::System,
        }
    }
}

impl fmt::Display for DeviceFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nvidia => "NVIDIA",
            Self::VaApi => "VA-API",
            Self::QuickSync => "Quick Sync",
            Self::V4l2 => "V4L2",
            Self::VideoToolbox => "VideoToolbox",
            Self::Cpu => "CPU",
        })
    }
}

/// Where decoded pictures lie. Between two domains a picture is copied. Its text is the name of GStreamer's caps
/// feature after `memory:`, or `system`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum MemoryDomain {
    /// Ordinary memory.
    System,
    /// `CUDAMemory`.
    Cuda,
    /// `VAMemory`: surfaces of libva.
    Va,
    /// `D3D11Memory`.
    D3d11,
    /// `GLMemory`.
    Gl,
    /// `DMABuf`.
    DmaBuf,
}

impl MemoryDomain {
    /// Every domain.
    pub const ALL: [Self; 6] = [
        Self::System,
        Self::Cuda,
        Self::Va,
        Self::D3d11,
        Self::Gl,
        Self::DmaBuf,
    ];

    /// The name in caps features, without `memory:`.
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Cuda => "CUDAMemory",
            Self::Va => "VAMemory",
            Self::D3d11 => "D3D11Memory",
            Self::Gl => "GLMemory",
            Self::DmaBuf => "DMABuf",
        }
    }
}

impl fmt::Display for MemoryDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for MemoryDomain {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|it| it.name() == text);
        found.ok_or_else(|| format!("{text:?} is no kind of memory that is known"))
    }
}

/// Which devices may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
#[non_exhaustive]
pub enum Devices {
    /// Whatever is there; what fails is replaced by the next best.
    #[default]
    Any,
    /// This family, and the processor for what it cannot do.
    Only(DeviceFamily),
}

impl Devices {
    pub(crate) fn allow(self, family: DeviceFamily) -> bool {
        match self {
            Self::Any => true,
            Self::Only(only) => family == only || family == DeviceFamily::Cpu,
        }
    }
}
