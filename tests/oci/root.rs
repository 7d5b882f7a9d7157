//! config.md, "Root".

use tare_tests::oci::{case, kernel};

#[test]
fn it_is_the_bundles_directory() {
    case(|c| {
        std::fs::write(c.inside("/mark"), "here\n").unwrap();
        assert_eq!(c.sh("cat /mark; echo written > /out"), "here");
        assert_eq!(std::fs::read_to_string(c.inside("/out")).unwrap(), "written\n");
    });
}

#[test]
fn its_path_may_be_absolute() {
    case(|c| {
        let path = c.inside("/").display().to_string();
        std::fs::write(c.inside("/mark"), "here\n").unwrap();
        assert_eq!(c.set("/root/path", path).sh("cat /mark"), "here");
    });
}

#[test]
fn its_path_may_lead_through_a_link() {
    case(|c| {
        std::os::unix::fs::symlink("rootfs", c.path("link")).unwrap();
        std::fs::write(c.inside("/mark"), "here\n").unwrap();
        assert_eq!(c.set("/root/path", "link").sh("cat /mark"), "here");
    });
}

#[test]
fn nothing_of_the_host_is_above_it() {
    case(|c| {
        let pid = c.sleeper();
        let all = kernel::mounts(pid);
        let root = kernel::mount(pid, "/");
        assert!(root.root.ends_with("/rootfs"), "{root:?}");
        assert_eq!(all.iter().filter(|m| m.at == "/").count(), 1, "{all:#?}");
        // Besides the root: the two mounts of the configuration, and what every container gets.
        let others: Vec<&str> = all.iter().map(|m| m.at.as_str()).filter(|at| !at.starts_with("/dev/")).collect();
        assert_eq!(others, ["/", "/proc", "/dev"]);
        assert_eq!(c.exec_sh("ls -id / /.. | awk '{ print $1 }' | sort -u | wc -l"), "1");
    });
}

#[test]
fn it_can_be_read_only() {
    case(|c| {
        let script = "touch /x 2>&1; touch /tmp/x 2>&1; echo rw > /dev/shm-x && echo /dev is not";
        let out = c.set("/root/readonly", true).sh(script);
        assert_eq!(out.matches("Read-only file system").count(), 2, "{out}");
        assert!(out.ends_with("/dev is not"), "{out}");
        assert!(!c.inside("/x").exists());
    });
}

#[test]
fn read_only_is_an_option_of_the_mount_alone() {
    case(|c| {
        let pid = c.set("/root/readonly", true).sleeper();
        assert!(kernel::mount(pid, "/").has("ro"));
        assert!(!kernel::mount(pid, "/").has_data("ro"), "the host's file system is not touched");
        std::fs::write(c.inside("/from-outside"), "x").unwrap();
    });
}

#[test]
fn it_is_writable_unless_asked_for() {
    case(|c| {
        let pid = c.sleeper();
        assert!(kernel::mount(pid, "/").has("rw"));
    });
}

#[test]
fn mounts_within_a_read_only_root_are_made() {
    case(|c| {
        c.set("/root/readonly", true).mount("/made/for/it", "tmpfs", "tmpfs", &["size=64k"]);
        assert_eq!(c.sh("echo x > /made/for/it/f; cat /made/for/it/f"), "x");
    });
}

#[test]
fn one_that_is_missing_is_refused() {
    case(|c| {
        let said = c.set("/root/path", "no-such-directory").refused();
        assert!(said.contains("no-such-directory"), "{said}");
    });
}

#[test]
fn one_that_is_a_file_is_refused() {
    case(|c| {
        std::fs::write(c.path("file"), "").unwrap();
        c.set("/root/path", "file").refused();
    });
}

#[test]
fn the_usual_devices_and_links_are_in_dev() {
    case(|c| {
        let nodes = "cd /dev; for n in full null random tty urandom zero; do stat -c '%n %t:%T %a' $n; done; \
                     for n in fd stdin stdout stderr; do echo $n $(readlink $n); done";
        let expected = "full 1:7 666\nnull 1:3 666\nrandom 1:8 666\ntty 5:0 666\nurandom 1:9 666\nzero 1:5 666\n\
                        fd /proc/self/fd\nstdin /proc/self/fd/0\nstdout /proc/self/fd/1\nstderr /proc/self/fd/2";
        assert_eq!(c.sh(nodes), expected);
    });
}

#[test]
fn ptmx_is_that_of_the_containers_own_devpts() {
    case(|c| {
        c.mount("/dev/pts", "devpts", "devpts", &["newinstance", "ptmxmode=0666", "mode=0620"]);
        assert_eq!(c.sh("readlink /dev/ptmx"), "pts/ptmx");
    });
}
