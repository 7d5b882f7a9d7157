//! What a container's processes may ask of the kernel: capability sets and seccomp filters.
//!
//! Owns names, default sets, the profile of our own and the compiler to BPF. All of it is pure; applying happens in
//! `tare_kernel::capability` and `tare_kernel::seccomp`, called by the child between clone and exec.

pub mod capability;
pub mod seccomp;
