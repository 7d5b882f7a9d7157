//! config.md, "Mounts", and what config-linux.md says of paths: rootfs propagation, masked and read-only paths.

mod bind;
mod copied;
mod guarded;
mod ids;
mod options;
mod paths;
mod propagation;
mod recursive;
mod systems;
