//! Crashes: every operation that changes a root, killed before each of its system calls that changes something, and with a
//! disk that is full or broken at each of those that need it.
//!
//! A point is *before the n-th call of some name*, found by watching the operation once: a call that is new in the program is
//! a new point here. Each run draws some by a seed, which it prints; `TARE_CRASH_SEED` repeats them, and
//! `TARE_CRASH_POINT='Kill at fsync 2'` tries one alone. The long tests try all.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod calls;
mod cases;
mod concurrent;
mod operations;
mod points;
mod trace;
mod world;

use cases::{Subject, Tried};
use operations::OPERATIONS;
use points::{Point, draw, failures, kills, seed};
use std::time::Instant;
use world::Form;

/// How many points of each kind one run tries of each operation: with all operations and both forms 300 and more.
const KILLS: usize = 6;
const FAILURES: usize = 3;

/// Some points of an operation.
fn some(name: &str, form: Form) {
    try_points(name, form, KILLS, FAILURES);
}

/// All points of an operation.
fn all(name: &str, form: Form) {
    try_points(name, form, usize::MAX, usize::MAX);
}

#[expect(clippy::print_stderr, reason = "what the stage sums up")]
fn try_points(name: &str, form: Form, kill: usize, fail: usize) {
    let (began, seed) = (Instant::now(), seed());
    let operation = OPERATIONS.iter().find(|o| o.name == name).unwrap();
    let subject = Subject::new(operation, form);
    let (killed, failed) = (kills(&subject.seen, name == "run"), failures(&subject.seen));
    let total = killed.len() + failed.len();
    let own = seed ^ name.bytes().fold(form as u64, |sum, b| sum.wrapping_mul(31).wrapping_add(b.into()));
    let mut points: Vec<Point> = draw(killed, kill, own);
    points.extend(draw(failed, fail, own));
    if let Some(only) = tare_tests::variable("TARE_CRASH_POINT") {
        points = kills(&subject.seen, true)
            .into_iter()
            .chain(failures(&subject.seen))
            .filter(|p| p.to_string() == only)
            .collect();
    }
    let (mut hit, mut problems) = (0, Vec::new());
    for point in &points {
        match subject.disturb(*point) {
            Ok(tried) => hit += usize::from(tried == Tried::Hit),
            Err(problem) => problems.push(problem),
        }
    }
    let passed = points.len() - hit - problems.len();
    eprintln!(
        "CRASH: {name} {} points {total} tried {} passed-through {passed} failed {} seed {seed} seconds {:.0}",
        form.as_str(),
        points.len(),
        problems.len(),
        began.elapsed().as_secs_f32()
    );
    assert!(problems.is_empty(), "{} of {} points:\n\n{}", problems.len(), points.len(), problems.join("\n\n"));
}

macro_rules! operations {
    ($($module:ident $name:literal)*) => {
        $(mod $module {
            use crate::{Form, all, some};

            #[test]
            fn overlay() { some($name, Form::Overlay); }

            #[test]
            fn erofs() { some($name, Form::Erofs); }

            #[test]
            #[ignore = "all points: minutes"]
            fn long_overlay() { all($name, Form::Overlay); }

            #[test]
            #[ignore = "all points: minutes"]
            fn long_erofs() { all($name, Form::Erofs); }
        })*

        #[test]
        fn every_operation_is_tried() {
            let names: Vec<_> = OPERATIONS.iter().map(|o| o.name).collect();
            assert_eq!(names, [$($name),*]);
        }
    };
}

operations! {
    pull "pull"
    load "load"
    import "import"
    commit "commit"
    tag "tag"
    untag "untag"
    rmi "rmi"
    create "create"
    rename "rename"
    rm "rm"
    volume_create "volume-create"
    volume_rm "volume-rm"
    volume_prune "volume-prune"
    network_create "network-create"
    network_rm "network-rm"
    network_prune "network-prune"
    image_prune "image-prune"
    container_prune "container-prune"
    system_prune "system-prune"
    repair "repair"
    run "run"
}
