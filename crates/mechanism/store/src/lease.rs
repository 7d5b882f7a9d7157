//! Leases: what is being made is not garbage.
use crate::{BlobWriter, LayerDraft, Store};
use tare_model::{Digest, Result};

/// Protects content from collection while it is being made. Everything unfinished lives in the lease's own
/// directory and goes with it; a lease whose process died is recognised by its free lock.
pub struct Lease(());

impl Lease {
    /// The store that it belongs to.
    pub fn store(&self) -> &Store { todo!() }
    /// Protects these blobs and layers (diff IDs) until the lease is dropped. Ask `has_blob`/`has_layer` *after* this.
    ///
    /// # Errors
    /// System calls that fail.
    pub fn hold(&self, digests: &[Digest]) -> Result<()> { todo!() }
    /// A new blob.
    ///
    /// # Errors
    /// System calls that fail.
    pub fn blob(&self) -> Result<BlobWriter> { todo!() }
    /// A new, empty layer directory to unpack into.
    ///
    /// # Errors
    /// System calls that fail.
    pub fn layer(&self) -> Result<LayerDraft> { todo!() }
    /// A scratch file without a name, on the store's file system.
    ///
    /// # Errors
    /// System calls that fail.
    pub fn scratch(&self) -> Result<std::fs::File> { todo!() }
    /// Writes a whole small blob.
    ///
    /// # Errors
    /// System calls that fail.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Digest> { todo!() }
}

impl Store {
    /// A new lease, given up when it is dropped.
    ///
    /// # Errors
    /// System calls that fail.
    pub fn lease(&self) -> Result<Lease> { todo!() }
}
