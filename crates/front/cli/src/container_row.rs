//! A container as a row of `ps`.

use crate::listing::{Row, shorten};
use crate::published;
use crate::time;
use jiff::Timestamp;
use serde_json::Value;
use std::collections::BTreeMap;
use tare_engine::request::NetworkMode;
use tare_engine::view::{Container, MountView, State};
use tare_model::size;

/// Whether ids, commands and mounts are cut to a readable length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lengths {
    Short,
    Whole,
}

/// The row. `bytes`: what its own layer and its whole filesystem take, if that was asked for.
pub(crate) fn row(c: &Container, now: Timestamp, lengths: Lengths, bytes: Option<(u64, u64)>) -> Row {
    let short = |text: &str, n: usize| if lengths == Lengths::Short { shorten(text, n) } else { text.to_owned() };
    let id = if lengths == Lengths::Short { c.id.chars().take(12).collect() } else { c.id.clone() };
    let mounts: Vec<String> = c.mounts.iter().map(|m| short(mount_name(m), 15)).collect();
    let sizes = bytes.map_or_else(
        || "0B".to_owned(),
        |(own, all)| format!("{} (virtual {})", size::decimal(own), size::decimal(all)),
    );
    let row = Row { labels: c.request.labels.clone(), ..Row::default() };
    row.with("ID", id)
        .with("Names", c.name.clone())
        .with("Image", c.image.clone())
        .with("Command", format!("\"{}\"", short(&c.args.join(" "), 20)))
        .with("CreatedAt", time::long(&c.created_at))
        .with("RunningFor", format!("{} ago", time::since(&c.created_at, now)))
        .with("Ports", ports(c))
        .with("State", c.state.as_str())
        .with("Status", status(c, now))
        .with("Size", sizes)
        .with("Labels", labels(&c.request.labels))
        .with("Mounts", mounts.join(","))
        .with("LocalVolumes", c.mounts.iter().filter(|m| m.kind == "volume").count().to_string())
        .with("Networks", network(c))
}

/// Labels as one text.
pub(crate) fn labels(labels: &BTreeMap<String, String>) -> Value {
    Value::String(labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(","))
}

/// Its networks' names, or the mode without one.
pub(crate) fn network(c: &Container) -> String {
    match c.networks.as_slice() {
        [] => mode(&c.request.network),
        networks => networks.iter().map(|n| n.name.as_str()).collect::<Vec<_>>().join(","),
    }
}

/// A mode as `--network` has it.
pub(crate) fn mode(mode: &NetworkMode) -> String {
    match mode {
        NetworkMode::Bridge => "bridge".into(),
        NetworkMode::Host => "host".into(),
        NetworkMode::None => "none".into(),
        NetworkMode::Container(name) => format!("container:{name}"),
        NetworkMode::Path(path) => format!("ns:{}", path.display()),
    }
}

fn mount_name(mount: &MountView) -> &str {
    mount.name.as_deref().unwrap_or(&mount.source)
}

/// Docker's words for where a container is in its life.
pub(crate) fn status(c: &Container, now: Timestamp) -> String {
    let up = || c.started_at.as_deref().map(|t| time::since(t, now)).unwrap_or_default();
    match (c.state, &c.exit) {
        (State::Created, _) => "Created".into(),
        (State::Running, _) => format!("Up {}", up()),
        (State::Paused, _) => format!("Up {} (Paused)", up()),
        (State::Exited, Some(exit)) => {
            let why = match (&exit.reason, exit.oom_killed) {
                (Some(reason), _) => format!(", {reason}"),
                (None, true) => ", out of memory".into(),
                (None, false) => String::new(),
            };
            format!("Exited ({}) {} ago{why}", exit.code, time::since(&exit.finished_at, now))
        }
        (State::Exited, None) => "Exited".into(),
    }
}

/// Ports that are only exposed, and the published ones; of a container that does not run none.
fn ports(c: &Container) -> String {
    let exposed: &[String] = if c.state == State::Running { &c.request.expose } else { &[] };
    published::column(&c.ports, exposed)
}

#[cfg(test)]
pub(crate) fn example() -> Container {
    use std::net::{IpAddr, Ipv4Addr};
    use tare_engine::request::RunRequest;
    use tare_engine::view::{NetworkView, Port};
    Container {
        id: "0123456789abcdef".repeat(4),
        name: "web".into(),
        created_at: "2026-01-01T00:00:00.5Z".into(),
        image_id: Some(tare_model::Digest::of(b"image")),
        image: "debian:12".into(),
        request: RunRequest {
            labels: BTreeMap::from([("a".into(), "1".into())]),
            expose: vec!["80/tcp".into(), "90/tcp".into()],
            ..RunRequest::default()
        },
        args: ["sh", "-c", "echo a long command line"].map(Into::into).into(),
        env: vec!["A=1".into()],
        state: State::Running,
        pid: Some(42),
        supervisor_pid: Some(41),
        started_at: Some("2026-01-01T00:01:00Z".into()),
        exit: None,
        networks: vec![NetworkView {
            name: "bridge".into(),
            id: "f".repeat(64),
            interface: "eth0".into(),
            link: Some("tvabc".into()),
            addresses: vec!["10.88.0.2/16".parse().expect("it is one")],
            gateways: vec![IpAddr::V4(Ipv4Addr::new(10, 88, 0, 1))],
            mac: Some("02:42:0a:58:00:02".parse().expect("it is one")),
            aliases: Vec::new(),
        }],
        enter_network: Some("nsenter -t 42 -n".into()),
        ports: vec![Port {
            host_ip: None,
            host_port: 8080,
            container_port: 80,
            transport: tare_engine::request::Transport::Tcp,
        }],
        mounts: vec![MountView {
            kind: "volume".into(),
            name: Some("data".into()),
            source: "/var/lib/tare/volumes/data/_data".into(),
            target: "/data".into(),
            writable: true,
            propagation: String::new(),
        }],
        lowers: vec!["/l/2".into(), "/l/1".into()],
        upper: Some("/u".into()),
        log_path: "/log".into(),
        cgroup: "/tare/x".into(),
        capabilities: vec!["CAP_CHOWN".into()],
        warnings: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tare_engine::view::Exit;

    #[test]
    fn a_row_reads_as_dockers() {
        let now = "2026-01-01T01:01:00Z".parse().unwrap();
        let mut c = example();
        let r = row(&c, now, Lengths::Short, None);
        let field = |name: &str| r.fields[name].as_str().unwrap().to_owned();
        assert_eq!(field("ID"), "0123456789ab");
        assert_eq!(field("Command"), "\"sh -c echo a long c…\"");
        assert_eq!(field("Status"), "Up About an hour");
        assert_eq!(field("Ports"), "90/tcp, 0.0.0.0:8080->80/tcp, [::]:8080->80/tcp");
        assert_eq!(
            (field("Mounts"), field("Networks"), field("Labels")),
            ("data".into(), "bridge".into(), "a=1".into())
        );
        c.state = State::Exited;
        let finished_at = "2026-01-01T01:00:00Z".into();
        c.exit = Some(Exit { code: 137, oom_killed: true, finished_at, ..Exit::default() });
        assert_eq!(status(&c, now), "Exited (137) About a minute ago, out of memory");
        c.state = State::Created;
        assert_eq!(status(&c, now), "Created");
    }
}
