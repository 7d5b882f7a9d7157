//! The two networks that are none, as docker lists them: `host` and `none`. They are modes of a container; the engine does
//! not know them as networks.

use serde_json::{Value, json};
use tare_engine::request::NetworkMode;
use tare_engine::view::{Container, State};
use tare_model::Digest;

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Builtin {
    /// Its name.
    pub(crate) name: &'static str,
    /// Docker's name for its driver.
    pub(crate) driver: &'static str,
}

/// Both.
pub(crate) const ALL: [Builtin; 2] =
    [Builtin { name: "host", driver: "host" }, Builtin { name: "none", driver: "null" }];

/// The one of this name.
pub(crate) fn named(name: &str) -> Option<Builtin> {
    ALL.into_iter().find(|b| b.name == name)
}

impl Builtin {
    /// 64 hexadecimal digits, the same everywhere.
    pub(crate) fn id(self) -> String {
        let digest = Digest::of(format!("network {}", self.name).as_bytes()).to_string();
        digest.rsplit(':').next().unwrap_or_default().to_owned()
    }

    /// Whether a container has this instead of a network.
    fn is_of(self, container: &Container) -> bool {
        let mode = if self.name == "host" { NetworkMode::Host } else { NetworkMode::None };
        container.request.network == mode
    }

    /// Its document, with those of `containers` that run and have it.
    pub(crate) fn document(self, containers: &[Container]) -> Value {
        let running = |c: &&Container| self.is_of(c) && matches!(c.state, State::Running | State::Paused);
        let member = |c: &Container| {
            let place = json!({
                "Name": c.name, "EndpointID": "", "MacAddress": "", "IPv4Address": "", "IPv6Address": "",
            });
            (c.id.clone(), place)
        };
        json!({
            "Name": self.name,
            "Id": self.id(),
            "Created": super::inspected::NEVER,
            "Scope": "local",
            "Driver": self.driver,
            "EnableIPv4": true,
            "EnableIPv6": false,
            "IPAM": { "Driver": "default", "Options": null, "Config": [] },
            "Internal": false,
            "Attachable": false,
            "Ingress": false,
            "ConfigFrom": { "Network": "" },
            "ConfigOnly": false,
            "Containers": containers.iter().filter(running).map(member).collect::<serde_json::Map<_, _>>(),
            "Options": {},
            "Labels": {},
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_told_apart_and_know_who_has_them() {
        let mut c = crate::container_row::example();
        let host = named("host").unwrap();
        assert_eq!(host.id().len(), 64);
        assert_ne!(host.id(), named("none").unwrap().id());
        assert_eq!(host.document(std::slice::from_ref(&c))["Containers"].as_object().unwrap().len(), 0);
        c.request.network = NetworkMode::Host;
        assert_eq!(host.document(std::slice::from_ref(&c))["Containers"][&c.id]["Name"], "web");
        assert!(named("bridge").is_none());
    }
}
