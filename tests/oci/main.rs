//! Conformance suite for OCI runtimes, by section of the runtime specification. `tare_tests::oci` says how it is run
//! against another runtime than tare.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod cgroup;
mod devices;
mod exec;
mod lifecycle;
mod process;
