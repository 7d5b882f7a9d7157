//! Device rules: v1 `devices.allow` and `devices.deny`, v2 a BPF program.
//!
//! A list of rules means what v1's kernel does with them one after another: a rule for all devices sets the default and
//! forgets the exceptions; another one adds to the exceptions, or takes from an equal one. [`Policy`] is the result, and
//! both versions are written from it.

use serde::{Deserialize, Serialize};
use std::fmt;
use tare_kernel::bpf::{self, Assembler, Field, Instruction};
use tare_model::runtime_spec::LinuxDeviceCgroup;
use tare_model::{Error, Kind, Result};

/// What a list of rules comes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// What happens to devices without an exception.
    pub allow_by_default: bool,
    /// Allowed where the default is to deny, denied where it is to allow.
    pub exceptions: Vec<Exception>,
}

/// Devices that are not treated as the rest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exception {
    /// `c` or `b`.
    pub kind: char,
    /// None is all.
    pub major: Option<u32>,
    /// None is all.
    pub minor: Option<u32>,
    /// Letters of `rwm`.
    pub access: String,
}

impl Policy {
    /// Everything is allowed.
    pub(super) const OPEN: Policy = Policy { allow_by_default: true, exceptions: Vec::new() };

    /// What `rules` come to; none for an empty list, which changes nothing. Before the first rule everything is denied.
    ///
    /// # Errors
    /// Invalid for unknown types and letters and for numbers beyond 32 bits.
    pub fn from_rules(rules: &[LinuxDeviceCgroup]) -> Result<Option<Policy>> {
        let mut policy = Policy { allow_by_default: false, exceptions: Vec::new() };
        for rule in rules {
            policy.apply(rule)?;
        }
        Ok((!rules.is_empty()).then_some(policy))
    }

    fn apply(&mut self, rule: &LinuxDeviceCgroup) -> Result<()> {
        let bad = |why: String| Error::new(Kind::Invalid, "read device rule", format!("{rule:?}")).because(why);
        let number = |n: Option<i64>| match n {
            None | Some(-1) => Ok(None),
            Some(n) => u32::try_from(n).map(Some).map_err(|_| bad(format!("no device has number {n}"))),
        };
        let access = rule.access.as_deref().unwrap_or("rwm");
        if access.is_empty() || !access.chars().all(|c| "rwm".contains(c)) {
            return Err(bad(format!("access {access:?} is not made of the letters r, w and m")));
        }
        let kinds: &[char] = match rule.kind.as_deref().unwrap_or("a") {
            "" | "a" => &['b', 'c'],
            "b" => &['b'],
            // `u` is mknod(1)'s other name for a character device, which OCI documents may carry.
            "c" | "u" => &['c'],
            other => return Err(bad(format!("type {other:?} is none of a, b, c"))),
        };
        let (major, minor) = (number(rule.major)?, number(rule.minor)?);
        if kinds.len() == 2 && (major, minor) == (None, None) && "rwm".chars().all(|c| access.contains(c)) {
            *self = Policy { allow_by_default: rule.allow, exceptions: Vec::new() };
            return Ok(());
        }
        for &kind in kinds {
            let equal = self.exceptions.iter_mut().find(|e| (e.kind, e.major, e.minor) == (kind, major, minor));
            match (equal, rule.allow == self.allow_by_default) {
                (Some(e), true) => e.access.retain(|c| !access.contains(c)),
                (None, true) => {}
                (Some(e), false) => {
                    e.access = "rwm".chars().filter(|&c| e.access.contains(c) || access.contains(c)).collect()
                }
                (None, false) => {
                    let access = "rwm".chars().filter(|&c| access.contains(c)).collect();
                    self.exceptions.push(Exception { kind, major, minor, access });
                }
            }
        }
        self.exceptions.retain(|e| !e.access.is_empty());
        Ok(())
    }

    /// The writes of v1, in order: file, line.
    pub(super) fn v1_lines(&self) -> Vec<(&'static str, String)> {
        let (first, rest) =
            if self.allow_by_default { ("devices.allow", "devices.deny") } else { ("devices.deny", "devices.allow") };
        std::iter::once((first, "a".to_owned())).chain(self.exceptions.iter().map(|e| (rest, e.to_string()))).collect()
    }

    /// The writes that bring a group of v1 in use, whose `devices.list` is `listed`, to this policy. Between two lists of
    /// allowances nothing that both allow is denied for a moment.
    pub(super) fn v1_change(&self, listed: &str) -> Vec<(&'static str, String)> {
        let now = Policy::from_list(listed);
        let Some(now) = now.filter(|_| !self.allow_by_default) else { return self.v1_lines() };
        let surplus = now.exceptions.iter().filter_map(|e| {
            let wanted = self.exceptions.iter().find(|w| (w.kind, w.major, w.minor) == (e.kind, e.major, e.minor));
            let access: String = e.access.chars().filter(|c| !wanted.is_some_and(|w| w.access.contains(*c))).collect();
            (!access.is_empty()).then(|| ("devices.deny", Exception { access, ..e.clone() }.to_string()))
        });
        let missing = self.exceptions.iter().filter(|e| !now.exceptions.contains(e));
        missing.map(|e| ("devices.allow", e.to_string())).chain(surplus).collect()
    }

    /// What `devices.list` says; none where everything is allowed, for exceptions to that are not listed.
    fn from_list(listed: &str) -> Option<Policy> {
        let number = |n: &str| if n == "*" { Some(None) } else { n.parse().ok().map(Some) };
        let exception = |line: &str| {
            let mut words = line.split(' ');
            let kind = words.next()?.chars().next().filter(|c| "bc".contains(*c))?;
            let (major, minor) = words.next()?.split_once(':')?;
            Some(Exception { kind, major: number(major)?, minor: number(minor)?, access: words.next()?.to_owned() })
        };
        let exceptions = listed.lines().map(exception).collect::<Option<Vec<_>>>()?;
        Some(Policy { allow_by_default: false, exceptions })
    }

    /// The program of v2.
    pub(super) fn program(&self) -> Vec<Instruction> {
        let mut a = Assembler::default();
        a.device_prologue();
        for e in &self.exceptions {
            let next = a.label();
            a.unless_equal(Field::Type, if e.kind == 'b' { bpf::DEVICE_BLOCK } else { bpf::DEVICE_CHAR }, next);
            let mask = |letters: &str| {
                letters.chars().fold(0, |m, c| {
                    m | match c {
                        'r' => bpf::ACCESS_READ,
                        'w' => bpf::ACCESS_WRITE,
                        _ => bpf::ACCESS_MKNOD,
                    }
                })
            };
            let named = mask(&e.access);
            let unnamed = mask("rwm") & !named;
            // An allowance must cover all that is asked for; a denial applies to any part of it.
            if self.allow_by_default {
                a.if_none(Field::Access, named, next);
            } else if unnamed != 0 {
                a.if_any(Field::Access, unnamed, next);
            }
            if let Some(major) = e.major {
                a.unless_equal(Field::Major, major.cast_signed(), next);
            }
            if let Some(minor) = e.minor {
                a.unless_equal(Field::Minor, minor.cast_signed(), next);
            }
            a.exit(i32::from(!self.allow_by_default));
            a.place(next);
        }
        a.exit(i32::from(self.allow_by_default));
        a.finish()
    }
}

/// As v1 writes it: `c 1:3 rwm`.
impl fmt::Display for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = |n: Option<u32>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
        write!(f, "{} {}:{} {}", self.kind, all(self.major), all(self.minor), self.access)
    }
}

fn rule(allow: bool, kind: &str, major: Option<i64>, minor: Option<i64>, access: &str) -> LinuxDeviceCgroup {
    LinuxDeviceCgroup { allow, kind: Some(kind.into()), major, minor, access: Some(access.into()) }
}

/// What the OCI runtime specification lets every container use, whatever its document says ("Default Devices" of
/// config-linux.md): null, zero, full, random, urandom, tty, the console, pseudo-terminals; and making any node, since
/// that opens nothing. To be put after a document's own denial.
pub fn runtime_rules() -> Vec<LinuxDeviceCgroup> {
    let chars = [
        (1, Some(3)),
        (1, Some(5)),
        (1, Some(7)),
        (1, Some(8)),
        (1, Some(9)),
        (5, Some(0)),
        (5, Some(1)),
        (5, Some(2)),
        (136, None),
    ];
    let nodes = ["c", "b"].map(|kind| rule(true, kind, None, None, "m"));
    nodes.into_iter().chain(chars.map(|(major, minor)| rule(true, "c", Some(major), minor, "rwm"))).collect()
}

/// [`runtime_rules`], and the device of tunnels, which runc lets every container have and programs in containers count on:
/// without the capability for its network a process there can make nothing of it.
pub fn oci_rules() -> Vec<LinuxDeviceCgroup> {
    let mut rules = runtime_rules();
    rules.push(rule(true, "c", Some(10), Some(200), "rwm"));
    rules
}

/// The rules of a container that asks for none: everything denied but [`runtime_rules`], which is docker's list.
pub fn default_rules() -> Vec<LinuxDeviceCgroup> {
    std::iter::once(rule(false, "a", None, None, "rwm")).chain(runtime_rules()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(rules: &[LinuxDeviceCgroup]) -> Policy {
        Policy::from_rules(rules).unwrap().unwrap()
    }

    #[test]
    fn the_default_rules_as_v1_writes() {
        let lines = policy(&default_rules()).v1_lines();
        assert_eq!(lines[0], ("devices.deny", "a".into()));
        assert_eq!(lines[1], ("devices.allow", "c *:* m".into()));
        assert!(lines.contains(&("devices.allow", "c 136:* rwm".into())));
        assert_eq!(lines.len(), 12);
    }

    #[test]
    fn a_change_of_v1_denies_only_what_goes() {
        let mut rules = default_rules();
        let before = policy(&rules).v1_lines();
        let listed: String = before[1..].iter().map(|(_, line)| format!("{line}\n")).collect();
        rules.push(rule(true, "c", Some(1), Some(11), "r"));
        rules.push(rule(false, "c", Some(1), Some(3), "w"));
        assert_eq!(
            policy(&rules).v1_change(&listed),
            [
                ("devices.allow", "c 1:3 rm".into()),
                ("devices.allow", "c 1:11 r".into()),
                ("devices.deny", "c 1:3 w".into())
            ]
        );
        assert_eq!(policy(&default_rules()).v1_change(&listed), []);
        assert_eq!(policy(&default_rules()).v1_change("a *:* rwm\n"), before, "nothing is known of what is denied");
    }

    #[test]
    fn later_rules_change_earlier_ones() {
        let mut rules = default_rules();
        rules.push(rule(true, "b", Some(8), Some(0), "r"));
        rules.push(rule(true, "b", Some(8), Some(0), "w"));
        rules.push(rule(false, "c", Some(1), Some(3), "wm"));
        rules.push(rule(false, "c", Some(1), Some(5), "rwm"));
        let p = policy(&rules);
        let of = |kind, major, minor| {
            p.exceptions
                .iter()
                .find(|e| (e.kind, e.major, e.minor) == (kind, Some(major), Some(minor)))
                .map(|e| e.access.as_str())
        };
        assert_eq!((of('b', 8, 0), of('c', 1, 3), of('c', 1, 5)), (Some("rw"), Some("r"), None));
        rules.push(rule(true, "a", None, None, "rwm"));
        rules.push(rule(false, "a", Some(8), None, "w"));
        let p = policy(&rules);
        assert!(p.allow_by_default);
        assert_eq!(
            p.v1_lines(),
            [("devices.allow", "a".into()), ("devices.deny", "b 8:* w".into()), ("devices.deny", "c 8:* w".into())]
        );
    }

    #[test]
    fn nonsense_is_refused_and_nothing_is_nothing() {
        assert_eq!(Policy::from_rules(&[]).unwrap(), None);
        for bad in
            [rule(true, "x", None, None, "r"), rule(true, "c", Some(-2), None, "r"), rule(true, "c", None, None, "rx")]
        {
            assert_eq!(Policy::from_rules(&[bad]).unwrap_err().kind(), Kind::Invalid);
        }
    }

    #[test]
    fn the_verifier_takes_the_programs() {
        let mut open = vec![rule(true, "a", None, None, "rwm")];
        for rules in [&default_rules(), &open.clone(), &{
            open.push(rule(false, "a", None, None, "m"));
            open.push(rule(false, "c", Some(1), Some(3), "r"));
            open
        }] {
            bpf::load_device(&policy(rules).program()).unwrap();
        }
    }
}
