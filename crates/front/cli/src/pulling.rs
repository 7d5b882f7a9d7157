//! Pulls before a container is made. In a child process: a registry client has threads, and a process with threads
//! must not clone.

use crate::context::Context;
use crate::out;
use crate::verb::PullPolicy;
use std::os::fd::AsFd;
use std::process::Stdio;
use tare_engine::Engine;
use tare_engine::request::Source;
use tare_model::{Context as _, Error, Kind, Result};

/// Sees to it that the image is in the store, as the policy says.
///
/// # Errors
/// `Kind::NotFound` with `--pull never`; what pulling fails with.
pub(crate) fn have_image(
    engine: &Engine,
    context: &Context,
    source: &Source,
    policy: PullPolicy,
    quiet: bool,
) -> Result<()> {
    let Source::Image(name) = source else { return Ok(()) };
    let missing = match engine.image(name) {
        Ok(_) => None,
        Err(e) if e.kind() == Kind::NotFound => Some(e),
        Err(e) => return Err(e),
    };
    match (policy, missing) {
        (PullPolicy::Always, _) => pull(context, name, quiet),
        (_, None) => Ok(()),
        (PullPolicy::Never, Some(e)) => Err(e),
        (PullPolicy::Missing, Some(_)) => {
            if !quiet {
                out::note(format_args!("tare: image {name} is not here: pulling it"));
            }
            pull(context, name, quiet)
        }
    }
}

/// Runs `tare pull` with our own binary; its progress goes to standard error, where ours would.
fn pull(context: &Context, name: &str, quiet: bool) -> Result<()> {
    let stderr = std::io::stderr().as_fd().try_clone_to_owned().during("duplicate", "standard error")?;
    #[expect(clippy::disallowed_methods, reason = "this very binary, so that the registry client's threads stay out")]
    let mut child = std::process::Command::new("/proc/self/exe");
    child.arg("--root").arg(&context.root).arg("--run").arg(&context.run).arg("pull");
    if quiet {
        child.arg("--quiet");
    }
    let status = child.arg("--").arg(name).stdin(Stdio::null()).stdout(stderr).status().during("pull", name)?;
    if status.success() {
        return Ok(());
    }
    // The child has said why.
    Err(Error::new(Kind::Unavailable, "get image", name).because("it could not be pulled"))
}
