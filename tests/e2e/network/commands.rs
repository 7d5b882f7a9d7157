//! `tare network`: networks as objects, made, listed, inspected and removed.

use tare_tests::lan::Lan;

#[test]
fn a_namespace_gets_a_name_on_request() {
    let net = Lan::new();
    net.peer("web", &[]);
    let before = net.outside.on(&["ip", "netns", "list"]).stdout;
    assert!(!before.contains("web"), "namespaces are not pinned by themselves: {before}");
    let name = tare_tests::unique("tare-ns-");
    net.ok(&["network", "attach-netns", "web", &name]);
    let seen = net.inside.on(&["ip", "netns", "exec", &name, "ip", "-4", "-o", "address", "show", "dev", "eth0"]);
    let address = net.address("web");
    net.ok(&["rm", "-f", "web"]);
    let after = net.outside.on(&["ip", "netns", "list"]).stdout;
    // Whatever is found: the machine's directory is not left with it.
    let _ = net.inside.on(&["ip", "netns", "delete", &name]);
    assert!(seen.code == 0 && seen.stdout.contains(&address), "{seen:?}");
    assert!(!after.lines().any(|l| l.starts_with(&name)), "the name goes with the container: {after}");
}

/// Inspect gives a line with which anybody looks into the namespace; it works as it stands.
#[test]
fn the_line_of_inspect_leads_into_the_namespace() {
    let net = Lan::new();
    net.peer("web", &[]);
    let seen = net.inspect(&["inspect", "web"]);
    let text = seen.to_string();
    let at = text.find("nsenter ").expect("a line with nsenter");
    let line: String = text[at..].chars().take_while(|c| *c != '"').collect();
    let out = net.outside.on(&["sh", "-c", &format!("{line} ip -4 -o address show dev eth0")]);
    assert!(out.code == 0 && out.stdout.contains(&net.address("web")), "{line}: {out:?}");
}
