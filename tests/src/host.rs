//! A host of one test: its own directories, and the binary told to use them.

use crate::busybox::busybox_tar;
use crate::census::{Census, Names};
use crate::process::{Output, Running, binary, command, environment};
use crate::{Tree, eventually};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// Kernel objects are to be gone this soon after the last container; the machine may be busy.
const TEARDOWN: Duration = Duration::from_secs(10);

/// One root, with everything that belongs to it; when it goes, nothing of it may be left.
#[derive(Debug)]
pub struct Host {
    dir: TempDir,
    names: Names,
    binary: PathBuf,
    variables: Vec<(String, String)>,
}

impl Host {
    /// New, empty directories.
    ///
    /// # Panics
    /// If they cannot be made.
    #[expect(clippy::new_without_default, reason = "it makes directories")]
    pub fn new() -> Host {
        let base = environment("TARE_TEST_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let base = base.canonicalize().unwrap();
        let dir = tempfile::Builder::new().prefix("tare-e2e-").tempdir_in(base).unwrap();
        let names = Names::of(&dir.path().join("root"), &dir.path().join("run"));
        Host { dir, names, binary: binary(), variables: Vec::new() }
    }

    /// One whose root lies elsewhere, and may be there already; `boot` is the boot that the binary believes to be in, if it is not
    /// this one.
    ///
    /// # Panics
    /// If its directories cannot be made.
    pub fn at(root: &Path, boot: Option<&str>) -> Host {
        let mut host = Host::new();
        host.names = Names::of(root, &host.dir.path().join("run"));
        if let Some(boot) = boot {
            std::fs::write(host.scratch("boot_id"), format!("{boot}\n")).unwrap();
            let wrapper = host.scratch("tare");
            let script = format!(
                "#!/bin/sh\nexec taskset -c {} unshare -m sh -c 'mount --bind {} /proc/sys/kernel/random/boot_id && exec {} \"$@\"' sh \"$@\"\n",
                first_processor(),
                host.scratch("boot_id").display(),
                host.binary.display()
            );
            std::fs::write(&wrapper, script).unwrap();
            std::fs::set_permissions(&wrapper, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
            host.binary = wrapper;
        }
        host
    }

    /// A variable of the environment for all that it runs from now on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// `--root`.
    pub fn root(&self) -> &Path {
        &self.names.root
    }

    /// `--run`.
    pub fn run_dir(&self) -> &Path {
        &self.names.run
    }

    /// By what its things are known in the kernel.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// A path in a scratch directory that goes with the host.
    ///
    /// # Panics
    /// If the directory cannot be made.
    pub fn scratch(&self, name: &str) -> PathBuf {
        let dir = self.dir.path().join("scratch");
        std::fs::create_dir_all(&dir).unwrap();
        dir.join(name)
    }

    /// `tare --root … --run … ARGS`, not started. The environment is only a PATH.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut c = command(&self.binary);
        c.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        c.envs(self.variables.iter().map(|(name, value)| (name, value)));
        c.env("HOME", self.dir.path()).arg("--root").arg(self.root()).arg("--run").arg(self.run_dir()).args(args);
        c
    }

    /// Runs a verb to its end.
    pub fn run(&self, args: &[&str]) -> Output {
        Running::start(&mut self.command(args), None).wait()
    }

    /// Runs a verb with this standard input.
    pub fn run_with(&self, args: &[&str], input: &[u8]) -> Output {
        Running::start(&mut self.command(args), Some(input)).wait()
    }

    /// Starts a verb and leaves it running.
    pub fn start(&self, args: &[&str]) -> Running {
        Running::start(&mut self.command(args), None)
    }

    /// Runs a verb that must succeed; its standard output without the last line end.
    ///
    /// # Panics
    /// If its exit code is not 0.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        let out = self.run(args);
        assert_eq!(out.code, 0, "tare {args:?}\nstdout: {}\nstderr: {}", out.stdout, out.stderr);
        out.stdout.strip_suffix('\n').map_or(out.stdout.clone(), str::to_owned)
    }

    /// Runs a verb that must fail with this exit code; its standard error.
    ///
    /// # Panics
    /// If its exit code is another one.
    #[track_caller]
    pub fn fails(&self, args: &[&str], code: i32) -> String {
        let out = self.run(args);
        assert_eq!(out.code, code, "tare {args:?}\nstdout: {}\nstderr: {}", out.stdout, out.stderr);
        out.stderr
    }

    /// `inspect` of one object: its JSON.
    ///
    /// # Panics
    /// If there is no such object.
    #[track_caller]
    pub fn inspect(&self, name: &str) -> serde_json::Value {
        let list: serde_json::Value = serde_json::from_str(&self.ok(&["inspect", name])).unwrap();
        list.get(0).cloned().unwrap_or(list)
    }

    /// Gives it the image `busybox`: see [`Tree::busybox`]. A host without any state gets a copy of one that has
    /// imported it; others import it.
    ///
    /// # Panics
    /// If it cannot be imported.
    #[track_caller]
    pub fn busybox(&self) {
        if self.root().exists() {
            self.ok(&["import", "--change", "CMD [\"sh\"]", &busybox_tar().display().to_string(), "busybox"]);
        } else {
            copy(&self.template(), self.root());
        }
    }

    /// A root with nothing but the image `busybox`, made once for each binary under test: every test is a process.
    fn template(&self) -> PathBuf {
        use std::os::unix::fs::MetadataExt;
        let meta = std::fs::metadata(&self.binary).unwrap();
        let version = format!("{}-{}-{}", meta.mtime(), meta.mtime_nsec(), meta.len());
        let base = self.dir.path().parent().unwrap();
        let uid = rustix::process::geteuid().as_raw();
        let template = base.join(format!("tare-tests-root-{uid}-{version}"));
        if !template.exists() {
            remove_old(base, "tare-tests-root-");
            let maker = Host::new();
            // It is no template yet: this imports.
            std::fs::create_dir(maker.root()).unwrap();
            maker.busybox();
            let aside = base.join(crate::unique("tare-tests-root-aside-"));
            copy(maker.root(), &aside);
            // Another process may have been faster; its template is as good.
            if std::fs::rename(&aside, &template).is_err() {
                std::fs::remove_dir_all(&aside).unwrap();
            }
        }
        template
    }

    /// The paths in a layer, sorted, in whichever form it is unpacked; `layer`: its diff ID as `inspect` gives it.
    ///
    /// # Panics
    /// If it is not there.
    pub fn layer_paths(&self, layer: &str) -> Vec<String> {
        let dir = self.root().join("layers").join(layer.strip_prefix("sha256:").unwrap());
        // An image begins with its archive, behind one block.
        let script =
            "if test -d \"$0/fs\"; then cd \"$0/fs\" && find . ; else tail -c +4097 \"$0/layer.erofs\" | tar -t; fi";
        let out = Running::start(command("sh").args(["-c", script]).arg(&dir), None).wait();
        assert_eq!(out.code, 0, "{}", out.stderr);
        let plain = |path: &str| path.trim_start_matches("./").trim_end_matches('/').to_owned();
        let mut paths: Vec<String> = out.stdout.lines().map(plain).collect();
        paths.retain(|path| !matches!(path.as_str(), "" | "."));
        paths.sort();
        paths
    }

    /// Imports a tree as an image; `changes` are Dockerfile instructions.
    ///
    /// # Panics
    /// If it cannot be imported.
    #[track_caller]
    pub fn import(&self, tree: &Tree, changes: &[&str], name: &str) {
        let archive = self.scratch("import.tar");
        tree.tar(&archive);
        let archive = archive.display().to_string();
        let mut args = vec!["import"];
        changes.iter().for_each(|c| args.extend(["--change", *c]));
        args.extend([archive.as_str(), name]);
        self.ok(&args);
        std::fs::remove_file(archive).unwrap();
    }

    /// Runs a shell script in a fresh container of `busybox` that is removed at once; what it printed.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        self.ok(&["run", "--rm", "--network", "none", "busybox", "sh", "-c", script])
    }

    /// Waits until nothing of this root is in the kernel or the run directory; what is left otherwise.
    pub fn settled(&self) -> Census {
        let mut census = Census::default();
        eventually(TEARDOWN, || {
            census = Census::take(&self.names);
            census.is_empty()
        });
        census
    }

    /// Removes all containers by force; what it said of those that it could not.
    pub fn clear(&self) -> String {
        if !self.root().exists() {
            return String::new();
        }
        let all = self.run(&["ps", "--all", "--quiet", "--no-trunc"]).stdout;
        let mut args = vec!["rm", "--force", "--volumes"];
        args.extend(all.split_whitespace());
        if args.len() > 3 { self.run(&args).stderr } else { String::new() }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let failures = self.clear();
        let left = self.settled();
        if !std::thread::panicking() {
            assert!(left.is_empty(), "left behind: {:#?}\n{failures}", left.0);
        }
    }
}

/// A processor on which this process may run: newer kernels number mount namespaces on each processor for itself, and what is
/// started in one whose number is large can do less with those that come after it.
fn first_processor() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let list = status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:")).unwrap().trim();
    list.split([',', '-']).next().unwrap().to_owned()
}

fn copy(from: &Path, to: &Path) {
    let out = Running::start(command("cp").arg("--archive").arg(from).arg(to), None).wait();
    assert_eq!(out.code, 0, "{}", out.stderr);
}

/// Removes what earlier runs have left under such names more than a day ago.
fn remove_old(base: &Path, prefix: &str) {
    for entry in std::fs::read_dir(base).into_iter().flatten().flatten() {
        let age = entry.metadata().and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
        if entry.file_name().to_string_lossy().starts_with(prefix) && age.is_some_and(|a| a.as_secs() > 86_400) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
