//! What /sys/fs/cgroup shows inside: the container's own group of each hierarchy, never more.
//!
//! The groups were opened before the clone. Their copies show the same with a cgroup namespace and without one, and in a
//! user namespace, where a new instance could not be mounted: a writable mount cannot lead to the host's groups
//! (CVE-2023-25809), and the files of a hierarchy's root (`release_agent`) are not below it.

use super::filesystem::new_filesystem;
use super::group_mount::{CgroupMount, UNIFIED};
use super::mounting::attach;
use super::resolve::in_root;
use super::step::Stage;
use crate::plan::{MountPlan, Source};
use rustix::fd::AsFd;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use tare_kernel::mount::{Attributes, NODEV, NOEXEC, NOSUID, PRIVATE, RDONLY};
use tare_model::{Context, Error, Kind, Result};

impl Stage<'_> {
    pub(super) fn mount_cgroups(&self, plan: &MountPlan) -> Result<()> {
        let prepared = self.prepared;
        let groups = prepared.cgroup_mounts.as_slice();
        if plan.source == Source::Cgroup2 {
            let unified = groups.iter().find(|g| g.name.is_empty() || g.name == UNIFIED);
            let unified = unified.ok_or_else(|| {
                Error::new(Kind::Unsupported, "mount", &plan.target)
                    .because("the container has no group of cgroup2 that could be shown")
            })?;
            return self.place_group(unified, plan);
        }
        match groups {
            [only] if only.name.is_empty() => self.place_group(only, plan),
            several => self.place_groups(several, plan),
        }
    }

    fn place_group(&self, group: &CgroupMount, plan: &MountPlan) -> Result<()> {
        dress_group(group, plan)?;
        self.place(&group.tree, &plan.target, true, ResolveFlags::NO_SYMLINKS)
    }

    /// One directory for each hierarchy in a tmpfs, as hosts with v1 have it.
    fn place_groups(&self, groups: &[CgroupMount], plan: &MountPlan) -> Result<()> {
        let options = ["mode=755".to_owned()];
        let base = new_filesystem("tmpfs", "cgroup", &options, NOSUID | NODEV | NOEXEC)?;
        self.place(&base, &plan.target, true, ResolveFlags::NO_SYMLINKS)?;
        let fail = |e| Error::io("mount", &plan.target, e);
        for group in groups {
            dress_group(group, plan)?;
            rustix::fs::mkdirat(&base, group.name.as_str(), Mode::from_raw_mode(0o755)).map_err(fail)?;
            let point = in_root(&base, &group.name, OFlags::PATH).map_err(fail)?;
            attach(&group.tree, point.as_fd(), "").map_err(fail)?;
            for link in &group.links {
                rustix::fs::symlinkat(group.name.as_str(), &base, link.as_str()).map_err(fail)?;
            }
        }
        if (plan.set | plan.below.0) & RDONLY == 0 {
            return Ok(());
        }
        let attributes = Attributes { set: RDONLY, ..Default::default() };
        tare_kernel::mount::set_attributes(base.as_fd(), c"", attributes, false).during("mount", &plan.target)
    }
}

fn dress_group(group: &CgroupMount, plan: &MountPlan) -> Result<()> {
    let set = plan.set | plan.below.0;
    let attributes = Attributes { set, clear: (plan.clear | plan.below.1) & !set, propagation: PRIVATE };
    tare_kernel::mount::set_attributes(group.tree.as_fd(), c"", attributes, false).during("mount", &plan.target)?;
    for (propagation, _) in &plan.propagation {
        let attributes = Attributes { propagation: *propagation, ..Default::default() };
        tare_kernel::mount::set_attributes(group.tree.as_fd(), c"", attributes, false).during("mount", &plan.target)?;
    }
    Ok(())
}
