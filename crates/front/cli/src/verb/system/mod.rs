//! The verbs behind `tare system`.

pub(super) mod df;
pub(super) mod prune;
