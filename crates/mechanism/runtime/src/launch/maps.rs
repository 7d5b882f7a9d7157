//! User namespaces: the maps, written from outside, and the child's own ids in one.

use crate::plan::{IdMaps, IdRange};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Gid, Uid};
use std::fmt::Write;
use tare_model::{Error, Kind, Result};

/// Writes the maps of a child's new user namespace (user_namespaces(7)). The child waits meanwhile.
pub(super) fn write(pid: i32, maps: &IdMaps) -> Result<()> {
    // Whoever lacks CAP_SETGID outside may map groups only when the child cannot drop any.
    if !rustix::process::geteuid().is_root() {
        write_file(pid, "setgroups", "deny")?;
    }
    write_file(pid, "gid_map", &text(&maps.gids))?;
    write_file(pid, "uid_map", &text(&maps.uids))
}

/// Checks that the user namespace that a child has joined has the maps that were given along with its path: files of the
/// root and of mounts are given away by them.
pub(super) fn compare(pid: i32, maps: &IdMaps) -> Result<()> {
    for (file, given) in [("uid_map", &maps.uids), ("gid_map", &maps.gids)] {
        let path = format!("/proc/{pid}/{file}");
        let found = std::fs::read_to_string(&path).map_err(|e| Error::io("read", path, e))?;
        if joined_up(parse(&found)) != joined_up(given.clone()) {
            let found = found.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>();
            return Err(Error::new(Kind::Invalid, "join", "user namespace")
                .because(format!("its {file} is {:?}, and {:?} was given", found.join(", "), text(given).trim_end()))
                .hint("leave out uidMappings and gidMappings, or give those of the namespace"));
        }
    }
    Ok(())
}

/// A map file of /proc, as seen by the reader.
fn parse(text: &str) -> Vec<IdRange> {
    let range = |line: &str| {
        let mut numbers = line.split_whitespace().map_while(|n| n.parse().ok());
        Some(IdRange { inside: numbers.next()?, outside: numbers.next()?, count: numbers.next()? })
    };
    text.lines().filter_map(range).collect()
}

/// The same map in as few ranges as can be, in order.
fn joined_up(mut ranges: Vec<IdRange>) -> Vec<IdRange> {
    ranges.sort_unstable_by_key(|r| r.inside);
    ranges.into_iter().fold(Vec::new(), |mut all: Vec<IdRange>, r| {
        match all.last_mut() {
            Some(last)
                if r.inside - last.inside == last.count && r.outside == last.outside.wrapping_add(last.count) =>
            {
                last.count += r.count;
            }
            _ => all.push(r),
        }
        all
    })
}

fn text(ranges: &[IdRange]) -> String {
    ranges.iter().fold(String::new(), |mut out, r| {
        let _ = writeln!(out, "{} {} {}", r.inside, r.outside, r.count);
        out
    })
}

/// Writes a file of a child's in /proc: its number is not reused before it has been waited for.
pub(super) fn write_file(pid: i32, file: &str, text: &str) -> Result<()> {
    let path = format!("/proc/{pid}/{file}");
    let fail = |e: Errno| {
        let error = Error::io("write", format!("{file} {:?}", text.trim_end()), e);
        match e {
            Errno::PERM => error.hint("an id on the outside may only be mapped by whoever may become it"),
            e => error.with_kind(if e == Errno::INVAL { Kind::Invalid } else { Kind::System }),
        }
    };
    let fd = rustix::fs::openat(CWD, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).map_err(fail)?;
    // The kernel takes the maps in one piece.
    rustix::io::write(fd, text.as_bytes()).map(drop).map_err(fail)
}

/// In the child: the owner of everything that it is about to make. `maps`: `None` in a namespace that was joined.
pub(super) fn assume_root(maps: Option<&IdMaps>) -> Result<()> {
    let (uid, gid) = maps.map_or((0, 0), |m| (IdMaps::first(&m.uids), IdMaps::first(&m.gids)));
    let fail = |e| Error::io("become", "root of the user namespace", e);
    let (u, g) = (Uid::from_raw(uid), Gid::from_raw(gid));
    // A joined namespace need not have an id 0: its capabilities are there all the same.
    match rustix::thread::set_thread_res_gid(g, g, g).and_then(|()| rustix::thread::set_thread_res_uid(u, u, u)) {
        Err(Errno::INVAL) if maps.is_none() => {}
        other => other.map_err(fail)?,
    }
    // Changing the user may have made it dumpable, where fs.suid_dumpable is 1.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_the_same_however_they_are_cut() {
        let map = |text| joined_up(parse(text));
        assert_eq!(map("0 1000 10\n10 1010 5\n"), map("         0       1000         15\n"));
        assert_eq!(map("10 50 5\n0 1000 10\n"), map("0 1000 10\n10 50 5\n"));
        assert_ne!(map("0 1000 10\n10 1011 5\n"), map("0 1000 15\n"));
        assert_ne!(map("0 1000 10\n"), map("0 1000 11\n"));
    }
}
