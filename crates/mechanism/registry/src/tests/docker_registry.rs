//! Debian's docker-registry and skopeo, as the tests start them.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use tare_model::Reference;
use tempfile::TempDir;

/// A running registry with its own storage; ends with the value.
pub(super) struct Registry {
    pub(super) address: SocketAddr,
    pub(super) dir: TempDir,
    child: Child,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Registry {
    pub(super) fn start() -> Registry {
        Registry::configured("", "")
    }

    /// With one user, `user` and `secret`.
    pub(super) fn with_password() -> Registry {
        Registry::configured("", "auth:\n  htpasswd:\n    realm: test\n    path: DIR/htpasswd\n")
    }

    /// On HTTPS, as `registry.test`, signed by the authority in `ca.pem`.
    pub(super) fn with_tls() -> Registry {
        Registry::configured("  tls:\n    certificate: DIR/cert.pem\n    key: DIR/key.pem\n", "")
    }

    fn configured(http: &str, more: &str) -> Registry {
        let dir = TempDir::new().unwrap();
        let place = dir.path().to_str().unwrap();
        if more.contains("htpasswd") {
            let line = run("htpasswd", &["-Bbn", "user", "secret"]);
            std::fs::write(dir.path().join("htpasswd"), line.stdout).unwrap();
        }
        if http.contains("tls") {
            certificates(dir.path());
        }
        let config = format!(
            "version: 0.1\nlog:\n  level: info\nstorage:\n  filesystem:\n    rootdirectory: DIR/data\n\
             http:\n  addr: 127.0.0.1:0\n  secret: x\n{http}{more}"
        );
        let path = dir.path().join("config.yml");
        std::fs::write(&path, config.replace("DIR", place)).unwrap();
        let mut child = command("docker-registry")
            .arg("serve")
            .arg(&path)
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = log
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.split_once("listening on ")?.1.split([',', '"']).next()?.parse().ok())
            .expect("docker-registry did not start");
        std::thread::spawn(move || log.for_each(drop));
        Registry { address, dir, child }
    }

    pub(super) fn reference(&self, rest: &str) -> Reference {
        format!("{}/{rest}", self.address).parse().unwrap()
    }

    /// Sends a layout with all its platforms.
    pub(super) fn push_layout(&self, layout: &Path, name: &str, credentials: Option<&str>) {
        let (from, to) = (format!("oci:{}:latest", layout.display()), format!("docker://{}/{name}", self.address));
        let mut args = vec!["copy", "--all", "--preserve-digests", "--dest-tls-verify=false"];
        if let Some(c) = credentials {
            args.extend(["--dest-creds", c]);
        }
        args.extend([from.as_str(), to.as_str()]);
        run("skopeo", &args);
    }

    /// The document under this name, byte for byte, as skopeo sees it.
    pub(super) fn inspect_raw(&self, name: &str) -> Vec<u8> {
        let name = format!("docker://{}/{name}", self.address);
        run("skopeo", &["inspect", "--raw", "--tls-verify=false", &name]).stdout
    }
}

/// An authority, and a certificate of it for `registry.test`.
fn certificates(dir: &Path) {
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let (ca, ca_key, cert, key, request, extensions) =
        (path("ca.pem"), path("ca.key"), path("cert.pem"), path("key.pem"), path("request"), path("extensions"));
    let new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let authority = ["req", "-x509", "-days", "2", "-subj", "/CN=test authority", "-keyout", &ca_key, "-out", &ca];
    run("openssl", &[&authority[..], &new_key[..]].concat());
    let leaf = ["req", "-subj", "/CN=registry.test", "-keyout", &key, "-out", &request];
    run("openssl", &[&leaf[..], &new_key[..]].concat());
    std::fs::write(&extensions, "subjectAltName=DNS:registry.test\nbasicConstraints=CA:FALSE\n").unwrap();
    run(
        "openssl",
        &[
            "x509",
            "-req",
            "-days",
            "2",
            "-in",
            &request,
            "-CA",
            &ca,
            "-CAkey",
            &ca_key,
            "-CAcreateserial",
            "-out",
            &cert,
            "-extfile",
            &extensions,
        ],
    );
}

#[expect(clippy::disallowed_methods, reason = "tests run the peers' programs")]
fn command(program: &str) -> Command {
    Command::new(program)
}

fn run(program: &str, args: &[&str]) -> Output {
    let out = command(program).args(args).output().unwrap_or_else(|e| panic!("{program} cannot be started: {e}"));
    assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    out
}
