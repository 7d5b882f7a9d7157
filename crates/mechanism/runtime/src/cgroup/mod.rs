//! Control groups: limits, accounting, freezing and killing, on v1, hybrid and v2 hosts.
//!
//! Owns the layout of this host ([`Layout`]), the translation of OCI resources into writes ([`plan`], pure), making and
//! removing groups ([`create`], [`remove`]), a group in use ([`Group`]), and, for a runtime that others call, the meaning of
//! their paths and systemd's scopes ([`Place`]). Refuses to know containers: a group is a path relative to what the mounts
//! show, such as `/tare/0123abcd`. Invariants: nothing is derived from directory names; every access goes through a
//! descriptor of the hierarchy's mount; a limit that this host lacks is an error, never a silence.
//!
//! ```text
//!                Place::decide ─► Place::plan ─┐
//! Layout::read ─► plan(layout, path, resources) ┴► create ─► Created { attach: tasks of each v1 group, unified, keeper }
//!                                                              │ child: write "0" into each, before unshare(NEWCGROUP)
//! Group::open ─► update, usage, statistics, freeze, …          │ clone3(CLONE_INTO_CGROUP, unified)
//! remove                                                       │ the keeper of systemd's unit is released
//! ```
//!
//! Limits stand before the first process is in the group, and what the child does there is charged to it: it has to be
//! little, so that a container starts under a limit of 1 MiB.
//!
//! On v1 the child attaches itself, because a parent that writes another's pid into `cgroup.procs` waits for an RCU grace
//! period (13 to 16 ms) while a single thread that moves itself does not. A container gets a group in every mounted v1
//! hierarchy, the named ones (`name=systemd`) too, since it sees them all, and in cgroup2 on a hybrid host, through which
//! freezing and killing are atomic.

mod apply;
mod attach;
mod convert;
mod dbus;
mod delegate;
mod devices;
mod files;
mod group;
mod join;
mod layout;
mod limits;
mod oom;
mod place;
mod plan;
mod remove;
mod state;
pub mod statistics;
mod systemd;
mod unit;
mod update;
mod usage;

#[cfg(test)]
mod kernel_tests;

pub use attach::{Created, create};
pub use convert::{Weights, cpu_quota, cpu_weight, oci_cpu_weight};
pub use delegate::{delegate, owner};
pub use devices::{Exception, Policy, default_rules, oci_rules, runtime_rules};
pub use group::Group;
pub use join::SubGroups;
pub use layout::{Hierarchy, Layout, Mode, Version};
pub use limits::Write;
pub use oom::{OomEvents, oom_kills};
pub use place::{Manager, Place};
pub use plan::{CgroupPlan, Existing, GroupPlan, plan};
pub use remove::{Parents, remove};
pub use state::is_frozen;
pub use systemd::Keeper;
pub use unit::{Property, PropertyValue, UnitName, UnitPlan};
pub use update::Applied;
pub use usage::{CpuUsage, DeviceIo, MemoryUsage, PidsUsage, Usage};
