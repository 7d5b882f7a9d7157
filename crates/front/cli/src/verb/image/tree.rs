use crate::context::Context;
use crate::listing::{Listing, Look, Row, shorten};
use crate::out::Out;
use crate::verb::Build;
use clap::Args;
use std::collections::HashMap;
use tare_model::{Digest, Reference, Result, size};
use tare_store::{Image, Store};

pub(in crate::verb) const ARGS: Build = <TreeArgs as Args>::augment_args;

/// List an image's layers: what each adds, which step made it, and which images have it as well
///
/// The base comes first. Sizes are those of the files. `tare images --tree` shows which image stands on which.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare image tree debian:12
  tare image tree --no-trunc --format '{{.Size}} {{.CreatedBy}}' app:2")]
pub(crate) struct TreeArgs {
    /// table, json, or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Whole ids and commands
    #[arg(long)]
    no_trunc: bool,
    /// Name or id
    #[arg(value_name = "IMAGE")]
    image: String,
}

const LISTING: Listing = Listing {
    columns: &[
        ("Layer", "LAYER"),
        ("Size", "SIZE"),
        ("CompressedSize", "COMPRESSED"),
        ("CreatedBy", "CREATED BY"),
        ("Shared", "SHARED WITH"),
        ("Number", "NUMBER"),
        ("Digest", "DIGEST"),
    ],
    shown: &["Number", "Layer", "Size", "CompressedSize", "CreatedBy", "Shared"],
    key: "Layer",
};

pub(in crate::verb) fn main(args: TreeArgs, context: &Context) -> Result<u8> {
    let engine = context.engine()?;
    let image = engine.image(&args.image)?;
    let rows = rows(engine.store(), &image, args.no_trunc)?;
    let look = Look::of(args.format.as_deref(), false);
    if matches!(look, Look::Table) {
        crate::out::print(head(engine.store(), &image)?)?;
    }
    LISTING.print(&mut Out::new(), &rows, look)?;
    Ok(0)
}

fn head(store: &Store, image: &Image) -> Result<String> {
    let others = sharers(store, image)?;
    let sizes = store.layer_sizes(image)?;
    let own = image.layers.iter().zip(&sizes).filter(|(l, _)| !others.contains_key(&l.diff_id)).map(|(_, s)| s).sum();
    let names: Vec<_> = image.names.iter().map(Reference::familiar).collect();
    let names = if names.is_empty() { "<none>".to_owned() } else { names.join(", ") };
    Ok(format!(
        "Image:  {names}\nId:     {}\nSize:   {} in {} layers, {} of it in no other image\n",
        image.id,
        size::decimal(image.size),
        image.layers.len(),
        size::decimal(own),
    ))
}

/// Which other images have a layer: by name, or by id if they have none.
fn sharers(store: &Store, image: &Image) -> Result<HashMap<Digest, Vec<String>>> {
    let mut sharers: HashMap<Digest, Vec<String>> = HashMap::new();
    for other in store.images()?.iter().filter(|i| i.id != image.id) {
        let name = other.names.first().map_or_else(|| other.id.short(), Reference::familiar);
        for layer in other.diff_ids() {
            let names = sharers.entry(layer).or_default();
            if !names.contains(&name) {
                names.push(name.clone());
            }
        }
    }
    sharers.values_mut().for_each(|names| names.sort());
    Ok(sharers)
}

fn rows(store: &Store, image: &Image, whole: bool) -> Result<Vec<Row>> {
    let sharers = sharers(store, image)?;
    let sizes = store.layer_sizes(image)?;
    let mut steps = image.config.history.iter().filter(|step| !step.empty_layer);
    let row = |(number, (layer, bytes)): (usize, (&tare_store::ImageLayer, u64))| {
        let step = steps.next();
        let by =
            step.map(|s| s.created_by.clone().or_else(|| s.comment.clone()).unwrap_or_default()).unwrap_or_default();
        let names = sharers.get(&layer.diff_id).cloned().unwrap_or_default();
        let shared = if whole || names.len() < 4 {
            names.join(", ")
        } else {
            format!("{}, and {} more", names[..3].join(", "), names.len() - 3)
        };
        Row::default()
            .with("Number", (number + 1).to_string())
            .with("Layer", if whole { layer.diff_id.to_string() } else { layer.diff_id.short() })
            .with("Digest", layer.blob.digest.to_string())
            .with("Size", size::decimal(bytes))
            .with("CompressedSize", size::decimal(layer.blob.size))
            .with("CreatedBy", if whole { by } else { shorten(&by, 45) })
            .with("Shared", shared)
    };
    Ok(image.layers.iter().zip(sizes).enumerate().map(row).collect())
}

/// Images under those that they stand on: each with what it adds.
pub(in crate::verb) fn forest(store: &Store, images: &[Image], whole: bool) -> Result<Vec<Vec<String>>> {
    let mut lines = vec![vec!["IMAGE".to_owned(), "IMAGE ID".to_owned(), "ADDS".to_owned(), "SIZE".to_owned()]];
    let parents: Vec<Option<usize>> = (0..images.len()).map(|i| parent(images, i)).collect();
    for root in (0..images.len()).filter(|i| parents[*i].is_none()) {
        branch(store, images, &parents, root, (String::new(), String::new()), whole, &mut lines)?;
    }
    Ok(lines)
}

/// The image with the most layers whose layers this one begins with.
fn parent(images: &[Image], of: usize) -> Option<usize> {
    let own = images[of].diff_ids();
    let below = |i: &usize| {
        let layers = images[*i].diff_ids();
        !layers.is_empty() && layers.len() < own.len() && own.starts_with(&layers)
    };
    (0..images.len()).filter(below).max_by_key(|i| (images[*i].layers.len(), std::cmp::Reverse(*i)))
}

fn branch(
    store: &Store,
    images: &[Image],
    parents: &[Option<usize>],
    at: usize,
    (own, below): (String, String),
    whole: bool,
    lines: &mut Vec<Vec<String>>,
) -> Result<()> {
    let image = &images[at];
    let skipped = parents[at].map_or(0, |p| images[p].layers.len());
    let adds: u64 = store.layer_sizes(image)?.iter().skip(skipped).sum();
    let names: Vec<_> = image.names.iter().map(Reference::familiar).collect();
    let name = if names.is_empty() { "<none>".to_owned() } else { names.join(", ") };
    let id = if whole { image.id.to_string() } else { image.id.short() };
    lines.push(vec![format!("{own}{name}"), id, size::decimal(adds), size::decimal(image.size)]);
    let children: Vec<usize> = (0..images.len()).filter(|i| parents[*i] == Some(at)).collect();
    for (i, child) in children.iter().enumerate() {
        let (knot, line) = if i + 1 == children.len() { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        branch(store, images, parents, *child, (format!("{below}{knot}"), format!("{below}{line}")), whole, lines)?;
    }
    Ok(())
}
