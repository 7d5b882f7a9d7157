//! `process.user`.

use serde_json::json;
use tare_tests::oci::{case, kernel};

#[test]
fn ids_are_those_of_user() {
    case(|c| {
        c.set("/process/user/uid", 33).set("/process/user/gid", 34);
        assert_eq!(
            c.sh("id -u; id -g; cat /proc/self/status | grep -E '^[UG]id'"),
            "33\n34\nUid:\t33\t33\t33\t33\nGid:\t34\t34\t34\t34"
        );
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
fn additional_groups_are_set_and_no_others() {
    case(|c| {
        c.set("/process/user/additionalGids", json!([5, 77]));
        let pid = c.sleeper();
        assert_eq!(kernel::status(pid, "Groups"), "5 77");
    });
}
