use crate::container_row;
use crate::context::Context;
use crate::filter::Filters;
use crate::listing::{Listing, Look, Row};
use crate::out::Out;
use crate::verb::Build;
use clap::Args;
use tare_model::Result;

pub(in crate::verb) const ARGS: Build = <LsArgs as Args>::augment_args;

/// List volumes
///
/// Filters: name, label, dangling, driver.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare volume ls
  tare volume ls -q --filter dangling=true")]
pub(crate) struct LsArgs {
    /// Only those that satisfy a condition
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// table, json, or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Only names
    #[arg(short, long)]
    quiet: bool,
}

const LISTING: Listing = Listing {
    columns: &[
        ("Driver", "DRIVER"),
        ("Name", "VOLUME NAME"),
        ("Scope", "SCOPE"),
        ("Mountpoint", "MOUNTPOINT"),
        ("Labels", "LABELS"),
        ("Links", "LINKS"),
        ("Size", "SIZE"),
    ],
    shown: &["Driver", "Name"],
    key: "Name",
};

pub(in crate::verb) fn main(args: LsArgs, context: &Context) -> Result<u8> {
    let filters = Filters::parse(&args.filter, &["name", "label", "dangling", "driver"])?;
    let dangling = filters.boolean("dangling")?;
    let mut volumes = context.engine()?.volumes()?;
    volumes.retain(|v| {
        filters.any("name", |n| v.name.contains(n))
            && filters.any("driver", |d| d == "local")
            && filters.labels(&v.labels)
            && dangling.is_none_or(|d| d == v.used_by.is_empty())
    });
    let rows: Vec<Row> = volumes
        .into_iter()
        .map(|v| {
            Row { labels: v.labels.clone(), ..Row::default() }
                .with("Driver", "local")
                .with("Scope", "local")
                .with("Labels", container_row::labels(&v.labels))
                .with("Links", v.used_by.len().to_string())
                .with("Size", "N/A")
                .with("Mountpoint", v.mountpoint)
                .with("Name", v.name)
        })
        .collect();
    LISTING.print(&mut Out::new(), &rows, Look::of(args.format.as_deref(), args.quiet))?;
    Ok(0)
}
