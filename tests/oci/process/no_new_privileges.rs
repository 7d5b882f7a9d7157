//! `process.noNewPrivileges`.

use tare_tests::oci::{case, kernel};

#[test]
fn it_is_set() {
    case(|c| {
        let pid = c.set("/process/noNewPrivileges", true).sleeper();
        assert_eq!(kernel::status(pid, "NoNewPrivs"), "1");
    });
}

#[test]
fn it_is_not_set_unless_asked_for() {
    case(|c| {
        let pid = c.set("/process/noNewPrivileges", false).sleeper();
        assert_eq!(kernel::status(pid, "NoNewPrivs"), "0");
    });
}

#[test]
fn set_uid_programs_give_nothing() {
    case(|c| {
        let to = c.inside("/var/su");
        std::fs::copy(c.inside("/bin/busybox"), &to).unwrap();
        std::fs::set_permissions(&to, std::os::unix::fs::PermissionsExt::from_mode(0o4755)).unwrap();
        c.set("/process/user/uid", 33);
        // This applet refuses to work where it is not root by then.
        let script = "/var/su < /dev/null 2>&1 | grep -c 'must be suid'; true";
        assert_eq!(c.set("/process/noNewPrivileges", false).sh(script), "0");
        assert_eq!(c.set("/process/noNewPrivileges", true).sh(script), "1");
    });
}
