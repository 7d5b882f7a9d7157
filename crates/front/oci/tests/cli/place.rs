//! A bundle with busybox, and the runtime's commands on a root directory of its own.

use serde_json::{Value, json};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use tempfile::TempDir;

const APPLETS: &[&str] = &[
    "sh", "cat", "echo", "env", "false", "id", "kill", "ls", "mkdir", "ps", "readlink", "sleep", "stty", "touch",
    "true", "tty",
];

/// Where the runtime under test lies: beside this test's own program.
pub(crate) fn runtime() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let program = own.parent().unwrap().parent().unwrap().join("examples/tare-runtime");
    assert!(program.exists(), "cargo build -p tare-oci --example tare-runtime");
    program
}

/// One test's directory: bundle, root directory, names that nobody else has.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) dir: TempDir,
    pub(crate) id: String,
    pub(crate) config: Value,
}

impl Place {
    pub(crate) fn new() -> Place {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let dir = TempDir::with_prefix("tare-oci-").unwrap();
        let id = format!("t{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        for name in ["bin", "proc", "sys", "dev", "tmp", "etc"] {
            std::fs::create_dir_all(dir.path().join("bundle/rootfs").join(name)).unwrap();
        }
        let bin = dir.path().join("bundle/rootfs/bin");
        let busybox = ["/usr/bin/busybox", "/bin/busybox"].into_iter().find(|p| Path::new(p).is_file());
        std::fs::copy(busybox.expect("apt-get install busybox-static"), bin.join("busybox")).unwrap();
        for applet in APPLETS {
            symlink("busybox", bin.join(applet)).unwrap();
        }
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let kinds = ["pid", "network", "mount", "ipc", "uts", "cgroup"];
        let namespaces: Vec<Value> = kinds.iter().map(|k| json!({"type": k})).collect();
        let capabilities = ["CAP_KILL", "CAP_SETUID", "CAP_SETGID"];
        let config = json!({
            "ociVersion": "1.2.1",
            "root": {"path": "rootfs"},
            "hostname": "box",
            "process": {"args": ["sleep", "100"], "cwd": "/", "user": {"uid": 0, "gid": 0}, "env": ["PATH=/bin"],
                "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities}},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
                {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                    "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
            ],
            "linux": {"namespaces": namespaces, "cgroupsPath": format!("/tare-oci-{id}")},
            "annotations": {"a": "b"},
        });
        Place { dir, id, config }
    }

    pub(crate) fn with(args: &[&str]) -> Place {
        let mut place = Place::new();
        place.config["process"]["args"] = json!(args);
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.path("root")
    }

    /// A command line of the runtime; the configuration is written first.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        std::fs::write(self.path("bundle/config.json"), self.config.to_string()).unwrap();
        #[expect(clippy::disallowed_methods, reason = "the runtime under test is a program")]
        let mut command = Command::new(runtime());
        command.arg("--root").arg(self.root()).args(words).stdin(Stdio::null());
        command
    }

    /// Runs it to its end; output goes through files, which the container may keep open.
    pub(crate) fn output(&self, words: &[&str]) -> Output {
        output(&mut self.command(words))
    }

    /// Runs it to its end, which must be a good one. Returns what it wrote.
    pub(crate) fn ok(&self, words: &[&str]) -> String {
        let out = self.output(words);
        assert!(out.status.success(), "{words:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }

    /// Runs it to its end, which must be a bad one. Returns what it said.
    pub(crate) fn fails(&self, words: &[&str]) -> String {
        let out = self.output(words);
        assert!(!out.status.success(), "{words:?} should fail");
        String::from_utf8(out.stderr).unwrap()
    }

    pub(crate) fn create(&self) {
        self.ok(&["create", "--bundle", &self.bundle(), &self.id]);
    }

    pub(crate) fn bundle(&self) -> String {
        self.path("bundle").display().to_string()
    }

    pub(crate) fn state(&self) -> Value {
        serde_json::from_str(&self.ok(&["state", &self.id])).unwrap()
    }

    pub(crate) fn status(&self) -> String {
        self.state()["status"].as_str().unwrap().to_owned()
    }

    /// The groups of the container that exist.
    pub(crate) fn groups(&self) -> Vec<PathBuf> {
        let name = format!("tare-oci-{}", self.id);
        let tops = std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|e| e.path().join(&name));
        tops.chain([Path::new("/sys/fs/cgroup").join(&name)]).filter(|p| p.is_dir()).collect()
    }

    /// Asserts that nothing is left of the container.
    pub(crate) fn is_gone(&self) {
        assert!(!self.root().join(&self.id).exists(), "the directory is left");
        assert_eq!(self.groups(), Vec::<PathBuf>::new(), "groups are left");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.root().join(&self.id).exists() {
            let _ = self.output(&["delete", "--force", &self.id]);
        }
    }
}

/// Runs a command to its end, with files for its output.
pub(crate) fn output(command: &mut Command) -> Output {
    let files = [tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap()];
    let [out, err] = &files;
    let status = command.stdout(out.try_clone().unwrap()).stderr(err.try_clone().unwrap()).status().unwrap();
    let text = |mut file: &std::fs::File| {
        use std::io::{Read, Seek};
        let mut bytes = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        bytes
    };
    Output { status, stdout: text(out), stderr: text(err) }
}

/// Whether a process is there and has not ended.
pub(crate) fn is_alive(pid: i64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Waits until something holds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..500 {
        if holds() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("never: {what}");
}
