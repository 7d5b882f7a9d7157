//! Manners: other people's rules are theirs, win where they drop, and ours come back when they are flushed.

use tare_tests::lan::{From, HOST, Lan, Namespace};

/// Takes the administrator's tables away, so that the harness finds nothing.
fn forget(namespace: &Namespace) {
    namespace.ok(&["nft", "flush", "ruleset"]);
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
