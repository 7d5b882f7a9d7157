//! Role dispatch only: what this binary is, is decided by its name and its first argument.
#![no_main]

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use tare_engine::{Mark, Trace};
use tare_model::Kind;

tare_kernel::entry!(program);

#[global_allocator]
static HEAP: tare_kernel::heap::Heap = tare_kernel::heap::Heap;

fn program() -> u8 {
    let args: Vec<OsString> = std::env::args_os().collect();
    let trace = Trace::asked_for(&args);
    match args.as_slice() {
        [_, role, rest @ ..] if role == "oci" => {
            prepare(rest, &["create", "run", "exec"], &trace);
            oci(&args[0], rest, trace)
        }
        [name, rest @ ..] if is_runtime(name) => {
            prepare(rest, &["create", "run", "exec"], &trace);
            tare_oci::main(&args, trace)
        }
        // Executed by a launcher, never typed: see tare_engine::supervise.
        [_, role, handover] if role == tare_engine::SUPERVISE => supervise(&handover.to_string_lossy()),
        [name, rest @ ..] if name == "tare-init" => init(rest),
        [_, rest @ ..] => {
            prepare(rest, &["run", "start", "exec"], &trace);
            tare_cli::main(&args, trace)
        }
        [] => tare_cli::main(&args, trace),
    }
}

/// Before anything is read: a launch executes this program anew, and the less was done by then the better. The verbs do
/// it in any case; a word that only looks like one of them costs a third of a millisecond.
fn prepare(words: &[OsString], launching: &[&str], trace: &Trace) {
    if words.iter().any(|word| launching.iter().any(|verb| word == verb)) {
        tare_engine::reexecute_protected(trace);
        tare_kernel::entry::warm();
        trace.point(Mark::Warm);
    }
}

/// Under such a name this is an OCI runtime, for callers that cannot pass a first argument.
fn is_runtime(name: &OsStr) -> bool {
    Path::new(name).file_name().is_some_and(|n| n == "tare-runtime" || n == "runc")
}

/// `tare oci …`: the program's name goes on as the first argument.
fn oci(name: &OsStr, rest: &[OsString], trace: Trace) -> u8 {
    let args: Vec<OsString> = std::iter::once(name.to_owned()).chain(rest.iter().cloned()).collect();
    tare_oci::main(&args, trace)
}

fn supervise(handover: &str) -> u8 {
    u8::from(tare_engine::supervise(handover).is_err())
}

fn init(args: &[OsString]) -> u8 {
    let command: Vec<Vec<u8>> = args.iter().skip_while(|a| *a == "--").map(|a| a.clone().into_vec()).collect();
    let env: Vec<Vec<u8>> =
        std::env::vars_os().map(|(k, v)| [k.into_vec(), v.into_vec()].join(b"=".as_slice())).collect();
    match tare_engine::init(&command, &env) {
        Ok(code) => code,
        Err(e) => {
            #[expect(clippy::print_stderr, reason = "process 1 of a container has no front to word its error")]
            {
                eprintln!("tare-init: {e}");
            }
            if e.kind() == Kind::CommandNotFound { 127 } else { 126 }
        }
    }
}
