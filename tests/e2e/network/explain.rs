//! `port explain` and the start's warning, for each kind of rules that another firewall may be made of.

use tare_tests::lan::{From, HOST, Lan};

#[test]
fn whoever_drops_is_told_at_the_start_and_explained() {
    let net = Lan::new();
    let volume = format!("{}:/bin/talk:ro", tare_tests::lan::talk().display());
    let start = ["run", "-d", "--name", "web", "-v", &volume, "-p", "8080:80", "busybox", "talk", "serve", "web", "80"];
    let nft = "add table inet admin { chain guard { type filter hook forward priority 0; policy drop; }; }";
    for (drop, accept, name) in [
        ("iptables-nft -P FORWARD DROP", "iptables-nft -P FORWARD ACCEPT", "FORWARD"),
        ("iptables-legacy -P FORWARD DROP", "iptables-legacy -P FORWARD ACCEPT", "FORWARD"),
        (nft, "delete table inet admin", "guard"),
    ] {
        let does = |line: &str| match line.split_once(' ') {
            Some((program, rest)) if program.starts_with("iptables") => {
                change(&net, &[&[program], &rest.split(' ').collect::<Vec<_>>()[..]].concat());
            }
            _ => change(&net, &["nft", line]),
        };
        does(drop);
        let out = net.run(&start);
        assert_eq!(out.code, 0, "{drop}: {}", out.stderr);
        assert!(out.stderr.contains(name), "{drop}: no warning: {}", out.stderr);
        assert_eq!(net.who(From::On(&net.outside), "tcp", HOST, 8080), None, "{drop}");
        let told = net.ok(&["port", "explain", "web"]);
        assert!(told.contains("closed") && told.contains(name), "{drop}: {told}");
        does(accept);
        assert_eq!(net.who(From::On(&net.outside), "tcp", HOST, 8080).as_deref(), Some("web"), "{accept}");
        let told = net.ok(&["port", "explain", "web"]);
        assert!(!told.contains(name), "{accept}: {told}");
        net.ok(&["rm", "-f", "web"]);
        assert_eq!(net.run(&["ps", "-aq"]).stdout, "");
    }
    change(&net, &["nft", "flush", "ruleset"]);
}

#[test]
fn a_rule_about_one_sender_is_told() {
    let net = Lan::new();
    net.peer("web", &["-p", "8080:80"]);
    let rule =
        "add table inet admin { chain guard { type filter hook forward priority 0; ip saddr 192.0.2.2 drop; }; }";
    for (line, program) in [
        (&["nft", rule][..], "nft"),
        (&["iptables-legacy", "-I", "FORWARD", "-s", "192.0.2.2", "-j", "DROP"], "legacy"),
    ] {
        change(&net, line);
        let told = net.ok(&["port", "explain", "web"]);
        assert!(told.contains("that depends on who asks"), "{program}: {told}");
        change(&net, &["nft", "flush", "ruleset"]);
    }
}

fn change(net: &Lan, line: &[&str]) {
    drop(net.inside.ok(line));
}
