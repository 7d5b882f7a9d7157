pub(super) use crate::arguments::ExecArgs;
use crate::context::Context;
use crate::foreground::{self, Signals};
use crate::handover::{self, Receiver, ShownBy};
use crate::state::{Container, Status};
use crate::{executed, hooks};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use tare_model::runtime_spec::{Process, Spec};
use tare_model::{Error, Kind, Result};
use tare_runtime::cgroup::{Created, SubGroups};
use tare_runtime::launch::{self, CgroupHandles, ExecPlan, Launch, Listener, Mark, Terminal, hook};
use tare_runtime::plan::{Keyring, ProcessPlan, plan_process_of};

/// Callers tell a failure to begin from the program's own exit codes by this.
const FAILED: u8 = 255;

pub(super) fn main(args: ExecArgs, context: &Context) -> Result<u8> {
    exec(&args, context).or_else(|e| {
        context.log.error(&e.during("exec", &args.id));
        Ok(FAILED)
    })
}

fn exec(args: &ExecArgs, context: &Context) -> Result<u8> {
    context.protect()?;
    // Before anything is opened.
    launch::check_preserved(args.preserve_fds)?;
    let container = Container::load(context, &args.id)?;
    let refuse = |why: &str| Err(Error::new(Kind::State, "enter container", &args.id).because(why));
    match container.status()? {
        Status::Created | Status::Running => {}
        Status::Paused if args.ignore_paused => {}
        Status::Paused => return refuse("cannot exec in a paused container (use --ignore-paused to override)"),
        Status::Stopped => return refuse("cannot exec in a stopped container"),
        Status::Creating => return refuse("cannot exec in a container that is being created"),
    }
    context.trace.point(Mark::Container);
    let spec = container.spec()?;
    let process = executed::process(args, &spec)?;
    let console = console(args, process.terminal)?;
    let pidfd_socket = args.pidfd_socket.as_deref().map(Receiver::connect).transpose()?;
    let signals = if args.detach { None } else { Some(Signals::hold()?) };

    let Some(init) = container.process() else { return refuse("cannot exec in a stopped container") };
    let begun = Begun { args, context, container: &container, spec: &spec, process: &process };
    // It may have ended while it was looked at; then that is what is wrong.
    let begun = begun.launch(init.as_fd());
    if begun.is_err() && container.process().is_none() {
        return refuse("cannot exec in a stopped container");
    }
    let (launch, mut master) = begun?;
    if let (Some(console), Some(master)) = (&console, master.take_if(|_| console.is_some())) {
        console.send(master.as_fd(), &handover::terminal_name(&master))?;
    }
    if let Some(socket) = &pidfd_socket {
        socket.send(launch.pidfd(), "pidfd")?;
    }
    let pid = launch.pid();
    // Before the program begins: it is there when whoever waits for the program looks for it.
    if let Some(path) = &args.pid_file {
        handover::pid_file(path, pid)?;
    }
    master.iter().for_each(|master| foreground::fit(master.as_fd()));
    context.trace.point(Mark::Handover);
    let running = launch.release().inspect_err(|_| {
        if let Some(path) = &args.pid_file {
            let _ = std::fs::remove_file(path);
        }
    })?;
    context.trace.point(Mark::Running);
    for warning in &running.warnings {
        context.log.warn(warning);
    }
    context.show_trace();
    match signals {
        Some(signals) => {
            launch::let_go_of_executable();
            foreground::wait(&signals, running.pid, running.pidfd.as_fd(), master)
        }
        None => Ok(0),
    }
}

/// Who gets the terminal, as runc has it.
fn console(args: &ExecArgs, terminal: bool) -> Result<Option<Receiver>> {
    let wrong = |why: &str| Err(Error::new(Kind::Invalid, "use terminal", "").because(why));
    match (&args.console_socket, terminal, args.detach) {
        (Some(path), true, true) => Receiver::connect(path).map(Some),
        (Some(_), ..) => wrong("cannot use console socket if runc will not detach or allocate tty")
            .map_err(|e: Error| e.hint("give both --detach and --tty, or leave out --console-socket")),
        (None, true, true) => wrong("cannot allocate tty if runc will detach without setting console socket"),
        (None, ..) => Ok(None),
    }
}

/// An exec whose container is known to run.
struct Begun<'a> {
    args: &'a ExecArgs,
    context: &'a Context,
    container: &'a Container,
    spec: &'a Spec,
    process: &'a Process,
}

impl Begun<'_> {
    /// A process at its gate, and its terminal's master side.
    fn launch(&self, init: BorrowedFd<'_>) -> Result<(Launch, Option<OwnedFd>)> {
        let state = &self.container.state;
        let trace = &self.context.trace;
        let terminal = if self.process.terminal { Some(self.terminal(state.pid)?) } else { None };
        let (master, slave) = terminal.map(|t| (t.master, t.slave)).unzip();
        trace.point(Mark::Streams);
        let plan = ExecPlan { process: self.plan()?, namespaces: launch::foreign_namespaces(state.pid)? };
        trace.point(Mark::Plan);
        let group = self.cgroup()?;
        trace.point(Mark::Group);
        let mut launch = launch::exec(&plan, init, None, slave, group, trace)?;
        launch.wait_ready()?;
        trace.point(Mark::Ready);
        for warning in launch.warnings.drain(..) {
            self.context.log.warn(&warning);
        }
        if let Some(adj) = self.process.oom_score_adj {
            self.oom_score_adj(launch.pid(), adj);
        }
        if let Some(agent) = &state.agent {
            let told = hooks::told(state).json(hook::Status::Running, Some(state.pid));
            let told: serde_json::Value =
                serde_json::from_str(&told).map_err(|e| Error::new(Kind::Invalid, "describe", &state.id).because(e))?;
            launch.set_listener(Listener::connect(&agent.path, agent.metadata.as_deref(), launch.pid(), told)?);
        }
        Ok((launch, master))
    }

    fn terminal(&self, init: i32) -> Result<Terminal> {
        let path = format!("/proc/{init}/root");
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(&path, flags, Mode::empty())
            .map_err(|e| Error::io("open", "the container's root directory", e))?;
        // The container was alive when the path had been walked, so the path was its own.
        if self.container.process().is_none() {
            return Err(Error::new(Kind::State, "open terminal", "").because("cannot exec in a stopped container"));
        }
        let terminal = launch::open_terminal_in(root.as_fd())?;
        let by = if self.args.console_socket.is_some() { ShownBy::Receiver } else { ShownBy::Relay };
        handover::set_up_terminal(&terminal.master, self.process.console_size.as_ref(), by)?;
        Ok(terminal)
    }

    fn plan(&self) -> Result<ProcessPlan> {
        let linux = self.spec.linux.clone().unwrap_or_default();
        let mut plan = plan_process_of(self.process, &linux)?;
        plan.preserve_fds = self.args.preserve_fds;
        // Whoever asked for it may go.
        plan.die_with_parent = false;
        plan.keyring = match self.container.state.keyring_inherited {
            true => Keyring::Inherited,
            false => Keyring::Named(format!("_ses.{}", self.args.id)),
        };
        Ok(plan)
    }

    fn cgroup(&self) -> Result<CgroupHandles> {
        let below = SubGroups::parse(&self.args.cgroup)?;
        let group = match self.container.group() {
            // It was made without a group of its own.
            Err(e) if e.kind() == Kind::NotFound && self.args.cgroup.is_empty() => return Ok(CgroupHandles::default()),
            group => group?,
        };
        let Created { attach, unified, .. } = group.attach_below(&below, Some(self.container.state.pid))?;
        Ok(CgroupHandles { attach, unified, mounts: Vec::new() })
    }

    /// From outside: inside, nobody can be sure that a /proc is one. The child is ours and not waited for, so the pid is
    /// its own.
    fn oom_score_adj(&self, pid: i32, adj: i32) {
        if let Err(e) = std::fs::write(format!("/proc/{pid}/oom_score_adj"), adj.to_string()) {
            self.context.log.warn(&Error::io("set oomScoreAdj", adj, e).to_string());
        }
    }
}
