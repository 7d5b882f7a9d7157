//! From the container's namespaces to the program: the last steps, in an order that leaves nothing of tare behind.

use super::entered::open_inside;
use super::identity::{Identity, Limit, die_with_parent};
use super::label::{self, Label};
use super::status::Reporter;
use super::trace::{Mark, Trace};
use crate::defence::{Defence, stands};
use crate::plan::{Keyring, ProcessPlan};
use crate::security::seccomp::Filter;
use rustix::fs::{AtFlags, FileType, Gid, OFlags, Uid};
use rustix::io::Errno;
use std::convert::Infallible;
use std::ffi::CString;
use tare_kernel::process::{self, ExecArray};
use tare_kernel::scheduling;
use tare_model::{Context, Error, Kind, Result};

/// Where PATH is not set at all (execvp(3) has the same).
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// As many as any kernel has; what is not there is left out by it.
static ALL_CPUS: [u64; 128] = [u64::MAX; 128];

/// A process plan with everything computed that can be before the clone.
#[derive(Debug)]
pub(super) struct Become {
    plan: ProcessPlan,
    argv: ExecArray,
    envp: ExecArray,
    /// Paths to execute, in order.
    candidates: Vec<CString>,
    /// The same, absolute: where the working directory will be is not where it is before the gate.
    places: Vec<CString>,
    keyring: Option<CString>,
    limits: Vec<Limit>,
    labels: Vec<Label>,
    identity: Identity,
    filter: Option<Filter>,
}

impl Become {
    pub(super) fn new(plan: &ProcessPlan) -> Result<Self> {
        let fail = |e: std::io::Error| Error::io("prepare", "command", e);
        let command = plan.args.first().map_or("", String::as_str);
        let argv = match &plan.init {
            Some(init) => ExecArray::new(["tare-init", "--"].into_iter().chain(plan.args.iter().map(String::as_str)))
                .map(|a| (a, vec![init.clone()])),
            None => ExecArray::new(&plan.args).map(|a| (a, candidates(command, &plan.env))),
        };
        let (argv, candidates) = argv.map_err(fail)?;
        let place = |c: &String| if c.starts_with('/') { c.clone() } else { format!("{}/{c}", plan.cwd) };
        let places = candidates.iter().map(place).collect::<Vec<_>>();
        let c_strings = |paths: Vec<String>| {
            paths.into_iter().map(CString::new).collect::<Result<Vec<_>, _>>().map_err(|e| fail(e.into()))
        };
        let keyring = match &plan.keyring {
            Keyring::Named(name) => Some(CString::new(name.as_str()).map_err(|e| fail(e.into()))?),
            Keyring::Anonymous | Keyring::Inherited => None,
        };
        Ok(Become {
            argv,
            envp: ExecArray::new(&plan.env).map_err(fail)?,
            candidates: c_strings(candidates)?,
            places: c_strings(places)?,
            keyring,
            limits: Limit::all(&plan.rlimits)?,
            labels: label::of(plan)?,
            identity: Identity::new(&plan.identity),
            filter: plan.seccomp.as_ref().map(crate::security::seccomp::compile).transpose()?,
            plan: plan.clone(),
        })
    }

    /// CPUs until the cgroup is joined (execCPUAffinity.initial): the first thing that a joining process does.
    pub(super) fn bind_first(&self) -> Result<()> {
        match &self.plan.scheduling.first_cpus {
            Some(cpus) => scheduling::set_affinity(&cpus.0).during("set", "execCPUAffinity.initial"),
            None => Ok(()),
        }
    }

    /// What can be done before the gate, in the container's namespaces and groups, is done there: whoever creates the
    /// container is told when it fails.
    pub(super) fn settle(&self, reporter: Reporter<'_>) -> Result<()> {
        self.plan.warnings.iter().for_each(|w| reporter.warn(w.as_str()));
        if self.plan.keyring != Keyring::Inherited && stands(Defence::Keyring) {
            // A keyring shared with the host's session would be readable inside.
            match tare_kernel::keyring::new_session(self.keyring.as_deref()) {
                // No keys in this kernel, or no quota left for one more: then there is nothing to share, or it is shared.
                Err(e) if !matches!(Errno::from_io_error(&e), Some(Errno::NOSYS | Errno::DQUOT)) => {
                    return Err(e).during("make", "session keyring");
                }
                _ => {}
            }
        }
        if let Some((rows, columns)) = self.plan.console_size {
            let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
            rustix::termios::tcsetwinsize(rustix::stdio::stdin(), size)
                .map_err(|e| Error::io("set size of", "terminal", e))?;
        }
        self.schedule()?;
        self.look_up()
    }

    /// CPUs before the policy: one with deadlines is bound to all of its CPUs and cannot be moved any more.
    fn schedule(&self) -> Result<()> {
        let s = &self.plan.scheduling;
        if let Some(cpus) = &s.last_cpus {
            scheduling::set_affinity(&cpus.0).during("set", "execCPUAffinity.final")?;
        } else if s.all_cpus {
            scheduling::set_affinity(&ALL_CPUS).during("set", "CPUs of the container")?;
        }
        if let Some(value) = s.io_priority {
            scheduling::set_io_priority(value).during("set", "ioPriority")?;
        }
        if let Some(p) = &s.scheduler {
            let scheduler = scheduling::Scheduler {
                policy: p.policy,
                flags: p.flags,
                nice: p.nice,
                priority: p.priority,
                runtime: p.runtime,
                deadline: p.deadline,
                period: p.period,
            };
            scheduling::set_scheduler(&scheduler).map_err(|e| {
                let denied = e.raw_os_error() == Some(Errno::PERM.raw_os_error());
                let error = Error::io("set", "scheduler", e);
                if denied {
                    error.hint(
                        "it takes CAP_SYS_NICE; a deadline takes all CPUs, and a real-time policy \
                         cpu.rt_runtime_us of the cgroup (cgroup v1)",
                    )
                } else {
                    error
                }
            })?;
        }
        if let Some(m) = &s.memory {
            scheduling::set_memory_policy(m.mode, &m.nodes.0).during("set", "memoryPolicy")?;
        }
        match s.personality {
            Some(domain) => scheduling::set_personality(domain).during("set", "personality"),
            None => Ok(()),
        }
    }

    /// Whether there is anything to execute. Only what is certain is said here: the user, who may be allowed less than
    /// root, and the kernel, which looks into the file, have their say at the end.
    fn look_up(&self) -> Result<()> {
        if self.plan.init.is_some() {
            return Ok(());
        }
        let mut useless = None;
        for path in &self.places {
            match rustix::fs::stat(path.as_c_str()) {
                Ok(stat) => {
                    let file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
                    if file && stat.st_mode & 0o111 != 0 {
                        return Ok(());
                    }
                    useless = Some(path);
                }
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(_) => return Ok(()),
            }
        }
        match useless {
            Some(path) => Err(super::diagnose::explain(path, Errno::ACCESS)),
            None => Err(self.not_found()),
        }
    }

    /// From the gate to the program. `hooks` is run with the program's rights and its filter: programs of hooks are the
    /// image's own (startContainer), and must be able to do no more.
    pub(super) fn run(
        &self,
        reporter: Reporter<'_>,
        trace: &Trace,
        hooks: impl FnOnce() -> Result<()>,
    ) -> Result<Infallible> {
        let mut hooks = Some(hooks);
        if !stands(Defence::StartHooks)
            && let Some(hooks) = hooks.take()
        {
            hooks()?;
        }
        let with_home = if self.plan.find_home {
            let env = self.plan.env.iter().cloned().chain([super::home::of(self.plan.identity.uid)]);
            Some(ExecArray::new(env).during("prepare", "environment")?)
        } else {
            None
        };
        self.give_stdio();
        self.labels.iter().try_for_each(Label::set)?;
        // Not left to execve: until then the working directory, the command and its interpreter are looked up, and any of
        // them may be a way through /proc/self/fd to what is open here, out of the container (CVE-2024-21626).
        if stands(Defence::Descriptors) {
            process::close_all_from(self.plan.preserve_fds.saturating_add(3), reporter.0)
                .during("close", "descriptors")?;
        }
        // As root first, for directories that the user may not enter by a path but was given; then as the user.
        let as_root = enter_directory(&self.plan.cwd);
        // Not before: opening takes descriptors, which the limits may not leave.
        self.limits.iter().try_for_each(|l| l.set(reporter))?;
        trace.point(Mark::Descriptors);
        self.identity.assume(self.filter.as_ref(), reporter, || {
            if as_root.is_err() {
                enter_directory(&self.plan.cwd).map_err(|e| Error::io("enter working directory", &self.plan.cwd, e))?;
            }
            // Last: changing the user clears it.
            if self.plan.die_with_parent {
                die_with_parent()?;
                // It may have ended while that was cleared.
                if reporter.is_alone() {
                    process::exit_now(1);
                }
            } else {
                // It was set for the time of the steps, and would outlast execve.
                let clear = rustix::process::set_parent_process_death_signal(None);
                clear.map_err(|e| Error::io("clear", "parent-death signal", e))?;
            }
            trace.point(Mark::Identity);
            Ok(())
        })?;
        if self.filter.is_some() {
            // The clock is read without a system call, which the filter might refuse.
            trace.point(Mark::Filter);
        }
        hooks.map_or(Ok(()), |hooks| hooks())?;
        Err(self.execute(with_home.as_ref().unwrap_or(&self.envp)))
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

    fn execute(&self, envp: &ExecArray) -> Error {
        let mut last = Errno::NOENT;
        for path in &self.candidates {
            let e = process::execve(path, &self.argv, envp);
            let errno = Errno::from_io_error(&e).unwrap_or(Errno::IO);
            match errno {
                // As execvp(3): a directory that cannot be searched does not end the search.
                Errno::NOENT | Errno::NOTDIR if !super::diagnose::exists(path) => {}
                Errno::ACCESS if self.candidates.len() > 1 => last = errno,
                errno => return super::diagnose::explain(path, errno),
            }
        }
        if self.plan.init.is_some() {
            return Error::io("execute", "the container's init", last);
        }
        if last == Errno::ACCESS {
            return super::diagnose::explain_search(self.command(), &self.candidates);
        }
        self.not_found()
    }

    fn command(&self) -> &str {
        self.plan.args.first().map_or("", String::as_str)
    }

    fn not_found(&self) -> Error {
        let command = self.command();
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

/// chdir(2), but never through a link such as /proc/1/cwd or /proc/self/fd/3, which need not end beneath the root. All
/// others do: the root directory is the container's, and the path is absolute.
fn enter_directory(path: &str) -> rustix::io::Result<()> {
    if path == "/" || !stands(Defence::WorkingDirectory) {
        return rustix::process::chdir(path);
    }
    rustix::process::fchdir(open_inside(path, OFlags::PATH | OFlags::DIRECTORY)?)
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

    use tare_model::runtime_spec::{
        ConsoleSize, IoPriority, Linux, LinuxMemoryPolicy, LinuxPersonality, Process, Scheduler,
    };

    fn planned(args: &[&str], change: impl FnOnce(&mut Process, &mut Linux)) -> ProcessPlan {
        let mut p = Process {
            args: args.iter().map(|&a| a.to_owned()).collect(),
            env: vec!["PATH=/usr/none:/usr/bin:/bin".into()],
            cwd: "/usr".into(),
            ..Default::default()
        };
        let mut linux = Linux::default();
        change(&mut p, &mut linux);
        crate::plan::plan_process_of(&p, &linux).unwrap()
    }

    /// In a thread, which keeps keyring, policies and domain to itself.
    fn settled<T: Send + 'static>(plan: &ProcessPlan, look: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let plan = plan.clone();
        std::thread::spawn(move || {
            let become_ = Become::new(&plan)?;
            let (_ours, theirs) = rustix::net::socketpair(
                rustix::net::AddressFamily::UNIX,
                rustix::net::SocketType::SEQPACKET,
                rustix::net::SocketFlags::CLOEXEC,
                None,
            )
            .unwrap();
            become_.settle(Reporter(rustix::fd::AsFd::as_fd(&theirs))).map(|()| look())
        })
        .join()
        .unwrap()
    }

    #[test]
    fn what_cannot_be_executed_is_known_before_the_gate() {
        let kind = |args: &[&str]| settled(&planned(args, |_, _| ()), || ()).map_err(|e| e.kind());
        assert_eq!(kind(&["cat"]), Ok(()));
        assert_eq!(kind(&["bin/cat"]), Ok(()), "relative to the working directory");
        assert_eq!(kind(&["cat-that-is-not-there"]), Err(Kind::CommandNotFound));
        assert_eq!(kind(&["/etc/passwd/x"]), Err(Kind::CommandNotFound));
        assert_eq!(kind(&["/etc/passwd"]), Err(Kind::CommandNotExecutable));
        assert_eq!(kind(&["/etc"]), Err(Kind::CommandNotExecutable));
        assert_eq!(kind(&[""]), Err(Kind::CommandNotFound));
    }

    #[test]
    fn when_and_where_it_runs_is_the_kernels_word() {
        let plan = planned(&["cat"], |p, l| {
            p.scheduler = Some(Scheduler { policy: "SCHED_BATCH".into(), nice: 5, ..Default::default() });
            p.io_priority = Some(IoPriority { class: "IOPRIO_CLASS_IDLE".into(), priority: 0 });
            p.exec_cpuaffinity =
                Some(tare_model::runtime_spec::ExecCpuAffinity { initial: None, last: Some("0".into()) });
            l.personality = Some(LinuxPersonality { domain: "LINUX32".into(), flags: Vec::new() });
        });
        let (stat, status, machine) = settled(&plan, || {
            let read = |f| std::fs::read_to_string(format!("/proc/thread-self/{f}")).unwrap();
            (read("stat"), read("status"), rustix::system::uname().machine().to_str().unwrap().to_owned())
        })
        .unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        assert_eq!((fields[41 - 3], fields[19 - 3]), ("3", "5"), "policy and nice");
        assert!(status.contains("Cpus_allowed_list:\t0\n"), "{status}");
        assert!(!machine.ends_with("64"), "{machine}");

        let plan = planned(&["cat"], |p, _| {
            let initial = Some("0".into());
            p.exec_cpuaffinity = Some(tare_model::runtime_spec::ExecCpuAffinity { initial, last: None });
        });
        let online = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap();
        let status = settled(&plan, || std::fs::read_to_string("/proc/thread-self/status").unwrap()).unwrap();
        if std::fs::read_to_string("/proc/self/status").unwrap().contains(&format!("Cpus_allowed_list:\t{online}")) {
            assert!(status.contains(&format!("Cpus_allowed_list:\t{online}")), "{status}");
        }

        let policy = LinuxMemoryPolicy { mode: "MPOL_INTERLEAVE".into(), nodes: Some("0".into()), flags: Vec::new() };
        let plan = planned(&["cat"], |_, l| l.memory_policy = Some(policy));
        match settled(&plan, || std::fs::read_to_string("/proc/thread-self/numa_maps").unwrap()) {
            Ok(maps) => assert!(maps.contains("interleave:0"), "{maps}"),
            Err(e) => assert_eq!(e.errno(), Some(Errno::NOSYS.raw_os_error()), "{e}"),
        }
    }

    #[test]
    fn its_session_keyring_bears_the_name_asked_for() {
        let mut plan = planned(&["cat"], |_, _| ());
        let name = format!("_ses.tare-become-{}", std::process::id());
        plan.keyring = Keyring::Named(name.clone());
        let keys = settled(&plan, || std::fs::read_to_string("/proc/keys").unwrap_or_default()).unwrap();
        assert!(keys.is_empty() || keys.contains(&name), "{keys}");
    }

    #[test]
    fn a_terminals_size_needs_a_terminal() {
        let size = Some(ConsoleSize { height: 30, width: 90 });
        assert_eq!(planned(&["cat"], |p, _| p.console_size.clone_from(&size)).console_size, None);
        let with = planned(&["cat"], |p, _| (p.console_size, p.terminal) = (size, true));
        assert_eq!(with.console_size, Some((30, 90)));
    }
}
