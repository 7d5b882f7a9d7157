//! Networks for tests.

use crate::record::Record;
use crate::request::RunRequest;
use crate::{Config, Engine};
use std::os::fd::AsFd;
use tare_kernel::netlink::{in_network_namespace, new_network_namespace};
use tare_model::address::IpNet;
use tare_model::network::{Driver, Network, Subnet};

/// An engine with an empty store, which goes with the directory.
pub(crate) fn engine() -> (tempfile::TempDir, Engine) {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        root: dir.path().join("root"),
        run: dir.path().join("run"),
        executable: None,
        fault: None,
        snapshotter: Default::default(),
        network: Default::default(),
    };
    let engine = Engine::open(config).unwrap();
    (dir, engine)
}

/// A bridge with these subnets, each with its first host as gateway.
pub(crate) fn network(name: &str, subnets: &[&str]) -> Network {
    let subnet = |text: &&str| {
        let net: IpNet = text.parse().unwrap();
        Subnet { net, gateway: net.first_host(), range: None, reserved: Vec::new() }
    };
    Network {
        device: Some(format!("tn-{name}")),
        subnets: subnets.iter().map(subnet).collect(),
        mtu: Some(1500),
        ..Network::new(
            name,
            &format!("{:0<64}", name.bytes().map(|b| format!("{b:x}")).collect::<String>()),
            Driver::Bridge,
        )
    }
}

/// A container as `create` describes it, as far as networks are concerned.
pub(crate) fn record(id: &str, request: RunRequest) -> Record {
    let text = serde_json::json!({
        "id": id, "created_at": "", "image_id": null, "image": "", "request": request, "defaults": {}, "layers": [],
        "args": [], "env": [], "user": "", "cwd": "/", "hostname": &id[..12], "stop_signal": 15, "mounts": [],
        "capabilities": 0,
    });
    serde_json::from_value(text).unwrap()
}

/// Runs `test` on a thread whose network namespace is new and has loopback up.
pub(crate) fn in_new_namespace(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        let netns = new_network_namespace().unwrap();
        tare_network::loopback_up(netns.as_fd()).unwrap();
        in_network_namespace(netns.as_fd(), test).unwrap();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs a program in the calling thread's namespace and returns what it prints.
#[expect(clippy::disallowed_methods, reason = "the tests compare with what ip and nft say")]
pub(crate) fn command(line: &str) -> String {
    let words: Vec<_> = line.split(' ').collect();
    let out = std::process::Command::new(words[0]).args(&words[1..]).output().unwrap();
    assert!(out.status.success(), "{line}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}
