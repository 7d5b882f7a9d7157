//! Whom to believe: the host's certificate authorities, those handed in, and Mozilla's list where the host has none.

use crate::options::Options;
use std::sync::Arc;
use tare_model::{Error, Kind, Result};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

/// Reads the certificates that were handed in.
///
/// # Errors
/// `Kind::Invalid` if the text holds no certificate or a malformed one.
pub(crate) fn extra(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    if pem.is_empty() {
        return Ok(Vec::new());
    }
    let bad = |why: String| Error::new(Kind::Invalid, "read certificate authorities", "").because(why);
    let found = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().map_err(|e| bad(e.to_string()))?;
    if found.is_empty() { Err(bad("there is no PEM certificate in it".to_owned())) } else { Ok(found) }
}

/// The configuration of all TLS connections. Reads the host's bundle (some 150 certificates), so ask for it only when
/// there is a connection to make.
pub(crate) fn config(options: &Options, extra: &[CertificateDer<'static>]) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for path in &options.ca_bundles {
        let Ok(bundle) = std::fs::read(path) else { continue };
        // Bundles hold what old tools cannot read as well; take what is usable.
        let (added, _) =
            roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&bundle).filter_map(Result::ok));
        if added > 0 {
            break;
        }
    }
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    for certificate in extra {
        roots
            .add(certificate.clone())
            .map_err(|e| Error::new(Kind::Invalid, "read certificate authorities", "").because(e))?;
    }
    let provider = Arc::new(crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::new(Kind::Unsupported, "set up TLS", "").because(e))?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
