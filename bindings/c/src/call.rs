//! How every call is made: pointers are looked at, a panic ends here, results are written last.

use std::ffi::{CStr, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::result::{
    Failure, LOOM_ERROR_NULL, LOOM_ERROR_PANIC, LOOM_ERROR_TEXT, LOOM_OK, loom_result, remember,
};

/// Runs a call's body, and says how it went.
pub(crate) fn call(body: impl FnOnce() -> Result<(), Failure>) -> loom_result {
    let failure = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return LOOM_OK,
        Ok(Err(failure)) => failure,
        Err(panic) => {
            let said = panic.downcast_ref::<&str>().map(|it| (*it).to_owned());
            let said = said.or_else(|| panic.downcast_ref::<String>().cloned());
            Failure::new(
                LOOM_ERROR_PANIC,
                format!("panicked: {}", said.unwrap_or_default()),
            )
        }
    };
    if !failure.message.is_empty() {
        remember(&failure.message);
    }
    failure.result
}

/// Frees an object that was given out; NULL is none.
///
/// # Safety
/// `object` is NULL, or came from [`Out::give`] and was not freed.
pub(crate) unsafe fn free<T>(object: *mut T) {
    if object.is_null() {
        return;
    }
    // SAFETY: as this function's own
    let object = unsafe { Box::from_raw(object) };
    if catch_unwind(AssertUnwindSafe(|| drop(object))).is_err() {
        remember("panicked while it was freed");
    }
}

/// An object that a call is about.
///
/// # Safety
/// `object` is NULL, or valid for `'a`.
pub(crate) unsafe fn object<'a, T>(object: *const T, name: &str) -> Result<&'a T, Failure> {
    // SAFETY: as this function's own
    unsafe { object.as_ref() }.ok_or_else(|| null(name))
}

/// Text that goes in.
///
/// # Safety
/// `text` is NULL, or ends with NUL and is valid for `'a`.
pub(crate) unsafe fn text<'a>(text: *const c_char, name: &str) -> Result<&'a str, Failure> {
    // SAFETY: as this function's own
    unsafe { optional_text(text, name) }?.ok_or_else(|| null(name))
}

/// As [`text`], where NULL is none.
///
/// # Safety
/// As [`text`].
pub(crate) unsafe fn optional_text<'a>(text: *const c_char, name: &str) -> Result<Option<&'a str>, Failure> {
    if text.is_null() {
        return Ok(None);
    }
    // SAFETY: as this function's own
    let text = unsafe { CStr::from_ptr(text) };
    match text.to_str() {
        Ok(text) => Ok(Some(text)),
        Err(why) => Err(Failure::new(
            LOOM_ERROR_TEXT,
            format!("{name} is no UTF-8: {why}"),
        )),
    }
}

/// Items that go in; none where there are none, whatever the pointer is.
///
/// # Safety
/// `data` is NULL, or there are `count` items there that are valid for `'a`.
pub(crate) unsafe fn items<'a, T>(data: *const T, count: usize, name: &str) -> Result<&'a [T], Failure> {
    if count == 0 {
        return Ok(&[]);
    }
    if data.is_null() {
        return Err(null(name));
    }
    // SAFETY: as this function's own
    Ok(unsafe { std::slice::from_raw_parts(data, count) })
}

/// Where a result is to be written.
pub(crate) struct Out<T>(*mut T);

impl<T> Out<T> {
    /// # Safety
    /// `place` is NULL, or a `T` can be written there until the call returns.
    pub(crate) unsafe fn new(place: *mut T, name: &str) -> Result<Self, Failure> {
        match place.is_null() {
            true => Err(null(name)),
            false => Ok(Self(place)),
        }
    }

    /// Writes it: the last thing that a call does.
    pub(crate) fn write(self, result: T) {
        // SAFETY: by [`Out::new`] there is room for it
        unsafe { self.0.write(result) };
    }
}

impl<T> Out<*mut T> {
    /// Gives an object out, to be freed by [`free`].
    pub(crate) fn give(self, object: T) {
        self.write(Box::into_raw(Box::new(object)));
    }
}

fn null(name: &str) -> Failure {
    Failure::new(LOOM_ERROR_NULL, format!("{name} is NULL"))
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::*;
    use crate::result::{LOOM_TIMEOUT, loom_last_error};

    fn last() -> String {
        // SAFETY: it ends with NUL and is valid until the next call that fails
        unsafe { CStr::from_ptr(loom_last_error()) }
            .to_string_lossy()
            .into_owned()
    }

    #[test]
    fn a_panic_becomes_a_result_and_its_words_are_kept() {
        assert_eq!(call(|| panic!("as a {} would", "bug")), LOOM_ERROR_PANIC);
        assert_eq!(last(), "panicked: as a bug would");
        assert_eq!(call(|| Err(Failure::nothing(LOOM_TIMEOUT))), LOOM_TIMEOUT);
        assert_eq!(last(), "panicked: as a bug would", "no error takes its place");
        assert_eq!(call(|| Ok(())), LOOM_OK);
    }

    #[test]
    fn an_object_that_panics_when_it_is_freed_takes_nobody_with_it() {
        struct Bad;
        impl Drop for Bad {
            fn drop(&mut self) {
                panic!("as a bug would");
            }
        }
        let object = Box::into_raw(Box::new(Bad));
        // SAFETY: it was given out just now
        unsafe { free(object) };
        // SAFETY: NULL is none
        unsafe { free(std::ptr::null_mut::<Bad>()) };
    }
}
