//! Role dispatch only: what this binary is, is decided by its first argument or its name.

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    ExitCode::from(tare_cli::main(&args))
}
