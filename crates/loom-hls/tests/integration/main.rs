//! Every test of the crate from outside, in one program: a program each takes far longer to build.

mod absence;
mod aside;
mod boxes;
mod dash;
mod decode;
mod encryption;
mod late_sound;
mod left_out;
mod lengths;
mod lists;
mod origin;
mod pause;
mod progressive;
mod properties;
mod ranges;
mod rule;
mod stills;
mod support;
mod text;
