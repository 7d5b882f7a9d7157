//! Comparisons of arguments, one by one and together.

use super::{filter, program};
use serde_json::{Value, json};
use tare_tests::oci::{Abi, Arg, case, one_call};

/// close(2) of a descriptor that is not open gives EBADF; a rule that matches makes it EDOM.
const CLOSE: u64 = 3;
const EBADF: i32 = 9;
const EDOM: i32 = 33;

/// Fails unless a rule with these comparisons matches calls with exactly those arguments that it shall.
#[track_caller]
fn matches(comparisons: &Value, calls: &[(&[u64], bool)]) {
    case(|c| {
        filter(c, json!([{ "names": ["close"], "action": "SCMP_ACT_ERRNO", "errnoRet": EDOM, "args": comparisons }]));
        let mut script = String::new();
        let mut expected = String::new();
        for (n, (arguments, is_match)) in calls.iter().enumerate() {
            let arguments: Vec<Arg<'_>> = arguments.iter().map(|a| Arg::Number(*a)).collect();
            let call = program(c, &format!("call{n}"), &one_call(Abi::Amd64, CLOSE, &arguments));
            script += &format!("{call}; echo $?; ");
            expected += &format!("{}\n", if *is_match { EDOM } else { EBADF });
        }
        // The shell closes descriptors as well; what it meets is its own matter.
        assert_eq!(c.sh(&script), expected.trim_end(), "{comparisons}");
    });
}

fn compare(op: &str, value: u64) -> Value {
    json!([{ "index": 0, "value": value, "op": op }])
}

#[test]
fn equal() {
    matches(&compare("SCMP_CMP_EQ", 700), &[(&[699], false), (&[700], true), (&[701], false)]);
}

#[test]
fn not_equal() {
    // Of the second argument: close(2) has only one, and what is in the other registers does not matter to it.
    let rule =
        json!([{ "index": 0, "value": 500, "op": "SCMP_CMP_GE" }, { "index": 1, "value": 5, "op": "SCMP_CMP_NE" }]);
    matches(&rule, &[(&[700, 5], false), (&[700, 6], true), (&[700, 0], true)]);
}

#[test]
fn less() {
    let rule =
        json!([{ "index": 0, "value": 500, "op": "SCMP_CMP_GE" }, { "index": 1, "value": 5, "op": "SCMP_CMP_LT" }]);
    matches(&rule, &[(&[700, 4], true), (&[700, 5], false), (&[700, 6], false)]);
}

#[test]
fn less_or_equal() {
    let rule =
        json!([{ "index": 0, "value": 500, "op": "SCMP_CMP_GE" }, { "index": 1, "value": 5, "op": "SCMP_CMP_LE" }]);
    matches(&rule, &[(&[700, 4], true), (&[700, 5], true), (&[700, 6], false)]);
}

#[test]
fn greater() {
    matches(&compare("SCMP_CMP_GT", 700), &[(&[699], false), (&[700], false), (&[701], true)]);
}

#[test]
fn greater_or_equal() {
    matches(&compare("SCMP_CMP_GE", 700), &[(&[699], false), (&[700], true), (&[701], true)]);
}

#[test]
fn equal_under_a_mask() {
    let rule = json!([{ "index": 0, "value": 0xff00, "valueTwo": 0x1200, "op": "SCMP_CMP_MASKED_EQ" }]);
    matches(&rule, &[(&[0x1200], true), (&[0x12ff], true), (&[0x1300], false), (&[0x0012], false)]);
}

#[test]
fn all_64_bits_are_compared() {
    let rule = json!([{ "index": 0, "value": 500, "op": "SCMP_CMP_GE" },
                      { "index": 1, "value": 0x1_0000_0005u64, "op": "SCMP_CMP_EQ" }]);
    matches(&rule, &[(&[700, 0x1_0000_0005], true), (&[700, 5], false), (&[700, 0x2_0000_0005], false)]);
}

#[test]
fn comparisons_have_no_sign() {
    let rule = json!([{ "index": 0, "value": 500, "op": "SCMP_CMP_GE" },
                      { "index": 1, "value": 0x8000_0000_0000_0000u64, "op": "SCMP_CMP_GT" }]);
    matches(&rule, &[(&[700, u64::MAX], true), (&[700, 1], false), (&[700, 0x8000_0000_0000_0000], false)]);
}

#[test]
fn an_order_is_decided_by_the_upper_half_first() {
    let rule = json!([{ "index": 0, "value": 500, "op": "SCMP_CMP_GE" },
                      { "index": 1, "value": 0x2_0000_0005u64, "op": "SCMP_CMP_LT" }]);
    matches(&rule, &[(&[700, 0x1_ffff_ffff], true), (&[700, 0x2_0000_0004], true), (&[700, 0x2_0000_0005], false)]);
}

#[test]
fn every_argument_can_be_compared() {
    for index in 1..6u64 {
        let rule = json!([{ "index": 0, "value": 500, "op": "SCMP_CMP_GE" }, { "index": index, "value": 77, "op": "SCMP_CMP_EQ" }]);
        let mut arguments = [700, 0, 0, 0, 0, 0];
        let without = arguments;
        arguments[usize::try_from(index).unwrap()] = 77;
        matches(&rule, &[(&arguments, true), (&without, false)]);
    }
}

#[test]
fn all_comparisons_of_a_rule_must_hold() {
    let rule = json!([{ "index": 0, "value": 700, "op": "SCMP_CMP_EQ" }, { "index": 1, "value": 5, "op": "SCMP_CMP_EQ" },
                      { "index": 2, "value": 9, "op": "SCMP_CMP_NE" }]);
    matches(&rule, &[(&[700, 5, 8], true), (&[700, 5, 9], false), (&[700, 4, 8], false), (&[701, 5, 8], false)]);
}

#[test]
fn one_of_several_rules_must_match() {
    case(|c| {
        let rule = |value: u64, errno: i32| {
            json!({ "names": ["close"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno,
                    "args": [{ "index": 0, "value": value, "op": "SCMP_CMP_EQ" }] })
        };
        filter(c, json!([rule(700, 21), rule(701, 22)]));
        let mut script = String::new();
        for n in [700u64, 701, 702] {
            let call = program(c, &format!("call{n}"), &one_call(Abi::Amd64, CLOSE, &[Arg::Number(n)]));
            script += &format!("{call}; echo $?; ");
        }
        assert_eq!(c.sh(&script), "21\n22\n9");
    });
}

#[test]
fn an_index_beyond_the_last_argument_is_refused() {
    case(|c| {
        let args = json!([{ "index": 6, "value": 0, "op": "SCMP_CMP_EQ" }]);
        filter(c, json!([{ "names": ["close"], "action": "SCMP_ACT_ERRNO", "args": args }]));
        c.refused();
    });
}
