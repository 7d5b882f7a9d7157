//! The mounts of the plan, each made detached and moved to its place beneath the root.

use super::bind::dress;
use super::filesystem::{clone_tree, new_filesystem_in_child, reconfigure};
use super::resolve::{in_root, mount_point};
use super::step::Stage;
use crate::defence::{self, Defence};
use crate::plan::{Bind, MountPlan, Source};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, FileType, OFlags, PROC_SUPER_MAGIC, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, move_mount};
use tare_kernel::mount::{Attributes, RDONLY};
use tare_model::{Context, Error, Kind, Result};

/// Files of procfs over which something may be mounted: what describes the machine, for those that show the container's
/// share of it instead. Everything else there is an interface that others rely on (CVE-2019-19921).
const COVERABLE: [&str; 11] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/net/dev",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/sys/crypto/fips_enabled",
    "/proc/sys/kernel/ns_last_pid",
];

impl Stage<'_> {
    pub(super) fn mount(&mut self, plan: &MountPlan) -> Result<()> {
        let prepared = self.prepared;
        let ready = prepared.mounts.get(self.mounted).and_then(Option::as_ref);
        self.mounted += 1;
        match (&plan.source, ready) {
            (Source::Cgroup | Source::Cgroup2, _) => self.mount_cgroups(plan),
            (Source::Remount { options }, _) => self.remount(plan, options.as_deref()),
            (Source::Bind(bind), Some(tree)) => match self.own_copy(plan, bind) {
                Some(own) => self.place_bind(&own, plan),
                None => self.place_bind(tree, plan),
            },
            (Source::Bind(bind), None) => {
                Err(Error::new(Kind::Invalid, "mount", &plan.target).because(format!("{:?} was not opened", bind.path)))
            }
            (Source::Filesystem { kind, .. }, Some(tree)) => {
                let tree = tree.try_clone().during("duplicate", "mount")?;
                self.place_filesystem(tree, plan, kind)
            }
            (Source::Filesystem { kind, name, options }, None) => {
                let mut options = std::borrow::Cow::Borrowed(options);
                if kind == "tmpfs" && !options.iter().any(|o| o.starts_with("mode=")) {
                    // As the directory that it covers, as every other runtime does it: /tmp stays sticky.
                    options.to_mut().extend(self.mode_of(&plan.target)?);
                }
                let sealed_later = if plan.sealed_later() { RDONLY } else { 0 };
                let tree = new_filesystem_in_child(kind, name, &options, plan.set & !sealed_later)?;
                self.place_filesystem(tree, plan, kind)
            }
        }
    }

    fn place_filesystem(&mut self, tree: OwnedFd, plan: &MountPlan, kind: &str) -> Result<()> {
        if plan.copy_up {
            self.copy_up(&tree, plan)?;
        }
        let directory = is_directory(&tree)?;
        // What is written below /proc and /sys must be the kernel's, never a link of the image's choice.
        let more = match kind {
            "proc" | "sysfs" if defence::stands(Defence::Procfs) => ResolveFlags::NO_SYMLINKS,
            _ => ResolveFlags::empty(),
        };
        self.place(&tree, &plan.target, directory, more)?;
        let set = |attributes, recursive| {
            tare_kernel::mount::set_attributes(tree.as_fd(), c"", attributes, recursive)
                .during("set attributes of", &plan.target)
        };
        if plan.below != (0, 0) {
            set(Attributes { set: plan.below.0, clear: plan.below.1, propagation: 0 }, true)?;
        }
        for (propagation, recursive) in &plan.propagation {
            set(Attributes { propagation: *propagation, ..Default::default() }, *recursive)?;
        }
        if kind == "proc" && self.proc.is_none() && writes_parameters(plan) {
            self.proc = Some(tree);
        } else if plan.sealed_later() {
            self.to_seal.push(tree);
        }
        Ok(())
    }

    fn place_bind(&self, tree: &OwnedFd, plan: &MountPlan) -> Result<()> {
        self.place(tree, &plan.target, is_directory(tree)?, ResolveFlags::empty())
    }

    /// In a user namespace, the copy of a bind's source that this process can make itself, if it can. The kernel holds
    /// the flags of the host's mounts (read-only, nosuid, …) fast on such a copy; on the one made outside the
    /// container's root could take them back.
    fn own_copy(&self, plan: &MountPlan, bind: &Bind) -> Option<OwnedFd> {
        if !self.in_user_namespace || plan.id_map.is_some() || !plan.propagation.is_empty() {
            return None;
        }
        // The root directory is the host's still: the root is attached, but entered only later.
        let own = clone_tree(CWD, bind.path.to_str()?, bind.recursive).ok()?;
        dress(&own, plan).ok()?;
        Some(own)
    }

    /// Changes what is mounted at the target already.
    fn remount(&self, plan: &MountPlan, options: Option<&[String]>) -> Result<()> {
        let fail = |e| Error::io("remount", &plan.target, e);
        let point = in_root(self.root()?, &plan.target, OFlags::PATH).map_err(fail)?;
        if let Some(options) = options {
            let mut options = options.to_vec();
            match (plan.set & RDONLY != 0, plan.clear & RDONLY != 0) {
                (true, _) => options.push("ro".into()),
                (_, true) => options.push("rw".into()),
                _ => {}
            }
            reconfigure(&point, &plan.target, &options)?;
        }
        let set = |attributes, recursive| {
            tare_kernel::mount::set_attributes(point.as_fd(), c"", attributes, recursive)
                .during("remount", &plan.target)
        };
        if plan.set != 0 || plan.clear != 0 {
            set(plan.attributes(), false)?;
        }
        if plan.below != (0, 0) {
            set(Attributes { set: plan.below.0, clear: plan.below.1, propagation: 0 }, true)?;
        }
        plan.propagation
            .iter()
            .try_for_each(|(flag, all)| set(Attributes { propagation: *flag, ..Default::default() }, *all))
    }

    /// Moves a detached mount to a path inside the root.
    pub(super) fn place(&self, tree: &OwnedFd, target: &str, directory: bool, more: ResolveFlags) -> Result<()> {
        let point = mount_point(self.root()?, target, directory, more)?;
        check_proc(tree, target, &point)?;
        // move_mount(2) says EINVAL to this, as to much else.
        if is_directory(&point)? != directory {
            return Err(Error::io("mount", target, Errno::NOTDIR)
                .because("a file cannot be mounted on a directory, or the other way round"));
        }
        attach(tree, point.as_fd(), "").map_err(|e| Error::io("mount", target, e))
    }

    /// `mode=` for a tmpfs, of the directory that it is going to cover.
    fn mode_of(&self, target: &str) -> Result<Option<String>> {
        match in_root(self.root()?, target, OFlags::PATH | OFlags::DIRECTORY) {
            Ok(there) => {
                let stat = rustix::fs::fstat(&there).map_err(|e| Error::io("look at", target, e))?;
                Ok(Some(format!("mode={:o}", stat.st_mode & 0o7777)))
            }
            Err(_) => Ok(None),
        }
    }

    pub(super) fn seal_mounts(&mut self) -> Result<()> {
        let attributes = Attributes { set: RDONLY, ..Default::default() };
        self.to_seal.drain(..).try_for_each(|tree| {
            tare_kernel::mount::set_attributes(tree.as_fd(), c"", attributes, false).during("make read-only", "a mount")
        })
    }
}

/// Whether a proc mount has /proc/sys, and lets it be written.
fn writes_parameters(plan: &MountPlan) -> bool {
    let Source::Filesystem { options, .. } = &plan.source else { return false };
    (plan.set | plan.below.0) & RDONLY == 0 && !options.iter().any(|o| o.starts_with("subset="))
}

/// Where proc is expected, proc is: nothing else is mounted on it, or over the files in it. Whoever names a file of
/// /proc means it; a link of the image's that leads there would have its own files taken for the kernel's.
fn check_proc(tree: &OwnedFd, target: &str, point: &OwnedFd) -> Result<()> {
    if !defence::stands(Defence::Procfs) {
        return Ok(());
    }
    let is_proc = |fd: &OwnedFd| rustix::fs::fstatfs(fd).is_ok_and(|fs| fs.f_type == PROC_SUPER_MAGIC);
    let denied = |why: &str| Err(Error::new(Kind::Denied, "mount", target).because(why));
    let clean: Vec<&str> = target.split('/').filter(|p| !matches!(*p, "" | ".")).collect();
    if clean.contains(&"..") {
        // What it is, only the kernel knows: what it leads to is looked at.
    } else if clean == ["proc"] {
        return if is_proc(tree) { Ok(()) } else { denied("what is mounted on /proc must be a proc filesystem") };
    } else if clean.first() == Some(&"proc") && is_proc(point) {
        let allowed = COVERABLE.contains(&format!("/{}", clean.join("/")).as_str());
        return if allowed { Ok(()) } else { denied("this path inside of /proc must not be covered") };
    } else if clean.first() == Some(&"proc") {
        return Ok(());
    }
    if is_proc(point) { denied("the path leads into /proc") } else { Ok(()) }
}

pub(super) fn attach(tree: &OwnedFd, to: BorrowedFd<'_>, path: &str) -> rustix::io::Result<()> {
    let mut flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    if path.is_empty() {
        flags |= MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    }
    move_mount(tree, "", to, path, flags)
}

pub(super) fn is_directory(fd: &OwnedFd) -> Result<bool> {
    let stat = rustix::fs::fstat(fd).map_err(|e| Error::io("look at", "mount", e))?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}
