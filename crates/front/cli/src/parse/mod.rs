//! Docker's little languages: the values of flags. Pure functions from text to the engine's types.

pub(crate) mod device;
pub(crate) mod env;
pub(crate) mod limits;
pub(crate) mod mount;
pub(crate) mod name_service;
pub(crate) mod network;
pub(crate) mod port;
pub(crate) mod rate;
pub(crate) mod seccomp;
pub(crate) mod security;
pub(crate) mod ulimit;
pub(crate) mod userns;
pub(crate) mod volume;

use tare_model::{Error, Kind};

/// The error of a flag's value that cannot be understood: `invalid --flag "value": why`.
pub(crate) fn bad(flag: &str, value: &str, why: impl std::fmt::Display) -> Error {
    Error::new(Kind::Invalid, "invalid", format!("{flag} {value:?}")).because(why)
}

/// The error of a flag's value that docker understands and tare does not, yet.
pub(crate) fn not_yet(flag: &str, value: &str, why: impl std::fmt::Display) -> Error {
    Error::new(Kind::Unsupported, "unsupported", format!("{flag} {value:?}")).because(why)
}

/// Go's `strconv.ParseBool`.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// The same as a flag's value.
pub(crate) fn boolean_value(text: &str) -> Result<bool, &'static str> {
    boolean(text).ok_or("expected true or false")
}
