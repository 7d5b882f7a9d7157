//! From an OCI seccomp document to classic BPF: seccomp(2), runtime-spec config-linux.md "Seccomp".
//!
//! Meaning (that of libseccomp, through which the other runtimes go):
//! - A rule with the default's action and value says nothing and is skipped.
//! - Of one call's rules, the first without arguments decides, wherever it stands; else the first whose comparisons all
//!   hold; else the default action.
//! - Two comparisons of one argument within one rule are alternatives (as runc reads them); otherwise all must hold.
//! - Names unknown on an architecture are skipped there. The native architecture always belongs to the filter; calls of
//!   one that does not kill the process.
//! - Where the default refuses, a number above the highest one that the profile names gives ENOSYS: the profile's author
//!   cannot have known that call, and libc falls back only on ENOSYS. Defaults that let calls pass, or ask a tracer, stay.
//! - An error number beside an action that has none is refused, as are names that are none of the specification's. NOTIFY
//!   needs a listener, and is refused where nobody could answer yet: as the default, and for sendmsg, by which the
//!   descriptor is handed over.
//! - 32-bit architectures compare the low 32 bits.
//!
//! Shape of the program: a jump by architecture, then for each a balanced tree over ranges of numbers with equal
//! outcome. A list of the same calls is twelve times as long, and the kernel pays for length when it loads.

use super::arch::{Arch, X32_BIT};
use super::index;
use super::meaning::{
    ALLOW, Comparison, ENOSYS, ERRNO, HAND_OVER, KILL_PROCESS, LOG, NOTIFY, Operator, Rule, TRACE, Verdict, action,
    alternatives, flag, invalid,
};
use super::program::{AND, Emitter, JEQ, JGE, JGT, Target};
use super::syscalls::TABLE;
use tare_kernel::seccomp::{self as kernel, SockFilter};
use tare_model::runtime_spec::LinuxSeccomp;
use tare_model::{Error, Result};

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
        if profile.listener_metadata.is_some() && profile.listener_path.is_none() {
            return Err(invalid("listenerMetadata is set, and listenerPath is not".into()));
        }
        let flags = profile.flags.iter().try_fold(0, |bits, name| Ok::<_, Error>(bits | flag(name)?))?;
        let mut this = Profile { default, archs, flags, verdicts: vec![Verdict::default(); TABLE.len()] };
        for entry in &profile.syscalls {
            if entry.names.is_empty() {
                return Err(invalid(format!("a rule with {} names no call", entry.action)));
            }
            let value = action(&entry.action, entry.errno_ret)?;
            if value == NOTIFY {
                this.flags |= kernel::FLAG_NEW_LISTENER;
            }
            let comparisons = entry.args.iter().map(Comparison::parse).collect::<Result<Vec<_>>>()?;
            let rules = alternatives(value, comparisons);
            for name in &entry.names {
                if let Some(row) = index::row(name) {
                    this.verdicts[row].add(value, default, &rules);
                }
            }
        }
        this.check_listener(profile)?;
        Ok(this)
    }

    /// Whether the descriptor of the notifications can get to whoever answers them.
    fn check_listener(&self, profile: &LinuxSeccomp) -> Result<()> {
        if self.default == NOTIFY {
            return Err(invalid(
                "SCMP_ACT_NOTIFY cannot be the default: the process would wait before anybody can answer".into(),
            ));
        }
        if self.flags & kernel::FLAG_NEW_LISTENER == 0 {
            return Ok(());
        }
        if profile.listener_path.as_deref().is_none_or(str::is_empty) {
            return Err(invalid("SCMP_ACT_NOTIFY needs listenerPath".into()).hint("set it to the socket of the agent"));
        }
        let row = index::row(HAND_OVER).expect("it is in the table");
        let verdict = &self.verdicts[row];
        let passes = |action: u32| matches!(action, ALLOW | LOG);
        let all_pass = verdict.rules.iter().all(|r| passes(r.action)) && passes(self.default);
        if !verdict.always.map_or(all_pass, passes) {
            return Err(invalid(format!("with SCMP_ACT_NOTIFY the profile must allow {HAND_OVER}"))
                .hint("the notify descriptor is handed over by it when the filter is in force already"));
        }
        Ok(())
    }

    /// Whether calls that the profile does not know give ENOSYS.
    fn hides_the_unknown(&self) -> bool {
        let kind = self.default & 0xffff_0000;
        !matches!(kind, ALLOW | LOG | TRACE) && self.default != ERRNO | ENOSYS
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
        let (mut next, mut highest) = (0, None);
        for row in index::rows(arch.column()) {
            let (verdict, number) = (&self.verdicts[row], TABLE[row].1[arch.column()]);
            if !verdict.named {
                continue;
            }
            highest = Some(number);
            let outcome = match (verdict.always, verdict.rules.is_empty()) {
                (Some(value), _) => Outcome::Return(value),
                (None, false) => Outcome::Rules { row, arch },
                (None, true) => continue,
            };
            if number > next {
                push(ranges, base + next, Outcome::Return(self.default));
            }
            push(ranges, base + number, outcome);
            next = number + 1;
        }
        push(ranges, base + next, Outcome::Return(self.default));
        if let Some(highest) = highest.filter(|_| self.hides_the_unknown()) {
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

/// The shapes that a profile's outcomes have.
impl Emitter {
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
