//! The command line: what was typed becomes what is meant, the engine does it, and the answer is printed.
//!
//! Owns docker's flags and formats, the caller's terminal and environment, the wording of errors, and exit codes.
//! Refuses to know how anything is done. Invariants: the process is single-threaded until the engine has launched what
//! it launches; raw mode is undone on every way out; an unknown flag is an error; an error is worded once, here.

mod asking;
mod builtin;
mod container_args;
mod container_row;
mod context;
mod environment;
mod errors;
mod filter;
mod inspected;
mod keeping;
mod listing;
mod meant;
mod network_args;
mod out;
mod parse;
mod progress;
mod pruning;
mod published;
mod pulling;
mod root;
mod session;
mod settings;
mod template;
mod terminal;
mod time;
mod tracing;
mod unsupported;
mod verb;

use std::ffi::OsString;
use tare_engine::Trace;

/// Runs the command line with these arguments (the program's name first); returns the exit code. `trace`: from
/// [`Trace::asked_for`], at the program's beginning.
pub fn main(args: &[OsString], trace: Trace) -> u8 {
    root::run(args, trace)
}
