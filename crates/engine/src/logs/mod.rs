//! Reading a container's log: what is there, and what is still to come.
//!
//! The files are those of [`mod@crate::supervise`]: `log.2`, `log.1`, `log`, oldest first, each ordered by time. Reading
//! holds no lock: files are known by inode, so a rotation in the middle neither repeats nor drops anything, and a
//! container that is removed at its end is still read to the last line.

mod record;

use crate::attach::{Attachment, Frame};
use crate::record::Dirs;
use crate::view::LogLine;
use crate::{Engine, time};
use record::{Span, tail_start};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::inotify;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tare_model::{Error, Result};

/// Which part of a log. Times are RFC 3339 in UTC with nine digits, as in the log, and compared as text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// Only lines from this time on.
    pub since: Option<String>,
    /// Only lines up to this time.
    pub until: Option<String>,
    /// Only the last so many of these.
    pub tail: Option<usize>,
    /// Go on with what is written from now on, until the container has ended.
    pub follow: bool,
}

/// A log's lines, oldest first. A line that was written in pieces comes in pieces: only the last has a line end.
#[derive(Debug)]
pub struct Logs {
    path: PathBuf,
    current: Option<Span>,
    /// The file after the current one; set once the current one is known to be complete.
    next: Option<Span>,
    since: Option<String>,
    until: Option<String>,
    follow: Option<Watch>,
}

/// What wakes a reader that follows.
#[derive(Debug)]
struct Watch {
    changes: Option<OwnedFd>,
    supervisor: Attachment,
    ended: bool,
}

/// Files that a log may have, see the supervisor's.
const FILES: u32 = 3;

impl Engine {
    /// A container's log.
    ///
    /// # Errors
    /// `Kind::NotFound`; files that cannot be read.
    pub fn logs(&self, name: &str, query: LogQuery) -> Result<Logs> {
        let id = self.container(name)?.id;
        let dirs = self.dirs(&id);
        // Watched before the first look: nothing is missed in between.
        let follow = if query.follow { Watch::new(&dirs) } else { None };
        let mut logs = Logs {
            path: dirs.log(),
            current: None,
            next: None,
            since: query.since,
            // Without following, what is written meanwhile does not count: else a busy container has no end.
            until: query.until.or_else(|| follow.is_none().then(time::now)),
            follow,
        };
        logs.begin(query.tail)?;
        Ok(logs)
    }
}

impl Logs {
    /// Finds the place to begin at.
    fn begin(&mut self, tail: Option<usize>) -> Result<()> {
        let mut spans = self.spans()?;
        for span in &mut spans {
            if let Some(since) = &self.since {
                span.skip_while(|t| t < since.as_bytes())?;
            }
        }
        let first = match tail {
            Some(lines) => {
                for span in &mut spans {
                    if let Some(until) = &self.until {
                        span.end_where(|t| t <= until.as_bytes())?;
                    }
                }
                tail_start(&mut spans, lines)?
            }
            // What is too old altogether need not be gone through.
            None => spans.iter().position(Span::has_any).unwrap_or(spans.len().saturating_sub(1)),
        };
        // Those after the first are found again, when it has been read, by its inode.
        self.current = spans.into_iter().nth(first);
        Ok(())
    }

    /// The files that there are, oldest first.
    fn spans(&self) -> Result<Vec<Span>> {
        let mut spans: Vec<Span> = Vec::new();
        // Newest first: a rotation in between then shows one file twice, and hides none.
        for n in 0..FILES {
            if let Some(span) = self.open(n)?
                && !spans.iter().any(|s| s.inode() == span.inode())
            {
                spans.insert(0, span);
            }
        }
        Ok(spans)
    }

    fn name(&self, n: u32) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        if n > 0 {
            path.push(format!(".{n}"));
        }
        PathBuf::from(path)
    }

    fn open(&self, n: u32) -> Result<Option<Span>> {
        let path = self.name(n);
        match File::open(&path) {
            Ok(file) => Span::new(file).map(Some),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io("read", path.display(), e)),
        }
    }

    /// Which of the files this is now.
    fn place_of(&self, inode: (u64, u64)) -> Option<u32> {
        let is_it = |path: &Path| std::fs::metadata(path).is_ok_and(|m| (m.dev(), m.ino()) == inode);
        (0..FILES).find(|n| is_it(&self.name(*n)))
    }

    /// At a file's end: whether there is more, in it or in a newer one.
    fn advance(&mut self) -> Result<bool> {
        if let Some(next) = self.next.take() {
            self.current = Some(next);
            return Ok(true);
        }
        let Some(current) = &self.current else {
            self.current = self.spans()?.into_iter().next();
            return Ok(self.current.is_some());
        };
        let inode = current.inode();
        // Another rotation may come in between, and makes what was found wrong.
        for _ in 0..16 {
            let place = self.place_of(inode);
            let newer = match place {
                Some(0) => return Ok(false),
                Some(n) => self.open(n - 1)?,
                // Rotated out: the oldest that is left comes next.
                None => self.spans()?.into_iter().next(),
            };
            if newer.is_some() && self.place_of(inode) == place {
                // What was written before the rotation is read first.
                self.next = newer;
                return Ok(true);
            }
            if place.is_none() && newer.is_none() {
                return Ok(false);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(false)
    }

    fn step(&mut self) -> Result<Option<LogLine>> {
        loop {
            while let Some(record) = self.current.as_mut().map(Span::next).transpose()?.flatten() {
                let Some(line) = record::parse(&record) else { continue };
                if self.until.as_ref().is_some_and(|t| line.time > *t) {
                    return Ok(None);
                }
                if self.since.as_ref().is_none_or(|t| line.time >= *t) {
                    return Ok(Some(line));
                }
            }
            if self.advance()? {
                continue;
            }
            let over = self.until.as_ref().is_some_and(|t| time::now() > *t);
            match &mut self.follow {
                Some(watch) if !watch.ended && !over => watch.wait()?,
                _ => return Ok(None),
            }
        }
    }
}

impl Iterator for Logs {
    type Item = Result<LogLine>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}

impl Watch {
    /// `None` for a container that does not run: nothing will be written.
    fn new(dirs: &Dirs) -> Option<Watch> {
        let supervisor = Attachment::connect(&dirs.run.join("attach"), 0).ok()?;
        Some(Watch { changes: changes_in(&dirs.state).ok(), supervisor, ended: false })
    }

    /// Waits for a change of the log, or for the container's end.
    fn wait(&mut self) -> Result<()> {
        // Where nothing reports changes (no more inotify instances for this user), looking often has to do.
        let nanos = if self.changes.is_some() { 999_999_999 } else { 100_000_000 };
        let timeout = rustix::time::Timespec { tv_sec: 0, tv_nsec: nanos };
        let mut fds = vec![PollFd::from_borrowed_fd(self.supervisor.fd(), PollFlags::IN)];
        fds.extend(self.changes.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(Error::io("wait for", "log", e)),
        }
        let spoke = !fds[0].revents().is_empty();
        if let Some(changes) = &self.changes {
            // What has changed is seen by looking.
            let mut buffer = [0; 4096];
            while rustix::io::read(changes, &mut buffer).is_ok_and(|n| n > 0) {}
        }
        if spoke {
            // The supervisor has written everything by the time it says so, or is gone.
            self.ended = matches!(self.supervisor.recv(), Ok(Some(Frame::Exit(_)) | None) | Err(_));
        }
        Ok(())
    }
}

fn changes_in(dir: &Path) -> rustix::io::Result<OwnedFd> {
    use inotify::{CreateFlags, WatchFlags};
    let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    inotify::add_watch(fd.as_fd(), dir, WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO)?;
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn log(dir: &Path, name: &str, lines: &[(u32, &str)]) {
        let text: String = lines.iter().map(|(t, rest)| format!("{} {rest}\n", stamp(*t))).collect();
        std::fs::write(dir.join(name), text).unwrap();
    }

    fn stamp(second: u32) -> String {
        time::rfc3339(1_700_000_000 + i64::from(second), 0)
    }

    fn read(dir: &Path, query: LogQuery) -> Vec<String> {
        let mut logs = Logs {
            path: dir.join("log"),
            current: None,
            next: None,
            since: query.since,
            until: query.until,
            follow: None,
        };
        logs.begin(query.tail).unwrap();
        logs.map(|l| String::from_utf8(l.unwrap().text).unwrap()).collect()
    }

    fn three_files(dir: &Path) {
        log(dir, "log.2", &[(1, "stdout F a"), (2, "stdout F b")]);
        log(dir, "log.1", &[(3, "stderr F c"), (4, "stdout P d1 "), (4, "stdout F d2")]);
        log(dir, "log", &[(5, "stdout F e"), (6, "stdout P f")]);
    }

    #[test]
    fn files_are_read_in_order_and_times_narrow() {
        let dir = tempfile::tempdir().unwrap();
        three_files(dir.path());
        let all = read(dir.path(), LogQuery::default());
        assert_eq!(all, ["a\n", "b\n", "c\n", "d1 ", "d2\n", "e\n", "f"]);
        let some = |since, until| LogQuery { since, until, ..LogQuery::default() };
        assert_eq!(read(dir.path(), some(Some(stamp(3)), Some(stamp(5)))), ["c\n", "d1 ", "d2\n", "e\n"]);
        assert_eq!(read(dir.path(), some(Some(stamp(6)), None)), ["f"]);
        assert_eq!(read(dir.path(), some(Some(stamp(7)), None)), Vec::<String>::new());
    }

    #[test]
    fn a_tail_counts_lines_and_not_pieces() {
        let dir = tempfile::tempdir().unwrap();
        three_files(dir.path());
        let tail = |n, until| read(dir.path(), LogQuery { tail: Some(n), until, ..LogQuery::default() });
        assert_eq!(tail(0, None), Vec::<String>::new());
        assert_eq!(tail(1, None), ["f"]);
        assert_eq!(tail(3, None), ["d1 ", "d2\n", "e\n", "f"]);
        assert_eq!(tail(4, None), ["c\n", "d1 ", "d2\n", "e\n", "f"]);
        assert_eq!(tail(99, None).len(), 7);
        assert_eq!(tail(1, Some(stamp(2))), ["b\n"]);
    }

    #[test]
    fn large_files_are_searched_and_tailed() {
        let dir = tempfile::tempdir().unwrap();
        let lines: Vec<(u32, String)> = (0..20_000).map(|i| (i, format!("stdout F {i} {}", "x".repeat(40)))).collect();
        let lines: Vec<(u32, &str)> = lines.iter().map(|(t, l)| (*t, l.as_str())).collect();
        log(dir.path(), "log", &lines);
        let since = read(dir.path(), LogQuery { since: Some(stamp(19_990)), ..LogQuery::default() });
        assert_eq!(since.len(), 10);
        assert!(since[0].starts_with("19990 "));
        let tail = read(dir.path(), LogQuery { tail: Some(5000), until: Some(stamp(9999)), ..LogQuery::default() });
        assert_eq!(tail.len(), 5000);
        assert!(tail[0].starts_with("5000 "));
    }

    #[test]
    fn a_rotation_in_between_neither_repeats_nor_drops() {
        let dir = tempfile::tempdir().unwrap();
        log(dir.path(), "log", &[(1, "stdout F a"), (2, "stdout F b")]);
        let mut logs =
            Logs { path: dir.path().join("log"), current: None, next: None, since: None, until: None, follow: None };
        logs.begin(None).unwrap();
        let mut line = || logs.next().map(|l| String::from_utf8(l.unwrap().text).unwrap());
        assert_eq!(line().as_deref(), Some("a\n"));
        let mut old = File::options().append(true).open(dir.path().join("log")).unwrap();
        writeln!(old, "{} stdout F late", stamp(3)).unwrap();
        std::fs::rename(dir.path().join("log"), dir.path().join("log.1")).unwrap();
        log(dir.path(), "log", &[(4, "stdout F c")]);
        assert_eq!(line().as_deref(), Some("b\n"));
        assert_eq!(line().as_deref(), Some("late\n"));
        std::fs::rename(dir.path().join("log.1"), dir.path().join("log.2")).unwrap();
        std::fs::rename(dir.path().join("log"), dir.path().join("log.1")).unwrap();
        log(dir.path(), "log", &[(5, "stdout F d")]);
        assert_eq!(line().as_deref(), Some("c\n"));
        assert_eq!(line().as_deref(), Some("d\n"));
        assert_eq!(line(), None);
    }
}
