//! config-linux.md, "Control groups": where the container is, what its limits are in the kernel's files, and what they do.
//!
//! Values are read where the kernel says that the process is, from v1's file or from v2's, so that a case holds on both.

mod block;
mod cpu;
mod device_rules;
mod memory;
mod others;
mod path;
mod private;
mod systemd;
mod unified;

use std::path::PathBuf;
use tare_tests::oci::{Layout, kernel, layout, skip};

/// The groups of one process.
pub(crate) struct Groups {
    pid: i32,
    layout: Layout,
}

impl Groups {
    pub(crate) fn of(pid: i32) -> Groups {
        Groups { pid, layout: layout() }
    }

    /// Whether this controller is cgroup2's.
    pub(crate) fn is_v2(&self, controller: &str) -> bool {
        self.layout.v1_of(controller).is_none()
    }

    /// The process's group for this controller (v1's name of it).
    ///
    /// Skips the case if this host has no such controller.
    pub(crate) fn directory(&self, controller: &str) -> PathBuf {
        let paths = kernel::cgroups(self.pid);
        if let Some(base) = self.layout.v1_of(controller) {
            return base.join(paths[controller].trim_start_matches('/'));
        }
        let v2 = if controller == "blkio" { "io" } else { controller };
        // Of what cgroup2 has always, cpuacct is a part and the freezer and the devices are no controllers.
        if !["cpuacct", "freezer", "devices"].contains(&v2) && !self.layout.v2_has(v2) {
            skip(&format!("this host has no controller {controller}"));
        }
        self.layout.v2.as_ref().unwrap().join(paths[""].trim_start_matches('/'))
    }

    /// A file of the group, without the last line break: `v1` or `v2`, as the controller is.
    ///
    /// Skips the case if cgroup2 has the controller and no such file (`v2` empty).
    #[track_caller]
    pub(crate) fn read(&self, controller: &str, v1: &str, v2: &str) -> String {
        let file = if self.is_v2(controller) { v2 } else { v1 };
        if file.is_empty() {
            skip(&format!("cgroup2 has nothing like {v1}"));
        }
        let path = self.directory(controller).join(file);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        text.trim_end_matches('\n').to_owned()
    }

    /// The value behind a word of a file of `WORD VALUE` lines.
    #[track_caller]
    pub(crate) fn field(&self, controller: &str, (v1, v2): (&str, &str), word: &str) -> u64 {
        let text = self.read(controller, v1, v2);
        let line = text.lines().find_map(|l| l.strip_prefix(word)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {word} in {text}")).parse().unwrap()
    }

    /// Fails unless the file has this value: `v1` and `v2` are each FILE and VALUE; no file: cgroup2 has no such limit.
    #[track_caller]
    pub(crate) fn expect(&self, controller: &str, v1: (&str, &str), v2: (&str, &str)) {
        let expected = if self.is_v2(controller) { v2.1 } else { v1.1 };
        assert_eq!(self.read(controller, v1.0, v2.0), expected, "{} or {}", v1.0, v2.0);
    }
}

/// No such file.
pub(crate) const NONE: (&str, &str) = ("", "");
/// What v1 shows of memory without a limit.
pub(crate) const UNLIMITED: &str = "9223372036854771712";
