//! Every test of the crate from outside, in one program: a program each takes far longer to build.

#[cfg(feature = "transcode")]
mod apart;
mod brief;
mod corrections;
mod faults;
#[cfg(feature = "transcode")]
mod files;
mod joined;
mod late;
mod life;
mod moderation;
mod push;
mod support;
