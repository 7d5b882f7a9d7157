//! The user's home directory as the container's /etc/passwd has it.

use super::entered::open_inside;
use rustix::fd::OwnedFd;
use rustix::fs::{FileType, OFlags};

/// `HOME=…` of a user, looked up in the container that the caller is in; `/` for one without an entry, as the other
/// runtimes have it.
pub(super) fn of(uid: u32) -> String {
    let found = passwd().and_then(|file| entry(|buffer| rustix::io::read(&file, buffer).ok(), uid));
    format!("HOME={}", found.as_deref().unwrap_or("/"))
}

/// The file, if it is one: a pipe in its place would never answer.
fn passwd() -> Option<OwnedFd> {
    let file = open_inside("/etc/passwd", OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY).ok()?;
    let stat = rustix::fs::fstat(&file).ok()?;
    (FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile).then_some(file)
}

/// The sixth field of the first line whose third is `uid` (passwd(5)). The file is the container's and may be of any
/// length: one page of it is held at a time, and a line longer than that is nobody's.
fn entry(mut read: impl FnMut(&mut [u8]) -> Option<usize>, uid: u32) -> Option<String> {
    let mut buffer = [0u8; 4096];
    let (mut held, mut skipping) = (0, false);
    loop {
        let n = read(&mut buffer[held..])?;
        held += n;
        let mut begun = 0;
        while let Some(length) = buffer[begun..held].iter().position(|b| *b == b'\n') {
            let line = &buffer[begun..begun + length];
            if !std::mem::take(&mut skipping)
                && let Some(home) = home(line, uid)
            {
                return Some(home);
            }
            begun += length + 1;
        }
        if n == 0 {
            // The last line may lack its end.
            return if skipping { None } else { home(&buffer[begun..held], uid) };
        }
        buffer.copy_within(begun..held, 0);
        held -= begun;
        if held == buffer.len() {
            (held, skipping) = (0, true);
        }
    }
}

fn home(line: &[u8], uid: u32) -> Option<String> {
    let mut fields = line.split(|b| *b == b':').skip(2);
    let number = std::str::from_utf8(fields.next()?).ok()?;
    if number.parse() != Ok(uid) {
        return None;
    }
    let home = std::str::from_utf8(fields.nth(2)?).ok()?;
    (!home.is_empty() && !home.contains('\0')).then(|| home.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(text: &str, uid: u32, chunk: usize) -> Option<String> {
        let mut rest = text.as_bytes();
        let read = |buffer: &mut [u8]| {
            let n = rest.len().min(buffer.len()).min(chunk);
            buffer[..n].copy_from_slice(&rest[..n]);
            rest = &rest[n..];
            Some(n)
        };
        entry(read, uid)
    }

    #[test]
    fn the_first_entry_of_the_user_counts() {
        let long = format!("{}:x:7:7::/long:\n", "x".repeat(9000));
        let text = format!("root:x:0:0::/root:/bin/sh\n#\nu:x:10:1::/home/u:\n{long}v:x:10:1::/other:\nw:x:7:7::/last");
        for chunk in [1, 7, 4096] {
            assert_eq!(find(&text, 0, chunk).as_deref(), Some("/root"));
            assert_eq!(find(&text, 10, chunk).as_deref(), Some("/home/u"));
            assert_eq!(find(&text, 7, chunk).as_deref(), Some("/last"), "a line too long is nobody's");
            assert_eq!(find(&text, 8, chunk), None);
        }
        assert_eq!(find("", 0, 9), None);
        assert_eq!(find("a:b:0:::", 0, 9), None);
    }
}
