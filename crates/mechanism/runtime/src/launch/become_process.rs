//! From the gate to the program: the last steps, in an order that leaves nothing of tare behind.

use super::identity::{self, die_with_parent};
use super::resolve::{in_root, in_root_with};
use super::status::Reporter;
use crate::plan::ProcessPlan;
use rustix::fs::{AtFlags, Gid, Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags, Uid};
use rustix::io::Errno;
use std::convert::Infallible;
use std::ffi::CString;
use tare_kernel::process::{self, ExecArray};
use tare_kernel::seccomp::SockFilter;
use tare_model::{Context, Error, Kind, Result};

/// Where PATH is not set at all (execvp(3) has the same).
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A process plan with everything computed that can be before the clone.
#[derive(Debug)]
pub(super) struct Become {
    plan: ProcessPlan,
    argv: ExecArray,
    envp: ExecArray,
    candidates: Vec<CString>,
    filter: Option<Vec<SockFilter>>,
    filter_flags: u32,
}

impl Become {
    pub(super) fn new(plan: &ProcessPlan) -> Result<Self> {
        let fail = |e: std::io::Error| Error::io("prepare", "command", e);
        let command = plan.args.first().map_or("", String::as_str);
        let (filter, filter_flags) = match &plan.seccomp {
            Some(profile) => {
                let compiled = crate::security::seccomp::compile(profile)?;
                (Some(compiled.program), compiled.flags)
            }
            None => (None, 0),
        };
        let argv = match &plan.init {
            Some(init) => ExecArray::new(["tare-init", "--"].into_iter().chain(plan.args.iter().map(String::as_str)))
                .map(|a| (a, vec![init.clone()])),
            None => ExecArray::new(&plan.args).map(|a| (a, candidates(command, &plan.env))),
        };
        let (argv, candidates) = argv.map_err(fail)?;
        let candidates = candidates.into_iter().map(CString::new).collect::<std::result::Result<_, _>>();
        Ok(Become {
            plan: plan.clone(),
            argv,
            envp: ExecArray::new(&plan.env).map_err(fail)?,
            candidates: candidates.map_err(|e| fail(e.into()))?,
            filter,
            filter_flags,
        })
    }

    pub(super) fn run(&self, reporter: Reporter<'_>) -> Result<Infallible> {
        // A keyring shared with the host's session would be readable inside.
        match process::new_session_keyring() {
            // No keys in this kernel, or no quota left for one more: then there is nothing to share, or it is shared.
            Err(e) if !matches!(Errno::from_io_error(&e), Some(Errno::NOSYS | Errno::DQUOT)) => {
                return Err(e).during("make", "session keyring");
            }
            _ => {}
        }
        identity::set_rlimits(&self.plan.rlimits, reporter)?;
        self.give_stdio();
        if let Some(profile) = &self.plan.apparmor {
            set_apparmor(profile)?;
        }
        // Not left to execve: until then the working directory, the command and its interpreter are looked up, and any of
        // them may be a way through /proc/self/fd to what is open here, out of the container (CVE-2024-21626).
        process::close_all_from(3, reporter.0).during("close", "descriptors")?;
        // As root first, for directories that the user may not enter by a path but was given; then as the user.
        let as_root = enter_directory(&self.plan.cwd);
        identity::assume(&self.plan.identity, self.filter.as_deref(), self.filter_flags)?;
        if as_root.is_err() {
            enter_directory(&self.plan.cwd).map_err(|e| Error::io("enter working directory", &self.plan.cwd, e))?;
        }
        for name in &self.plan.unknown_capabilities {
            reporter.warn(format!("capability {name} is unknown to this kernel, and was left out"));
        }
        // Last: changing the user clears it.
        if self.plan.die_with_parent {
            die_with_parent()?;
            // It may have ended while that was cleared.
            if reporter.is_alone() {
                process::exit_now(1);
            }
        }
        Err(self.execute())
    }

    /// Whoever runs in the container may open /dev/stdout again: that takes the owner's permission on a pipe.
    fn give_stdio(&self) {
        let id = &self.plan.identity;
        if id.uid == 0 {
            return;
        }
        for fd in [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()] {
            let Ok(stat) = rustix::fs::fstat(fd) else { continue };
            let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
            // /dev/null is a node shared by all: it keeps its owner.
            let shared = kind == rustix::fs::FileType::CharacterDevice && stat.st_rdev == rustix::fs::makedev(1, 3);
            if !shared {
                let (uid, gid) = (Uid::from_raw(id.uid), Gid::from_raw(id.gid));
                let group = if self.plan.terminal { None } else { Some(gid) };
                let _ = rustix::fs::chownat(fd, "", Some(uid), group, AtFlags::EMPTY_PATH);
            }
        }
    }

    fn execute(&self) -> Error {
        let mut last = Errno::NOENT;
        for path in &self.candidates {
            let e = process::execve(path, &self.argv, &self.envp);
            let errno = Errno::from_io_error(&e).unwrap_or(Errno::IO);
            match errno {
                // As execvp(3): a directory that cannot be searched does not end the search.
                Errno::NOENT | Errno::NOTDIR if !super::diagnose::exists(path) => {}
                Errno::ACCESS if self.candidates.len() > 1 => last = errno,
                errno => return super::diagnose::explain(path, errno),
            }
        }
        let command = self.plan.args.first().map_or("", String::as_str);
        if self.plan.init.is_some() {
            return Error::io("execute", "the container's init", last);
        }
        if last == Errno::ACCESS {
            return super::diagnose::explain_search(command, &self.candidates);
        }
        let error = Error::new(Kind::CommandNotFound, "execute", format!("{command:?}"));
        if command.contains('/') {
            error
                .because("no such file or directory")
                .hint("the path is inside the container: look with `--entrypoint ls`")
        } else {
            let path = path_of(&self.plan.env);
            error
                .because(format!("executable file not found in PATH ({path})"))
                .hint("check the spelling, or give the absolute path inside the image")
        }
    }
}

/// chdir(2), but never through a link such as /proc/1/cwd or /proc/self/fd/3, which need not end beneath the root.
fn enter_directory(path: &str) -> rustix::io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open("/", flags, Mode::empty())?;
    rustix::process::fchdir(in_root(&root, path, OFlags::PATH | OFlags::DIRECTORY)?)
}

fn path_of(env: &[String]) -> &str {
    env.iter().rev().find_map(|e| e.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH)
}

/// The paths to try, in order.
fn candidates(command: &str, env: &[String]) -> Vec<String> {
    if command.contains('/') {
        return vec![command.to_owned()];
    }
    if command.is_empty() {
        return Vec::new();
    }
    path_of(env)
        .split(':')
        .map(|dir| if dir.is_empty() { command.to_owned() } else { format!("{dir}/{command}") })
        .collect()
}

/// Writes the profile for the next exec (apparmor(7)); the newer path first. Only into the kernel's own file: something
/// else mounted on it would leave the process unconfined without a word (CVE-2019-16884).
fn set_apparmor(profile: &str) -> Result<()> {
    let fail = |e| Error::io("set apparmor profile", profile, e);
    let value = format!("exec {profile}");
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let proc = rustix::fs::open("/proc", flags, Mode::empty()).map_err(fail)?;
    if rustix::fs::fstatfs(&proc).map_err(fail)?.f_type != PROC_SUPER_MAGIC {
        return Err(Error::new(Kind::Denied, "set apparmor profile", profile).because("/proc is not a proc filesystem"));
    }
    let own = rustix::process::getpid().as_raw_nonzero();
    for file in ["attr/apparmor/exec", "attr/exec"] {
        let more = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        match in_root_with(&proc, &format!("{own}/{file}"), OFlags::WRONLY, more) {
            Ok(file) => return rustix::io::write(file, value.as_bytes()).map(drop).map_err(fail),
            Err(Errno::NOENT) => {}
            Err(e) => return Err(fail(e)),
        }
    }
    Err(Error::new(Kind::Unsupported, "set apparmor profile", profile).because("this kernel runs without AppArmor"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_searched_in_the_containers_path() {
        let env = ["PATH=/a:/b".to_owned()];
        assert_eq!(candidates("x", &env), ["/a/x", "/b/x"]);
        assert_eq!(candidates("./x", &env), ["./x"]);
        assert!(candidates("x", &[])[0].starts_with("/usr/local/sbin/"));
        assert!(candidates("", &env).is_empty());
    }
}
