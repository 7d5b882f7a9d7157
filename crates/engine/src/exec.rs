//! `exec`: a further process in a running container. Its parent is the caller, who relays its streams.

use crate::request::{ExecRequest, Seccomp};
use crate::streams::pipes;
use crate::view::State;
use crate::{Engine, spec, users};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use std::path::Path;
use tare_kernel::capability::Set;
use tare_model::runtime_spec::{Process, User};
use tare_model::{Context, Error, Kind, Result};
use tare_runtime::cgroup::Created;
use tare_runtime::launch::{self, CgroupHandles, ExecPlan, Listener, Mark, Stdio};
use tare_runtime::security::seccomp;

/// A process in a container, and our ends of its streams.
#[derive(Debug)]
pub struct ExecSession {
    /// Its descriptor.
    pub pidfd: OwnedFd,
    /// The terminal's master side, if it has one; then the pipes are not there.
    pub terminal: Option<OwnedFd>,
    /// Its standard input, if it was asked for.
    pub stdin: Option<OwnedFd>,
    /// Its standard output.
    pub stdout: Option<OwnedFd>,
    /// Its standard error.
    pub stderr: Option<OwnedFd>,
    /// What could not be had as asked.
    pub warnings: Vec<String>,
}

impl ExecSession {
    /// Waits until it has ended: its exit code, or 128 + n for signal n.
    ///
    /// # Errors
    /// As waitid(2).
    pub fn wait(&self) -> Result<i32> {
        loop {
            match waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED) {
                Ok(Some(status)) => {
                    return Ok(status
                        .terminating_signal()
                        .map_or_else(|| status.exit_status().unwrap_or(0), |s| 128 + s));
                }
                Ok(None) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(Error::io("wait for", "process in container", e)),
            }
        }
    }

    /// Tells the terminal's size; nothing without one.
    ///
    /// # Errors
    /// As ioctl(2).
    pub fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        let Some(master) = &self.terminal else { return Ok(()) };
        launch::set_size(master, rows, columns)
    }

    /// Sends a signal to it; one that has ended is no error.
    ///
    /// # Errors
    /// As pidfd_send_signal(2).
    pub fn signal(&self, number: i32) -> Result<()> {
        match tare_kernel::process::pidfd_signal(self.pidfd.as_fd(), number) {
            Err(e) if e.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => Ok(()),
            other => other.during("signal", "process in container"),
        }
    }
}

impl Engine {
    /// Runs a process in a running container.
    ///
    /// # Errors
    /// `Kind::State` if it does not run or is paused; `Kind::CommandNotFound` and `Kind::CommandNotExecutable`.
    pub fn exec(&self, name: &str, request: &ExecRequest) -> Result<ExecSession> {
        let (init, view) = self.running(name, "exec in container")?;
        if view.state == State::Paused {
            return Err(Error::new(Kind::State, "exec in container", name)
                .because("it is paused")
                .hint(format!("tare unpause {name}")));
        }
        self.trace.point_of(Mark::Container, name);
        let pid = view.pid.unwrap_or_default();
        let proc = Path::new("/proc").join(pid.to_string());
        let root =
            rustix::fs::open(proc.join("root"), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(|e| Error::io("open", "the container's root directory", e))?;
        let plan = ExecPlan {
            process: self.exec_process(&view.id, request, root.as_fd())?,
            namespaces: launch::foreign_namespaces(pid)?,
        };
        self.trace.point(Mark::Plan);
        let (stdio, terminal, mut session) = streams(request, root.as_fd(), init)?;
        if let Some(stdio) = &stdio {
            crate::start::stdio_belongs_inside(stdio, self.dirs(&view.id).record()?.ids.as_ref())?;
        }
        self.trace.point(Mark::Streams);
        let Created { attach, unified, .. } = self.group(&view.cgroup)?.attach()?;
        let cgroup = CgroupHandles { attach, unified, mounts: Vec::new() };
        self.trace.point(Mark::Group);
        let mut child = launch::exec(&plan, session.pidfd.as_fd(), stdio, terminal, cgroup, &self.trace)?;
        if let Some(listener) = Listener::of(&plan.process, child.pid(), &self.told(&view.id))? {
            child.set_listener(listener);
        }
        self.trace.point(Mark::Handover);
        let running = child.release()?;
        self.trace.point(Mark::Running);
        session.pidfd = running.pidfd;
        session.warnings = running.warnings;
        launch::let_go_of_executable();
        Ok(session)
    }

    fn exec_process(
        &self,
        id: &str,
        request: &ExecRequest,
        root: BorrowedFd<'_>,
    ) -> Result<tare_runtime::plan::ProcessPlan> {
        let record = self.dirs(id).record()?;
        let user = request.user.as_deref().unwrap_or(&record.user);
        let identity = users::resolve(root, user, &record.request.groups)?;
        let mask = if request.privileged { tare_kernel::capability::bounding().0 } else { record.capabilities };
        let mut env: Vec<String> = record.env.clone();
        if request.tty && !env.iter().any(|e| e.starts_with("TERM=")) {
            env.push("TERM=xterm".to_owned());
        }
        for entry in &request.env {
            let key = entry.split('=').next().unwrap_or_default();
            env.retain(|e| e.split('=').next() != Some(key));
            if entry.contains('=') {
                env.push(entry.clone());
            }
        }
        if !env.iter().any(|e| e.starts_with("HOME=")) {
            env.push(format!("HOME={}", identity.home));
        }
        let r = &record.request;
        let confined = !r.privileged && !request.privileged;
        let profile = match &r.security.seccomp {
            Seccomp::Default if confined => Some(seccomp::default_profile(Set(mask))),
            Seccomp::Default | Seccomp::Unconfined => None,
            Seccomp::Profile(profile) => Some(profile.clone()),
        };
        let nofile = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap_or(u64::MAX);
        let process = Process {
            terminal: request.tty,
            user: User { uid: identity.uid, gid: identity.gid, umask: None, additional_gids: identity.groups },
            args: request.command.clone(),
            env,
            cwd: request.workdir.clone().unwrap_or_else(|| record.cwd.clone()),
            capabilities: Some(spec::capabilities_of(mask, identity.uid)),
            rlimits: spec::rlimits(&r.ulimits, nofile),
            no_new_privileges: r.security.no_new_privileges,
            apparmor_profile: r.security.apparmor.clone().filter(|p| p != "unconfined"),
            ..Process::default()
        };
        let mut plan = tare_runtime::plan::plan_process(&process, profile.as_ref())?;
        // It outlives its client, as docker's does; it ends with the container.
        plan.die_with_parent = false;
        Ok(plan)
    }
}

type Streams = (Option<Stdio>, Option<OwnedFd>, ExecSession);

fn streams(request: &ExecRequest, root: BorrowedFd<'_>, init: OwnedFd) -> Result<Streams> {
    let mut session =
        ExecSession { pidfd: init, terminal: None, stdin: None, stdout: None, stderr: None, warnings: Vec::new() };
    if request.tty {
        let launch::Terminal { master, slave } = launch::open_terminal_in(root)?;
        if let Some((rows, columns)) = request.size {
            launch::set_size(&master, rows, columns)?;
        }
        session.terminal = Some(master);
        return Ok((None, Some(slave), session));
    }
    let (mut stdio, ends) = pipes(request.stdin)?;
    session.stdin = ends.stdin;
    if request.detach {
        (stdio.stdout, stdio.stderr) = (launch::null_device()?, launch::null_device()?);
    } else {
        (session.stdout, session.stderr) = (ends.stdout, ends.stderr);
    }
    Ok((Some(stdio), None, session))
}
