//! What all verbs that prune have in common.

use crate::asking;
use crate::filter::Filters;
use crate::out::Out;
use crate::time;
use clap::Args;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::fmt::Display;
use tare_engine::Pruned;
use tare_model::{Result, size};

/// The flags of all verbs that prune.
#[derive(Debug, Args)]
pub(crate) struct PruningArgs {
    /// Only those that satisfy a condition
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

impl PruningArgs {
    /// The conditions; see [`Conditions::parse`].
    ///
    /// # Errors
    /// `Kind::Invalid`.
    pub(crate) fn conditions(&self, more: &[&str]) -> Result<Conditions> {
        Conditions::parse(&self.filter, more)
    }

    /// Asks before anything is removed, unless told not to.
    ///
    /// # Errors
    /// `Kind::Cancelled`.
    pub(crate) fn confirm(&self, question: &str) -> Result<()> {
        if self.force { Ok(()) } else { asking::confirm(question, "prune") }
    }
}

/// `--filter until=…`, `label=…`, `label!=…`.
#[derive(Debug)]
pub(crate) struct Conditions {
    filters: Filters,
    until: Option<Timestamp>,
}

impl Conditions {
    /// Parses filters; `more` are keys that the verb knows beside the three.
    ///
    /// # Errors
    /// `Kind::Invalid`.
    fn parse(texts: &[String], more: &[&str]) -> Result<Conditions> {
        let filters = Filters::parse(texts, &[&["label", "label!", "until"], more].concat())?;
        let now = Timestamp::now();
        let until = filters.get("until").last().map(|t| time::point("--filter until", t, now)).transpose()?;
        Ok(Conditions { filters, until })
    }

    /// Whether something of this age (Unix nanoseconds) with these labels is meant.
    pub(crate) fn hold(&self, created: i64, labels: &BTreeMap<String, String>) -> bool {
        self.until.is_none_or(|t| i128::from(created) < t.as_nanosecond()) && self.filters.labels(labels)
    }

    /// The filters themselves.
    pub(crate) fn filters(&self) -> &Filters {
        &self.filters
    }
}

/// A moment as views have it, in Unix nanoseconds; 0 if it cannot be understood.
pub(crate) fn nanos(rfc3339: &str) -> i64 {
    let at = rfc3339.parse::<Timestamp>().map_or(0, |t| t.as_nanosecond());
    i64::try_from(at).unwrap_or(0)
}

/// Prints what went, as docker does.
///
/// # Errors
/// Standard output that is closed.
pub(crate) fn print(pruned: &Pruned) -> Result<()> {
    let mut out = Out::new();
    section(&mut out, "Deleted Containers:", &pruned.containers)?;
    section(&mut out, "Deleted Networks:", &pruned.networks)?;
    section(&mut out, "Deleted Volumes:", &pruned.volumes)?;
    let untagged = pruned.untagged.iter().map(|n| format!("untagged: {}", n.familiar()));
    let deleted = pruned.deleted.iter().map(|d| format!("deleted: {d}"));
    section(&mut out, "Deleted Images:", &untagged.chain(deleted).collect::<Vec<_>>())?;
    out.line(format_args!("Total reclaimed space: {}", size::decimal(pruned.bytes)))?;
    out.finish()
}

fn section(out: &mut Out, title: &str, lines: &[impl Display]) -> Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    out.line(title)?;
    lines.iter().try_for_each(|line| out.line(line))?;
    out.line("")
}
