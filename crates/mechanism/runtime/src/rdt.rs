//! Intel RDT: a class of service for a container's processes (config-linux.md#intelrdt, Documentation/filesystems/
//! resctrl.rst).
//!
//! ```text
//! <resctrl>/<class>/schemata                  how much cache and bandwidth the class has
//! <resctrl>/<class>/tasks                     who is in it; a write moves one process
//! <resctrl>/<class>/mon_groups/<container>/   what the container uses, counted
//! <resctrl>/info/last_cmd_status              why the last write was refused
//! ```
//!
//! Everything takes the mount's root as a descriptor.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags, openat, statat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tare_model::runtime_spec::LinuxIntelRdt;
use tare_model::{Error, Kind, Result};

/// What is going to be written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RdtPlan {
    /// The class's directory; empty for the class that every process is in by default.
    pub class: String,
    /// Whether the class was named: then it may be others', too, and stays when the container goes.
    pub named: bool,
    /// Lines for the schemata file, in the order in which they are written.
    pub lines: Vec<String>,
    /// The container's directory in `mon_groups`, where it was asked for.
    pub monitor: Option<String>,
}

/// What was made, and is to be removed with the container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RdtGroup {
    /// The class that was made for this container.
    pub class: Option<String>,
    /// The monitoring group, by its path below the mount.
    pub monitor: Option<String>,
}

/// Reads `linux.intelRdt` of a container.
///
/// # Errors
/// `Kind::Invalid` for a class that is no name of a directory, and for lines that would be several.
pub fn plan(rdt: &LinuxIntelRdt, id: &str) -> Result<RdtPlan> {
    let bad = |why: String| Err(Error::new(Kind::Invalid, "plan Intel RDT", "").because(why));
    let named = rdt.clos_id.as_deref().filter(|c| !c.is_empty());
    // "/" names the default class (config-linux.md, 1.3).
    let class = match named {
        Some("/") => "",
        Some(class) => class,
        None => id,
    };
    if class.contains('/') || matches!(class, "." | ".." | "info" | "mon_groups" | "mon_data") {
        return bad(format!("closID {class:?} cannot be the name of a class"));
    }
    let mut lines = Vec::new();
    // The older fields first: what stands in `schemata` goes over them.
    if let Some(l3) = &rdt.l3_cache_schema {
        // "MB:" lines in it are ignored, by the specification.
        lines.extend(l3.lines().filter(|l| !l.trim_start().starts_with("MB:")).map(str::to_owned));
    }
    lines.extend(rdt.mem_bw_schema.iter().flat_map(|s| s.lines()).map(str::to_owned));
    for line in &rdt.schemata {
        if line.contains('\n') {
            return bad(format!("{line:?} in schemata is more than one line"));
        }
        lines.push(line.clone());
    }
    lines.retain(|l| !l.trim().is_empty());
    let monitor = rdt.enable_monitoring.then(|| id.to_owned());
    Ok(RdtPlan { class: class.to_owned(), named: named.is_some(), lines, monitor })
}

/// The fields that are given, for errors.
pub fn fields(rdt: &LinuxIntelRdt) -> String {
    let given = [
        ("closID", rdt.clos_id.is_some()),
        ("schemata", !rdt.schemata.is_empty()),
        ("l3CacheSchema", rdt.l3_cache_schema.is_some()),
        ("memBwSchema", rdt.mem_bw_schema.is_some()),
        ("enableMonitoring", rdt.enable_monitoring),
    ];
    let names: Vec<&str> = given.into_iter().filter(|(_, given)| *given).map(|(name, _)| name).collect();
    format!("intelRdt ({})", names.join(", "))
}

/// Opens the root of the resctrl mount. `what` is what it is wanted for, for errors.
///
/// # Errors
/// `Kind::Unsupported` where none is mounted.
pub fn open(what: &str) -> Result<OwnedFd> {
    let info =
        std::fs::read_to_string("/proc/self/mountinfo").map_err(|e| Error::io("read", "/proc/self/mountinfo", e))?;
    let Some(path) = mount_point(&info) else {
        return Err(Error::new(Kind::Unsupported, "use Intel RDT for", what)
            .because("no resctrl file system is mounted")
            .hint("mount -t resctrl resctrl /sys/fs/resctrl, on a processor with cache or bandwidth allocation"));
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|e| Error::io("open", path, e))
}

/// Fields 5 and, behind the dash, 1 of proc_pid_mountinfo(5).
fn mount_point(mountinfo: &str) -> Option<&str> {
    mountinfo.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        kind.starts_with("resctrl ").then(|| place.split(' ').nth(4))?
    })
}

/// What [`apply`] is going to make for the container alone: to be noted beforehand, so that whoever finds what a killed
/// caller has left can remove it.
pub fn to_make(plan: &RdtPlan, root: BorrowedFd<'_>) -> RdtGroup {
    let missing = |path: &str| matches!(statat(root, path, AtFlags::SYMLINK_NOFOLLOW), Err(Errno::NOENT));
    RdtGroup {
        class: (!plan.named && missing(&plan.class)).then(|| plan.class.clone()),
        monitor: plan.monitor_path().filter(|path| missing(path)),
    }
}

/// Makes the class if it is missing, writes its schemata, and puts a process into it. What was made comes back, to be
/// kept and given to [`remove`]; if something fails, it is removed at once. A class that was named and exists is
/// others', too: it is joined as it is.
///
/// # Errors
/// `Kind::Invalid` where a named class that exists has other schemata than were asked for; `Kind::NotFound` where one is
/// missing and none were asked for (config-linux.md#intelrdt); else what the kernel refuses, in its own words.
pub fn apply(plan: &RdtPlan, root: BorrowedFd<'_>, pid: i32) -> Result<RdtGroup> {
    let mut made = RdtGroup::default();
    let done = fill(plan, root, pid, &mut made);
    match done {
        Ok(()) => Ok(made),
        Err(e) => {
            // What is left is an empty group; the failure that led here is the one to be told.
            let _ = remove(&made, root);
            Err(e)
        }
    }
}

fn fill(plan: &RdtPlan, root: BorrowedFd<'_>, pid: i32, made: &mut RdtGroup) -> Result<()> {
    // With nothing to write into it, a named class is one that somebody else has prepared.
    let new = !(plan.named && plan.lines.is_empty()) && make_directory(root, &plan.class)?;
    if new && !plan.named {
        made.class = Some(plan.class.clone());
    }
    let class = open_directory(root, &plan.class)?;
    if new || !plan.named {
        plan.lines.iter().try_for_each(|line| write(root, class.as_fd(), "schemata", line))?;
    } else if !plan.lines.is_empty() {
        compare(&plan.class, class.as_fd(), &plan.lines)?;
    }
    write(root, class.as_fd(), "tasks", &pid.to_string())?;
    if let Some(path) = plan.monitor_path() {
        if make_directory(root, &path)? {
            made.monitor = Some(path.clone());
        }
        write(root, open_directory(root, &path)?.as_fd(), "tasks", &pid.to_string())?;
    }
    Ok(())
}

impl RdtPlan {
    /// Below the mount.
    fn monitor_path(&self) -> Option<String> {
        let name = self.monitor.as_ref()?;
        Some(match self.class.as_str() {
            "" => format!("mon_groups/{name}"),
            class => format!("{class}/mon_groups/{name}"),
        })
    }
}

/// Checks that a class has what was asked for: of several lines for one domain the last counts, as when they are written.
fn compare(name: &str, class: BorrowedFd<'_>, lines: &[String]) -> Result<()> {
    let fail = |e: std::io::Error| Error::io("read schemata of class", name, e);
    let file =
        openat(class, "schemata", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(|e| fail(e.into()))?;
    let has = std::io::read_to_string(std::fs::File::from(file)).map_err(fail)?;
    let has: BTreeMap<_, _> = has.lines().flat_map(domains).collect();
    let asked: BTreeMap<_, _> = lines.iter().flat_map(|l| domains(l)).collect();
    let differs = asked.iter().find(|(domain, value)| has.get(*domain) != Some(value));
    let Some(((resource, domain), value)) = differs else { return Ok(()) };
    let there = has.get(&(*resource, *domain)).map_or("nothing".to_owned(), |v| format!("{domain}={v}"));
    Err(Error::new(Kind::Invalid, "join class of Intel RDT", name)
        .because(format!("{resource}:{domain}={value} was asked for, and the class, which exists already, has {there}"))
        .hint("leave the schemata out to join it as it is, or take another closID"))
}

/// `L3:0=fff;1=0f`: the resource, the domain, and the value without zeros before it.
fn domains(line: &str) -> impl Iterator<Item = ((&str, &str), String)> {
    let (resource, list) = line.split_once(':').unwrap_or((line, ""));
    list.split(';').filter_map(move |part| {
        let (domain, value) = part.split_once('=')?;
        let value = value.trim().trim_start_matches('0').to_ascii_lowercase();
        Some(((resource.trim(), domain.trim()), value))
    })
}

/// Writes the schemata of a class that exists: for a container that runs.
///
/// # Errors
/// `Kind::NotFound` without the class; else what the kernel refuses, in its own words.
pub fn update(plan: &RdtPlan, root: BorrowedFd<'_>) -> Result<()> {
    let class = open_directory(root, &plan.class)?;
    plan.lines.iter().try_for_each(|line| write(root, class.as_fd(), "schemata", line))
}

/// Removes what was made for a container, whose processes have ended.
///
/// # Errors
/// As unlinkat(2); what is gone already is no error.
pub fn remove(group: &RdtGroup, root: BorrowedFd<'_>) -> Result<()> {
    for path in group.monitor.iter().chain(&group.class) {
        match rustix::fs::unlinkat(root, path.as_str(), AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(e) => return Err(Error::io("remove resctrl group", path, e)),
        }
    }
    Ok(())
}

/// Whether it is new.
fn make_directory(root: BorrowedFd<'_>, path: &str) -> Result<bool> {
    if path.is_empty() {
        return Ok(false);
    }
    match rustix::fs::mkdirat(root, path, Mode::from_raw_mode(0o755)) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(e) => Err(explained(root, Error::io("make resctrl group", path, e))),
    }
}

fn open_directory(root: BorrowedFd<'_>, path: &str) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(root, if path.is_empty() { "." } else { path }, flags, Mode::empty())
        .map_err(|e| Error::io("open resctrl group", path, e))
}

fn write(root: BorrowedFd<'_>, group: BorrowedFd<'_>, file: &str, line: &str) -> Result<()> {
    let write = || {
        let file = openat(group, file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        rustix::io::write(file, format!("{line}\n").as_bytes())
    };
    write().map(drop).map_err(|e| explained(root, Error::io("write", format!("{line:?} to resctrl {file}"), e)))
}

/// Adds the kernel's own words.
fn explained(root: BorrowedFd<'_>, error: Error) -> Error {
    let mut buffer = [0u8; 1024];
    let read = openat(root, "info/last_cmd_status", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .and_then(|file| rustix::io::read(file, &mut buffer[..]));
    match read.map(|n| String::from_utf8_lossy(&buffer[..n]).trim().to_owned()) {
        Ok(words) if !words.is_empty() && words != "ok" => error.because(words),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    /// A directory that stands for the mount: a class's files are made by hand, where the kernel would make them.
    struct Resctrl(PathBuf, OwnedFd);

    impl Resctrl {
        fn new(name: &str) -> Resctrl {
            let path = std::env::temp_dir().join(format!("tare-rdt-{name}-{}", std::process::id()));
            std::fs::create_dir_all(path.join("info")).unwrap();
            let fd = rustix::fs::open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
            Resctrl(path, fd)
        }

        fn class(&self, path: &str) {
            std::fs::create_dir_all(self.0.join(path).join("mon_groups")).unwrap();
            for file in ["schemata", "tasks"] {
                std::fs::write(self.0.join(path).join(file), "").unwrap();
            }
        }

        fn read(&self, path: &str) -> String {
            std::fs::read_to_string(self.0.join(path)).unwrap()
        }
    }

    impl Drop for Resctrl {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn rdt(clos: Option<&str>) -> LinuxIntelRdt {
        LinuxIntelRdt { clos_id: clos.map(Into::into), ..LinuxIntelRdt::default() }
    }

    #[test]
    fn lines_are_gathered_from_all_fields() {
        let mut r = rdt(None);
        r.l3_cache_schema = Some("L3:0=7f0\nMB:0=20".into());
        r.mem_bw_schema = Some("MB:0=70".into());
        r.schemata = vec!["L2:0=3".into()];
        r.enable_monitoring = true;
        let p = plan(&r, "box").unwrap();
        assert_eq!(p.lines, ["L3:0=7f0", "MB:0=70", "L2:0=3"]);
        assert_eq!((p.class.as_str(), p.named, p.monitor.as_deref()), ("box", false, Some("box")));
        assert_eq!(plan(&rdt(Some("/")), "box").unwrap().class, "");
        assert_eq!(fields(&r), "intelRdt (schemata, l3CacheSchema, memBwSchema, enableMonitoring)");
        for class in ["a/b", "..", "info"] {
            assert!(plan(&rdt(Some(class)), "box").is_err(), "{class}");
        }
        r.schemata = vec!["a\nb".into()];
        assert!(plan(&r, "box").is_err());
    }

    #[test]
    fn schemata_of_a_class_that_exists_are_changed() {
        let dir = Resctrl::new("update");
        let mut r = rdt(Some("gold"));
        r.mem_bw_schema = Some("MB:0=70".into());
        let plan = plan(&r, "box").unwrap();
        assert_eq!(update(&plan, dir.1.as_fd()).unwrap_err().kind(), Kind::NotFound);
        dir.class("gold");
        update(&plan, dir.1.as_fd()).unwrap();
        assert_eq!((dir.read("gold/schemata").as_str(), dir.read("gold/tasks").as_str()), ("MB:0=70\n", ""));
    }

    #[test]
    fn a_process_joins_the_class_and_its_monitor() {
        let dir = Resctrl::new("join");
        dir.class("gold");
        std::fs::write(dir.0.join("gold/schemata"), "    MB:0=100\n    L3:0=00f;1=fff\n").unwrap();
        std::fs::create_dir_all(dir.0.join("gold/mon_groups/box")).unwrap();
        std::fs::write(dir.0.join("gold/mon_groups/box/tasks"), "").unwrap();
        let mut r = rdt(Some("gold"));
        r.schemata = vec!["L3:0=f".into()];
        r.enable_monitoring = true;
        let made = apply(&plan(&r, "box").unwrap(), dir.1.as_fd(), 77).unwrap();
        assert_eq!(dir.read("gold/schemata"), "    MB:0=100\n    L3:0=00f;1=fff\n");
        assert_eq!(dir.read("gold/tasks"), "77\n");
        assert_eq!(dir.read("gold/mon_groups/box/tasks"), "77\n");
        // All of it was there: nothing is ours to remove.
        assert_eq!(made, RdtGroup::default());
    }

    #[test]
    fn a_named_class_is_joined_as_it_is_or_not_at_all() {
        let dir = Resctrl::new("named");
        dir.class("gold");
        let has = "L3:0=f0;1=ff\nMB:0=50\n";
        std::fs::write(dir.0.join("gold/schemata"), has).unwrap();
        let join = |class: &str, schemata: &[&str]| {
            let mut r = rdt(Some(class));
            r.schemata = schemata.iter().map(|s| (*s).to_owned()).collect();
            apply(&plan(&r, "box").unwrap(), dir.1.as_fd(), 1)
        };
        for good in [&[][..], &["L3:1=0FF"], &["L3:0=1", "L3: 0=f0 ;1=ff", "MB:0=50"]] {
            join("gold", good).unwrap();
        }
        for (bad, words) in [("L3:0=f", "0=f0"), ("L3:2=f", "nothing"), ("MB:0=60", "0=50"), ("L2:0=1", "nothing")] {
            let e = join("gold", &[bad]).unwrap_err();
            assert!(e.kind() == Kind::Invalid && e.to_string().contains(words) && e.to_string().contains(bad), "{e}");
        }
        assert_eq!(dir.read("gold/schemata"), has);
        assert_eq!(join("silver", &[]).unwrap_err().kind(), Kind::NotFound);
        assert!(!dir.0.join("silver").exists());
    }

    #[test]
    fn what_is_going_to_be_made_is_known_before() {
        let dir = Resctrl::new("before");
        let mut r = rdt(None);
        r.enable_monitoring = true;
        let own = to_make(&plan(&r, "box").unwrap(), dir.1.as_fd());
        assert_eq!(own, RdtGroup { class: Some("box".into()), monitor: Some("box/mon_groups/box".into()) });
        dir.class("gold");
        r.clos_id = Some("gold".into());
        let named = to_make(&plan(&r, "box").unwrap(), dir.1.as_fd());
        assert_eq!(named, RdtGroup { class: None, monitor: Some("gold/mon_groups/box".into()) });
        r.clos_id = Some("/".into());
        r.enable_monitoring = false;
        assert_eq!(to_make(&plan(&r, "box").unwrap(), dir.1.as_fd()), RdtGroup::default());
    }

    #[test]
    fn what_was_made_is_removed_on_failure_and_at_the_end() {
        let dir = Resctrl::new("made");
        std::fs::write(dir.0.join("info/last_cmd_status"), "Mask out of range\n").unwrap();
        let mut r = rdt(None);
        r.schemata = vec!["L3:0=f".into()];
        // A plain directory has no schemata file.
        let e = apply(&plan(&r, "box").unwrap(), dir.1.as_fd(), 1).unwrap_err();
        assert!(e.to_string().contains("Mask out of range"), "{e}");
        assert!(!dir.0.join("box").exists());
        std::fs::create_dir(dir.0.join("box")).unwrap();
        let group = RdtGroup { class: Some("box".into()), monitor: Some("box/mon_groups/box".into()) };
        remove(&group, dir.1.as_fd()).unwrap();
        assert!(!dir.0.join("box").exists());
        remove(&group, dir.1.as_fd()).unwrap();
    }

    #[test]
    fn the_mount_is_found_by_its_type() {
        let info = "22 1 0:20 / /sys rw - sysfs sysfs rw\n30 22 0:26 / /sys/fs/resctrl rw shared:9 - resctrl r rw\n";
        assert_eq!(mount_point(info), Some("/sys/fs/resctrl"));
        assert_eq!(mount_point("22 1 0:20 / /sys/fs/resctrl rw - tmpfs resctrl rw\n"), None);
    }
}
