//! Checks of the tree that no compiler makes.
//!
//! ```text
//! cargo xtask tidy [--list FILE]    FILE: what `cargo nextest list` printed, for tests that macros make
//! cargo xtask drop-field SUITE RECORDED [FIELD…]    whether the conformance suite notices each field: see drop_field
//! ```
//!
//! Owns the rules by which the folders stay the architecture and the documents stay true. Refuses to build anything and
//! to change files: it reads the tree and `cargo metadata`, prints `path:line: what`, and exits with 1 if it found
//! something.

mod drop_field;
mod metadata;
mod rust;
mod tidy;
mod tree;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask tidy [--list FILE]\n       cargo xtask drop-field SUITE RECORDED [FIELD…]";

#[expect(clippy::print_stderr, reason = "a program for the terminal")]
fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match words[..] {
        ["tidy"] => tidy::main(None),
        ["tidy", "--list", file] => tidy::main(Some(&PathBuf::from(file))),
        ["drop-field", suite, recorded, ref only @ ..] => drop_field::main(Path::new(suite), Path::new(recorded), only),
        _ => Err(USAGE.to_owned()),
    };
    match result {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::from(2)
        }
    }
}
