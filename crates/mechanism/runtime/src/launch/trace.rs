//! When each step was done, in whoever takes part in a start: for a waterfall of it.
//!
//! The points lie in memory that a process and its clones share: recording one is a clock read and a few stores, without a
//! system call, a message or an allocation. A point names what has just been finished; the time since the same process's
//! point before it is what that took.

mod mark;
mod waterfall;

pub use mark::Mark;
pub use waterfall::{Form, Span, Waterfall};

use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::fs::{FileType, MemfdFlags};
use rustix::time::{ClockId, clock_gettime};
use std::ffi::OsString;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use tare_kernel::shared::SharedWords;
use tare_model::{Context, Result};

/// Words of one point: nanoseconds; mark, actor and length of the object in bytes; six of the object.
const POINT: usize = 8;
const OBJECT: usize = (POINT - 2) * 8;
/// Points that fit; what comes later is not recorded.
const POINTS: usize = 400;
/// Bytes of a point that is handed over: nanoseconds, mark.
const HANDED: usize = 9;
/// Name of the file by which points are handed over.
const FILE: &str = "tare-trace";

/// Which process recorded a point; in the order in which one waits for the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// The process that was called.
    Parent,
    /// The engine's clone, which launches and will supervise.
    Launcher,
    /// One that joins namespaces and makes the child.
    Intermediate,
    /// The one that becomes the program.
    Child,
}

impl Actor {
    const ALL: [Actor; 4] = [Actor::Parent, Actor::Launcher, Actor::Intermediate, Actor::Child];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Actor::Parent => "parent",
            Actor::Launcher => "launcher",
            Actor::Intermediate => "intermediate",
            Actor::Child => "child",
        }
    }
}

/// One recorded point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// Nanoseconds of CLOCK_REALTIME.
    pub at: u64,
    /// Who recorded it.
    pub actor: Actor,
    /// What was finished then.
    pub mark: Mark,
    /// To what it was done; at most 48 bytes, empty where there is no choice.
    pub object: String,
}

/// A recorder of points, or none: then recording costs one branch.
#[derive(Debug, Clone, Default)]
pub struct Trace(Option<Recorder>);

#[derive(Debug, Clone)]
struct Recorder {
    shared: Rc<SharedWords>,
    actor: Actor,
}

impl Trace {
    /// One that records nothing.
    pub fn off() -> Self {
        Trace(None)
    }

    /// One that records, for the process that was called, with now as its first point.
    ///
    /// # Errors
    /// As mmap(2).
    pub fn on() -> Result<Self> {
        let at = now();
        let shared = SharedWords::new(1 + POINTS * POINT).during("map", "trace")?;
        let recorder = Recorder { shared: Rc::new(shared), actor: Actor::Parent };
        recorder.record(at, Mark::Start, "");
        Ok(Trace(Some(recorder)))
    }

    /// One that records if the words of a command line ask for it: the first thing that a program does, before it has
    /// looked at them more closely.
    pub fn asked_for(words: &[OsString]) -> Self {
        let asks = |word: &OsString| word.as_encoded_bytes().starts_with(b"--trace-setup");
        // Without memory for it the start itself will say so.
        if words.iter().any(asks) { Trace::on().unwrap_or_default() } else { Trace::off() }
    }

    /// Whether it records.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// The same, for points of another process.
    #[must_use]
    pub fn by(&self, actor: Actor) -> Self {
        Trace(self.0.as_ref().map(|r| Recorder { shared: Rc::clone(&r.shared), actor }))
    }

    /// The caller has just finished this.
    pub fn point(&self, mark: Mark) {
        self.point_of(mark, "");
    }

    /// The caller has just finished this with an object.
    pub fn point_of(&self, mark: Mark, object: &str) {
        if let Some(recorder) = &self.0 {
            recorder.record(now(), mark, object);
        }
    }

    /// All points so far, in the order of their times.
    pub fn points(&self) -> Vec<Point> {
        let Some(Recorder { shared, .. }) = &self.0 else { return Vec::new() };
        let words = shared.words();
        let count = (words[0].load(Ordering::Relaxed) as usize).min(POINTS);
        let mut out: Vec<Point> = words[1..].chunks_exact(POINT).take(count).filter_map(read).collect();
        out.sort_by_key(|p| p.at);
        out
    }

    /// All points so far as a waterfall.
    pub fn waterfall(&self) -> Waterfall {
        Waterfall::of(&self.points())
    }

    /// A file with the points so far, for the program that this process executes next. `None` if nothing is recorded.
    pub(super) fn hand_over(&self) -> rustix::io::Result<Option<OwnedFd>> {
        if !self.is_on() {
            return Ok(None);
        }
        let file = rustix::fs::memfd_create(FILE, MemfdFlags::CLOEXEC)?;
        let bytes: Vec<u8> =
            self.points().iter().flat_map(|p| p.at.to_ne_bytes().into_iter().chain([p.mark as u8])).collect();
        rustix::io::pwrite(&file, &bytes, 0)?;
        Ok(Some(file))
    }

    /// Puts the points of [`Trace::hand_over`] before this program's own.
    pub(super) fn take_over(&self, file: BorrowedFd<'_>) {
        let Some(recorder) = &self.0 else { return };
        let mut bytes = [0; HANDED * 8];
        let Ok(n) = rustix::io::pread(file, &mut bytes, 0) else { return };
        // What began this program was not the beginning.
        recorder.shared.words()[2].store(packed(Mark::Reexecuted, recorder.actor, 0), Ordering::Relaxed);
        for point in bytes[..n].chunks_exact(HANDED) {
            let at = u64::from_ne_bytes(point[..8].try_into().unwrap_or_default());
            if let Some(mark) = Mark::ALL.get(usize::from(point[8])) {
                recorder.record(at, *mark, "");
            }
        }
    }
}

/// Whether a descriptor's number is that of a file of points, and not of anything else that a caller left open.
pub(super) fn is_handed_over(number: i32) -> bool {
    let link = format!("/proc/self/fd/{number}");
    let named = rustix::fs::readlink(&link, Vec::new()).is_ok_and(|t| t.to_bytes().starts_with(b"/memfd:tare-trace"));
    named && rustix::fs::stat(&link).is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::RegularFile)
}

/// Nanoseconds of the one clock that a time namespace does not shift: the child may be in one of its own.
fn now() -> u64 {
    let now = clock_gettime(ClockId::Realtime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn packed(mark: Mark, actor: Actor, length: usize) -> u64 {
    u64::from(mark as u8) << 16 | u64::from(actor as u8) << 8 | length as u64
}

impl Recorder {
    fn record(&self, at: u64, mark: Mark, object: &str) {
        let words = self.shared.words();
        let index = words[0].fetch_add(1, Ordering::Relaxed) as usize;
        let Some(point) = words[1..].chunks_exact(POINT).nth(index) else { return };
        let mut name = [0u8; OBJECT];
        let length = object.len().min(OBJECT);
        name[..length].copy_from_slice(&object.as_bytes()[..length]);
        for (word, bytes) in point[2..].iter().zip(name.chunks_exact(8)) {
            word.store(u64::from_ne_bytes(bytes.try_into().unwrap_or_default()), Ordering::Relaxed);
        }
        point[1].store(packed(mark, self.actor, length), Ordering::Relaxed);
        point[0].store(at, Ordering::Release);
    }
}

/// `None` for one that is being written just now.
fn read(point: &[AtomicU64]) -> Option<Point> {
    let at = point[0].load(Ordering::Acquire);
    let [length, actor, mark, ..] = point[1].load(Ordering::Relaxed).to_le_bytes();
    let object: Vec<u8> = point[2..].iter().flat_map(|w| w.load(Ordering::Relaxed).to_ne_bytes()).collect();
    let object = String::from_utf8_lossy(&object[..usize::from(length).min(OBJECT)]).into_owned();
    let (actor, mark) = (*Actor::ALL.get(usize::from(actor))?, *Mark::ALL.get(usize::from(mark))?);
    (at != 0).then_some(Point { at, actor, mark, object })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fd::{AsFd, AsRawFd};

    #[test]
    fn points_keep_their_order_and_names() {
        let trace = Trace::on().unwrap();
        trace.by(Actor::Child).point_of(Mark::Mount, "/proc");
        trace.point_of(Mark::Bundle, &"x".repeat(100));
        let points = trace.points();
        assert_eq!(points.iter().map(|p| p.object.len()).collect::<Vec<_>>(), [0, 5, 48]);
        assert_eq!((points[1].actor, points[1].mark, points[1].object.as_str()), (Actor::Child, Mark::Mount, "/proc"));
        assert!(points.windows(2).all(|w| w[0].at <= w[1].at));
        for _ in 0..POINTS {
            trace.point(Mark::Plan);
        }
        assert_eq!(trace.points().len(), POINTS);
        assert!(Trace::off().points().is_empty() && !Trace::off().by(Actor::Child).is_on());
    }

    #[test]
    fn points_are_handed_over_to_the_next_program() {
        let first = Trace::on().unwrap();
        first.point(Mark::ReadOnly);
        let file = first.hand_over().unwrap().unwrap();
        let next = Trace::on().unwrap();
        assert!(is_handed_over(file.as_raw_fd()) && !is_handed_over(0));
        next.take_over(file.as_fd());
        let points = next.points();
        let marks: Vec<Mark> = points.iter().map(|p| p.mark).collect();
        assert_eq!(marks, [Mark::Start, Mark::ReadOnly, Mark::Reexecuted]);
        assert_eq!(points[0], first.points()[0]);
        assert!(Trace::off().hand_over().unwrap().is_none());
    }
}
