//! The words of a seccomp document, turned into numbers: actions, flags, operators, rules.

use tare_kernel::seccomp as kernel;
use tare_model::runtime_spec::{LinuxSeccomp, LinuxSeccompArg};
use tare_model::{Error, Kind, Result};

pub(super) const KILL_PROCESS: u32 = 0x8000_0000;
pub(super) const ERRNO: u32 = 0x0005_0000;
pub(super) const NOTIFY: u32 = 0x7fc0_0000;
pub(super) const TRACE: u32 = 0x7ff0_0000;
pub(super) const LOG: u32 = 0x7ffc_0000;
pub(super) const ALLOW: u32 = 0x7fff_0000;
/// The call by which the descriptor of the notifications leaves the process.
pub(super) const HAND_OVER: &str = "sendmsg";
pub(super) const ENOSYS: u32 = 38;
pub(super) const EPERM: u32 = 1;

pub(super) fn invalid(why: String) -> Error {
    Error::new(Kind::Invalid, "compile seccomp profile", "").because(why)
}

/// OCI's actions, SECCOMP_RET_… of each, and whether errnoRet goes with it.
const ACTIONS: &[(&str, u32, bool)] = &[
    ("SCMP_ACT_ALLOW", ALLOW, false),
    ("SCMP_ACT_ERRNO", ERRNO, true),
    ("SCMP_ACT_KILL", 0, false),
    ("SCMP_ACT_KILL_PROCESS", KILL_PROCESS, false),
    ("SCMP_ACT_KILL_THREAD", 0, false),
    ("SCMP_ACT_LOG", LOG, false),
    ("SCMP_ACT_NOTIFY", NOTIFY, false),
    ("SCMP_ACT_TRACE", TRACE, true),
    ("SCMP_ACT_TRAP", 0x0003_0000, false),
];

/// How an operator comes about from what it is written with.
type ToOperator = fn(&LinuxSeccompArg) -> Operator;

/// OCI's comparisons; true: what the operator says must not hold.
const OPERATORS: &[(&str, ToOperator, bool)] = &[
    ("SCMP_CMP_EQ", |_| Operator::Equal, false),
    ("SCMP_CMP_GE", |_| Operator::GreaterOrEqual, false),
    ("SCMP_CMP_GT", |_| Operator::Greater, false),
    ("SCMP_CMP_LE", |_| Operator::Greater, true),
    ("SCMP_CMP_LT", |_| Operator::GreaterOrEqual, true),
    ("SCMP_CMP_MASKED_EQ", |arg| Operator::Masked(arg.value), false),
    ("SCMP_CMP_NE", |_| Operator::Equal, true),
];

/// Flags of seccomp(2), by OCI's names.
const FLAGS: &[(&str, u32)] = &[
    ("SECCOMP_FILTER_FLAG_TSYNC", kernel::FLAG_TSYNC),
    ("SECCOMP_FILTER_FLAG_LOG", kernel::FLAG_LOG),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", kernel::FLAG_SPEC_ALLOW),
    ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", kernel::FLAG_WAIT_KILLABLE_RECV),
];

/// The names of all actions that the compiler knows.
pub fn actions() -> impl Iterator<Item = &'static str> {
    ACTIONS.iter().map(|(name, ..)| *name)
}

/// The names of all operators that the compiler knows.
pub fn operators() -> impl Iterator<Item = &'static str> {
    OPERATORS.iter().map(|(name, ..)| *name)
}

/// The names of all flags that the compiler knows, and whether the running kernel takes them.
pub fn flags() -> impl Iterator<Item = (&'static str, bool)> {
    FLAGS.iter().map(|(name, bit)| (*name, kernel::takes_flag(*bit)))
}

/// The socket of whoever answers the profile's notifications, and what is to be told there; none where no call asks.
pub fn agent(profile: &LinuxSeccomp) -> Option<(&str, Option<&str>)> {
    let asks = profile.syscalls.iter().any(|s| s.action == "SCMP_ACT_NOTIFY");
    let path = profile.listener_path.as_deref().filter(|p| asks && !p.is_empty())?;
    Some((path, profile.listener_metadata.as_deref()))
}

/// SECCOMP_RET_… of an OCI action; `errno` is the errno or, for TRACE, the tracer's message.
pub(super) fn action(name: &str, errno: Option<u32>) -> Result<u32> {
    let Some((_, base, with_data)) = ACTIONS.iter().find(|(known, ..)| *known == name) else {
        return Err(invalid(format!("unknown action {name:?}")));
    };
    match (with_data, errno) {
        (false, None) => Ok(*base),
        (false, Some(data)) => Err(invalid(format!("{name} has no error number, and errnoRet gives it {data}"))
            .hint("leave out errnoRet (defaultErrnoRet) there")),
        (true, data) => match u16::try_from(data.unwrap_or(EPERM)) {
            Ok(d) => Ok(base | u32::from(d)),
            Err(_) => Err(invalid(format!("errnoRet {} is beyond 65535", data.unwrap_or_default()))),
        },
    }
}

pub(super) fn flag(name: &str) -> Result<u32> {
    let known = FLAGS.iter().find(|(known, _)| *known == name);
    known.map(|(_, bit)| *bit).ok_or_else(|| invalid(format!("unknown flag {name:?}")))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    Greater,
    GreaterOrEqual,
    /// Equal after masking.
    Masked(u64),
}

/// One comparison; the three negated operators are the others with `negated`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Comparison {
    pub(super) index: u32,
    pub(super) operator: Operator,
    pub(super) value: u64,
    pub(super) negated: bool,
}

impl Comparison {
    pub(super) fn parse(arg: &LinuxSeccompArg) -> Result<Comparison> {
        if arg.index > 5 {
            return Err(invalid(format!("argument {} does not exist, a call has 0 to 5", arg.index)));
        }
        let Some((_, operator, negated)) = OPERATORS.iter().find(|(known, ..)| *known == arg.op) else {
            return Err(invalid(format!("unknown operator {:?}", arg.op)));
        };
        let operator = operator(arg);
        let value = match operator {
            Operator::Masked(mask) => arg.value_two & mask,
            _ => arg.value,
        };
        Ok(Comparison { index: arg.index, operator, value, negated: *negated })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) action: u32,
    pub(super) comparisons: Vec<Comparison>,
}

/// What a profile says about one row of the table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) named: bool,
    /// What it says without looking at arguments.
    pub(super) always: Option<u32>,
    pub(super) rules: Vec<Rule>,
}

impl Verdict {
    pub(super) fn add(&mut self, value: u32, default: u32, rules: &[Rule]) {
        self.named = true;
        if value == default {
            return;
        }
        if rules.is_empty() {
            self.always.get_or_insert(value);
        } else {
            self.rules.extend_from_slice(rules);
        }
    }
}

/// One rule, or one for each comparison where an argument is compared twice; none for an unconditional one.
pub(super) fn alternatives(action: u32, comparisons: Vec<Comparison>) -> Vec<Rule> {
    let twice = comparisons.iter().enumerate().any(|(i, c)| comparisons[..i].iter().any(|d| d.index == c.index));
    match (comparisons.is_empty(), twice) {
        (true, _) => Vec::new(),
        (false, false) => vec![Rule { action, comparisons }],
        (false, true) => comparisons.into_iter().map(|c| Rule { action, comparisons: vec![c] }).collect(),
    }
}
