//! Where an operation is disturbed, and how; and which of all these points a run tries.

use crate::calls::{Space, named};
use crate::trace::Seen;
use std::fmt;
use tare_tests::{Dice, variable};

/// What happens at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Blow {
    /// The program and all that it started are killed.
    Kill,
    /// Only the process that makes the call is killed.
    KillOne,
    /// The call fails once: the disk is full.
    Full,
    /// This call and all later ones that take space fail: the disk stays full.
    StaysFull,
    /// The call fails once: the disk is broken.
    Broken,
}

impl Blow {
    /// What the call fails with.
    pub(crate) fn error(self) -> Option<rustix::io::Errno> {
        match self {
            Blow::Kill | Blow::KillOne => None,
            Blow::Full | Blow::StaysFull => Some(rustix::io::Errno::NOSPC),
            Blow::Broken => Some(rustix::io::Errno::IO),
        }
    }
}

/// One point of one operation: before the n-th call of that name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Point {
    pub(crate) call: &'static str,
    pub(crate) occurrence: u32,
    pub(crate) blow: Blow,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {} {}", self.blow, self.call, self.occurrence)
    }
}

/// All points at which this run can be killed.
pub(crate) fn kills(seen: &[Seen], several_processes: bool) -> Vec<Point> {
    let at = |blow| seen.iter().map(move |s| Point { call: s.call, occurrence: s.occurrence, blow });
    let mut points: Vec<Point> = at(Blow::Kill).collect();
    if several_processes {
        points.extend(at(Blow::KillOne));
    }
    points
}

/// All points at which the disk can fail in this run.
pub(crate) fn failures(seen: &[Seen]) -> Vec<Point> {
    let mut points = Vec::new();
    for Seen { call, occurrence, .. } in seen {
        let blows: &[Blow] = match named(call).space {
            Space::Takes => &[Blow::Full, Blow::StaysFull, Blow::Broken],
            Space::Other => &[Blow::Broken],
            Space::None => &[],
        };
        points.extend(blows.iter().map(|&blow| Point { call, occurrence: *occurrence, blow }));
    }
    points
}

/// The seed of this run: `TARE_CRASH_SEED`, or another one each day.
pub(crate) fn seed() -> u64 {
    let given = variable("TARE_CRASH_SEED").map(|s| s.parse().expect("TARE_CRASH_SEED is a number"));
    let today = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs() / 86_400);
    given.unwrap_or(today)
}

/// `count` of the points, or all of them: evenly from the start of the operation to its end, where exactly by the seed.
pub(crate) fn draw(mut points: Vec<Point>, count: usize, seed: u64) -> Vec<Point> {
    let mut dice = Dice(seed);
    let mut drawn = Vec::new();
    while drawn.len() < count && !points.is_empty() {
        let left = count - drawn.len();
        let stretch = points.len().div_ceil(left).max(1);
        let at = dice.below(stretch.min(points.len()));
        drawn.push(points[at]);
        points.drain(..stretch.min(points.len()));
    }
    drawn
}

#[test]
fn a_seed_draws_the_same_points_and_another_one_others() {
    let seen = |n| Seen { call: "write", occurrence: n, path: "/".into() };
    let all = kills(&(1..=1000).map(seen).collect::<Vec<_>>(), false);
    let drawn = draw(all.clone(), 30, 7);
    assert_eq!(drawn.len(), 30);
    assert!(drawn.is_sorted() && drawn.windows(2).all(|w| w[0] != w[1]));
    assert_eq!(drawn, draw(all.clone(), 30, 7));
    assert_ne!(drawn, draw(all.clone(), 30, 8));
    assert_eq!(draw(all.clone(), 5_000, 7), all);
}
