//! The nouns that every part of tare shares: errors, digests, references, image and runtime documents, limits, undo.
//!
//! Owns data and the rules that make it valid. Refuses I/O, time, randomness and the environment: everything here can be
//! tested without a kernel. Invariants: a [`Digest`] is always well-formed, a [`Reference`] is always complete
//! (host, name, tag or digest), an [`Error`] always names its operation.

pub mod address;
pub mod digest;
pub mod error;
#[cfg(test)]
mod fuzz;
pub mod id_map;
pub mod image;
#[cfg(test)]
#[path = "../../../mechanism/runtime/src/mutate.rs"]
mod mutate;
pub mod network;
pub mod reference;
pub mod runtime_spec;
pub mod size;
pub mod undo;

pub use digest::Digest;
pub use error::{Context, Error, Kind, Result};
pub use reference::Reference;
pub use undo::Undo;
