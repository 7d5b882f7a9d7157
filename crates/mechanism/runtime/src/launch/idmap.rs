//! Mounts that show other ids than are stored: by the maps of a user namespace (mount_setattr(2), MOUNT_ATTR_IDMAP).

use crate::plan::{IdMap, MapsFrom};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use tare_kernel::mount::{Reach, set_id_map};
use tare_model::runtime_spec::LinuxIdMapping;
use tare_model::{Context, Error, Kind, Result};

/// Puts the maps that the plan names on a detached mount.
pub(super) fn map_ids(tree: &OwnedFd, map: &IdMap, target: &str) -> Result<()> {
    let namespace = match &map.maps {
        MapsFrom::Given { uid, gid } => id_map_namespace(uid, gid).map_err(|e| e.during("map ids of", target))?,
        MapsFrom::Namespace(path) => rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| Error::io("open user namespace", path.display(), e))?,
    };
    let reach = if map.recursive { Reach::Below } else { Reach::Alone };
    map_ids_with(tree, namespace.as_fd(), reach, target)
}

/// A user namespace with these maps and no process in it, for id-mapped mounts.
///
/// # Errors
/// `Kind::Invalid` for maps that the kernel refuses: overlapping, empty, or too many.
pub fn id_map_namespace(uid: &[LinuxIdMapping], gid: &[LinuxIdMapping]) -> Result<OwnedFd> {
    let lines = |maps: &[LinuxIdMapping]| {
        maps.iter().map(|m| format!("{} {} {}\n", m.container_id, m.host_id, m.size)).collect::<String>()
    };
    tare_kernel::user_namespace::with_maps(&lines(uid), &lines(gid)).during("make", "user namespace for mapped ids")
}

/// Puts the maps of a user namespace on a detached mount. `object` names it in errors.
///
/// # Errors
/// `Kind::Unsupported` where its filesystem knows no mapped ids; else as mount_setattr(2).
pub fn map_ids_with(tree: &OwnedFd, namespace: BorrowedFd<'_>, reach: Reach, object: &str) -> Result<()> {
    set_id_map(tree.as_fd(), namespace, reach).map_err(|e| match e.raw_os_error() {
        Some(code) if code == Errno::INVAL.raw_os_error() => Error::io("map ids of", object, e)
            .with_kind(Kind::Unsupported)
            .because("the filesystem that is mounted there cannot show mapped ids")
            .hint("use a filesystem that can (ext4, xfs, btrfs, tmpfs, EROFS, …), not overlay, proc or sysfs"),
        _ => Error::io("map ids of", object, e),
    })
}
