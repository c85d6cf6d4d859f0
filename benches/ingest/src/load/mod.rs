//! One publisher: its offer, its connection, and what it sends.

pub mod clip;
pub mod link;
pub mod publisher;
pub mod stun;
pub mod whip;
