//! The caller's environment: the one place where this front reads it.

/// A variable, if it is set and valid text.
#[expect(clippy::disallowed_methods, reason = "the front is where the environment is read")]
pub(crate) fn get(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
