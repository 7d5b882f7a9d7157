//! Whose namespaces a process lives in, as the kernel shows it.

use crate::Engine;
use crate::view::{Namespace, Sharer};
use std::collections::{BTreeMap, BTreeSet};
use tare_model::{Error, Kind, Result};

/// All kinds, in the order in which they are told.
const KINDS: [&str; 8] = ["pid", "mnt", "net", "ipc", "uts", "cgroup", "user", "time"];
/// How many of those who share a namespace are told.
const SHARERS: usize = 8;

impl Engine {
    /// The namespaces of a process of this host (by id) or of a container's first process, and who else is in each.
    ///
    /// # Errors
    /// `Kind::NotFound`; `Kind::State` for a container that does not run.
    pub fn namespaces(&self, target: &str) -> Result<Vec<Namespace>> {
        let (pid, own) = match target.parse::<i32>() {
            Ok(pid) if exists(pid) => (pid, None),
            Ok(pid) if self.store.container(target).is_err() => {
                return Err(Error::new(Kind::NotFound, "find process", pid).because("there is no such process"));
            }
            _ => {
                let (_pidfd, view) = self.running(target, "read namespaces of container")?;
                (view.pid.unwrap_or_default(), Some(view.id))
            }
        };
        let mine = inodes(pid);
        if mine.is_empty() {
            return Err(Error::new(Kind::Denied, "read namespaces of process", pid)
                .because(format!("/proc/{pid}/ns cannot be read")));
        }
        // Without /proc/1's, the caller's own stand for the host's.
        let host = Some(inodes(1)).filter(|i| !i.is_empty()).unwrap_or_else(|| {
            let me = rustix::process::getpid().as_raw_nonzero().get();
            inodes(me)
        });
        let others = others(pid)?;
        let mut ours = Containers::new(self);
        let mut out = Vec::new();
        for kind in KINDS {
            let Some(&inode) = mine.get(kind) else { continue };
            let inside = others.iter().filter(|o| o.inodes.get(kind) == Some(&inode));
            let shared_with = ours.sharers(inside, own.as_deref());
            out.push(Namespace { kind: kind.to_owned(), inode, host: host.get(kind) == Some(&inode), shared_with });
        }
        Ok(out)
    }
}

fn exists(pid: i32) -> bool {
    pid > 0 && std::path::Path::new(&format!("/proc/{pid}/ns")).exists()
}

/// Kind and inode number of each namespace of a process; empty if they cannot be read.
fn inodes(pid: i32) -> BTreeMap<&'static str, u64> {
    let inode = |kind: &&'static str| {
        let link = std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok()?;
        // `net:[4026531840]`, see namespaces(7).
        let number = link.to_str()?.split_once('[')?.1.strip_suffix(']')?.parse().ok()?;
        Some((*kind, number))
    };
    KINDS.iter().filter_map(inode).collect()
}

struct Other {
    pid: i32,
    inodes: BTreeMap<&'static str, u64>,
}

/// All processes but this one and its descendants.
fn others(pid: i32) -> Result<Vec<Other>> {
    let list = std::fs::read_dir("/proc").map_err(|e| Error::io("read", "/proc", e))?;
    let pids: Vec<i32> = list.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect();
    let parents: BTreeMap<i32, i32> = pids.iter().filter_map(|p| Some((*p, parent(*p)?))).collect();
    let within = |start: &i32| {
        let mut at = *start;
        // Parents change while they are read: no chain is longer than there are processes.
        for _ in 0..=parents.len() {
            match parents.get(&at) {
                _ if at == pid => return true,
                Some(up) => at = *up,
                None => return false,
            }
        }
        false
    };
    let outside = pids.iter().filter(|p| !within(p));
    Ok(outside.map(|p| Other { pid: *p, inodes: inodes(*p) }).filter(|o| !o.inodes.is_empty()).collect())
}

fn parent(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.get(stat.rfind(')')? + 2..)?.split(' ').nth(1)?.parse().ok()
}

/// Which container a process belongs to.
struct Containers<'a> {
    engine: &'a Engine,
    /// Container id by process, once asked for.
    known: BTreeMap<i32, Option<String>>,
}

impl<'a> Containers<'a> {
    fn new(engine: &'a Engine) -> Self {
        Containers { engine, known: BTreeMap::new() }
    }

    /// A few of these processes: one for each container, but for `own`, and the first of the rest.
    fn sharers<'o>(&mut self, inside: impl Iterator<Item = &'o Other>, own: Option<&str>) -> Vec<Sharer> {
        let mut seen = BTreeSet::new();
        let mut out: Vec<Sharer> = Vec::new();
        for other in inside {
            let id = self.id_of(other.pid);
            if let Some(id) = &id
                && (Some(id.as_str()) == own || !seen.insert(id.clone()))
            {
                continue;
            }
            if id.is_none() && out.iter().filter(|s| s.container.is_none()).count() >= SHARERS {
                continue;
            }
            out.push(Sharer { pid: other.pid, command: command(other.pid), container: id });
        }
        // Containers first: they tell most.
        out.sort_by_key(|s| (s.container.is_none(), s.pid));
        out.truncate(SHARERS);
        for sharer in &mut out {
            let named = |id: String| self.engine.store.container(&id).map_or(id, |row| row.name);
            sharer.container = sharer.container.take().map(named);
        }
        out
    }

    fn id_of(&mut self, pid: i32) -> Option<String> {
        let instance = &self.engine.instance;
        self.known
            .entry(pid)
            .or_insert_with(|| {
                let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
                container_of(&text, instance)
            })
            .clone()
    }
}

/// The container's id in a process's cgroup paths (`…/INSTANCE/ID…`).
fn container_of(cgroup: &str, instance: &str) -> Option<String> {
    cgroup.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').nth(2)?.split('/').skip_while(|p| *p != instance);
        let id = parts.nth(1)?;
        (id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit())).then(|| id.to_owned())
    })
}

fn command(pid: i32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).map(|t| t.trim_end().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_known_by_their_group() {
        let id = "ab".repeat(32);
        let text = format!("12:memory:/tare-x/{id}\n0::/tare-x/{id}\n");
        assert_eq!(container_of(&text, "tare-x"), Some(id));
        assert_eq!(container_of("3:pids:/user.slice\n0::/\n", "tare-x"), None);
        assert_eq!(container_of("0::/tare-x/short\n", "tare-x"), None);
    }

    #[test]
    fn own_namespaces_are_read() {
        let me = inodes(rustix::process::getpid().as_raw_nonzero().get());
        assert!(me["net"] > 0 && me.len() >= 7, "{me:?}");
    }
}
