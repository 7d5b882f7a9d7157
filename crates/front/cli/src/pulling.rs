//! Pulls before a container is made. In a child process: a registry client has threads, and a process with threads
//! must not clone.

use crate::container_args::PullPolicy;
use crate::context::Context;
use crate::out;
use std::process::Stdio;
use tare_engine::Engine;
use tare_engine::request::Source;
use tare_model::{Context as _, Kind, Result};

/// Whether the image could be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Had {
    /// It is in the store.
    Yes,
    /// It could not be pulled; the child that tried has said why.
    Refused,
}

/// Sees to it that the image is in the store, as the policy says.
///
/// # Errors
/// `Kind::NotFound` with `--pull never`; state that cannot be read.
pub(crate) fn have_image(
    engine: &Engine,
    context: &Context,
    source: &Source,
    policy: PullPolicy,
    quiet: bool,
) -> Result<Had> {
    let Source::Image(name) = source else { return Ok(Had::Yes) };
    let missing = match engine.image(name) {
        Ok(_) => None,
        Err(e) if e.kind() == Kind::NotFound => Some(e),
        Err(e) => return Err(e),
    };
    match (policy, missing) {
        (PullPolicy::Always, _) => pull(context, name, quiet),
        (_, None) => Ok(Had::Yes),
        (PullPolicy::Never, Some(e)) => Err(e),
        (PullPolicy::Missing, Some(_)) => {
            if !quiet {
                out::note(format_args!("tare: image {name} is not here: pulling it"));
            }
            pull(context, name, quiet)
        }
    }
}

/// Runs `tare pull` with our own binary.
fn pull(context: &Context, name: &str, quiet: bool) -> Result<Had> {
    #[expect(clippy::disallowed_methods, reason = "this very binary, so that the registry client's threads stay out")]
    let mut child = std::process::Command::new("/proc/self/exe");
    child.arg("--root").arg(&context.root).arg("--run").arg(&context.run);
    if let Some(snapshotter) = context.snapshotter {
        child.arg("--snapshotter").arg(snapshotter.as_str());
    }
    child.arg("pull");
    if quiet {
        child.arg("--quiet");
    }
    // What it prints on standard output is for those who call it themselves; progress and errors are on standard error.
    let status = child.arg("--").arg(name).stdin(Stdio::null()).stdout(Stdio::null()).status().during("pull", name)?;
    Ok(if status.success() { Had::Yes } else { Had::Refused })
}
