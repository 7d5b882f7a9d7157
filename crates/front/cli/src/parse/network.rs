//! `--network`, and the modes of the other namespaces.

use super::{bad, not_yet};
use tare_engine::request::{NamespaceMode, NetworkMode};
use tare_model::Result;

/// Parses `--network`.
pub(crate) fn network(text: &str) -> Result<NetworkMode> {
    const FLAG: &str = "--network";
    match text {
        "bridge" | "default" | "" => Ok(NetworkMode::Bridge),
        "host" => Ok(NetworkMode::Host),
        "none" => Ok(NetworkMode::None),
        _ => match text.split_once(':') {
            Some(("container", "")) => Err(bad(FLAG, text, "the container's name is missing")),
            Some(("container", name)) => Ok(NetworkMode::Container(name.to_owned())),
            _ => Err(not_yet(FLAG, text, "networks made by users are not supported yet")
                .hint("there are bridge, host, none and container:NAME")),
        },
    }
}

/// Parses `--pid`, `--ipc`, `--uts` or `--cgroupns`.
pub(crate) fn namespace(flag: &str, text: &str) -> Result<NamespaceMode> {
    match (text, text.strip_prefix("container:")) {
        ("" | "private", _) => Ok(NamespaceMode::Private),
        ("host", _) => Ok(NamespaceMode::Host),
        // Every private IPC namespace of tare can be joined by another container.
        ("shareable", _) if flag == "--ipc" => Ok(NamespaceMode::Private),
        ("none", _) if flag == "--ipc" => Err(not_yet(flag, text, "a container without /dev/shm is not supported yet")),
        (_, Some("")) => Err(bad(flag, text, "the container's name is missing")),
        (_, Some(name)) => Ok(NamespaceMode::Container(name.to_owned())),
        _ => Err(bad(flag, text, "expected private, host or container:NAME")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        assert_eq!(network("default").unwrap(), NetworkMode::Bridge);
        assert_eq!(network("container:web").unwrap(), NetworkMode::Container("web".into()));
        assert!(network("container:").is_err());
        assert!(network("backend").unwrap_err().to_string().contains("not supported yet"));
        assert_eq!(namespace("--pid", "container:x").unwrap(), NamespaceMode::Container("x".into()));
        assert_eq!(namespace("--ipc", "shareable").unwrap(), NamespaceMode::Private);
        assert!(namespace("--pid", "shareable").is_err());
    }
}
