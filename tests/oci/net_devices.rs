//! config-linux.md, "Network devices".

use serde_json::json;
use tare_tests::oci::{Case, case, skip};
use tare_tests::{Output, Running, command, unique};

/// A pair of devices of this host, one of which is given to a container; gone with it, or with this.
struct Pair {
    given: String,
    stays: String,
}

fn ip(args: &[&str]) -> Output {
    Running::start(command("ip").args(args), None).wait()
}

impl Pair {
    fn new(c: &mut Case) -> Pair {
        let random = unique("").chars().filter(char::is_ascii_alphanumeric).take(8).collect::<String>();
        let pair = Pair { given: format!("tg{random}"), stays: format!("ts{random}") };
        let out = ip(&["link", "add", &pair.given, "type", "veth", "peer", "name", &pair.stays]);
        assert_eq!(out.code, 0, "{}", out.stderr);
        c.unshare("network").mount("/sys", "sysfs", "sysfs", &["ro"]);
        pair
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let _ = ip(&["link", "delete", &self.stays]);
    }
}

#[test]
fn a_device_is_moved_in() {
    case(|c| {
        let pair = Pair::new(c);
        c.set(&format!("/linux/netDevices/{}", pair.given), json!({}));
        assert_eq!(c.sh(&format!("ls /sys/class/net | grep {}", pair.given)), pair.given);
    });
}

#[test]
fn it_is_not_on_the_host_any_more() {
    case(|c| {
        let pair = Pair::new(c);
        c.set(&format!("/linux/netDevices/{}", pair.given), json!({}));
        c.sleeper();
        assert_ne!(ip(&["link", "show", &pair.given]).code, 0);
        assert_eq!(ip(&["link", "show", &pair.stays]).code, 0);
    });
}

#[test]
fn it_can_have_another_name_inside() {
    case(|c| {
        let pair = Pair::new(c);
        c.set(&format!("/linux/netDevices/{}", pair.given), json!({ "name": "inner0" }));
        assert_eq!(c.sh("ls /sys/class/net | grep -v lo$"), "inner0");
    });
}

#[test]
fn its_addresses_and_settings_come_with_it() {
    case(|c| {
        let pair = Pair::new(c);
        for args in [
            vec!["address", "add", "192.0.2.77/24", "dev", &pair.given],
            vec!["address", "add", "2001:db8::77/64", "dev", &pair.given, "nodad"],
            vec!["link", "set", &pair.given, "mtu", "1434", "address", "02:00:00:00:12:34"],
        ] {
            assert_eq!(ip(&args).code, 0, "{args:?}");
        }
        c.set(&format!("/linux/netDevices/{}", pair.given), json!({ "name": "inner0" }));
        let out = c.sh("ip address show inner0");
        for part in ["192.0.2.77/24", "2001:db8::77/64", "mtu 1434", "02:00:00:00:12:34"] {
            assert!(out.contains(part), "{part} in {out}");
        }
    });
}

/// A device of another kind is moved in, and nothing stays of it on the host; `link` is the one that it lies upon.
#[track_caller]
fn of_kind(kind: &str, upon_another: bool) {
    case(|c| {
        let pair = Pair::new(c);
        let name = pair.given.replace("tg", "tk");
        let link: &[&str] = if upon_another { &["link", &pair.stays] } else { &[] };
        let out = ip(&[&["link", "add"], link, &["name", &name, "type", kind]].concat());
        if out.stderr.contains("Unknown device type") {
            skip(&format!("the kernel has no devices of kind {kind}"));
        }
        assert_eq!(out.code, 0, "{}", out.stderr);
        assert_eq!(ip(&["address", "add", "192.0.2.78/24", "dev", &name]).code, 0);
        c.set(&format!("/linux/netDevices/{name}"), json!({ "name": "inner0" }));
        c.sleeper();
        let out = c.exec_sh("ip address show inner0");
        assert!(out.contains("192.0.2.78/24") && (out.contains(",UP") || out.contains("<UP")), "{out}");
        assert_ne!(ip(&["link", "show", &name]).code, 0);
    });
}

#[test]
fn it_may_be_a_dummy() {
    of_kind("dummy", false);
}

#[test]
fn it_may_be_a_macvlan() {
    of_kind("macvlan", true);
}

#[test]
fn it_may_be_an_ipvlan() {
    of_kind("ipvlan", true);
}

#[test]
fn it_is_up() {
    case(|c| {
        let pair = Pair::new(c);
        c.set(&format!("/linux/netDevices/{}", pair.given), json!({ "name": "inner0" }));
        let out = c.sh("ip link show inner0");
        assert!(out.contains(",UP") || out.contains("<UP"), "{out}");
    });
}

#[test]
fn one_that_is_missing_is_refused() {
    case(|c| {
        let said = c.unshare("network").set("/linux/netDevices/nosuchdev", json!({})).refused();
        assert!(said.contains("nosuchdev"), "{said}");
    });
}

#[test]
fn a_name_that_is_none_is_refused() {
    case(|c| {
        let pair = Pair::new(c);
        c.set(&format!("/linux/netDevices/{}", pair.given), json!({ "name": "no/name" }));
        let said = c.refused();
        assert!(said.contains("no/name"), "{said}");
        assert_eq!(ip(&["link", "show", &pair.given]).code, 0, "it stays where it was");
    });
}

#[test]
fn without_a_network_namespace_it_is_refused() {
    case(|c| {
        let pair = Pair::new(c);
        c.share("network").unset("/mounts/2");
        let said = c.set(&format!("/linux/netDevices/{}", pair.given), json!({})).refused();
        assert!(said.to_lowercase().contains("network"), "{said}");
    });
}
