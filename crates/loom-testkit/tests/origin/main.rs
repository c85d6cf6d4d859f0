//! The validator is not blind: an origin that obeys has no violation, and each seeded fault is found under its clause.

mod live;
mod site;
mod still;
