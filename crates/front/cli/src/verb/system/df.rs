use crate::container_row::{self, Lengths};
use crate::context::Context;
use crate::listing::{Listing, Look, Row};
use crate::out::{self, Out};
use crate::template::Template;
use crate::time;
use crate::verb::Build;
use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};
use tare_engine::DiskUsage;
use tare_model::{Reference, Result, size};
use tare_store::{ImageUsage, Usage, UsageItem};

pub(in crate::verb) const ARGS: Build = <DfArgs as Args>::augment_args;

/// Show what takes how much disk space
///
/// The last line is what `du -s` says of the root directory. Of images are counted the unpacked layers, each once; blobs are what they
/// came as, kept for push and save. What is unreferenced goes with `tare system prune`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare system df
  tare system df -v
  tare system df --format '{{.Type}} {{.Bytes}}'")]
pub(crate) struct DfArgs {
    /// table, json, or a Go template; `.Bytes` is the size as a number
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Each image, container and volume
    #[arg(short, long)]
    verbose: bool,
}

const SUMMARY: Listing = Listing {
    columns: &[
        ("Type", "TYPE"),
        ("TotalCount", "TOTAL"),
        ("Active", "ACTIVE"),
        ("Size", "SIZE"),
        ("Reclaimable", "RECLAIMABLE"),
        ("Bytes", "BYTES"),
    ],
    shown: &["Type", "TotalCount", "Active", "Size", "Reclaimable"],
    key: "Type",
};

const IMAGES: Listing = Listing {
    columns: &[
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("ID", "IMAGE ID"),
        ("CreatedSince", "CREATED"),
        ("Size", "SIZE"),
        ("SharedSize", "SHARED SIZE"),
        ("UniqueSize", "UNIQUE SIZE"),
        ("BlobSize", "BLOBS"),
        ("Containers", "CONTAINERS"),
    ],
    shown: &["Repository", "Tag", "ID", "CreatedSince", "Size", "SharedSize", "UniqueSize", "BlobSize", "Containers"],
    key: "ID",
};

const CONTAINERS: Listing = Listing {
    columns: &[
        ("ID", "CONTAINER ID"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Size", "SIZE"),
        ("RunningFor", "CREATED"),
        ("Status", "STATUS"),
        ("Names", "NAMES"),
    ],
    shown: &["ID", "Image", "Command", "LocalVolumes", "Size", "RunningFor", "Status", "Names"],
    key: "ID",
};

const VOLUMES: Listing = Listing {
    columns: &[("Name", "VOLUME NAME"), ("Links", "LINKS"), ("Size", "SIZE")],
    shown: &["Name", "Links", "Size"],
    key: "Name",
};

pub(in crate::verb) fn main(args: DfArgs, context: &Context) -> Result<u8> {
    let usage = context.engine()?.usage()?;
    let format = args.format.as_deref().filter(|f| !f.is_empty() && *f != "table");
    if !args.verbose {
        SUMMARY.print(&mut Out::new(), &summary(&usage), Look::of(format, false))?;
        return Ok(0);
    }
    let now = Timestamp::now();
    let images: Vec<Row> = usage.store.images.iter().map(|i| image(i, now)).collect();
    let containers: Vec<Row> = containers(&usage, now);
    let volumes: Vec<Row> = volumes(&usage.store);
    if let Some(format) = format {
        let all = |rows: &[Row]| rows.iter().map(|r| Value::Object(r.fields.clone())).collect::<Vec<_>>();
        let document = json!({
            "Images": all(&images),
            "Containers": all(&containers),
            "Volumes": all(&volumes),
            "Summary": all(&summary(&usage)),
        });
        match format {
            "json" => out::print(document)?,
            format => out::print(Template::parse(format)?.render(&document)?)?,
        }
        return Ok(0);
    }
    let mut out = Out::new();
    let parts = [
        ("Images", &IMAGES, images),
        ("\nContainers", &CONTAINERS, containers),
        ("\nLocal volumes", &VOLUMES, volumes),
        ("\nEverything", &SUMMARY, summary(&usage)),
    ];
    for (title, listing, rows) in parts {
        out.line(format_args!("{title}:\n"))?;
        listing.print(&mut out, &rows, Look::Table)?;
    }
    out.finish()?;
    Ok(0)
}

fn summary(usage: &DiskUsage) -> Vec<Row> {
    let store = &usage.store;
    let rest = |bytes, reclaimable| UsageItem { bytes, reclaimable, ..UsageItem::default() };
    let volumes = store.volumes_item();
    let parts = [store.layers, store.blobs, usage.containers, volumes];
    let reclaimable = parts.iter().map(|p| p.reclaimable).sum::<u64>() + store.unreferenced;
    vec![
        line("Images", &store.layers, Counted::Yes),
        line("Blobs", &store.blobs, Counted::Yes),
        line("Containers", &usage.containers, Counted::Yes),
        line("Local Volumes", &volumes, Counted::Yes),
        line("State", &rest(store.state, 0), Counted::No),
        line("Unreferenced", &rest(store.unreferenced, store.unreferenced), Counted::No),
        line("Total", &rest(store.total(), reclaimable), Counted::No),
    ]
}

/// Whether it makes sense to say how many there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counted {
    Yes,
    No,
}

fn line(kind: &str, item: &UsageItem, counted: Counted) -> Row {
    let count = |n: usize| if counted == Counted::Yes { n.to_string() } else { String::new() };
    let percent = (item.reclaimable * 100).checked_div(item.bytes).map(|p| format!(" ({p}%)"));
    let reclaimable = format!("{}{}", size::decimal(item.reclaimable), percent.unwrap_or_default());
    Row::default()
        .with("Type", kind)
        .with("TotalCount", count(item.count))
        .with("Active", count(item.active))
        .with("Size", size::decimal(item.bytes))
        .with("Reclaimable", reclaimable)
        .with("Bytes", item.bytes)
}

fn image(image: &ImageUsage, now: Timestamp) -> Row {
    let none = || "<none>".to_owned();
    let name = image.names.first();
    Row::default()
        .with("Repository", name.map_or_else(none, Reference::familiar_name))
        .with("Tag", name.and_then(Reference::tag).map_or_else(none, str::to_owned))
        .with("ID", image.id.short())
        .with("CreatedSince", format!("{} ago", time::since(&time::from_nanos(image.created), now)))
        .with("Size", size::decimal(image.bytes))
        .with("SharedSize", size::decimal(image.shared))
        .with("UniqueSize", size::decimal(image.bytes - image.shared))
        .with("BlobSize", size::decimal(image.blobs))
        .with("Containers", image.containers.to_string())
        .with("Bytes", image.bytes)
}

fn containers(usage: &DiskUsage, now: Timestamp) -> Vec<Row> {
    let row = |(own, view): (&tare_store::ContainerUsage, &Option<tare_engine::view::Container>)| {
        let row = match view {
            Some(view) => container_row::row(view, now, Lengths::Short, None),
            None => Row::default()
                .with("ID", own.row.id.chars().take(12).collect::<String>())
                .with("Names", own.row.name.clone())
                .with("Status", "its description is damaged"),
        };
        row.with("LocalVolumes", own.row.volumes.len().to_string())
            .with("Size", size::decimal(own.bytes))
            .with("Bytes", own.bytes)
    };
    usage.store.containers.iter().zip(&usage.views).map(row).collect()
}

fn volumes(usage: &Usage) -> Vec<Row> {
    let row = |volume: &tare_store::VolumeUsage| {
        Row::default()
            .with("Name", volume.name.clone())
            .with("Links", volume.containers.to_string())
            .with("Size", size::decimal(volume.bytes))
            .with("Bytes", volume.bytes)
    };
    usage.volumes.iter().map(row).collect()
}
