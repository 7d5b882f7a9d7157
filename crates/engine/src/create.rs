//! `create`: from a request to a container that only has to be started.

use crate::record::{Dirs, Durable, Mounted, Record, write_json};
use crate::request::{MountKind, MountRequest, NamespaceMode, NetworkMode, RunRequest, Source};
use crate::view::{Container, State};
use crate::{Engine, network, time};
use rustix::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tare_model::image::{ImageConfig, Platform, RunConfig};
use tare_model::{Context, Error, Kind, Result, Undo};
use tare_runtime::security::capability;
use tare_store::{AddressRequest, Durability, Image, NewContainer, Store, VolumeSpec};

/// docker's PATH for containers whose image sets none.
pub(crate) const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// In the run directory, while a container is made: names of the volumes made for it alone.
pub(crate) const ANONYMOUS_VOLUMES: &str = "volumes.json";

/// A container that was just made, and the lock under which it was.
pub(crate) struct Made {
    pub(crate) record: Record,
    pub(crate) lock: OwnedFd,
}

impl Engine {
    /// Makes a container without starting it. Durable.
    ///
    /// # Errors
    /// `Kind::NotFound` for the image, `Kind::AlreadyExists` for the name, `Kind::Invalid` for contradictions.
    pub fn create(&self, request: &RunRequest) -> Result<Container> {
        let made = self.make(request, Durability::Durable)?;
        let dirs = self.dirs(&made.record.id);
        let _ = dirs.remove_run();
        drop(made.lock);
        Ok(made.record.view(self, made.record.name()))
    }

    /// The work of `create`; `run --rm` needs nothing durable.
    ///
    /// The lock says that somebody is at work on the container until its description is written.
    pub(crate) fn make(&self, request: &RunRequest, durability: Durability) -> Result<Made> {
        let image = self.source_image(&request.source)?;
        let mut record = self.decide(request, image.as_ref())?;
        self.check_modes(&mut record)?;
        let mut undo = Undo::new();
        let dirs = self.dirs(&record.id);
        // Whoever sweeps up after killed makers may hold it for a moment.
        let busy = || Error::new(Kind::InUse, "lock container", &record.id);
        let lock = dirs.lock_within(Duration::from_secs(1))?.ok_or_else(busy)?;
        let run = dirs.clone();
        undo.push("make run directory", move || {
            // It stays while it names volumes that cannot be removed now: who sweeps up next tries again.
            self.remove_anonymous_volumes(&run)?;
            run.remove_run()
        });
        let volumes = self.make_volumes(&mut record, &dirs, &mut undo)?;
        self.fault("volumes")?;
        let places = self.places(request)?;
        network::check_ports(&request.network, &request.ports, &places)?;
        let networks: Vec<String> = places.iter().map(|p| p.network.id.clone()).collect();
        let addresses: Vec<Vec<AddressRequest>> = places.iter().map(network::address_requests).collect();
        let addresses: Vec<AddressRequest> = addresses.concat();
        let new = NewContainer {
            id: &record.id,
            name: request.name.as_deref(),
            image: record.image_id,
            layers: &record.layers,
            created: jiff::Timestamp::now().as_nanosecond() as i64,
            networks: &networks,
            addresses: &addresses,
            volumes: &volumes,
            durability,
        };
        let reserved = match self.store.reserve_container(&new) {
            // The holder may be a container that is long gone: lost in a crash, and to be removed at its end.
            Err(e) if e.kind() == Kind::AlreadyExists && self.recover_all()? > 0 => {
                self.store.reserve_container(&new)?
            }
            other => other?,
        };
        let id = record.id.clone();
        undo.push("reserve container", move || {
            self.store.release_container(&id, durability)?;
            self.store.release_addresses(&id)?;
            self.store.remove_container_dir(&id)
        });
        record.request.name = Some(reserved.name);
        let mut given = reserved.addresses.iter().copied();
        record.leases = places
            .iter()
            .map(|place| {
                let own: Vec<_> = given.by_ref().take(place.network.subnets.len()).collect();
                network::lease_of(place, &own)
            })
            .collect();
        record.request.attachments = places.into_iter().map(|p| p.attachment).collect();
        self.fault("reserve")?;
        let choosing = self.choose_ids(&mut record)?;
        if matches!(record.request.source, Source::Image(_)) {
            self.make_upper(&dirs, &record)?;
        }
        let durable = if durability == Durability::Durable { Durable::Yes } else { Durable::No };
        write_json(&dirs.state, "config.json", &record, durable)?;
        drop(choosing);
        self.fault("config")?;
        undo.commit();
        Ok(Made { record, lock })
    }

    fn source_image(&self, source: &Source) -> Result<Option<Image>> {
        match source {
            Source::Image(name) => {
                let image = self.image(name)?;
                check_platform(name, &image.config)?;
                Ok(Some(image))
            }
            Source::Rootfs(path) => {
                let meta = std::fs::metadata(path).during("use as root filesystem", path.display())?;
                if !meta.is_dir() || !path.is_absolute() {
                    return Err(Error::new(Kind::Invalid, "use as root filesystem", path.display())
                        .because("it is not a directory given by an absolute path"));
                }
                Ok(None)
            }
        }
    }

    /// Everything that follows from the request and the image alone.
    pub(crate) fn decide(&self, request: &RunRequest, image: Option<&Image>) -> Result<Record> {
        let defaults = image.map(|i| i.config.config.clone()).unwrap_or_default();
        let id = tare_store::Store::new_id()?;
        let hostname = match (&request.hostname, &request.uts, &request.network) {
            (Some(h), _, _) => h.clone(),
            (None, NamespaceMode::Host, _) | (None, _, NetworkMode::Host) => host_name(),
            (None, NamespaceMode::Private, NetworkMode::Container(owner)) => self.find(owner)?.1.hostname,
            _ => id[..12].to_owned(),
        };
        let stop_signal = request.stop_signal.as_deref().or(defaults.stop_signal.as_deref());
        let available = tare_kernel::capability::bounding();
        let capabilities = if request.privileged {
            tare_kernel::capability::bounding()
        } else {
            capability::adjust(capability::DEFAULT, &request.cap_add, &request.cap_drop, available)?
        };
        Ok(Record {
            created_at: time::now(),
            image_id: image.map(|i| i.id),
            image: match &request.source {
                Source::Image(name) => name.clone(),
                Source::Rootfs(path) => path.display().to_string(),
            },
            layers: image.map(Image::diff_ids).unwrap_or_default(),
            args: arguments(request, &defaults),
            env: environment(request, &defaults, &hostname),
            user: request.user.clone().unwrap_or_else(|| defaults.user.clone()),
            cwd: working_directory(request, &defaults)?,
            stop_signal: stop_signal.map_or(Ok(15), crate::signal::parse)?,
            mounts: mounts(request, &defaults)?,
            leases: Vec::new(),
            first_version_address: None,
            capabilities: capabilities.0,
            ids: None,
            request: request.clone(),
            defaults,
            hostname,
            id,
        })
    }

    /// Refuses contradictions, and turns names of other containers into ids: a name may be another one's later.
    fn check_modes(&self, record: &mut Record) -> Result<()> {
        let r = &mut record.request;
        if record.args.is_empty() {
            return Err(Error::new(Kind::Invalid, "create container", &record.image)
                .because("no command is given, and the image has neither ENTRYPOINT nor CMD")
                .hint("name a command after the image"));
        }
        if matches!(r.network, NetworkMode::Container(_)) && r.hostname.is_some() {
            return Err(Error::new(Kind::Invalid, "set host name", "")
                .because("it belongs to the container whose network is shared"));
        }
        for mode in [&mut r.pid, &mut r.ipc, &mut r.uts, &mut r.cgroupns] {
            if let NamespaceMode::Container(name) = mode {
                *name = self.store.container(name)?.id;
            }
        }
        if let NetworkMode::Container(name) = &mut r.network {
            *name = self.store.container(name)?.id;
        }
        Ok(())
    }

    /// Makes the volumes that are missing, and notes each one's directory.
    fn make_volumes<'a>(&'a self, record: &mut Record, dirs: &Dirs, undo: &mut Undo<'a>) -> Result<Vec<String>> {
        let mut names: Vec<String> = Vec::new();
        let mut anonymous: Vec<String> = Vec::new();
        for mount in &mut record.mounts {
            match &mount.request.kind {
                MountKind::Volume { name, subpath, .. } => {
                    mount.anonymous = name.is_none();
                    let chosen = match name {
                        Some(name) => name.clone(),
                        None => Store::volume_name()?,
                    };
                    if mount.anonymous {
                        // Nobody knows them by name: who clears up after a killed maker finds them here.
                        anonymous.push(chosen.clone());
                        write_json(&dirs.run, ANONYMOUS_VOLUMES, &anonymous, Durable::No)?;
                    }
                    let spec = VolumeSpec { name: Some(chosen), anonymous: mount.anonymous, ..Default::default() };
                    let (row, made) = self.store.volume_create(&spec)?;
                    if made {
                        let name = row.name.clone();
                        undo.push("make volume", move || self.store.volume_remove(&name));
                    }
                    mount.source = Some(volume_path(&row.path, subpath.as_deref())?);
                    mount.volume = Some(row.name.clone());
                    if !names.contains(&row.name) {
                        names.push(row.name);
                    }
                }
                MountKind::Bind { source, create, .. } => {
                    bind_source(source, *create)?;
                    mount.source = Some(source.clone());
                }
                MountKind::Tmpfs { .. } => {}
            }
        }
        Ok(names)
    }

    /// The container's own upper and work directories. The upper one's attributes are those of the container's `/`.
    fn make_upper(&self, dirs: &Dirs, record: &Record) -> Result<()> {
        let make = |name: &str| {
            let path = dirs.state.join(name);
            std::fs::create_dir(&path).during("make", path.display()).map(|()| path)
        };
        let upper = make("upper")?;
        make("work")?;
        let (mode, uid, gid) = match record.layers.last() {
            Some(top) => self.store.unmounted(top)?.root_owner()?,
            None => (0o755, 0, 0),
        };
        std::fs::set_permissions(&upper, std::fs::Permissions::from_mode(mode))
            .during("set mode of", upper.display())?;
        let owner = record.ids.as_ref().map_or(Some((uid, gid)), |ids| ids.to_host(uid, gid));
        let (uid, gid) = owner.ok_or_else(|| {
            Error::new(Kind::Invalid, "make", upper.display())
                .because(format!("the image's / belongs to {uid}:{gid}, which the container's user namespace lacks"))
        })?;
        if (uid, gid) != (0, 0) {
            std::os::unix::fs::chown(&upper, Some(uid), Some(gid)).during("set owner of", upper.display())?;
        }
        Ok(())
    }
}

impl Record {
    pub(crate) fn name(&self) -> &str {
        self.request.name.as_deref().unwrap_or_default()
    }

    /// The request, with what the image says where it says nothing.
    fn completed(&self) -> RunRequest {
        let (image, mut r) = (&self.defaults, self.request.clone());
        r.labels = image.labels.clone().into_iter().chain(r.labels).collect();
        r.expose.extend(image.exposed_ports.keys().filter(|p| !self.request.expose.contains(p)).cloned());
        r.expose.sort();
        if r.entrypoint.is_none() {
            if r.command.is_empty() {
                r.command = image.cmd.clone().unwrap_or_default();
            }
            r.entrypoint.clone_from(&image.entrypoint);
        }
        let given = |text: &String| Some(text.clone()).filter(|t| !t.is_empty());
        r.user = r.user.or_else(|| given(&image.user));
        r.workdir = r.workdir.or_else(|| given(&image.working_dir));
        r.stop_signal = r.stop_signal.or_else(|| image.stop_signal.clone());
        r
    }

    /// The container as it is told to callers, before it ever ran.
    pub(crate) fn view(&self, engine: &Engine, name: &str) -> Container {
        let dirs = engine.dirs(&self.id);
        let from_image = matches!(self.request.source, Source::Image(_));
        let lowers = engine.store.lowers_of(&self.layers).unwrap_or_default();
        Container {
            id: self.id.clone(),
            name: name.to_owned(),
            created_at: self.created_at.clone(),
            image_id: self.image_id,
            image: self.image.clone(),
            request: self.completed(),
            args: self.args.clone(),
            env: self.env.clone(),
            state: State::Created,
            pid: None,
            supervisor_pid: None,
            started_at: None,
            exit: None,
            networks: Vec::new(),
            enter_network: None,
            ports: Vec::new(),
            mounts: self.mounts.iter().map(Mounted::view).collect(),
            lowers: lowers.iter().map(|p| p.path.display().to_string()).collect(),
            upper: from_image.then(|| dirs.state.join("upper").display().to_string()),
            log_path: dirs.log().display().to_string(),
            cgroup: engine.cgroup_path(&self.id),
            capabilities: capability::names(tare_kernel::capability::Set(self.capabilities)),
            warnings: Vec::new(),
        }
    }
}

fn check_platform(name: &str, config: &ImageConfig) -> Result<()> {
    let (image, host) = (config.platform(), Platform::host());
    // An image that says nothing is taken at its word: nothing.
    if image.architecture.is_empty() || image.runs_on(&host) {
        return Ok(());
    }
    Err(Error::new(Kind::Unsupported, "run image", name)
        .because(format!("it is for {image}, and this host is {host}"))
        .hint(format!("pull the image for this platform: tare pull --platform {host} {name}")))
}

fn arguments(request: &RunRequest, defaults: &RunConfig) -> Vec<String> {
    let command = |kept: bool| match (&request.command[..], &defaults.cmd) {
        ([], Some(cmd)) if kept => cmd.clone(),
        (given, _) => given.to_vec(),
    };
    match (&request.entrypoint, &defaults.entrypoint) {
        // A new entrypoint drops the image's CMD: it was written for the old one.
        (Some(entry), _) => [entry.clone(), command(false)].concat(),
        (None, Some(entry)) => [entry.clone(), command(true)].concat(),
        (None, None) => command(true),
    }
}

fn environment(request: &RunRequest, defaults: &RunConfig, hostname: &str) -> Vec<String> {
    let mut env: Vec<String> = Vec::new();
    let mut set = |entry: &str| set_variable(&mut env, entry);
    set(DEFAULT_PATH);
    set(&format!("HOSTNAME={hostname}"));
    if request.tty {
        set("TERM=xterm");
    }
    defaults.env.iter().chain(&request.env).for_each(|e| set(e));
    env
}

/// Sets `NAME=value`, or removes a bare `NAME`.
pub(crate) fn set_variable(env: &mut Vec<String>, entry: &str) {
    let key = entry.split('=').next().unwrap_or_default();
    let same = |e: &String| e.split('=').next() == Some(key);
    match (entry.contains('='), env.iter().position(same)) {
        (true, Some(i)) => entry.clone_into(&mut env[i]),
        (true, None) => env.push(entry.to_owned()),
        (false, Some(i)) => drop(env.remove(i)),
        (false, None) => {}
    }
}

fn working_directory(request: &RunRequest, defaults: &RunConfig) -> Result<String> {
    let dir = request.workdir.as_deref().unwrap_or(&defaults.working_dir);
    let dir = if dir.is_empty() { "/" } else { dir };
    if !dir.starts_with('/') {
        return Err(Error::new(Kind::Invalid, "set working directory", format!("{dir:?}"))
            .because("it is not an absolute path"));
    }
    Ok(dir.to_owned())
}

/// The mounts asked for, and a volume for each of the image's VOLUMEs that is not covered.
fn mounts(request: &RunRequest, defaults: &RunConfig) -> Result<Vec<Mounted>> {
    let mut out: Vec<Mounted> = Vec::new();
    let plain = |m: &MountRequest| Mounted { request: m.clone(), volume: None, anonymous: false, source: None };
    for m in &request.mounts {
        let m = MountRequest { target: clean(&m.target)?, ..m.clone() };
        if out.iter().any(|o| o.request.target == m.target) {
            return Err(Error::new(Kind::Invalid, "mount", &m.target).because("the path is mounted on twice"));
        }
        out.push(plain(&m));
    }
    for target in defaults.volumes.keys() {
        let target = clean(target)?;
        if Path::new(&target).starts_with("/proc") {
            return Err(Error::new(Kind::Denied, "mount", &target)
                .because("the image declares a volume there, where only the kernel's own files may be")
                .hint("use another image: this one means no good, or was built by mistake"));
        }
        if !out.iter().any(|o| o.request.target == target) {
            let kind = MountKind::Volume { name: None, copy_up: true, subpath: None };
            out.push(plain(&MountRequest { kind, target, read_only: false }));
        }
    }
    // What lies deeper is mounted later, whatever the order in which it was named.
    out.sort_by_key(|m| m.request.target.split('/').count());
    Ok(out)
}

/// An absolute path without `.`, `..` and doubled slashes; never the root itself.
fn clean(path: &str) -> Result<String> {
    let bad = |why: &str| Err(Error::new(Kind::Invalid, "mount", format!("{path:?}")).because(why));
    if !path.starts_with('/') {
        return bad("the path inside the container is not absolute");
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            p => parts.push(p),
        }
    }
    if parts.is_empty() {
        return bad("the container's root directory cannot be mounted on");
    }
    Ok(format!("/{}", parts.join("/")))
}

fn bind_source(source: &Path, create: bool) -> Result<()> {
    match std::fs::symlink_metadata(source) {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && create => {
            std::fs::create_dir_all(source).during("make bind source", source.display())
        }
        Err(e) => {
            let missing = e.kind() == std::io::ErrorKind::NotFound;
            let error = Error::io("bind", source.display(), e);
            Err(if missing {
                error
                    .because("no such file or directory on the host")
                    .hint(format!("to have it made: --mount type=bind,src={},dst=TARGET,create", source.display()))
            } else {
                error
            })
        }
    }
}

fn volume_path(data: &Path, subpath: Option<&str>) -> Result<PathBuf> {
    let Some(sub) = subpath else { return Ok(data.to_owned()) };
    // A first look, for an early word; it is resolved beneath the volume again when it is mounted.
    let bad = || Error::new(Kind::Invalid, "use volume path", format!("{sub:?}")).because("it leaves the volume");
    if sub.starts_with('/') || sub.split('/').any(|p| p == "..") {
        return Err(bad());
    }
    let path = data.join(sub);
    let real = path.canonicalize().during("open", path.display())?;
    if real.starts_with(data.canonicalize().during("open", data.display())?) { Ok(real) } else { Err(bad()) }
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|s| (*s).to_owned()).collect()
    }

    #[test]
    fn command_and_entrypoint_combine_as_in_docker() {
        let image = RunConfig { entrypoint: Some(strings(&["/e"])), cmd: Some(strings(&["c"])), ..Default::default() };
        let with = |entry: Option<&[&str]>, cmd: &[&str]| {
            let request = RunRequest { entrypoint: entry.map(strings), command: strings(cmd), ..Default::default() };
            arguments(&request, &image)
        };
        assert_eq!(with(None, &[]), ["/e", "c"]);
        assert_eq!(with(None, &["x"]), ["/e", "x"]);
        assert_eq!(with(Some(&["/n"]), &[]), ["/n"]);
        assert_eq!(with(Some(&[]), &["x"]), ["x"]);
    }

    #[test]
    fn later_variables_win_and_bare_names_remove() {
        let image = RunConfig { env: strings(&["A=1", "PATH=/x"]), ..Default::default() };
        let request = RunRequest { env: strings(&["A=2", "B=", "HOSTNAME"]), tty: true, ..Default::default() };
        assert_eq!(environment(&request, &image, "h"), ["PATH=/x", "TERM=xterm", "A=2", "B="]);
    }

    #[test]
    fn mount_targets_are_cleaned() {
        assert_eq!(clean("/a//b/../c/").unwrap(), "/a/c");
        assert!(clean("/../..").is_err());
        assert!(clean("a").is_err());
    }
}
