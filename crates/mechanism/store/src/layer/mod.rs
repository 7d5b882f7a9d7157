//! One layer's files: from a blob into a directory, from an overlay's upper directory into a blob.
//!
//! ```text
//! fs/                             a layer's directory, in overlayfs form:
//!   name                            a file, directory, link, device …       tar: name
//!   name  (char device 0:0)         hides `name` of the layers below        tar: .wh.name
//!   dir/  trusted.overlay.opaque=y  hides all that is in `dir` below        tar: dir/.wh..wh..opq
//! ```
//!
//! The way in ([`unpack()`]): compressed bytes -> [thread: decompress] -> large buffers -> [caller's thread: hash, tar,
//! meaning (`tare_format::Change`), [`LayerSink`]]. The way out ([`diff()`]): an upper directory and the view below it ->
//! sorted tar; see [`crate::Lease::make_layer`] and `seal` for what becomes of it. Where layers lie, and that they are whole and
//! durable before anybody sees them, is the concern of the store around this module.
//!
//! Invariants: nothing is written outside of the directory that was handed in, whatever an archive says: every parent is
//! opened by openat2 beneath it and the last name is never followed. What the kernel reads from `trusted.overlay.*` is
//! ours alone; such attributes in archives are dropped.

mod archive_writer;
mod below;
mod changes;
mod compare;
mod copy;
mod decompress;
mod diff;
mod directory;
mod extract;
mod image_sink;
mod listing;
mod lowers;
mod node;
mod remove;
pub(crate) mod seal;
mod sink;
mod tree;
mod tree_writer;
mod unpack;
mod unzstd;
mod views;

pub use below::{Below, Unmounted, look_below};
pub use changes::{ChangeKind, PathChange, changes};
pub(crate) use compare::Expected;
pub use copy::copy_tree;
pub use diff::{DiffOptions, Diffed, Excluded, diff};
pub use directory::{DirectorySink, FindBelow};
pub use extract::{ExtractOptions, Ownership, Replace, extract_into};
pub use image_sink::ImageSink;
pub use lowers::Lowers;
pub use node::Found;
pub(crate) use node::from_reader;
pub use remove::remove_tree;
pub use sink::{LayerSink, Tap};
pub use tree::{TreeOptions, tar_tree};
pub use unpack::{UnpackLimits, Unpacked, unpack, unpack_directory};
pub use views::compare;

#[cfg(test)]
mod tests;
