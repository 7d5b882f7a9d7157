//! `architectures`: programs of 32 bits, and the x32 bit of a number.

use super::program;
use serde_json::json;
use tare_tests::Running;
use tare_tests::oci::{Abi, Arg, Case, case, one_call, skip};

/// close(2), as i386 and x86_64 number it.
const CLOSE_32: u64 = 6;
const CLOSE_64: u64 = 3;
const EBADF: i32 = 9;
const EDOM: i32 = 33;
const SIGSYS: i32 = 31;
const ENOSYS: i32 = 38;

/// Runs a program of 32 bits under a filter for `close` of a high descriptor and these architectures.
fn under(c: &mut Case, architectures: &[&str], abi: Abi, number: u64) -> i32 {
    c.set(
        "/linux/seccomp",
        json!({
            "defaultAction": "SCMP_ACT_ALLOW", "architectures": architectures,
            "syscalls": [{ "names": ["close"], "action": "SCMP_ACT_ERRNO", "errnoRet": EDOM,
                           "args": [{ "index": 0, "value": 700, "op": "SCMP_CMP_EQ" }] }],
        }),
    );
    let call = program(c, "call", &one_call(abi, number, &[Arg::Number(700)]));
    if abi == Abi::I386 {
        let here = Running::start(&mut tare_tests::command(c.inside(&call)), None).wait();
        if here.code != EBADF {
            skip("the kernel runs no programs of 32 bits");
        }
    }
    c.args(&[&call]).run().code
}

#[test]
fn the_native_one_is_always_meant() {
    case(|c| assert_eq!(under(c, &[], Abi::Amd64, CLOSE_64), EDOM));
    case(|c| assert_eq!(under(c, &["SCMP_ARCH_X86_64"], Abi::Amd64, CLOSE_64), EDOM));
    case(|c| assert_eq!(under(c, &["SCMP_ARCH_X86"], Abi::Amd64, CLOSE_64), EDOM));
}

#[test]
fn rules_hold_for_those_that_are_named() {
    case(|c| {
        assert_eq!(under(c, &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"], Abi::I386, CLOSE_32), EDOM);
    });
}

#[test]
fn programs_of_others_are_killed() {
    case(|c| {
        assert_eq!(under(c, &["SCMP_ARCH_X86_64"], Abi::I386, CLOSE_32), 128 + SIGSYS);
    });
}

#[test]
fn the_x32_bit_is_no_way_around_the_filter() {
    case(|c| {
        let code = under(c, &["SCMP_ARCH_X86_64"], Abi::Amd64, CLOSE_64 | 0x4000_0000);
        assert!([EDOM, ENOSYS, 1, 128 + SIGSYS].contains(&code), "{code}");
    });
}

#[test]
fn one_of_another_machine_changes_nothing() {
    case(|c| assert_eq!(under(c, &["SCMP_ARCH_AARCH64", "SCMP_ARCH_X86_64"], Abi::Amd64, CLOSE_64), EDOM));
}
