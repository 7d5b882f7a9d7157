//! The verbs behind `tare system`.

pub(super) mod check;
pub(super) mod df;
pub(super) mod prune;
