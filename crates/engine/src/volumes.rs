//! Volumes: directories that outlive containers.

use crate::view::{Labels, Volume};
use crate::{Engine, time};
use tare_model::{Kind, Result};
use tare_store::{Prune, VolumeRow, VolumeSpec};

impl Engine {
    /// Makes a volume, or finds the present one of that name. Durable.
    ///
    /// # Errors
    /// `Kind::Invalid` for a malformed name.
    pub fn volume_create(&self, name: Option<&str>, labels: Labels) -> Result<Volume> {
        let (row, _) =
            self.store.volume_create(&VolumeSpec { name: name.map(str::to_owned), labels, ..Default::default() })?;
        self.volume_view(row)
    }

    /// All volumes by name.
    ///
    /// # Errors
    /// State that cannot be read.
    pub fn volumes(&self) -> Result<Vec<Volume>> {
        let containers = self.store.containers()?;
        let users = |name: &str| {
            let uses = containers.iter().filter(|c| c.volumes.iter().any(|v| v == name));
            uses.map(|c| c.id.clone()).collect()
        };
        Ok(self.store.volumes()?.into_iter().map(|row| view(users(&row.name), row)).collect())
    }

    /// One volume.
    ///
    /// # Errors
    /// `Kind::NotFound`.
    pub fn volume(&self, name: &str) -> Result<Volume> {
        self.volume_view(self.store.volume(name)?)
    }

    /// Removes a volume and what it holds. Durable. With `force`, one that is not there is no error.
    ///
    /// # Errors
    /// `Kind::NotFound`; `Kind::InUse` naming a container.
    pub fn volume_remove(&self, name: &str, force: bool) -> Result<()> {
        match self.store.volume_remove(name) {
            Err(e) if force && e.kind() == Kind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Removes the anonymous volumes, or with `all` any, that no container uses and for which `wanted` holds; the names of
    /// those that went, and the bytes that they took.
    ///
    /// # Errors
    /// The first failure; what went before stays gone.
    pub fn volume_prune(&self, all: bool, wanted: &dyn Fn(&VolumeRow) -> bool) -> Result<(Vec<String>, u64)> {
        let which = if all { Prune::All } else { Prune::Anonymous };
        let gone = self.store.volume_prune(which, wanted)?;
        let bytes = gone.iter().map(|(_, bytes)| bytes).sum();
        Ok((gone.into_iter().map(|(volume, _)| volume.name).collect(), bytes))
    }

    fn volume_view(&self, row: VolumeRow) -> Result<Volume> {
        let users = self.store.volume_users(&row.name)?;
        Ok(view(users.into_iter().map(|c| c.id).collect(), row))
    }
}

fn view(used_by: Vec<String>, row: VolumeRow) -> Volume {
    let nanos = u32::try_from(row.created.rem_euclid(1_000_000_000)).unwrap_or(0);
    Volume {
        created_at: time::rfc3339(row.created.div_euclid(1_000_000_000), nanos),
        mountpoint: row.path.display().to_string(),
        name: row.name,
        labels: row.labels,
        anonymous: row.anonymous,
        used_by,
    }
}
