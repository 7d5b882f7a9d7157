//! What `port explain` tells, as data and in words.

use crate::view::Port;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use tare_network::Transport;

/// Who reaches one port of a container, and what decides it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortExplanation {
    /// The container's id.
    pub id: String,
    /// Its name.
    pub container: String,
    /// The port inside.
    pub container_port: u16,
    /// The protocol.
    pub transport: Transport,
    /// Where on the host it is published.
    pub published: Vec<Port>,
    /// Which program waits for it inside.
    pub program: Program,
    /// Everybody who may ask, one after another.
    pub ways: Vec<Way>,
}

/// Who waits for packets to the port inside of the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Program {
    /// A program, at every address of the container.
    Everywhere,
    /// A program, at these addresses only.
    At(Vec<IpAddr>),
    /// Nobody: who is let through is refused.
    Nobody,
    /// That cannot be told.
    Unknown,
}

/// One way to the port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    /// Who asks.
    pub from: Origin,
    /// What they have to ask for.
    pub to: SocketAddr,
    /// Whether they reach the container.
    pub verdict: Verdict,
    /// What decides, in the order in which a packet meets it.
    pub reasons: Vec<Reason>,
}

/// Who asks for a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Programs of this host.
    Host,
    /// Others, whose packets come in through this device.
    Outside {
        /// The host's device.
        device: String,
    },
    /// Containers in a network of the container's.
    Neighbours {
        /// The network's name.
        network: String,
    },
    /// Containers of this root in other networks.
    OtherNetworks,
}

/// Whether a packet arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It does.
    Open,
    /// It does not.
    Closed,
    /// It depends on what cannot be told beforehand (the sender's address, a set's elements, …).
    Depends,
}

/// Something that decides, or helps to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// Whose it is: `tare`, or the table of another's rules.
    pub owner: String,
    /// The rule, element or setting as its own tool shows it; empty where there is none.
    pub rule: String,
    /// What it does here.
    pub effect: String,
    /// Whether it lets the packet pass.
    pub verdict: Verdict,
}

impl Verdict {
    /// In a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Open => "open",
            Verdict::Closed => "closed",
            Verdict::Depends => "depends",
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Host => f.write_str("this host"),
            Origin::Outside { device } => write!(f, "outside, through {device}"),
            Origin::Neighbours { network } => write!(f, "containers in network {network}"),
            Origin::OtherNetworks => f.write_str("containers in other networks"),
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Program::Everywhere => f.write_str("a program in the container waits for it"),
            Program::At(addresses) => {
                let list: Vec<_> = addresses.iter().map(IpAddr::to_string).collect();
                write!(f, "a program in the container waits for it, at {} only", list.join(" and "))
            }
            Program::Nobody => f.write_str("no program in the container waits for it: connections are refused"),
            Program::Unknown => f.write_str("whether a program waits for it in the container cannot be told"),
        }
    }
}

impl fmt::Display for PortExplanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: port {}/{}", self.container, self.container_port, self.transport)?;
        let places: Vec<_> = self.published.iter().map(place).collect();
        match places[..] {
            [] => f.write_str(", not published")?,
            _ => write!(f, ", published at {}", places.join(", "))?,
        }
        writeln!(f, "\n  {}", self.program)?;
        for way in &self.ways {
            writeln!(f, "  {} to {}: {}", way.from, way.to, way.verdict.as_str())?;
            for reason in &way.reasons {
                write!(f, "    {}: {}", reason.owner, reason.effect)?;
                if !reason.rule.is_empty() {
                    write!(f, " ({})", reason.rule)?;
                }
                writeln!(f)?;
            }
        }
        Ok(())
    }
}

fn place(port: &Port) -> String {
    match port.host_ip {
        Some(ip) => SocketAddr::new(ip, port.host_port).to_string(),
        None => format!("port {} of every address", port.host_port),
    }
}
