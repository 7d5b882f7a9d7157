use super::Build;
use crate::container_row::{self, Lengths};
use crate::context::Context;
use crate::filter::Filters;
use crate::listing::{Listing, Look};
use crate::out::Out;
use clap::Args;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::path::Path;
use tare_engine::Engine;
use tare_engine::view::{Container, Port, State};
use tare_model::{Digest, Error, Kind, Result};

pub(super) const ARGS: Build = <PsArgs as Args>::augment_args;

/// List containers
///
/// Those that run, unless told otherwise. Filters: id, name, label, exited, status, ancestor, before, since, volume,
/// network, publish, expose; values of one filter are alternatives.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare ps
  tare ps -a --filter status=exited --filter label=team=a
  tare ps --format 'table {{.Names}}\\t{{.Status}}\\t{{.Ports}}'
  tare rm $(tare ps -aq --filter exited=0)")]
pub(crate) struct PsArgs {
    /// Also those that do not run
    #[arg(short, long)]
    all: bool,
    /// Only those that satisfy a condition
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// table, json, or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// The newest so many, whether they run or not
    #[arg(short = 'n', long, value_name = "NUMBER", allow_hyphen_values = true)]
    last: Option<i64>,
    /// The newest, whether it runs or not
    #[arg(short, long)]
    latest: bool,
    /// Whole ids and commands
    #[arg(long)]
    no_trunc: bool,
    /// Only ids
    #[arg(short, long)]
    quiet: bool,
    /// Also what their filesystems take
    #[arg(short, long)]
    size: bool,
}

const LISTING: Listing = Listing {
    columns: &[
        ("ID", "CONTAINER ID"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("CreatedAt", "CREATED AT"),
        ("RunningFor", "CREATED"),
        ("Status", "STATUS"),
        ("State", "STATE"),
        ("Ports", "PORTS"),
        ("Names", "NAMES"),
        ("Size", "SIZE"),
        ("Labels", "LABELS"),
        ("Mounts", "MOUNTS"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Networks", "NETWORKS"),
    ],
    shown: &["ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"],
    key: "ID",
};

const SIZED: Listing =
    Listing { shown: &["ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names", "Size"], ..LISTING };

const FILTERS: [&str; 12] = [
    "id", "name", "label", "exited", "status", "ancestor", "before", "since", "volume", "network", "publish", "expose",
];

pub(super) fn main(args: PsArgs, context: &Context) -> Result<u8> {
    let filters = Filters::parse(&args.filter, &FILTERS)?;
    let engine = context.engine()?;
    let last = if args.latest { Some(1) } else { args.last.and_then(|n| usize::try_from(n).ok()) };
    // A filter that speaks of containers that have ended looks at them as well, as docker's do.
    let asked = ["status", "exited", "before", "since"].iter().any(|key| !filters.get(key).is_empty());
    let mut containers = engine.containers(args.all || last.is_some() || asked)?;
    containers.sort_by(|a, b| b.created_at.cmp(&a.created_at));
    containers.truncate(last.unwrap_or(usize::MAX));
    let selection = Selection::new(&filters, &engine)?;
    containers.retain(|c| selection.holds(c));
    let now = Timestamp::now();
    let lengths = if args.no_trunc { Lengths::Whole } else { Lengths::Short };
    let needs_size = args.size || args.format.as_deref().is_some_and(|f| f.contains(".Size"));
    let rows: Vec<_> =
        containers.iter().map(|c| container_row::row(c, now, lengths, needs_size.then(|| sizes(c, &engine)))).collect();
    let listing = if args.size { &SIZED } else { &LISTING };
    listing.print(&mut Out::new(), &rows, Look::of(args.format.as_deref(), args.quiet))?;
    Ok(0)
}

/// Bytes of a container's own files, and with its image's.
fn sizes(c: &Container, engine: &Engine) -> (u64, u64) {
    let own = c.upper.as_deref().map_or(0, |dir| bytes_below(Path::new(dir)));
    let image = c.image_id.and_then(|id| engine.store().image(&id.to_string()).ok()).map_or(0, |i| i.size);
    (own, own + image)
}

/// Bytes of regular files below a directory; what cannot be read counts as nothing.
pub(super) fn bytes_below(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    entries
        .flatten()
        .filter_map(|entry| entry.metadata().ok().map(|m| (entry, m)))
        .map(|(entry, m)| match m.file_type() {
            t if t.is_dir() => bytes_below(&entry.path()),
            t if t.is_file() => m.len(),
            _ => 0,
        })
        .sum()
}

/// Filters whose names have been looked up.
struct Selection<'a> {
    filters: &'a Filters,
    before: Option<String>,
    since: Option<String>,
    /// Images named by `ancestor`, where they exist.
    ancestors: BTreeMap<String, Digest>,
}

impl<'a> Selection<'a> {
    fn new(filters: &'a Filters, engine: &Engine) -> Result<Selection<'a>> {
        let created = |key: &str| -> Result<Option<String>> {
            filters.get(key).last().map(|name| engine.container(name).map(|c| c.created_at)).transpose()
        };
        check(filters)?;
        let found = |name: &String| engine.store().image(name).ok().map(|image| (name.clone(), image.id));
        let ancestors = filters.get("ancestor").iter().filter_map(found).collect();
        Ok(Selection { filters, before: created("before")?, since: created("since")?, ancestors })
    }

    fn holds(&self, c: &Container) -> bool {
        let f = self.filters;
        let exited =
            |code: &str| c.state == State::Exited && c.exit.as_ref().map(|e| e.code.to_string()) == Some(code.into());
        f.any("id", |v| c.id.starts_with(v))
            && f.any("name", |v| name_matches(&c.name, v))
            && f.labels(&c.request.labels)
            && f.any("exited", exited)
            && f.any("status", |v| c.state.as_str() == v)
            && f.any("ancestor", |v| {
                c.image == v || (c.image_id.is_some() && c.image_id == self.ancestors.get(v).copied())
            })
            && f.any("volume", |v| {
                c.mounts.iter().any(|m| m.name.as_deref() == Some(v) || m.target == v || m.source == v)
            })
            && f.any("network", |v| on_network(c, v))
            && f.any("publish", |v| {
                let either = |p: &Port| {
                    [p.host_port, p.container_port].iter().any(|n| port_matches(v, *n, p.transport.as_str()))
                };
                c.ports.iter().any(either)
            })
            && f.any("expose", |v| exposed(c).any(|(port, protocol)| port_matches(v, port, protocol)))
            && self.before.as_ref().is_none_or(|t| c.created_at < *t)
            && self.since.as_ref().is_none_or(|t| c.created_at > *t)
    }
}

/// Docker's states; a container is never in some of them.
const STATES: [&str; 7] = ["created", "running", "paused", "exited", "restarting", "removing", "dead"];

/// Refuses values that could never match: a list that is empty by mistake looks like a true one.
fn check(filters: &Filters) -> Result<()> {
    let bad = |key: &str, value: &str, why: String| {
        Err(Error::new(Kind::Invalid, "invalid", format!("--filter \"{key}={value}\"")).because(why))
    };
    for value in filters.get("status") {
        if !STATES.contains(&value.as_str()) {
            return bad("status", value, format!("there are {}", STATES.join(", ")));
        }
    }
    for value in filters.get("exited") {
        if value.parse::<i32>().is_err() {
            return bad("exited", value, "expected an exit code".to_owned());
        }
    }
    for value in filters.get("name") {
        if value.contains(['*', '+', '?', '[', ']', '(', ')', '{', '}', '|', '\\']) {
            return bad("name", value, "of regular expressions only ^ and $ are supported yet".to_owned());
        }
    }
    Ok(())
}

/// Docker's is a regular expression; `^`, `$` and plain text are what people write.
fn name_matches(name: &str, pattern: &str) -> bool {
    let pattern =
        pattern.strip_prefix("^/").map_or_else(|| pattern.trim_start_matches('/').to_owned(), |p| format!("^{p}"));
    match (pattern.strip_prefix('^'), pattern.strip_suffix('$')) {
        (Some(front), Some(_)) => name == front.trim_end_matches('$'),
        (Some(front), None) => name.starts_with(front),
        (None, Some(back)) => name.ends_with(back),
        (None, None) => name.contains(&pattern),
    }
}

/// By name, by the beginning of an id, or by the mode of one without networks.
fn on_network(c: &Container, wanted: &str) -> bool {
    if c.networks.is_empty() {
        return container_row::network(c) == wanted;
    }
    c.networks.iter().any(|n| n.name == wanted || (wanted.len() >= 4 && n.id.starts_with(wanted)))
}

fn exposed(c: &Container) -> impl Iterator<Item = (u16, &str)> {
    let plain = c.request.expose.iter().filter_map(|e| {
        let (port, protocol) = e.split_once('/').unwrap_or((e, "tcp"));
        Some((port.parse().ok()?, protocol))
    });
    plain.chain(c.ports.iter().map(|p| (p.container_port, p.transport.as_str())))
}

/// `80`, `80/tcp`, `80-90/tcp`.
fn port_matches(pattern: &str, port: u16, protocol: &str) -> bool {
    let (range, wanted) = pattern.split_once('/').unwrap_or((pattern, "tcp"));
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    match (first.parse::<u16>(), last.parse::<u16>()) {
        (Ok(first), Ok(last)) => (first..=last).contains(&port) && wanted == protocol,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selects(filters: &[&str]) -> bool {
        let texts: Vec<String> = filters.iter().map(|f| (*f).to_owned()).collect();
        let filters = Filters::parse(&texts, &FILTERS).unwrap();
        let selection = Selection { filters: &filters, before: None, since: None, ancestors: BTreeMap::new() };
        selection.holds(&container_row::example())
    }

    #[test]
    fn filters_select() {
        for yes in [
            &["name=we"][..],
            &["name=^web$"],
            &["name=/web"],
            &["id=0123"],
            &["label=a"],
            &["label=a=1", "status=running"],
            &["status=exited", "status=running"],
            &["ancestor=debian:12"],
            &["volume=data"],
            &["volume=/data"],
            &["network=bridge"],
            &["publish=8080"],
            &["publish=80"],
            &["publish=8000-9000/tcp"],
            &["expose=90"],
        ] {
            assert!(selects(yes), "{yes:?}");
        }
        for no in [
            &["name=^eb"][..],
            &["name=^we$"],
            &["label=a=2"],
            &["label=a", "label=b"],
            &["exited=0"],
            &["publish=81"],
            &["expose=90/udp"],
            &["network=host"],
        ] {
            assert!(!selects(no), "{no:?}");
        }
    }
}
