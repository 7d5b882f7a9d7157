//! Mounts that are made before the clone, with the rights and in the mount namespace of the caller.

use super::filesystem::{check_label, clone_tree, new_filesystem};
use super::idmap::map_ids;
use crate::plan::{Bind, MountPlan, Source};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::CWD;
use tare_kernel::mount::{Attributes, PRIVATE};
use tare_model::{Context, Error, Kind, Result};

/// The detached mount of a step, where the host has to make it: binds, and filesystems with mapped ids.
///
/// # Errors
/// If the source is missing or cannot be opened; `Kind::Unsupported` for labels and maps that cannot be had.
pub(super) fn prepare_mount(plan: &MountPlan) -> Result<Option<OwnedFd>> {
    let tree = match &plan.source {
        Source::Bind(bind) => open_bind(plan, bind)?,
        Source::Filesystem { kind, name, options } => {
            check_label(&plan.target, options)?;
            if plan.id_map.is_none() {
                return Ok(None);
            }
            new_filesystem(kind, name, options, plan.set)?
        }
        _ => return Ok(None),
    };
    if let Some(map) = &plan.id_map {
        map_ids(&tree, map, &plan.target)?;
    }
    Ok(Some(tree))
}

fn open_bind(plan: &MountPlan, bind: &Bind) -> Result<OwnedFd> {
    let path = bind
        .path
        .to_str()
        .ok_or_else(|| Error::new(Kind::Invalid, "bind", bind.path.display()).because("the path is not valid UTF-8"))?;
    let tree = clone_tree(CWD, path, bind.recursive).map_err(|e| Error::io("bind", path, e))?;
    dress(&tree, plan).during("bind", path)?;
    Ok(tree)
}

/// Gives a copied mount its attributes and its propagation.
pub(super) fn dress(tree: &OwnedFd, plan: &MountPlan) -> std::io::Result<()> {
    let set = |attributes, recursive| tare_kernel::mount::set_attributes(tree.as_fd(), c"", attributes, recursive);
    if plan.set != 0 || plan.clear != 0 {
        // Only the mount itself, unless more was asked for: a recursive change may fail on locked mounts.
        set(plan.attributes(), false)?;
    }
    if plan.below != (0, 0) {
        set(Attributes { set: plan.below.0, clear: plan.below.1, propagation: 0 }, true)?;
    }
    // A copy of a shared mount is shared with it: cut, unless asked for.
    if plan.propagation.is_empty() {
        set(Attributes { propagation: PRIVATE, ..Default::default() }, true)?;
    }
    for (propagation, recursive) in &plan.propagation {
        set(Attributes { propagation: *propagation, ..Default::default() }, *recursive)?;
    }
    Ok(())
}

/// The root filesystem as a detached mount of its own, with what is mounted below it. It is cut off from the host's
/// mount events, so that what is mounted in it never shows outside, whatever its propagation becomes later.
///
/// # Errors
/// As open_tree(2); `Kind::Invalid` if it is no directory.
pub fn open_root(path: &std::path::Path) -> Result<OwnedFd> {
    let shown = path.display();
    let text = path.to_str().ok_or_else(|| {
        Error::new(Kind::Invalid, "open root filesystem", &shown).because("the path is not valid UTF-8")
    })?;
    let tree = clone_tree(CWD, text, true).map_err(|e| Error::io("open root filesystem", &shown, e))?;
    let stat = rustix::fs::fstat(&tree).map_err(|e| Error::io("open root filesystem", &shown, e))?;
    if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::Directory {
        return Err(Error::new(Kind::Invalid, "open root filesystem", &shown).because("it is not a directory"));
    }
    let attributes = Attributes { propagation: PRIVATE, ..Default::default() };
    tare_kernel::mount::set_attributes(tree.as_fd(), c"", attributes, true).during("open root filesystem", shown)?;
    Ok(tree)
}
