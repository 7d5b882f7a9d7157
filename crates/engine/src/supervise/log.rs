//! A container's log on disk: the CRI's format, size-capped, rotated.
//!
//! One line of the file is `<RFC 3339 with nanoseconds> stdout|stderr F|P <text>`; `P` says that the container's line
//! goes on in the next one of the same stream.

use crate::time;
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use std::path::{Path, PathBuf};

/// A file is rotated before it would grow beyond this.
const LIMIT: u64 = 10 << 20;
/// `log`, `log.1`, `log.2`.
const FILES: u32 = 3;

/// Appends to a log. Failures are kept, not returned: a full disk must not stop the container.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: Option<OwnedFd>,
    size: u64,
    line: Vec<u8>,
}

impl Log {
    pub(super) fn open(path: &Path) -> Log {
        let mut log = Log { path: path.to_owned(), file: None, size: 0, line: Vec::new() };
        log.reopen();
        log
    }

    fn reopen(&mut self) {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC;
        self.file = rustix::fs::open(&self.path, flags, Mode::from_raw_mode(0o640)).ok();
        self.size = self.file.as_ref().and_then(|f| rustix::fs::fstat(f).ok()).map_or(0, |s| s.st_size as u64);
    }

    /// Writes one chunk as it came, under one time.
    pub(super) fn write(&mut self, stderr: bool, chunk: &[u8]) {
        let stamp = time::now();
        let stream = if stderr { "stderr" } else { "stdout" };
        self.line.clear();
        for piece in chunk.split_inclusive(|b| *b == b'\n') {
            let (text, tag) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, " F "),
                None => (piece, " P "),
            };
            for part in [stamp.as_bytes(), b" ", stream.as_bytes(), tag.as_bytes(), text, b"\n"] {
                self.line.extend_from_slice(part);
            }
        }
        if self.size + self.line.len() as u64 > LIMIT {
            self.rotate();
        }
        let Some(file) = &self.file else { return };
        let mut rest = &self.line[..];
        while !rest.is_empty() {
            match rustix::io::write(file, rest) {
                Ok(n) => rest = &rest[n..],
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => break,
            }
        }
        self.size += (self.line.len() - rest.len()) as u64;
    }

    fn rotate(&mut self) {
        let name = |n: u32| {
            let mut path = self.path.clone().into_os_string();
            if n > 0 {
                path.push(format!(".{n}"));
            }
            PathBuf::from(path)
        };
        for n in (0..FILES - 1).rev() {
            let _ = std::fs::rename(name(n), name(n + 1));
        }
        self.reopen();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_pieces_are_marked_and_files_rotate() {
        let dir = std::env::temp_dir().join(format!("tare-log-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("log");
        let mut log = Log::open(&path);
        log.write(false, b"one\ntw");
        log.write(true, b"o\n");
        let text = std::fs::read_to_string(&path).unwrap();
        let tails: Vec<&str> = text.lines().map(|l| l.split_once(' ').unwrap().1).collect();
        assert_eq!(tails, ["stdout F one", "stdout P tw", "stderr F o"]);
        log.size = LIMIT;
        log.write(false, b"new\n");
        assert_eq!(std::fs::read_to_string(dir.join("log.1")).unwrap(), text);
        assert!(std::fs::read_to_string(&path).unwrap().ends_with("stdout F new\n"));
        std::fs::remove_dir_all(dir).unwrap();
    }
}
