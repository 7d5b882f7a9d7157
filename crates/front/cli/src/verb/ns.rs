use super::Build;
use crate::context::Context;
use crate::listing::{Listing, Look, Row};
use crate::out::Out;
use clap::Args;
use tare_engine::view::{Namespace, Sharer};
use tare_model::Result;

pub(super) const ARGS: Build = <NsArgs as Args>::augment_args;

/// Show the namespaces of a process or container, and with whom it shares them
///
/// Read from the kernel, for any process of this host.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare ns web
  tare ns 1
  tare ns --format '{{.Kind}} {{.Inode}}' self")]
pub(crate) struct NsArgs {
    /// table, json, or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Process id, container, or self
    #[arg(value_name = "PID|CONTAINER", default_value = "self")]
    target: String,
}

const LISTING: Listing = Listing {
    columns: &[("Kind", "NAMESPACE"), ("Inode", "INODE"), ("Own", "OWN"), ("SharedWith", "SHARED WITH")],
    shown: &["Kind", "Inode", "Own", "SharedWith"],
    key: "Inode",
};

pub(super) fn main(args: NsArgs, context: &Context) -> Result<u8> {
    let target = if args.target == "self" { std::process::id().to_string() } else { args.target };
    let rows: Vec<Row> = context.engine()?.namespaces(&target)?.iter().map(row).collect();
    LISTING.print(&mut Out::new(), &rows, Look::of(args.format.as_deref(), false))?;
    Ok(0)
}

fn row(ns: &Namespace) -> Row {
    let own = match (ns.host, ns.shared_with.is_empty()) {
        (true, _) => "host's",
        (false, true) => "own",
        (false, false) => "shared",
    };
    // With the host's own namespaces everybody is in them: only containers are news.
    let sharers = ns.shared_with.iter().filter(|s| !ns.host || s.container.is_some());
    let mut names: Vec<String> = Vec::new();
    for name in sharers.map(name) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Row::default()
        .with("Kind", ns.kind.clone())
        .with("Inode", ns.inode.to_string())
        .with("Own", own)
        .with("SharedWith", names.join(", "))
}

fn name(sharer: &Sharer) -> String {
    match &sharer.container {
        Some(container) => format!("container {container}"),
        None => format!("{} ({})", sharer.command, sharer.pid),
    }
}
