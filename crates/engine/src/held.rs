//! What an engine holds open while it lives.

use rustix::fd::OwnedFd;

/// The namespace in which layers are mounted, and where it is announced that this process holds it.
#[derive(Debug)]
pub(crate) struct HeldLayers {
    pub(crate) name: String,
    pub(crate) namespace: OwnedFd,
}
