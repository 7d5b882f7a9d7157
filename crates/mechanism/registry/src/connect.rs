//! From an address to a byte stream: proxy or not, name, TCP, TLS; and what to say where it ends.

use crate::dns::Resolver;
use crate::options::Options;
use crate::proxy::Proxy;
use crate::tls;
use crate::url::Origin;
use hyper::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;
use tare_model::{Error, Kind, Result};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{self, ClientConfig};

/// The lead that each address has before the next one is tried as well (RFC 8305 §5).
const HEAD_START: Duration = Duration::from_millis(250);

/// Makes connections for the pool.
#[derive(Clone)]
pub(crate) struct Connector(Arc<Inner>);

struct Inner {
    options: Options,
    resolver: Resolver,
    extra_ca: Vec<CertificateDer<'static>>,
    tls: OnceLock<Arc<ClientConfig>>,
}

impl Connector {
    /// # Errors
    /// `Kind::Invalid` for malformed extra certificate authorities.
    pub(crate) fn new(options: &Options) -> Result<Connector> {
        let resolver = Resolver { resolv_conf: options.resolv_conf.clone(), hosts: options.hosts.clone() };
        let extra_ca = tls::extra(&options.extra_ca)?;
        Ok(Connector(Arc::new(Inner { options: options.clone(), resolver, extra_ca, tls: OnceLock::new() })))
    }
}

impl Inner {
    async fn connect(&self, uri: &Uri) -> Result<Stream> {
        let target = Origin::of(uri)?;
        let proxy = self.options.proxies.to(&target)?;
        let next = proxy.as_ref().map_or(&target, |p| &p.origin);
        let tcp = self.tcp(next).await.map_err(|e| match &proxy {
            Some(_) => e.during("reach the proxy for", &target),
            None => e,
        })?;
        // Small requests and TLS records must not wait for an acknowledgement.
        let _ = tcp.set_nodelay(true);
        match (target.https, proxy) {
            (false, proxy) => Ok(Stream { io: Box::new(tcp), absolute_form: proxy.is_some() }),
            (true, None) => self.secure(tcp, &target).await,
            (true, Some(proxy)) => {
                let tunnel = tunnel(tcp, &target, &proxy).await.map_err(|e| {
                    unreachable(&target, format!("the proxy {} {e}", proxy.origin))
                        .hint("check HTTPS_PROXY and NO_PROXY")
                })?;
                self.secure(tunnel, &target).await
            }
        }
    }

    async fn tcp(&self, to: &Origin) -> Result<TcpStream> {
        let addresses = self.resolver.lookup(&to.host).await.map_err(|why| {
            unreachable(to, why).hint(format!(
                "check the name {}, and the name servers in {}",
                to.host,
                self.options.resolv_conf.display()
            ))
        })?;
        first_connection(&addresses, to.port).await.map_err(|e| {
            Error::io("reach", to, e).with_kind(Kind::Unavailable).hint(format!(
                "check that a registry listens on port {} of {}, and firewalls between",
                to.port, to.host
            ))
        })
    }

    async fn secure(&self, tcp: TcpStream, target: &Origin) -> Result<Stream> {
        let config = match self.tls.get() {
            Some(config) => config.clone(),
            None => {
                let config = tls::config(&self.options, &self.extra_ca)?;
                self.tls.get_or_init(|| config).clone()
            }
        };
        let name = ServerName::try_from(target.host.clone()).map_err(|e| unreachable(target, e.to_string()))?;
        let stream = TlsConnector::from(config).connect(name, tcp).await.map_err(|e| refused_by_tls(target, &e))?;
        Ok(Stream { io: Box::new(stream), absolute_form: false })
    }
}

fn unreachable(target: &Origin, why: String) -> Error {
    Error::new(Kind::Unavailable, "reach", target).because(why)
}

fn refused_by_tls(target: &Origin, error: &io::Error) -> Error {
    let tls = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    let hint = match tls {
        Some(rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer)) => {
            "if you trust its certificate authority, add it to the host's (on Debian: /usr/local/share/ca-certificates, \
             then update-ca-certificates)"
        }
        Some(rustls::Error::InvalidMessage(_)) => {
            "the server does not speak TLS there; plain HTTP is used with loopback addresses only"
        }
        Some(rustls::Error::InvalidCertificate(_)) => "check the registry's certificate and this host's clock",
        _ => "check that the registry speaks TLS there",
    };
    unreachable(target, format!("TLS: {error}")).hint(hint)
}

/// Tries all addresses, each a little after the one before, and takes the first that answers.
async fn first_connection(addresses: &[IpAddr], port: u16) -> io::Result<TcpStream> {
    let mut racing = JoinSet::new();
    for (delay, ip) in (0u32..).zip(addresses.iter().copied()) {
        racing.spawn(async move {
            tokio::time::sleep(HEAD_START * delay).await;
            TcpStream::connect((ip, port)).await
        });
    }
    let mut last = io::Error::from(io::ErrorKind::HostUnreachable);
    while let Some(result) = racing.join_next().await {
        match result.map_err(io::Error::other)? {
            Ok(stream) => return Ok(stream),
            Err(e) => last = e,
        }
    }
    Err(last)
}

/// Asks a proxy for a tunnel (RFC 9110 §9.3.6).
async fn tunnel(mut tcp: TcpStream, target: &Origin, proxy: &Proxy) -> Result<TcpStream, String> {
    let authorization = proxy.authorization.as_ref().map_or(String::new(), |a| format!("Proxy-Authorization: {a}\r\n"));
    let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{authorization}\r\n");
    tcp.write_all(request.as_bytes()).await.map_err(|e| e.to_string())?;
    // With TLS the client speaks first, so that nothing after the empty line can be read here by mistake.
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() > 8192 {
            return Err("sent too long an answer".to_owned());
        }
        answer.push(tcp.read_u8().await.map_err(|_| "closed the connection".to_owned())?);
    }
    let text = String::from_utf8_lossy(&answer);
    let status = text.lines().next().unwrap_or_default();
    match status.split(' ').nth(1) {
        Some(code) if code.starts_with('2') => Ok(tcp),
        _ => Err(format!("answered {status:?}")),
    }
}

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A connection to a registry or to a plain HTTP proxy.
pub(crate) struct Stream {
    io: Box<dyn Io>,
    /// A proxy wants the whole address in the request line.
    absolute_form: bool,
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new().proxy(self.absolute_form)
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }
    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

/// Our error on its way through the pool, which wants a standard one.
#[derive(Debug)]
pub(crate) struct ConnectError(pub(crate) Error);

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for ConnectError {}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let inner = self.0.clone();
        Box::pin(async move {
            let limit = inner.options.connect_timeout;
            match tokio::time::timeout(limit, inner.connect(&uri)).await {
                Ok(result) => result.map(TokioIo::new).map_err(ConnectError),
                Err(_) => {
                    let target = Origin::of(&uri).map_err(ConnectError)?;
                    let why = format!("no answer within {} s", limit.as_secs_f32());
                    Err(ConnectError(unreachable(&target, why).hint("check the address, the network and firewalls")))
                }
            }
        })
    }
}
