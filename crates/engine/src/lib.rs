//! The verbs: containers, their supervision, exec, logs, images, volumes.
//!
//! Knows what a container is, and composes the mechanisms; knows no protocol, prints nothing, reads no environment.
//! Invariants: state lies on disk and in the kernel, never in a process that must go on living; a container is alive
//! exactly while its supervisor holds the lock on its run directory; nothing here pulls.

pub mod request;
pub mod view;
