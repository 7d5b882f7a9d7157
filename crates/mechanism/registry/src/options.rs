//! What a front decides about registries: identity, trust, patience, and the way out of this host.

use crate::credentials::Credentials;
use crate::proxy::Proxies;
use std::path::PathBuf;
use std::time::Duration;

/// How a [`crate::Client`] behaves. `Options::default()` is anonymous and direct.
#[derive(Debug, Clone)]
pub struct Options {
    /// Who we are, for each registry.
    pub credentials: Credentials,
    /// Certificate authorities to trust besides the host's: PEM, any number of certificates.
    pub extra_ca: Vec<u8>,
    /// Where hosts keep their certificate authorities; the first file that holds any is used, and Mozilla's list as
    /// built into the binary if there is none.
    pub ca_bundles: Vec<PathBuf>,
    /// The `User-Agent` header.
    pub user_agent: String,
    /// When to try again.
    pub retry: Retry,
    /// Limit for reaching a host: name, TCP and TLS together.
    pub connect_timeout: Duration,
    /// Limit for a silence in the middle of an exchange.
    pub idle_timeout: Duration,
    /// How many blobs travel, and layers are unpacked, at once: one more than there are processors, but at most four, so that all
    /// buffers and windows of a pull stay below 64 MiB.
    pub parallel: usize,
    /// Proxies; loopback is always reached directly.
    pub proxies: Proxies,
    /// resolv.conf(5).
    pub resolv_conf: PathBuf,
    /// hosts(5).
    pub hosts: PathBuf,
}

/// When to try again after a lost connection, a 5xx answer or a short `Retry-After`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// How often in total; a transfer that gets on starts counting anew.
    pub attempts: u32,
    /// The pause before the second attempt; each further one doubles it, up to ten seconds.
    pub pause: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            credentials: Credentials::default(),
            extra_ca: Vec::new(),
            ca_bundles: [
                "/etc/ssl/certs/ca-certificates.crt",
                "/etc/pki/tls/certs/ca-bundle.crt",
                "/etc/ssl/ca-bundle.pem",
                "/etc/ssl/cert.pem",
            ]
            .map(PathBuf::from)
            .to_vec(),
            user_agent: concat!("tare/", env!("CARGO_PKG_VERSION")).to_owned(),
            retry: Retry::default(),
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            parallel: std::thread::available_parallelism().map_or(2, |n| n.get() + 1).min(4),
            proxies: Proxies::default(),
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
            hosts: PathBuf::from("/etc/hosts"),
        }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Retry { attempts: 5, pause: Duration::from_millis(250) }
    }
}

impl Retry {
    /// The pause after `failed` attempts (1 or more).
    pub(crate) fn after(&self, failed: u32) -> Duration {
        self.pause.saturating_mul(1 << failed.saturating_sub(1).min(10)).min(Duration::from_secs(10))
    }
}
