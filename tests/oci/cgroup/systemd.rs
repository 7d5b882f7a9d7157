//! The systemd manager: the scope as systemd sees it, and what it must not undo.

use super::Groups;
use crate::lifecycle::failed_with;
use serde_json::json;
use std::collections::BTreeMap;
use tare_tests::oci::{Case, case, kernel};
use tare_tests::{Running, command};

fn systemctl(args: &[&str]) -> String {
    let out = Running::start(command("systemctl").args(args), None).wait();
    assert_eq!(out.code, 0, "systemctl {args:?}: {}", out.stderr);
    out.stdout
}

/// All properties of the case's scope.
fn scope(c: &Case) -> BTreeMap<String, String> {
    let text = systemctl(&["show", "--all", &unit(c)]);
    text.lines().filter_map(|l| l.split_once('=')).fold(BTreeMap::new(), |mut all, (name, value)| {
        // DeviceAllow stands there once for each device.
        let known: &mut String = all.entry(name.to_owned()).or_default();
        known.push_str(value);
        known.push('\n');
        all
    })
}

fn unit(c: &Case) -> String {
    format!("c-{}.scope", c.id())
}

#[track_caller]
fn has(properties: &BTreeMap<String, String>, name: &str, value: &str) {
    assert_eq!(properties.get(name).map(|v| v.trim_end()), Some(value), "{name}");
}

/// Whether the files of memory, cpu and pids are cgroup2's: systemd has other names for the limits there.
fn is_v2() -> bool {
    Groups::of(std::process::id().cast_signed()).is_v2("memory")
}

/// A container with a bit of everything.
fn limited(c: &mut Case) -> Groups {
    c.under_systemd();
    c.set("/linux/resources/memory", json!({ "limit": 64 << 20 }));
    c.set("/linux/resources/cpu", json!({ "shares": 262_144, "quota": 30_000, "period": 100_000, "cpus": "0" }));
    c.set("/linux/resources/pids/limit", 17);
    let rules = json!([
        { "allow": false, "access": "rwm" },
        { "allow": true, "type": "b", "major": 7, "minor": 0, "access": "r" },
        { "allow": true, "type": "c", "major": 180, "access": "rw" },
    ]);
    c.set("/linux/resources/devices", rules);
    for set in ["bounding", "effective", "permitted"] {
        c.set(&format!("/process/capabilities/{set}"), vec!["CAP_MKNOD", "CAP_DAC_OVERRIDE"]);
    }
    Groups::of(c.sleeper())
}

#[track_caller]
fn files_hold(groups: &Groups) {
    groups.expect("memory", ("memory.limit_in_bytes", "67108864"), ("memory.max", "67108864"));
    groups.expect("cpu", ("cpu.shares", "262144"), ("cpu.weight", "10000"));
    groups.expect("cpu", ("cpu.cfs_quota_us", "30000"), ("cpu.max", "30000 100000"));
    groups.expect("cpuset", ("cpuset.cpus", "0"), ("cpuset.cpus", "0"));
    groups.expect("pids", ("pids.max", "17"), ("pids.max", "17"));
}

/// Which of r and w the rules let through for a loop device that need not be there.
pub(super) fn loop_device(c: &Case) -> String {
    c.exec_sh(
        "test -e /tmp/l || mknod /tmp/l b 7 0; head -c 1 /tmp/l 2>&1 >/dev/null | grep -q 'not permitted' || echo r; \
         (: >> /tmp/l) 2>&1 | grep -q 'not permitted' || echo w; echo x > /dev/null || echo null",
    )
}

#[test]
fn the_scope_has_the_limits() {
    case(|c| {
        let groups = limited(c);
        let shown = scope(c);
        has(&shown, "ActiveState", "active");
        has(&shown, "Slice", "tare-oci.slice");
        has(&shown, "ControlGroup", c.cgroup());
        has(&shown, "Delegate", "yes");
        has(&shown, "TasksMax", "17");
        has(&shown, "CPUQuotaPerSecUSec", "300ms");
        has(&shown, "AllowedCPUs", "0");
        has(&shown, "DevicePolicy", "strict");
        let names = if is_v2() {
            [("MemoryMax", "67108864"), ("CPUWeight", "10000")]
        } else {
            [("MemoryLimit", "67108864"), ("CPUShares", "262144")]
        };
        names.iter().for_each(|(name, value)| has(&shown, name, value));
        let devices = &shown["DeviceAllow"];
        for entry in ["/dev/block/7:0 r", "char-180 rw", "/dev/char/1:3 rwm", "char-* m"] {
            assert!(devices.lines().any(|l| l == entry), "no {entry} in {devices}");
        }
        files_hold(&groups);
        assert_eq!(loop_device(c), "r");
    });
}

#[test]
fn a_reload_of_systemd_undoes_nothing() {
    case(|c| {
        let groups = limited(c);
        systemctl(&["daemon-reload"]);
        // It writes the files of a unit again when one of its limits changes.
        c.ok(&["update", "--pids-limit", "19", c.id()]);
        groups.expect("pids", ("pids.max", "19"), ("pids.max", "19"));
        c.ok(&["update", "--pids-limit", "17", c.id()]);
        systemctl(&["daemon-reload"]);
        files_hold(&groups);
        assert_eq!(loop_device(c), "r");
    });
}

#[test]
fn an_update_reaches_the_scope() {
    case(|c| {
        let groups = limited(c);
        let (memory, pids, quota) = ("50331648", "23", "45000");
        c.ok(&["update", "--memory", memory, "--pids-limit", pids, "--cpu-quota", quota, c.id()]);
        let shown = scope(c);
        has(&shown, if is_v2() { "MemoryMax" } else { "MemoryLimit" }, memory);
        has(&shown, "TasksMax", pids);
        has(&shown, "CPUQuotaPerSecUSec", "450ms");
        has(&shown, "AllowedCPUs", "0");
        systemctl(&["daemon-reload"]);
        groups.expect("memory", ("memory.limit_in_bytes", memory), ("memory.max", memory));
        groups.expect("pids", ("pids.max", pids), ("pids.max", pids));
        groups.expect("cpu", ("cpu.cfs_quota_us", quota), ("cpu.max", "45000 100000"));
        assert_eq!(loop_device(c), "r", "the rules stay");
    });
}

#[test]
fn a_quota_alone_is_one_of_the_period_in_force() {
    case(|c| {
        let cpu = json!({ "quota": 20_000, "period": 50_000 });
        let groups = Groups::of(c.under_systemd().set("/linux/resources/cpu", cpu).sleeper());
        has(&scope(c), "CPUQuotaPerSecUSec", "400ms");
        c.ok(&["update", "--cpu-quota", "30500", c.id()]);
        // systemd knows whole percents.
        has(&scope(c), "CPUQuotaPerSecUSec", "610ms");
        has(&scope(c), "CPUQuotaPeriodUSec", "50ms");
        groups.expect("cpu", ("cpu.cfs_quota_us", "30500"), ("cpu.max", "30500 50000"));
        c.ok(&["update", "--cpu-quota", "10111", c.id()]);
        has(&scope(c), "CPUQuotaPerSecUSec", "210ms");
        groups.expect("cpu", ("cpu.cfs_quota_us", "10111"), ("cpu.max", "10111 50000"));
        c.ok(&["update", "--cpu-period", "100000", c.id()]);
        has(&scope(c), "CPUQuotaPerSecUSec", "110ms");
        groups.expect("cpu", ("cpu.cfs_quota_us", "10111"), ("cpu.max", "10111 100000"));
    });
}

#[test]
fn rules_for_devices_are_changed_in_the_scope() {
    case(|c| {
        limited(c);
        let resources = c.path("resources.json");
        let rules = json!([{ "allow": false, "access": "rwm" },
                           { "allow": true, "type": "b", "major": 7, "minor": 0, "access": "w" }]);
        std::fs::write(&resources, json!({ "devices": rules }).to_string()).unwrap();
        c.ok(&["update", "--resources", resources.to_str().unwrap(), c.id()]);
        systemctl(&["daemon-reload"]);
        assert_eq!(loop_device(c), "w");
        let devices = &scope(c)["DeviceAllow"];
        assert!(devices.lines().any(|l| l == "/dev/block/7:0 w"), "{devices}");
        assert!(!devices.contains("7:0 r") && !devices.contains("char-180"), "{devices}");
    });
}

#[test]
fn delete_takes_the_scope_away() {
    case(|c| {
        limited(c);
        let group = Groups::of(c.state()["pid"].as_i64().unwrap().try_into().unwrap()).directory("pids");
        assert!(group.is_dir());
        c.ok(&["delete", "--force", c.id()]);
        assert!(!group.exists());
        assert_eq!(
            systemctl(&["show", "--property=LoadState,ActiveState", "--value", &unit(c)]),
            "not-found\ninactive\n"
        );
    });
}

#[test]
fn the_scope_goes_with_the_last_process() {
    case(|c| {
        let pid = c.under_systemd().up("true");
        assert_eq!(c.wait(pid), 0);
        c.until("the scope is gone", || scope(c)["ActiveState"].trim() == "inactive");
        assert_eq!(c.state()["status"], "stopped");
        c.ok(&["delete", c.id()]);
        // The name is free again.
        c.sleeper();
        has(&scope(c), "ActiveState", "active");
    });
}

#[test]
fn slices_lie_in_one_another() {
    case(|c| {
        let deep = format!("tare-oci-deep.slice:c:{}", c.id());
        c.under_systemd().set("/linux/cgroupsPath", deep);
        let pid = c.sleeper();
        let path = format!("/tare.slice/tare-oci.slice/tare-oci-deep.slice/{}", unit(c));
        has(&scope(c), "ControlGroup", &path);
        let paths = kernel::cgroups(pid);
        for name in ["pids", "memory", ""] {
            assert!(paths.get(name).is_none_or(|p| *p == path || (p == "/" && name.is_empty())), "{name}: {paths:?}");
        }
    });
}

#[test]
fn without_a_path_the_scope_is_named_by_the_id() {
    case(|c| {
        c.under_systemd().unset("/linux/cgroupsPath");
        let pid = c.sleeper();
        let paths = kernel::cgroups(pid);
        let own = paths.get("pids").or(paths.get("")).unwrap();
        assert!(own.starts_with("/system.slice/") && own.ends_with(&format!("-{}.scope", c.id())), "{own}");
    });
}

#[test]
fn a_scope_that_is_there_already_is_refused() {
    case(|c| {
        c.under_systemd();
        let pid = c.sleeper();
        for path in [c.cgroups_path(), format!("tare-other.slice:c:{}", c.id())] {
            let other = format!("{}-other", c.id());
            c.set("/linux/cgroupsPath", path).write();
            c.note(other.clone());
            let out = c.oci(&["create", "--bundle", &c.bundle(), &other]);
            assert!(out.code == 1 && out.stderr.contains(&unit(c)), "{out:?}");
            assert!(out.stderr.contains("already"), "{out:?}");
            failed_with(&c.oci(&["state", &other]), 1, "does not exist");
        }
        assert_eq!(c.state()["status"], "running");
        assert_eq!(i64::from(pid), c.state()["pid"]);
        has(&scope(c), "ActiveState", "active");
    });
}

#[test]
fn names_that_are_none_of_a_slice_are_refused() {
    case(|c| {
        c.under_systemd();
        for slice in ["tare--x.slice", "-tare.slice", "tare", "a/b.slice"] {
            let said = c.set("/linux/cgroupsPath", format!("{slice}:c:{}", c.id())).refused();
            assert!(said.contains(slice), "{slice}: {said}");
        }
        let said = c.set("/linux/cgroupsPath", "/a/path").refused();
        assert!(said.contains("/a/path") && said.contains(':'), "{said}");
    });
}

/// Whatever it takes to begin a scope is not counted.
#[test]
fn one_process_may_be_all() {
    case(|c| {
        c.under_systemd().set("/linux/resources/pids/limit", 1);
        let pid = c.sleeper();
        let groups = Groups::of(pid);
        groups.expect("pids", ("pids.max", "1"), ("pids.max", "1"));
        assert_eq!(groups.read("pids", "pids.current", "pids.current"), "1");
        has(&scope(c), "TasksMax", "1");
        // v1 lets a process in, and refuses its child.
        let out = c.exec(&["/bin/sh", "-c", "/bin/true; /bin/true"]);
        assert_ne!(out.code, 0, "a second one was let in: {out:?}");
    });
}

#[test]
fn further_processes_are_in_the_scope() {
    case(|c| {
        let pid = c.under_systemd().sleeper();
        let all =
            |pid| kernel::cgroups(pid).into_iter().filter(|(_, path)| path.contains(&unit(c))).collect::<Vec<_>>();
        let init = all(pid);
        assert!(!init.is_empty());
        let text = c.exec_sh("cat /proc/self/cgroup");
        for (name, path) in init {
            assert!(text.lines().any(|l| l.ends_with(&path)), "{name}:{path} in {text}");
        }
        let processes = std::fs::read_to_string(Groups::of(pid).directory("pids").join("cgroup.procs")).unwrap();
        assert_eq!(processes.trim(), pid.to_string());
    });
}
