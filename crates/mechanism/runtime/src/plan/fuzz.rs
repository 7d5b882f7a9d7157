//! Plans of configurations that nobody meant: whatever is accepted is whole, and nothing makes the planner panic.

use super::*;
use crate::cgroup::{self, Layout};
use crate::mutate::{LONG, Random, SHORT, change, rounds, spoil};
use crate::security::seccomp;
use serde_json::Value;
use std::time::Duration;
use tare_model::runtime_spec::{Linux, Process};

fn config() -> Value {
    serde_json::from_str(include_str!("fuzz_config.json")).unwrap()
}

/// A few changes, seldom many: a document that is wrong in ten places is refused for the first of them.
fn changed(random: &mut Random, honest: &Value) -> Value {
    let mut document = honest.clone();
    for _ in 0..=[0, 0, 1, 2, 9][random.below(5)] {
        change(random, &mut document);
    }
    document
}

fn absolute(path: &str) {
    assert!(path.starts_with('/') && !path.contains('\0'), "{path:?}");
}

/// What holds for the process of every plan.
fn check_process(p: &ProcessPlan) {
    assert!(!p.args.is_empty());
    absolute(&p.cwd);
    assert!(p.args.iter().chain(&p.env).all(|s| !s.contains('\0')));
    let sets = &p.identity.capabilities;
    assert_eq!(sets.effective & !sets.permitted, 0);
    assert_eq!(sets.ambient & !(sets.permitted & sets.inheritable), 0);
    assert_eq!(sets.inheritable & !(sets.bounding | sets.permitted), 0);
    assert!(p.rlimits.iter().all(|l| l.soft <= l.hard));
    let sets = [&p.scheduling.first_cpus, &p.scheduling.last_cpus];
    assert!(sets.into_iter().flatten().all(|s| s.0.len() <= 1024), "a list of numbers has grown without bounds");
    if let Some(profile) = &p.seccomp
        && let Ok(filter) = seccomp::compile(profile)
    {
        assert!(!filter.program.is_empty() && filter.program.len() <= tare_kernel::seccomp::MAX_LEN);
    }
}

/// What holds for every plan. Paths inside may have `..`: they are resolved beneath the root, where that leads nowhere
/// else; those that are looked up on the host are absolute.
fn check(plan: &LaunchPlan) {
    let text = serde_json::to_string(plan).unwrap();
    let again: LaunchPlan = serde_json::from_str(&text).unwrap();
    assert_eq!(&again, plan);
    check_process(&plan.process);
    let n = &plan.namespaces;
    for kind in &n.create {
        assert!(!n.join.iter().any(|(joined, _)| joined == kind), "{kind:?} is made and joined");
        assert_eq!(n.create.iter().filter(|k| *k == kind).count(), 1, "{kind:?} is made twice");
    }
    for (_, path) in &n.join {
        absolute(path.to_str().unwrap());
    }
    let at = |wanted: fn(&Step) -> bool| plan.steps.iter().position(wanted);
    let entered = at(|s| matches!(s, Step::EnterRoot(_))).expect("the root is entered");
    for (i, step) in plan.steps.iter().enumerate() {
        match step {
            Step::Mount(m) => {
                absolute(&m.target);
                if let Source::Bind(bind) = &m.source {
                    absolute(bind.path.to_str().unwrap());
                }
            }
            Step::MaskedPaths(paths) | Step::ReadonlyPaths(paths) => {
                assert!(i > entered, "{step:?} would change the host");
                paths.iter().for_each(|p| absolute(p));
            }
            Step::Sysctls(keys) => {
                assert!(i > entered);
                assert!(keys.keys().all(|k| !k.split(['.', '/']).any(|part| part.is_empty())), "{keys:?}");
            }
            Step::Hostname(_) | Step::Domainname(_) => assert!(n.has(NamespaceKind::Uts), "the host's name"),
            _ => {}
        }
    }
}

fn fuzz_config(seed: u64, time: Duration) {
    let honest = config();
    check(&plan(&serde_json::from_value(honest.clone()).unwrap()).unwrap());
    let layout = Layout::read().unwrap_or_default();
    let mut accepted = 0;
    let count = rounds(seed, time, |random| {
        let document = changed(random, &honest);
        if let Ok(spec) = serde_json::from_value::<Spec>(document.clone()) {
            let written = serde_json::to_value(&spec).unwrap();
            assert_eq!(serde_json::from_value::<Spec>(written).unwrap(), spec, "a document survives being written");
            if let Ok(plan) = plan(&spec) {
                check(&plan);
                accepted += 1;
            }
            if let Some(resources) = spec.linux.as_ref().and_then(|l| l.resources.as_ref())
                && let Ok(groups) = cgroup::plan(&layout, "/fuzz", resources)
            {
                let text = serde_json::to_string(&groups).unwrap();
                assert_eq!(serde_json::from_str::<cgroup::CgroupPlan>(&text).unwrap(), groups);
            }
        }
        let mut bytes = serde_json::to_vec(&document).unwrap();
        spoil(random, &mut bytes);
        if let Ok(spec) = serde_json::from_slice::<Spec>(&bytes)
            && let Ok(plan) = plan(&spec)
        {
            check(&plan);
        }
    });
    assert!(count > 100 && accepted > count / 50, "{accepted} of {count} were accepted: the changes are too coarse");
}

fn fuzz_process(seed: u64, time: Duration) {
    let linux: Linux = serde_json::from_value(config()["linux"].clone()).unwrap();
    let honest = config()["process"].clone();
    check_process(&plan_process_of(&serde_json::from_value(honest.clone()).unwrap(), &linux).unwrap());
    let mut accepted = 0;
    let count = rounds(seed, time, |random| {
        let document = changed(random, &honest);
        let mut bytes = serde_json::to_vec(&document).unwrap();
        if random.below(4) == 0 {
            spoil(random, &mut bytes);
        }
        let Ok(process) = serde_json::from_slice::<Process>(&bytes) else { return };
        let written = serde_json::to_value(&process).unwrap();
        assert_eq!(serde_json::from_value::<Process>(written).unwrap(), process);
        if let Ok(plan) = plan_process_of(&process, &linux) {
            check_process(&plan);
            let text = serde_json::to_string(&plan).unwrap();
            assert_eq!(serde_json::from_str::<ProcessPlan>(&text).unwrap(), plan);
            accepted += 1;
        }
    });
    assert!(count > 100 && accepted > count / 50, "{accepted} of {count} were accepted: the changes are too coarse");
}

#[test]
fn configurations_are_planned_or_refused() {
    fuzz_config(3, SHORT);
}

#[test]
fn processes_are_planned_or_refused() {
    fuzz_process(4, SHORT);
}

#[test]
#[ignore = "two minutes"]
fn long_configurations_are_planned_or_refused() {
    fuzz_config(5, LONG);
}

#[test]
#[ignore = "two minutes"]
fn long_processes_are_planned_or_refused() {
    fuzz_process(6, LONG);
}
