//! Launches on the real kernel, as root. Each test runs in a clone of its own, which has one thread as the runtime does.

use super::*;
use crate::plan;
use rustix::fs::{Mode, OFlags};
use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use tare_kernel::process::{self, Parent};
use tare_model::Kind;
use tare_model::runtime_spec::{
    Hook, Hooks, Linux, LinuxIdMapping, LinuxNamespace, LinuxTimeOffset, Mount, NamespaceKind as K, Process, Root, Spec,
};

/// Runs a test where it may clone, and fails with its words.
fn alone(test: impl FnOnce()) {
    let (read, write) = rustix::pipe::pipe().unwrap();
    let child = process::clone_again(Namespaces::NONE, None, Parent::Caller, || {
        let failed = catch_unwind(AssertUnwindSafe(test)).err();
        if let Some(panic) = &failed {
            let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            let _ = rustix::io::write(&write, text.unwrap_or("panic").as_bytes());
        }
        process::exit_now(i32::from(failed.is_some()))
    })
    .unwrap();
    drop(write);
    let mut words = String::new();
    std::fs::File::from(read).read_to_string(&mut words).unwrap();
    let status = wait(child.pidfd.as_fd());
    assert_eq!(status, 0, "{words}");
}

fn wait(pidfd: BorrowedFd<'_>) -> i32 {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let status = waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED).unwrap().unwrap();
    status.exit_status().or(status.terminating_signal().map(|s| 128 + s)).unwrap()
}

/// A container on a copy of the host's root directory, with a proc of its own, that runs a shell script.
fn spec(namespaces: &[(K, Option<String>)], script: &str) -> Spec {
    Spec {
        process: Some(Process {
            args: vec!["/bin/sh".into(), "-c".into(), script.into()],
            env: vec!["PATH=/usr/bin:/bin:/usr/sbin:/sbin".into()],
            cwd: "/".into(),
            ..Default::default()
        }),
        root: Some(Root { path: "/".into(), readonly: false }),
        mounts: vec![
            Mount { destination: "/proc".into(), kind: Some("proc".into()), ..Default::default() },
            // Or devices would be made in the host's root.
            Mount { destination: "/dev".into(), kind: Some("tmpfs".into()), ..Default::default() },
        ],
        linux: Some(Linux {
            namespaces: namespaces
                .iter()
                .map(|(kind, path)| LinuxNamespace { kind: *kind, path: path.clone() })
                .collect(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn with_maps(mut spec: Spec, host: u32) -> Spec {
    let map = vec![LinuxIdMapping { container_id: 0, host_id: host, size: 65536 }];
    let linux = spec.linux.as_mut().unwrap();
    (linux.uid_mappings, linux.gid_mappings) = (map.clone(), map);
    spec
}

fn host_proc() -> Mount {
    Mount {
        destination: "/proc".into(),
        source: Some("/proc".into()),
        options: vec!["rbind".into()],
        ..Default::default()
    }
}

fn made(kinds: &[K]) -> Vec<(K, Option<String>)> {
    kinds.iter().map(|k| (*k, None)).collect()
}

/// Prepares and spawns; what the program writes can be read from the second.
fn begin(spec: &Spec, change: impl FnOnce(&mut LaunchPlan, &mut Equipment)) -> Result<(Launch, std::fs::File)> {
    let mut plan = plan::plan(spec)?;
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let stdio = Stdio { stdin: null_device()?, stdout: write.try_clone().unwrap(), stderr: write };
    let mut equipment = Equipment { stdio: Some(stdio), ..Default::default() };
    change(&mut plan, &mut equipment);
    let root = clone_mount("/")?;
    let prepared = prepare(&plan, root, Vec::new())?;
    Ok((spawn(&plan, prepared, equipment)?, read.into()))
}

fn finish(running: Running, mut output: std::fs::File) -> String {
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    let code = wait(running.pidfd.as_fd());
    assert_eq!(code, 0, "exit code {code}: {text}");
    text.trim_end().to_owned()
}

fn try_output(spec: &Spec) -> Result<String> {
    let (launch, output) = begin(spec, |_, _| ())?;
    Ok(finish(launch.release()?, output))
}

fn output(spec: &Spec) -> String {
    try_output(spec).unwrap_or_else(|e| panic!("{e}"))
}

/// A process in fresh namespaces, for others to join; killed with this.
struct Holder(Child);

impl Holder {
    fn new(namespaces: Namespaces) -> Self {
        let child = process::clone(namespaces, None, || {
            loop {
                let _ = rustix::thread::nanosleep(&rustix::time::Timespec { tv_sec: 1000, tv_nsec: 0 });
            }
        });
        Holder(child.unwrap())
    }

    fn path(&self, file: &str) -> String {
        format!("/proc/{}/ns/{file}", self.0.pid.as_raw_nonzero())
    }

    fn link(&self, file: &str) -> String {
        std::fs::read_link(self.path(file)).unwrap().to_str().unwrap().to_owned()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = process::pidfd_signal(self.0.pidfd.as_fd(), 9);
        wait(self.0.pidfd.as_fd());
    }
}

fn own(file: &str) -> String {
    std::fs::read_link(format!("/proc/self/ns/{file}")).unwrap().to_str().unwrap().to_owned()
}

const FILES: [(K, &str); 8] = [
    (K::Mount, "mnt"),
    (K::Pid, "pid"),
    (K::Network, "net"),
    (K::Ipc, "ipc"),
    (K::Uts, "uts"),
    (K::User, "user"),
    (K::Cgroup, "cgroup"),
    (K::Time, "time"),
];

#[test]
fn each_namespace_alone_is_made_and_no_other() {
    for (kind, file) in FILES {
        alone(move || {
            let mut kinds = vec![K::Mount];
            if kind != K::Mount {
                kinds.push(kind);
            }
            let script = "for n in mnt pid net ipc uts user cgroup time; do echo $n $(readlink /proc/self/ns/$n); done";
            let mut s = spec(&made(&kinds), script);
            if kind == K::User {
                s = with_maps(s, 100_000);
                // A proc of its own takes a PID namespace of its own: the host's is seen instead.
                s.mounts[0] = host_proc();
            }
            let text = output(&s);
            for line in text.lines() {
                let (name, link) = line.split_once(' ').unwrap();
                let expected_new = name == "mnt" || name == file;
                assert_eq!(link != own(name), expected_new, "{file}: {line}");
            }
        });
    }
}

#[test]
fn all_namespaces_at_once_with_an_identity_in_them() {
    alone(|| {
        let kinds: Vec<K> = FILES.iter().map(|f| f.0).collect();
        let script = "id -u; id -g; cat /proc/self/uid_map; cat /proc/sys/kernel/hostname; echo $$; \
                      touch /tmp/x && stat -c %u:%g /tmp/x; grep CapEff /proc/self/status";
        let mut s = with_maps(spec(&made(&kinds), script), 100_000);
        s.hostname = Some("inside".into());
        s.mounts.push(Mount { destination: "/tmp".into(), kind: Some("tmpfs".into()), ..Default::default() });
        let text = output(&s);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..2], ["0", "0"]);
        assert_eq!(lines[2].split_whitespace().collect::<Vec<_>>(), ["0", "100000", "65536"]);
        assert_eq!(lines[3..6], ["inside", "1", "0:0"]);
    });
}

#[test]
fn several_ranges_and_a_user_that_is_not_the_first() {
    alone(|| {
        let kinds = [K::Mount, K::Pid, K::User];
        let mut s = spec(&made(&kinds), "id -u; id -g; id -G; cat /proc/self/gid_map");
        let linux = s.linux.as_mut().unwrap();
        let map = |container_id, host_id, size| LinuxIdMapping { container_id, host_id, size };
        linux.uid_mappings = vec![map(5, 0, 1), map(1000, 200_000, 10)];
        linux.gid_mappings = vec![map(0, 0, 1), map(7, 300_000, 2)];
        let user = &mut s.process.as_mut().unwrap().user;
        (user.uid, user.gid, user.additional_gids) = (1003, 8, vec![7]);
        let text = output(&s);
        let mut lines = text.lines();
        assert_eq!((lines.next(), lines.next(), lines.next()), (Some("1003"), Some("8"), Some("8 7")));
        assert_eq!(lines.next().unwrap().split_whitespace().collect::<Vec<_>>(), ["0", "0", "1"]);
    });
}

#[test]
fn each_namespace_is_joined_by_path() {
    for (kind, file) in FILES {
        alone(move || {
            let bits = if kind == K::Time { Namespaces::NONE } else { bit(kind) };
            let holder = Holder::new(bits);
            if kind == K::User {
                let maps = plan::IdMaps { uids: vec![range(0, 100_000)], gids: vec![range(0, 100_000)] };
                maps::write(holder.0.pid.as_raw_nonzero().get(), &maps).unwrap();
            }
            if kind == K::Time {
                return;
            }
            let mut namespaces = made(&[K::Mount]);
            namespaces.retain(|(k, _)| *k != kind);
            namespaces.push((kind, Some(holder.path(file))));
            let mut s = spec(&namespaces, &format!("readlink /proc/self/ns/{file}; id -u"));
            if kind == K::User {
                s.mounts[0] = host_proc();
            }
            assert_eq!(output(&s), format!("{}\n0", holder.link(file)), "{file}");
        });
    }
}

fn range(inside: u32, outside: u32) -> plan::IdRange {
    plan::IdRange { inside, outside, count: 65536 }
}

#[test]
fn a_user_namespace_by_path_owns_what_is_made_and_lets_join_what_it_owns() {
    alone(|| {
        let holder = Holder::new(Namespaces::USER.with(Namespaces::NETWORK));
        let maps = plan::IdMaps { uids: vec![range(0, 100_000)], gids: vec![range(0, 100_000)] };
        maps::write(holder.0.pid.as_raw_nonzero().get(), &maps).unwrap();
        // One owned by the host's user namespace, and one owned by the joined one.
        let host_uts = Holder::new(Namespaces::UTS);
        let mut namespaces = made(&[K::Mount, K::Pid, K::Ipc, K::Cgroup, K::Time]);
        namespaces.push((K::User, Some(holder.path("user"))));
        namespaces.push((K::Network, Some(holder.path("net"))));
        namespaces.push((K::Uts, Some(host_uts.path("uts"))));
        let script = "for n in user net uts; do readlink /proc/self/ns/$n; done; id -u; echo $$; \
                      readlink /proc/1/ns/pid; hostname x 2>&1 | grep -q . && echo refused";
        let text = output(&spec(&namespaces, script));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..3], [holder.link("user"), holder.link("net"), host_uts.link("uts")]);
        assert_eq!(lines[3..5], ["0", "1"]);
        assert_eq!(lines[6], "refused", "the host's UTS namespace cannot be changed from within");
    });
}

#[test]
fn a_new_user_namespace_with_a_network_of_the_hosts() {
    alone(|| {
        let net = Holder::new(Namespaces::NETWORK);
        let mut namespaces = made(&[K::Mount, K::Pid, K::User]);
        namespaces.push((K::Network, Some(net.path("net"))));
        let s = with_maps(spec(&namespaces, "readlink /proc/self/ns/net; cat /proc/self/uid_map"), 70_000);
        let text = output(&s);
        assert!(text.starts_with(&net.link("net")) && text.contains("70000"), "{text}");
    });
}

#[test]
fn a_pid_namespace_by_path_with_all_others_made() {
    alone(|| {
        let holder = Holder::new(Namespaces::PID);
        let mut namespaces = made(&[K::Mount, K::Ipc, K::Uts, K::Network, K::Cgroup]);
        namespaces.push((K::Pid, Some(holder.path("pid"))));
        let text = output(&spec(&namespaces, "readlink /proc/self/ns/pid; echo $$"));
        let (link, pid) = text.split_once('\n').unwrap();
        assert_eq!(link, holder.link("pid"));
        assert_ne!(pid, "1");
        assert_eq!(own("pid"), own("pid_for_children"), "the runtime has come back");
    });
}

#[test]
fn clocks_have_their_offsets() {
    for user in [false, true] {
        alone(move || {
            let mut kinds = vec![K::Mount, K::Pid, K::Time];
            kinds.extend(user.then_some(K::User));
            let mut s = spec(&made(&kinds), "cat /proc/self/timens_offsets; cut -d. -f1 /proc/uptime");
            if user {
                s = with_maps(s, 100_000);
            }
            let offset = |secs, nanosecs| LinuxTimeOffset { secs, nanosecs };
            s.linux.as_mut().unwrap().time_offsets =
                [("boottime".to_owned(), offset(86_400, 5)), ("monotonic".to_owned(), offset(-1, 0))].into();
            let text = output(&s);
            let words: Vec<&str> = text.split_whitespace().collect();
            assert_eq!(words[..6], ["monotonic", "-1", "0", "boottime", "86400", "5"], "{text}");
            let uptime = rustix::time::clock_gettime(rustix::time::ClockId::Boottime).tv_sec + 86_400;
            assert!((words[6].parse::<i64>().unwrap() - uptime).abs() < 5, "{text}");
        });
    }
    alone(|| {
        let mut s = spec(&made(&[K::Mount, K::Time]), "true");
        s.linux.as_mut().unwrap().time_offsets =
            [("boottime".to_owned(), LinuxTimeOffset { secs: -1_000_000_000, nanosecs: 0 })].into();
        assert_eq!(try_output(&s).unwrap_err().kind(), Kind::Invalid);
    });
}

#[test]
fn a_time_namespace_by_path() {
    alone(|| {
        // One with an offset, held by a container of its own.
        let mut s = spec(&made(&[K::Mount, K::Time]), "echo here; exec sleep 1000");
        s.linux.as_mut().unwrap().time_offsets =
            [("boottime".to_owned(), LinuxTimeOffset { secs: 1_000_000, nanosecs: 0 })].into();
        let (launch, mut text) = begin(&s, |_, _| ()).unwrap();
        let running = launch.release().unwrap();
        text.read_exact(&mut [0; 5]).unwrap();
        let path = format!("/proc/{}/ns/time", running.pid);
        let link = std::fs::read_link(&path).unwrap();
        for user in [false, true] {
            let mut namespaces = made(&[K::Mount, K::Pid]);
            namespaces.push((K::Time, Some(path.clone())));
            let mut s = spec(&namespaces, "readlink /proc/self/ns/time; cut -d. -f1 /proc/uptime");
            if user {
                s.linux.as_mut().unwrap().namespaces.push(LinuxNamespace { kind: K::User, path: None });
                s = with_maps(s, 100_000);
            }
            let text = output(&s);
            let (found, uptime) = text.split_once('\n').unwrap();
            assert_eq!(found, link.to_str().unwrap());
            assert!(uptime.parse::<i64>().unwrap() > 1_000_000, "{text}");
        }
        process::pidfd_signal(running.pidfd.as_fd(), 9).unwrap();
        wait(running.pidfd.as_fd());
    });
}

#[test]
fn what_is_no_namespace_or_another_is_refused() {
    alone(|| {
        let refused = |kind, path: &str, words: &str| {
            let mut namespaces = made(&[K::Mount]);
            namespaces.push((kind, Some(path.to_owned())));
            let e = try_output(&spec(&namespaces, "true")).unwrap_err();
            assert!(e.to_string().contains(words), "{e} lacks {words:?}");
        };
        refused(K::Network, "/proc/self/ns/uts", "kind UTS, not network");
        refused(K::Network, "/dev/null", "not a namespace");
        refused(K::Network, "/etc", "not a namespace");
        refused(K::User, "/proc/self/ns/user", "in already");
        let mut s = spec(&made(&[K::Mount]), "true");
        let linux = s.linux.as_mut().unwrap();
        linux.namespaces.push(LinuxNamespace { kind: K::Network, path: Some("/proc/self/ns/net".into()) });
        linux.sysctl = [("net.ipv4.ip_forward".to_owned(), "1".to_owned())].into();
        assert!(try_output(&s).unwrap_err().to_string().contains("it is the host's"));
    });
}

#[test]
fn without_pivot_and_without_a_mount_namespace() {
    alone(|| {
        let (launch, text) = begin(&spec(&made(&[K::Mount, K::Pid]), "echo $$; ls /proc | grep -c ^1$"), |plan, _| {
            plan.avoid_pivot();
        })
        .unwrap();
        assert_eq!(finish(launch.release().unwrap(), text), "1\n1");
        // No mount is left in the host's namespace.
        let before = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let s = spec(&made(&[K::Pid, K::Uts]), "echo $$; grep -c . /proc/self/mounts; readlink /proc/self/ns/mnt");
        let text = output(&s);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines[0], lines[2]), ("1", own("mnt").as_str()));
        assert_eq!(std::fs::read_to_string("/proc/self/mounts").unwrap(), before);
    });
}

#[test]
fn a_gate_outlives_its_creator_and_bad_starters() {
    alone(|| {
        let dir = scratch("gate");
        let handle = rustix::fs::open(&dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let listener = bind_gate(handle.as_fd(), "gate").unwrap();
        assert_eq!(bind_gate(handle.as_fd(), "gate").unwrap_err().kind(), Kind::InUse);
        let (mut launch, text) = begin(&spec(&made(&[K::Mount, K::Pid]), "echo started"), |_, e| {
            e.gate = Gate::Socket(listener);
        })
        .unwrap();
        launch.wait_ready().unwrap();
        let running = launch.leave();
        let status = std::fs::read_to_string(format!("/proc/{}/status", running.pid)).unwrap();
        assert!(status.contains("State:"), "{status}");
        let connect = || {
            let socket =
                rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::SEQPACKET, None)
                    .unwrap();
            let path = rustix::net::SocketAddrUnix::new(dir.join("gate")).unwrap();
            rustix::net::connect(&socket, &path).map(|()| socket)
        };
        // One that goes, one that speaks nonsense.
        drop(connect().unwrap());
        let garbled = connect().unwrap();
        rustix::net::send(&garbled, b"start, please, now", rustix::net::SendFlags::NOSIGNAL).unwrap();
        // A starter of another user is sent away, whatever the socket's mode says.
        std::fs::set_permissions(dir.join("gate"), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let other = process::clone(Namespaces::NONE, None, || {
            let nobody = rustix::process::Uid::from_raw(65_534);
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
            let socket = connect().unwrap();
            let _ = rustix::net::send(&socket, b"g", rustix::net::SendFlags::NOSIGNAL);
            let n = rustix::net::recv(&socket, &mut [0u8; 8], rustix::net::RecvFlags::empty()).map_or(0, |(n, _)| n);
            process::exit_now(i32::from(n > 0))
        })
        .unwrap();
        assert_eq!(wait(other.pidfd.as_fd()), 0, "the stranger was let in");
        assert_eq!(open_gate(handle.as_fd(), "gate", None).unwrap(), Vec::<String>::new());
        assert_eq!(open_gate(handle.as_fd(), "gate", None).unwrap_err().kind(), Kind::State);
        assert_eq!(finish(running, text), "started");
        assert_eq!(open_gate(handle.as_fd(), "none", None).unwrap_err().kind(), Kind::NotFound);
        std::fs::remove_dir_all(dir).unwrap();
    });
}

#[test]
fn the_gate_knows_its_creator_from_within_a_user_namespace() {
    alone(|| {
        let dir = scratch("user-gate");
        let handle = rustix::fs::open(&dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let listener = bind_gate(handle.as_fd(), "gate").unwrap();
        let s = with_maps(spec(&made(&[K::Mount, K::Pid, K::User]), "id -u"), 100_000);
        let (mut launch, text) = begin(&s, |_, e| e.gate = Gate::Socket(listener)).unwrap();
        launch.wait_ready().unwrap();
        let running = launch.leave();
        open_gate(handle.as_fd(), "gate", None).unwrap();
        assert_eq!(finish(running, text), "0");
        std::fs::remove_dir_all(dir).unwrap();
    });
}

#[test]
fn a_creator_that_is_killed_takes_the_unfinished_with_it_and_leaves_the_finished() {
    for finished in [false, true] {
        alone(move || {
            let dir = scratch(if finished { "left" } else { "unfinished" });
            let handle =
                rustix::fs::open(&dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
            let listener = bind_gate(handle.as_fd(), "gate").unwrap();
            let (report, told) = rustix::pipe::pipe().unwrap();
            // Orphans come to this process, which looks after them.
            rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
            let creator = process::clone(Namespaces::NONE, None, || {
                let mut s = spec(&made(&[K::Mount, K::Pid]), "sleep 1000");
                if !finished {
                    let hook = Hook { path: "/bin/true".into(), ..Default::default() };
                    s.hooks = Some(Hooks { prestart: vec![hook], ..Default::default() });
                }
                let (mut launch, _text) = begin(&s, |_, e| e.gate = Gate::Socket(listener)).unwrap();
                let pid = launch.pid();
                let tell = || {
                    let _ = rustix::io::write(&told, &pid.to_ne_bytes());
                };
                let _ = launch.wait_ready_with(|| {
                    tell();
                    loop {
                        let _ = rustix::thread::nanosleep(&rustix::time::Timespec { tv_sec: 9, tv_nsec: 0 });
                    }
                });
                tell();
                loop {
                    let _ = rustix::thread::nanosleep(&rustix::time::Timespec { tv_sec: 9, tv_nsec: 0 });
                }
            })
            .unwrap();
            let mut pid = [0u8; 4];
            rustix::io::read(&report, &mut pid).unwrap();
            let pid = rustix::process::Pid::from_raw(i32::from_ne_bytes(pid)).unwrap();
            let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
            process::pidfd_signal(creator.pidfd.as_fd(), 9).unwrap();
            wait(creator.pidfd.as_fd());
            if finished {
                std::thread::sleep(std::time::Duration::from_millis(100));
                open_gate(handle.as_fd(), "gate", None).unwrap();
                process::pidfd_signal(pidfd.as_fd(), 9).unwrap();
            }
            // Unfinished, it is killed, unless it sees first that nobody is at the other end of its channel.
            let code = wait(pidfd.as_fd());
            assert!(code == 128 + 9 || (!finished && code == 1), "{code}");
            std::fs::remove_dir_all(dir).unwrap();
        });
    }
}

#[test]
fn hooks_run_at_their_points_with_the_state() {
    alone(|| {
        let dir = scratch("hooks");
        let log = dir.join("log");
        let hook = |name: &str| Hook {
            path: "/bin/sh".into(),
            args: vec![
                "sh".into(),
                "-c".into(),
                format!(
                    "(echo {name} $(readlink /proc/self/ns/mnt) $(test -d {0}/root/proc/self && echo sees) $X; cat; echo) >> {0}/log",
                    dir.display()
                ),
            ],
            env: vec!["X=value".into(), "PATH=/usr/bin:/bin".into()],
            timeout: Some(10),
        };
        let root = dir.join("root");
        std::fs::create_dir(&root).unwrap();
        let mut s = spec(&made(&[K::Mount, K::Pid]), "echo program");
        s.root.as_mut().unwrap().path = root.to_str().unwrap().to_owned();
        // The mounts are made when the hooks look.
        s.hooks = Some(Hooks {
            create_runtime: vec![hook("createRuntime")],
            create_container: vec![hook("createContainer")],
            start_container: vec![Hook { args: vec!["sh".into(), "-c".into(), "echo inside; cat".into()], ..hook("") }],
            ..Default::default()
        });
        let state = hook::ContainerState { id: "x".into(), bundle: "/b".into(), ..Default::default() };
        let runtime = s.hooks.as_ref().unwrap().create_runtime.clone();
        let (mut launch, text) = begin(&s, |_, e| e.state = Some(state.clone())).unwrap();
        let pid = launch.pid();
        let json = state.json(hook::Status::Creating, Some(pid));
        launch.wait_ready_with(|| hook::run_all("createRuntime", &runtime, &json)).unwrap();
        assert_eq!(finish(launch.release().unwrap(), text), "program");
        let text = std::fs::read_to_string(&log).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], format!("createRuntime {} value", own("mnt")));
        assert_eq!(lines[1], json);
        assert!(lines[2].starts_with("createContainer mnt:") && lines[2].ends_with("sees value"), "{text}");
        assert!(!lines[2].contains(&own("mnt")), "{text}");
        assert_eq!(lines[3], json, "its pid is the host's");
        std::fs::remove_dir_all(dir).unwrap();
    });
}

#[test]
fn a_hook_that_fails_hangs_or_is_missing_is_an_error_with_its_words() {
    alone(|| {
        let sh = |script: &str, timeout| Hook {
            path: "/bin/sh".into(),
            args: vec!["sh".into(), "-c".into(), script.into()],
            env: vec!["PATH=/usr/bin:/bin".into()],
            timeout,
        };
        let words = |hook: Hook| hook::run(&hook, "{}").unwrap_err().to_string();
        assert!(words(sh("echo why >&2; exit 3", None)).contains("exit code 3: why"));
        assert!(words(sh("kill -TERM $$", None)).contains("signal 15"));
        let before = std::time::Instant::now();
        assert!(words(sh("echo begun; sleep 100", Some(1))).contains("not done after 1 s, and was killed: begun"));
        assert!(before.elapsed().as_secs() < 5);
        assert!(words(Hook { path: "/none".into(), ..Default::default() }).contains("cannot be executed"));
        assert!(words(Hook { path: "none".into(), ..Default::default() }).contains("not absolute"));
        // Neither one that leaves a process behind nor one that does not read nor one that writes a lot holds it up.
        hook::run(&sh("sleep 5 &", None), &"x".repeat(1 << 20)).unwrap();
        hook::run(&sh("yes | head -c 1000000", None), "{}").unwrap();
        hook::run(&sh("test $(wc -c) = 1048576", None), &"x".repeat(1 << 20)).unwrap();
        // A hook of the container's that fails ends the start.
        let mut s = spec(&made(&[K::Mount, K::Pid]), "true");
        s.hooks = Some(Hooks { create_container: vec![sh("echo no; exit 1", None)], ..Default::default() });
        let (mut launch, _) = begin(&s, |_, e| e.state = Some(Default::default())).unwrap();
        let e = launch.wait_ready().unwrap_err().to_string();
        assert!(e.contains("createContainer #0") && e.contains("exit code 1: no"), "{e}");
    });
}

#[test]
fn exec_joins_whatever_differs() {
    alone(|| {
        let kinds: Vec<K> = FILES.iter().map(|f| f.0).collect();
        let mut s = with_maps(spec(&made(&kinds), "echo here; exec sleep 1000"), 100_000);
        s.linux.as_mut().unwrap().time_offsets =
            [("boottime".to_owned(), LinuxTimeOffset { secs: 1_000_000, nanosecs: 0 })].into();
        let (launch, mut text) = begin(&s, |_, _| ()).unwrap();
        let running = launch.release().unwrap();
        text.read_exact(&mut [0; 5]).unwrap();
        let namespaces = foreign_namespaces(running.pid).unwrap();
        assert_eq!(namespaces.len(), 8);
        let script = "for n in mnt pid net ipc uts user cgroup time; do readlink /proc/self/ns/$n; done; id -u; id -g";
        let mut process = s.process.clone().unwrap();
        process.args[2] = script.into();
        (process.user.uid, process.user.gid) = (12, 13);
        let mut plan = plan::plan_process(&process, None).unwrap();
        plan.die_with_parent = false;
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let stdio = Stdio { stdin: null_device().unwrap(), stdout: write.try_clone().unwrap(), stderr: write };
        let plan = ExecPlan { process: plan, namespaces };
        let launch =
            exec(&plan, running.pidfd.as_fd(), Some(stdio), None, CgroupHandles::default(), &Trace::off()).unwrap();
        let found = finish(launch.release().unwrap(), read.into());
        let expected: Vec<String> = FILES
            .iter()
            .map(|(_, f)| {
                std::fs::read_link(format!("/proc/{}/ns/{f}", running.pid)).unwrap().to_str().unwrap().to_owned()
            })
            .chain(["12".to_owned(), "13".to_owned()])
            .collect();
        assert_eq!(found.lines().collect::<Vec<_>>(), expected);
        process::pidfd_signal(running.pidfd.as_fd(), 9).unwrap();
        wait(running.pidfd.as_fd());
    });
}

#[test]
fn descriptors_that_are_kept_and_no_others() {
    alone(|| {
        // Numbers that this process does not use: the test's own may be anywhere.
        process::close_all_but(3, &[]).unwrap();
        let (kept, mut writer) = {
            let (r, w) = rustix::pipe::pipe().unwrap();
            (r, std::fs::File::from(w))
        };
        assert_eq!(rustix::fd::AsRawFd::as_raw_fd(&kept), 3);
        writer.write_all(b"handed down\n").unwrap();
        assert!(check_preserved(2).is_ok() && check_preserved(3).unwrap_err().to_string().contains("5"));
        let inherited = rustix::io::dup(&kept).unwrap();
        let (launch, text) = begin(&spec(&made(&[K::Mount, K::Pid]), "head -n1 <&3; ls /proc/self/fd"), |plan, _| {
            plan.process.preserve_fds = 1;
        })
        .unwrap();
        let text = finish(launch.release().unwrap(), text);
        // 3 is kept; ls itself opens the lowest free number, the directory.
        assert_eq!(text.split_whitespace().collect::<Vec<_>>(), ["handed", "down", "0", "1", "2", "3", "4"]);
        drop(inherited);
    });
}

#[test]
fn each_step_is_in_the_trace() {
    alone(|| {
        let trace = Trace::on().unwrap();
        let (launch, text) = begin(&spec(&made(&[K::Mount, K::Pid]), "true"), |_, e| e.trace = trace.clone()).unwrap();
        finish(launch.release().unwrap(), text);
        trace.point(Mark::Running);
        let found: Vec<_> = trace.points().into_iter().map(|p| (p.actor, p.mark, p.object)).collect();
        for (actor, mark, object) in [
            (Actor::Parent, Mark::Clone, ""),
            (Actor::Child, Mark::Born, ""),
            (Actor::Child, Mark::AttachRoot, ""),
            (Actor::Child, Mark::Mount, "/proc"),
            (Actor::Child, Mark::EnterRoot, ""),
            (Actor::Child, Mark::GateHeard, ""),
            (Actor::Child, Mark::Identity, ""),
        ] {
            assert!(found.contains(&(actor, mark, object.to_owned())), "{mark:?} in {found:?}");
        }
        let waterfall = trace.waterfall();
        assert_eq!(waterfall.spans.iter().map(|s| s.adds).sum::<u64>(), waterfall.wall);
    });
}

fn scratch(name: &str) -> std::path::PathBuf {
    let dir = std::env::temp_dir().join(format!("tare-launch-{}-{name}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    dir
}
