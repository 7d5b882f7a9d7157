//! Entries and what they bring back. A veth end stands in for a card, and is moved by `ip`.

use super::*;
use crate::network::testing::{command, engine, in_new_namespace};
use std::os::fd::{AsFd, AsRawFd};
use tare_kernel::netlink::new_network_namespace;
use tare_model::network::{Driver, Network};
use tare_network::Site;

fn ip(line: &str) -> String {
    command(&format!("ip {line}"))
}

/// Runs `test` on a host with a card that has an address, with an engine of its own.
fn on_host(test: impl FnOnce(&Engine) + Send + 'static) {
    in_new_namespace(|| {
        ip("link add card0 mtu 1400 type veth peer name other0");
        ip("addr add 198.51.100.7/24 dev card0");
        ip("link set card0 up");
        let (_dir, engine) = engine();
        test(&engine);
    });
}

fn plan(engine: &Engine) -> EndpointPlan {
    let text = r#"{"name":"lab","id":"00","driver":"phys","parent":"card0","created":7}"#;
    let network: Network = serde_json::from_str(text).unwrap();
    assert_eq!(network.driver, Driver::Phys);
    EndpointPlan::of(&Site::of(&engine.config.root), &network, 1, &[]).unwrap()
}

fn has(engine: &Engine, container: &str) -> bool {
    engine.loans().iter().any(|loan| loan.container == container)
}

/// A device that `ip` moves, and does what a container might.
fn move_in(netns: &OwnedFd) {
    ip(&format!("link set card0 netns /proc/{}/fd/{} name eth0", std::process::id(), netns.as_raw_fd()));
}

#[test]
fn a_device_is_written_down_before_it_goes_and_forgotten_when_it_is_back() {
    on_host(|engine| {
        assert!(engine.take_devices_back("one", None).is_empty() && !has(engine, "one"));
        assert!(!engine.loans_dir().exists(), "nothing is made where nothing is lent");
        let mut planned = plan(engine);
        engine.lend("one", &mut planned).unwrap();
        assert_eq!(planned.lent.as_ref().unwrap().name, "card0");
        assert!(has(engine, "one") && !has(engine, "two"));
        let netns = new_network_namespace().unwrap();
        move_in(&netns);
        // Somebody else's end is nothing to it.
        assert!(engine.take_devices_back("two", Some(netns.as_fd())).is_empty());
        assert!(has(engine, "one"));
        assert_eq!(engine.take_devices_back("one", Some(netns.as_fd())), []);
        assert!(!has(engine, "one"));
        let back = ip("addr show card0");
        assert!(
            back.contains("198.51.100.7/24") && back.contains("MULTICAST,UP") && back.contains("mtu 1400"),
            "{back}"
        );
    });
}

#[test]
fn a_device_that_a_living_container_has_is_not_given_to_another() {
    on_host(|engine| {
        engine.lend("one", &mut plan(engine)).unwrap();
        let dirs = engine.dirs("one");
        record::make_private(&dirs.run).unwrap();
        let held = dirs.lock_within(Duration::ZERO).unwrap().unwrap();
        let error = engine.lend("two", &mut plan(engine)).unwrap_err();
        assert_eq!(error.kind(), Kind::InUse, "{error}");
        assert!(error.to_string().contains("container one has it"), "{error}");
        // What lives is not swept.
        ip("link set card0 down");
        engine.sweep_loans();
        assert!(has(engine, "one") && ip("link show card0").contains("state DOWN"));
        drop(held);
        engine.sweep_loans();
        assert!(!has(engine, "one") && ip("addr show card0").contains("MULTICAST,UP"));
        engine.lend("two", &mut plan(engine)).unwrap();
        assert!(has(engine, "two"));
    });
}

#[test]
fn a_lost_containers_device_is_made_whole_for_the_next_that_wants_it() {
    on_host(|engine| {
        engine.lend("one", &mut plan(engine)).unwrap();
        // Killed with everything; the device is back under the name that it had inside, and bare.
        ip("link set card0 down");
        ip("addr flush dev card0");
        ip("link set card0 name eth0");
        let mut planned = plan(engine);
        engine.lend("two", &mut planned).unwrap();
        assert!(has(engine, "two") && !has(engine, "one"));
        assert_eq!(planned.lent.as_ref().unwrap().addresses.len(), 1);
    });
}

#[test]
fn a_virtual_device_that_ended_with_its_namespace_is_told_once() {
    on_host(|engine| {
        engine.lend("one", &mut plan(engine)).unwrap();
        let netns = new_network_namespace().unwrap();
        move_in(&netns);
        drop(netns);
        let failures = engine.take_devices_back("one", None);
        assert_eq!(failures.len(), 1);
        assert!(failures[0].first_hint().unwrap().contains("make it anew"), "{}", failures[0]);
        assert!(!has(engine, "one"));
        assert!(engine.lend("two", &mut plan(engine)).unwrap_err().to_string().contains("no device of this name"));
    });
}
