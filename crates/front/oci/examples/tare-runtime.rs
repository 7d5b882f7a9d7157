//! The OCI runtime alone, as a small binary: for tests, and for trying things out.
//!
//! Built with the feature `weaken`, it takes the defences away that the variable TARE_WEAKEN names: tests of escapes prove
//! by it that they would notice.

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(feature = "weaken")]
    weaken();
    let args: Vec<OsString> = std::env::args_os().collect();
    let trace = tare_oci::Trace::asked_for(&args);
    ExitCode::from(tare_oci::main(&args, trace))
}

#[cfg(feature = "weaken")]
#[expect(clippy::disallowed_methods, clippy::expect_used, reason = "a program of its own, for tests")]
fn weaken() {
    let names = std::env::var("TARE_WEAKEN").unwrap_or_default();
    tare_runtime::defence::weaken(&names).expect("TARE_WEAKEN names defences");
}
