//! `linux.cgroupsPath`, and the place in each hierarchy.

use crate::lifecycle::nothing_is_left;
use tare_tests::oci::{Case, case, kernel, layout};

/// The paths of a process in the hierarchies that are mounted here.
fn paths(pid: i32) -> Vec<(String, String)> {
    let layout = layout();
    let all = kernel::cgroups(pid).into_iter();
    all.filter(|(name, _)| if name.is_empty() { layout.v2.is_some() } else { layout.v1_of(name).is_some() }).collect()
}

#[track_caller]
fn all_end_with(pid: i32, end: &str) {
    let paths = paths(pid);
    assert!(!paths.is_empty());
    for (hierarchy, path) in paths {
        assert!(path.ends_with(end), "{hierarchy}: {path} does not end with {end}");
    }
}

#[test]
fn an_absolute_path_is_the_place_in_every_hierarchy() {
    case(|c| {
        let pid = c.sleeper();
        all_end_with(pid, c.cgroup());
    });
}

#[test]
fn a_relative_path_is_one_too() {
    case(|c| {
        let path = format!("relative-{}", c.id());
        c.under_cgroupfs(&path);
        let pid = c.sleeper();
        all_end_with(pid, &format!("/{path}"));
        c.ok(&["delete", "--force", c.id()]);
        c.wait(pid);
        nothing_is_left(c);
    });
}

#[test]
fn without_a_path_the_group_is_named_by_the_id() {
    case(|c| {
        c.unset("/linux/cgroupsPath");
        let pid = c.sleeper();
        for (hierarchy, path) in paths(pid) {
            assert!(path.contains(c.id()), "{hierarchy}: {path}");
        }
        c.ok(&["delete", "--force", c.id()]);
        c.wait(pid);
        let directories = layout().directories(&format!("/{}", c.id()));
        assert!(directories.is_empty(), "{directories:?}");
    });
}

#[test]
fn a_path_does_not_lead_out_of_the_hierarchy() {
    case(|c| {
        let inside = c.cgroup().to_owned();
        c.under_cgroupfs(&format!("/../../..{inside}/../x"));
        let out = c.try_create(&[]);
        if out.code == 0 {
            let pid: i32 = std::fs::read_to_string(c.path("pid")).unwrap().parse().unwrap();
            let end = format!("{}/x", inside.rsplit_once('/').unwrap().0);
            all_end_with(pid, &end);
            c.ok(&["delete", "--force", c.id()]);
            c.wait(pid);
        }
        let up = layout().v1.iter().map(|(_, at)| at.clone()).chain(layout().v2).find_map(|at| {
            let outside = at.parent()?.join(inside.trim_start_matches('/'));
            outside.exists().then_some(outside)
        });
        assert_eq!(up, None);
    });
}

#[test]
fn the_first_process_is_in_its_groups_before_start() {
    case(|c| {
        let pid = c.args(&["/bin/sleep", "1000"]).create();
        all_end_with(pid, c.cgroup());
    });
}

#[test]
fn children_are_in_the_containers_groups() {
    case(|c| {
        let pid = c.up("sleep 1000 & wait");
        c.until("there is a child", || !kernel::descendants(pid).is_empty());
        let child = kernel::descendants(pid)[0];
        assert_eq!(kernel::cgroups(child), kernel::cgroups(pid));
    });
}

#[test]
fn a_group_where_others_live_is_refused() {
    case(|c| {
        c.sleeper();
        let other = format!("{}-other", c.id());
        c.note(other.clone());
        let out = c.oci(&["create", "--bundle", &c.bundle(), &other]);
        assert!(out.code == 1 && out.stderr.contains("not empty"), "{out:?}");
        assert_eq!(c.state()["status"], "running");
        assert_eq!(c.oci(&["state", &other]).code, 1);
    });
}

#[test]
fn an_empty_group_that_exists_is_taken() {
    case(|c| {
        let cgroup = c.cgroup().trim_start_matches('/').to_owned();
        let layout = layout();
        for at in layout.v1.iter().map(|(_, at)| at).chain(&layout.v2) {
            std::fs::create_dir_all(at.join(&cgroup)).unwrap();
        }
        let pid = c.sleeper();
        all_end_with(pid, c.cgroup());
    });
}

/// A container with a cgroup namespace of its own.
fn with_view(c: &mut Case) -> i32 {
    c.unshare("cgroup").sleeper()
}

#[test]
fn a_view_of_its_own_begins_at_the_containers_group() {
    case(|c| {
        let pid = with_view(c);
        let inside = c.exec_sh("cat /proc/1/cgroup");
        let layout = layout();
        for line in inside.lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (names, path) = (parts.next().unwrap(), parts.next().unwrap());
            let name = names.split(',').next().unwrap();
            let mounted = if name.is_empty() { layout.v2.is_some() } else { layout.v1_of(name).is_some() };
            assert!(!mounted || path == "/", "{line}");
        }
        all_end_with(pid, c.cgroup());
        assert_ne!(kernel::namespace(pid, "cgroup"), kernel::namespace(std::process::id().cast_signed(), "cgroup"));
    });
}

#[test]
fn without_a_view_of_its_own_the_hosts_paths_are_seen() {
    case(|c| {
        let pid = c.sleeper();
        assert_eq!(c.exec_sh("cat /proc/1/cgroup"), kernel::proc(pid, "cgroup"));
    });
}
