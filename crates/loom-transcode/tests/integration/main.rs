//! Every test of the crate from outside, in one program: a program each takes far longer to build.

mod chunks;
mod composing;
mod dummy;
mod failing;
mod file;
mod instants;
mod kept;
mod live;
mod planner;
mod sound;
mod still;
mod support;
