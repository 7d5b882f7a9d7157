//! The OCI runtime: from a runtime specification to a running process, on the bare kernel.
//!
//! ```text
//! Spec --plan::plan--> LaunchPlan --launch::prepare, spawn--> Launch (at the gate) --release--> Running (pidfd)
//! ```
//!
//! Owns cgroups, capabilities, system call filters, the root filesystem's mounts, and the clone. Refuses state on disk,
//! threads, async, and names of containers: who supervises, logs and remembers is the engine's matter. Invariants: one
//! clone for each child; every path inside a root is resolved beneath it; what a plan does not say is not done.

pub mod cgroup;
pub mod defence;
pub mod launch;
#[cfg(test)]
mod mutate;
pub mod net_device;
pub mod plan;
pub mod rdt;
pub mod security;
