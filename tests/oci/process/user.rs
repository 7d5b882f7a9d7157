//! `process.user`.

use serde_json::json;
use tare_tests::oci::{case, kernel};

#[test]
fn uid_is_the_real_effective_and_saved_one() {
    case(|c| {
        c.set("/process/user/uid", 33);
        let pid = c.sleeper();
        assert_eq!(kernel::status(pid, "Uid"), "33 33 33 33");
        assert_eq!(kernel::status(pid, "Gid"), "0 0 0 0");
    });
}

#[test]
fn gid_is_the_real_effective_and_saved_one() {
    case(|c| {
        c.set("/process/user/gid", 34);
        let pid = c.sleeper();
        assert_eq!(kernel::status(pid, "Gid"), "34 34 34 34");
        assert_eq!(kernel::status(pid, "Uid"), "0 0 0 0");
    });
}

#[test]
fn ids_need_no_line_in_passwd() {
    case(|c| {
        c.set("/process/user/uid", 4_000_000).set("/process/user/gid", 4_000_001);
        assert_eq!(c.sh("id -u; id -g"), "4000000\n4000001");
    });
}

#[test]
fn umask_is_that_of_user() {
    case(|c| {
        c.set("/process/user/umask", 0o27);
        assert_eq!(c.sh("umask; touch /tmp/f; stat -c %a /tmp/f"), "0027\n640");
    });
}

#[test]
fn umask_of_zero_is_a_umask() {
    case(|c| {
        c.set("/process/user/umask", 0);
        let pid = c.sleeper();
        assert_eq!(kernel::status(pid, "Umask"), "0000");
    });
}

#[test]
fn umask_is_22_when_none_is_asked_for() {
    case(|c| {
        let pid = c.sleeper();
        assert_eq!(kernel::status(pid, "Umask"), "0022");
    });
}

#[test]
fn additional_groups_are_set_and_no_others() {
    case(|c| {
        c.set("/process/user/additionalGids", json!([5, 77]));
        let pid = c.sleeper();
        assert_eq!(kernel::status(pid, "Groups"), "5 77");
    });
}

#[test]
fn there_are_no_supplementary_groups_unless_asked_for() {
    case(|c| {
        c.set("/process/user/uid", 33).set("/process/user/gid", 33);
        let pid = c.sleeper();
        assert!(["", "33"].contains(&kernel::status(pid, "Groups").as_str()), "{}", kernel::status(pid, "Groups"));
    });
}

#[test]
fn an_additional_group_opens_its_files() {
    case(|c| {
        std::fs::write(c.inside("/etc/secret"), "for 77\n").unwrap();
        std::os::unix::fs::chown(c.inside("/etc/secret"), Some(0), Some(77)).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o640);
        std::fs::set_permissions(c.inside("/etc/secret"), mode).unwrap();
        c.set("/process/user", json!({ "uid": 33, "gid": 33, "additionalGids": [77] }));
        assert_eq!(c.sh("cat /etc/secret"), "for 77");
    });
}

#[test]
fn home_is_that_of_the_line_in_passwd() {
    case(|c| {
        c.set("/process/user/uid", 33);
        assert_eq!(c.sh("echo $HOME"), "/var/www");
    });
}
