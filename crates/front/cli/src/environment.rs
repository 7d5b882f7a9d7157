//! The caller's environment: the one place where the command line reads it.

use crate::parse::volume::Places;
use std::path::PathBuf;

/// A variable, if it is set and valid text.
#[expect(clippy::disallowed_methods, reason = "the front is where the environment is read")]
pub(crate) fn get(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// A variable that is set and not empty.
pub(crate) fn non_empty(name: &str) -> Option<String> {
    get(name).filter(|v| !v.is_empty())
}

/// Where relative paths and `~` begin.
pub(crate) fn places() -> Places {
    Places {
        cwd: std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
        home: non_empty("HOME").map(PathBuf::from),
    }
}
