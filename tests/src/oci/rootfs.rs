//! The root filesystem of every case: busybox and its applets, made once and given to each case as hard links.

use crate::busybox::Tree;
use crate::process::environment;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33:web:/var/www:/bin/sh\n";
const GROUP: &str = "root:x:0:\ntty:x:5:\nweb:x:33:\n";
/// With their permissions. Mount points of the usual mounts are here, so that nobody has to make them.
const DIRECTORIES: &[(&str, u32)] = &[
    ("etc", 0o755),
    ("dev", 0o755),
    ("proc", 0o755),
    ("sys", 0o755),
    ("mnt", 0o755),
    ("root", 0o700),
    ("run", 0o755),
    ("tmp", 0o1777),
    ("var", 0o755),
];

/// Where cases have their directories.
pub(super) fn base() -> PathBuf {
    environment("TARE_TEST_DIR").map_or_else(std::env::temp_dir, PathBuf::from).canonicalize().unwrap()
}

/// Makes it at `to`, which does not exist yet. `bin` is shared with all other cases: nothing may change what is in it.
pub(super) fn make(to: &Path) {
    let template = template();
    std::fs::create_dir(to).unwrap();
    std::fs::create_dir(to.join("bin")).unwrap();
    for (directory, mode) in DIRECTORIES {
        std::fs::create_dir(to.join(directory)).unwrap();
        std::fs::set_permissions(to.join(directory), std::fs::Permissions::from_mode(*mode)).unwrap();
    }
    std::fs::write(to.join("etc/passwd"), PASSWD).unwrap();
    std::fs::write(to.join("etc/group"), GROUP).unwrap();
    for entry in std::fs::read_dir(template).unwrap() {
        let entry = entry.unwrap();
        std::fs::hard_link(entry.path(), to.join("bin").join(entry.file_name())).unwrap();
    }
}

/// The directory of applets that all cases link to. Made aside and renamed, because every case is a process of its own.
fn template() -> PathBuf {
    let busybox = ["/usr/bin/busybox", "/bin/busybox"].into_iter().find(|p| Path::new(p).is_file());
    let stamp = std::fs::metadata(busybox.expect("apt-get install busybox-static")).unwrap().mtime();
    let path = base().join(format!("tare-oci-bin-{}-{stamp}", rustix::process::geteuid().as_raw()));
    if !path.exists() {
        let tree = Tree::busybox();
        let aside = base().join(crate::unique("tare-oci-aside-"));
        std::fs::create_dir(&aside).unwrap();
        for entry in std::fs::read_dir(tree.path("bin")).unwrap() {
            let entry = entry.unwrap();
            // The tree may lie on another file system, so links are made anew and the one program is copied.
            match std::fs::read_link(entry.path()) {
                Ok(target) => std::os::unix::fs::symlink(target, aside.join(entry.file_name())).unwrap(),
                Err(_) => drop(std::fs::copy(entry.path(), aside.join(entry.file_name())).unwrap()),
            }
        }
        if std::fs::rename(&aside, &path).is_err() {
            std::fs::remove_dir_all(&aside).unwrap();
        }
    }
    path
}
