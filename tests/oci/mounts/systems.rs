//! File systems that containers usually get.

use tare_tests::oci::{case, kernel};

#[test]
fn proc_shows_the_containers_processes() {
    case(|c| {
        let pid = c.sleeper();
        assert_eq!(kernel::mount(pid, "/proc").kind, "proc");
        assert_eq!(c.exec_sh("cat /proc/1/comm"), "sleep");
    });
}

#[test]
fn proc_with_options() {
    case(|c| {
        c.mount("/other", "proc", "proc", &["nosuid", "nodev", "noexec", "hidepid=2"]);
        let pid = c.sleeper();
        let mount = kernel::mount(pid, "/other");
        assert!(mount.has("nosuid") && mount.has("nodev") && mount.has("noexec"), "{mount:?}");
        assert!(mount.has_data("hidepid=2") || mount.has_data("hidepid=invisible"), "{mount:?}");
    });
}

#[test]
fn sysfs_shows_the_containers_network() {
    case(|c| {
        c.unshare("network").mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]);
        assert_eq!(
            c.sh("ls -d /sys/class/net/lo; grep ' /sys ' /proc/mounts | cut -d' ' -f4 | cut -d, -f1"),
            "/sys/class/net/lo\nro"
        );
    });
}

#[test]
fn devpts_is_the_containers_own() {
    case(|c| {
        c.mount("/dev/pts", "devpts", "devpts", &["newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]);
        let pid = c.sleeper();
        let mount = kernel::mount(pid, "/dev/pts");
        assert!(mount.has_data("mode=620") && mount.has_data("ptmxmode=666") && mount.has_data("gid=5"), "{mount:?}");
        assert_eq!(c.exec_sh("ls /dev/pts"), "ptmx");
    });
}

#[test]
fn options_of_a_hierarchy_are_not_for_containers_to_choose() {
    case(|c| {
        let said = c.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro", "nosuid", "release_agent=/x"]).refused();
        assert!(said.contains("release_agent=/x"), "{said}");
    });
}

#[test]
fn mqueue_is_that_of_the_ipc_namespace() {
    case(|c| {
        c.mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]);
        assert_eq!(c.sh("touch /dev/mqueue/q; cut -d' ' -f1 /dev/mqueue/q"), "QSIZE:0");
    });
}

#[test]
fn shm_takes_files() {
    case(|c| {
        c.mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]);
        assert_eq!(c.sh("stat -c %a /dev/shm; echo x > /dev/shm/f; cat /dev/shm/f"), "1777\nx");
    });
}

#[test]
fn overlay_from_directories() {
    case(|c| {
        for (directory, file) in [("lower", "a"), ("upper", "b")] {
            std::fs::create_dir(c.path(directory)).unwrap();
            std::fs::write(c.path(directory).join(file), "").unwrap();
        }
        std::fs::create_dir(c.path("work")).unwrap();
        let options =
            ["lowerdir", "upperdir", "workdir"].map(|o| format!("{o}={}", c.path(&o[..o.len() - 3]).display()));
        c.mount("/m", "overlay", "overlay", &options.each_ref().map(String::as_str));
        assert_eq!(c.sh("ls /m; touch /m/c"), "a\nb");
        assert!(c.path("upper/c").exists());
    });
}

#[test]
fn several_of_one_kind_are_apart() {
    case(|c| {
        c.mount("/a", "tmpfs", "tmpfs", &[]).mount("/b", "tmpfs", "tmpfs", &[]);
        assert_eq!(c.sh("touch /a/x; ls /b"), "");
    });
}
