//! What only `tare image` has.

pub(super) mod prune;
pub(super) mod verify;
