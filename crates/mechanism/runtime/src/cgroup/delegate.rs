//! Handing a group over to the container's user: cgroups(7) "Delegation"; runtime-spec config-linux.md "Cgroup ownership".

use super::attach::Created;
use super::layout::{Layout, Mode};
use rustix::fs::{AtFlags, Uid, chownat};
use rustix::io::Errno;
use tare_model::runtime_spec::{NamespaceKind, Spec};
use tare_model::{Error, Result};

/// The host's user id to whom the container's cgroup2 group shall belong; none where it stays root's.
///
/// It changes hands only on a host of cgroup2 alone (v1's files are not safe to give away), with a new cgroup namespace
/// and a cgroup mount that can be written, and goes to the user of the container's process.
pub fn owner(layout: &Layout, spec: &Spec) -> Option<u32> {
    let linux = spec.linux.as_ref()?;
    let new =
        |kind| linux.namespaces.iter().any(|n| n.kind == kind && n.path.as_deref().unwrap_or_default().is_empty());
    let writable = spec.mounts.iter().any(|m| {
        matches!(m.kind.as_deref(), Some("cgroup" | "cgroup2"))
            && m.destination.trim_end_matches('/') == "/sys/fs/cgroup"
            && !m.options.iter().any(|o| o == "ro")
    });
    if layout.mode() != Mode::V2 || !new(NamespaceKind::Cgroup) || !writable {
        return None;
    }
    let uid = spec.process.as_ref().map_or(0, |p| p.user.uid);
    if !linux.namespaces.iter().any(|n| n.kind == NamespaceKind::User) {
        return Some(uid);
    }
    let inside =
        |m: &&tare_model::runtime_spec::LinuxIdMapping| uid.checked_sub(m.container_id).is_some_and(|d| d < m.size);
    linux.uid_mappings.iter().find(inside).map(|m| m.host_id + (uid - m.container_id))
}

/// Gives the cgroup2 group and those of its files that can be delegated to `uid`. Limits stay root's.
///
/// # Errors
/// As fchownat(2).
pub fn delegate(created: &Created, uid: u32) -> Result<()> {
    /// For kernels without the list.
    const FILES: &str = "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n";
    let Some(dir) = &created.unified else { return Ok(()) };
    let listed = std::fs::read_to_string("/sys/kernel/cgroup/delegate");
    let listed = listed.as_deref().unwrap_or(FILES);
    let owner = Some(Uid::from_raw(uid));
    for file in std::iter::once(".").chain(listed.lines().filter(|f| !f.is_empty() && !f.contains('/'))) {
        match chownat(dir, file, owner, None, AtFlags::SYMLINK_NOFOLLOW) {
            // Not every group has every file.
            Ok(()) | Err(Errno::NOENT) => {}
            Err(e) => return Err(Error::io("give cgroup file to user", format!("{file}, {uid}"), e)),
        }
    }
    Ok(())
}
