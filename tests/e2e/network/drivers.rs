//! Networks of other kinds than the bridge.

use tare_tests::lan::{Lan, program};

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
