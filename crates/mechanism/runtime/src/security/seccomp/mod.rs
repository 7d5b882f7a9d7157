//! Seccomp: the default profile as an OCI document, and a compiler from such documents to classic BPF.
//!
//! `profile` says what a container may call and why; `compile` knows the OCI meaning of any profile and nothing of ours;
//! `syscalls` is the table of numbers that both share.

mod arch;
mod compile;
mod profile;
mod syscalls;

pub use arch::{Arch, archs};
pub use compile::{Filter, actions, compile, flags, operators};
pub use profile::{Refusal, default_profile, refusals};
