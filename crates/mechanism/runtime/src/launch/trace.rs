//! When each step was done, in parent and child: for a waterfall of a start.
//!
//! The points lie in memory that both processes share: recording one is a clock read and a few stores, without a system
//! call, a message or an allocation. A point names what has just been finished; the time since the same process's point
//! before it is what that took.

use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use tare_kernel::shared::SharedWords;
use tare_model::{Context, Result};

/// Words of one point: nanoseconds, process and length of the name, six of the name.
const POINT: usize = 8;
const NAME: usize = (POINT - 2) * 8;
/// Points that fit; what comes later is not recorded.
const POINTS: usize = 400;

/// Which process recorded a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// The one that clones.
    Parent,
    /// The clone.
    Child,
}

/// One recorded point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// Nanoseconds of CLOCK_MONOTONIC.
    pub at: u64,
    /// Who recorded it.
    pub actor: Actor,
    /// What was finished then; at most 48 bytes.
    pub name: String,
}

/// A recorder of points, or none: then recording costs one branch.
#[derive(Debug, Clone, Default)]
pub struct Trace(Option<Rc<SharedWords>>);

impl Trace {
    /// One that records nothing.
    pub fn off() -> Self {
        Trace(None)
    }

    /// One that records, with `start` as its first point.
    ///
    /// # Errors
    /// As mmap(2).
    pub fn on() -> Result<Self> {
        let words = SharedWords::new(1 + POINTS * POINT).during("map", "trace")?;
        let trace = Trace(Some(Rc::new(words)));
        trace.point("start");
        Ok(trace)
    }

    /// Whether it records.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// The caller, as parent, has just finished this.
    pub fn point(&self, name: &str) {
        self.record(Actor::Parent, &[name]);
    }

    /// The child has just finished this; the name is that of a kind and of its object.
    pub(super) fn child(&self, kind: &str, object: &str) {
        self.record(Actor::Child, &[kind, if object.is_empty() { "" } else { " " }, object]);
    }

    fn record(&self, actor: Actor, parts: &[&str]) {
        let Some(shared) = &self.0 else { return };
        let words = shared.words();
        let index = words[0].fetch_add(1, Ordering::Relaxed) as usize;
        let Some(point) = words[1..].chunks_exact(POINT).nth(index) else { return };
        let mut name = [0u8; NAME];
        let mut length = 0;
        for part in parts {
            let n = part.len().min(NAME - length);
            name[length..length + n].copy_from_slice(&part.as_bytes()[..n]);
            length += n;
        }
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        for (word, bytes) in point[2..].iter().zip(name.chunks_exact(8)) {
            word.store(u64::from_ne_bytes(bytes.try_into().unwrap_or_default()), Ordering::Relaxed);
        }
        point[1].store((u64::from(actor == Actor::Child) << 32) | length as u64, Ordering::Relaxed);
        point[0].store(now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64, Ordering::Release);
    }

    /// All points so far, in the order of their times.
    pub fn points(&self) -> Vec<Point> {
        let Some(shared) = &self.0 else { return Vec::new() };
        let words = shared.words();
        let count = (words[0].load(Ordering::Relaxed) as usize).min(POINTS);
        let mut out: Vec<Point> = words[1..].chunks_exact(POINT).take(count).filter_map(read).collect();
        out.sort_by_key(|p| p.at);
        out
    }
}

/// `None` for one that is being written just now.
fn read(point: &[AtomicU64]) -> Option<Point> {
    let at = point[0].load(Ordering::Acquire);
    let who = point[1].load(Ordering::Relaxed);
    let name: Vec<u8> = point[2..].iter().flat_map(|w| w.load(Ordering::Relaxed).to_ne_bytes()).collect();
    let name = String::from_utf8_lossy(&name[..(who as u32 as usize).min(NAME)]).into_owned();
    (at != 0).then_some(Point { at, actor: if who >> 32 == 1 { Actor::Child } else { Actor::Parent }, name })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_keep_their_order_and_names() {
        let trace = Trace::on().unwrap();
        trace.child("mount", "/proc");
        trace.point(&"x".repeat(100));
        let points = trace.points();
        assert_eq!(points.iter().map(|p| p.name.len()).collect::<Vec<_>>(), [5, 11, 48]);
        assert_eq!((points[1].actor, points[1].name.as_str()), (Actor::Child, "mount /proc"));
        assert!(points.windows(2).all(|w| w[0].at <= w[1].at));
        for _ in 0..POINTS {
            trace.point("more than fit");
        }
        assert_eq!(trace.points().len(), POINTS);
        assert!(Trace::off().points().is_empty());
    }
}
