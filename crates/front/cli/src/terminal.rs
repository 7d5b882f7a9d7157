//! The caller's terminal: raw mode that is undone on every way out, its size, and the keys that detach.

use rustix::termios::{self, OptionalActions, Termios};
use std::os::fd::AsFd;
use std::sync::{Mutex, Once};
use tare_model::{Context as _, Error, Kind, Result};

/// The settings to go back to while raw mode is on. Global, because a panic aborts without running destructors.
static SAVED: Mutex<Option<Termios>> = Mutex::new(None);

/// Standard input's terminal in raw mode for as long as this lives.
#[derive(Debug)]
pub(crate) struct RawMode(());

impl RawMode {
    /// Switches to raw mode.
    ///
    /// # Errors
    /// Standard input is no terminal.
    pub(crate) fn enter() -> Result<RawMode> {
        static HOOK: Once = Once::new();
        let stdin = std::io::stdin();
        let during = |r: rustix::io::Result<()>| r.map_err(std::io::Error::from).during("set up", "the terminal");
        let before = termios::tcgetattr(&stdin).map_err(|e| Error::io("set up", "the terminal", e))?;
        let mut raw = before.clone();
        raw.make_raw();
        HOOK.call_once(|| {
            let next = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                restore();
                next(info);
            }));
        });
        if let Ok(mut saved) = SAVED.lock() {
            *saved = Some(before);
        }
        let guard = RawMode(());
        during(termios::tcsetattr(&stdin, OptionalActions::Now, &raw))?;
        Ok(guard)
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore();
    }
}

fn restore() {
    if let Ok(mut saved) = SAVED.lock()
        && let Some(before) = saved.take()
    {
        // Best effort: a terminal that has gone needs no settings.
        let _ = termios::tcsetattr(std::io::stdin(), OptionalActions::Drain, &before);
    }
}

/// Whether standard input is a terminal.
pub(crate) fn stdin_is_terminal() -> bool {
    termios::isatty(std::io::stdin().as_fd())
}

/// Rows and columns of the caller's terminal: of standard output, else of standard input.
pub(crate) fn size() -> Option<(u16, u16)> {
    let of = |fd: std::os::fd::BorrowedFd<'_>| {
        termios::tcgetwinsize(fd).ok().filter(|w| w.ws_row > 0).map(|w| (w.ws_row, w.ws_col))
    };
    of(std::io::stdout().as_fd()).or_else(|| of(std::io::stdin().as_fd()))
}

/// Docker's default.
pub(crate) const DETACH_KEYS: &str = "ctrl-p,ctrl-q";

/// Finds the sequence of keys that detaches in what is typed.
#[derive(Debug, Clone)]
pub(crate) struct DetachKeys {
    sequence: Vec<u8>,
    matched: usize,
}

impl DetachKeys {
    /// Parses `ctrl-p,ctrl-q`: letters, and `ctrl-` with a letter or one of `@ [ \ ] ^ _`.
    ///
    /// # Errors
    /// `Kind::Invalid`.
    pub(crate) fn parse(text: &str) -> Result<DetachKeys> {
        let bad = || {
            Error::new(Kind::Invalid, "invalid", format!("--detach-keys {text:?}")).because(
                "expected keys with commas between them: a letter, or ctrl- and a letter or one of @ [ \\ ] ^ _",
            )
        };
        let key = |word: &str| match (word.strip_prefix("ctrl-"), word.as_bytes()) {
            (Some(of), _) => match of.as_bytes() {
                [c @ b'a'..=b'z'] => Ok(c - b'a' + 1),
                [c @ (b'@' | b'[' | b'\\' | b']' | b'^' | b'_')] => Ok(c - b'@'),
                _ => Err(bad()),
            },
            (None, [c]) if c.is_ascii_graphic() => Ok(*c),
            (None, b"DEL") => Ok(127),
            _ => Err(bad()),
        };
        let sequence = text.split(',').map(key).collect::<Result<Vec<u8>>>()?;
        Ok(DetachKeys { sequence, matched: 0 })
    }

    /// Passes typed bytes on; what may be the beginning of the sequence is held back. True once it is complete.
    pub(crate) fn feed(&mut self, typed: &[u8], pass: &mut Vec<u8>) -> bool {
        for byte in typed {
            if *byte != self.sequence[self.matched] {
                pass.extend(&self.sequence[..self.matched]);
                self.matched = 0;
            }
            if *byte == self.sequence[self.matched] {
                self.matched += 1;
                if self.matched == self.sequence.len() {
                    self.matched = 0;
                    return true;
                }
            } else {
                pass.push(*byte);
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_parsed() {
        assert_eq!(DetachKeys::parse(DETACH_KEYS).unwrap().sequence, [16, 17]);
        assert_eq!(DetachKeys::parse("ctrl-@,a,ctrl-[,ctrl-_").unwrap().sequence, [0, b'a', 27, 31]);
        for bad in ["", "ctrl-", "ctrl-P", "ab", "ctrl-p,", "ctrl-1"] {
            assert!(DetachKeys::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_sequence_is_found_across_reads_and_the_rest_passes() {
        let mut keys = DetachKeys::parse(DETACH_KEYS).unwrap();
        let mut pass = Vec::new();
        assert!(!keys.feed(b"ls\x10", &mut pass));
        assert_eq!(pass, b"ls");
        assert!(!keys.feed(b"x\x10\x10", &mut pass));
        assert_eq!(pass, b"ls\x10x\x10");
        assert!(keys.feed(b"\x11rest", &mut pass));
        assert_eq!(pass, b"ls\x10x\x10");
    }
}
