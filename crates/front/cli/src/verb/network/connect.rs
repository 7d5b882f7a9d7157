use crate::builtin;
use crate::context::Context;
use crate::parse::network;
use crate::verb::Build;
use clap::Args;
use tare_engine::request::Attachment;
use tare_model::{Error, Kind, Result};

pub(in crate::verb) const ARGS: Build = <ConnectArgs as Args>::augment_args;

/// Connect a container with one more network
///
/// A running container has the interface, the address and the names at once.
#[derive(Debug, Default, Args)]
#[command(after_help = "Examples:
  tare network connect back web
  tare network connect --ip 10.7.0.9 --alias db --alias store back db1
  tare network connect --interface-name wan0 --gw-priority 1 outside router")]
pub(crate) struct ConnectArgs {
    /// Further name on that network
    #[arg(long, value_name = "NAME")]
    alias: Vec<String>,
    /// IPv4 address
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<String>,
    /// IPv6 address
    #[arg(long, value_name = "ADDRESS")]
    ip6: Option<String>,
    /// Further address, valid on its link only
    #[arg(long, value_name = "ADDRESS")]
    link_local_ip: Vec<String>,
    /// Hardware address
    #[arg(long, value_name = "ADDRESS")]
    mac_address: Option<String>,
    /// Which network's default route wins: the highest; 0 if missing
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    gw_priority: Option<String>,
    /// Name of the interface inside
    #[arg(long, value_name = "NAME")]
    interface_name: Option<String>,
    /// Name of another container's in /etc/hosts; only when a container is made
    #[arg(long, value_name = "CONTAINER[:ALIAS]", hide = true)]
    link: Vec<String>,
    /// com.docker.network.endpoint.ifname=NAME
    #[arg(long, value_name = "NAME=VALUE")]
    driver_opt: Vec<String>,
    /// Name or id
    #[arg(value_name = "NETWORK")]
    network: String,
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
}

pub(in crate::verb) fn main(args: ConnectArgs, context: &Context) -> Result<u8> {
    let attachment = attachment(&args)?;
    if builtin::named(&args.network).is_some() {
        return Err(Error::new(Kind::Invalid, "connect container", &args.container)
            .because(format!("{} is a mode that a container is made with, no network", args.network)));
    }
    context.engine_with_settings()?.network_connect(&args.network, &args.container, &attachment)?;
    Ok(0)
}

fn attachment(args: &ConnectArgs) -> Result<Attachment> {
    if let Some(link) = args.link.first() {
        return Err(crate::parse::bad("--link", link, "a link is made with the container")
            .hint("an alias of the other container serves: tare network connect --alias NAME NETWORK CONTAINER"));
    }
    let mut attachment = Attachment {
        network: args.network.clone(),
        aliases: args.alias.iter().map(|t| network::alias("--alias", t)).collect::<Result<_>>()?,
        ip: args.ip.as_deref().map(|t| network::ip("--ip", t)).transpose()?,
        ip6: args.ip6.as_deref().map(|t| network::ip6("--ip6", t)).transpose()?,
        mac: args.mac_address.as_deref().map(|t| network::mac("--mac-address", t)).transpose()?,
        interface: args.interface_name.as_deref().map(|t| network::interface("--interface-name", t)).transpose()?,
        gw_priority: args.gw_priority.as_deref().map_or(Ok(0), |t| network::priority("--gw-priority", t))?,
        link_local: args
            .link_local_ip
            .iter()
            .map(|t| network::link_local("--link-local-ip", t))
            .collect::<Result<_>>()?,
    };
    for option in &args.driver_opt {
        network::driver_option(&mut attachment, "--driver-opt", option)?;
    }
    Ok(attachment)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        connect: ConnectArgs,
    }

    fn of(line: &str) -> Result<Attachment> {
        let line = Line::try_parse_from(format!("connect {line}").split(' ')).expect("the line parses");
        attachment(&line.connect)
    }

    #[test]
    fn flags_say_what_the_long_form_of_network_says() {
        let a = of(
            "--alias x --alias y --ip 10.7.0.9 --ip6 fd00::9 --link-local-ip fe80::9 --mac-address 02:00:00:00:00:09 \
                    --gw-priority -1 --driver-opt com.docker.network.endpoint.ifname=wan0 back web",
        )
        .unwrap();
        let (_, long) =
            network::networks(&["name=back,alias=x,alias=y,ip=10.7.0.9,ip6=fd00::9,link-local-ip=fe80::9,\
                    mac-address=02:00:00:00:00:09,gw-priority=-1,interface-name=wan0"
                .to_owned()])
            .unwrap();
        assert_eq!(a, long[0]);
        for (line, why) in [
            ("--ip fd00::1 a b", "IPv4"),
            ("--gw-priority x a b", "whole number"),
            ("--driver-opt a=b a b", "unknown option"),
            ("--link a a b", "made with the container"),
        ] {
            assert!(of(line).unwrap_err().to_string().contains(why), "{line}");
        }
    }
}
