//! Conformance suite for OCI runtimes, by section of the runtime specification. `tare_tests::oci` says how it is run
//! against another runtime than tare.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod annotations;
mod cgroup;
mod command;
mod devices;
mod exec;
mod hooks;
mod host_name;
mod kernel_parameters;
mod lifecycle;
mod limits;
mod mounts;
mod namespaces;
mod net_devices;
mod process;
mod rdt;
mod root;
mod seccomp;
mod version;
