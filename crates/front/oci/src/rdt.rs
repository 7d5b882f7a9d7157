//! Intel RDT's schemata of a running container, changed: config-linux.md#intelrdt, Documentation/filesystems/resctrl.rst.

use std::io::Write;
use std::path::PathBuf;
use tare_model::runtime_spec::Spec;
use tare_model::{Error, Kind, Result};

/// New schemata for the container's class of service.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// The class's directory.
    directory: PathBuf,
    /// Lines to be written, one at a time: the kernel tells which one it refuses.
    lines: Vec<String>,
}

impl Change {
    /// What two flags of `update` ask for: none if neither is there.
    ///
    /// # Errors
    /// `Kind::Unsupported` where resctrl is not mounted; `Kind::Invalid` for a container without `intelRdt`.
    pub(crate) fn of(spec: &Spec, id: &str, l3: Option<&str>, bandwidth: Option<&str>) -> Result<Option<Change>> {
        let lines: Vec<String> =
            [l3, bandwidth].into_iter().flatten().filter(|l| !l.is_empty()).map(str::to_owned).collect();
        if lines.is_empty() {
            return Ok(None);
        }
        let refuse = |kind, why: &str| Error::new(kind, "update", "Intel RDT").because(why);
        let Some(rdt) = spec.linux.as_ref().and_then(|l| l.intel_rdt.as_ref()) else {
            return Err(refuse(Kind::Invalid, "the container was created without linux.intelRdt"));
        };
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")
            .map_err(|e| Error::io("read", "/proc/self/mountinfo", e))?;
        let root = mount_point(&mounts).ok_or_else(|| {
            refuse(Kind::Unsupported, "no resctrl file system is mounted, so there are no schemata to write")
                .hint("mount -t resctrl resctrl /sys/fs/resctrl, on a processor with cache or bandwidth allocation")
        })?;
        let class = rdt.clos_id.as_deref().filter(|c| !c.is_empty()).unwrap_or(id);
        if class.contains('/') || matches!(class, "." | "..") {
            return Err(refuse(Kind::Invalid, "closID is no name of a directory"));
        }
        Ok(Some(Change { directory: root.join(class), lines }))
    }

    /// Writes the lines.
    ///
    /// # Errors
    /// What the kernel refuses, with the words of resctrl's `last_cmd_status`.
    pub(crate) fn apply(&self) -> Result<()> {
        let path = self.directory.join("schemata");
        let fail = |line: &str, e| Error::io("write", format!("{line:?} to {}", path.display()), e);
        for line in &self.lines {
            let opened = std::fs::File::options().write(true).open(&path);
            let mut file = opened.map_err(|e| fail(line, e))?;
            file.write_all(format!("{line}\n").as_bytes()).map_err(|e| {
                let status = self.directory.parent().map(|root| root.join("info/last_cmd_status"));
                let words = status.and_then(|s| std::fs::read_to_string(s).ok()).filter(|w| !w.trim().is_empty());
                match words {
                    Some(words) => fail(line, e).because(words.trim()),
                    None => fail(line, e),
                }
            })?;
        }
        Ok(())
    }
}

/// Where resctrl is mounted: fields 5 and, behind the dash, 1 of proc_pid_mountinfo(5).
fn mount_point(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        kind.starts_with("resctrl ").then(|| place.split(' ').nth(4).map(PathBuf::from))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_is_found_and_written() {
        let info =
            "22 1 0:20 / /sys rw - sysfs sysfs rw\n30 22 0:26 / /sys/fs/resctrl rw,nosuid shared:9 - resctrl r rw\n";
        assert_eq!(mount_point(info), Some(PathBuf::from("/sys/fs/resctrl")));
        assert_eq!(mount_point("22 1 0:20 / /sys/fs/resctrl rw - tmpfs resctrl rw\n"), None);

        let dir = tempfile::tempdir().unwrap();
        let class = dir.path().join("class");
        std::fs::create_dir(&class).unwrap();
        let change = Change { directory: class.clone(), lines: vec!["L3:0=f".into()] };
        assert_eq!(change.apply().unwrap_err().kind(), Kind::NotFound);
        std::fs::write(class.join("schemata"), "").unwrap();
        change.apply().unwrap();
        assert_eq!(std::fs::read_to_string(class.join("schemata")).unwrap(), "L3:0=f\n");
    }

    #[test]
    fn it_is_refused_where_it_makes_no_sense() {
        let of = |text: &str, l3| Change::of(&serde_json::from_str(text).unwrap(), "x", l3, None);
        let plain = r#"{"ociVersion":"1.2.0","linux":{}}"#;
        assert_eq!(of(plain, None).unwrap(), None);
        assert_eq!(of(plain, Some("L3:0=f")).unwrap_err().kind(), Kind::Invalid);
    }
}
