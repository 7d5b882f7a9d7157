//! Who may reach whom.

use std::time::Duration;
use tare_tests::lan::{HOST, Lan, fetch};
use tare_tests::{Host, eventually};

#[test]
fn two_roots_never_meet() {
    let net = Lan::new();
    let other = Host::new();
    other.busybox();
    net.web("web", &["-p", "8080:80"]);
    let started = net.run_for(
        &other,
        &["run", "-d", "--name", "web", "busybox", "sh", "-c", "echo other > /page; exec httpd -f -p 80 -h /"],
    );
    assert_eq!(started.code, 0, "{}", started.stderr);
    let theirs =
        net.run_for(&other, &["inspect", "-f", "{{.NetworkSettings.IPAddress}}", "web"]).stdout.trim().to_owned();
    let ours = net.address("web");
    assert_ne!(ours.rsplit_once('.').unwrap().0, theirs.rsplit_once('.').unwrap().0, "two networks");
    assert_ne!(net.host.names().bridge, other.names().bridge);
    assert!(eventually(Duration::from_secs(5), || fetch(&net.inside, &theirs).as_deref() == Some("other")));
    // Neither reaches the other's containers past what is published.
    let across = net.run(&["exec", "web", "wget", "-qO-", "-T", "2", &format!("http://{theirs}/page")]);
    assert_ne!(across.code, 0, "{}", across.stdout);
    assert_eq!(net.ok(&["ps", "-q"]).lines().count(), 1);
    // The port is taken for both.
    let out = net.run_for(&other, &["run", "--rm", "-p", "8080:80", "busybox", "true"]);
    assert!(out.code == 125 && out.stderr.contains("in use by"), "{}", out.stderr);
    // When one goes, the other stays.
    net.run_for(&other, &["rm", "-f", "web"]);
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(fetch(&net.outside, &format!("{HOST}:8080")).as_deref(), Some("web"));
    assert_eq!(net.ok(&["exec", "web", "wget", "-qO-", "http://192.0.2.2/page"]), "from outside");
}
