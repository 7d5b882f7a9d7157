//! The network: the bridge, the way out, published ports, and what containers share.
//!
//! Everything happens in network namespaces of the test's own, so that the firewall of the machine is left alone:
//!
//! ```text
//! outside (192.0.2.2, a web server) ── veth ── host (192.0.2.1; tare runs here) ── tare's bridge ── containers
//! ```

use std::time::Duration;
use tare_tests::{Host, Output, Running, Tree, command, eventually, unique};

const OUTSIDE: &str = "192.0.2.2";
const HOST: &str = "192.0.2.1";

/// Two network namespaces that are connected, and a root of tare's whose host is the first one.
struct Net {
    host: Host,
    inside: String,
    outside: String,
    // After the root: what is left of it goes while its namespace is there.
    _server: Running,
}

#[track_caller]
fn program(line: &[&str]) -> String {
    let out =
        Running::start(command(line[0]).args(&line[1..]).env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin"), None).wait();
    assert_eq!(out.code, 0, "{line:?}: {}", out.stderr);
    out.stdout
}

impl Net {
    fn new() -> Net {
        let (inside, outside) = (unique("tare-in-"), unique("tare-out-"));
        for name in [&inside, &outside] {
            program(&["ip", "netns", "add", name]);
            program(&["ip", "-n", name, "link", "set", "lo", "up"]);
        }
        program(&[
            "ip", "-n", &inside, "link", "add", "up0", "type", "veth", "peer", "name", "eth0", "netns", &outside,
        ]);
        for (name, device, address) in [(&inside, "up0", HOST), (&outside, "eth0", OUTSIDE)] {
            program(&["ip", "-n", name, "address", "add", &format!("{address}/24"), "dev", device]);
            program(&["ip", "-n", name, "link", "set", device, "up"]);
        }
        program(&["ip", "-n", &inside, "route", "add", "default", "via", OUTSIDE]);
        let host = Host::new();
        let site = host.scratch("site");
        std::fs::create_dir_all(&site).unwrap();
        std::fs::write(site.join("page"), "from outside\n").unwrap();
        let mut serve = command("nsenter");
        serve.arg(format!("--net=/run/netns/{outside}")).args(["busybox", "httpd", "-f", "-vv", "-p", "80", "-h"]);
        let server = Running::start(serve.arg(&site), None);
        host.busybox();
        Net { host, inside, outside, _server: server }
    }

    fn on(namespace: &str, line: &[&str]) -> Output {
        let mut enter = command("nsenter");
        enter.env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin").arg(format!("--net=/run/netns/{namespace}"));
        Running::start(enter.args(line), None).wait()
    }

    fn run(&self, args: &[&str]) -> Output {
        self.run_for(&self.host, args)
    }

    fn run_for(&self, host: &Host, args: &[&str]) -> Output {
        let plain = host.command(args);
        let mut enter = command("nsenter");
        enter.arg(format!("--net=/run/netns/{}", self.inside)).arg(plain.get_program()).args(plain.get_args());
        Running::start(&mut enter, None).wait()
    }

    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        let out = self.run(args);
        assert_eq!(out.code, 0, "{args:?}: {}{}", out.stdout, out.stderr);
        out.stdout.trim_end().to_owned()
    }

    /// A detached container that serves its name on port 80.
    fn service(&self, name: &str, flags: &[&str]) -> String {
        let script = format!("echo {name} > /page; exec httpd -f -p 80 -h /");
        let args = [&["run", "-d", "--name", name], flags, &["busybox", "sh", "-c", &script]].concat();
        let id = self.ok(&args);
        let up = || self.run(&["exec", name, "wget", "-qO-", "http://127.0.0.1/page"]).code == 0;
        assert!(eventually(Duration::from_secs(10), up), "{name} does not serve");
        id
    }

    fn address(&self, name: &str) -> String {
        self.ok(&["inspect", "-f", "{{.NetworkSettings.IPAddress}}", name])
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.host.clear();
        let left = || {
            Net::on(&self.inside, &["nft", "list", "tables"]).stdout
                + &Net::on(&self.inside, &["ip", "-o", "link", "show", "type", "bridge"]).stdout
        };
        let gone = eventually(Duration::from_secs(10), || left().is_empty());
        let found = left();
        for name in [&self.inside, &self.outside] {
            let _ = command("ip").args(["netns", "delete", name]).status();
        }
        assert!(gone || std::thread::panicking(), "left behind: {found}");
    }
}

/// Fetches a page with a short patience; what came, or nothing.
fn fetch(namespace: &str, address: &str) -> Option<String> {
    let out = Net::on(namespace, &["curl", "-s", "-m", "3", &format!("http://{address}/page")]);
    (out.code == 0).then(|| out.stdout.trim().to_owned())
}

#[test]
fn a_container_has_an_address_a_route_and_a_way_out() {
    let net = Net::new();
    let script = "ip -4 -o addr show dev eth0; ip route; ip -o link show; cat /sys/class/net/eth0/mtu; wget -qO- http://192.0.2.2/page";
    let seen = net.ok(&["run", "--rm", "busybox", "sh", "-c", script]);
    assert!(seen.ends_with("from outside"), "{seen}");
    assert!(seen.contains("default via 10."), "{seen}");
    assert_eq!(seen.matches("eth0@").count(), 1, "{seen}");
    // Outside knows no route to the container: it has seen the host's address.
    assert!(
        net._server.printed().1.contains(&format!("[::ffff:{HOST}]")) || net._server.printed().1.contains(HOST),
        "{}",
        net._server.printed().1
    );
    // Two containers reach each other by address, and the host reaches both.
    net.service("one", &[]);
    net.service("two", &[]);
    let (one, two) = (net.address("one"), net.address("two"));
    assert_ne!(one, two);
    assert_eq!(net.ok(&["exec", "two", "wget", "-qO-", &format!("http://{one}/page")]), "one");
    assert_eq!(fetch(&net.inside, &two).as_deref(), Some("two"));
    assert_eq!(fetch(&net.outside, &two), None, "nothing that is not published is reached from outside");
    // Its own address, and the bridge's, as inspect gives them.
    let settings = net.ok(&[
        "inspect",
        "-f",
        "{{.NetworkSettings.Gateway}} {{.NetworkSettings.IPPrefixLen}} {{.NetworkSettings.MacAddress}}",
        "one",
    ]);
    let fields: Vec<&str> = settings.split(' ').collect();
    let addresses = net.ok(&["exec", "one", "ip", "addr", "show", "dev", "eth0"]);
    assert!(
        addresses.contains(&format!("{one}/{}", fields[1])) && addresses.contains(fields[2]),
        "{settings} {addresses}"
    );
    assert!(net.ok(&["exec", "one", "ip", "route"]).contains(&format!("default via {}", fields[0])));
    assert!(Net::on(&net.inside, &["ip", "addr"]).stdout.contains(&format!("{}/", fields[0])));
}

/// What `apt-get update` does, without Debian's mirrors: names, redirects of the resolver aside, and a larger file.
#[test]
fn files_are_fetched_from_outside_whole() {
    let net = Net::new();
    let file = net.host.scratch("site/large");
    let bytes = command("head").args(["-c", "5000000", "/dev/urandom"]).output().unwrap().stdout;
    std::fs::write(&file, &bytes).unwrap();
    let sum = program(&["sha256sum", &file.display().to_string()]);
    let script = "wget -qO /large http://192.0.2.2/large && sha256sum /large; wget -qO- http://192.0.2.2/missing 2>&1 | grep -c 404";
    let seen = net.ok(&["run", "--rm", "busybox", "sh", "-c", script]);
    assert_eq!(seen, format!("{}  /large\n1", &sum[..64]));
}

#[test]
fn published_ports_are_reached_from_everywhere() {
    let net = Net::new();
    net.service("web", &["-p", "8080:80", "-p", "80"]);
    let ports =
        net.ok(&["inspect", "-f", "{{range index .NetworkSettings.Ports \"80/tcp\"}}{{.HostPort}} {{end}}", "web"]);
    let free = ports.split(' ').find(|p| *p != "8080").unwrap().to_owned();
    for port in ["8080", &free] {
        for (from, address) in
            [(&net.outside, HOST), (&net.inside, HOST), (&net.inside, "127.0.0.1"), (&net.inside, "localhost")]
        {
            let got = fetch(from, &format!("{address}:{port}"));
            assert_eq!(got.as_deref(), Some("web"), "{address}:{port}");
        }
    }
    assert!(net.ok(&["ps", "--format", "{{.Ports}}"]).contains("0.0.0.0:8080->80/tcp"));
    // From a container, by the host's address.
    net.service("other", &[]);
    assert_eq!(net.ok(&["exec", "other", "wget", "-qO-", &format!("http://{HOST}:8080/page")]), "web");
    // Free again when the container is gone, without delay.
    net.ok(&["rm", "-f", "web"]);
    assert_eq!(fetch(&net.outside, &format!("{HOST}:8080")), None);
    net.service("again", &["-p", "8080:80"]);
    assert_eq!(fetch(&net.outside, &format!("{HOST}:8080")).as_deref(), Some("again"));
    // It keeps its ports through a stop and a start.
    net.ok(&["stop", "-t", "0", "again"]);
    assert_eq!(fetch(&net.outside, &format!("{HOST}:8080")), None);
    net.ok(&["start", "again"]);
    assert!(
        eventually(Duration::from_secs(5), || fetch(&net.outside, &format!("{HOST}:8080")).as_deref() == Some("again"))
    );
}

#[test]
fn a_port_may_be_published_on_one_address_only() {
    let net = Net::new();
    net.service("local", &["-p", "127.0.0.1:8080:80"]);
    net.service("wide", &["-p", &format!("{HOST}:8080:80")]);
    assert_eq!(fetch(&net.inside, "127.0.0.1:8080").as_deref(), Some("local"));
    assert_eq!(fetch(&net.inside, &format!("{HOST}:8080")).as_deref(), Some("wide"));
    assert_eq!(fetch(&net.outside, &format!("{HOST}:8080")).as_deref(), Some("wide"));
    // Somebody on the same wire who sends packets for 127.0.0.1 gets nowhere.
    net.ok(&["rm", "-f", "wide"]);
    assert_eq!(fetch(&net.outside, &format!("{HOST}:8080")), None);
    program(&["ip", "-n", &net.outside, "address", "flush", "dev", "lo"]);
    program(&["ip", "-n", &net.outside, "route", "add", "127.0.0.0/8", "via", HOST]);
    let allow = "for f in all eth0; do echo 1 > /proc/sys/net/ipv4/conf/$f/route_localnet; done";
    assert_eq!(Net::on(&net.outside, &["sh", "-c", allow]).code, 0);
    let route = Net::on(&net.outside, &["ip", "route", "get", "127.0.0.1"]).stdout;
    assert!(route.contains("dev eth0"), "{route}");
    assert_eq!(fetch(&net.outside, "127.0.0.1:8080"), None);
    let ranges = net.run(&[
        "run",
        "-d",
        "--name",
        "range",
        "-p",
        "9000-9002:80-82",
        "busybox",
        "sh",
        "-c",
        "httpd -p 82 -h /etc; echo range > /etc/page; sleep 1000",
    ]);
    assert_eq!(ranges.code, 0, "{}", ranges.stderr);
    assert!(
        eventually(Duration::from_secs(5), || fetch(&net.outside, &format!("{HOST}:9002")).as_deref() == Some("range"))
    );
}

#[test]
fn a_port_in_use_is_refused_and_its_holder_named() {
    let net = Net::new();
    net.service("web", &["-p", "8080:80"]);
    let out = net.run(&["run", "--rm", "-p", "8080:81", "busybox", "true"]);
    assert_eq!(out.code, 125);
    assert!(out.stderr.contains("8080") && out.stderr.contains("container web has published"), "{}", out.stderr);
    assert!(out.stderr.contains("hint: choose another host port"), "{}", out.stderr);
    // A program of the host.
    let mut listen = command("nsenter");
    listen.arg(format!("--net=/run/netns/{}", net.inside));
    let _listener = Running::start(listen.args(["busybox", "nc", "-l", "-p", "8081"]), None);
    assert!(eventually(Duration::from_secs(5), || Net::on(&net.inside, &["ss", "-tln"]).stdout.contains(":8081")));
    let out = net.run(&["run", "--rm", "--name", "late", "-p", "8081:80", "busybox", "true"]);
    assert_eq!(out.code, 125);
    assert!(out.stderr.contains("in use by") && out.stderr.contains("(pid "), "{}", out.stderr);
    // Nothing of the failed ones is left.
    assert_eq!(net.ok(&["ps", "-a", "--format", "{{.Names}}"]), "web");
    let out = net.run(&["run", "--rm", "-p", "203.0.113.9:80:80", "busybox", "true"]);
    assert!(out.code == 125 && out.stderr.contains("203.0.113.9 is not an address of this host"), "{}", out.stderr);
    for network in ["none", "host", "container:web"] {
        let out = net.run(&["run", "--rm", "--network", network, "-p", "8082:80", "busybox", "true"]);
        assert!(out.code == 125 && out.stderr.contains("--publish"), "{network}: {}", out.stderr);
    }
}

#[test]
fn none_is_loopback_and_host_is_the_hosts_own() {
    let net = Net::new();
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
    let net = Net::new();
    net.service("web", &["-p", "8080:80", "--hostname", "shared"]);
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
fn the_files_of_the_network_say_what_is_so() {
    let net = Net::new();
    let plain = net.host.command(&[
        "run",
        "--rm",
        "--hostname",
        "me",
        "busybox",
        "sh",
        "-c",
        "cat /etc/hosts /etc/resolv.conf /etc/hostname; ip -4 -o addr show dev eth0",
    ]);
    // With a resolver's file of our own, in a mount namespace.
    let resolv = net.host.scratch("resolv.conf");
    std::fs::write(
        &resolv,
        "# comment\nsearch example.org\nnameserver 127.0.0.53\nnameserver 192.0.2.53\noptions edns0\n",
    )
    .unwrap();
    let mut enter = command("nsenter");
    enter.arg(format!("--net=/run/netns/{}", net.inside)).args([
        "unshare",
        "--mount",
        "sh",
        "-c",
        "mount --bind \"$0\" \"$(readlink -f /etc/resolv.conf)\" && exec \"$@\"",
    ]);
    let out = Running::start(enter.arg(&resolv).arg(plain.get_program()).args(plain.get_args()), None).wait();
    assert_eq!(out.code, 0, "{}", out.stderr);
    let address = out.stdout.rsplit("inet ").next().unwrap().split('/').next().unwrap();
    assert!(
        out.stdout.starts_with("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"),
        "{}",
        out.stdout
    );
    assert!(
        out.stdout
            .contains(&format!("\n{address}\tme\nsearch example.org\noptions edns0\nnameserver 192.0.2.53\nme\n")),
        "{}",
        out.stdout
    );
    let seen = net.ok(&[
        "run",
        "--rm",
        "--network",
        "none",
        "--hostname",
        "me",
        "busybox",
        "sh",
        "-c",
        "grep me /etc/hosts; ping -c 1 -W 1 me >/dev/null && echo resolves",
    ]);
    assert_eq!(seen, "127.0.0.1\tme\nresolves");
    let hosts = net.ok(&["run", "--rm", "--network", "host", "busybox", "cat", "/etc/hosts"]);
    assert_eq!(hosts, std::fs::read_to_string("/etc/hosts").unwrap().trim_end());
}

#[test]
fn the_last_container_takes_the_bridge_and_the_rules_along() {
    let net = Net::new();
    let names = net.host.names().clone();
    let exists = || {
        let bridge = Net::on(&net.inside, &["ip", "link", "show", &names.bridge]).code == 0;
        let table = Net::on(&net.inside, &["nft", "list", "tables"]).stdout.contains(&names.instance);
        (bridge, table)
    };
    assert_eq!(exists(), (false, false));
    net.ok(&["run", "-d", "--name", "one", "busybox", "sleep", "1000"]);
    net.ok(&["run", "-d", "--name", "two", "-p", "8080:80", "busybox", "sleep", "1000"]);
    assert_eq!(exists(), (true, true));
    net.ok(&["rm", "-f", "one"]);
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(exists(), (true, true), "the other one needs them");
    net.ok(&["kill", "two"]);
    assert!(eventually(Duration::from_secs(5), || exists() == (false, false)), "{:?}", exists());
    // An address is used again once it is free, and never twice at once.
    for i in 0..3 {
        net.ok(&["run", "-d", "--name", &format!("box{i}"), "busybox", "sleep", "1000"]);
    }
    let mut addresses: Vec<String> = (0..3).map(|i| net.address(&format!("box{i}"))).collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 3);
}

#[test]
fn two_roots_never_meet() {
    let net = Net::new();
    let other = Host::new();
    other.busybox();
    net.service("web", &["-p", "8080:80"]);
    let started = net.run_for(
        &other,
        &["run", "-d", "--name", "web", "busybox", "sh", "-c", "echo other > /page; exec httpd -f -p 80 -h /"],
    );
    assert_eq!(started.code, 0, "{}", started.stderr);
    let theirs =
        net.run_for(&other, &["inspect", "-f", "{{.NetworkSettings.IPAddress}}", "web"]).stdout.trim().to_owned();
    let ours = net.address("web");
    assert_ne!(ours.rsplit_once('.').unwrap().0, theirs.rsplit_once('.').unwrap().0, "two networks");
    assert_ne!(net.host.names().bridge, other.names().bridge);
    assert!(eventually(Duration::from_secs(5), || fetch(&net.inside, &theirs).as_deref() == Some("other")));
    // Neither reaches the other's containers past what is published.
    let across = net.run(&["exec", "web", "wget", "-qO-", "-T", "2", &format!("http://{theirs}/page")]);
    assert_ne!(across.code, 0, "{}", across.stdout);
    assert_eq!(net.ok(&["ps", "-q"]).lines().count(), 1);
    // The port is taken for both.
    let out = net.run_for(&other, &["run", "--rm", "-p", "8080:80", "busybox", "true"]);
    assert!(out.code == 125 && out.stderr.contains("in use by"), "{}", out.stderr);
    // When one goes, the other stays.
    net.run_for(&other, &["rm", "-f", "web"]);
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(fetch(&net.outside, &format!("{HOST}:8080")).as_deref(), Some("web"));
    assert_eq!(net.ok(&["exec", "web", "wget", "-qO-", "http://192.0.2.2/page"]), "from outside");
}

#[test]
fn names_with_a_configuration_of_their_own_are_kept() {
    // An image that brings its own /etc/resolv.conf as a mount keeps it.
    let net = Net::new();
    let tree = Tree::new();
    tree.file("resolv.conf", "nameserver 198.51.100.1\n");
    let mount = format!("{}:/etc/resolv.conf:ro", tree.path("resolv.conf").display());
    assert_eq!(net.ok(&["run", "--rm", "-v", &mount, "busybox", "cat", "/etc/resolv.conf"]), "nameserver 198.51.100.1");
}
