//! What the conformance suite for OCI runtimes stands on: bundles, the runtime under test, and the kernel's own view.
//!
//! Knows runc's command line and the specification's config.json as plain JSON, and shares no code with tare. The runtime
//! is a parameter, so that the suite itself can be proved with another one:
//!
//! ```text
//! TARE_OCI_RUNTIME   words of its command; `$TARE_BIN oci` without it
//! TARE_OCI_MANAGER   who makes the groups: `cgroupfs` (without it), `systemd`
//! TARE_OCI_EXPECT    file of `CASE: reason`: a listed case must fail, every other must pass
//! TARE_OCI_RECORD    directory: every config.json given to the runtime is kept there, as CASE.N.json
//! TARE_OCI_DROP      JSON pointer, `*` for any member: this is taken out of every config.json before the runtime sees it
//! ```
//!
//! ```text
//! #[test]
//! fn umask() {
//!     case(|c| {
//!         c.set("/process/user/umask", 0o27);   // of a configuration that holds only what every container needs
//!         assert_eq!(c.sh("umask"), "0027");    // create, start, wait, delete; standard output
//!     });
//! }
//! ```
//!
//! A case asserts what is seen inside of the container or in the kernel's files, never that a command has only succeeded.
//! Whatever a case makes is gone when it ends, also by a panic.

mod case;
mod cgroup;
mod config;
mod console;
pub mod kernel;
mod program;
mod rootfs;

pub use case::{Case, case, skip};
pub use cgroup::{Layout, layout};
pub use config::{drop_pointer, set_pointer};
pub use console::{Console, Master};
pub use program::{Abi, Arg, call_in_thread, one_call};
