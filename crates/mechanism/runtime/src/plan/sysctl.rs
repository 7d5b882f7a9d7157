//! Which kernel parameters belong to which namespace.

use super::namespaces::{NamespacePlan, name};
use std::collections::BTreeMap;
use tare_model::runtime_spec::NamespaceKind;
use tare_model::{Error, Kind, Result};

/// Only parameters of namespaces that the container has may be set: the others are the whole host's. What comes back is
/// the kinds that they belong to.
pub(super) fn check_sysctls(
    sysctls: &BTreeMap<String, String>,
    namespaces: &NamespacePlan,
) -> Result<Vec<NamespaceKind>> {
    let mut kinds = Vec::new();
    for key in sysctls.keys() {
        if key.split(if key.contains('/') { '/' } else { '.' }).any(|part| matches!(part, "" | "." | "..")) {
            return Err(
                Error::new(Kind::Invalid, "set sysctl", format!("{key:?}")).because("it is not a parameter's name")
            );
        }
        let Some(kind) = owner(&key.replace('/', ".")) else {
            return Err(Error::new(Kind::Invalid, "set sysctl", key)
                .because("it belongs to the whole host, not to a namespace")
                .hint("set it on the host, or use one of net.*, fs.mqueue.*, kernel.msg*, kernel.sem, kernel.shm*"));
        };
        if !namespaces.has(kind) {
            return Err(Error::new(Kind::Invalid, "set sysctl", key)
                .because(format!("the container has no {} namespace of its own", name(kind))));
        }
        kinds.push(kind);
    }
    Ok(kinds)
}

fn owner(dotted: &str) -> Option<NamespaceKind> {
    const IPC: [&str; 10] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
        "kernel.msg_next_id",
        "kernel.sem_next_id",
    ];
    if IPC.contains(&dotted) || dotted.starts_with("fs.mqueue.") {
        Some(NamespaceKind::Ipc)
    } else if dotted.starts_with("net.") {
        Some(NamespaceKind::Network)
    } else if dotted == "kernel.domainname" || dotted == "kernel.hostname" {
        Some(NamespaceKind::Uts)
    } else {
        None
    }
}
