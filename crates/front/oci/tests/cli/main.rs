//! The command line on the real kernel, as callers of runc use it. Needs root and a static busybox.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

mod further;
mod hooks;
mod lifecycle;
mod place;
mod races;
mod terminal;
mod trace;
