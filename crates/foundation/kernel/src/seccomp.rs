//! seccomp(2).
