use std::io::{BufReader, Read};
use std::path::Path;

use candle_core::quantized::GgmlDType;
use candle_core::{DType, Device, Tensor};

use crate::AiError;

/// Reads little-endian fields and never allocates more than the file still has.
pub(crate) struct Reader<'a> {
    pub(crate) path: &'a Path,
    inner: Box<dyn Read + 'a>,
    pub(crate) left: u64,
}

impl<'a> Reader<'a> {
    pub(crate) fn open(path: &'a Path) -> Result<Self, AiError> {
        let file = std::fs::File::open(path).map_err(|e| AiError::io(path, e))?;
        let left = file.metadata().map_err(|e| AiError::io(path, e))?.len();
        Ok(Self {
            path,
            inner: Box::new(BufReader::with_capacity(1 << 20, file)),
            left,
        })
    }

    /// Of bytes that are in memory; `path` is what errors name.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn of(path: &'a Path, bytes: &'a [u8]) -> Self {
        Self {
            path,
            inner: Box::new(bytes),
            left: bytes.len() as u64,
        }
    }

    pub(crate) fn bad(&self, what: &str, rule: impl Into<String>) -> AiError {
        AiError::malformed(self.path, what, rule)
    }

    pub(crate) fn bytes(&mut self, what: &str, len: usize) -> Result<Vec<u8>, AiError> {
        self.has(what, len as u64)?;
        let mut out = vec![0; len];
        self.fill(what, &mut out)?;
        Ok(out)
    }

    fn has(&self, what: &str, len: u64) -> Result<(), AiError> {
        if len > self.left {
            return Err(self.bad(
                what,
                format!("{len} bytes wanted, {} left: the file is truncated", self.left),
            ));
        }
        Ok(())
    }

    fn fill(&mut self, what: &str, out: &mut [u8]) -> Result<(), AiError> {
        self.has(what, out.len() as u64)?;
        self.inner
            .read_exact(out)
            .map_err(|e| AiError::io(self.path, e))?;
        self.left -= out.len() as u64;
        Ok(())
    }

    pub(crate) fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], AiError> {
        let mut out = [0; N];
        self.fill(what, &mut out)?;
        Ok(out)
    }

    /// Passes over what nobody asked for.
    pub(crate) fn skip(&mut self, what: &str, mut len: u64) -> Result<(), AiError> {
        self.has(what, len)?;
        let mut some = [0; 4_096];
        while len > 0 {
            let part = len.min(some.len() as u64);
            self.fill(what, &mut some[..part as usize])?;
            len -= part;
        }
        Ok(())
    }

    pub(crate) fn u32(&mut self, what: &str) -> Result<u32, AiError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub(crate) fn u64(&mut self, what: &str) -> Result<u64, AiError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    pub(crate) fn count(&mut self, what: &str, most: usize) -> Result<usize, AiError> {
        let n = self.u32(what)? as usize;
        if n > most {
            return Err(self.bad(what, format!("{n} is more than {most}")));
        }
        Ok(n)
    }

    /// The number of values of a shape that the rest of the file could hold.
    pub(crate) fn elements(&self, name: &str, shape: &[usize]) -> Result<usize, AiError> {
        shape
            .iter()
            .try_fold(1usize, |n, &d| n.checked_mul(d))
            .filter(|&n| n as u64 <= self.left.saturating_mul(DENSEST))
            .ok_or_else(|| self.bad(name, "more values than the file has bytes for"))
    }

    /// A tensor's values, which come next, in ggml's format number `kind`.
    pub(crate) fn values(&mut self, name: &str, kind: u32, shape: Vec<usize>) -> Result<Tensor, AiError> {
        let elements = self.elements(name, &shape)?;
        let size = size(kind, elements).map_err(|rule| self.bad(name, rule))?;
        let data = self.bytes(name, size)?;
        tensor(kind, &data, shape).map_err(|e| self.bad(name, e.to_string()))
    }
}

/// Values that a byte holds at most: Q2_K has 256 in 84 bytes.
const DENSEST: u64 = 4;

/// ggml's format numbers of plain values.
fn plain(kind: u32) -> Option<(DType, usize)> {
    Some(match kind {
        0 => (DType::F32, 4),
        1 => (DType::F16, 2),
        30 => (DType::BF16, 2),
        _ => return None,
    })
}

/// ggml's format numbers of blocks.
fn blocks(kind: u32) -> Option<GgmlDType> {
    Some(match kind {
        2 => GgmlDType::Q4_0,
        3 => GgmlDType::Q4_1,
        6 => GgmlDType::Q5_0,
        7 => GgmlDType::Q5_1,
        8 => GgmlDType::Q8_0,
        10 => GgmlDType::Q2K,
        11 => GgmlDType::Q3K,
        12 => GgmlDType::Q4K,
        13 => GgmlDType::Q5K,
        14 => GgmlDType::Q6K,
        _ => return None,
    })
}

/// Bytes that so many values take, or why they cannot.
pub(crate) fn size(kind: u32, elements: usize) -> Result<usize, String> {
    if let Some((_, width)) = plain(kind) {
        return Ok(elements * width);
    }
    let kind = blocks(kind).ok_or_else(|| format!("tensor type {kind} is not known"))?;
    if !elements.is_multiple_of(kind.block_size()) {
        return Err(format!("{elements} values are no whole blocks"));
    }
    Ok(elements / kind.block_size() * kind.type_size())
}

/// Values from their bytes.
pub(crate) fn tensor(kind: u32, data: &[u8], shape: Vec<usize>) -> candle_core::Result<Tensor> {
    // no model has such a tensor, and the reader of blocks takes the address of nothing for one of blocks
    if data.is_empty() {
        candle_core::bail!("it has no values");
    }
    match (plain(kind), blocks(kind)) {
        (Some((dtype, _)), _) => Tensor::from_raw_buffer(data, dtype, &shape, &Device::Cpu),
        (_, Some(kind)) => {
            candle_core::quantized::ggml_file::qtensor_from_ggml(kind, data, shape, &Device::Cpu)?
                .dequantize(&Device::Cpu)
        }
        _ => candle_core::bail!("tensor type {kind} is not known"),
    }
}
