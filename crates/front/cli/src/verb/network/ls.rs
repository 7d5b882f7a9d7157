use crate::builtin::{self, Builtin};
use crate::container_row;
use crate::context::Context;
use crate::filter::Filters;
use crate::listing::{Listing, Look, Row};
use crate::out::Out;
use crate::parse::network::DEFAULT;
use crate::time;
use crate::verb::Build;
use clap::Args;
use std::collections::BTreeMap;
use tare_model::network::{Driver, Network};
use tare_model::{Error, Kind, Result};

pub(in crate::verb) const ARGS: Build = <LsArgs as Args>::augment_args;

/// List networks
///
/// Filters: driver, id, name, label, scope, type (builtin or custom), dangling; values of one filter are alternatives.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare network ls
  tare network ls --filter driver=macvlan --filter label=team=a
  tare network ls --format '{{.Name}} {{.Subnets}}'
  tare network rm $(tare network ls -q --filter dangling=true)")]
pub(crate) struct LsArgs {
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
}

const LISTING: Listing = Listing {
    columns: &[
        ("ID", "NETWORK ID"),
        ("Name", "NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("IPv4", "IPV4"),
        ("IPv6", "IPV6"),
        ("Internal", "INTERNAL"),
        ("Labels", "LABELS"),
        ("CreatedAt", "CREATED AT"),
        ("Subnets", "SUBNETS"),
        ("Device", "DEVICE"),
        ("Parent", "PARENT"),
    ],
    shown: &["ID", "Name", "Driver", "Scope", "Subnets"],
    key: "ID",
};

pub(in crate::verb) fn main(args: LsArgs, context: &Context) -> Result<u8> {
    let filters = filters(&args.filter)?;
    let engine = context.engine()?;
    let users = if filters.get("dangling").is_empty() { BTreeMap::new() } else { engine.network_users()? };
    let dangling = filters.boolean("dangling")?;
    // The default network and those that are none are never ones to remove.
    let is_dangling = |l: &Listed| !l.builtin && !users.contains_key(&l.network.id);
    let mut all: Vec<Listed> = engine.networks()?.into_iter().map(Listed::from).collect();
    all.extend(builtin::ALL.map(Listed::from));
    all.retain(|l| selects(&filters, l) && dangling.is_none_or(|d| d == is_dangling(l)));
    all.sort_by(|a, b| a.network.name.cmp(&b.network.name));
    let rows: Vec<Row> = all.iter().map(|l| row(l, args.no_trunc)).collect();
    LISTING.print(&mut Out::new(), &rows, Look::of(args.format.as_deref(), args.quiet))?;
    Ok(0)
}

/// A network as it is listed.
struct Listed {
    network: Network,
    driver: String,
    builtin: bool,
}

impl From<Network> for Listed {
    fn from(network: Network) -> Listed {
        Listed { driver: network.driver.to_string(), builtin: network.name == DEFAULT, network }
    }
}

impl From<Builtin> for Listed {
    fn from(builtin: Builtin) -> Listed {
        // Of its definition only name and id are shown.
        let network = Network::new(builtin.name, &builtin.id(), Driver::Bridge);
        Listed { network, driver: builtin.driver.to_owned(), builtin: true }
    }
}

fn filters(texts: &[String]) -> Result<Filters> {
    let filters = Filters::parse(texts, &["driver", "id", "name", "label", "scope", "type", "dangling"])?;
    if let Some(wrong) = filters.get("type").iter().find(|t| !matches!(t.as_str(), "custom" | "builtin")) {
        return Err(Error::new(Kind::Invalid, "invalid", format!("--filter \"type={wrong}\""))
            .because("there are custom and builtin"));
    }
    Ok(filters)
}

fn selects(filters: &Filters, listed: &Listed) -> bool {
    let n = &listed.network;
    filters.any("driver", |d| listed.driver == d)
        && filters.any("id", |id| n.id.starts_with(id))
        && filters.any("name", |name| n.name.contains(name))
        && filters.any("scope", |scope| scope == "local")
        && filters.any("type", |kind| (kind == "builtin") == listed.builtin)
        && filters.labels(&n.labels)
}

fn row(listed: &Listed, whole: bool) -> Row {
    let n = &listed.network;
    let created = if n.created == 0 { String::new() } else { time::long(&time::from_nanos(n.created)) };
    let id: String = if whole { n.id.clone() } else { n.id.chars().take(12).collect() };
    let subnets: Vec<String> = n.subnets.iter().map(|s| s.net.to_string()).collect();
    Row { labels: n.labels.clone(), ..Row::default() }
        .with("ID", id)
        .with("Name", n.name.clone())
        .with("Driver", listed.driver.clone())
        .with("Scope", "local")
        .with("IPv4", n.v4().is_some().to_string())
        .with("IPv6", n.v6().is_some().to_string())
        .with("Internal", n.internal.to_string())
        .with("Labels", container_row::labels(&n.labels))
        .with("CreatedAt", created)
        .with("Subnets", subnets.join(", "))
        .with("Device", n.device.clone().unwrap_or_default())
        .with("Parent", n.parent.clone().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspected::network::example;

    #[test]
    fn filters_select() {
        let n = Listed::from(example().network);
        let selected = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|t| (*t).to_owned()).collect();
            selects(&filters(&texts).unwrap(), &n)
        };
        for yes in [
            &["driver=bridge"][..],
            &["driver=macvlan", "driver=bridge"],
            &["id=ab"],
            &["name=ac"],
            &["label=team", "label=team=a"],
            &["scope=local"],
            &["type=custom"],
        ] {
            assert!(selected(yes), "{yes:?}");
        }
        for no in [&["driver=macvlan"][..], &["id=b"], &["name=x"], &["label=x"], &["scope=swarm"], &["type=builtin"]] {
            assert!(!selected(no), "{no:?}");
        }
        assert!(filters(&["type=x".to_owned()]).unwrap_err().to_string().contains("custom and builtin"));
        let host = Listed::from(builtin::ALL[0]);
        assert!(selects(&filters(&["driver=host".to_owned(), "type=builtin".to_owned()]).unwrap(), &host));
        assert_eq!(row(&host, false).fields["Driver"], "host");
        let r = row(&n, false);
        assert_eq!((r.fields["ID"].as_str().map(str::len), r.fields["IPv6"].as_str()), (Some(12), Some("true")));
        assert_eq!(r.fields["Subnets"], "10.7.0.0/24, fd00:7::/64");
    }
}
