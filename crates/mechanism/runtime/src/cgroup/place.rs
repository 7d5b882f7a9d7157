//! Where the groups of an OCI container are: the meaning of `linux.cgroupsPath`.
//!
//! | `cgroupsPath` | cgroupfs | systemd |
//! |---|---|---|
//! | absent or empty | `ID` below the runtime's own group, in each hierarchy | `system.slice`, `tare-ID.scope` |
//! | relative | below the runtime's own group | `SLICE:PREFIX:NAME`: `PREFIX-NAME.scope` in `SLICE` |
//! | absolute | below what the hierarchy's mount shows | an error |
//!
//! This is what runc does, and callers rely on it. On a host of cgroup2 alone "the runtime's own group" is the one above
//! that, since a group with processes hands no controllers down. `..` never leads above the start.
//!
//! A group that exists is used if nobody is in it and it is not frozen: engines make parents and sometimes the group
//! itself. (runc before 1.2 only warned of processes in it.) The group goes with the container, its parents stay.

use super::convert::Weights;
use super::group::Group;
use super::layout::Layout;
use super::plan::{CgroupPlan, Existing, plan_weighed, relative};
use super::systemd;
use super::unit::UnitName;
use super::update::Applied;
use super::{Parents, oci_rules, remove};
use serde::{Deserialize, Serialize};
use tare_model::runtime_spec::LinuxResources;
use tare_model::{Error, Result};

/// Who makes the groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Manager {
    /// We do.
    Cgroupfs,
    /// systemd makes a transient scope, and we what it leaves out.
    Systemd,
}

/// The groups of one container: what a runtime has to remember of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    layout: Layout,
    path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unit: Option<UnitName>,
}

impl Place {
    /// Decides where the groups of container `id` are. Makes nothing.
    ///
    /// # Errors
    /// Invalid for a path that the manager has no meaning for, or that names no group.
    pub fn decide(layout: Layout, manager: Manager, cgroups_path: Option<&str>, id: &str) -> Result<Place> {
        let given = cgroups_path.filter(|p| !p.is_empty());
        match manager {
            Manager::Systemd => {
                let unit = UnitName::parse(given, id)?;
                Ok(Place { path: unit.group()?, layout, unit: Some(unit) })
            }
            Manager::Cgroupfs => {
                let path = format!("/{}", relative(&cleaned(given.unwrap_or(id)))?);
                let below_own = !given.is_some_and(|p| p.starts_with('/'));
                let layout = if below_own { layout.below_own() } else { layout };
                Ok(Place { path, layout, unit: None })
            }
        }
    }

    /// The hierarchies, with the start of all paths.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The group's path in [`Place::layout`], with a leading slash.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The name of systemd's unit.
    pub fn unit(&self) -> Option<&str> {
        self.unit.as_ref().map(|u| u.name.as_str())
    }

    /// The group's directory in each hierarchy, with the hierarchy's label: what runc calls `cgroup_paths`.
    pub fn directories(&self) -> impl Iterator<Item = (String, std::path::PathBuf)> {
        let path = self.path.trim_matches('/');
        self.layout.hierarchies.iter().map(move |h| (h.label(), h.mount_point.join(h.beneath(path))))
    }

    /// Plans the groups with the limits of a document. To its device rules come those that every container has
    /// ([`oci_rules`]); before the first of its rules all devices are denied.
    ///
    /// # Errors
    /// As [`super::plan`].
    pub fn plan(&self, resources: &LinuxResources) -> Result<CgroupPlan> {
        let mut resources = resources.clone();
        resources.devices.extend(oci_rules());
        let mut plan = plan_weighed(&self.layout, &self.path, &resources, Weights::Oci)?;
        plan.existing = Existing::Join;
        plan.unit = self.unit.as_ref().map(|u| u.plan(&self.layout, &resources)).transpose()?;
        Ok(plan)
    }

    /// Opens the groups.
    ///
    /// # Errors
    /// As [`Group::open`].
    pub fn open(&self) -> Result<Group> {
        let mut group = Group::open(&self.layout, &self.path)?;
        group.weights = Weights::Oci;
        Ok(group)
    }

    /// Changes limits of the running container: the files, and with systemd the unit's properties, once the kernel has
    /// taken all of them. Device rules, where the document has some, replace all that there were, [`oci_rules`] excepted.
    ///
    /// # Errors
    /// As [`Group::update`].
    pub fn update(&self, resources: &LinuxResources) -> Result<Applied> {
        let mut resources = resources.clone();
        if !resources.devices.is_empty() {
            resources.devices.extend(oci_rules());
        }
        let group = self.open()?;
        let applied = group.update(&resources)?;
        let Some(unit) = &self.unit else { return Ok(applied) };
        let resources = group.with_both_of_quota(resources)?;
        systemd::set_properties(&unit.plan(&self.layout, &resources)?)
            .map_err(|e| Error::new(e.kind(), "update", "limits (the files have the new ones already)").caused_by(e))?;
        // What systemd knows less well (parts of percents, a period without a quota) it has written over.
        group.update(&LinuxResources { devices: Vec::new(), ..resources })?;
        Ok(applied)
    }

    /// Removes the groups with all below them, and stops the unit; what is gone already is fine.
    ///
    /// # Errors
    /// InUse when processes are still in it.
    pub fn remove(&self) -> Result<()> {
        let stopped = match &self.unit {
            Some(unit) => systemd::stop(&unit.bare()),
            None => Ok(()),
        };
        remove(&self.layout, &self.path, Parents::Keep)?;
        stopped
    }
}

/// A path without `.`, `..` and empty names, which cannot lead above its start.
fn cleaned(path: &str) -> String {
    let mut names = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    names.join("/")
}

#[cfg(test)]
mod tests {
    use super::super::layout::tests::{v1, v2};
    use super::*;
    use tare_model::Kind;

    fn of(layout: Layout, path: Option<&str>) -> Place {
        Place::decide(layout, Manager::Cgroupfs, path, "id").unwrap()
    }

    #[test]
    fn absolute_paths_start_at_the_top_and_others_at_the_own_group() {
        let memory = |p: &Place| p.layout.with_controller("memory").unwrap().beneath(p.path.trim_matches('/'));
        assert_eq!(memory(&of(v1(), Some("/a/b"))), "a/b");
        assert_eq!(memory(&of(v1(), Some("a/b"))), "user.slice/user-0.slice/a/b");
        assert_eq!(memory(&of(v1(), None)), "user.slice/user-0.slice/id");
        assert_eq!(memory(&of(v1(), Some(""))), "user.slice/user-0.slice/id");
        assert_eq!(memory(&of(v2("memory"), None)), "user.slice/user-0.slice/id", "beside session-2.scope");
        assert_eq!(memory(&of(v1(), Some("../../../x/./y"))), "user.slice/user-0.slice/x/y");
        for bad in ["/", "/a/..", ".."] {
            assert_eq!(
                Place::decide(v1(), Manager::Cgroupfs, Some(bad), "id").unwrap_err().kind(),
                Kind::Invalid,
                "{bad}"
            );
        }
    }

    #[test]
    fn a_place_survives_its_file() {
        let p = Place::decide(v2("pids"), Manager::Systemd, Some("machine.slice:libpod:77"), "id").unwrap();
        assert_eq!((p.path(), p.unit()), ("/machine.slice/libpod-77.scope", Some("libpod-77.scope")));
        let back: Place = serde_json::from_str(&serde_json::to_string(&p).unwrap()).unwrap();
        assert_eq!(back, p);
        let e = Place::decide(v2("pids"), Manager::Systemd, Some("/a/b"), "id").unwrap_err();
        assert!(e.first_hint().unwrap().contains("--systemd-cgroup"));
    }

    #[test]
    fn a_document_without_rules_denies_all_but_the_usual_devices() {
        let p = of(v1(), None).plan(&LinuxResources::default()).unwrap();
        let lines = &p.groups.iter().find(|g| g.mount_point.ends_with("devices")).unwrap().writes;
        assert_eq!(lines[0].value, "a");
        assert!(lines.iter().any(|w| w.file == "devices.allow" && w.value == "c 10:200 rwm"));
        assert_eq!(p.existing, Existing::Join);
    }
}
