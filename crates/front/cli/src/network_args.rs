//! The flags of `run` and `create` that are about networks.

use clap::Args;

/// Flags of the network.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Network")]
pub(crate) struct NetworkArgs {
    /// A network, or several; or bridge, host, none, container:NAME, ns:PATH
    ///
    /// Options of one network stand behind it: NETWORK:ip=10.0.0.9,alias=db, or name=NETWORK,ip=10.0.0.9,alias=db.
    #[arg(long, visible_alias = "net", value_name = "NETWORK[:OPTIONS]")]
    pub(crate) network: Vec<String>,
    /// Further name on the first network
    #[arg(long, visible_alias = "net-alias", value_name = "NAME")]
    pub(crate) network_alias: Vec<String>,
    /// IPv4 address on the first network
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) ip: Option<String>,
    /// IPv6 address on the first network
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) ip6: Option<String>,
    /// Further address on the first network, valid on its link only
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) link_local_ip: Vec<String>,
    /// Hardware address on the first network
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) mac_address: Option<String>,
    /// Publish a port, or a range of them; or target=PORT,published=PORT,...
    #[arg(short, long, value_name = "[IP:][HOST_PORT]:PORT[/PROTOCOL]")]
    pub(crate) publish: Vec<String>,
    /// Publish every exposed port on a free one of the host
    #[arg(short = 'P', long)]
    pub(crate) publish_all: bool,
    /// Port that it listens on, for those who ask, and for -P
    #[arg(long, value_name = "PORT[/PROTOCOL]")]
    pub(crate) expose: Vec<String>,
    /// Resolver for names that are no container's
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) dns: Vec<String>,
    /// Domain in which names are looked up; . for none
    #[arg(long, value_name = "DOMAIN")]
    pub(crate) dns_search: Vec<String>,
    /// Option of resolv.conf
    #[arg(long, visible_alias = "dns-opt", value_name = "OPTION")]
    pub(crate) dns_option: Vec<String>,
    /// Name in /etc/hosts; host-gateway is the host's address
    #[arg(long, value_name = "NAME:ADDRESS")]
    pub(crate) add_host: Vec<String>,
    /// Name of another container's in /etc/hosts
    #[arg(long, value_name = "CONTAINER[:ALIAS]")]
    pub(crate) link: Vec<String>,
    /// How fast it may receive and send, as 10mbit, or in=RATE,out=RATE
    #[arg(long, value_name = "RATE")]
    pub(crate) net_rate: Option<String>,
}
