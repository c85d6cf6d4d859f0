//! Bytes and text that calls give out.

use std::ffi::c_char;

use serde::Serialize;

use crate::call::free;
use crate::result::{Failure, LOOM_ERROR_INTERNAL};

/// Text that a call gives out, in UTF-8 and with NUL behind it.
pub struct loom_bytes {
    /// With the NUL.
    data: Vec<u8>,
}

impl loom_bytes {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        let mut data = text.into().into_bytes();
        data.push(0);
        Self { data }
    }

    /// A value as JSON.
    pub(crate) fn json(value: &impl Serialize) -> Result<Self, Failure> {
        let json = serde_json::to_string(value).map_err(|why| Failure::new(LOOM_ERROR_INTERNAL, why))?;
        Ok(Self::new(json))
    }
}

/// Where it begins: valid until it is freed. NULL for NULL.
///
/// # Safety
/// `bytes` is NULL or was given out and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_bytes_data(bytes: *const loom_bytes) -> *const c_char {
    // SAFETY: as the call's own
    unsafe { bytes.as_ref() }.map_or(std::ptr::null(), |it| it.data.as_ptr().cast())
}

/// How many bytes it has, without the NUL. 0 for NULL.
///
/// # Safety
/// As loom_bytes_data.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_bytes_size(bytes: *const loom_bytes) -> usize {
    // SAFETY: as the call's own
    unsafe { bytes.as_ref() }.map_or(0, |it| it.data.len() - 1)
}

/// Frees it.
///
/// # Safety
/// As loom_bytes_data, and nobody uses it any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_bytes_free(bytes: *mut loom_bytes) {
    // SAFETY: as the call's own
    unsafe { free(bytes) }
}
