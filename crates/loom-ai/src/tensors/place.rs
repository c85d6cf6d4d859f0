use std::cell::Cell;

use candle_core::{DType, Shape, Tensor};

use super::memory::Need;
use crate::{AiError, Device};

/// A device that is open, and how numbers are kept on it.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) device: Device,
    on: candle_core::Device,
    dtype: DType,
    /// Bytes that are free, where that is known.
    free: Option<u64>,
    /// Values that were put here.
    put: Cell<usize>,
}

/// How numbers are kept on a GPU, as OpenAI's own decoder does.
const ON_GPU: DType = DType::F16;

impl Place {
    /// Opens the device that is wanted, where it has the memory; nothing for the processor. To be called, as all else here, by the one thread
    /// that will use it: a CUDA stream is a thread's own.
    pub(super) fn find(
        wanted: Device,
        model: &str,
        at_once: usize,
        need: &Need,
    ) -> Result<Option<Self>, AiError> {
        let ready = |device| Self::open(device)?.holding(model, at_once, need);
        match wanted {
            Device::Cpu => Ok(None),
            Device::Cuda(_) | Device::Metal => ready(wanted).map(Some),
            Device::Auto => {
                let any =
                    [Device::Cuda(0), Device::Metal]
                        .into_iter()
                        .find_map(|device| match ready(device) {
                            Ok(it) => Some(it),
                            Err(why) => {
                                tracing::info!(%why, "not heard with a gpu");
                                None
                            }
                        });
                Ok(any)
            }
        }
    }

    fn open(device: Device) -> Result<Self, AiError> {
        let opened = match device {
            Device::Cuda(number) => cuda(number),
            _ => metal(),
        };
        let (on, free) = opened.map_err(|reason| AiError::Device { device, reason })?;
        Ok(Self {
            device,
            on,
            dtype: ON_GPU,
            free: Some(free),
            put: Cell::new(0),
        })
    }

    /// candle's tensors on the processor.
    #[cfg(test)]
    pub(super) fn processor(free: Option<u64>) -> Self {
        Self {
            device: Device::Cpu,
            on: candle_core::Device::Cpu,
            dtype: DType::F32,
            free,
            put: Cell::new(0),
        }
    }

    /// Values that were put here so far.
    pub(super) fn put(&self) -> usize {
        self.put.get()
    }

    /// Itself, where a model that needs so much fits.
    pub(super) fn holding(self, model: &str, at_once: usize, need: &Need) -> Result<Self, AiError> {
        let size = self.dtype.size_in_bytes() as u64;
        let (needed, weights) = (need.values() * size, need.weights * size);
        match self.free {
            Some(free) if needed > free => Err(AiError::Memory {
                device: self.device,
                model: model.to_owned(),
                at_once,
                needed,
                weights,
                free,
            }),
            _ => Ok(self),
        }
    }

    /// Values as they are kept here.
    pub(super) fn tensor(&self, values: Vec<f32>, shape: impl Into<Shape>) -> candle_core::Result<Tensor> {
        self.put.set(self.put.get() + values.len());
        let it = Tensor::from_vec(values, shape.into(), &candle_core::Device::Cpu)?;
        it.to_dtype(self.dtype)?.to_device(&self.on)
    }

    /// Numbers of rows and the like.
    pub(super) fn indices(&self, values: Vec<u32>) -> candle_core::Result<Tensor> {
        let count = values.len();
        Tensor::from_vec(values, count, &self.on)
    }

    pub(super) fn zeros(&self, shape: impl Into<Shape>) -> candle_core::Result<Tensor> {
        let shape = shape.into();
        self.put.set(self.put.get() + shape.elem_count());
        Tensor::zeros(shape, self.dtype, &self.on)
    }
}

/// The device and the bytes that are free on it, or why there is none.
type Opened = Result<(candle_core::Device, u64), String>;

#[cfg(feature = "cuda")]
fn cuda(number: usize) -> Opened {
    let on = candle_core::Device::new_cuda(number).map_err(|it| it.to_string())?;
    let device = on.as_cuda_device().map_err(|it| it.to_string())?;
    let stream = device.cuda_stream();
    let (free, _) = stream.context().mem_get_info().map_err(|it| it.to_string())?;
    Ok((on, free as u64))
}

#[cfg(not(feature = "cuda"))]
fn cuda(_: usize) -> Opened {
    Err("this program is built without feature `cuda`".to_owned())
}

#[cfg(feature = "metal")]
fn metal() -> Opened {
    let on = candle_core::Device::new_metal(0).map_err(|it| it.to_string())?;
    let device = on.as_metal_device().map_err(|it| it.to_string())?.device();
    let free = device
        .recommended_max_working_set_size()
        .saturating_sub(device.current_allocated_size());
    Ok((on, free as u64))
}

#[cfg(not(feature = "metal"))]
fn metal() -> Opened {
    Err("this program is built without feature `metal`".to_owned())
}
