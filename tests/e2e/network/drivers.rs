//! Networks of other kinds than the bridge.

use tare_tests::lan::{From, Lan, Namespace, program};

#[test]
fn none_is_loopback_and_host_is_the_hosts_own() {
    let net = Lan::new();
    let seen = net.ok(&["run", "--rm", "--network", "none", "busybox", "sh", "-c", "ls /sys/class/net; ip route; ping -c 1 -W 1 127.0.0.1 >/dev/null && echo self; ping -c 1 -W 1 192.0.2.2 2>&1 | grep -c unreachable"]);
    assert_eq!(seen, "lo\nself\n1");
    let seen = net.ok(&[
        "run",
        "--rm",
        "--network",
        "host",
        "busybox",
        "sh",
        "-c",
        "ls /sys/class/net; wget -qO- http://192.0.2.2/page; hostname",
    ]);
    let name = program(&["hostname"]);
    assert!(seen.contains("up0") && seen.ends_with(&format!("from outside\n{}", name.trim())), "{seen}");
    assert!(net.run(&["run", "--rm", "--network", "nonsense", "busybox", "true"]).stderr.contains("nonsense"));
}

#[test]
fn a_container_may_live_in_anothers_network() {
    let net = Lan::new();
    net.web("web", &["-p", "8080:80", "--hostname", "shared"]);
    let seen = net.ok(&[
        "run",
        "--rm",
        "--network",
        "container:web",
        "busybox",
        "sh",
        "-c",
        "wget -qO- http://127.0.0.1/page; hostname; grep shared /etc/hosts | wc -l; readlink /proc/self/ns/net",
    ]);
    let namespace = net.ok(&["exec", "web", "readlink", "/proc/self/ns/net"]);
    assert_eq!(seen, format!("web\nshared\n1\n{namespace}"));
    let out = net.run(&["run", "--rm", "--network", "container:nobody", "busybox", "true"]);
    assert!(out.code == 125 && out.stderr.contains("nobody"), "{}", out.stderr);
    net.ok(&["stop", "-t", "0", "web"]);
    let out = net.run(&["run", "--rm", "--network", "container:web", "busybox", "true"]);
    assert!(
        out.code == 125 && out.stderr.contains("not running") && out.stderr.contains("tare start web"),
        "{}",
        out.stderr
    );
    let out = net.run(&["run", "--rm", "--network", "container:web", "--hostname", "mine", "busybox", "true"]);
    assert!(out.code == 125 && out.stderr.contains("--hostname"), "{}", out.stderr);
}

#[test]
fn a_namespace_may_be_given_by_its_path() {
    let net = Lan::new();
    let other = Namespace::new("tare-path-");
    net.inside.join("link0", &["198.51.100.1/24"], &other, "wire0", &["198.51.100.2/24"]);
    let network = format!("ns:{}", other.path().display());
    let seen = net.ok(&[
        "run",
        "--rm",
        "--network",
        &network,
        "busybox",
        "sh",
        "-c",
        "ls /sys/class/net; ip -4 -o addr show dev wire0",
    ]);
    assert!(seen.contains("wire0") && seen.contains("198.51.100.2/24"), "{seen}");
    net.peer("web", &["--network", &network]);
    assert_eq!(net.whom(From::On(&net.inside), "tcp", "198.51.100.2", 80).map(|r| r.name).as_deref(), Some("web"));
    net.ok(&["rm", "-f", "web"]);
    assert!(other.ip("-o link show wire0").contains("wire0"), "the namespace is as it was");
    let refused = net.fails(&["run", "--rm", "--network", "ns:/nonexistent", "busybox", "true"], 125);
    assert!(refused.contains("/nonexistent"), "{refused}");
    let refused = net.run(&["run", "--rm", "--network", "ns:/etc/passwd", "busybox", "true"]);
    assert!(refused.code == 125 && refused.stderr.contains("/etc/passwd"), "{}", refused.stderr);
    net.inside.ip("link delete link0");
}
