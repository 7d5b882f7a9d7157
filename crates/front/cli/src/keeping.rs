//! Whether compressed layers are kept, for the verbs that bring images.

use clap::Args;

/// `--keep-blobs`.
#[derive(Debug, Args)]
pub(crate) struct KeepingArgs {
    /// Whether the compressed layers are kept, for push and save; [store] keep-blobs of the configuration file if missing
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_parser = crate::parse::boolean_value)]
    pub(crate) keep_blobs: Option<bool>,
}
