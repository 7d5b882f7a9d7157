//! `tmpcopyup`: a tmpfs that begins with what it hides.

use std::os::unix::fs::{PermissionsExt, chown, symlink};
use tare_tests::oci::{case, kernel};

#[test]
fn what_was_there_is_in_the_tmpfs() {
    case(|c| {
        std::fs::create_dir_all(c.inside("/data/deep/er")).unwrap();
        std::fs::write(c.inside("/data/deep/er/file"), "content\n").unwrap();
        symlink("deep/er/file", c.inside("/data/link")).unwrap();
        c.mount("/data", "tmpfs", "tmpfs", &["tmpcopyup"]);
        let script = "cat /data/deep/er/file /data/link; readlink /data/link; rm /data/deep/er/file; echo $?";
        assert_eq!(c.sh(script), "content\ncontent\ndeep/er/file\n0");
        assert!(c.inside("/data/deep/er/file").exists(), "it is a copy");
    });
}

#[test]
fn owners_and_permissions_are_kept() {
    case(|c| {
        std::fs::create_dir_all(c.inside("/data/dir")).unwrap();
        std::fs::write(c.inside("/data/file"), "").unwrap();
        chown(c.inside("/data/file"), Some(33), Some(34)).unwrap();
        std::fs::set_permissions(c.inside("/data/file"), std::fs::Permissions::from_mode(0o4750)).unwrap();
        std::fs::set_permissions(c.inside("/data/dir"), std::fs::Permissions::from_mode(0o1777)).unwrap();
        c.mount("/data", "tmpfs", "tmpfs", &["tmpcopyup"]);
        assert_eq!(c.sh("stat -c '%u:%g %a' /data/file /data/dir"), "33:34 4750\n0:0 1777");
    });
}

#[test]
fn the_tmpfs_itself_has_the_permissions_of_what_it_hides() {
    case(|c| {
        std::fs::create_dir(c.inside("/data")).unwrap();
        std::fs::set_permissions(c.inside("/data"), std::fs::Permissions::from_mode(0o711)).unwrap();
        c.mount("/data", "tmpfs", "tmpfs", &["tmpcopyup"]);
        assert_eq!(c.sh("stat -c %a /data"), "711");
    });
}

#[test]
fn it_can_be_read_only() {
    case(|c| {
        std::fs::create_dir(c.inside("/data")).unwrap();
        std::fs::write(c.inside("/data/file"), "content\n").unwrap();
        c.mount("/data", "tmpfs", "tmpfs", &["tmpcopyup", "ro", "nosuid"]);
        let pid = c.sleeper();
        let mount = kernel::mount(pid, "/data");
        assert!(mount.has("ro") && mount.has("nosuid"), "{mount:?}");
        assert_eq!(c.exec_sh("cat /data/file"), "content");
    });
}

#[test]
fn without_it_the_tmpfs_is_empty() {
    case(|c| {
        std::fs::create_dir(c.inside("/data")).unwrap();
        std::fs::write(c.inside("/data/file"), "").unwrap();
        c.mount("/data", "tmpfs", "tmpfs", &[]);
        assert_eq!(c.sh("ls /data"), "");
    });
}
