//! Ports of the host that lead to containers, as they are named.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use tare_model::{Error, Kind, Result};

/// The transport protocol of a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Transport {
    /// `tcp`, `udp` or `sctp`.
    pub fn as_str(self) -> &'static str {
        match self {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
            Transport::Sctp => "sctp",
        }
    }

    /// `IPPROTO_TCP`, `IPPROTO_UDP` or `IPPROTO_SCTP`.
    pub(crate) fn number(self) -> u8 {
        match self {
            Transport::Tcp => 6,
            Transport::Udp => 17,
            Transport::Sctp => 132,
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Transport {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        [Transport::Tcp, Transport::Udp, Transport::Sctp]
            .into_iter()
            .find(|t| t.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| {
                Error::new(Kind::Invalid, "parse protocol", format_args!("\"{text}\""))
                    .because("there are tcp, udp and sctp")
            })
    }
}

/// One published port; displayed as in `0.0.0.0:8080->80/tcp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PortMapping {
    /// The host's address; `None` for all of them, of both families; an unspecified one for all of its family.
    pub host_ip: Option<IpAddr>,
    /// The host's port; 0 asks for a free one.
    pub host_port: u16,
    /// The container's port.
    pub container_port: u16,
    /// The protocol.
    pub transport: Transport,
}

impl PortMapping {
    /// The host's side; IPv4's unspecified address for both families.
    pub fn host(&self) -> SocketAddr {
        SocketAddr::new(self.host_ip.unwrap_or(Ipv4Addr::UNSPECIFIED.into()), self.host_port)
    }

    /// The one address on which it is published, if it is only one.
    pub(crate) fn one_address(&self) -> Option<IpAddr> {
        self.host_ip.filter(|ip| !ip.is_unspecified())
    }

    /// Whether packets to this address of the host are meant; all of ours where `address` is unspecified.
    pub fn covers(&self, address: IpAddr) -> bool {
        match self.host_ip {
            None => true,
            Some(ip) => {
                ip.is_ipv4() == address.is_ipv4() && (ip == address || ip.is_unspecified() || address.is_unspecified())
            }
        }
    }
}

impl fmt::Display for PortMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}->{}/{}", self.host(), self.container_port, self.transport)
    }
}

/// A port that shall be published, with some freedom left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PortWish {
    /// As in [`PortMapping::host_ip`].
    pub host_ip: Option<IpAddr>,
    /// A free host port of this range, ends included, or this port if both are the same; any free one where absent.
    pub host_ports: Option<(u16, u16)>,
    /// The container's port.
    pub container_port: u16,
    /// The protocol.
    pub transport: Transport,
}

impl PortWish {
    /// The mapping with this host port.
    pub(crate) fn at(&self, host_port: u16) -> PortMapping {
        let PortWish { host_ip, container_port, transport, .. } = *self;
        PortMapping { host_ip, host_port, container_port, transport }
    }
}

impl From<PortMapping> for PortWish {
    fn from(port: PortMapping) -> PortWish {
        let PortMapping { host_ip, host_port, container_port, transport } = port;
        PortWish { host_ip, host_ports: (host_port != 0).then_some((host_port, host_port)), container_port, transport }
    }
}

impl fmt::Display for PortWish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host_ports {
            Some((first, last)) if first != last => {
                let host = self.at(first).host();
                write!(f, "{host}-{last}->{}/{}", self.container_port, self.transport)
            }
            one => self.at(one.map_or(0, |(port, _)| port)).fmt(f),
        }
    }
}
