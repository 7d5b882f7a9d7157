//! End-to-end tests, by feature: each runs the binary on a root of its own.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod archive_forms;
mod archives;
mod changes;
mod cli;
mod containers;
mod copying;
mod docs;
mod exec;
mod failures;
mod faults;
mod flags;
mod formats;
mod image_views;
mod images;
mod isolation;
mod life;
mod limits;
mod logs;
mod mounts;
mod namespaces;
mod network;
mod observe;
mod portability;
mod registry;
mod regressions;
mod reproducible;
mod rootfs;
mod scale;
mod signals;
mod space;
mod terminal;
mod tracing;
mod userns;
mod volumes;
