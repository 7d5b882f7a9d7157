use super::Build;
use crate::context::Context;
use crate::listing::{Listing, Look, Row, shorten};
use crate::out::Out;
use crate::time;
use clap::Args;
use jiff::Timestamp;
use tare_model::{Result, size};
use tare_store::Image;

pub(super) const ARGS: Build = <HistoryArgs as Args>::augment_args;

/// List the steps that made an image, newest first
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare history debian
  tare history --no-trunc --format '{{.CreatedBy}}' debian")]
pub(crate) struct HistoryArgs {
    /// table, json, or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Sizes and times for people: true (the default) or false
    #[arg(short = 'H', long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true", action = clap::ArgAction::Set, hide_possible_values = true, hide_default_value = true)]
    human: bool,
    /// Whole commands
    #[arg(long)]
    no_trunc: bool,
    /// Only ids
    #[arg(short, long)]
    quiet: bool,
    /// Name or id
    #[arg(value_name = "IMAGE")]
    image: String,
}

const LISTING: Listing = Listing {
    columns: &[
        ("ID", "IMAGE"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("CreatedBy", "CREATED BY"),
        ("Size", "SIZE"),
        ("Comment", "COMMENT"),
    ],
    shown: &["ID", "CreatedSince", "CreatedBy", "Size", "Comment"],
    key: "ID",
};

const EXACT: Listing = Listing { shown: &["ID", "CreatedAt", "CreatedBy", "Size", "Comment"], ..LISTING };

pub(super) fn main(args: HistoryArgs, context: &Context) -> Result<u8> {
    let engine = context.engine()?;
    let image = engine.image(&args.image)?;
    let rows = rows(&image, &args);
    let listing = if args.human { &LISTING } else { &EXACT };
    listing.print(&mut Out::new(), &rows, Look::of(args.format.as_deref(), args.quiet))?;
    Ok(0)
}

/// Each step, with the compressed size of the layer that it made; steps without a layer have none.
fn rows(image: &Image, args: &HistoryArgs) -> Vec<Row> {
    let mut layers = image.layers.iter();
    let mut rows: Vec<Row> = image
        .config
        .history
        .iter()
        .map(|step| {
            let bytes = if step.empty_layer { 0 } else { layers.next().map_or(0, |l| l.blob.size) };
            let created = step.created.clone().unwrap_or_default();
            let by = step.created_by.clone().unwrap_or_default();
            Row::default()
                .with("ID", "<missing>")
                .with("CreatedSince", format!("{} ago", time::since(&created, Timestamp::now())))
                .with("CreatedAt", created)
                .with("CreatedBy", if args.no_trunc { by } else { shorten(&by, 45) })
                .with("Size", if args.human { size::decimal(bytes) } else { bytes.to_string() })
                .with("Comment", step.comment.clone().unwrap_or_default())
        })
        .collect();
    rows.reverse();
    let id = if args.no_trunc { image.id.to_string() } else { image.id.short() };
    if let Some(top) = rows.first_mut() {
        top.fields.insert("ID".into(), id.into());
    }
    rows
}
