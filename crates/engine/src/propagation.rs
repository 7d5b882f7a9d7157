//! Whether a host directory's mount can spread mount events as a bind mount of it shall.
//!
//! The kernel accepts `shared` and `slave` on any copy: of a private mount they mean nothing, and nobody would notice.

use crate::record::Mounted;
use crate::request::{MountKind, Propagation};
use rustix::fs::{AtFlags, CWD, StatxFlags};
use tare_model::{Context as _, Error, Kind, Result};

/// Refuses propagation that the source's mount cannot have.
pub(crate) fn check(mounts: &[Mounted]) -> Result<()> {
    for mount in mounts {
        let MountKind::Bind { source, propagation: Some(wanted), .. } = &mount.request.kind else { continue };
        if matches!(wanted, Propagation::Private | Propagation::Rprivate) {
            continue;
        }
        let status = rustix::fs::statx(CWD, source, AtFlags::empty(), StatxFlags::MNT_ID)
            .map_err(|e| Error::io("look at", source.display(), e))?;
        let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").during("read", "/proc/self/mountinfo")?;
        let Some((place, kinds)) = of(&mountinfo, status.stx_mnt_id) else { continue };
        let (word, enough) = match wanted {
            Propagation::Shared | Propagation::Rshared => ("shared", kinds.shared),
            _ => ("slave", kinds.shared || kinds.slave),
        };
        if !enough {
            return Err(Error::new(Kind::Invalid, "bind", source.display())
                .because(format!("it is mounted at {place}, which is not shared: {word} would have no effect"))
                .hint(format!("make it shared first: mount --make-rshared {place}")));
        }
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kinds {
    shared: bool,
    slave: bool,
}

/// The mount point of a mount, and how it spreads events (proc_pid_mountinfo(5): the optional fields before ` - `).
fn of(mountinfo: &str, id: u64) -> Option<(&str, Kinds)> {
    let line = mountinfo.lines().find(|l| l.split(' ').next().and_then(|n| n.parse().ok()) == Some(id))?;
    let fields = line.split(" - ").next()?;
    let optional = |name: &str| fields.split(' ').skip(6).any(|f| f.starts_with(name));
    Some((fields.split(' ').nth(4)?, Kinds { shared: optional("shared:"), slave: optional("master:") }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn optional_fields_say_how_a_mount_spreads_events() {
        let text = "22 1 0:5 / / rw,relatime shared:1 - ext4 /dev/sda rw\n\
                    23 22 0:6 / /a rw - tmpfs shared:9 rw\n\
                    24 22 0:7 / /b rw,nosuid shared:3 master:1 - tmpfs t rw\n";
        assert_eq!(of(text, 22), Some(("/", Kinds { shared: true, slave: false })));
        assert_eq!(of(text, 23), Some(("/a", Kinds { shared: false, slave: false })));
        assert_eq!(of(text, 24), Some(("/b", Kinds { shared: true, slave: true })));
        assert_eq!(of(text, 2), None);
    }
}
