//! The command line on the real kernel, as callers of runc use it. Needs root and a static busybox.

mod hooks;
mod lifecycle;
mod place;
mod races;
mod terminal;
