//! Tar archives and layer entries: bytes in, bytes out.
//!
//! Owns the formats in which file trees travel: the tar dialects ([`tar::Reader`] reads V7, ustar, PAX and GNU,
//! [`tar::Writer`] writes ustar and PAX), the [`Entry`] that both speak, and what an entry means in an OCI layer
//! ([`layer::Change`]: cleaned paths and whiteouts).
//!
//! Refuses all I/O but `std::io::{BufRead, Write}`: nothing here opens a file. Invariants: memory is bounded by
//! [`tar::Limits`] whatever the input claims, no input panics, a cleaned path never leaves its root, and equal entries
//! are written as equal bytes.

pub mod entry;
pub mod erofs;
pub mod inflate;
pub mod layer;
#[cfg(test)]
#[path = "../../runtime/src/mutate.rs"]
#[expect(dead_code, reason = "documents are the runtime's; bytes are spoilt here")]
mod mutate;
pub mod tar;

pub use entry::{Entry, EntryKind, Extent, Time};
pub use layer::Change;
