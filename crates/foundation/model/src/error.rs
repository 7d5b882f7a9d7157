//! The one error type: which operation, on which object, what kind of failure, why, and what to do about it.
//!
//! An error is made where the failure happens, gains context on its way up with [`Context`], crosses process
//! boundaries as JSON, and is worded once, by a front. Messages start in lower case, have no final period, and do not
//! repeat their cause.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;

/// The result of everything in tare that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What sort of failure it is: decides exit codes, HTTP status and whether trying again makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The named thing does not exist.
    NotFound,
    /// A thing of that name is there already.
    AlreadyExists,
    /// The thing is used by another and cannot be changed or removed now.
    InUse,
    /// What was asked for makes no sense or is malformed.
    Invalid,
    /// This host, kernel or version of tare cannot do it.
    Unsupported,
    /// Permission refused: by the kernel, a registry, or a rule of ours.
    Denied,
    /// A peer (registry, name server) cannot be reached or does not answer.
    Unavailable,
    /// Stored or received data contradicts its digest or its format.
    Corrupt,
    /// No space, address, descriptor or other countable thing is left.
    Exhausted,
    /// The command of a container was not found (docker's exit code 127).
    CommandNotFound,
    /// The command of a container is there but cannot be executed (docker's exit code 126).
    CommandNotExecutable,
    /// The object is in a state in which this cannot be done (not running, paused, …).
    State,
    /// The user or another process ended it.
    Cancelled,
    /// A system call failed for another reason.
    System,
}

/// A failure, ready to be worded: see the module's text.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error(Box<Inner>);

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Inner {
    operation: Cow<'static, str>,
    object: String,
    kind: Kind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cause: Option<Cause>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    errno: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Cause {
    Text(String),
    Error(Error),
}

impl Error {
    /// A failure of `operation` ("pull", "mount", …: a verb) on `object` (a name, a path; may be empty).
    pub fn new(kind: Kind, operation: impl Into<Cow<'static, str>>, object: impl fmt::Display) -> Self {
        Error(Box::new(Inner {
            operation: operation.into(),
            object: object.to_string(),
            kind,
            cause: None,
            errno: None,
            hint: None,
        }))
    }

    /// A failure reported by the kernel; the kind follows from the error number.
    pub fn io(
        operation: impl Into<Cow<'static, str>>,
        object: impl fmt::Display,
        error: impl Into<std::io::Error>,
    ) -> Self {
        let error = error.into();
        let mut e = Error::new(kind_of(&error), operation, object);
        e.0.errno = error.raw_os_error();
        e.0.cause = Some(Cause::Text(text_of(&error)));
        e
    }

    /// Adds the reason as text.
    #[must_use]
    pub fn because(mut self, cause: impl fmt::Display) -> Self {
        self.0.cause = Some(Cause::Text(cause.to_string()));
        self
    }

    /// Adds the failure that led to this one.
    #[must_use]
    pub fn caused_by(mut self, cause: Error) -> Self {
        self.0.errno = self.0.errno.or(cause.0.errno);
        self.0.cause = Some(Cause::Error(cause));
        self
    }

    /// Adds what the user can do about it: an imperative, or the command to type.
    #[must_use]
    pub fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.0.hint = Some(hint.to_string());
        self
    }

    /// Wraps this error into the larger operation that it made fail; kind and errno stay.
    #[must_use]
    pub fn during(self, operation: impl Into<Cow<'static, str>>, object: impl fmt::Display) -> Self {
        Error::new(self.kind(), operation, object).caused_by(self)
    }

    /// What sort of failure it is.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The same failure under another kind.
    #[must_use]
    pub fn with_kind(mut self, kind: Kind) -> Self {
        self.0.kind = kind;
        self
    }

    /// The verb that failed.
    pub fn operation(&self) -> &str {
        &self.0.operation
    }

    /// What the verb was applied to; may be empty.
    pub fn object(&self) -> &str {
        &self.0.object
    }

    /// The kernel's error number, where the kernel refused.
    pub fn errno(&self) -> Option<i32> {
        self.0.errno
    }

    /// The first hint of the chain, outermost first.
    pub fn first_hint(&self) -> Option<&str> {
        match (&self.0.hint, &self.0.cause) {
            (Some(h), _) => Some(h),
            (None, Some(Cause::Error(e))) => e.first_hint(),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.operation)?;
        if !self.0.object.is_empty() {
            write!(f, " {}", self.0.object)?;
        }
        match &self.0.cause {
            Some(Cause::Text(t)) => write!(f, ": {t}"),
            Some(Cause::Error(e)) => write!(f, ": {e}"),
            None => write!(f, ": {}", self.0.kind.words()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} ({:?}, errno {:?}, hint {:?})", self.0.kind, self.0.errno, self.first_hint())
    }
}

impl std::error::Error for Error {}

impl Kind {
    /// The kind in words, used where no cause is known.
    pub fn words(self) -> &'static str {
        match self {
            Kind::NotFound => "not found",
            Kind::AlreadyExists => "already exists",
            Kind::InUse => "in use",
            Kind::Invalid => "invalid",
            Kind::Unsupported => "not supported",
            Kind::Denied => "permission denied",
            Kind::Unavailable => "unavailable",
            Kind::Corrupt => "corrupt",
            Kind::Exhausted => "exhausted",
            Kind::CommandNotFound => "command not found",
            Kind::CommandNotExecutable => "command cannot be executed",
            Kind::State => "wrong state",
            Kind::Cancelled => "cancelled",
            Kind::System => "failed",
        }
    }
}

/// Adds operation and object to foreign errors, and context to our own.
pub trait Context<T> {
    /// Turns a kernel error into [`Error`], or wraps an [`Error`] of ours.
    fn during(self, operation: &'static str, object: impl fmt::Display) -> Result<T>;
}

impl<T> Context<T> for std::io::Result<T> {
    fn during(self, operation: &'static str, object: impl fmt::Display) -> Result<T> {
        self.map_err(|e| Error::io(operation, object, e))
    }
}

impl<T> Context<T> for Result<T> {
    fn during(self, operation: &'static str, object: impl fmt::Display) -> Result<T> {
        self.map_err(|e| e.during(operation, object))
    }
}

fn kind_of(e: &std::io::Error) -> Kind {
    use std::io::ErrorKind as K;
    match e.kind() {
        K::NotFound => Kind::NotFound,
        K::AlreadyExists => Kind::AlreadyExists,
        K::PermissionDenied => Kind::Denied,
        K::InvalidInput | K::InvalidData => Kind::Invalid,
        K::UnexpectedEof => Kind::Corrupt,
        K::StorageFull | K::QuotaExceeded | K::FileTooLarge | K::OutOfMemory => Kind::Exhausted,
        K::ResourceBusy | K::AddrInUse | K::ExecutableFileBusy | K::DirectoryNotEmpty => Kind::InUse,
        K::Unsupported => Kind::Unsupported,
        K::ConnectionRefused | K::ConnectionReset | K::TimedOut | K::HostUnreachable | K::NetworkUnreachable => {
            Kind::Unavailable
        }
        _ => match e.raw_os_error() {
            Some(23 | 24) => Kind::Exhausted, // ENFILE, EMFILE
            _ => Kind::System,
        },
    }
}

/// std says "No such file or directory (os error 2)": lower case and without the number reads better in a sentence.
fn text_of(e: &std::io::Error) -> String {
    let s = e.to_string();
    let s = s.split(" (os error").next().unwrap_or(&s);
    let mut c = s.chars();
    match c.next() {
        // An abbreviation ("RPC…") keeps its capitals.
        Some(first) if !c.as_str().starts_with(char::is_uppercase) => first.to_lowercase().chain(c).collect(),
        _ => s.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_reads_as_one_sentence_and_keeps_its_hint() {
        let e = Error::io("open", "/etc/x", std::io::Error::from_raw_os_error(2))
            .hint("create it")
            .during("start container", "web");
        assert_eq!(e.to_string(), "start container web: open /etc/x: no such file or directory");
        assert_eq!(e.kind(), Kind::NotFound);
        assert_eq!(e.errno(), Some(2));
        assert_eq!(e.first_hint(), Some("create it"));
    }

    #[test]
    fn it_survives_json() {
        let e = Error::new(Kind::Invalid, "parse", "x").because("bad").during("run", "");
        let s = serde_json::to_string(&e).unwrap();
        assert_eq!(serde_json::from_str::<Error>(&s).unwrap(), e);
    }
}
