//! What only `tare container` has.

pub(super) mod prune;
