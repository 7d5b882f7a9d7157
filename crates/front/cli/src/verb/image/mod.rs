//! What only `tare image` has.

pub(super) mod diff;
pub(super) mod exists;
pub(super) mod mount;
pub(super) mod prune;
pub(super) mod tree;
pub(super) mod unmount;
pub(super) mod verify;
