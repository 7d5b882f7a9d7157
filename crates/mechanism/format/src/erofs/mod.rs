//! EROFS images of layers: an index over the layer's own tar archive.
//!
//! ```text
//! byte 0           1024         4096                 4096 + length of the tar, on a block         end
//! | length of tar | superblock | the tar, as it came | copies | inodes, names, directories |
//! ```
//!
//! The data of a file is where the archive has it: nothing is copied or moved. What cannot be addressed in whole blocks (the pieces
//! of some sparse files), would need too many addresses (small pieces far from one another), or is the content of a layer below (for
//! hard links into it) stands behind the archive. So a layer's image is written
//! in one pass, in the order of the stream; the archive can be given out again byte by byte; and the digest of the first part is
//! the diff ID.
//!
//! Equal archives give equal images: names are sorted, inodes are numbered in the order of a walk, nothing is taken from the host or
//! the clock.
//!
//! Source: the kernel's fs/erofs/erofs_fs.h and Documentation/filesystems/erofs.rst.

mod image;
mod layout;
mod member;
mod reader;
mod sparse;
mod tree;
mod xattrs;

pub use image::{IN_COPIES, Image};
pub use layout::{ARCHIVE, BLOCK};
pub use member::Member;
pub use reader::{Content, Dirent, Inode, ReadAt, Reader};
pub use sparse::{Copies, Plan};
pub use tree::{Data, Place, Tree, Unsettled};

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
