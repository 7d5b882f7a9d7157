//! Capabilities by name, the default set, and the arithmetic of adding and dropping: capabilities(7).

use serde::{Deserialize, Serialize};
use tare_kernel::capability::Set;
use tare_model::runtime_spec::LinuxCapabilities;
use tare_model::{Error, Kind, Result};

/// Names by number, as in linux/capability.h.
pub const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// The fourteen that docker gives a container: enough to install packages and to change users, nothing that reaches
/// beyond the container's namespaces.
pub const DEFAULT: Set = Set::of(&[
    0,  // CHOWN
    1,  // DAC_OVERRIDE
    3,  // FOWNER
    4,  // FSETID
    5,  // KILL
    6,  // SETGID
    7,  // SETUID
    8,  // SETPCAP
    10, // NET_BIND_SERVICE
    13, // NET_RAW
    18, // SYS_CHROOT
    27, // MKNOD: the device rules decide which of the made nodes can be opened
    29, // AUDIT_WRITE
    31, // SETFCAP
]);

/// The number of a capability named with or without `CAP_`, in either case.
pub fn number(name: &str) -> Option<u8> {
    let short = match name.get(..4) {
        Some(prefix) if prefix.eq_ignore_ascii_case("CAP_") => &name[4..],
        _ => name,
    };
    NAMES.iter().position(|n| n[4..].eq_ignore_ascii_case(short)).map(|n| n as u8)
}

/// The names of a set, ascending by number; numbers without a name are left out.
pub fn names(set: Set) -> Vec<String> {
    set.numbers().filter_map(|n| NAMES.get(usize::from(n))).map(|&n| n.to_owned()).collect()
}

/// The set that `--cap-add` and `--cap-drop` make out of `base`, with docker's meaning:
/// adding ALL is `available` without what is dropped; dropping ALL leaves just what is added; otherwise the drops leave
/// `base` and then the additions come.
///
/// `available` is what this host can give: the kernel's known ones within the caller's bounding set.
///
/// # Errors
/// Invalid for an unknown name; Unsupported when a name added singly is not available.
pub fn adjust(base: Set, add: &[String], drop: &[String], available: Set) -> Result<Set> {
    let (all_added, added) = parse("cap-add", add)?;
    let (all_dropped, dropped) = parse("cap-drop", drop)?;
    if let Some(n) = added.without(available).numbers().next() {
        return Err(Error::new(Kind::Unsupported, "add capability", NAMES[usize::from(n)])
            .because("it is not in the bounding set of tare itself on this host")
            .hint("leave it out, or start tare with it"));
    }
    let set = match (all_added, all_dropped) {
        (true, _) => available.without(dropped),
        (false, true) => added,
        (false, false) => base.without(dropped).or(added),
    };
    Ok(set.and(available))
}

fn parse(option: &'static str, list: &[String]) -> Result<(bool, Set)> {
    let (mut all, mut set) = (false, Set::EMPTY);
    for name in list {
        if name.eq_ignore_ascii_case("ALL") || name.eq_ignore_ascii_case("CAP_ALL") {
            all = true;
        } else if let Some(n) = number(name) {
            set = set.or(Set::of(&[n]));
        } else {
            return Err(Error::new(Kind::Invalid, option, format!("{name:?}"))
                .because("no such capability")
                .hint("names are those of capabilities(7), such as NET_ADMIN, or ALL"));
        }
    }
    Ok((all, set))
}

/// The five sets of a process as masks, ready for the child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Capabilities {
    /// Upper bound over execve.
    pub bounding: u64,
    /// Checked by the kernel.
    pub effective: u64,
    /// Upper bound of the effective set.
    pub permitted: u64,
    /// Kept over the execve of files with inheritable bits.
    pub inheritable: u64,
    /// Kept over the execve of plain files by users other than root.
    pub ambient: u64,
}

impl Capabilities {
    /// The masks of an OCI document, and the names that no kernel knows, which the specification wants warned about.
    pub fn from_spec(spec: &LinuxCapabilities) -> (Capabilities, Vec<String>) {
        let mut unknown = Vec::new();
        let mut mask = |names: &[String]| {
            names.iter().fold(0, |bits, name| match number(name) {
                Some(n) => bits | 1 << n,
                None => {
                    if !unknown.contains(name) {
                        unknown.push(name.clone());
                    }
                    bits
                }
            })
        };
        let c = Capabilities {
            bounding: mask(&spec.bounding),
            effective: mask(&spec.effective),
            permitted: mask(&spec.permitted),
            inheritable: mask(&spec.inheritable),
            ambient: mask(&spec.ambient),
        };
        (c, unknown)
    }
}

/// The document for a container that is given `set`: bounding, permitted and effective. Inheritable and ambient stay
/// empty: an inheritable set of root's would hand capabilities to any user's file with inheritable bits.
pub fn spec_of(set: Set) -> LinuxCapabilities {
    let list = names(set);
    LinuxCapabilities {
        bounding: list.clone(),
        effective: list.clone(),
        permitted: list,
        ..LinuxCapabilities::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Set = Set(u64::MAX >> 23);

    fn adjusted(add: &[&str], drop: &[&str]) -> Vec<String> {
        let own = |l: &[&str]| l.iter().map(|&s| s.to_owned()).collect::<Vec<_>>();
        names(adjust(DEFAULT, &own(add), &own(drop), ALL).unwrap())
    }

    #[test]
    fn names_are_found_in_every_spelling() {
        assert_eq!(number("CAP_SYS_ADMIN"), Some(21));
        assert_eq!(number("sys_admin"), Some(21));
        assert_eq!(number("cap_Checkpoint_Restore"), Some(40));
        assert_eq!(number("CAP_"), None);
        assert_eq!(number("ÄÄ"), None);
        assert_eq!(names(DEFAULT).len(), 14);
    }

    #[test]
    fn adding_and_dropping_is_dockers() {
        assert_eq!(adjusted(&[], &[]), names(DEFAULT));
        assert_eq!(adjusted(&["NET_ADMIN"], &["all"]), ["CAP_NET_ADMIN"]);
        assert_eq!(adjusted(&["ALL"], &["ALL"]).len(), 41);
        assert_eq!(adjusted(&["ALL"], &["SYS_ADMIN"]).len(), 40);
        assert_eq!(adjusted(&["CHOWN"], &["CHOWN"]), names(DEFAULT), "an addition wins over the same drop");
        assert_eq!(adjusted(&[], &["CHOWN", "KILL"]).len(), 12);
    }

    #[test]
    fn refusals_say_why() {
        let e = adjust(DEFAULT, &["NET_ADMN".into()], &[], ALL).unwrap_err();
        assert_eq!(e.kind(), Kind::Invalid);
        assert!(e.first_hint().unwrap().contains("capabilities(7)"));
        let e = adjust(DEFAULT, &["SYS_RESOURCE".into()], &[], ALL.without(Set::of(&[24]))).unwrap_err();
        assert_eq!(e.kind(), Kind::Unsupported);
        let all = adjust(DEFAULT, &["ALL".into()], &[], ALL.without(Set::of(&[24]))).unwrap();
        assert!(!all.has(24), "ALL is what the host can give");
    }

    #[test]
    fn documents_become_masks() {
        let mut spec = spec_of(DEFAULT);
        spec.ambient = vec!["CAP_KILL".into(), "CAP_WHATEVER".into()];
        let (c, unknown) = Capabilities::from_spec(&spec);
        assert_eq!((c.bounding, c.inheritable, c.ambient), (DEFAULT.0, 0, 1 << 5));
        assert_eq!(unknown, ["CAP_WHATEVER"]);
    }
}
