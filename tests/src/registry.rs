//! A registry to pull from and push to: Debian's docker-registry.

use crate::process::command;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

/// A running registry on a port and in a directory of its own; ends with the value.
#[derive(Debug)]
pub struct Registry {
    address: SocketAddr,
    child: Child,
    dir: TempDir,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Registry {
    /// Starts one, open to everybody.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start() -> Registry {
        Registry::configured("")
    }

    /// Starts one with the user `user` and the password `secret`.
    ///
    /// # Panics
    /// If it does not start, or there is no htpasswd(1).
    pub fn with_password() -> Registry {
        Registry::configured("auth:\n  htpasswd:\n    realm: test\n    path: DIR/htpasswd\n")
    }

    fn configured(more: &str) -> Registry {
        let dir = TempDir::with_prefix("tare-registry-").unwrap();
        if more.contains("htpasswd") {
            let line = command("htpasswd").args(["-Bbn", "user", "secret"]).output().unwrap();
            std::fs::write(dir.path().join("htpasswd"), line.stdout).unwrap();
        }
        let config = format!(
            "version: 0.1\nlog:\n  level: info\nstorage:\n  filesystem:\n    rootdirectory: DIR/data\n  \
             delete:\n    enabled: true\nhttp:\n  addr: 127.0.0.1:0\n  secret: x\n{more}"
        );
        let path = dir.path().join("config.yml");
        std::fs::write(&path, config.replace("DIR", &dir.path().display().to_string())).unwrap();
        let mut serve = command("docker-registry");
        serve.arg("serve").arg(&path).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = serve.spawn().expect("apt-get install docker-registry");
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let listening = |line: String| line.split_once("listening on ")?.1.split([',', '"']).next()?.parse().ok();
        let address = log.by_ref().find_map(listening).expect("docker-registry did not start");
        // Its log must be read on, or it would block.
        std::thread::spawn(move || log.for_each(drop));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (list, access) = (Arc::clone(&requests), BufReader::new(child.stdout.take().unwrap()));
        // `127.0.0.1 - - [date] "GET /v2/… HTTP/1.1" 200 405 …`
        std::thread::spawn(move || {
            for line in access.lines().map_while(Result::ok) {
                if let Some(request) = line.split('"').nth(1).and_then(|r| r.rsplit_once(' ')) {
                    list.lock().unwrap().push(request.0.to_owned());
                }
            }
        });
        Registry { address, child, dir, requests }
    }

    /// The requests answered since the last call, such as `GET /v2/x/manifests/1`.
    ///
    /// # Panics
    /// If the thread that reads the registry's log has.
    pub fn requests(&self) -> Vec<String> {
        // The log is written after the answer.
        std::thread::sleep(std::time::Duration::from_millis(300));
        std::mem::take(&mut *self.requests.lock().unwrap())
    }

    /// The file in which it keeps a blob.
    pub fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        self.dir.path().join("data/docker/registry/v2/blobs/sha256").join(&hex[..2]).join(hex).join("data")
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// `127.0.0.1:PORT/REST`.
    pub fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.address)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
