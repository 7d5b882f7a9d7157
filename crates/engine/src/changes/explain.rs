//! What a commit would put into an image, before it does.

use super::secrets;
use crate::Engine;
use crate::record::Record;
use crate::rootfs::INIT_PATHS;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use serde::Serialize;
use std::fs::File;
use tare_model::{Context, Result};
use tare_store::layer::{self, ChangeKind, Excluded, Lowers};

/// What [`Engine::explain_commit`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Explanation {
    /// What would enter the layer, sorted by path.
    pub entries: Vec<Entering>,
    /// Bytes of the files among it, not compressed.
    pub bytes: u64,
    /// What does not, although the container has it.
    pub left_out: Vec<LeftOut>,
    /// What looks as if it should not be given away.
    pub secrets: Vec<Secret>,
}

/// One path that would enter the layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Entering {
    /// Absolute, as the container sees it.
    pub path: String,
    /// `A` added, `C` changed, `D` deleted.
    pub kind: char,
    /// Bytes of a file; 0 for everything else.
    pub size: u64,
}

/// One thing that stays out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct LeftOut {
    /// Absolute, as the container sees it.
    pub path: String,
    /// Why.
    pub why: String,
}

/// One likely secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Secret {
    /// The path; `Env NAME` for a variable of the image's configuration.
    pub place: String,
    /// What it seems to be.
    pub what: String,
}

impl Engine {
    /// What `commit` of this container with these instructions would put into an image. Makes nothing.
    ///
    /// # Errors
    /// As [`Engine::diff`]; `Kind::Invalid` for malformed instructions.
    pub fn explain_commit(&self, name: &str, changes: &[String]) -> Result<Explanation> {
        let (_, record) = self.find(name)?;
        let stack = self.stack(&record, "explain commit of")?;
        let lowers = Lowers::new(stack.lowers.iter().map(AsFd::as_fd));
        let found = layer::changes(stack.upper.as_fd(), &lowers, &Excluded::new(INIT_PATHS)?)
            .during("explain commit of", name)?;
        let mut explained = Explanation { left_out: left_out(&record, stack.upper.as_fd()), ..Explanation::default() };
        for change in found {
            let path = format!("/{}", String::from_utf8_lossy(&change.path));
            let mut size = 0;
            if change.kind != ChangeKind::Deleted
                && let Some((file, length)) = regular(stack.upper.as_fd(), &change.path)
            {
                size = length;
                explained
                    .secrets
                    .extend(secrets::in_file(&path, &file).map(|what| Secret { place: path.clone(), what }));
            }
            explained.bytes += size;
            explained.entries.push(Entering { path, kind: super::letter(change.kind), size });
        }
        let mut run = super::run_config(&record);
        crate::apply_changes(&mut run, changes)?;
        let variables = run.env;
        explained.secrets.extend(variables.iter().filter_map(|variable| {
            let (name, what) = secrets::in_variable(variable)?;
            Some(Secret { place: format!("Env {name}"), what })
        }));
        Ok(explained)
    }
}

/// A file of the upper directory; `None` if it is none, or has gone meanwhile.
fn regular(upper: BorrowedFd<'_>, path: &[u8]) -> Option<(File, u64)> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let node = rustix::fs::openat2(
        upper,
        path,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
    )
    .ok()?;
    let stat = rustix::fs::fstat(&node).ok()?;
    // Never opened before it is known to be a file: opening a device does something.
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return None;
    }
    let file =
        rustix::fs::openat2(upper, path, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)
            .ok()?;
    Some((File::from(file), u64::try_from(stat.st_size).unwrap_or(0)))
}

fn left_out(record: &Record, upper: BorrowedFd<'_>) -> Vec<LeftOut> {
    let written = |path: &&&str| rustix::fs::statat(upper, **path, AtFlags::SYMLINK_NOFOLLOW).is_ok();
    let init = INIT_PATHS.iter().filter(written).map(|path| LeftOut {
        path: format!("/{path}"),
        why: "made for this container by the init layer, or mounted over".to_owned(),
    });
    let always = ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"].map(|path| LeftOut {
        path: path.to_owned(),
        why: "this container's own, written by tare at each start".to_owned(),
    });
    let mounts = record.mounts.iter().map(|m| LeftOut {
        path: m.request.target.clone(),
        why: "mounted: volumes, binds and tmpfs are no part of the container's files".to_owned(),
    });
    let mut all: Vec<LeftOut> = always.into_iter().chain(init).chain(mounts).collect();
    all.sort_by(|a, b| a.path.cmp(&b.path));
    all.dedup_by(|a, b| a.path == b.path);
    all
}
