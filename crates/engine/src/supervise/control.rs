//! What a running container's clients may ask its supervisor to change, and how it does.
//!
//! The supervisor owns what the change touches (the sockets that reserve ports, the names that it answers, the list of what
//! must be taken down), so it is the one to act; leases and the container's description are the client's business, before
//! and after.
//!
//! ```text
//! client                                    supervisor
//!   change begun, lease ────── request ────► status.json: what may be there from now on
//!                                            devices, routes, rules
//!                                            status.json: what is
//!   description written   ◄─── answer ──────
//!   change ended
//! ```
//!
//! Whoever is killed at any point leaves either the status, which names everything that may be there (recovery takes it
//! down), or a change that was begun and not ended ([`crate::live`]), which the next one to look undoes.

use crate::Engine;
use crate::record::NamedNetwork;
use rustix::fd::OwnedFd;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use tare_model::{Error, Kind, Result};
use tare_network::{BridgePlan, EndpointPlan, PortMapping, PortWish};

/// What a client asks for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    /// Everything of the container's networks that is missing in the kernel is made anew.
    Restore,
    /// One more network.
    Connect(Box<Connect>),
    /// One network less: its id. Fine if it is not connected.
    Disconnect { network: String, then: Shape },
    /// More published ports, all or none.
    Publish { ports: Vec<PortWish> },
    /// Fewer published ports. Those that are not there are passed over.
    Withdraw { ports: Vec<PortMapping> },
}

/// A network to connect to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Connect {
    /// The network's name, for messages.
    pub(crate) network: String,
    pub(crate) plan: EndpointPlan,
    /// What it stands on, for networks with a bridge.
    pub(crate) bridge: Option<BridgePlan>,
    /// The container's name, and further names of it there.
    pub(crate) name: String,
    pub(crate) aliases: Vec<String>,
    /// How its containers know it.
    pub(crate) named: NamedNetwork,
    pub(crate) then: Shape,
}

/// What holds for all networks of a container together, once a change is made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shape {
    /// The default routes, at most one of each family: network's id and next hop.
    pub(crate) routes: Vec<(String, IpAddr)>,
    /// The network to which published ports lead; its id.
    pub(crate) carrier: Option<String>,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Done {
    /// How many things were missing.
    Restored(usize),
    /// It is connected, or disconnected.
    Changed,
    /// The ports that were published with this, or withdrawn, free ones filled in.
    Ports(Vec<PortMapping>),
}

/// The network side of a running container.
#[derive(Debug)]
pub(super) struct Live<'a> {
    pub(super) engine: &'a Engine,
    pub(super) id: String,
    /// The sockets that reserve the published ports.
    pub(super) ports: Vec<(PortMapping, OwnedFd)>,
    /// The container's network namespace, if a device of the host is in it: see [`crate::loan`].
    pub(super) namespace: Option<OwnedFd>,
}

impl<'a> Live<'a> {
    pub(super) fn new(engine: &'a Engine, id: &str, ports: Vec<(PortMapping, OwnedFd)>) -> Self {
        Live { engine, id: id.to_owned(), ports, namespace: None }
    }

    /// Acts on a request, the JSON of [`Request`]; the JSON of `Result<Done>`.
    pub(super) fn answer(&mut self, request: &[u8]) -> Vec<u8> {
        let malformed = |e| {
            Error::new(Kind::Unsupported, "change", "container")
                .because(format!("its supervisor does not know this request: {e}"))
                .hint("it was started by another version of tare: restart the container")
        };
        let done = serde_json::from_slice(request).map_err(malformed).and_then(|r| self.act(r));
        serde_json::to_vec(&done).unwrap_or_default()
    }

    fn act(&mut self, request: Request) -> Result<Done> {
        match request {
            Request::Restore => self.engine.restore_networks(&self.id).map(Done::Restored),
            Request::Connect(wanted) => self.connect(&wanted).map(|()| Done::Changed),
            Request::Disconnect { network, then } => self.disconnect(&network, &then).map(|()| Done::Changed),
            Request::Publish { ports } => self.publish(&ports).map(Done::Ports),
            Request::Withdraw { ports } => self.withdraw(&ports).map(Done::Ports),
        }
    }

    /// What was held for the container's life.
    pub(super) fn let_go(&mut self) -> Vec<OwnedFd> {
        self.ports.drain(..).map(|(_, socket)| socket).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attach::{self, ANSWER, Attachment, CHUNK, CONTROL, HELLO, PACKET};
    use crate::supervise::peer::Peer;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, send, socketpair};
    use std::time::Duration;

    /// A client, and what a supervisor's loop does with its packets until an answer is given.
    fn served(answer: impl FnOnce(Vec<u8>) -> Option<Vec<u8>> + Send + 'static) -> Attachment {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        send(&ours, &[HELLO, 0], rustix::net::SendFlags::empty()).unwrap();
        std::thread::spawn(move || {
            let mut peer = Peer::new(theirs, None);
            let mut packet = vec![0; PACKET];
            let request = loop {
                assert!(peer.is_open());
                std::thread::sleep(Duration::from_micros(100));
                let Some(n) = peer.receive(&mut packet) else { continue };
                assert!(n <= 1 + CHUNK, "a supervisor reads no longer packets");
                let [CONTROL, last, ref piece @ ..] = packet[..n] else { panic!("{:?}", packet[0]) };
                if let Some(whole) = peer.gather(last != 0, piece) {
                    break whole;
                }
            };
            if let Some(text) = answer(request) {
                attach::pieces(ANSWER, &text).for_each(|p| peer.send(&p));
                while peer.is_congested() {
                    peer.flush();
                }
            }
        });
        Attachment::over(ours)
    }

    #[test]
    fn requests_and_answers_longer_than_a_packet_arrive_whole() {
        let long: Vec<u32> = (0..100_000).collect();
        let client = served(|request| {
            let numbers: Vec<u32> = serde_json::from_slice(&request).unwrap();
            Some(serde_json::to_vec(&Ok::<_, Error>(numbers.into_iter().rev().collect::<Vec<_>>())).unwrap())
        });
        let answer: Vec<u32> = client.ask(&long, Duration::from_secs(20)).unwrap();
        assert_eq!(answer, long.into_iter().rev().collect::<Vec<_>>());
    }

    #[test]
    fn a_refusal_comes_as_it_was_made_and_silence_is_told() {
        let refusal = Error::new(Kind::InUse, "publish port", 80).because("taken").hint("choose another");
        let text = serde_json::to_vec(&Err::<Done, _>(&refusal)).unwrap();
        let e = served(|_| Some(text)).ask::<_, Done>(&Request::Restore, Duration::from_secs(20)).unwrap_err();
        assert_eq!(
            (e.kind(), e.to_string(), e.first_hint()),
            (Kind::InUse, refusal.to_string(), Some("choose another"))
        );
        // Whoever ends without a word has not acted.
        let e = served(|_| None).ask::<_, Done>(&Request::Restore, Duration::from_secs(20)).unwrap_err();
        assert_eq!(
            (e.kind(), e.to_string().as_str()),
            (Kind::State, "ask the container's supervisor: the container has ended")
        );
        let (quiet, _kept) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let e = Attachment::over(quiet).ask::<_, Done>(&Request::Restore, Duration::from_millis(20)).unwrap_err();
        assert_eq!(e.kind(), Kind::Unavailable);
        assert!(e.first_hint().unwrap().contains("restart the container"));
    }

    #[test]
    fn a_request_of_another_version_is_refused_in_words() {
        let (_dir, engine) = crate::network::testing::engine();
        let mut live = Live::new(&engine, &"0".repeat(64), Vec::new());
        let answer: Result<Done> = serde_json::from_slice(&live.answer(b"{\"fly\":1}")).unwrap();
        assert_eq!(answer.unwrap_err().kind(), Kind::Unsupported);
        // Nothing runs, so nothing is missing.
        let answer: Result<Done> = serde_json::from_slice(&live.answer(b"\"restore\"")).unwrap();
        assert_eq!(answer.unwrap(), Done::Restored(0));
    }
}
