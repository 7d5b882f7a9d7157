//! What is opened on the host before the clone, in the order in which the child's steps use it.

use super::bind::prepare_mount;
use super::filesystem::{clone_tree, new_filesystem};
use super::group_mount::CgroupMount;
use crate::plan::{IdMaps, IdRange, LaunchPlan, MountPlan, Source, Step};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, Uid};
use tare_kernel::mount::{Attributes, PRIVATE, RDONLY};
use tare_model::{Context, Error, Kind, Result};

/// Everything that the child takes along.
#[derive(Debug)]
pub struct Prepared {
    /// The root filesystem, a detached mount.
    pub(super) root: OwnedFd,
    /// For each [`Step::Mount`] in order: its detached mount, if the host had to make it.
    pub(super) mounts: Vec<Option<OwnedFd>>,
    /// What [`Source::Cgroup`] shows.
    pub(super) cgroup_mounts: Vec<CgroupMount>,
    /// The pseudo-terminal.
    pub(super) terminal: Option<Terminal>,
}

impl Prepared {
    /// The root filesystem, to look things up in it.
    pub fn root(&self) -> rustix::fd::BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Adds a mount that the plan could not name: a detached tree, to be placed after all others.
    pub fn add_mount(&mut self, plan: &mut LaunchPlan, target: &str, tree: OwnedFd) {
        let source = Source::Filesystem { kind: "bind".to_owned(), name: String::new(), options: Vec::new() };
        let mount = MountPlan {
            target: target.to_owned(),
            source,
            set: 0,
            clear: 0,
            below: (0, 0),
            propagation: Vec::new(),
            id_map: None,
            copy_up: false,
        };
        let last = plan.steps.iter().rposition(|s| matches!(s, Step::Mount(_))).map_or(0, |i| i + 1);
        plan.steps.insert(last, Step::Mount(mount));
        self.mounts.push(Some(tree));
    }

    /// The terminal's master side, once: its owner relays it.
    ///
    /// # Errors
    /// As fcntl(2).
    pub fn master(&self) -> Result<Option<OwnedFd>> {
        self.terminal.as_ref().map(|t| t.master.try_clone().during("duplicate", "terminal")).transpose()
    }
}

/// A pseudo-terminal of the container's own devpts.
#[derive(Debug)]
pub struct Terminal {
    /// What the supervisor holds.
    pub master: OwnedFd,
    /// What the process gets.
    pub slave: OwnedFd,
}

/// The container's place in the cgroup hierarchies.
#[derive(Debug, Default)]
pub struct CgroupHandles {
    /// `tasks` files of v1 hierarchies, open for writing: the child writes `0` into each.
    pub attach: Vec<OwnedFd>,
    /// The cgroup2 directory to be born in.
    pub unified: Option<OwnedFd>,
    /// What /sys/fs/cgroup shall show inside.
    pub mounts: Vec<CgroupMount>,
}

/// A detached, private copy of what is mounted at a path.
///
/// # Errors
/// As open_tree(2).
pub fn clone_mount(path: &str) -> Result<OwnedFd> {
    let tree = clone_tree(CWD, path, false).map_err(|e| Error::io("bind", path, e))?;
    let attributes = Attributes { propagation: PRIVATE, ..Default::default() };
    tare_kernel::mount::set_attributes(tree.as_fd(), c"", attributes, false).during("bind", path)?;
    Ok(tree)
}

/// The null device, for a process in a container. Through a read-only copy of /dev, or whoever is root there could
/// change mode and owner of the host's node by the descriptor.
///
/// # Errors
/// As open_tree(2).
pub fn null_device() -> Result<OwnedFd> {
    let fail = |e| Error::io("open", "/dev/null", e);
    let tree = clone_tree(CWD, "/dev", false).map_err(fail)?;
    let attributes = Attributes { set: RDONLY, propagation: PRIVATE, ..Default::default() };
    tare_kernel::mount::set_attributes(tree.as_fd(), c"", attributes, false).during("open", "/dev/null")?;
    rustix::fs::openat(&tree, "null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(fail)
}

/// Opens what the plan's steps need from the host. `root`: a detached mount of the root filesystem.
///
/// # Errors
/// If a bind source is missing or cannot be opened, or the terminal cannot be made.
pub fn prepare(plan: &LaunchPlan, root: OwnedFd, cgroup_mounts: Vec<CgroupMount>) -> Result<Prepared> {
    let mut terminal = None;
    let mut mounts = Vec::new();
    for step in &plan.steps {
        let Step::Mount(mount) = step else { continue };
        mounts.push(match &mount.source {
            Source::Filesystem { kind, name, options } if kind == "devpts" && plan.process.terminal => {
                let ids = plan.namespaces.ids.as_ref();
                let tree = new_filesystem(kind, name, &terminals_options(options, ids), mount.set)?;
                let opened = open_terminal(&tree)?;
                if let Some(ids) = ids {
                    own_terminal(&opened, ids)?;
                }
                terminal = Some(opened);
                Some(tree)
            }
            _ => prepare_mount(mount)?,
        });
    }
    if plan.process.terminal && terminal.is_none() {
        return Err(Error::new(Kind::Invalid, "open terminal", "").because("the container has no devpts mount"));
    }
    Ok(Prepared { root, mounts, cgroup_mounts, terminal })
}

/// This instance of devpts is made outside of the container's user namespace: the ids in its options are those inside.
fn terminals_options(options: &[String], ids: Option<&IdMaps>) -> Vec<String> {
    let translate = |option: &String| {
        let (key, value) = option.split_once('=')?;
        let ranges = match (key, ids?) {
            ("uid", ids) => &ids.uids,
            ("gid", ids) => &ids.gids,
            _ => return None,
        };
        Some(format!("{key}={}", outside(ranges, value.parse().ok()?)?))
    };
    options.iter().map(|option| translate(option).unwrap_or_else(|| option.clone())).collect()
}

/// The id outside that an id inside stands for.
fn outside(ranges: &[IdRange], inside: u32) -> Option<u32> {
    let range = ranges.iter().find(|r| inside >= r.inside && inside - r.inside < r.count)?;
    Some(range.outside + (inside - range.inside))
}

/// Gives the terminal to root inside: whoever opened it outside is nobody there.
fn own_terminal(terminal: &Terminal, ids: &IdMaps) -> Result<()> {
    let owner = outside(&ids.uids, IdMaps::first(&ids.uids)).map(Uid::from_raw);
    rustix::fs::fchown(&terminal.slave, owner, None).map_err(|e| Error::io("own", "terminal", e))
}

/// Opens both sides through the devpts instance itself: no path of the container is walked.
fn open_terminal(devpts: &OwnedFd) -> Result<Terminal> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master =
        rustix::fs::openat(devpts, "ptmx", flags, Mode::empty()).map_err(|e| Error::io("open terminal", "ptmx", e))?;
    rustix::pty::unlockpt(&master).map_err(|e| Error::io("unlock terminal", "", e))?;
    let flags = rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY | rustix::pty::OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).map_err(|e| Error::io("open terminal", "slave", e))?;
    Ok(Terminal { master, slave })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminals_ids_are_those_inside() {
        let ranges =
            |outside| vec![IdRange { inside: 0, outside, count: 10 }, IdRange { inside: 50, outside: 7, count: 1 }];
        let ids = IdMaps { uids: ranges(1000), gids: ranges(2000) };
        let options = ["newinstance", "gid=5", "uid=50", "mode=620", "gid=99"].map(str::to_owned);
        let translated = terminals_options(&options, Some(&ids));
        assert_eq!(translated, ["newinstance", "gid=2005", "uid=7", "mode=620", "gid=99"]);
        assert_eq!(terminals_options(&options, None), options);
    }
}
