//! Names: what each container's resolver answers, asked with dig(1) inside of its network namespace.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;
use tare_tests::lan::{From, Lan, OUTSIDE, OUTSIDE6, fetch};
use tare_tests::{Running, command, eventually};

/// Asks the resolver of a container; everything that dig(1) prints.
#[track_caller]
fn dig(net: &Lan, container: &str, question: &str) -> String {
    let pid = net.ok(&["inspect", "-f", "{{.State.Pid}}", container]);
    let mut ask = command("nsenter");
    ask.args(["-t", &pid, "-n", "dig", "+time=2", "+tries=1", "@127.0.0.11"]).args(question.split(' '));
    let out = Running::start(&mut ask, None).wait();
    assert_eq!(out.code, 0, "{container} {question}: {}{}", out.stdout, out.stderr);
    out.stdout
}

/// The answers alone, sorted.
#[track_caller]
fn answers(net: &Lan, container: &str, question: &str) -> Vec<String> {
    let mut list: Vec<String> = dig(net, container, &format!("+short {question}")).lines().map(str::to_owned).collect();
    list.sort();
    list
}

/// A resolver of the outside: it knows a few names and says of all others that they do not exist; it logs who asks.
fn upstream(net: &Lan) -> Running {
    let long = format!("--txt-record=long.example,{}", vec!["x".repeat(200); 8].join(","));
    let line = [
        "dnsmasq",
        "--no-daemon",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--user=root",
        "--pid-file=",
        "--log-queries=extra",
        "--log-facility=-",
        "--local=/example/",
        "--host-record=up.example,203.0.113.7,2001:db8:7::7",
        "--host-record=up.corp.example,203.0.113.8",
        "--ptr-record=7.113.0.203.in-addr.arpa,up.example",
        &long,
    ];
    let server = Running::start(&mut net.outside.command(&line), None);
    let up = || net.outside.on(&["dig", "+time=1", "+tries=1", "@127.0.0.1", "up.example"]).code == 0;
    assert!(eventually(Duration::from_secs(10), up), "{:?}", server.printed());
    server
}

fn short(id: &str) -> &str {
    &id[..12]
}

#[test]
fn containers_are_known_by_name_alias_and_short_id() {
    let mut net = Lan::new();
    // What is no container's is asked of somebody who says that there is no such name.
    let _server = upstream(&net);
    net.resolver(&format!("nameserver {OUTSIDE}\n"));
    net.ok(&["network", "create", "red"]);
    net.ok(&["network", "create", "blue"]);
    net.peer("asks", &["--network", "red"]);
    net.peer("stranger", &["--network", "blue"]);
    let id = net.peer("web", &["--network", "red", "--network-alias", "www", "--network-alias", "front.example"]);
    let (four, six) = net.addresses("web", "red");
    for name in ["web", "www", "front.example", short(&id), "WEB", "web."] {
        assert_eq!(answers(&net, "asks", name), [four.as_str()], "{name}");
        assert_eq!(answers(&net, "asks", &format!("{name} AAAA")), [six.as_str()], "{name}");
        assert_eq!(answers(&net, "web", name), [four.as_str()], "itself: {name}");
        assert_eq!(answers(&net, "stranger", name), [""; 0], "{name} from another network");
    }
    // A name that is there has no records of other types, and is there.
    let none = dig(&net, "asks", "web TXT");
    assert!(none.contains("status: NOERROR") && none.contains("ANSWER: 0"), "{none}");
    for address in [&four, &six] {
        let names = answers(&net, "asks", &format!("-x {address}"));
        assert!(names.iter().any(|n| n.starts_with("web.")), "{address}: {names:?}");
        let foreign = answers(&net, "stranger", &format!("-x {address}"));
        assert!(foreign.is_empty(), "{address}: {foreign:?}");
    }
    // What programs do with it.
    let script = "grep ^nameserver /etc/resolv.conf; ping -c 1 -w 2 web > /dev/null && echo reached";
    assert_eq!(net.ok(&["exec", "asks", "sh", "-c", script]), "nameserver 127.0.0.11\nreached");
}

#[test]
fn the_default_network_has_names_as_well() {
    let net = Lan::new();
    net.peer("asks", &[]);
    let id = net.peer("web", &[]);
    let (four, six) = net.addresses("web", "");
    for name in ["web", short(&id)] {
        assert_eq!(answers(&net, "asks", name), [four.as_str()]);
        assert_eq!(answers(&net, "asks", &format!("{name} AAAA")), [six.as_str()]);
    }
}

#[test]
fn addresses_of_one_alias_take_turns() {
    let net = Lan::new();
    net.ok(&["network", "create", "red"]);
    let mut addresses = Vec::new();
    for name in ["one", "two", "three"] {
        net.peer(name, &["--network", "red", "--network-alias", "service"]);
        addresses.push(net.addresses(name, "red").0);
    }
    addresses.sort();
    let mut first = HashSet::new();
    for _ in 0..12 {
        let seen = dig(&net, "one", "+short service");
        first.insert(seen.lines().next().unwrap_or_default().to_owned());
        let mut all: Vec<&str> = seen.lines().collect();
        all.sort_unstable();
        assert_eq!(all, addresses);
    }
    assert_eq!(first.len(), 3, "{first:?}");
}

#[test]
fn everything_else_is_asked_of_the_hosts_resolvers() {
    let mut net = Lan::new();
    let server = upstream(&net);
    let file = net.resolver(&format!("nameserver {OUTSIDE}\n"));
    net.ok(&["network", "create", "red"]);
    for (name, network) in [("red", "red"), ("plain", "bridge")] {
        net.peer(name, &["--network", network]);
        assert_eq!(answers(&net, name, "up.example"), ["203.0.113.7"]);
        assert_eq!(answers(&net, name, "up.example AAAA"), ["2001:db8:7::7"]);
        assert_eq!(answers(&net, name, "-x 203.0.113.7"), ["up.example."]);
        assert!(dig(&net, name, "missing.example").contains("status: NXDOMAIN"));
    }
    // From the host's address: the question goes out in the host's namespace.
    assert!(server.printed().1.contains(&format!("{}/", tare_tests::lan::HOST)), "{}", server.printed().1);
    // Over TCP, with EDNS and without.
    assert_eq!(answers(&net, "red", "+tcp up.example"), ["203.0.113.7"]);
    let edns = dig(&net, "red", "+bufsize=1232 red");
    assert!(edns.contains("EDNS: version: 0"), "{edns}");
    assert!(!dig(&net, "red", "+noedns red").contains("EDNS:"));
    // An answer that is too long for the client is cut and said to be, and comes whole over TCP or with room.
    let cut = dig(&net, "red", "+noedns +ignore long.example TXT");
    assert!(cut.lines().any(|l| l.contains("flags:") && l.contains(" tc")), "{cut}");
    for how in ["+noedns", "+tcp", "+bufsize=4096"] {
        let whole = dig(&net, "red", &format!("{how} long.example TXT"));
        assert_eq!(whole.matches("xxxx\"").count(), 8, "{how}: {whole}");
    }
    // What programs see: the search list of the host, and the name of a page.
    net.peer("searching", &["--dns-search", "corp.example"]);
    assert!(net.ok(&["exec", "searching", "cat", "/etc/resolv.conf"]).contains("search corp.example"));
    let seen = net.ok(&["exec", "searching", "nslookup", "up"]);
    assert!(seen.contains("203.0.113.8"), "{seen}");
    // A resolver that does not answer is said to have failed; one after it is asked.
    std::fs::write(file, format!("nameserver 203.0.113.250\nnameserver {OUTSIDE6}\n")).unwrap();
    net.peer("late", &[]);
    let seen = dig(&net, "late", "+time=10 +short up.example");
    assert_eq!(seen.trim(), "203.0.113.7");
}

#[test]
fn the_upstreams_are_asked_where_the_host_lists_a_stub() {
    let mut net = Lan::new();
    let _server = upstream(&net);
    let below = net.host.scratch("systemd");
    std::fs::create_dir_all(below.join("upper/systemd/resolve")).unwrap();
    std::fs::create_dir_all(below.join("work")).unwrap();
    std::fs::write(below.join("upper/systemd/resolve/resolv.conf"), format!("nameserver {OUTSIDE}\n")).unwrap();
    net.resolver("nameserver 127.0.0.53\noptions edns0 trust-ad\n");
    let layers = format!("lowerdir=/run,upperdir={0}/upper,workdir={0}/work", below.display());
    net.mounts(&format!("mount -t overlay overlay -o {layers} /run"));
    net.peer("asks", &[]);
    assert_eq!(answers(&net, "asks", "up.example"), ["203.0.113.7"]);
}

#[test]
fn flags_choose_resolvers_domains_options_and_hosts() {
    let mut net = Lan::new();
    let _server = upstream(&net);
    net.resolver("nameserver 203.0.113.250\nsearch host.example\noptions timeout:1\n");
    net.ok(&["network", "create", "red"]);
    let flags = [
        "--network",
        "red",
        "--dns",
        OUTSIDE,
        "--dns-search",
        "corp.example",
        "--dns-search",
        "example",
        "--dns-option",
        "ndots:2",
        "--add-host",
        "db:10.9.8.7",
        "--add-host=six=2001:db8::77",
        "--add-host",
        "gate:host-gateway",
    ];
    net.peer("asks", &flags);
    assert_eq!(answers(&net, "asks", "up.example"), ["203.0.113.7"]);
    let file = net.ok(&["exec", "asks", "cat", "/etc/resolv.conf"]);
    for line in ["search corp.example example", "options ndots:2", "nameserver 127.0.0.11"] {
        assert!(file.lines().any(|l| l == line), "{line}: {file}");
    }
    assert!(!file.contains("host.example") && !file.contains("timeout"), "{file}");
    let hosts = net.ok(&["exec", "asks", "cat", "/etc/hosts"]);
    assert!(hosts.contains("10.9.8.7\tdb") && hosts.contains("2001:db8::77\tsix"), "{hosts}");
    let gateway = hosts.lines().find_map(|l| l.strip_suffix("\tgate")).expect("host-gateway").to_owned();
    let _serving = net.inside.serve("host", &["7000"]);
    assert_eq!(net.who(From::Container("asks"), "tcp", &gateway, 7000).as_deref(), Some("host"));
    // On the host's own network the host's files hold, and the flags above them.
    let seen = net.ok(&["run", "--rm", "--network", "host", "--dns", OUTSIDE, "busybox", "cat", "/etc/resolv.conf"]);
    assert!(seen.contains(&format!("nameserver {OUTSIDE}")) && !seen.contains("127.0.0.11"), "{seen}");
}

#[test]
fn answers_change_at_once() {
    let mut net = Lan::new();
    // What is no container's is asked of somebody who says that there is no such name.
    let _server = upstream(&net);
    net.resolver(&format!("nameserver {OUTSIDE}\n"));
    net.ok(&["network", "create", "red"]);
    net.ok(&["network", "create", "blue"]);
    net.peer("asks", &["--network", "red"]);
    net.ok(&["create", "--name", "web", "--network", "blue", "busybox", "sleep", "1000"]);
    let web = || answers(&net, "asks", "web").len();
    assert_eq!(web(), 0, "it does not run");
    net.ok(&["start", "web"]);
    assert_eq!(web(), 0, "it is elsewhere");
    net.ok(&["network", "connect", "--alias", "www", "red", "web"]);
    assert_eq!(web(), 1, "connected");
    assert_eq!(answers(&net, "asks", "www"), [net.addresses("web", "red").0]);
    net.ok(&["stop", "-t", "0", "web"]);
    assert_eq!((web(), answers(&net, "asks", "www").len()), (0, 0), "stopped");
    net.ok(&["start", "web"]);
    assert_eq!((web(), answers(&net, "asks", "www").len()), (1, 1), "started");
    net.ok(&["network", "disconnect", "red", "web"]);
    assert_eq!((web(), answers(&net, "asks", "www").len()), (0, 0), "disconnected");
    // The one that asks changes its own view.
    net.ok(&["network", "connect", "blue", "asks"]);
    assert_eq!(web(), 1, "it has come to where the other one is");
    net.ok(&["rename", "web", "shop"]);
    assert_eq!((web(), answers(&net, "asks", "shop").len()), (0, 1), "renamed");
    net.ok(&["rm", "-f", "shop"]);
    assert_eq!(answers(&net, "asks", "shop").len(), 0, "removed");
}

#[test]
fn a_container_may_serve_names_itself() {
    let net = Lan::new();
    net.ok(&["network", "create", "red"]);
    net.peer_on("server", &["--network", "red"], &["53"]);
    net.peer("asks", &["--network", "red"]);
    let (four, six) = net.addresses("server", "red");
    for transport in ["tcp", "udp"] {
        for address in [&four, &six] {
            let who = net.who(From::Container("asks"), transport, address, 53);
            assert_eq!(who.as_deref(), Some("server"), "{transport} {address}");
        }
    }
    assert_eq!(answers(&net, "server", "asks"), [net.addresses("asks", "red").0]);
    assert_eq!(answers(&net, "server", "+tcp asks"), [net.addresses("asks", "red").0]);
    // And on the host, where a server of the host's has the port.
    let _serving = net.inside.serve("host", &["53"]);
    assert_eq!(answers(&net, "asks", "server"), [four]);
}

#[test]
fn an_internal_network_forwards_nothing() {
    let mut net = Lan::new();
    let server = upstream(&net);
    net.resolver(&format!("nameserver {OUTSIDE}\n"));
    net.ok(&["network", "create", "--internal", "inner"]);
    net.ok(&["network", "create", "red"]);
    net.peer("asks", &["--network", "inner"]);
    let id = net.peer("web", &["--network", "inner"]);
    assert_eq!(answers(&net, "asks", short(&id)), [net.addresses("web", "inner").0]);
    assert_eq!(answers(&net, "asks", "up.example"), [""; 0]);
    assert!(!server.printed().1.contains("query[A] up.example from 192.0.2.1"), "{}", server.printed().1);
    // With a way out beside it, everything is asked.
    net.ok(&["network", "connect", "red", "asks"]);
    assert_eq!(answers(&net, "asks", "up.example"), ["203.0.113.7"]);
    net.ok(&["network", "disconnect", "red", "asks"]);
    assert_eq!(answers(&net, "asks", "up.example"), [""; 0]);
}

#[test]
fn names_lead_to_pages() {
    let net = Lan::new();
    net.ok(&["network", "create", "red"]);
    net.web("web", &["--network", "red", "-p", "8080:80"]);
    let seen = net.ok(&["run", "--rm", "--network", "red", "busybox", "wget", "-qO-", "http://web/page"]);
    assert_eq!(seen, "web");
    assert_eq!(fetch(&net.outside, &format!("{}:8080", tare_tests::lan::HOST)).as_deref(), Some("web"));
    assert!(Path::new(&net.host.run_dir().join("networks")).exists());
}

#[test]
fn a_network_may_have_resolvers_or_no_names() {
    let mut net = Lan::new();
    let _server = upstream(&net);
    net.resolver("nameserver 203.0.113.250\n");
    net.ok(&["network", "create", "--dns", OUTSIDE, "red"]);
    net.peer("asks", &["--network", "red"]);
    assert_eq!(answers(&net, "asks", "up.example"), ["203.0.113.7"]);
    assert_eq!(net.inspect(&["network", "inspect", "red"])["Resolvers"][0], OUTSIDE);
    net.ok(&["network", "create", "--disable-dns", "mute"]);
    net.peer("one", &["--network", "mute"]);
    net.peer("two", &["--network", "mute"]);
    let ping = |whom: &str| net.run(&["exec", "one", "ping", "-c", "1", "-W", "1", whom]).code;
    assert_eq!(ping(&net.addresses("two", "mute").0), 0);
    assert_ne!(ping("two"), 0);
}

#[test]
fn the_configuration_file_names_resolvers_domains_and_options() {
    let mut net = Lan::new();
    let _server = upstream(&net);
    net.resolver("nameserver 203.0.113.250\nsearch host.example\n");
    let file = net.host.scratch("config.toml");
    let text = "dns_search = [\"corp.example\"]\ndns_options = [\"ndots:3\"]\n";
    std::fs::write(&file, format!("[network]\ndns = [\"{OUTSIDE}\"]\n{text}")).unwrap();
    let line = ["run", "-d", "--name", "asks", "busybox", "sleep", "1000"];
    let out = Running::start(net.command(&line).env("TARE_CONFIG", &file), None).wait();
    assert_eq!(out.code, 0, "{}", out.stderr);
    assert_eq!(answers(&net, "asks", "up.example"), ["203.0.113.7"]);
    let seen = net.ok(&["exec", "asks", "cat", "/etc/resolv.conf"]);
    for line in ["search corp.example", "options ndots:3"] {
        assert!(seen.lines().any(|l| l == line), "{line}: {seen}");
    }
}
