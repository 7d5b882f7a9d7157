//! SQLite's errors in tare's words.

use rusqlite::ErrorCode;
use tare_model::{Error, Kind, Result};

/// Words SQLite's errors.
pub(crate) trait State<T> {
    /// `verb` is what was done to state.db.
    fn state(self, verb: &'static str) -> Result<T>;
}

impl<T> State<T> for rusqlite::Result<T> {
    fn state(self, verb: &'static str) -> Result<T> {
        self.map_err(|e| state_error(&e, verb))
    }
}

pub(crate) fn state_error(e: &rusqlite::Error, verb: &'static str) -> Error {
    let kind = match e.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Kind::Corrupt,
        Some(ErrorCode::DiskFull) => Kind::Exhausted,
        Some(ErrorCode::PermissionDenied | ErrorCode::ReadOnly | ErrorCode::CannotOpen) => Kind::Denied,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Kind::Unavailable,
        _ => Kind::System,
    };
    let error = Error::new(kind, verb, "state.db").because(e);
    match e.sqlite_error_code() {
        // What a full or failing disk looks like from inside of SQLite, which may not get to know more.
        Some(ErrorCode::SystemIoFailure | ErrorCode::DiskFull | ErrorCode::ReadOnly | ErrorCode::CannotOpen) => {
            error.hint("is its file system full, broken or mounted read-only? look at `df` and `dmesg`")
        }
        _ => error,
    }
}
