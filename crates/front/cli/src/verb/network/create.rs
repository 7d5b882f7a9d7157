use crate::context::Context;
use crate::out;
use crate::parse::{bad, boolean, env, name_service, network, not_yet};
use crate::verb::Build;
use clap::{ArgAction, Args};
use std::collections::BTreeMap;
use std::net::IpAddr;
use tare_engine::request::{NetworkRequest, Route};
use tare_model::address::{AddressRange, IpNet};
use tare_model::network::Driver;
use tare_model::{Error, Kind, Result};

pub(in crate::verb) const ARGS: Build = <CreateArgs as Args>::augment_args;

/// Make a network
///
/// Prints its id. What is not given is chosen: a name, subnets of both families that nothing on this host uses, gateways.
/// Options (-o) are docker's com.docker.network.* and podman's short ones: parent, mode, mtu, isolate, ...
#[derive(Debug, Default, Args)]
#[command(after_help = "Examples:
  tare network create back
  tare network create --subnet 10.7.0.0/24 --ip-range 10.7.0.128/25 --gateway 10.7.0.1 back
  tare network create --internal -o com.docker.network.bridge.enable_icc=false vault
  tare network create -o parent=eth1 lan                        the host's eth1 is a port of the bridge
  tare network create -d macvlan -o parent=eth0 --subnet 192.168.1.0/24 --gateway 192.168.1.1 \\
      --ip-range 192.168.1.192/27 home
  tare network create -d phys -o parent=eth1 wire               the device itself moves into one container")]
pub(crate) struct CreateArgs {
    /// bridge, macvlan, ipvlan or phys
    #[arg(short, long, value_name = "DRIVER", default_value = "bridge")]
    driver: String,
    /// Addresses of the network; once for each family
    #[arg(long, value_name = "ADDRESS/PREFIX")]
    subnet: Vec<String>,
    /// Part of the subnet from which addresses are given
    #[arg(long, value_name = "ADDRESS/PREFIX|FIRST-LAST")]
    ip_range: Vec<String>,
    /// Next hop of the default route; of a bridge the host's own address
    #[arg(long, value_name = "ADDRESS")]
    gateway: Vec<String>,
    /// Address of the subnet that no container gets
    #[arg(long, value_name = "NAME=ADDRESS")]
    aux_address: Vec<String>,
    /// Nothing goes out or comes in
    #[arg(long)]
    internal: bool,
    /// Give IPv4 addresses: true or false
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set, value_parser = truth)]
    ipv4: Option<bool>,
    /// Give IPv6 addresses: true or false
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set, value_parser = truth)]
    ipv6: Option<bool>,
    /// Label
    #[arg(long, value_name = "NAME[=VALUE]")]
    label: Vec<String>,
    /// Option of the driver
    #[arg(short, long, value_name = "NAME=VALUE")]
    opt: Vec<String>,
    /// Name of the bridge on the host, or with macvlan and ipvlan the parent
    #[arg(long, value_name = "NAME")]
    interface_name: Option<String>,
    /// Names of its containers are not answered
    #[arg(long)]
    disable_dns: bool,
    /// Resolver of its containers, for names that are no container's
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<String>,
    /// Route that its containers get
    #[arg(long, value_name = "ADDRESS/PREFIX,GATEWAY[,METRIC]")]
    route: Vec<String>,
    /// A network of that name that is there already is no failure
    #[arg(long)]
    ignore: bool,
    /// Containers may be connected by hand; here every network allows that
    #[arg(long)]
    attachable: bool,
    /// Where the network exists: local
    #[arg(long, value_name = "SCOPE")]
    scope: Option<String>,
    /// Who gives addresses: default, or none
    #[arg(long, value_name = "DRIVER")]
    ipam_driver: Option<String>,
    /// Option of who gives addresses; the default one has none
    #[arg(long, value_name = "NAME=VALUE")]
    ipam_opt: Vec<String>,
    /// Only of a swarm
    #[arg(long, hide = true)]
    ingress: bool,
    /// Only of a swarm
    #[arg(long, hide = true)]
    config_only: bool,
    /// Only of a swarm
    #[arg(long, value_name = "NETWORK", hide = true)]
    config_from: Option<String>,
    /// Its name; the first free of tare1, tare2, ... if missing
    #[arg(value_name = "NETWORK")]
    name: Option<String>,
}

fn truth(text: &str) -> std::result::Result<bool, &'static str> {
    boolean(text).ok_or("expected true or false")
}

pub(in crate::verb) fn main(args: CreateArgs, context: &Context) -> Result<u8> {
    let mut request = request(&args)?;
    let engine = context.engine_with_settings()?;
    if args.name.is_none() {
        for n in 1_u32.. {
            request.name = format!("tare{n}");
            match engine.network_create(&request) {
                Err(e) if e.kind() == Kind::AlreadyExists => {}
                made => {
                    out::print(made?.id)?;
                    break;
                }
            }
        }
        return Ok(0);
    }
    let id = match engine.network_create(&request) {
        Err(e) if args.ignore && e.kind() == Kind::AlreadyExists => engine.network(&request.name)?.network.id,
        made => made?.id,
    };
    out::print(id)?;
    Ok(0)
}

/// What the flags mean. Whether addresses fit each other and the host, the engine knows.
fn request(args: &CreateArgs) -> Result<NetworkRequest> {
    of_a_swarm(args)?;
    let driver = driver(&args.driver)?;
    let mut request = NetworkRequest {
        name: args.name.clone().unwrap_or_default(),
        driver,
        subnets: args.subnet.iter().map(|t| net("--subnet", t)).collect::<Result<_>>()?,
        gateways: args.gateway.iter().map(|t| address("--gateway", t)).collect::<Result<_>>()?,
        ranges: args.ip_range.iter().map(|t| range(t)).collect::<Result<_>>()?,
        reserved: reserved(&args.aux_address)?,
        ipv4: args.ipv4,
        ipv6: args.ipv6,
        internal: args.internal,
        dns: !args.disable_dns,
        servers: args.dns.iter().map(|t| name_service::server("--dns", t)).collect::<Result<_>>()?,
        routes: args.route.iter().map(|t| route(t)).collect::<Result<_>>()?,
        labels: env::labels("--label", args.label.iter().cloned())?,
        options: env::labels("--opt", args.opt.iter().cloned())?,
        ..NetworkRequest::default()
    };
    if args.disable_dns && !args.dns.is_empty() {
        return Err(bad("--dns", &args.dns[0], "with --disable-dns nobody would ask it"));
    }
    if let Some(interface) = &args.interface_name {
        let name = network::interface("--interface-name", interface)?;
        match driver {
            Driver::Bridge => request.device = Some(name),
            // As podman has it: the device that these stand on.
            Driver::Macvlan | Driver::Ipvlan | Driver::Phys => request.parent = Some(name),
        }
    }
    address_management(args, &mut request)?;
    Ok(request)
}

/// Flags that only have a meaning where several hosts are one swarm, and one that has no effect here.
fn of_a_swarm(args: &CreateArgs) -> Result<()> {
    let config_from = args.config_from.as_deref();
    for (flag, value) in [
        ("--ingress", args.ingress.then_some("true")),
        ("--config-only", args.config_only.then_some("true")),
        ("--config-from", config_from),
        ("--scope", args.scope.as_deref().filter(|s| *s != "local")),
    ] {
        if let Some(value) = value {
            let why = "it is for networks of a swarm, and tare knows one host only";
            return Err(Error::new(Kind::Unsupported, "unsupported", format!("{flag} {value:?}")).because(why));
        }
    }
    Ok(())
}

fn address_management(args: &CreateArgs, request: &mut NetworkRequest) -> Result<()> {
    if let Some(text) = args.ipam_opt.first() {
        return Err(bad("--ipam-opt", text, "tare's own address management has no options"));
    }
    match args.ipam_driver.as_deref() {
        None | Some("default" | "host-local") => Ok(()),
        Some("none" | "null") => {
            if let Some(text) = args.subnet.first() {
                return Err(bad("--subnet", text, "with --ipam-driver none nobody would give its addresses"));
            }
            (request.ipv4, request.ipv6) = (Some(false), Some(false));
            Ok(())
        }
        Some("dhcp") => Err(not_yet("--ipam-driver", "dhcp", "tare has no DHCP client")
            .hint("use --ipam-driver none and run a DHCP client in the container")),
        Some(other) => Err(bad("--ipam-driver", other, "there are default and none")),
    }
}

fn driver(text: &str) -> Result<Driver> {
    const FLAG: &str = "--driver";
    match text {
        "bridge" => Ok(Driver::Bridge),
        "macvlan" => Ok(Driver::Macvlan),
        "ipvlan" => Ok(Driver::Ipvlan),
        "phys" => Ok(Driver::Phys),
        "host" | "none" | "null" => {
            let hint = format!("tare run --network {} …", if text == "host" { "host" } else { "none" });
            Err(bad(FLAG, text, "it is a mode of a container, and needs no network").hint(hint))
        }
        "overlay" => Err(bad(FLAG, text, "it joins the hosts of a swarm, and tare knows one host only")),
        _ => Err(bad(FLAG, text, "there are bridge, macvlan, ipvlan and phys")),
    }
}

fn net(flag: &str, text: &str) -> Result<IpNet> {
    text.parse().map_err(|_| bad(flag, text, "expected ADDRESS/PREFIX, as 10.7.0.0/24 or fd00:7::/64"))
}

fn range(text: &str) -> Result<AddressRange> {
    text.parse().map_err(|_| bad("--ip-range", text, "expected ADDRESS/PREFIX, or FIRST-LAST, as 10.7.0.10-10.7.0.99"))
}

fn address(flag: &str, text: &str) -> Result<IpAddr> {
    text.parse().map_err(|_| bad(flag, text, "expected an IP address"))
}

fn reserved(texts: &[String]) -> Result<BTreeMap<String, IpAddr>> {
    const FLAG: &str = "--aux-address";
    let mut all = BTreeMap::new();
    for text in texts {
        // Docker's flag is a map: several pairs may stand in one.
        for pair in text.split(',') {
            match pair.split_once('=') {
                Some((name, value)) if !name.is_empty() => {
                    let address = value.parse().map_err(|_| bad(FLAG, text, format!("{value:?} is no IP address")))?;
                    if all.insert(name.to_owned(), address).is_some() {
                        return Err(bad(FLAG, text, format!("{name:?} is there twice")));
                    }
                }
                _ => return Err(bad(FLAG, text, "expected NAME=ADDRESS")),
            }
        }
    }
    Ok(all)
}

fn route(text: &str) -> Result<Route> {
    const FLAG: &str = "--route";
    let fields: Vec<&str> = text.split(',').collect();
    let (destination, gateway, metric) = match fields[..] {
        [destination, gateway] => (destination, gateway, None),
        [destination, gateway, metric] => (destination, gateway, Some(metric)),
        _ => return Err(bad(FLAG, text, "expected ADDRESS/PREFIX,GATEWAY[,METRIC]")),
    };
    let (destination, gateway) = (net(FLAG, destination)?, address(FLAG, gateway)?);
    if destination.is_ipv4() != gateway.is_ipv4() {
        return Err(bad(FLAG, text, "destination and gateway are of different families"));
    }
    if destination.network() != destination {
        return Err(bad(FLAG, text, format!("{destination} names a host in {}", destination.network())));
    }
    let number = |m: &str| m.parse::<u32>().map_err(|_| bad(FLAG, text, format!("the metric {m:?} is no number")));
    Ok(Route { destination, gateway, metric: metric.map(number).transpose()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        create: CreateArgs,
    }

    fn of(line: &str) -> Result<NetworkRequest> {
        let words = line.split(' ').filter(|w| !w.is_empty());
        let line = Line::try_parse_from(std::iter::once("create").chain(words)).expect("the line parses");
        request(&line.create)
    }

    #[test]
    fn a_name_is_enough() {
        assert_eq!(of("back").unwrap(), NetworkRequest { name: "back".into(), ..NetworkRequest::default() });
        assert_eq!(of("").unwrap(), NetworkRequest::default());
    }

    #[test]
    fn every_flag_has_its_place() {
        let r = of("-d macvlan --subnet 10.7.0.0/24 --subnet fd00:7::/64 --ip-range 10.7.0.128/25 --gateway 10.7.0.1 \
                    --gateway fd00:7::1 --aux-address a=10.7.0.9,b=10.7.0.10 --aux-address c=fd00:7::9 --internal \
                    --ipv4 --ipv6=false --label x=1 --label y -o mtu=1400 --opt parent=eth0 --disable-dns \
                    --route 10.9.0.0/16,10.7.0.2,5 --route fd00:9::/64,fd00:7::2 --interface-name eth1 --attachable \
                    --scope local --ipam-driver default net.1")
        .unwrap();
        assert_eq!((r.name.as_str(), r.driver, r.parent.as_deref()), ("net.1", Driver::Macvlan, Some("eth1")));
        assert_eq!((r.subnets.len(), r.ranges.len(), r.gateways.len(), r.reserved.len()), (2, 1, 2, 3));
        assert_eq!((r.ipv4, r.ipv6, r.internal, r.dns), (Some(true), Some(false), true, false));
        assert_eq!((r.labels["x"].as_str(), r.options["mtu"].as_str(), r.options.len()), ("1", "1400", 2));
        assert_eq!((r.routes[0].metric, r.routes[1].metric), (Some(5), None));
        let r = of("--interface-name br-x --dns 9.9.9.9 --ipam-driver none x").unwrap();
        assert_eq!((r.device.as_deref(), r.servers.len(), r.ipv4, r.ipv6), (Some("br-x"), 1, Some(false), Some(false)));
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        for (line, why) in [
            ("--ingress x", "one host only"),
            ("--config-only x", "one host only"),
            ("--config-from y x", "one host only"),
            ("--scope swarm x", "one host only"),
            ("-d overlay x", "one host only"),
            ("-d host x", "a mode of a container"),
            ("-d null x", "a mode of a container"),
            ("-d weave x", "there are bridge, macvlan"),
            ("--subnet 10.7.0.0 x", "expected ADDRESS/PREFIX"),
            ("--ip-range x/y x", "expected ADDRESS/PREFIX"),
            ("--gateway gw x", "expected an IP address"),
            ("--aux-address 10.0.0.1 x", "expected NAME=ADDRESS"),
            ("--aux-address a=b x", "no IP address"),
            ("--aux-address a=10.0.0.1,a=10.0.0.2 x", "there twice"),
            ("--ipam-opt a=b x", "no options"),
            ("--ipam-driver dhcp x", "no DHCP client"),
            ("--ipam-driver weird x", "there are default and none"),
            ("--ipam-driver none --subnet 10.7.0.0/24 x", "nobody would give"),
            ("--disable-dns --dns 9.9.9.9 x", "nobody would ask"),
            ("--dns dns.example x", "by its IP address"),
            ("--route 10.0.0.0/8 x", "expected ADDRESS/PREFIX,GATEWAY"),
            ("--route 10.0.0.0/8,fd00::1 x", "different families"),
            ("--route 10.0.0.1/8,10.1.1.1 x", "names a host"),
            ("--route 10.0.0.0/8,10.1.1.1,high x", "no number"),
            ("--interface-name a/b x", "no name of an interface"),
        ] {
            let e = of(line).unwrap_err().to_string();
            assert!(e.contains(why), "{line}: {e}");
        }
    }
}
