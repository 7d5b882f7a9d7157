use super::Build;
use crate::context::Context;
use clap::Args;
use tare_model::{Error, Kind, Result};

pub(super) const ARGS: Build = <OciArgs as Args>::augment_args;

/// The verbs behind it, for completion. The runtime is a front of its own, which this one does not know.
pub(super) const VERBS: [&str; 17] = [
    "create",
    "start",
    "run",
    "state",
    "kill",
    "delete",
    "list",
    "exec",
    "ps",
    "pause",
    "resume",
    "update",
    "events",
    "spec",
    "features",
    "checkpoint",
    "restore",
];

/// Be an OCI runtime with runc's command line (`tare oci --help`)
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare oci spec --bundle box
  tare oci run --bundle box first
  ln -s $(command -v tare) /usr/local/bin/tare-runtime")]
pub(crate) struct OciArgs {
    /// A verb of the runtime, its options before it
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "VERB")]
    words: Vec<String>,
}

/// Reached only when something stands before `oci`: else the program is the runtime from its first line on.
pub(super) fn main(_: OciArgs, _: &Context) -> Result<u8> {
    Err(Error::new(Kind::Invalid, "be a runtime", "")
        .because("options of tare stand before `oci`")
        .hint("the runtime has its own, behind it: tare oci --root DIRECTORY VERB …"))
}
