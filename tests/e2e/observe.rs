//! `stats`, `top`, `ns`, `info`: what the kernel says about containers.

use serde_json::Value;
use tare_tests::Host;

fn sleeper(host: &Host, flags: &[&str]) {
    let args =
        [&["run", "-d", "--name", "box"], flags, &["busybox", "sh", "-c", "sleep 1000 & exec sleep 1001"]].concat();
    host.ok(&args);
}

#[test]
fn stats_show_memory_tasks_and_traffic() {
    let host = Host::new();
    host.busybox();
    let script = "dd if=/dev/zero of=/dev/shm/fill bs=1M count=20 2>/dev/null; exec sleep 1000";
    host.ok(&["run", "-d", "--name", "box", "-m", "64m", "--pids-limit", "7", "busybox", "sh", "-c", script]);
    let read = || -> Value {
        let text = host.ok(&["stats", "--no-stream", "--format", "json", "box"]);
        serde_json::from_str(&text).unwrap()
    };
    let ready = || read()["MemUsage"].as_str().unwrap().starts_with("2");
    assert!(tare_tests::eventually(std::time::Duration::from_secs(20), ready), "{}", read());
    let stats = read();
    assert!(stats["MemUsage"].as_str().unwrap().ends_with("/ 64MiB"), "{stats}");
    assert_eq!((stats["Name"].as_str(), stats["PIDs"].as_str()), (Some("box"), Some("1")));
    assert!(!stats["NetIO"].as_str().unwrap().is_empty());
    host.ok(&["exec", "box", "ping", "-c", "3", "-s", "1000", &gateway(&host)]);
    let sent = read()["NetIO"].as_str().unwrap().to_owned();
    assert!(sent.contains("kB"), "{sent}");
}

fn gateway(host: &Host) -> String {
    let route = host.ok(&["exec", "box", "ip", "route"]);
    route.lines().find_map(|l| l.strip_prefix("default via ")).unwrap().split(' ').next().unwrap().to_owned()
}

#[test]
fn the_hosts_memory_is_the_limit_where_none_is_set() {
    let host = Host::new();
    host.busybox();
    sleeper(&host, &["--network", "none"]);
    let limit = host.ok(&["stats", "--no-stream", "--format", "{{.MemUsage}}", "box"]);
    let total = host.ok(&["info", "--format", "{{.MemTotal}}"]).parse::<f64>().unwrap();
    let gib: f64 = limit.split("/ ").nth(1).unwrap().trim_end_matches("GiB").parse().unwrap();
    assert!((gib - total / f64::from(1 << 30)).abs() < 0.1, "{limit} {total}");
    host.ok(&["kill", "box"]);
    host.ok(&["wait", "box"]);
    assert!(host.fails(&["stats", "--no-stream", "box"], 1).contains("not running"));
}

#[test]
fn top_lists_the_processes_as_the_host_sees_them() {
    let host = Host::new();
    host.busybox();
    sleeper(&host, &["--network", "none", "--user", "web"]);
    let pid = host.inspect("box")["State"]["Pid"].to_string();
    let mut full = String::new();
    let both = || {
        full = host.ok(&["top", "box"]);
        full.contains("sleep 1001") && !full.contains("sh -c")
    };
    assert!(tare_tests::eventually(std::time::Duration::from_secs(10), both));
    let mut lines = full.lines();
    let titles: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(titles, ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
    let rows: Vec<&str> = lines.collect();
    assert_eq!(rows.len(), 2, "{full}");
    let first: Vec<&str> = rows[0].split_whitespace().collect();
    // 33 is the host's www-data.
    assert_eq!((first[0], first[1]), ("www-data", pid.as_str()));
    assert!(rows[0].ends_with("sleep 1001") && rows[1].ends_with("sleep 1000"), "{full}");
    let chosen = host.ok(&["top", "box", "-o", "pid,ppid,nspid,comm"]);
    let rows: Vec<Vec<&str>> = chosen.lines().skip(1).map(|l| l.split_whitespace().collect()).collect();
    assert_eq!((rows[0][0], rows[0][2], rows[0][3]), (pid.as_str(), "1", "sleep"));
    assert_eq!(rows[1][1], pid);
    let refused = host.fails(&["top", "box", "-o", "nonsense"], 1);
    assert!(refused.contains("nonsense") && refused.contains("nlwp"), "{refused}");
}

#[test]
fn namespaces_are_told_apart_from_the_hosts_and_from_other_containers() {
    let host = Host::new();
    host.busybox();
    sleeper(&host, &["--network", "none"]);
    host.ok(&["run", "-d", "--name", "guest", "--network", "container:box", "busybox", "sleep", "1000"]);
    let table = |target: &str| -> Vec<Vec<String>> {
        let text = host.ok(&["ns", "--format", "{{.Kind}}|{{.Inode}}|{{.Own}}|{{.SharedWith}}", target]);
        text.lines().map(|l| l.split('|').map(str::to_owned).collect()).collect()
    };
    let of = |rows: &[Vec<String>], kind: &str| rows.iter().find(|r| r[0] == kind).unwrap().clone();
    let guest = table("guest");
    assert_eq!(of(&guest, "net")[2..], ["shared", "container box"]);
    assert_eq!(of(&guest, "pid")[2..], ["own", ""]);
    assert_eq!(of(&guest, "user")[2], "host's");
    assert_eq!(of(&table("box"), "net")[1], of(&guest, "net")[1]);
    let pid = host.inspect("guest")["State"]["Pid"].to_string();
    assert_eq!(table(&pid), guest);
    let net = std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
    assert_eq!(net.display().to_string(), format!("net:[{}]", of(&guest, "net")[1]));
    let mine = table(&std::process::id().to_string());
    assert_eq!(of(&mine, "pid")[2], "host's");
    assert!(host.fails(&["ns", "4194305"], 1).contains("4194305"));
}

#[test]
fn info_counts_containers_by_state() {
    let host = Host::new();
    host.busybox();
    sleeper(&host, &["--network", "none"]);
    host.ok(&["create", "busybox"]);
    let info: Value = serde_json::from_str(&host.ok(&["info", "--format", "json"])).unwrap();
    assert_eq!((&info["Containers"], &info["ContainersRunning"], &info["Images"]), (&2.into(), &1.into(), &1.into()));
    assert!(info["CgroupVersion"].as_str().is_some_and(|v| !v.is_empty()), "{info}");
}
