//! Seccomp: the default profile as an OCI document, and a compiler from such documents to classic BPF.
//!
//! `profile` says what a container may call and why; `meaning` and `compile` know the OCI meaning of any profile and
//! nothing of ours; `program` writes instructions; `syscalls` is the table of numbers that both share.

mod arch;
mod compile;
mod meaning;
mod profile;
mod program;
mod syscalls;

pub use arch::{Arch, archs};
pub use compile::{Filter, compile};
pub use meaning::{actions, flags, operators};
pub use profile::{Refusal, default_profile, refusals};
