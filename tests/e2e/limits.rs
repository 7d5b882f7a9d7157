//! Limits that bind, on whatever cgroups this host has: v1, hybrid, or v2. Nothing here needs more than the binary and
//! busybox, so it runs in the emulated machine, too.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tare_tests::{Host, eventually};

/// The emulated machine is slow.
const SOON: Duration = Duration::from_secs(60);
const MIB: u64 = 1 << 20;

fn is_v2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// A file of the container's group for this controller, as the host sees it.
fn file(host: &Host, name: &str, controller: &str, file: &str) -> PathBuf {
    let top = if is_v2() { PathBuf::from("/sys/fs/cgroup") } else { Path::new("/sys/fs/cgroup").join(controller) };
    top.join(&host.names().instance).join(host.inspect(name)["Id"].as_str().unwrap()).join(file)
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).trim().to_owned()
}

/// The number after a key in a file of keys and numbers.
fn field(path: &Path, key: &str) -> u64 {
    let text = read(path);
    text.lines()
        .find_map(|l| l.strip_prefix(key)?.strip_prefix(' ')?.parse().ok())
        .unwrap_or_else(|| panic!("{key}: {text}"))
}

/// Processor time used by the container, in microseconds.
fn used(host: &Host, name: &str) -> u64 {
    match is_v2() {
        true => field(&file(host, name, "cpu", "cpu.stat"), "usage_usec"),
        false => read(&file(host, name, "cpuacct", "cpuacct.usage")).parse::<u64>().unwrap() / 1000,
    }
}

/// Starts a container in the background without a network.
#[track_caller]
fn start(host: &Host, name: &str, flags: &[&str], command: &[&str]) {
    host.ok(&[&["run", "-d", "--name", name, "--network", "none"], flags, &["busybox"], command].concat());
}

const BUSY: [&str; 3] = ["sh", "-c", "while :; do :; done"];

#[test]
fn memory_ends_at_the_limit_and_the_reason_is_kept() {
    let host = Host::new();
    host.busybox();
    let flags = ["--network", "none", "-m", "24m", "--memory-swap", "24m"];
    let run = |name: &str, command: &[&str]| {
        host.run(&[&["run", "--name", name], &flags[..], &["busybox"], command].concat())
    };
    // Below the limit all is well.
    let fill = |mib: u32| format!("dd if=/dev/zero of=/dev/shm/x bs=1M count={mib} 2>/dev/null");
    assert_eq!(run("below", &["sh", "-c", &fill(12)]).code, 0);
    assert_eq!(host.inspect("below")["State"]["OOMKilled"], false);
    assert_eq!(run("above", &["tail", "/dev/zero"]).code, 137);
    let state = host.inspect("above")["State"].clone();
    assert_eq!((&state["OOMKilled"], &state["ExitCode"]), (&true.into(), &137.into()), "{state}");
    assert!(host.ok(&["ps", "-a", "--format", "{{.Status}}", "--filter", "name=above"]).contains("out of memory"));
    // One that goes on after a child was killed has still met the limit.
    assert_eq!(run("child", &["sh", "-c", "tail /dev/zero; echo $?"]).stdout, "137\n");
    assert_eq!(host.inspect("child")["State"]["OOMKilled"], true);
    // What is in memory files counts as well.
    assert_eq!(run("files", &["sh", "-c", &fill(40).replace("dd", "exec dd")]).code, 137);
    assert_eq!(host.inspect("files")["State"]["OOMKilled"], true);
    // A plain kill is none.
    start(&host, "killed", &["-m", "24m"], &["sleep", "1000"]);
    host.ok(&["kill", "killed"]);
    host.ok(&["wait", "killed"]);
    assert_eq!(host.inspect("killed")["State"]["OOMKilled"], false);
}

#[test]
fn memory_swap_and_reservation_reach_the_kernel() {
    let host = Host::new();
    host.busybox();
    start(&host, "box", &["-m", "64m", "--memory-swap", "96m", "--memory-reservation", "32m"], &["sleep", "1000"]);
    let number = |v1: &str, v2: &str| read(&file(&host, "box", "memory", if is_v2() { v2 } else { v1 }));
    assert_eq!(number("memory.limit_in_bytes", "memory.max"), (64 * MIB).to_string());
    // v2 counts swap by itself.
    let swap = if is_v2() { 32 * MIB } else { 96 * MIB };
    assert_eq!(number("memory.memsw.limit_in_bytes", "memory.swap.max"), swap.to_string());
    assert_eq!(number("memory.soft_limit_in_bytes", "memory.low"), (32 * MIB).to_string());
    // Where nothing is said: as much swap as memory, as docker.
    start(&host, "plain", &["-m", "64m"], &["sleep", "1000"]);
    let swap = if is_v2() { 64 * MIB } else { 128 * MIB };
    let name = if is_v2() { "memory.swap.max" } else { "memory.memsw.limit_in_bytes" };
    assert_eq!(read(&file(&host, "plain", "memory", name)), swap.to_string());
    for (flags, word) in [
        (&["-m", "64m", "--memory-swap", "32m"][..], "memory-swap"),
        (&["-m", "1k"], "memory"),
        (&["-m", "12q"], "12q"),
    ] {
        let refused = host.fails(&[&["run", "--rm"], flags, &["busybox", "true"]].concat(), 125);
        assert!(refused.contains(word), "{refused}");
    }
}

#[test]
fn a_quota_throttles() {
    let host = Host::new();
    host.busybox();
    start(&host, "box", &["--cpus", "0.2"], &BUSY);
    let stat = file(&host, "box", "cpu", "cpu.stat");
    assert!(eventually(SOON, || field(&stat, "nr_throttled") >= 3), "{}", read(&stat));
    // The clocks of an emulated machine that its host makes wait disagree now and then: one good look is enough, since
    // without the limit every look would show the whole processor.
    let mut shares = Vec::new();
    let bound = || {
        let (before, begin) = (used(&host, "box"), Instant::now());
        std::thread::sleep(Duration::from_secs(3));
        let share = (used(&host, "box") - before) as f64 / begin.elapsed().as_micros() as f64;
        shares.push(share);
        share < 0.25
    };
    assert!(eventually(SOON, bound), "{shares:?}");
    // The same, as stats shows it.
    let percent = host.ok(&["stats", "--no-stream", "--format", "{{.CPUPerc}}", "box"]);
    let percent: f64 = percent.trim_end_matches('%').parse().unwrap();
    assert!(percent < 30.0, "{percent}");
    start(&host, "period", &["--cpu-quota", "20000", "--cpu-period", "50000"], &["sleep", "1000"]);
    let quota = |name: &str| match is_v2() {
        true => read(&file(&host, name, "cpu", "cpu.max")),
        false => ["cpu.cfs_quota_us", "cpu.cfs_period_us"].map(|f| read(&file(&host, name, "cpu", f))).join(" "),
    };
    assert_eq!((quota("box").as_str(), quota("period").as_str()), ("20000 100000", "20000 50000"));
    let refused = host.fails(&["run", "--rm", "--cpus", "1", "--cpu-quota", "50000", "busybox", "true"], 125);
    assert!(refused.contains("cpus") && refused.contains("cpu-quota"), "{refused}");
}

#[test]
fn shares_of_one_to_three_give_one_to_three() {
    let host = Host::new();
    host.busybox();
    let flags = |shares| ["--cpuset-cpus", "0", "--cpu-shares", shares];
    start(&host, "one", &flags("512"), &BUSY);
    start(&host, "three", &flags("1536"), &BUSY);
    // Both are past their own beginnings.
    assert!(eventually(SOON, || used(&host, "one") > 100_000 && used(&host, "three") > 100_000));
    let both = || (used(&host, "one"), used(&host, "three"));
    // Others may use the processor as well: enough time of these two must have passed, not of the clock.
    let ratio = || {
        let (before, begin) = (both(), Instant::now());
        let given = || {
            let now = both();
            (now.0 - before.0, now.1 - before.1)
        };
        let enough = || begin.elapsed() > Duration::from_secs(3) && given().0 + given().1 > 2_500_000;
        assert!(eventually(SOON, enough), "{:?}", given());
        let (one, three) = given();
        three as f64 / one as f64
    };
    // As above: equal weights would never show three to one.
    let ratios: Vec<f64> = std::iter::repeat_with(ratio).take(3).collect();
    let near = |r: &&f64| (**r - 3.0).abs() <= 0.45;
    assert!(ratios.iter().filter(near).count() >= 2, "{ratios:?}");
}

#[test]
fn processors_are_chosen() {
    let host = Host::new();
    host.busybox();
    let allowed = |flags: &[&str]| {
        let tail = ["busybox", "grep", "_allowed_list", "/proc/self/status"];
        let out = host.ok(&[&["run", "--rm", "--network", "none"], flags, &tail].concat());
        out.lines().map(|l| l.split_whitespace().nth(1).unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(allowed(&["--cpuset-cpus", "1", "--cpuset-mems", "0"]), ["1", "0"]);
    assert_eq!(allowed(&["--cpuset-cpus", "0-1"])[0], "0-1");
    for (flag, value) in [("--cpuset-cpus", "999"), ("--cpuset-mems", "99"), ("--cpuset-cpus", "one")] {
        let refused = host.fails(&["run", "--rm", flag, value, "busybox", "true"], 125);
        assert!(refused.contains(value), "{refused}");
    }
}

#[test]
fn a_fork_too_many_is_refused() {
    let host = Host::new();
    host.busybox();
    let script = "for i in 1 2 3 4 5 6 7 8; do sleep 100 & done; wait";
    start(&host, "box", &["--pids-limit", "5"], &["sh", "-c", script]);
    // The shell gives up at the first refusal: what it had started lives on until PID 1 ends.
    let out = host.run(&["logs", "-f", "box"]);
    assert!(out.stderr.contains("can't fork"), "{out:?}");
    assert_eq!(host.ok(&["wait", "box"]), "2");
    start(&host, "full", &["--pids-limit", "3"], &["sh", "-c", "sleep 100 & sleep 100 & wait"]);
    let full = || read(&file(&host, "full", "pids", "pids.current")) == "3";
    assert!(eventually(SOON, full));
    // On v1 a process may join a full group, and then not fork; on v2 it is not even born.
    let fork = ["exec", "full", "sh", "-c", "(sleep 0); echo forked"];
    let refused = host.run(&fork);
    assert!(refused.code != 0 && !refused.stdout.contains("forked"), "{refused:?}");
    host.ok(&["update", "--pids-limit", "10", "full"]);
    assert_eq!(host.ok(&fork), "forked");
    start(&host, "free", &["--pids-limit", "-1"], &["sleep", "100"]);
    assert_eq!(read(&file(&host, "free", "pids", "pids.max")), "max");
}

#[test]
fn a_block_weight_is_set_or_its_lack_is_said() {
    let host = Host::new();
    host.busybox();
    let out = host.run(&[
        "run",
        "-d",
        "--name",
        "box",
        "--network",
        "none",
        "--blkio-weight",
        "300",
        "busybox",
        "sleep",
        "1000",
    ]);
    if out.code == 0 {
        let files = if is_v2() { ["io.bfq.weight", "io.weight"] } else { ["blkio.bfq.weight", "blkio.weight"] };
        let paths = files.map(|f| file(&host, "box", "blkio", f));
        let path = paths.iter().find(|p| p.exists()).expect("a file of weights");
        // io.weight has a scale of its own: 1 to 10000, where 100 is the usual.
        let expected = if path.ends_with("io.weight") { "default 2930" } else { "300" };
        let text = read(path);
        assert!(text == expected || text == format!("default {expected}"), "{text}");
    } else {
        assert!(out.code == 125 && out.stderr.contains("weight") && out.stderr.contains("this host"), "{}", out.stderr);
    }
    let refused = host.fails(&["run", "--rm", "--blkio-weight", "5", "busybox", "true"], 125);
    assert!(refused.contains("10") && refused.contains("1000"), "{refused}");
}

#[test]
fn what_this_host_lacks_is_said() {
    let host = Host::new();
    host.busybox();
    let args = ["run", "--rm", "--network", "none", "-m", "64m", "--memory-swappiness", "10", "busybox", "true"];
    let out = host.run(&args);
    if is_v2() {
        assert!(out.code == 125 && out.stderr.contains("swappiness"), "{}", out.stderr);
        let args = ["run", "--rm", "--network", "none", "-m", "64m", "--oom-kill-disable", "busybox", "true"];
        let refused = host.fails(&args, 125);
        assert!(refused.to_lowercase().contains("oom"), "{refused}");
    } else {
        assert_eq!(out.code, 0, "{}", out.stderr);
    }
    assert_eq!(host.ok(&["ps", "-aq"]), "");
}

#[test]
fn freezing_stops_everything_and_thawing_goes_on() {
    let host = Host::new();
    host.busybox();
    let dir = host.scratch("data");
    std::fs::create_dir(&dir).unwrap();
    let volume = format!("{}:/data", dir.display());
    let count = "i=0; while :; do i=$((i+1)); echo $i > /data/NAME; usleep 1000; done";
    let script = format!("({}) & {}", count.replace("NAME", "child"), count.replace("NAME", "first"));
    start(&host, "box", &["-v", &volume], &["sh", "-c", &script]);
    let counts = || ["first", "child"].map(|n| std::fs::read_to_string(dir.join(n)).unwrap_or_default());
    let moves = |limit| {
        let before = counts();
        eventually(limit, || counts().iter().zip(&before).all(|(a, b)| !a.is_empty() && a != b))
    };
    assert!(moves(SOON));
    host.ok(&["pause", "box"]);
    assert!(host.ok(&["ps"]).contains("(Paused)") && host.inspect("box")["State"]["Paused"] == true);
    let before = counts();
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(counts(), before);
    for verb in [&["exec", "box", "true"][..], &["pause", "box"], &["attach", "box"]] {
        let refused = host.fails(verb, 1);
        assert!(refused.contains("paused"), "{verb:?}: {refused}");
    }
    host.ok(&["unpause", "box"]);
    assert!(moves(SOON));
    assert!(host.fails(&["unpause", "box"], 1).contains("not paused"));
    // A frozen one can be stopped, killed and removed.
    for verb in [&["stop", "-t", "1", "box"][..], &["kill", "box"]] {
        host.ok(&["pause", "box"]);
        host.ok(verb);
        assert_eq!(host.ok(&["wait", "box"]), "137");
        host.ok(&["start", "box"]);
    }
    host.ok(&["pause", "box"]);
    host.ok(&["rm", "-f", "box"]);
    assert_eq!(host.settled().0, [""; 0]);
}

#[test]
fn limits_change_while_it_runs_and_stay_changed() {
    let host = Host::new();
    host.busybox();
    start(&host, "box", &["-m", "64m", "--pids-limit", "50"], &BUSY);
    let controller = |v1: &str, v2: &str, c: &str| read(&file(&host, "box", c, if is_v2() { v2 } else { v1 }));
    let update = [
        "update",
        "-m",
        "48m",
        "--memory-swap",
        "48m",
        "--memory-reservation",
        "20m",
        "--cpus",
        "0.3",
        "--cpu-shares",
        "2048",
        "--cpuset-cpus",
        "1",
        "--pids-limit",
        "20",
        "box",
    ];
    host.ok(&update);
    let seen = || {
        let swap = controller("memory.memsw.limit_in_bytes", "memory.swap.max", "memory");
        let quota = controller("cpu.cfs_quota_us", "cpu.max", "cpu");
        assert_eq!(controller("memory.limit_in_bytes", "memory.max", "memory"), (48 * MIB).to_string());
        assert_eq!(swap, if is_v2() { "0".to_owned() } else { (48 * MIB).to_string() });
        assert_eq!(controller("memory.soft_limit_in_bytes", "memory.low", "memory"), (20 * MIB).to_string());
        assert_eq!(quota, if is_v2() { "30000 100000" } else { "30000" });
        let weight = controller("cpu.shares", "cpu.weight", "cpu");
        assert!(if is_v2() { weight.parse::<u64>().unwrap() > 70 } else { weight == "2048" }, "{weight}");
        assert_eq!(controller("cpuset.cpus", "cpuset.cpus", "cpuset"), "1");
        assert_eq!(controller("pids.max", "pids.max", "pids"), "20");
    };
    seen();
    // They bind at once: the busy loop is throttled now, on the other processor.
    let stat = file(&host, "box", "cpu", "cpu.stat");
    assert!(eventually(SOON, || field(&stat, "nr_throttled") > 0));
    assert_eq!(host.ok(&["exec", "box", "grep", "Cpus_allowed_list", "/proc/1/status"]), "Cpus_allowed_list:\t1");
    // What cannot be is refused, and nothing is recorded.
    let before = host.inspect("box")["HostConfig"].clone();
    assert_eq!((&before["Memory"], &before["PidsLimit"]), (&(48 * MIB).into(), &20.into()), "{before}");
    assert!(host.fails(&["update", "--cpuset-cpus", "999", "box"], 1).contains("cpuset"));
    assert_eq!(host.inspect("box")["HostConfig"], before);
    host.ok(&["stop", "-t", "0", "box"]);
    host.ok(&["start", "box"]);
    seen();
    // And for one that does not run.
    host.ok(&["stop", "-t", "0", "box"]);
    host.ok(&["update", "--pids-limit", "9", "box"]);
    host.ok(&["start", "box"]);
    assert_eq!(controller("pids.max", "pids.max", "pids"), "9");
}

#[test]
fn stats_show_processor_time_memory_and_tasks() {
    let host = Host::new();
    host.busybox();
    let script = "dd if=/dev/zero of=/dev/shm/x bs=1M count=16 2>/dev/null; sleep 1000 & while :; do :; done";
    start(&host, "box", &["-m", "64m", "--cpus", "0.5"], &["sh", "-c", script]);
    let read = || -> serde_json::Value {
        serde_json::from_str(&host.ok(&["stats", "--no-stream", "--format", "json", "box"])).unwrap()
    };
    let number = |v: &serde_json::Value| v.as_str().unwrap().trim_end_matches('%').parse::<f64>().unwrap();
    let busy = || (5.0..60.0).contains(&number(&read()["CPUPerc"]));
    assert!(eventually(SOON, busy), "{}", read());
    let stats = read();
    assert_eq!(stats["PIDs"], "2", "{stats}");
    assert!((25.0..60.0).contains(&number(&stats["MemPerc"])), "{stats}");
}

#[test]
fn groups_of_a_container_are_gone_with_it() {
    let host = Host::new();
    host.busybox();
    start(&host, "box", &[], &["sleep", "1000"]);
    let path = file(&host, "box", "pids", "cgroup.procs");
    let pid = host.inspect("box")["State"]["Pid"].to_string();
    assert_eq!(read(&path), pid);
    // The process is in its group in every hierarchy.
    let id = host.inspect("box")["Id"].as_str().unwrap().to_owned();
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert!(groups.lines().filter(|l| tare_tests::is_mounted_hierarchy(l)).all(|l| l.ends_with(&id)), "{groups}");
    // Groups made inside, which a privileged container may do, do not keep it.
    let nested = [
        "run",
        "-d",
        "--name",
        "nested",
        "--network",
        "none",
        "--privileged",
        "busybox",
        "sh",
        "-c",
        "d=/sys/fs/cgroup; [ -e $d/cgroup.procs ] || d=$d/pids; mkdir -p $d/a/b && sleep 1000 & sleep 0.2; \
         d=/sys/fs/cgroup; [ -e $d/cgroup.procs ] || d=$d/pids; echo $! > $d/a/b/cgroup.procs; echo moved; wait",
    ];
    host.ok(&nested);
    assert!(eventually(SOON, || host.ok(&["logs", "nested"]).contains("moved")));
    host.ok(&["rm", "-f", "box", "nested"]);
    assert!(!path.parent().unwrap().exists());
    assert_eq!(host.settled().0, [""; 0]);
}

/// Here because it shows the device program of cgroup2, which only the emulated machine has.
#[test]
fn a_device_is_refused_by_the_group() {
    let host = Host::new();
    host.busybox();
    let run = |flags: &[&str], script: &str| {
        host.run(&[&["run", "--rm", "--network", "none"], flags, &["busybox", "sh", "-c", script]].concat())
    };
    // Full access to the file system, so it is the group that refuses: /dev/port, which exists everywhere.
    let all = ["--cap-add", "ALL", "--security-opt", "seccomp=unconfined"];
    let refused = run(&all, "mknod /port c 1 4 && (exec < /port)");
    assert!(refused.code != 0 && refused.stderr.contains("Operation not permitted"), "{refused:?}");
    let fine = run(
        &["--cap-drop", "ALL"],
        "head -c 1 /dev/zero | wc -c && echo x > /dev/null && head -c 1 /dev/urandom | wc -c",
    );
    assert_eq!((fine.code, fine.stdout.as_str()), (0, "1\n1\n"), "{fine:?}");
    let own = run(&[&all[..], &["--device", "/dev/null:/dev/own:r"]].concat(), "(exec < /dev/own) && echo read");
    assert_eq!(own.stdout, "read\n", "{own:?}");
    let everything = run(&["--privileged"], "mknod /kmsg c 1 11 && (exec < /kmsg) && echo opened");
    assert_eq!(everything.stdout, "opened\n", "{everything:?}");
    // An exec is in the group, too.
    start(&host, "box", &all, &["sleep", "1000"]);
    let refused = host.run(&["exec", "--privileged", "box", "sh", "-c", "mknod /kmsg c 1 11 && (exec < /kmsg)"]);
    assert!(refused.code != 0 && refused.stderr.contains("Operation not permitted"), "{refused:?}");
}
