//! Layers, images, archives and registries that mean no good, given to the binary in every way that it takes them and in
//! both forms in which it keeps layers.
//!
//! Each case holds that nothing is written outside of the store (a tree of sentinels stands where an escape would land),
//! that memory and time are bounded (`prlimit`), that what is refused is refused with one line and perhaps a hint, and that
//! nothing of it stays in the store.
#![expect(clippy::unwrap_used, reason = "tests")]

mod archives;
mod bombs;
mod configs;
mod documents;
mod ground;
mod headers;
mod image;
mod links;
mod names;
mod registries;
mod running;
mod server;
mod tar;
mod whiteouts;
mod xattrs;
