//! The OCI runtime's command line, as runc has it: what podman, containerd, dockerd and CRI-O call.
//!
//! Owns runc's verbs and flags, the state directory of each container, the wording of errors for programs that read
//! them, and exit codes. Stands on the runtime alone: there is no engine, no store, no supervisor. Invariants: whoever
//! calls is the container's parent or outlives it as it likes; a container is alive when its pid with its start time is;
//! each change of state is whole (written aside and renamed); what a killed `create` leaves, `delete --force` removes.
//!
//! ```text
//! <root>/<id>/          default root /run/tare-oci; the directory itself is the container's lock (flock)
//!   state.json          who runs, where, since when: see [`state`]
//!   config.json         the bundle's, as it was at `create`
//!   gate                the socket at which the created container waits for `start`
//! ```

mod arguments;
mod bundle;
mod context;
mod descriptors;
mod environment;
mod executed;
mod foreground;
mod handover;
mod hooks;
mod log;
mod making;
mod out;
mod removal;
mod root;
mod signal;
mod starting;
mod state;
mod statistics;
mod time;
mod verb;

use std::ffi::OsString;
pub use tare_runtime::launch::Trace;

/// Runs the command line with these arguments (the program's name first); returns the exit code. `trace`: from
/// [`Trace::asked_for`], at the program's beginning.
pub fn main(args: &[OsString], trace: Trace) -> u8 {
    root::run(args, trace)
}
