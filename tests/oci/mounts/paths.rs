//! config-linux.md, "Masked paths" and "Readonly paths".

use serde_json::json;
use tare_tests::oci::{case, kernel};

#[test]
fn a_masked_file_is_empty() {
    case(|c| {
        std::fs::write(c.inside("/etc/secret"), "secret\n").unwrap();
        c.set("/linux/maskedPaths", json!(["/etc/secret"]));
        assert_eq!(c.sh("cat /etc/secret | wc -c; echo x > /etc/secret; cat /etc/secret"), "0");
        assert_eq!(std::fs::read_to_string(c.inside("/etc/secret")).unwrap(), "secret\n");
    });
}

#[test]
fn a_masked_directory_is_empty_and_takes_nothing() {
    case(|c| {
        std::fs::create_dir(c.inside("/secrets")).unwrap();
        std::fs::write(c.inside("/secrets/one"), "").unwrap();
        c.set("/linux/maskedPaths", json!(["/secrets"]));
        let out = c.sh("ls -A /secrets; touch /secrets/x 2>&1; true");
        assert!(out.contains("Read-only file system") && out.lines().count() == 1, "{out}");
    });
}

#[test]
fn files_of_proc_can_be_masked() {
    case(|c| {
        c.set("/linux/maskedPaths", json!(["/proc/interrupts", "/proc/driver", "/proc/no-such-file"]));
        assert_eq!(c.sh("wc -c < /proc/interrupts; ls /proc/driver 2>/dev/null | wc -l"), "0\n0");
    });
}

#[test]
fn a_masked_path_that_is_missing_is_left_out() {
    case(|c| {
        c.set("/linux/maskedPaths", json!(["/no/such/path"]));
        assert_eq!(c.sh("ls -d /no 2>/dev/null || echo missing"), "missing");
    });
}

#[test]
fn a_masked_path_cannot_be_uncovered() {
    case(|c| {
        std::fs::write(c.inside("/etc/secret"), "secret\n").unwrap();
        c.set("/linux/maskedPaths", json!(["/etc/secret"]));
        assert_eq!(c.sh("umount /etc/secret 2>/dev/null; cat /etc/secret"), "");
    });
}

#[test]
fn a_read_only_directory_takes_nothing() {
    case(|c| {
        c.set("/linux/readonlyPaths", json!(["/var"]));
        let out = c.sh("touch /var/x 2>&1; touch /tmp/x && echo elsewhere");
        assert!(out.contains("Read-only file system") && out.ends_with("elsewhere"), "{out}");
    });
}

#[test]
fn a_read_only_file_takes_nothing() {
    case(|c| {
        c.set("/linux/readonlyPaths", json!(["/etc/passwd"]));
        let out = c.sh("echo x 2>&1 >> /etc/passwd; grep -c root /etc/passwd");
        assert!(out.contains("Read-only file system") && out.ends_with('1'), "{out}");
    });
}

#[test]
fn settings_of_the_kernel_can_be_read_only() {
    case(|c| {
        c.unshare("network").set("/linux/readonlyPaths", json!(["/proc/sys"]));
        let out = c.sh("echo 77 2>&1 > /proc/sys/net/ipv4/ip_default_ttl; cat /proc/sys/net/ipv4/ip_default_ttl");
        assert!(out.contains("Read-only file system") && !out.ends_with("77"), "{out}");
    });
}

#[test]
fn a_read_only_path_keeps_the_options_of_its_mount() {
    case(|c| {
        c.mount("/m", "tmpfs", "tmpfs", &["nosuid", "nodev", "noexec"]).set("/linux/readonlyPaths", json!(["/m"]));
        let pid = c.sleeper();
        let mount = kernel::mount(pid, "/m");
        for option in ["ro", "nosuid", "nodev", "noexec"] {
            assert!(mount.has(option), "{option}: {mount:?}");
        }
    });
}

#[test]
fn a_read_only_path_that_is_missing_is_left_out() {
    case(|c| {
        c.set("/linux/readonlyPaths", json!(["/no/such/path"]));
        assert_eq!(c.sh("ls -d /no 2>/dev/null || echo missing"), "missing");
    });
}
