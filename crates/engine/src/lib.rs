//! The verbs: containers, their supervision, exec, logs, images, volumes.
//!
//! Knows what a container is, and composes the mechanisms; knows no protocol, prints nothing, reads no environment.
//! Invariants: state lies on disk and in the kernel, never in a process that must go on living; a container is alive
//! exactly while its supervisor holds the lock on its run directory; nothing here pulls.

mod attach;
mod changes;
mod compat;
mod config;
mod create;
mod device;
mod elsewhere;
mod exec;
pub mod explain;
mod files;
mod held;
mod images;
mod info;
mod init;
mod instruction;
mod layer_image;
mod layers;
mod lifecycle;
mod live;
mod loan;
mod logs;
mod namespaces;
mod netns;
mod network;
mod propagation;
mod record;
mod recover;
mod repair;
pub mod request;
mod rootfs;
pub mod signal;
mod snapshotter;
mod space;
mod spec;
mod start;
mod starter;
mod stats;
mod streams;
mod supervise;
mod time;
mod top;
mod userns;
mod users;
pub mod view;
mod volumes;

pub use attach::{Attachment, Frame};
pub use changes::{Entering, Explanation, LeftOut, Secret};
pub use config::{Config, Engine, NetworkDefaults};
pub use exec::ExecSession;
pub use files::{CopyOptions, Stat};
pub use images::MountedImage;
pub use info::Info;
pub use init::init;
pub use instruction::{apply_change, apply_changes};
pub use live::Force;
pub use logs::{LogQuery, Logs};
pub use network::NetworkRemoval;
pub use request::RemoveOptions;
pub use snapshotter::Snapshotter;
pub use space::{DiskUsage, Pruned, Unneeded};
pub use start::{Attach, Started};
pub use supervise::supervise;
pub use tare_runtime::launch::{Form, Mark, Protection, Trace, protect_executable, reexecute_protected};
pub use top::Top;

/// The hidden verb by which a launcher becomes a supervisor: `tare __supervise HANDOVER`.
pub const SUPERVISE: &str = "__supervise";
