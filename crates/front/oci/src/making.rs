//! `create`, and the first half of `run`: from a bundle to a container that waits.
//!
//! ```text
//! directory made and locked        the name is taken
//! config.json                      what a killed create leaves can be removed from here on
//! cgroups made, state.json (pid 0) they are the container's, with whoever is in them
//! child cloned                     it performs its steps; hooks run at its rendezvous
//! child at the gate
//! terminal sent, state.json (pid), pid file
//! lock released                    created
//! ```

use crate::arguments::CreateArgs;
use crate::bundle::Bundle;
use crate::context::Context;
use crate::descriptors::Inherited;
use crate::handover::{self, Receiver, ShownBy};
use crate::state::{self, Agent, CONFIG, Container, GATE, STATE, State};
use crate::{descriptors, hooks, removal, time};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::Mode;
use rustix::io::Errno;
use std::path::Path;
use tare_model::runtime_spec::{Hooks, LinuxNamespace, LinuxResources, NamespaceKind, Spec};
use tare_model::{Error, Kind, Result};
use tare_runtime::cgroup::{self, CgroupPlan, Keeper, Layout, Place};
use tare_runtime::launch::{self, CgroupHandles, Equipment, Gate, Launch, Mark};
use tare_runtime::plan::{self, Keyring};
use tare_runtime::rdt;

/// How the container will go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It waits for `start`.
    Create,
    /// It is started at once, and left alone.
    Detach,
    /// It is started at once, and waited for.
    Foreground,
}

/// A container that waits.
#[derive(Debug)]
pub(crate) struct Made {
    /// Its directory and state; the lock is held.
    pub(crate) container: Container,
    /// The child at the gate.
    pub(crate) launch: Launch,
    /// The terminal, where nobody has been sent it.
    pub(crate) terminal: Option<OwnedFd>,
}

/// Makes a container. On failure nothing of it is left.
pub(crate) fn make(context: &Context, args: &CreateArgs, purpose: Purpose) -> Result<Made> {
    state::check_id(&args.id)?;
    let descriptors = descriptors::inherited(args.preserve_fds)?;
    let mut bundle = Bundle::read(&args.bundle)?;
    let console = console(args, &bundle.spec, purpose)?;
    let pidfd_socket = args.pidfd_socket.as_deref().map(Receiver::connect).transpose()?;
    descriptors.announce(&mut bundle.spec);
    plan::resolve_against_bundle(&mut bundle.spec, &bundle.directory);
    if let Some(root) = &mut bundle.spec.root {
        root.path = bundle.rootfs.display().to_string();
    }

    context.trace.point(Mark::Bundle);
    let dir = take_name(context, &args.id)?;
    context.trace.point(Mark::Name);
    let mut container = Container { dir, state: first_state(&bundle, args) };
    let mut begun = Begun { context, container: &mut container, bundle: &bundle, args, purpose };
    match begun.finish(console.as_ref(), pidfd_socket.as_ref(), descriptors) {
        Ok((launch, terminal)) => Ok(Made { container, launch, terminal }),
        Err(e) => {
            undo(context, &container);
            Err(e)
        }
    }
}

/// Takes everything back, past failures: what they leave, `delete --force` finds.
pub(crate) fn undo(context: &Context, container: &Container) {
    if let Err(e) = removal::delete(context, container) {
        context.log.warn(&e.to_string());
    }
}

/// Who gets the terminal, as runc has it.
fn console(args: &CreateArgs, spec: &Spec, purpose: Purpose) -> Result<Option<Receiver>> {
    let wrong = |why: &str| Err(Error::new(Kind::Invalid, "create", &args.id).because(why));
    let terminal = spec.process.as_ref().is_some_and(|p| p.terminal);
    match (&args.console_socket, terminal, purpose) {
        (Some(_), false, _) => wrong("cannot use console socket if the process has no terminal (process.terminal)"),
        (Some(_), true, Purpose::Foreground) => {
            wrong("cannot use console socket if runc will not detach or allocate tty")
        }
        (Some(path), true, _) => Receiver::connect(path).map(Some),
        (None, true, Purpose::Create | Purpose::Detach) => {
            wrong("cannot allocate tty if runc will detach without setting console socket")
        }
        (None, ..) => Ok(None),
    }
}

/// Makes the container's directory, which is what takes its name, and locks it.
fn take_name(context: &Context, id: &str) -> Result<OwnedFd> {
    let path = context.root.join(id);
    let fail = |e: Errno| Error::io("make", path.display(), e);
    let mut parents = false;
    loop {
        match rustix::fs::mkdir(&path, Mode::from_raw_mode(0o700)) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                return Err(
                    Error::new(Kind::AlreadyExists, "create", id).because("container with given ID already exists")
                );
            }
            Err(Errno::NOENT) if !parents => {
                parents = true;
                make_root(&context.root)?;
                continue;
            }
            Err(e) => return Err(fail(e)),
        }
        // In the moment before the lock a `delete` may find the directory empty and remove it: then once more.
        let locked = state::open_dir(context, id).and_then(|dir| state::lock(&dir, id).map(|()| dir));
        match locked {
            Err(e) if e.kind() == Kind::NotFound => {}
            result => return result,
        }
    }
}

fn make_root(root: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(root)
        .map_err(|e| Error::io("make", root.display(), e))
}

fn first_state(bundle: &Bundle, args: &CreateArgs) -> State {
    let spec = &bundle.spec;
    let later = spec.hooks.as_ref().map(|h| Hooks {
        poststart: h.poststart.clone(),
        poststop: h.poststop.clone(),
        ..Hooks::default()
    });
    let filter = spec.linux.as_ref().and_then(|l| l.seccomp.as_ref());
    let agent = filter
        .and_then(tare_runtime::security::seccomp::agent)
        .map(|(path, metadata)| Agent { path: path.to_owned(), metadata: metadata.map(str::to_owned) });
    let namespaces = spec.linux.as_ref().map(|l| l.namespaces.iter().map(|n| n.kind).collect());
    State {
        oci_version: spec.oci_version.clone(),
        id: args.id.clone(),
        pid: 0,
        start_time: 0,
        bundle: bundle.directory.clone(),
        rootfs: bundle.rootfs.clone(),
        created: time::now(),
        owner: rustix::process::geteuid().as_raw(),
        place: None,
        ends_together: spec.linux.as_ref().is_some_and(|l| {
            let own = |n: &LinuxNamespace| n.path.as_deref().unwrap_or_default().is_empty();
            l.namespaces.iter().any(|n| n.kind == NamespaceKind::Pid && own(n))
        }),
        keyring_inherited: args.no_new_keyring,
        namespaces: namespaces.unwrap_or_default(),
        rdt: rdt::RdtGroup::default(),
        annotations: spec.annotations.clone(),
        hooks: later.unwrap_or_default(),
        agent,
    }
}

/// A container whose name is taken.
struct Begun<'a> {
    context: &'a Context,
    container: &'a mut Container,
    bundle: &'a Bundle,
    args: &'a CreateArgs,
    purpose: Purpose,
}

impl Begun<'_> {
    fn finish(
        &mut self,
        console: Option<&Receiver>,
        pidfd_socket: Option<&Receiver>,
        descriptors: Inherited,
    ) -> Result<(Launch, Option<OwnedFd>)> {
        let (spec, purpose) = (&self.bundle.spec, self.purpose);
        let trace = &self.context.trace;
        let mut plan = plan::plan(spec)?;
        plan.process.preserve_fds = descriptors.count;
        // Whoever made the container may go: it is nobody's child who would have to end with it.
        plan.process.die_with_parent = false;
        plan.process.keyring = match self.args.no_new_keyring {
            true => Keyring::Inherited,
            false => Keyring::Named(format!("_ses.{}", self.args.id)),
        };
        if self.args.no_pivot {
            plan.avoid_pivot();
        }
        let cgroup = self.plan_cgroup()?;
        trace.point(Mark::Plan);
        // Whoever finds a half-made container finds its groups by this; once they are known to be its own, by the state.
        state::write(&self.container.dir, CONFIG, &self.bundle.text)?;
        let rdt = spec.linux.as_ref().and_then(|l| l.intel_rdt.as_ref());
        let rdt = rdt.map(|r| Ok((rdt::plan(r, &self.args.id)?, rdt::open(&rdt::fields(r))?))).transpose()?;
        if let Some((plan, root)) = &rdt {
            self.container.state.rdt = rdt::to_make(plan, root.as_fd());
        }
        trace.point_of(Mark::State, CONFIG);
        let (mut handles, keeper) = self.make_cgroup(&cgroup)?;
        trace.point(Mark::Cgroups);
        self.container.store()?;
        trace.point_of(Mark::State, STATE);
        let root = launch::open_root(&self.bundle.rootfs)?;
        let prepared = launch::prepare(&plan, root, std::mem::take(&mut handles.mounts))?;
        let mut terminal = prepared.master()?;
        if let Some(master) = &terminal {
            let by = if console.is_some() { ShownBy::Receiver } else { ShownBy::Relay };
            handover::set_up_terminal(master, spec.process.as_ref().and_then(|p| p.console_size.as_ref()), by)?;
        }
        trace.point(Mark::Sources);
        let gate = match purpose {
            Purpose::Create => Gate::Socket(launch::bind_gate(self.container.dir.as_fd(), GATE)?),
            Purpose::Detach | Purpose::Foreground => Gate::Channel,
        };
        if purpose == Purpose::Create {
            trace.point(Mark::Gate);
        }
        let told = hooks::told(&self.container.state);
        let equipment =
            Equipment { cgroup: handles, gate, state: Some(told.clone()), trace: trace.clone(), stdio: None };
        let mut launch = launch::spawn(&plan, prepared, equipment)?;
        let pid = launch.pid();
        if let Some((plan, root)) = &rdt {
            self.container.state.rdt = rdt::apply(plan, root.as_fd(), pid)?;
            trace.point(Mark::Resctrl);
        }
        launch.wait_ready_with(|| {
            trace.point(Mark::Ready);
            let ran = hooks::creating(spec.hooks.as_ref(), &told, pid);
            trace.point(Mark::Hooks);
            ran
        })?;
        trace.point(Mark::Ready);
        // The child is in its groups, and keeps them alive itself.
        keeper.map(Keeper::release).transpose()?;
        for warning in launch.warnings.drain(..) {
            self.context.log.warn(&warning);
        }
        if let (Some(console), Some(master)) = (console, terminal.take_if(|_| console.is_some())) {
            console.send(master.as_fd(), &handover::terminal_name(&master))?;
        }
        if let Some(socket) = pidfd_socket {
            socket.send(launch.pidfd(), "pidfd")?;
        }
        self.container.state.pid = pid;
        self.container.state.start_time = state::start_time(pid).ok_or_else(|| {
            Error::new(Kind::System, "create", &self.args.id).because("its process has ended already")
        })?;
        self.container.store()?;
        if let Some(path) = &self.args.pid_file {
            handover::pid_file(path, pid)?;
        }
        trace.point_of(Mark::State, STATE);
        Ok((launch, terminal))
    }

    /// Decides on the groups, and notes them in the state.
    fn plan_cgroup(&mut self) -> Result<CgroupPlan> {
        let linux = self.bundle.spec.linux.as_ref();
        let path = linux.and_then(|l| l.cgroups_path.as_deref());
        let place = Place::decide(Layout::read()?, self.context.manager(), path, &self.args.id)?;
        let none = LinuxResources::default();
        let plan = place.plan(linux.and_then(|l| l.resources.as_ref()).unwrap_or(&none))?;
        self.container.state.place = Some(place);
        Ok(plan)
    }

    /// Makes the groups. Without root they may be out of reach: then the container stays in those of its caller.
    fn make_cgroup(&mut self, plan: &CgroupPlan) -> Result<(CgroupHandles, Option<Keeper>)> {
        let created = match cgroup::create(plan) {
            Ok(created) => created,
            Err(e) => {
                // Nothing there is the container's: neither to be removed, nor those who are in it to be killed.
                self.container.state.place = None;
                let left_out = e.kind() == Kind::Denied && self.context.is_rootless();
                return if left_out { Ok((CgroupHandles::default(), None)) } else { Err(e) };
            }
        };
        let spec = &self.bundle.spec;
        let memory = spec.linux.as_ref().and_then(|l| l.resources.as_ref()?.memory.as_ref());
        if memory.is_some_and(|m| m.kernel.is_some_and(|bytes| bytes != 0)) {
            self.context.log.warn("limits of kernel memory are obsolete, and were left out");
        }
        let Some(place) = &self.container.state.place else { return Ok((CgroupHandles::default(), None)) };
        if let Some(owner) = cgroup::owner(place.layout(), spec) {
            cgroup::delegate(&created, owner)?;
        }
        let shown = spec.mounts.iter().any(|m| matches!(m.kind.as_deref(), Some("cgroup" | "cgroup2")));
        let mounts = if shown { launch::cgroup_mounts(place.layout(), plan)? } else { Vec::new() };
        Ok((CgroupHandles { attach: created.attach, unified: created.unified, mounts }, created.keeper))
    }
}
