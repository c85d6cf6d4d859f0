//! What the publishers and the receivers of `make bench-ingest` share.

pub mod load;
pub mod receive;
