use super::Build;
use crate::context::Context;
use crate::filter::Filters;
use crate::listing::{Listing, Look, Row, align};
use crate::out::Out;
use crate::time;
use clap::Args;
use jiff::Timestamp;
use tare_model::{Reference, Result, size};
use tare_store::{Image, Store};

pub(super) const ARGS: Build = <ImagesArgs as Args>::augment_args;

/// List images
///
/// Filters: dangling, reference, label, before, since, until. A reference may hold * for any text; until is a time, or how long ago.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare images
  tare images debian
  tare images --filter dangling=true -q
  tare images --tree
  tare images --format '{{.Repository}}:{{.Tag}} {{.Size}}'")]
pub(crate) struct ImagesArgs {
    /// Only this repository, or this name
    #[arg(value_name = "REPOSITORY[:TAG]")]
    reference: Option<String>,
    /// Also images without a name: they are always shown
    #[arg(short, long)]
    all: bool,
    /// Also the digests under which registries have them
    #[arg(long)]
    digests: bool,
    /// Only those that satisfy a condition
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// table, json, or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Whole ids
    #[arg(long)]
    no_trunc: bool,
    /// Only ids
    #[arg(short, long)]
    quiet: bool,
    /// Each image under the one that it stands on, with what it adds
    #[arg(long, conflicts_with_all = ["quiet", "format", "digests"])]
    tree: bool,
}

const LISTING: Listing = Listing {
    columns: &[
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("Digest", "DIGEST"),
        ("ID", "IMAGE ID"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("Size", "SIZE"),
        ("Containers", "CONTAINERS"),
    ],
    shown: &["Repository", "Tag", "ID", "CreatedSince", "Size"],
    key: "ID",
};

const DIGESTS: Listing = Listing { shown: &["Repository", "Tag", "Digest", "ID", "CreatedSince", "Size"], ..LISTING };

pub(super) fn main(args: ImagesArgs, context: &Context) -> Result<u8> {
    let filters =
        Filters::parse(&args.filter, &["dangling", "reference", "label", "label!", "before", "since", "until"])?;
    let dangling = filters.boolean("dangling")?;
    let engine = context.engine()?;
    let store = engine.store();
    let mut images = store.images()?;
    let age = |key: &str| filters.get(key).last().map(|name| store.image(name).map(|i| i.created)).transpose();
    let (before, since) = (age("before")?, age("since")?);
    let until =
        filters.get("until").last().map(|text| time::point("--filter until", text, Timestamp::now())).transpose()?;
    images.retain(|i| {
        dangling.is_none_or(|d| d == i.names.is_empty())
            && filters.labels(&i.config.config.labels)
            && before.is_none_or(|t| i.created < t)
            && since.is_none_or(|t| i.created > t)
            && until.is_none_or(|t| i128::from(i.created) < t.as_nanosecond())
    });
    let wanted = |name: &Reference| {
        args.reference.as_deref().is_none_or(|r| named(name, r)) && filters.any("reference", |r| named(name, r))
    };
    let nameless = args.reference.is_none() && filters.get("reference").is_empty();
    if args.tree {
        images.retain(|i| i.names.iter().any(wanted) || nameless && i.names.is_empty());
        let lines = super::image::tree::forest(store, &images, args.no_trunc)?;
        let mut out = Out::new();
        out.text(align(&lines))?;
        out.finish()?;
        return Ok(0);
    }
    let mut rows = Vec::new();
    for image in &images {
        // What was pulled by its digest, or has lost its tag to another image, still has a repository.
        let names = if image.names.is_empty() { &image.digests } else { &image.names };
        rows.extend(names.iter().filter(|n| wanted(n)).map(|n| row(store, image, Some(n), args.no_trunc)));
        if names.is_empty() && nameless {
            rows.push(row(store, image, None, args.no_trunc));
        }
    }
    if args.quiet {
        rows.dedup_by(|a, b| a.fields["ID"] == b.fields["ID"]);
    }
    let listing = if args.digests { &DIGESTS } else { &LISTING };
    listing.print(&mut Out::new(), &rows, Look::of(args.format.as_deref(), args.quiet))?;
    Ok(0)
}

fn row(store: &Store, image: &Image, name: Option<&Reference>, whole: bool) -> Row {
    let none = || "<none>".to_owned();
    let created = time::from_nanos(image.created);
    let digest = name.and_then(|n| image.digests.iter().find(|d| d.name() == n.name()));
    Row { labels: image.config.config.labels.clone(), ..Row::default() }
        .with("Repository", name.map_or_else(none, Reference::familiar_name))
        .with("Tag", name.and_then(Reference::tag).map_or_else(none, str::to_owned))
        .with("Digest", digest.and_then(Reference::digest).map_or_else(none, |d| d.to_string()))
        .with("ID", if whole { image.id.to_string() } else { image.id.short() })
        .with("CreatedSince", format!("{} ago", time::since(&created, Timestamp::now())))
        .with("CreatedAt", time::long(&created))
        .with("Size", size::decimal(image.size))
        .with("Containers", store.image_users(&image.id).map_or(0, |u| u.len()).to_string())
}

/// Whether a name is meant by `REPOSITORY[:TAG]`, in the short or the whole form; `*` stands for any text.
fn named(name: &Reference, pattern: &str) -> bool {
    let forms = [name.familiar_name(), name.familiar(), name.name(), name.to_string()];
    forms.iter().any(|form| glob(form.as_bytes(), pattern.as_bytes()))
}

fn glob(text: &[u8], pattern: &[u8]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => (0..=text.len()).any(|i| glob(&text[i..], rest)),
        ([b'?', rest @ ..], [_, text @ ..]) => glob(text, rest),
        ([p, rest @ ..], [t, text @ ..]) if p == t => glob(text, rest),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_in_every_form() {
        let name: Reference = "debian:12".parse().unwrap();
        for yes in ["debian", "debian:12", "docker.io/library/debian", "deb*", "*:12", "debian:?2"] {
            assert!(named(&name, yes), "{yes}");
        }
        for no in ["debia", "debian:13", "library", "debian:1"] {
            assert!(!named(&name, no), "{no}");
        }
    }
}
