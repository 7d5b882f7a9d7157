//! Tar, as a stream: reading every dialect that is met in images, writing one.
//!
//! ```text
//! [x: PAX records]  [L, K: GNU long name]  header 512  content, padded to 512   …   512 zeros, 512 zeros
//!  only where the header's fields are too small
//! ```
//!
//! Sources: pax(1) of POSIX.1-2008 "ustar Interchange Format" and "pax Interchange Format"; GNU tar's manual, "Basic Tar
//! Format" and "Storing Sparse Files"; the `SCHILY.xattr.` keywords of star(5).

mod header;
mod pax;
mod reader;
mod sparse;
mod writer;

pub use reader::{Content, Limits, Reader};
pub use writer::Writer;

/// Tar's unit of size.
pub(crate) const BLOCK: usize = 512;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
