//! Errors and warnings as callers of runc read them: a line in the log file, in text or as JSON, and a message on
//! standard error.

use crate::{out, time};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use tare_model::{Error, Kind, Result};

/// `--log-format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// `time="…" level=error msg="…"`.
    Text,
    /// `{"level":"error","msg":"…","time":"…"}`.
    Json,
}

/// How serious a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(crate) enum Level {
    /// Only with `--debug`.
    Debug,
    /// Something could not be had as asked.
    Warning,
    /// The verb has failed.
    Error,
}

/// Where lines go. The file is opened for the first line: most calls have none.
#[derive(Debug)]
pub(crate) struct Log {
    file: Option<PathBuf>,
    format: Format,
    debug: bool,
}

impl Log {
    /// To a file, or to standard error without one.
    pub(crate) fn new(file: Option<PathBuf>, format: Format, debug: bool) -> Log {
        Log { file, format, debug }
    }

    /// A line that only `--debug` shows.
    pub(crate) fn debug(&self, text: &str) {
        if self.debug {
            self.write(Level::Debug, text);
        }
    }

    /// A warning.
    pub(crate) fn warn(&self, text: &str) {
        self.write(Level::Warning, text);
    }

    /// The failure of the verb: in the log file, and as a message on standard error whatever the log's format.
    pub(crate) fn error(&self, error: &Error) {
        let text = match error.first_hint() {
            Some(hint) => format!("{} (hint: {hint})", words(error)),
            None => words(error),
        };
        if self.file.is_some() {
            self.write(Level::Error, &text);
            out::note(format_args!("tare: {text}"));
        } else {
            self.write(Level::Error, &text);
        }
    }

    fn write(&self, level: Level, text: &str) {
        let line = self.format.line(level, text, &time::now());
        match &self.file {
            Some(path) if append(path, &line).is_ok() => {}
            _ => out::note(line),
        }
    }
}

/// The text of an error. Callers find out by parts of it whether the program is missing (podman's and docker's exit code
/// 127) or cannot be executed (126): these stand in it, whatever else is known.
fn words(error: &Error) -> String {
    let text = error.to_string();
    let marked = match error.kind() {
        Kind::CommandNotFound => text.replace("file not found in PATH", "file not found in $PATH"),
        Kind::CommandNotExecutable => text,
        _ => return text,
    };
    let marked = marked.replacen("execute \"", "exec: \"", 1);
    let marks: [&str; 2] = match error.kind() {
        Kind::CommandNotFound => ["no such file or directory", "executable file not found in"],
        _ => ["permission denied", "operation not permitted"],
    };
    if marks.iter().any(|m| marked.contains(m)) { marked } else { format!("{marked}: {}", marks[0]) }
}

fn append(path: &Path, line: &str) -> Result<()> {
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .map_err(|e| Error::io("open log", path.display(), e))?;
    // One write: lines of several processes do not mix.
    file.write_all(format!("{line}\n").as_bytes()).map_err(|e| Error::io("write log", path.display(), e))
}

impl Format {
    fn line(self, level: Level, text: &str, time: &str) -> String {
        let level = match level {
            Level::Debug => "debug",
            Level::Warning => "warning",
            Level::Error => "error",
        };
        let quoted = serde_json::Value::from(text);
        match self {
            Format::Json => format!(r#"{{"level":"{level}","msg":{quoted},"time":"{time}"}}"#),
            Format::Text => format!("time=\"{time}\" level={level} msg={quoted}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_programs_are_told_in_the_words_of_other_runtimes() {
        let e = |kind, object: &str, why| words(&Error::new(kind, "execute", object).because(why).during("start", "x"));
        let text = e(Kind::CommandNotFound, "\"a\"", "executable file not found in PATH (/bin)");
        assert_eq!(text, "start x: exec: \"a\": executable file not found in $PATH (/bin)");
        let text = e(Kind::CommandNotFound, "\"/a\"", "its interpreter \"/b\" is not in the image");
        assert!(text.ends_with("image: no such file or directory"), "{text}");
        let text = e(Kind::CommandNotExecutable, "\"/a\"", "it is a directory");
        assert_eq!(text, "start x: exec: \"/a\": it is a directory: permission denied");
        assert_eq!(e(Kind::Denied, "\"/a\"", "no"), "start x: execute \"/a\": no");
    }

    #[test]
    fn lines_are_what_callers_of_runc_read() {
        let line = Format::Json.line(Level::Error, "a \"b\"\n", "T");
        assert_eq!(line, r#"{"level":"error","msg":"a \"b\"\n","time":"T"}"#);
        let back: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(back["msg"], "a \"b\"\n");
        assert_eq!(Format::Text.line(Level::Warning, "x", "T"), r#"time="T" level=warning msg="x""#);
    }
}
