//! What a container has changed: `diff`, and `commit`, which makes an image of it.
//!
//! Both read the container's upper directory against the layers below, never the mounted root, so nothing that is
//! mounted inside (volumes, binds, /proc, the files of /etc) can get into them.

mod explain;
mod secrets;

pub use explain::{Entering, Explanation, LeftOut, Secret};

use crate::create::set_variable;
use crate::layers::Mounting;
use crate::record::Record;
use crate::request::{CommitRequest, MountKind, Source};
use crate::rootfs::INIT_PATHS;
use crate::view::{Change, State};
use crate::{Engine, apply_changes, userns};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use std::path::Path;
use tare_model::image::{Empty, History, RunConfig};
use tare_model::{Context, Error, Kind, Result};
use tare_runtime::cgroup::Group;
use tare_store::layer::{self, ChangeKind, DiffOptions, Excluded, Lowers};
use tare_store::{ContainerRow, Image, ImageLayer, Lease};

impl Engine {
    /// What a container has changed against its image, sorted by path.
    ///
    /// # Errors
    /// `Kind::Unsupported` for a container of a directory instead of an image.
    pub fn diff(&self, name: &str) -> Result<Vec<Change>> {
        let (_, record) = self.find(name)?;
        let stack = self.stack(&record, "compare container")?;
        let lowers = Lowers::new(stack.lowers.iter().map(AsFd::as_fd));
        let found = layer::changes(stack.upper.as_fd(), &lowers, &Excluded::new(INIT_PATHS)?)
            .during("compare container", name)?;
        let change = |c: layer::PathChange| Change {
            path: format!("/{}", String::from_utf8_lossy(&c.path)),
            kind: letter(c.kind),
        };
        Ok(found.into_iter().map(change).collect())
    }

    /// Makes an image of a container: its image's layers and one more with its changes. Durable.
    ///
    /// # Errors
    /// `Kind::NotFound` if its image was removed meanwhile; `Kind::Invalid` for malformed changes.
    pub fn commit(&self, name: &str, request: &CommitRequest) -> Result<Image> {
        let (row, record) = self.find(name)?;
        let mut run = run_config(&record);
        apply_changes(&mut run, &request.changes)?;
        self.store.leased(|lease| self.commit_under(lease, &row, &record, run, request))
    }

    fn commit_under(
        &self,
        lease: &Lease,
        row: &ContainerRow,
        record: &Record,
        run: RunConfig,
        request: &CommitRequest,
    ) -> Result<Image> {
        lease.hold(&record.layers)?;
        let base = self.base(record)?;
        let layer = {
            let view = self.observe(row)?;
            let _frozen = match view.state {
                State::Running if request.pause => Some(Frozen::new(self.group(&view.cgroup)?)?),
                _ => None,
            };
            let made = self.changed_layer(lease, record, request.epoch).or_else(|e| {
                // It was removed meanwhile.
                self.store.container(&row.id)?;
                Err(e)
            });
            made.during("commit container", record.name())?
        };
        let mut config = base.config.clone();
        let now = request.epoch.map_or_else(crate::time::now, |seconds| crate::time::rfc3339(seconds, 0));
        config.created = Some(now.clone());
        config.author.clone_from(&request.author);
        config.history.push(History {
            created: Some(now),
            created_by: Some(record.args.join(" ")),
            author: request.author.clone(),
            comment: request.message.clone(),
            empty_layer: layer.is_none(),
        });
        config.config = run;
        self.store.image_from_layer(lease, Some(&base), layer, config, request.reference.as_slice())
    }

    fn base(&self, record: &Record) -> Result<Image> {
        let gone = |e: Error| match e.kind() {
            Kind::NotFound => Error::new(Kind::NotFound, "commit container", record.name())
                .because(format!("its image {} was removed meanwhile", record.image))
                .hint(format!(
                    "tare export {} | tare import - NAME keeps its files, without their history",
                    record.name()
                )),
            _ => e,
        };
        let id = record.image_id.ok_or_else(|| no_image(record, "commit container"))?;
        self.store.image(&id.to_string()).map_err(gone)
    }

    /// The changes as a layer in the store, held by the lease; `None` if there are none.
    fn changed_layer(&self, lease: &Lease, record: &Record, clamp_mtime: Option<i64>) -> Result<Option<ImageLayer>> {
        let stack = self.stack(record, "commit container")?;
        let lowers = Lowers::new(stack.lowers.iter().map(AsFd::as_fd));
        let excluded = Excluded::new(INIT_PATHS)?;
        let options = DiffOptions { excluded: &excluded, clamp_mtime };
        let (_, made) = lease.make_layer(|out| layer::diff(stack.upper.as_fd(), &lowers, &options, out))?;
        // Without entries there is nothing to publish: the draft goes with the lease.
        (made.entries() > 0).then(|| made.publish().map(|new| new.layer)).transpose()
    }

    fn stack(&self, record: &Record, operation: &'static str) -> Result<Stack> {
        if matches!(record.request.source, Source::Rootfs(_)) {
            return Err(no_image(record, operation));
        }
        let open = |path: &Path| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::open(path, flags, Mode::empty()).map_err(|e| Error::io("open", path.display(), e))
        };
        let lowers = self.lowers(record, Mounting::ForOne)?;
        Ok(Stack {
            upper: match &record.ids {
                Some(ids) => userns::unmapped(&self.dirs(&record.id).upper(), ids)?,
                None => open(&self.dirs(&record.id).upper())?,
            },
            lowers: lowers.iter().map(|l| open(&l.path)).collect::<Result<_>>()?,
        })
    }
}

/// The directories of a container's overlay, open.
struct Stack {
    upper: OwnedFd,
    /// Top first.
    lowers: Vec<OwnedFd>,
}

/// Thaws when it goes, whatever happens in between.
struct Frozen(Group);

impl Frozen {
    fn new(group: Group) -> Result<Frozen> {
        group.freeze()?;
        Ok(Frozen(group))
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // It may have been killed meanwhile.
        let _ = self.0.thaw();
    }
}

/// docker's letter for it.
pub(crate) fn letter(kind: ChangeKind) -> char {
    match kind {
        ChangeKind::Added => 'A',
        ChangeKind::Modified => 'C',
        ChangeKind::Deleted => 'D',
    }
}

fn no_image(record: &Record, operation: &'static str) -> Error {
    Error::new(Kind::Unsupported, operation, record.name())
        .because("it runs in a directory of the host, given by --rootfs: there is no image to compare with")
        .hint("tar c -C DIRECTORY . | tare import - NAME")
}

/// The container's own defaults: its image's, and over them what it was made with.
fn run_config(record: &Record) -> RunConfig {
    let r = &record.request;
    let mut config = record.defaults.clone();
    r.env.iter().for_each(|e| set_variable(&mut config.env, e));
    // A new entrypoint drops the image's CMD: it was written for the old one.
    if let Some(entrypoint) = &r.entrypoint {
        config.entrypoint = Some(entrypoint.clone()).filter(|e| !e.is_empty());
        config.cmd = None;
    }
    if !r.command.is_empty() {
        config.cmd = Some(r.command.clone());
    }
    if let Some(user) = &r.user {
        config.user.clone_from(user);
    }
    if let Some(dir) = &r.workdir {
        config.working_dir.clone_from(dir);
    }
    if let Some(signal) = &r.stop_signal {
        config.stop_signal = Some(signal.clone());
    }
    config.labels.extend(r.labels.clone());
    let published = r.ports.iter().map(|p| format!("{}/{}", p.container_port, p.transport));
    config.exposed_ports.extend(r.expose.iter().cloned().chain(published).map(|p| (p, Empty {})));
    let anonymous = r.mounts.iter().filter(|m| matches!(m.kind, MountKind::Volume { name: None, .. }));
    config.volumes.extend(anonymous.map(|m| (m.target.clone(), Empty {})));
    config
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{MountRequest, RunRequest};

    fn record(request: RunRequest, defaults: RunConfig) -> Record {
        Record {
            id: String::new(),
            created_at: String::new(),
            image_id: None,
            image: String::new(),
            request,
            defaults,
            layers: Vec::new(),
            args: Vec::new(),
            env: Vec::new(),
            user: String::new(),
            cwd: String::new(),
            hostname: String::new(),
            stop_signal: 15,
            mounts: Vec::new(),
            leases: Vec::new(),
            first_version_address: None,
            capabilities: 0,
            ids: None,
        }
    }

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|s| (*s).to_owned()).collect()
    }

    #[test]
    fn what_the_container_was_made_with_lies_over_its_image() {
        let image = RunConfig {
            cmd: Some(strings(&["c"])),
            entrypoint: Some(strings(&["/e"])),
            env: strings(&["A=1", "B=1"]),
            user: "web".into(),
            ..RunConfig::default()
        };
        let plain = run_config(&record(RunRequest::default(), image.clone()));
        assert_eq!(plain, image);
        let volume = MountKind::Volume { name: None, copy_up: true, subpath: None };
        let request = RunRequest {
            entrypoint: Some(vec![]),
            env: strings(&["A=2", "B", "C=3"]),
            command: strings(&["x", "y"]),
            workdir: Some("/w".into()),
            mounts: vec![MountRequest { kind: volume, target: "/data".into(), read_only: false }],
            expose: strings(&["80/tcp"]),
            ..RunRequest::default()
        };
        let over = run_config(&record(request, image));
        assert_eq!((over.entrypoint, over.cmd), (None, Some(strings(&["x", "y"]))));
        assert_eq!((over.env, over.user.as_str()), (strings(&["A=2", "C=3"]), "web"));
        assert!(over.volumes.contains_key("/data") && over.exposed_ports.contains_key("80/tcp"));
    }
}
