//! One layer's image: mounted, detached.

use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen};
use std::path::Path;
use tare_model::{Error, Kind, Result};

/// The magic number of EROFS.
const EROFS: i64 = 0xe0f5_e1e2;

/// A detached mount of a layer's image; nobody else sees it.
///
/// # Errors
/// `Kind::Corrupt` if the kernel does not take the image for one; what mounting fails with.
pub(crate) fn mount(path: &Path) -> Result<OwnedFd> {
    let fs = fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC).map_err(|e| match e {
        Errno::NODEV => unsupported(path, "this kernel has no EROFS").hint("modprobe erofs"),
        e => Error::io("mount layer image", path.display(), e),
    })?;
    let attempt = || -> rustix::io::Result<OwnedFd> {
        fsconfig_set_string(fs.as_fd(), "source", path)?;
        fsconfig_create(fs.as_fd())?;
        let attributes =
            MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID;
        fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    };
    attempt().map_err(|e| {
        let words = tare_runtime::launch::kernel_words(&fs).unwrap_or_else(|| e.to_string());
        match e {
            // What no image of tare's can be refused for: its bytes are not what was written.
            Errno::INVAL | Errno::UCLEAN | Errno::IO | Errno::NOSYS => {
                Error::new(Kind::Corrupt, "mount layer image", path.display())
                    .because(words)
                    .hint("tare image verify --all says which images have it: remove and pull these again")
            }
            Errno::NOTBLK => unsupported(path, "this kernel mounts images from block devices only").hint(
                "the layer was unpacked under another kernel: pull the image again with --snapshotter overlay, \
                 once it is removed",
            ),
            e => Error::io("mount layer image", path.display(), e),
        }
    })
}

fn unsupported(path: &Path, why: &str) -> Error {
    Error::new(Kind::Unsupported, "mount layer image", path.display()).because(why)
}

/// Whether this is (a directory of) a mounted image.
pub(super) fn is_mounted(on: &rustix::fs::StatFs) -> bool {
    on.f_type == EROFS
}
