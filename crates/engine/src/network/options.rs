//! `network create -o KEY=VALUE`: docker's `com.docker.network.…` keys and podman's short ones, as decisions.

use std::collections::BTreeMap;
use std::net::IpAddr;
use tare_model::network::Driver;
use tare_model::{Error, Kind, Result};

/// What options say; `None`: nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) mtu: Option<u32>,
    pub(crate) parent: Option<String>,
    pub(crate) mode: Option<String>,
    pub(crate) device: Option<String>,
    pub(crate) isolate: Option<bool>,
    pub(crate) icc: Option<bool>,
    pub(crate) masquerade: Option<bool>,
    pub(crate) publish_address: Option<IpAddr>,
}

/// Prefix of docker's keys for the device inside: `com.docker.network.container_iface_prefix=net`.
const INTERFACE_PREFIX: [&str; 2] = ["com.docker.network.container_iface_prefix", "interface_prefix"];
/// Containers get no default route through the network.
const NO_DEFAULT_ROUTE: &str = "no_default_route";

/// Every key, docker's name first where it has one.
const KEYS: [(&[&str], Key); 10] = [
    (&["com.docker.network.driver.mtu", "mtu"], Key::Mtu),
    (&["parent"], Key::Parent),
    (&["macvlan_mode", "ipvlan_mode", "mode"], Key::Mode),
    (&["com.docker.network.bridge.name"], Key::Device),
    (&["isolate"], Key::Isolate),
    (&["com.docker.network.bridge.enable_icc", "icc"], Key::Icc),
    (&["com.docker.network.bridge.enable_ip_masquerade", "masquerade"], Key::Masquerade),
    (&["com.docker.network.bridge.host_binding_ipv4", "host_binding_ipv4", "host_binding"], Key::PublishAddress),
    (&INTERFACE_PREFIX, Key::InterfacePrefix),
    (&[NO_DEFAULT_ROUTE], Key::NoDefaultRoute),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Mtu,
    Parent,
    Mode,
    Device,
    Isolate,
    Icc,
    Masquerade,
    PublishAddress,
    InterfacePrefix,
    NoDefaultRoute,
}

/// Reads the options of a network that shall be made.
///
/// # Errors
/// `Kind::Invalid` for a key that is not known, one that means nothing to the driver, and a malformed value.
pub(crate) fn read(driver: Driver, given: &BTreeMap<String, String>) -> Result<Options> {
    let mut options = Options::default();
    for (name, value) in given {
        let bad = |why: String| Error::new(Kind::Invalid, "set option", format!("{name}={value}")).because(why);
        let Some((_, key)) = KEYS.iter().find(|(names, _)| names.contains(&name.as_str())) else {
            let known: Vec<_> = KEYS.iter().filter_map(|(names, _)| names.last().copied()).collect();
            return Err(bad("there is no such option".to_owned()).hint(format!("there are {}", known.join(", "))));
        };
        let for_bridges = matches!(key, Key::Device | Key::Isolate | Key::Icc | Key::Masquerade | Key::PublishAddress);
        if for_bridges && driver != Driver::Bridge {
            return Err(bad(format!("it means something for bridges only, and the driver is {driver}")));
        }
        match key {
            Key::Mtu => options.mtu = Some(value.parse().map_err(|_| bad("expected a number of bytes".to_owned()))?),
            Key::Parent => options.parent = Some(value.clone()),
            Key::Mode => options.mode = Some(mode(driver, value).map_err(bad)?),
            Key::Device => options.device = Some(value.clone()),
            // podman's `strict` goes beyond its own `true`; both are what isolate is here.
            Key::Isolate if value == "strict" => options.isolate = Some(true),
            Key::Isolate => options.isolate = Some(truth(value).map_err(bad)?),
            Key::Icc => options.icc = Some(truth(value).map_err(bad)?),
            Key::Masquerade => options.masquerade = Some(truth(value).map_err(bad)?),
            Key::PublishAddress => {
                options.publish_address = Some(value.parse().map_err(|_| bad("expected an IP address".to_owned()))?);
            }
            Key::InterfacePrefix => drop(interface_prefix_of(value).map_err(bad)?),
            Key::NoDefaultRoute => drop(truth(value).map_err(bad)?),
        }
    }
    Ok(options)
}

/// How devices of containers in the network begin: `eth`, unless an option says otherwise.
pub(crate) fn interface_prefix(options: &BTreeMap<String, String>) -> &str {
    INTERFACE_PREFIX.iter().find_map(|key| options.get(*key)).map_or("eth", String::as_str)
}

/// Whether an option says that containers get no default route through the network.
pub(crate) fn no_default_route(options: &BTreeMap<String, String>) -> bool {
    options.get(NO_DEFAULT_ROUTE).is_some_and(|value| truth(value) == Ok(true))
}

fn interface_prefix_of(value: &str) -> Result<&str, String> {
    let letters = value.bytes().all(|b| b.is_ascii_alphabetic());
    // Room for a number within the 15 characters of a device's name.
    if letters && (1..=11).contains(&value.len()) { Ok(value) } else { Err("expected 1 to 11 letters".to_owned()) }
}

fn mode(driver: Driver, value: &str) -> Result<String, String> {
    let modes: &[&str] = match driver {
        Driver::Macvlan => &["bridge", "private", "vepa", "passthru"],
        Driver::Ipvlan => &["l2", "l3", "l3s"],
        Driver::Bridge | Driver::Phys => return Err(format!("the driver {driver} has no modes")),
    };
    match modes.iter().find(|m| **m == value) {
        Some(mode) => Ok((*mode).to_owned()),
        None => Err(format!("the driver {driver} has the modes {}", modes.join(", "))),
    }
}

fn truth(value: &str) -> Result<bool, String> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" | "t" => Ok(true),
        "false" | "0" | "no" | "off" | "f" => Ok(false),
        _ => Err("expected true or false".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(list: &[(&str, &str)]) -> BTreeMap<String, String> {
        list.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn dockers_and_podmans_keys_say_the_same() {
        let docker = given(&[
            ("com.docker.network.driver.mtu", "1400"),
            ("com.docker.network.bridge.enable_icc", "false"),
            ("com.docker.network.bridge.enable_ip_masquerade", "0"),
            ("com.docker.network.bridge.host_binding_ipv4", "127.0.0.1"),
        ]);
        let podman = given(&[("mtu", "1400"), ("icc", "off"), ("masquerade", "no"), ("host_binding", "127.0.0.1")]);
        let read = |given| read(Driver::Bridge, given).unwrap();
        assert_eq!(read(&docker), read(&podman));
        assert_eq!(
            (read(&docker).mtu, read(&docker).icc, read(&docker).masquerade),
            (Some(1400), Some(false), Some(false))
        );
        assert_eq!(read(&given(&[("isolate", "strict")])).isolate, Some(true));
    }

    #[test]
    fn what_means_nothing_is_refused() {
        let refused = |driver, key: &str, value: &str| {
            let e = read(driver, &given(&[(key, value)])).unwrap_err();
            assert_eq!(e.kind(), Kind::Invalid);
            (e.to_string(), e.first_hint().unwrap_or_default().to_owned())
        };
        let (text, hint) = refused(Driver::Bridge, "vlan", "7");
        assert_eq!(text, "set option vlan=7: there is no such option");
        assert!(hint.contains("mtu") && hint.contains("parent") && hint.contains("isolate"), "{hint}");
        assert!(refused(Driver::Macvlan, "icc", "true").0.contains("for bridges only"));
        assert!(refused(Driver::Macvlan, "mode", "l2").0.ends_with("has the modes bridge, private, vepa, passthru"));
        assert!(refused(Driver::Bridge, "mode", "bridge").0.contains("has no modes"));
        for (key, value) in [("mtu", "big"), ("icc", "maybe"), ("host_binding", "here"), ("interface_prefix", "a/b")] {
            refused(Driver::Bridge, key, value);
        }
        assert_eq!(read(Driver::Ipvlan, &given(&[("ipvlan_mode", "l3")])).unwrap().mode.as_deref(), Some("l3"));
    }

    #[test]
    fn options_that_count_at_each_start_are_found_again() {
        let options = given(&[("com.docker.network.container_iface_prefix", "net"), ("no_default_route", "1")]);
        read(Driver::Macvlan, &options).unwrap();
        assert_eq!((interface_prefix(&options), no_default_route(&options)), ("net", true));
        assert_eq!((interface_prefix(&given(&[])), no_default_route(&given(&[]))), ("eth", false));
    }
}
