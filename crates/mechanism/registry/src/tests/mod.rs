//! The crate against servers: a scripted one that misbehaves on demand, and Debian's docker-registry.

mod docker_registry;
mod fake;
mod hostile;
mod images;
mod login;
mod protocol;
mod real;
mod shared;
mod transfer;

use crate::{Client, Options, Retry};
use std::time::Duration;

/// Options that do not wait long.
fn quick() -> Options {
    Options {
        retry: Retry { attempts: 3, pause: Duration::from_millis(10) },
        idle_timeout: Duration::from_millis(500),
        connect_timeout: Duration::from_secs(3),
        ..Options::default()
    }
}

fn client() -> Client {
    Client::new(quick()).unwrap()
}
