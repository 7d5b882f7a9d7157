//! Bind mounts, and where mounts come to lie.

use std::os::unix::fs::symlink;
use tare_tests::oci::{Case, case, kernel};
use tare_tests::{Running, command};

/// A directory of the bundle with a file in it and a tmpfs, with another file, mounted below it: only in the mount
/// namespace that the returned script makes for the runtime, so nothing is left behind.
fn with_submount(c: &mut Case) {
    std::fs::create_dir_all(c.path("source/below")).unwrap();
    std::fs::write(c.path("source/file"), "on top\n").unwrap();
    let below = c.path("source/below").display().to_string();
    c.before(&format!("mount -t tmpfs tmpfs {below}; echo under > {below}/file"));
}

#[test]
fn a_directory() {
    case(|c| {
        std::fs::create_dir(c.path("source")).unwrap();
        std::fs::write(c.path("source/file"), "from outside\n").unwrap();
        c.bind("/m", c.path("source"), &[]);
        assert_eq!(c.sh("cat /m/file; echo from inside > /m/other"), "from outside");
        assert_eq!(std::fs::read_to_string(c.path("source/other")).unwrap(), "from inside\n");
    });
}

#[test]
fn a_file() {
    case(|c| {
        std::fs::write(c.path("file"), "from outside\n").unwrap();
        c.bind("/etc/one-file", c.path("file"), &[]);
        assert_eq!(c.sh("cat /etc/one-file; echo from inside > /etc/one-file"), "from outside");
        assert_eq!(std::fs::read_to_string(c.path("file")).unwrap(), "from inside\n");
    });
}

#[test]
fn a_device() {
    case(|c| {
        c.bind("/dev/other-zero", "/dev/zero", &[]);
        assert_eq!(c.sh("head -c 3 /dev/other-zero | od -An -tx1 | tr -d ' '"), "000000");
    });
}

#[test]
fn a_socket() {
    case(|c| {
        let _listener = std::os::unix::net::UnixListener::bind(c.path("socket")).unwrap();
        c.bind("/run/socket", c.path("socket"), &[]);
        assert_eq!(c.sh("test -S /run/socket && echo a socket"), "a socket");
    });
}

#[test]
fn the_option_alone_makes_it_one() {
    case(|c| {
        std::fs::write(c.path("file"), "content\n").unwrap();
        c.mount("/m", "none", c.path("file"), &["bind"]);
        assert_eq!(c.sh("cat /m"), "content");
    });
}

#[test]
fn a_relative_source_begins_at_the_bundle() {
    case(|c| {
        std::fs::write(c.path("file"), "of the bundle\n").unwrap();
        c.bind("/m", "file", &[]);
        assert_eq!(c.sh("cat /m"), "of the bundle");
    });
}

#[test]
fn read_only() {
    case(|c| {
        std::fs::create_dir(c.path("source")).unwrap();
        c.bind("/m", c.path("source"), &["ro"]);
        let out = c.sh("touch /m/x 2>&1; true");
        assert!(out.contains("Read-only file system"), "{out}");
        std::fs::write(c.path("source/x"), "").unwrap();
    });
}

#[test]
fn options_of_the_mount_are_set() {
    case(|c| {
        std::fs::create_dir(c.path("source")).unwrap();
        c.bind("/m", c.path("source"), &["nosuid", "nodev", "noexec", "noatime"]);
        let pid = c.sleeper();
        let mount = kernel::mount(pid, "/m");
        for option in ["nosuid", "nodev", "noexec", "noatime", "rw"] {
            assert!(mount.has(option), "{option}: {mount:?}");
        }
    });
}

#[test]
fn without_what_is_mounted_below() {
    case(|c| {
        with_submount(c);
        c.bind("/m", c.path("source"), &[]);
        assert_eq!(c.sh("cat /m/file; ls /m/below"), "on top");
    });
}

#[test]
fn with_what_is_mounted_below() {
    case(|c| {
        with_submount(c);
        c.mount("/m", "bind", c.path("source"), &["rbind"]);
        assert_eq!(c.sh("cat /m/file /m/below/file"), "on top\nunder");
    });
}

#[test]
fn read_only_does_not_reach_what_is_mounted_below() {
    case(|c| {
        with_submount(c);
        c.mount("/m", "bind", c.path("source"), &["rbind", "ro"]);
        assert_eq!(c.sh("touch /m/x 2>/dev/null; touch /m/below/x && ls /m/below"), "file\nx");
    });
}

#[test]
fn a_source_that_is_missing_is_refused() {
    case(|c| {
        let said = c.bind("/m", "/no/such/source", &[]).refused();
        assert!(said.contains("/no/such/source"), "{said}");
    });
}

#[test]
fn a_destination_that_is_missing_is_made() {
    case(|c| {
        std::fs::write(c.path("file"), "x\n").unwrap();
        c.bind("/other/new/file", c.path("file"), &[]).mount("/new/deep/dir", "tmpfs", "tmpfs", &[]);
        assert_eq!(c.sh("stat -c '%F' /new/deep/dir /other/new/file"), "directory\nregular file");
    });
}

#[test]
fn a_destination_leads_through_links_within_the_root() {
    case(|c| {
        symlink("/var", c.inside("/absolute")).unwrap();
        symlink("../../../../../../../var", c.inside("/tmp/upwards")).unwrap();
        c.mount("/absolute/one", "tmpfs", "one", &[]).mount("/tmp/upwards/two", "tmpfs", "two", &[]);
        let pid = c.sleeper();
        assert_eq!(kernel::mount(pid, "/var/one").source, "one");
        assert_eq!(kernel::mount(pid, "/var/two").source, "two");
    });
}

#[test]
fn a_destination_that_is_a_link_is_followed_within_the_root() {
    case(|c| {
        std::fs::create_dir(c.inside("/target")).unwrap();
        symlink("/target", c.inside("/link")).unwrap();
        let pid = c.mount("/link", "tmpfs", "through-link", &[]).sleeper();
        assert_eq!(kernel::mount(pid, "/target").source, "through-link");
    });
}

#[test]
fn a_destination_with_dots_stays_within_the_root() {
    case(|c| {
        let pid = c.mount("/var/../../../m", "tmpfs", "dots", &[]).sleeper();
        assert_eq!(kernel::mount(pid, "/m").source, "dots");
    });
}

#[test]
fn a_later_mount_lies_on_an_earlier_one() {
    case(|c| {
        c.mount("/m", "tmpfs", "lower", &[]).mount("/m/below", "tmpfs", "middle", &[]).mount(
            "/m",
            "tmpfs",
            "upper",
            &[],
        );
        assert_eq!(c.sh("ls /m; grep -c ' /m' /proc/self/mountinfo"), "3");
    });
}

#[test]
fn what_is_hidden_by_a_mount_stays_as_it_is() {
    case(|c| {
        std::fs::write(c.inside("/var/hidden"), "x").unwrap();
        c.mount("/var", "tmpfs", "tmpfs", &[]);
        assert_eq!(c.sh("ls /var; touch /var/new; ls /var"), "new");
        assert!(c.inside("/var/hidden").exists() && !c.inside("/var/new").exists());
    });
}

#[test]
fn the_host_sees_none_of_it() {
    case(|c| {
        c.mount("/m", "tmpfs", "tmpfs", &[]).sleeper();
        let out = Running::start(command("cat").arg("/proc/self/mountinfo"), None).wait();
        assert!(!out.stdout.contains(&c.bundle()), "{}", out.stdout);
    });
}
