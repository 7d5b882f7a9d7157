//! Mounts that an image, a racing process, or the container's root must not turn against the host.

use serde_json::json;
use tare_tests::oci::{Case, case};

/// Root of a user namespace with the capability to mount.
fn mighty_in_a_user_namespace(c: &mut Case) {
    let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
    c.unshare("user").set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
    for set in ["bounding", "effective", "permitted"] {
        c.set(&format!("/process/capabilities/{set}"), vec!["CAP_SYS_ADMIN"]);
    }
}

/// A read-only tmpfs of the host that everybody may search.
fn read_only_source(c: &mut Case) -> String {
    let source = c.path("source");
    std::fs::create_dir(&source).unwrap();
    let source = source.display().to_string();
    let bundle = c.bundle();
    c.before(&format!(
        "chmod 755 {bundle}; mount -t tmpfs -o mode=777 tmpfs {source}; mount -o remount,bind,ro,nosuid {source}"
    ));
    source
}

#[test]
fn flags_of_the_hosts_mounts_stay_in_a_user_namespace() {
    case(|c| {
        mighty_in_a_user_namespace(c);
        let source = read_only_source(c);
        // Its root may make nothing in a rootfs that is the host's.
        std::fs::create_dir(c.inside("m")).unwrap();
        c.bind("/m", source, &["rbind"]);
        let out = c.sh("mount -o remount,bind,ro,nosuid /m && echo again; mount -o remount,bind,rw,nosuid /m; grep ' /m ' /proc/self/mountinfo");
        assert!(out.contains("again") && out.contains(" ro,nosuid") && !out.contains(" /m rw"), "{out}");
    });
}

#[test]
fn a_read_only_root_and_read_only_paths_hold_in_a_user_namespace() {
    case(|c| {
        let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
        c.unshare("user").set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
        c.set("/root/readonly", true);
        c.set("/linux/readonlyPaths", vec!["/proc/sys", "/etc"])
            .set("/linux/maskedPaths", vec!["/proc/kcore", "/proc/acpi", "/tmp"]);
        let out = c.sh("touch /x 2>/dev/null || echo root; touch /etc/x 2>/dev/null || echo path; cat /proc/kcore | wc -c; ls /tmp | wc -l");
        assert_eq!(out, "root\npath\n0\n0");
    });
}

#[test]
fn proc_covered_by_something_else_is_refused() {
    case(|c| {
        c.mount("/proc", "tmpfs", "tmpfs", &[]);
        let said = c.refused();
        assert!(said.contains("/proc"), "{said}");
    });
}

#[test]
fn a_link_in_the_place_of_dev_touches_nothing() {
    case(|c| {
        let outside = c.path("outside");
        std::fs::create_dir(&outside).unwrap();
        let dev = c.inside("dev");
        let _ = std::fs::remove_dir_all(&dev);
        std::os::unix::fs::symlink(&outside, &dev).unwrap();
        c.with(|spec| {
            let mounts = spec["mounts"].as_array_mut().unwrap();
            mounts.retain(|m| !m["destination"].as_str().unwrap().starts_with("/dev"));
        });
        c.refused();
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    });
}

#[test]
fn a_target_behind_a_link_to_the_host_is_made_inside() {
    case(|c| {
        let outside = c.path("outside");
        std::fs::create_dir(&outside).unwrap();
        std::os::unix::fs::symlink(&outside, c.inside("link")).unwrap();
        c.mount("/link/a/b", "tmpfs", "tmpfs", &[]);
        let out = c.sh("grep -c '/a/b ' /proc/self/mountinfo");
        assert_eq!(out, "1");
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    });
}

#[test]
fn cgroups_show_no_more_than_the_containers_own() {
    for namespace in [true, false] {
        case(|c| {
            if namespace {
                c.unshare("cgroup");
            } else {
                c.share("cgroup");
            }
            c.with(|spec| {
                spec["mounts"].as_array_mut().unwrap().retain(|m| m["destination"] != "/sys/fs/cgroup");
            });
            c.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["rw", "nosuid", "noexec", "nodev"]);
            let out = c.sh("find /sys/fs/cgroup -name release_agent; for f in $(find /sys/fs/cgroup -name cgroup.procs); do wc -l < $f; done | sort -u");
            // Itself, the shell and its helpers: nobody of the host.
            assert!(!out.contains("release_agent"), "{out}");
            assert!(out.lines().all(|n| n.trim().parse::<u32>().unwrap() < 10), "{out}");
        });
    }
}
