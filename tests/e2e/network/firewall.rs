//! Manners: other people's rules are theirs, win where they drop, and ours come back when they are flushed.

use std::time::{Duration, Instant};
use tare_tests::lan::{From, HOST, HOST6, Lan, Namespace, OUTSIDE, fetch};
use tare_tests::{Running, eventually};

/// What an administrator has: tables of nft's own, and rules of both kinds of iptables, drops among them.
fn administrator(namespace: &Namespace) {
    namespace.nft(
        "table inet admin {
            set banned { type ipv4_addr; elements = { 203.0.113.66, 203.0.113.67 }; }
            chain input {
                type filter hook input priority filter; policy accept;
                tcp dport 2222 counter drop
            }
            chain forward {
                type filter hook forward priority filter; policy accept;
                ip saddr @banned drop
                ct status dnat meta l4proto tcp ct original proto-dst 8081 drop
            }
            chain raw {
                type filter hook prerouting priority raw; policy accept;
                tcp dport 8082 drop
            }
        }
        table ip mine {
            chain post {
                type nat hook postrouting priority srcnat;
                ip saddr 10.250.0.0/16 masquerade
            }
        }",
    );
    for kind in ["legacy", "nft"] {
        for (family, source) in [("iptables", "203.0.113.0/24"), ("ip6tables", "2001:db8:bad::/48")] {
            let program = format!("{family}-{kind}");
            for rule in [
                format!("-A FORWARD -s {source} -j DROP"),
                "-A INPUT -p tcp --dport 2223 -j DROP".to_owned(),
                "-N OWN".to_owned(),
                "-A FORWARD -p tcp --dport 7777 -j OWN".to_owned(),
                "-A OWN -j DROP".to_owned(),
                "-t nat -A POSTROUTING -p tcp --dport 7778 -j MASQUERADE".to_owned(),
            ] {
                namespace.ok(&[&[program.as_str()], &rule.split(' ').collect::<Vec<_>>()[..]].concat());
            }
        }
    }
}

/// All of it, as its own tools write it, without counts and dates.
fn theirs(namespace: &Namespace) -> String {
    let mut all = String::new();
    for table in [&["inet", "admin"], &["ip", "mine"]] {
        let list = namespace.ok(&["nft", "-s", "list", "table", table[0], table[1]]);
        all += &list;
    }
    for program in ["iptables-legacy-save", "ip6tables-legacy-save", "iptables-nft-save", "ip6tables-nft-save"] {
        for line in namespace.ok(&[program]).lines().filter(|l| !l.starts_with('#')) {
            all += line.split(" [").next().unwrap();
            all += "\n";
        }
    }
    all
}

#[test]
fn foreign_rules_are_left_alone_and_their_drops_win() {
    let net = Lan::new();
    administrator(&net.inside);
    let before = theirs(&net.inside);
    net.ok(&["network", "create", "red"]);
    net.peer_on("web", &["--network", "red", "-p", "8080-8083:80-83"], &["80", "81", "82", "83"]);
    net.peer_on("plain", &["-p", "8090:80", "-p", "8091:7777"], &["80", "7777"]);
    for (port, there) in [(8080, true), (8081, false), (8082, false), (8083, true), (8090, true), (8091, false)] {
        for address in [HOST, HOST6] {
            let who = net.who(From::On(&net.outside), "tcp", address, port);
            assert_eq!(who.is_some(), there, "{address} {port}");
        }
    }
    // A banned address stays banned, in front of published ports too.
    net.outside.ip("address add 203.0.113.66/32 dev eth0");
    net.inside.ip(&format!("route add 203.0.113.66 via {OUTSIDE}"));
    let banned =
        ["curl", "-s", "-m", "2", "--interface", "203.0.113.66", &format!("http://{HOST}:8080/")].map(str::to_owned);
    let banned: Vec<&str> = banned.iter().map(String::as_str).collect();
    assert_eq!(net.outside.on(&banned).code, 28, "no answer at all");
    assert_eq!(theirs(&net.inside), before, "while containers run");
    net.ok(&["port", "add", "web", "8084:80"]);
    net.ok(&["network", "connect", "bridge", "web"]);
    net.ok(&["network", "reload"]);
    assert_eq!(theirs(&net.inside), before, "after changes");
    net.ok(&["rm", "-f", "web", "plain"]);
    let ours = || net.inside.ok(&["nft", "list", "tables"]).contains(&net.host.names().instance);
    assert!(eventually(Duration::from_secs(5), || !ours()));
    assert_eq!(theirs(&net.inside), before, "after the last one");
    forget(&net.inside);
}

/// Takes the administrator's tables away, so that the harness finds nothing.
fn forget(namespace: &Namespace) {
    namespace.ok(&["nft", "flush", "ruleset"]);
}

#[test]
fn rules_that_are_flushed_come_back_within_a_second() {
    let net = Lan::new();
    net.ok(&["network", "create", "red"]);
    net.ok(&["network", "create", "--internal", "inner"]);
    net.peer("web", &["--network", "red", "-p", "8080:80", "-p", "8080:80/udp"]);
    net.peer("plain", &["-p", "[2001:db8::1]:8081:80", "-p", "127.0.0.1:8082:80"]);
    net.peer("kept", &["--network", "inner"]);
    let table = net.host.names().instance.clone();
    let list = || net.inside.on(&["nft", "-s", "list", "table", "inet", &table]).stdout;
    let sorted = |text: &str| {
        let mut words: Vec<String> = text.split([' ', '\n', '\t', ',']).map(str::to_owned).collect();
        words.sort();
        words
    };
    let before = list();
    assert!(before.contains("8080"), "{before}");
    let whole = || sorted(&list()) == sorted(&before);
    for take in [
        vec!["nft", "flush", "ruleset"],
        vec!["nft", "delete", "table", "inet", &table],
        vec!["nft", "flush", "table", "inet", &table],
    ] {
        net.inside.ok(&take);
        let begin = Instant::now();
        let back = eventually(Duration::from_secs(5), whole);
        let took = begin.elapsed();
        assert!(back, "{take:?}: before: {before}\nnow: {}", list());
        assert!(took < Duration::from_secs(1), "{take:?} took {took:?}");
        assert_eq!(net.who(From::On(&net.outside), "tcp", HOST, 8080).as_deref(), Some("web"), "{take:?}");
        assert_eq!(net.who(From::On(&net.outside), "udp", HOST, 8080).as_deref(), Some("web"), "{take:?}");
        assert_eq!(net.who(From::On(&net.outside), "tcp", HOST6, 8081).as_deref(), Some("plain"), "{take:?}");
        assert_eq!(net.who(From::On(&net.inside), "tcp", "127.0.0.1", 8082).as_deref(), Some("plain"), "{take:?}");
    }
    // Nobody is woken again by what they have written themselves: the table stays as it is.
    let generation = || net.inside.ok(&["nft", "-a", "list", "table", "inet", &table]);
    let handles = generation();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(generation(), handles);
}

/// Switches of the network that hold for the host's own devices.
fn switches(namespace: &Namespace) -> Vec<String> {
    let script = "cd /proc/sys/net; grep -H . ipv4/conf/{all,default,up0,lo}/* ipv4/ip_forward ipv6/conf/{all,default,up0,lo}/* 2>/dev/null";
    let all = namespace.on(&["bash", "-c", script]).stdout;
    all.lines().filter(|l| !l.contains("stable_secret")).map(str::to_owned).collect()
}

#[test]
fn only_forwarding_is_switched_on_and_routers_are_still_listened_to() {
    let net = Lan::new();
    // A device that has learned something from a router, and would forget it on a host that forwards.
    net.inside.sysctl("net.ipv6.conf.up0.accept_ra", "1");
    net.inside.ip("-6 route add 2001:db8:99::/64 via 2001:db8::2 dev up0 proto ra");
    let before = switches(&net.inside);
    net.peer("web", &["-p", "8080:80"]);
    let now = switches(&net.inside);
    // The kernel itself stops following redirects on a host that forwards.
    let changed: Vec<&str> = now.iter().filter(|l| !before.contains(l)).map(|l| l.split(':').next().unwrap()).collect();
    for key in &changed {
        let name = key.rsplit('/').next().unwrap();
        assert!(["forwarding", "ip_forward", "accept_redirects", "accept_ra"].contains(&name), "{changed:?}");
    }
    assert!(now.iter().any(|l| l == "ipv6/conf/up0/accept_ra:2"), "a forwarding host listens on with 2");
    assert!(net.inside.ip("-6 route").contains("2001:db8:99::/64"));
    assert!(now.iter().any(|l| l == "ipv4/conf/up0/route_localnet:0"));
}

#[test]
fn a_foreign_policy_that_drops_is_told_and_explained() {
    let net = Lan::new();
    net.inside.ok(&["iptables-legacy", "-P", "FORWARD", "DROP"]);
    let volume = format!("{}:/bin/talk:ro", tare_tests::lan::talk().display());
    let start = ["run", "-d", "--name", "web", "-v", &volume, "-p", "8080:80", "busybox", "talk", "serve", "web", "80"];
    let out = net.run(&start);
    assert_eq!(out.code, 0, "{}", out.stderr);
    assert!(out.stderr.contains("FORWARD") && out.stderr.to_lowercase().contains("drop"), "a warning: {}", out.stderr);
    assert_eq!(net.who(From::On(&net.outside), "tcp", HOST, 8080), None, "the administrator's policy wins");
    let told = net.ok(&["port", "explain", "web"]);
    assert!(told.contains("8080") && told.contains("FORWARD"), "{told}");
    net.inside.ok(&["iptables-legacy", "-P", "FORWARD", "ACCEPT"]);
    assert_eq!(net.who(From::On(&net.outside), "tcp", HOST, 8080).as_deref(), Some("web"));
    let told = net.ok(&["port", "explain", "web"]);
    assert!(told.contains("8080") && !told.contains("FORWARD"), "{told}");
    // A drop of nft's, named by its table and chain.
    let guard = "type filter hook forward priority -5; policy accept; iifname \"up0\" drop;";
    net.inside.nft(&format!("table inet admin {{ chain guard {{ {guard} }}; }}"));
    assert_eq!(net.who(From::On(&net.outside), "tcp", HOST, 8080), None);
    let told = net.ok(&["port", "explain", "web"]);
    assert!(told.contains("admin") && told.contains("guard"), "{told}");
    net.inside.ok(&["nft", "delete", "table", "inet", "admin"]);
}

#[test]
fn a_setting_publishes_on_the_loopback_device_unless_told_otherwise() {
    let net = Lan::new();
    let file = net.host.scratch("config.toml");
    std::fs::write(&file, "[network]\npublish = \"127.0.0.1\"\n").unwrap();
    let script = "echo web > /page; exec httpd -f -p 80 -h /";
    for (name, port) in [("one", "8080:80"), ("two", "0.0.0.0:8081:80")] {
        let line = ["run", "-d", "--name", name, "-p", port, "busybox", "sh", "-c", script];
        let out = Running::start(net.command(&line).env("TARE_CONFIG", &file), None).wait();
        assert_eq!(out.code, 0, "{}", out.stderr);
    }
    assert!(eventually(Duration::from_secs(5), || fetch(&net.outside, &format!("{HOST}:8081")).is_some()));
    assert!(fetch(&net.inside, "127.0.0.1:8080").is_some());
    assert_eq!(fetch(&net.outside, &format!("{HOST}:8080")), None);
    assert!(net.ok(&["port", "one"]).contains("127.0.0.1:8080"));
}

#[test]
fn podmans_rules_stay_beside_ours() {
    let net = Lan::new();
    net.inside.nft(
        "table inet netavark {
            chain ISOLATION {
                ip saddr 10.88.0.0/16 accept
            }
            chain FORWARD {
                type filter hook forward priority filter; policy accept;
                ct state invalid drop
                jump ISOLATION
            }
        }",
    );
    let list = || net.inside.ok(&["nft", "-a", "list", "table", "inet", "netavark"]);
    let before = list();
    net.peer("web", &["-p", "8080:80"]);
    assert_eq!(net.who(From::On(&net.outside), "tcp", HOST, 8080).as_deref(), Some("web"));
    net.ok(&["rm", "-f", "web"]);
    assert_eq!(list(), before);
    forget(&net.inside);
}
