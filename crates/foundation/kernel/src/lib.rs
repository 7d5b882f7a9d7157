//! The kernel as tare sees it: the system calls that the safe libraries lack, and probes of this host.
//!
//! The only crate with `unsafe`. It knows nothing of containers: descriptors and plain values in, descriptors and
//! `io::Error` out. Invariants: [`process::clone`] refuses to run in a process with more than one thread; every
//! descriptor it makes is close-on-exec; no integer stands for a descriptor in a signature.
#![allow(unsafe_code)]

pub mod bpf;
pub mod capability;
pub mod entry;
pub mod heap;
pub mod keyring;
pub mod mount;
pub mod netlink;
#[cfg(feature = "notify")]
pub mod notify;
pub mod process;
pub mod scheduling;
pub mod seccomp;
pub mod shared;
pub mod socket;
pub mod user_namespace;
