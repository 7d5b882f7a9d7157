//! Role dispatch only: what this binary is, is decided by its name and its first argument.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::process::ExitCode;
use tare_model::Kind;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    match args.as_slice() {
        [_, role, rest @ ..] if role == "oci" => ExitCode::from(oci(&args[0], rest)),
        [name, ..] if is_runtime(name) => ExitCode::from(tare_oci::main(&args)),
        // Executed by a launcher, never typed: see tare_engine::supervise.
        [_, role, handover] if role == tare_engine::SUPERVISE => supervise(&handover.to_string_lossy()),
        [name, rest @ ..] if name == "tare-init" => init(rest),
        _ => ExitCode::from(tare_cli::main(&args)),
    }
}

/// Under such a name this is an OCI runtime, for callers that cannot pass a first argument.
fn is_runtime(name: &OsStr) -> bool {
    Path::new(name).file_name().is_some_and(|n| n == "tare-runtime" || n == "runc")
}

/// `tare oci …`: the program's name goes on as the first argument.
fn oci(name: &OsStr, rest: &[OsString]) -> u8 {
    let args: Vec<OsString> = std::iter::once(name.to_owned()).chain(rest.iter().cloned()).collect();
    tare_oci::main(&args)
}

fn supervise(handover: &str) -> ExitCode {
    match tare_engine::supervise(handover) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn init(args: &[OsString]) -> ExitCode {
    let command: Vec<Vec<u8>> = args.iter().skip_while(|a| *a == "--").map(|a| a.clone().into_vec()).collect();
    let env: Vec<Vec<u8>> =
        std::env::vars_os().map(|(k, v)| [k.into_vec(), v.into_vec()].join(b"=".as_slice())).collect();
    match tare_engine::init(&command, &env) {
        Ok(code) => ExitCode::from(code),
        Err(e) => {
            #[expect(clippy::print_stderr, reason = "process 1 of a container has no front to word its error")]
            {
                eprintln!("tare-init: {e}");
            }
            ExitCode::from(if e.kind() == Kind::CommandNotFound { 127 } else { 126 })
        }
    }
}
