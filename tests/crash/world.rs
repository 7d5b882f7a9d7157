//! A root with a little of everything in it, that can be put back as often as wanted; and what can be seen of it.

use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tare_tests::{Census, Names, Registry, Tree, binary, command, eventually};
use tempfile::TempDir;

/// In which form new layers are unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Overlay,
    Erofs,
}

impl Form {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Form::Overlay => "overlay",
            Form::Erofs => "erofs",
        }
    }
}

/// Directories of one test: `root` and `run` as the program gets them, and `kept`, what they are put back to.
pub(crate) struct World {
    dir: TempDir,
    binary: PathBuf,
    form: Form,
    names: Names,
    registry: Option<Registry>,
}

/// What a user sees: one line for each image's name, container, volume and network.
pub(crate) type Listing = BTreeSet<String>;

/// Every file below the root but those of the database: what it is, and what is in it.
pub(crate) type Files = BTreeMap<PathBuf, String>;

impl World {
    /// A root with everything in it that the operations need.
    pub(crate) fn new(form: Form, wants_registry: bool) -> World {
        let base = std::env::temp_dir().canonicalize().unwrap();
        let dir = tempfile::Builder::new().prefix("tare-crash-").tempdir_in(base).unwrap();
        let names = Names::of(&dir.path().join("root"), &dir.path().join("run"));
        let registry = wants_registry.then(Registry::start);
        let world = World { dir, binary: binary(), form, names, registry };
        world.furnish();
        world.keep();
        world
    }

    pub(crate) fn root(&self) -> &Path {
        &self.names.root
    }

    pub(crate) fn form(&self) -> Form {
        self.form
    }

    /// What counts as changed by an operation.
    pub(crate) fn places(&self) -> Vec<PathBuf> {
        vec![self.names.root.clone(), self.names.run.clone()]
    }

    /// A path beside the root.
    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// `REGISTRY/app:1`, which the registry has and the root does not.
    pub(crate) fn remote(&self) -> String {
        self.registry.as_ref().map_or_else(String::new, |r| r.name("app:1"))
    }

    /// `tare --root … --run … ARGS`, not started.
    pub(crate) fn tare(&self, args: &[&str]) -> Command {
        let mut c = command(&self.binary);
        c.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        c.env("HOME", self.dir.path()).env("TARE_SNAPSHOTTER", self.form.as_str());
        c.env("SOURCE_DATE_EPOCH", "1700000000");
        c.arg("--root").arg(&self.names.root).arg("--run").arg(&self.names.run).args(args);
        c
    }

    /// Runs a verb: its exit code and what it printed on both streams.
    pub(crate) fn run(&self, args: &[&str]) -> (i32, String, String) {
        let out = self.tare(args).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (out.status.code().unwrap_or(128), text(&out.stdout), text(&out.stderr))
    }

    /// Runs a verb that must succeed; its standard output.
    #[track_caller]
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let (code, stdout, stderr) = self.run(args);
        assert_eq!(code, 0, "tare {args:?}: {stdout}\n{stderr}");
        stdout
    }

    /// Fills the root. Of what is called `kept…` no operation takes anything away.
    fn furnish(&self) {
        let tree = Tree::new();
        tree.dir("etc", 0o755).dir("data/deep/er", 0o750).file("etc/name", "base\n").file("data/empty", "");
        tree.file("data/much", &"0123456789abcdef".repeat(2_000)).program("data/program", "#!/bin/sh\n");
        std::fs::hard_link(tree.path("data/much"), tree.path("data/same")).unwrap();
        std::os::unix::fs::symlink("deep/er", tree.path("data/link")).unwrap();
        self.import(&tree, "kept:1");
        self.import(tree.file("etc/name", "import\n"), "other:1");
        for (container, image, text) in
            [("c-kept", "kept:1", "kept"), ("c-gone", "kept:1", "gone"), ("c-made", "kept:1", "made")]
        {
            self.ok(&["create", "--network", "none", "--name", container, "-v", "/anonymous", image, "/x"]);
            let upper = self.container(container).join("upper");
            std::fs::create_dir_all(upper.join("data/deep")).unwrap();
            std::fs::write(upper.join("data/deep/new"), text.repeat(1_000)).unwrap();
            std::fs::write(upper.join(text), text).unwrap();
        }
        self.ok(&["tag", "kept:1", "kept:also"]);
        for (container, image) in [("c-kept", "kept:2"), ("c-gone", "gone:1"), ("c-made", "app:1")] {
            self.ok(&["commit", container, image]);
        }
        self.ok(&["rm", "-v", "c-made"]);
        self.ok(&["save", "-o", &self.path("oci.tar"), "app:1", "other:1"]);
        if self.registry.is_some() {
            self.ok(&["tag", "app:1", &self.remote()]);
            self.ok(&["push", &self.remote()]);
            self.ok(&["rmi", &self.remote()]);
        }
        self.ok(&["rmi", "app:1"]);
        self.ok(&["rmi", "other:1"]);
        tree.tar(Path::new(&self.path("import.tar")));
        for volume in ["v-kept", "v-gone"] {
            self.ok(&["volume", "create", volume]);
            std::fs::write(self.root().join("volumes").join(volume).join("_data/file"), volume).unwrap();
        }
        self.ok(&["volume", "create"]);
        for network in ["n-kept", "n-gone"] {
            self.ok(&["network", "create", network]);
        }
    }

    fn import(&self, tree: &Tree, name: &str) {
        tree.tar(Path::new(&self.path("import.tar")));
        self.ok(&["import", "--change", "CMD [\"/x\"]", &self.path("import.tar"), name]);
    }

    /// The directory of a container.
    pub(crate) fn container(&self, name: &str) -> PathBuf {
        let id = self.ok(&["inspect", "--format", "{{.Id}}", name]);
        self.root().join("containers").join(id.trim())
    }

    /// From now on [`World::restore`] brings back what is there now.
    pub(crate) fn keep(&self) {
        let kept = self.dir.path().join("kept");
        remove(&kept);
        copy(self.root(), &kept);
    }

    /// Puts the root back, and takes away whatever is left of the run directory.
    pub(crate) fn restore(&self) {
        self.release();
        remove(&self.names.run);
        remove(self.root());
        copy(&self.dir.path().join("kept"), self.root());
    }

    /// Mounts are let go of, whoever forgot them.
    fn release(&self) {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        for at in
            mounts.lines().filter_map(|l| l.split(' ').nth(4)).filter(|at| Path::new(at).starts_with(self.dir.path()))
        {
            let _ = rustix::mount::unmount(at, rustix::mount::UnmountFlags::DETACH);
        }
    }

    /// What is there, as the program says.
    pub(crate) fn listing(&self) -> Result<Listing, String> {
        let mut listing = Listing::new();
        let questions: [(&str, &[&str]); 4] = [
            ("image", &["images", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}"]),
            ("container", &["ps", "--all", "--format", "{{.Names}} {{.Image}}"]),
            ("volume", &["volume", "ls", "--format", "{{.Name}}"]),
            ("network", &["network", "ls", "--format", "{{.Name}}"]),
        ];
        for (what, question) in questions {
            let (code, stdout, stderr) = self.run(question);
            if code != 0 || !stderr.is_empty() {
                return Err(format!("tare {question:?}: exit code {code}, {stderr}"));
            }
            listing.extend(stdout.lines().map(|line| format!("{what} {line}")));
        }
        Ok(listing)
    }

    /// Every file below the root but those of the database.
    pub(crate) fn files(&self) -> Files {
        let mut files = Files::new();
        let mut left = vec![self.root().to_owned()];
        while let Some(dir) = left.pop() {
            for entry in std::fs::read_dir(&dir).unwrap().flatten() {
                let (path, meta) = (entry.path(), entry.metadata().unwrap());
                let name = path.strip_prefix(self.root()).unwrap().to_owned();
                if meta.is_dir() {
                    left.push(path.clone());
                }
                if !["state.db", "state.db-wal", "state.db-shm", "lock"].iter().any(|n| name == Path::new(n)) {
                    files.insert(name, describe(&path, &meta));
                }
            }
        }
        files
    }

    /// What is left of this root in the kernel and in the run directory, once there was time to go.
    pub(crate) fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        // Containers that do not run have directories below the root; that is their place.
        eventually(Duration::from_secs(10), || {
            left = Census::take(&self.names).0.into_iter().filter(|l| !l.starts_with("container ")).collect();
            left.is_empty()
        });
        left
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.release();
    }
}

fn describe(path: &Path, meta: &Metadata) -> String {
    let kind = meta.file_type();
    let content = match () {
        () if kind.is_symlink() => std::fs::read_link(path).unwrap().display().to_string(),
        () if kind.is_file() => hash(&std::fs::read(path).unwrap()),
        () if kind.is_char_device() => format!("device {:x}", meta.rdev()),
        () => String::new(),
    };
    let mut names = [0u8; 4096];
    let n = rustix::fs::llistxattr(path, &mut names).unwrap_or(0);
    let xattrs = String::from_utf8_lossy(&names[..n]).into_owned();
    // A directory's own time changes with what is made in it beside the rest.
    let time = if kind.is_dir() { 0 } else { meta.mtime_nsec() + meta.mtime() * 1_000_000_000 };
    format!("{:o} {}:{} {time} {xattrs} {content}", meta.permissions().mode(), meta.uid(), meta.gid())
}

/// The digest in hexadecimal.
pub(crate) fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// A path with everything in it that is random in each run written as `*`: ids, digests, leases.
pub(crate) fn without_ids(path: &Path) -> String {
    let part = |p: &std::ffi::OsStr| {
        let bytes = p.as_bytes();
        let is_id = bytes.len() >= 16 && bytes.iter().all(u8::is_ascii_hexdigit);
        if is_id { "*".to_owned() } else { p.to_string_lossy().into_owned() }
    };
    path.iter().map(part).collect::<Vec<_>>().join("/")
}

fn copy(from: &Path, to: &Path) {
    let out = command("cp").args(["--archive", "--reflink=auto"]).arg(from).arg(to).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

fn remove(path: &Path) {
    match std::fs::remove_dir_all(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        other => other.unwrap_or_else(|e| panic!("{}: {e}", path.display())),
    }
}
