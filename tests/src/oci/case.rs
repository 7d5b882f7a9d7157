//! One case: a bundle, the runtime's commands upon it, and what becomes of the verdict.

use super::config::{base, drop_pointer, set_pointer};
use super::{kernel, layout, rootfs};
use crate::process::{Output, Running, binary, command, environment};
use crate::{eventually, unique};
use rustix::process::{Pid, WaitOptions, waitpid};
use serde_json::{Value, json};
use std::any::Any;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// A command of the runtime that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(90);

/// What is waited for comes in this time. A case that is run without one of its fields is to fail, and soon.
fn patience(usual: Duration) -> Duration {
    if environment("TARE_OCI_DROP").is_some() { usual.min(Duration::from_secs(5)) } else { usual }
}

/// Carries the reason of [`skip`] out of the case.
struct Skipped(String);

/// Ends the case: it cannot run on this host. The reason names what the host lacks, never what the runtime lacks.
pub fn skip(reason: &str) -> ! {
    resume_unwind(Box::new(Skipped(reason.to_owned())))
}

/// Runs one case and passes its verdict on to the test: see `TARE_OCI_EXPECT` in the module's description.
///
/// # Panics
/// If the case fails and nothing expects that, or passes although its failure is expected.
#[track_caller]
pub fn case(body: impl FnOnce(&mut Case)) {
    let name = std::thread::current().name().unwrap_or("?").to_owned();
    // The containers' first processes become children of this one when `create` has gone, so that they can be waited for.
    let me = rustix::process::getpid();
    rustix::process::set_child_subreaper(Some(me)).unwrap();
    let verdict = catch_unwind(AssertUnwindSafe(|| {
        let mut case = Case::new(&name);
        body(&mut case);
    }));
    match (verdict, expected_to_fail(&name)) {
        (Err(why), _) if why.is::<Skipped>() => crate::skip(&why.downcast::<Skipped>().unwrap().0),
        (Ok(()), Some(reason)) if !reason.starts_with("sometimes ") => {
            panic!("{name} passes, but is listed as failing: {reason}")
        }
        (Err(why), None) => resume_unwind(why),
        _ => {}
    }
}

/// Why the list of expected failures has this case; `None` if it has not, or if there is no list.
fn expected_to_fail(name: &str) -> Option<String> {
    let path = environment("TARE_OCI_EXPECT")?;
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let lines = text.lines().filter(|l| !l.starts_with('#'));
    lines.filter_map(|l| l.split_once(": ")).find(|(case, _)| *case == name).map(|(_, reason)| reason.to_owned())
}

/// A bundle with a root filesystem and a configuration of its own, and a runtime with a state directory of its own.
#[derive(Debug)]
pub struct Case {
    name: String,
    dir: TempDir,
    spec: Value,
    id: String,
    cgroup: String,
    /// Whether systemd makes the groups.
    systemd: bool,
    /// Containers that may exist, and the first processes that were seen.
    ids: Vec<String>,
    pids: Vec<i32>,
    /// Holds the mount namespace that the runtime is run in: see [`Case::before`].
    holder: Option<Running>,
    /// Words of the runtime's command.
    pub runtime: Vec<String>,
    /// Variables that the runtime gets besides this process's own.
    pub variables: Vec<(String, String)>,
    /// Words between the runtime's `--root` and its command: `--systemd-cgroup` …
    pub globals: Vec<String>,
}

impl Case {
    fn new(name: &str) -> Case {
        let words = environment("TARE_OCI_RUNTIME").unwrap_or_else(|| format!("{} oci", binary().display()));
        let runtime = words.split_whitespace().map(str::to_owned).collect();
        let dir = tempfile::Builder::new().prefix("tare-oci-").tempdir_in(rootfs::base()).unwrap();
        // Others than root pass through it, in user namespaces and after setuid.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(dir.path(), mode).unwrap();
        rootfs::make(&dir.path().join("rootfs"));
        let id = unique("oci-");
        let cgroup = format!("/tare-{id}/c");
        let spec = base(&cgroup);
        let (ids, pids, variables, globals) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (name, holder, systemd) = (name.to_owned(), None, false);
        let mut case = Case { name, dir, spec, id, cgroup, systemd, ids, pids, holder, runtime, variables, globals };
        if environment("TARE_OCI_MANAGER").as_deref() == Some("systemd") {
            case.under_systemd();
        }
        case
    }

    /// Has systemd make the groups: a scope of this case's own in `tare-oci.slice`, which lies in `tare.slice`.
    ///
    /// Skips the case if systemd does not run here.
    pub fn under_systemd(&mut self) -> &mut Case {
        if !Path::new("/run/systemd/system").exists() {
            skip("systemd does not run here");
        }
        self.systemd = true;
        self.cgroup = format!("/tare.slice/tare-oci.slice/c-{}.scope", self.id);
        let path = self.cgroups_path();
        self.set("/linux/cgroupsPath", path)
    }

    /// Has the runtime make the groups at this path, whoever makes those of other cases.
    pub fn under_cgroupfs(&mut self, path: &str) -> &mut Case {
        self.systemd = false;
        self.set("/linux/cgroupsPath", path)
    }

    /// The value of `cgroupsPath` that leads to [`Case::cgroup`].
    pub fn cgroups_path(&self) -> String {
        if self.systemd { format!("tare-oci.slice:c:{}", self.id) } else { self.cgroup.clone() }
    }

    /// The container's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The group of the configuration as it was made: `/tare-…/c`, where the part above is this case's own, too; or a
    /// scope.
    pub fn cgroup(&self) -> &str {
        &self.cgroup
    }

    /// The bundle's directory; `path` is relative, or empty.
    pub fn path(&self, path: &str) -> PathBuf {
        if path.is_empty() { self.dir.path().to_owned() } else { self.dir.path().join(path) }
    }

    /// A path of the container, seen from the host: `/etc` is `<bundle>/rootfs/etc`.
    pub fn inside(&self, path: &str) -> PathBuf {
        self.path("rootfs").join(path.trim_start_matches('/'))
    }

    /// Directory given to the runtime as `--root`.
    pub fn state_root(&self) -> PathBuf {
        self.path("state")
    }

    /// Changes config.json.
    pub fn with(&mut self, change: impl FnOnce(&mut Value)) -> &mut Case {
        change(&mut self.spec);
        self
    }

    /// Sets a field of config.json by its JSON pointer: see [`set_pointer`].
    pub fn set(&mut self, pointer: &str, value: impl Into<Value>) -> &mut Case {
        set_pointer(&mut self.spec, pointer, value.into());
        self
    }

    /// Takes a field out of config.json.
    pub fn unset(&mut self, pointer: &str) -> &mut Case {
        drop_pointer(&mut self.spec, pointer);
        self
    }

    /// config.json as it is now.
    pub fn spec(&self) -> &Value {
        &self.spec
    }

    /// Sets `process.args`.
    pub fn args(&mut self, args: &[&str]) -> &mut Case {
        self.set("/process/args", args)
    }

    /// Adds a mount.
    pub fn mount(&mut self, destination: &str, kind: &str, source: impl AsRef<Path>, options: &[&str]) -> &mut Case {
        let source = source.as_ref().to_string_lossy();
        let mount = json!({ "destination": destination, "type": kind, "source": source, "options": options });
        self.set("/mounts/-", mount)
    }

    /// Adds a bind mount of a file or directory.
    pub fn bind(&mut self, destination: &str, source: impl AsRef<Path>, options: &[&str]) -> &mut Case {
        self.mount(destination, "bind", source, &[&["bind"], options].concat())
    }

    /// Gives the container a new namespace of this kind (the specification's name), if it has none yet.
    pub fn unshare(&mut self, kind: &str) -> &mut Case {
        self.share(kind).set("/linux/namespaces/-", json!({ "type": kind }))
    }

    /// Has the container join a namespace.
    pub fn join(&mut self, kind: &str, path: &str) -> &mut Case {
        self.share(kind).set("/linux/namespaces/-", json!({ "type": kind, "path": path }))
    }

    /// Leaves the container in the runtime's namespace of this kind.
    pub fn share(&mut self, kind: &str) -> &mut Case {
        let list = self.spec["linux"]["namespaces"].as_array_mut().unwrap();
        list.retain(|n| n["type"] != kind);
        self
    }

    /// Writes config.json, without the field that `TARE_OCI_DROP` names. The commands below that read it do it themselves.
    pub fn write(&self) {
        let mut spec = self.spec.clone();
        if let Some(pointer) = environment("TARE_OCI_DROP") {
            drop_pointer(&mut spec, &pointer);
        }
        let text = serde_json::to_string_pretty(&spec).unwrap();
        std::fs::write(self.path("config.json"), &text).unwrap();
        if let Some(directory) = environment("TARE_OCI_RECORD") {
            let free =
                (0..).map(|n| Path::new(&directory).join(format!("{}.{n}.json", self.name))).find(|p| !p.exists());
            std::fs::write(free.unwrap(), &text).unwrap();
        }
    }

    /// A command of the runtime: its words, `--root`, then these.
    pub fn command(&self, args: &[&str]) -> Command {
        let (program, words) = self.runtime.split_first().unwrap();
        let mut command = match &self.holder {
            None => command(program),
            Some(holder) => {
                let mut command = command("nsenter");
                command.arg(format!("--mount=/proc/{}/ns/mnt", holder.pid())).arg(program);
                command
            }
        };
        command.args(words).arg("--root").arg(self.state_root());
        command.args(self.systemd.then_some("--systemd-cgroup")).args(&self.globals).args(args);
        command.envs(self.variables.iter().map(|(name, value)| (name, value))).current_dir(self.dir.path());
        command
    }

    /// Runs a shell script in a mount namespace of its own, whose mounts are private, and from then on every command of
    /// the runtime in that namespace: what the script mounts is there for the runtime and leaves nothing behind.
    ///
    /// # Panics
    /// If the script fails.
    #[track_caller]
    pub fn before(&mut self, script: &str) {
        let script = format!("set -e; {script}; echo prepared; exec sleep 1000");
        let mut unshare = command("unshare");
        unshare.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
        let mut holder = Running::start(&mut unshare, None);
        let ready = eventually(PATIENCE, || holder.printed().0.contains("prepared") || holder.has_ended());
        assert!(ready && !holder.has_ended(), "{script}: {:?}", holder.printed());
        self.holder = Some(holder);
    }

    /// Runs a shell script in the namespace of [`Case::before`]: its standard output, without the last line break.
    ///
    /// # Panics
    /// If it fails, or there is no such namespace.
    #[track_caller]
    pub fn beside(&self, script: &str) -> String {
        let mut command = command("nsenter");
        let namespace = format!("--mount=/proc/{}/ns/mnt", self.holder.as_ref().unwrap().pid());
        let out = Running::start(command.args([&namespace, "sh", "-c", script]), None).wait_for(patience(PATIENCE));
        assert_eq!(out.code, 0, "{script}: {}", out.stderr);
        out.stdout.trim_end_matches('\n').to_owned()
    }

    /// Runs a command of the runtime and waits for it.
    #[track_caller]
    pub fn oci(&self, args: &[&str]) -> Output {
        Running::start(&mut self.command(args), None).wait_for(patience(PATIENCE))
    }

    /// The same; its standard output, without the last line break.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        let out = self.oci(args);
        assert_eq!(out.code, 0, "{args:?} failed\nstdout: {}\nstderr: {}", out.stdout, out.stderr);
        out.stdout.trim_end_matches('\n').to_owned()
    }

    /// `run` in the foreground: exit code and output of the container's program.
    #[track_caller]
    pub fn run(&mut self) -> Output {
        self.write();
        self.note(self.id.clone());
        let (bundle, id) = (self.bundle(), self.id.clone());
        self.oci(&["run", "--bundle", &bundle, &id])
    }

    /// `run` with a shell script as the program; its standard output, without the last line break.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn sh(&mut self, script: &str) -> String {
        let out = self.args(&["/bin/sh", "-c", script]).run();
        assert_eq!(out.code, 0, "{script}\nstdout: {}\nstderr: {}", out.stdout, out.stderr);
        out.stdout.trim_end_matches('\n').to_owned()
    }

    /// `run` of a configuration that the runtime must refuse before the program starts: what it said of it.
    ///
    /// # Panics
    /// If the program was started, or nothing was said.
    #[track_caller]
    pub fn refused(&mut self) -> String {
        let out = self.args(&["/bin/echo", "the program has started"]).run();
        assert!(out.code != 0 && out.stdout.is_empty(), "not refused: {out:?}");
        assert!(!out.stderr.trim().is_empty(), "refused without a word: exit code {}", out.code);
        out.stderr
    }

    /// `create`: the first process's id, in the eyes of the host. What the container prints goes to [`Case::output`].
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn create(&mut self) -> i32 {
        self.create_with(&[])
    }

    /// `create` with more flags.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn create_with(&mut self, flags: &[&str]) -> i32 {
        let out = self.try_create(flags);
        assert_eq!(out.code, 0, "create failed\nstdout: {}\nstderr: {}", out.stdout, out.stderr);
        let text = std::fs::read_to_string(self.path("pid")).unwrap();
        let pid = text.trim().parse().unwrap_or_else(|_| panic!("{text:?} in the pid file"));
        self.pids.push(pid);
        pid
    }

    /// `create` that may fail; the pid file is `pid` in the bundle.
    #[track_caller]
    pub fn try_create(&mut self, flags: &[&str]) -> Output {
        self.write();
        self.note(self.id.clone());
        let (bundle, id) = (self.bundle(), self.id.clone());
        let pid_file = self.path("pid").display().to_string();
        let mut args = vec!["create", "--bundle", &bundle, "--pid-file", &pid_file];
        args.extend(flags);
        args.push(&id);
        let mut command = self.command(&args);
        let [stdout, stderr] = ["stdout", "stderr"].map(|name| File::create(self.path(name)).unwrap());
        command.stdin(Stdio::null()).stdout(stdout.try_clone().unwrap()).stderr(stderr.try_clone().unwrap());
        Running::spawn(&mut command, stdout, stderr).wait_for(patience(PATIENCE))
    }

    /// `start` of what was created.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn start(&self) {
        self.ok(&["start", &self.id]);
    }

    /// `create` and `start` with a shell script as the program: the first process's id.
    #[track_caller]
    pub fn up(&mut self, script: &str) -> i32 {
        let pid = self.args(&["/bin/sh", "-c", script]).create();
        self.start();
        pid
    }

    /// A container that does nothing until it is killed: the id of its only process.
    #[track_caller]
    pub fn sleeper(&mut self) -> i32 {
        let pid = self.args(&["/bin/sleep", "1000"]).create();
        self.start();
        self.until("the program runs", || kernel::proc(pid, "cmdline").contains("1000"));
        pid
    }

    /// What a container started with `create` has printed so far: standard output, standard error.
    pub fn output(&self) -> (String, String) {
        let text = |name: &str| String::from_utf8_lossy(&std::fs::read(self.path(name)).unwrap()).into_owned();
        (text("stdout"), text("stderr"))
    }

    /// Waits for the end of a container started with `create`: its exit code, or 128 + n after signal n.
    ///
    /// # Panics
    /// If it does not end.
    #[track_caller]
    pub fn wait(&self, pid: i32) -> i32 {
        let process = Pid::from_raw(pid).unwrap();
        let mut status = None;
        let ended = eventually(patience(PATIENCE), || {
            status = waitpid(Some(process), WaitOptions::NOHANG).unwrap();
            status.is_some()
        });
        assert!(ended, "process {pid} has not ended; it printed {:?}", self.output());
        let status = status.unwrap().1;
        status.exit_status().unwrap_or_else(|| 128 + status.terminating_signal().unwrap())
    }

    /// `exec` of a command.
    #[track_caller]
    pub fn exec(&self, command: &[&str]) -> Output {
        self.oci(&[&["exec", &self.id], command].concat())
    }

    /// `exec` of a shell script; its standard output, without the last line break.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn exec_sh(&self, script: &str) -> String {
        self.ok(&["exec", &self.id, "/bin/sh", "-c", script])
    }

    /// `state`, parsed.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn state(&self) -> Value {
        serde_json::from_str(&self.ok(&["state", &self.id])).unwrap()
    }

    /// Waits until `state` says this status.
    ///
    /// # Panics
    /// If it does not.
    #[track_caller]
    pub fn until_status(&self, status: &str) {
        self.until(status, || self.state()["status"] == status);
    }

    /// Waits until this holds.
    ///
    /// # Panics
    /// If it does not.
    #[track_caller]
    pub fn until(&self, what: &str, done: impl FnMut() -> bool) {
        assert!(eventually(patience(Duration::from_secs(20)), done), "it does not come true that {what}");
    }

    /// Has another container of this case removed at its end as well.
    pub fn note(&mut self, id: String) {
        if !self.ids.contains(&id) {
            self.ids.push(id);
        }
    }

    /// `--bundle`'s value.
    pub fn bundle(&self) -> String {
        self.dir.path().display().to_string()
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        for id in &self.ids {
            let delete: Result<Output, Box<dyn Any + Send>> =
                catch_unwind(AssertUnwindSafe(|| self.oci(&["delete", "--force", id])));
            drop(delete);
        }
        for pid in &self.pids {
            // In case the runtime could not: it is this process's own child and thus still the same process.
            let process = Pid::from_raw(*pid).unwrap();
            if let Ok(None) = waitpid(Some(process), WaitOptions::NOHANG) {
                let _ = rustix::process::kill_process(process, rustix::process::Signal::KILL);
                eventually(Duration::from_secs(5), || !matches!(waitpid(Some(process), WaitOptions::NOHANG), Ok(None)));
            }
        }
        let above = self.cgroup.rsplit_once('/').and_then(|(above, last)| (last == "c").then_some(above));
        // What is mounted in the case's own namespace only is out of reach once that is gone, and a hierarchy with groups
        // stays as long as the kernel runs.
        if let Some(holder) = &self.holder {
            let groups = [Some(self.cgroup.as_str()), above].into_iter().flatten();
            let script: String =
                groups.map(|g| format!("for at in /sys/fs/cgroup/*; do rmdir $at{g} 2>/dev/null; done; ")).collect();
            let mut command = command("nsenter");
            let namespace = format!("--mount=/proc/{}/ns/mnt", holder.pid());
            Running::start(command.args([&namespace, "sh", "-c", &script]), None).wait();
        }
        layout().remove(&self.cgroup);
        if let Some(above) = above {
            layout().remove(above);
        }
    }
}
