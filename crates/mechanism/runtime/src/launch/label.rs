//! Labels of security modules, for the program that the process is about to become.

use super::resolve::in_root_with;
use crate::defence::{Defence, stands};
use crate::plan::ProcessPlan;
use rustix::fs::{Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags};
use rustix::io::Errno;
use tare_model::{Error, Kind, Result};

/// What is written where.
#[derive(Debug)]
pub(super) struct Label {
    operation: &'static str,
    /// As it was asked for.
    name: String,
    /// Files below /proc/PID, the first that is there counts.
    files: &'static [&'static str],
    value: String,
}

/// The labels for the next exec: apparmor(7), selinux(8).
///
/// # Errors
/// `Kind::Unsupported` where one is asked for that this kernel does not know.
pub(super) fn of(plan: &ProcessPlan) -> Result<Vec<Label>> {
    let mut labels = Vec::new();
    if let Some(profile) = &plan.apparmor {
        let enabled = std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|t| t.starts_with(b"Y"));
        // Where nothing confines, unconfined is what it is.
        if !enabled && profile != "unconfined" {
            return Err(Error::new(Kind::Unsupported, "set apparmor profile", profile)
                .because("this kernel runs without AppArmor")
                .hint("leave out process.apparmorProfile"));
        }
        if enabled {
            labels.push(Label {
                operation: "set apparmor profile",
                name: profile.clone(),
                files: &["attr/apparmor/exec", "attr/exec"],
                value: format!("exec {profile}"),
            });
        }
    }
    if let Some(label) = &plan.selinux {
        const SELINUX_MAGIC: i64 = 0xf97c_ff8c;
        if !rustix::fs::statfs("/sys/fs/selinux").is_ok_and(|fs| fs.f_type & 0xffff_ffff == SELINUX_MAGIC) {
            return Err(Error::new(Kind::Unsupported, "set selinux label", label)
                .because("this kernel runs without SELinux")
                .hint("leave out process.selinuxLabel"));
        }
        // A key is made with the label of its process, which the program could not read.
        let keys = Label {
            operation: "set selinux label of keys",
            name: label.clone(),
            files: &["attr/keycreate"],
            value: label.clone(),
        };
        let process =
            Label { operation: "set selinux label", name: label.clone(), files: &["attr/exec"], value: label.clone() };
        labels.extend([keys, process]);
    }
    Ok(labels)
}

impl Label {
    /// Writes it. Only into the kernel's own file: something else mounted on it would leave the process unconfined without
    /// a word (CVE-2019-16884).
    pub(super) fn set(&self) -> Result<()> {
        let fail = |e| Error::io(self.operation, &self.name, e);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let proc = rustix::fs::open("/proc", flags, Mode::empty()).map_err(fail)?;
        let genuine = rustix::fs::fstatfs(&proc).map_err(fail)?.f_type == PROC_SUPER_MAGIC;
        if stands(Defence::Label) && !genuine {
            return Err(Error::new(Kind::Denied, self.operation, &self.name).because("/proc is not a proc filesystem"));
        }
        let own = rustix::process::getpid().as_raw_nonzero();
        let more = if stands(Defence::Label) {
            ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV
        } else {
            ResolveFlags::empty()
        };
        for file in self.files {
            match in_root_with(&proc, &format!("{own}/{file}"), OFlags::WRONLY, more) {
                Ok(file) => return rustix::io::write(file, self.value.as_bytes()).map(drop).map_err(fail),
                Err(Errno::NOENT) => {}
                Err(e) => return Err(fail(e)),
            }
        }
        Err(Error::new(Kind::Unsupported, self.operation, &self.name).because("this kernel has no file for it"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tare_model::runtime_spec::Process;

    fn plan_with(change: impl FnOnce(&mut Process)) -> ProcessPlan {
        let mut p = Process { args: vec!["true".into()], cwd: "/".into(), ..Default::default() };
        change(&mut p);
        crate::plan::plan_process(&p, None).unwrap()
    }

    #[test]
    fn what_the_kernel_does_not_know_is_refused() {
        if !std::path::Path::new("/sys/fs/selinux/enforce").exists() {
            let e = of(&plan_with(|p| p.selinux_label = Some("a:b:c:s0".into()))).unwrap_err();
            assert!(e.kind() == Kind::Unsupported && e.to_string().contains("without SELinux"), "{e}");
        }
        if !std::path::Path::new("/sys/module/apparmor").exists() {
            let e = of(&plan_with(|p| p.apparmor_profile = Some("x".into()))).unwrap_err();
            assert!(e.kind() == Kind::Unsupported && e.to_string().contains("without AppArmor"), "{e}");
            assert!(of(&plan_with(|p| p.apparmor_profile = Some("unconfined".into()))).unwrap().is_empty());
        }
        assert!(of(&plan_with(|_| ())).unwrap().is_empty());
    }

    #[test]
    fn only_the_kernels_file_is_written() {
        // comm takes any text: it stands for a label that this kernel may not have.
        let label = |files| Label { operation: "set label", name: "x".into(), files, value: "labelled".into() };
        label(&["none/here", "comm"]).set().unwrap();
        assert_eq!(std::fs::read_to_string(format!("/proc/{}/comm", std::process::id())).unwrap(), "labelled\n");
        assert!(label(&["cwd/x", "root/dev/null"]).set().is_err(), "through a link");
        assert_eq!(label(&["none"]).set().unwrap_err().kind(), Kind::Unsupported);
    }
}
