//! Images from registries and to them: the OCI distribution specification 1.1, seen from a client.
//!
//! Owns the protocol: names and addresses, TLS, credentials, manifests, blobs in both directions. Refuses to decide where
//! content lies (the store does), to run credential helpers, and to read the environment. The only asynchronous code
//! below the fronts is in here, behind blocking functions.
//!
//! ```text
//! pull:  registry ══> [tokio worker: TCP, TLS, HTTP] ─frames─> [a thread per layer: hash, write the blob]
//!                                                                    │ batches of 256 KiB
//!                                                              [decompress] ─> [hash, tar, files]   (tare_store::layer)
//! push:  [a thread per blob: read] ─chunks─> [tokio worker] ══> registry
//! ```
//!
//! Invariants: every byte that is kept has the digest by which it was asked for. A credential is shown to the registry
//! that it is for, and to the token server which that registry names, and to nobody else, whatever a redirect says.
//! Nothing becomes an image before all of it is in the store. Memory does not grow with the size of an image.

mod body;
mod challenge;
mod client;
mod connect;
mod credentials;
mod dns;
mod download;
mod failure;
mod http;
mod layers;
mod manifest;
mod options;
mod pipe;
mod proxy;
mod pull;
mod push;
mod session;
mod tls;
mod token;
mod token_cache;
mod upload;
mod url;

pub use client::{Client, resolve, tags};
pub use credentials::Credentials;
pub use options::{Options, Retry};
pub use proxy::Proxies;
pub use pull::{PullOptions, pull};
pub use push::push;

#[cfg(test)]
mod tests;
