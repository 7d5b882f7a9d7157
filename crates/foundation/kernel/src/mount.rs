//! the mount API that rustix does not cover.
