//! `tare port`: one file for each verb, and docker's form without one.

pub(super) mod add;
pub(super) mod explain;
pub(super) mod ls;
pub(super) mod rm;

use crate::published;
use std::ffi::{OsStr, OsString};
use tare_engine::view::Port;

/// Docker's form has no verb behind `port`: `port CONTAINER [PORT]`. Where it is meant, `ls` is put in. A container may be
/// called like a verb: what is too short for the verb is docker's form. `arguments`: those behind `port`.
pub(crate) fn with_verb(arguments: &[OsString]) -> Option<&'static str> {
    let is_flag = |a: &OsStr| a.to_str().is_some_and(|t| t.starts_with('-') && t.len() > 1);
    // Help for the group, or for a verb.
    if arguments.iter().any(|a| a == "--help" || a == "-h") {
        return None;
    }
    let words: Vec<&OsStr> = arguments.iter().map(OsString::as_os_str).filter(|a| !is_flag(a)).collect();
    let (first, rest) = words.split_first()?;
    let needed = match first.to_str() {
        Some("add" | "rm" | "remove") => 2,
        Some("ls" | "list" | "explain") => 1,
        _ => return Some("ls"),
    };
    (rest.len() < needed).then_some("ls")
}

/// `80/tcp -> 0.0.0.0:8080`, one line for each address, in the order of ports.
fn lines(ports: &[Port]) -> Vec<String> {
    let mut sorted: Vec<&Port> = ports.iter().collect();
    sorted.sort_by_key(|p| (p.container_port, p.transport.as_str(), p.host_ip, p.host_port));
    let line = |p: &Port| {
        let inside = format!("{}/{}", p.container_port, p.transport);
        let host_port = p.host_port;
        published::hosts(p).into_iter().map(move |ip| format!("{inside} -> {}", published::place(ip, host_port)))
    };
    sorted.into_iter().flat_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tare_engine::request::Transport;

    #[test]
    fn dockers_form_needs_no_verb() {
        let verb =
            |line: &str| with_verb(&line.split(' ').filter(|w| !w.is_empty()).map(OsString::from).collect::<Vec<_>>());
        for line in ["web", "web 80", "web 80/udp", "add", "add 80", "rm", "ls", "explain", "remove 53/udp"] {
            assert_eq!(verb(line), Some("ls"), "{line}");
        }
        for line in [
            "add web 8080:80",
            "rm web 80 81",
            "remove web 80",
            "ls add",
            "list web 80",
            "explain web",
            "explain web 80",
            "",
            "--help",
            "add --help",
        ] {
            assert_eq!(verb(line), None, "{line}");
        }
    }

    #[test]
    fn lines_are_dockers() {
        let port = |host_ip: Option<&str>, host_port, container_port, transport| Port {
            host_ip: host_ip.map(|ip| ip.parse().unwrap()),
            host_port,
            container_port,
            transport,
        };
        let ports = [
            port(None, 8080, 80, Transport::Tcp),
            port(Some("127.0.0.1"), 53, 53, Transport::Udp),
            port(Some("::1"), 5353, 53, Transport::Udp),
        ];
        assert_eq!(
            lines(&ports),
            ["53/udp -> 127.0.0.1:53", "53/udp -> [::1]:5353", "80/tcp -> 0.0.0.0:8080", "80/tcp -> [::]:8080"]
        );
    }
}
