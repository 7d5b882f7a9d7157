//! `--trace-setup`: what a start consisted of, written once the program runs.

use crate::context::Context;
use crate::out;
use clap::Args;
use tare_engine::Form;

/// The flag, of the verbs that start something.
#[derive(Debug, Args)]
pub(crate) struct TraceArgs {
    /// Write each step of the start to standard error once the program runs: microseconds, and why it exists
    #[arg(long, value_name = "text|json", num_args = 0..=1, require_equals = true, default_missing_value = "text", value_parser = ["text", "json"], hide_possible_values = true)]
    trace_setup: Option<String>,
}

impl TraceArgs {
    /// Writes what was recorded, if that was asked for.
    pub(crate) fn show(&self, context: &Context) {
        if let Some(form) = self.trace_setup.as_deref().and_then(Form::named) {
            out::note(context.trace.waterfall().written(form));
        }
    }
}
