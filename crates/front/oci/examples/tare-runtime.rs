//! The OCI runtime alone, as a small binary: for tests, and for trying things out.

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    ExitCode::from(tare_oci::main(&args))
}
