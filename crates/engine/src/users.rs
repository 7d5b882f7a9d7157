//! `user[:group]` to numbers, by the container's own /etc/passwd and /etc/group.

use rustix::fd::{AsFd, AsRawFd};
use rustix::fs::{FileType, OFlags};
use std::io::Read;
use tare_model::{Error, Kind, Result};
use tare_runtime::launch::in_root;

/// Who a process shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    /// The home directory, `/` where none is known.
    pub(crate) home: String,
}

/// Resolves `user[:group]` and further groups in the given root.
///
/// # Errors
/// `Kind::Invalid` if a name is not in the container's files or a number is out of range.
pub(crate) fn resolve(root: impl AsFd, user: &str, groups: &[String]) -> Result<Identity> {
    let passwd = read(root.as_fd(), "/etc/passwd");
    let group = read(root.as_fd(), "/etc/group");
    resolve_in(&passwd, &group, user, groups)
}

fn resolve_in(passwd: &str, group: &str, user: &str, more: &[String]) -> Result<Identity> {
    let (user, named_group) = match user.split_once(':') {
        Some((u, g)) => (u, Some(g).filter(|g| !g.is_empty())),
        None => (user, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let entry = passwd.lines().map(Entry::parse).find(|e| e.name == user).or_else(|| {
        let n: u32 = user.parse().ok()?;
        passwd.lines().map(Entry::parse).find(|e| e.id == Some(n))
    });
    let uid = match (&entry, user.parse::<u32>()) {
        (Some(Entry { id: Some(id), .. }), _) => *id,
        (_, Ok(n)) if n <= i32::MAX as u32 => n,
        (_, Ok(_)) => return Err(bad("user", user, "user ids go up to 2147483647")),
        _ => return Err(bad("user", user, "no such user in the container's /etc/passwd")),
    };
    let gid = match named_group {
        Some(g) => group_id(group, g)?,
        None => entry.as_ref().and_then(|e| e.rest.first()).and_then(|g| number(g)).unwrap_or(0),
    };
    let home = entry.as_ref().and_then(|e| e.rest.get(2)).filter(|h| !h.is_empty()).map_or("/", |h| h).to_owned();
    let mut groups = Vec::new();
    let mut add = |g: u32| {
        if g != gid && !groups.contains(&g) {
            groups.push(g);
        }
    };
    // A group given with the user stands alone, as with docker; else the user's own memberships count.
    if let (None, Some(e)) = (named_group, &entry) {
        group
            .lines()
            .map(Entry::parse)
            .filter(|g| g.rest.first().is_some_and(|members| members.split(',').any(|m| m == e.name)))
            .filter_map(|g| g.id)
            .for_each(&mut add);
    }
    for g in more {
        add(group_id(group, g)?);
    }
    Ok(Identity { uid, gid, groups, home })
}

fn group_id(file: &str, name: &str) -> Result<u32> {
    if let Some(id) = file.lines().map(Entry::parse).find(|e| e.name == name).and_then(|e| e.id) {
        return Ok(id);
    }
    match name.parse::<u32>() {
        Ok(n) if n <= i32::MAX as u32 => Ok(n),
        Ok(_) => Err(bad("group", name, "group ids go up to 2147483647")),
        Err(_) => Err(bad("group", name, "no such group in the container's /etc/group")),
    }
}

fn bad(what: &'static str, name: &str, why: &str) -> Error {
    Error::new(Kind::Invalid, format!("find {what}"), format!("{name:?}"))
        .because(why)
        .hint("a number works without an entry: --user 1000:1000")
}

/// What a file may name. The highest number means "no change" to setresuid(2), that is root.
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|n| *n <= i32::MAX as u32)
}

/// A line of passwd(5) or group(5): name, password, number, rest.
struct Entry<'a> {
    name: &'a str,
    id: Option<u32>,
    rest: Vec<&'a str>,
}

impl<'a> Entry<'a> {
    fn parse(line: &'a str) -> Self {
        let mut fields = line.trim_end().split(':');
        let name = fields.next().unwrap_or_default();
        let id = fields.nth(1).and_then(number);
        Entry { name, id, rest: fields.collect() }
    }
}

/// At most 4 MiB of a file inside the root; empty if it cannot be read: images without users are common.
fn read(root: impl AsFd, path: &str) -> String {
    let mut bytes = Vec::new();
    // Looked at before it is opened: the image may have a device in this place, and opening some does something.
    if let Ok(place) = in_root(root, path, OFlags::PATH)
        && rustix::fs::fstat(&place).is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::RegularFile)
        && let Ok(file) = std::fs::File::open(format!("/proc/self/fd/{}", place.as_raw_fd()))
    {
        let _ = file.take(4 << 20).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33:www:/var/www:/bin/false\n";
    const GROUP: &str = "root:x:0:\nwww:x:33:\nadm:x:4:web,other\nvideo:x:44:root\n";

    fn ids(user: &str, more: &[&str]) -> Result<(u32, u32, Vec<u32>, String)> {
        let more: Vec<String> = more.iter().map(|s| (*s).into()).collect();
        resolve_in(PASSWD, GROUP, user, &more).map(|i| (i.uid, i.gid, i.groups, i.home))
    }

    #[test]
    fn users_and_groups_come_from_the_containers_files() {
        assert_eq!(ids("", &[]).unwrap(), (0, 0, vec![44], "/root".into()));
        assert_eq!(ids("web", &["video"]).unwrap(), (33, 33, vec![4, 44], "/var/www".into()));
        assert_eq!(ids("33", &[]).unwrap(), (33, 33, vec![4], "/var/www".into()));
        assert_eq!(ids("web:video", &[]).unwrap(), (33, 44, vec![], "/var/www".into()));
        assert_eq!(ids("1000:7", &[]).unwrap(), (1000, 7, vec![], "/".into()));
        assert_eq!(ids("1000", &["9"]).unwrap(), (1000, 0, vec![9], "/".into()));
    }

    #[test]
    fn unknown_names_are_refused() {
        assert_eq!(ids("nobody", &[]).unwrap_err().kind(), Kind::Invalid);
        assert!(ids("root:nogroup", &[]).is_err());
        assert!(ids("4294967295", &[]).is_err());
        assert!(ids("root", &["nogroup"]).is_err());
        let passwd = "evil:x:4294967295:4294967295::/:/bin/sh\n";
        assert!(resolve_in(passwd, "", "evil", &[]).is_err());
        assert!(resolve_in("", "g:x:4294967295:\n", "1", &["g".into()]).is_err());
    }
}
