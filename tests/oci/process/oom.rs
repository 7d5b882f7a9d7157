//! `process.oomScoreAdj`.

use tare_tests::oci::{case, kernel};

#[test]
fn it_is_written() {
    case(|c| {
        let pid = c.set("/process/oomScoreAdj", 321).sleeper();
        assert_eq!(kernel::proc(pid, "oom_score_adj"), "321");
    });
}

#[test]
fn it_is_the_runtimes_own_unless_asked_for() {
    case(|c| {
        let own = kernel::proc(i32::try_from(std::process::id()).unwrap(), "oom_score_adj");
        let pid = c.sleeper();
        assert_eq!(kernel::proc(pid, "oom_score_adj"), own);
    });
}

#[test]
fn it_is_set_before_the_program_runs() {
    case(|c| {
        let out = c.set("/process/oomScoreAdj", 77).sh("cat /proc/self/oom_score_adj");
        assert_eq!(out, "77");
    });
}

#[test]
fn one_that_may_not_be_lowered_stays_and_is_told() {
    case(|c| {
        let me = i32::try_from(std::process::id()).unwrap();
        let may = kernel::capabilities(me, "CapEff") & 1 << 24 != 0;
        let lowest: i32 = kernel::proc(me, "oom_score_adj").parse().unwrap();
        let pid = c.set("/process/oomScoreAdj", lowest - 100).sleeper();
        let expected = if may { lowest - 100 } else { lowest };
        assert_eq!(kernel::proc(pid, "oom_score_adj"), expected.to_string());
        assert!(may || c.output().1.contains("oom"), "it is said: {}", c.output().1);
    });
}

#[test]
fn a_value_out_of_range_is_refused() {
    case(|c| {
        let said = c.set("/process/oomScoreAdj", 1001).refused();
        assert!(said.to_lowercase().contains("oom"), "{said}");
    });
}
