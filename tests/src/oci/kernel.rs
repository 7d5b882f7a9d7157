//! The kernel's view of a process: files of /proc, read from outside of the container.

use std::collections::BTreeMap;

/// One line of /proc/PID/mountinfo (proc_pid_mountinfo(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Identity of the mount.
    pub id: u64,
    /// Of the one that it is mounted on.
    pub parent: u64,
    /// MAJOR:MINOR of the file system.
    pub device: String,
    /// What of the file system is mounted.
    pub root: String,
    /// Where, as the process sees it.
    pub at: String,
    /// The mount's own options: `rw`, `nosuid` …
    pub options: Vec<String>,
    /// `shared:N`, `master:N`, `propagate_from:N`, `unbindable`; empty if private.
    pub propagation: Vec<String>,
    /// Kind of file system.
    pub kind: String,
    /// Source, as the kernel remembers it.
    pub source: String,
    /// The file system's options.
    pub data: Vec<String>,
}

impl Mount {
    /// Whether the mount itself has this option.
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().any(|o| o == option)
    }

    /// Whether the file system has this option.
    pub fn has_data(&self, option: &str) -> bool {
        self.data.iter().any(|o| o == option)
    }

    /// `shared`, `slave`, `shared,slave`, `unbindable` or `private`.
    pub fn propagation(&self) -> String {
        let mut kinds = Vec::new();
        for (prefix, kind) in [("shared:", "shared"), ("master:", "slave"), ("unbindable", "unbindable")] {
            if self.propagation.iter().any(|p| p.starts_with(prefix)) {
                kinds.push(kind);
            }
        }
        if kinds.is_empty() { "private".to_owned() } else { kinds.join(",") }
    }
}

/// A file of /proc/PID as text, without the last line break.
///
/// # Panics
/// If it cannot be read.
#[track_caller]
pub fn proc(pid: i32, file: &str) -> String {
    let path = format!("/proc/{pid}/{file}");
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    String::from_utf8_lossy(&bytes).trim_end_matches('\n').to_owned()
}

/// A field of /proc/PID/status, its blanks made single.
///
/// # Panics
/// If there is none of that name.
#[track_caller]
pub fn status(pid: i32, field: &str) -> String {
    let text = proc(pid, "status");
    let line = text.lines().find_map(|l| l.strip_prefix(field)?.strip_prefix(':'));
    let value = line.unwrap_or_else(|| panic!("no {field} in\n{text}"));
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A capability set of /proc/PID/status: `CapInh`, `CapPrm`, `CapEff`, `CapBnd`, `CapAmb`.
#[track_caller]
pub fn capabilities(pid: i32, set: &str) -> u64 {
    u64::from_str_radix(&status(pid, set), 16).unwrap()
}

/// A field of /proc/PID/stat by its number in proc_pid_stat(5), from 3 on.
#[track_caller]
pub fn stat(pid: i32, number: usize) -> i64 {
    let text = proc(pid, "stat");
    let rest = &text[text.rfind(')').unwrap() + 2..];
    rest.split(' ').nth(number - 3).unwrap().parse().unwrap()
}

/// Soft and hard limit, as /proc/PID/limits writes them; `name` as `Max open files`.
#[track_caller]
pub fn limit(pid: i32, name: &str) -> (String, String) {
    let text = proc(pid, "limits");
    let line = text.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_else(|| panic!("no {name} in\n{text}"));
    let mut words = line.split_whitespace().map(str::to_owned);
    (words.next().unwrap(), words.next().unwrap())
}

/// Identity of a namespace, as `net:[4026531840]`; `kind` as in /proc/PID/ns.
#[track_caller]
pub fn namespace(pid: i32, kind: &str) -> String {
    let path = format!("/proc/{pid}/ns/{kind}");
    let link = std::fs::read_link(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    link.to_string_lossy().into_owned()
}

/// The mounts that a process sees.
#[track_caller]
pub fn mounts(pid: i32) -> Vec<Mount> {
    parse_mounts(&proc(pid, "mountinfo"))
}

/// The mount that a process sees at a place: the topmost one.
///
/// # Panics
/// If there is none.
#[track_caller]
pub fn mount(pid: i32, at: &str) -> Mount {
    let all = mounts(pid);
    let found = all.iter().rfind(|m| m.at == at).cloned();
    found.unwrap_or_else(|| panic!("nothing is mounted at {at}: {all:#?}"))
}

/// The lines of a mountinfo file.
///
/// # Panics
/// If a line is not of its form.
pub fn parse_mounts(text: &str) -> Vec<Mount> {
    let list = |s: &str| s.split(',').map(str::to_owned).collect();
    let parse = |line: &str| {
        let (front, back) = line.split_once(" - ").unwrap();
        let front: Vec<&str> = front.split(' ').collect();
        let back: Vec<&str> = back.split(' ').collect();
        Mount {
            id: front[0].parse().unwrap(),
            parent: front[1].parse().unwrap(),
            device: front[2].to_owned(),
            root: front[3].to_owned(),
            at: front[4].to_owned(),
            options: list(front[5]),
            propagation: front[6..].iter().map(|s| (*s).to_owned()).collect(),
            kind: back[0].to_owned(),
            source: back[1].to_owned(),
            data: list(back.get(2).unwrap_or(&"")),
        }
    };
    text.lines().map(parse).collect()
}

/// Path in each hierarchy by controller (`memory`, `name=systemd`); the one of cgroup2 under the empty name.
#[track_caller]
pub fn cgroups(pid: i32) -> BTreeMap<String, String> {
    let mut map = BTreeMap::new();
    for line in proc(pid, "cgroup").lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next().unwrap(), parts.next().unwrap());
        for controller in controllers.split(',') {
            map.insert(controller.to_owned(), path.to_owned());
        }
    }
    map
}

/// The processes below this one, at any depth.
pub fn descendants(pid: i32) -> Vec<i32> {
    let names = std::fs::read_dir("/proc").unwrap().filter_map(|e| e.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let parent = |pid: i32| -> Option<i32> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        text[text.rfind(')')? + 2..].split(' ').nth(1)?.parse().ok()
    };
    let all: Vec<(i32, i32)> = names.filter_map(|p| Some((p, parent(p)?))).collect();
    let mut found = vec![pid];
    let mut next = 0;
    while next < found.len() {
        let above = found[next];
        found.extend(all.iter().filter(|(_, parent)| *parent == above).map(|(p, _)| *p));
        next += 1;
    }
    found.split_off(1)
}
