//! The compiled program against a direct reading of the document, in an interpreter of classic BPF.

use super::super::profile::default_profile;
use super::super::program::{JA, LD_ABS, RET};
use super::super::syscalls::NO;
use super::*;
use std::collections::BTreeMap;
use tare_kernel::capability::Set;
use tare_model::runtime_spec::{LinuxSeccompArg, LinuxSyscall};

/// What seccomp(2) gives to a filter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    pub(crate) number: u32,
    pub(crate) arch: u32,
    pub(crate) args: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.number,
            4 => self.arch,
            o if (16..64).contains(&o) && o % 4 == 0 => (self.args[(o as usize - 16) / 8] >> ((o % 8) * 8)) as u32,
            o => panic!("the filter reads at {o}"),
        }
    }
}

/// Runs a program as the kernel does; also counts the instructions.
pub(crate) fn run(program: &[SockFilter], call: &Call) -> (u32, usize) {
    let (mut a, mut pc, mut steps) = (0_u32, 0_usize, 0);
    loop {
        let i = program[pc];
        pc += 1;
        steps += 1;
        let mut branch = |yes: bool| pc += usize::from(if yes { i.jt } else { i.jf });
        match i.code {
            LD_ABS => a = call.word(i.k),
            AND => a &= i.k,
            JA => pc += i.k as usize,
            JEQ => branch(a == i.k),
            JGT => branch(a > i.k),
            JGE => branch(a >= i.k),
            RET => return (i.k, steps),
            code => panic!("instruction {code:#x}"),
        }
    }
}

/// Action and comparisons.
type ReadRule<'a> = (u32, &'a [LinuxSeccompArg]);

/// The meaning of a document, read straight from it (module text of `compile`): by number, without rows and ranges.
pub(crate) struct Reading<'a> {
    default: u32,
    listed: Vec<Arch>,
    /// By architecture's column and number: the rules that say something.
    rules: BTreeMap<(usize, u32), Vec<ReadRule<'a>>>,
    highest: [Option<u32>; 5],
}

impl<'a> Reading<'a> {
    pub(crate) fn new(profile: &'a LinuxSeccomp) -> Reading<'a> {
        let default = action(&profile.default_action, profile.default_errno_ret).unwrap();
        let listed = |a: &Arch| *a == Arch::NATIVE || profile.architectures.iter().any(|n| n == a.name());
        let listed =
            [Arch::X86_64, Arch::X86, Arch::X32, Arch::Aarch64, Arch::Arm].into_iter().filter(listed).collect();
        let (mut rules, mut highest) = (BTreeMap::<_, Vec<_>>::new(), [None; 5]);
        for s in &profile.syscalls {
            let value = action(&s.action, s.errno_ret).unwrap();
            for (_, numbers) in s.names.iter().filter_map(|n| TABLE.iter().find(|(t, _)| t == n)) {
                for (column, &number) in numbers.iter().enumerate().filter(|(_, n)| **n != NO) {
                    highest[column] = highest[column].max(Some(number));
                    if value != default {
                        rules.entry((column, number)).or_default().push((value, s.args.as_slice()));
                    }
                }
            }
        }
        Reading { default, listed, rules, highest }
    }

    pub(crate) fn of(&self, call: &Call) -> u32 {
        let x32 = call.arch == Arch::X86_64.audit() && call.number >= X32_BIT;
        let Some(&arch) = self.listed.iter().find(|a| a.audit() == call.arch && x32 == (**a == Arch::X32)) else {
            return if x32 && call.number == u32::MAX { self.default } else { KILL_PROCESS };
        };
        let number = if x32 { call.number - X32_BIT } else { call.number };
        let rules = self.rules.get(&(arch.column(), number)).map(Vec::as_slice).unwrap_or_default();
        if let Some((value, _)) = rules.iter().find(|(_, args)| args.is_empty()) {
            return *value;
        }
        let holds = |arg: &LinuxSeccompArg| {
            let cut = |v: u64| if arch.is_32_bit() { v & 0xffff_ffff } else { v };
            let (x, v) = (cut(call.args[arg.index as usize]), cut(arg.value));
            match arg.op.as_str() {
                "SCMP_CMP_EQ" => x == v,
                "SCMP_CMP_NE" => x != v,
                "SCMP_CMP_LT" => x < v,
                "SCMP_CMP_LE" => x <= v,
                "SCMP_CMP_GT" => x > v,
                "SCMP_CMP_GE" => x >= v,
                _ => x & v == cut(arg.value_two) & v,
            }
        };
        for (value, args) in rules {
            let twice = (0..6).any(|i| args.iter().filter(|x| x.index == i).count() > 1);
            if if twice { args.iter().any(holds) } else { args.iter().all(holds) } {
                return *value;
            }
        }
        match self.highest[arch.column()] {
            // All but TRACE, LOG and ALLOW, which are the largest.
            Some(h) if (self.default as i32) < 0x7ff0_0000 && number > h => ERRNO | ENOSYS,
            _ => self.default,
        }
    }
}

/// xorshift64: the cases are the same at each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// Mostly near a few places, so that comparisons meet their boundaries.
    fn value(&mut self) -> u64 {
        let base =
            *self.pick(&[0, 1, 12, 0x8000_0000, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_000c, u64::MAX, u64::MAX - 4]);
        match self.below(4) {
            0 => self.next(),
            _ => base.wrapping_add(self.below(5) as u64).wrapping_sub(2),
        }
    }
}

const ACTIONS: &[&str] = &[
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_LOG",
    "SCMP_ACT_ALLOW",
];
const OPERATORS: &[&str] =
    &["SCMP_CMP_EQ", "SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_GT", "SCMP_CMP_GE", "SCMP_CMP_MASKED_EQ"];

fn random_profile(r: &mut Random) -> LinuxSeccomp {
    let name = |r: &mut Random| match r.below(20) {
        0 => "no_such_call".into(),
        // The one call that must pass where there is NOTIFY.
        _ => r.pick(&TABLE).0.replace(HAND_OVER, "sendto"),
    };
    let shared: Vec<String> = (0..3).map(|_| name(r)).collect();
    let errno = |r: &mut Random, action: &str| match action {
        "SCMP_ACT_ERRNO" | "SCMP_ACT_TRACE" => [None, Some(1), Some(38), Some(65535)][r.below(4)],
        _ => None,
    };
    let rule = |r: &mut Random, action: &str| LinuxSyscall {
        names: (0..1 + r.below(12)).map(|_| if r.below(4) == 0 { r.pick(&shared).clone() } else { name(r) }).collect(),
        action: action.into(),
        errno_ret: errno(r, action),
        args: (0..r.below(4))
            .map(|_| LinuxSeccompArg {
                index: r.below(6) as u32,
                value: r.value(),
                value_two: r.value(),
                op: (*r.pick(OPERATORS)).into(),
            })
            .collect(),
    };
    let mut syscalls: Vec<_> = (0..r.below(30))
        .map(|_| {
            let action = *r.pick(ACTIONS);
            rule(r, action)
        })
        .collect();
    syscalls.push(LinuxSyscall {
        names: vec![HAND_OVER.into()],
        action: "SCMP_ACT_ALLOW".into(),
        ..Default::default()
    });
    let default_action = *r.pick(ACTIONS);
    let default_action = if default_action == "SCMP_ACT_NOTIFY" { "SCMP_ACT_TRAP" } else { default_action };
    let all =
        ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_S390X"];
    LinuxSeccomp {
        default_action: default_action.into(),
        default_errno_ret: errno(r, default_action),
        listener_path: Some("/run/agent".into()),
        architectures: all.iter().filter(|_| r.below(2) == 0).map(|&a| a.to_owned()).collect(),
        syscalls,
        ..LinuxSeccomp::default()
    }
}

fn agrees(reading: &Reading<'_>, profile: &LinuxSeccomp, program: &[SockFilter], call: Call) {
    let (got, _) = run(program, &call);
    let want = reading.of(&call);
    assert_eq!(
        got,
        want,
        "{got:#x} instead of {want:#x} for {call:x?} in\n{}",
        serde_json::to_string(profile).unwrap()
    );
}

const ARCHS: &[u32] = &[0xc000_003e, 0x4000_0003, 0xc000_00b7, 0x4000_0028, 0x8000_0016, 0];

#[test]
fn the_tree_means_what_the_document_says() {
    let mut r = Random(0x5eed_5eed_5eed_5eed);
    for _ in 0..100 {
        let profile = random_profile(&mut r);
        let program = compile(&profile).unwrap().program;
        let reading = Reading::new(&profile);
        let values: Vec<u64> =
            profile.syscalls.iter().flat_map(|s| &s.args).flat_map(|a| [a.value, a.value_two]).collect();
        for _ in 0..1000 {
            let named = profile.syscalls.get(r.below(profile.syscalls.len().max(1))).map(|s| r.pick(&s.names).clone());
            let row = named.and_then(|n| TABLE.iter().find(|t| t.0 == n)).unwrap_or_else(|| r.pick(&TABLE));
            let number = match r.below(6) {
                0 => r.next() as u32,
                1 => r.below(600) as u32,
                n => row.1[n % 5].wrapping_add(r.below(3) as u32).wrapping_sub(1),
            };
            let number = if r.below(4) == 0 { number | X32_BIT } else { number };
            let args = std::array::from_fn(|_| match values.len() {
                n if n > 0 && r.below(3) > 0 => r.pick(&values).wrapping_add(r.below(3) as u64).wrapping_sub(1),
                _ => r.value(),
            });
            agrees(&reading, &profile, &program, Call { number, arch: *r.pick(ARCHS), args });
        }
    }
}

#[test]
fn every_number_of_the_default_profile_is_right() {
    for capabilities in [Set::EMPTY, super::super::super::capability::DEFAULT, Set(u64::MAX >> 23)] {
        let profile = default_profile(capabilities);
        let program = compile(&profile).unwrap().program;
        let reading = Reading::new(&profile);
        let mut deepest = 0;
        for &arch in ARCHS {
            for number in (0..600).chain([0x3fff_ffff, X32_BIT - 1, u32::MAX]).chain(X32_BIT..X32_BIT + 600) {
                for first in [0, 2, 40, 0x2000_0000, 0x1_0000_0002] {
                    let call = Call { number, arch, args: [first, 0, 0, 0, 0, 0] };
                    agrees(&reading, &profile, &program, call);
                    deepest = deepest.max(run(&program, &call).1);
                }
            }
        }
        assert!(deepest <= 32, "{deepest} instructions for one call");
    }
}

#[test]
fn every_number_of_any_profile_is_right() {
    let mut r = Random(0xdead_beef_0bad_cafe);
    for _ in 0..12 {
        let profile = random_profile(&mut r);
        let program = compile(&profile).unwrap().program;
        let reading = Reading::new(&profile);
        let values: Vec<u64> = profile.syscalls.iter().flat_map(|s| &s.args).map(|a| a.value).collect();
        let edges = [0xf_0000, 0xf_0005, 0x3fff_ffff, X32_BIT - 1, 0x7fff_ffff, 0x8000_0000, u32::MAX - 1, u32::MAX];
        for &arch in ARCHS {
            for number in (0..600).chain(edges).chain(X32_BIT..X32_BIT + 600) {
                agrees(&reading, &profile, &program, Call { number, arch, args: [0; 6] });
                for _ in 0..3 {
                    let args = std::array::from_fn(|_| match values.len() {
                        0 => r.value(),
                        _ => r.pick(&values).wrapping_add(r.below(3) as u64).wrapping_sub(1),
                    });
                    agrees(&reading, &profile, &program, Call { number, arch, args });
                }
            }
        }
    }
}

/// lseek(2) takes any 64-bit offset in its second argument, and any number as its third.
#[test]
fn the_kernel_reads_the_program_as_the_interpreter_does() {
    let file = rustix::fs::open("/dev/zero", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
    let lseek = TABLE.iter().find(|t| t.0 == "lseek").unwrap().1[Arch::NATIVE.column()];
    let pivot = 0x1_0000_0010_u64;
    let offsets = [0, 0x0f, 0x10, 0x11, 0xffff_ffff, pivot - 1, pivot, pivot + 1, 0x2_0000_0010, i64::MAX as u64];
    for op in OPERATORS {
        let arg = |value| LinuxSeccompArg { index: 1, value, value_two: pivot & 0xff, op: (*op).into() };
        let set = LinuxSeccompArg { index: 2, value: 0, value_two: 0, op: "SCMP_CMP_EQ".into() };
        for args in [vec![arg(pivot)], vec![arg(pivot), set], vec![arg(pivot), arg(0x11)]] {
            let rule = LinuxSyscall {
                names: vec!["lseek".into()],
                action: "SCMP_ACT_ERRNO".into(),
                errno_ret: Some(77),
                args,
            };
            let profile = LinuxSeccomp {
                default_action: "SCMP_ACT_ALLOW".into(),
                syscalls: vec![rule],
                ..LinuxSeccomp::default()
            };
            let filter = compile(&profile).unwrap();
            let file = file.try_clone().unwrap();
            std::thread::spawn(move || {
                rustix::thread::set_no_new_privs(true).unwrap();
                kernel::load(&filter.program, filter.flags).unwrap();
                for offset in offsets {
                    let args = [std::os::fd::AsRawFd::as_raw_fd(&file) as u64, offset, 0, 0, 0, 0];
                    let want = run(&filter.program, &Call { number: lseek, arch: Arch::NATIVE.audit(), args }).0;
                    let got = rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(offset)).map(drop);
                    let refused = got.map_err(|e| e.raw_os_error()) == Err(77);
                    assert_eq!(refused, want == ERRNO | 77, "{op} {offset:#x}");
                }
            })
            .join()
            .unwrap();
        }
    }
}

#[test]
fn it_is_a_tree_and_not_a_list() {
    let program = compile(&default_profile(super::super::super::capability::DEFAULT)).unwrap().program;
    assert!(program.len() < 400, "{} instructions", program.len());
    let one = |number| Call { number, arch: Arch::NATIVE.audit(), args: [0; 6] };
    assert!(run(&program, &one(0)).1 <= 11, "read(2) costs {} instructions", run(&program, &one(0)).1);
}

#[test]
fn compiling_is_fast() {
    let profile = default_profile(super::super::super::capability::DEFAULT);
    let best = (0..20)
        .map(|_| {
            let start = std::time::Instant::now();
            std::hint::black_box(compile(std::hint::black_box(&profile)).unwrap());
            start.elapsed()
        })
        .min()
        .unwrap();
    // 0.025 ms in the optimised build; the bound leaves room for unoptimised and emulated ones.
    let bound = 100_000;
    assert!(best.as_micros() < bound, "{best:?}");
}

#[test]
fn the_kernel_takes_it_and_applies_it() {
    let filter = compile(&default_profile(super::super::super::capability::DEFAULT)).unwrap();
    std::thread::spawn(move || {
        rustix::thread::set_no_new_privs(true).unwrap();
        assert!(kernel::load(&filter.program, filter.flags).unwrap().is_none());
        assert_eq!(rustix::system::sethostname(b"x").unwrap_err(), rustix::io::Errno::PERM);
        assert!(rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None).is_ok());
        let vsock = rustix::net::socket(rustix::net::AddressFamily::from_raw(40), rustix::net::SocketType::DGRAM, None);
        assert_eq!(vsock.unwrap_err(), rustix::io::Errno::PERM);
    })
    .join()
    .unwrap();
}

#[test]
fn what_is_not_in_the_specification_is_refused() {
    let base = default_profile(Set::EMPTY);
    let bad = |change: fn(&mut LinuxSeccomp)| {
        let mut p = base.clone();
        change(&mut p);
        compile(&p).unwrap_err().to_string()
    };
    assert!(bad(|p| p.default_action = "SCMP_ACT_NOPE".into()).contains("SCMP_ACT_NOPE"));
    assert!(bad(|p| p.flags = vec!["X".into()]).contains("unknown flag"));
    assert!(bad(|p| p.architectures.push("SCMP_ARCH_PDP11".into())).contains("PDP11"));
    assert!(bad(|p| p.default_errno_ret = Some(70000)).contains("70000"));
    assert!(bad(|p| p.syscalls[0].errno_ret = Some(1)).contains("has no error number"));
    assert!(bad(|p| p.default_action = "SCMP_ACT_KILL".into()).contains("has no error number"));
    assert!(bad(|p| p.syscalls[0].names.clear()).contains("names no call"));
    assert!(bad(|p| p.listener_metadata = Some("x".into())).contains("listenerMetadata"));
    let with = |index, op: &str| LinuxSeccomp {
        syscalls: vec![LinuxSyscall {
            names: vec!["read".into()],
            args: vec![LinuxSeccompArg { index, op: op.into(), ..LinuxSeccompArg::default() }],
            action: "SCMP_ACT_ALLOW".into(),
            ..LinuxSyscall::default()
        }],
        ..base.clone()
    };
    assert!(compile(&with(6, "SCMP_CMP_EQ")).unwrap_err().to_string().contains("argument 6"));
    assert!(compile(&with(0, "SCMP_CMP_XX")).unwrap_err().to_string().contains("SCMP_CMP_XX"));
}

#[test]
fn flags_and_listener() {
    let mut p = default_profile(Set::EMPTY);
    p.flags = vec!["SECCOMP_FILTER_FLAG_LOG".into(), "SECCOMP_FILTER_FLAG_SPEC_ALLOW".into()];
    assert_eq!(compile(&p).unwrap().flags, 6);
    p.flags = vec!["SECCOMP_FILTER_FLAG_TSYNC".into(), "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV".into()];
    assert_eq!(compile(&p).unwrap().flags, 33);
    p.syscalls.push(LinuxSyscall {
        names: vec!["mount".into()],
        action: "SCMP_ACT_NOTIFY".into(),
        ..Default::default()
    });
    assert!(compile(&p).unwrap_err().to_string().contains("needs listenerPath"));
    p.listener_path = Some("/run/agent".into());
    assert_eq!(compile(&p).unwrap().flags, 33 | kernel::FLAG_NEW_LISTENER);
    assert_eq!(super::super::agent(&p), Some(("/run/agent", None)));
    p.syscalls.pop();
    assert_eq!(super::super::agent(&p), None, "without a question the path is ignored");
}

#[test]
fn notify_is_refused_where_nobody_could_answer_yet() {
    let with = |default: &str, names: &[&str], action: &str| {
        let rule = LinuxSyscall {
            names: names.iter().map(|&n| n.to_owned()).collect(),
            action: action.into(),
            ..LinuxSyscall::default()
        };
        let notify =
            LinuxSyscall { names: vec!["mkdir".into()], action: "SCMP_ACT_NOTIFY".into(), ..Default::default() };
        compile(&LinuxSeccomp {
            default_action: default.into(),
            listener_path: Some("/run/agent".into()),
            syscalls: vec![rule, notify],
            ..LinuxSeccomp::default()
        })
        .map(|f| f.flags)
        .map_err(|e| e.to_string())
    };
    assert_eq!(with("SCMP_ACT_ALLOW", &["getpid"], "SCMP_ACT_NOTIFY"), Ok(8));
    assert_eq!(with("SCMP_ACT_ERRNO", &["sendmsg"], "SCMP_ACT_LOG"), Ok(8));
    assert!(with("SCMP_ACT_NOTIFY", &["getpid"], "SCMP_ACT_ALLOW").unwrap_err().contains("cannot be the default"));
    assert!(with("SCMP_ACT_ALLOW", &["sendmsg"], "SCMP_ACT_NOTIFY").unwrap_err().contains("must allow sendmsg"));
    assert!(with("SCMP_ACT_ERRNO", &["getpid"], "SCMP_ACT_ALLOW").unwrap_err().contains("must allow sendmsg"));
}

#[test]
fn calls_newer_than_the_profile_do_not_exist() {
    let at = |default: &str, errno: Option<u32>| {
        let rule =
            LinuxSyscall { names: vec!["openat2".into()], action: "SCMP_ACT_ALLOW".into(), ..Default::default() };
        let profile = LinuxSeccomp {
            default_action: default.into(),
            default_errno_ret: errno,
            syscalls: vec![rule],
            ..LinuxSeccomp::default()
        };
        let program = compile(&profile).unwrap().program;
        [436, 437, 438].map(|number| run(&program, &Call { number, arch: Arch::NATIVE.audit(), args: [0; 6] }).0)
    };
    assert_eq!(at("SCMP_ACT_ERRNO", Some(13)), [ERRNO | 13, ALLOW, ERRNO | ENOSYS]);
    assert_eq!(at("SCMP_ACT_KILL_PROCESS", None), [KILL_PROCESS, ALLOW, ERRNO | ENOSYS]);
    assert_eq!(at("SCMP_ACT_TRAP", None), [0x3_0000, ALLOW, ERRNO | ENOSYS]);
    assert_eq!(at("SCMP_ACT_LOG", None), [LOG, ALLOW, LOG]);
    assert_eq!(at("SCMP_ACT_TRACE", None), [TRACE | 1, ALLOW, TRACE | 1]);
}

#[test]
fn a_huge_profile_is_refused_not_truncated() {
    let rule = |v: u64| LinuxSyscall {
        names: vec!["socket".into()],
        action: "SCMP_ACT_ALLOW".into(),
        errno_ret: None,
        args: vec![LinuxSeccompArg { index: (v % 6) as u32, value: v << 20, value_two: 0, op: "SCMP_CMP_GT".into() }],
    };
    let mut p = default_profile(Set::EMPTY);
    p.syscalls.extend((0..2000).map(rule));
    assert!(compile(&p).unwrap_err().to_string().contains("4096"));
}
