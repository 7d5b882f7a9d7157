//! `start` and `run`: from a container at rest to a running program with a supervisor.
//!
//! ```text
//! client                               launcher (its clone; later, after exec, the supervisor)
//!   lock, mount, plan, etc files
//!   clone ───────────────────────────► session of its own
//!                                      cgroup, open sources, clone the first process
//!                                      network while that one performs its steps
//!                                      gate opened, program runs, status written
//!   ◄──────────────────── started/failed
//!                                      exec: supervise
//! ```
//!
//! The client may die at any point: the launcher goes on. If the launcher dies, so does the first process (its
//! parent-death signal), and whoever looks next finds the lock free and takes the rest down.

use crate::attach::{Attachment, FAILED, STARTED, Start};
use crate::layers::Lower;
use crate::record::{Begun, Dirs, Durable, Record, Status, boot_id, start_time, write_json};
use crate::request::{MountKind, NamespaceMode, NetworkMode, RunRequest};
use crate::spec::{self, Facts};
use crate::streams::{Ends, pipes};
use crate::supervise::Handover;
use crate::users;
use crate::view::State;
use crate::{Engine, device, network, time};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};
use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;
use tare_kernel::process::{self, ExecArray, Namespaces};
use tare_model::id_map::IdMaps;
use tare_model::runtime_spec::NamespaceKind;
use tare_model::{Context, Error, Kind, Result};
use tare_network::Reservation;
use tare_runtime::cgroup::{self, CgroupPlan, Layout};
use tare_runtime::launch::hook::ContainerState;
use tare_runtime::launch::{self, Actor, CgroupHandles, Equipment, Listener, Mark};
use tare_runtime::plan::{LaunchPlan, MountPlan, Source, Step};
use tare_store::{ContainerRow, Durability};

/// How long a start waits for the last run's supervisor, which takes things down after its client was answered.
const TEARDOWN_PATIENCE: Duration = Duration::from_secs(2);

/// Whether the caller wants to be connected from the first byte on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attach {
    /// No.
    No,
    /// Yes: nothing of the output is missed.
    Yes,
    /// Yes, and the container's terminal has this size before the program can ask for it.
    Sized {
        /// Lines.
        rows: u16,
        /// Characters in a line.
        columns: u16,
    },
}

/// A container that runs now.
#[derive(Debug)]
pub struct Started {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The connection, if it was asked for.
    pub attachment: Option<Attachment>,
    /// What could not be had as asked.
    pub warnings: Vec<String>,
}

/// Everything that the launcher needs, made by the client.
struct Prepared {
    record: Record,
    dirs: Dirs,
    lock: OwnedFd,
    root: OwnedFd,
    /// What the root was made of. Closed by the launcher, when it executes the supervisor, and the container runs already.
    #[expect(dead_code, reason = "open is all that they must be")]
    lowers: Vec<Lower>,
    layout: Layout,
    cgroup: CgroupPlan,
    plan: LaunchPlan,
    ports: Reservation,
    /// The container's network namespace, where it has to be held to its end: see [`crate::loan`].
    namespace: Option<OwnedFd>,
    /// Where its names are answered, inside.
    names: Option<tare_network::dns::Listener>,
    status: Status,
    /// First processes of the containers whose namespaces are joined.
    joined: Vec<OwnedFd>,
    /// Kept open for the plan, which names them by number.
    #[expect(dead_code, reason = "open is all that they must be")]
    subpaths: Vec<OwnedFd>,
}

impl Engine {
    /// Makes a container and starts it; with `remove`, nothing of it is durable.
    ///
    /// # Errors
    /// As [`Engine::create`] and [`Engine::start`]. With `remove` a container that could not start is gone.
    pub fn run(&self, request: &RunRequest, attach: Attach) -> Result<Started> {
        let durability = if request.remove { Durability::Lazy } else { Durability::Durable };
        let made = self.make(request, durability)?;
        self.trace.point_of(Mark::Create, made.record.name());
        let started = self.start_record(&made.record, made.lock, attach);
        if started.is_err() && request.remove {
            let _ = self.forget(&made.record, durability);
        }
        started
    }

    /// Starts a container that was created or has ended. One that runs already is left as it is, as docker does.
    ///
    /// # Errors
    /// `Kind::State` if it is paused, or being started just now; what the start meets.
    pub fn start(&self, name: &str, attach: Attach) -> Result<Started> {
        let row = self.store.container(name)?;
        match self.observe(&row)?.state {
            State::Paused => {
                return Err(Error::new(Kind::State, "start container", name)
                    .because("it is paused")
                    .hint(format!("tare unpause {name}")));
            }
            State::Running => return self.started_already(&row, attach),
            State::Created | State::Exited => {}
        }
        let busy =
            || Error::new(Kind::State, "start container", name).because("it is being started or stopped just now");
        // The supervisor of its last run may be about to finish taking things down.
        let dirs = self.dirs(&row.id);
        self.trace.point_of(Mark::Container, name);
        let Some(lock) = dirs.lock_within(TEARDOWN_PATIENCE)? else {
            // Or somebody else has started it meanwhile.
            return match self.observe(&row)?.state {
                State::Running => self.started_already(&row, attach),
                _ => Err(busy()),
            };
        };
        // Only under the lock is it certain what it is, and whether it still is there.
        match self.find(&row.id) {
            Ok((_, record)) => self.start_record(&record, lock, attach),
            Err(e) => {
                let _ = dirs.remove_run();
                Err(e)
            }
        }
    }

    fn started_already(&self, row: &ContainerRow, attach: Attach) -> Result<Started> {
        let attachment = if attach == Attach::No { None } else { Some(self.attach(&row.id)?) };
        Ok(Started { id: row.id.clone(), name: row.name.clone(), attachment, warnings: Vec::new() })
    }

    /// What `run` would do, as data: the record, the specification, the plans.
    ///
    /// # Errors
    /// As `create`, for what can be known without making anything.
    pub fn plan(&self, request: &RunRequest) -> Result<serde_json::Value> {
        let image = match &request.source {
            crate::request::Source::Image(name) => Some(self.image(name)?),
            crate::request::Source::Rootfs(_) => None,
        };
        let record = self.decide(request, image.as_ref())?;
        let root = match &image {
            Some(image) => self.mount_image(&image.diff_ids())?,
            None => self.mount_root(&record)?.0,
        };
        let identity = users::resolve(&root, &record.user, &record.request.groups)?;
        let spec = spec::spec(&record, &identity, &self.facts(&record)?, &self.cgroup_path(&record.id));
        let layout = Layout::read()?;
        let linux = spec.linux.clone().unwrap_or_default();
        let cgroup = cgroup::plan(&layout, &self.cgroup_path(&record.id), &linux.resources.unwrap_or_default())?;
        let places = self.places(request)?;
        crate::network::check_ports(&request.network, &request.ports, &places)?;
        let networks: Vec<_> = places.iter().map(|p| &p.network).collect();
        let launch = tare_runtime::plan::plan(&spec)?;
        let failed = |e: serde_json::Error| Error::new(Kind::Invalid, "print plan", "").because(e);
        Ok(serde_json::json!({
            "record": serde_json::to_value(&record).map_err(failed)?,
            "spec": serde_json::to_value(&spec).map_err(failed)?,
            "cgroup": serde_json::to_value(&cgroup).map_err(failed)?,
            "networks": serde_json::to_value(&networks).map_err(failed)?,
            "launch": serde_json::to_value(&launch).map_err(failed)?,
        }))
    }

    fn start_record(&self, record: &Record, lock: OwnedFd, attach: Attach) -> Result<Started> {
        let name = record.name().to_owned();
        let started = self.prepare(record, lock).and_then(|prepared| self.hand_to_launcher(prepared, attach));
        match started {
            Ok((socket, start)) => Ok(Started {
                id: record.id.clone(),
                name,
                attachment: (attach != Attach::No).then(|| Attachment::over(socket)),
                warnings: start.warnings,
            }),
            Err(e) => {
                // A launcher takes down what it began, the run directory last; unless it was killed.
                if self.run_dir(&record.id).exists() {
                    let _ = self.recover_one(&record.id, Some(&e));
                }
                self.withdraw_layers();
                Err(e)
            }
        }
    }

    fn prepare(&self, record: &Record, lock: OwnedFd) -> Result<Prepared> {
        let dirs = self.dirs(&record.id);
        self.fault("lock")?;
        self.trace.point(Mark::Lock);
        let (root, lowers) = self.mount_root(record)?;
        self.fill_volumes(&root, record)?;
        self.fault("rootfs")?;
        self.trace.point(Mark::Root);
        let identity = users::resolve(&root, &record.user, &record.request.groups)?;
        let naming = self.naming(record)?;
        self.write_etc(record, naming.as_ref(), &dirs.state)?;
        self.trace.point(Mark::Etc);
        let mut facts = self.facts(record)?;
        let joined = std::mem::take(&mut facts.joined);
        let cgroup_path = self.cgroup_path(&record.id);
        let spec = spec::spec(record, &identity, &facts, &cgroup_path);
        let mut plan = tare_runtime::plan::plan(&spec)?;
        if record.request.init {
            plan.process.init = Some(spec::INIT_PATH.to_owned());
        }
        let subpaths = self.open_subpaths(record, &mut plan)?;
        let layout = self.layout()?.clone();
        let resources = spec.linux.and_then(|l| l.resources).unwrap_or_default();
        let cgroup = cgroup::plan(&layout, &cgroup_path, &resources)?;
        self.trace.point(Mark::Plan);
        let ports = self.reserve_ports(record)?;
        self.fault("ports")?;
        self.trace.point(Mark::Ports);
        let status = Status {
            started_at: time::now(),
            cgroup: cgroup_path,
            ports: network::port_views(&ports.ports),
            naming,
            host_network: record.request.network == NetworkMode::Host,
            ..Status::default()
        };
        let _ = std::fs::remove_file(dirs.state.join("exit.json"));
        let begun = Begun { boot_id: boot_id()?, started_at: status.started_at.clone() };
        write_json(&dirs.state, "started.json", &begun, Durable::No)?;
        dirs.write_status(&status)?;
        self.fault("status")?;
        self.trace.point(Mark::State);
        Ok(Prepared {
            record: record.clone(),
            dirs,
            lock,
            root,
            lowers,
            layout,
            cgroup,
            plan,
            ports,
            namespace: None,
            names: None,
            status,
            joined,
            subpaths,
        })
    }

    /// Opens what volumes are asked for only in part, beneath the volume, and has the plan bind that: another container
    /// with the volume may put a link to anywhere in its place at any time.
    fn open_subpaths(&self, record: &Record, plan: &mut LaunchPlan) -> Result<Vec<OwnedFd>> {
        let mut out = Vec::new();
        for mount in &record.mounts {
            let MountKind::Volume { subpath: Some(path), .. } = &mount.request.kind else { continue };
            let volume = self.store.volume(mount.volume.as_deref().unwrap_or_default())?.path;
            let fail = |e| Error::io("use volume path", format!("{path:?}"), e);
            let data = rustix::fs::open(&volume, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
            let place = launch::in_root(data.map_err(fail)?, path, OFlags::PATH).map_err(fail)?;
            for step in &mut plan.steps {
                if let Step::Mount(MountPlan { target, source: Source::Bind(bind), .. }) = step
                    && *target == mount.request.target
                {
                    bind.path = format!("/proc/self/fd/{}", place.as_raw_fd()).into();
                }
            }
            out.push(place);
        }
        Ok(out)
    }

    /// Clones the launcher and waits for its word.
    fn hand_to_launcher(&self, prepared: Prepared, attach: Attach) -> Result<(OwnedFd, Start)> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(|e| Error::io("create", "start socket", e))?;
        let name = prepared.record.name().to_owned();
        process::clone(Namespaces::NONE, None, || self.launcher(prepared, &theirs, attach))
            .during("clone", "launcher")?;
        drop(theirs);
        self.trace.point(Mark::Clone);
        // The launcher has it, too, and lets go of it last: when it becomes the supervisor.
        launch::let_go_of_executable();
        let attachment = Attachment::over(ours);
        let started = attachment.started()?;
        self.trace.point(Mark::Launcher);
        match started {
            Some(start) => Ok((attachment.into_socket(), start)),
            None => Err(Error::new(Kind::System, "start container", name)
                .because("its launcher was killed before the program ran")
                .hint("look for an out-of-memory message in dmesg")),
        }
    }

    fn launcher(&self, mut prepared: Prepared, client: &OwnedFd, attach: Attach) -> Infallible {
        let tell = |kind: u8, body: serde_json::Result<Vec<u8>>| {
            let _ = send(client, &[&[kind], &body.unwrap_or_default()[..]].concat(), SendFlags::NOSIGNAL);
        };
        let _ = rustix::process::setsid();
        let e = match self.launch(&mut prepared, attach) {
            Ok(running) => {
                // Without it, others mount what they need themselves.
                let _ = self.take_layers_over();
                let start = Start { warnings: prepared.status.warnings.clone() };
                tell(STARTED, serde_json::to_vec(&start));
                self.become_supervisor(&prepared, running, (attach != Attach::No).then_some(client))
            }
            Err(e) => e,
        };
        // It keeps the namespace, and with it the devices.
        drop(prepared.names.take());
        let _ = self.take_devices_back(&prepared.record.id, prepared.namespace.take().as_ref().map(AsFd::as_fd));
        // Whatever exists is in the status: taken down here, by whoever holds the lock.
        let failures = self.take_down(&prepared.record.id, &prepared.status);
        drop(failures);
        // Before the lock goes: begun, and nobody there, would be taken for lost.
        let _ = std::fs::remove_file(prepared.dirs.state.join("started.json"));
        let _ = prepared.dirs.remove_run();
        self.withdraw_layers();
        tell(FAILED, serde_json::to_vec(&e));
        process::exit_now(1)
    }

    /// Everything between the clone of the launcher and the running program.
    fn launch(&self, prepared: &mut Prepared, attach: Attach) -> Result<Running> {
        let trace = self.trace.by(Actor::Launcher);
        trace.point(Mark::Born);
        let listen = listen(&prepared.dirs)?;
        trace.point(Mark::Attach);
        let created = cgroup::create(&prepared.cgroup)?;
        self.fault("cgroup")?;
        trace.point(Mark::Cgroups);
        let mounts = launch::cgroup_mounts(&prepared.layout, &prepared.cgroup)?;
        let shm = self.shared_memory(&prepared.record)?;
        let root = prepared.root.try_clone().during("duplicate", "root filesystem")?;
        let mut handles = launch::prepare(&prepared.plan, root, mounts)?;
        for (target, tree) in shm {
            handles.add_mount(&mut prepared.plan, target, tree);
        }
        trace.point(Mark::Sources);
        let master = handles.master()?;
        if let (Some(master), Attach::Sized { rows, columns }) = (&master, attach) {
            launch::set_size(master, rows, columns)?;
        }
        let (stdio, ends) = if master.is_some() {
            (None, Ends::default())
        } else {
            let (stdio, ends) = pipes(prepared.record.request.stdin)?;
            stdio_belongs_inside(&stdio, prepared.record.ids.as_ref())?;
            (Some(stdio), ends)
        };
        let cgroup = CgroupHandles { attach: created.attach, unified: created.unified, mounts: Vec::new() };
        trace.point(Mark::Streams);
        let equipment = Equipment { stdio, cgroup, trace: trace.clone(), ..Equipment::default() };
        let mut child = launch::spawn(&prepared.plan, handles, equipment)?;
        prepared.joined.iter().try_for_each(still_there)?;
        prepared.status.pid = child.pid();
        prepared.status.pid_start = start_time(child.pid()).unwrap_or_default();
        self.fault("clone")?;
        if let Err(e) = self.set_up_network(prepared, child.pid()) {
            // What ended the child is the reason, if something did; that it has no namespace any more is not.
            child.wait_ready()?;
            return Err(e);
        }
        self.fault("network")?;
        trace.point(Mark::Network);
        child.wait_ready()?;
        self.fault("ready")?;
        trace.point(Mark::Ready);
        if let Some(listener) = Listener::of(&prepared.plan.process, child.pid(), &self.told(&prepared.record.id))? {
            child.set_listener(listener);
        }
        trace.point(Mark::Handover);
        let running = child.release()?;
        self.fault("release")?;
        trace.point(Mark::Running);
        prepared.status.warnings.extend(running.warnings.iter().cloned());
        prepared.status.supervisor_pid = rustix::process::getpid().as_raw_nonzero().get();
        prepared.status.supervisor_start = start_time(prepared.status.supervisor_pid).unwrap_or_default();
        prepared.dirs.write_status(&prepared.status)?;
        trace.point(Mark::State);
        Ok(Running { pidfd: running.pidfd, listen, ends, master })
    }

    /// What those outside are told of a container that is about to run.
    pub(crate) fn told(&self, id: &str) -> ContainerState {
        ContainerState {
            id: id.to_owned(),
            bundle: self.dirs(id).state.display().to_string(),
            annotations: std::collections::BTreeMap::new(),
        }
    }

    fn set_up_network(&self, prepared: &mut Prepared, pid: i32) -> Result<()> {
        let open = || {
            let path = format!("/proc/{pid}/ns/net");
            rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                .map_err(|e| Error::io("open", path, e))
        };
        match prepared.record.request.network {
            NetworkMode::Bridge => {
                let Prepared { record, dirs, status, ports, namespace, names, .. } = prepared;
                let mut plans = self.plan_networks(record, &ports.ports)?;
                plans.endpoints.iter_mut().try_for_each(|plan| self.lend(&record.id, plan))?;
                status.endpoints = plans.endpoints.iter().map(tare_network::EndpointPlan::endpoint).collect();
                status.bridges.clone_from(&plans.bridges);
                // Before anything of it is there: whoever finds this process killed knows what to look for.
                dirs.write_status(status)?;
                self.fault("endpoints")?;
                let netns = open()?;
                // Before anything can fail: a device of the host may be in it then.
                if plans.endpoints.iter().any(|p| p.lent.is_some()) {
                    *namespace = Some(netns.try_clone().during("duplicate", "network namespace")?);
                }
                self.connect_all(&plans, &netns, record, status)?;
                status.warnings.extend(crate::explain::warnings(status, &self.site().table));
                if status.naming.is_some() {
                    *names = Some(tare_network::dns::Listener::open(netns.as_fd())?);
                }
                Ok(())
            }
            // A network namespace of its own has its loopback device up from the first step on.
            NetworkMode::None | NetworkMode::Host | NetworkMode::Container(_) | NetworkMode::Path(_) => Ok(()),
        }
    }

    /// Executes this program anew, as the supervisor. Returns only on failure.
    fn become_supervisor(&self, prepared: &Prepared, running: Running, client: Option<&OwnedFd>) -> Error {
        let keep = |fd: &OwnedFd| process::dup_inheritable(fd.as_fd()).during("hand over", "descriptor");
        let optional = |fd: &Option<OwnedFd>| fd.as_ref().map(keep).transpose();
        let hand_over = || -> Result<Handover> {
            Ok(Handover {
                root: self.config.root.clone(),
                run: self.config.run.clone(),
                executable: self.config.executable.clone(),
                fault: self.config.fault.clone(),
                id: prepared.record.id.clone(),
                pidfd: keep(&running.pidfd)?,
                lock: keep(&prepared.lock)?,
                layers: self.hand_layers_over()?,
                listen: keep(&running.listen)?,
                stdin: optional(&running.ends.stdin)?,
                stdout: optional(&running.ends.stdout)?,
                stderr: optional(&running.ends.stderr)?,
                master: optional(&running.master)?,
                client: client.map(keep).transpose()?,
                ports: prepared.ports.sockets.iter().map(|socket| keep(&socket.fd)).collect::<Result<_>>()?,
                namespace: optional(&prepared.namespace)?,
                names: match &prepared.names {
                    Some(listener) => listener.descriptors().into_iter().map(keep).collect::<Result<_>>()?,
                    None => Vec::new(),
                },
                stop_signal: prepared.record.stop_signal,
                stop_timeout: prepared.record.request.stop_timeout.unwrap_or(10),
            })
        };
        let execute = || -> Result<Infallible> {
            // What the client was given by mistake, such as a pipe that somebody waits on, must not live as long as the container.
            process::close_on_exec_from(3).during("close", "descriptors")?;
            let text = serde_json::to_string(&hand_over()?)
                .map_err(|e| Error::new(Kind::Invalid, "hand over", "container").because(e))?;
            let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
                .map_err(|e| Error::io("open", "/dev/null", e))?;
            rustix::stdio::dup2_stdin(&null)
                .and_then(|()| rustix::stdio::dup2_stdout(&null))
                .and_then(|()| rustix::stdio::dup2_stderr(&null))
                .map_err(|e| Error::io("let go of", "standard streams", e))?;
            rustix::process::chdir("/").map_err(|e| Error::io("change to", "/", e))?;
            let argv = ExecArray::new(["tare", crate::SUPERVISE, &text]).during("prepare", "supervisor")?;
            let envp = ExecArray::new::<&str>([]).during("prepare", "supervisor")?;
            Err(Error::io("execute", "supervisor", process::execve(c"/proc/self/exe", &argv, &envp)))
        };
        match execute() {
            Ok(never) => match never {},
            Err(e) => e,
        }
    }

    /// Facts of the host that the specification depends on.
    pub(crate) fn facts(&self, record: &Record) -> Result<Facts> {
        let r = &record.request;
        crate::propagation::check(&record.mounts)?;
        let mut facts = Facts {
            files: self.etc_files(record)?,
            nofile: rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap_or(u64::MAX),
            binary: match &self.config.executable {
                Some(path) => path.clone(),
                None => std::fs::read_link("/proc/self/exe").during("read", "/proc/self/exe")?,
            },
            ..Facts::default()
        };
        if r.limits.memory.is_some() {
            let layout = self.layout()?;
            let files = ["memory.memsw.limit_in_bytes", "memory.swap.max"];
            facts.counts_swap = files.iter().any(|f| layout.offers("memory", f));
        }
        for d in &r.devices {
            let (devices, rules) = device::resolve(d)?;
            facts.devices.extend(devices);
            facts.device_rules.extend(rules);
        }
        if r.privileged {
            let known: Vec<String> = facts.devices.iter().map(|d| d.path.clone()).collect();
            facts.devices.extend(device::all_of_host()?.into_iter().filter(|d| !known.contains(&d.path)));
        }
        let mut join = |kind, mode: &NamespaceMode, file: &str| -> Result<()> {
            if let NamespaceMode::Container(name) = mode {
                let (path, process) = self.namespace_of(name, file)?;
                facts.join.insert(kind, path);
                facts.joined.push(process);
            }
            Ok(())
        };
        join(NamespaceKind::Pid, &r.pid, "pid")?;
        join(NamespaceKind::Ipc, &r.ipc, "ipc")?;
        join(NamespaceKind::Uts, &r.uts, "uts")?;
        join(NamespaceKind::Cgroup, &r.cgroupns, "cgroup")?;
        if let NetworkMode::Container(name) = &r.network {
            let mode = NamespaceMode::Container(name.clone());
            join(NamespaceKind::Network, &mode, "net")?;
            if r.uts == NamespaceMode::Private {
                join(NamespaceKind::Uts, &mode, "uts")?;
            }
        }
        if let NetworkMode::Path(path) = &r.network {
            // Said here, and not by a first process that cannot join it.
            crate::netns::open_namespace(path)?;
            facts.join.insert(NamespaceKind::Network, path.clone());
        }
        Ok(facts)
    }

    /// The path of a container's namespace and its first process. Once the path is open, look whether that is
    /// [`still_there`]: its number may be another process's by then.
    fn namespace_of(&self, name: &str, file: &str) -> Result<(PathBuf, OwnedFd)> {
        let row = self.store.container(name)?;
        let (process, view) = self.running(&row.name, "join container")?;
        Ok((PathBuf::from(format!("/proc/{}/ns/{file}", view.pid.unwrap_or_default())), process))
    }

    /// With another container's IPC go its /dev/shm and /dev/mqueue: copies of the mounts, made inside its mount namespace.
    fn shared_memory(&self, record: &Record) -> Result<Vec<(&'static str, OwnedFd)>> {
        let NamespaceMode::Container(name) = &record.request.ipc else { return Ok(Vec::new()) };
        let (namespace, process) = self.namespace_of(name, "mnt")?;
        let open = |path: &std::path::Path| {
            rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                .map_err(|e| Error::io("open", path.display(), e))
        };
        let (there, back) = (open(&namespace)?, open(std::path::Path::new("/proc/self/ns/mnt"))?);
        still_there(&process)?;
        process::setns(there.as_fd(), Namespaces::MOUNT).during("look into container", name)?;
        let trees = ["/dev/shm", "/dev/mqueue"].map(|path| launch::clone_mount(path).map(|tree| (path, tree)));
        process::setns(back.as_fd(), Namespaces::MOUNT).during("come back from container", name)?;
        trees.into_iter().collect()
    }
}

fn still_there(process: &OwnedFd) -> Result<()> {
    process::pidfd_signal(process.as_fd(), 0).map_err(|_| {
        Error::new(Kind::State, "join container", "")
            .because("the container whose namespaces are shared has just ended")
    })
}

/// Gives the standard streams to root of a container's user namespace: whoever is inside may open /dev/stdout again.
pub(crate) fn stdio_belongs_inside(stdio: &launch::Stdio, ids: Option<&IdMaps>) -> Result<()> {
    let Some((uid, gid)) = ids.and_then(|ids| ids.to_host(0, 0)) else { return Ok(()) };
    let owner = (Some(rustix::fs::Uid::from_raw(uid)), Some(rustix::fs::Gid::from_raw(gid)));
    for fd in [&stdio.stdin, &stdio.stdout, &stdio.stderr] {
        let stat = rustix::fs::fstat(fd).map_err(|e| Error::io("look at", "standard stream", e))?;
        // A device is everybody's.
        if rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Fifo {
            rustix::fs::fchown(fd, owner.0, owner.1).map_err(|e| Error::io("give", "standard stream", e))?;
        }
    }
    Ok(())
}

/// What the launcher holds of a running container.
struct Running {
    pidfd: OwnedFd,
    listen: OwnedFd,
    ends: Ends,
    master: Option<OwnedFd>,
}

/// The socket on which clients find the supervisor.
fn listen(dirs: &Dirs) -> Result<OwnedFd> {
    let fail = |e| Error::io("listen on", dirs.run.join("attach").display(), e);
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).map_err(fail)?;
    let directory = rustix::fs::open(&dirs.run, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(fail)?;
    let _ = std::fs::remove_file(dirs.run.join("attach"));
    rustix::net::bind(&socket, &crate::attach::socket_name(directory.as_fd())?).map_err(fail)?;
    rustix::net::listen(&socket, 128).map_err(fail)?;
    Ok(socket)
}
