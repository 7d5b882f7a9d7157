//! The one place that words errors and chooses exit codes.

use crate::{environment, out};
use std::os::fd::AsFd;
use tare_model::{Error, Kind, Result};

/// Exit codes as docker has them.
pub(crate) mod code {
    /// A verb failed.
    pub(crate) const FAILED: u8 = 1;
    /// The engine failed before the container's command ran; or the command line makes no sense.
    pub(crate) const ENGINE: u8 = 125;
    /// The container's command cannot be executed.
    pub(crate) const NOT_EXECUTABLE: u8 = 126;
    /// The container's command does not exist.
    pub(crate) const NOT_FOUND: u8 = 127;
    /// Added to a signal's number.
    pub(crate) const SIGNAL: u8 = 128;
    /// Standard output was closed: 128 + SIGPIPE.
    pub(crate) const PIPE: u8 = SIGNAL + 13;
}

/// Prints an error with its hint and returns the process's exit code.
pub(crate) fn report(verb: &str, error: &Error) -> u8 {
    if out::is_broken_pipe(error) {
        return code::PIPE;
    }
    out::note(worded(verb, error, colours()));
    exit_code(verb, error)
}

/// The text of a report.
fn worded(verb: &str, error: &Error, colours: bool) -> String {
    let (red, yellow, plain) = if colours { ("\x1b[31m", "\x1b[33m", "\x1b[0m") } else { ("", "", "") };
    let text = printable(&error.to_string());
    // `run`'s own errors begin with their verb already; said once is enough.
    let subject =
        if verb.is_empty() || text.starts_with(&format!("{verb} ")) { String::new() } else { format!("{verb}: ") };
    let mut report = match text.strip_prefix("tare ") {
        Some(rest) => format!("{red}tare{plain} {rest}"),
        None => format!("{red}tare:{plain} {subject}{text}"),
    };
    if let Some(hint) = error.first_hint() {
        report.push_str(&format!("\n{yellow}hint:{plain} {}", printable(hint)));
    }
    report
}

/// The longest text of an error that is told, in characters.
const LONGEST: usize = 1200;

/// An error's text, which may quote what others have written.
fn printable(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((cut, _)) => format!("{}…", one_line(&text[..cut])),
        None => one_line(text),
    }
}

/// A text of others as one line that does nothing but stand there.
pub(crate) fn one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        // Controls, and the characters that turn the direction of writing.
        match c {
            c if c.is_control() => out.extend(c.escape_default()),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

fn exit_code(verb: &str, error: &Error) -> u8 {
    match (verb.rsplit(' ').next().unwrap_or(verb), error.kind()) {
        ("run" | "start" | "exec", Kind::CommandNotFound) => code::NOT_FOUND,
        ("run" | "start" | "exec", Kind::CommandNotExecutable) => code::NOT_EXECUTABLE,
        ("run", _) => code::ENGINE,
        _ => code::FAILED,
    }
}

/// Whether standard error is a terminal that shall show colours (<https://no-color.org>).
pub(crate) fn colours() -> bool {
    environment::non_empty("NO_COLOR").is_none()
        && environment::get("TERM").is_none_or(|t| t != "dumb")
        && rustix::termios::isatty(std::io::stderr().as_fd())
}

/// Prints a warning.
pub(crate) fn warn(text: &str) {
    out::note(format_args!("tare: warning: {text}"));
}

/// Does something for each name, past failures, and reports each failure. Returns the exit code of it all.
pub(crate) fn each<'a>(
    verb: &str,
    names: impl IntoIterator<Item = &'a String>,
    mut f: impl FnMut(&'a str) -> Result<()>,
) -> Result<u8> {
    let mut worst = 0;
    for name in names {
        match f(name) {
            Ok(()) => {}
            // No further output can reach anyone.
            Err(e) if out::is_broken_pipe(&e) => return Err(e),
            Err(e) => worst = report(verb, &e),
        }
    }
    Ok(worst)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_and_a_hint() {
        let e = Error::new(Kind::NotFound, "find image", "x").hint("tare pull x");
        assert_eq!(worded("run", &e, false), "tare: run: find image x: not found\nhint: tare pull x");
        let e = e.during("run", "x");
        assert_eq!(worded("run", &e, false), "tare: run x: find image x: not found\nhint: tare pull x");
        assert!(worded("run", &e, true).contains("\x1b[31mtare:\x1b[0m"));
        let e = Error::new(Kind::Denied, "tare needs root for now", "").because("try sudo tare ps");
        assert_eq!(worded("ps", &e, false), "tare needs root for now: try sudo tare ps");
    }

    #[test]
    fn what_others_wrote_does_not_speak_to_the_terminal() {
        let e = Error::new(Kind::Invalid, "read", "a\nb\u{1b}[2J\u{202e}").hint("x\ty");
        assert_eq!(worded("load", &e, false), "tare: load: read a\\nb\\u{1b}[2J\\u{202e}: invalid\nhint: x\\ty");
        let e = Error::new(Kind::Invalid, "read", "ä".repeat(5000));
        assert_eq!(worded("load", &e, false).chars().count(), "tare: load: ".len() + LONGEST + 1);
    }

    #[test]
    fn exit_codes_are_dockers() {
        let e = |kind| Error::new(kind, "x", "");
        assert_eq!(exit_code("run", &e(Kind::CommandNotFound)), 127);
        assert_eq!(exit_code("container run", &e(Kind::CommandNotExecutable)), 126);
        assert_eq!(exit_code("run", &e(Kind::System)), 125);
        assert_eq!(exit_code("exec", &e(Kind::CommandNotFound)), 127);
        assert_eq!(exit_code("exec", &e(Kind::State)), 1);
        assert_eq!(exit_code("rm", &e(Kind::NotFound)), 1);
    }

    #[test]
    fn failures_do_not_stop_the_rest() {
        let names = ["a".to_owned(), "b".to_owned(), "c".to_owned()];
        let mut seen = Vec::new();
        let code = each("rm", &names, |n| {
            seen.push(n);
            if n == "b" { Err(Error::new(Kind::NotFound, "find", n)) } else { Ok(()) }
        });
        assert_eq!((code.unwrap(), seen.as_slice()), (1, ["a", "b", "c"].as_slice()));
    }
}
