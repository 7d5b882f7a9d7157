//! runc's command line beyond the life of a container, as containerd, podman and others use it.

mod descriptors;
mod documents;
mod events;
mod global;
mod ps;
mod update;
