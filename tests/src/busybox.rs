//! A small root filesystem that every test can run: Debian's static busybox, its applets as links, a few files of /etc.

use crate::process::{Running, command};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/:/bin/false\n\
                      web:x:33:33:web:/var/www:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n";
const GROUP: &str = "root:x:0:\ndaemon:x:1:\ntty:x:5:\ndisk:x:6:\nweb:x:33:\nstaff:x:50:web\nnogroup:x:65534:\n";

/// A directory that becomes a root filesystem.
#[derive(Debug)]
pub struct Tree {
    dir: TempDir,
}

impl Tree {
    /// An empty one.
    ///
    /// # Panics
    /// If there is no temporary directory.
    #[expect(clippy::new_without_default, reason = "it makes a directory")]
    pub fn new() -> Tree {
        let dir = TempDir::with_prefix("tare-tree-").unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        Tree { dir }
    }

    /// One with busybox, its applets as links, and users and groups `root`, `web` (33) and `nobody`.
    ///
    /// # Panics
    /// If this host has no busybox.
    pub fn busybox() -> Tree {
        let tree = Tree::new();
        for dir in ["bin", "sbin", "etc", "usr/bin", "usr/sbin", "var/www", "home", "root", "lib"] {
            tree.dir(dir, 0o755);
        }
        tree.dir("tmp", 0o1777);
        let busybox = ["/usr/bin/busybox", "/bin/busybox"].into_iter().find(|p| Path::new(p).is_file());
        std::fs::copy(busybox.expect("apt-get install busybox-static"), tree.path("bin/busybox")).unwrap();
        let applets = Running::start(command(busybox.unwrap()).arg("--list"), None).wait();
        for applet in applets.stdout.lines().filter(|a| *a != "busybox") {
            symlink("busybox", tree.path(&format!("bin/{applet}"))).unwrap();
        }
        tree.file("etc/passwd", PASSWD).file("etc/group", GROUP);
        tree
    }

    /// A path inside.
    pub fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// Adds a directory, with those above it.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn dir(&self, path: &str, mode: u32) -> &Tree {
        std::fs::create_dir_all(self.path(path)).unwrap();
        std::fs::set_permissions(self.path(path), std::fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    /// Adds a file.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn file(&self, path: &str, content: &str) -> &Tree {
        std::fs::write(self.path(path), content).unwrap();
        self
    }

    /// Adds a program.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn program(&self, path: &str, content: &str) -> &Tree {
        self.file(path, content);
        std::fs::set_permissions(self.path(path), std::fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    /// Writes it as a tar archive, owned by root.
    ///
    /// # Panics
    /// If tar(1) fails.
    pub fn tar(&self, archive: &Path) {
        let mut tar = command("tar");
        tar.args(["--create", "--numeric-owner", "--owner=0", "--group=0", "--sort=name", "--file"]);
        let out = Running::start(tar.arg(archive).arg("-C").arg(self.dir.path()).arg("."), None).wait();
        assert_eq!(out.code, 0, "{}", out.stderr);
    }
}

/// The archive of [`Tree::busybox`]: made once for all tests of this user, each of which is a process of its own.
///
/// # Panics
/// If it cannot be made.
pub fn busybox_tar() -> PathBuf {
    let version = std::fs::metadata("/usr/bin/busybox").and_then(|m| m.modified()).ok();
    let seconds = version.and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok()).map_or(0, |d| d.as_secs());
    let uid = rustix::process::geteuid().as_raw();
    let path = std::env::temp_dir().join(format!("tare-tests-busybox-{uid}-{seconds}-1.tar"));
    if !path.exists() {
        let aside = tempfile::Builder::new().prefix("tare-busybox-").tempfile().unwrap();
        Tree::busybox().tar(aside.path());
        aside.persist(&path).unwrap();
    }
    path
}
