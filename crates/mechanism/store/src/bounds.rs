//! The words in which limits refuse.

use tare_model::{Error, Kind};

/// An error about a limit.
pub(crate) fn beyond(operation: &'static str, key: &str, why: &str) -> Error {
    Error::new(Kind::Exhausted, operation, "")
        .because(why)
        .hint(format!("if it is meant so, raise {key} under [limits] in the configuration file"))
}
