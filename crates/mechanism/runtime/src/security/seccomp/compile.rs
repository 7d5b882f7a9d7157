//! From an OCI seccomp document to classic BPF: seccomp(2), runtime-spec config-linux.md "Seccomp".
//!
//! Meaning (that of libseccomp, through which the other runtimes go):
//! - A rule with the default's action and value says nothing and is skipped.
//! - Of one call's rules, the first without arguments decides, wherever it stands; else the first whose comparisons all
//!   hold; else the default action.
//! - Two comparisons of one argument within one rule are alternatives (as runc reads them); otherwise all must hold.
//! - Names unknown on an architecture are skipped there. The native architecture always belongs to the filter; calls of
//!   one that does not kill the process.
//! - Where the default is an errno, a number above the highest one that the profile names gives ENOSYS: the profile's
//!   author cannot have known that call, and libc falls back only on ENOSYS.
//! - 32-bit architectures compare the low 32 bits.
//!
//! Shape of the program: a jump by architecture, then for each a balanced tree over ranges of numbers with equal
//! outcome. A list of the same calls is twelve times as long, and the kernel pays for length when it loads.
//!
//! Instructions are emitted from the last to the first, so that every jump's target is known when the jump is made;
//! a target further than 255 instructions away gets a `ja` or a copy of its `ret` in between.

use super::arch::{Arch, X32_BIT};
use super::syscalls::{NO, TABLE};
use tare_kernel::seccomp::{self as kernel, SockFilter};
use tare_model::runtime_spec::{LinuxSeccomp, LinuxSeccompArg};
use tare_model::{Error, Kind, Result};

/// A compiled profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// The program.
    pub program: Vec<SockFilter>,
    /// SECCOMP_FILTER_FLAG_… to load it with; includes NEW_LISTENER where an action is NOTIFY.
    pub flags: u32,
}

/// Compiles a profile for this machine.
///
/// # Errors
/// Invalid for actions, operators, flags, architectures or argument numbers that the specification does not have, and
/// for a profile too large for the kernel (4096 instructions).
pub fn compile(profile: &LinuxSeccomp) -> Result<Filter> {
    let parsed = Profile::parse(profile)?;
    let mut out = Emitter::default();
    let mut after = Target::Return(KILL_PROCESS);
    // The native architecture is emitted last and so stands first: the others' programs are rare.
    for &arch in parsed.archs.iter().rev().filter(|&&a| a != Arch::X32) {
        let ranges = parsed.ranges(arch);
        let entry = out.tree(&parsed, &ranges);
        let block = out.load(entry, 0);
        after = out.jump(JEQ, arch.audit(), block, after);
    }
    out.load(after, 4);
    if out.reversed.len() > kernel::MAX_LEN {
        return Err(invalid(format!(
            "it needs {} instructions, the kernel takes {}",
            out.reversed.len(),
            kernel::MAX_LEN
        )));
    }
    out.reversed.reverse();
    Ok(Filter { program: out.reversed, flags: parsed.flags })
}

const KILL_PROCESS: u32 = 0x8000_0000;
const ERRNO: u32 = 0x0005_0000;
const NOTIFY: u32 = 0x7fc0_0000;
const ENOSYS: u32 = 38;
const EPERM: u32 = 1;

fn invalid(why: String) -> Error {
    Error::new(Kind::Invalid, "compile seccomp profile", "").because(why)
}

/// OCI's actions, SECCOMP_RET_… of each, and whether errnoRet goes with it.
const ACTIONS: &[(&str, u32, bool)] = &[
    ("SCMP_ACT_ALLOW", 0x7fff_0000, false),
    ("SCMP_ACT_ERRNO", ERRNO, true),
    ("SCMP_ACT_KILL", 0, false),
    ("SCMP_ACT_KILL_PROCESS", KILL_PROCESS, false),
    ("SCMP_ACT_KILL_THREAD", 0, false),
    ("SCMP_ACT_LOG", 0x7ffc_0000, false),
    ("SCMP_ACT_NOTIFY", NOTIFY, false),
    ("SCMP_ACT_TRACE", 0x7ff0_0000, true),
    ("SCMP_ACT_TRAP", 0x0003_0000, false),
];

/// OCI's comparisons; true: what the operator says must not hold.
const OPERATORS: &[(&str, fn(&LinuxSeccompArg) -> Operator, bool)] = &[
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

/// The names of all actions that [`compile`] knows.
pub fn actions() -> impl Iterator<Item = &'static str> {
    ACTIONS.iter().map(|(name, ..)| *name)
}

/// The names of all operators that [`compile`] knows.
pub fn operators() -> impl Iterator<Item = &'static str> {
    OPERATORS.iter().map(|(name, ..)| *name)
}

/// The names of all flags that [`compile`] knows, and whether the running kernel takes them.
pub fn flags() -> impl Iterator<Item = (&'static str, bool)> {
    FLAGS.iter().map(|(name, bit)| (*name, kernel::takes_flag(*bit)))
}

/// SECCOMP_RET_… of an OCI action; `errno` is the errno or, for TRACE, the tracer's message.
fn action(name: &str, errno: Option<u32>) -> Result<u32> {
    let Some((_, base, with_data)) = ACTIONS.iter().find(|(known, ..)| *known == name) else {
        return Err(invalid(format!("unknown action {name:?}")));
    };
    if !with_data {
        return Ok(*base);
    }
    let data = errno.unwrap_or(EPERM);
    match u16::try_from(data) {
        Ok(d) => Ok(base | u32::from(d)),
        Err(_) => Err(invalid(format!("errnoRet {data} is beyond 65535"))),
    }
}

fn flag(name: &str) -> Result<u32> {
    let known = FLAGS.iter().find(|(known, _)| *known == name);
    known.map(|(_, bit)| *bit).ok_or_else(|| invalid(format!("unknown flag {name:?}")))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    Greater,
    GreaterOrEqual,
    /// Equal after masking.
    Masked(u64),
}

/// One comparison; the three negated operators are the others with `negated`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Comparison {
    index: u32,
    operator: Operator,
    value: u64,
    negated: bool,
}

impl Comparison {
    fn parse(arg: &LinuxSeccompArg) -> Result<Comparison> {
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
struct Rule {
    action: u32,
    comparisons: Vec<Comparison>,
}

/// What a profile says about one row of the table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Verdict {
    named: bool,
    always: Option<u32>,
    rules: Vec<Rule>,
}

struct Profile {
    default: u32,
    /// Native first; X32 only beside X86_64.
    archs: Vec<Arch>,
    flags: u32,
    verdicts: Vec<Verdict>,
}

/// What happens to the numbers from `start` to the next range's start.
#[derive(Debug, Clone, Copy)]
struct Range {
    start: u32,
    outcome: Outcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Return(u32),
    /// The rules of this row of the table decide.
    Rules {
        row: usize,
        arch: Arch,
    },
}

impl Profile {
    fn parse(profile: &LinuxSeccomp) -> Result<Profile> {
        let default = action(&profile.default_action, profile.default_errno_ret)?;
        let mut archs = vec![Arch::NATIVE];
        for name in &profile.architectures {
            if let Some(a) = Arch::parse(name)?.filter(|a| !archs.contains(a)) {
                archs.push(a);
            }
        }
        if !archs.contains(&Arch::X86_64) {
            archs.retain(|&a| a != Arch::X32);
        }
        let flags = profile.flags.iter().try_fold(0, |bits, name| Ok::<_, Error>(bits | flag(name)?))?;
        let mut this = Profile { default, archs, flags, verdicts: vec![Verdict::default(); TABLE.len()] };
        for entry in &profile.syscalls {
            let value = action(&entry.action, entry.errno_ret)?;
            if value == NOTIFY {
                this.flags |= kernel::FLAG_NEW_LISTENER;
            }
            let comparisons = entry.args.iter().map(Comparison::parse).collect::<Result<Vec<_>>>()?;
            let rules = alternatives(value, comparisons);
            for name in &entry.names {
                if let Ok(row) = TABLE.binary_search_by(|(n, _)| (*n).cmp(name)) {
                    this.verdicts[row].add(value, default, &rules);
                }
            }
        }
        if default == NOTIFY {
            this.flags |= kernel::FLAG_NEW_LISTENER;
        }
        Ok(this)
    }

    /// The ranges of an architecture, ascending, the first at 0; for X86_64 those of x32 too.
    fn ranges(&self, arch: Arch) -> Vec<Range> {
        let mut ranges = Vec::with_capacity(128);
        self.append_ranges(&mut ranges, arch, 0);
        if arch == Arch::X86_64 {
            if self.archs.contains(&Arch::X32) {
                self.append_ranges(&mut ranges, Arch::X32, X32_BIT);
            } else {
                push(&mut ranges, X32_BIT, Outcome::Return(KILL_PROCESS));
                // -1 is what a tracer leaves in the place of a call that it skips.
                push(&mut ranges, u32::MAX, Outcome::Return(self.default));
            }
        }
        ranges
    }

    fn append_ranges(&self, ranges: &mut Vec<Range>, arch: Arch, base: u32) {
        let mut calls = Vec::with_capacity(TABLE.len());
        let mut highest = None;
        for (row, (verdict, (_, numbers))) in self.verdicts.iter().zip(&TABLE).enumerate() {
            let number = numbers[arch.column()];
            if number == NO || !verdict.named {
                continue;
            }
            highest = highest.max(Some(number));
            match (verdict.always, verdict.rules.is_empty()) {
                (Some(value), _) => calls.push((number, Outcome::Return(value))),
                (None, false) => calls.push((number, Outcome::Rules { row, arch })),
                (None, true) => {}
            }
        }
        calls.sort_unstable_by_key(|&(number, _)| number);
        let mut next = 0;
        for (number, outcome) in calls {
            if number > next {
                push(ranges, base + next, Outcome::Return(self.default));
            }
            push(ranges, base + number, outcome);
            next = number + 1;
        }
        push(ranges, base + next, Outcome::Return(self.default));
        if let Some(highest) = highest.filter(|_| self.default & 0xffff_0000 == ERRNO) {
            push(ranges, base + highest + 1, Outcome::Return(ERRNO | ENOSYS));
        }
    }
}

/// Adds a range unless it continues the one before; one that starts at the same number takes its place.
fn push(ranges: &mut Vec<Range>, start: u32, outcome: Outcome) {
    if ranges.last().is_some_and(|r| r.start == start) {
        ranges.pop();
    }
    if ranges.last().is_none_or(|r| r.outcome != outcome) {
        ranges.push(Range { start, outcome });
    }
}

impl Verdict {
    fn add(&mut self, value: u32, default: u32, rules: &[Rule]) {
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
fn alternatives(action: u32, comparisons: Vec<Comparison>) -> Vec<Rule> {
    let twice = comparisons.iter().enumerate().any(|(i, c)| comparisons[..i].iter().any(|d| d.index == c.index));
    match (comparisons.is_empty(), twice) {
        (true, _) => Vec::new(),
        (false, false) => vec![Rule { action, comparisons }],
        (false, true) => comparisons.into_iter().map(|c| Rule { action, comparisons: vec![c] }).collect(),
    }
}

const LD_ABS: u16 = 0x20;
const AND: u16 = 0x54;
const JA: u16 = 0x05;
const JEQ: u16 = 0x15;
const JGT: u16 = 0x25;
const JGE: u16 = 0x35;
const RET: u16 = 0x06;

/// Where a jump goes: an outcome, or an instruction counted from the end of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Return(u32),
    At(usize),
}

#[derive(Default)]
struct Emitter {
    /// The program from its last instruction to its first.
    reversed: Vec<SockFilter>,
    /// The latest `ret` of each value.
    returns: Vec<(u32, usize)>,
}

impl Emitter {
    fn push(&mut self, code: u16, k: u32) -> usize {
        self.reversed.push(SockFilter { code, jt: 0, jf: 0, k });
        self.reversed.len() - 1
    }

    /// An instruction for `target` that a jump can reach even when `slack` more instructions come in between.
    fn reach(&mut self, target: Target, slack: usize) -> usize {
        let near = |at: usize, len: usize| len - at + slack <= 255;
        let len = self.reversed.len();
        match target {
            Target::At(at) if near(at, len) => at,
            Target::At(at) => self.push(JA, (len - at - 1) as u32),
            Target::Return(value) => {
                if let Some(&(_, at)) = self.returns.iter().find(|&&(v, at)| v == value && near(at, len)) {
                    return at;
                }
                let at = self.push(RET, value);
                self.returns.retain(|&(v, _)| v != value);
                self.returns.push((value, at));
                at
            }
        }
    }

    /// A conditional jump; nothing at all when both ways lead to the same place.
    fn jump(&mut self, code: u16, k: u32, yes: Target, no: Target) -> Target {
        if yes == no {
            return yes;
        }
        // Reaching the second may add an instruction before the first is used.
        let yes = self.reach(yes, 1);
        let no = self.reach(no, 0);
        let at = self.push(code, k);
        let skipped = |to: usize| u8::try_from(at - to - 1).expect("reach keeps targets within 255");
        (self.reversed[at].jt, self.reversed[at].jf) = (skipped(yes), skipped(no));
        Target::At(at)
    }

    /// Loads the word at `offset` of `struct seccomp_data`, then goes on at `next`.
    fn load(&mut self, next: Target, offset: u32) -> Target {
        self.fall_into(next);
        Target::At(self.push(LD_ABS, offset))
    }

    /// Makes `next` the first instruction of the program so far.
    fn fall_into(&mut self, next: Target) {
        let at = match next {
            Target::At(at) => at,
            Target::Return(_) => self.reach(next, 0),
        };
        let len = self.reversed.len();
        if at + 1 != len {
            self.push(JA, (len - at - 1) as u32);
        }
    }

    fn tree(&mut self, profile: &Profile, ranges: &[Range]) -> Target {
        match ranges {
            [] => Target::Return(profile.default),
            [one] => match one.outcome {
                Outcome::Return(value) => Target::Return(value),
                Outcome::Rules { row, arch } => self.rules(profile, &profile.verdicts[row].rules, arch),
            },
            _ => {
                let (low, high) = ranges.split_at(ranges.len() / 2);
                let right = self.tree(profile, high);
                let left = self.tree(profile, low);
                self.jump(JGE, high[0].start, right, left)
            }
        }
    }

    /// The first rule that holds, else the default.
    fn rules(&mut self, profile: &Profile, rules: &[Rule], arch: Arch) -> Target {
        let mut no = Target::Return(profile.default);
        let mut rest = rules;
        while let Some((last, before)) = rest.split_last() {
            let yes = Target::Return(last.action);
            let run = equalities(rest);
            if run.len() > 1 {
                // Values of one argument: load it once and compare in turn.
                let (index, high) = (run[0].comparisons[0].index, (run[0].comparisons[0].value >> 32) as u32);
                let else_ = no;
                for rule in run.iter().rev() {
                    no = self.jump(JEQ, rule.comparisons[0].value as u32, yes, no);
                }
                no = self.load(no, low_word(index));
                if !arch.is_32_bit() {
                    no = self.jump(JEQ, high, no, else_);
                    no = self.load(no, low_word(index) + 4);
                }
                rest = &rest[..rest.len() - run.len()];
                continue;
            }
            no = last.comparisons.iter().rev().fold(yes, |yes, c| self.comparison(c, yes, no, arch));
            rest = before;
        }
        no
    }

    fn comparison(&mut self, c: &Comparison, yes: Target, no: Target, arch: Arch) -> Target {
        let (yes, no) = if c.negated { (no, yes) } else { (yes, no) };
        let (low, high) = (c.value as u32, (c.value >> 32) as u32);
        let (at_low, at_high) = (low_word(c.index), low_word(c.index) + 4);
        let wide = !arch.is_32_bit();
        match c.operator {
            Operator::Equal => {
                let next = self.word(at_low, u32::MAX, low, yes, no);
                if wide { self.word(at_high, u32::MAX, high, next, no) } else { next }
            }
            Operator::Masked(mask) => {
                let next = self.word(at_low, mask as u32, low, yes, no);
                if wide { self.word(at_high, (mask >> 32) as u32, high, next, no) } else { next }
            }
            Operator::Greater | Operator::GreaterOrEqual => {
                let code = if c.operator == Operator::Greater { JGT } else { JGE };
                let next = self.jump(code, low, yes, no);
                let next = if matches!(next, Target::At(_)) { self.load(next, at_low) } else { next };
                if !wide {
                    return next;
                }
                // Equal upper halves: the lower ones decide.
                let equal = self.jump(JEQ, high, next, no);
                let first = self.jump(JGT, high, yes, equal);
                if matches!(first, Target::At(_)) { self.load(first, at_high) } else { first }
            }
        }
    }

    /// Compares one masked word; a mask without bits compares nothing.
    fn word(&mut self, offset: u32, mask: u32, value: u32, yes: Target, no: Target) -> Target {
        if mask == 0 || yes == no {
            return yes;
        }
        let jump = self.jump(JEQ, value, yes, no);
        if mask != u32::MAX {
            self.fall_into(jump);
            let and = self.push(AND, mask);
            return self.load(Target::At(and), offset);
        }
        self.load(jump, offset)
    }
}

/// The longest run at the end of `rules` that compares one argument for equality with values of the same upper half
/// and ends alike.
fn equalities(rules: &[Rule]) -> &[Rule] {
    let key = |r: &Rule| match r.comparisons.as_slice() {
        [c] if c.operator == Operator::Equal && !c.negated => Some((r.action, c.index, c.value >> 32)),
        _ => None,
    };
    let Some(last) = rules.last().and_then(key) else { return &[] };
    let others = rules.iter().rev().take_while(|r| key(r) == Some(last)).count();
    &rules[rules.len() - others..]
}

/// Offset of the low 32 bits of an argument in `struct seccomp_data` (both machines are little endian).
fn low_word(index: u32) -> u32 {
    16 + 8 * index
}

#[cfg(test)]
#[path = "compile_tests.rs"]
pub(super) mod tests;
