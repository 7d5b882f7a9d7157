//! Rules made by nft, iptables-nft and iptables-legacy, and what is told of them.

use super::*;
use crate::testing::{command, in_new_namespace, policy};

fn packet(port: u16) -> Packet {
    Packet {
        arriving: Some("eth0".into()),
        leaving: Some("tare0".into()),
        source: Some("198.51.100.2".parse().unwrap()),
        destination: "10.112.0.2".parse().unwrap(),
        transport: Transport::Tcp,
        port,
        translated: true,
    }
}

fn nft(text: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    command(&["nft", "-f", file.path().to_str().unwrap()]);
}

/// Fate and rule of each forwarding chain.
fn judged(packet: &Packet) -> Vec<(String, Fate, String)> {
    let firewalls = Firewalls::read().unwrap();
    firewalls.judge(Place::Forward, packet).into_iter().map(|j| (j.chain.table, j.fate, j.by)).collect()
}

fn only(packet: &Packet) -> (Fate, String) {
    let [(_, fate, by)]: [_; 1] = judged(packet).try_into().unwrap();
    (fate, by)
}

#[test]
fn rules_of_nft_are_followed() {
    in_new_namespace(|_| {
        assert_eq!(judged(&packet(80)), []);
        nft("table inet fw {
            set allowed { type inet_service; flags interval; elements = { 80, 8000-8010 }; }
            map by_device { type ifname : verdict; elements = { \"eth0\" : goto from_eth0, \"eth1\" : accept }; }
            chain from_eth0 {
                tcp dport 81 return
                ip saddr 198.51.100.0/24 tcp dport @allowed counter accept
                tcp dport 90-91 drop
                tcp dport { 100, 101 } reject
                meta mark 7 drop
                tcp dport 110 limit rate 1/second accept
            }
            chain forward {
                type filter hook forward priority 10; policy drop;
                ct state vmap { established : accept, related : accept, invalid : drop }
                tcp dport 70 accept
                iifname vmap @by_device
            }
            chain input { type filter hook input priority 0; policy accept; }
        }");
        let policy = || "the policy".to_owned();
        assert_eq!(only(&packet(70)), (Fate::Passes, "rule 2 of chain forward".to_owned()));
        for port in [80, 8000, 8010] {
            assert_eq!(only(&packet(port)), (Fate::Passes, "rule 2 of chain from_eth0".to_owned()), "{port}");
        }
        for port in [7999, 8011, 79] {
            // The mark is not known, but the policy drops in any case.
            assert_eq!(only(&packet(port)).0, Fate::Drops, "{port}");
        }
        assert_eq!(only(&packet(81)), (Fate::Drops, policy()));
        assert_eq!(only(&packet(91)), (Fate::Drops, "rule 3 of chain from_eth0".to_owned()));
        assert_eq!(only(&packet(101)), (Fate::Drops, "rule 4 of chain from_eth0".to_owned()));
        assert_eq!(only(&packet(110)).0, Fate::MayDrop);
        let other = Packet { arriving: Some("eth1".into()), ..packet(91) };
        assert_eq!(only(&other), (Fate::Passes, "rule 3 of chain forward".to_owned()));
        let foreign = Packet { source: Some("203.0.113.1".parse().unwrap()), ..packet(80) };
        assert_eq!(only(&foreign).0, Fate::Drops);
        let dropping = refusing_forward_chains().unwrap();
        assert_eq!(dropping.len(), 1);
        assert_eq!(dropping[0].to_string(), "chain forward of table inet fw (nftables)");
        // An accepting policy with a drop of one sender.
        nft(
            "flush ruleset; table ip a { chain f { type filter hook forward priority 0; ip saddr 198.51.100.7 drop; }; }",
        );
        assert_eq!(only(&packet(80)).0, Fate::Passes);
        assert_eq!(only(&Packet { source: None, ..packet(80) }), (Fate::MayDrop, "rule 1 of chain f".to_owned()));
        // An accepting policy with a drop that depends on a mark.
        nft("flush ruleset; table ip a { chain f { type filter hook forward priority 0; meta mark 7 drop; }; }");
        assert_eq!(only(&packet(80)), (Fate::MayDrop, "rule 1 of chain f".to_owned()));
        assert!(refusing_forward_chains().unwrap().is_empty());
    });
}

#[test]
fn rules_of_iptables_are_followed_of_both_kinds() {
    for program in ["iptables-nft", "iptables-legacy"] {
        in_new_namespace(move |_| {
            let run = |words: &str| {
                command(&[&[program], words.split(' ').collect::<Vec<_>>().as_slice()].concat());
            };
            for rule in [
                "-P FORWARD DROP",
                "-N USER",
                "-A USER -p tcp --dport 81 -j RETURN",
                "-A USER -p tcp -s 198.51.100.0/24 --dport 80:82 -m comment --comment web -j ACCEPT",
                "-A USER ! -i eth0 -j DROP",
                "-A USER -p tcp -m multiport --dports 90,95:97 -j REJECT",
                "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
                "-A FORWARD -i eth+ -j USER",
                "-A FORWARD -m conntrack --ctstate NEW -p tcp --dport 70 -j ACCEPT",
                "-A FORWARD -p tcp --dport 110 -m limit --limit 1/sec -j ACCEPT",
            ] {
                run(rule);
            }
            let decided = |fate, by: &str| (fate, by.to_owned());
            assert_eq!(only(&packet(80)), decided(Fate::Passes, "rule 2 of chain USER"), "{program}");
            assert_eq!(only(&packet(81)), decided(Fate::Drops, "the policy"), "{program}");
            assert_eq!(only(&packet(70)), decided(Fate::Passes, "rule 3 of chain FORWARD"), "{program}");
            assert_eq!(only(&packet(96)), decided(Fate::Drops, "rule 4 of chain USER"), "{program}");
            assert_eq!(only(&packet(110)).0, Fate::MayDrop, "{program}");
            let other = Packet { arriving: Some("eth1".into()), ..packet(96) };
            assert_eq!(only(&other), decided(Fate::Drops, "rule 3 of chain USER"), "{program}");
            // Whoever it is: the rule about a sender may be met.
            assert_eq!(only(&Packet { source: None, ..packet(80) }).0, Fate::MayDrop, "{program}");
            assert_eq!(only(&Packet { source: None, ..packet(70) }).0, Fate::Passes, "{program}");
            let own = Packet { arriving: Some("wlan0".into()), ..packet(80) };
            assert_eq!(only(&own), decided(Fate::Drops, "the policy"), "{program}");
            let dropping = refusing_forward_chains().unwrap();
            assert_eq!(dropping.len(), 1, "{program}");
            assert_eq!(dropping[0].firewall.contains("legacy"), program.contains("legacy"));
            run("-P FORWARD ACCEPT");
            assert!(refusing_forward_chains().unwrap().is_empty());
        });
    }
}

#[test]
fn our_own_rules_are_told_as_well() {
    in_new_namespace(|_| {
        let policy = policy("tare0", &["10.112.0.0/20"]);
        let mut nft = Channel::open(Protocol::Netfilter, None).unwrap();
        nft.ensure_rules("tare", &[policy], crate::nft::Depth::Fingerprint).unwrap();
        assert_eq!(only(&packet(80)), (Fate::Passes, "rule 1 of chain to_tare0".to_owned()));
        let direct = Packet { translated: false, ..packet(80) };
        assert_eq!(only(&direct), (Fate::Drops, "rule 2 of chain to_tare0".to_owned()));
        let neighbour = Packet { arriving: Some("tare0".into()), ..direct };
        assert_eq!(only(&neighbour), (Fate::Passes, "rule 1 of chain from_tare0".to_owned()));
    });
}

#[test]
fn malformed_rules_never_panic() {
    in_new_namespace(|_| {
        nft("table ip a {
            map m { type inet_service : verdict; flags interval; elements = { 80-90 : accept, 100 : drop }; }
            chain f {
                type filter hook forward priority 0;
                ip saddr 198.51.100.0/24 tcp dport 70-75 accept
                ip daddr . tcp dport { 10.112.0.2 . 95, 10.112.0.0/24 . 96-99 } drop
                tcp dport vmap @m
            }
        }");
        command(&[
            "iptables-legacy",
            "-A",
            "FORWARD",
            "-p",
            "tcp",
            "-m",
            "multiport",
            "--dports",
            "1,2:9",
            "-j",
            "DROP",
        ]);
        let mut firewalls = Firewalls::read().unwrap();
        assert_eq!(firewalls.judge(Place::Forward, &packet(72))[0].fate, Fate::Passes);
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..5_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let place = (random >> 33) as usize;
            let value =
                if random & 1 << 20 == 0 { (random >> 21) as u8 } else { [0, 0xff][(random >> 30) as usize & 1] };
            let undo = firewalls.program.spoil(place, value);
            let before = firewalls.legacy[0].spoil(place, value);
            drop(firewalls.judge(Place::Forward, &packet((random >> 48) as u16)));
            firewalls.program.spoil(place, undo);
            firewalls.legacy[0].spoil(place, before);
        }
    });
}
