//! Every test of the crate from outside, in one program: a program each takes far longer to build.

mod dummy;
mod failing;
mod file;
mod kept;
mod live;
mod planner;
mod still;
mod support;
