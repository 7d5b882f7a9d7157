//! Users of a container as users of the host: which ids it gets, and how its files show them.
//!
//! ```text
//! on disk                       seen by the host              seen inside
//! layer    0 (root's file)      base + 0, an id-mapped mount  0
//! volume   0                    base + 0, an id-mapped mount  0
//! upper    base + 0             base + 0                      0
//! bind     0 (the host's root)  0                             nobody, unless it is mapped, too
//! ```
//!
//! No file of an image is changed or copied for it. Only the upper directory holds shifted ids, because the kernel does
//! not take an id-mapped one; what is read from there for a commit is shifted back, by a mount as well. A container keeps
//! its range for life, and no other container of this root has a part of it.

use crate::Engine;
use crate::layers::Lower;
use crate::record::Record;
use crate::request::UserNamespace;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, FlockOperation, Mode, OFlags};
use rustix::mount::{OpenTreeFlags, open_tree};
use std::path::Path;
use tare_kernel::mount::{Attributes, PRIVATE, Reach};
use tare_model::id_map::IdMaps;
use tare_model::runtime_spec::LinuxIdMapping;
use tare_model::{Context, Error, Kind, Result};
use tare_runtime::launch::{id_map_namespace, map_ids_with};

/// Ids of a container that does not say how many: what 16 bits count, which holds the users of every distribution.
const SIZE: u32 = 65_536;

/// Where ranges lie unless /etc/subuid says otherwise: above those of systemd-nspawn, below what a signed number holds.
const OWN: Pool = Pool { uid: (0x7000_0000, 0x0fff_0000), gid: (0x7000_0000, 0x0fff_0000) };

/// Names in /etc/subuid and /etc/subgid whose ranges are taken; podman's root has the second.
const OWNERS: [&str; 2] = ["tare", "containers"];

/// Ids of the host that containers may have: first one and count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pool {
    uid: (u32, u32),
    gid: (u32, u32),
}

impl Engine {
    /// Decides the ids of a new container. What is returned with them is held until its record is written: meanwhile
    /// nobody else chooses.
    ///
    /// # Errors
    /// `Kind::Exhausted` if all ranges are taken.
    pub(crate) fn choose_ids(&self, record: &mut Record) -> Result<Option<OwnedFd>> {
        let mode = record.request.userns;
        let (size, kept) = match mode {
            UserNamespace::Host => return Ok(None),
            UserNamespace::Private { size } => (size.unwrap_or(SIZE), None),
            UserNamespace::KeepId { uid, gid } => {
                let own = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
                (SIZE, Some(((uid.unwrap_or(own.0), own.0), (gid.unwrap_or(own.1), own.1))))
            }
        };
        let path = self.config.root.join("ids.lock");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
        let fail = |e| Error::io("lock", path.display(), e);
        let lock = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600)).map_err(fail)?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive).map_err(fail)?;
        let mut taken = Vec::new();
        for row in self.store.containers()? {
            // One that is being removed has no record any more, and no claim.
            let Ok(other) = self.dirs(&row.id).record() else { continue };
            taken.extend(other.ids.into_iter().flat_map(|ids| [ids.uid, ids.gid].concat()));
        }
        let pool = pool(&read("/etc/subuid"), &read("/etc/subgid"));
        let offset = free(&pool, size, &taken).ok_or_else(|| {
            Error::new(Kind::Exhausted, "choose ids for", record.name())
                .because(format!("no range of {size} ids is free"))
                .hint("remove containers, or give tare more ids in /etc/subuid and /etc/subgid")
        })?;
        let (uid, gid) = (pool.uid.0 + offset, pool.gid.0 + offset);
        record.ids = Some(match kept {
            None => IdMaps { uid: whole(uid, size), gid: whole(gid, size) },
            Some((user, group)) => IdMaps { uid: around(uid, size, user), gid: around(gid, size, group) },
        });
        Ok(Some(lock))
    }

    /// Lower directories, as the container's user namespace shall see their owners.
    pub(crate) fn mapped_lowers(lowers: Vec<Lower>, ids: &IdMaps) -> Result<Vec<Lower>> {
        let namespace = id_map_namespace(&ids.uid, &ids.gid)?;
        let mapped = lowers.into_iter().map(|lower| {
            let object = lower.path.display().to_string();
            let tree = match lower.mount {
                Some(own) => own,
                None => clone_private(&lower.path)?,
            };
            map_ids_with(&tree, namespace.as_fd(), Reach::Alone, &object)?;
            Ok(Lower::mounted(tree))
        });
        mapped.collect()
    }
}

/// A detached mount with the ids of the container's user namespace, given what is stored: for volumes.
pub(crate) fn map(tree: &OwnedFd, ids: &IdMaps, object: &Path) -> Result<()> {
    let namespace = id_map_namespace(&ids.uid, &ids.gid)?;
    map_ids_with(tree, namespace.as_fd(), Reach::Alone, &object.display().to_string())
}

/// A directory whose stored ids are shifted, shown as the container sees them: for its upper directory.
pub(crate) fn unmapped(path: &Path, ids: &IdMaps) -> Result<OwnedFd> {
    let tree = clone_private(path)?;
    map(&tree, &ids.reversed(), path)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(&tree, ".", flags, Mode::empty()).map_err(|e| Error::io("open", path.display(), e))
}

fn clone_private(path: &Path) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, path, flags).map_err(|e| Error::io("open", path.display(), e))?;
    let attributes = Attributes { propagation: PRIVATE, ..Default::default() };
    tare_kernel::mount::set_attributes(tree.as_fd(), c"", attributes, false).during("open", path.display())?;
    Ok(tree)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn pool(subuid: &str, subgid: &str) -> Pool {
    let of = |text: &str, owner: &str| {
        let lines = text.lines().map(|l| l.split(':').collect::<Vec<_>>());
        lines
            .filter_map(|f| match f[..] {
                [name, first, count] if name == owner => Some((first.parse().ok()?, count.parse().ok()?)),
                _ => None,
            })
            .find(|(first, count): &(u32, u32)| *count >= SIZE && first.checked_add(*count).is_some())
    };
    let both = |owner: &&str| Some(Pool { uid: of(subuid, owner)?, gid: of(subgid, owner)? });
    OWNERS.iter().find_map(both).unwrap_or(OWN)
}

/// The first offset into the pool at which `size` ids are free.
fn free(pool: &Pool, size: u32, taken: &[LinuxIdMapping]) -> Option<u32> {
    let overlaps = |first: u32| {
        taken.iter().any(|m| first < m.host_id.saturating_add(m.size) && m.host_id < first.saturating_add(size))
    };
    let count = pool.uid.1.min(pool.gid.1);
    let mut offset = 0u32;
    while offset.checked_add(size)? <= count {
        if !overlaps(pool.uid.0 + offset) && !overlaps(pool.gid.0 + offset) {
            return Some(offset);
        }
        offset = offset.checked_add(SIZE)?;
    }
    None
}

fn whole(first: u32, size: u32) -> Vec<LinuxIdMapping> {
    vec![LinuxIdMapping { container_id: 0, host_id: first, size }]
}

/// All ids from 0 on are of the range, but one of the container, which is one of the host.
fn around(first: u32, size: u32, (inside, outside): (u32, u32)) -> Vec<LinuxIdMapping> {
    let below = LinuxIdMapping { container_id: 0, host_id: first, size: inside.min(size) };
    let kept = LinuxIdMapping { container_id: inside, host_id: outside, size: 1 };
    let after = inside.saturating_add(1);
    let above =
        LinuxIdMapping { container_id: after, host_id: first.saturating_add(after), size: size.saturating_sub(after) };
    [below, kept, above].into_iter().filter(|m| m.size > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(container_id: u32, host_id: u32, size: u32) -> LinuxIdMapping {
        LinuxIdMapping { container_id, host_id, size }
    }

    #[test]
    fn ranges_are_taken_in_turn_and_given_again() {
        let pool = Pool { uid: (100_000, 3 * SIZE), gid: (500_000, 3 * SIZE) };
        let at = |offset: u32| map(0, pool.uid.0 + offset, SIZE);
        assert_eq!(free(&pool, SIZE, &[]), Some(0));
        assert_eq!(free(&pool, SIZE, &[at(0)]), Some(SIZE));
        assert_eq!(free(&pool, SIZE, &[at(0), at(2 * SIZE)]), Some(SIZE));
        assert_eq!(free(&pool, 2 * SIZE, &[at(0)]), Some(SIZE));
        assert_eq!(free(&pool, 2 * SIZE, &[at(SIZE)]), None);
        // Ids of groups count as well.
        assert_eq!(free(&pool, SIZE, &[map(0, 500_010, 1)]), Some(SIZE));
    }

    #[test]
    fn the_administrators_ranges_come_first() {
        let text = "someone:1:70000\ncontainers:200000:131072\n";
        assert_eq!(pool(text, text), Pool { uid: (200_000, 131_072), gid: (200_000, 131_072) });
        assert_eq!(pool(text, ""), OWN);
        assert_eq!(pool("tare:1:10\n", "tare:1:10\n"), OWN, "too few for one container");
    }

    #[test]
    fn one_id_is_kept() {
        assert_eq!(around(1000, 10, (4, 77)), [map(0, 1000, 4), map(4, 77, 1), map(5, 1005, 5)]);
        assert_eq!(around(1000, 10, (0, 0)), [map(0, 0, 1), map(1, 1001, 9)]);
        assert_eq!(around(1000, 10, (50, 77)), [map(0, 1000, 10), map(50, 77, 1)]);
    }
}
