//! Every test of the crate from outside, in one program: a program each takes far longer to build.

mod decoding;
mod device;
mod hard_sound;
mod lookup;
mod material;
mod no_speech;
mod speakers;
mod speech;
mod weights;
