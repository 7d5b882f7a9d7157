//! Reading Rust source without compiling it: tokens, modules, tests, and who refers to whom.
//!
//! Good enough for this tree, not for every program: macros are not expanded, so a test or a path that only a macro's
//! expansion contains is not seen.

mod lex;
mod modules;
mod scan;

pub(crate) use lex::lex;
pub(crate) use modules::{Module, Use};
