//! Ids of users and groups inside of a user namespace, and what they are outside (user_namespaces(7)).

use crate::runtime_spec::LinuxIdMapping;
use serde::{Deserialize, Serialize};

/// The id that stands for all that have no other (`/proc/sys/kernel/overflowuid`).
pub const OVERFLOW: u32 = 65_534;

/// Which ids a container has, and what they are on the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMaps {
    /// Of users.
    pub uid: Vec<LinuxIdMapping>,
    /// Of groups.
    pub gid: Vec<LinuxIdMapping>,
}

/// What `id` of the container is on the host; `None` if the container has no such id.
pub fn to_host(maps: &[LinuxIdMapping], id: u32) -> Option<u32> {
    let of = |m: &LinuxIdMapping| id.checked_sub(m.container_id).filter(|n| *n < m.size)?.checked_add(m.host_id);
    maps.iter().find_map(of)
}

/// What `id` of the host is in the container; [`OVERFLOW`] if it is nobody there, as the kernel has it.
pub fn to_container(maps: &[LinuxIdMapping], id: u32) -> u32 {
    let of = |m: &LinuxIdMapping| id.checked_sub(m.host_id).filter(|n| *n < m.size)?.checked_add(m.container_id);
    maps.iter().find_map(of).unwrap_or(OVERFLOW)
}

impl IdMaps {
    /// User and group of the container as the host has them; `None` if one of them is not mapped.
    pub fn to_host(&self, uid: u32, gid: u32) -> Option<(u32, u32)> {
        Some((to_host(&self.uid, uid)?, to_host(&self.gid, gid)?))
    }

    /// User and group of the host as the container has them.
    pub fn to_container(&self, uid: u32, gid: u32) -> (u32, u32) {
        (to_container(&self.uid, uid), to_container(&self.gid, gid))
    }

    /// The same maps, read the other way round.
    #[must_use]
    pub fn reversed(&self) -> IdMaps {
        let turn = |maps: &[LinuxIdMapping]| {
            let turned =
                |m: &LinuxIdMapping| LinuxIdMapping { container_id: m.host_id, host_id: m.container_id, size: m.size };
            maps.iter().map(turned).collect()
        };
        IdMaps { uid: turn(&self.uid), gid: turn(&self.gid) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_go_out_and_come_back() {
        let map = |container_id, host_id, size| LinuxIdMapping { container_id, host_id, size };
        let maps = IdMaps { uid: vec![map(0, 1000, 1), map(1, 70_000, 10)], gid: vec![map(0, 70_000, 11)] };
        assert_eq!(maps.to_host(0, 0), Some((1000, 70_000)));
        assert_eq!(maps.to_host(10, 10), Some((70_009, 70_010)));
        assert_eq!(maps.to_host(11, 0), None);
        assert_eq!(maps.to_container(1000, 70_010), (0, 10));
        assert_eq!(maps.to_container(0, 0), (OVERFLOW, OVERFLOW));
        assert_eq!(maps.reversed().to_host(1000, 70_003), Some((0, 3)));
        assert_eq!(to_host(&[map(5, u32::MAX, 3)], 6), None, "no id is made up");
    }
}
