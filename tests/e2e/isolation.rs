//! What a container may not do: files, devices, capabilities, system calls.

use std::os::unix::fs::PermissionsExt;
use tare_tests::{Host, Running, Tree, command};

/// `run --rm --network none FLAGS busybox sh -c SCRIPT`.
#[track_caller]
fn sh(host: &Host, flags: &[&str], script: &str) -> String {
    host.ok(&[&["run", "--rm", "--network", "none"], flags, &["busybox", "sh", "-c", script]].concat())
}

/// The same for scripts whose failures are what is looked at.
#[track_caller]
fn tried(host: &Host, flags: &[&str], script: &str) -> String {
    sh(host, flags, &format!("{{ {script}; }} 2>&1; true"))
}

#[test]
fn masked_paths_show_nothing_and_read_only_ones_refuse() {
    let host = Host::new();
    host.busybox();
    let masked = "for f in /proc/kcore /proc/keys /proc/interrupts /proc/timer_list /proc/sched_debug /proc/latency_stats; do \
                  [ ! -e $f ] || wc -c < $f; done | sort -u; \
                  for d in /proc/acpi /proc/scsi /proc/asound /sys/firmware /sys/devices/virtual/powercap; do [ ! -d $d ] || ls -A $d; done";
    assert_eq!(sh(&host, &[], masked), "0");
    // Masked for good: the mask itself takes nothing and cannot be taken off.
    let tries = "echo x > /sys/firmware/x; umount /proc/keys; umount /sys/firmware; mount -o remount,rw /sys/firmware";
    let out = tried(&host, &[], tries);
    assert!(out.lines().count() == 4 && out.lines().all(|l| l.contains("Read-only") || l.contains("permi")), "{out}");
    for (path, value) in [
        ("/proc/sys/net/ipv4/ip_default_ttl", "64"),
        ("/proc/sysrq-trigger", "h"),
        ("/proc/irq/default_smp_affinity", "f"),
        ("/sys/kernel/uevent_helper", "x"),
        ("/sys/fs/cgroup/x", "x"),
    ] {
        let missing = path.starts_with("/proc") && !std::path::Path::new(path).exists();
        let out = tried(&host, &[], &format!("echo {value} > {path}"));
        assert!(missing || out.contains("Read-only file system"), "{path}: {out}");
    }
    for flags in [&["--security-opt", "systempaths=unconfined"][..], &["--privileged"]] {
        let script = "wc -c < /proc/interrupts; echo 77 > /proc/sys/net/ipv4/ip_default_ttl; cat /proc/sys/net/ipv4/ip_default_ttl";
        let out = sh(&host, flags, script);
        assert!(!out.starts_with("0\n") && out.ends_with("\n77"), "{flags:?}: {out}");
    }
}

#[test]
fn dev_has_what_the_specification_asks_for_and_nothing_else() {
    let host = Host::new();
    host.busybox();
    let nodes = "cd /dev; for n in *; do [ -L $n ] && echo $n $(readlink $n) || stat -c '%n %F %t:%T %a' $n; done";
    let expected = "core /proc/kcore\nfd /proc/self/fd\nfull character special file 1:7 666\nmqueue directory 0:0 1777\n\
                    null character special file 1:3 666\nptmx pts/ptmx\npts directory 0:0 755\n\
                    random character special file 1:8 666\nshm directory 0:0 1777\nstderr /proc/self/fd/2\n\
                    stdin /proc/self/fd/0\nstdout /proc/self/fd/1\ntty character special file 5:0 666\n\
                    urandom character special file 1:9 666\nzero character special file 1:5 666";
    assert_eq!(sh(&host, &[], nodes), expected);
    let works = "head -c 3 /dev/zero | wc -c; head -c 5 /dev/urandom | wc -c; echo x > /dev/null; cat /dev/null | wc -c; \
                 echo x 2>/dev/null > /dev/full || echo full; ls /dev/pts; stat -c %a /dev/pts/ptmx";
    assert_eq!(sh(&host, &[], works), "3\n5\n0\nfull\nptmx\n666");
    let mounts = sh(&host, &[], "cut -d' ' -f2-4 /proc/mounts");
    for line in [
        "/proc proc rw,nosuid,nodev,noexec",
        "/dev tmpfs rw,nosuid",
        "/dev/pts devpts rw,nosuid,noexec",
        "/dev/shm tmpfs rw,nosuid,nodev,noexec",
        "/dev/mqueue mqueue rw,nosuid,nodev,noexec",
        "/sys sysfs ro,nosuid,nodev,noexec",
        "/proc/sys proc ro,nosuid,nodev,noexec",
    ] {
        assert!(mounts.lines().any(|l| l.starts_with(line)), "{line} is missing in\n{mounts}");
    }
}

#[test]
fn a_device_is_refused_unless_it_is_given() {
    let host = Host::new();
    host.busybox();
    // Nodes can be made; opening one is what the device rules decide.
    let made = tried(
        &host,
        &[],
        "mknod /k c 1 11 && head -c 0 /k; mknod /b b 7 0 && head -c 1 /b; mknod /n c 1 3 && echo fine > /n",
    );
    assert_eq!(made.matches("Operation not permitted").count(), 2, "{made}");
    assert_eq!(made.lines().count(), 2, "{made}");
    // Any one whose driver lets root open it.
    let list = ["/dev/loop-control", "/dev/fuse", "/dev/net/tun", "/dev/vda", "/dev/nvme0n1"];
    let opens = |p: &&&str| std::fs::OpenOptions::new().read(true).write(true).open(p).is_ok();
    let device = *list.iter().find(opens).expect("a device");
    let numbers = Running::start(command("stat").args(["-c", "%t:%T", device]), None).wait().stdout;
    let numbers = numbers.trim();
    let script = format!("stat -c %t:%T {device}; (exec <> {device}) && echo opened");
    assert_eq!(tried(&host, &["--device", device], &script), format!("{numbers}\nopened"));
    assert_eq!(tried(&host, &["--privileged"], &script), format!("{numbers}\nopened"));
    let read = "stat -c %t:%T /dev/other; (exec < /dev/other) && echo opened; (exec >> /dev/other) || echo refused";
    let read = tried(&host, &["--device", &format!("{device}:/dev/other:r")], read);
    let expected = format!("{numbers}\nopened\nsh: can't open /dev/other: Operation not permitted\nrefused");
    assert_eq!(read.replace("create", "open"), expected);
    let other = tried(&host, &["--privileged"], "mknod /k c 1 11 && (exec < /k) && echo opened");
    assert_eq!(other, "opened");
    let missing = host.fails(&["run", "--rm", "--device", "/dev/none-such", "busybox", "true"], 125);
    assert!(missing.contains("/dev/none-such"), "{missing}");
}

const DEFAULT: u64 = 0xa804_25fb;

fn sets(out: &str) -> Vec<u64> {
    out.lines().map(|l| u64::from_str_radix(l.split_whitespace().nth(1).unwrap(), 16).unwrap()).collect()
}

#[test]
fn capabilities_are_exactly_those_asked_for() {
    let host = Host::new();
    host.busybox();
    // CapInh, CapPrm, CapEff, CapBnd, CapAmb
    let of = |flags: &[&str]| sets(&sh(&host, flags, "grep ^Cap /proc/self/status"));
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let bounding = sets(own.lines().find(|l| l.starts_with("CapBnd")).unwrap())[0];
    let root = |mask: u64| vec![0, mask, mask, mask, 0];
    assert_eq!(of(&[]), root(DEFAULT));
    assert_eq!(of(&["--cap-add", "NET_ADMIN"]), root(DEFAULT | 1 << 12));
    assert_eq!(
        of(&["--cap-add", "CAP_SYS_TIME", "--cap-add", "sys_nice", "--cap-drop", "CHOWN"]),
        root((DEFAULT | 1 << 25 | 1 << 23) & !1)
    );
    assert_eq!(of(&["--cap-drop", "ALL"]), root(0));
    assert_eq!(of(&["--cap-drop", "ALL", "--cap-add", "CHOWN"]), root(1));
    assert_eq!(of(&["--cap-add", "ALL"]), root(bounding));
    assert_eq!(of(&["--cap-add", "ALL", "--cap-drop", "SYS_ADMIN"]), root(bounding & !(1 << 21)));
    assert_eq!(of(&["--privileged"]), root(bounding));
    assert_eq!(of(&["--user", "web"]), [0, 0, 0, DEFAULT, 0]);
    assert_eq!(of(&["--user", "web", "--privileged"]), [0, 0, 0, bounding, 0]);
    // They bind.
    let out = tried(&host, &["--cap-drop", "CHOWN"], "touch /x; chown 5 /x");
    assert!(out.contains("Operation not permitted"), "{out}");
    let out = tried(&host, &["--user", "web"], "touch /x; cat /etc/shadow; kill 1 && echo killed");
    assert!(out.contains("Permission denied"), "{out}");
    let refused = host.fails(&["run", "--rm", "--cap-add", "FLY", "busybox", "true"], 125);
    assert!(refused.contains("FLY"), "{refused}");
}

#[test]
fn no_new_privileges_makes_setuid_programs_plain_ones() {
    let host = Host::new();
    let tree = Tree::busybox();
    tree.compiled(
        "bin/euid",
        "#include <stdio.h>\n#include <unistd.h>\nint main(void) { printf(\"%d\\n\", geteuid()); }\n",
    );
    std::fs::set_permissions(tree.path("bin/euid"), std::fs::Permissions::from_mode(0o4755)).unwrap();
    host.import(&tree, &[], "busybox");
    let script = "euid; grep NoNewPrivs /proc/self/status";
    assert_eq!(sh(&host, &["-u", "web"], script), "0\nNoNewPrivs:\t0");
    assert_eq!(sh(&host, &["-u", "web", "--security-opt", "no-new-privileges"], script), "33\nNoNewPrivs:\t1");
    host.ok(&[
        "run",
        "-d",
        "--name",
        "box",
        "--network",
        "none",
        "--security-opt",
        "no-new-privileges",
        "busybox",
        "sleep",
        "1000",
    ]);
    assert_eq!(host.ok(&["exec", "-u", "web", "box", "sh", "-c", script]), "33\nNoNewPrivs:\t1");
}

/// Tries system calls and prints `name=errno`.
const CALLS: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#define TRY(name, call) { errno = 0; long r = (call); printf("%s=%d\n", name, r < 0 ? errno : 0); fflush(stdout); }
#define IN_CHILD(name, call) { if (fork() == 0) { TRY(name, call); _exit(0); } wait(0); }
int main(void) {
  char page[4096] = {0};
  IN_CHILD("unshare-user", unshare(CLONE_NEWUSER));
  IN_CHILD("unshare-mount", unshare(CLONE_NEWNS));
  IN_CHILD("setns", setns(-1, 0));
  errno = 0;
  long child = syscall(SYS_clone, CLONE_NEWUSER | 17, 0, 0, 0, 0);
  if (child == 0) _exit(0);
  if (child > 0) wait(0);
  printf("clone-user=%d\n", child < 0 ? errno : 0);
  fflush(stdout);
  TRY("clone3", syscall(SYS_clone3, page, 0));
  TRY("mount", mount("none", "/tmp", "tmpfs", 0, ""));
  TRY("umount", umount2("/nowhere", 0));
  TRY("fsopen", syscall(SYS_fsopen, "tmpfs", 0));
  TRY("pivot_root", syscall(SYS_pivot_root, "/", "/"));
  TRY("keyctl", syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0));
  TRY("add_key", syscall(SYS_add_key, "user", "x", "y", 1, KEY_SPEC_PROCESS_KEYRING));
  TRY("bpf", syscall(SYS_bpf, 0, page, 8));
  TRY("perf_event_open", syscall(SYS_perf_event_open, page, 0, -1, -1, 0));
  TRY("userfaultfd", syscall(SYS_userfaultfd, 0));
  TRY("kexec_load", syscall(SYS_kexec_load, 0, 0, 0, 0));
  TRY("init_module", syscall(SYS_init_module, page, 0, ""));
  TRY("finit_module", syscall(SYS_finit_module, -1, "", 0));
  TRY("delete_module", syscall(SYS_delete_module, "none", O_NONBLOCK));
  TRY("reboot", syscall(SYS_reboot, 0, 0, 0, 0));
  TRY("swapoff", syscall(SYS_swapoff, "/nowhere"));
  TRY("settimeofday", syscall(SYS_settimeofday, 0, 1L << 40));
  TRY("open_by_handle_at", syscall(SYS_open_by_handle_at, -1, page, 0));
  TRY("iopl", syscall(SYS_iopl, 4));
  TRY("quotactl", syscall(SYS_quotactl, 0, 0, 0, 0));
  TRY("syslog", syscall(SYS_syslog, 10, 0, 0));
  TRY("move_pages", syscall(SYS_move_pages, 99999999, 0, 0, 0, 0, 0));
  TRY("acct", syscall(SYS_acct, "/nowhere"));
  TRY("getpid", syscall(SYS_getpid));
  TRY("mkdir", syscall(SYS_mkdir, "/made", 0700));
  IN_CHILD("ptrace", ptrace(PTRACE_TRACEME, 0, 0, 0));
  IN_CHILD("io_uring_setup", syscall(SYS_io_uring_setup, 0, page));
  return 0;
}
"#;

fn calls(host: &Host, flags: &[&str]) -> std::collections::BTreeMap<String, i32> {
    let out = sh(host, flags, "calls");
    let pairs = out.lines().map(|l| l.split_once('=').unwrap());
    pairs.map(|(name, errno)| (name.to_owned(), errno.parse().unwrap())).collect()
}

#[test]
fn the_default_filter_refuses_what_a_container_has_no_business_with() {
    const EPERM: i32 = 1;
    const ENOSYS: i32 = 38;
    let host = Host::new();
    host.import(Tree::busybox().compiled("bin/calls", CALLS), &[], "busybox");
    let plain = calls(&host, &[]);
    let refused = [
        "unshare-user",
        "unshare-mount",
        "setns",
        "clone-user",
        "mount",
        "umount",
        "fsopen",
        "pivot_root",
        "keyctl",
        "add_key",
        "bpf",
        "perf_event_open",
        "userfaultfd",
        "kexec_load",
        "init_module",
        "finit_module",
        "delete_module",
        "reboot",
        "swapoff",
        "settimeofday",
        "open_by_handle_at",
        "iopl",
        "quotactl",
        "syslog",
        "move_pages",
        "acct",
        "io_uring_setup",
    ];
    for name in refused {
        assert!([EPERM, ENOSYS].contains(&plain[name]), "{name}: {}", plain[name]);
    }
    // C libraries fall back to clone(2), whose flags the filter can see, only on ENOSYS.
    assert_eq!(plain["clone3"], ENOSYS);
    for name in ["getpid", "mkdir", "ptrace"] {
        assert_eq!(plain[name], 0, "{name}");
    }
    // A capability opens the calls that it is for.
    let admin = calls(&host, &["--cap-add", "SYS_ADMIN"]);
    for name in ["unshare-mount", "mount", "fsopen", "clone-user"] {
        assert_eq!(admin[name], 0, "{name}");
    }
    assert!([EPERM, ENOSYS].contains(&admin["kexec_load"]) && admin["keyctl"] == EPERM);
    // Without a filter only capabilities decide.
    let open = calls(&host, &["--security-opt", "seccomp=unconfined"]);
    for name in ["unshare-user", "keyctl", "add_key", "ptrace"] {
        assert_eq!(open[name], 0, "{name}");
    }
    assert!(open["mount"] == EPERM && open["reboot"] == EPERM, "{open:?}");
    let privileged = calls(&host, &["--privileged"]);
    assert_eq!((privileged["mount"], privileged["keyctl"], privileged["unshare-mount"]), (0, 0, 0));
}

#[test]
fn a_profile_from_a_file_is_the_filter() {
    let host = Host::new();
    host.import(Tree::busybox().compiled("bin/calls", CALLS), &[], "busybox");
    let file = host.scratch("profile.json");
    let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 122},
        {"names": ["no_such_call"], "action": "SCMP_ACT_ERRNO"}]}"#;
    std::fs::write(&file, profile).unwrap();
    let option = format!("seccomp={}", file.display());
    let out = calls(&host, &["--security-opt", &option]);
    assert_eq!((out["mkdir"], out["keyctl"], out["getpid"]), (122, 0, 0));
    let mode = "grep Seccomp: /proc/self/status";
    assert_eq!(sh(&host, &[], mode), "Seccomp:\t2");
    assert_eq!(sh(&host, &["--security-opt", "seccomp=unconfined"], mode), "Seccomp:\t0");
    host.ok(&[
        "run",
        "-d",
        "--name",
        "box",
        "--network",
        "none",
        "--security-opt",
        &option,
        "busybox",
        "sleep",
        "1000",
    ]);
    let exec = host.ok(&["exec", "box", "sh", "-c", "mkdir /x; grep Seccomp: /proc/self/status; true"]);
    assert_eq!(exec, "Seccomp:\t2");
    for (text, word) in [("{", "profile.json"), (r#"{"defaultAction": "SCMP_ACT_FLY"}"#, "SCMP_ACT_FLY")] {
        std::fs::write(&file, text).unwrap();
        let refused = host.fails(&["run", "--rm", "--security-opt", &option, "busybox", "true"], 125);
        assert!(refused.contains(word), "{refused}");
    }
}

#[test]
fn sysctls_of_its_own_namespaces_only() {
    let host = Host::new();
    host.busybox();
    let flags = [
        "--sysctl",
        "net.ipv4.ip_default_ttl=33",
        "--sysctl",
        "kernel.msgmax=4444",
        "--sysctl",
        "fs.mqueue.msg_max=21",
    ];
    let script = "cd /proc/sys; cat net/ipv4/ip_default_ttl kernel/msgmax fs/mqueue/msg_max";
    assert_eq!(sh(&host, &flags, script), "33\n4444\n21");
    let read = |name: &str| std::fs::read_to_string(format!("/proc/sys/{name}")).unwrap();
    assert_ne!((read("net/ipv4/ip_default_ttl").trim(), read("kernel/msgmax").trim()), ("33", "4444"));
    let before = (read("vm/swappiness"), read("kernel/panic"));
    for (name, flags) in [
        ("vm.swappiness", &[][..]),
        ("kernel.panic", &[]),
        ("net.ipv4.ip_default_ttl", &["--network", "host"]),
        ("kernel.msgmax", &["--ipc", "host"]),
        ("net.none.such", &[]),
    ] {
        let sysctl = format!("{name}=7");
        let args = [&["run", "--rm", "--sysctl", &sysctl], flags, &["busybox", "true"]].concat();
        let refused = host.fails(&args, 125);
        assert!(refused.contains(name) || refused.contains(&name.replace('.', "/")), "{refused}");
    }
    assert_eq!((read("vm/swappiness"), read("kernel/panic")), before);
}

#[test]
fn resource_limits_bind_and_are_lowered_where_they_cannot_be_had() {
    let host = Host::new();
    host.busybox();
    let flags =
        ["--ulimit", "nofile=100:200", "--ulimit", "core=0", "--ulimit", "fsize=4096", "--ulimit", "nproc=1000"];
    let script =
        "ulimit -n; ulimit -Hn; ulimit -c; ulimit -u; dd if=/dev/zero of=/x bs=4096 count=2 2>/dev/null; wc -c < /x";
    assert_eq!(sh(&host, &flags, script), "100\n200\n0\n1000\n4096");
    assert_eq!(sh(&host, &[], "ulimit -n"), "1024");
    let out = host.run(&[
        "run",
        "--rm",
        "--network",
        "none",
        "--ulimit",
        "nofile=99999999999",
        "busybox",
        "sh",
        "-c",
        "ulimit -n",
    ]);
    assert_eq!(out.code, 0, "{}", out.stderr);
    assert!(out.stderr.contains("warning") && out.stderr.to_lowercase().contains("nofile"), "{}", out.stderr);
    assert!(out.stdout.trim().parse::<u64>().is_ok_and(|n| n < 99_999_999_999), "{}", out.stdout);
    host.ok(&[
        "run",
        "-d",
        "--name",
        "box",
        "--network",
        "none",
        "--ulimit",
        "nofile=100:200",
        "busybox",
        "sleep",
        "1000",
    ]);
    assert_eq!(host.ok(&["exec", "box", "sh", "-c", "ulimit -n; ulimit -Hn"]), "100\n200");
    let refused = host.fails(&["run", "--rm", "--ulimit", "wings=2", "busybox", "true"], 125);
    assert!(refused.contains("wings"), "{refused}");
}

#[test]
fn small_settings_have_their_effect() {
    let host = Host::new();
    host.busybox();
    assert_eq!(sh(&host, &["--oom-score-adj", "321"], "cat /proc/self/oom_score_adj"), "321");
    assert_eq!(sh(&host, &[], "df -k /dev/shm | awk 'NR == 2 { print $2 }'"), "65536");
    let fill = "df -k /dev/shm | awk 'NR == 2 { print $2 }'; dd if=/dev/zero of=/dev/shm/x bs=1M 2>&1 | grep -c 'No space'; wc -c < /dev/shm/x";
    assert_eq!(sh(&host, &["--shm-size", "3m"], fill), "3072\n1\n3145728");
    assert!(
        tried(&host, &["--read-only"], "touch /x; touch /dev/shm/y && echo shm").contains("Read-only file system\nshm")
    );
}

/// Runs tare with two descriptors that whoever started it forgot to mark.
fn with_inherited(host: &Host, args: &[&str]) -> String {
    let tare = host.command(args);
    let mut outer = command("bash");
    let script = "exec 7</etc/passwd 42>/dev/null; exec \"$@\"";
    outer.args(["-c", script, "-"]).arg(tare.get_program()).args(tare.get_args());
    let out = Running::start(&mut outer, None).wait();
    assert_eq!(out.code, 0, "{}", out.stderr);
    out.stdout
}

#[test]
fn no_descriptor_of_the_host_gets_in() {
    let host = Host::new();
    host.busybox();
    let list = "for f in /proc/self/fd/*; do [ -e $f ] && echo ${f##*/}; done; true";
    let none = ["--network", "none", "busybox", "sh", "-c", list];
    for flags in
        [&["run", "--rm"][..], &["run", "--rm", "-i"], &["run", "--rm", "--init"], &["run", "--rm", "--privileged"]]
    {
        assert_eq!(with_inherited(&host, &[flags, &none].concat()), "0\n1\n2\n", "{flags:?}");
    }
    with_inherited(&host, &["run", "-d", "--name", "box", "--network", "none", "busybox", "sleep", "1000"]);
    assert_eq!(host.ok(&["exec", "box", "sh", "-c", "ls /proc/1/fd"]), "0\n1\n2");
    assert_eq!(with_inherited(&host, &["exec", "box", "sh", "-c", list]), "0\n1\n2\n");
    // The supervisor holds nothing of the caller's either: its terminal, a lock, a pipe somebody waits on.
    let supervisor = std::fs::read_dir("/proc").unwrap().flatten().find_map(|e| {
        let line = std::fs::read(e.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        (line.contains(&host.root().display().to_string()) && !line.contains("bash")).then(|| e.path())
    });
    let supervisor = supervisor.unwrap();
    for fd in std::fs::read_dir(supervisor.join("fd")).unwrap().flatten() {
        let target = std::fs::read_link(fd.path()).unwrap_or_default().display().to_string();
        assert!(!target.contains("/etc/passwd"), "{target}");
        assert!(fd.file_name() != "42", "{target}");
    }
}

#[test]
fn whoever_runs_may_open_the_standard_streams_again() {
    let host = Host::new();
    host.busybox();
    let script = "echo out > /dev/stdout; echo err > /dev/stderr; cat /dev/stdin";
    for user in ["root", "web", "65534:65534"] {
        let args = ["run", "--rm", "-i", "--network", "none", "-u", user, "busybox", "sh", "-c", script];
        let out = host.run_with(&args, b"in\n");
        assert_eq!((out.code, out.stdout.as_str(), out.stderr.as_str()), (0, "out\nin\n", "err\n"), "{user}");
    }
    // Shared nodes keep their owner.
    assert_eq!(sh(&host, &["-u", "web"], "stat -c '%u %a' /dev/null; stat -c %u /proc/self/status"), "0 666\n33");
}

/// Waits for a process whose program is large (tare, not busybox), keeps its file open, and when it has ended tries to
/// open that file for writing.
const OVERWRITE: &str = r#"
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
int main(void) {
  char path[300];
  puts("ready");
  fflush(stdout);
  for (;;) {
    DIR *proc = opendir("/proc");
    for (struct dirent *e; (e = readdir(proc));) {
      if (atoi(e->d_name) <= 0) continue;
      snprintf(path, sizeof path, "/proc/%s/exe", e->d_name);
      int fd = open(path, O_RDONLY);
      struct stat st;
      if (fd < 0) continue;
      if (fstat(fd, &st) || st.st_size < 4 << 20) { close(fd); continue; }
      snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
      for (int i = 0; i < 1000; i++) {
        int w = open(path, O_WRONLY);
        if (w >= 0) { puts("open for writing"); return 0; }
        if (errno != ETXTBSY) { printf("refused: %s\n", strerror(errno)); return 0; }
        usleep(5000);
      }
      puts("refused: it is always busy");
      return 0;
    }
    closedir(proc);
  }
}
"#;

#[test]
fn the_binary_that_starts_processes_cannot_be_overwritten_from_inside() {
    let host = Host::new();
    let tree = Tree::busybox();
    tree.compiled("bin/overwrite", OVERWRITE);
    tree.program("bin/lure", "#!/proc/self/exe\n");
    host.import(&tree, &[], "busybox");
    let attack = |name: &str, flags: &[&str], lure: &dyn Fn()| {
        host.ok(&[&["run", "-d", "--name", name, "--network", "none"], flags, &["busybox", "overwrite"]].concat());
        let logs = || host.ok(&["logs", name]);
        let caught = || {
            lure();
            logs().contains("writing") || logs().contains("refused")
        };
        if tare_tests::eventually(std::time::Duration::from_secs(4), caught) {
            assert!(logs().contains("refused"), "{name}: {}", logs());
        }
    };
    attack("exec", &[], &|| drop(host.run(&["exec", "exec", "/proc/self/exe", "version"])));
    attack("script", &[], &|| drop(host.run(&["exec", "script", "lure"])));
    attack("init", &["--init"], &|| ());
    attack("joined", &[], &|| {
        drop(host.run(&[
            "run",
            "--rm",
            "--network",
            "none",
            "--pid",
            "container:joined",
            "busybox",
            "/proc/self/exe",
            "version",
        ]));
    });
    let read_only =
        host.run(&["run", "--rm", "--init", "--network", "none", "busybox", "sh", "-c", ": >> /dev/.tare-init"]);
    assert!(read_only.code != 0, "{read_only:?}");
}
