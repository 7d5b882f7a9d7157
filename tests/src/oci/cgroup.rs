//! Cgroup hierarchies of this host, read from /proc/self/mountinfo.

use super::kernel;
use std::path::{Path, PathBuf};

/// How the hierarchies are laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Controllers of each v1 hierarchy, and where it is mounted.
    pub v1: Vec<(Vec<String>, PathBuf)>,
    /// Where cgroup2 is mounted.
    pub v2: Option<PathBuf>,
}

/// The layout of this host.
pub fn layout() -> Layout {
    let mut layout = Layout { v1: Vec::new(), v2: None };
    // Controllers and names are options of the file system; so are some others.
    let other = ["rw", "ro", "xattr", "clone_children", "noprefix", "favordynmods", "nofavordynmods"];
    for mount in kernel::mounts(i32::try_from(std::process::id()).unwrap()) {
        match mount.kind.as_str() {
            "cgroup2" if layout.v2.is_none() => layout.v2 = Some(mount.at.into()),
            "cgroup" => {
                let is_controller = |o: &&String| !other.contains(&o.as_str()) && !o.starts_with("release_agent=");
                let names: Vec<String> = mount.data.iter().filter(is_controller).cloned().collect();
                if !layout.v1.iter().any(|(n, _)| *n == names) {
                    layout.v1.push((names, mount.at.into()));
                }
            }
            _ => {}
        }
    }
    layout
}

impl Layout {
    /// Whether cgroup2 alone has the controllers.
    pub fn is_v2(&self) -> bool {
        self.v1.is_empty()
    }

    /// Where the v1 hierarchy of a controller is mounted; `name=systemd` for a named one.
    pub fn v1_of(&self, controller: &str) -> Option<&Path> {
        self.v1.iter().find(|(names, _)| names.iter().any(|n| n == controller)).map(|(_, at)| at.as_path())
    }

    /// Whether cgroup2 has this controller.
    pub fn v2_has(&self, controller: &str) -> bool {
        let file = self.v2.as_ref().map(|at| at.join("cgroup.controllers"));
        let text = file.and_then(|f| std::fs::read_to_string(f).ok()).unwrap_or_default();
        text.split_whitespace().any(|c| c == controller)
    }

    /// The directory of a group for this controller, in v1 or v2; `path` begins with a slash.
    pub fn directory(&self, controller: &str, path: &str) -> Option<PathBuf> {
        let base = match self.v1_of(controller) {
            Some(at) => at,
            None if self.v2_has(controller) => self.v2.as_deref()?,
            None => return None,
        };
        Some(base.join(path.trim_start_matches('/')))
    }

    /// Every directory that this group has in any hierarchy.
    pub fn directories(&self, path: &str) -> Vec<PathBuf> {
        let bases = self.v1.iter().map(|(_, at)| at).chain(&self.v2);
        bases.map(|at| at.join(path.trim_start_matches('/'))).filter(|d| d.is_dir()).collect()
    }

    /// Kills whatever is in a group, and removes it with those below it.
    pub(super) fn remove(&self, path: &str) {
        let directories = self.directories(path);
        for directory in &directories {
            let _ = std::fs::write(directory.join("cgroup.kill"), "1");
            let _ = std::fs::write(directory.join("freezer.state"), "THAWED");
        }
        directories.iter().for_each(|d| remove_below(d));
    }
}

fn remove_below(directory: &Path) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_below(&entry.path());
        }
    }
    // A group whose last process is just ending refuses for a moment.
    crate::eventually(std::time::Duration::from_secs(2), || {
        std::fs::remove_dir(directory).is_ok() || !directory.exists()
    });
}
