//! The caller's environment: the one place where the command line reads it.

use crate::parse::volume::Places;
use std::path::PathBuf;
use tare_model::{Error, Kind, Result};

/// A variable, if it is set and valid text.
#[expect(clippy::disallowed_methods, reason = "the front is where the environment is read")]
pub(crate) fn get(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// A variable that is set and not empty.
pub(crate) fn non_empty(name: &str) -> Option<String> {
    get(name).filter(|v| !v.is_empty())
}

/// SOURCE_DATE_EPOCH: seconds since 1970, for images that are the same whenever they are made.
///
/// # Errors
/// `Kind::Invalid` if it is no such number.
pub(crate) fn source_date_epoch() -> Result<Option<i64>> {
    let Some(text) = non_empty("SOURCE_DATE_EPOCH") else { return Ok(None) };
    match text.parse::<i64>() {
        // Up to the year 9999, the last one that RFC 3339 can write.
        Ok(seconds) if (0..=253_402_300_799).contains(&seconds) => Ok(Some(seconds)),
        _ => Err(Error::new(Kind::Invalid, "invalid", format!("SOURCE_DATE_EPOCH={text}"))
            .because("expected seconds since 1970")
            .hint("for example SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)")),
    }
}

/// Where relative paths and `~` begin.
pub(crate) fn places() -> Places {
    Places {
        cwd: std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
        home: non_empty("HOME").map(PathBuf::from),
    }
}
