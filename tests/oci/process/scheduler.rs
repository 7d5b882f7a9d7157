//! `process.scheduler`.

use serde_json::{Value, json};
use tare_tests::oci::{Case, case, kernel, layout};
use tare_tests::{Running, command};

const OTHER: i64 = 0;
const FIFO: i64 = 1;
const RR: i64 = 2;
const BATCH: i64 = 3;
const IDLE: i64 = 5;
const DEADLINE: i64 = 6;

/// Policy, real-time priority and nice value of a container with this scheduler.
fn scheduled(c: &mut Case, scheduler: Value) -> (i32, i64, i64, i64) {
    let pid = c.set("/process/scheduler", scheduler).sleeper();
    (pid, kernel::stat(pid, 41), kernel::stat(pid, 40), kernel::stat(pid, 19))
}

/// Gives the container's group a share of real-time, where groups have one: without it no process may be scheduled so.
fn allow_realtime(c: &mut Case) {
    let share = layout().v1_of("cpu").is_some_and(|at| at.join("cpu.rt_runtime_us").exists());
    if share {
        // Shares are given from above to below, so the group lies at the top.
        let top = format!("/tare-{}", c.id());
        c.under_cgroupfs(&top);
        c.set("/linux/resources/cpu", json!({ "realtimePeriod": 1_000_000, "realtimeRuntime": 1000 }));
    }
}

/// What chrt(1) says of a process.
fn chrt(pid: i32) -> String {
    Running::start(command("chrt").args(["--pid", &pid.to_string()]), None).wait().stdout
}

#[test]
fn other_with_a_nice_value() {
    case(|c| {
        let (_, policy, _, nice) = scheduled(c, json!({ "policy": "SCHED_OTHER", "nice": 7 }));
        assert_eq!((policy, nice), (OTHER, 7));
    });
}

#[test]
fn other_with_a_negative_nice_value() {
    case(|c| {
        let (_, policy, _, nice) = scheduled(c, json!({ "policy": "SCHED_OTHER", "nice": -3 }));
        assert_eq!((policy, nice), (OTHER, -3));
    });
}

#[test]
fn batch() {
    case(|c| {
        let (_, policy, _, nice) = scheduled(c, json!({ "policy": "SCHED_BATCH", "nice": 5 }));
        assert_eq!((policy, nice), (BATCH, 5));
    });
}

#[test]
fn idle() {
    case(|c| {
        assert_eq!(scheduled(c, json!({ "policy": "SCHED_IDLE" })).1, IDLE);
    });
}

#[test]
fn fifo_with_a_priority() {
    case(|c| {
        allow_realtime(c);
        let (_, policy, priority, _) = scheduled(c, json!({ "policy": "SCHED_FIFO", "priority": 11 }));
        assert_eq!((policy, priority), (FIFO, 11));
    });
}

#[test]
fn round_robin_with_reset_on_fork() {
    case(|c| {
        allow_realtime(c);
        let scheduler = json!({ "policy": "SCHED_RR", "priority": 3, "flags": ["SCHED_FLAG_RESET_ON_FORK"] });
        let (pid, policy, priority, _) = scheduled(c, scheduler);
        assert_eq!((policy, priority), (RR, 3));
        assert!(chrt(pid).contains("SCHED_RESET_ON_FORK"), "{}", chrt(pid));
    });
}

#[test]
fn deadline_with_runtime_deadline_and_period() {
    case(|c| {
        let (runtime, deadline, period) = (1_000_000, 20_000_000, 50_000_000);
        // sleep does not fork; what is scheduled so may not, unless it is reset.
        let scheduler = json!({
            "policy": "SCHED_DEADLINE", "runtime": runtime, "deadline": deadline, "period": period,
            "flags": ["SCHED_FLAG_RESET_ON_FORK"],
        });
        let (pid, policy, _, _) = scheduled(c, scheduler);
        assert_eq!(policy, DEADLINE);
        let said = chrt(pid);
        assert!(said.contains(&format!("{runtime}/{deadline}/{period}")), "{said}");
    });
}

#[test]
fn an_unknown_policy_is_refused() {
    case(|c| {
        let said = c.set("/process/scheduler", json!({ "policy": "SCHED_NO_SUCH_THING" })).refused();
        assert!(said.contains("SCHED_NO_SUCH_THING"), "{said}");
    });
}

#[test]
fn an_unknown_flag_is_refused() {
    case(|c| {
        let scheduler = json!({ "policy": "SCHED_BATCH", "flags": ["SCHED_FLAG_NO_SUCH_THING"] });
        let said = c.set("/process/scheduler", scheduler).refused();
        assert!(said.contains("SCHED_FLAG_NO_SUCH_THING"), "{said}");
    });
}

#[test]
fn without_it_the_program_is_scheduled_as_the_runtime_is() {
    case(|c| {
        let pid = c.sleeper();
        let me = i32::try_from(std::process::id()).unwrap();
        assert_eq!((kernel::stat(pid, 41), kernel::stat(pid, 19)), (kernel::stat(me, 41), kernel::stat(me, 19)));
    });
}
